//! Every pointwise kernel of the table against the oracle.

mod common;

use common::{Noise, TwoThreads, assert_close};
use proptest::prelude::*;
use sparse_kernels::pointwise::PointwiseKernel;
use sparse_kernels::prelude::*;
use sparse_kernels::reference;

/// Every kernel that this machine runs. An interpreter is too slow for that: there, those of the best target.
fn kernels() -> impl Iterator<Item = &'static PointwiseKernel> {
    common::pointwise().filter(|k| !cfg!(miri) || k.info().isa == Target::detect().isa())
}

/// Which weights a format stores: all of a group if any is nonzero.
fn stored(kind: FormatKind, oc: usize, ic: usize, weights: &[f32]) -> Vec<bool> {
    let group = |i: usize| (i / ic / kind.r(), i % ic / kind.c());
    let live: std::collections::HashSet<_> = (0..oc * ic).filter(|i| weights[*i] != 0.0).map(group).collect();
    (0..oc * ic).map(|i| live.contains(&group(i))).collect()
}

#[derive(Debug, Clone)]
struct Case {
    shape: ConvShape,
    density: f64,
    epilogue: Epilogue,
    residual: bool,
    bias: bool,
    special: Option<f32>,
    seed: u64,
}

impl Case {
    fn check(&self, kernel: &'static PointwiseKernel) {
        let what = format!("{} {self:?}", kernel.info().name);
        let geometry = ConvGeometry::new(self.shape).unwrap();
        let (oc, ic, kind) = (self.shape.oc, self.shape.ic, kernel.format());
        let mut noise = Noise::new(self.seed);
        let mut weights = noise.values(oc * ic);
        // Whole groups go, so that sparsity is seen by every format; one more weight goes alone.
        for row in (0..oc).step_by(kind.r()) {
            for column in (0..ic).step_by(kind.c()) {
                if !noise.coin(self.density) {
                    for r in row..oc.min(row + kind.r()) {
                        weights[r * ic..][column..ic.min(column + kind.c())].fill(0.0);
                    }
                }
            }
        }
        weights[(self.seed % (oc * ic) as u64) as usize] = 0.0;
        let bias = self.bias.then(|| noise.values(oc));
        let mut x = noise.values(geometry.x_len());
        if let Some(special) = self.special {
            let at = (self.seed % x.len() as u64) as usize;
            x[at] = special;
        }
        let residual = self.residual.then(|| noise.values(geometry.y_len()));
        let stored = stored(kind, oc, ic, &weights);
        let expected = reference::conv(
            &geometry,
            &weights,
            Some(&stored),
            bias.as_deref(),
            &x,
            residual.as_deref(),
            &self.epilogue,
        );
        let packed = PackedPointwise::from_dense(oc, ic, &weights, bias.as_deref(), kernel).unwrap();
        assert_eq!(packed.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        let run = |parallel: &dyn Parallel| {
            let mut y = vec![f32::NAN; geometry.y_len()];
            packed.run(&geometry, &x, &mut y, residual.as_deref(), &self.epilogue, parallel).unwrap();
            y
        };
        let y = run(&Serial);
        assert_close(&what, &y, &expected, ic);
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

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Planar), Just(Layout::Interleaved)]
}

prop_compose! {
    fn case()(
        (batch, ic, oc, input) in (1usize..3, 1usize..40, 1usize..40, (1usize..8, 1usize..24)),
        stride in (1usize..4, 1usize..4),
        pads in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        plain in any::<bool>(),
        (x_layout, y_layout) in (layout(), layout()),
        density in prop_oneof![Just(0f64), Just(1f64), 0f64..=1.0],
        (before, after, residual, bias) in (activation(), activation(), any::<bool>(), any::<bool>()),
        special in prop_oneof![4 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))],
        seed in any::<u64>(),
    ) -> Case {
        let mut shape = ConvShape {
            batch,
            input: [input.0, input.1],
            x_layout,
            y_layout,
            ..ConvShape::square(ic, oc, 1, 1, 1, 0)
        };
        if !plain {
            shape.stride = [stride.0, stride.1];
            shape.pad_before = [pads.0, pads.1];
            shape.pad_after = [pads.2, pads.3];
        }
        Case { shape, density, epilogue: Epilogue { before, after }, residual, bias, special, seed }
    }
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter; the tests below are enough to see every instruction")]
    fn every_kernel_agrees_with_the_oracle(case in case()) {
        for kernel in kernels() {
            case.check(kernel);
        }
    }
}

