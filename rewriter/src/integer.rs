//! Layers of ONNX's integer operators, and of those that stock tract makes of them, written as what they are defined to
//! compute: a dequantised input, a layer of floats, a quantised output. That is how layers are looked at and swapped, and
//! what becomes integer arithmetic again when the model is optimised.

use crate::analyse::see;
use crate::choose::{Assessed, Assessment, Decision, Neighbours};
use crate::nested::splice;
use crate::policy::Policy;
use sparse_ops::{Linear, konst_of};
use tract_core::internal::*;
use tract_core::ops::cast::{Cast, cast};
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::quant::{DequantizeLinearF32, quantize_linear_i8, quantize_linear_u8};

/// A layer of `QLinearConv` or `QLinearMatMul` in a model of its own, whose only input are bytes.
#[derive(Debug, Clone)]
pub(crate) struct Integer {
    /// In floats.
    pub(crate) model: TypedModel,
    /// The node of the layer.
    pub(crate) layer: usize,
    pub(crate) assessed: Assessed,
}

impl Integer {
    /// Of the operator that is alone in a model, its nodes from `first` on; none if its parameters are not constants, or
    /// the layer cannot be read.
    pub(crate) fn alone(alone: &TypedModel, first: usize, policy: &Policy) -> TractResult<Option<Integer>> {
        rule_if_some!(node = alone.nodes()[first..].iter().find(|node| is_quantised(node)));
        rule_if!(alone.node(node.inputs[0].node).inputs.is_empty());
        Integer::of(alone, node, policy)
    }

