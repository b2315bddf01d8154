//! What pruning asks of an inference engine, so that it need not know any.

use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use tract_onnx::pb::ModelProto;

/// A dense row-major f32 tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values, the last dimension fastest.
    pub data: Vec<f32>,
}

impl Array {
    /// Seeded values, roughly normal with unit variance.
    pub fn noise(shape: &[usize], seed: u64) -> Array {
        use rand_xoshiro::Xoshiro256PlusPlus;
        use rand_xoshiro::rand_core::{Rng, SeedableRng};
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // twelve uniforms have variance one
        let mut uniform = || (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32;
        let data =
            (0..shape.iter().product()).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
        Array { shape: shape.to_vec(), data }
    }
}

/// Runs ONNX models.
pub trait Runtime {
    /// Prepares a model to compute the tensors `names` of the graph.
    ///
    /// # Errors
    /// The engine cannot load the model.
    fn open(&self, model: &ModelProto, names: &[String]) -> Result<Box<dyn Session>>;

    /// The values of the tensors `names`, as [`Session::run`].
    ///
    /// # Errors
    /// The engine cannot load or run the model.
    fn run(&self, model: &ModelProto, inputs: &[Array], names: &[String]) -> Result<Vec<Option<Array>>> {
        self.open(model, names)?.run(inputs)
    }
}

/// A model that is ready to run.
pub trait Session {
    /// The values asked for, for the given graph inputs (in the order of those that have no initializer). `None` for a
    /// tensor that is not f32.
    ///
    /// # Errors
    /// The engine cannot run the model.
    fn run(&mut self, inputs: &[Array]) -> Result<Vec<Option<Array>>>;
}

/// Names of the graph outputs.
pub(crate) fn outputs(model: &ModelProto) -> Vec<String> {
    model.graph.iter().flat_map(|g| &g.output).map(|o| o.name.clone()).collect()
}

/// The shape of every f32 tensor that a node computes, for these inputs.
pub(crate) fn shapes(
    model: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Array],
) -> Result<HashMap<String, Vec<usize>>> {
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let names: Vec<String> = graph
        .node
        .iter()
        .filter(|n| n.op_type != "Constant")
        .flat_map(|n| &n.output)
        .filter(|o| !o.is_empty())
        .cloned()
        .collect();
    let values = runtime.run(model, inputs, &names).context("running the model to learn its shapes")?;
    ensure!(values.len() == names.len(), "{} values for {} names", values.len(), names.len());
    Ok(names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?.shape))).collect())
}

/// Largest difference of outputs over the largest magnitude of the expected ones (at least 1e-3, so that outputs near zero
/// are compared absolutely).
///
/// # Errors
/// Another number of outputs, other shapes, or values that are NaN on one side only.
pub fn distance(got: &[Option<Array>], expected: &[Option<Array>]) -> Result<f64> {
    ensure!(got.len() == expected.len(), "{} outputs, expected {}", got.len(), expected.len());
    let mut worst = 0f64;
    for (got, expected) in got.iter().zip(expected) {
        let (Some(got), Some(expected)) = (got, expected) else { continue };
        ensure!(got.shape == expected.shape, "shape {:?}, expected {:?}", got.shape, expected.shape);
        let finite = expected.data.iter().filter(|v| v.is_finite());
        let scale = finite.fold(1e-3, |m: f64, v| m.max(f64::from(v.abs())));
        for (g, e) in got.data.iter().zip(&expected.data) {
            if g == e || (g.is_nan() && e.is_nan()) {
                continue;
            }
            ensure!(!g.is_nan() && !e.is_nan(), "got {g}, expected {e}");
            worst = worst.max(f64::from((g - e).abs()) / scale);
        }
    }
    Ok(worst)
}
