//! Layers one after the other whose maps between are too large for a cache, run band by band.

use crate::opt_sparse_conv::{OptSparseConv, run};
use sparse_kernels::chain::{self, Chain, Stage};
use sparse_kernels::prelude::*;
use tract_core::internal::*;

/// Pixels that every layer of a chain should compute at a time: with fewer, what it costs to begin is more than
/// what the cache spares.
const FEWEST_PIXELS: usize = 224;

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

    /// The layer or the chain at `node`, and the one behind it, in one chain, if the map between is large; not if the one
    /// behind had better be joined with what follows, by a larger map, and all three are too much for one chain.
    pub(crate) fn join(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        rule_if_some!((succ, before, op) = OptSparseChain::joined(model, node)?);
        let x = op.layers[0].wide(model.outlet_fact(node.inputs[0])?)?.shape;
        rule_if_some!(map = op.pays(before, &x)?);
        if let Some((_, within, behind)) = OptSparseChain::joined(model, succ)? {
            let all = OptSparseChain { layers: [&op.layers[..before], &behind.layers[..]].concat() };
            let x_behind = behind.layers[0].wide(model.outlet_fact(succ.inputs[0])?)?.shape;
            let larger = behind.pays(within, &x_behind)?.is_some_and(|other| other > map);
            rule_if!(!larger || all.pays(before, &x)?.is_some());
        }
        // what they take in comes first
        for node in [node, succ] {
            if let Some(layer) = node.op_as::<OptSparseConv>() {
                rule_if!(layer.settled(model, node)?);
            }
        }
        let mut patch = TypedModelPatch::new(format!("{succ} band by band"));
        let mut inputs = tvec!(patch.tap_model(model, node.inputs[0])?);
        if let Some(residual) = succ.inputs.get(1) {
            inputs.push(patch.tap_model(model, *residual)?);
        }
        let y = patch.wire_node(&succ.name, op, &inputs)?;
        patch.shunt_outside(model, succ.id.into(), y[0])?;
        Ok(Some(patch))
    }

    /// The node behind `node`, which alone reads what it writes, how many layers are at `node`, and the layers of both, whether
    /// or not that pays.
    fn joined<'m>(
        model: &'m TypedModel,
        node: &TypedNode,
    ) -> TractResult<Option<(&'m TypedNode, usize, OptSparseChain)>> {
        rule_if_some!(before = layers(node));
        rule_if!(before.last().is_some_and(|last| !last.epilogue().1 && runs_in_bands(last)));
        rule_if!(!model.output_outlets()?.contains(&node.id.into()));
        rule_if_some!(succ = model.single_succ(node.id)?);
        rule_if!(succ.inputs[0] == node.id.into());
        rule_if_some!(behind = layers(succ));
        rule_if!(behind.first().is_some_and(runs_in_bands));
        Ok(Some((succ, before.len(), OptSparseChain { layers: [before, behind].concat() })))
    }
}

/// Nanoseconds that bands spare for a value of the map between two layers, which is neither written to a third-level
/// cache nor read from there: what the first blocks of mobilenet-v2 gain (docs/performance.md), some 100 us of 1.2
/// million values.
const SPARED_NS: f64 = 0.1;

/// Nanoseconds that are spared by running two layers band by band, with so many values in the map between: if both are
/// f32, and if both are on pairs of channels. Where bands pay in either, as much is counted for both, though maps of pairs
/// have half the bytes: layers alone, of which cost tables know, wait less for memory than those of a network.
pub(crate) fn spared_by_bands(first: &OptSparseConv, second: &OptSparseConv, values: f64) -> [f64; 2] {
    let Some(large) = chain::large_map() else { return [0.0; 2] };
    let planar = first.is_planar() && second.is_planar() && first.choice().target.isa() != Isa::Scalar;
    let spared = |floats: f64| if floats >= large as f64 { SPARED_NS * floats } else { 0.0 };
    let on_pairs = [first, second].iter().all(|layer| layer.is_open());
    match planar {
        true => {
            let on_pairs = on_pairs && values / 2.0 >= large as f64;
            [spared(values), if on_pairs { spared(values) } else { 0.0 }]
        }
        false => [0.0; 2],
    }
}