    /// Of a node of a typed model, whose first input is then that of the model; none if it is no such layer.
    pub(crate) fn of(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<Option<Integer>> {
        rule_if!(is_quantised(node));
        rule_if_some!((model, layer) = in_floats(model, node)?);
        rule_if!(takes_quads(&model, layer)?);
        rule_if_some!(seen = see(&model, model.node(layer))?);
        let assessment = Assessment::of_seen(&seen, policy)?;
        Ok(Some(Integer { model, layer, assessed: Assessed { seen, assessment } }))
    }

    /// Whether the layer is to run here, in int8, beside these neighbours.
    pub(crate) fn runs(&self, policy: &Policy, neighbours: Neighbours) -> bool {
        match self.assessed.assessment.decide(policy, neighbours) {
            Decision::Sparse(choice) => matches!(choice.int8, Some(Ok(_))),
            Decision::Stock(..) => false,
        }
    }
}

/// The model with its quantised operators in floats that are to run here, in int8; none if there are none. All others stay
/// what stock tract computes.
pub(crate) fn unfolded(
    model: &TypedModel,
    policy: &Policy,
    neighbours: impl FnOnce(&TypedModel) -> TractResult<Neighbours>,
) -> TractResult<Option<TypedModel>> {
    let mut found = vec![];
    for id in model.eval_order()? {
        found.extend(Integer::of(model, model.node(id), policy)?.map(|integer| (id, integer)));
    }
    rule_if!(!found.is_empty());
    let neighbours = match found.iter().any(|(_, integer)| integer.runs(policy, Neighbours::Dense)) {
        true => Neighbours::Sparse,
        false => neighbours(model)?,
    };
    found.retain(|(_, integer)| integer.runs(policy, neighbours));
    rule_if!(!found.is_empty());
    let mut unfolded = model.clone();
    for (id, Integer { model: floats, .. }) in found {
        let node = unfolded.node(id);
        let mut patch = TypedModelPatch::new("quantised operator in floats");
        let bytes = uncast(&unfolded, node.inputs[0])?;
        let (dt, name) =
            (unfolded.outlet_fact(bytes)?.datum_type, unfolded.unique_name(format!("{}.bytes", node.name)));
        let mut bytes = patch.tap_model(&unfolded, bytes)?;
        if dt.is_quantized() {
            bytes = patch.wire_node(name, cast(dt.unquantized()), &[bytes])?[0];
        }
        let mut output = splice(&floats, &[bytes], &mut patch.model, &mut [])?[0];
        let dt = node.outputs[0].fact.datum_type;
        if dt.is_quantized() {
            output =
                patch.wire_node(unfolded.unique_name(format!("{}.cast", node.name)), cast(dt), &[output])?[0];
        }
        patch.shunt_outside(&unfolded, id.into(), output)?;
        patch.apply(&mut unfolded)?;
    }
    Ok(Some(unfolded))
}

/// The wire before casts that leave bytes as they are, to the type that they have, with or without words for what they stand for.
fn uncast(model: &TypedModel, mut outlet: OutletId) -> TractResult<OutletId> {
    let dt = |outlet| TractResult::Ok(model.outlet_fact(outlet)?.datum_type);
    while model.node(outlet.node).op_is::<Cast>() {
        let before = model.node(outlet.node).inputs[0];
        let both = [dt(before)?, dt(outlet)?];
        if both[0].unquantized() != both[1].unquantized() || both.iter().all(|dt| dt.is_quantized()) {
            break;
        }
        outlet = before;
    }
    Ok(outlet)
}

fn is_quantised(node: &TypedNode) -> bool {
    node.op_as::<Conv>().is_some_and(|conv| conv.q_params.is_some())
        || node.op_as::<EinSum>().is_some_and(|einsum| einsum.q_params.is_some())
}

/// The parameters of tract's quantised operators: input, weights and bias stand before them, in this order.
const PARAMETERS: usize = 9;

/// What is taken off integers and what the differences are multiplied by, for each channel or once for all.
struct Affine {
    zeros: Vec<f32>,
    scales: Vec<f32>,
}

impl Affine {
    /// Of constants at these inputs.
    fn of(model: &TypedModel, node: &TypedNode, [zero, scale]: [usize; 2]) -> TractResult<Option<Affine>> {
        let values = |slot: usize| -> TractResult<Option<Vec<f32>>> {
            rule_if_some!(value = konst_of(model, node.inputs[slot])?);
            let value = value.cast_to::<f32>()?;
            Ok(Some(value.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
        };
        rule_if_some!(zeros = values(zero)?);
        rule_if_some!(scales = values(scale)?);
        Ok(Some(Affine { zeros, scales }))
    }

    /// The only zero point and scale, if there are no others.
    fn single(&self) -> Option<(f32, f32)> {
        match (&*self.zeros, &*self.scales) {
            ([zero], [scale]) => Some((*zero, *scale)),
            _ => None,
        }
    }

    /// Zero point and scale of a channel of so many.
    fn at(&self, channel: usize, channels: usize) -> Option<(f32, f32)> {
        let of = |values: &[f32]| match values {
            [value] => Some(*value),
            values => values.get(channel).copied().filter(|_| values.len() == channels),
        };
        Some((of(&self.zeros)?, of(&self.scales)?))
    }
}

/// Whole numbers, whatever a quantised type says of what they stand for.
fn integers(tensor: &Tensor) -> TractResult<Vec<f32>> {
    let view = tensor.try_as_plain_ram()?;
    Ok(match tensor.datum_type().unquantized() {
        DatumType::I8 => view.as_slice::<i8>()?.iter().map(|v| f32::from(*v)).collect(),
        DatumType::U8 => view.as_slice::<u8>()?.iter().map(|v| f32::from(*v)).collect(),
        _ => tensor.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec(),
    })
}

/// Whole numbers up to this are floats, and come back from products with a scale. Layers with larger biases stay stock.
const EXACT: f32 = (1 << 23) as f32;

/// Where the weights of a product have their output channels, and where its output has them.
fn channels_of(einsum: &EinSum) -> Option<[usize; 2]> {
    let mut own =
        einsum.axes.iter_all_axes().filter(|axis| axis.inputs[0].is_empty() && !axis.inputs[1].is_empty());
    match (own.next(), own.next()) {
        (Some(axis), None) => match (&*axis.inputs[1], &*axis.outputs[0]) {
            ([weights], [output]) => Some([*weights, *output]),
            _ => None,
        },
        _ => None,
    }
}

/// Whether there are integer kernels for the layout of a layer of floats. One that they do not take would run in f32, and round
/// some numbers to others than the operator's.
fn takes_quads(model: &TypedModel, layer: usize) -> TractResult<bool> {
    let node = model.node(layer);
    let Some(einsum) = node.op_as::<EinSum>() else { return Ok(true) };
    let x = &model.outlet_fact(node.inputs[0])?.shape;
    let Some(weights) = model.outlet_fact(node.inputs[1])?.shape.as_concrete() else { return Ok(false) };
    Ok(Linear::of(einsum, 0, x, weights).is_ok_and(|linear| linear.takes_lanes(x)))
}

/// The quantised operator at `node` in floats, and the node of its layer.
fn in_floats(whole: &TypedModel, node: &TypedNode) -> TractResult<Option<(TypedModel, usize)>> {
    rule_if!(node.inputs.len() == PARAMETERS);
    let bytes = whole.outlet_fact(node.inputs[0])?;
    rule_if!(bytes.konst.is_none());
    let is_byte = |dt: DatumType| [u8::datum_type(), i8::datum_type()].contains(&dt);
    let [x, w, y] = [[3, 4], [5, 6], [7, 8]].map(|slots| Affine::of(whole, node, slots));
    rule_if_some!(x = x?);
    rule_if_some!(w = w?);
    rule_if_some!(y = y?);
    rule_if_some!((x_zero, x_scale) = x.single());
    rule_if_some!((y_zero, y_scale) = y.single());
    let (conv, einsum) = (node.op_as::<Conv>(), node.op_as::<EinSum>());
    let out = conv.and_then(|conv| conv.q_params).or(einsum.and_then(|einsum| einsum.q_params));
    rule_if_some!(out = out.map(|out| out.unquantized()));
    rule_if!(is_byte(bytes.datum_type.unquantized()) && is_byte(out));

    rule_if_some!(weights = konst_of(whole, node.inputs[1])?);
    rule_if!(is_byte(weights.datum_type().unquantized()));
    let shape: TVec<usize> = weights.shape().into();
    let axes = match (conv, einsum) {
        (Some(conv), _) if conv.kernel_fmt == KernelFormat::OIHW => Some([0, 0]),
        (None, Some(einsum)) => channels_of(einsum),
        _ => None,
    };
    rule_if_some!([axis, output_axis] = axes);
    rule_if!(axis < shape.len());
    let (channels, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let floats = integers(&weights)?.into_iter().enumerate().map(|(at, value)| {
        let (zero, scale) = w.at(at / inner % channels, channels)?;
        Some((value - zero) * scale)
    });
    rule_if_some!(floats = floats.collect::<Option<Vec<f32>>>());
    let weights = Tensor::from_shape(&shape, &floats)?;

    rule_if_some!(bias = konst_of(whole, node.inputs[2])?);
    let bias = integers(&bias)?;
    rule_if!(bias.iter().all(|bias| bias.abs() <= EXACT));
    rule_if!([1, channels].contains(&bias.len()));
    let floats = (0..channels).map(|channel| {
        let (_, scale) = w.at(channel, channels)?;
        Some(bias[channel % bias.len()] * (x_scale * scale))
    });
    rule_if_some!(bias = floats.collect::<Option<Vec<f32>>>());

    let mut model = TypedModel { symbols: whole.symbols.clone(), ..TypedModel::default() };
    let name = &node.name;
    let source = model.add_source(
        whole.node(node.inputs[0].node).name.clone(),
        bytes.datum_type.unquantized().fact(bytes.shape.clone()),
    )?;
    let op = DequantizeLinearF32::new(x_scale, x_zero as i32);
    let x = model.wire_node(format!("{name}.dequantize"), op, &[source])?[0];
    let weights = model.add_const(format!("{name}.weights"), weights)?;
    let layer = match (conv, einsum) {
        (Some(conv), _) => {
            let bias = model.add_const(format!("{name}.bias"), tensor1(&bias))?;
            let op = Conv { q_params: None, ..conv.clone() };
            model.wire_node(name, op, &[x, weights, bias])?[0]
        }
        (None, Some(einsum)) => {
            let mut axes = einsum.axes.clone();
            for slot in (2..PARAMETERS).rev() {
                axes = axes.remove_slot(InOut::In(slot))?;
            }
            let op = EinSum { axes, operating_dt: f32::datum_type(), q_params: None };
            model.wire_node(name, op, &[x, weights])?[0]
        }
        (None, None) => return Ok(None),
    };
    let mut sums = layer;
    if conv.is_none() && bias.iter().any(|bias| *bias != 0.0) {
        let mut shape = tvec!(1; model.outlet_fact(layer)?.rank());
        shape[output_axis] = channels;
        let bias = model.add_const(format!("{name}.bias"), tensor1(&bias).into_shape(&shape)?)?;
        sums = model.wire_node(format!("{name}.add"), tract_core::ops::math::add(), &[layer, bias])?[0];
    }
    let op = match out {
        DatumType::U8 => quantize_linear_u8(y_scale.recip(), y_zero as u8),
        _ => quantize_linear_i8(y_scale.recip(), y_zero as i8),
    };
    let y = model.wire_node(format!("{name}.quantize"), op, &[sums])?;
    model.select_output_outlets(&y)?;
    Ok(Some((model, layer.node)))
}
