//! Every depthwise kernel of the table against the oracle.

mod common;

use common::{Noise, TwoThreads, assert_close};
use proptest::prelude::*;
use sparse_kernels::depthwise::{DepthwiseKernel, supports};
use sparse_kernels::format::DepthwisePattern;
use sparse_kernels::prelude::*;
use sparse_kernels::reference;

/// The kernels of this machine; in Miri, which is a thousand times slower, those of the best target.
fn kernels() -> impl Iterator<Item = &'static DepthwiseKernel> {
    common::depthwise().filter(|k| !cfg!(miri) || k.info().isa == Target::detect().isa())
}

#[derive(Debug, Clone)]
struct Case {
    shape: ConvShape,
    /// Patterns of the groups of 16 channels, in turn.
    patterns: Vec<DepthwisePattern>,
    density: f64,
    epilogue: Epilogue,
    residual: bool,
    bias: bool,
    special: Option<f32>,
    seed: u64,
}

impl Case {
    /// A dense layer with a ReLU6 and a bias.
    fn plain(shape: ConvShape) -> Case {
        Case {
            shape,
            patterns: vec![DepthwisePattern::ALL_ONES],
            density: 1.0,
            epilogue: Epilogue::activation(Activation::RELU6),
            residual: false,
            bias: true,
            special: None,
            seed: 1,
        }
    }

