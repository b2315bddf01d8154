//! A matrix product with a sparse constant matrix, in the decluttered graph.

use crate::by_channel::quantised_after;
use crate::choice::{Choice, Dense};
use crate::fold::affine_successor;
use crate::form::{Form, Linear};
use crate::gate::declutter_gate;
use crate::konst::{f32s, konst_of, sparse_cost};
use crate::opt_sparse_conv::OptSparseConv;
use crate::widen;
use tract_core::internal::*;
use tract_core::ops::einsum::EinSum;

/// tract's `EinSum` of an activation and a constant matrix, plus a bias, marked to be run by a sparse kernel.
///
/// Inputs: the two operands in the order of the `EinSum`, then the bias, a constant vector with one value per
/// output channel. Facts and axes are those of the stock operator inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SparseMatMul {
    einsum: EinSum,
    x_slot: usize,
    choice: Choice,
}

impl SparseMatMul {
    /// Marks `einsum`, whose input `x_slot` is the activation.
    pub fn new(einsum: EinSum, x_slot: usize, choice: Choice) -> SparseMatMul {
        SparseMatMul { einsum, x_slot, choice }
    }

    /// The stock operator.
    pub fn einsum(&self) -> &EinSum {
        &self.einsum
    }

    /// Which input is the activation.
    pub fn x_slot(&self) -> usize {
        self.x_slot
    }

    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The same layer for inputs that have been widened from f16.
    pub(crate) fn of_f16(&self) -> SparseMatMul {
        SparseMatMul { choice: Choice { of_f16: true, ..self.choice }, ..self.clone() }
    }

    /// The stock operator for activations of this type: a transform of the model may have given it another
    /// one.
    fn einsum_of(&self, operating_dt: DatumType) -> EinSum {
        EinSum { operating_dt, ..self.einsum.clone() }
    }

    /// The stock operators in place of this one: the product, and the addition of the bias unless it is zero.
    pub fn unwrap(&self, model: &TypedModel, node: &TypedNode) -> TractResult<TypedModelPatch> {
        let mut patch = TypedModelPatch::new("unwrap sparse matrix product");
        let taps = patch.taps(model, &node.inputs)?;
        let bias = konst_of(model, node.inputs[2])?;
        let zero = match &bias {
            Some(bias) => bias.is_all_zero()?,
            None => false,
        };
        let product = if zero { node.name.clone() } else { format!("{}.product", node.name) };
        let einsum = self.einsum_of(model.outlet_fact(node.inputs[self.x_slot])?.datum_type);
        let mut y = patch.wire_node(product, einsum, &taps[..2])?[0];
        if !zero {
            let facts = model.node_input_facts(node.id)?;
            let oc = facts[2].shape[0].clone();
            let mut shape: TVec<TDim> = tvec!(1.to_dim(); node.outputs[0].fact.rank());
            let channel = self.y_channel(&facts)?;
            if let Some(axis) = channel {
                shape[axis] = oc.clone();
            }
            let reshape = AxisOp::Reshape(0, tvec!(oc), shape);
            let bias = patch.wire_node(format!("{}.bias_shape", node.name), reshape, &[taps[2]])?[0];
            y = patch.wire_node(&node.name, tract_core::ops::math::add(), &[y, bias])?[0];
        }
        patch.shunt_outside(model, node.id.into(), y)?;
        Ok(patch)
    }

    /// A new first axis is a batch: it goes through to the output, as that of a convolution does. (An
    /// `EinSum` would sum it up, which is the same only as long as it is one.)
    fn with_batch_axis(&self) -> TractResult<AxisChangeConsequence> {
        let (input, output, change) = (InOut::In(self.x_slot), InOut::Out(0), AxisOp::Add(0));
        let label = self.einsum.axes.available_label();
        let axes = self.einsum.axes.clone().with_extra_axis(label, input, 0)?;
        let axes = axes.with_extra_axis_occurency(label, output, 0)?;
        let einsum = EinSum { axes, ..self.einsum.clone() };
        Ok(AxisChangeConsequence {
            substitute_op: Some(Box::new(SparseMatMul { einsum, ..self.clone() })),
            wire_changes: tvec!((input, change.clone()), (output, change)),
        })
    }

