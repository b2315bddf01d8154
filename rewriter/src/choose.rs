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

/// What is known of a layer before its neighbours are: all that takes reading its weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Assessment {
    /// It stays as it is whatever its neighbours do, for this reason.
    Stock(String),
    /// The fastest of our kernels for it.
    Best {
        /// That kernel, with times.
        choice: Choice,
        /// Share of weights that are not zero.
        density: f64,
    },
}

impl Assessment {
    /// Of the layer at `node`; `None` if the node is no layer.
    ///
    /// # Errors
    /// Weights that cannot be read, or a layer that fails while it is measured.
    pub fn of(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<Option<Assessment>> {
        Ok(match see(model, node)? {
            None => None,
            Some(Seen::Opaque(_, reason)) => Some(Assessment::Stock(reason.to_string())),
            Some(Seen::Layer(layer)) => Some(Assessment::of_layer(&layer, policy)?),
        })
    }

    /// Of a layer whose weights can be read.
    fn of_layer(layer: &Layer, policy: &Policy) -> TractResult<Assessment> {
        if policy.mode == Mode::Never {
            return Ok(Assessment::Stock("TRACT_SPARSE=never".into()));
        }
        Ok(match candidates(layer, policy)? {
            Ok(candidates) => match candidates.into_iter().min_by_key(|choice| choice.sparse_ns) {
                Some(choice) => Assessment::Best { choice, density: layer.density() },
                None => Assessment::Stock("no kernel of ours computes this".into()),
            },
            Err(reason) => Assessment::Stock(reason.into()),
        })
    }

    /// Whether the layer is worth running sparse on its own account.
    pub fn is_worth_it(&self, policy: &Policy) -> bool {
        matches!(self.decide(policy, Neighbours::Dense), Decision::Sparse(_))
    }

    /// The decision, now that the neighbours are known.
    pub fn decide(&self, policy: &Policy, neighbours: Neighbours) -> Decision {
        let (best, density) = match self {
            Assessment::Stock(reason) => return Decision::Stock(reason.clone(), None),
            Assessment::Best { choice, density } => (*choice, density),
        };
        if !best.sparse && neighbours == Neighbours::Dense {
            let zeros = 100.0 * (1.0 - density);
            return Decision::Stock(format!("not pruned: {zeros:.1} % of the weights are zero"), Some(best));
        }
        let gain = best.stock_ns as f64 / best.sparse_ns.max(1) as f64;
        if gain >= policy.min_gain || (best.sparse && policy.mode == Mode::Always) {
            return Decision::Sparse(best);
        }
        let how = if policy.mode == Mode::Measure { "measured" } else { "predicted" };
        Decision::Stock(format!("{how} gain {gain:.2} is below {:.2}", policy.min_gain), Some(best))
    }
}

/// Decides for a layer whose weights can be read.
pub fn choose(layer: &Layer, policy: &Policy, neighbours: Neighbours) -> TractResult<Decision> {
    Ok(Assessment::of_layer(layer, policy)?.decide(policy, neighbours))
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
