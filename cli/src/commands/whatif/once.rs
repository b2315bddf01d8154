//! `whatif` with zeros that are given.

use super::rows::{Row, rows};
use super::{Whatif, look, plan, then, unpriced};
use crate::layers::int8_words;
use crate::options::Options;
use crate::out;
use crate::table::{Table, ms, names, wrap};
use anyhow::{Result, ensure};
use prune::{Document, L1};
use serde_json::{Value, json};
use std::path::Path;
use tract_sparse::{Precision, Report};

/// The layers of a model as they are and pruned.
struct Found {
    name: String,
    rows: Vec<Row>,
    /// The report of the pruned model.
    then: Report,
    /// All layers on stock tract, as they are, and pruned.
    stock_ms: f64,
    now_ms: f64,
    then_ms: f64,
    /// Density of the layers that were pruned.
    density: f64,
    measured: bool,
    /// Whether the pruned model is quantised, too.
    int8: bool,
}

/// Prunes a copy once, and prints what that would bring.
pub(super) fn run(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<()> {
    let found = find(path, document, args, options)?;
    match options.json {
        true => out::json(&found.value()),
        false => out::print(&found.text(options.verbose > 0)),
    }
}

fn find(path: &Path, document: Document, args: &Whatif, options: &Options) -> Result<Found> {
    let name = path.display().to_string();
    let plan = plan(&document, args, None)?;
    let now = look(&name, &document, options, args.measure)?;
    let mut pruned = document.clone();
    let zeros = plan.apply(&mut pruned.model, &L1)?;
    let then = then(&name, &pruned, args, options)?;
    let rows = rows(&now, &then);
    let [stock_ms, now_ms, then_ms] = rows
        .iter()
        .filter_map(Row::times)
        .fold([0.0; 3], |sum, times| [0, 1, 2].map(|at| sum[at] + times[at]));
    ensure!(then_ms > 0.0, "{name}: {}", unpriced(&now));
    let (density, measured, int8) = (zeros.density, args.measure, args.int8);
    Ok(Found { name, rows, then, stock_ms, now_ms, then_ms, density, measured, int8 })
}

impl Found {
    /// Layers that no time is known of.
    fn unpriced(&self) -> Vec<&str> {
        self.rows.iter().filter(|row| row.times().is_none()).map(|row| row.node().layer()).collect()
    }

    /// What `--json` prints.
    fn value(&self) -> Value {
        json!({
            "model": self.name,
            "target": self.then.target,
            "measured": self.measured,
            "layers": self.rows.iter().map(layer).collect::<Vec<_>>(),
            "precision": self.then.precision,
            "layers_sparse": self.then.sparse_layers(),
            "layers_half": self.then.half_layers(),
            "int8": self.int8,
            "layers_int8": self.then.int8_layers(),
            "unpriced": self.unpriced(),
            "stock_ms": self.stock_ms,
            "now_ms": self.now_ms,
            "then_ms": self.then_ms,
            "gain": self.stock_ms / self.then_ms,
        })
    }

    /// The table and what it means.
    fn text(&self, all: bool) -> String {
        let Found { name, then, stock_ms, now_ms, then_ms, .. } = self;
        let mut table =
            Table::new(&["layer", "<shape", "<zeros", "dens", "stock", "now", "then", "gain", "<runs"]);
        let time = |v: Option<f64>| v.map_or_else(String::new, ms);
        for row in &self.rows {
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
                node.runs().into(),
            ]);
        }
        let how = if self.measured { "measured" } else { "predicted" };
        let mut text = table.text();
        text.push('\n');
        text += &wrap(
            &format!(
                "{name}: all layers {how}: stock {} ms, now {} ms, pruned so{} {} ms: {:.2} times as fast as stock, \
                 {:.2} as now. {} of {} layers run sparse on {}{}; density of the pruned layers {:.2}.",
                ms(*stock_ms),
                ms(*now_ms),
                if self.int8 { " and quantised" } else { "" },
                ms(*then_ms),
                stock_ms / then_ms,
                now_ms / then_ms,
                then.sparse_layers(),
                then.layers.len(),
                then.target,
                in_half(then),
                self.density
            ),
            0,
        );
        if self.int8 {
            text += &int8_words(then, all);
        }
        let unpriced = self.unpriced();
        if !unpriced.is_empty() {
            text += &wrap(&format!("no predicted time, not counted: {}", names(&unpriced, all)), 4);
        }
        text
    }
}

/// How many layers of a report have half precision, if that was asked for.
fn in_half(report: &Report) -> String {
    match report.precision {
        Precision::F32 => String::new(),
        Precision::Half => format!(", {} of them in half precision", report.half_layers()),
    }
}

fn layer(row: &Row) -> Value {
    let node = row.node();
    json!({
        "name": node.layer(),
        "shape": node.shape(),
        "structure": node.structure,
        "zeros": node.zeros,
        "density": node.density,
        "stock_ms": row.stock_ms,
        "now_ms": row.now_ms,
        "then_ms": row.then_ms,
        "chosen": node.chosen,
        "precision": node.precision,
        "why_f32": node.why_f32,
        "reason": node.reason,
    })
}
