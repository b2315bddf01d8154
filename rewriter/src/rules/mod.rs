//! The swap: one file for each stock operator that can become sparse.

pub mod conv;
pub mod einsum;

use crate::choose::{Assessment, Neighbours};
use crate::policy::Policy;
use tract_core::internal::*;

/// Swaps node `id` in place if what was found out about it says that it is to run sparse. Returns whether it was swapped.
///
/// The node keeps its name, its inputs and its consumers.
///
/// # Errors
/// Weights that cannot be read.
pub fn swap(
    model: &mut TypedModel,
    id: usize,
    assessment: &Assessment,
    policy: &Policy,
    neighbours: Neighbours,
) -> TractResult<bool> {
    let Some(choice) = assessment.decide(policy, neighbours).choice() else { return Ok(false) };
    let swapped = conv::swap(model, id, choice) || einsum::swap(model, id, choice)?;
    if swapped {
        log::debug!("{}: {choice}", model.node(id));
    }
    Ok(swapped)
}
