//! What reaches the terminal: results on stdout, one line per error on stderr.

use crate::args::Cli;
use anyhow::{Context, Error, Result, ensure};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use prune::file::Draft;
use std::any::Any;
use std::io::{ErrorKind as IoError, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Writes `text` to stdout. A reader that has gone away is an error that [`is_broken_pipe`] knows.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes a value as JSON and a line end to stdout.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Files that the command line names as inputs.
static INPUTS: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

/// Keeps the command from writing over a file that it reads, or that a model reads which is in it.
pub(crate) fn protect(input: &Path) {
    INPUTS.lock().unwrap_or_else(PoisonError::into_inner).push(input.to_path_buf());
}

/// Fails if the file at `path` holds values of the model at `model`.
pub(crate) fn refuse_values(model: &Path, path: &Path) -> Result<()> {
    ensure!(
        !prune::onnx::reads(model, path),
        "cannot write {}: {} reads its values from this file",
        path.display(),
        model.display()
    );
    Ok(())
}

/// Begins a file.
///
/// # Errors
/// As [`Draft::new`], and if it would replace an input of the command.
pub(crate) fn draft(path: &Path) -> Result<Draft> {
    if path.is_file() {
        for input in INPUTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let same = same_file::is_same_file(input, path).unwrap_or(false);
            ensure!(!same, "cannot write {}: it is an input", path.display());
            refuse_values(input, path)?;
        }
    }
    Draft::new(path)
}

/// Writes a file, whole or not at all.
///
/// # Errors
/// As [`draft`], and a full disk.
pub(crate) fn file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut draft = draft(path)?;
    draft.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    draft.commit()
}

/// One line on stderr, whatever line ends the text has.
pub(crate) fn error(text: &str) {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // nothing is left to be told if stderr is closed
    let _ = writeln!(std::io::stderr(), "error: {line}");
}

/// Reports a wrong command line in one line, or prints the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Err(e) if e.kind() != IoError::BrokenPipe => {
                self::error(&e.to_string());
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        };
    }
    self::error(&format!("{} (see --help)", wrong(error)));
    ExitCode::from(2)
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

/// Keeps panics from printing: what they say is reported as an error.
pub(crate) fn quiet_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

/// The first line of what a panic said.
pub(crate) fn panic_text(panic: &Box<dyn Any + Send>) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .and_then(|text| text.lines().next())
        .unwrap_or("unknown panic")
}

/// Whether the reader of our output has gone away, as `head` does.
pub(crate) fn is_broken_pipe(error: &Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == IoError::BrokenPipe)
}

/// As [`is_broken_pipe`], for a panic of `println!`.
pub(crate) fn is_broken_pipe_text(text: &str) -> bool {
    text.starts_with("failed printing to stdout") && text.contains("Broken pipe")
}

/// The model ran, and its outputs are not those wanted: an error with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Differs(pub(crate) String);

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Differs {}

/// An error that has been told on stderr already, with the exit code that belongs to it.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) u8);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl std::error::Error for Told {}
