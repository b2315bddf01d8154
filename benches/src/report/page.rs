//! The report as Markdown and SVG.

use crate::report::rivals::Engine;
use crate::report::{Answer, InHalf, InInt8, Kind, Outcome, Quantised, Report};
use figures::svg::{Bar, Bars, Group, Part};
use rewriter::table::ms;
use std::fmt::Write;

impl Report {
    /// Whether any other engine has run anything.
    fn has_rivals(&self) -> bool {
        self.networks.iter().any(|network| network.rounds.is_some())
    }

    /// Whether this machine has half precision.
    fn has_half(&self) -> bool {
        self.networks.iter().any(|network| network.half.is_some())
    }

    /// What an engine says that it computes in, if it has run anything.
    fn precision(&self, engine: usize) -> Option<&str> {
        self.networks.iter().find_map(|network| match network.rounds.as_ref()?.engines.get(engine)? {
            Answer::Took { precision, .. } => Some(precision.as_str()),
            Answer::NotInstalled | Answer::Refused(_) => None,
        })
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
             | network | stock ms | sparse ms | ratio | quartiles | layers here | largest difference |{}\n\
             |---|---|---|---|---|---|---|{}\n",
            self.cpu,
            self.target,
            self.date,
            self.commit,
            self.version,
            self.tract,
            self.command,
            if self.has_half() {
                " half ms | sparse over half | layers in half | largest difference of half |"
            } else {
                ""
            },
            if self.has_half() { "---|---|---|---|" } else { "" }
        );
        for network in &self.networks {
            // writing to a String cannot fail
            let _ = write!(
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
            if let Some(half) = &network.half {
                let (ms, ratio, far) = (half.timing.median_ms, half.ratio.median, half.max_abs_diff);
                let _ = write!(text, " {ms:.2} | {ratio:.2} | {} | {far:.0e} |", half.layers);
            }
            text.push('\n');
        }
        if self.has_half() {
            text += "\nhalf: the same with `--precision half`, in the same turns.\n";
        }
        text += "\n## Other engines\n\n";
        if self.has_rivals() {
            text += &self.rivals();
        }
        if self.networks.iter().any(|network| network.int8.is_some()) {
            text += &self.quantised();
        }
        let needed = self.engines.iter().chain([&self.quantiser]);
        for engine in needed.filter(|engine| engine.version.is_none()) {
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
            "{}. One thread each on the same core, default settings but for the numbers that they\n\
             compute in. OpenVINO f32: with its hint of that precision; OpenVINO default: without a hint, as users have it; MNN: \
             precision high. {}{}MNN sparse: converted with `--detectSparseSpeedUp`, which is told how many \
             output channels\nshare their zeros. All engines are alive together; every round asks each in turn, and the first run \
             of each is dropped.\nMedian milliseconds, in brackets stock tract's over them; the largest difference is that of \
             any engine from stock tract.\n\n| network | stock | ours |",
            versions.join(", "),
            self.precisions(),
            if self.has_half() { "Ours: f32; ours half: `--precision half`. " } else { "" }
        );
        if self.has_half() {
            text += " ours half |";
        }
        for (_, engine) in self.installed() {
            text += &format!(" {} |", engine.title);
        }
        text += " runs | largest difference |\n|---|---|---|";
        text += &"---|".repeat(self.installed().count() + 2 + self.has_half() as usize);
        text.push('\n');
        let mut refused = String::new();
        for network in &self.networks {
            let Some(rounds) = &network.rounds else { continue };
            let cell = |time: f64| format!(" {} ({:.2}) |", ms(time), rounds.stock_ms / time);
            text += &format!("| {} | {} |{}", network.name, ms(rounds.stock_ms), cell(rounds.sparse_ms));
            if self.has_half() {
                text += &rounds.half_ms.map_or_else(|| " - |".into(), cell);
            }
            let mut far = network.max_abs_diff;
            for (at, engine) in self.installed() {
                text += &answered(&network.name, engine, &rounds.engines[at], cell, &mut far, &mut refused);
            }
            text += &format!(" {} | {far:.0e} |\n", rounds.runs);
        }
        text + "\n" + &refused
    }

