//! The report in tables and words.

use crate::layers::{short, zeros_of};
use crate::load::Source;
use crate::table::{Table, names, wrap};
use figures::ms;
use rewriter::Advice;
use tract_sparse::{LayerReport, Report};

/// Layers that an advice names.
const NAMED: usize = 5;

/// How much slower a layer has to be measured before its prediction is called wrong: times of single runs scatter.
const DOUBT: f64 = 1.1;

/// The table and what it means; `all` names are written out or a few of each list.
pub(super) fn layers(source: &Source, report: &Report, times: &str, all: bool) -> String {
    let mut table =
        Table::new(&["layer", "<shape", "dens", "<zeros", "fill", "even", "stock", "ours", "%", "<runs"]);
    for layer in &report.layers {
        table.row(row(layer));
    }
    let mut text = table.text();
    text.push('\n');
    text += &wrap(
        &format!(
            "{source}: {} of {} layers run sparse on {}. dens: share of nonzero weights; zeros: as \
             prune takes them (1x1: single weights); fill: the same among \
             those that are stored; even: stored share below which the layer runs sparse; stock, ours: {times}; \
             %: share of the time of all layers. Cost table: {}.",
            report.sparse_layers(),
            report.layers.len(),
            report.target,
            report.costs
        ),
        0,
    );
    for (what, layers) in grouped(&report.layers) {
        text += &wrap(&format!("{what}: {}", names(&layers, all)), 4);
    }
    let dead: Vec<String> = report.layers.iter().filter_map(dead).collect();
    if !dead.is_empty() {
        text += &wrap(&format!("channels without a weight: {}", names(&dead, all)), 4);
    }
    text
}

/// The channels of a layer that have no weight, in words.
fn dead(layer: &LayerReport) -> Option<String> {
    let (oc, ic) = (layer.dead_oc.unwrap_or(0), layer.dead_ic.unwrap_or(0));
    (oc + ic > 0).then(|| format!("{} {oc} out {ic} in", layer.name))
}

fn row(layer: &LayerReport) -> Vec<String> {
    let share = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.2}"));
    let time = |v: Option<f64>| v.map_or_else(String::new, ms);
    vec![
        layer.name.clone(),
        short(layer),
        share(layer.density),
        zeros_of(layer),
        share(layer.fill),
        share(layer.break_even),
        time(layer.stock_ms),
        time(layer.sparse_ms),
        layer.share.map_or_else(String::new, |share| format!("{:.0}", 100.0 * share)),
        if layer.chosen.is_some() { "here" } else { "stock" }.into(),
    ]
}

/// Layers by the kernel that runs them, then by the reason why none does, in order of appearance.
fn grouped(layers: &[LayerReport]) -> Vec<(String, Vec<&str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = vec![];
    let sparse =
        layers.iter().filter_map(|layer| Some((layer, format!("kernel {}", layer.chosen.as_ref()?))));
    let stock = layers
        .iter()
        .filter(|layer| layer.chosen.is_none())
        .map(|layer| (layer, format!("stock, {}", layer.reason.as_deref().unwrap_or("no reason given"))));
    for (layer, what) in sparse.chain(stock) {
        match groups.iter_mut().find(|(known, _)| *known == what) {
            Some((_, names)) => names.push(&layer.name),
            None => groups.push((what, vec![&layer.name])),
        }
    }
    groups
}

/// Measured times beside predicted ones.
pub(super) fn measured(report: &Report) -> String {
    let mut table =
        Table::new(&["layer", "stock: predicted", "measured", "ours: predicted", "measured", "gain"]);
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

    /// A layer with predicted times of 1 and 0.5 ms and these measured ones, on our kernel or on the stock operator.
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
            structure: None,
            zeros: None,
            format: None,
            fill: None,
            dead_oc: None,
            dead_ic: None,
            break_even: None,
            chosen: sparse.then(|| "pointwise".into()),
            reason: (!sparse).then(|| "dense".into()),
            stock_ms: Some(1.0),
            sparse_ms: Some(0.5),
            measured_stock_ms: Some(stock_ms),
            measured_sparse_ms: Some(sparse_ms),
            share: None,
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
