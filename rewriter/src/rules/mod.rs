//! The swap: one file for each stock operator that can become sparse.

pub mod conv;
pub mod deconv;
pub mod einsum;
pub mod gru;

use crate::choose::{Assessed, Neighbours};
use crate::policy::Policy;
use crate::transform::made;
use sparse_ops::konst_of;
use tract_core::internal::*;

/// Swaps node `id` if what was found out about it says that it is to run sparse. Returns the node that runs
/// the layer then, if it was swapped: the same, or a new one where the layer needs its channels elsewhere.
///
/// The node keeps its name, its inputs and its consumers; an input that depends on constants alone becomes
/// one.
///
/// # Errors
/// Weights that cannot be read.
pub fn swap(
    model: &mut TypedModel,
    id: usize,
    assessed: &Assessed,
    policy: &Policy,
    neighbours: Neighbours,
) -> TractResult<Option<usize>> {
    let Assessed { seen, assessment } = assessed;
    rule_if_some!(choice = assessment.decide(policy, neighbours).choice());
    rule_if_some!(shape = seen.shape());
    let before = model.nodes().len();
    let swapped = conv::swap(model, id, choice)?
        || deconv::swap(model, id, choice)
        || einsum::swap(model, id, shape.oc, choice)?
        || gru::swap(model, id, choice)?;
    rule_if!(swapped);
    settle(model, id)?;
    log::debug!("{}: {choice}", model.node(id));
    Ok(std::iter::once(id).chain(before..model.nodes().len()).find(|id| made(model.node(*id)).is_some()))
}

/// Constants in place of what constants make on the way to a node: tract does not fold large ones, and every
/// look at the weights would compute them again.
fn settle(model: &mut TypedModel, id: usize) -> TractResult<()> {
    for slot in 0..model.node(id).inputs.len() {
        let outlet = model.node(id).inputs[slot];
        if model.outlet_fact(outlet)?.konst.is_none()
            && let Some(value) = konst_of(model, outlet)?
        {
            let name = format!("{}.{}", model.node(id).name, model.node(outlet.node).name);
            let name = model.unique_name(name).into_owned();
            let constant = model.add_const(name, value)?;
            model.add_edge(constant, InletId::new(id, slot))?;
        }
    }
    Ok(())
}
