//! Every kernel of quads against an oracle of whole numbers: the same bits.

mod common;

use common::{Noise, TwoThreads};
use proptest::prelude::*;
use sparse_kernels::depthwise::DepthwiseKernel;
use sparse_kernels::pointwise::PointwiseKernel;
use sparse_kernels::prelude::*;
use sparse_kernels::quads::{self, Affine, Binary};
use sparse_kernels::spatial::SpatialKernel;

/// Convolution of planes of bytes with weights `[oc][ic / group][kh][kw]`, as the definition says it. Exact: sums are
/// i64, and a product of a float and a double rounds to the same as one of floats, of which f64 holds all bits.
fn oracle(geometry: &ConvGeometry, weights: &[f32], quantised: &Quantised, x: &[u8]) -> Vec<u8> {
    let s = geometry.shape();
    let ([kh, kw], [_, ow]) = (s.kernel, geometry.output());
    let (icg, ocg, pixels) = (s.ic / s.group, s.oc / s.group, geometry.output_pixels());
    let ([x_zero, y_zero], [lo, hi]) = (quantised.zeros().map(i64::from), quantised.bounds().map(i64::from));
    let mut y = Vec::with_capacity(s.batch * s.oc * pixels);
    for i in 0..s.batch * s.oc * pixels {
        let (n, o, p) = (i / (s.oc * pixels), i / pixels % s.oc, i % pixels);
        let mut sum = i64::from(quantised.bias()[o]);
        for tap in 0..icg * kh * kw {
            let (channel, ky, kx) = (o / ocg * icg + tap / (kh * kw), tap / kw % kh, tap % kw);
            let place = geometry.tap(0, p / ow, ky).zip(geometry.tap(1, p % ow, kx));
            let v = place.map_or(x_zero, |(iy, ix)| {
                let pixel = iy * s.input[1] + ix;
                i64::from(x[(n * s.ic + channel) * geometry.input_pixels() + pixel])
            });
            sum += weights[o * icg * kh * kw + tap] as i64 * (v - x_zero);
        }
        let float = i32::try_from(sum).expect("checked at construction") as f32;
        let product = (f64::from(float) * f64::from(quantised.scales()[o])) as f32;
        let steps = product.round_ties_even().clamp(-1e6, 1e6) as i64;
        let byte = (steps + y_zero).clamp(lo, hi) as u8;
        y.push(quantised.table().map_or(byte, |table| table[usize::from(byte)]));
    }
    y
}

fn packed(shape: [usize; 3], planes: &[u8]) -> Vec<u32> {
    let mut lanes = vec![7; shape[0] * shape[1].div_ceil(4) * shape[2]];
    quads::pack(Target::SCALAR, shape, planes, false, &mut lanes).unwrap();
    lanes
}

/// A layer as these tests run it.
type Run<'a> = &'a dyn Fn(&[u32], &mut [u32], &dyn Parallel);

/// Runs a layer with one and two threads and compares it with the oracle. What weighs nothing is noise.
fn check(what: &str, geometry: &ConvGeometry, expected: &[u8], x: &[u8], run: Run) {
    let s = geometry.shape();
    let of_y = [s.batch, s.oc, geometry.output_pixels()];
    let mut lanes = packed([s.batch, s.ic, geometry.input_pixels()], x);
    if !s.ic.is_multiple_of(4) {
        let image = s.ic.div_ceil(4) * geometry.input_pixels();
        for lanes in lanes.chunks_exact_mut(image.max(1)) {
            let last = (s.ic / 4) * geometry.input_pixels();
            lanes[last..].iter_mut().for_each(|lane| *lane |= 0xa5a5_a5a5 << (8 * (s.ic % 4)));
        }
    }
    let run = |parallel: &dyn Parallel| {
        let mut y = vec![0xdead_beef; s.batch * s.oc.div_ceil(4) * geometry.output_pixels()];
        run(&lanes, &mut y, parallel);
        y
    };
    let y = run(&Serial);
    let mut bytes = vec![0; expected.len()];
    quads::unpack(Target::SCALAR, of_y, &y, false, &mut bytes).unwrap();
    if let Some(i) = (0..bytes.len()).find(|i| bytes[*i] != expected[*i]) {
        panic!("{what}: element {i} is {}, the oracle says {}", bytes[i], expected[i]);
    }
    assert!(y == run(&TwoThreads), "{what}: two threads differ from one");
}

