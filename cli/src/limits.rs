//! How long measurements take.

use clap::Args;
use std::time::Duration;
use tract_libcli::profile::BenchLimits;

/// Milliseconds of a measurement, as in tract.
pub(crate) const MAX_TIME: u64 = 5000;

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
    /// The same for tract, with `max_time` milliseconds where nothing was said. As in tract, a warm-up of no
    /// loops but some time is limited by that time alone.
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
