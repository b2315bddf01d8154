//! `inspect`: the report, layer by layer, and what would help.

use crate::args::{Inspect, Options, Pass};
use crate::html;
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::{Table, ms, wrap};
use anyhow::Result;
use figures::Progress;
use prune::{Document, Plan, Recipe, Role};
use rewriter::advice::Action;
use rewriter::{Advice, advise, maps};
use std::sync::Arc;
use tract_onnx::pb::ModelProto;
use tract_sparse::{LayerReport, Mode, Policy, Report};

/// Layers that an advice names.
const NAMED: usize = 5;

/// How much slower a layer has to be measured before its prediction is called wrong: times of single runs scatter.
const DOUBT: f64 = 1.1;

/// Prints the report of a model.
pub(crate) fn run(source: &Source, args: &Inspect, options: &Options) -> Result<()> {
    let model = source.load(Flavour::Sparse, options, Pass::BeforeOptimize)?;
    let policy = Policy::from_knobs()?;
    let report = report(source, &model, args.measure)?;
    let prunable = Prunable::of(source);
    let advice = advise(&model, &policy, &|action, name| prunable.can(action, name))?;
    let mut value = serde_json::to_value(&report)?;
    value["model"] = source.to_string().into();
    value["layers_sparse"] = report.sparse_layers().into();
    value["advice"] = serde_json::to_value(&advice)?;
    if let Some(file) = &args.html {
        let mut maps = maps(&model)?;
        maps.resize(report.layers.len(), None);
        let page = html::page(&value, &report, policy.mode == Mode::Measure, &maps)?;
        out::file(file, page.as_bytes())?;
    }
    if options.json {
        return out::json(&value);
    }
    let mut text = report.text(Some(&source.to_string()), options.verbose > 0);
    if args.measure {
        text += &measured(&report);
    }
    text += &help(&advice, &report);
    out::print(&text)
}

/// Which layers `prune` can do what to: names of layers of the ONNX file.
struct Prunable {
    blocks: Vec<String>,
    three_of_nine: Vec<String>,
    five_of_nine: Vec<String>,
}

impl Prunable {
    /// Of other files than ONNX none.
    fn of(source: &Source) -> Prunable {
        let document = match source {
            Source::File(path) => Document::open(path).map(|d| Arc::new(d.model)).ok(),
            Source::BuiltIn(_, model) => Some(model.clone()),
        };
        let planned = |structures: &str, roles: &[Role]| -> Vec<String> {
            let plan = document.as_ref().and_then(|document| {
                let mut model = ModelProto::clone(document);
                prune::densify(&mut model).ok()?;
                Plan::without_ratios(&model, &structures.parse::<Recipe>().ok()?).ok()
            });
            let of_role = |p: &&prune::Planned| roles.contains(&p.layer.role);
            plan.iter().flat_map(Plan::planned).filter(of_role).map(|p| p.layer.name.clone()).collect()
        };
        Prunable {
            blocks: planned("", &[Role::Pointwise, Role::FullyConnected, Role::Recurrent]),
            three_of_nine: planned("dwconv3x3 = \"3:9\"", &[Role::Depthwise]),
            five_of_nine: planned("conv3x3 = \"5:9\"", &[Role::Conv3x3]),
        }
    }

    fn can(&self, action: Action, name: &str) -> bool {
        let names = match action {
            Action::Prune | Action::Regroup | Action::Deepen => &self.blocks,
            Action::Patterns3Of9 => &self.three_of_nine,
            Action::Patterns5Of9 => &self.five_of_nine,
            Action::Neighbours | Action::Unread => return true,
        };
        // a layer's node has its name, or begins with it; a recurrent node has two matrices
        let own = |layer: &String| {
            let base = layer.strip_suffix(".W").or(layer.strip_suffix(".R")).unwrap_or(layer);
            name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        names.iter().any(own)
    }
}

/// The report of a model, its layers timed one by one if asked.
pub(crate) fn report(
    source: &Source,
    model: &tract_core::prelude::TypedModel,
    measure: bool,
) -> Result<Report> {
    if !measure {
        return Report::of(model);
    }
    let progress = Progress::new();
    let mut said = |done: usize, all: usize| {
        progress.part(&format!("{source}: timing layers"), done as f64 / all.max(1) as f64);
    };
    Report::measured(model, &Policy::from_knobs()?, &mut said)
}

/// Measured times beside predicted ones.
fn measured(report: &Report) -> String {
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
fn help(advice: &[Advice], report: &Report) -> String {
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
