//! Layers of a report, as tables show them.

use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::table::{names, wrap};
use anyhow::Result;
use figures::Progress;
use std::collections::BTreeMap;
use tract_core::prelude::TypedModel;
use tract_sparse::{Policy, Report};

/// The report of a model as it would be if all its layers were quantised, predicted.
pub(crate) fn quantised_report(source: &Source, options: &Options) -> Result<Report> {
    let policy = Policy { if_quantised: true, ..Policy::from_knobs()? };
    let mut model = source.load(Flavour::Stock, options, Pass::BeforeOptimize)?;
    tract_sparse::sparsify(&mut model, &policy)?;
    Report::with_policy(&model, &policy)
}

/// How many layers of a report run in int8, and why others that run here do not.
pub(crate) fn int8_words(report: &Report, all: bool) -> String {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for layer in report.layers.iter().filter(|layer| layer.chosen.is_some() && !layer.is_int8()) {
        if let Some(why) = layer.why_f32.as_deref() {
            reasons.entry(why).or_default().push(layer.layer());
        }
    }
    let (int8, here) = (report.int8_layers(), report.sparse_layers());
    let mut text = wrap(&format!("int8: {int8} of the {here} layers that run here"), 4);
    for (why, layers) in reasons {
        text += &wrap(&format!("f32, {why}: {}", names(&layers, all)), 4);
    }
    text
}

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
