//! `whatif`: how fast a model would be if it were pruned. A copy in memory is pruned; nothing is written but
//! pictures.

mod once;
pub(super) mod rows;
mod sweep;

use crate::layers::{quantised_report, report};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::zeros::Settings;
use anyhow::{Context, Result, ensure};
use clap::Args;
use prune::{Document, Plan, Recipe};
use sparsity::{Setting, Zeros};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_sparse::Report;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse m.onnx whatif --conv1x1 4x4:0.5 --dwconv3x3 3:9
  tract-sparse m.onnx whatif --conv1x1 4x1:0.8 --measure
  tract-sparse m.onnx whatif --ratio 0.5 --conv3x3 5:9
  tract-sparse m.onnx whatif --sweep --svg curve.svg
  tract-sparse m.onnx whatif --int8 --conv1x1 2x4:0.8

A copy in memory is pruned by magnitude; the file stays as it is. Times are
those of the layers: what else a network does is not counted. Zeros that keep
answers where a network is trained with them: 2x1:0.8, with --precision half
2x2:0.8, with --int8 2x4:0.8; 4x4 is the fastest, and keeps them to about 0.5.

--int8 quantises nothing: times are those that the cost table says for layers of
int8 with these zeros, as if what goes into every layer and comes out of it were
quantised, and its weights. Weights that would round to zero still count.";

/// Arguments of `whatif`.
#[derive(Debug, Args)]
pub(crate) struct Whatif {
    #[command(flatten)]
    pub(crate) zeros: Settings,
    /// Draw speed against zeros, as without any option: layers with blocks
    #[arg(long, conflicts_with_all = ["conv1x1", "ratio"])]
    sweep: bool,
    /// With --sweep: write the curves as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Time every layer too
    #[arg(long, conflicts_with = "sweep")]
    measure: bool,
    /// Predict what it would be if it were quantised, too
    #[arg(long, conflicts_with = "measure")]
    int8: bool,
}

/// Runs `whatif` with or without `--sweep`.
pub(super) fn run(path: &Path, args: &Whatif, options: &Options) -> Result<()> {
    let sweeps = args.sweep || !args.zeros.any();
    ensure!(sweeps || args.svg.is_none(), "--svg is for --sweep");
    ensure!(!sweeps || !args.measure, "--measure is for zeros that are given, as in --conv1x1 4x4:0.5");
    let mut document = Document::open(path)?;
    prune::densify(&mut document.model).with_context(|| path.display().to_string())?;
    if sweeps { sweep::run(path, document, args, options) } else { once::run(path, document, args, options) }
}

/// What the arguments want of every layer; of the others of a sweep, `swept` blocks wherever there can be
/// any.
fn plan(document: &Document, args: &Whatif, swept: Option<Zeros>) -> Result<Plan> {
    let recipe = match swept.map(Setting::from) {
        Some(swept) => Recipe {
            conv1x1: swept,
            fc: swept,
            conv3x3: swept,
            conv: swept,
            convtranspose: swept,
            recurrent: swept,
            ..Recipe::default()
        },
        None => Recipe::default(),
    };
    args.zeros.check_complete()?;
    Plan::new(&document.model, &args.zeros.recipe(recipe)?)
}

/// The report of a pruned model in memory.
fn then(name: &str, document: &Document, args: &Whatif, options: &Options) -> Result<Report> {
    match args.int8 {
        true => quantised_report(&built_in(name, document), options),
        false => look(name, document, options, args.measure),
    }
}

fn built_in(name: &str, document: &Document) -> Source {
    Source::BuiltIn(name.into(), Arc::new(document.model.clone()))
}

/// What to say of a model none of whose layers has a predicted time: what layers that have no shape lack, or why they are not read.
fn unpriced(now: &Report) -> String {
    let reason = now.layers.iter().find_map(|layer| Some((&layer.name, layer.reason.as_ref()?)));
    let why =
        reason.map_or_else(|| "it has no layers".to_string(), |(name, reason)| format!("{name}: {reason}"));
    format!("no layer has a predicted time ({why}); symbols get values with --set")
}

/// The report of a model in memory.
fn look(name: &str, document: &Document, options: &Options, measure: bool) -> Result<Report> {
    let source = built_in(name, document);
    report(&source, &source.load(Flavour::Sparse, options, Pass::BeforeOptimize)?, measure)
}
