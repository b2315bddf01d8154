//! The late door: models that are already typed (NNEF, TFLite, the `tract` facade, deployment files).

use crate::choose::{Neighbours, is_worth_it};
use crate::policy::Policy;
use crate::rules;
use sparse_ops::{OptSparseConv, SparseConv, SparseMatMul};
use tract_core::internal::*;
use tract_core::transform::ModelTransform;

/// Swaps the sparse layers of a typed model that has not been optimised; returns how many.
///
/// # Errors
/// A model that has already been optimised, or layers whose shapes contradict each other.
pub fn sparsify(model: &mut TypedModel, policy: &Policy) -> TractResult<usize> {
    let neighbours = neighbours(model, policy)?;
    let mut swapped = 0;
    for id in model.eval_order()? {
        swapped += rules::swap(model, id, policy, neighbours)? as usize;
    }
    if swapped > 0 {
        model.compact()?;
    }
    Ok(swapped)
}

/// Whether some layer of the model is worth running sparse, or already does.
pub(crate) fn neighbours(model: &TypedModel, policy: &Policy) -> TractResult<Neighbours> {
    for node in model.nodes() {
        let already = node.op_as::<SparseConv>().map(SparseConv::choice);
        let already = already.or_else(|| node.op_as::<SparseMatMul>().map(SparseMatMul::choice));
        let already = already.or_else(|| node.op_as::<OptSparseConv>().map(OptSparseConv::choice));
        if already.is_some_and(|choice| choice.sparse)
            || (already.is_none() && is_worth_it(model, node, policy)?)
        {
            return Ok(Neighbours::Sparse);
        }
    }
    Ok(Neighbours::Dense)
}

/// Puts the stock operators back in place of the sparse ones; returns how many.
///
/// # Errors
/// A graph that cannot be patched.
pub fn unsparsify(model: &mut TypedModel) -> TractResult<usize> {
    let mut unwrapped = 0;
    loop {
        let patch = model.nodes().iter().find_map(|node| {
            if let Some(op) = node.op_as::<SparseConv>() {
                Some(op.unwrap(model, node))
            } else {
                node.op_as::<SparseMatMul>().map(|op| op.unwrap(model, node))
            }
        });
        let Some(patch) = patch else { return Ok(unwrapped) };
        patch?.apply(model)?;
        model.compact()?;
        unwrapped += 1;
    }
}

#[derive(Debug)]
struct Sparsify;

impl ModelTransform for Sparsify {
    fn name(&self) -> StaticName {
        "sparsify".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        sparsify(model, &Policy::from_knobs()?).map(|_| ())
    }
}

#[derive(Debug)]
struct Unsparsify;

impl ModelTransform for Unsparsify {
    fn name(&self) -> StaticName {
        "unsparsify".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        unsparsify(model).map(|_| ())
    }
}

tract_core::register_simple_model_transform!("sparsify", Sparsify);
tract_core::register_simple_model_transform!("unsparsify", Unsparsify);
