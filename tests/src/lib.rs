//! Whole models: sparse answer = stock tract answer = golden answer. This file finds the models and compares.

pub mod f16;
pub mod graph;
pub mod kinds;
pub mod layer;
pub mod models;
pub mod recurrent;

use anyhow::{Context, Result, ensure};
use figures::Agreement;
pub use figures::{TOLERANCE, models_dir};
use noise::Noise;
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::{Onnx, Report};

/// The Python that `TRACT_SPARSE_ORT_PYTHON` names, with onnxruntime, onnx and numpy; else says that `what` was not run.
pub fn ort_python(what: &str) -> Option<std::ffi::OsString> {
    let python = std::env::var_os("TRACT_SPARSE_ORT_PYTHON");
    if python.is_none() {
        skipped(what, "TRACT_SPARSE_ORT_PYTHON does not name a Python with onnxruntime, onnx and numpy");
    }
    python
}

/// Says on standard error that a test could not run. Tests are never skipped without it.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// Reads an f32 array.
pub fn npy(path: &std::path::Path) -> Result<Tensor> {
    let array: ndarray::ArrayD<f32> =
        ndarray_npy::read_npy(path).with_context(|| format!("reading {}", path.display()))?;
    Tensor::from_shape(array.shape(), array.as_standard_layout().as_slice().unwrap())
}

/// Seeded values in -1..1.
pub fn values(len: usize, seed: u64) -> Vec<f32> {
    Noise::new(seed).values(len)
}

/// A tensor of seeded values in -1..1.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_shape(shape, &values(shape.iter().product(), seed)).unwrap()
}

/// Outputs that are smaller throughout are compared absolutely: for one seeded input a score can be next to
/// nothing, and a sigmoid has the absolute errors of what it was computed from.
const NEXT_TO_NOTHING: f64 = 1e-3;

/// How far `got` is from `expected`, as `tract-sparse compare` measures it: the largest difference relative
/// to a value and its scale ([`Agreement::of`]); infinite where what must be equal is not.
///
/// # Errors
/// Different shapes, or tensors that cannot be compared.
pub fn distance(got: &Tensor, expected: &Tensor) -> Result<f64> {
    Ok(Agreement::of_run(expected, got, None, TOLERANCE, NEXT_TO_NOTHING)?.relative)
}

/// How many layers of a model and its bodies are sparse ones, at any stage.
pub fn sparse_nodes(model: &TypedModel) -> usize {
    let ours = |op: &str| op.starts_with("Sparse") || op.starts_with("OptSparse");
    Report::of(model).unwrap().layers.iter().filter(|layer| ours(&layer.op)).count()
}

/// Loads a model, optimises it and runs it.
pub fn run_optimized(
    onnx: &Onnx,
    model: &ModelProto,
    inputs: &[Tensor],
) -> Result<(TVec<TValue>, TypedModel)> {
    let model = onnx.model_for_proto_model(model)?.into_optimized()?;
    Ok((run(model.clone(), inputs)?, model))
}

/// Runs a typed model as it is.
pub fn run(model: TypedModel, inputs: &[Tensor]) -> Result<TVec<TValue>> {
    model.into_runnable()?.run(inputs.iter().map(|t| t.clone().into_tvalue()).collect())
}

/// Runs a model on the sparse and on the stock loader, whole optimiser, and fails unless they agree; returns
/// the optimised sparse model.
pub fn agree(model: &ModelProto, inputs: &[Tensor]) -> Result<TypedModel> {
    let (ours, sparse) = run_optimized(&onnx(), model, inputs)?;
    let (theirs, _) = run_optimized(&tract_onnx::onnx(), model, inputs)?;
    assert_same(&ours, &theirs)?;
    Ok(sparse)
}

/// Fails unless all outputs agree to [`TOLERANCE`].
pub fn assert_same(ours: &[TValue], theirs: &[TValue]) -> Result<()> {
    ensure!(ours.len() == theirs.len(), "{} outputs, expected {}", ours.len(), theirs.len());
    for (ix, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let distance = distance(ours, theirs).with_context(|| format!("output {ix}"))?;
        ensure!(distance <= TOLERANCE, "output {ix} differs by {distance}");
    }
    Ok(())
}

/// Blocks in what has them, and patterns in depthwise and 3x3 layers, the `ratio` fraction of the groups
/// removed.
pub fn recipe(ratio: f64) -> prune::Recipe {
    let text = format!("ratio = {ratio:?}\ndwconv3x3 = \"3:9\"\nconv3x3 = \"5:9\"\nconnectivity = {ratio:?}");
    text.parse().unwrap()
}

/// Names of the operators of a model, for messages and counts.
pub fn op_names(model: &TypedModel) -> Vec<String> {
    model.nodes().iter().map(|n| n.op.name().to_string()).collect()
}

/// How often an operator occurs.
pub fn count(model: &TypedModel, op: &str) -> usize {
    op_names(model).iter().filter(|name| *name == op).count()
}

/// Runs `f` with knobs set for this thread.
pub fn with_knobs<R>(knobs: &[(&str, &str)], f: impl FnOnce() -> R) -> R {
    tract_sparse::tract_core::knobs::KnobScope::new(knobs.to_vec()).unwrap().enter(f)
}
