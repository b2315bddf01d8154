//! The report in tables and words.

use crate::table::{Table, ms, wrap};
use rewriter::Advice;
use tract_sparse::{LayerReport, Report};

/// Layers that an advice names.
const NAMED: usize = 5;

/// How much slower a layer has to be measured before its prediction is called wrong: times of single runs
/// scatter.
const DOUBT: f64 = 1.1;

/// Measured times beside predicted ones.
pub(super) fn measured(report: &Report) -> String {
    let mut table =
        Table::new(&["layer", "stock: pred.", "measured", "ours: pred.", "measured", "gain", "<runs"]);
    for layer in &report.layers {
        let (Some(stock), Some(ours)) = (layer.measured_stock_ms, layer.measured_sparse_ms) else { continue };
        let time = |v: Option<f64>| v.map_or_else(String::new, ms);
        table.row(vec![
            layer.name.clone(),
            time(layer.stock_ms),
            ms(stock),
            time(layer.sparse_ms),
            ms(ours),
            format!("{:.2}", stock / ours),
            layer.runs().into(),
        ]);
    }
    let (stock, ours) = report.total_ms();
    let text = format!(
        "\n{}all layers: stock {} ms, as they run {} ms, {:.2} times as fast\n",
        table.text(),
        ms(stock),
        ms(ours),
        stock / ours
    );
    text + &mispredicted(&report.layers)
}

/// Layers that are on the slower of their operators by more than [`DOUBT`], as measured.
fn mispredicted(layers: &[LayerReport]) -> String {
    let mut text = String::new();
    for (sparse, what) in [
        (true, "run sparse, but were measured slower so than on stock tract"),
        (false, "run on stock tract, but were measured faster on our kernel"),
    ] {
        let of = |layer: &&LayerReport| {
            layer.chosen.is_some() == sparse
                && layer.dense_ms().zip(layer.measured_sparse_ms).is_some_and(|(stock, ours)| {
                    let (runs, other) = if sparse { (ours, stock) } else { (stock, ours) };
                    layer.measured_stock_ms.is_some() && runs > DOUBT * other
                })
        };
        let names: Vec<&str> = layers.iter().filter(of).map(|layer| layer.name.as_str()).collect();
        if !names.is_empty() {
            text += &wrap(&format!("{what}: {}", names.join(", ")), 4);
        }
    }
    if !text.is_empty() {
        text += "The table of costs misjudges these here; --sparse measure decides by the clock.\n";
    }
    text
}

/// What would help most.
pub(super) fn help(advice: &[Advice], report: &Report) -> String {
    if advice.is_empty() {
        return String::new();
    }
    let (_, total) = report.total_ms();
    let mut text = "\nWhat would help most, as predicted:\n".to_string();
    for (at, advice) in advice.iter().enumerate() {
        let saved = match advice.saved_ms {
            Some(saved) if total > 0.0 => format!("{} ms of {}", ms(saved), ms(total)),
            Some(saved) => format!("{} ms", ms(saved)),
            None => "not known".into(),
        };
        let named: Vec<&str> = advice.layers.iter().take(NAMED).map(String::as_str).collect();
        let more = advice.layers.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text += &wrap(
            &format!("{}. {}: saves {saved}; first {}{more}", at + 1, advice.text, named.join(", ")),
            3,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_sparse::LayerKind;

    /// A layer with predicted times of 1 and 0.5 ms and these measured ones, on our kernel or on the stock
    /// operator.
    fn layer(name: &str, sparse: bool, stock_ms: f64, sparse_ms: f64) -> LayerReport {
        LayerReport {
            name: name.into(),
            op: "Conv".into(),
            kind: Some(LayerKind::Pointwise),
            oc: 8,
            ic: 8,
            kernel: "1x1".into(),
            stride: "1x1".into(),
            output: "3x3".into(),
            density: Some(0.5),
            chosen: sparse.then(|| "pointwise".into()),
            reason: (!sparse).then(|| "dense".into()),
            stock_ms: Some(1.0),
            sparse_ms: Some(0.5),
            measured_stock_ms: Some(stock_ms),
            measured_sparse_ms: Some(sparse_ms),
            ..LayerReport::default()
        }
    }

    #[test]
    fn layers_on_the_slower_operator_are_named() {
        let right = [layer("a", true, 1.0, 0.5), layer("b", false, 0.5, 1.0), layer("c", true, 1.0, 1.05)];
        assert_eq!(mispredicted(&right), "");
        let wrong = [layer("slow", true, 0.054, 0.087), layer("fast", false, 1.0, 0.5)];
        let text = mispredicted(&[&right[..], &wrong[..]].concat());
        assert!(text.contains("slower so than on stock tract: slow\n"), "{text}");
        assert!(text.contains("faster on our kernel: fast\n") && text.contains("--sparse measure"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
