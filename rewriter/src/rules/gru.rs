//! A whole-sequence GRU becomes `SparseGruSeq`.

use sparse_ops::{Choice, SparseGruSeq};
use tract_core::internal::*;
use tract_core::ops::gru_seq::GruSeq;

/// Swaps the GRU at node `id`; false if there is none behind its input-side product.
pub(super) fn swap(model: &mut TypedModel, id: usize, choice: Choice) -> TractResult<bool> {
    let Some(seq) = model.node(id).op_as::<GruSeq>().filter(|seq| seq.projected).cloned() else {
        return Ok(false);
    };
    // there are no recurrent kernels in half precision
    let choice = Choice { half: None, int8: None, ..choice };
    model.node_mut(id).op = Box::new(SparseGruSeq::new(seq, choice)?);
    Ok(true)
}
