//! Listings without colours.

use crate::errors::Told;
use crate::out;
use anyhow::{Result, bail};
use std::io::IsTerminal;
use std::process::{Command, Stdio};

/// Set for the copy of this process whose coloured output is being made plain.
const PLAIN: &str = "TRACT_SPARSE_PLAIN_DUMP";

/// Whether the listing goes where colours are not wanted, and this is not yet the copy that makes it.
pub(super) fn unwanted() -> bool {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    !colours && std::env::var_os(PLAIN).is_none()
}

/// tract's listing knows no output without colours: runs this command line once more, and prints what it
/// prints without them. What the copy says on stderr goes there at once.
pub(super) fn without() -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(PLAIN, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    out::print(&without_colours(&String::from_utf8_lossy(&output.stdout)))?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Told(code as u8).into()),
        None => bail!("{}", output.status),
    }
}

/// `text` without escape sequences of the form `ESC [ parameters letter`.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split("\x1b[");
    plain.extend(parts.next());
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_text_stays() {
        assert_eq!(without_colours("a\x1b[1;38;2;0;104;55m 0.0%\x1b[0m b[1] ┃"), "a 0.0% b[1] ┃");
        assert_eq!(without_colours(""), "");
        assert_eq!(without_colours("cut \x1b[1;3"), "cut ");
    }
}
