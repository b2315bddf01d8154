//! What has become of the layers, in JSON, tables and words.

use super::Outcome;
use crate::table::{Table, names, wrap};
use prune::sensitivity::{Change, Within};
use prune::{Kept, Rearranged};
use serde_json::{Value, json};

impl Outcome<'_> {
    /// What `--json` prints.
    pub(super) fn value(&self) -> Value {
        json!({
            "file": self.args.output,
            "data": self.saved.data,
            "unread": self.saved.unread,
            "report": self.made.report,
            "rearranged": self.made.rearranged,
            "budget": self.made.spent,
            "within": self.made.within,
            "made_up_inputs_error": self.made.made_up,
            "held_out_errors": self.made.errors,
            "converted": self.converted,
            "resumed": self.kept.resumed(),
            "note": self.kept.note(),
        })
    }

    /// What is printed otherwise; `all` names are written out or a few of each list.
    pub(super) fn text(&self, all: bool) -> String {
        let mut text = self.pruned() + &self.skipped(all);
        if !self.kept.resumed().is_empty() {
            let steps = self.kept.resumed().join(", ");
            text += &wrap(&format!("taken up from an interrupted call: {steps}"), 4);
        }
        if let Some(note) = self.kept.note() {
            text += &wrap(&format!("note: {note}"), 4);
        }
        if let Some(rearranged) = &self.made.rearranged {
            text += &gained(rearranged);
        }
        if let Some(spent) = &self.made.spent {
            text += &wrap(&spent.to_string(), 4);
        }
        if let Some(within) = &self.made.within {
            text += &sensitivities(within);
        }
        if let Some(error) = self.made.made_up {
            text += &wrap(
                &format!(
                    "warning: without real inputs (--calibrate), all that is known is that the outputs of made-up ones \
                     change by {:.1} % of their norm; train after pruning, or see --max-error",
                    100.0 * error
                ),
                4,
            );
        }
        for error in self.made.errors.iter().flatten() {
            text += &format!(
                "{:<20} output error {:.4}, same top class {:.2} ({} held-out inputs)\n",
                error.method, error.error, error.agreement, self.held_out
            );
        }
        if !self.converted.is_empty() {
            let converted: Vec<&str> = self.converted.iter().map(String::as_str).collect();
            text += &wrap(&names(&converted, all), 4);
        }
        if self.args.calibrate.is_some() && self.made.errors.is_none() {
            text += "only one input: nothing is held out to measure errors on\n";
        }
        text += &wrap(&format!("{}: density {:.3}", self.args.output.display(), self.made.report.density), 4);
        if let Some(data) = &self.saved.data {
            text += &wrap(&format!("its values: {}", data.display()), 4);
        }
        for file in &self.saved.unread {
            let left = format!("{}: left there, though no model beside it reads it now", file.display());
            text += &wrap(&left, 4);
        }
        text
    }

    /// The layers that were pruned.
    fn pruned(&self) -> String {
        let mut table =
            Table::new(&["layer", "<structure", "ratio", "removed", "density", "kept l1", "before"]);
        for layer in self.made.report.pruned() {
            let share = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.3}"));
            table.row(vec![
                layer.name.clone(),
                layer.structure.clone().unwrap_or_default(),
                share(layer.ratio),
                share(layer.removed),
                share(layer.density),
                share(layer.kept_l1),
                share(layer.kept_l1_before),
            ]);
        }
        table.text()
    }

    /// The layers that were not, by the reason.
    fn skipped(&self, all: bool) -> String {
        let mut skipped: Vec<(&str, Vec<&str>)> = vec![];
        for layer in &self.made.report.layers {
            let Some(reason) = &layer.skipped else { continue };
            match skipped.iter_mut().find(|(r, _)| r == reason) {
                Some((_, names)) => names.push(&layer.name),
                None => skipped.push((reason, vec![&layer.name])),
            }
        }
        let line = |(reason, layers): (_, Vec<&str>)| {
            wrap(&format!("skipped, {reason}: {}", names(&layers, all)), 4)
        };
        skipped.into_iter().map(line).collect()
    }
}

/// What each layer alone does to the answers, and all that are pruned together.
fn sensitivities(within: &Within) -> String {
    let (what, of) = match within.change {
        Change::Outputs => ("the outputs change by", "of their norm"),
        Change::TopClass => ("the top class changes for", "of the inputs"),
    };
    let mut table = Table::new(&["layer", "alone %", "saves MMAC", "<pruned"]);
    for layer in &within.layers {
        let pruned = if layer.pruned { "yes" } else { "no" };
        table.row(vec![
            layer.layer.clone(),
            format!("{:.2}", 100.0 * layer.error),
            format!("{:.2}", layer.saved / 1e6),
            pruned.into(),
        ]);
    }
    let pruned = within.layers.iter().filter(|layer| layer.pruned).count();
    let all = within.layers.len();
    let sum = format!(
        "{pruned} of {all} layers pruned: {what} {:.2} % {of}, of {:.2} % allowed (by magnitude)",
        100.0 * within.error,
        100.0 * within.limit
    );
    table.text() + &wrap(&sum, 4)
}

/// What rearrangement has brought.
fn gained(rearranged: &Rearranged) -> String {
    let layers = &rearranged.layers;
    let mean = |f: &dyn Fn(&Kept) -> f64| layers.iter().map(f).sum::<f64>() / layers.len() as f64;
    wrap(
        &format!(
            "rearranged {} channels in {} classes: kept l1 {:.4} -> {:.4} on average; outputs as before to {:.1e}",
            rearranged.channels,
            rearranged.classes,
            mean(&|l| l.before),
            mean(&|l| l.after),
            rearranged.proof
        ),
        4,
    )
}