    fn linear(&self, facts: &[&TypedFact]) -> TractResult<Result<Linear, &'static str>> {
        let Some(w) = facts[1 - self.x_slot].shape.as_concrete() else {
            return Ok(Err("weights of unknown shape"));
        };
        Ok(Linear::of(&self.einsum, self.x_slot, &facts[self.x_slot].shape, w))
    }

    /// Position of the output channels in the output: the axis of the weights that the output has, too.
    fn y_channel(&self, facts: &[&TypedFact]) -> TractResult<Option<usize>> {
        let w_slot = 1 - self.x_slot;
        Ok(self
            .einsum
            .axes
            .iter_all_axes()
            .filter(|axis| axis.inputs[self.x_slot].is_empty() && !axis.outputs[0].is_empty())
            .find(|axis| {
                axis.inputs[w_slot].first().is_some_and(|a| facts[w_slot].shape[*a] == facts[2].shape[0])
            })
            .map(|axis| axis.outputs[0][0]))
    }

    fn declutter_affine(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        linear: &Linear,
        weights: &Tensor,
        bias: &[f32],
    ) -> TractResult<Option<TypedModelPatch>> {
        rule_if_some!(affine = affine_successor(model, node, linear.y_channel(), linear.oc())?);
        let channel_shape = linear.channel_shape_for_weights(weights.rank());
        rule_if_some!((weights, bias) = affine.apply(weights, &channel_shape, bias)?);
        let mut patch = TypedModelPatch::new("fold per-channel arithmetic");
        let mut inputs = patch.taps(model, &node.inputs)?;
        let name = format!("{}.{}", node.name, model.node(affine.succ).name);
        inputs[1 - self.x_slot] = patch.add_const(format!("{name}.weights"), weights)?;
        inputs[2] = patch.add_const(format!("{name}.bias"), tensor1(&bias))?;
        let y = patch.wire_node(&node.name, self.clone(), &inputs)?;
        patch.shunt_outside(model, affine.succ.into(), y[0])?;
        Ok(Some(patch))
    }
}

