//! The first blocks of MobileNet-v1 and v2, 30 % of the 4x4 blocks and 3:9, layer by layer and band by band.
//!
//! ```sh
//! taskset -c 1 cargo bench --bench chains
//! ```
//! Layer by layer, two buffers take turns: an allocator hands out what has just been freed, too. Both answers
//! are compared first.

use benches::is_close;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use noise::Noise;
use sparse_kernels::chain::{self, Chain, Layer, Stage};
use sparse_kernels::prelude::*;
use std::time::Duration;

/// What a layer is; the number is its output channels.
#[derive(Clone, Copy)]
enum Kind {
    Entry(usize),
    Depthwise,
    Pointwise(usize),
}

use Kind::{Depthwise, Entry, Pointwise};

/// Input channels and side of the input, then layers with their strides.
type Block = (&'static str, usize, usize, &'static [(Kind, usize)]);

const BLOCKS: [Block; 5] = [
    ("v1, first", 3, 224, &[(Entry(32), 2), (Depthwise, 1), (Pointwise(64), 1), (Depthwise, 2)]),
    ("v1, 56x56", 64, 56, &[(Pointwise(128), 1), (Depthwise, 1), (Pointwise(128), 1), (Depthwise, 2)]),
    ("v2, first", 3, 224, &[(Entry(32), 2), (Depthwise, 1), (Pointwise(16), 1)]),
    ("v2, 112x112", 16, 112, &[(Pointwise(96), 1), (Depthwise, 2), (Pointwise(24), 1)]),
    ("v2, 56x56", 24, 56, &[(Pointwise(144), 1), (Depthwise, 1), (Pointwise(24), 1)]),
];

/// Share of the 4x4 blocks that is kept, in thousandths.
const KEPT: usize = 700;

enum Packed {
    Pointwise(PackedPointwise),
    Depthwise(PackedDepthwise),
    Spatial(PackedSpatial),
}

impl Packed {
    fn new(kind: Kind, s: &ConvShape, noise: &mut Noise) -> Packed {
        let target = Target::detect();
        let (mut weights, bias) =
            (noise.values(s.oc * s.ic / s.group * s.kernel[0] * s.kernel[1]), noise.values(s.oc));
        match kind {
            Entry(_) => {
                let kernel = table::spatial(target, FormatKind::ROWS_4);
                let packed = PackedSpatial::from_dense(s.oc, s.ic, s.kernel, &weights, Some(&bias), kernel);
                Packed::Spatial(packed.unwrap())
            }
            Depthwise => {
                weights
                    .chunks_exact_mut(9)
                    .for_each(|taps| [0, 2, 6].iter().for_each(|tap| taps[*tap] = 0.0));
                let kernel = table::depthwise(target, s.kernel).unwrap();
                let packed = PackedDepthwise::from_dense(s.oc, s.kernel, &weights, Some(&bias), kernel);
                Packed::Depthwise(packed.unwrap())
            }
            Pointwise(_) => {
                for (at, w) in weights.iter_mut().enumerate() {
                    let block = at / s.ic / 4 * (s.ic / 4) + at % s.ic / 4;
                    if block * 7919 % 1000 >= KEPT {
                        *w = 0.0;
                    }
                }
                let kernel = table::pointwise(target, FormatKind::BLOCKS_4X4);
                let packed = PackedPointwise::from_dense(s.oc, s.ic, &weights, Some(&bias), kernel);
                Packed::Pointwise(packed.unwrap())
            }
        }
    }

    fn layer(&self) -> Layer<'_> {
        match self {
            Packed::Pointwise(weights) => Layer::Pointwise(weights),
            Packed::Depthwise(weights) => Layer::Depthwise(weights),
            Packed::Spatial(weights) => Layer::Spatial(weights),
        }
    }
}

/// Leaves the answer in the first of two maps.
fn one_by_one(stages: &[Stage], x: &[f32], maps: &mut [Vec<f32>; 2]) {
    for (at, stage) in stages.iter().enumerate() {
        let [from, to] = maps;
        let from = if at == 0 { x } else { &from[..stage.geometry.x_len()] };
        stage.run(from, &mut to[..stage.geometry.y_len()], None, &Serial).unwrap();
        maps.swap(0, 1);
    }
}

fn chains(c: &mut Criterion) {
    let Some(room) = chain::room() else {
        println!("NOT RUN: no second-level cache is known here");
        return;
    };
    let mut noise = Noise::new(1);
    for (name, mut ic, mut side, layers) in BLOCKS {
        let (mut packed, mut geometries) = (vec![], vec![]);
        for (kind, stride) in layers {
            let (oc, kernel) = match kind {
                Entry(oc) => (*oc, 3),
                Depthwise => (ic, 3),
                Pointwise(oc) => (*oc, 1),
            };
            let shape = ConvShape::square(ic, oc, side, kernel, *stride, kernel / 2);
            let shape = ConvShape { group: if matches!(kind, Depthwise) { ic } else { 1 }, ..shape };
            let geometry = ConvGeometry::new(shape).unwrap();
            packed.push(Packed::new(*kind, &shape, &mut noise));
            geometries.push(geometry);
            (ic, side) = (oc, geometry.output()[0]);
        }
        let epilogue = Epilogue::activation(Activation::RELU6);
        let stages: Vec<Stage> = packed
            .iter()
            .zip(geometries)
            .map(|(packed, geometry)| Stage { layer: packed.layer(), geometry, epilogue })
            .collect();
        let x = noise.values(stages[0].geometry.x_len());
        let most = stages.iter().map(|stage| stage.geometry.y_len()).max().unwrap();
        let mut maps = [vec![0f32; most], vec![0f32; most]];
        one_by_one(&stages, &x, &mut maps);
        let expected = maps[0].clone();
        let mut y = vec![0f32; stages.last().unwrap().geometry.y_len()];
        let chain = Chain::new(&stages, room).unwrap();
        chain.run(&x, &mut y, None, &Serial).unwrap();
        assert!(y.iter().zip(&expected).all(|(y, expected)| is_close(*y, *expected)), "{name}");
        let mut group = c.benchmark_group(name);
        group.bench_function(BenchmarkId::from_parameter("layer by layer"), |b| {
            b.iter(|| one_by_one(&stages, &x, &mut maps));
        });
        group.bench_function(BenchmarkId::from_parameter("band by band"), |b| {
            b.iter(|| Chain::new(&stages, room).unwrap().run(&x, &mut y, None, &Serial).unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(20);
    targets = chains
}
criterion_main!(benches);
