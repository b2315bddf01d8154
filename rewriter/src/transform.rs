//! The late entry point: models that are already typed (NNEF, TFLite, the `tract` facade, deployment files).

use crate::choose::{Assessment, Neighbours};
use crate::nested::{edit_bodies, iterations};
use crate::policy::{Mode, Policy};
use crate::record::note_all;
use crate::report::Report;
use crate::restore::restored;
use crate::rules;
use sparse_ops::{
    Choice, OptSparseConv, OptSparseGru, SparseConv, SparseDeconv, SparseGruSeq, SparseIf, SparseMatMul,
};
use tract_core::internal::*;
use tract_core::ops::gru_seq::GruSeq;
use tract_core::ops::scan::Scan;
use tract_core::transform::ModelTransform;

/// Swaps the sparse layers of a typed model that has not been optimised, and of its bodies; returns how many.
///
/// A model with loops or recurrent layers is decluttered first, so that products which do not depend on the
/// step before have left their loop.
///
/// # Errors
/// A model that has already been optimised, or layers whose shapes contradict each other.
pub fn sparsify(model: &mut TypedModel, policy: &Policy) -> TractResult<usize> {
    let swapped = sparsify_unnoted(model, policy)?;
    note_all(model, Report::with_policy(model, policy)?.layers)?;
    Ok(swapped)
}

/// [`sparsify`] without notes for reports: of a body, or of a model that another is made from.
pub(crate) fn sparsify_unnoted(model: &mut TypedModel, policy: &Policy) -> TractResult<usize> {
    enable_pulse();
    if policy.mode == Mode::Never {
        return Ok(0);
    }
    if model.nodes().iter().any(|node| may_be_hoisted(model, node)) {
        model.declutter()?;
    } else if model.nodes().iter().any(|node| node.op_is::<Scan>()) {
        // weights of a loop may be slices of a constant
        model.prop_consts()?;
    }
    let swapped = match restored(model)? {
        None => swap_layers(model, policy)?,
        // left as it is unless it becomes sparse
        Some(mut restored) => {
            let swapped = swap_layers(&mut restored, policy)?;
            if swapped > 0 {
                *model = restored;
            }
            swapped
        }
    };
    Ok(swapped
        + edit_bodies(
            model,
            0,
            |branches| Box::new(SparseIf::new(branches)),
            |body| sparsify_unnoted(body, policy),
        )?)
}

/// Whether products may still stand in this loop or recurrent layer that do not depend on the step before. A
/// loop of a single step is left alone: stock tract may only unroll it where the model around lets it.
fn may_be_hoisted(model: &TypedModel, node: &TypedNode) -> bool {
    if let Some(scan) = node.op_as::<Scan>() {
        !scan.decluttered && !iterations(model, node).is_ok_and(|steps| steps == 1)
    } else {
        node.op_as::<GruSeq>()
            .is_some_and(|seq| !seq.projected && seq.declutter(model, node).is_ok_and(|p| p.is_some()))
    }
}

/// Swaps the layers of a model, its bodies apart.
fn swap_layers(model: &mut TypedModel, policy: &Policy) -> TractResult<usize> {
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
    let made = made.or_else(|| node.op_as::<OptSparseConv>().map(OptSparseConv::choice));
    let made = made.or_else(|| node.op_as::<SparseGruSeq>().map(SparseGruSeq::choice));
    made.or_else(|| node.op_as::<OptSparseGru>().map(OptSparseGru::choice))
}

/// Whether some layer of the model, its bodies apart, is worth running sparse, or already does.
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

/// Puts the stock operators back in place of the sparse ones, in bodies, too; returns how many.
///
/// # Errors
/// A graph that cannot be patched.
pub fn unsparsify(model: &mut TypedModel) -> TractResult<usize> {
    let mut unwrapped = unsparsify_bodies(model, 0)?;
    loop {
        let patch = model.nodes().iter().find_map(|node| {
            if let Some(op) = node.op_as::<SparseConv>() {
                Some(op.unwrap(model, node))
            } else if let Some(op) = node.op_as::<SparseDeconv>() {
                Some(op.unwrap(model, node))
            } else if let Some(op) = node.op_as::<SparseMatMul>() {
                Some(op.unwrap(model, node))
            } else {
                node.op_as::<SparseGruSeq>().map(|op| op.unwrap(model, node))
            }
        });
        let Some(patch) = patch else { return Ok(unwrapped) };
        patch?.apply(model)?;
        model.compact()?;
        unwrapped += 1;
    }
}

/// [`unsparsify`] for the bodies of the nodes from `first` on.
pub(crate) fn unsparsify_bodies(model: &mut TypedModel, first: usize) -> TractResult<usize> {
    edit_bodies(model, first, |branches| Box::new(branches), unsparsify)
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
