//! Layers one after the other whose maps between are too large for a cache, run band by band.

use crate::executor::with_threads;
use crate::konst::f32s;
use crate::opt_sparse_conv::OptSparseConv;
use sparse_kernels::chain::{Chain, Stage};
use sparse_kernels::prelude::*;
use tract_core::internal::*;

/// Floats of a map from which on it is not written as a whole: half a megabyte, a quarter of the second-level
/// cache of the cores that this was measured on.
const LARGE: usize = 128 << 10;

/// Layers of the optimised graph of which each is the only one that reads what the one before writes.
///
/// Inputs: the activation and, if the last layer adds a residual, that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptSparseChain {
    /// At least two; none but the last has a residual.
    layers: Vec<OptSparseConv>,
}

impl OptSparseChain {
    /// The layers, in the order in which they run.
    pub fn layers(&self) -> &[OptSparseConv] {
        &self.layers
    }

    /// The layer or the chain at `node`, and the one behind it, in one chain, if the map between is large.
    pub(crate) fn join(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        rule_if_some!(before = layers(node));
        rule_if!(before.last().is_some_and(|last| !last.epilogue().1 && runs_in_bands(last)));
        rule_if!(!model.output_outlets()?.contains(&node.id.into()));
        rule_if_some!(succ = model.single_succ(node.id)?);
        rule_if!(succ.inputs[0] == node.id.into());
        rule_if_some!(behind = layers(succ));
        rule_if!(behind.first().is_some_and(runs_in_bands));
        let images = before.last().map_or(0, |last| last.form().batch_axes());
        let map = node.outputs[0].fact.shape.iter().skip(images);
        let floats = map.map(|dim| dim.to_usize().ok()).product::<Option<usize>>();
        rule_if!(floats.is_some_and(|floats| floats >= LARGE));
        // what they take in comes first
        for node in [node, succ] {
            if let Some(layer) = node.op_as::<OptSparseConv>() {
                rule_if!(layer.settled(model, node)?);
            }
        }
        let op = OptSparseChain { layers: [before, behind].concat() };
        let mut patch = TypedModelPatch::new(format!("{succ} band by band"));
        let mut inputs = tvec!(patch.tap_model(model, node.inputs[0])?);
        if let Some(residual) = succ.inputs.get(1) {
            inputs.push(patch.tap_model(model, *residual)?);
        }
        let y = patch.wire_node(&succ.name, op, &inputs)?;
        patch.shunt_outside(model, succ.id.into(), y[0])?;
        Ok(Some(patch))
    }
}

/// The layers that a node runs, if it runs any.
pub fn layers(node: &TypedNode) -> Option<&[OptSparseConv]> {
    let single = node.op_as::<OptSparseConv>().map(std::slice::from_ref);
    single.or_else(|| node.op_as::<OptSparseChain>().map(OptSparseChain::layers))
}

fn runs_in_bands(layer: &OptSparseConv) -> bool {
    layer.is_planar() && layer.choice().target.isa() != Isa::Scalar
}

impl Op for OptSparseChain {
    fn name(&self) -> StaticName {
        "OptSparseChain".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let of = |layer: &OptSparseConv| -> TractResult<Vec<String>> {
            Ok(layer.info()?.into_iter().map(|line| format!("{}: {line}", layer.layer())).collect())
        };
        Ok(self.layers.iter().map(of).collect::<TractResult<Vec<_>>>()?.concat())
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for OptSparseChain {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut shape: TVec<usize> = inputs[0].shape().into();
        let mut stages = vec![];
        for layer in &self.layers {
            let (geometry, output) = layer.form().resolve(layer.choice().packing, &shape)?;
            stages.push(Stage { layer: layer.packed().layer(), geometry, epilogue: layer.epilogue().0 });
            shape = output;
        }
        let chain = Chain::new(&stages)?;
        // SAFETY: `Chain::run` writes every element of the output or fails, and an output of a failed run is
        // dropped; an f32 has no invalid bit pattern.
        let mut y = unsafe { Tensor::uninitialized::<f32>(&shape)? };
        let x = f32s(&inputs[0])?;
        let residual = inputs.get(1).map(|r| f32s(r)).transpose()?;
        with_threads(y.len(), |parallel| {
            let mut y = y.try_as_plain_ram_mut()?;
            Ok(chain.run(x, y.as_slice_mut::<f32>()?, residual, parallel)?)
        })
        .map_err(|error: TractError| error.context(format!("in {}", self.names())))?;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl OptSparseChain {
    fn names(&self) -> String {
        self.layers.iter().map(OptSparseConv::layer).collect::<Vec<_>>().join(", ")
    }
}

impl TypedOp for OptSparseChain {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut fact = inputs[0].clone();
        for layer in &self.layers {
            fact = layer.form().output_fact(&fact)?;
        }
        Ok(tvec!(fact))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let mut fact = inputs[0].clone();
        let mut all: TVec<(Cost, TDim)> = tvec!();
        for layer in &self.layers {
            for (what, count) in layer.cost_of(&fact)? {
                match all.iter_mut().find(|(other, _)| *other == what) {
                    Some((_, sum)) => *sum = sum.clone() + count,
                    None => all.push((what, count)),
                }
            }
            fact = layer.form().output_fact(&fact)?;
        }
        Ok(all)
    }

    fn fuse(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        OptSparseChain::join(model, node)
    }

    as_op!();
}
