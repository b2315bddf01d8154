//! `bench`: stock and sparse in turn, in one process.

use crate::args::{Against, Bench, Options, Pass, TOLERANCE};
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::{Table, ms};
use crate::threads;
use anyhow::{Context, Result, ensure};
use figures::{Agreement, Progress, Ratio, Timing, in_turn};
use sparsity::{Setting, Structure, Zeros};
use std::sync::Arc;
use std::time::Duration;
use tract_core::internal::*;
use tract_libcli::profile_autobatch::Pacing;
use tract_libcli::tensor::RunTensors;
use tract_sparse::{Policy, Report};
use zoo::{Network, Spec};

/// Milliseconds of a measurement, as in tract.
pub(crate) const MAX_TIME: u64 = 5000;

/// Zeros of the built-in network.
const SPARSITIES: [u32; 5] = [0, 30, 50, 80, 90];

/// What `bench --against stock` found.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    model: String,
    target: String,
    threads: usize,
    layers: usize,
    layers_sparse: usize,
    runs: usize,
    stock_ms: f64,
    sparse_ms: f64,
    ratio: f64,
    ratio_q1: f64,
    ratio_q3: f64,
    max_abs_diff: f64,
    agrees: bool,
    stock: Timing,
    sparse: Timing,
}

fn against_stock(
    source: &Source,
    args: &Bench,
    options: &Options,
    progress: &Progress,
    max_time: u64,
) -> Result<Outcome> {
    let name = source.to_string();
    progress.say(&format!("{name}: loading"));
    let report = Report::of(&source.load(
        Flavour::Sparse,
        &Options { pass: Some(Pass::BeforeOptimize), optimize: false, ..options.clone() },
        Pass::BeforeOptimize,
    )?)?;
    let stock = source.load(Flavour::Stock, options, Pass::Optimize)?.into_runnable()?;
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let inputs = inputs(sparse.model(), &args.input)?;
    let (expected, got) = (stock.run(inputs.clone())?, sparse.run(inputs.clone())?);
    let agreement = Agreement::of_all(&expected, &got, TOLERANCE)?;
    let said = |done: f64| progress.part(&name, done);
    let times = in_turn(&[&stock, &sparse], &inputs, &args.limits.bench(max_time), &said)?;
    let ratio = Ratio::of_pairs(&times[0], &times[1]);
    let (stock, sparse) = (Timing::of(&times[0]), Timing::of(&times[1]));
    Ok(Outcome {
        model: name.clone(),
        target: report.target.clone(),
        threads: threads(options),
        layers: report.layers.len(),
        layers_sparse: report.sparse_layers(),
        runs: times[0].len(),
        stock_ms: stock.median_ms,
        sparse_ms: sparse.median_ms,
        ratio: ratio.median,
        ratio_q1: ratio.q1,
        ratio_q3: ratio.q3,
        max_abs_diff: agreement.max_abs_diff,
        agrees: agreement.agrees,
        stock,
        sparse,
    })
}

