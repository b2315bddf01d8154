//! What a layer takes besides its arithmetic, in a network: its call by tract, its output tensor, the panel of
//! its input, its epilogue.
//!
//! ```sh
//! taskset -c 1 cargo bench --workspace --bench setup
//! ```
//! Networks of like layers with more and less weights take turns in one process. What a layer takes is a line
//! over its multiply-adds (least squares through the medians); the value at none is its set-up.

use anyhow::Result;
use figures::{in_turn, quantile};
use std::sync::Arc;
use std::time::Duration;
use tests::graph::{Graph, pruned};
use tests::{noise, sparse_nodes};
use tract_libcli::profile::BenchLimits;
use tract_sparse::prelude::*;
use zoo::proto::ints;

/// Layers of a network.
const LAYERS: usize = 32;

/// Shares of the blocks that are kept.
const KEPT: [f64; 4] = [0.3, 0.5, 0.7, 0.9];

/// Channels, side of the map and of the kernel: about 0.2 million multiply-adds with all weights.
const SHAPES: [(usize, usize, usize); 4] = [(48, 9, 1), (64, 7, 1), (32, 14, 1), (16, 9, 3)];

fn main() -> Result<()> {
    println!(
        "| layer | million multiply-adds | us at {KEPT:?} of the blocks | us besides |\n|---|---|---|---|"
    );
    for (channels, side, kernel) in SHAPES {
        let networks = KEPT.map(|kept| network(channels, side, kernel, kept)).into_iter();
        let networks = networks.collect::<Result<Vec<_>>>()?;
        let inputs = tvec!(noise(&[1, channels, side, side], 1).into_tvalue());
        let limits = BenchLimits {
            warmup_loops: 20,
            warmup_time: Duration::ZERO,
            max_loops: 4000,
            max_time: Duration::from_millis(1500),
        };
        let engines: Vec<_> = networks.iter().collect();
        let layer: Vec<f64> = in_turn(&engines, &inputs, &limits, &|_| ())?
            .iter()
            .map(|times| 1e3 * quantile(times, 0.5) / LAYERS as f64)
            .collect();
        let times: Vec<String> = layer.iter().map(|us| format!("{us:.2}")).collect();
        let work = (channels * channels * kernel * kernel * side * side) as f64 / 1e6;
        println!(
            "| {channels}x{channels} {kernel}x{kernel}@{side} | {work:.2} | {} | {:.2} |",
            times.join(", "),
            at_none(&layer)
        );
    }
    Ok(())
}

/// The value at 0 of the line nearest to `values` at [`KEPT`].
fn at_none(values: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (x, y) = (mean(&KEPT), mean(values));
    let product: f64 = KEPT.iter().zip(values).map(|(a, b)| (a - x) * (b - y)).sum();
    let square: f64 = KEPT.iter().map(|a| (a - x) * (a - x)).sum();
    y - product / square * x
}

/// Convolutions of 4x4 blocks one after the other, with ReLU.
fn network(channels: usize, side: usize, kernel: usize, kept: f64) -> Result<Arc<TypedRunnableModel>> {
    let mut graph = Graph::default();
    let mut x = graph.input(&format!("1,{channels},{side},{side}"));
    for layer in 0..LAYERS {
        let taps = kernel * kernel;
        let mut weights = pruned(channels, channels * taps, (4, 4 * taps), kept, layer as u64);
        // sums of so many layers stay about as large as the input
        weights.iter_mut().for_each(|w| *w /= (channels * taps) as f32);
        let w = graph.constant(&[channels, channels, kernel, kernel], &weights);
        x = graph.op("Conv", &[&x, &w], vec![ints("pads", &[kernel / 2; 4])]);
        x = graph.op("Relu", &[&x], vec![]);
    }
    let model = onnx().model_for_proto_model(&graph.model(&[&x]))?.into_optimized()?;
    let sparse = sparse_nodes(&model);
    anyhow::ensure!(sparse == LAYERS, "{sparse} of {LAYERS} layers are sparse");
    model.into_runnable()
}
