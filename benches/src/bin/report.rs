//! Times every network of the speed table, stock tract and tract-sparse in turn on one core, beside the other
//! engines that are installed, and writes a Markdown report with an SVG picture.

use anyhow::{Context, Result, bail, ensure};
use benches::report::networks::Case;
use benches::report::rivals::Rivals;
use benches::report::run::{Settings, measure};
use benches::report::{Outcome, Quantised, Report};
use clap::Parser;
use figures::Progress;
use rewriter::table::ms;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Milliseconds of the pairs.
const MAX_TIME: u64 = 2000;
/// Rounds of all engines, and runs of each in a round.
const ROUNDS: u16 = 5;
const RUNS: u16 = 10;

/// What else decides how layers run, read from the environment.
const KNOBS: [&str; 3] = ["TRACT_SPARSE", "TRACT_SPARSE_TARGET", "TRACT_SPARSE_MIN_GAIN"];

const AFTER_HELP: &str = "\
Examples:
  cargo run --release --bin report
  cargo run --release --bin report -- 3 -o benches/results/MACHINE.md
  cargo run --release --bin report -- --only resnet --quick

Built-in networks are made on the spot. Real ones are the .onnx files of the
folder TRACT_SPARSE_MODELS, or of shared/models beside the checkout. Other
engines (onnxruntime, OpenVINO, MNN) run if target/rivals-venv has them:
  python3 -m venv target/rivals-venv
  target/rivals-venv/bin/python -m pip install numpy onnxruntime onnx openvino MNN
Real models and some built-in ones are quantised by onnxruntime, too (QDQ),
and run in int8 by us, onnxruntime and OpenVINO.
The picture is written beside the report, as .svg. Exit code 1 if a network
could not be measured; the report names it.";

