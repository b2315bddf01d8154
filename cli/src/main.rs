//! `tract-sparse`: arguments, tables and exit codes over the library of the same name.

mod args;
mod assertions;
mod bench;
mod compare;
mod convert;
mod doctor;
mod dump;
mod html;
mod input;
mod inspect;
mod load;
mod load_nnef;
mod logger;
mod nnef;
mod npz;
mod out;
mod prune_budget;
#[path = "prune.rs"]
mod prune_command;
mod prune_engine;
mod run;
mod shell;
mod table;
mod whatif;
mod zoo_command;

use anyhow::{Context, Result, bail, ensure};
use args::{Cli, Command, Options};
use clap::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use tract_core::knobs::KnobScope;
use tract_linalg::multithread::{Executor, set_default_executor};

fn main() -> ExitCode {
    out::quiet_panics();
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return out::usage(&error),
    };
    cli.options.facts.splice(0..0, std::mem::take(&mut cli.facts));
    logger::start(cli.options.verbose);
    let result = catch_unwind(AssertUnwindSafe(|| run(&cli)));
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if out::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            if let Some(out::Told(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            out::error(&format!("{error:#}"));
            ExitCode::from(if error.is::<out::Differs>() { 3 } else { 1 })
        }
        Err(panic) => {
            let text = out::panic_text(&panic);
            if out::is_broken_pipe_text(text) {
                return ExitCode::SUCCESS;
            }
            let model = cli.model.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display()));
            out::error(&format!("{model}internal error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let Cli { model, options, command, .. } = cli;
    set_threads(options.threads)?;
    let knobs: Vec<(&str, &str)> = [
        ("TRACT_SPARSE", &options.sparse),
        ("TRACT_SPARSE_TARGET", &options.target),
        ("TRACT_SPARSE_MIN_GAIN", &options.min_gain),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    .collect();
    KnobScope::new(knobs)?.enter(|| {
        // a wrong knob is an error of every command, not only of those that come across a sparse layer
        tract_sparse::Policy::from_knobs()?;
        let source = || -> Result<load::Source> {
            let path = model.as_ref().context("no MODEL before the command; see --help")?;
            Ok(load::Source::File(path.clone()))
        };
        match command {
            Command::Zoo(args) => {
                if let Some(model) = model {
                    bail!("zoo makes a model and takes none: {}", model.display());
                }
                ensure!(
                    options.facts.is_empty()
                        && options.set.is_empty()
                        && options.pass.is_none()
                        && !options.optimize,
                    "zoo takes none of -i, --set, --pass and -O; see --batch, --hw and --width"
                );
                zoo_command::run(args, options)
            }
            Command::Bench(args) if model.is_none() => bench::built_in(args, options),
            Command::Bench(args) => bench::model(&source()?, args, options),
            Command::Prune(args) => {
                let path = model.as_ref().context("no MODEL before the command; see --help")?;
                prune_command::run(path, args, options)
            }
            Command::Convert(args) => convert::run(&source()?, args, options),
            Command::Inspect(args) => inspect::run(&source()?, args, options),
            Command::Whatif(args) => {
                let path = model.as_ref().context("no MODEL before the command; see --help")?;
                whatif::run(path, args, options)
            }
            Command::Doctor => {
                if let Some(model) = model {
                    bail!("doctor takes no model: {}", model.display());
                }
                doctor::run(options)
            }
            Command::Compare(args) => compare::run(&source()?, args, options),
            Command::Run(args) => run::run(&source()?, args, options),
            Command::Dump(args) => dump::run(&source()?, args, options),
            Command::Completions(_) | Command::Man(_) if model.is_some() => {
                bail!("completions and man take no model")
            }
            Command::Completions(args) => shell::completions(args),
            Command::Man(args) => shell::man(args),
        }
    })
}

/// How many threads `--threads` means.
fn threads(options: &Options) -> usize {
    match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

fn set_threads(n: usize) -> Result<()> {
    ensure!(n <= 1024, "--threads {n}: at most 1024");
    let n = threads(&Options { threads: n, ..Options::default() });
    if n > 1 {
        set_default_executor(Executor::multithread(n));
    }
    Ok(())
}
