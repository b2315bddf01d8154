//! Folding per-channel arithmetic (batch normalisation and its remains) into weights and bias.
//!
//! Stock tract folds into group-1 convolutions only, and not into matrix products, where scale and shift ride
//! along at run time. Scaling a row keeps its zeros, so that a sparse layer stays as sparse as it was.

use crate::konst::{f32s, konst_of};
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::math::{Add, Div, Mul, Sub};

/// `y * scale + shift`, one pair for each output channel.
pub(crate) struct Affine {
    /// The node that does it now.
    pub succ: usize,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// The per-channel arithmetic that follows `node`, if its only successor is one by a constant.
pub(crate) fn affine_successor(
    model: &TypedModel,
    node: &TypedNode,
    channel_axis: Option<usize>,
    oc: usize,
) -> TractResult<Option<Affine>> {
    rule_if_some!(succ = model.single_succ(node.id)?);
    rule_if!(!model.output_outlets()?.contains(&node.id.into()));
    rule_if_some!(op = succ.op_as::<TypedBinOp>());
    rule_if!(op.1.is_none());
    let slot = node.outputs[0].successors[0].slot;
    rule_if!(model.outlet_fact(succ.id.into())?.shape == node.outputs[0].fact.shape);
    rule_if_some!(konst = konst_of(model, succ.inputs[1 - slot])?);
    rule_if!(konst.datum_type() == f32::datum_type() && konst.rank() == node.outputs[0].fact.rank());
    // One value, or one per output channel along the channel axis.
    let per_channel = konst.volume() == oc && channel_axis.is_some_and(|axis| konst.shape()[axis] == oc);
    let operand = match (f32s(&konst)?, per_channel) {
        (values, true) => values.to_vec(),
        ([value], false) => vec![*value; oc],
        _ => return Ok(None),
    };
    let (ones, zeros) = (vec![1f32; oc], vec![0f32; oc]);
    let (scale, shift) = if op.0.is::<Mul>() {
        (operand, zeros)
    } else if op.0.is::<Add>() {
        (ones, operand)
    } else if op.0.is::<Div>() && slot == 0 {
        (operand.iter().map(|v| 1.0 / v).collect(), zeros)
    } else if op.0.is::<Sub>() && slot == 0 {
        (ones, operand.iter().map(|v| -v).collect())
    } else if op.0.is::<Sub>() {
        (vec![-1.0; oc], operand)
    } else {
        return Ok(None);
    };
    Ok(Some(Affine { succ: succ.id, scale, shift }))
}

impl Affine {
    /// Weights and bias that do the same, or `None` if a value would not be finite or a weight would vanish.
    ///
    /// `channel_shape` broadcasts a per-channel vector over the weights.
    pub fn apply(
        &self,
        weights: &Tensor,
        channel_shape: &[usize],
        bias: &[f32],
    ) -> TractResult<Option<(Tensor, Vec<f32>)>> {
        let scale = tensor1(&self.scale).into_shape(channel_shape)?;
        let weights_view = weights.to_plain_array_view::<f32>()?;
        let scaled = &weights_view * &scale.to_plain_array_view::<f32>()?;
        let bias: Vec<f32> = bias
            .iter()
            .zip(&self.scale)
            .zip(&self.shift)
            .map(|((b, scale), shift)| b * scale + shift)
            .collect();
        rule_if!(scaled.iter().chain(&bias).all(|v| v.is_finite()));
        Ok(Some((scaled.into_tensor(), bias)))
    }
}
