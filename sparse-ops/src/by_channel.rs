//! Activations that are quantised with a scale of their own for each channel, as NNCF does before depthwise layers.
//!
//! Stock tract spells such a `QuantizeLinear` out in operators of floats. What multiplies a channel there can as well
//! multiply its weights: the layer before puts out steps, and a depthwise layer behind takes in steps, both with a scale
//! of one. Rows of weights that were whole numbers times a scale stay such.

use crate::epilogue::binary;
use crate::konst::{f32s, konst_of};
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min, Mul, RoundHalfToEven, Sub, max, mul};
use tract_core::ops::quant::{DequantizeLinearF32, quantize_linear_i8, quantize_linear_u8};

/// Whether a value is dequantised with a factor for each channel.
pub fn is_dequantised_by_channel(model: &TypedModel, outlet: OutletId) -> TractResult<bool> {
    Ok(spelled_out(model, model.node(outlet.node))?.is_some())
}

/// Bytes with one zero point that a depthwise layer reads through a factor for each channel.
pub(crate) struct ByChannel {
    bytes: OutletId,
    zero: i32,
    factors: Vec<f32>,
}

impl ByChannel {
    /// What the layer at `node` reads, if its input is such.
    pub(crate) fn read_by(
        model: &TypedModel,
        node: &TypedNode,
        axis: usize,
        channels: usize,
    ) -> TractResult<Option<ByChannel>> {
        rule_if_some!((bytes, zero, factors) = spelled_out(model, model.node(node.inputs[0].node))?);
        rule_if_some!(factors = factors_of(&factors, axis, channels)?);
        Ok(Some(ByChannel { bytes, zero, factors }))
    }

    /// The bytes as steps of one, in a patch.
    pub(crate) fn wire(
        &self,
        patch: &mut TypedModelPatch,
        model: &TypedModel,
        name: &str,
    ) -> TractResult<OutletId> {
        let bytes = patch.tap_model(model, self.bytes)?;
        let op = DequantizeLinearF32::new(1.0, self.zero);
        Ok(patch.wire_node(model.unique_name(format!("{name}.steps")), op, &[bytes])?[0])
    }

    /// The weights of a depthwise layer for such steps, output channels first.
    pub(crate) fn weights(&self, weights: &Tensor) -> TractResult<Option<Tensor>> {
        let mut weights = weights.clone();
        rule_if!(weights.shape().first().is_some_and(|oc| oc % self.factors.len() == 0));
        let row = weights.len() / self.factors.len();
        for (row, factor) in
            weights.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?.chunks_exact_mut(row).zip(&self.factors)
        {
            row.iter_mut().for_each(|w| *w *= factor);
            rule_if!(row.iter().all(|w| w.is_finite()));
        }
        Ok(Some(weights))
    }
}

/// The bytes, zero point and factors of a `DequantizeLinear` with several scales that ends at `product`.
fn spelled_out(model: &TypedModel, product: &TypedNode) -> TractResult<Option<(OutletId, i32, Arc<Tensor>)>> {
    rule_if!(product.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Mul>() && op.1.is_none()));
    rule_if_some!((mut x, factors) = with_constant(model, product)?);
    let mut zero = 0.0;
    if let Some(op) = model.node(x.node).op_as::<TypedBinOp>() {
        rule_if_some!((before, value) = with_constant(model, model.node(x.node))?);
        rule_if_some!(value = single(&value)?);
        let is_first = before == model.node(x.node).inputs[0];
        zero = match () {
            () if op.0.is::<Sub>() && is_first => value,
            () if op.0.is::<Add>() => -value,
            () => return Ok(None),
        };
        x = before;
    }
    rule_if!(model.node(x.node).op_is::<Cast>());
    let bytes = model.node(x.node).inputs[0];
    rule_if_some!([lo, hi] = limits(model.outlet_fact(bytes)?.datum_type));
    rule_if!(zero.fract() == 0.0 && (lo..=hi).contains(&zero));
    Ok(Some((bytes, zero as i32, factors)))
}

