//! Errors with exit codes of their own.

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
