//! An error as a budget: which layers can be pruned before the answers change too much.

use crate::apply::{Method, Plan};
use crate::calibrate::Answers;
use crate::checkpoint::{Reader, Record, Steps};
use crate::runtime::{Array, Runtime, shapes};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use tract_onnx::pb::ModelProto;

/// What is kept under this name: every set of layers that has been measured, and what was.
const STAGE: &str = "sensitivity";

/// What pruning one layer alone does to the outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensitivity {
    /// Name of the layer.
    pub layer: String,
    /// How much that changes the answers.
    pub error: f64,
    /// Multiply-adds that it saves in one run.
    pub saved: f64,
    /// Whether it is among the layers that are pruned.
    pub pruned: bool,
}

/// What may not change by more than a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The outputs: norm of the difference of all of them over the norm of the dense model's.
    Outputs,
    /// The place of the largest value of the first output: share of the inputs for which it moves.
    TopClass,
}

/// What the budget has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Within {
    /// What is limited.
    pub change: Change,
    /// The largest change allowed.
    pub limit: f64,
    /// That of the pruned model.
    pub error: f64,
    /// Every layer of the plan, in the order of the nodes.
    pub layers: Vec<Sensitivity>,
}

/// Leaves only those layers in `plan` that can be pruned together, by `method`, while the answers to `inputs`
/// change by at most `limit`.
///
/// Every layer is pruned alone first. Small errors of many layers add up as independent ones do, in squares:
/// so the layers come in the order of their squared error for each multiply-add saved, and the longest run of
/// them is looked for, by bisection, whose error together, as measured, is within the limit. What `steps` has
/// kept is not measured again.
///
/// # Errors
/// A limit that is no positive number; no layer can be pruned within it; as [`Answers::of`].
pub fn within(
    plan: &mut Plan,
    model: &ModelProto,
    method: &dyn Method,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
    (change, limit): (Change, f64),
    steps: &mut Steps,
) -> Result<Within> {
    ensure!(limit > 0.0 && limit.is_finite(), "an error of at most {limit} makes no sense");
    let total = plan.planned().count();
    let pixels = pixels(model, plan, runtime, inputs)?;
    let dense = Answers::of(model, runtime, inputs)?;
    let mut known = steps.kept.get(STAGE).and_then(|reader| read(reader, total)).unwrap_or_default();
    if !known.is_empty() {
        let alone = known.keys().filter(|layers| layers.iter().filter(|pruned| **pruned).count() == 1);
        steps.kept.resume(format!("{} of {total} layers measured", alone.count()));
    }
    let measure = |layers: &[bool]| -> Result<Measured> {
        let mut pruned = model.clone();
        let report = plan.only(|at| layers[at], "").apply(&mut pruned, method)?;
        let (outputs, agreement) = dense.error(&pruned)?;
        let error = match change {
            Change::Outputs => outputs,
            Change::TopClass => 1.0 - agreement,
        };
        ensure!(!error.is_nan(), "the outputs cannot be compared: they have values that are NaN");
        let removed = |layer: &crate::LayerReport| {
            let weights: f64 = layer.shape.map_or(0.0, |shape| shape.iter().product::<usize>() as f64);
            weights * (1.0 - layer.density.unwrap_or(1.0))
        };
        Ok(Measured { error, removed: report.pruned().map(removed).sum() })
    };
    let mut error_of = |layers: Vec<bool>, steps: &mut Steps| -> Result<Measured> {
        if let Some(found) = known.get(&layers) {
            return Ok(*found);
        }
        let found = measure(&layers)?;
        known.insert(layers, found);
        steps.kept.put(STAGE, || record(&known));
        Ok(found)
    };
    let mut layers = vec![];
    for (turn, p) in plan.planned().enumerate() {
        (steps.say)(turn, total);
        let Measured { error, removed } = error_of((0..total).map(|at| at == turn).collect(), steps)?;
        let name = p.layer.name.clone();
        layers.push(Sensitivity { layer: name, error, saved: removed * pixels[turn], pruned: false });
    }
    let mut order: Vec<usize> = (0..total).collect();
    let price = |at: &usize| layers[*at].error.powi(2) / layers[*at].saved.max(1.0);
    order.sort_by(|a, b| price(a).total_cmp(&price(b)));
    let reason = "pruning it would exceed the error allowed";
    // `fits` layers are within the limit, `too_many` are not
    let (mut fits, mut too_many, mut error) = (0, total + 1, 0.0);
    while too_many - fits > 1 {
        // all of them first
        let middle = if too_many > total { total } else { fits.midpoint(too_many) };
        let chosen = (0..total).map(|at| order[..middle].contains(&at)).collect();
        let found = error_of(chosen, steps)?.error;
        if found <= limit {
            (fits, error) = (middle, found);
        } else {
            too_many = middle;
        }
    }
    let least = layers.iter().map(|layer| layer.error).fold(f64::INFINITY, f64::min);
    ensure!(
        fits > 0,
        "no layer can be pruned with an error of at most {limit}: the least is {least:.3}, from one layer alone; a smaller ratio, finer \
         zeros (--conv1x1 2x1, unstructured), calibration or training after pruning help"
    );
    for at in &order[..fits] {
        layers[*at].pruned = true;
    }
    *plan = plan.only(|at| order[..fits].contains(&at), reason);
    Ok(Within { change, limit, error, layers })
}

/// What pruning some layers does.
#[derive(Debug, Clone, Copy)]
struct Measured {
    error: f64,
    /// Weights that become zero.
    removed: f64,
}

/// By the layers that are pruned, in the order of the plan.
type Known = BTreeMap<Vec<bool>, Measured>;

fn record(known: &Known) -> Record {
    let mut record = Record::default();
    record.count(known.len());
    for (layers, measured) in known {
        record.bytes(&layers.iter().map(|pruned| u8::from(*pruned)).collect::<Vec<_>>());
        record.number(measured.error);
        record.number(measured.removed);
    }
    record
}

fn read(mut reader: Reader, total: usize) -> Option<Known> {
    let mut known = Known::new();
    for _ in 0..reader.count()? {
        let layers: Vec<bool> = reader.bytes()?.iter().map(|pruned| *pruned == 1).collect();
        (layers.len() == total).then_some(())?;
        known.insert(layers, Measured { error: reader.number()?, removed: reader.number()? });
    }
    Some(known)
}

/// How often each weight of the planned layers is used in a run: output pixels of all images.
fn pixels(model: &ModelProto, plan: &Plan, runtime: &dyn Runtime, inputs: &[Vec<Array>]) -> Result<Vec<f64>> {
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let first = inputs.first().context("there are no inputs to compare on")?;
    let first = first.iter().map(Array::tensor).collect::<Result<Vec<_>>>()?;
    let shapes = shapes(model, runtime, &first)?;
    let of = |p: &crate::Planned| {
        let output = graph.node.get(p.layer.node).and_then(|node| node.output.first());
        let values = output.and_then(|name| shapes.get(name)).map_or(1, |shape| shape.iter().product());
        (values as f64 / p.layer.shape.oc.max(1) as f64).max(1.0)
    };
    Ok(plan.planned().map(of).collect())
}
