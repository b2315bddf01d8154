//! `completions` and `man`: made from the definition of the command line, so that they say what it does.

use crate::args::{Cli, Completions, Man};
use crate::out;
use anyhow::{Context, Result};
use clap::CommandFactory;

const NAME: &str = "tract-sparse";

/// Prints the completion script of a shell.
pub(crate) fn completions(args: &Completions) -> Result<()> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    // clap_complete 4.6 takes the hyphen in the name for the gap before a subcommand in half of the places of its bash script
    let script = std::str::from_utf8(&script)?.replace("tract__subcmd__sparse", "tract__sparse");
    out::print(&script)
}

/// Prints a manual page in the language of man.
pub(crate) fn man(args: &Man) -> Result<()> {
    let mut whole = Cli::command();
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
