//! A convolution with sparse weights, in the decluttered graph.

use crate::by_channel::{ByChannel, quantised_after};
use crate::choice::{Choice, Dense};
use crate::fold::affine_successor;
use crate::form::{Form, conv_obstacle, is_matmul};
use crate::gate::declutter_gate;
use crate::konst::{f32s, konst_of, sparse_cost};
use crate::opt_sparse_conv::OptSparseConv;
use crate::sparse_matmul::SparseMatMul;
use crate::widen;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat};
use tract_core::ops::einsum::EinSum;

/// tract's convolution, marked to be run by a sparse kernel.
///
/// Inputs as those of [`Conv`]: the activation, the dense weights (a constant), the bias (a constant). Facts,
/// axes and evaluation are those of the stock operator inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SparseConv {
    conv: Conv,
    choice: Choice,
}

impl SparseConv {
    /// Marks `conv`.
    pub fn new(conv: Conv, choice: Choice) -> SparseConv {
        SparseConv { conv, choice }
    }

    /// The stock operator.
    pub fn conv(&self) -> &Conv {
        &self.conv
    }

    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The same layer for inputs that have been widened from f16.
    pub(crate) fn of_f16(&self) -> SparseConv {
        SparseConv { choice: Choice { of_f16: true, ..self.choice }, ..self.clone() }
    }

    /// The stock operator in place of this one.
    pub fn unwrap(&self, model: &TypedModel, node: &TypedNode) -> TractResult<TypedModelPatch> {
        TypedModelPatch::replace_single_op(model, node, &node.inputs, self.conv.clone())
    }

    /// A 1x1 convolution becomes a matrix product, as in stock tract, so that its neighbours can choose
    /// their layout without it.
    fn declutter_as_matmul(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        weights: &Tensor,
        bias: &[f32],
    ) -> TractResult<Option<TypedModelPatch>> {
        let facts = model.node_input_facts(node.id)?;
        rule_if!(is_matmul(&self.conv, &facts[0].shape)?);
        let (oc, ic) = (self.conv.output_channels(), self.conv.input_channels());
        let matrix = match self.conv.kernel_fmt {
            KernelFormat::OIHW | KernelFormat::OHWI => weights.clone().into_shape(&[oc, ic])?,
            KernelFormat::HWIO => weights.clone().into_shape(&[ic, oc])?.permute_axes(&[1, 0])?,
        };
        let mut axes = self.conv.axes_mapping(&facts, &[&node.outputs[0].fact])?;
        while axes.rank(InOut::In(1)) > 0 {
            axes = axes.remove_axis_occurency(InOut::In(1), 0)?;
        }
        axes = axes
            .with_extra_axis_occurency('O', InOut::In(1), 0)?
            .with_extra_axis_occurency('I', InOut::In(1), 1)?
            .remove_slot(InOut::In(2))?;
        let einsum = EinSum { axes, operating_dt: f32::datum_type(), q_params: None };
        let mut patch = TypedModelPatch::new("1x1 convolution as matrix product");
        let x = patch.tap_model(model, node.inputs[0])?;
        let w = patch.add_const(format!("{}.matrix", node.name), matrix)?;
        let b = patch.add_const(format!("{}.bias", node.name), tensor1(bias))?;
        let y = patch.wire_node(&node.name, SparseMatMul::new(einsum, 0, self.choice), &[x, w, b])?;
        patch.shunt_outside(model, node.id.into(), y[0])?;
        Ok(Some(patch))
    }

    /// Folds per-channel arithmetic for every group count.
    fn declutter_affine(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        weights: &Tensor,
        bias: &[f32],
    ) -> TractResult<Option<TypedModelPatch>> {
        let oc = self.conv.output_channels();
        let fact = &node.outputs[0].fact;
        let channel = self.conv.pool_spec.data_format.shape(&fact.shape)?.c_axis();
        rule_if_some!(affine = affine_successor(model, node, Some(channel), oc)?);
        rule_if!(self.conv.kernel_fmt == KernelFormat::OIHW);
        let mut channel_shape = tvec!(1; weights.rank());
        channel_shape[0] = oc;
        rule_if_some!((weights, bias) = affine.apply(weights, &channel_shape, bias)?);
        let mut patch = TypedModelPatch::new("fold per-channel arithmetic");
        let x = patch.tap_model(model, node.inputs[0])?;
        let name = format!("{}.{}", node.name, model.node(affine.succ).name);
        let w = patch.add_const(format!("{name}.weights"), weights)?;
        let b = patch.add_const(format!("{name}.bias"), tensor1(&bias))?;
        let y = patch.wire_node(&node.name, self.clone(), &[x, w, b])?;
        patch.shunt_outside(model, affine.succ.into(), y[0])?;
        Ok(Some(patch))
    }

