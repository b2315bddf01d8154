//! `whatif`: how fast a model would be if it were pruned. A copy in memory is pruned; nothing is written but pictures.

use crate::args::{Options, Pass, Whatif};
use crate::inspect::report;
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::{Table, ms, names, wrap};
use anyhow::{Context, Result, ensure};
use figures::Progress;
use figures::svg::{Chart, Line};
use prune::{Document, L1, Plan, Recipe};
use rewriter::{Mode, Policy};
use sparsity::{Setting, Structure, Zeros};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tract_sparse::{LayerReport, Report};

/// Structures of a sweep.
const SWEEP: [Structure; 3] = [Structure::BLOCKS_4X4, Structure::BLOCKS_4X1, Structure::UNSTRUCTURED];

/// Zeros of a sweep, in per cent.
const ZEROS: [u32; 12] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95];

/// Runs `whatif` with or without `--sweep`.
pub(crate) fn run(path: &Path, args: &Whatif, options: &Options) -> Result<()> {
    let sweeps = args.sweep || !args.zeros.any();
    ensure!(sweeps || args.svg.is_none(), "--svg is for --sweep");
    ensure!(!sweeps || !args.measure, "--measure is for zeros that are given, as in --conv1x1 4x4:0.5");
    let mut document = Document::open(path)?;
    prune::densify(&mut document.model).with_context(|| path.display().to_string())?;
    if sweeps { sweep(path, document, args, options) } else { once(path, document, args, options) }
}

/// What the arguments want of every layer; of the others of a sweep, `swept` blocks wherever there can be any.
fn plan(document: &Document, args: &Whatif, swept: Option<Zeros>) -> Result<Plan> {
    let recipe = match swept.map(Setting::from) {
        Some(swept) => Recipe {
            conv1x1: swept,
            fc: swept,
            conv3x3: swept,
            conv: swept,
            convtranspose: swept,
            recurrent: swept,
            ..Recipe::default()
        },
        None => Recipe::default(),
    };
    args.zeros.check_complete()?;
    Plan::new(&document.model, &args.zeros.recipe(recipe)?)
}

/// The report of a model in memory.
fn look(name: &str, document: &Document, options: &Options, measure: bool) -> Result<Report> {
    let source = Source::BuiltIn(name.into(), Arc::new(document.model.clone()));
    report(&source, &source.load(Flavour::Sparse, options, Pass::BeforeOptimize)?, measure)
}

/// A layer in both states. As it is and pruned, stock tract may write it as one node or as several.
struct Row {
    /// Its nodes in the pruned model, or where it has none there, in the model as it is.
    nodes: Vec<LayerReport>,
    stock_ms: Option<f64>,
    now_ms: Option<f64>,
    then_ms: Option<f64>,
}

/// The sum of times, if all are known.
fn sum(nodes: &[LayerReport], ms: fn(&LayerReport) -> Option<f64>) -> Option<f64> {
    nodes.iter().map(ms).try_fold(0.0, |sum, ms| Some(sum + ms?)).filter(|_| !nodes.is_empty())
}

/// The layers of both reports by name, in the order of the second.
fn rows(now: &Report, then: &Report) -> Vec<Row> {
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
    fn node(&self) -> &LayerReport {
        &self.nodes[0]
    }

    /// Times on stock tract, as it is, and pruned; none unless all three are known.
    fn times(&self) -> Option<[f64; 3]> {
        Some([self.stock_ms?, self.now_ms?, self.then_ms?])
    }

    fn gain(&self) -> Option<f64> {
        self.times().map(|[stock, _, then]| stock / then)
    }
}

