//! What stands around layers that have settled which numbers they compute in: stock operators with one of ours to take their
//! place.

use crate::opt_sparse_conv::OptSparseConv;
use crate::pairs::clusters::global_sum_at;
use crate::{pieces, scale};
use sparse_kernels::prelude::Target;
use tract_core::internal::*;

/// Puts an operator of ours in place of the first of stock tract that has one; none if there is none left. Copies and products stay
/// as long as a layer still has to find out whether it runs on lanes of several channels, which have operators of their own for
/// both.
pub(crate) fn swap_next(model: &TypedModel, target: Target) -> TractResult<Option<TypedModelPatch>> {
    let any =
        |what: fn(&OptSparseConv) -> bool| model.nodes().iter().any(|node| node.op_as().is_some_and(what));
    let open = any(OptSparseConv::is_open);
    let unsettled = open || any(OptSparseConv::may_be_int8);
    for node in model.nodes() {
        let mut patch = global_sum_at(model, node, target)?;
        if patch.is_none() && !open {
            patch = pieces::swap(model, node)?;
        }
        if patch.is_none() && !unsettled {
            patch = scale::swap(model, node, target)?;
        }
        if patch.is_some() {
            return Ok(patch);
        }
    }
    Ok(None)
}
