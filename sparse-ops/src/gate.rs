//! Recognising hard-swish and SiLU as exporters write them: `x * g(x)` with `g` spelled out in scalar
//! operations.
//!
//! The output of a layer then has two consumers, and none of them could be fused. Both forms of hard-swish in
//! use (`x * HardSigmoid(x)` and `x * Clip(x + 3, 0, 6) / 6`) are a chain of operations with one constant
//! each; the chain is not matched by its spelling but by what it does to a few sample values.

use crate::konst::{f32s, konst_of};
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub};
use tract_core::ops::nn::silu::silu;
use tract_core::ops::nn::{Sigmoid, hard_swish};

/// Longest chain that is followed.
const STEPS: usize = 6;

/// Where hard-sigmoid is compared: both flat ends, both corners, the slope. A chain of additions, factors and
/// bounds that agrees here is the same function, because it is linear between its two corners.
const SAMPLES: [f32; 9] = [-20.0, -3.5, -3.0, -2.0, 0.0, 1.0, 3.0, 3.5, 20.0];

/// Replaces `x * g(x)` behind `node` by tract's own operator, which can be fused.
pub(crate) fn declutter_gate(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let x = OutletId::new(node.id, 0);
    rule_if_let!(&[a, b] = &*node.outputs[0].successors);
    rule_if!(!model.output_outlets()?.contains(&x));
    for (gate, product) in [(a.node, b.node), (b.node, a.node)] {
        if let Some(patch) = swish(model, node, gate, product)? {
            return Ok(Some(patch));
        }
    }
    Ok(None)
}

/// The rewrite if `gate` begins a chain that ends in `product`, which multiplies by the output of `node`.
fn swish(
    model: &TypedModel,
    node: &TypedNode,
    gate: usize,
    product: usize,
) -> TractResult<Option<TypedModelPatch>> {
    let product = model.node(product);
    rule_if!(product.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Mul>() && op.1.is_none()));
    let mut last = model.node(gate);
    let mut patch = TypedModelPatch::new("hard-swish or SiLU");
    let x = patch.tap_model(model, node.id.into())?;
    let end = if last.op_as::<ElementWiseOp>().is_some_and(|op| op.1.is_none() && op.0.is::<Sigmoid>()) {
        rule_if!(feeds(last, product));
        let y = patch.wire_node(&product.name, silu(), &[x])?;
        patch.shunt_outside(model, product.id.into(), y[0])?;
        return Ok(Some(patch));
    } else {
        let mut values = SAMPLES;
        let mut from: OutletId = node.id.into();
        for _ in 0..STEPS {
            rule_if!(apply(model, last, from, &mut values)?);
            if feeds(last, product) {
                break;
            }
            from = last.id.into();
            rule_if_some!(next = model.single_succ(last.id)?);
            rule_if!(!model.output_outlets()?.contains(&from));
            last = next;
        }
        rule_if!(feeds(last, product));
        // What the product still has to be divided by: 1, or the 6 that some exporters divide by at the end.
        let factor = values[values.len() - 1];
        let gates = |(x, g): (&f32, &f32)| (g / factor - (x / 6.0 + 0.5).clamp(0.0, 1.0)).abs() <= 1e-6;
        rule_if!(factor.is_finite() && factor > 0.0 && SAMPLES.iter().zip(&values).all(gates));
        if factor == 1.0 {
            product
        } else {
            rule_if_some!(scale = model.single_succ(product.id)?);
            rule_if!(!model.output_outlets()?.contains(&product.id.into()));
            let mut one = [factor];
            rule_if!(apply(model, scale, product.id.into(), &mut one)? && (one[0] - 1.0).abs() <= 1e-6);
            // An addition could also make the sample 1: only a factor maps zero to zero.
            let mut zero = [0.0];
            rule_if!(apply(model, scale, product.id.into(), &mut zero)? && zero[0] == 0.0);
            scale
        }
    };
    let y = patch.wire_node(&end.name, hard_swish(), &[x])?;
    patch.shunt_outside(model, end.id.into(), y[0])?;
    Ok(Some(patch))
}

/// Whether the only consumer of `node` is `product`.
fn feeds(node: &TypedNode, product: &TypedNode) -> bool {
    matches!(&*node.outputs[0].successors, [succ] if succ.node == product.id)
}

/// Does to `values` what `node` does to the wire `from`; false if it is not an operation with one constant
/// number.
fn apply(model: &TypedModel, node: &TypedNode, from: OutletId, values: &mut [f32]) -> TractResult<bool> {
    let Some(op) = node.op_as::<TypedBinOp>().filter(|op| op.1.is_none()) else { return Ok(false) };
    let Some(slot) = node.inputs.iter().position(|i| *i == from) else { return Ok(false) };
    let Some(konst) = konst_of(model, node.inputs[1 - slot])? else { return Ok(false) };
    if konst.datum_type() != f32::datum_type() || konst.volume() != 1 {
        return Ok(false);
    }
    let c = f32s(&konst)?[0];
    let op = &op.0;
    let function: Box<dyn Fn(f32) -> f32> = if op.is::<Add>() {
        Box::new(|v| v + c)
    } else if op.is::<Mul>() {
        Box::new(|v| v * c)
    } else if op.is::<Max>() {
        Box::new(|v| v.max(c))
    } else if op.is::<Min>() {
        Box::new(|v| v.min(c))
    } else if op.is::<Sub>() && slot == 0 {
        Box::new(|v| v - c)
    } else if op.is::<Div>() && slot == 0 {
        Box::new(|v| v / c)
    } else {
        return Ok(false);
    };
    values.iter_mut().for_each(|v| *v = function(*v));
    Ok(true)
}
