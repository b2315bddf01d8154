//! Arguments of `run`.

use super::Input;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) input: Input,
    /// .npz file for the outputs
    #[arg(long, value_name = "FILE")]
    pub(crate) save_outputs: Option<PathBuf>,
}
