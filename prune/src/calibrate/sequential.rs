//! Calibration layer by layer.

use super::collect::Calibration;
use super::obc::Obc;
use crate::apply::{Plan, Report};
use crate::runtime::{Array, Runtime};
use anyhow::Result;
use std::collections::HashMap;
use tract_onnx::pb::ModelProto;

/// Optimal brain compression from the first layer to the last: each is pruned and updated after what reaches
/// it through those that have been pruned already, towards what it would compute in the dense model. Errors
/// do not add up as they do when every layer is calibrated on the dense model. One layer at a time: two that
/// make up for the same loss overdo it. Runs the dense and the pruned model on every input for every layer.
///
/// # Errors
/// As [`Calibration::collect`] and [`Plan::apply`].
pub fn sequential(
    model: &mut ModelProto,
    plan: &Plan,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    let dense = model.clone();
    let total = plan.planned().count();
    let mut reports = HashMap::new();
    for turn in 0..total {
        progress(turn, total);
        let stage = plan.only(|at| at == turn, "not its turn");
        let before = model.clone();
        let calibration = Calibration::collect_against(&before, Some(&dense), &stage, runtime, inputs)?;
        let report = stage.apply(model, &Obc(&calibration))?;
        let nodes: Vec<(usize, usize)> = stage.planned().map(|p| p.layer.key()).collect();
        let done = report.layers.into_iter().filter(|l| l.skipped.is_none());
        reports.extend(nodes.into_iter().zip(done));
    }
    plan.gather(reports)
}
