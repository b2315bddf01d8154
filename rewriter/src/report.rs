//! What was decided, layer by layer: a value, not a log.

use crate::analyse::{Layer, LayerKind, LayerShape, Seen, see};
use crate::choose::{Decision, Neighbours, choose};
use crate::policy::Policy;
use crate::transform::{made, neighbours};
use sparse_kernels::format::{DepthwisePatterns, FormatKind, fill_of};
use sparse_ops::{Choice, OptSparseConv, Packing};
use tract_core::internal::*;

/// The layers of a model in the order in which they run.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// Instruction set of the sparse kernels.
    pub target: String,
    /// One entry for every convolution and every product with constant weights.
    pub layers: Vec<LayerReport>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LayerReport {
    /// Name of the node.
    pub name: String,
    /// Name of the operator as it is in this model.
    pub op: String,
    /// What it computes, if it could be read.
    pub kind: Option<LayerKind>,
    /// Output channels.
    pub oc: usize,
    /// Input channels.
    pub ic: usize,
    /// Kernel, as in `3x3`; empty for a matrix product.
    pub kernel: String,
    /// Step of the output, as in `2x2`; empty for a matrix product.
    pub stride: String,
    /// Size of the output map, as in `14x14`; `?` where it is symbolic.
    pub output: String,
    /// Share of weights that are not zero.
    pub density: Option<f64>,
    /// Format found: the one with the least predicted time.
    pub format: Option<String>,
    /// Share of stored weights that are not zero, in that format.
    pub fill: Option<f64>,
    /// Output channels all of whose weights are zero.
    pub dead_oc: Option<usize>,
    /// Input channels all of whose weights are zero.
    pub dead_ic: Option<usize>,
    /// The kernel that runs it, if it runs here.
    pub chosen: Option<String>,
    /// Why it stays on the stock operator, if it does.
    pub reason: Option<String>,
    /// Predicted milliseconds of the stock operator.
    pub stock_ms: Option<f64>,
    /// Predicted milliseconds of the sparse operator.
    pub sparse_ms: Option<f64>,
}

impl Report {
    /// Reports on a typed model, stock or sparse, decluttered or optimised, under the policy of the knobs.
    ///
    /// For layers that have been decided on, that decision is reported; for the others, what would be decided now. In
    /// an optimised model, stock tract has packed the weights of its own layers away: those are not seen any more.
    ///
    /// # Errors
    /// A knob with an impossible value.
    pub fn of(model: &TypedModel) -> TractResult<Report> {
        Report::with_policy(model, &Policy::from_knobs()?)
    }

    /// As [`Report::of`], under a given policy.
    pub fn with_policy(model: &TypedModel, policy: &Policy) -> TractResult<Report> {
        let neighbours = neighbours(model, policy)?;
        let mut layers = vec![];
        for id in model.eval_order()? {
            let node = model.node(id);
            if let Some(seen) = see(model, node)? {
                layers.push(layer_report(node, &seen, policy, neighbours)?);
            }
        }
        Ok(Report { target: policy.target.to_string(), layers })
    }

    /// Layers that run on our kernels.
    pub fn sparse_layers(&self) -> usize {
        self.layers.iter().filter(|layer| layer.chosen.is_some()).count()
    }
}

fn layer_report(
    node: &TypedNode,
    seen: &Seen,
    policy: &Policy,
    neighbours: Neighbours,
) -> TractResult<LayerReport> {
    let decision = match (made(node).copied(), seen) {
        (Some(choice), _) => Decision::Sparse(choice),
        (None, Seen::Layer(layer)) => choose(layer, policy, neighbours)?,
        (None, Seen::Opaque(_, reason)) => Decision::Stock(reason.to_string(), None),
    };
    let (choice, reason) = match decision {
        Decision::Sparse(choice) => (Some(choice), None),
        Decision::Stock(reason, best) => (best, Some(reason)),
    };
    let shape = match seen {
        Seen::Layer(layer) => Some(&layer.shape),
        Seen::Opaque(shape, _) => shape.as_ref(),
    };
    let mut report = LayerReport {
        name: node.name.clone(),
        op: node.op.name().to_string(),
        kind: shape.map(LayerShape::kind),
        oc: shape.map_or(0, |s| s.oc),
        ic: shape.map_or(0, |s| s.ic),
        kernel: shape.map_or_else(String::new, |s| by(&s.kernel)),
        stride: shape.map_or_else(String::new, |s| by(&s.stride)),
        output: match shape.and_then(|s| s.output.as_ref()) {
            Some(output) => by(output),
            None => "?".into(),
        },
        density: None,
        format: choice.map(|c| c.packing.to_string()),
        fill: None,
        dead_oc: None,
        dead_ic: None,
        chosen: choice.filter(|_| reason.is_none()).map(|c| c.kernel().name.to_string()),
        reason,
        stock_ms: choice.map(|c| c.stock_ns as f64 / 1e6),
        sparse_ms: choice.map(|c| c.sparse_ns as f64 / 1e6),
    };
    if let Seen::Layer(layer) = seen {
        weigh(&mut report, layer, choice)?;
    } else if let Some(op) = node.op_as::<OptSparseConv>() {
        let packed = op.packed();
        report.density = Some(packed.nnz() as f64 / op.dense() as f64);
        report.fill = Some(fill_of(packed.nnz(), packed.stored()));
    }
    Ok(report)
}

fn weigh(report: &mut LayerReport, layer: &Layer, choice: Option<Choice>) -> TractResult<()> {
    let single = layer.stats(FormatKind::ROWS_1);
    report.density = Some(single.density);
    report.dead_oc = Some(single.dead_rows);
    if layer.shape.kind() == LayerKind::Pointwise {
        report.dead_ic = Some(single.dead_cols);
    }
    report.fill = match choice.map(|c| c.packing) {
        Some(Packing::Depthwise(taps)) => {
            let patterns = DepthwisePatterns::from_dense(layer.shape.oc, taps, layer.values()?)?;
            Some(fill_of(patterns.nnz(), patterns.stored()))
        }
        Some(Packing::Pointwise(format) | Packing::Spatial(format)) => Some(layer.stats(format).fill),
        None => None,
    };
    Ok(())
}

fn by(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
