//! The late door: models that are already typed (NNEF, TFLite, the `tract` facade, deployment files).

use crate::choose::{Assessment, Neighbours};
use crate::policy::{Mode, Policy};
use crate::rules;
use sparse_ops::{Choice, OptSparseConv, SparseConv, SparseDeconv, SparseMatMul};
use tract_core::internal::*;
use tract_core::transform::ModelTransform;

/// Swaps the sparse layers of a typed model that has not been optimised; returns how many.
///
/// # Errors
/// A model that has already been optimised, or layers whose shapes contradict each other.
pub fn sparsify(model: &mut TypedModel, policy: &Policy) -> TractResult<usize> {
    enable_pulse();
    let order = model.eval_order()?;
    let mut assessments = vec![];
    for id in order {
        let node = model.node(id);
        // layers that are sparse already stay so
        if made(node).is_none()
            && let Some(assessment) = Assessment::of(model, node, policy)
                .with_context(|| format!("deciding whether {node} runs sparse"))?
        {
            assessments.push((id, assessment));
        }
    }
    let sparse = model.nodes().iter().any(|node| made(node).is_some_and(|choice| choice.sparse))
        || assessments.iter().any(|(_, assessment)| assessment.is_worth_it(policy));
    let neighbours = if sparse { Neighbours::Sparse } else { Neighbours::Dense };
    let mut swapped = 0;
    for (id, assessment) in &assessments {
        swapped += rules::swap(model, *id, assessment, policy, neighbours)? as usize;
    }
    if swapped > 0 {
        model.compact()?;
    }
    Ok(swapped)
}

/// Lets `tract_pulse` pulse the layers that will be made sparse.
pub(crate) fn enable_pulse() {
    #[cfg(feature = "pulse")]
    if let Err(error) = sparse_ops::pulse::register() {
        log::warn!("sparse layers cannot be pulsed: {error:#}");
    }
}

/// The decision that made this layer sparse, if it is.
pub(crate) fn made(node: &TypedNode) -> Option<&Choice> {
    let made = node.op_as::<SparseConv>().map(SparseConv::choice);
    let made = made.or_else(|| node.op_as::<SparseDeconv>().map(SparseDeconv::choice));
    let made = made.or_else(|| node.op_as::<SparseMatMul>().map(SparseMatMul::choice));
    made.or_else(|| node.op_as::<OptSparseConv>().map(OptSparseConv::choice))
}

/// Whether some layer of the model is worth running sparse, or already does.
pub(crate) fn neighbours(model: &TypedModel, policy: &Policy) -> TractResult<Neighbours> {
    for node in model.nodes() {
        let sparse = match made(node) {
            Some(choice) => choice.sparse,
            None => Assessment::of(model, node, policy)?.is_some_and(|found| found.is_worth_it(policy)),
        };
        if sparse {
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
            } else if let Some(op) = node.op_as::<SparseDeconv>() {
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

/// `sparsify` under [`Mode::Dense`], whatever the knob says.
#[derive(Debug)]
struct Planar;

impl ModelTransform for Planar {
    fn name(&self) -> StaticName {
        "planar".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        sparsify(model, &Policy { mode: Mode::Dense, ..Policy::from_knobs()? }).map(|_| ())
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
tract_core::register_simple_model_transform!("planar", Planar);
tract_core::register_simple_model_transform!("unsparsify", Unsparsify);
