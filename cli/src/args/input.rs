//! Where inputs come from.

use clap::Args;
use std::path::PathBuf;

/// Where inputs come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Input {
    /// .npy file, once for each input, or one .npz [default: seeded random]
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Vec<PathBuf>,
    /// Seed of random inputs
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}