    /// The table of quantised networks, and what did not run.
    fn quantised(&self) -> String {
        let engines = || self.int8_engines.iter().enumerate().filter(|(_, engine)| engine.version.is_some());
        let mut text = format!(
            "## Quantised\n\n\
             QDQ files of the same networks, made on the spot by onnxruntime {} (`quantize_static`: u8 activations, i8 weights with \
             a scale for each\noutput channel). Ours f32: the network before that; all others run the QDQ file, OpenVINO with default \
             settings, onnxruntime\nwith `session.x64quantprecision`, without which its products of u8 and i8 saturate on processors \
             without VNNI. In turns as above;\nmedian milliseconds, in brackets over ours int8. The largest difference is that of any \
             engine from onnxruntime on the QDQ file.\n\n\
             | network | ours f32 | ours int8 | layers in int8 |",
            self.quantiser.version.as_deref().unwrap_or_default()
        );
        for (_, engine) in engines() {
            text += &format!(" {} |", engine.title);
        }
        text += " runs | largest difference |\n|---|---|---|---|";
        text += &"---|".repeat(engines().count() + 2);
        text.push('\n');
        let mut refused = String::new();
        for network in &self.networks {
            let InInt8 { layers, layers_int8, runs, sparse_ms, int8_ms, max_abs_diff, engines: answers } =
                match &network.int8 {
                    Some(Quantised::Ran(int8)) => int8,
                    Some(Quantised::Refused(why)) => {
                        refused += &format!("NOT RUN: {} in int8: {why}\n\n", network.name);
                        continue;
                    }
                    None => continue,
                };
            let cell = |time: f64| format!(" {} ({:.2}) |", ms(time), time / int8_ms);
            text += &format!("| {} |{} {} |", network.name, cell(*sparse_ms), ms(*int8_ms));
            text += &format!(" {layers_int8} of {layers} |");
            let mut far = *max_abs_diff;
            for (at, engine) in engines() {
                text += &answered(&network.name, engine, &answers[at], cell, &mut far, &mut refused);
            }
            text += &format!(" {runs} | {far:.0e} |\n");
        }
        text + "\n" + &refused
    }

    /// Which engines compute in other numbers than f32.
    fn precisions(&self) -> String {
        let other = self.installed().filter_map(|(at, engine)| {
            let precision = self.precision(at).filter(|precision| *precision != "f32")?;
            Some(format!("{} computes in {precision}. ", engine.title))
        });
        other.collect()
    }

    /// The picture.
    pub fn svg(&self) -> String {
        let rivals = self.has_rivals();
        let mut notes = vec![format!("{} ({}), one core, {}", self.cpu, self.target, self.date)];
        let mut series = vec!["tract-sparse".to_string()];
        if self.has_half() {
            series.push("tract-sparse half".into());
        }
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

    /// Ours, in half precision, too, then the other engines.
    fn bars(&self, network: &Outcome) -> Vec<Option<Bar>> {
        let ratio = network.ratio;
        let Some(rounds) = &network.rounds else {
            let mut bars = vec![Some(Bar { value: ratio.median, spread: Some((ratio.q1, ratio.q3)) })];
            if self.has_half() {
                let bar = |half: &InHalf| Bar {
                    value: network.stock.median_ms / half.timing.median_ms,
                    spread: None,
                };
                bars.push(network.half.as_ref().map(bar));
            }
            return bars;
        };
        let bar = |ms: f64| Bar { value: rounds.stock_ms / ms, spread: None };
        let half = self.has_half().then(|| rounds.half_ms.map(bar));
        let theirs = self.installed().map(|(at, _)| rounds.engines[at].ms().map(bar));
        std::iter::once(Some(bar(rounds.sparse_ms))).chain(half).chain(theirs).collect()
    }

    /// The engines that are installed, with their places in every network's answers.
    fn installed(&self) -> impl Iterator<Item = (usize, &Engine)> {
        self.engines.iter().enumerate().filter(|(_, engine)| engine.version.is_some())
    }
}

/// The cell of an engine. What did not run is added to `refused`, and `far` becomes the largest difference so far.
fn answered(
    network: &str,
    engine: &Engine,
    answer: &Answer,
    cell: impl Fn(f64) -> String,
    far: &mut f64,
    refused: &mut String,
) -> String {
    match answer {
        Answer::Took { ms, max_abs_diff, .. } => {
            *far = far.max(*max_abs_diff);
            cell(*ms)
        }
        Answer::Refused(why) => {
            *refused += &format!("NOT RUN: {network} in {}: {why}\n\n", engine.title);
            " - |".into()
        }
        Answer::NotInstalled => " - |".into(),
    }
}
