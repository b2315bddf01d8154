//! Calibration layer by layer.

use super::collect::Calibration;
use super::obc::Obc;
use crate::apply::{Done, Plan, Report};
use crate::checkpoint::{Reader, Record, Steps};
use crate::runtime::{Array, Runtime};
use anyhow::{Context, Result};
use tract_onnx::pb::ModelProto;

/// What is kept under this name: how many layers have been pruned, what each has become, and the model.
const STAGE: &str = "layer by layer";

/// Optimal brain compression from the first layer to the last: each is pruned and updated after what reaches
/// it through those that have been pruned already, towards what it would compute in the dense model. Errors
/// do not add up as they do when every layer is calibrated on the dense model. One layer at a time: two that
/// make up for the same loss overdo it. Runs the dense and the pruned model on every input for every layer.
/// Layers that `steps` has kept are not pruned again.
///
/// # Errors
/// As [`Calibration::collect`] and [`Plan::apply`].
pub fn sequential(
    model: &mut ModelProto,
    plan: &Plan,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
    steps: &mut Steps,
) -> Result<Report> {
    let dense = model.clone();
    let planned: Vec<_> = plan.planned().collect();
    let total = planned.len();
    let mut done = vec![];
    if let Some((layers, kept)) = steps.kept.get(STAGE).and_then(|reader| read(reader, total)) {
        steps.kept.resume(format!("{} of {total} layers pruned", layers.len()));
        (done, *model) = (layers, kept);
    }
    for turn in done.len()..total {
        (steps.say)(turn, total);
        let stage = plan.only(|at| at == turn, "not its turn");
        let before = model.clone();
        let calibration = Calibration::collect_against(&before, Some(&dense), &stage, runtime, inputs)?;
        let report = stage.apply(model, &Obc(&calibration))?;
        let layer = report.pruned().next().context("a layer has not been pruned")?;
        done.push(Done {
            removed: layer.removed,
            density: layer.density.unwrap_or(1.0),
            kept_l1: layer.kept_l1.unwrap_or(1.0),
        });
        steps.kept.put(STAGE, || record(&done, model));
    }
    let reports = planned.iter().zip(done).map(|(p, done)| (p.layer.key(), p.report(done)));
    plan.gather(reports.collect())
}

fn record(done: &[Done], model: &ModelProto) -> Record {
    let mut record = Record::default();
    record.count(done.len());
    for layer in done {
        record.number(layer.removed.unwrap_or(f64::NAN));
        record.number(layer.density);
        record.number(layer.kept_l1);
    }
    record.model(model);
    record
}

fn read(mut reader: Reader, total: usize) -> Option<(Vec<Done>, ModelProto)> {
    let count = reader.count().filter(|count| *count <= total)?;
    let mut layer = || {
        let removed = Some(reader.number()?).filter(|removed| !removed.is_nan());
        Some(Done { removed, density: reader.number()?, kept_l1: reader.number()? })
    };
    let done = (0..count).map(|_| layer()).collect::<Option<Vec<_>>>()?;
    Some((done, reader.model()?))
}
