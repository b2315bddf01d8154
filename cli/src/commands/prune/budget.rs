//! `prune --speedup` and `--latency-ms`: ratios for a time of the whole network.
//!
//! The cost table knows the layers. What else a network does (other operators, moving data between layers, a
//! cache that is cold) is measured: the network is timed on stock tract, and timed pruned; what the pruned
//! one takes beyond the prediction is added to it, and the ratios are chosen again.

use crate::inputs::inputs;
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use anyhow::{Result, bail, ensure};
use figures::{in_turn, quantile};
use prune::budget::{self, Budget, Time};
use prune::checkpoint::{Reader, Record};
use prune::{L1, Plan, Role};
use rewriter::analyse::{Seen, see};
use rewriter::choose::{Neighbours, choose};
use rewriter::{Decision, Layer, Policy};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tract_core::internal::*;
use tract_libcli::profile::BenchLimits;
use tract_sparse::Report;
use zoo::ModelProto;

/// Times that a pruned network is timed and the ratios are chosen again, at most.
const ROUNDS: usize = 4;
/// Share of the time by which a prediction may miss.
const CLOSE: f64 = 0.03;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// Times as fast as the unpruned model on stock tract.
    Speedup(f64),
    /// This time.
    Milliseconds(f64),
}

/// What a budget has come to.
#[derive(Debug, serde::Serialize)]
pub(super) struct Spent {
    #[serde(flatten)]
    fit: budget::Spent,
    /// The unpruned model on stock tract, measured.
    stock_ms: f64,
    /// The pruned model, measured.
    measured_ms: f64,
    /// Whether no layer needs pruning.
    met_unpruned: bool,
}

impl Spent {
    /// Adds this to a record.
    pub(super) fn record(&self, record: &mut Record) {
        let budget::Spent { predicted_ms, budget_ms, fixed_ms } = self.fit;
        for ms in [predicted_ms, budget_ms, fixed_ms, self.stock_ms, self.measured_ms] {
            record.number(ms);
        }
        record.count(usize::from(self.met_unpruned));
    }

    /// What [`Spent::record`] has added.
    pub(super) fn read(reader: &mut Reader) -> Option<Spent> {
        let mut ms = || reader.number();
        let fit = budget::Spent { predicted_ms: ms()?, budget_ms: ms()?, fixed_ms: ms()? };
        let (stock_ms, measured_ms) = (ms()?, ms()?);
        Some(Spent { fit, stock_ms, measured_ms, met_unpruned: reader.count()? == 1 })
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let budget::Spent { predicted_ms, budget_ms, fixed_ms } = self.fit;
        if self.met_unpruned {
            f.write_str("no layer needs pruning: ")?;
        }
        write!(
            f,
            "predicted {predicted_ms:.2} ms of {budget_ms:.2}, {fixed_ms:.2} of them in what pruning does not touch; \
             measured {:.2}, unpruned on stock tract {:.2}: {:.2} times as fast",
            self.measured_ms,
            self.stock_ms,
            self.stock_ms / self.measured_ms
        )
    }
}

/// Layers of a model by name, and what is predicted of them.
struct Layers {
    policy: Policy,
    layers: HashMap<String, Layer>,
}

impl Layers {
    fn of(source: &Source, options: &Options) -> Result<Layers> {
        let model = source.load(Flavour::Stock, options, Pass::Type)?;
        let mut layers = HashMap::new();
        for node in model.nodes() {
            if let Some(Seen::Layer(layer)) = see(&model, node)? {
                layers.insert(node.name.clone(), layer);
            }
        }
        Ok(Layers { policy: Policy::from_knobs()?, layers })
    }

    fn time(&self, layer: &Layer) -> Result<Time> {
        let ns = match choose(layer, &self.policy, Neighbours::Sparse)? {
            Decision::Sparse(choice) => choice.sparse_ns,
            Decision::Stock(_, Some(choice)) => choice.stock_ns,
            Decision::Stock(reason, None) => bail!("no prediction: {reason}"),
        };
        let wakes = choose(layer, &self.policy, Neighbours::Dense)?.choice().is_some();
        Ok(Time { ms: ns as f64 / 1e6, wakes })
    }