fn once(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<()> {
    let name = path.display().to_string();
    let plan = plan(&document, args, None)?;
    let now = look(&name, &document, options, args.measure)?;
    let mut pruned = document.clone();
    let zeros = plan.apply(&mut pruned.model, &L1)?;
    let then = look(&name, &pruned, options, args.measure)?;
    let rows = rows(&now, &then);
    let [stock_ms, now_ms, then_ms] = rows
        .iter()
        .filter_map(Row::times)
        .fold([0.0; 3], |sum, times| [0, 1, 2].map(|at| sum[at] + times[at]));
    ensure!(then_ms > 0.0, "{name}: no layer has a predicted time; give symbols a value with --set");
    let unpriced: Vec<&str> =
        rows.iter().filter(|row| row.times().is_none()).map(|row| row.node().layer()).collect();
    if options.json {
        let layers: Vec<_> = rows
            .iter()
            .map(|row| {
                let node = row.node();
                serde_json::json!({
                    "name": node.layer(),
                    "shape": node.shape(),
                    "structure": node.structure,
                    "zeros": node.zeros,
                    "density": node.density,
                    "stock_ms": row.stock_ms,
                    "now_ms": row.now_ms,
                    "then_ms": row.then_ms,
                    "chosen": node.chosen,
                    "reason": node.reason,
                })
            })
            .collect();
        return out::json(&serde_json::json!({
            "model": name,
            "target": then.target,
            "measured": args.measure,
            "layers": layers,
            "layers_sparse": then.sparse_layers(),
            "unpriced": unpriced,
            "stock_ms": stock_ms,
            "now_ms": now_ms,
            "then_ms": then_ms,
            "gain": stock_ms / then_ms,
        }));
    }
    let mut table =
        Table::new(&["layer", "<shape", "<zeros", "dens", "stock", "now", "then", "gain", "<runs"]);
    let time = |v: Option<f64>| v.map_or_else(String::new, ms);
    for row in &rows {
        let node = row.node();
        table.row(vec![
            node.layer().to_string(),
            node.short_shape(),
            node.short_zeros(),
            node.density.map_or_else(String::new, |d| format!("{d:.2}")),
            time(row.stock_ms),
            time(row.now_ms),
            time(row.then_ms),
            row.gain().map_or_else(String::new, |gain| format!("{gain:.2}")),
            if node.chosen.is_some() { "here" } else { "stock" }.into(),
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
    if !unpriced.is_empty() {
        text +=
            &wrap(&format!("no predicted time, not counted: {}", names(&unpriced, options.verbose > 0)), 4);
    }
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

/// Whether a layer of a report is, or is a part of, the layer that `prune` calls `planned`: recurrent layers have two matrices.
fn is_part(layer: &str, planned: &str) -> bool {
    let whole = planned.strip_suffix(".W").or_else(|| planned.strip_suffix(".R")).unwrap_or(planned);
    layer.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Predicted milliseconds of all layers if every one runs on the faster operator, whatever its zeros.
fn dense_ms(name: &str, document: &Document, options: &Options, policy: &Policy) -> Result<f64> {
    let source = Source::BuiltIn(name.into(), Arc::new(document.model.clone()));
    let policy = Policy { mode: Mode::Dense, ..*policy };
    let mut model = source.load(Flavour::Stock, options, Pass::Declutter)?;
    tract_sparse::sparsify(&mut model, &policy)?;
    Ok(Report::with_policy(&model, &policy)?.layers.iter().filter_map(LayerReport::ms).sum())
}

fn sweep(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<()> {
    let name = path.display().to_string();
    let progress = Progress::new();
    progress.say("reading");
    let policy = Policy::from_knobs()?;
    let now = look(&name, &document, options, false)?;
    let dense_ms = dense_ms(&name, &document, options, &policy)?;
    let (mut curves, mut stock_ms, mut stock_pruned_ms, mut pruned) = (vec![], 0.0, 0.0, 0);
    for structure in SWEEP {
        let mut points = vec![];
        for percent in ZEROS {
            let done = points.len() + curves.len() * ZEROS.len();
            let all = SWEEP.len() * ZEROS.len();
            progress.part(&format!("{structure} {percent} %"), done as f64 / all as f64);
            let zeros = f64::from(percent) / 100.0;
            let swept = Zeros::new(structure, zeros)?;
            let plan = plan(&document, args, Some(swept)).with_context(|| name.clone())?;
            let mut copy = document.clone();
            plan.apply(&mut copy.model, &L1)?;
            let rows = rows(&now, &look(&name, &copy, options, false)?);
            let planned: Vec<&str> = plan.planned().map(|planned| &*planned.layer.name).collect();
            let is_pruned = |row: &&Row| planned.iter().any(|name| is_part(row.node().layer(), name));
            let sum = |of: &mut dyn Iterator<Item = &Row>| {
                let times = of.filter_map(Row::times);
                times.fold([0.0; 2], |[stock, then], times| [stock + times[0], then + times[2]])
            };
            let [stock, ms] = sum(&mut rows.iter());
            let [stock_pruned, pruned_ms] = sum(&mut rows.iter().filter(is_pruned));
            (stock_ms, stock_pruned_ms) = (stock, stock_pruned);
            pruned = rows.iter().filter(is_pruned).count();
            points.push(Point { zeros, pruned_ms, ms, gain: stock / ms });
        }
        let break_even = break_even(&points, stock_pruned_ms);
        curves.push(Curve { structure: structure.to_string(), points, break_even });
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
            title: format!("{}: speed against zeros", file_name(path)),
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
            "layers": now.layers.len(),
            "layers_pruned": pruned,
            "stock_ms": stock_ms,
            "stock_pruned_ms": stock_pruned_ms,
            "dense_ms": dense_ms,
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
            "{name}: {} layers, {pruned} of them pruned, predicted for {target}; gain over stock tract, {} ms. Without \
             a zero, all layers that are faster on kernels of ours (--sparse dense) take {} ms with the rest, {:.2} \
             times as fast as stock: what a gain is beyond that comes from zeros.",
            now.layers.len(),
            ms(stock_ms),
            ms(dense_ms),
            stock_ms / dense_ms
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

    #[test]
    fn parts_are_told_by_their_names() {
        assert!(is_part("conv", "conv") && is_part("gru", "gru.R") && is_part("gru.xw", "gru.W"));
        assert!(!is_part("conv2", "conv") && !is_part("conv", "conv2"));
    }
}
