//! `inspect --int8`: what the layers would take if the model were quantised.

use crate::commands::whatif::rows::{Row, rows};
use crate::layers::{int8_words, quantised_report};
use crate::load::Source;
use crate::options::{Options, Pass};
use crate::table::{Table, ms, wrap};
use anyhow::Result;
use serde_json::{Value, json};
use tract_sparse::Report;

/// The layers as they are and quantised.
pub(super) struct Quantised {
    rows: Vec<Row>,
    report: Report,
    now_ms: f64,
    int8_ms: f64,
}

impl Quantised {
    /// Of a model that has this report as it is.
    pub(super) fn of(source: &Source, now: &Report, options: &Options) -> Result<Quantised> {
        // an optimised model shows no layers of stock tract
        let pass = options.stage(Pass::BeforeOptimize).min(Pass::BeforeOptimize);
        let options = Options { optimize: false, pass: Some(pass), ..options.clone() };
        let report = quantised_report(source, &options)?;
        let rows = rows(now, &report);
        let times = rows.iter().filter_map(Row::times);
        let [now_ms, int8_ms] = times.fold([0.0; 2], |[now, int8], times| [now + times[1], int8 + times[2]]);
        Ok(Quantised { rows, report, now_ms, int8_ms })
    }

    /// What `--json` prints.
    pub(super) fn value(&self) -> Value {
        let layer = |row: &Row| {
            let node = row.node();
            json!({
                "name": node.layer(),
                "now_ms": row.now_ms,
                "ms": row.then_ms,
                "runs": node.runs(),
                "chosen": node.chosen,
                "reason": node.reason.as_ref().or(node.why_f32.as_ref()),
            })
        };
        json!({
            "layers": self.rows.iter().map(layer).collect::<Vec<_>>(),
            "layers_int8": self.report.int8_layers(),
            "now_ms": self.now_ms,
            "ms": self.int8_ms,
        })
    }

    /// The table and what it means.
    pub(super) fn text(&self, all: bool) -> String {
        let mut table = Table::new(&["layer", "<shape", "<zeros", "now", "int8", "gain", "<runs"]);
        let time = |v: Option<f64>| v.map_or_else(String::new, ms);
        for row in &self.rows {
            let node = row.node();
            let gain = row.now_ms.zip(row.then_ms).map(|(now, then)| now / then);
            table.row(vec![
                node.layer().to_string(),
                node.short_shape(),
                node.short_zeros(),
                time(row.now_ms),
                time(row.then_ms),
                gain.map_or_else(String::new, |gain| format!("{gain:.2}")),
                node.runs().into(),
            ]);
        }
        let words = format!(
            "If it were quantised: all layers {} ms, as it is {} ms, {:.2} times as fast; predicted, without what is between \
             layers.",
            ms(self.int8_ms),
            ms(self.now_ms),
            self.now_ms / self.int8_ms
        );
        format!("\n{}\n{}{}", table.text(), wrap(&words, 0), int8_words(&self.report, all))
    }
}