#[derive(Debug, Clone)]
struct Case {
    shape: ConvShape,
    density: f64,
    zeros: [u8; 2],
    bounds: [u8; 2],
    table: bool,
    /// Largest weights and inputs everywhere.
    extreme: bool,
    seed: u64,
}

impl Case {
    fn plain(shape: ConvShape, seed: u64) -> Case {
        Case { shape, density: 1.0, zeros: [3, 200], bounds: [0, 255], table: false, extreme: false, seed }
    }

    fn bytes(&self, noise: &mut Noise, n: usize) -> Vec<u8> {
        if self.extreme {
            return vec![255; n];
        }
        noise.values(n).iter().map(|v| (v * 128.0 + 128.0) as u8).collect()
    }

    /// Blocks of `r` by `c`, only some of which are there.
    fn weights(&self, noise: &mut Noise, [rows, cols]: [usize; 2], [r, c]: [usize; 2]) -> Vec<f32> {
        let mut weights: Vec<f32> = noise.values(rows * cols).iter().map(|v| (v * 128.0).floor()).collect();
        if self.extreme {
            weights = weights.iter().map(|w| if *w < -10.0 { -127.0 } else { 127.0 }).collect();
        }
        let kept: Vec<bool> =
            (0..rows.div_ceil(r) * cols.div_ceil(c)).map(|_| noise.coin(self.density)).collect();
        for (i, w) in weights.iter_mut().enumerate() {
            if !kept[i / cols / r * cols.div_ceil(c) + i % cols / c] {
                *w = 0.0;
            }
        }
        weights
    }

    /// Scales such that outputs fill their range, or leave it.
    fn quantised(&self, noise: &mut Noise, terms: usize) -> Quantised {
        let oc = self.shape.oc;
        let reach = 1.0 / (if self.extreme { 100.0 } else { 40.0 } * (terms as f32).sqrt());
        let scales = noise.values(oc).iter().map(|v| (1.5 + v) * reach).collect();
        let bias = noise.values(oc).iter().map(|v| (v * 5000.0) as i32).collect();
        let quantised = Quantised::new(bias, scales, self.zeros[0], self.zeros[1]).unwrap();
        let quantised = quantised.with_bounds(self.bounds[0], self.bounds[1]).unwrap();
        if !self.table {
            return quantised;
        }
        quantised.with_table(std::array::from_fn(|i| (i * 37 % 251) as u8))
    }

