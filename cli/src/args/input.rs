//! Where inputs come from.

use clap::{Args, ValueHint};
use std::path::PathBuf;

/// Where inputs come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Input {
    /// .npy or .pb file for each input, or one .npz [default: seeded random]
    #[arg(
        long,
        value_name = "FILE",
        alias = "input-from-npz",
        alias = "input-from-bundle",
        value_hint = ValueHint::FilePath
    )]
    pub(crate) input: Vec<PathBuf>,
    /// Seed of random inputs
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Random inputs, as tract has to be told; they are the default here
    #[arg(short = 'R', long, conflicts_with = "input", hide_short_help = true)]
    pub(crate) allow_random_input: bool,
}
