//! `Deconv`, a transposed convolution, becomes `SparseDeconv`.

use sparse_ops::{Choice, SparseDeconv};
use tract_core::internal::*;
use tract_core::ops::cnn::Deconv;

/// Swaps the transposed convolution at node `id`; false if there is none.
pub(super) fn swap(model: &mut TypedModel, id: usize, choice: Choice) -> bool {
    let Some(deconv) = model.node(id).op_as::<Deconv>().cloned() else { return false };
    model.node_mut(id).op = Box::new(SparseDeconv::new(deconv, choice));
    true
}
