//! The command line as a library: what the program `tract-sparse` does, for programs that bring their own
//! `main`.

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

use anyhow::{Result, ensure};
use clap::{CommandFactory, Parser};
use cli::Cli;
use commands::convert::Convert;
use options::Options;
use rewriter::table;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

pub use commands::convert::{Weights, Written};
pub use load::is_nnef;

/// Runs a command line, the name of the program first, and returns its exit code: 0 done, 1 something failed,
/// 2 the command line is wrong, 3 something is not what it should be. It logs, keeps panics from printing and
/// removes half-written files on an interrupt: the process is meant to end with it.
pub fn main(line: impl IntoIterator<Item = OsString>) -> u8 {
    out::quiet_panics();
    let mut cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    cli.options.facts.splice(0..0, std::mem::take(&mut cli.facts));
    let model = match cli.take_model() {
        Ok(model) => model,
        Err(text) => {
            out::error(&text);
            return 2;
        }
    };
    logger::start(cli.options.verbose);
    #[cfg(unix)]
    signals::clean_up_on_interrupt();
    let result = catch_unwind(AssertUnwindSafe(|| run(&mut cli, model.as_deref())));
    match result {
        Ok(Ok(())) => 0,
        Ok(Err(error)) if out::is_broken_pipe(&error) => 0,
        Ok(Err(error)) => {
            if let Some(errors::Told(code)) = error.downcast_ref() {
                return *code;
            }
            out::error(&format!("{error:#}"));
            if error.is::<errors::Differs>() { 3 } else { 1 }
        }
        Err(panic) => {
            let text = out::panic_text(&panic);
            if out::is_broken_pipe_text(text) {
                return 0;
            }
            let model = model.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display()));
            out::error(&format!("{model}internal error: {text}"));
            1
        }
    }
}

fn run(cli: &mut Cli, model: Option<&Path>) -> Result<()> {
    test_data::inputs(model, &cli.options, cli.command.input_mut())?;
    cli.options.start_threads()?;
    knobs::with(&cli.options, || cli.command.run(model, &cli.options, Cli::command))
}

/// Writes the ONNX or NNEF model at `model` as the command `convert` does: without the zeros of its weights
/// where that is smaller and `plain` does not ask for a file that any tract reads, its weights rounded if that is asked
/// for. The file has been read
/// again and compared before it gets its name.
///
/// # Errors
/// Another end of the name than .nnef.tgz, .nnef.tar.gz or .nnef.tar; a model that cannot be read or that
/// NNEF has no words for; a file that cannot be written.
pub fn convert(model: &Path, output: &Path, plain: bool, weights: Weights) -> Result<Written> {
    ensure!(!plain || weights == Weights::F32, "a plain file has weights of f32");
    let source = load::Source::File(load::file(model));
    commands::convert::convert(&source, &Convert::new(output, plain, weights), &Options::default())
}
