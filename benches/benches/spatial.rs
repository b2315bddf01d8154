//! The 3x3 layers of ResNet-18 and ResNet-20 and the entry layer of MobileNets on the spatial kernels of this
//! machine: dense, with four-of-nine patterns shared by four filters, and with half of the kernels absent
//! besides.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench spatial               # everything
//! taskset -c 1 cargo bench --bench spatial -- '5:9/'     # patterns without connectivity
//! ```
//! Throughput is in multiply-adds with nonzero weights. Every layer's answer is checked against the oracle
//! first.

use benches::{assert_answers, is_close, shapes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use noise::Noise;
use sparse_kernels::prelude::*;
use std::time::Duration;

/// Names, whether kernels have four taps of nine, and which per cent of the kernels are there.
const WEIGHTS: [(&str, bool, usize); 3] = [("dense", false, 100), ("5:9", true, 100), ("5:9:0.5", true, 50)];

fn spatial(c: &mut Criterion) {
    let target = Target::detect();
    let kernel = table::spatial(target, FormatKind::ROWS_4);
    for [ic, oc, hw, stride] in shapes(include_str!("../shapes/spatial-3x3.txt")) {
        let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, 3, stride, 1)).unwrap();
        let mut noise = Noise::new(1);
        let x = noise.values(geometry.x_len());
        let mut y = vec![0f32; geometry.y_len()];
        let epilogue = Epilogue::activation(Activation::RELU);
        for (name, pattern, present) in WEIGHTS {
            // Entry layers are not pruned.
            if pattern && ic < 4 {
                continue;
            }
            let weights = weights(&mut noise, oc, ic, pattern, present);
            let packed = PackedSpatial::from_dense(oc, ic, [3, 3], &weights, None, kernel).unwrap();
            packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial).unwrap();
            assert_answers(&geometry, &weights, &x, &y, &epilogue, is_close);
            let mut group = c.benchmark_group(name);
            group.throughput(Throughput::Elements((packed.nnz() * geometry.output_pixels()) as u64));
            group.bench_function(BenchmarkId::from_parameter(format!("{ic}-{oc}@{hw}/{stride}")), |b| {
                b.iter(|| packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial));
            });
        }
    }
}

/// Kernels whose taps groups of 4x4 share: all of them, or the middle and three others.
fn weights(noise: &mut Noise, oc: usize, ic: usize, pattern: bool, present: usize) -> Vec<f32> {
    let patterns: Vec<u32> = (0u32..1 << 9).filter(|m| m.count_ones() == 4 && m & 1 << 4 != 0).collect();
    let mut weights = noise.values(oc * ic * 9);
    for rows in 0..oc.div_ceil(4) {
        for cols in 0..ic.div_ceil(4) {
            let there = noise.share() < present as f32 / 100.0;
            let pattern =
                if pattern { patterns[(noise.share() * patterns.len() as f32) as usize] } else { 0x1FF };
            let kept = if there { pattern } else { 0 };
            for o in rows * 4..oc.min(rows * 4 + 4) {
                for i in cols * 4..ic.min(cols * 4 + 4) {
                    let taps = &mut weights[(o * ic + i) * 9..][..9];
                    taps.iter_mut()
                        .enumerate()
                        .filter(|(tap, _)| kept >> tap & 1 == 0)
                        .for_each(|(_, w)| *w = 0.0);
                }
            }
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
    targets = spatial
}
criterion_main!(benches);
