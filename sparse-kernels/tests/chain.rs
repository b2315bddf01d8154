//! Chains of layers, band by band, against the same layers one after the other.

mod common;

use common::Noise;
use sparse_kernels::chain::{Chain, Layer, Stage};
use sparse_kernels::pairs;
use sparse_kernels::prelude::*;

/// Bands end at other pixels than images: which pixels are summed one by one, in another order, differs. Five
/// layers of a few dozen terms each add up to some units in the last place of the largest value.
const TOLERANCE: f32 = 2e-6;

/// Of pairs, such a difference may round to the next number of bf16: 2^-8 of the value, in each of five layers, of which
/// the largest may be several times as large as the output.
const TOLERANCE_OF_PAIRS: f32 = 5.0 / 256.0;

/// Three threads, one after the other.
struct Three;

impl Parallel for Three {
    fn threads(&self) -> usize {
        3
    }

    fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).rev().for_each(task);
    }
}

enum Packed {
    Pointwise(PackedPointwise),
    Depthwise(PackedDepthwise),
    Spatial(PackedSpatial),
}

impl Packed {
    fn new(target: Target, s: &ConvShape, noise: &mut Noise) -> Packed {
        let mut weights = noise.values(s.oc * s.ic / s.group * s.kernel[0] * s.kernel[1]);
        weights.iter_mut().step_by(3).for_each(|w| *w = 0.0);
        let bias = noise.values(s.oc);
        if s.group > 1 {
            let kernel = table::depthwise(target, s.kernel).unwrap();
            let packed = PackedDepthwise::from_dense(s.oc, s.kernel, &weights, Some(&bias), kernel);
            Packed::Depthwise(packed.unwrap())
        } else if s.kernel == [1, 1] {
            let kernel = table::pointwise(target, FormatKind::BLOCKS_4X4);
            Packed::Pointwise(PackedPointwise::from_dense(s.oc, s.ic, &weights, Some(&bias), kernel).unwrap())
        } else {
            let kernel = table::spatial(target, FormatKind::ROWS_4);
            let packed = PackedSpatial::from_dense(s.oc, s.ic, s.kernel, &weights, Some(&bias), kernel);
            Packed::Spatial(packed.unwrap())
        }
    }

    /// The layer for activations in pairs of channels.
    fn in_pairs(half: Half, s: &ConvShape, noise: &mut Noise) -> Packed {
        let mut weights = noise.values(s.oc * s.ic / s.group * s.kernel[0] * s.kernel[1]);
        weights.iter_mut().step_by(3).for_each(|w| *w = 0.0);
        let bias = noise.values(s.oc);
        if s.group > 1 {
            let kernel = table::depthwise_half(half, s.kernel).unwrap();
            let packed = PackedDepthwise::from_dense(s.oc, s.kernel, &weights, Some(&bias), kernel);
            Packed::Depthwise(packed.unwrap())
        } else if s.kernel == [1, 1] {
            let kernel = table::pointwise_half(half, FormatKind::BLOCKS_4X4);
            Packed::Pointwise(PackedPointwise::from_dense(s.oc, s.ic, &weights, Some(&bias), kernel).unwrap())
        } else {
            let kernel = table::spatial_half(half, FormatKind::ROWS_4).unwrap();
            let packed = PackedSpatial::from_dense(s.oc, s.ic, s.kernel, &weights, Some(&bias), kernel);
            Packed::Spatial(packed.unwrap())
        }
    }

    fn layer(&self) -> Layer<'_> {
        match self {
            Packed::Pointwise(w) => Layer::Pointwise(w),
            Packed::Depthwise(w) => Layer::Depthwise(w),
            Packed::Spatial(w) => Layer::Spatial(w),
        }
    }
}

/// A layer as a whole.
fn run(stage: &Stage, x: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
    let mut y = vec![f32::NAN; stage.geometry.y_len()];
    stage.run(x, &mut y, residual, &Serial).unwrap();
    y
}

/// A layer: output channels, kernel, stride, rows of padding before and behind, and depthwise or not.
type Entry = (usize, usize, usize, [usize; 2], bool);

const ENTRY: Entry = (8, 3, 2, [1, 1], false);
const SPATIAL: Entry = (9, 3, 1, [1, 1], false);
const DEPTHWISE: Entry = (0, 3, 1, [1, 1], true);
const STRIDED: Entry = (0, 3, 2, [0, 1], true);
const POINTWISE: Entry = (12, 1, 1, [0, 0], false);

fn shapes(batch: usize, ic: usize, input: [usize; 2], entries: &[Entry]) -> Vec<ConvShape> {
    let mut next = (ic, input);
    let shape = |(oc, kernel, stride, [before, behind], depthwise): &Entry| {
        let (ic, input) = next;
        let s = ConvShape {
            batch,
            oc: if *depthwise { ic } else { *oc },
            group: if *depthwise { ic } else { 1 },
            input,
            pad_before: [*before; 2],
            pad_after: [*behind; 2],
            ..ConvShape::square(ic, *oc, 1, *kernel, *stride, 0)
        };
        next = (s.oc, ConvGeometry::new(s).unwrap().output());
        s
    };
    entries.iter().map(shape).collect()
}

