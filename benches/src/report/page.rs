//! The report as Markdown and SVG.

use crate::report::rivals::Engine;
use crate::report::{Answer, Kind, Outcome, Report};
use figures::svg::{Bar, Bars, Group, Part};
use rewriter::table::ms;
use std::fmt::Write;

impl Report {
    /// Whether any other engine has run anything.
    fn has_rivals(&self) -> bool {
        self.networks.iter().any(|network| network.rounds.is_some())
    }

    /// The page; `picture` is the name of the file beside it.
    pub fn markdown(&self, picture: &str) -> String {
        let mut text = format!(
            "# Whole networks, one core\n\n\
             CPU: {} ({}). Date: {}. Commit: {}. tract-sparse {}, tract {}. Command:\n`{}`.\n\n\
             ![Speed over stock tract]({picture})\n\n\
             ## Stock tract and ours\n\n\
             The same file in one process, on one thread, in turns of four runs after one that does not count. Medians in \
             milliseconds; the\nratio is the median of the ratios of runs of neighbouring turns, with its quartiles. Memory that \
             a run frees stays with\nthe process.\n\n\
             | network | stock ms | sparse ms | ratio | quartiles | layers here | largest difference |\n\
             |---|---|---|---|---|---|---|\n",
            self.cpu, self.target, self.date, self.commit, self.version, self.tract, self.command
        );
        for network in &self.networks {
            // writing to a String cannot fail
            let _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} - {:.2} | {} of {} | {:.0e} |",
                network.name,
                network.stock.median_ms,
                network.sparse.median_ms,
                network.ratio.median,
                network.ratio.q1,
                network.ratio.q3,
                network.layers_sparse,
                network.layers,
                network.max_abs_diff
            );
        }
        text += "\n## Other engines\n\n";
        if self.has_rivals() {
            text += &self.rivals();
        }
        let missing: Vec<_> = self.engines.iter().filter(|engine| engine.version.is_none()).collect();
        for engine in &missing {
            let _ = writeln!(text, "NOT RUN: {} is not installed: `{}`\n", engine.title, engine.install);
        }
        for why in &self.not_run {
            let _ = writeln!(text, "NOT RUN: {why}\n");
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    }

    /// The table of all engines, and what they refused.
    fn rivals(&self) -> String {
        let versions: Vec<String> = self
            .installed()
            .map(|(_, engine)| format!("{} {}", engine.title, engine.version.as_deref().unwrap_or_default()))
            .collect();
        let mut text = format!(
            "{}. One thread each on the same core, f32 (OpenVINO's hint; MNN's\n\
             precision high), default settings otherwise; MNN sparse: converted with `--detectSparseSpeedUp`, which is told how many \
             output channels\nshare their zeros. All engines are alive together; every round asks each in turn, and the first run \
             of each is dropped.\nMedian milliseconds, in brackets stock tract's over them; the largest difference is that of \
             any engine from stock tract.\n\n| network | stock | ours |",
            versions.join(", ")
        );
        for (_, engine) in self.installed() {
            text += &format!(" {} |", engine.title);
        }
        text += " runs | largest difference |\n|---|---|---|";
        text += &"---|".repeat(self.installed().count() + 2);
        text.push('\n');
        let mut refused = String::new();
        for network in &self.networks {
            let Some(rounds) = &network.rounds else { continue };
            let cell = |time: f64| format!(" {} ({:.2}) |", ms(time), rounds.stock_ms / time);
            text += &format!("| {} | {} |{}", network.name, ms(rounds.stock_ms), cell(rounds.sparse_ms));
            let mut far = network.max_abs_diff;
            for (at, engine) in self.installed() {
                match &rounds.engines[at] {
                    Answer::Took { ms, max_abs_diff } => {
                        text += &cell(*ms);
                        far = far.max(*max_abs_diff);
                    }
                    Answer::Refused(why) => {
                        text += " - |";
                        refused += &format!("NOT RUN: {} in {}: {why}\n\n", network.name, engine.title);
                    }
                    Answer::NotInstalled => text += " - |",
                }
            }
            text += &format!(" {} | {far:.0e} |\n", rounds.runs);
        }
        text + "\n" + &refused
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let rivals = self.has_rivals();
        let mut notes = vec![format!("{} ({}), one core, {}", self.cpu, self.target, self.date)];
        let mut series = vec!["tract-sparse".to_string()];
        if rivals {
            series.extend(self.installed().map(|(_, engine)| engine.title.to_string()));
            notes.push("All engines in turn, ratio of medians; 1 is stock tract on the same file".into());
        } else {
            notes.push("Median of paired ratios, quartiles; 1 is stock tract on the same file".into());
        }
        let part = |kind: Kind| {
            let networks = self.networks.iter().filter(|network| network.kind == kind);
            let groups =
                networks.map(|network| Group { name: network.name.clone(), bars: self.bars(network) });
            Part { name: kind.title().into(), groups: groups.collect() }
        };
        Bars {
            title: "Times as fast as stock tract".into(),
            notes,
            series,
            parts: Kind::ALL.map(part).into(),
            mark: 1.0,
        }
        .svg()
    }

    /// Ours, then the other engines.
    fn bars(&self, network: &Outcome) -> Vec<Option<Bar>> {
        let ratio = network.ratio;
        let Some(rounds) = &network.rounds else {
            return vec![Some(Bar { value: ratio.median, spread: Some((ratio.q1, ratio.q3)) })];
        };
        let bar = |ms: f64| Bar { value: rounds.stock_ms / ms, spread: None };
        let theirs = self.installed().map(|(at, _)| rounds.engines[at].ms().map(bar));
        std::iter::once(Some(bar(rounds.sparse_ms))).chain(theirs).collect()
    }

    /// The engines that are installed, with their places in every network's answers.
    fn installed(&self) -> impl Iterator<Item = (usize, &Engine)> {
        self.engines.iter().enumerate().filter(|(_, engine)| engine.version.is_some())
    }
}
