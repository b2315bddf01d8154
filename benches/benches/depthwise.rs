//! The depthwise layers of MobileNet-v1 and v2 on the kernels of this machine: dense, and with 3:9 patterns
//! shared by 16 channels.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench depthwise             # everything
//! taskset -c 1 cargo bench --bench depthwise -- '3:9/'   # patterns
//! ```
//! Throughput is in output pixels, so that dense and patterns compare; `bf16` are kernels of half precision, where there
//! are any. Every layer's answer is checked
//! against the oracle first.

use benches::{OnPairs, assert_answers, is_close, is_close_rounded, rounded, shapes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use noise::Noise;
use sparse_kernels::prelude::*;
use std::time::Duration;

/// Channels that share a pattern.
const GROUP: usize = 16;

fn depthwise(c: &mut Criterion) {
    let target = Target::detect();
    let kernel = table::depthwise(target, [3, 3]).unwrap();
    for [channels, hw, stride] in shapes(include_str!("../shapes/depthwise-3x3.txt")) {
        let shape = ConvShape { group: channels, ..ConvShape::square(channels, channels, hw, 3, stride, 1) };
        let geometry = ConvGeometry::new(shape).unwrap();
        let mut noise = Noise::new(1);
        let x = noise.values(geometry.x_len());
        let mut y = vec![0f32; geometry.y_len()];
        let epilogue = Epilogue::activation(Activation::RELU6);
        let dense = noise.values(channels * 9);
        for (name, weights) in [("dense", dense.clone()), ("3:9", three_of_nine(dense))] {
            let packed = PackedDepthwise::from_dense(channels, [3, 3], &weights, None, kernel).unwrap();
            packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial).unwrap();
            assert_answers(&geometry, &weights, &x, &y, &epilogue, is_close);
            let mut group = c.benchmark_group(name);
            group.throughput(Throughput::Elements(geometry.y_len() as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{channels}@{hw}/{stride}")), |b| {
                b.iter(|| packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial));
            });
            let half = target.half().and_then(|half| Some((half, table::depthwise_half(half, [3, 3])?)));
            let Some((half, kernel)) = half else { continue };
            let (x, weights) = (rounded(&x), rounded(&weights));
            let packed = PackedDepthwise::from_dense(channels, [3, 3], &weights, None, kernel).unwrap();
            let mut pairs = OnPairs::new(half, &geometry, &x);
            packed.run_pairs(&geometry, &pairs.x, &mut pairs.y, None, &epilogue, &Serial).unwrap();
            assert_answers(&geometry, &weights, &x, &pairs.outputs(), &epilogue, is_close_rounded);
            group.bench_function(BenchmarkId::new("bf16", format!("{channels}@{hw}/{stride}")), |b| {
                b.iter(|| packed.run_pairs(&geometry, &pairs.x, &mut pairs.y, None, &epilogue, &Serial));
            });
        }
    }
}

/// In every row of taps either the left or the right one goes: eight patterns, taken in turn.
fn three_of_nine(mut weights: Vec<f32>) -> Vec<f32> {
    for (group, weights) in weights.chunks_mut(GROUP * 9).enumerate() {
        for taps in weights.chunks_exact_mut(9) {
            (0..3).for_each(|row| taps[row * 3 + if group >> row & 1 == 1 { 0 } else { 2 }] = 0.0);
        }
    }
    weights
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(20);
    targets = depthwise
}
criterion_main!(benches);
