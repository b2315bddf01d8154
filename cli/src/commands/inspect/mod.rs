//! `inspect`: the report, layer by layer, and what would help.

mod page;
mod prunable;
mod quantised;
mod words;

use crate::files;
use crate::layers::report;
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use anyhow::Result;
use clap::Args;
use prunable::Prunable;
use quantised::Quantised;
use rewriter::{advise, maps};
use std::path::PathBuf;
use tract_sparse::{Mode, Policy};

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse m.onnx inspect
  tract-sparse m.onnx inspect --measure
  tract-sparse m.onnx inspect --html report.html
  tract-sparse m.onnx inspect --int8
  tract-sparse m.onnx -O --precision half inspect

--int8 quantises nothing: it says what the cost table predicts if what goes into
every layer and comes out of it were quantised, and its weights; whatif --int8
adds zeros to that.";

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Time every layer on either operator
    #[arg(long)]
    measure: bool,
    /// Predict what every layer would take if the model were quantised
    #[arg(long)]
    int8: bool,
    /// Write a page to look at: times, table, and where the zeros are
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Prints the report of a model.
pub(super) fn run(source: &Source, args: &Inspect, options: &Options) -> Result<()> {
    let model = source.load(Flavour::Sparse, options, Pass::BeforeOptimize)?;
    let policy = Policy::from_knobs()?;
    let report = report(source, &model, args.measure)?;
    let prunable = Prunable::of(source);
    let advice = advise(&model, &policy, &|action, name| prunable.can(action, name))?;
    let mut value = serde_json::to_value(&report)?;
    value["model"] = source.to_string().into();
    value["layers_sparse"] = report.sparse_layers().into();
    value["advice"] = serde_json::to_value(&advice)?;
    let int8 = match args.int8 {
        true => Some(Quantised::of(source, &report, options)?),
        false => None,
    };
    value["if_quantised"] = int8.as_ref().map_or(serde_json::Value::Null, Quantised::value);
    if let Some(file) = &args.html {
        let mut maps = maps(&model)?;
        maps.resize(report.layers.len(), None);
        let page = page::page(&value, &report, policy.mode == Mode::Measure, &maps)?;
        files::write(file, page.as_bytes())?;
    }
    if options.json {
        return out::json(&value);
    }
    let mut text = report.text(Some(&source.to_string()), options.verbose > 0);
    if args.measure {
        text += &words::measured(&report);
    }
    if let Some(int8) = &int8 {
        text += &int8.text(options.verbose > 0);
    }
    text += &words::help(&advice, &report);
    out::print(&text)
}
