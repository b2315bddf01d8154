//! Four threads run two plans on inputs whose shapes change all the time: memory stays flat, and so does
//! every bit.
//!
//! ```sh
//! cargo run --release --workspace --example soak -- 600    # seconds
//! ```
//!
//! Prints how often the network ran, and the resident memory with its slope; fails if a bit differs from the
//! first run of that shape, or if memory grows.

use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tests::graph::{Graph, pruned};
use tests::{noise, sparse_nodes, with_knobs};
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::pb::ModelProto;
use tract_sparse::prelude::*;
use zoo::proto;

const THREADS: usize = 4;
/// Plans are loaded again after this number of runs of a thread: packing and dropping must not leak either.
const RELOAD: usize = 200;
/// What resident memory may grow by between the middle and the end, however long that takes: heaps of threads
/// settle late.
const GROWTH: f64 = 16.0;

/// All kernels: 1x1 in blocks and in single weights, depthwise 3:9, 3x3, fully connected.
fn network() -> ModelProto {
    let mut graph = Graph::default();
    let x = graph.input("N,16,H,W");
    let w = graph.constant(&[32, 16, 1, 1], &pruned(32, 16, (4, 4), 0.3, 1));
    let y = graph.op("Conv", &[&x, &w], vec![]);
    let y = graph.op("Relu", &[&y], vec![]);
    let kept: Vec<f32> = tests::values(32 * 9, 2)
        .into_iter()
        .enumerate()
        .map(|(i, w)| if i % 3 == 0 { 0.0 } else { w })
        .collect();
    let w = graph.constant(&[32, 1, 3, 3], &kept);
    let y = graph.op("Conv", &[&y, &w], vec![proto::ints("pads", &[1; 4]), proto::int("group", 32)]);
    let w = graph.constant(&[24, 32, 3, 3], &pruned(24, 32 * 9, (4, 1), 0.2, 3));
    let y = graph.op("Conv", &[&y, &w], vec![proto::ints("pads", &[1; 4]), proto::ints("strides", &[2; 2])]);
    let y = graph.op("Relu", &[&y], vec![]);
    let w = graph.constant(&[40, 24, 1, 1], &pruned(40, 24, (1, 1), 0.1, 4));
    let y = graph.op("Conv", &[&y, &w], vec![]);
    let y = graph.op("GlobalAveragePool", &[&y], vec![]);
    let y = graph.op("Flatten", &[&y], vec![]);
    let w = graph.constant(&[10, 40], &pruned(10, 40, (1, 1), 0.2, 5));
    let y = graph.op("Gemm", &[&y, &w], vec![proto::int("transB", 1)]);
    graph.model(&[&y])
}

fn plan() -> Result<Arc<TypedRunnableModel>> {
    let model = with_knobs(&[("TRACT_SPARSE", "always")], || {
        onnx().model_for_proto_model(&network())?.into_optimized()
    })?;
    ensure!(sparse_nodes(&model) == 5, "{} of 5 layers are sparse", sparse_nodes(&model));
    model.into_runnable()
}

fn bits(plan: &Arc<TypedRunnableModel>, input: &Tensor) -> Result<Vec<u32>> {
    let output = plan.run(tvec!(input.clone().into_tvalue()))?;
    Ok(output[0].try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|v| v.to_bits()).collect())
}

/// Resident memory in MB.
fn resident() -> Result<f64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("resident memory is known on Linux alone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// Slope of a straight line through equidistant samples, per sample.
fn slope(samples: &[f64]) -> f64 {
    let n = samples.len() as f64;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, samples.iter().sum::<f64>() / n);
    let (mut above, mut below) = (0.0, 0.0);
    for (i, y) in samples.iter().enumerate() {
        above += (i as f64 - mean_x) * (y - mean_y);
        below += (i as f64 - mean_x).powi(2);
    }
    if below == 0.0 { 0.0 } else { above / below }
}

fn main() -> Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(10), |text| text.parse()).context("seconds")?;
    let shapes = [
        [1, 56, 56],
        [1, 1, 1],
        [2, 7, 9],
        [1, 64, 64],
        [3, 15, 17],
        [1, 112, 80],
        [4, 33, 2],
        [1, 5, 200],
        [2, 28, 28],
        [8, 3, 3],
        [1, 96, 96],
        [1, 31, 1],
    ];
    let inputs: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, [n, h, w])| noise(&[*n, 16, *h, *w], i as u64)).collect();
    let first = plan()?;
    let expected: HashMap<usize, Vec<u32>> =
        inputs.iter().enumerate().map(|(i, x)| Ok((i, bits(&first, x)?))).collect::<Result<_>>()?;
    let (stop, runs, running) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(THREADS));
    let work = |seed: usize| -> Result<()> {
        let mut own = first.clone();
        for turn in 0.. {
            if stop.load(Relaxed) {
                break;
            }
            if turn % RELOAD == RELOAD - 1 {
                own = plan()?;
            }
            let i = (turn * 7 + turn / 12 * (seed + 1) + seed * 5) % inputs.len();
            ensure!(
                bits(&own, &inputs[i])? == expected[&i],
                "thread {seed}, turn {turn}: shape {:?}",
                shapes[i]
            );
            runs.fetch_add(1, Relaxed);
        }
        Ok(())
    };
    let mut samples = vec![];
    std::thread::scope(|scope| -> Result<()> {
        let work = &work;
        let (stop, running) = (&stop, &running);
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn(move || {
                    // every other one shares its work between two more
                    let pool = if seed % 2 == 0 { Executor::SingleThread } else { Executor::multithread(2) };
                    let result = multithread_tract_scope(pool, || work(seed));
                    running.fetch_sub(1, Relaxed);
                    result
                })
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) && running.load(Relaxed) == THREADS {
            std::thread::sleep(Duration::from_millis(250));
            samples.push(resident()?);
        }
        stop.store(true, Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread panicked"))
    })?;
    let half = &samples[samples.len() / 2..];
    let (slope, grown) =
        (slope(half) * 4.0 * 60.0, half.last().unwrap_or(&0.0) - half.first().unwrap_or(&0.0));
    println!(
        "{} runs of {} shapes on {THREADS} threads in {seconds} s: every bit equal; resident {:.1} MB after a quarter, {:.1} in \
         the middle, {:.1} at the end; slope of the second half {slope:+.3} MB a minute",
        runs.into_inner(),
        shapes.len(),
        samples.get(samples.len() / 4).unwrap_or(&0.0),
        half.first().unwrap_or(&0.0),
        half.last().unwrap_or(&0.0),
    );
    ensure!(grown <= GROWTH, "resident memory grew by {grown:.1} MB in the second half");
    Ok(())
}
