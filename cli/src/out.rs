//! What reaches the terminal: results on stdout, one line per error on stderr.

use anyhow::{Error, Result};
use std::any::Any;
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// One line on stderr, whatever line ends the text has.
pub(crate) fn error(text: &str) {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // nothing is left to be told if stderr is closed
    let _ = writeln!(std::io::stderr(), "error: {line}");
}

/// Keeps panics from printing: what they say is reported as an error.
pub(crate) fn quiet_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

/// Does what may panic, of which nothing is printed.
///
/// # Errors
/// The first line of what a panic said, or the error.
pub(crate) fn caught<R>(work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    done.unwrap_or_else(|panic| Err(Error::msg(panic_text(&panic).to_string())))
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
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
}

/// As [`is_broken_pipe`], for a panic of `println!`.
pub(crate) fn is_broken_pipe_text(text: &str) -> bool {
    text.starts_with("failed printing to stdout") && text.contains("Broken pipe")
}