impl Op for SparseMatMul {
    fn name(&self) -> StaticName {
        named!("SparseMatMul")
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let mut info = self.einsum.info()?;
        info.push(format!("Weights {}: {}", self.choice.packing, self.choice));
        Ok(info)
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for SparseMatMul {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        ensure!(inputs.len() == 3, "expected two operands and a bias, got {} inputs", inputs.len());
        let bias = inputs.remove(2);
        let facts: TVec<TypedFact> =
            inputs.iter().chain([&bias]).map(|v| TypedFact::shape_and_dt_of(v)).collect();
        let channel = self.y_channel(&facts.iter().collect::<TVec<_>>())?;
        let einsum = self.einsum_of(facts[self.x_slot].datum_type);
        let y = einsum.eval(ctx, inputs)?.remove(0).into_tensor();
        let mut shape = tvec!(1; y.rank());
        if let Some(axis) = channel {
            shape[axis] = bias.len();
        }
        let bias = bias.into_tensor().into_shape(&shape)?;
        let (wide, wide_bias) = (y.cast_to::<f32>()?, bias.cast_to::<f32>()?);
        let sum = &wide.to_plain_array_view::<f32>()? + &wide_bias.to_plain_array_view::<f32>()?;
        Ok(tvec!(sum.into_tensor().cast_to_dt(y.datum_type())?.into_owned().into_tvalue()))
    }
}

impl TypedOp for SparseMatMul {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 3, "expected two operands and a bias, got {} inputs", inputs.len());
        ensure!(inputs[2].rank() == 1, "bias must be a vector, got {:?}", inputs[2]);
        self.einsum_of(inputs[self.x_slot].datum_type).output_facts(&inputs[..2])
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let mapping = self.einsum.axes_mapping(&inputs[..2], outputs)?.with_extra_input(2)?;
        let label = mapping.available_label();
        mapping.with_extra_axis(label, InOut::In(2), 0)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        sparse_cost(
            self.einsum_of(inputs[self.x_slot].datum_type).cost(&inputs[..2])?,
            inputs[1 - self.x_slot],
        )
    }

    fn change_axes(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        io: InOut,
        change: &AxisOp,
    ) -> TractResult<Option<AxisChangeConsequence>> {
        // The bias is a plain vector whatever the layout, and the weights stay as they were packed.
        rule_if!(io == InOut::In(self.x_slot) || io == InOut::Out(0));
        if io == InOut::In(self.x_slot) && *change == AxisOp::Add(0) {
            return Ok(Some(self.with_batch_axis()?));
        }
        rule_if_some!(mut consequence = self.einsum.change_axes(model, node, io, change)?);
        let Some(einsum) = consequence.substitute_op.as_ref().and_then(|op| op.downcast_ref::<EinSum>())
        else {
            return Ok(None);
        };
        // What no kernel computes stays outside, as a transposition of its own.
        let facts = model.node_input_facts(node.id)?;
        let mut x = facts[self.x_slot].shape.clone();
        if io == InOut::In(self.x_slot) && change.change_shape(&mut x, false).is_err() {
            // stock tract asks to remove an axis of one that a padded convolution in between makes larger
            return Ok(None);
        }
        rule_if_some!(w = facts[1 - self.x_slot].shape.as_concrete());
        rule_if!(Linear::of(einsum, self.x_slot, &x, w).is_ok());
        let op = SparseMatMul { einsum: einsum.clone(), ..self.clone() };
        consequence.substitute_op = Some(Box::new(op));
        Ok(Some(consequence))
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = widen::around(model, node)? {
            return Ok(Some(patch));
        }
        let facts = model.node_input_facts(node.id)?;
        let plain = facts.iter().all(|f| f.is_plain() && f.datum_type == f32::datum_type());
        let weights = konst_of(model, node.inputs[1 - self.x_slot])?;
        let bias = konst_of(model, node.inputs[2])?;
        let (true, Some(weights), Some(bias), Ok(linear)) = (plain, weights, bias, self.linear(&facts)?)
        else {
            // Cast to another type, or its axes have been changed into something else.
            return Ok(Some(self.unwrap(model, node)?));
        };
        if let Some(patch) = self.declutter_affine(model, node, &linear, &weights, f32s(&bias)?)? {
            return Ok(Some(patch));
        }
        if matches!(self.choice.int8, Some(Ok(_)))
            && let Some(patch) = quantised_after(model, node, linear.y_channel(), linear.oc())?
        {
            return Ok(Some(patch));
        }
        declutter_gate(model, node)
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = widen::around(model, node)? {
            return Ok(Some(patch));
        }
        let facts = model.node_input_facts(node.id)?;
        let weights = konst_of(model, node.inputs[1 - self.x_slot])?;
        let bias = konst_of(model, node.inputs[2])?;
        let (Some(weights), Some(bias), Ok(linear)) = (weights, bias, self.linear(&facts)?) else {
            return Ok(Some(self.unwrap(model, node)?));
        };
        let matrix = linear.matrix(&weights)?;
        let (oc, ic) = (linear.oc(), linear.ic());
        let (weights, bias) = (f32s(&matrix)?, f32s(&bias)?);
        let rows = facts[self.x_slot].shape.as_concrete().map(|x| x.iter().product::<usize>() / ic.max(1));
        let dense = Dense { oc, ic, group: 1, kernel: [1, 1], pixels: rows, weights, bias };
        let op = OptSparseConv::new(&node.name, Form::Linear(linear), &dense, self.choice)?;
        let x = &node.inputs[self.x_slot..][..1];
        Ok(Some(TypedModelPatch::replace_single_op(model, node, x, op)?))
    }

    as_op!();
}
