//! Layers as they are and as they would be.

use std::collections::BTreeMap;
use tract_sparse::{LayerReport, Report};

/// A layer in both states. As it is and pruned, stock tract may write it as one node or as several.
pub(in crate::commands) struct Row {
    /// Its nodes in the pruned model, or where it has none there, in the model as it is.
    nodes: Vec<LayerReport>,
    pub(in crate::commands) stock_ms: Option<f64>,
    pub(in crate::commands) now_ms: Option<f64>,
    pub(in crate::commands) then_ms: Option<f64>,
}

/// The sum of times, if all are known.
fn sum(nodes: &[LayerReport], ms: fn(&LayerReport) -> Option<f64>) -> Option<f64> {
    nodes.iter().map(ms).try_fold(0.0, |sum, ms| Some(sum + ms?)).filter(|_| !nodes.is_empty())
}

/// The layers of both reports by name, in the order of the second.
pub(in crate::commands) fn rows(now: &Report, then: &Report) -> Vec<Row> {
    let by_name = |report: &Report| {
        let mut layers: BTreeMap<String, Vec<LayerReport>> = BTreeMap::new();
        for node in &report.layers {
            layers.entry(node.layer().to_string()).or_default().push(node.clone());
        }
        layers
    };
    let (mut before, mut after) = (by_name(now), by_name(then));
    let mut rows = vec![];
    for node in then.layers.iter().chain(&now.layers) {
        let name = node.layer();
        let (before, after) =
            (before.remove(name).unwrap_or_default(), after.remove(name).unwrap_or_default());
        if before.is_empty() && after.is_empty() {
            continue;
        }
        rows.push(Row {
            stock_ms: sum(&after, LayerReport::dense_ms).or_else(|| sum(&before, LayerReport::dense_ms)),
            now_ms: sum(&before, LayerReport::ms),
            then_ms: sum(&after, LayerReport::ms),
            nodes: if after.is_empty() { before } else { after },
        });
    }
    rows
}

impl Row {
    /// The first of its nodes, which stands for all.
    pub(in crate::commands) fn node(&self) -> &LayerReport {
        &self.nodes[0]
    }

    /// Times on stock tract, as it is, and pruned; none unless all three are known.
    pub(in crate::commands) fn times(&self) -> Option<[f64; 3]> {
        Some([self.stock_ms?, self.now_ms?, self.then_ms?])
    }

    pub(in crate::commands) fn gain(&self) -> Option<f64> {
        self.times().map(|[stock, _, then]| stock / then)
    }
}
