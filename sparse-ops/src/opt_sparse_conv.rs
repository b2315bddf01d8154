//! A sparse layer ready to run: packed weights, geometry, epilogue.

use crate::choice::{Choice, Packed};
use crate::epilogue::{Follow, push_activation, recognise};
use crate::executor::with_threads;
use crate::form::Form;
use crate::konst::{dense_fma, f32s};
use crate::opt_sparse_chain::{OptSparseChain, layers};
use crate::planar::swap_next;
use sparse_kernels::chain::{self, Chain, Stage};
use sparse_kernels::prelude::*;
use tract_core::internal::*;

/// A sparse convolution or matrix product in the optimised graph.
///
/// Inputs: the activation and, once a residual addition has been taken in, the other operand of that
/// addition. The geometry is worked out from the shape of the activation at every call, so that symbolic
/// batch, height and width need nothing special.
#[derive(Debug, Clone)]
pub struct OptSparseConv {
    /// Name of the layer; that of the node is the last of what has been taken in.
    layer: Arc<str>,
    form: Form,
    packed: Arc<Packed>,
    /// Weights of the dense layer.
    dense: usize,
    epilogue: Epilogue,
    residual: bool,
    choice: Choice,
}

impl PartialEq for OptSparseConv {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.packed, &other.packed)
            && self.form == other.form
            && self.epilogue == other.epilogue
            && self.residual == other.residual
    }
}

impl Eq for OptSparseConv {}

impl OptSparseConv {
    /// The layer of this name, without an epilogue. `dense` is the number of weights, zeros included.
    pub fn new(layer: &str, form: Form, packed: Packed, dense: usize, choice: Choice) -> OptSparseConv {
        let (layer, packed) = (layer.into(), Arc::new(packed));
        OptSparseConv { layer, form, packed, dense, epilogue: Epilogue::default(), residual: false, choice }
    }

    /// Name that the layer had before it took in what follows.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The packed weights.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// Weights of the dense layer, zeros included.
    pub fn dense(&self) -> usize {
        self.dense
    }

    /// What has been taken in behind the layer, and whether that includes a residual addition.
    pub fn epilogue(&self) -> (Epilogue, bool) {
        (self.epilogue, self.residual)
    }

    /// The mapping onto a convolution geometry.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Leaves out the output channels that the next layer, the only one that sees them, has no weight for.
    fn leave_out_unread(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        // no other kernels leave channels out
        rule_if!(matches!(*self.packed, Packed::Depthwise(_)));
        rule_if!(!model.output_outlets()?.contains(&node.id.into()));
        rule_if_let!(&[reader] = &*node.outputs[0].successors);
        rule_if!(reader.slot == 0);
        rule_if_some!(next = layers(model.node(reader.node)).and_then(<[_]>::first));
        let rank = node.outputs[0].fact.rank();
        // the layouts of a convolution's input and output are the same
        rule_if_some!(channels = self.form.x_channel(rank));
        rule_if!(next.form.x_channel(rank) == Some(channels));
        rule_if_some!(packed = self.packed.with_only(&next.packed.reads()));
        let op = OptSparseConv { packed: Arc::new(packed), ..self.clone() };
        let mut patch = TypedModelPatch::replace_single_op(model, node, &node.inputs, op)?;
        patch.push_context("leave out channels that nothing reads");
        Ok(Some(patch))
    }

    /// Multiply-adds are proportional to the weights: `weights` times the uses of each.
    fn fma(&self, x: &TypedFact, weights: usize) -> TractResult<TDim> {
        let y = self.form.output_fact(x)?.shape.volume();
        let oc = match &self.form {
            Form::Conv(conv) => conv.output_channels(),
            Form::Linear(linear) => linear.oc(),
        };
        Ok(y * weights / oc)
    }

    /// The layer for an input of this shape, and the shape of the output.
    pub(crate) fn stage(&self, x: &[usize]) -> TractResult<(Stage<'_>, TVec<usize>)> {
        let (geometry, shape) = self.form.resolve(self.choice.packing, x)?;
        Ok((Stage { layer: self.packed.layer(), geometry, epilogue: self.epilogue }, shape))
    }

