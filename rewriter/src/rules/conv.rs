//! `Conv` becomes `SparseConv`.

use sparse_ops::{Choice, SparseConv};
use tract_core::internal::*;
use tract_core::ops::cnn::Conv;

/// Swaps the convolution at node `id`; false if there is none.
pub(super) fn swap(model: &mut TypedModel, id: usize, choice: Choice) -> bool {
    let Some(conv) = model.node(id).op_as::<Conv>().cloned() else { return false };
    model.node_mut(id).op = Box::new(SparseConv::new(conv, choice));
    true
}
