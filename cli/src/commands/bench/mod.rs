//! `bench`: how long a run takes, alone or against stock tract.

mod against;
mod built_in;
mod streams;

use crate::inputs::{Input, inputs};
use crate::limits::{Limits, MAX_TIME};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::table::ms;
use crate::zeros::depthwise;
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use figures::{Progress, Timing, in_turn};
use sparsity::Setting;
use tract_core::internal::*;
use tract_sparse::Policy;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse bench
  tract-sparse m.onnx bench --against stock --json
  tract-sparse m.onnx --threads 2 bench --max-time 10000
  tract-sparse m.onnx --precision half bench --against stock

Stock and sparse run in turn in one process. Times are medians with the
quartiles beside them; the ratio is the median of the ratios of runs of
neighbouring turns, which drifting clocks disturb least.";

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Time this too, in turn
    #[arg(long)]
    against: Option<Against>,
    /// Run that many copies at once, a thread each, as fast as they go
    #[arg(long, value_name = "N", conflicts_with = "against")]
    streams: Option<usize>,
    /// Real time: every MS milliseconds an input for each of the streams
    #[arg(long, value_name = "MS", conflicts_with = "against")]
    turn_period: Option<f64>,
    /// Milliseconds after which an output is late [default: the turn period]
    #[arg(long, value_name = "MS", requires = "turn_period")]
    deadline: Option<f64>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    pub(super) input: Input,
    /// Without a model: the network [default: mobilenet-v1]
    #[arg(long)]
    network: Option<zoo::Network>,
    /// Without a model: the format of 1x1 convolutions [default: 4x4]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Without a model: patterns of depthwise 3x3 convolutions, 3:9
    #[arg(long, value_name = "ZEROS", value_parser = depthwise)]
    dwconv3x3: Option<Setting>,
}

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// tract without sparse kernels
    Stock,
}

/// Times a model, or without one, the built-in network.
pub(super) fn run(source: Option<&Source>, args: &Bench, options: &Options) -> Result<()> {
    let Some(source) = source else { return built_in::run(args, options) };
    let built_in = args.network.is_some() || args.format.is_some() || args.dwconv3x3.is_some();
    ensure!(!built_in, "--network, --format and --dwconv3x3 are for bench without a model, not for {source}");
    if args.against == Some(Against::Stock) {
        return against::run(source, args, options);
    }
    let progress = Progress::new();
    let name = source.to_string();
    progress.say(&format!("{name}: loading"));
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let inputs = inputs(sparse.model(), &args.input)?;
    if args.streams.is_some() || args.turn_period.is_some() {
        return streams::run(&name, sparse, inputs, args, options, progress);
    }
    let said = |done: f64| progress.part(&name, done);
    let times = in_turn(&[&sparse], &inputs, &args.limits.bench(MAX_TIME), &said)?.remove(0);
    drop(progress);
    let timing = Timing::of(&times);
    let policy = Policy::from_knobs()?;
    let (target, precision) = (policy.target.to_string(), policy.precision);
    let rounded = against::rounded_layers(sparse.model())?;
    if options.json {
        return out::json(&serde_json::json!({
            "model": name,
            "target": target,
            "precision": precision,
            "layers_half": rounded[0],
            "layers_int8": rounded[1],
            "threads": options.thread_count(),
            "runs": times.len(),
            "sparse_ms": timing.median_ms,
            "sparse": timing,
        }));
    }
    let seconds = timing.mean_ms / 1e3;
    if options.machine_friendly {
        return out::print(&format!("real: {seconds}\n"));
    }
    if options.emit_jsonl {
        return metrics(&[("evaltime", seconds)]);
    }
    out::print(&format!(
        "Bench ran {} times, {:.3} ms/i.\nmedian {} ms, quartiles {} - {}, min {}, {} thread(s), {target}{}\n",
        times.len(),
        timing.mean_ms,
        ms(timing.median_ms),
        ms(timing.q1_ms),
        ms(timing.q3_ms),
        ms(timing.min_ms),
        options.thread_count(),
        against::in_fewer_bits(precision, rounded),
    ))
}

/// One JSON object a line, as tract's `--emit-jsonl`.
fn metrics(metrics: &[(&str, f64)]) -> Result<()> {
    let line =
        |(name, value): &(&str, f64)| serde_json::json!({ "metric": name, "value": value }).to_string();
    out::print(&(metrics.iter().map(line).collect::<Vec<_>>().join("\n") + "\n"))
}