#[test]
fn bands_are_what_whole_maps_are() {
    let mut noise = Noise::new(11);
    let chains: &[&[Entry]] = &[
        &[ENTRY, DEPTHWISE, POINTWISE, STRIDED, POINTWISE],
        &[POINTWISE, DEPTHWISE, POINTWISE],
        &[POINTWISE, STRIDED, POINTWISE, DEPTHWISE],
        // kernels of one row, steps that leave rows out, padding that is higher than the kernel
        &[(4, 1, 3, [0, 0], false), POINTWISE],
        &[DEPTHWISE, (8, 3, 1, [4, 5], false), DEPTHWISE],
        &[(5, 3, 1, [0, 0], false), (7, 5, 2, [2, 1], false)],
        &[POINTWISE],
    ];
    let sizes: &[[usize; 2]] = if cfg!(miri) {
        &[[9, 6]]
    } else {
        &[[1, 1], [2, 5], [7, 7], [14, 14], [23, 16], [40, 37], [56, 56]]
    };
    for target in common::targets() {
        for (entries, size) in chains.iter().flat_map(|e| sizes.iter().map(move |s| (*e, *s))) {
            for batch in 1..3 {
                let shapes = shapes(batch, 8, size, entries);
                let packed: Vec<Packed> = shapes.iter().map(|s| Packed::new(target, s, &mut noise)).collect();
                let stages = stages(&packed, &shapes);
                let last = stages.last().unwrap().geometry;
                let x = noise.values(stages[0].geometry.x_len());
                let residual = noise.values(last.y_len());
                for residual in [None, Some(&*residual)] {
                    let mut expected = x.clone();
                    for (i, stage) in stages.iter().enumerate() {
                        let residual = residual.filter(|_| i + 1 == stages.len());
                        expected = run(stage, &expected, residual);
                    }
                    for (room, parallel) in
                        [(0, &Serial as &dyn Parallel), (3000, &Serial), (1 << 30, &Serial), (2000, &Three)]
                    {
                        let chain = Chain::new(&stages, room).unwrap();
                        let mut y = vec![f32::NAN; last.y_len()];
                        chain.run(&x, &mut y, residual, parallel).unwrap();
                        let most = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
                        for (at, (got, expected)) in y.iter().zip(&expected).enumerate() {
                            let wrong = (got - expected).abs();
                            assert!(wrong <= TOLERANCE * most, "{target} {size:?} {entries:?} {room}: {at}");
                        }
                    }
                }
            }
        }
    }
}

fn stages<'a>(packed: &'a [Packed], shapes: &[ConvShape]) -> Vec<Stage<'a>> {
    let hard = Epilogue::activation(Activation::HardSwish);
    let relu = Epilogue::activation(Activation::RELU);
    let stage = |(i, (packed, shape)): (usize, (&'a Packed, &ConvShape))| Stage {
        layer: packed.layer(),
        geometry: ConvGeometry::new(*shape).unwrap(),
        epilogue: if i % 2 == 0 { relu } else { hard },
    };
    packed.iter().zip(shapes).enumerate().map(stage).collect()
}

/// Lanes of an activation of this many images, channels and pixels.
fn lanes([images, channels, pixels]: [usize; 3]) -> usize {
    images * channels.div_ceil(2) * pixels
}

