//! Undoes what stock tract does to layers on its way to a decluttered model, so that whoever asks late finds
//! the layers that whoever asks early does.

use crate::transform::unsparsify;
use sparse_ops::{Form, Linear, konst_of};
use tract_core::internal::*;
use tract_core::ops::Downsample;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::DataFormat;

/// The model with such layers as they were; none if it has none. (Stock tract makes them again of those that
/// stay its own.)
pub(crate) fn restored(model: &TypedModel) -> TractResult<Option<TypedModel>> {
    rewritten(model, &[strided, flat])
}

/// What a model is in files, stock layers in place of sparse ones: products of batches as convolutions, and paddings in
/// numbers where sizes are known. Stock tract 0.23.9 keeps `SAME` when it gives a convolution the strides of a 1x1 convolution
/// behind it, which changes what such a padding is.
///
/// # Errors
/// A graph that cannot be patched.
pub fn for_files(model: &TypedModel) -> TractResult<TypedModel> {
    let mut stock = model.clone();
    unsparsify(&mut stock)?;
    pad_in_numbers(&mut stock)?;
    pool_in_numbers(&mut stock)?;
    Ok(rewritten(&stock, &[batched])?.unwrap_or(stock))
}

/// Works out the paddings of convolutions that are the same as their inputs, over as many strides, where sizes are known.
///
/// # Errors
/// A convolution whose input has another rank than its kernel wants.
pub fn pad_in_numbers(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let Some(conv) = model.node(id).op_as::<Conv>() else { continue };
        let spec = &conv.pool_spec;
        if !matches!(spec.padding, PaddingSpec::SameUpper | PaddingSpec::SameLower) {
            continue;
        }
        let Some(sizes) = known_sizes(model, id, spec)? else { continue };
        let pads = spec.computed_padding(&sizes);
        let padding = PaddingSpec::Explicit(
            pads.iter().map(|pad| pad.pad_before).collect(),
            pads.iter().map(|pad| pad.pad_after).collect(),
        );
        let conv = Conv { pool_spec: PoolSpec { padding, ..spec.clone() }, ..conv.clone() };
        model.node_mut(id).op = Box::new(conv);
    }
    Ok(())
}

/// Height and width of the input of a node, or as many axes as it has; none if one of them is not known.
fn known_sizes(model: &TypedModel, id: usize, spec: &PoolSpec) -> TractResult<Option<TVec<usize>>> {
    let shape = spec.data_format.shape(&*model.outlet_fact(model.node(id).inputs[0])?.shape)?;
    Ok(shape.hw_dims().iter().map(|dim| dim.to_usize().ok()).collect())
}

/// Works out how far pooling goes that rounds the number of its windows up, which NNEF has no word for, where sizes are known:
/// the last windows end in as much padding.
fn pool_in_numbers(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let (max, sum) = (node.op_as::<MaxPool>(), node.op_as::<SumPool>());
        let spec = max.map(|max| &max.pool_spec).or(sum.map(|sum| &sum.pool_spec));
        let Some((spec, PaddingSpec::ExplicitOnnxPool(before, after, true))) =
            spec.map(|spec| (spec, &spec.padding))
        else {
            continue;
        };
        let Some(sizes) = known_sizes(model, id, spec)? else { continue };
        let computed = spec.computed_padding(&sizes);
        let end = |axis: usize| {
            let last = (computed[axis].convoluted - 1) * spec.stride(axis);
            let window = (spec.kernel_shape[axis] - 1) * spec.dilation(axis) + 1;
            (last + window).saturating_sub(sizes[axis] + before[axis])
        };
        let ends: TVec<usize> = (0..sizes.len()).map(end).collect();
        // what rounding up adds is not counted, padding would be
        if sum.is_some_and(|sum| sum.count_include_pad) && ends != *after {
            continue;
        }
        let padding = PaddingSpec::ExplicitOnnxPool(before.clone(), ends, false);
        let pool_spec = PoolSpec { padding, ..spec.clone() };
        let op: Box<dyn TypedOp> = match (max, sum) {
            (Some(max), _) => Box::new(MaxPool { pool_spec, ..max.clone() }),
            (_, Some(sum)) => Box::new(SumPool { pool_spec, ..sum.clone() }),
            _ => continue,
        };
        model.node_mut(id).op = op;
    }
    Ok(())
}

