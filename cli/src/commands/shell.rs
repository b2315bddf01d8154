//! `completions` and `man`: made from the definition of the command line, so that they say what it does.

use crate::out;
use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;

/// What the help of `completions` says at its end.
pub(super) const COMPLETIONS_HELP: &str = "\
Example:
  source <(tract-sparse completions bash)";

/// What the help of `man` says at its end.
pub(super) const MAN_HELP: &str = "\
Examples:
  tract-sparse man > tract-sparse.1
  tract-sparse man bench | man -l -";

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// A command
    command: Option<String>,
}

const NAME: &str = "tract-sparse";

/// Prints the completion script of a shell for the command line `whole`.
pub(super) fn completions(args: &Completions, mut whole: clap::Command) -> Result<()> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut whole, NAME, &mut script);
    // clap_complete 4.6 takes the hyphen in the name for the gap before a subcommand in half of the places of
    // its bash script
    let script = std::str::from_utf8(&script)?.replace("tract__subcmd__sparse", "tract__sparse");
    out::print(&script)
}

/// Prints the manual page of the command line `whole`, or of one of its commands, in the language of man.
pub(super) fn man(args: &Man, mut whole: clap::Command) -> Result<()> {
    // hands the options of every command down to the commands
    whole.build();
    let command = match &args.command {
        None => whole,
        Some(name) => {
            let known: Vec<&str> = whole.get_subcommands().map(|command| command.get_name()).collect();
            let command = whole
                .find_subcommand(name)
                .with_context(|| format!("no command {name}; there are {}", known.join(", ")))?;
            command.clone().display_name(format!("{NAME}-{name}"))
        }
    };
    let mut page = vec![];
    clap_mangen::Man::new(command).render(&mut page)?;
    out::print(std::str::from_utf8(&page)?)
}