    fn check(&self, kernel: &'static DepthwiseKernel) {
        let what = format!("{} {self:?}", kernel.info().name);
        let geometry = ConvGeometry::new(self.shape).unwrap();
        let (channels, taps) = (self.shape.ic, self.shape.kernel[0] * self.shape.kernel[1]);
        let mut noise = Noise::new(self.seed);
        let mut weights = noise.values(channels * taps);
        for (i, w) in weights.iter_mut().enumerate() {
            let pattern = self.patterns[i / taps / 16 % self.patterns.len()];
            if !noise.coin(self.density) || self.shape.kernel == [3, 3] && !pattern.keeps(i % taps) {
                *w = 0.0;
            }
        }
        let bias = self.bias.then(|| noise.values(channels));
        let mut x = noise.values(geometry.x_len());
        if let Some(special) = self.special {
            let at = (self.seed % x.len() as u64) as usize;
            x[at] = special;
        }
        let residual = self.residual.then(|| noise.values(geometry.y_len()));
        let packed =
            PackedDepthwise::from_dense(channels, self.shape.kernel, &weights, bias.as_deref(), kernel)
                .unwrap();
        assert_eq!(packed.weights().to_dense(), weights);
        assert_eq!(packed.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        // What the format leaves out, and nothing else, is not multiplied.
        let mut stored = vec![false; weights.len()];
        for group in packed.weights().groups() {
            for i in group.channels().start * taps..group.channels().end * taps {
                stored[i] = group.pattern().keeps(i % taps);
            }
        }
        assert_eq!(packed.stored(), stored.iter().filter(|s| **s).count());
        let expected = reference::conv(
            &geometry,
            &weights,
            Some(&stored),
            bias.as_deref(),
            &x,
            residual.as_deref(),
            &self.epilogue,
        );
        let run_packed = |packed: &PackedDepthwise, parallel: &dyn Parallel| {
            let mut y = vec![f32::NAN; geometry.y_len()];
            packed.run(&geometry, &x, &mut y, residual.as_deref(), &self.epilogue, parallel).unwrap();
            y
        };
        let run = |parallel: &dyn Parallel| run_packed(&packed, parallel);
        let y = run(&Serial);
        assert_close(&what, &y, &expected, taps);
        if cfg!(miri) {
            return; // its exp() is a little different every time
        }
        let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let y = bits(y);
        assert!(y == bits(run(&TwoThreads)), "{what}: two threads differ from one");
        let read: Vec<bool> = (0..channels).map(|_| noise.coin(0.5)).collect();
        let only = packed.clone().with_only(&read).unwrap();
        assert_eq!(only.reads(), read);
        let mut expected = y;
        let pixels = geometry.output_pixels();
        for (plane, y) in expected.chunks_exact_mut(pixels.max(1)).enumerate() {
            if !read[plane % channels] {
                y.fill(0);
            }
        }
        for parallel in [&Serial as &dyn Parallel, &TwoThreads] {
            assert!(expected == bits(run_packed(&only, parallel)), "{what}: channels {read:?} are read");
        }
        assert!(packed.with_only(&read[1..]).is_err());
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

fn kernel_size() -> impl Strategy<Value = [usize; 2]> {
    prop_oneof![
        6 => Just([3, 3]),
        3 => Just([5, 5]),
        2 => Just([7, 7]),
        1 => Just([1, 3]),
        1 => Just([5, 1]),
        1 => Just([1, 1]),
        1 => (1usize..8, 1usize..8).prop_map(|(h, w)| [h, w]),
    ]
}

fn pattern() -> impl Strategy<Value = DepthwisePattern> {
    (0..DepthwisePattern::COUNT).prop_map(|id| DepthwisePattern::from_id(id).unwrap())
}

/// Sizes of maps: Miri is a thousand times slower than a CPU.
const MAP: usize = if cfg!(miri) { 20 } else { 41 };

prop_compose! {
    fn case()(
        (batch, channels, h, w) in (1usize..3, 1usize..41, 1usize..MAP, 1usize..MAP),
        kernel in kernel_size(),
        stride in (1usize..3, 1usize..3),
        square in any::<bool>(),
        pads in (0usize..4, 0usize..4, 0usize..4, 0usize..4),
        patterns in prop::collection::vec(pattern(), 1..4),
        density in prop_oneof![4 => Just(1f64), 1 => Just(0f64), 2 => 0f64..=1.0],
        (before, after, residual, bias) in (activation(), activation(), any::<bool>(), any::<bool>()),
        special in prop_oneof![4 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))],
        seed in any::<u64>(),
    ) -> Case {
        let mut shape = ConvShape { batch, group: channels, ..ConvShape::square(channels, channels, 1, 1, 1, 0) };
        shape.kernel = kernel;
        shape.stride = if square { [stride.0; 2] } else { [stride.0, stride.1] };
        shape.pad_before = [pads.0, pads.1];
        shape.pad_after = [pads.2, pads.3];
        // The padded input must hold a kernel.
        shape.input = [h.max(kernel[0].saturating_sub(pads.0 + pads.2)), w.max(kernel[1].saturating_sub(pads.1 + pads.3))];
        if cfg!(miri) {
            shape.batch = 1;
            shape.ic = channels.min(3);
            (shape.oc, shape.group) = (shape.ic, shape.ic);
        }
        Case { shape, patterns, density, epilogue: Epilogue { before, after }, residual, bias, special, seed }
    }
}

proptest! {
    #![proptest_config(common::cases(if cfg!(miri) { 4 } else { 400 }))]

    #[test]
    fn every_kernel_agrees_with_the_oracle(case in case()) {
        for kernel in kernels().filter(|k| k.accepts(case.shape.kernel)) {
            case.check(kernel);
        }
    }
}

/// Every pattern at every row count and width around the tiles, with both strides.
#[test]
fn every_pattern_and_tail() {
    let sizes: Vec<usize> =
        if cfg!(miri) { vec![2, 17] } else { common::sampled((1..=20).chain([28, 33, 56])) };
    for kernel in kernels().filter(|k| k.accepts([3, 3])) {
        for pattern in DepthwisePattern::all().skip(if cfg!(miri) { 7 } else { 0 }) {
            for (i, hw) in sizes.iter().enumerate() {
                for stride in 1..3 {
                    let shape = ConvShape {
                        group: 2,
                        input: [*hw, sizes[sizes.len() - 1 - i]],
                        ..ConvShape::square(2, 2, 1, 3, stride, 1)
                    };
                    Case { patterns: vec![pattern], seed: *hw as u64, ..Case::plain(shape) }.check(kernel);
                }
            }
        }
    }
}

/// Maps of few columns, and channels that fill vectors or do not.
#[test]
fn small_maps_of_many_channels() {
    if cfg!(miri) {
        return;
    }
    let inputs =
        [[1, 1], [2, 2], [3, 3], [4, 4], [7, 7], [8, 8], [9, 9], [1, 4], [4, 1], [3, 8], [8, 3], [16, 4]];
    for kernel in kernels() {
        let [kh, kw] = kernel.kernel().unwrap_or([3, 2]);
        for (channels, input) in common::sampled([7, 8, 9, 16, 21, 40])
            .into_iter()
            .flat_map(|channels| inputs.map(|input| (channels, input)))
        {
            for (stride, pads) in
                [([1, 1], [kh / 2, kw / 2]), ([2, 2], [kh / 2, kw / 2]), ([2, 1], [kh, kw - 1])]
            {
                let shape = ConvShape {
                    batch: 2,
                    group: channels,
                    kernel: [kh, kw],
                    input,
                    stride,
                    pad_before: pads,
                    pad_after: [kh - 1, kw],
                    ..ConvShape::square(channels, channels, 1, 1, 1, 0)
                };
                let patterns =
                    [DepthwisePattern::COUNT - 1, 2, 5].map(|id| DepthwisePattern::from_id(id).unwrap());
                let seed = (input[0] * channels) as u64;
                Case { patterns: patterns.to_vec(), seed, ..Case::plain(shape) }.check(kernel);
            }
        }
    }
}

/// Maps of which a strip of rows fills the buffer, and paddings larger than the kernel and than the map.
#[test]
fn strips_and_large_paddings() {
    if cfg!(miri) {
        return;
    }
    for kernel in kernels() {
        let [kh, kw] = kernel.kernel().unwrap_or([3, 5]);
        for (input, stride, before, after) in [
            ([112, 112], [1, 1], [1, 1], [1, 1]),
            ([113, 111], [2, 2], [0, 0], [1, 1]),
            ([70, 300], [2, 1], [2, 1], [0, 3]),
            ([9, 5000], [1, 2], [2, 2], [2, 2]),
            ([3, 2], [1, 1], [9, 12], [8, 11]),
            ([3, 2], [2, 2], [40, 150], [33, 90]),
        ] {
            let shape = ConvShape {
                group: 3,
                input,
                kernel: [kh, kw],
                stride,
                pad_before: before,
                pad_after: after,
                ..ConvShape::square(3, 3, 1, 1, 1, 0)
            };
            Case::plain(shape).check(kernel);
            Case {
                residual: true,
                epilogue: Epilogue { before: Activation::Identity, after: Activation::RELU },
                ..Case::plain(shape)
            }
            .check(kernel);
        }
    }
}

#[test]
fn mismatches_are_errors() {
    let kernel = table::depthwise(Target::detect(), [3, 3]).unwrap();
    let weights = vec![1f32; 8 * 9];
    assert!(PackedDepthwise::from_dense(8, [3, 3], &weights, Some(&[0.0; 7]), kernel).is_err());
    assert!(PackedDepthwise::from_dense(8, [3, 3], &weights[1..], None, kernel).is_err());
    assert!(PackedDepthwise::from_dense(8, [3, 3], &[f32::INFINITY; 72], None, kernel).is_err());
    for three in kernels().filter(|k| k.kernel() == Some([3, 3])) {
        let wrong = PackedDepthwise::from_dense(8, [1, 9], &weights, None, three);
        assert!(matches!(wrong, Err(KernelError::Shape { .. })));
    }
    let packed = PackedDepthwise::from_dense(8, [3, 3], &weights, None, kernel).unwrap();
    let run = |shape: ConvShape, x: usize, y: usize, r: Option<usize>| {
        let residual = r.map(|r| vec![0f32; r]);
        let (x, mut y) = (vec![0f32; x], vec![0f32; y]);
        let geometry = ConvGeometry::new(shape).unwrap();
        packed.run(&geometry, &x, &mut y, residual.as_deref(), &Epilogue::default(), &Serial)
    };
    let good = ConvShape { group: 8, ..ConvShape::square(8, 8, 3, 3, 1, 1) };
    assert_eq!(run(good, 72, 72, Some(72)), Ok(()));
    assert!(matches!(run(good, 71, 72, None), Err(KernelError::Length { what: "input", .. })));
    assert!(matches!(run(good, 72, 73, None), Err(KernelError::Length { what: "output", .. })));
    assert!(matches!(run(good, 72, 72, Some(1)), Err(KernelError::Length { what: "residual", .. })));
    let fewer = ConvShape { group: 7, ..ConvShape::square(7, 7, 3, 3, 1, 1) };
    assert!(matches!(run(fewer, 63, 63, None), Err(KernelError::Shape { what: "channels", .. })));
    let five = ConvShape { group: 8, ..ConvShape::square(8, 8, 3, 5, 1, 2) };
    assert!(matches!(run(five, 72, 72, None), Err(KernelError::Shape { what: "kernel height", .. })));
    let dense = ConvShape { group: 1, ..good };
    assert!(supports(&dense).is_err());
    assert!(matches!(run(dense, 72, 72, None), Err(KernelError::Geometry(_))));
}
