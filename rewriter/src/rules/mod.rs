//! The swap: one file for each stock operator that can become sparse.

pub mod conv;
pub mod einsum;

use crate::choose::{Neighbours, decide};
use crate::policy::Policy;
use tract_core::internal::*;

/// Decides for node `id` and swaps it in place if it is to run sparse. Returns whether it was swapped.
///
/// The node keeps its name, its inputs and its consumers.
pub fn swap(model: &mut TypedModel, id: usize, policy: &Policy, neighbours: Neighbours) -> TractResult<bool> {
    let node = model.node(id);
    let Some(choice) = decide(model, node, policy, neighbours)
        .with_context(|| format!("deciding whether {node} runs sparse"))?
        .and_then(|decision| decision.choice())
    else {
        return Ok(false);
    };
    let swapped = conv::swap(model, id, choice) || einsum::swap(model, id, choice)?;
    if swapped {
        log::debug!("{}: {choice}", model.node(id));
    }
    Ok(swapped)
}
