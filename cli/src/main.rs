//! `tract-sparse`: arguments, tables and exit codes over the library of the same name.

mod archive;
mod args;
mod assertions;
mod bench;
mod compare;
mod convert;
mod doctor;
mod dump;
mod fit;
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
#[cfg(unix)]
mod signals;
mod test_data;
mod whatif;
mod zoo_command;

use anyhow::{Context, Error, Result, bail, ensure};
use args::{Cli, Command, Options};
use clap::Parser;
use rewriter::table;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use tract_core::knobs::KnobScope;
use tract_linalg::multithread::{Executor, set_default_executor};

const NO_MODEL: &str = "no MODEL, as in tract-sparse m.onnx inspect; see --help";

fn main() -> ExitCode {
    out::quiet_panics();
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return out::usage(&error),
    };
    cli.options.facts.splice(0..0, std::mem::take(&mut cli.facts));
    let behind = cli.command.model().cloned();
    if let (Some(model), Some(behind)) = (&cli.model, &behind) {
        let text = format!("two models, {} and {} (see --help)", model.display(), behind.display());
        out::error(&text);
        return ExitCode::from(2);
    }
    cli.model = cli.model.or(behind);
    logger::start(cli.options.verbose);
    #[cfg(unix)]
    signals::clean_up_on_interrupt();
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut cli)));
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

fn run(cli: &mut Cli) -> Result<()> {
    test_data::inputs(cli)?;
    let Cli { model, options, command, .. } = cli;
    set_threads(options.threads)?;
    let given: Vec<(&str, &str, &str)> = [
        ("--sparse", "TRACT_SPARSE", &options.sparse),
        ("--target", "TRACT_SPARSE_TARGET", &options.target),
        ("--costs", "TRACT_SPARSE_COSTS", &options.costs),
        ("--min-gain", "TRACT_SPARSE_MIN_GAIN", &options.min_gain),
    ]
    .into_iter()
    .filter_map(|(option, name, value)| Some((option, name, value.as_deref()?)))
    .collect();
    KnobScope::new(given.iter().map(|(_, name, value)| (*name, *value)))?.enter(|| {
        // a wrong knob is an error of every command, not only of those that come across a sparse layer
        tract_sparse::Policy::from_knobs().map_err(|error| match blame(&given, &error) {
            Some(option) => error.context(option),
            None => error,
        })?;
        let source = || -> Result<load::Source> {
            let path = model.as_ref().context(NO_MODEL)?;
            Ok(load::Source::File(load::file(path)))
        };
        // those two may replace their own model, and see to what it reads themselves
        if let Some(model) =
            model.as_ref().filter(|_| !matches!(command, Command::Prune(_) | Command::Convert(_)))
        {
            out::protect(model);
        }
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
            Command::Bench(it) if model.is_none() => bench::built_in(&it.args, options),
            Command::Bench(it) => bench::model(&source()?, &it.args, options),
            Command::Prune(it) => {
                let path = model.as_ref().context(NO_MODEL)?;
                prune_command::run(path, &it.args, options)
            }
            Command::Convert(it) => convert::run(&source()?, &it.args, options),
            Command::Inspect(it) => inspect::run(&source()?, &it.args, options),
            Command::Whatif(it) => {
                let path = model.as_ref().context(NO_MODEL)?;
                whatif::run(path, &it.args, options)
            }
            Command::Doctor => {
                if let Some(model) = model {
                    bail!("doctor takes no model: {}", model.display());
                }
                doctor::run(options)
            }
            Command::Fit(args) => {
                if let Some(model) = model {
                    bail!("fit takes no model: {}", model.display());
                }
                fit::run(args, options)
            }
            Command::Compare(it) => compare::run(&source()?, &it.args, options),
            Command::Run(it) => run::run(&source()?, &it.args, options),
            Command::Dump(it) => dump::run(&source()?, &it.args, options),
            Command::Completions(_) | Command::Man(_) if model.is_some() => {
                bail!("completions and man take no model")
            }
            Command::Completions(args) => shell::completions(args),
            Command::Man(args) => shell::man(args),
        }
    })
}

/// The option that gave the wrong value which `error` names by its knob.
fn blame(given: &[(&str, &str, &str)], error: &Error) -> Option<String> {
    let text = error.to_string();
    let (option, _, value) = given.iter().find(|(_, name, _)| text.starts_with(&format!("{name}=")))?;
    Some(format!("{option} {value}"))
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
