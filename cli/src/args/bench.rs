//! Arguments of `bench`, and the limits of every measurement.

use super::Input;
use clap::{Args, ValueEnum};

/// How long to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limits {
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) max_loops: usize,
    /// Milliseconds at most [default: 5000; without a model 2000 a row]
    #[arg(long, value_name = "MS")]
    pub(crate) max_time: Option<u64>,
    /// Runs before the first that counts
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) warmup_loops: usize,
    /// Milliseconds of such runs
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) warmup_time: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Time this too, in turn
    #[arg(long)]
    pub(crate) against: Option<Against>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Without a model: the network [default: mobilenet-v1]
    #[arg(long)]
    pub(crate) network: Option<::zoo::Network>,
    /// Without a model: the format of 1x1 convolutions [default: 4x4]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Without a model: patterns of depthwise 3x3 convolutions, 3:9
    #[arg(long, value_name = "SPEC")]
    pub(crate) dwconv3x3: Option<::zoo::DwConv3x3>,
}

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// tract without sparse kernels
    Stock,
}
