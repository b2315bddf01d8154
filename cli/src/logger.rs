//! `-v`: what tract and the rewriter say about their work, on stderr.

use log::{LevelFilter, Log, Metadata, Record};
use std::io::Write;

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            // nothing is left to be told if stderr is closed
            let _ = writeln!(std::io::stderr(), "[{} {}] {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Starts to log: nothing, or with one `-v` information, with two what helps to debug, with three everything.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Off,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    log::set_max_level(level);
    // fails only if there is a logger already
    let _ = log::set_logger(&Stderr);
}
