//! The command line: tract's word order, `tract-sparse [options] MODEL [options] SUB [options]`.

use crate::commands::Command;
use crate::options::Options;
use crate::out;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, ValueHint};
use std::io::ErrorKind as IoError;
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something failed: a file, a model, a shape; one line on stderr says what
  2  the command line is wrong
  3  compare, --assert-..., doctor: something is not what it should be";

const EXAMPLES: &str = "\
Examples:
  tract-sparse bench                             how fast, with no model at hand
  tract-sparse zoo mobilenet-v1 --conv1x1 4x4:0.5 -o m.onnx
  tract-sparse m.onnx inspect                    what runs sparse, and why not
  tract-sparse m.onnx whatif --conv1x1 4x4:0.5   how fast it would be, pruned so
  tract-sparse m.onnx bench --against stock
  tract-sparse m.onnx compare
  tract-sparse m.onnx -O dump --profile --cost
  tract-sparse m.onnx run --input x.npy --save-outputs y.npz

The model stands before or behind the command. A file called like a command is
given as ./bench.
";

/// Runs pruned ONNX networks on sparse kernels inside tract.
#[derive(Debug, Parser)]
#[command(name = "tract-sparse", version, after_help = format!("{EXAMPLES}\n{EXIT_CODES}"))]
#[command(next_line_help = true)]
pub(crate) struct Cli {
    /// ONNX file, or NNEF archive (.nnef.tgz, .nnef.tar)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
    /// As -i; the name that tract gives it before the command
    #[arg(id = "fact", long = "input", value_name = "FACT", allow_hyphen_values = true, hide = true)]
    pub(crate) facts: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The model, which stands before the command or behind it.
    ///
    /// # Errors
    /// There are two, in words.
    pub(crate) fn take_model(&mut self) -> Result<Option<PathBuf>, String> {
        match (self.model.take(), self.command.model().cloned()) {
            (Some(model), Some(behind)) => {
                Err(format!("two models, {} and {} (see --help)", model.display(), behind.display()))
            }
            (model, behind) => Ok(model.or(behind)),
        }
    }
}

/// Reports a wrong command line in one line, or prints the help that was asked for; returns the exit code.
pub(crate) fn usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return match error.print() {
            Err(e) if e.kind() != IoError::BrokenPipe => {
                out::error(&e.to_string());
                1
            }
            _ => 0,
        };
    }
    out::error(&format!("{} (see --help)", wrong(error)));
    2
}

/// What is wrong with the command line.
fn wrong(error: &clap::Error) -> String {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let order = "the order is tract-sparse m.onnx inspect";
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return format!("no command; {order}, with one of {}", commands());
        }
        ErrorKind::MissingSubcommand => {
            return format!("no command behind the model; {order}, with one of {}", commands());
        }
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument => {
            let word = word(ContextKind::InvalidSubcommand).or_else(|| word(ContextKind::InvalidArg));
            if let Some(word) = word.filter(|word| !word.starts_with('-')) {
                return format!(
                    "{word} is no command, nor the model of one; {order}, with one of {}",
                    commands()
                );
            }
        }
        _ => {}
    }
    let text = error.render().to_string();
    let text = text.split("\n\nUsage").next().unwrap_or(&text);
    let text = text.split("\n\nFor more").next().unwrap_or(text);
    text.trim_start_matches("error: ").trim_end().to_string()
}

/// The names of all commands.
fn commands() -> String {
    let all = Cli::command();
    let names: Vec<&str> = all.get_subcommands().map(|command| command.get_name()).collect();
    names.join(", ")
}
