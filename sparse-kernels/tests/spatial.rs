//! Every spatial kernel of the table against the oracle.

mod common;

use common::{Noise, TwoThreads, assert_close};
use proptest::prelude::*;
use sparse_kernels::prelude::*;
use sparse_kernels::spatial::{self, SpatialKernel};
use sparse_kernels::{format, reference};

/// Every kernel that this machine runs. An interpreter is too slow for that: there, those of the best target.
fn kernels() -> impl Iterator<Item = &'static SpatialKernel> {
    common::spatial().filter(|k| !cfg!(miri) || k.info().isa == Target::detect().isa())
}

/// How zeros are spread over the weights `[oc][ic][kh][kw]`.
#[derive(Debug, Clone, Copy)]
enum Zeros {
    /// Each weight on its own stays with this probability.
    Single(f64),
    /// Groups of output channels share their zeros.
    Rows(usize, f64),
    /// Whole kernels stay with this probability, and in these four taps that several filters share.
    Pattern { shared: usize, connectivity: f64 },
}

impl Zeros {
    fn weights(self, shape: &ConvShape, noise: &mut Noise) -> Vec<f32> {
        let (ic, taps) = (shape.ic, shape.kernel[0] * shape.kernel[1]);
        let row = ic * taps;
        let mut weights = noise.values(shape.oc * row);
        match self {
            Zeros::Single(density) => {
                weights.iter_mut().for_each(|w| *w = if noise.coin(density) { *w } else { 0.0 });
            }
            Zeros::Rows(group, density) => {
                for rows in weights.chunks_mut(group * row) {
                    for column in 0..row {
                        if !noise.coin(density) {
                            rows.iter_mut().skip(column).step_by(row).for_each(|w| *w = 0.0);
                        }
                    }
                }
            }
            Zeros::Pattern { shared, connectivity } => {
                for (group, rows) in weights.chunks_mut(shared * row).enumerate() {
                    for channel in 0..ic {
                        let kept = noise.coin(connectivity);
                        for tap in 0..taps {
                            if !kept || (tap != taps / 2 && (tap + group + channel) % 3 != 0) {
                                let at = channel * taps + tap;
                                rows.iter_mut().skip(at).step_by(row).for_each(|w| *w = 0.0);
                            }
                        }
                    }
                }
            }
        }
        weights
    }
}

/// Which weights a format stores: all of a group if any is nonzero.
fn stored(r: usize, row: usize, weights: &[f32]) -> Vec<bool> {
    let group = |i: usize| (i / row / r, i % row);
    let live: std::collections::HashSet<_> =
        (0..weights.len()).filter(|i| weights[*i] != 0.0).map(group).collect();
    (0..weights.len()).map(|i| live.contains(&group(i))).collect()
}

#[derive(Debug, Clone)]
struct Case {
    shape: ConvShape,
    zeros: Zeros,
    epilogue: Epilogue,
    residual: bool,
    bias: bool,
    special: Option<f32>,
    seed: u64,
}

impl Case {
    fn check(&self, kernel: &'static SpatialKernel) {
        let what = format!("{} {self:?}", kernel.info().name);
        let Ok(geometry) = ConvGeometry::new(self.shape) else { return };
        let ConvShape { oc, ic, kernel: taps, .. } = self.shape;
        let mut noise = Noise::new(self.seed);
        let weights = self.zeros.weights(&self.shape, &mut noise);
        let bias = self.bias.then(|| noise.values(oc));
        let mut x = noise.values(geometry.x_len());
        if let Some(special) = self.special {
            let at = (self.seed % x.len() as u64) as usize;
            x[at] = special;
        }
        let residual = self.residual.then(|| noise.values(geometry.y_len()));
        let stored = stored(kernel.format().r(), weights.len() / oc, &weights);
        let expected = reference::conv(
            &geometry,
            &weights,
            Some(&stored),
            bias.as_deref(),
            &x,
            residual.as_deref(),
            &self.epilogue,
        );
        let packed = PackedSpatial::from_dense(oc, ic, taps, &weights, bias.as_deref(), kernel).unwrap();
        assert_eq!(packed.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        let run = |parallel: &dyn Parallel| {
            let mut y = vec![f32::NAN; geometry.y_len()];
            packed.run(&geometry, &x, &mut y, residual.as_deref(), &self.epilogue, parallel).unwrap();
            y
        };
        let y = run(&Serial);
        assert_close(&what, &y, &expected, weights.len() / oc);
        let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(bits(y) == bits(run(&TwoThreads)), "{what}: two threads differ from one");
    }
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::RELU),
        Just(Activation::Clamp { lo: -0.25, hi: 0.5 }),
        Just(Activation::HardSwish),
        Just(Activation::Sigmoid),
        Just(Activation::LeakyRelu(0.1)),
    ]
}