/// Time whole networks: stock tract, tract-sparse and other engines.
#[derive(Parser)]
#[command(name = "report", after_help = AFTER_HELP)]
struct Args {
    /// Processor to pin this process and the engines to, or `none`
    #[arg(default_value = "1")]
    core: String,
    /// Only networks whose name holds this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// A few runs of each: to see that it works, not to quote
    #[arg(long, conflicts_with_all = ["max_time", "rounds", "runs"])]
    quick: bool,
    /// Print the names of the networks, and measure nothing
    #[arg(long)]
    list: bool,
    /// Report to write
    #[arg(short, long, value_name = "FILE", default_value = "target/report.md")]
    output: PathBuf,
    /// Write everything that was measured as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Milliseconds of stock tract and ours in turn
    #[arg(long, value_name = "MS", default_value_t = MAX_TIME, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    max_time: u64,
    /// Rounds of all engines
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Runs of an engine in a round that count
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Python that has the other engines [default: that of target/rivals-venv]
    #[arg(long, value_name = "PYTHON")]
    rivals: Option<PathBuf>,
    /// Calibrate quantised files on these inputs, an .npz with an array for each input, of one sample or of several along
    /// a first axis; may be repeated [default: the inputs that are timed]
    #[arg(long, value_name = "FILE.npz")]
    calibrate: Vec<PathBuf>,
    /// Lock this file for every network anew, where others time, too
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything could be measured.
fn run(args: &Args) -> Result<bool> {
    let models = figures::models_dir();
    let mut cases = Case::built_in()?;
    if let Some(folder) = &models {
        cases.extend(Case::in_folder(folder)?);
    }
    cases.retain(|case| args.only.is_empty() || args.only.iter().any(|text| case.name().contains(text)));
    if cases.is_empty() {
        bail!("--only {}: no network is called so; --list prints the names", args.only.join(" --only "));
    }
    if args.list {
        cases.iter().for_each(|case| say(case.name()));
        return Ok(true);
    }
    let picture = args.output.with_extension("svg");
    for file in &args.calibrate {
        ensure!(file.is_file(), "--calibrate {}: there is no such file", file.display());
        ensure!(file.extension().is_some_and(|end| end == "npz"), "--calibrate {}: not .npz", file.display());
    }
    for file in [Some(&args.output), Some(&picture), args.json.as_ref()].into_iter().flatten() {
        writable(file)?;
    }
    ensure!(picture != args.output, "{}: a report, not its picture, is named by -o", args.output.display());
    pin(&args.core)?;
    let (max_time, rounds, runs) =
        if args.quick { (100, 1, 2) } else { (args.max_time, args.rounds, args.runs) };
    let rivals = Rivals::look(args.rivals.as_deref())?;
    let target = tract_sparse::Policy::from_knobs()?.target.to_string();
    let mut report = Report::new(command(args), target, &rivals);
    let needed = report.engines.iter().chain([&report.quantiser]);
    for engine in needed.filter(|engine| engine.version.is_none()) {
        eprintln!("NOT RUN: {} is not installed: {}", engine.title, engine.install);
    }
    if models.is_none() {
        let why = "real models: TRACT_SPARSE_MODELS names no folder, and there is no shared/models beside the checkout";
        eprintln!("NOT RUN: {why}");
        report.not_run.push(why.into());
    }
    let settings = Settings {
        max_time: Duration::from_millis(max_time),
        rounds: rounds.into(),
        runs: runs.into(),
        rivals,
        calibrate: args.calibrate.clone(),
        lock: args.lock.clone(),
    };
    let folder = Folder::new()?;
    let mut whole = true;
    for (at, case) in cases.iter().enumerate() {
        let progress = Progress::new();
        let measured = measure(case, &settings, &folder.0, &progress);
        drop(progress);
        match measured {
            Ok(outcome) => {
                say(&format!("{:>2}/{} {}", at + 1, cases.len(), line(&outcome)));
                if let Some(line) = int8_line(&outcome, &report) {
                    say(&line);
                }
                report.networks.push(outcome);
            }
            Err(error) => {
                let why = format!("{}: {error:#}", case.name());
                eprintln!("NOT RUN: {why}");
                report.not_run.push(why);
                whole = false;
            }
        }
    }
    let name = picture.file_name().unwrap_or_default().to_string_lossy();
    onnx_file::file::write(&picture, report.svg().as_bytes())?;
    onnx_file::file::write(&args.output, report.markdown(&name).as_bytes())?;
    if let Some(file) = &args.json {
        onnx_file::file::write(file, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    }
    say(&format!("{} and {}", args.output.display(), picture.display()));
    Ok(whole)
}

/// A line on stdout; the report is made even if nobody reads it.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One line of at most 80 columns about a network.
fn line(outcome: &Outcome) -> String {
    let mut text = format!(
        "{:.34}: {} -> {} ms, {:.2} times",
        outcome.name,
        ms(outcome.stock.median_ms),
        ms(outcome.sparse.median_ms),
        outcome.ratio.median
    );
    let best = outcome.rounds.iter().flat_map(|rounds| &rounds.engines).filter_map(|engine| engine.ms());
    if let Some(best) = best.min_by(f64::total_cmp) {
        text += &format!("; others {} ms", ms(best));
    }
    text
}

/// One line about the quantised network, if there is one.
fn int8_line(outcome: &Outcome, report: &Report) -> Option<String> {
    match outcome.int8.as_ref()? {
        Quantised::Refused(why) => Some(format!("      int8: NOT RUN: {why}")),
        Quantised::Ran(int8) => {
            let theirs = report.int8_engines.iter().zip(&int8.engines);
            let theirs = theirs.filter_map(|(engine, answer)| {
                answer.ms().map(|theirs| format!("; {} {} ms", engine.title, ms(theirs)))
            });
            Some(format!("      int8: {} ms{}", ms(int8.int8_ms), theirs.collect::<String>()))
        }
    }
}

/// What makes these numbers again; where they are written to does not matter.
fn command(args: &Args) -> String {
    let knobs = std::env::vars().filter(|(name, _)| KNOBS.contains(&name.as_str()));
    let mut words: Vec<String> = knobs.map(|(name, value)| format!("{name}={value}")).collect();
    words.push("cargo run --release --bin report --".into());
    words.push(args.core.clone());
    words.extend(args.only.iter().map(|text| format!("--only '{text}'")));
    words.extend(args.calibrate.iter().map(|file| format!("--calibrate '{}'", file.display())));
    words.extend(args.quick.then(|| "--quick".into()));
    words.extend((args.max_time != MAX_TIME).then(|| format!("--max-time {}", args.max_time)));
    words.extend((args.rounds != ROUNDS).then(|| format!("--rounds {}", args.rounds)));
    words.extend((args.runs != RUNS).then(|| format!("--runs {}", args.runs)));
    words.join(" ")
}

/// Fails unless a file can be written there, before an hour has gone by.
fn writable(file: &Path) -> Result<()> {
    ensure!(!file.is_dir(), "cannot write {}: it is a folder", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "cannot write {}: there is no folder {}", file.display(), folder.display());
    Ok(())
}

/// Pins this process, and with it those that it starts.
fn pin(core: &str) -> Result<()> {
    if core == "none" {
        return Ok(());
    }
    ensure!(core.parse::<u16>().is_ok(), "{core:?} is not the number of a processor, or none");
    let pid = std::process::id().to_string();
    let output = Command::new("taskset").args(["-c", "-p", core, &pid]).output();
    let output = output.context("taskset, which pins to a processor (`none` does without)")?;
    ensure!(
        output.status.success(),
        "no processor {core}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// A folder for files in between, gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("tract-sparse-report-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // what is left there harms nobody
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