/// What follows the layer at `node`, if it is bounded and quantised in operators of floats, by a factor for each channel or
/// none: the factor first, for the layer to take in, then a bound of zero, then one operator that quantises.
pub(crate) fn quantised_after(
    model: &TypedModel,
    node: &TypedNode,
    axis: Option<usize>,
    channels: usize,
) -> TractResult<Option<TypedModelPatch>> {
    let mut bounds = vec![];
    let mut factors = None;
    let mut last = node;
    let rounded = loop {
        rule_if_some!(next = only_reader(model, last)?);
        if next.op_is::<ElementWiseOp>() {
            break next;
        }
        rule_if_some!(op = next.op_as::<TypedBinOp>());
        rule_if!(op.1.is_none());
        rule_if_some!((_, value) = with_constant(model, next)?);
        if op.0.is::<Mul>() && factors.is_none() {
            rule_if_some!(axis = axis);
            rule_if_some!(found = factors_of(&value, axis, channels)?);
            factors = Some((found, value));
        } else {
            rule_if!(factors.is_none() && (op.0.is::<Max>() || op.0.is::<Min>()));
            rule_if_some!(bound = single(&value)?);
            bounds.push((op.0.is::<Max>(), bound));
        }
        last = next;
    };
    let round = rounded.op_as::<ElementWiseOp>();
    rule_if!(round.is_some_and(|op| op.1.is_none() && op.0.is::<RoundHalfToEven>()));
    rule_if_some!(tail = Tail::after(model, rounded)?);

    let mut patch = TypedModelPatch::new("quantised by channel");
    let mut y = patch.tap_model(model, node.id.into())?;
    let of_all = |f: &dyn Fn(f32) -> bool| match &factors {
        Some((factors, _)) => factors.iter().all(|factor| f(*factor)),
        None => f(1.0),
    };
    let name = |what: &str| model.unique_name(format!("{}.{what}", node.name)).into_owned();
    if let Some((_, value)) = &factors {
        let value = patch.add_const(name("factors"), value.clone())?;
        y = patch.wire_node(name("by_channel"), mul(), &[y, value])?[0];
    }
    let [lo, hi] = tail.limits;
    for (is_max, bound) in bounds {
        // what the limits of the type do anyway
        let needless = match is_max {
            true => of_all(&|factor| bound * factor + tail.zero < lo + 0.5),
            false => of_all(&|factor| bound * factor + tail.zero > hi - 0.5),
        };
        if needless {
            continue;
        }
        rule_if!(is_max && bound == 0.0);
        let zero = tensor0(0f32).broadcast_into_rank(node.outputs[0].fact.rank())?;
        let zero = patch.add_const(name("zero"), zero)?;
        y = patch.wire_node(name("max"), max(), &[y, zero])?[0];
    }
    let op: Box<dyn TypedOp> = match tail.signed {
        true => Box::new(quantize_linear_i8(1.0, tail.zero as i8)),
        false => Box::new(quantize_linear_u8(1.0, tail.zero as u8)),
    };
    let y = patch.wire_node(&model.node(tail.last).name, op, &[y])?;
    patch.shunt_outside(model, tail.last.into(), y[0])?;
    Ok(Some(patch))
}

/// The end of a `QuantizeLinear` spelled out: a zero point, the limits of the type, and a cast to it.
struct Tail {
    zero: f32,
    limits: [f32; 2],
    signed: bool,
    /// The cast.
    last: usize,
}

impl Tail {
    fn after(model: &TypedModel, rounded: &TypedNode) -> TractResult<Option<Tail>> {
        let (mut zero, mut lo, mut hi) = (0.0, None, None);
        let mut last = rounded;
        loop {
            rule_if_some!(next = only_reader(model, last)?);
            last = next;
            let Some(op) = next.op_as::<TypedBinOp>() else { break };
            rule_if_some!((_, value) = with_constant(model, next)?);
            rule_if_some!(value = single(&value)?);
            rule_if!(op.1.is_none());
            match () {
                () if op.0.is::<Add>() && lo.is_none() && hi.is_none() => zero += value,
                () if op.0.is::<Max>() && lo.is_none() => lo = Some(value),
                () if op.0.is::<Min>() && hi.is_none() => hi = Some(value),
                () => return Ok(None),
            }
        }
        rule_if!(last.op_is::<Cast>());
        let dt = last.outputs[0].fact.datum_type;
        rule_if_some!(limits = limits(dt));
        rule_if!(
            [lo, hi] == limits.map(Some) && zero.fract() == 0.0 && (limits[0]..=limits[1]).contains(&zero)
        );
        Ok(Some(Tail { zero, limits, signed: dt == i8::datum_type(), last: last.id }))
    }
}

fn limits(dt: DatumType) -> Option<[f32; 2]> {
    match dt {
        DatumType::U8 => Some([f32::from(u8::MIN), f32::from(u8::MAX)]),
        DatumType::I8 => Some([f32::from(i8::MIN), f32::from(i8::MAX)]),
        _ => None,
    }
}

/// The only node that reads a node's output, unless that is one of the model, too.
fn only_reader<'a>(model: &'a TypedModel, node: &TypedNode) -> TractResult<Option<&'a TypedNode>> {
    rule_if!(!model.output_outlets()?.contains(&node.id.into()));
    model.single_succ(node.id)
}

/// The operand of an operator that is not constant, and the one that is, of floats.
fn with_constant(model: &TypedModel, node: &TypedNode) -> TractResult<Option<(OutletId, Arc<Tensor>)>> {
    rule_if!(binary(node).is_some());
    rule_if_let!(&[a, b] = &*node.inputs);
    for (x, constant) in [(a, b), (b, a)] {
        if let Some(value) =
            konst_of(model, constant)?.filter(|value| value.datum_type() == f32::datum_type())
        {
            return Ok(Some((x, value)));
        }
    }
    Ok(None)
}

/// The value of all elements.
fn single(value: &Tensor) -> TractResult<Option<f32>> {
    value.as_uniform().map(|value| value.cast_to_scalar()).transpose()
}

/// Positive factors, one for each of the channels along an axis.
fn factors_of(value: &Tensor, axis: usize, channels: usize) -> TractResult<Option<Vec<f32>>> {
    rule_if!(value.len() == channels && value.shape().get(axis) == Some(&channels));
    let factors = f32s(value)?;
    rule_if!(factors.iter().all(|factor| factor.is_normal() && *factor > 0.0));
    Ok(Some(factors.to_vec()))
}
