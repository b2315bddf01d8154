//! Models timed in turn, and what is said of their times.

use anyhow::{Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tract_core::internal::*;
use tract_libcli::profile::BenchLimits;

/// The times of one model.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Timing {
    /// Mean milliseconds of a run.
    pub mean_ms: f64,
    /// Median.
    pub median_ms: f64,
    /// Lower quartile.
    pub q1_ms: f64,
    /// Upper quartile.
    pub q3_ms: f64,
    /// Fastest run.
    pub min_ms: f64,
    /// Slowest run.
    pub max_ms: f64,
}

impl Timing {
    /// Of the milliseconds of each run.
    ///
    /// # Panics
    /// No run.
    pub fn of(ms: &[f64]) -> Timing {
        Timing {
            mean_ms: ms.iter().sum::<f64>() / ms.len().max(1) as f64,
            median_ms: quantile(ms, 0.5),
            q1_ms: quantile(ms, 0.25),
            q3_ms: quantile(ms, 0.75),
            min_ms: quantile(ms, 0.0),
            max_ms: quantile(ms, 1.0),
        }
    }
}

/// How many times as fast one of two models is that ran in turn.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Ratio {
    /// Median of the ratios of runs of neighbouring turns: a clock that drifts disturbs both.
    pub median: f64,
    /// Lower quartile.
    pub q1: f64,
    /// Upper quartile.
    pub q3: f64,
}

impl Ratio {
    /// Of the times of the slower and the faster model, in the order in which they were taken.
    ///
    /// # Panics
    /// No run.
    pub fn of_pairs(slow: &[f64], fast: &[f64]) -> Ratio {
        let ratios: Vec<f64> = slow.iter().zip(fast).map(|(slow, fast)| slow / fast).collect();
        let [q1, median, q3] = [0.25, 0.5, 0.75].map(|q| quantile(&ratios, q));
        Ratio { median, q1, q3 }
    }
}

/// The `q` quantile of values that need not be sorted, interpolated between neighbours.
///
/// # Panics
/// No value.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Runs of a plan that count before it is the next one's turn.
const TURN: usize = 4;

/// Runs plans in turn until the limits are reached, and returns the milliseconds of each run of each.
///
/// A turn is four runs that count, after one that does not: it finds the caches full of what another plan
/// left there, which a plan that runs alone never does.
///
/// # Errors
/// A limit of no runs; a model that cannot run.
pub fn in_turn(
    plans: &[&Arc<TypedRunnableModel>],
    inputs: &TVec<TValue>,
    limits: &BenchLimits,
    progress: &dyn Fn(f64),
) -> Result<Vec<Vec<f64>>> {
    ensure!(limits.max_loops > 0, "--max-loops 0 measures nothing");
    keep_freed_memory();
    let mut states = plans.iter().map(|plan| plan.spawn()).collect::<Result<Vec<TypedSimpleState>>>()?;
    // with no number of loops, the time alone ends the warm-up
    let timed_only = limits.warmup_loops == 0 && !limits.warmup_time.is_zero();
    let warmup_loops = if timed_only { usize::MAX } else { limits.warmup_loops };
    let warmup_time = if limits.warmup_time.is_zero() { Duration::MAX } else { limits.warmup_time };
    let started = Instant::now();
    let mut loops = 0;
    while loops < warmup_loops && started.elapsed() < warmup_time {
        for state in &mut states {
            state.run(inputs.clone())?;
        }
        loops += 1;
    }
    let (time, started) = (limits.max_time, Instant::now());
    let mut times = vec![vec![]; plans.len()];
    // once at least, so that there is something to tell
    while times[0].is_empty() || (times[0].len() < limits.max_loops && started.elapsed() < time) {
        progress(started.elapsed().as_secs_f64() / time.as_secs_f64().max(1e-9));
        let turn = TURN.min(limits.max_loops - times[0].len());
        for (state, times) in states.iter_mut().zip(&mut times) {
            if plans.len() > 1 {
                state.run(inputs.clone())?;
            }
            for _ in 0..turn {
                let inputs = inputs.clone();
                let start = Instant::now();
                let outputs = state.run(inputs)?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
                drop(outputs);
            }
        }
    }
    Ok(times)
}

/// Makes glibc keep what is freed, so that a run finds the memory of the run before. It gives large blocks
/// back to the system at once, and a profile would tell the time of getting each page anew, until it has seen
/// a block freed: those of up to that size are kept from then on, if it is not larger than 32 MiB
/// (mallopt(3), M_MMAP_THRESHOLD). Other allocators do not mind.
pub fn keep_freed_memory() {
    const LARGEST: usize = (32 << 20) - (64 << 10);
    drop(std::hint::black_box(vec![0u8; LARGEST]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 0.5), 2.5);
        assert_eq!(quantile(&values, 1.0), 4.0);
        assert_eq!(quantile(&[7.0], 0.25), 7.0);
    }

    #[test]
    fn ratios_are_those_of_pairs() {
        // the ratio of the medians would be 2.5
        let ratio = Ratio::of_pairs(&[2.0, 10.0, 30.0], &[1.0, 4.0, 10.0]);
        assert_eq!((ratio.q1, ratio.median, ratio.q3), (2.25, 2.5, 2.75));
        assert_eq!(Ratio::of_pairs(&[1.0, 100.0, 4.0], &[1.0, 10.0, 2.0]).median, 2.0);
    }
}