fn zeros() -> impl Strategy<Value = Zeros> {
    let density = || prop_oneof![Just(0f64), Just(1f64), 0f64..=1.0];
    let group = prop_oneof![Just(1usize), Just(2), Just(4), Just(8)];
    prop_oneof![
        density().prop_map(Zeros::Single),
        (group.clone(), density()).prop_map(|(group, density)| Zeros::Rows(group, density)),
        (group, density()).prop_map(|(shared, connectivity)| Zeros::Pattern { shared, connectivity }),
    ]
}

/// Random cases, largest side of a map, and channels: an interpreter is slow.
const CASES: u32 = if cfg!(miri) { 6 } else { 300 };
const SIDE: usize = if cfg!(miri) { 20 } else { 40 };
const CHANNELS: usize = if cfg!(miri) { 2 } else { 10 };

prop_compose! {
    fn case()(
        (batch, ic, oc, input) in (1usize..3, 1..CHANNELS, 1..CHANNELS + 4, (1..=SIDE, 1..=SIDE)),
        kernel in prop_oneof![Just([3, 3]), Just([7, 7]), (1usize..6, 1usize..6).prop_map(|(h, w)| [h, w])],
        stride in (1usize..4, 1usize..4),
        dilation in prop_oneof![3 => Just([1, 1]), 1 => (1usize..4, 1usize..4).prop_map(|(h, w)| [h, w])],
        pads in (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        zeros in zeros(),
        (before, after, residual, bias) in (activation(), activation(), any::<bool>(), any::<bool>()),
        special in prop_oneof![4 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))],
        seed in any::<u64>(),
    ) -> Case {
        let shape = ConvShape {
            batch,
            input: [input.0, input.1],
            kernel,
            stride: [stride.0, stride.1],
            dilation,
            pad_before: [pads.0, pads.1],
            pad_after: [pads.2, pads.3],
            ..ConvShape::square(ic, oc, 1, 1, 1, 0)
        };
        Case { shape, zeros, epilogue: Epilogue { before, after }, residual, bias, special, seed }
    }
}

proptest! {
    #![proptest_config(common::cases(CASES))]

    #[test]
    fn every_kernel_agrees_with_the_oracle(case in case()) {
        for kernel in kernels() {
            case.check(kernel);
        }
    }
}

fn plain(shape: ConvShape, seed: usize) -> Case {
    Case {
        shape,
        zeros: Zeros::Rows(4, 0.6),
        epilogue: Epilogue::activation(Activation::RELU6),
        residual: seed.is_multiple_of(2),
        bias: true,
        special: None,
        seed: seed as u64,
    }
}

/// Every map size around the tiles, with the strides and paddings of common networks.
#[test]
fn every_map_size() {
    let sizes = if cfg!(miri) { vec![5] } else { common::sampled(1..=40) };
    for kernel in kernels() {
        for hw in sizes.clone() {
            plain(ConvShape::square(3, 5, hw, 3, 1, 1), hw).check(kernel);
            // SAME_UPPER of a stride-2 layer.
            let same = 1 - hw % 2;
            let shape = ConvShape { pad_before: [1 - same; 2], ..ConvShape::square(3, 9, hw, 3, 2, 1) };
            plain(shape, hw).check(kernel);
        }
    }
}

/// Images of several bands, also of unequal ones, and weights of several blocks.
#[test]
fn bands_and_blocks() {
    if cfg!(miri) {
        return; // too slow to interpret; the smaller tests run the same kernels
    }
    for kernel in kernels() {
        plain(ConvShape::square(64, 6, 61, 3, 1, 1), 1).check(kernel);
        plain(ConvShape::square(33, 6, 121, 3, 2, 1), 2).check(kernel);
        plain(ConvShape::square(300, 70, 5, 3, 1, 1), 3).check(kernel);
        plain(ConvShape { batch: 2, ..ConvShape::square(3, 16, 96, 7, 2, 3) }, 4).check(kernel);
    }
}

/// One packed layer serves several image sizes.
#[test]
fn geometry_may_change_between_runs() {
    let weights = Noise::new(1).values(8 * 4 * 9);
    for kernel in kernels() {
        let packed = PackedSpatial::from_dense(8, 4, [3, 3], &weights, None, kernel).unwrap();
        for hw in [5, 9, 5] {
            let geometry = ConvGeometry::new(ConvShape::square(4, 8, hw, 3, 1, 1)).unwrap();
            let x = Noise::new(hw as u64).values(geometry.x_len());
            let mut y = vec![0f32; geometry.y_len()];
            packed.run(&geometry, &x, &mut y, None, &Epilogue::default(), &Serial).unwrap();
            let expected = reference::conv(&geometry, &weights, None, None, &x, None, &Epilogue::default());
            assert_close(kernel.info().name, &y, &expected, 36);
        }
    }
}

