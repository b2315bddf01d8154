//! Whole networks, stock tract against tract-sparse and the engines that are installed: measured, and told as
//! a page of Markdown with a picture.

pub mod networks;
pub mod page;
pub mod rivals;
pub mod run;

use crate::report::rivals::{Engine, Rivals};
use figures::{Ratio, Timing};
use serde::Serialize;
use sparse_kernels::doctor::machine::Machine;
use std::path::Path;
use std::process::Command;

/// What a page says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Model name of the CPU.
    pub cpu: String,
    /// Instruction set of the kernels.
    pub target: String,
    /// Day, in UTC.
    pub date: String,
    /// Short name of the commit, and whether files differ from it.
    pub commit: String,
    /// Version of this project.
    pub version: &'static str,
    /// Version of tract.
    pub tract: &'static str,
    /// How to make it again.
    pub command: String,
    /// What else was asked, or could have been.
    pub engines: Vec<Engine>,
    /// The same for quantised files.
    pub int8_engines: Vec<Engine>,
    /// What makes such files.
    pub quantiser: Engine,
    /// In the order in which they ran.
    pub networks: Vec<Outcome>,
    /// What did not run, and why.
    pub not_run: Vec<String>,
}

/// Networks that are shown together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Built in, with zeros.
    Pruned,
    /// Built in, without.
    Dense,
    /// Files.
    File,
}

impl Kind {
    /// All, in the order in which they are shown.
    pub const ALL: [Kind; 3] = [Kind::Pruned, Kind::Dense, Kind::File];

    /// What stands above them.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Pruned => "Pruned (random weights)",
            Kind::Dense => "Dense (random weights)",
            Kind::File => "Your models",
        }
    }
}

/// One network.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// As it is called in tables.
    pub name: String,
    /// What it is shown with.
    pub kind: Kind,
    /// Convolutions and products with constant weights.
    pub layers: usize,
    /// Those that run on our kernels.
    pub layers_sparse: usize,
    /// Runs of each that count.
    pub runs: usize,
    /// Stock tract, run in turn with ours.
    pub stock: Timing,
    /// Ours.
    pub sparse: Timing,
    /// Of runs of neighbouring turns.
    pub ratio: Ratio,
    /// Largest difference between an output of stock tract and of ours.
    pub max_abs_diff: f64,
    /// Ours in half precision, if this machine has that.
    pub half: Option<InHalf>,
    /// With the other engines, if there are any.
    pub rounds: Option<Rounds>,
    /// Quantised, if that was wanted and there is what quantises.
    pub int8: Option<Quantised>,
}

/// What became of a network that was to be quantised.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantised {
    /// It was not, or does not run so.
    Refused(String),
    /// It runs.
    Ran(InInt8),
}

/// A network as a QDQ file, all engines in turn, and ours on the network before that.
#[derive(Debug, Serialize)]
pub struct InInt8 {
    /// Convolutions and products with constant weights.
    pub layers: usize,
    /// Those that run on our kernels of int8.
    pub layers_int8: usize,
    /// Runs of each that count.
    pub runs: usize,
    /// Median milliseconds of ours on the file in f32.
    pub sparse_ms: f64,
    /// Median milliseconds of ours on the QDQ file.
    pub int8_ms: f64,
    /// Largest difference between an output of stock tract and of ours, both on the QDQ file.
    pub max_abs_diff: f64,
    /// One for each engine of the report that runs quantised files.
    pub engines: Vec<Answer>,
}

/// Ours in half precision, run in turn with the others.
#[derive(Debug, Serialize)]
pub struct InHalf {
    /// Layers that run in it.
    pub layers: usize,
    /// Times.
    pub timing: Timing,
    /// Of ours in f32 over this, of neighbouring turns.
    pub ratio: Ratio,
    /// Largest difference between an output of stock tract and this.
    pub max_abs_diff: f64,
}

/// All engines in turn.
#[derive(Debug, Serialize)]
pub struct Rounds {
    /// Runs of each that count.
    pub runs: usize,
    /// Median milliseconds of stock tract.
    pub stock_ms: f64,
    /// Median milliseconds of ours.
    pub sparse_ms: f64,
    /// Median milliseconds of ours in half precision.
    pub half_ms: Option<f64>,
    /// One for each engine of the report.
    pub engines: Vec<Answer>,
}

/// What an engine made of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is not installed.
    NotInstalled,
    /// It does not take the network, or its outputs are others.
    Refused(String),
    /// Median milliseconds, and the largest difference of an output from stock tract's.
    Took {
        /// Median of the runs that count.
        ms: f64,
        /// Largest absolute difference of an output.
        max_abs_diff: f64,
        /// The numbers that it says it computes in.
        precision: String,
    },
}

impl Answer {
    /// Median milliseconds.
    pub fn ms(&self) -> Option<f64> {
        if let Answer::Took { ms, .. } = self { Some(*ms) } else { None }
    }
}

impl Report {
    /// A report of this machine and this checkout, without any network.
    pub fn new(command: String, target: String, rivals: &Rivals) -> Report {
        Report {
            cpu: Machine::detect().cpu,
            target,
            date: said("date", &["-u", "+%F"]).unwrap_or_else(|| "unknown".into()),
            commit: commit().unwrap_or_else(|| "unknown".into()),
            version: env!("CARGO_PKG_VERSION"),
            tract: tract_sparse::TRACT_VERSION,
            command,
            engines: rivals.engines().to_vec(),
            int8_engines: rivals.int8_engines().to_vec(),
            quantiser: rivals.quantiser().clone(),
            networks: vec![],
            not_run: vec![],
        }
    }
}

fn commit() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).to_str()?;
    let name = said("git", &["-C", folder, "rev-parse", "--short=10", "HEAD"])?;
    let changed = said("git", &["-C", folder, "status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { name } else { name + " with changes" })
}

/// What a program prints on one line, if it runs.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
