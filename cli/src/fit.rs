//! `fit`: a cost table of this machine.

use crate::args::{Fit, Options};
use crate::out;
use crate::table::wrap;
use anyhow::{Context, Result};
use figures::Progress;
use rewriter::Policy;
use rewriter::costs::{Costs, Table};
use rewriter::fit::{file, measured, table};
use sparse_kernels::machine::Machine;

/// Measures, fits, and writes the table where it is found, or where the arguments say.
pub(crate) fn run(args: &Fit, options: &Options) -> Result<()> {
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
    let samples = measured(target, &mut |done, all| {
        progress.part(&format!("measuring for {target}"), done as f64 / all as f64);
    })?;
    drop(progress);
    let text = table(target.name(), &Machine::detect().cpu, "tract-sparse fit", &samples)?;
    out::file(&path, text.as_bytes())?;
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