#[test]
fn mismatches_are_errors() {
    let kernel = table::spatial(Target::SCALAR, FormatKind::ROWS_4);
    let weights = vec![1f32; 8 * 4 * 9];
    let new = |ic, taps, weights: &[f32], bias: Option<&[f32]>| {
        PackedSpatial::from_dense(8, ic, taps, weights, bias, kernel).map(|_| ())
    };
    assert_eq!(new(4, [3, 3], &weights, Some(&[0.0; 8])), Ok(()));
    assert!(new(4, [3, 3], &weights[1..], None).is_err());
    assert!(new(4, [3, 0], &weights, None).is_err());
    assert!(new(usize::MAX, [3, 3], &weights, None).is_err());
    assert!(new(4, [3, 3], &weights, Some(&[0.0; 7])).is_err());
    assert!(new(4, [3, 3], &vec![f32::INFINITY; weights.len()], None).is_err());

    let packed = PackedSpatial::from_dense(8, 4, [3, 3], &weights, None, kernel).unwrap();
    let run = |shape: ConvShape, x: usize, y: usize, r: Option<usize>| {
        let residual = r.map(|r| vec![0f32; r]);
        let (x, mut y) = (vec![0f32; x], vec![0f32; y]);
        let geometry = ConvGeometry::new(shape).unwrap();
        packed.run(&geometry, &x, &mut y, residual.as_deref(), &Epilogue::default(), &Serial)
    };
    let good = ConvShape::square(4, 8, 3, 3, 1, 1);
    assert_eq!(run(good, 36, 72, Some(72)), Ok(()));
    assert!(matches!(run(good, 35, 72, None), Err(KernelError::Length { what: "input", .. })));
    assert!(matches!(run(good, 36, 71, None), Err(KernelError::Length { what: "output", .. })));
    assert!(matches!(run(good, 36, 72, Some(1)), Err(KernelError::Length { what: "residual", .. })));
    let wrong = ConvShape { kernel: [1, 3], pad_before: [0, 1], pad_after: [0, 1], ..good };
    assert!(matches!(run(wrong, 36, 72, None), Err(KernelError::Shape { .. })));
    assert!(matches!(run(ConvShape { group: 4, ..good }, 36, 72, None), Err(KernelError::Shape { .. })));
    let interleaved = ConvShape { y_layout: Layout::Interleaved, ..good };
    assert!(spatial::supports(&interleaved).is_err() && spatial::supports(&good).is_ok());
    assert!(matches!(run(interleaved, 36, 72, None), Err(KernelError::Geometry(_))));
}

#[test]
fn kernel_patterns_are_found() {
    for (shared, connectivity) in [(4, 1.0), (4, 0.5), (2, 1.0), (1, 0.7)] {
        let zeros = Zeros::Pattern { shared, connectivity };
        let weights = zeros.weights(&ConvShape::square(16, 24, 8, 3, 1, 1), &mut Noise::new(5));
        let stats = format::pattern_stats(24, 16, [3, 3], &weights).unwrap();
        assert_eq!(stats.shared, Some(shared), "{stats:?}");
        assert!((stats.absent - (1.0 - connectivity)).abs() < 0.15, "{stats:?}");
        let r = format::PatternStats::ROWS.iter().position(|r| *r == shared).unwrap();
        assert!((stats.densities[r] - stats.density).abs() < 1e-12, "{stats:?}");
        assert!(stats.densities.windows(2).all(|w| w[0] <= w[1]), "{stats:?}");
    }
    let dense = Noise::new(2).values(8 * 8 * 9);
    let stats = format::pattern_stats(8, 8, [3, 3], &dense).unwrap();
    assert_eq!((stats.shared, stats.absent, stats.densities), (None, 0.0, [1.0; 4]));
    assert!(format::pattern_stats(8, 8, [3, 3], &dense[1..]).is_err());
    assert!(format::pattern_stats(8, usize::MAX, [3, 3], &dense).is_err());
    let nonzeros = format::Nonzeros::of(8, 72, &dense).unwrap();
    assert!(nonzeros.pattern_stats([3, 3]).is_ok());
    assert!([[5, 2], [0, 3], [usize::MAX, 2]].iter().all(|taps| nonzeros.pattern_stats(*taps).is_err()));
}