/// How a node is written otherwise, if it is.
type Rule = fn(&TypedModel, &TypedNode) -> TractResult<Option<TypedModelPatch>>;

/// The model with all nodes rewritten that one of the rules knows; none if there are none.
fn rewritten(model: &TypedModel, rules: &[Rule]) -> TractResult<Option<TypedModel>> {
    let mut restored: Option<TypedModel> = None;
    loop {
        let from = restored.as_ref().unwrap_or(model);
        let mut patch = None;
        'nodes: for node in from.nodes() {
            for rule in rules {
                patch = rule(from, node)?;
                if patch.is_some() {
                    break 'nodes;
                }
            }
        }
        let Some(patch) = patch else { return Ok(restored) };
        let mut to = restored.unwrap_or_else(|| model.clone());
        patch.apply(&mut to)?;
        restored = Some(to);
    }
}

/// A product behind steps along its pixels, as the strided 1x1 convolution that it was.
fn strided(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(
        node.op_as::<EinSum>().is_some_and(|einsum| einsum.q_params.is_none()) && node.inputs.len() == 2
    );
    rule_if!(node.inputs.iter().any(|input| model.node(input.node).op_is::<Downsample>()));
    let x_slot = if konst_of(model, node.inputs[1])?.is_some() { 0 } else { 1 };
    let mut x = node.inputs[x_slot];
    let mut steps = tvec!(1; model.outlet_fact(x)?.rank());
    while let Some(step) = model.node(x.node).op_as::<Downsample>() {
        if step.modulo > 0 || step.stride < 1 || !is_between(model, x)? {
            break;
        }
        steps[step.axis] *= step.stride as usize;
        x = model.node(x.node).inputs[0];
    }
    rule_if!(steps.iter().any(|step| *step > 1));
    as_convolution(model, node, x_slot, x, &steps)
}

/// A product of weights and the pixels of a batch of images in planes, as the 1x1 convolution that it was: in files, stock
/// tract would write it with axes moved and merged, and read that.
fn batched(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(
        node.op_as::<EinSum>().is_some_and(|einsum| einsum.q_params.is_none()) && node.inputs.len() == 2
    );
    let x_slot = if konst_of(model, node.inputs[1])?.is_some() { 0 } else { 1 };
    let x = &model.outlet_fact(node.inputs[x_slot])?.shape;
    rule_if!(matches!(x.rank(), 3 | 4) && !x[0].is_one());
    let patch = as_convolution(model, node, x_slot, node.inputs[x_slot], &tvec!(1; x.rank()))?;
    let of_batches = |node: &TypedNode| {
        node.op_as::<Conv>().is_some_and(|conv| conv.pool_spec.data_format == DataFormat::NCHW)
    };
    Ok(patch.filter(|patch| patch.model.nodes().iter().any(of_batches)))
}

