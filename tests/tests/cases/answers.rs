//! What a model answers: ours and stock tract's, optimised and node by node.

use anyhow::Result;
use sparse_kernels::prelude::Target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tests::{run, sparse_nodes, with_knobs};
use tract_sparse::Onnx;
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::*;

/// Every layer that can run sparse does, on the kernels of `target`.
pub fn always<R>(target: Target, f: impl FnOnce() -> R) -> R {
    with_knobs(&[("TRACT_SPARSE", "always"), ("TRACT_SPARSE_TARGET", &target.to_string())], f)
}

/// Loads a model, optimises it and runs it.
pub fn answer(onnx: &Onnx, model: &ModelProto, inputs: &[Tensor]) -> Result<TVec<TValue>> {
    run(onnx.model_for_proto_model(model)?.into_optimized()?, inputs)
}

/// As [`answer`], of a model that has been told the shapes of its inputs.
pub fn answer_of(onnx: &Onnx, model: &ModelProto, inputs: &[Tensor]) -> Result<TVec<TValue>> {
    let mut model = onnx.model_for_proto_model(model)?;
    for (ix, input) in inputs.iter().enumerate() {
        model.set_input_fact(ix, input.datum_type().fact(input.shape()).into())?;
    }
    run(model.into_optimized()?, inputs)
}

/// What stock tract makes of a model that has been told the shapes of its inputs; a panic is an error. (Its
/// symbolic models compute sizes below zero where a kernel is larger than the padded input.)
pub fn answer_of_stock(model: &ModelProto, inputs: &[Tensor]) -> Result<TVec<TValue>> {
    let all = || answer_of(&tract_onnx::onnx(), model, inputs);
    catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|_| Err(format_err!("stock tract panics")))
}

/// The answer of our optimised model, and whether all of its layers run sparse; `told` if it knows the shapes
/// of its inputs.
pub fn sparse_answer(
    model: &ModelProto,
    inputs: &[Tensor],
    told: bool,
) -> Result<(bool, Result<TVec<TValue>>)> {
    let layers = model.graph.iter().flat_map(|graph| &graph.node);
    let layers = layers.filter(|node| ["Conv", "Gemm", "MatMul"].contains(&node.op_type.as_str())).count();
    let mut model = onnx().model_for_proto_model(model)?;
    for (ix, input) in inputs.iter().enumerate().filter(|_| told) {
        model.set_input_fact(ix, input.datum_type().fact(input.shape()).into())?;
    }
    let model = model.into_optimized()?;
    Ok((sparse_nodes(&model) == layers, run(model, inputs)))
}

/// What stock tract computes node by node, without any rewriting.
pub fn plainly(model: &ModelProto, inputs: &[Tensor]) -> Result<TVec<TValue>> {
    run(tract_onnx::onnx().model_for_proto_model(model)?.into_typed()?, inputs)
}
