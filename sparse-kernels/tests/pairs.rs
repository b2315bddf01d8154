//! Every kernel of pairs against the oracle, over inputs and weights that are rounded already.

mod common;

use common::{Noise, TwoThreads};
use proptest::prelude::*;
use sparse_kernels::depthwise::DepthwiseKernel;
use sparse_kernels::format::{DepthwisePattern, Nonzeros};
use sparse_kernels::pairs::{self, Numbers};
use sparse_kernels::prelude::*;
use sparse_kernels::reference;
use sparse_kernels::spatial::SpatialKernel;
use sparse_kernels::table::Element;

fn rounded(half: Half, values: &mut [f32]) {
    let numbers = Numbers::from(half);
    values.iter_mut().for_each(|v| *v = numbers.float(numbers.round(*v)));
}

/// Plain loops over numbers of the type of `half`.
fn scalar(half: Half) -> Half {
    Target::SCALAR.halves().find(|scalar| scalar.element() == half.element()).unwrap()
}

fn packed(half: Half, [images, channels, pixels]: [usize; 3], planes: &[f32]) -> Vec<u32> {
    let mut lanes = vec![0; images * channels.div_ceil(2) * pixels];
    pairs::pack(scalar(half), [images, channels, pixels], planes, &mut lanes).unwrap();
    lanes
}

/// Fails unless `got` is `expected` to rounding.
///
/// Two things round. Sums do, in f32: products of pairs are exact, and each addition, of which a kernel makes at
/// most two for each of `terms` products, each at most 1 in size, errs by at most half a unit in the last place of a
/// partial sum, 2^-24 of what is below `terms`; in practice errors grow with the square root, and four times
/// `terms * 2^-24` is far above what is seen. Functions of the sum have slopes of at most 1.5. Then the value is
/// rounded to eight bits: by at most 2^-8 of it if it is no denormal, and the smallest normal number if it is one.
/// A value near the border of two numbers may be rounded to either, so that both errors add.
///
/// Sums of f16 are of at most `n` = 128 products and the bias, which is rounded, too. Each addition errs by
/// 2^-11.8 of the partial sum in the root mean square; these grow as the square root of their number, a third
/// of it for such products, so that the sum of `n` errs by 2^-11.8 * n / 4.2. Twelve times that, 2^-10 * n,
/// is allowed, times the square root of the number of such sums; a lost product is larger. (That kernels
/// agree bit by bit is asserted besides.) The value is rounded to eleven bits, and so is a residual's sum.
fn assert_close(half: Half, what: &str, got: &[f32], expected: &[f32], terms: usize) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let (mut sum, unit, least) = match half.element() {
        Element::F16 => {
            let (together, sums) = (terms.min(128) as f32 + 2.0, terms.div_ceil(128).max(1) as f32);
            (1.5 * together * sums.sqrt() / 1024.0, 1.0 / 1024.0, 2f32.powi(-24))
        }
        _ => (0.0, 1.0 / 256.0, f32::MIN_POSITIVE),
    };
    sum += 1.5 * (terms as f32 + 8.0) * 4.0 * f32::EPSILON / 2.0;
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let tolerance = sum * e.abs().max(1.0) + e.abs() * (1.0 + sum) * unit + least;
        let same = (g.is_nan() && e.is_nan()) || g == e || (g - e).abs() <= tolerance;
        assert!(same, "{what}: element {i} is {g}, the oracle says {e} (tolerance {tolerance})");
    }
}

/// A kernel of any operation with weights, as these tests run it.
type Run<'a> = &'a dyn Fn(&[u32], &mut [u32], Option<&[u32]>, &Epilogue, &dyn Parallel);

/// Runs a layer with one and two threads and compares it with the oracle, `stored` being the weights that are
/// multiplied.
#[allow(clippy::too_many_arguments)]
fn check(
    half: Half,
    what: &str,
    geometry: &ConvGeometry,
    weights: &[f32],
    stored: Option<&[bool]>,
    bias: Option<&[f32]>,
    x: &[f32],
    residual: Option<&[f32]>,
    epilogue: &Epilogue,
    terms: usize,
    run: Run,
) -> Vec<u32> {
    let s = geometry.shape();
    let expected = reference::conv(geometry, weights, stored, bias, x, residual, epilogue);
    let of_x = [s.batch, s.ic, geometry.input_pixels()];
    let of_y = [s.batch, s.oc, geometry.output_pixels()];
    let (x, residual) = (packed(half, of_x, x), residual.map(|r| packed(half, of_y, r)));
    let run = |parallel: &dyn Parallel| {
        let mut y = vec![0x7fc0_7fc0; s.batch * s.oc.div_ceil(2) * geometry.output_pixels()];
        run(&x, &mut y, residual.as_deref(), epilogue, parallel);
        y
    };
    let y = run(&Serial);
    let mut floats = vec![0f32; expected.len()];
    pairs::unpack(scalar(half), of_y, &y, &mut floats).unwrap();
    assert_close(half, what, &floats, &expected, terms);
    if s.oc % 2 == 1 {
        let last = (s.oc / 2) * geometry.output_pixels();
        let images = y.chunks_exact(s.oc.div_ceil(2) * geometry.output_pixels().max(1));
        assert!(images.flat_map(|y| &y[last..]).all(|lane| lane >> 16 == 0), "{what}: a channel too many");
    }
    assert!(y == run(&TwoThreads), "{what}: two threads differ from one");
    y
}

