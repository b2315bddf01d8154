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
    let dense = Answers::of(model, runtime, inputs)?;
    let mut errors = vec![];
    for (name, method) in methods {
        let mut pruned = model.clone();
        let _: Report = plan.apply(&mut pruned, *method)?;
        let (error, agreement) = dense.error(&pruned)?;
        errors.push(Error { method: name.to_string(), error, agreement });
    }
    Ok(errors)
}

/// The outputs of a model for some inputs, which those of others are compared with.
pub struct Answers<'a> {
    runtime: &'a dyn Runtime,
    inputs: &'a [Vec<Array>],
    names: Vec<String>,
    outputs: Vec<Vec<Option<Array>>>,
}

impl<'a> Answers<'a> {
    /// Those of `model`.
    ///
    /// # Errors
    /// No inputs, or a model that cannot be run.
    pub fn of(model: &ModelProto, runtime: &'a dyn Runtime, inputs: &'a [Vec<Array>]) -> Result<Answers<'a>> {
        ensure!(!inputs.is_empty(), "there are no inputs to compare on");
        let names = outputs(model);
        let mut session = runtime.open(model, &names)?;
        let outputs = inputs.iter().map(|run| session.run(run)).collect::<Result<_>>()?;
        Ok(Answers { runtime, inputs, names, outputs })
    }

    /// How far those of another model are off: the norm of the difference of all outputs over the norm of
    /// these, and the share of inputs for which the largest value of the first output is at the same
    /// place.
    ///
    /// # Errors
    /// A model that cannot be run.
    pub fn error(&self, other: &ModelProto) -> Result<(f64, f64)> {
        let (mut difference, mut norm, mut agreed) = (0.0, 0.0, 0usize);
        let mut session = self.runtime.open(other, &self.names)?;
        for (run, expected) in self.inputs.iter().zip(&self.outputs) {
            let got = session.run(run)?;
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
            agreed += usize::from(top(&got) == top(expected));
        }
        Ok(((difference / norm.max(1e-30)).sqrt(), agreed as f64 / self.inputs.len() as f64))
    }
}

/// [`Answers::error`] of a pruned model, if only one is compared with the dense one.
///
/// # Errors
/// No inputs, or a model that cannot be run.
pub fn output_error(
    dense: &ModelProto,
    pruned: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
) -> Result<(f64, f64)> {
    Answers::of(dense, runtime, inputs)?.error(pruned)
}
