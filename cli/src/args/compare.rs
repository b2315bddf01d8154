//! Arguments of `compare`.

use super::{Input, Pass};
use clap::{Args, ValueHint};
use std::path::PathBuf;

/// What sparse and stock outputs may differ by, relative to their scale, unless another tolerance is given.
pub(crate) const TOLERANCE: f64 = 1e-4;

#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) input: Input,
    /// T of the rule below
    #[arg(long, value_name = "T", default_value_t = TOLERANCE, allow_negative_numbers = true)]
    pub(crate) tolerance: f64,
    /// Compare every node, not only the outputs
    #[arg(long)]
    pub(crate) cumulative: bool,
    /// With this stage of the sparse model [default: with stock tract]
    #[arg(long, value_name = "STAGE", hide_possible_values = true, group = "reference")]
    pub(crate) stage: Option<Pass>,
    /// With the arrays of an .npz file, by the names of nodes or outputs
    #[arg(long, value_name = "FILE", group = "reference", value_hint = ValueHint::FilePath)]
    pub(crate) npz: Option<PathBuf>,
    /// With a second run of the same model
    #[arg(long, group = "reference")]
    pub(crate) twice: bool,
}
