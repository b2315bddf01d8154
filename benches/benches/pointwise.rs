//! The 1x1 layers of MobileNet-v1 on the pointwise kernels of this machine, and the core's multiply-add peak
//! beside them.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench pointwise             # everything
//! taskset -c 1 cargo bench --bench pointwise -- '4x4/70' # one format with 70 % of the blocks kept
//! ```
//! Throughput is in multiply-adds with nonzero weights; `bf16` are kernels of half precision, where there are any. Every layer's answer is checked against the oracle
//! first.

use benches::{OnPairs, is_close, is_close_rounded, rounded, shapes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use noise::Noise;
use sparse_kernels::doctor::peak::multiply_adds;
use sparse_kernels::prelude::*;
use sparse_kernels::reference;
use std::time::Duration;

/// Shares of the blocks that are kept, in per cent.
const KEPT: [usize; 5] = [100, 70, 50, 20, 10];

fn peak(c: &mut Criterion) {
    const ROUNDS: usize = 10_000;
    let target = Target::detect();
    let mut group = c.benchmark_group("peak");
    group.throughput(Throughput::Elements((ROUNDS * multiply_adds(target, 1)) as u64));
    group.bench_function("multiply-adds in registers", |b| b.iter(|| multiply_adds(target, ROUNDS)));
}

fn pointwise(c: &mut Criterion) {
    let target = Target::detect();
    for [ic, oc, hw, _] in shapes(include_str!("../shapes/mobilenet-v1.txt")) {
        let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, 1, 1, 0)).unwrap();
        let mut noise = Noise::new(1);
        let x = noise.values(geometry.x_len());
        let mut y = vec![0f32; geometry.y_len()];
        let epilogue = Epilogue::activation(Activation::RELU6);
        for format in [FormatKind::BLOCKS_4X4, FormatKind::ROWS_1] {
            let kernel = table::pointwise(target, format);
            for kept in KEPT {
                let weights = noise.blocks(oc, ic, (format.r(), format.c()), kept as f64 / 100.0);
                let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel).unwrap();
                packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial).unwrap();
                check(&geometry, &weights, &x, &y, &epilogue, is_close);
                let mut group = c.benchmark_group(format!("{format}/{kept}"));
                group.throughput(Throughput::Elements((packed.nnz() * geometry.output_pixels()) as u64));
                let id = BenchmarkId::from_parameter(format!("{ic}-{oc}@{hw}"));
                group.bench_function(id, |b| {
                    b.iter(|| packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial));
                });
                let Some(half) = target.half() else { continue };
                let kernel = table::pointwise_half(half, format);
                let (x, weights) = (rounded(&x), rounded(&weights));
                let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel).unwrap();
                let mut pairs = OnPairs::new(half, &geometry, &x);
                packed.run_pairs(&geometry, &pairs.x, &mut pairs.y, None, &epilogue, &Serial).unwrap();
                check(&geometry, &weights, &x, &pairs.outputs(), &epilogue, is_close_rounded);
                group.bench_function(BenchmarkId::new("bf16", format!("{ic}-{oc}@{hw}")), |b| {
                    b.iter(|| packed.run_pairs(&geometry, &pairs.x, &mut pairs.y, None, &epilogue, &Serial));
                });
            }
        }
    }
}

/// Compares the first and the last pixel of every channel with the oracle.
fn check(
    geometry: &ConvGeometry,
    weights: &[f32],
    x: &[f32],
    y: &[f32],
    epilogue: &Epilogue,
    close: fn(f32, f32) -> bool,
) {
    let s = geometry.shape();
    let pixels = geometry.output_pixels();
    for pixel in [0, pixels - 1] {
        let one: Vec<f32> = (0..s.ic).map(|c| x[c * pixels + pixel]).collect();
        let geometry = ConvGeometry::pointwise(1, s.ic, s.oc, 1).unwrap();
        let expected = reference::conv(&geometry, weights, None, None, &one, None, epilogue);
        for (channel, expected) in expected.iter().enumerate() {
            let got = y[channel * pixels + pixel];
            assert!(close(got, *expected), "{got} is not {expected}");
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(20);
    targets = peak, pointwise
}
criterion_main!(benches);
