//! Stock or sparse, and which kernel: the one with the least predicted time.

use crate::analyse::{Layer, LayerKind, LayerShape, Seen, see};
use crate::costs::{self, PointwiseWork};
use crate::policy::{Mode, Policy};
use sparse_kernels::format::{FormatKind, Stats};
use sparse_kernels::prelude::table;
use sparse_ops::{Choice, Packing};
use tract_core::internal::*;

/// Pixels assumed where the shape is symbolic: a 14 x 14 map.
const ASSUMED_PIXELS: usize = 196;

/// What becomes of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It runs on a sparse kernel.
    Sparse(Choice),
    /// It stays as it is, for this reason; the best sparse candidate if there was one.
    Stock(String, Option<Choice>),
}

impl Decision {
    /// The choice, if the layer runs sparse.
    pub fn choice(&self) -> Option<Choice> {
        match self {
            Decision::Sparse(choice) => Some(*choice),
            Decision::Stock(..) => None,
        }
    }
}

/// Decides for the layer at `node`; `None` if the node is no layer.
pub fn decide(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<Option<Decision>> {
    Ok(match see(model, node)? {
        None => None,
        Some(Seen::Opaque(_, reason)) => Some(Decision::Stock(reason.to_string(), None)),
        Some(Seen::Layer(layer)) => Some(choose(&layer, policy)?),
    })
}

/// Decides for a layer whose weights can be read.
pub fn choose(layer: &Layer, policy: &Policy) -> TractResult<Decision> {
    let stay = |reason: String, best| Ok(Decision::Stock(reason, best));
    if policy.mode == Mode::Never {
        return stay("TRACT_SPARSE=never".into(), None);
    }
    let density = layer.stats(FormatKind::ROWS_1)?.density;
    if density == 1.0 {
        return stay("no weight is zero".into(), None);
    }
    let Some(best) = best_candidate(layer, policy)? else {
        let what = match layer.shape.kind() {
            LayerKind::Pointwise => "this matrix product",
            LayerKind::Depthwise => "this depthwise convolution",
            LayerKind::Spatial => "convolutions larger than 1x1",
            LayerKind::Grouped => "grouped convolutions",
        };
        return stay(format!("no sparse kernel for {what}"), None);
    };
    let gain = best.stock_ns as f64 / best.sparse_ns.max(1) as f64;
    if policy.mode == Mode::Always || gain >= policy.min_gain {
        return Ok(Decision::Sparse(best));
    }
    stay(
        format!("density {density:.2}: predicted gain {gain:.2} is below {:.2}", policy.min_gain),
        Some(best),
    )
}

/// The candidate of least predicted time.
fn best_candidate(layer: &Layer, policy: &Policy) -> TractResult<Option<Choice>> {
    let mut best: Option<Choice> = None;
    if layer.shape.kind() == LayerKind::Pointwise {
        for format in FormatKind::POINTWISE {
            let choice = pointwise(&layer.shape, &layer.stats(format)?, policy);
            if best.is_none_or(|b| choice.sparse_ns < b.sparse_ns) {
                best = Some(choice);
            }
        }
    }
    Ok(best)
}

/// A pointwise layer in one format.
pub fn pointwise(shape: &LayerShape, stats: &Stats, policy: &Policy) -> Choice {
    let kernel = table::pointwise(policy.target, stats.kind);
    let pixels = shape.pixels.unwrap_or(ASSUMED_PIXELS);
    let work = PointwiseWork {
        stored: stats.blocks * stats.kind.r() * stats.kind.c(),
        block_rows: shape.oc.div_ceil(stats.kind.r()),
        ic: shape.ic - stats.dead_cols,
        pixels,
        vector: kernel.vector(),
        tile: kernel.info().pixels,
    };
    Choice {
        packing: Packing::Pointwise(stats.kind),
        target: policy.target,
        stock_ns: stock_pointwise(shape, pixels, policy) as u64,
        sparse_ns: costs::pointwise(policy.target.isa(), stats.kind).pointwise(&work) as u64,
        sparse: true,
    }
}

/// Predicted nanoseconds of stock tract on the dense layer. Its tiles are about 16 outputs by 12 pixels, and pixels that
/// do not fill the last one are computed all the same.
fn stock_pointwise(shape: &LayerShape, pixels: usize, policy: &Policy) -> f64 {
    costs::stock_matmul(policy.target.isa()).pointwise(&PointwiseWork {
        stored: shape.oc * shape.ic,
        block_rows: shape.oc.div_ceil(16),
        ic: shape.ic,
        pixels,
        vector: 1,
        tile: 12,
    })
}