/// Fails unless plain loops over f16 come to the same bits, NaN being one.
fn assert_same(half: Half, what: &str, y: &[u32], plain: &[u32]) {
    let bits = |lanes: &[u32]| -> Vec<u32> {
        let bits = |v: f32| if v.is_nan() { f32::NAN.to_bits() } else { (v + 0.0).to_bits() };
        lanes.iter().flat_map(|lane| Numbers::from(half).widen(*lane).map(bits)).collect()
    };
    assert_eq!(bits(y), bits(plain), "{what}: plain loops differ");
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
    fn noise(&self, half: Half) -> (ConvGeometry, Noise, Vec<f32>, Option<Vec<f32>>) {
        let geometry = ConvGeometry::new(self.shape).unwrap();
        let mut noise = Noise::new(self.seed);
        let mut x = noise.values(geometry.x_len());
        rounded(half, &mut x);
        if let Some(special) = self.special.filter(|_| !x.is_empty()) {
            let at = (self.seed % x.len() as u64) as usize;
            x[at] = special;
        }
        let mut residual = self.residual.then(|| noise.values(geometry.y_len()));
        residual.iter_mut().for_each(|r| rounded(half, r));
        (geometry, noise, x, residual)
    }

    /// Weights of `cols` columns in blocks of `r` by `c`, of which only some are there, and which of them a kernel
    /// multiplies that stores blocks of `kernel` in pairs of columns, `taps` of each.
    fn weights(
        &self,
        half: Half,
        noise: &mut Noise,
        [rows, cols, taps]: [usize; 3],
        [r, c]: [usize; 2],
        kernel: [usize; 2],
    ) -> (Vec<f32>, Vec<bool>) {
        let mut weights = noise.values(rows * cols * taps);
        rounded(half, &mut weights);
        let at = |i: usize| (i / (cols * taps), i / taps % cols, i % taps);
        let kept: Vec<bool> =
            (0..rows.div_ceil(r) * cols.div_ceil(c) * taps).map(|_| noise.coin(self.density)).collect();
        for i in 0..weights.len() {
            let (row, col, tap) = at(i);
            if !kept[((row / r) * cols.div_ceil(c) + col / c) * taps + tap] {
                weights[i] = 0.0;
            }
        }
        let i = (self.seed % weights.len() as u64) as usize;
        weights[i] = 0.0;
        let group = |i: usize| {
            let (row, col, tap) = at(i);
            (row / kernel[0], col / kernel[1], tap)
        };
        let live: std::collections::HashSet<_> =
            (0..weights.len()).filter(|i| weights[*i] != 0.0).map(group).collect();
        let stored = (0..weights.len()).map(|i| live.contains(&group(i))).collect();
        (weights, stored)
    }

    fn pointwise(&self, half: Half, format: FormatKind) {
        let kernel = table::pointwise_half(half, format);
        let what = format!("{} {format} {self:?}", kernel.info().name);
        let (geometry, mut noise, x, residual) = self.noise(half);
        let (oc, ic) = (self.shape.oc, self.shape.ic);
        let blocks = [kernel.format().r(), kernel.format().c()];
        let (weights, stored) = self.weights(half, &mut noise, [oc, ic, 1], [format.r(), format.c()], blocks);
        let bias = self.bias.then(|| noise.values(oc));
        let packed = PackedPointwise::from_dense(oc, ic, &weights, bias.as_deref(), kernel).unwrap();
        assert_eq!(packed.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        let y = check(
            half,
            &what,
            &geometry,
            &weights,
            Some(&stored),
            bias.as_deref(),
            &x,
            residual.as_deref(),
            &self.epilogue,
            ic,
            &|x, y, r, epilogue, parallel| packed.run_pairs(&geometry, x, y, r, epilogue, parallel).unwrap(),
        );
        // A single pixel is summed in f32, and sums begin anew with every chunk of channels.
        let plain = table::pointwise_half(scalar(half), format);
        let chunks = [kernel, plain].map(|kernel| kernel.chunks(ic, packed.stored(), 1));
        if half.element() == Element::F16 && geometry.output_pixels() != 1 && chunks == [1; 2] {
            let plain = PackedPointwise::from_dense(oc, ic, &weights, bias.as_deref(), plain).unwrap();
            let (x, residual) = self.lanes(half, &geometry, &x, residual.as_deref());
            let mut same = vec![1; y.len()];
            plain.run_pairs(&geometry, &x, &mut same, residual.as_deref(), &self.epilogue, &Serial).unwrap();
            assert_same(half, &what, &y, &same);
        }
    }

    /// Input and residual in pairs.
    fn lanes(
        &self,
        half: Half,
        geometry: &ConvGeometry,
        x: &[f32],
        residual: Option<&[f32]>,
    ) -> (Vec<u32>, Option<Vec<u32>>) {
        let s = geometry.shape();
        let residual = residual.map(|r| packed(half, [s.batch, s.oc, geometry.output_pixels()], r));
        (packed(half, [s.batch, s.ic, geometry.input_pixels()], x), residual)
    }
}

impl Case {
    /// A depthwise layer, groups of 16 channels of which have these patterns in turn.
    fn depthwise(&self, half: Half, kernel: &'static DepthwiseKernel, patterns: &[DepthwisePattern]) {
        let what = format!("{} {patterns:?} {self:?}", kernel.info().name);
        let (geometry, mut noise, x, residual) = self.noise(half);
        let (channels, size) = (self.shape.ic, self.shape.kernel);
        let taps = size[0] * size[1];
        let mut weights = noise.values(channels * taps);
        rounded(half, &mut weights);
        for (i, w) in weights.iter_mut().enumerate() {
            let pattern = patterns[i / taps / 16 % patterns.len()];
            if !noise.coin(self.density) || size == [3, 3] && !pattern.keeps(i % taps) {
                *w = 0.0;
            }
        }
        let bias = self.bias.then(|| noise.values(channels));
        let layer = PackedDepthwise::from_dense(channels, size, &weights, bias.as_deref(), kernel).unwrap();
        assert_eq!(layer.weights().to_dense(), weights);
        // Both channels of a pair store the taps of their pattern, all if they have two.
        let mut of_channels = vec![];
        for group in layer.weights().groups() {
            of_channels.extend(group.channels().map(|_| group.pattern()));
        }
        let stored: Vec<bool> = (0..weights.len())
            .map(|i| {
                let both = &of_channels[i / taps / 2 * 2..channels.min(i / taps / 2 * 2 + 2)];
                both.iter().any(|pattern| *pattern != both[0]) || both[0].keeps(i % taps)
            })
            .collect();
        let run = |layer: &PackedDepthwise,
                   x: &[u32],
                   y: &mut [u32],
                   r: Option<&[u32]>,
                   parallel: &dyn Parallel| {
            layer.run_pairs(&geometry, x, y, r, &self.epilogue, parallel).unwrap()
        };
        let y = check(
            half,
            &what,
            &geometry,
            &weights,
            Some(&stored),
            bias.as_deref(),
            &x,
            residual.as_deref(),
            &self.epilogue,
            taps,
            &|x, y, r, _, parallel| run(&layer, x, y, r, parallel),
        );
        if cfg!(miri) {
            return; // its exp() is a little different every time
        }
        // pairs that nothing reads become zeros, the others stay
        let read: Vec<bool> = (0..channels).map(|_| noise.coin(0.4)).collect();
        let only = layer.clone().with_only(&read).unwrap();
        let (x, residual) = self.lanes(half, &geometry, &x, residual.as_deref());
        if half.element() == Element::F16 {
            let kernel = table::depthwise_half(scalar(half), size).unwrap();
            let plain =
                PackedDepthwise::from_dense(channels, size, &weights, bias.as_deref(), kernel).unwrap();
            let mut same = vec![1; y.len()];
            run(&plain, &x, &mut same, residual.as_deref(), &Serial);
            assert_same(half, &what, &y, &same);
        }
        let len = self.shape.batch * channels.div_ceil(2) * geometry.output_pixels();
        let [mut all, mut some] = [vec![1; len], vec![2; len]];
        run(&layer, &x, &mut all, residual.as_deref(), &Serial);
        run(&only, &x, &mut some, residual.as_deref(), &Serial);
        let pixels = geometry.output_pixels().max(1);
        for (plane, (all, some)) in all.chunks(pixels).zip(some.chunks(pixels)).enumerate() {
            let first = plane % channels.div_ceil(2) * 2;
            if read[first..channels.min(first + 2)].contains(&true) {
                assert!(all == some, "{what}: channels {read:?} are read");
            } else {
                assert!(some.iter().all(|lane| *lane == 0), "{what}: channels {read:?} are read");
            }
        }
    }
}

/// Which weights `[oc][ic][kh][kw]` a spatial kernel of groups of `r` output channels multiplies: those that share a lane, in
/// any of these channels, with one that is not zero. Of an odd number of input channels the last is alone in its lanes:
/// these hold a tap and the one below. They are counted from the top, or from the bottom where they would reach beyond it.
fn stored_lanes(r: usize, ic: usize, [kh, kw]: [usize; 2], weights: &[f32]) -> Vec<bool> {
    let place = |i: usize| (i / (ic * kh * kw), i / (kh * kw) % ic, i / kw % kh, i % kw);
    let mut first_rows = std::collections::HashMap::<_, Vec<usize>>::new();
    let mut live = std::collections::HashSet::new();
    let kept = |i: &usize| weights[*i] != 0.0;
    let mut from_the_top: Vec<usize> = (0..weights.len()).filter(kept).collect();
    from_the_top.sort_by_key(|i| place(*i).2);
    for i in from_the_top {
        let (row, channel, y, x) = place(i);
        let group = row / r;
        if channel % 2 == 0 && channel + 1 == ic && kh > 1 {
            let begun = first_rows.entry((group, x)).or_default();
            if begun.last().is_none_or(|first| first + 1 < y) {
                begun.push(y.min(kh - 2));
            }
            let first = begun[begun.len() - 1];
            live.extend([(group, channel, first, x), (group, channel, first + 1, x)]);
        } else {
            let first = channel / 2 * 2;
            live.extend([(group, first, y, x), (group, first + 1, y, x)]);
        }
    }
    (0..weights.len())
        .map(|i| {
            let (row, channel, y, x) = place(i);
            live.contains(&(row / r, channel, y, x))
        })
        .collect()
}

/// [`stored_lanes`] of kernels that take lanes apart: weights of a column where any of the `r` output channels has one.
fn stored_columns(r: usize, columns: usize, weights: &[f32]) -> Vec<bool> {
    let group = |i: usize| (i / columns / r, i % columns);
    let live: std::collections::HashSet<_> =
        (0..weights.len()).filter(|i| weights[*i] != 0.0).map(group).collect();
    (0..weights.len()).map(|i| live.contains(&group(i))).collect()
}

impl Case {
    /// A layer in which groups of `zeros` output and input channels share their zeros, tap by tap.
    fn spatial(&self, kernel: &'static SpatialKernel, zeros: [usize; 2]) {
        let what = format!("{} {zeros:?} {self:?}", kernel.info().name);
        let half = of(kernel.info());
        // Where taps share lanes, an infinity meets weights and may meet zeros besides, which make it NaN.
        let in_lanes = half.element() != Element::F16;
        let shares = in_lanes && self.shape.ic % 2 == 1 && self.shape.kernel[0] > 1;
        let special = self.special.map(|special| if shares { f32::NAN } else { special });
        let (geometry, mut noise, x, residual) = Case { special, ..self.clone() }.noise(half);
        let ConvShape { oc, ic, kernel: taps, .. } = self.shape;
        let (weights, _) = self.weights(half, &mut noise, [oc, ic, taps[0] * taps[1]], zeros, [1, 1]);
        let stored = match in_lanes {
            true => stored_lanes(kernel.format().r(), ic, taps, &weights),
            false => stored_columns(kernel.format().r(), ic * taps[0] * taps[1], &weights),
        };
        let bias = self.bias.then(|| noise.values(oc));
        let packed = PackedSpatial::from_dense(oc, ic, taps, &weights, bias.as_deref(), kernel).unwrap();
        assert_eq!(packed.nnz(), weights.iter().filter(|w| **w != 0.0).count());
        let nonzeros = Nonzeros::of(oc, ic * taps[0] * taps[1], &weights).unwrap();
        let stats = nonzeros.spatial_stats(kernel.format(), 1, taps, half.element()).unwrap();
        assert_eq!(stats.blocks * stats.kind.r() * stats.kind.c(), packed.stored(), "{what}");
        let y = check(
            half,
            &what,
            &geometry,
            &weights,
            Some(&stored),
            bias.as_deref(),
            &x,
            residual.as_deref(),
            &self.epilogue,
            ic * taps[0] * taps[1],
            &|x, y, r, epilogue, parallel| packed.run_pairs(&geometry, x, y, r, epilogue, parallel).unwrap(),
        );
        // Functions of the standard library are a little different every time in an interpreter.
        if half.element() == Element::F16 && kernel.info().isa != Isa::Scalar && !cfg!(miri) {
            let plain = table::spatial_half(scalar(half), kernel.format()).unwrap();
            let plain = PackedSpatial::from_dense(oc, ic, taps, &weights, bias.as_deref(), plain).unwrap();
            let (x, residual) = self.lanes(half, &geometry, &x, residual.as_deref());
            let mut same = vec![1; y.len()];
            plain.run_pairs(&geometry, &x, &mut same, residual.as_deref(), &self.epilogue, &Serial).unwrap();
            assert_same(half, &what, &y, &same);
        }
    }
}

/// Half precision that a kernel can be had with.
fn of(info: &table::KernelInfo) -> Half {
    let fits = |half: &Half| (half.target().isa(), half.element()) == (info.isa, info.element);
    Half::available().into_iter().find(fits).unwrap()
}

const FORMATS: [FormatKind; 6] = [
    FormatKind::BLOCKS_4X4,
    FormatKind::ROWS_4,
    FormatKind::ROWS_2,
    FormatKind::BLOCKS_2X2,
    FormatKind::ROWS_1,
    FormatKind::BLOCKS_1X2,
];

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

prop_compose! {
    fn case()(
        (batch, ic, oc, input) in (1usize..3, 1usize..40, 1usize..40, (1usize..8, 1usize..24)),
        stride in (1usize..4, 1usize..4),
        pads in (0usize..3, 0usize..3, 0usize..3, 0usize..3),
        plain in any::<bool>(),
        density in prop_oneof![Just(0f64), Just(1f64), 0f64..=1.0],
        (before, after, residual, bias) in (activation(), activation(), any::<bool>(), any::<bool>()),
        special in prop_oneof![4 => Just(None), 1 => Just(Some(f32::NAN)), 1 => Just(Some(f32::INFINITY))],
        seed in any::<u64>(),
    ) -> Case {
        let mut shape = ConvShape { batch, input: [input.0, input.1], ..ConvShape::square(ic, oc, 1, 1, 1, 0) };
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
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn pointwise_agrees_with_the_oracle(case in case()) {
        for half in common::halves() {
            for format in FORMATS {
                case.pointwise(half, format);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn depthwise_agrees_with_the_oracle(
        case in case(),
        kernel in prop_oneof![4 => Just([3, 3]), 2 => Just([5, 5]), 1 => Just([7, 7]), 1 => (1usize..8, 1usize..8).prop_map(|(h, w)| [h, w])],
        stride in (1usize..3, 1usize..3),
        square in any::<bool>(),
        patterns in prop::collection::vec((0..DepthwisePattern::COUNT).prop_map(|id| DepthwisePattern::from_id(id).unwrap()), 1..4),
    ) {
        let mut shape = ConvShape { kernel, group: case.shape.ic, oc: case.shape.ic, ..case.shape };
        shape.stride = if square { [stride.0; 2] } else { [stride.0, stride.1] };
        for axis in 0..2 {
            // the padded input must hold a kernel
            let padded = shape.pad_before[axis] + shape.pad_after[axis];
            shape.input[axis] = shape.input[axis].max(kernel[axis].saturating_sub(padded));
        }
        let case = Case { shape, ..case };
        for half in common::halves() {
            case.depthwise(half, table::depthwise_half(half, kernel).unwrap(), &patterns);
        }
        for kernel in common::depthwise_half().filter(|k| k.kernel().is_none()) {
            case.depthwise(of(kernel.info()), kernel, &patterns);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn spatial_agrees_with_the_oracle(
        case in case(),
        (ic, input) in (1usize..10, (1usize..=40, 1usize..=40)),
        kernel in prop_oneof![Just([3, 3]), Just([7, 7]), (1usize..6, 1usize..6).prop_map(|(h, w)| [h, w])],
        dilation in prop_oneof![3 => Just([1, 1]), 1 => (1usize..4, 1usize..4).prop_map(|(h, w)| [h, w])],
        zeros in (prop_oneof![Just(1usize), Just(2), Just(4)], prop_oneof![Just(1usize), Just(2), Just(4)]),
    ) {
        let mut shape = ConvShape { ic, oc: case.shape.oc.min(13), kernel, dilation, ..case.shape };
        shape.input = [input.0, input.1];
        for axis in 0..2 {
            // the padded input must hold a kernel
            let padded = shape.pad_before[axis] + shape.pad_after[axis];
            let reach = (kernel[axis] - 1) * dilation[axis] + 1;
            shape.input[axis] = shape.input[axis].max(reach.saturating_sub(padded)).max(1);
        }
        let case = Case { shape, ..case };
        for kernel in common::spatial_half() {
            case.spatial(kernel, [zeros.0, zeros.1]);
        }
    }

    #[test]
    fn pairs_are_planes(images in 0usize..3, channels in 0usize..7, pixels in 0usize..70, seed in any::<u64>()) {
        let shape = [images, channels, pixels];
        for half in common::halves() {
            let mut planes = Noise::new(seed).values(images * channels * pixels);
            let mut exact = vec![1; images * channels.div_ceil(2) * pixels];
            pairs::pack(half, shape, &planes, &mut exact).unwrap();
            rounded(half, &mut planes);
            let mut lanes = vec![1; exact.len()];
            pairs::pack(half, shape, &planes, &mut lanes).unwrap();
            prop_assert_eq!(&lanes, &exact);
            let mut back = vec![f32::NAN; planes.len()];
            pairs::unpack(half, shape, &lanes, &mut back).unwrap();
            prop_assert_eq!(&back, &planes);
        }
    }
}

/// Every pixel count around the tiles, and channel counts around the blocks.
#[test]
fn every_tail() {
    for half in common::halves() {
        for format in FORMATS {
            let pixels =
                if cfg!(miri) { vec![1, 18] } else { common::sampled((1..=130).chain([191, 192, 193, 196])) };
            for pixels in pixels {
                for (ic, oc) in [(5, 9), (8, 8), (7, 3)] {
                    let shape = ConvShape { input: [1, pixels], ..ConvShape::square(ic, oc, 1, 1, 1, 0) };
                    let epilogue = Epilogue::activation(Activation::RELU6);
                    let (residual, bias, seed) = (pixels % 2 == 0, true, pixels as u64);
                    Case { shape, density: 0.6, epilogue, residual, bias, special: None, seed }
                        .pointwise(half, format);
                }
            }
        }
    }
}

/// Every pattern and size of depthwise kernels at every row count and width around the tiles, with both strides, and
/// maps of several strips.
#[test]
fn every_depthwise_pattern_and_tail() {
    let sizes: Vec<usize> =
        if cfg!(miri) { vec![2, 17] } else { common::sampled((1..=20).chain([28, 33, 56])) };
    let plain = Case {
        shape: ConvShape::square(1, 1, 1, 1, 1, 0),
        density: 1.0,
        epilogue: Epilogue::activation(Activation::RELU6),
        residual: false,
        bias: true,
        special: None,
        seed: 1,
    };
    for kernel in common::depthwise_half() {
        let size = kernel.kernel().unwrap_or([3, 3]);
        let patterns: Vec<_> = match size {
            [3, 3] => common::sampled(DepthwisePattern::all().skip(if cfg!(miri) { 7 } else { 0 })),
            _ => vec![DepthwisePattern::ALL_ONES],
        };
        let layer = |input, stride, channels| ConvShape {
            group: channels,
            input,
            ..ConvShape::square(channels, channels, 1, size[0], stride, size[0] / 2)
        };
        for pattern in patterns {
            for (i, hw) in sizes.iter().enumerate() {
                for stride in 1..3 {
                    let shape = layer([*hw, sizes[sizes.len() - 1 - i]], stride, 3);
                    Case { shape, seed: *hw as u64, ..plain.clone() }.depthwise(
                        of(kernel.info()),
                        kernel,
                        &[pattern],
                    );
                }
            }
            if !cfg!(miri) {
                for (input, stride) in [([112, 112], 1), ([113, 111], 2), ([9, 5000], 1)] {
                    let shape = layer(input, stride, 3);
                    Case { shape, ..plain.clone() }.depthwise(of(kernel.info()), kernel, &[pattern]);
                    let epilogue = Epilogue { before: Activation::HardSwish, after: Activation::RELU };
                    Case { shape, epilogue, residual: true, ..plain.clone() }.depthwise(
                        of(kernel.info()),
                        kernel,
                        &[pattern],
                    );
                }
            }
        }
    }
}

/// Every map size around the tiles of spatial kernels, with the strides and paddings of common networks, and an input
/// channel that is alone or has a neighbour.
#[test]
fn every_map_size() {
    let sizes = if cfg!(miri) { vec![5] } else { common::sampled(1..=40) };
    for kernel in common::spatial_half() {
        for hw in sizes.clone() {
            let plain = Case {
                shape: ConvShape::square(3, 5, hw, 3, 1, 1),
                density: 0.6,
                epilogue: Epilogue::activation(Activation::RELU6),
                residual: hw.is_multiple_of(2),
                bias: true,
                special: None,
                seed: hw as u64,
            };
            plain.spatial(kernel, [4, 1]);
            // SAME_UPPER of a stride-2 layer.
            let same = 1 - hw % 2;
            let shape = ConvShape { pad_before: [1 - same; 2], ..ConvShape::square(4, 9, hw, 3, 2, 1) };
            Case { shape, ..plain.clone() }.spatial(kernel, [4, 2]);
            if hw > 4 {
                Case { shape: ConvShape::square(1, 8, hw, 7, 2, 3), ..plain }.spatial(kernel, [4, 1]);
            }
        }
    }
}

/// Images of several bands, also of unequal ones, weights of several blocks, and functions that kernels do not fuse.
#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter")]
fn bands_and_blocks() {
    let shapes = [
        ConvShape::square(128, 7, 61, 3, 1, 1),
        ConvShape::square(65, 6, 121, 3, 2, 1),
        ConvShape::square(600, 70, 5, 3, 1, 1),
        ConvShape { batch: 2, ..ConvShape::square(3, 16, 96, 7, 2, 3) },
        ConvShape { dilation: [2, 1], ..ConvShape::square(5, 9, 90, 3, 1, 2) },
    ];
    let mut cases = vec![];
    for (seed, shape) in shapes.into_iter().enumerate() {
        for before in [Activation::RELU, Activation::HardSwish] {
            let epilogue = Epilogue { before, after: Activation::RELU };
            let (residual, bias, seed) = (seed % 2 == 0, true, seed as u64);
            cases.push(Case { shape, density: 0.6, epilogue, residual, bias, special: None, seed });
        }
    }
    for case in common::sampled(cases) {
        for kernel in common::spatial_half() {
            case.spatial(kernel, [4, 2]);
        }
    }
}

/// What the upper halves hold of an input channel that is alone in its lanes changes nothing.
#[test]
fn half_of_a_lane_is_ignored() {
    let geometry = ConvGeometry::new(ConvShape::square(3, 6, 9, 3, 1, 1)).unwrap();
    let mut noise = Noise::new(1);
    let weights = noise.values(6 * 27);
    let planes = noise.values(3 * 81);
    for kernel in common::spatial_half() {
        let x = packed(of(kernel.info()), [1, 3, 81], &planes);
        let mut other = x.clone();
        other[81..].iter_mut().for_each(|lane| *lane |= 0x7fc0_0000);
        let layer = PackedSpatial::from_dense(6, 3, [3, 3], &weights, None, kernel).unwrap();
        let run = |x: &[u32]| {
            let mut y = vec![0; 3 * 81];
            layer.run_pairs(&geometry, x, &mut y, None, &Epilogue::default(), &Serial).unwrap();
            y
        };
        assert!(run(&x) == run(&other), "{}", kernel.info().name);
    }
}

/// More input channels than one panel holds, with paddings, strides and functions that kernels do not fuse.
#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter")]
fn many_channels() {
    let mut cases = vec![];
    for (i, input) in [[1, 1], [2, 3], [7, 7], [5, 26]].into_iter().enumerate() {
        let plain = ConvShape { input, ..ConvShape::square(1607, 10, 1, 1, 1, 0) };
        let padded = ConvShape { stride: [1, 2], pad_before: [0, 1], pad_after: [1, 2], ..plain };
        for shape in [plain, padded] {
            for density in [0.0, 0.05, 0.5, 1.0] {
                for before in [Activation::HardSwish, Activation::RELU] {
                    let epilogue = Epilogue { before, after: Activation::RELU };
                    let (residual, bias, seed) = (i % 2 == 0, i != 1, i as u64 + 7);
                    cases.push(Case { shape, density, epilogue, residual, bias, special: None, seed });
                }
            }
        }
    }
    for case in common::sampled(cases) {
        for half in common::halves() {
            for format in FORMATS {
                case.pointwise(half, format);
            }
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_and_even() {
    for (from, to) in [
        (1.0f32, 1.0f32),
        (1.0 + 1.0 / 256.0, 1.0),
        (1.0 + 3.0 / 256.0, 1.0 + 2.0 / 128.0),
        (1.0 + 1.01 / 256.0, 1.0 + 1.0 / 128.0),
        (-1.0 - 1.01 / 256.0, -1.0 - 1.0 / 128.0),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
        (f32::MIN_POSITIVE, f32::MIN_POSITIVE),
        (f32::MIN_POSITIVE / 2.0, 0.0),
    ] {
        assert_eq!(pairs::float(pairs::round(from)), to, "{from}");
    }
    assert!(pairs::float(pairs::round(f32::from_bits(0x7f80_0001))).is_nan());
    assert_eq!(pairs::widen(pairs::pair(1.5, -2.0)), [1.5, -2.0]);
}

/// What vectors round is what plain Rust rounds, and the border of two numbers goes the same way.
#[test]
fn every_target_rounds_alike() {
    let mut noise = Noise::new(3);
    let mut values = noise.values(512);
    values.extend((0..512u32).map(|i| f32::from_bits(0x3f80_0000 + i * 0x4000)));
    values.extend([f32::MIN_POSITIVE, 1e-40, 3e-8, 6e-6, 65519.0]);
    values.resize(1056, 0.0);
    // a layer of ones on the diagonal, in floats as bias: sums are the values themselves
    for half in common::halves() {
        let numbers = Numbers::from(half);
        let values = match half.element() {
            Element::F16 => values.clone(),
            _ => [&values[..1054], &[f32::MAX, f32::INFINITY]].concat(),
        };
        for format in FORMATS {
            let kernel = table::pointwise_half(half, format);
            let zeros = vec![0f32; 1056 * 2];
            let packed = PackedPointwise::from_dense(1056, 2, &zeros, Some(&values), kernel).unwrap();
            for pixels in [1, 5, 33] {
                let geometry = ConvGeometry::pointwise(1, 2, 1056, pixels).unwrap();
                let mut y = vec![0; 528 * pixels];
                packed
                    .run_pairs(&geometry, &vec![0; pixels], &mut y, None, &Epilogue::default(), &Serial)
                    .unwrap();
                for (lanes, values) in y.chunks(pixels).zip(values.chunks(2)) {
                    assert!(
                        lanes.iter().all(|lane| *lane == numbers.pair(values[0], values[1])),
                        "{values:?} {lanes:x?}"
                    );
                }
            }
        }
    }
}

/// Half precision of targets that Arm cores have, against what whoever runs this says of the core.
#[test]
fn half_precision_is_what_the_core_has() {
    let Ok(expected) = std::env::var("SPARSE_KERNELS_HALF") else {
        eprintln!("not run: SPARSE_KERNELS_HALF does not say which types the core has");
        return;
    };
    let names = |name: &str| -> Vec<&str> {
        Target::named(name).unwrap().halves().map(|half| half.element().name()).collect()
    };
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(names("neon"), expected);
    assert_eq!(names("neon-a76"), expected);
    // these classes have no kernels for what none of their cores has
    assert_eq!(names("neon-a55"), expected.iter().copied().filter(|name| *name == "f16").collect::<Vec<_>>());
    assert_eq!(names("neon-a53"), [""; 0]);
    let first = Target::named("neon").unwrap().half().map(|half| half.element().name());
    assert_eq!(first, expected.first().copied());
}

#[test]
fn the_wrong_type_is_an_error() {
    let weights = vec![1f32; 8 * 8];
    let geometry = ConvGeometry::pointwise(1, 8, 8, 3).unwrap();
    let (floats, lanes) = ([0f32; 24], [0u32; 12]);
    let epilogue = Epilogue::default();
    for half in common::halves() {
        let kernel = table::pointwise_half(half, FormatKind::BLOCKS_4X4);
        let packed = PackedPointwise::from_dense(8, 8, &weights, None, kernel).unwrap();
        let wrong = packed.run(&geometry, &floats, &mut [0.0; 24], None, &epilogue, &Serial);
        assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
        assert_eq!(packed.run_pairs(&geometry, &lanes, &mut [0; 12], None, &epilogue, &Serial), Ok(()));
        let short = packed.run_pairs(&geometry, &lanes, &mut [0; 11], None, &epilogue, &Serial);
        assert!(matches!(short, Err(KernelError::Length { what: "output", .. })));
        let other = ConvGeometry::pointwise(1, 7, 8, 3).unwrap();
        let other = packed.run_pairs(&other, &lanes, &mut [0; 12], None, &epilogue, &Serial);
        assert!(matches!(other, Err(KernelError::Shape { .. })));
        let shape = ConvShape { x_layout: Layout::Interleaved, ..*geometry.shape() };
        let interleaved = ConvGeometry::new(shape).unwrap();
        let interleaved = packed.run_pairs(&interleaved, &lanes, &mut [0; 12], None, &epilogue, &Serial);
        assert!(matches!(interleaved, Err(KernelError::Geometry(_))));
        let huge = PackedPointwise::from_dense(8, 8, &[f32::MAX; 64], None, kernel);
        assert!(huge.is_err(), "a weight that rounds to infinity");
    }
    let shape = ConvShape { group: 3, ..ConvShape::square(3, 3, 4, 3, 1, 1) };
    let depthwise = ConvGeometry::new(shape).unwrap();
    let (taps, lanes_of_depthwise) = (vec![1f32; 27], [0u32; 32]);
    for half in common::halves() {
        let kernel = table::depthwise_half(half, [3, 3]).unwrap();
        let layer = PackedDepthwise::from_dense(3, [3, 3], &taps, None, kernel).unwrap();
        let run = |geometry: &ConvGeometry, x: &[u32], y: &mut [u32]| {
            layer.run_pairs(geometry, x, y, None, &epilogue, &Serial)
        };
        assert_eq!(run(&depthwise, &lanes_of_depthwise, &mut [0; 32]), Ok(()));
        let wrong = layer.run(&depthwise, &[0.0; 48], &mut [0.0; 48], None, &epilogue, &Serial);
        assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
        for (x, y, what) in [(31, 32, "input"), (32, 33, "output")] {
            let short = run(&depthwise, &vec![0; x], &mut vec![0; y]);
            assert!(matches!(short, Err(KernelError::Length { what: found, .. }) if found == what));
        }
        let other = ConvShape { group: 4, ..ConvShape::square(4, 4, 4, 3, 1, 1) };
        let other = run(&ConvGeometry::new(other).unwrap(), &lanes_of_depthwise, &mut [0; 32]);
        assert!(matches!(other, Err(KernelError::Shape { what: "channels", .. })));
        let dense = ConvGeometry::new(ConvShape { group: 1, ..shape }).unwrap();
        let dense = run(&dense, &lanes_of_depthwise, &mut [0; 32]);
        assert!(matches!(dense, Err(KernelError::Geometry(_))));
        let huge = PackedDepthwise::from_dense(3, [3, 3], &[f32::MAX; 27], None, kernel);
        assert!(huge.is_err(), "a weight that rounds to infinity");
    }
    for half in common::halves() {
        let Some(kernel) = table::spatial_half(half, FormatKind::ROWS_4) else { continue };
        let geometry = ConvGeometry::new(ConvShape::square(3, 6, 4, 3, 1, 1)).unwrap();
        let layer = PackedSpatial::from_dense(6, 3, [3, 3], &[1.0; 6 * 27], None, kernel).unwrap();
        let run = |x: usize, y: usize| {
            layer.run_pairs(&geometry, &vec![0; x], &mut vec![0; y], None, &epilogue, &Serial)
        };
        assert_eq!(run(2 * 16, 3 * 16), Ok(()));
        assert!(matches!(run(3 * 16, 3 * 16), Err(KernelError::Length { what: "input", .. })));
        assert!(matches!(run(2 * 16, 6 * 16), Err(KernelError::Length { what: "output", .. })));
        let wrong = layer.run(&geometry, &[0.0; 48], &mut [0.0; 96], None, &epilogue, &Serial);
        assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
        let huge = PackedSpatial::from_dense(6, 3, [3, 3], &[f32::MAX; 6 * 27], None, kernel);
        assert!(huge.is_err(), "a weight that rounds to infinity");
    }
    let kernel = table::depthwise(Target::SCALAR, [3, 3]).unwrap();
    let layer = PackedDepthwise::from_dense(3, [3, 3], &taps, None, kernel).unwrap();
    let wrong = layer.run_pairs(&depthwise, &lanes_of_depthwise, &mut [0; 32], None, &epilogue, &Serial);
    assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
    let kernel = table::pointwise(Target::SCALAR, FormatKind::BLOCKS_4X4);
    let packed = PackedPointwise::from_dense(8, 8, &weights, None, kernel).unwrap();
    let wrong = packed.run_pairs(&geometry, &lanes, &mut [0; 12], None, &epilogue, &Serial);
    assert!(matches!(wrong, Err(KernelError::ElementMismatch { .. })));
}
