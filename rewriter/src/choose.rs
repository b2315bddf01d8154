//! Stock or sparse, and which kernel: the one with the least predicted time.

use crate::analyse::{Layer, LayerKind, Seen, see};
use crate::costs::{Key, Table, Work};
use crate::measure::measured;
use crate::policy::{Mode, Policy};
use sparse_kernels::format::{DepthwisePatterns, FormatKind};
use sparse_kernels::prelude::table;
use sparse_kernels::{depthwise, spatial};
use sparse_ops::{Choice, Packing};
use tract_core::internal::*;

/// A layer is pruned if its kernel leaves out at least one weight in ten. Fewer zeros are found in networks that
/// nobody pruned (rounded weights, dead channels): those are dense.
const PRUNED_SHARE: f64 = 0.9;

/// What becomes of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It runs on one of our kernels.
    Sparse(Choice),
    /// It stays as it is, for this reason; the best candidate if there was one.
    Stock(String, Option<Choice>),
}

impl Decision {
    /// The choice, if the layer runs on one of our kernels.
    pub fn choice(&self) -> Option<Choice> {
        match self {
            Decision::Sparse(choice) => Some(*choice),
            Decision::Stock(..) => None,
        }
    }
}

/// The layers around the one to be decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// No layer of the model is worth running sparse: dense layers stay stock.
    Dense,
    /// Some layer is: dense layers may run on our kernels, too, where they are faster.
    Sparse,
}

/// Decides for the layer at `node`; `None` if the node is no layer.
pub fn decide(
    model: &TypedModel,
    node: &TypedNode,
    policy: &Policy,
    neighbours: Neighbours,
) -> TractResult<Option<Decision>> {
    Ok(match see(model, node)? {
        None => None,
        Some(Seen::Opaque(_, reason)) => Some(Decision::Stock(reason.to_string(), None)),
        Some(Seen::Layer(layer)) => Some(choose(&layer, policy, neighbours)?),
    })
}

/// Whether the layer at `node` is worth running sparse on its own account.
pub fn is_worth_it(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<bool> {
    let decision = decide(model, node, policy, Neighbours::Dense)?;
    Ok(decision.is_some_and(|decision| decision.choice().is_some()))
}

/// Decides for a layer whose weights can be read.
pub fn choose(layer: &Layer, policy: &Policy, neighbours: Neighbours) -> TractResult<Decision> {
    let stay = |reason: String, best| Ok(Decision::Stock(reason, best));
    if policy.mode == Mode::Never {
        return stay("TRACT_SPARSE=never".into(), None);
    }
    let best = match candidates(layer, policy)? {
        Ok(candidates) => candidates.into_iter().min_by_key(|choice| choice.sparse_ns),
        Err(reason) => return stay(reason.into(), None),
    };
    let Some(best) = best else { return stay("no kernel of ours computes this".into(), None) };
    if !best.sparse && neighbours == Neighbours::Dense {
        let density = layer.density();
        return stay(
            format!("not pruned: {:.1} % of the weights are zero", 100.0 * (1.0 - density)),
            Some(best),
        );
    }
    let gain = best.stock_ns as f64 / best.sparse_ns.max(1) as f64;
    if gain >= policy.min_gain || (best.sparse && policy.mode == Mode::Always) {
        return Ok(Decision::Sparse(best));
    }
    let how = if policy.mode == Mode::Measure { "measured" } else { "predicted" };
    stay(format!("{} gain {gain:.2} is below {:.2}", how, policy.min_gain), Some(best))
}

/// Every way to run the layer here, or the reason why there is none.
fn candidates(layer: &Layer, policy: &Policy) -> TractResult<Result<Vec<Choice>, &'static str>> {
    let shape = &layer.shape;
    let conv = shape.conv_shape();
    let dense = shape.weights() as f64;
    let costs = Table::of(policy.target.isa());
    let stock_work = Work::stock(shape);
    let stride = conv.stride[0].max(conv.stride[1]);
    let choice = |packing: Packing, stored: usize, stock: Key, ours: Key, work: &Work| {
        let choice = Choice {
            packing,
            target: policy.target,
            stock_ns: costs.predict(stock, &stock_work) as u64,
            sparse_ns: costs.predict(ours, work) as u64,
            sparse: stored as f64 <= PRUNED_SHARE * dense,
        };
        if policy.mode == Mode::Measure { measured(layer, choice, stored) } else { Ok(choice) }
    };
    let mut found = vec![];
    match shape.kind() {
        LayerKind::Pointwise => {
            for format in FormatKind::POINTWISE {
                let (stats, kernel) = (layer.stats(format), table::pointwise(policy.target, format));
                let work = Work::pointwise(kernel.info(), kernel.vector(), shape, &stats);
                let stock = Key::StockPointwise(shape.pixels == Some(1));
                let ours = Key::pointwise(format, shape);
                let stored = stats.blocks * format.r() * format.c();
                found.push(choice(Packing::Pointwise(format), stored, stock, ours, &work)?);
            }
        }
        LayerKind::Depthwise => {
            if let Err(reason) = depthwise::supports(&conv) {
                return Ok(Err(reason));
            }
            if let Some(kernel) = table::depthwise(policy.target, conv.kernel) {
                let stored = DepthwisePatterns::from_dense(shape.oc, conv.kernel, layer.values()?)?.stored();
                let work = Work::depthwise(kernel.vector(), shape, stored);
                let (stock, ours) = (Key::StockDepthwise(stride.min(2)), Key::Depthwise(stride.min(2)));
                found.push(choice(Packing::Depthwise(conv.kernel), stored, stock, ours, &work)?);
            }
        }
        LayerKind::Spatial => {
            if let Err(reason) = spatial::supports(&conv) {
                return Ok(Err(reason));
            }
            for format in [FormatKind::ROWS_1, FormatKind::ROWS_2, FormatKind::ROWS_4] {
                let (stats, kernel) = (layer.stats(format), table::spatial(policy.target, format));
                let work = Work::spatial(kernel.info(), kernel.vector(), shape, &stats);
                let stored = stats.blocks * format.r();
                let ours = Key::Spatial(format);
                found.push(choice(Packing::Spatial(format), stored, Key::StockSpatial, ours, &work)?);
            }
        }
        LayerKind::Grouped => return Ok(Err("channel groups that are not depthwise")),
    }
    Ok(Ok(found))
}
