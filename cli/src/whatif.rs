//! `whatif`: how fast a model would be if it were pruned. A copy in memory is pruned; nothing is written but pictures.

use crate::args::{Options, Pass, Whatif};
use crate::inspect::{report, short};
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::{Table, wrap};
use anyhow::{Context, Result, ensure};
use figures::svg::{Chart, Line};
use figures::{Progress, ms};
use prune::mask::Structure;
use prune::{Document, L1, Plan, Recipe, Role, Setting};
use rewriter::analyse::{Seen, see};
use rewriter::estimate::{Prediction, predict};
use rewriter::{Layer, Policy};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tract_sparse::Report;

/// Structures of a sweep.
const SWEEP: [(usize, usize); 3] = [(4, 4), (4, 1), (1, 1)];

/// Zeros of a sweep, in per cent.
const ZEROS: [u32; 12] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95];

/// Runs `whatif` with or without `--sweep`.
pub(crate) fn run(path: &Path, args: &Whatif, options: &Options) -> Result<()> {
    ensure!(args.sweep || args.svg.is_none(), "--svg is for --sweep");
    let mut document = Document::open(path)?;
    prune::densify(&mut document.model).with_context(|| path.display().to_string())?;
    if args.sweep { sweep(path, document, args, options) } else { once(path, document, args, options) }
}

/// What the arguments want of every layer; `conv1x1` in their place if it is given.
fn plan(document: &Document, args: &Whatif, conv1x1: Option<zoo::Pointwise>) -> Result<Plan> {
    let blocks = |spec: Option<zoo::Pointwise>| {
        Setting(spec.map(|spec| Structure::Blocks { r: spec.r(), c: spec.c() }))
    };
    let conv1x1 = conv1x1.or(args.zeros.conv1x1);
    let recipe = Recipe {
        conv1x1: blocks(conv1x1),
        fc: blocks(args.zeros.fc),
        dwconv3x3: Setting(args.zeros.dwconv3x3.map(|_| Structure::ThreeOfNine { full_ones: 0.0 })),
        conv3x3: Setting(args.zeros.conv3x3.map(|_| Structure::FiveOfNine { share: 4 })),
        connectivity: args.zeros.conv3x3.map_or(0.0, |spec| spec.connectivity()),
        ..Recipe::default()
    };
    let mut plan = Plan::new(&document.model, &recipe)?;
    for planned in plan.layers.iter_mut().flatten() {
        match planned.layer.role {
            Role::Pointwise => planned.wish.ratio = conv1x1.map_or(0.0, |spec| spec.ratio()),
            Role::FullyConnected => planned.wish.ratio = args.zeros.fc.map_or(0.0, |spec| spec.ratio()),
            _ => {}
        }
    }
    Ok(plan)
}

/// The report of a model in memory.
fn look(name: &str, document: &Document, options: &Options, measure: bool) -> Result<Report> {
    let source = Source::BuiltIn(name.into(), Arc::new(document.model.clone()));
    report(&source, &source.load(Flavour::Sparse, options, Pass::BeforeOptimize)?, measure)
}

