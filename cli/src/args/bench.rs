//! Arguments of `bench`, and the limits of every measurement.

use super::Input;
use super::zeros::depthwise;
use clap::{Args, ValueEnum};
use sparsity::Setting;
use std::time::Duration;
use tract_libcli::profile::BenchLimits;

/// How long to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Limits {
    /// Runs at most
    #[arg(long, value_name = "N", default_value_t = 100_000, alias = "max-iters")]
    pub(crate) max_loops: usize,
    /// Milliseconds at most [default: 5000; without a model 2000 a row]
    #[arg(long, value_name = "MS")]
    pub(crate) max_time: Option<u64>,
    /// Runs before the first that counts [default: 2, or --warmup-time]
    #[arg(long, value_name = "N")]
    pub(crate) warmup_loops: Option<usize>,
    /// Milliseconds of such runs; the limit reached first counts
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub(crate) warmup_time: u64,
}

impl Limits {
    /// The same for tract, with `max_time` milliseconds where nothing was said. As in tract, a warm-up of no loops but some
    /// time is limited by that time alone.
    pub(crate) fn bench(&self, max_time: u64) -> BenchLimits {
        let warmup_loops = self.warmup_loops.unwrap_or(if self.warmup_time == 0 { 2 } else { 0 });
        BenchLimits {
            warmup_loops,
            warmup_time: Duration::from_millis(self.warmup_time),
            max_loops: self.max_loops,
            max_time: Duration::from_millis(self.max_time.unwrap_or(max_time).max(1)),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Time this too, in turn
    #[arg(long)]
    pub(crate) against: Option<Against>,
    /// Run that many copies at once, a thread each, as fast as they go
    #[arg(long, value_name = "N", conflicts_with = "against")]
    pub(crate) streams: Option<usize>,
    /// Real time: an input for each of the streams every so many ms
    #[arg(long, value_name = "MS", conflicts_with = "against")]
    pub(crate) turn_period: Option<f64>,
    /// Milliseconds after which an output is late [default: the turn period]
    #[arg(long, value_name = "MS", requires = "turn_period")]
    pub(crate) deadline: Option<f64>,
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
    #[arg(long, value_name = "ZEROS", value_parser = depthwise)]
    pub(crate) dwconv3x3: Option<Setting>,
}

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// tract without sparse kernels
    Stock,
}
