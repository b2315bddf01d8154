//! What pruning asks of an inference engine, so that it need not know any.

use anyhow::{Context, Result, ensure};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::collections::HashMap;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{Datum, Tensor};

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
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let data = (0..shape.iter().product()).map(|_| normal(&mut || even(&mut rng))).collect();
        Array { shape: shape.to_vec(), data }
    }

    /// The runs that a tensor of any numeric type holds for an input of `shape`: several if its first
    /// dimension is a multiple of the input's. `name` is what errors call it.
    ///
    /// # Errors
    /// No numbers; another shape; a value that is NaN or infinite.
    pub fn runs(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<Vec<Vec<Array>>> {
        let dt = tensor.datum_type();
        ensure!(dt.is_number() || dt == bool::datum_type(), "{name}: {dt:?} is no number");
        let (own, size) = (tensor.shape(), shape.iter().product::<usize>());
        let fits = match (own, shape) {
            ([all, own @ ..], [one, shape @ ..]) => own == shape && *all > 0 && all.is_multiple_of(*one),
            _ => false,
        };
        ensure!(fits, "{name}: shape {own:?}, the input has {shape:?}");
        let tensor = tensor.cast_to::<f32>().with_context(|| name.to_string())?;
        let data = tensor.try_as_plain_ram()?.as_slice::<f32>()?;
        ensure!(data.iter().all(|v| v.is_finite()), "{name}: a value is NaN or infinite");
        Ok(data
            .chunks(size.max(1))
            .map(|d| vec![Array { shape: shape.to_vec(), data: d.to_vec() }])
            .collect())
    }

    /// The values of a tensor, if they are f32.
    pub fn of(tensor: &Tensor) -> Option<Array> {
        let view = tensor.to_plain_array_view::<f32>().ok()?;
        Some(Array { shape: tensor.shape().to_vec(), data: view.iter().copied().collect() })
    }

    /// The same as a tensor.
    ///
    /// # Errors
    /// Another number of values than the shape says.
    pub fn tensor(&self) -> Result<Tensor> {
        Tensor::from_shape(&self.shape, &self.data)
    }
}

/// Uniform in 0..1.
pub(crate) fn even(rng: &mut Xoshiro256PlusPlus) -> f32 {
    (rng.next_u64() >> 40) as f32 / (1u64 << 24) as f32
}

/// Roughly normal with unit variance, from numbers that are uniform in 0..1.
pub(crate) fn normal(even: &mut impl FnMut() -> f32) -> f32 {
    // twelve uniforms have variance one
    (0..12).map(|_| even()).sum::<f32>() - 6.0
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
    /// The values asked for, for the given graph inputs (in the order of those that have no initializer).
    ///
    /// # Errors
    /// The engine cannot run the model.
    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;

    /// The same for f32 inputs. `None` for a tensor that is not f32.
    ///
    /// # Errors
    /// The engine cannot run the model.
    fn run(&mut self, inputs: &[Array]) -> Result<Vec<Option<Array>>> {
        let inputs: Vec<Tensor> = inputs.iter().map(Array::tensor).collect::<Result<_>>()?;
        Ok(self.run_tensors(&inputs)?.iter().map(Array::of).collect())
    }
}

/// Names of the graph outputs.
pub(crate) fn outputs(model: &ModelProto) -> Vec<String> {
    model.graph.iter().flat_map(|g| &g.output).map(|o| o.name.clone()).collect()
}

/// The shape of every tensor that a node computes, for these inputs.
pub(crate) fn shapes(
    model: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Tensor],
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
    let values = runtime.open(model, &names)?.run_tensors(inputs);
    let values = values.context("running the model to learn its shapes")?;
    ensure!(values.len() == names.len(), "{} values for {} names", values.len(), names.len());
    Ok(names.into_iter().zip(values).map(|(name, value)| (name, value.shape().to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_hold_whole_runs_of_numbers() {
        let bytes = Tensor::from_shape(&[4, 3], &[7u8; 12]).unwrap();
        let runs = Array::runs("x", &bytes, &[2, 3]).unwrap();
        assert_eq!(runs, [(); 2].map(|()| vec![Array { shape: vec![2, 3], data: vec![7.0; 6] }]));
        for (shape, wanted) in
            [(&[4, 3][..], &[3, 3][..]), (&[4, 3], &[2, 4]), (&[], &[]), (&[0, 3], &[2, 3])]
        {
            let tensor = Tensor::zero::<f32>(shape).unwrap();
            let error = Array::runs("x", &tensor, wanted).unwrap_err().to_string();
            assert!(error.starts_with("x: shape"), "{shape:?} {wanted:?}: {error}");
        }
        let nan = Tensor::from_shape(&[1], &[f32::NAN]).unwrap();
        assert!(Array::runs("x", &nan, &[1]).unwrap_err().to_string().contains("NaN"));
    }
}