fn once(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<()> {
    let any = args.zeros.conv1x1.is_some()
        || args.zeros.fc.is_some()
        || args.zeros.dwconv3x3.is_some()
        || args.zeros.conv3x3.is_some();
    ensure!(any, "whatif: nothing to prune; give --conv1x1, --dwconv3x3, --conv3x3, --fc or --sweep");
    let name = path.display().to_string();
    let plan = plan(&document, args, None)?;
    let now = look(&name, &document, options, args.measure)?;
    let mut pruned = document.clone();
    let zeros = plan.apply(&mut pruned.model, &L1)?;
    let then = look(&name, &pruned, options, args.measure)?;
    ensure!(now.layers.len() == then.layers.len(), "{name}: pruning has changed the graph");
    let ((stock_ms, now_ms), (_, then_ms)) = (now.total_ms(), then.total_ms());
    if options.json {
        let layers: Vec<_> = now
            .layers
            .iter()
            .zip(&then.layers)
            .map(|(now, then)| {
                serde_json::json!({
                    "name": now.name,
                    "shape": now.shape(),
                    "structure": then.structure,
                    "density": then.density,
                    "stock_ms": then.dense_ms(),
                    "now_ms": now.ms(),
                    "then_ms": then.ms(),
                    "chosen": then.chosen,
                    "reason": then.reason,
                })
            })
            .collect();
        return out::json(&serde_json::json!({
            "model": name,
            "target": then.target,
            "measured": args.measure,
            "layers": layers,
            "layers_sparse": then.sparse_layers(),
            "stock_ms": stock_ms,
            "now_ms": now_ms,
            "then_ms": then_ms,
            "gain": stock_ms / then_ms,
        }));
    }
    let mut table =
        Table::new(&["layer", "<shape", "<zeros", "dens", "stock", "now", "then", "gain", "<runs"]);
    let time = |v: Option<f64>| v.map_or_else(String::new, ms);
    for (now, then) in now.layers.iter().zip(&then.layers) {
        let gain = then.dense_ms().zip(then.ms()).map(|(stock, then)| stock / then);
        table.row(vec![
            then.name.clone(),
            short(then),
            then.structure.as_deref().unwrap_or("?").replace("unstructured", "unstr."),
            then.density.map_or_else(String::new, |d| format!("{d:.2}")),
            time(then.dense_ms()),
            time(now.ms()),
            time(then.ms()),
            gain.map_or_else(String::new, |gain| format!("{gain:.2}")),
            if then.chosen.is_some() { "here" } else { "stock" }.into(),
        ]);
    }
    let how = if args.measure { "measured" } else { "predicted" };
    let mut text = table.text();
    text.push('\n');
    text += &wrap(
        &format!(
            "{name}: all layers {how}: stock {} ms, now {} ms, pruned so {} ms: {:.2} times as fast as stock, \
             {:.2} as now. {} of {} layers run sparse on {}; density of the pruned layers {:.2}.",
            ms(stock_ms),
            ms(now_ms),
            ms(then_ms),
            stock_ms / then_ms,
            now_ms / then_ms,
            then.sparse_layers(),
            then.layers.len(),
            then.target,
            zeros.density
        ),
        0,
    );
    out::print(&text)
}

/// One point of a curve.
#[derive(Debug, Clone, Copy, serde::Serialize)]
struct Point {
    /// Share of the groups that is zero.
    zeros: f64,
    /// Predicted milliseconds of the pruned layers.
    pruned_ms: f64,
    /// Predicted milliseconds of all layers.
    ms: f64,
    /// All layers on stock tract, over `ms`.
    gain: f64,
}

/// Speed against sparsity in one structure.
#[derive(Debug, serde::Serialize)]
struct Curve {
    structure: String,
    points: Vec<Point>,
    /// Share of zeros of the first point at which the pruned layers are faster than on stock tract; null if none of the curve is.
    break_even: Option<f64>,
}

/// The first point at which the pruned layers are faster than on stock tract. Nothing lies between points: a layer changes
/// over to our kernels at once, and its dense neighbours with it.
fn break_even(points: &[Point], stock_ms: f64) -> Option<f64> {
    points.iter().find(|point| point.pruned_ms < stock_ms).map(|point| point.zeros)
}

fn sweep(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<()> {
    let name = path.display().to_string();
    let policy = Policy::from_knobs()?;
    let source = Source::BuiltIn(name.clone(), Arc::new(document.model.clone()));
    let stock = source.load(Flavour::Stock, options, Pass::Type)?;
    let (mut names, mut layers) = (vec![], vec![]);
    for node in stock.nodes() {
        if let Some(Seen::Layer(layer)) = see(&stock, node)? {
            names.push(node.name.clone());
            layers.push(layer);
        }
    }
    // a layer's node has its name, or the name with what tract made of it behind a dot
    let find = |name: &str| {
        let prefix = format!("{name}.");
        names.iter().position(|n| n == name).or_else(|| names.iter().position(|n| n.starts_with(&prefix)))
    };
    let progress = Progress::new();
    let (mut curves, mut stock_ms, mut stock_pruned_ms, mut pruned) = (vec![], 0.0, 0.0, 0);
    for (r, c) in SWEEP {
        let mut points = vec![];
        let structure = Structure::Blocks { r, c }.to_string();
        for percent in ZEROS {
            let done = points.len() + curves.len() * ZEROS.len();
            let all = SWEEP.len() * ZEROS.len();
            progress.part(&format!("{structure} {percent} %"), done as f64 / all as f64);
            let zeros = f64::from(percent) / 100.0;
            let plan = plan(&document, args, Some(zoo::Pointwise::new(r, c, zeros)?))?;
            let mut copy = document.model.clone();
            plan.apply(&mut copy, &L1)?;
            let graph = copy.graph.as_ref().context("the model has no graph")?;
            let mut replaced: HashMap<usize, Layer> = HashMap::new();
            for planned in plan.planned() {
                let Some(at) = find(&planned.layer.name) else { continue };
                replaced.insert(at, layers[at].with_weights(&planned.layer.weights(graph)?)?);
            }
            let then: Vec<Layer> = layers
                .iter()
                .enumerate()
                .map(|(at, l)| replaced.remove(&at).unwrap_or_else(|| l.clone()))
                .collect();
            let planned: Vec<usize> = plan.planned().filter_map(|p| find(&p.layer.name)).collect();
            let predictions = predict(&then, &policy)?;
            let sum = |ms: &dyn Fn(&Prediction) -> f64, of: &dyn Fn(usize) -> bool| -> f64 {
                let all = predictions.iter().enumerate().filter(|(at, _)| of(*at));
                all.filter_map(|(_, p)| p.as_ref()).map(ms).sum::<f64>() / 1e6
            };
            let is_planned = |at: usize| planned.contains(&at);
            stock_ms = sum(&|p| p.stock_ns, &|_| true);
            stock_pruned_ms = sum(&|p| p.stock_ns, &is_planned);
            pruned = planned.len();
            let ms = sum(&|p| p.ns, &|_| true);
            points.push(Point { zeros, pruned_ms: sum(&|p| p.ns, &is_planned), ms, gain: stock_ms / ms });
        }
        let break_even = break_even(&points, stock_pruned_ms);
        curves.push(Curve { structure, points, break_even });
    }
    drop(progress);
    ensure!(stock_ms > 0.0, "{name}: no layer has a predicted time; give symbols a value with --set");
    let target = policy.target;
    if let Some(file) = &args.svg {
        let lines = curves.iter().map(|curve| Line {
            name: curve.structure.clone(),
            points: curve.points.iter().map(|p| (100.0 * p.zeros, p.gain)).collect(),
        });
        let chart = Chart {
            title: format!("{}: speed against zeros in 1x1 layers", file_name(path)),
            note: format!("All layers, predicted for {target}; 1 is stock tract ({} ms)", ms(stock_ms)),
            x: "zeros, %".into(),
            y: "times as fast as stock".into(),
            lines: lines.collect(),
        };
        out::file(file, chart.svg().as_bytes())?;
    }
    if options.json {
        return out::json(&serde_json::json!({
            "model": name,
            "target": target.name(),
            "layers": layers.len(),
            "layers_pruned": pruned,
            "stock_ms": stock_ms,
            "stock_pruned_ms": stock_pruned_ms,
            "curves": curves,
        }));
    }
    let mut table = Table::new(&["zeros", "4x4 ms", "gain", "4x1 ms", "gain", "unstructured ms", "gain"]);
    for (at, percent) in ZEROS.iter().enumerate() {
        let mut row = vec![format!("{percent} %")];
        for curve in &curves {
            row.extend([ms(curve.points[at].ms), format!("{:.2}", curve.points[at].gain)]);
        }
        table.row(row);
    }
    let mut text = table.text();
    text.push('\n');
    text += &wrap(
        &format!(
            "{name}: {} layers, {pruned} of them pruned, predicted for {target}; gain over stock tract, {} ms.",
            layers.len(),
            ms(stock_ms)
        ),
        0,
    );
    for curve in &curves {
        let even = match curve.break_even {
            Some(0.0) => "at any number of zeros".into(),
            Some(zeros) => format!("from {:.0} % zeros", 100.0 * zeros),
            None => "never".to_string(),
        };
        text += &format!("break-even of the pruned layers, {}: {even}\n", curve.structure);
    }
    out::print(&text)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_faster_point_breaks_even() {
        let point = |zeros, pruned_ms| Point { zeros, pruned_ms, ms: 0.0, gain: 0.0 };
        let points = [point(0.0, 10.0), point(0.5, 8.0), point(1.0, 4.0)];
        assert_eq!(break_even(&points, 10.0), Some(0.5));
        assert_eq!(break_even(&points, 11.0), Some(0.0));
        assert_eq!(break_even(&points, 4.0), None);
    }
}