    fn pointwise(&self, kernel: &'static PointwiseKernel, format: FormatKind) {
        let what = format!("{} {format} {self:?}", kernel.info().name);
        let (geometry, mut noise) = (ConvGeometry::new(self.shape).unwrap(), Noise::new(self.seed));
        let (oc, ic) = (self.shape.oc, self.shape.ic);
        let x = self.bytes(&mut noise, geometry.x_len());
        let weights = self.weights(&mut noise, [oc, ic], [format.r(), format.c()]);
        let quantised = self.quantised(&mut noise, ic);
        let pixels = self.seed.is_multiple_of(2).then_some(geometry.output_pixels());
        let packed =
            PackedPointwise::from_groups_int8([oc, ic, 1], &weights, &quantised, pixels, kernel).unwrap();
        assert_eq!((packed.oc(), packed.ic()), (oc, ic));
        assert_eq!(packed.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        let expected = oracle(&geometry, &weights, &quantised, &x);
        check(&what, &geometry, &expected, &x, &|x, y, parallel| {
            packed.run_quads(&geometry, x, y, parallel).unwrap()
        });
    }

    /// Of every `(ic, ky, kx)` groups of `rows` output channels have weights or not; with `patterns`, 3x3 kernels that have
    /// any keep four taps, which are those of the group.
    fn spatial(&self, kernel: &'static SpatialKernel, rows: usize, patterns: bool) {
        let what = format!("{} {rows} rows {self:?}", kernel.info().name);
        let (geometry, mut noise) = (ConvGeometry::new(self.shape).unwrap(), Noise::new(self.seed));
        let ConvShape { oc, ic, kernel: size, .. } = self.shape;
        let taps = size[0] * size[1];
        let x = self.bytes(&mut noise, geometry.x_len());
        let blocks = if patterns { [rows, taps] } else { [rows, 1] };
        let mut weights = self.weights(&mut noise, [oc, ic * taps], blocks);
        for (i, w) in weights.iter_mut().enumerate().filter(|_| patterns) {
            let (group, channel, tap) = (i / (ic * taps) / rows, i / taps % ic, i % taps);
            if tap != taps / 2 && (tap + group + channel) % 3 != 0 {
                *w = 0.0;
            }
        }
        let quantised = self.quantised(&mut noise, ic * taps);
        let layer = PackedSpatial::from_groups_int8([oc, ic, 1], size, &weights, &quantised, kernel).unwrap();
        assert_eq!((layer.oc(), layer.ic(), layer.taps()), (oc, ic, size));
        assert_eq!(layer.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        let expected = oracle(&geometry, &weights, &quantised, &x);
        check(&what, &geometry, &expected, &x, &|x, y, parallel| {
            layer.run_quads(&geometry, x, y, parallel).unwrap()
        });
    }

    fn depthwise(&self, kernel: &'static DepthwiseKernel) {
        let what = format!("{} {self:?}", kernel.info().name);
        let (geometry, mut noise) = (ConvGeometry::new(self.shape).unwrap(), Noise::new(self.seed));
        let (channels, size) = (self.shape.ic, self.shape.kernel);
        let x = self.bytes(&mut noise, geometry.x_len());
        let weights = self.weights(&mut noise, [channels, size[0] * size[1]], [1, 1]);
        let quantised = self.quantised(&mut noise, size[0] * size[1]);
        let layer = PackedDepthwise::from_dense_int8(channels, size, &weights, &quantised, kernel).unwrap();
        let expected = oracle(&geometry, &weights, &quantised, &x);
        check(&what, &geometry, &expected, &x, &|x, y, parallel| {
            layer.run_quads(&geometry, x, y, parallel).unwrap()
        });
        // quads that nothing reads become zeros, the others stay
        let read: Vec<bool> = (0..channels).map(|_| noise.coin(0.3)).collect();
        let only = layer.with_only(&read).unwrap();
        let lanes = packed([self.shape.batch, channels, geometry.input_pixels()], &x);
        let pixels = geometry.output_pixels();
        let mut y = vec![1; self.shape.batch * channels.div_ceil(4) * pixels];
        only.run_quads(&geometry, &lanes, &mut y, &Serial).unwrap();
        for (plane, y) in y.chunks_exact(pixels.max(1)).enumerate() {
            let (image, first) = (plane / channels.div_ceil(4), plane % channels.div_ceil(4) * 4);
            let there = first..channels.min(first + 4);
            let computed = read[there.clone()].contains(&true);
            for channel in there {
                let expected = &expected[(image * channels + channel) * pixels..][..pixels];
                let got = y.iter().map(|lane| quads::bytes(*lane)[channel - first]);
                let same = got.zip(expected).all(|(y, e)| y == if computed { *e } else { 0 });
                assert!(same, "{what}: channels {read:?} are read");
            }
        }
    }
}

const FORMATS: [FormatKind; 9] = [
    FormatKind::BLOCKS_4X4,
    FormatKind::BLOCKS_2X4,
    FormatKind::BLOCKS_1X4,
    FormatKind::BLOCKS_4X2,
    FormatKind::BLOCKS_1X2,
    FormatKind::ROWS_8,
    FormatKind::ROWS_4,
    FormatKind::ROWS_2,
    FormatKind::ROWS_1,
];

prop_compose! {
    fn case()(
        (batch, ic, oc, input) in (1usize..3, 1usize..40, 1usize..40, (1usize..8, 1usize..24)),
        stride in (1usize..4, 1usize..4),
        pads in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        plain in any::<bool>(),
        density in prop_oneof![Just(0f64), Just(1f64), 0f64..=1.0],
        zeros in [prop_oneof![Just(0u8), Just(128), Just(255), any::<u8>()], prop_oneof![Just(0u8), Just(128), Just(255), any::<u8>()]],
        bounds in prop_oneof![Just([0u8, 255]), [any::<u8>(), any::<u8>()].prop_map(|[a, b]| [a.min(b), a.max(b)])],
        (table, extreme) in (any::<bool>(), prop::bool::weighted(0.2)),
        seed in any::<u64>(),
    ) -> Case {
        let mut shape = ConvShape { batch, input: [input.0, input.1], ..ConvShape::square(ic, oc, 1, 1, 1, 0) };
        if !plain {
            shape.stride = [stride.0, stride.1];
            shape.pad_before = [pads.0, pads.1];
            shape.pad_after = [pads.2, pads.3];
        }
        Case { shape, density, zeros, bounds, table, extreme, seed }
    }
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn pointwise_agrees_with_the_oracle(case in case()) {
        for int8 in common::int8() {
            for format in FORMATS {
                case.pointwise(table::pointwise_int8(int8, format), format);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn depthwise_agrees_with_the_oracle(
        case in case(),
        kernel in prop_oneof![4 => Just([3, 3]), 2 => Just([5, 5]), 1 => Just([7, 7]), 1 => (1usize..10, 1usize..10).prop_map(|(h, w)| [h, w])],
        stride in (1usize..3, 1usize..3),
        square in any::<bool>(),
    ) {
        let mut shape = ConvShape { kernel, group: case.shape.ic, oc: case.shape.ic, ..case.shape };
        shape.stride = if square { [stride.0; 2] } else { [stride.0, stride.1] };
        for axis in 0..2 {
            // the padded input must hold a kernel
            let padded = shape.pad_before[axis] + shape.pad_after[axis];
            shape.input[axis] = shape.input[axis].max(kernel[axis].saturating_sub(padded));
        }
        let case = Case { shape, ..case };
        for int8 in common::int8() {
            case.depthwise(table::depthwise_int8(int8, kernel).unwrap());
        }
        for kernel in common::depthwise_int8().filter(|k| k.kernel().is_none()) {
            case.depthwise(kernel);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn spatial_agrees_with_the_oracle(
        case in case(),
        kernel in prop_oneof![4 => Just([3, 3]), 1 => Just([7, 7]), 2 => (1usize..6, 1usize..6).prop_map(|(h, w)| [h, w])],
        dilation in prop_oneof![3 => Just([1, 1]), 1 => (1usize..4, 1usize..4).prop_map(|(h, w)| [h, w])],
        (rows, patterns) in (prop_oneof![Just(1usize), Just(2), Just(4), Just(8)], any::<bool>()),
    ) {
        let mut shape = ConvShape { kernel, dilation, ..case.shape };
        for axis in 0..2 {
            // the padded input must hold a kernel
            let padded = shape.pad_before[axis] + shape.pad_after[axis];
            let reach = (kernel[axis] - 1) * dilation[axis] + 1;
            shape.input[axis] = shape.input[axis].max(reach.saturating_sub(padded));
        }
        let case = Case { shape, ..case };
        for kernel in common::spatial_int8() {
            case.spatial(kernel, rows, patterns && kernel.format().r() <= rows);
        }
    }

    #[test]
    fn quads_are_planes(
        (images, channels, pixels) in (0usize..3, 0usize..11, 0usize..70),
        flip in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let shape = [images, channels, pixels];
        let planes: Vec<u8> =
            Noise::new(seed).values(images * channels * pixels).iter().map(|v| (v * 128.0 + 128.0) as u8).collect();
        for target in common::targets() {
            let mut lanes = vec![1; images * channels.div_ceil(4) * pixels];
            quads::pack(target, shape, &planes, flip, &mut lanes).unwrap();
            for (i, v) in planes.iter().enumerate() {
                let (n, c, p) = (i / (channels * pixels), i / pixels % channels, i % pixels);
                let lane = lanes[(n * channels.div_ceil(4) + c / 4) * pixels + p];
                prop_assert_eq!(quads::bytes(lane)[c % 4], if flip { v ^ 0x80 } else { *v });
            }
            let mut back = vec![1; planes.len()];
            quads::unpack(target, shape, &lanes, flip, &mut back).unwrap();
            prop_assert_eq!(&back, &planes);
            // floats that bytes stand for become these bytes
            let affine = Affine::new(0.37, 77).unwrap();
            let mut floats = vec![f32::NAN; planes.len()];
            quads::dequantize(target, shape, &lanes, affine, &mut floats).unwrap();
            let mut again = vec![1; lanes.len()];
            quads::quantize(target, shape, &floats, affine, &mut again).unwrap();
            prop_assert_eq!(&again, &lanes);
        }
    }
}

/// Every pixel count around the tiles, and channel counts around the blocks.
#[test]
fn every_tail() {
    for kernel in common::pointwise_int8() {
        let pixels =
            if cfg!(miri) { vec![1, 18] } else { common::sampled((1..=130).chain([191, 192, 193, 196])) };
        for pixels in pixels {
            for (ic, oc) in [(5, 9), (8, 8), (7, 3), (33, 12)] {
                let shape = ConvShape { input: [1, pixels], ..ConvShape::square(ic, oc, 1, 1, 1, 0) };
                let case = Case { density: 0.6, ..Case::plain(shape, pixels as u64) };
                case.pointwise(kernel, kernel.format());
            }
        }
    }
}

/// Every depthwise kernel at every row count and width around the tiles, with both strides, and maps of several strips.
#[test]
fn every_depthwise_tail() {
    let sizes: Vec<usize> =
        if cfg!(miri) { vec![2, 17] } else { common::sampled((1..=20).chain([28, 33, 56])) };
    for kernel in common::depthwise_int8() {
        for size in kernel.kernel().map_or(vec![[3, 3], [4, 4], [7, 7]], |size| vec![size]) {
            let layer = |input, stride| ConvShape {
                group: 6,
                input,
                ..ConvShape::square(6, 6, 1, size[0], stride, size[0] / 2)
            };
            for (i, hw) in sizes.iter().enumerate() {
                for stride in 1..3 {
                    let shape = layer([*hw, sizes[sizes.len() - 1 - i]], stride);
                    Case::plain(shape, *hw as u64).depthwise(kernel);
                }
            }
            if !cfg!(miri) {
                for (input, stride) in [([112, 112], 1), ([113, 111], 2), ([9, 5000], 1)] {
                    let case = Case { table: true, ..Case::plain(layer(input, stride), 5) };
                    case.depthwise(kernel);
                }
            }
        }
    }
}

/// Every spatial kernel at every width around the tiles, channel counts around the lanes (one that is alone in the last among
/// them), both strides, and maps of several bands.
#[test]
fn every_spatial_tail() {
    let sizes: Vec<usize> = if cfg!(miri) { vec![2, 17] } else { (1..=20).chain([28, 33, 56]).collect() };
    for kernel in common::spatial_int8() {
        for (i, hw) in sizes.iter().enumerate() {
            for (ic, oc) in [(3, 6), (5, 4), (8, 9), (1, 3)] {
                for (stride, size) in [(1, 3), (2, 3), (2, 7)] {
                    let input = [*hw, sizes[sizes.len() - 1 - i]];
                    let shape = ConvShape { input, ..ConvShape::square(ic, oc, 1, size, stride, size / 2) };
                    let case = Case { density: 0.6, ..Case::plain(shape, *hw as u64) };
                    case.spatial(kernel, kernel.format().r(), false);
                }
            }
        }
        if !cfg!(miri) {
            for (channels, input, stride) in [(24, [112, 112], 1), (17, [113, 111], 2), (2, [9, 5000], 1)] {
                let shape = ConvShape { input, ..ConvShape::square(channels, 6, 1, 3, stride, 1) };
                let case = Case { table: true, extreme: input[1] == 111, ..Case::plain(shape, 5) };
                case.spatial(kernel, 4, true);
            }
        }
    }
}

/// More input channels than one panel holds, with paddings and strides; weights and inputs at their limits.
#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter")]
fn many_channels() {
    for kernel in common::pointwise_int8() {
        for (i, input) in [[1, 1], [2, 3], [7, 7], [5, 26]].into_iter().enumerate() {
            let plain = ConvShape { input, ..ConvShape::square(3203, 10, 1, 1, 1, 0) };
            let padded = ConvShape { stride: [1, 2], pad_before: [0, 1], pad_after: [1, 2], ..plain };
            for shape in [plain, padded] {
                for (density, extreme) in [(0.0, false), (0.05, false), (0.5, false), (1.0, true)] {
                    let case = Case::plain(shape, i as u64 + 7);
                    let case = Case { density, extreme, table: i == 1, ..case };
                    case.pointwise(kernel, kernel.format());
                }
            }
        }
    }
}

/// Halves are rounded to even, and sums beyond the bits of a float to the nearest one.
#[test]
fn rounding_is_as_defined() {
    let bias: Vec<i32> =
        (-300..300).chain([(1 << 24) + 1, -(1 << 24) - 3, i32::MAX - 700, -i32::MAX + 700]).collect();
    for scale in [0.49, 0.25, 0.125, 5e-6, 1e-5, f32::MIN_POSITIVE] {
        let channels = bias.len();
        let quantised = Quantised::new(bias.clone(), vec![scale; channels], 7, 100).unwrap();
        for kernel in common::pointwise_int8() {
            for pixels in [1, 3, 33] {
                let geometry = ConvGeometry::pointwise(1, 2, channels, pixels).unwrap();
                let weights = vec![0.0; 2 * channels];
                let layer =
                    PackedPointwise::from_groups_int8([channels, 2, 1], &weights, &quantised, None, kernel);
                let layer = layer.unwrap();
                let x = vec![1; 2 * pixels];
                let expected = oracle(&geometry, &weights, &quantised, &x);
                check(kernel.info().name, &geometry, &expected, &x, &|x, y, parallel| {
                    layer.run_quads(&geometry, x, y, parallel).unwrap()
                });
            }
        }
    }
}

#[test]
fn values_between_layers() {
    let (mut noise, n) = (Noise::new(3), 1000);
    let mut lanes =
        || noise.values(n).iter().map(|v| v.to_bits().wrapping_mul(0x9e37_79b9)).collect::<Vec<u32>>();
    let (a, b) = (lanes(), lanes());
    let affine = |scale, zero| Affine::new(scale, zero).unwrap();
    let (of_a, of_b, of_y) = (affine(0.02, 100), affine(0.03, 7), affine(0.05, 128));
    for target in common::targets() {
        for len in [0, 1, 3, 16, 49, n] {
            for op in [Binary::Add, Binary::Mul] {
                let mut y = vec![0; len];
                quads::binary(target, op, (&a[..len], of_a), (&b[..len], of_b), (&mut y, of_y)).unwrap();
                for (y, (a, b)) in y.iter().zip(a.iter().zip(&b)) {
                    for c in 0..4 {
                        let (a, b) = (of_a.float(quads::bytes(*a)[c]), of_b.float(quads::bytes(*b)[c]));
                        let value = if op == Binary::Add { a + b } else { a * b };
                        let exact = f64::from(value) / 0.05 + 128.0;
                        // half a step, and what rounding in f32 may add near the middle of two
                        let error = (f64::from(quads::bytes(*y)[c]) - exact.clamp(0.0, 255.0)).abs();
                        assert!(error < 0.501, "{op:?} {a} {b}");
                    }
                }
            }
            let expected: [u64; 4] =
                std::array::from_fn(|c| a[..len].iter().map(|lane| u64::from(quads::bytes(*lane)[c])).sum());
            assert_eq!(quads::sums(target, &a[..len]), expected);
        }
    }
    let mut looked_up = a.clone();
    quads::lookup(&std::array::from_fn(|i| 255 - i as u8), &mut looked_up);
    assert!(looked_up.iter().zip(&a).all(|(y, x)| *y == !x));
    let to_bytes = |values: &[f32]| values.iter().map(|v| affine(0.5, 10).byte(*v)).collect::<Vec<u8>>();
    let edges = [0.25, 0.75, -0.25, 1e30, -1e30, f32::NAN, f32::INFINITY];
    assert_eq!(to_bytes(&edges), [10, 12, 10, 255, 0, 0, 255]);
}

/// Where the machine has AVX-VNNI, all tests here run its kernels, which these are; its floats are those of AVX2.
#[test]
#[cfg(target_arch = "x86_64")]
fn avx_vnni_is_avx2_with_other_quads() {
    let target = match Target::named("avx-vnni") {
        Ok(target) => target,
        Err(error) => {
            assert!(error.to_string().contains("avx-vnni"), "{error}");
            return eprintln!("SKIPPED kernels of AVX-VNNI: {error}");
        }
    };
    let (int8, avx2) = (target.int8(), Target::named("avx2").unwrap());
    assert_eq!(int8.target(), target);
    for format in FormatKind::POINTWISE {
        assert_eq!(table::pointwise_int8(int8, format).info().core, target.core());
        assert_eq!(table::pointwise(target, format).info(), table::pointwise(avx2, format).info());
    }
    for format in FormatKind::SPATIAL {
        assert_eq!(table::spatial_int8(int8, format).info().core, target.core());
        assert_eq!(table::spatial(target, format).info(), table::spatial(avx2, format).info());
    }
    for taps in [[3, 3], [5, 5], [7, 7], [1, 3]] {
        assert_eq!(table::depthwise_int8(int8, taps).unwrap().info().core, target.core());
        assert_eq!(
            table::depthwise(target, taps).unwrap().info(),
            table::depthwise(avx2, taps).unwrap().info()
        );
    }
}

#[test]
fn the_wrong_type_is_an_error() {
    let weights = vec![1f32; 8 * 8];
    let geometry = ConvGeometry::pointwise(1, 8, 8, 3).unwrap();
    let quantised = Quantised::new(vec![0; 8], vec![1.0; 8], 0, 0).unwrap();
    let few = Quantised::new(vec![0; 4], vec![1.0; 4], 0, 0).unwrap();
    let blocks = Blocks::<4, 4>::from_dense(8, 8, &weights).unwrap();
    for kernel in common::pointwise_int8() {
        let pack =
            |weights: &Blocks<4, 4>, quantised| PackedPointwise::pack_int8(weights, quantised, None, kernel);
        let layer = pack(&blocks, &quantised).unwrap();
        assert_eq!(layer.run_quads(&geometry, &[0; 6], &mut [0; 6], &Serial), Ok(()));
        let short = layer.run_quads(&geometry, &[0; 6], &mut [0; 5], &Serial);
        assert!(matches!(short, Err(KernelError::Length { what: "output", .. })));
        let epilogue = Epilogue::default();
        let floats = layer.run(&geometry, &[0.0; 24], &mut [0.0; 24], None, &epilogue, &Serial);
        assert!(matches!(floats, Err(KernelError::ElementMismatch { .. })));
        let pairs = layer.run_pairs(&geometry, &[0; 12], &mut [0; 12], None, &epilogue, &Serial);
        assert!(matches!(pairs, Err(KernelError::ElementMismatch { .. })));
        assert!(matches!(pack(&blocks, &few), Err(KernelError::Format(FormatError::Length { .. }))));
        assert!(matches!(
            PackedPointwise::pack(&blocks, None, None, kernel),
            Err(KernelError::ElementMismatch { .. })
        ));
        for bad in [0.5, 128.0, -129.0] {
            let mut weights = weights.clone();
            weights[5] = bad;
            let bad = Blocks::<4, 4>::from_dense(8, 8, &weights).unwrap();
            let error = pack(&bad, &quantised).unwrap_err();
            assert_eq!(error, KernelError::Format(FormatError::NotInt8 { index: 5 }));
        }
        let eight = Blocks::<8, 1>::from_dense(8, 8, &weights).unwrap();
        assert!(PackedPointwise::pack_int8(&eight, &quantised, None, kernel).is_ok());
        let single = Blocks::<1, 1>::from_dense(8, 8, &weights).unwrap();
        let fits = PackedPointwise::pack_int8(&single, &quantised, None, kernel).is_ok();
        assert_eq!(fits, kernel.format() == FormatKind::BLOCKS_1X4);
    }
    let floats = table::pointwise(Target::SCALAR, FormatKind::BLOCKS_4X4);
    let wrong = PackedPointwise::pack_int8(&blocks, &quantised, None, floats);
    assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
    let taps = DepthwisePatterns::from_dense(8, [3, 3], &[1.0; 72]).unwrap();
    let wrong = PackedDepthwise::pack_int8(
        taps.clone(),
        &quantised,
        table::depthwise(Target::SCALAR, [3, 3]).unwrap(),
    );
    assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
    let of_floats = table::spatial(Target::SCALAR, FormatKind::ROWS_4);
    let wrong = PackedSpatial::from_groups_int8([8, 8, 1], [1, 1], &weights, &quantised, of_floats);
    assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
    for kernel in common::spatial_int8() {
        let pack = |weights: &[f32], quantised| {
            PackedSpatial::from_groups_int8([8, 8, 1], [1, 1], weights, quantised, kernel)
        };
        let layer = pack(&weights, &quantised).unwrap();
        assert_eq!(layer.run_quads(&geometry, &[0; 6], &mut [0; 6], &Serial), Ok(()));
        let short = layer.run_quads(&geometry, &[0; 5], &mut [0; 6], &Serial);
        assert!(matches!(short, Err(KernelError::Length { what: "input", .. })));
        let floats = layer.run(&geometry, &[0.0; 24], &mut [0.0; 24], None, &Epilogue::default(), &Serial);
        assert!(matches!(floats, Err(KernelError::ElementMismatch { .. })));
        assert!(matches!(pack(&weights, &few), Err(KernelError::Format(FormatError::Length { .. }))));
        let mut half = weights.clone();
        half[5] = 0.5;
        assert!(matches!(
            pack(&half, &quantised),
            Err(KernelError::Format(FormatError::NotInt8 { index: 5 }))
        ));
        assert!(pack(&weights[1..], &quantised).is_err());
        let wrong = PackedSpatial::from_dense(8, 8, [1, 1], &weights, None, kernel);
        assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
    }
    for kernel in common::depthwise_int8() {
        let wrong = PackedDepthwise::pack(taps.clone(), None, kernel);
        assert!(wrong.is_err(), "{}", kernel.info().name);
        let few = PackedDepthwise::pack_int8(taps.clone(), &few, kernel);
        assert!(few.is_err(), "{}", kernel.info().name);
    }
}
