//! `fit`: a cost table of this machine.

use crate::files;
use crate::options::Options;
use crate::out;
use crate::table::wrap;
use anyhow::{Context, Result};
use clap::Args;
use figures::Progress;
use rewriter::Policy;
use rewriter::costs::{Costs, Table};
use rewriter::fit::{file, measured, table};
use sparse_kernels::doctor::machine::Machine;
use std::path::PathBuf;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  taskset -c 1 tract-sparse fit
  tract-sparse fit -o costs.txt
  TRACT_SPARSE_COSTS=costs.txt tract-sparse m.onnx inspect

Which layers run sparse is decided by predicted times, from a table fitted on a
machine of a like kind. This makes one of yours, in half a minute on an idle
core, and keeps it in your cache directory, where it is found from then on
(TRACT_SPARSE_COSTS=built-in ignores it; to forget it, delete it). inspect and
doctor say which table decides.";

/// Arguments of `fit`.
#[derive(Debug, Args)]
pub(crate) struct Fit {
    /// Write the table to this file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Measures, fits, and writes the table where it is found, or where the arguments say.
pub(super) fn run(args: &Fit, options: &Options) -> Result<()> {
    let target = Policy::from_knobs()?.target;
    let path = match &args.output {
        Some(path) => path.clone(),
        None => {
            let path = file(target).context("this system has no cache directory: say where with -o")?;
            let folder = path.parent().unwrap_or(&path);
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            path
        }
    };
    let progress = Progress::new();
    let samples = measured(target, "", &mut |done, all| {
        progress.part(&format!("measuring for {target}"), done as f64 / all as f64);
    })?;
    drop(progress);
    let text = table(target.name(), &Machine::detect().cpu, "tract-sparse fit", &samples)?;
    files::write(&path, text.as_bytes())?;
    // what cannot be read again is found now, not when a model loads
    Table::read(&path)?;
    let layers: usize = samples.values().map(Vec::len).sum();
    if options.json {
        return out::json(&serde_json::json!({
            "file": path,
            "target": target.name(),
            "layers": layers,
            "found": args.output.is_none(),
        }));
    }
    let found = match args.output {
        None => "predictions are made with it from now on".into(),
        Some(_) => format!("TRACT_SPARSE_COSTS={} predicts with it", path.display()),
    };
    let before = Costs::built_in(target);
    out::print(&wrap(
        &format!("{}: {layers} layers measured for {target}; {found}. Without it: {before}.", path.display()),
        4,
    ))
}
