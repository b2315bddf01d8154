//! A matrix product with a constant operand (`Gemm`, `MatMul`, decluttered 1x1 convolutions) becomes `SparseMatMul`.

use crate::analyse::{Seen, see};
use sparse_ops::{Choice, SparseMatMul, konst_of};
use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

/// Swaps the product at node `id` and gives it a bias of zeros; false if there is none.
pub(super) fn swap(model: &mut TypedModel, id: usize, choice: Choice) -> TractResult<bool> {
    let node = model.node(id);
    let Some(einsum) = node.op_as::<EinSum>().cloned() else { return Ok(false) };
    let Some(Seen::Layer(layer)) = see(model, node)? else { return Ok(false) };
    let name = format!("{}.bias", node.name);
    let x_slot = if konst_of(model, node.inputs[1])?.is_some() { 0 } else { 1 };
    let bias = model.add_const(name, Tensor::zero::<f32>(&[layer.shape.oc])?)?;
    model.add_edge(bias, InletId::new(id, 2))?;
    model.node_mut(id).op = Box::new(SparseMatMul::new(einsum, x_slot, choice));
    Ok(true)
}
