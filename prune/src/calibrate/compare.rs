//! What ways of pruning do to the outputs.

use crate::apply::{Method, Plan, Report};
use crate::runtime::{Array, Runtime, outputs};
use anyhow::{Result, ensure};
use serde::Serialize;
use tract_onnx::pb::ModelProto;

/// What a way of pruning does to the outputs on inputs that it has not seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Error {
    /// Name of the method.
    pub method: String,
    /// Norm of the difference of all outputs over the norm of the dense model's outputs.
    pub error: f64,
    /// Share of inputs for which the largest value of the first output is at the same place.
    pub agreement: f64,
}

/// Prunes copies of `model` in several ways and compares their outputs with those of the dense model.
///
/// # Errors
/// No inputs, or a model that cannot be run.
pub fn compare(
    model: &ModelProto,
    plan: &Plan,
    methods: &[(&str, &dyn Method)],
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
) -> Result<Vec<Error>> {
    let mut errors = vec![];
    for (name, method) in methods {
        let mut pruned = model.clone();
        let _: Report = plan.apply(&mut pruned, *method)?;
        let (error, agreement) = output_error(model, &pruned, runtime, inputs)?;
        errors.push(Error { method: name.to_string(), error, agreement });
    }
    Ok(errors)
}

/// Relative difference of the outputs of two models, and how often their first output is largest at the same place.
///
/// # Errors
/// No inputs, or a model that cannot be run.
pub fn output_error(
    dense: &ModelProto,
    pruned: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
) -> Result<(f64, f64)> {
    ensure!(!inputs.is_empty(), "there are no inputs to compare on");
    let names = outputs(dense);
    let (mut difference, mut norm, mut agreed) = (0.0, 0.0, 0usize);
    let (mut dense, mut pruned) = (runtime.open(dense, &names)?, runtime.open(pruned, &names)?);
    for run in inputs {
        let (expected, got) = (dense.run(run)?, pruned.run(run)?);
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            for (g, e) in got.data.iter().zip(&expected.data) {
                difference += f64::from(g - e).powi(2);
                norm += f64::from(*e).powi(2);
            }
        }
        let top = |outputs: &[Option<Array>]| {
            let first = outputs.iter().flatten().next()?;
            first.data.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)
        };
        agreed += usize::from(top(&got) == top(&expected));
    }
    Ok(((difference / norm.max(1e-30)).sqrt(), agreed as f64 / inputs.len() as f64))
}
