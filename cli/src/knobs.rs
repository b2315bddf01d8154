//! Options that are knobs of the rewriter, too.

use crate::options::Options;
use anyhow::{Error, Result};
use tract_core::knobs::KnobScope;
use tract_sparse::Policy;

/// Runs `command` with the knobs that the options set.
///
/// # Errors
/// A wrong value of an option or of a variable of the environment, whatever the command; or that of the
/// command.
pub(crate) fn with<R>(options: &Options, command: impl FnOnce() -> Result<R>) -> Result<R> {
    let given: Vec<(&str, &str, &str)> = [
        ("--sparse", "TRACT_SPARSE", &options.sparse),
        ("--target", "TRACT_SPARSE_TARGET", &options.target),
        ("--costs", "TRACT_SPARSE_COSTS", &options.costs),
        ("--min-gain", "TRACT_SPARSE_MIN_GAIN", &options.min_gain),
        ("--precision", "TRACT_SPARSE_PRECISION", &options.precision),
    ]
    .into_iter()
    .filter_map(|(option, name, value)| Some((option, name, value.as_deref()?)))
    .collect();
    KnobScope::new(given.iter().map(|(_, name, value)| (*name, *value)))?.enter(|| {
        // not only of those commands that come across a sparse layer
        let policy = Policy::from_knobs().map_err(|error| match blame(&given, &error) {
            Some(option) => error.context(option),
            None => error,
        })?;
        if let Some(why) = policy.why_not_half() {
            eprintln!("half precision: {why}");
        }
        command()
    })
}

/// The option that gave the wrong value which `error` names by its knob.
fn blame(given: &[(&str, &str, &str)], error: &Error) -> Option<String> {
    let text = error.to_string();
    let (option, _, value) = given.iter().find(|(_, name, _)| text.starts_with(&format!("{name}=")))?;
    Some(format!("{option} {value}"))
}