    /// Takes in the scales of channels that are quantised each on its own: those of a depthwise layer's input, and those
    /// of the output.
    fn declutter_by_channel(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        weights: &Tensor,
    ) -> TractResult<Option<TypedModelPatch>> {
        rule_if!(matches!(self.choice.int8, Some(Ok(_))) && self.conv.kernel_fmt == KernelFormat::OIHW);
        let spec = &self.conv.pool_spec;
        let channel = spec.data_format.shape(&node.outputs[0].fact.shape)?.c_axis();
        let (ic, oc) = (self.conv.input_channels(), self.conv.output_channels());
        if self.conv.group == ic
            && let Some(steps) = ByChannel::read_by(model, node, channel, ic)?
            && let Some(weights) = steps.weights(weights)?
        {
            let mut patch = TypedModelPatch::new("input by channel");
            let mut inputs = patch.taps(model, &node.inputs)?;
            inputs[0] = steps.wire(&mut patch, model, &node.name)?;
            inputs[1] = patch.add_const(model.unique_name(format!("{}.weights", node.name)), weights)?;
            let y = patch.wire_node(&node.name, self.clone(), &inputs)?;
            patch.shunt_outside(model, node.id.into(), y[0])?;
            return Ok(Some(patch));
        }
        quantised_after(model, node, Some(channel), oc)
    }

    /// What the stock operator does to itself (taking in an explicit `Pad`), except what would take the layer
    /// away from us: downsampling before a strided convolution, and the matrix product. What follows is
    /// not shown to it: arithmetic is for [`SparseConv::declutter_affine`] to fold, stock tract folds `c
    /// - y` and `c / y` wrongly.
    fn declutter_stock(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        let spec = &self.conv.pool_spec;
        let strided_tap = (0..spec.rank()).any(|axis| {
            spec.stride(axis) > 1
                && (spec.kernel_shape[axis] == 1 || spec.dilation(axis).is_multiple_of(spec.stride(axis)))
        });
        rule_if!(!strided_tap && !is_matmul(&self.conv, &model.outlet_fact(node.inputs[0])?.shape)?);
        let mut last = node.clone();
        last.outputs.iter_mut().for_each(|output| output.successors.clear());
        rule_if_some!(mut patch = self.conv.declutter(model, &last)?);
        for node in &mut patch.model.nodes {
            if let Some(conv) = node.op_as::<Conv>() {
                node.op = Box::new(SparseConv { conv: conv.clone(), choice: self.choice });
            }
        }
        Ok(Some(patch))
    }
}