/// The layers that a node runs, if it runs any.
pub fn layers(node: &TypedNode) -> Option<&[OptSparseConv]> {
    let single = node.op_as::<OptSparseConv>().map(std::slice::from_ref);
    single.or_else(|| node.op_as::<OptSparseChain>().map(OptSparseChain::layers))
}

/// The layers in bands whose maps take `room` floats, or half of that if everything would be one band.
fn bands<'a>(stages: &[Stage<'a>], room: usize) -> Result<Chain<'a>, KernelError> {
    let chain = Chain::new(stages, room)?;
    if chain.pixels().is_some() { Ok(chain) } else { Chain::new(stages, room / 2) }
}

fn runs_in_bands(layer: &OptSparseConv) -> bool {
    !layer.is_open()
        && !layer.may_be_int8()
        && layer.int8().is_none()
        && layer.is_planar()
        && layer.choice().target.isa() != Isa::Scalar
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
        let (stages, shape) = self.stages(&self.layers[0].wide_shape(inputs[0].shape())?)?;
        let chain = bands(&stages, chain::room().unwrap_or(0))?;
        let last = &self.layers[self.layers.len() - 1];
        let y = if last.half().is_some() {
            run(&stages, &inputs, &last.pairs_shape(&shape)?, |x, y, residual, parallel| {
                Ok(chain.run_pairs(x, y, residual, parallel)?)
            })
        } else {
            run(&stages, &inputs, &shape, |x, y, residual, parallel| Ok(chain.run(x, y, residual, parallel)?))
        };
        y.with_context(|| format!("in {}", self.names()))
    }
}

impl OptSparseChain {
    /// The layers for an input of channels of this shape, and the shape of the output's channels.
    fn stages(&self, x: &[usize]) -> TractResult<(Vec<Stage<'_>>, TVec<usize>)> {
        let (mut shape, mut stages): (TVec<usize>, _) = (x.into(), vec![]);
        for layer in &self.layers {
            let (stage, output) = layer.stage(&shape)?;
            stages.push(stage);
            shape = output;
        }
        Ok((stages, shape))
    }

    /// Values of the map behind the first `before` layers, if it is so large that it would leave the cache, and bands
    /// are not too small. The number of images does not matter, and need not be known.
    fn pays(&self, before: usize, x: &[TDim]) -> TractResult<Option<usize>> {
        rule_if_some!(large = chain::large_map());
        rule_if_some!(room = chain::room());
        // What counts images for a matrix product may be the channels of the layer behind it.
        let images = self.layers.iter().map(|layer| layer.form().batch_axes()).min().unwrap_or(0);
        let dim = |(axis, dim): (usize, &TDim)| if axis < images { Some(1) } else { dim.to_usize().ok() };
        rule_if_some!(x = x.iter().enumerate().map(dim).collect::<Option<TVec<usize>>>());
        let (stages, _) = self.stages(&x)?;
        let per_lane = stages[before].layer.element().per_lane();
        let map = stages[before].geometry.x_len() / per_lane;
        rule_if!(map >= large);
        rule_if_some!(chain = bands(&stages, room).ok());
        rule_if!(chain.pixels().is_some_and(|pixels| pixels >= FEWEST_PIXELS));
        Ok(Some(map))
    }

    fn names(&self) -> String {
        self.layers.iter().map(OptSparseConv::layer).collect::<Vec<_>>().join(", ")
    }
}

impl TypedOp for OptSparseChain {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut fact = inputs[0].clone();
        for layer in &self.layers {
            fact = layer.y_fact(&fact)?;
        }
        Ok(tvec!(fact))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let mut fact = self.layers[0].wide(inputs[0])?;
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
