//! `bench --streams` and `--turn-period`: several copies of a model at once.

use super::{Bench, metrics};
use crate::limits::MAX_TIME;
use crate::options::Options;
use crate::out;
use anyhow::{Result, ensure};
use figures::Progress;
use std::sync::Arc;
use std::time::Duration;
use tract_core::internal::*;
use tract_libcli::profile::BenchLimits;
use tract_libcli::profile_autobatch::Pacing;
use tract_libcli::tensor::RunTensors;

/// What was measured, by name: seconds, counts and shares.
type Metrics = Vec<(&'static str, f64)>;

/// Runs the copies as fast as they go, or with an input for each at every turn of a clock, and prints what
/// was measured.
pub(super) fn run(
    name: &str,
    plan: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    args: &Bench,
    options: &Options,
    progress: Progress,
) -> Result<()> {
    let count = args.streams.unwrap_or(1);
    ensure!((1..=1024).contains(&count), "--streams {count}: from 1 to 1024");
    let limits = args.limits.bench(MAX_TIME);
    ensure!(limits.max_loops > 0, "--max-loops 0 measures nothing");
    let inputs = RunTensors { sources: vec![inputs], streaming_input_len: None };
    let runnable: Arc<dyn Runnable> = Arc::new(plan);
    progress.say(&format!("{name}: {count} stream(s)"));
    limits.warmup(&runnable, &inputs)?;
    let found = match args.turn_period {
        Some(period) => paced(&limits, &runnable, &inputs, count, period, args.deadline.unwrap_or(period))?,
        None => unpaced(&limits, &runnable, &inputs, count)?,
    };
    drop(progress);
    if options.emit_jsonl {
        return metrics(&found);
    }
    if options.json {
        let mut value: serde_json::Map<_, _> =
            found.iter().map(|(metric, value)| (metric.to_string(), (*value).into())).collect();
        value.insert("model".into(), name.into());
        return out::json(&value);
    }
    if options.machine_friendly {
        return out::print(&format!("real: {}\n", found[0].1));
    }
    out::print(&words(&found, count))
}

/// An input for each of the streams every `period` milliseconds, late after `deadline`.
fn paced(
    limits: &BenchLimits,
    runnable: &Arc<dyn Runnable>,
    inputs: &RunTensors,
    count: usize,
    period: f64,
    deadline: f64,
) -> Result<Metrics> {
    let millis = |option: &str, ms: f64| {
        ensure!(ms > 0.0 && ms <= 1e6, "--{option} {ms}: not a time");
        Ok(Duration::from_secs_f64(ms / 1e3))
    };
    let (period, deadline) = (millis("turn-period", period)?, millis("deadline", deadline)?);
    let bench =
        limits.bench_streams_paced(runnable, inputs, count, &Pacing { period, deadline, churn: None })?;
    let added = |q| bench.added_quantile(q).as_secs_f64();
    Ok(vec![
        ("evaltime", bench.mean_service().as_secs_f64()),
        ("streams", count as f64),
        ("turns_per_s", bench.turns_per_second()),
        ("added_p50", added(0.5)),
        ("added_p95", added(0.95)),
        ("added_p99", added(0.99)),
        ("late_fraction", bench.late_fraction()),
    ])
}

/// All streams as fast as they go.
fn unpaced(
    limits: &BenchLimits,
    runnable: &Arc<dyn Runnable>,
    inputs: &RunTensors,
    count: usize,
) -> Result<Metrics> {
    let bench = limits.bench_streams(runnable, inputs, count)?;
    Ok(vec![
        ("evaltime", bench.mean_latency().as_secs_f64()),
        ("streams", count as f64),
        ("turns_per_s", bench.turns_per_second()),
        ("latency_p50", bench.latency_quantile(0.5).as_secs_f64()),
        ("latency_p95", bench.latency_quantile(0.95).as_secs_f64()),
    ])
}

/// A line for every metric.
fn words(found: &Metrics, count: usize) -> String {
    let mut text = String::new();
    for (metric, value) in found {
        text += &match *metric {
            "evaltime" => format!("{count} stream(s), {:.3} ms/i.\n", value * 1e3),
            "turns_per_s" => format!("{value:.1} turns/sec over every stream together.\n"),
            "late_fraction" => format!("{:.1}% of the turns completed past the deadline.\n", value * 100.0),
            "streams" => String::new(),
            other => {
                let (what, quantile) = other.split_once('_').unwrap_or((other, ""));
                format!("{quantile} {what} {:.3} ms.\n", value * 1e3)
            }
        };
    }
    text
}
