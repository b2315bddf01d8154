//! The commands: each has its arguments, its work and its words in a module of its name.

mod bench;
mod compare;
pub(crate) mod convert;
mod doctor;
mod dump;
mod fit;
mod inspect;
mod prune;
mod run;
mod shell;
mod whatif;
mod zoo;

use crate::files;
use crate::inputs::Input;
use crate::load::{self, Source};
use crate::options::{OnModel, Options};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::path::{Path, PathBuf};

const NO_MODEL: &str = "no MODEL, as in tract-sparse m.onnx inspect; see --help";

/// A command and its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a built-in network with random weights as ONNX
    #[command(after_help = zoo::HELP)]
    Zoo(zoo::Zoo),
    /// Say what runs each layer, and why the others stay stock
    #[command(after_help = inspect::HELP)]
    Inspect(OnModel<inspect::Inspect>),
    /// Say how fast a model would be if it were pruned
    #[command(after_help = whatif::HELP)]
    Whatif(OnModel<whatif::Whatif>),
    /// Check the kernels of this machine: right, and how fast
    #[command(after_help = doctor::HELP)]
    Doctor,
    /// Measure this machine, so that times are predicted for it
    #[command(after_help = fit::HELP)]
    Fit(fit::Fit),
    /// Time a model; without one, the built-in network
    #[command(after_help = bench::HELP)]
    Bench(OnModel<bench::Bench>),
    /// Run a model stock and sparse, and fail if they differ
    #[command(after_help = compare::HELP)]
    Compare(OnModel<compare::Compare>),
    /// Run a model once and show or save its outputs
    #[command(after_help = run::HELP)]
    Run(OnModel<run::Run>),
    /// Make the weights of a model sparse, and write it as plain ONNX
    #[command(after_help = prune::HELP)]
    Prune(Box<OnModel<prune::Prune>>),
    /// Write a model as NNEF, without the zeros of its weights
    #[command(after_help = convert::HELP)]
    Convert(OnModel<convert::Convert>),
    /// Print the nodes of the sparse model as tract's own dump does
    #[command(after_help = dump::HELP)]
    Dump(Box<OnModel<dump::Dump>>),
    /// Print a completion script for a shell
    #[command(after_help = shell::COMPLETIONS_HELP)]
    Completions(shell::Completions),
    /// Print the manual page, or that of one command
    #[command(after_help = shell::MAN_HELP)]
    Man(shell::Man),
}

impl Command {
    /// The model behind the command.
    pub(crate) fn model(&self) -> Option<&PathBuf> {
        match self {
            Command::Inspect(it) => it.model.as_ref(),
            Command::Whatif(it) => it.model.as_ref(),
            Command::Bench(it) => it.model.as_ref(),
            Command::Compare(it) => it.model.as_ref(),
            Command::Run(it) => it.model.as_ref(),
            Command::Prune(it) => it.model.as_ref(),
            Command::Convert(it) => it.model.as_ref(),
            Command::Dump(it) => it.model.as_ref(),
            Command::Zoo(_)
            | Command::Doctor
            | Command::Fit(_)
            | Command::Completions(_)
            | Command::Man(_) => None,
        }
    }

    /// Where the inputs of the command come from, if it takes some.
    pub(crate) fn input_mut(&mut self) -> Option<&mut Input> {
        match self {
            Command::Bench(it) => Some(&mut it.args.input),
            Command::Compare(it) => Some(&mut it.args.input),
            Command::Run(it) => Some(&mut it.args.input),
            Command::Dump(it) => Some(&mut it.args.input),
            _ => None,
        }
    }

    /// Does what is asked for with a model. `whole` is the command line that this is a part of.
    pub(crate) fn run(
        &self,
        model: Option<&Path>,
        options: &Options,
        whole: fn() -> clap::Command,
    ) -> Result<()> {
        // those two may replace their own model, and see to what it reads themselves
        if let Some(model) = model.filter(|_| !matches!(self, Command::Prune(_) | Command::Convert(_))) {
            files::protect(model);
        }
        let path = || model.context(NO_MODEL);
        let source = || Ok::<_, anyhow::Error>(Source::File(load::file(path()?)));
        match self {
            Command::Zoo(args) => {
                takes_none("zoo makes a model and takes none", model)?;
                zoo::run(args, options)
            }
            Command::Inspect(it) => inspect::run(&source()?, &it.args, options),
            Command::Whatif(it) => whatif::run(path()?, &it.args, options),
            Command::Doctor => {
                takes_none("doctor takes no model", model)?;
                doctor::run(options)
            }
            Command::Fit(args) => {
                takes_none("fit takes no model", model)?;
                fit::run(args, options)
            }
            Command::Bench(it) => {
                let source = model.map(|path| Source::File(load::file(path)));
                bench::run(source.as_ref(), &it.args, options)
            }
            Command::Compare(it) => compare::run(&source()?, &it.args, options),
            Command::Run(it) => run::run(&source()?, &it.args, options),
            Command::Prune(it) => prune::run(path()?, &it.args, options),
            Command::Convert(it) => convert::run(&source()?, &it.args, options),
            Command::Dump(it) => dump::run(&source()?, &it.args, options),
            Command::Completions(_) | Command::Man(_) if model.is_some() => {
                bail!("completions and man take no model")
            }
            Command::Completions(args) => shell::completions(args, whole()),
            Command::Man(args) => shell::man(args, whole()),
        }
    }
}

/// Fails if there is a model; `text` says why there must not be.
fn takes_none(text: &str, model: Option<&Path>) -> Result<()> {
    match model {
        Some(model) => bail!("{text}: {}", model.display()),
        None => Ok(()),
    }
}