/// The product at a node as a 1x1 convolution of `x`, an input of images, with these steps along its axes; none if it is no
/// such product.
fn as_convolution(
    model: &TypedModel,
    node: &TypedNode,
    x_slot: usize,
    x: OutletId,
    steps: &[usize],
) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!(einsum = node.op_as::<EinSum>());
    let weights = konst_of(model, node.inputs[1 - x_slot])?;
    let plain =
        |w: &Arc<Tensor>| w.is_plain_ram() && matches!(w.datum_type(), DatumType::F32 | DatumType::F16);
    rule_if_some!(weights = weights.filter(plain));
    let input = &model.outlet_fact(node.inputs[x_slot])?.shape;
    rule_if_let!(Ok(linear) = Linear::of(einsum, x_slot, input, weights.shape()));
    let (rank, channel) = (steps.len(), linear.y_channel());
    let form = Form::Linear(linear.clone());
    rule_if!(channel.is_some() && form.x_channel(rank) == channel);
    rule_if_some!(channel = channel);
    for axis in (0..rank).filter(|axis| *axis != channel) {
        rule_if!(*einsum.axes.axis((InOut::In(x_slot), axis))?.outputs[0] == [axis]);
    }
    let has_n = channel != 0 && steps[0] == 1 && rank > 2;
    let format = match (has_n, channel) {
        (true, 1) => DataFormat::NCHW,
        (true, c) if c + 1 == rank => DataFormat::NHWC,
        (false, 0) => DataFormat::CHW,
        (false, c) if c + 1 == rank => DataFormat::HWC,
        _ => return Ok(None),
    };
    let strides: TVec<usize> =
        (has_n as usize..rank).filter(|axis| *axis != channel).map(|a| steps[a]).collect();
    rule_if!(matches!(strides.len(), 1 | 2) && steps[channel] == 1);
    let kernel = tvec!(1; strides.len());
    let mut shape = tvec!(linear.oc(), linear.ic());
    shape.extend(kernel.iter().copied());
    let dt = weights.datum_type();
    let weights = linear.matrix(&weights)?.into_shape(&shape)?;
    let pool_spec =
        PoolSpec::new(format, kernel, PaddingSpec::Valid, None, Some(strides), linear.ic(), linear.oc());
    let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
    let mut patch = TypedModelPatch::new("1x1 convolution");
    let name = |what: &str| model.unique_name(format!("{}.{what}", node.name)).into_owned();
    let taps = [
        patch.tap_model(model, x)?,
        patch.add_const(name("weights"), weights)?,
        patch.add_const(name("bias"), Tensor::zero_dt(dt, &[linear.oc()])?)?,
    ];
    let y = patch.wire_node(&node.name, conv, &taps)?[0];
    // with symbols in them, sizes can be the same and look different
    rule_if!(patch.outlet_fact(y)?.shape == node.outputs[0].fact.shape);
    patch.shunt_outside(model, node.id.into(), y)?;
    Ok(Some(patch))
}

/// A convolution that has been given an axis of extent one, without it.
fn flat(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!(conv = node.op_as::<Conv>());
    rule_if!(conv.pool_spec.rank() > 2 && conv.q_params.is_none());
    let (input, output) = (&model.outlet_fact(node.inputs[0])?.shape, &node.outputs[0].fact.shape);
    let axes = conv.pool_spec.data_format.shape(&**input)?.hw_axes();
    for axis in axes.filter(|axis| input[*axis].is_one() && output[*axis].is_one()) {
        let change = AxisOp::Rm(axis);
        let Some(consequence) = conv.change_axes(model, node, InOut::In(0), &change)? else { continue };
        let Some(conv) = consequence.substitute_op else { continue };
        let mut patch = TypedModelPatch::new("convolution without an axis of extent one");
        let mut inputs = patch.taps(model, &node.inputs)?;
        for (io, change) in &consequence.wire_changes {
            if let InOut::In(slot) = io {
                let name = model.unique_name(format!("{}.axis.{slot}", node.name)).into_owned();
                inputs[*slot] = patch.wire_node(name, change.clone(), &[inputs[*slot]])?[0];
            }
        }
        let name = model.unique_name(format!("{}.conv", node.name)).into_owned();
        let y = patch.wire_node(name, conv, &inputs)?;
        let y = patch.wire_node(&node.name, AxisOp::Add(axis), &y)?[0];
        rule_if!(patch.outlet_fact(y)?.shape == *output);
        patch.shunt_outside(model, node.id.into(), y)?;
        return Ok(Some(patch));
    }
    Ok(None)
}

/// Whether nothing but one input of one node reads an outlet.
fn is_between(model: &TypedModel, outlet: OutletId) -> TractResult<bool> {
    Ok(model.outlet_successors(outlet).len() == 1 && !model.output_outlets()?.contains(&outlet))
}
