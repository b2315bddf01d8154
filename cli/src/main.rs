//! `tract-sparse`: arguments, tables and exit codes over the library of the same name.

mod archive;
mod assertions;
mod cli;
mod commands;
mod errors;
mod files;
mod inputs;
mod knobs;
mod layers;
mod limits;
mod load;
mod logger;
mod options;
mod out;
mod outputs;
#[cfg(unix)]
mod signals;
mod tensors;
mod test_data;
mod zeros;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use cli::Cli;
use rewriter::table;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    out::quiet_panics();
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    cli.options.facts.splice(0..0, std::mem::take(&mut cli.facts));
    let model = match cli.take_model() {
        Ok(model) => model,
        Err(text) => {
            out::error(&text);
            return ExitCode::from(2);
        }
    };
    logger::start(cli.options.verbose);
    #[cfg(unix)]
    signals::clean_up_on_interrupt();
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut cli, model.as_deref())));
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if out::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            if let Some(errors::Told(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            out::error(&format!("{error:#}"));
            ExitCode::from(if error.is::<errors::Differs>() { 3 } else { 1 })
        }
        Err(panic) => {
            let text = out::panic_text(&panic);
            if out::is_broken_pipe_text(text) {
                return ExitCode::SUCCESS;
            }
            let model = model.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display()));
            out::error(&format!("{model}internal error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &mut Cli, model: Option<&Path>) -> Result<()> {
    test_data::inputs(model, &cli.options, cli.command.input_mut())?;
    cli.options.start_threads()?;
    knobs::with(&cli.options, || cli.command.run(model, &cli.options, Cli::command))
}
