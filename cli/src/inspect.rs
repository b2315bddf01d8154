//! `inspect`: the report, layer by layer.

use crate::args::{Options, Pass};
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::{Table, ms, wrap};
use anyhow::Result;
use tract_sparse::{LayerReport, Mode, Policy, Report};

/// Prints the report of a model.
pub(crate) fn run(source: &Source, options: &Options) -> Result<()> {
    let model = source.load(Flavour::Sparse, options, Pass::BeforeOptimize)?;
    let report = Report::of(&model)?;
    if options.json {
        let mut value = serde_json::to_value(&report)?;
        value["model"] = source.to_string().into();
        value["layers_sparse"] = report.sparse_layers().into();
        return out::json(&value);
    }
    let times = match Policy::from_knobs()?.mode {
        Mode::Measure => "measured ms",
        _ => "predicted ms",
    };
    out::print(&text(source, &report, times))
}

fn text(source: &Source, report: &Report, times: &str) -> String {
    let mut table =
        Table::new(&["layer", "<shape", "<output", "dens.", "<format", "fill", "stock", "sparse", "<runs"]);
    for layer in &report.layers {
        table.row(row(layer));
    }
    let mut text = table.text();
    text.push('\n');
    text += &wrap(
        &format!(
            "{source}: {} of {} layers run sparse on {}. stock, sparse: {times}; dens.: share of nonzero \
             weights; fill: the same among those that the format stores.",
            report.sparse_layers(),
            report.layers.len(),
            report.target
        ),
        0,
    );
    for (what, names) in grouped(&report.layers) {
        text += &wrap(&format!("{what}: {}", names.join(", ")), 4);
    }
    text
}

fn row(layer: &LayerReport) -> Vec<String> {
    let share = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.2}"));
    let time = |v: Option<f64>| v.map_or_else(String::new, ms);
    let mut shape = format!("{}>{}", layer.ic, layer.oc);
    if !layer.kernel.is_empty() {
        shape = format!("{} {shape}", layer.kernel);
    }
    if layer.stride.split('x').any(|step| step != "1" && !step.is_empty()) {
        shape += &format!(" /{}", layer.stride.split('x').next().unwrap_or_default());
    }
    vec![
        layer.name.clone(),
        shape,
        layer.output.clone(),
        share(layer.density),
        layer.format.as_deref().unwrap_or_default().replace("unstructured", "unstr."),
        share(layer.fill),
        time(layer.stock_ms),
        time(layer.sparse_ms),
        if layer.chosen.is_some() { "sparse" } else { "stock" }.into(),
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
