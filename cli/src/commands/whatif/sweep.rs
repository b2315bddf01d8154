//! `whatif --sweep`: speed against zeros, structure by structure.

use super::rows::{Row, rows};
use super::{Whatif, look, plan, then, unpriced};
use crate::files;
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::table::{Table, ms, wrap};
use anyhow::{Context, Result, ensure};
use figures::Progress;
use figures::svg::{Chart, Line};
use prune::{Document, L1};
use rewriter::{Mode, Policy};
use serde_json::{Value, json};
use sparsity::{Structure, Zeros};
use std::path::Path;
use std::sync::Arc;
use tract_sparse::{LayerReport, Report};

/// Structures of a sweep: the finest blocks that fill the instructions of the type that layers run in, with which networks
/// trained here kept most answers for their time at 80 % zeros (experiments/README.md, table W), the fastest
/// blocks, and single weights.
fn structures(policy: &Policy) -> [Structure; 3] {
    let fine = match policy.half() {
        _ if policy.if_quantised => Structure::BLOCKS_2X4,
        Some(_) => Structure::BLOCKS_2X2,
        None => Structure::BLOCKS_2X1,
    };
    [fine, Structure::BLOCKS_4X4, Structure::UNSTRUCTURED]
}

/// Zeros of a sweep, in per cent.
const ZEROS: [u32; 12] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95];

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
    /// Share of zeros of the first point at which the pruned layers are faster than on stock tract; null if
    /// none of the curve is.
    break_even: Option<f64>,
}

/// The first point at which the pruned layers are faster than on stock tract. Nothing lies between points: a
/// layer changes over to our kernels at once, and its dense neighbours with it.
fn break_even(points: &[Point], stock_ms: f64) -> Option<f64> {
    points.iter().find(|point| point.pruned_ms < stock_ms).map(|point| point.zeros)
}

/// Whether a layer of a report is, or is a part of, the layer that `prune` calls `planned`: recurrent layers
/// have two matrices.
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

/// The curves of a model, and what they are set against.
struct Found {
    name: String,
    policy: Policy,
    curves: Vec<Curve>,
    /// Layers of the model, and of those the ones that are pruned.
    layers: usize,
    pruned: usize,
    /// All layers on stock tract, and those of them that are pruned.
    stock_ms: f64,
    stock_pruned_ms: f64,
    /// All layers without a zero, each on the faster operator.
    dense_ms: f64,
}

/// Prunes copies of a model, prints how fast they would be, and draws it where that is wanted.
pub(super) fn run(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<()> {
    let found = sweep(path, document, args, options)?;
    if let Some(file) = &args.svg {
        files::write(file, found.chart(path).svg().as_bytes())?;
    }
    match options.json {
        true => out::json(&found.value()),
        false => out::print(&found.text()),
    }
}

fn sweep(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<Found> {
    let name = path.display().to_string();
    let progress = Progress::new();
    progress.say("reading");
    let policy = Policy { if_quantised: args.int8, ..Policy::from_knobs()? };
    let now = look(&name, &document, options, false)?;
    let dense_ms = dense_ms(&name, &document, options, &policy)?;
    let (mut curves, mut stock_ms, mut stock_pruned_ms, mut pruned) = (vec![], 0.0, 0.0, 0);
    let structures = structures(&policy);
    for structure in structures {
        let mut points = vec![];
        for percent in ZEROS {
            let done = points.len() + curves.len() * ZEROS.len();
            let all = structures.len() * ZEROS.len();
            progress.part(&format!("{structure} {percent} %"), done as f64 / all as f64);
            let zeros = f64::from(percent) / 100.0;
            let swept = Zeros::new(structure, zeros)?;
            let plan = plan(&document, args, Some(swept)).with_context(|| name.clone())?;
            let mut copy = document.clone();
            plan.apply(&mut copy.model, &L1)?;
            let rows = rows(&now, &then(&name, &copy, args, options)?);
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
    ensure!(stock_ms > 0.0, "{name}: {}", unpriced(&now));
    let layers = now.layers.len();
    Ok(Found { name, policy, curves, layers, pruned, stock_ms, stock_pruned_ms, dense_ms })
}

impl Found {
    /// Speed against zeros, a line for every structure.
    fn chart(&self, path: &Path) -> Chart {
        let lines = self.curves.iter().map(|curve| Line {
            name: curve.structure.clone(),
            points: curve.points.iter().map(|p| (100.0 * p.zeros, p.gain)).collect(),
        });
        let (target, stock) = (self.policy.target, ms(self.stock_ms));
        let int8 = if self.policy.if_quantised { " in int8" } else { "" };
        Chart {
            title: format!("{}: speed against zeros", file_name(path)),
            note: format!("All layers{int8}, predicted for {target}; 1 is stock tract ({stock} ms)"),
            x: "zeros, %".into(),
            y: "times as fast as stock".into(),
            lines: lines.collect(),
        }
    }

    /// What `--json` prints.
    fn value(&self) -> Value {
        json!({
            "model": self.name,
            "target": self.policy.target.name(),
            "int8": self.policy.if_quantised,
            "layers": self.layers,
            "layers_pruned": self.pruned,
            "stock_ms": self.stock_ms,
            "stock_pruned_ms": self.stock_pruned_ms,
            "dense_ms": self.dense_ms,
            "curves": self.curves,
        })
    }

    /// The table and what it means.
    fn text(&self) -> String {
        let Found { name, pruned, layers, stock_ms, dense_ms, .. } = self;
        let titles = self.curves.iter().flat_map(|curve| [format!("{} ms", curve.structure), "gain".into()]);
        let titles: Vec<String> = std::iter::once("zeros".into()).chain(titles).collect();
        let mut table = Table::new(&titles);
        for (at, percent) in ZEROS.iter().enumerate() {
            let mut row = vec![format!("{percent} %")];
            for curve in &self.curves {
                row.extend([ms(curve.points[at].ms), format!("{:.2}", curve.points[at].gain)]);
            }
            table.row(row);
        }
        let mut text = table.text();
        text.push('\n');
        text += &wrap(
            &format!(
                "{name}: {layers} layers, {pruned} of them pruned{}, predicted for {}; gain over stock tract, {} ms. \
                 Without a zero, all layers that are faster on kernels of ours (--sparse dense) take {} ms with \
                 the rest, {:.2} times as fast as stock: what a gain is beyond that comes from zeros.",
                if self.policy.if_quantised { ", all quantised" } else { "" },
                self.policy.target,
                ms(*stock_ms),
                ms(*dense_ms),
                stock_ms / dense_ms
            ),
            0,
        );
        for curve in &self.curves {
            let even = match curve.break_even {
                Some(0.0) => "at any number of zeros".into(),
                Some(zeros) => format!("from {:.0} % zeros", 100.0 * zeros),
                None => "never".to_string(),
            };
            text += &format!("break-even of the pruned layers, {}: {even}\n", curve.structure);
        }
        let fine = &self.curves[0].structure;
        // 2x4 loses a little more than such
        let narrower = match self.policy.if_quantised {
            true => "",
            false => ", and than narrower networks with as many multiply-adds",
        };
        text += &wrap(
            &format!(
                "Networks that were trained with 80 % of {fine} zero kept more answers than with as many 4x4 blocks\
                 {narrower} (docs/training.md)."
            ),
            0,
        );
        text
    }
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
