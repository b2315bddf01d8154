//! A matrix product with a constant operand (`Gemm`, `MatMul`, decluttered 1x1 convolutions) becomes
//! `SparseMatMul`.

use crate::analyse::straight;
use sparse_ops::{Choice, Linear, SparseMatMul, konst_of};
use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

/// Swaps the product of `oc` output channels at node `id` and gives it a bias of zeros; false if there is
/// none. What it transposes besides is done behind it, by nodes of their own.
pub(super) fn swap(model: &mut TypedModel, id: usize, oc: usize, choice: Choice) -> TractResult<bool> {
    let node = model.node(id);
    let Some(einsum) = node.op_as::<EinSum>().cloned() else { return Ok(false) };
    let name = model.unique_name(format!("{}.bias", node.name)).into_owned();
    let x_slot = if konst_of(model, node.inputs[1])?.is_some() { 0 } else { 1 };
    let facts = model.node_input_facts(id)?;
    let bias = Tensor::zero_dt(facts[x_slot].datum_type, &[oc])?;
    let weights = facts[1 - x_slot].shape.as_concrete().context("constant weights without a shape")?;
    let is_straight = Linear::of(&einsum, x_slot, &facts[x_slot].shape, weights).is_ok();
    drop(facts);
    if is_straight {
        let bias = model.add_const(name, bias)?;
        model.add_edge(bias, InletId::new(id, 2))?;
        model.node_mut(id).op = Box::new(SparseMatMul::new(einsum, x_slot, choice));
        return Ok(true);
    }
    let Some((einsum, changes)) = straight(&einsum, x_slot) else { return Ok(false) };
    let mut patch = TypedModelPatch::new("sparse product, then transposed");
    let mut inputs = patch.taps(model, &node.inputs)?;
    inputs.push(patch.add_const(name, bias)?);
    let op = SparseMatMul::new(einsum, x_slot, choice);
    let mut y = patch.wire_node(format!("{}.product", node.name), op, &inputs)?[0];
    for (at, change) in changes.iter().enumerate() {
        let last = at + 1 == changes.len();
        let name = if last { node.name.clone() } else { format!("{}.axes.{at}", node.name) };
        y = patch.wire_node(name, change.clone(), &[y])?[0];
    }
    patch.shunt_outside(model, id.into(), y)?;
    patch.apply(model)?;
    Ok(true)
}
