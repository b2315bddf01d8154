//! `Conv` becomes `SparseConv`.

use sparse_ops::{Choice, SparseConv, konst_of, oihw};
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PoolSpec};
use tract_core::ops::nn::DataFormat;

/// Swaps the convolution at node `id`; false if there is none. Kernels that want planes get them: channels
/// that stand last are moved to the front before the layer and back behind it, and neighbours of the same
/// kind make the moves vanish. Weights become OIHW.
pub(super) fn swap(model: &mut TypedModel, id: usize, choice: Choice) -> TractResult<bool> {
    let node = model.node(id);
    let Some(conv) = node.op_as::<Conv>().cloned() else { return Ok(false) };
    let planar = choice.packing.takes_interleaved() || !conv.pool_spec.data_format.c_is_last();
    if planar && conv.kernel_fmt == KernelFormat::OIHW {
        model.node_mut(id).op = Box::new(SparseConv::new(conv, choice));
        return Ok(true);
    }
    let weights =
        konst_of(model, node.inputs[1])?.with_context(|| format!("{node} has no constant weights"))?;
    let weights = oihw(weights, &conv)?;
    let conv = Conv { kernel_fmt: KernelFormat::OIHW, ..conv };
    let mut patch = TypedModelPatch::new("layout of a sparse layer");
    let mut inputs = patch.taps(model, &node.inputs)?;
    inputs[1] = patch.add_const(format!("{}.oihw", node.name), weights)?;
    if planar {
        let y = patch.wire_node(&node.name, SparseConv::new(conv, choice), &inputs)?;
        patch.shunt_outside(model, id.into(), y[0])?;
        patch.apply(model)?;
        return Ok(true);
    }
    let (data_format, channel) = match conv.pool_spec.data_format {
        DataFormat::NHWC | DataFormat::NCHW => (DataFormat::NCHW, 1),
        DataFormat::HWC | DataFormat::CHW => (DataFormat::CHW, 0),
    };
    let last = node.outputs[0].fact.rank() - 1;
    let conv = Conv { pool_spec: PoolSpec { data_format, ..conv.pool_spec.clone() }, ..conv };
    // the name of an output of the model stays with its value
    let is_output = model.output_outlets()?.contains(&id.into());
    let (layer, back) = match is_output {
        true => (format!("{}.planar", node.name), node.name.clone()),
        false => (node.name.clone(), format!("{}.channels_last", node.name)),
    };
    let first = format!("{}.channels_first", node.name);
    inputs[0] = patch.wire_node(first, AxisOp::Move(last, channel), &inputs[..1])?[0];
    let y = patch.wire_node(layer, SparseConv::new(conv, choice), &inputs)?;
    let y = patch.wire_node(back, AxisOp::Move(channel, last), &y)?;
    patch.shunt_outside(model, id.into(), y[0])?;
    patch.apply(model)?;
    Ok(true)
}