    /// What a run for an input like `x` costs.
    pub(crate) fn cost_of(&self, x: &TypedFact) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec!(
            (Cost::FMA(f32::datum_type()), self.fma(x, self.packed.nnz())?),
            (dense_fma(), self.fma(x, self.dense)?),
            (Cost::Params(f32::datum_type()), self.packed.nnz().to_dim())
        ))
    }

    /// Whether it has taken in all that it can, and left out what nothing reads.
    pub(crate) fn settled(&self, model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
        let unread = self.leave_out_unread(model, node)?;
        Ok(unread.is_none() && self.fuse_next(model, node)?.is_none())
    }

    /// Whether input and output are planes.
    pub(crate) fn is_planar(&self) -> bool {
        self.form.is_planar()
    }

    /// Takes in what follows the layer.
    fn fuse_next(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        rule_if!(!model.output_outlets()?.contains(&node.id.into()));
        rule_if_some!(succ = model.single_succ(node.id)?);
        rule_if_some!(follow = recognise(model, node, succ)?);
        let mut op = self.clone();
        let mut patch = TypedModelPatch::new(format!("fuse {succ}"));
        let mut inputs = patch.taps(model, &node.inputs)?;
        match follow {
            Follow::Activation(activation) => {
                rule_if_some!(epilogue = push_activation(self.epilogue, self.residual, activation));
                op.epilogue = epilogue;
            }
            Follow::Residual(other) => {
                rule_if!(!self.residual && self.epilogue.after == Activation::Identity);
                op.residual = true;
                inputs.push(patch.tap_model(model, other)?);
            }
        }
        let y = patch.wire_node(&succ.name, op, &inputs)?;
        patch.shunt_outside(model, succ.id.into(), y[0])?;
        Ok(Some(patch))
    }
}

/// Runs layers of which each reads what the one before writes: one alone, several band by band.
pub(crate) fn run_stages(stages: &[Stage], inputs: &[TValue], shape: &[usize]) -> TractResult<TVec<TValue>> {
    // SAFETY: `Stage::run` and `Chain::run` write every element of the output or fail, and an output of a failed
    // run is dropped; an f32 has no invalid bit pattern.
    let mut y = unsafe { Tensor::uninitialized::<f32>(shape)? };
    let x = f32s(&inputs[0])?;
    let residual = inputs.get(1).map(|r| f32s(r)).transpose()?;
    with_threads(y.len(), |parallel| {
        let mut y = y.try_as_plain_ram_mut()?;
        let y = y.as_slice_mut::<f32>()?;
        match stages {
            [layer] => layer.run(x, y, residual, parallel)?,
            _ => Chain::new(stages, chain::room().unwrap_or(0))?.run(x, y, residual, parallel)?,
        }
        TractResult::Ok(())
    })?;
    Ok(tvec!(y.into_tvalue()))
}

impl Op for OptSparseConv {
    fn name(&self) -> StaticName {
        "OptSparseConv".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let (stored, nnz) = (self.packed.stored(), self.packed.nnz());
        let mut info = vec![
            self.choice.to_string(),
            format!(
                "{nnz} of {} weights are not zero ({:.1} %), {stored} stored",
                self.dense,
                100.0 * nnz as f64 / self.dense as f64,
            ),
        ];
        let unread = self.packed.reads().iter().filter(|read| !**read).count();
        if unread > 0 {
            info.push(match &*self.packed {
                Packed::Depthwise(_) => format!("{unread} channels that nothing reads are left out"),
                Packed::Pointwise(_) | Packed::Spatial(_) => {
                    format!("{unread} input channels have no weight")
                }
            });
        }
        if self.epilogue != Epilogue::default() || self.residual {
            let residual = if self.residual { ", residual" } else { "" };
            info.push(format!("then {:?}{residual}, {:?}", self.epilogue.before, self.epilogue.after));
        }
        Ok(info)
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for OptSparseConv {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (stage, shape) = self.stage(inputs[0].shape())?;
        run_stages(&[stage], &inputs, &shape).with_context(|| format!("in {}", self.choice.kernel().name))
    }
}

impl TypedOp for OptSparseConv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1 + self.residual as usize, "got {} inputs", inputs.len());
        Ok(tvec!(self.form.output_fact(inputs[0])?))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        self.cost_of(inputs[0])
    }

    fn fuse(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = self.fuse_next(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = self.leave_out_unread(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = OptSparseChain::join(model, node)? {
            return Ok(Some(patch));
        }
        swap_next(model, self.choice.target)
    }

    as_op!();
}
