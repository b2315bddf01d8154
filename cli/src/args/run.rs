//! Arguments of `run`.

use super::{Assertions, Input};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) input: Input,
    /// .npz file for the outputs
    #[arg(long, value_name = "FILE", alias = "save-outputs-npz", value_hint = ValueHint::FilePath)]
    pub(crate) save_outputs: Option<PathBuf>,
    /// .npz file for the values of all nodes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) save_steps: Option<PathBuf>,
    /// Show the values of the outputs
    #[arg(long)]
    pub(crate) dump: bool,
    /// Show what every node gives, on stderr
    #[arg(long)]
    pub(crate) steps: bool,
    /// Fail at the first node that gives a NaN or an infinity
    #[arg(long)]
    pub(crate) assert_sane_floats: bool,
    /// Fail unless the outputs are those of this .npz file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) assert_output_bundle: Option<PathBuf>,
    /// exact, close, approximate, very, super, ultra
    #[arg(long, value_name = "HOW", default_value = "approximate", hide_possible_values = true)]
    pub(crate) approx: Approx,
    /// Fail unless the model has that many outputs
    #[arg(long, value_name = "N")]
    pub(crate) assert_output_count: Option<usize>,
    #[command(flatten)]
    pub(crate) assertions: Assertions,
}

/// tract's degrees of nearness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Approx {
    /// The same bits
    Exact,
    /// As different orders of the same sums
    Close,
    /// As approximations of functions
    Approximate,
    /// Coarser
    Very,
    /// Coarser still
    Super,
    /// Coarsest
    Ultra,
}