impl Op for SparseConv {
    fn name(&self) -> StaticName {
        named!("SparseConv")
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let mut info = self.conv.info()?;
        info.push(format!("Weights {}: {}", self.choice.packing, self.choice));
        Ok(info)
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for SparseConv {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.conv.eval(ctx, inputs)
    }
}

impl TypedOp for SparseConv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.conv.output_facts(inputs)
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        self.conv.axes_mapping(inputs, outputs)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        sparse_cost(self.conv.cost(inputs)?, inputs[1])
    }

    fn change_axes(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        io: InOut,
        change: &AxisOp,
    ) -> TractResult<Option<AxisChangeConsequence>> {
        rule_if_some!(mut consequence = self.conv.change_axes(model, node, io, change)?);
        // Stock tract takes the same axis from the output, which padding may have made larger than one.
        let output = &node.outputs[0].fact.shape;
        rule_if!(consequence.wire_changes.iter().all(|(io, change)| {
            *io != InOut::Out(0) || change.change_shape(&mut output.clone(), false).is_ok()
        }));
        if let Some(op) = &consequence.substitute_op
            && let Some(conv) = op.downcast_ref::<Conv>()
        {
            // Kernels that are planar only keep their layout: the neighbour who asked has to move the axis
            // itself. So does a layer that would be of a rank without kernels.
            rule_if!(self.choice.packing.takes_interleaved() || !conv.pool_spec.data_format.c_is_last());
            rule_if!(conv_obstacle(conv).is_none() || conv_obstacle(&self.conv).is_some());
            let op = SparseConv { conv: conv.clone(), choice: self.choice };
            consequence.substitute_op = Some(Box::new(op));
        }
        Ok(Some(consequence))
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = widen::around(model, node)? {
            return Ok(Some(patch));
        }
        let facts = model.node_input_facts(node.id)?;
        let plain = facts[..2].iter().all(|f| f.is_plain() && f.datum_type == f32::datum_type());
        let (weights, bias) = (konst_of(model, node.inputs[1])?, konst_of(model, node.inputs[2])?);
        let (Some(weights), Some(bias), true) = (weights, bias, plain) else {
            // Cast to another type, or cut off from its weights: stock tract knows what to do.
            return Ok(Some(self.unwrap(model, node)?));
        };
        let bias = bias_vector(&bias, self.conv.output_channels())?;
        if let Some(patch) = self.declutter_affine(model, node, &weights, &bias)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = self.declutter_by_channel(model, node, &weights)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = declutter_gate(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = self.declutter_as_matmul(model, node, &weights, &bias)? {
            return Ok(Some(patch));
        }
        self.declutter_stock(model, node)
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = widen::around(model, node)? {
            return Ok(Some(patch));
        }
        let form = Form::Conv(self.conv.clone());
        let (weights, bias) = (konst_of(model, node.inputs[1])?, konst_of(model, node.inputs[2])?);
        let (Some(weights), Some(bias), None) = (weights, bias, conv_obstacle(&self.conv)) else {
            return Ok(Some(self.unwrap(model, node)?));
        };
        let weights = oihw(weights, &self.conv)?;
        let bias = bias_vector(&bias, self.conv.output_channels())?;
        let kernel = match *self.conv.pool_spec.kernel_shape {
            [w] => [1, w],
            [h, w] => [h, w],
            _ => bail!("{node}: kernel of rank {}", self.conv.pool_spec.rank()),
        };
        let pixels = node.outputs[0].fact.shape.as_concrete().and_then(|shape| {
            let shape = self.conv.pool_spec.data_format.shape(shape).ok()?;
            Some(shape.hw_dims().iter().product())
        });
        let dense = Dense {
            oc: self.conv.output_channels(),
            ic: self.conv.input_channels(),
            group: self.conv.group,
            kernel,
            pixels,
            weights: f32s(&weights)?,
            bias: &bias,
        };
        let op = OptSparseConv::new(&node.name, form, &dense, self.choice)?;
        let mut patch = TypedModelPatch::replace_single_op(model, node, &node.inputs[..1], op)?;
        patch.push_context("pack sparse convolution");
        Ok(Some(patch))
    }

    as_op!();
}

/// The bias as one value per output channel (tract also allows a scalar).
pub(crate) fn bias_vector(bias: &Tensor, oc: usize) -> TractResult<Vec<f32>> {
    match f32s(bias)? {
        [value] => Ok(vec![*value; oc]),
        values if values.len() == oc => Ok(values.to_vec()),
        values => bail!("bias has {} values for {oc} output channels", values.len()),
    }
}

/// The weights of a convolution with output channels first and taps last, whatever order they have.
///
/// # Errors
/// Weights of another rank than the order says.
pub fn oihw(weights: Arc<Tensor>, conv: &Conv) -> TractResult<Arc<Tensor>> {
    if conv.kernel_fmt == KernelFormat::OIHW {
        return Ok(weights);
    }
    ensure!(weights.rank() == conv.pool_spec.rank() + 2, "weights of shape {:?}", weights.shape());
    let shape: TVec<TDim> = weights.shape().iter().map(|extent| extent.to_dim()).collect();
    let mut weights = weights.into_tensor();
    for op in conv.kernel_fmt.kernel_as_group_o_i_h_w_ops(&shape, conv.group) {
        op.change_tensor(&mut weights, false)?;
    }
    // output channels of one group follow each other
    let mut shape: TVec<usize> = weights.shape().into();
    let groups = shape.remove(0);
    shape[0] *= groups;
    Ok(weights.into_shape(&shape)?.into_arc_tensor())
}
