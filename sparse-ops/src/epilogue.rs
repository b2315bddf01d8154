//! Recognising what follows a layer: activations and residual additions.

use crate::konst::f32s;
use sparse_kernels::prelude::*;
use tract_core::internal::*;
use tract_core::ops::binary::{BinMiniOp, OptBinByScalar, OptBinUnicast, TypedBinOp};
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min};
use tract_core::ops::nn::{HardSwish, LeakyRelu, Sigmoid, Silu};

/// A successor that the kernels can do themselves.
pub(crate) enum Follow {
    /// An element-wise function.
    Activation(Activation),
    /// The addition of another tensor of the same shape, found at this input.
    Residual(OutletId),
}

/// What `succ` does with the output of `node`, if it is something a kernel can take over.
pub(crate) fn recognise(
    model: &TypedModel,
    node: &TypedNode,
    succ: &TypedNode,
) -> TractResult<Option<Follow>> {
    rule_if!(succ.outputs.len() == 1);
    if let Some(op) = succ.op_as::<ElementWiseOp>() {
        return Ok(element_wise(op).map(Follow::Activation));
    }
    rule_if_some!(binop = binary(succ));
    rule_if_let!(&[a, b] = &*succ.inputs);
    let other = if a.node == node.id { b } else { a };
    let (ours, other_fact) = (&node.outputs[0].fact, model.outlet_fact(other)?);
    if binop.is::<Add>() && other_fact.datum_type == f32::datum_type() && other_fact.shape == ours.shape {
        return Ok(Some(Follow::Residual(other)));
    }
    rule_if_some!(konst = &other_fact.konst);
    rule_if!(konst.volume() == 1 && konst.datum_type() == f32::datum_type());
    let bound = f32s(konst)?[0];
    rule_if!(!bound.is_nan());
    if binop.is::<Max>() {
        Ok(Some(Follow::Activation(Activation::Clamp { lo: bound, hi: f32::INFINITY })))
    } else if binop.is::<Min>() {
        Ok(Some(Follow::Activation(Activation::Clamp { lo: f32::NEG_INFINITY, hi: bound })))
    } else {
        Ok(None)
    }
}

/// The arithmetic of two operands at a node, if it is such.
pub(crate) fn binary(node: &TypedNode) -> Option<&dyn BinMiniOp> {
    if let Some(op) = node.op_as::<TypedBinOp>() {
        Some(&*op.0)
    } else if let Some(op) = node.op_as::<OptBinByScalar>() {
        Some(&*op.binop)
    } else {
        node.op_as::<OptBinUnicast>().map(|op| &*op.binop)
    }
}

/// The function at a node, if it is one that kernels know.
pub(crate) fn element_wise(op: &ElementWiseOp) -> Option<Activation> {
    let mini = &*op.0;
    if op.1.is_some() {
        None
    } else if mini.is::<HardSwish>() {
        Some(Activation::HardSwish)
    } else if mini.is::<Sigmoid>() {
        Some(Activation::Sigmoid)
    } else if mini.is::<Silu>() {
        Some(Activation::Silu)
    } else {
        mini.downcast_ref::<LeakyRelu>().map(|leaky| Activation::LeakyRelu(leaky.alpha))
    }
}

/// The epilogue with one more activation, or `None` if there is no room for it.
pub(crate) fn push_activation(
    epilogue: Epilogue,
    residual: bool,
    activation: Activation,
) -> Option<Epilogue> {
    if !residual && let Some(before) = merge(epilogue.before, activation) {
        return (epilogue.after == Activation::Identity).then_some(Epilogue { before, ..epilogue });
    }
    merge(epilogue.after, activation).map(|after| Epilogue { after, ..epilogue })
}

/// One activation that does `first`, then `second`.
fn merge(first: Activation, second: Activation) -> Option<Activation> {
    match (first, second) {
        (Activation::Identity, other) | (other, Activation::Identity) => Some(other),
        (Activation::Clamp { lo, hi }, Activation::Clamp { .. }) => {
            Some(Activation::Clamp { lo: second.apply(lo), hi: second.apply(hi) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_of_two_halves_is_one_clamp() {
        let lo = Activation::Clamp { lo: 0.0, hi: f32::INFINITY };
        let hi = Activation::Clamp { lo: f32::NEG_INFINITY, hi: 6.0 };
        let half = push_activation(Epilogue::default(), false, lo).unwrap();
        let whole = push_activation(half, false, hi).unwrap();
        assert_eq!(whole, Epilogue::activation(Activation::RELU6));
    }

    #[test]
    fn after_a_residual_only_the_second_place_is_free() {
        let linear = Epilogue::default();
        let relu = push_activation(linear, true, Activation::RELU).unwrap();
        assert_eq!(relu, Epilogue { before: Activation::Identity, after: Activation::RELU });
        assert_eq!(push_activation(relu, true, Activation::Sigmoid), None);
    }

    #[test]
    fn two_different_functions_take_both_places() {
        let swish = push_activation(Epilogue::default(), false, Activation::HardSwish).unwrap();
        let both = push_activation(swish, false, Activation::RELU).unwrap();
        assert_eq!(both, Epilogue { before: Activation::HardSwish, after: Activation::RELU });
        assert_eq!(push_activation(both, false, Activation::Sigmoid), None);
    }
}