/// `tract-sparse MODEL bench`.
pub(crate) fn model(source: &Source, args: &Bench, options: &Options) -> Result<()> {
    let built_in = args.network.is_some() || args.format.is_some() || args.dwconv3x3.is_some();
    ensure!(!built_in, "--network, --format and --dwconv3x3 are for bench without a model, not for {source}");
    let progress = Progress::new();
    let name = source.to_string();
    if args.against == Some(Against::Stock) {
        let outcome = against_stock(source, args, options, &progress, MAX_TIME)?;
        drop(progress);
        if options.json {
            return out::json(&outcome);
        }
        let mut table = Table::new(&["", "median ms", "quartiles", "min", "max"]);
        for (name, t) in [("stock", &outcome.stock), ("sparse", &outcome.sparse)] {
            let quartiles = format!("{} - {}", ms(t.q1_ms), ms(t.q3_ms));
            table.row(vec![name.into(), ms(t.median_ms), quartiles, ms(t.min_ms), ms(t.max_ms)]);
        }
        return out::print(&format!(
            "{}ratio {:.2} (quartiles {:.2} - {:.2}), {} runs of each in turn, {} thread(s)\n\
             {}: {} of {} layers sparse, largest difference of an output {:.1e}{}\n",
            table.text(),
            outcome.ratio,
            outcome.ratio_q1,
            outcome.ratio_q3,
            outcome.runs,
            outcome.threads,
            outcome.target,
            outcome.layers_sparse,
            outcome.layers,
            outcome.max_abs_diff,
            if outcome.agrees { "" } else { "\nthe outputs DIFFER: see compare" }
        ));
    }
    progress.say(&format!("{name}: loading"));
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let inputs = inputs(sparse.model(), &args.input)?;
    if args.streams.is_some() || args.turn_period.is_some() {
        return streams(&name, sparse, inputs, args, options, progress);
    }
    let said = |done: f64| progress.part(&name, done);
    let times = in_turn(&[&sparse], &inputs, &args.limits.bench(MAX_TIME), &said)?.remove(0);
    drop(progress);
    let timing = Timing::of(&times);
    let target = Policy::from_knobs()?.target.to_string();
    if options.json {
        return out::json(&serde_json::json!({
            "model": name,
            "target": target,
            "threads": threads(options),
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
        "Bench ran {} times, {:.3} ms/i.\nmedian {} ms, quartiles {} - {}, min {}, {} thread(s), {target}\n",
        times.len(),
        timing.mean_ms,
        ms(timing.median_ms),
        ms(timing.q1_ms),
        ms(timing.q3_ms),
        ms(timing.min_ms),
        threads(options),
    ))
}

/// One JSON object a line, as tract's `--emit-jsonl`.
fn metrics(metrics: &[(&str, f64)]) -> Result<()> {
    let line =
        |(name, value): &(&str, f64)| serde_json::json!({ "metric": name, "value": value }).to_string();
    out::print(&(metrics.iter().map(line).collect::<Vec<_>>().join("\n") + "\n"))
}

/// Several copies of the model at once: as fast as they go, or with an input for each at every turn of a clock.
fn streams(
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
    let millis = |option: &str, ms: f64| {
        ensure!(ms > 0.0 && ms <= 1e6, "--{option} {ms}: not a time");
        Ok(Duration::from_secs_f64(ms / 1e3))
    };
    let found: Vec<(&str, f64)> = if let Some(period) = args.turn_period {
        let deadline = args.deadline.unwrap_or(period);
        let (period, deadline) = (millis("turn-period", period)?, millis("deadline", deadline)?);
        let pacing = Pacing { period, deadline, churn: None };
        let bench = limits.bench_streams_paced(&runnable, &inputs, count, &pacing)?;
        let added = |q| bench.added_quantile(q).as_secs_f64();
        vec![
            ("evaltime", bench.mean_service().as_secs_f64()),
            ("streams", count as f64),
            ("turns_per_s", bench.turns_per_second()),
            ("added_p50", added(0.5)),
            ("added_p95", added(0.95)),
            ("added_p99", added(0.99)),
            ("late_fraction", bench.late_fraction()),
        ]
    } else {
        let bench = limits.bench_streams(&runnable, &inputs, count)?;
        vec![
            ("evaltime", bench.mean_latency().as_secs_f64()),
            ("streams", count as f64),
            ("turns_per_s", bench.turns_per_second()),
            ("latency_p50", bench.latency_quantile(0.5).as_secs_f64()),
            ("latency_p95", bench.latency_quantile(0.95).as_secs_f64()),
        ]
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
    let mut text = String::new();
    for (metric, value) in &found {
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
    out::print(&text)
}

/// `tract-sparse bench`: the built-in network at several sparsities, in one table.
pub(crate) fn built_in(args: &Bench, options: &Options) -> Result<()> {
    let network = args.network.unwrap_or(Network::MobilenetV1);
    let format: Structure = args.format.as_deref().unwrap_or("4x4").parse().context("--format")?;
    let dwconv3x3 = args.dwconv3x3.and_then(Setting::zeros);
    let progress = Progress::new();
    let mut outcomes = vec![];
    for sparsity in SPARSITIES {
        let ratio = f64::from(sparsity) / 100.0;
        let conv1x1 = Zeros::new(format, ratio).context("--format")?;
        let spec = Spec { conv1x1: (sparsity > 0).then_some(conv1x1), dwconv3x3, ..Spec::default() };
        let name = format!("{network} {format} {sparsity} %");
        progress.say(&format!("{name}: building"));
        let proto = zoo::build(network, &spec)?;
        let source = Source::BuiltIn(name.clone(), Arc::new(proto));
        outcomes.push((sparsity, against_stock(&source, args, options, &progress, 2000)?));
    }
    drop(progress);
    if options.json {
        let rows: Vec<serde_json::Value> = outcomes
            .iter()
            .map(|(sparsity, outcome)| {
                let mut value = serde_json::to_value(outcome)?;
                value["sparsity"] = (f64::from(*sparsity) / 100.0).into();
                Ok(value)
            })
            .collect::<Result<_>>()?;
        return out::json(&serde_json::json!({
            "network": network.name(),
            "format": format.to_string(),
            "dwconv3x3": dwconv3x3.map(|p| p.to_string()),
            "rows": rows,
        }));
    }
    let mut table =
        Table::new(&["zeros", "stock ms", "sparse ms", "ratio", "quartiles", "layers sparse", "max diff"]);
    for (sparsity, o) in &outcomes {
        table.row(vec![
            format!("{sparsity} %"),
            ms(o.stock_ms),
            ms(o.sparse_ms),
            format!("{:.2}", o.ratio),
            format!("{:.2} - {:.2}", o.ratio_q1, o.ratio_q3),
            format!("{} of {}", o.layers_sparse, o.layers),
            format!("{:.1e}", o.max_abs_diff),
        ]);
    }
    let patterns = dwconv3x3.map_or_else(String::new, |p| format!(", depthwise {p}"));
    out::print(&format!(
        "{network}, 1x1 convolutions {format}{patterns}, {} thread(s), {}\n{}",
        threads(options),
        outcomes.first().map_or("", |(_, o)| &o.target),
        table.text()
    ))
}
