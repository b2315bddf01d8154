//! Layers of a report, as tables show them.

use crate::load::Source;
use anyhow::Result;
use figures::Progress;
use tract_core::prelude::TypedModel;
use tract_sparse::{Policy, Report};

/// The report of a model, its layers timed one by one if asked.
pub(crate) fn report(source: &Source, model: &TypedModel, measure: bool) -> Result<Report> {
    if !measure {
        return Report::of(model);
    }
    let progress = Progress::new();
    let mut said = |done: usize, all: usize| {
        progress.part(&format!("{source}: timing layers"), done as f64 / all.max(1) as f64);
    };
    Report::measured(model, &Policy::from_knobs()?, &mut said)
}