#[test]
fn bands_of_pairs_are_what_whole_maps_are() {
    let mut noise = Noise::new(12);
    let odd: Entry = (7, 1, 1, [0, 0], false);
    let chains: &[&[Entry]] = &[
        &[POINTWISE, DEPTHWISE, POINTWISE, STRIDED, POINTWISE],
        &[odd, DEPTHWISE, odd, STRIDED],
        &[DEPTHWISE, POINTWISE],
        &[ENTRY, DEPTHWISE, odd, SPATIAL, SPATIAL],
    ];
    let sizes: &[[usize; 2]] = if cfg!(miri) { &[[9, 6]] } else { &[[1, 1], [2, 5], [23, 16], [56, 56]] };
    for half in common::halves() {
        let target = half.target();
        let spatial = table::spatial_half(half, FormatKind::ROWS_4).is_some();
        let runs = |entries: &&&[Entry]| spatial || entries.iter().all(|entry| entry.1 == 1 || entry.4);
        for (entries, size) in chains.iter().filter(runs).flat_map(|e| sizes.iter().map(move |s| (*e, *s))) {
            for batch in 1..3 {
                let shapes = shapes(batch, 8, size, entries);
                let packed: Vec<Packed> =
                    shapes.iter().map(|s| Packed::in_pairs(half, s, &mut noise)).collect();
                let stages = stages(&packed, &shapes);
                let planes =
                    |stage: &Stage| [batch, stage.geometry.shape().oc, stage.geometry.output_pixels()];
                let of_x = [batch, 8, size[0] * size[1]];
                let of_y = planes(stages.last().unwrap());
                let mut x = vec![0; lanes(of_x)];
                pairs::pack(half, of_x, &noise.values(of_x.iter().product()), &mut x).unwrap();
                let mut residual = vec![0; lanes(of_y)];
                pairs::pack(half, of_y, &noise.values(of_y.iter().product()), &mut residual).unwrap();
                let widened = |lanes: &[u32]| {
                    let mut floats = vec![f32::NAN; of_y.iter().product()];
                    pairs::unpack(half, of_y, lanes, &mut floats).unwrap();
                    floats
                };
                for residual in [None, Some(&*residual)] {
                    let mut expected = x.clone();
                    for (i, stage) in stages.iter().enumerate() {
                        let mut y = vec![u32::MAX; lanes(planes(stage))];
                        let residual = residual.filter(|_| i + 1 == stages.len());
                        stage.run_pairs(&expected, &mut y, residual, &Serial).unwrap();
                        expected = y;
                    }
                    let expected = widened(&expected);
                    let most = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
                    for (room, parallel) in [(0, &Serial as &dyn Parallel), (1500, &Serial), (1000, &Three)] {
                        let chain = Chain::new(&stages, room).unwrap();
                        let mut y = vec![u32::MAX; lanes(of_y)];
                        chain.run_pairs(&x, &mut y, residual, parallel).unwrap();
                        for (at, (got, expected)) in widened(&y).iter().zip(&expected).enumerate() {
                            let wrong = (got - expected).abs();
                            let right = wrong <= TOLERANCE_OF_PAIRS * most;
                            assert!(right, "{target} {size:?} {entries:?} {room}: {at}, {wrong} of {most}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn floats_and_pairs_are_not_mixed() {
    let mut noise = Noise::new(4);
    let shapes = shapes(1, 8, [6, 6], &[POINTWISE, DEPTHWISE]);
    for half in common::halves() {
        let of_pairs = Packed::in_pairs(half, &shapes[0], &mut noise);
        let of_floats = Packed::new(half.target(), &shapes[1], &mut noise);
        let packed = [of_pairs, of_floats];
        let mixed = stages(&packed, &shapes);
        assert!(Chain::new(&mixed, 9).unwrap_err().to_string().contains("pairs"));
        let (floats, lanes) = ([1.0; 8 * 36], [0; 4 * 36]);
        let chain = Chain::new(&mixed[..1], 9).unwrap();
        assert!(chain.run(&floats, &mut [0.0; 12 * 36], None, &Serial).is_err());
        assert!(chain.run_pairs(&lanes, &mut [0; 6 * 36], None, &Serial).is_ok());
        let chain = Chain::new(&mixed[1..], 9).unwrap();
        assert!(chain.run_pairs(&[0; 6 * 36], &mut [0; 6 * 36], None, &Serial).is_err());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut noise = Noise::new(3);
    let shapes = shapes(1, 8, [6, 6], &[POINTWISE, DEPTHWISE]);
    let target = Target::detect();
    let packed: Vec<Packed> = shapes.iter().map(|s| Packed::new(target, s, &mut noise)).collect();
    let stage = |i: usize, s: ConvShape| Stage {
        layer: packed[i].layer(),
        geometry: ConvGeometry::new(s).unwrap(),
        epilogue: Epilogue::default(),
    };
    let [a, b] = [0, 1].map(|i| stage(i, shapes[i]));
    assert!(Chain::new(&[], 9).is_err() && Chain::new(&[b, a], 9).is_err());
    assert!(Chain::new(&[stage(1, shapes[0])], 9).is_err());
    assert!(Chain::new(&[a, stage(1, ConvShape { input: [6, 5], ..shapes[1] })], 9).is_err());
    assert!(Chain::new(&[stage(0, ConvShape { x_layout: Layout::Interleaved, ..shapes[0] })], 9).is_err());
    let band = Stage { geometry: a.geometry.in_planes(50, 50).unwrap(), ..a };
    assert!(Chain::new(&[band], 9).is_err() && a.geometry.in_planes(35, 50).is_err());
    assert!(a.geometry.in_planes(usize::MAX / 8, 36).is_err());
    let stages = [a, b];
    // three rows of twelve channels and six columns between for each of the output
    let pixels = |floats| Chain::new(&stages, floats).unwrap().pixels();
    assert_eq!([0, 12 * 4 * 6, 12 * 6 * 6].map(pixels), [Some(6), Some(12), None]);
    let chain = Chain::new(&stages, 9).unwrap();
    let (x, mut y) = (vec![1.0; 8 * 36], vec![0.0; 12 * 36]);
    assert!(chain.run(&x, &mut y, None, &Serial).is_ok());
    assert!(chain.run(&x[1..], &mut y, None, &Serial).is_err());
    assert!(chain.run(&x, &mut y[1..], None, &Serial).is_err());
    assert!(chain.run(&x, &mut y, Some(&x), &Serial).is_err());
}
