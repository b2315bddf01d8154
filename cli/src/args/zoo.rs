//! Arguments of `zoo`.

use super::Zeros;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Zoo {
    /// mobilenet-v1, -v2, -v3-large, efficientnet-lite0, resnet-18 or -20
    pub(crate) network: ::zoo::Network,
    #[command(flatten)]
    pub(crate) zeros: Zeros,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Images at a time, or a symbol such as N
    #[arg(long, default_value_t = ::zoo::Batch::Fixed(1))]
    pub(crate) batch: ::zoo::Batch,
    /// Height and width of the input [default: the network's]
    #[arg(long)]
    pub(crate) hw: Option<usize>,
    /// Channel multiplier
    #[arg(long, default_value_t = 1.0)]
    pub(crate) width: f64,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}
