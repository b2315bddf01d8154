//! Where the model stands: before the command, as tract has it, or behind it.

use clap::{Args, ValueHint};
use std::path::PathBuf;

/// The arguments `T` of a command that takes a model.
#[derive(Debug, Args)]
pub(crate) struct OnModel<T: Args> {
    #[command(flatten)]
    pub(crate) args: T,
    /// The model, if it does not stand before the command
    #[arg(id = "model_behind", value_name = "MODEL", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<PathBuf>,
}
