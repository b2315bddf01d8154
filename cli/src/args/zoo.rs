//! Arguments of `zoo`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Zoo {
    /// mobilenet-v1, -v2, -v3-large, efficientnet-lite0, resnet-18 or -20
    pub(crate) network: ::zoo::Network,
    /// Zeros of 1x1 convolutions: 4x4:R, 4x1:R (or 2, 8), unstructured:R
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv1x1: Option<::zoo::Pointwise>,
    /// Patterns of depthwise 3x3 convolutions: 3:9
    #[arg(long, value_name = "SPEC")]
    pub(crate) dwconv3x3: Option<::zoo::DwConv3x3>,
    /// Patterns of 3x3 convolutions: 5:9 or 5:9:CONNECTIVITY
    #[arg(long, value_name = "SPEC")]
    pub(crate) conv3x3: Option<::zoo::Conv3x3>,
    /// Zeros of the fully connected layers, as --conv1x1
    #[arg(long, value_name = "SPEC")]
    pub(crate) fc: Option<::zoo::Pointwise>,
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
