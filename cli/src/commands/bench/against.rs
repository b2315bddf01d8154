//! `bench --against stock`: stock and sparse in turn, in one process.

use super::Bench;
use crate::inputs::inputs;
use crate::limits::MAX_TIME;
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::table::{Table, ms};
use anyhow::Result;
use figures::{Agreement, HALF_TOLERANCE, Progress, Ratio, TOLERANCE, Timing, in_turn};
use tract_core::internal::*;
use tract_sparse::{Precision, Report};

/// What was found.
#[derive(Debug, serde::Serialize)]
pub(super) struct Outcome {
    pub(super) model: String,
    pub(super) target: String,
    pub(super) threads: usize,
    pub(super) layers: usize,
    pub(super) layers_sparse: usize,
    pub(super) precision: Precision,
    pub(super) layers_half: usize,
    pub(super) layers_int8: usize,
    pub(super) runs: usize,
    pub(super) stock_ms: f64,
    pub(super) sparse_ms: f64,
    pub(super) ratio: f64,
    pub(super) ratio_q1: f64,
    pub(super) ratio_q3: f64,
    pub(super) max_abs_diff: f64,
    pub(super) agrees: bool,
    pub(super) stock: Timing,
    pub(super) sparse: Timing,
}

/// Times both for `max_time` milliseconds at most, unless the arguments say how long.
pub(super) fn outcome(
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
    // which layers have fewer bits is decided where the model is optimised
    let optimised = Report::of(sparse.model())?;
    let [layers_half, layers_int8] = [optimised.half_layers(), optimised.int8_layers()];
    let tolerance = if optimised.has_fewer_bits() { HALF_TOLERANCE } else { TOLERANCE };
    let agreement = Agreement::of_all(&expected, &got, tolerance)?;
    let said = |done: f64| progress.part(&name, done);
    let times = in_turn(&[&stock, &sparse], &inputs, &args.limits.bench(max_time), &said)?;
    let ratio = Ratio::of_pairs(&times[0], &times[1]);
    let (stock, sparse) = (Timing::of(&times[0]), Timing::of(&times[1]));
    Ok(Outcome {
        model: name.clone(),
        target: report.target.clone(),
        threads: options.thread_count(),
        layers: report.layers.len(),
        layers_sparse: report.sparse_layers(),
        precision: report.precision,
        layers_half,
        layers_int8,
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

/// Layers of an optimised model that run in half precision, and in int8.
pub(super) fn rounded_layers(model: &TypedModel) -> TractResult<[usize; 2]> {
    let report = Report::of(model)?;
    Ok([report.half_layers(), report.int8_layers()])
}

/// How many layers have half precision, if that was asked for, and int8, if there are any.
pub(super) fn in_fewer_bits(precision: Precision, [half, int8]: [usize; 2]) -> String {
    let half = match precision {
        Precision::F32 => String::new(),
        Precision::Half => format!(", {half} layer(s) in half precision"),
    };
    if int8 > 0 { format!("{half}, {int8} layer(s) in int8") } else { half }
}

/// Times a model and prints what was found.
pub(super) fn run(source: &Source, args: &Bench, options: &Options) -> Result<()> {
    let progress = Progress::new();
    let outcome = outcome(source, args, options, &progress, MAX_TIME)?;
    drop(progress);
    if options.json {
        return out::json(&outcome);
    }
    let mut table = Table::new(&["", "median ms", "quartiles", "min", "max"]);
    for (name, t) in [("stock", &outcome.stock), ("sparse", &outcome.sparse)] {
        let quartiles = format!("{} - {}", ms(t.q1_ms), ms(t.q3_ms));
        table.row(vec![name.into(), ms(t.median_ms), quartiles, ms(t.min_ms), ms(t.max_ms)]);
    }
    out::print(&format!(
        "{}ratio {:.2} (quartiles {:.2} - {:.2}), {} runs of each in turn, {} thread(s)\n\
         {}: {} of {} layers sparse{}, largest difference of an output {:.1e}{}\n",
        table.text(),
        outcome.ratio,
        outcome.ratio_q1,
        outcome.ratio_q3,
        outcome.runs,
        outcome.threads,
        outcome.target,
        outcome.layers_sparse,
        outcome.layers,
        in_fewer_bits(outcome.precision, [outcome.layers_half, outcome.layers_int8]),
        outcome.max_abs_diff,
        if outcome.agrees { "" } else { "\nthe outputs DIFFER: see compare" }
    ))
}