    /// A layer's node has its name, or the name with what tract made of it behind a dot.
    fn find(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}.");
        self.layers.keys().filter(|n| *n == name || n.starts_with(&prefix)).min().map(|n| &**n)
    }

    /// Predicted milliseconds of the layers that `plan` leaves alone. A layer without a prediction is part of
    /// the rest.
    fn fixed_ms(&self, plan: &Plan) -> f64 {
        let planned: Vec<&str> = plan.planned().filter_map(|p| self.find(&p.layer.name)).collect();
        let fixed = self.layers.iter().filter(|(name, _)| !planned.contains(&&***name));
        fixed.filter_map(|(_, layer)| self.time(layer).ok()).map(|time| time.ms).sum()
    }
}

/// Times a model on stock tract and another as tract-sparse runs it, in turn, and says whether that one runs
/// sparse. The fastest run counts: whatever disturbs a run makes it slower.
fn measure(stock: &Source, ours: &Source, options: &Options) -> Result<(f64, f64, bool)> {
    let report = Report::of(&ours.load(Flavour::Sparse, options, Pass::BeforeOptimize)?)?;
    let stock = stock.load(Flavour::Stock, options, Pass::Optimize)?.into_runnable()?;
    let ours = ours.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let limits = BenchLimits {
        warmup_loops: 2,
        warmup_time: Duration::ZERO,
        max_loops: 1000,
        max_time: Duration::from_millis(800),
    };
    let inputs = inputs(stock.model(), &Default::default())?;
    let times = in_turn(&[&stock, &ours], &inputs, &limits, &|_| ())?;
    Ok((quantile(&times[0], 0.0), quantile(&times[1], 0.0), report.sparse_layers() > 0))
}

/// Sets the ratios of `plan` for `model`, which `source` loads, so that they meet the goal at the least loss
/// of norm.
///
/// # Errors
/// As [`budget::fit`]; the model cannot be run.
pub(super) fn fit(
    plan: &mut Plan,
    source: &Source,
    model: &ModelProto,
    goal: Goal,
    options: &Options,
) -> Result<Spent> {
    match goal {
        Goal::Speedup(x) => ensure!(x > 0.0 && x.is_finite(), "--speedup {x}: not a gain"),
        Goal::Milliseconds(ms) => ensure!(ms > 0.0 && ms.is_finite(), "--latency-ms {ms}: not a time"),
    }
    let options = &Options { pass: None, optimize: false, ..options.clone() };
    let layers = Layers::of(source, options)?;
    let mut time = |layer: &prune::Layer, weights: &[f32]| -> Result<Time> {
        // tract cuts the matrices of these up, or keeps them in another order
        let other = matches!(layer.role, Role::Recurrent | Role::Transposed);
        let seen = layers.find(&layer.name).and_then(|name| layers.layers.get(name)).filter(|_| !other);
        let Some(seen) = seen else { return Ok(Time { ms: 0.0, wakes: false }) };
        ensure!(seen.weights.len() == weights.len(), "layer {} has another size in tract", layer.name);
        layers.time(&seen.with_weights(weights)?)
    };
    let (mut stock_ms, unpruned_ms, awake) = measure(source, source, options)?;
    let fixed_ms = layers.fixed_ms(plan);
    let mut rest_ms = 0.0;
    if awake {
        let all: f64 = layers.layers.values().filter_map(|l| layers.time(l).ok()).map(|time| time.ms).sum();
        rest_ms = unpruned_ms - all;
    }
    let mut round = 0;
    loop {
        round += 1;
        let ms = match goal {
            Goal::Speedup(x) => stock_ms / x,
            Goal::Milliseconds(ms) => ms,
        };
        let mut tried = plan.clone();
        let budget = Budget { ms, fixed_ms: fixed_ms + rest_ms, awake };
        let fit = budget::fit(&mut tried, model, &L1, &mut time, budget)?;
        let mut pruned = model.clone();
        tried.apply(&mut pruned, &L1)?;
        let pruned = Source::BuiltIn(source.to_string(), Arc::new(pruned));
        let (stock, measured_ms, _) = measure(source, &pruned, options)?;
        stock_ms = stock_ms.min(stock);
        if (measured_ms - fit.predicted_ms).abs() <= CLOSE * measured_ms || round == ROUNDS {
            let met_unpruned = tried.planned().next().is_none();
            *plan = tried;
            return Ok(Spent { fit, stock_ms, measured_ms, met_unpruned });
        }
        rest_ms += measured_ms - fit.predicted_ms;
    }
}