/// Every pixel count around the tiles, and channel counts around the blocks.
#[test]
fn every_tail() {
    for kernel in kernels() {
        let pixels =
            if cfg!(miri) { vec![1, 18, 39] } else { common::sampled((1..=130).chain([191, 192, 193, 196])) };
        for pixels in pixels {
            let channels = [(5, 9), (8, 8)];
            for (ic, oc) in channels.into_iter().take(if cfg!(miri) { 1 } else { 2 }) {
                let shape = ConvShape { input: [1, pixels], ..ConvShape::square(ic, oc, 1, 1, 1, 0) };
                Case {
                    shape,
                    density: 0.6,
                    epilogue: Epilogue::activation(Activation::RELU6),
                    residual: pixels % 2 == 0,
                    bias: true,
                    special: None,
                    seed: pixels as u64,
                }
                .check(kernel);
            }
        }
    }
}

/// More input channels than one panel holds, with every layout, padding, stride and epilogue on the way.
#[test]
fn many_channels() {
    for kernel in kernels().filter(|k| !cfg!(miri) || k.format() == FormatKind::BLOCKS_4X4) {
        let (ic, densities) = if cfg!(miri) { (140, &[0.5][..]) } else { (807, &[0.0, 0.05, 0.5, 1.0][..]) };
        let sizes = if cfg!(miri) { vec![[1, 17]] } else { vec![[1, 1], [2, 3], [7, 7], [5, 26]] };
        for (i, input) in sizes.into_iter().enumerate() {
            let plain =
                ConvShape { input, ..ConvShape::square(ic, if cfg!(miri) { 5 } else { 10 }, 1, 1, 1, 0) };
            let padded = ConvShape { stride: [1, 2], pad_before: [0, 1], pad_after: [1, 2], ..plain };
            let interleaved =
                ConvShape { x_layout: Layout::Interleaved, y_layout: Layout::Interleaved, ..padded };
            for shape in [plain, padded, interleaved].into_iter().take(if cfg!(miri) { 1 } else { 3 }) {
                for density in densities.iter().copied() {
                    let epilogue = Epilogue { before: Activation::HardSwish, after: Activation::RELU };
                    let (residual, bias, seed) = (i % 2 == 0, i != 1, i as u64 + 7);
                    Case { shape, density, epilogue, residual, bias, special: None, seed }.check(kernel);
                }
            }
        }
    }
}

#[test]
fn mismatches_are_errors() {
    let kernel = table::pointwise(Target::SCALAR, FormatKind::BLOCKS_4X4);
    let weights = vec![1f32; 8 * 8];
    let rows = Rows::<1>::from_dense(8, 8, &weights).unwrap();
    assert!(matches!(
        PackedPointwise::pack(&rows, None, None, kernel),
        Err(KernelError::FormatMismatch { .. })
    ));
    let blocks = Blocks::<4, 4>::from_dense(8, 8, &weights).unwrap();
    assert!(PackedPointwise::pack(&blocks, Some(&[0.0; 7]), None, kernel).is_err());
    let packed = PackedPointwise::pack(&blocks, None, None, kernel).unwrap();
    let run = |geometry: ConvGeometry, x: usize, y: usize, r: Option<usize>| {
        let residual = r.map(|r| vec![0f32; r]);
        let (x, mut y) = (vec![0f32; x], vec![0f32; y]);
        packed.run(&geometry, &x, &mut y, residual.as_deref(), &Epilogue::default(), &Serial)
    };
    let good = ConvGeometry::pointwise(1, 8, 8, 3).unwrap();
    assert_eq!(run(good, 24, 24, Some(24)), Ok(()));
    assert!(matches!(run(good, 23, 24, None), Err(KernelError::Length { what: "input", .. })));
    assert!(matches!(run(good, 24, 25, None), Err(KernelError::Length { what: "output", .. })));
    assert!(matches!(run(good, 24, 24, Some(1)), Err(KernelError::Length { what: "residual", .. })));
    let wrong = ConvGeometry::pointwise(1, 7, 8, 3).unwrap();
    assert!(matches!(run(wrong, 21, 24, None), Err(KernelError::Shape { .. })));
    let three = ConvGeometry::new(ConvShape::square(8, 8, 3, 3, 1, 1)).unwrap();
    assert!(matches!(run(three, 72, 72, None), Err(KernelError::Shape { .. })));
}
