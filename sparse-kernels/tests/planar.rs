//! Resizing, pooling and softmax of planes against plain loops in double precision, on every target of this
//! machine.

mod common;

use common::Noise;
use proptest::prelude::*;
use sparse_kernels::planar::{Col2im, Col2imAxis, Pool, PoolAxis, Pooling, Resize, Taps, scale, softmax};
use sparse_kernels::prelude::*;
use sparse_kernels::quads::{self, Affine};

/// A pooled axis as numbers: input, output, kernel, stride, dilation, padding before.
type Axis = [usize; 6];

fn pool_axis([input, output, kernel, stride, dilation, pad]: Axis) -> PoolAxis {
    PoolAxis::new(input, output, kernel, stride, dilation, pad).unwrap()
}

/// Input pixels under a window.
fn under([input, _, kernel, stride, dilation, pad]: Axis, window: usize) -> Vec<usize> {
    let place = |tap: usize| (window * stride + tap * dilation).checked_sub(pad).filter(|at| *at < input);
    (0..kernel).filter_map(place).collect()
}

/// Taps of a window among the first `padded` pixels, padding included.
fn counted([_, _, kernel, stride, dilation, _]: Axis, window: usize, padded: usize) -> usize {
    (0..kernel).filter(|tap| window * stride + tap * dilation < padded).count()
}

fn plain_pool(pooling: Pooling, axes: [Axis; 2], padded: Option<[usize; 2]>, x: &[f32]) -> Vec<f64> {
    let [h, w] = [axes[0][0], axes[1][0]];
    let mut y = vec![];
    for plane in x.chunks_exact(h * w) {
        for oy in 0..axes[0][1] {
            for ox in 0..axes[1][1] {
                let (rows, columns) = (under(axes[0], oy), under(axes[1], ox));
                let values = rows.iter().flat_map(|r| columns.iter().map(move |c| plane[r * w + c]));
                let count = match padded {
                    Some([h, w]) => counted(axes[0], oy, h) * counted(axes[1], ox, w),
                    None => rows.len() * columns.len(),
                };
                let sum = || values.clone().map(f64::from).sum::<f64>();
                y.push(match pooling {
                    Pooling::Max => values.clone().fold(f32::MIN, f32::max) as f64,
                    Pooling::Sum => sum(),
                    Pooling::Mean => sum() / count as f64,
                });
            }
        }
    }
    y
}

/// Differences of at most some roundings of sums of that number of values below 1.
fn assert_close(what: &str, got: &[f32], expected: &[f64], terms: usize) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bound = terms as f64 * f64::from(f32::EPSILON) * expected.abs().max(1.0);
        let same = f64::from(*got) == *expected || got.is_nan() && expected.is_nan();
        assert!(
            same || (f64::from(*got) - expected).abs() <= bound,
            "{what}: {got} at {i}, expected {expected}"
        );
    }
}

/// What bytes of input and output stand for: the same, or not.
fn affines(same: bool) -> [Affine; 2] {
    let x = Affine::new(0.0171, 93).unwrap();
    [x, if same { x } else { Affine::new(0.0123, 131).unwrap() }]
}

/// A pooling of planes of quads: the bytes that the definition says.
fn check_pool_of_quads(
    pool: &Pool,
    pooling: Pooling,
    axes: [Axis; 2],
    padded: Option<[usize; 2]>,
    (planes, same, seed): (usize, bool, u64),
) {
    let ([of_x, of_y], channels) = (affines(same), 4 * planes);
    let noise = Noise::new(seed).values(channels * pool.x_plane());
    let x: Vec<u8> = noise.iter().map(|v| (v * 128.0 + 128.0) as u8).collect();
    let steps: Vec<f32> = x.iter().map(|b| f32::from(*b) - f32::from(of_x.zero())).collect();
    // of whole numbers, exact
    let values = plain_pool(pooling, axes, padded, &steps);
    let byte = |value: &f64| match pooling {
        Pooling::Max if *value < -256.0 => 0,
        Pooling::Max => of_y.byte(*value as f32 * of_x.scale()),
        // a quotient of f64 rounds to that of f32
        Pooling::Sum | Pooling::Mean => {
            let rounded = (*value as f32 * (of_x.scale() / of_y.scale())).round_ties_even();
            // the mean of nothing becomes the lowest
            let steps = if rounded.is_nan() { -255.0 } else { rounded.clamp(-255.0, 255.0) };
            (steps as i32 + i32::from(of_y.zero())).clamp(0, 255) as u8
        }
    };
    let expected: Vec<u8> = values.iter().map(byte).collect();
    let mut lanes = vec![0; planes * pool.x_plane()];
    quads::pack(Target::SCALAR, [1, channels, pool.x_plane()], &x, false, &mut lanes).unwrap();
    for target in common::targets() {
        let mut y = vec![7; planes * pool.y_plane()];
        pool.run_quads(target, (&lanes, of_x), (&mut y, of_y)).unwrap();
        let mut bytes = vec![0; channels * pool.y_plane()];
        quads::unpack(target, [1, channels, pool.y_plane()], &y, false, &mut bytes).unwrap();
        assert_eq!(bytes, expected, "{target} {pool:?}");
    }
}

/// Sums that 16 bits hold, and those that they do not.
#[test]
fn large_windows_of_quads_are_exact() {
    for kernel in [[1, 257], [2, 129], [20, 30]] {
        let axes = kernel.map(|kernel| [kernel + 1, 2, kernel, 1, 1, 0]);
        for pooling in [Pooling::Max, Pooling::Sum, Pooling::Mean] {
            let pool = Pool::new(pooling, pool_axis(axes[0]), pool_axis(axes[1]));
            check_pool_of_quads(&pool, pooling, axes, None, (1, true, 3));
            let bright = vec![u32::MAX; pool.x_plane()];
            let mut y = vec![0; pool.y_plane()];
            let of = Affine::new(0.5, 0).unwrap();
            pool.run_quads(Target::detect(), (&bright, of), (&mut y, of)).unwrap();
            assert!(y.iter().all(|lane| *lane == u32::MAX), "{y:x?}");
        }
    }
}

/// Windows as large as the plane, and single windows whose stride is of no account.
#[test]
fn single_windows_agree_with_plain_loops() {
    for input in [[7, 7], [1, 1], [3, 40], [16, 16]] {
        for stride in [1, 2, usize::MAX / 2] {
            for kernel in [input, [1, 2]] {
                let axis = |at: usize| [input[at], 1, kernel[at].min(input[at]), stride, 1, 0];
                let pool = |pooling| Pool::new(pooling, pool_axis(axis(0)), pool_axis(axis(1)));
                for pooling in [Pooling::Max, Pooling::Sum, Pooling::Mean] {
                    let x = Noise::new(1).values(3 * input[0] * input[1]);
                    let expected = plain_pool(pooling, [axis(0), axis(1)], None, &x);
                    for target in common::targets() {
                        let mut y = vec![f32::NAN; expected.len()];
                        pool(pooling).run(target, &x, &mut y).unwrap();
                        let what = format!("{target} {pooling:?} {kernel:?} of {input:?}, stride {stride}");
                        assert_close(&what, &y, &expected, kernel[0] * kernel[1] + 2);
                    }
                }
            }
        }
    }
}

fn axis() -> impl Strategy<Value = Axis> {
    let sizes = (1..40usize, 1..6usize, 1..4usize, 1..3usize, 0..4usize, 0..4usize);
    sizes.prop_map(|(input, kernel, stride, dilation, before, after)| {
        let padded = input + before + after;
        let output = (padded + 1).saturating_sub((kernel - 1) * dilation + 1).div_ceil(stride);
        [input, output, kernel, stride, dilation, before]
    })
}

/// An axis of a transposed convolution.
fn col2im_axis() -> impl Strategy<Value = Axis> {
    let sizes = (0..24usize, 0..60usize, 0..6usize, 1..5usize, 1..3usize, 0..7usize);
    sizes.prop_map(|(input, output, kernel, stride, dilation, pad)| {
        [input, output, kernel, stride, dilation, pad]
    })
}

proptest! {
    #[test]
    fn pools_agree_with_plain_loops(
        down in axis(),
        along in axis(),
        pooling in prop::sample::select(vec![Pooling::Max, Pooling::Sum, Pooling::Mean]),
        padded in prop::option::of([1..50usize, 1..50]),
        planes in 0..4usize,
        seed in any::<u64>(),
    ) {
        let (a, b) = (pool_axis(down), pool_axis(along));
        let (a, b) = match padded {
            Some([h, w]) => (a.counting(h), b.counting(w)),
            None => (a, b),
        };
        let pool = Pool::new(pooling, a, b);
        let x = Noise::new(seed).values(planes * pool.x_plane());
        let expected = plain_pool(pooling, [down, along], padded, &x);
        for target in common::targets() {
            let mut y = vec![f32::NAN; expected.len()];
            pool.run(target, &x, &mut y).unwrap();
            assert_close(&format!("{target} {pool:?}"), &y, &expected, down[2] * along[2] + 2);
        }
        check_pool_of_quads(&pool, pooling, [down, along], padded, (planes, seed % 2 == 0, seed));
    }

    #[test]
    fn resizes_agree_with_plain_loops(
        [height, width] in [1..20usize, 1..50],
        [rows, columns] in [0..30usize, 0..90],
        kept in any::<[bool; 2]>(),
        window in 1..5usize,
        planes in 0..4usize,
        seed in any::<u64>(),
    ) {
        let mut noise = Noise::new(seed);
        let mut axis = |input: usize, output: usize, kept: bool| {
            let indices: Vec<usize> =
                (0..output * window).map(|_| (noise.values(1)[0].abs() * input as f32) as usize % input).collect();
            let weights: Vec<f32> =
                noise.values(output * window).into_iter().map(|w| if w < -0.5 { 0.0 } else { w }).collect();
            (!kept).then_some((indices, weights))
        };
        let axes = [axis(height, rows, kept[0]), axis(width, columns, kept[1])];
        check_resize([height, width], &axes, window, planes, seed);
    }

    /// Enlargements by two, with other edges, as half-pixel coordinates give them.
    #[test]
    fn doubled_planes_agree_with_plain_loops(
        [height, width] in [1..20usize, 1..50],
        first in 0..2usize,
        w in [[0.1f32..1.0, 0.1f32..1.0], [0.1f32..1.0, 0.1f32..1.0]],
        planes in 0..3usize,
        seed in any::<u64>(),
    ) {
        let axis = |input: usize| {
            let place = |output: usize| (output + 2 - first) / 2;
            let indices = (0..2 * input).flat_map(|o| [place(o).saturating_sub(1), place(o)]);
            let weights = (0..2 * input).flat_map(|o| w[(o + first) % 2]).collect();
            Some((indices.map(|i| i.min(input - 1)).collect(), weights))
        };
        check_resize([height, width], &[axis(height), axis(width)], 2, planes, seed);
    }

    #[test]
    fn sums_of_transposed_convolutions_agree_with_plain_loops(
        down in col2im_axis(),
        along in col2im_axis(),
        planes in 0..4usize,
        seed in any::<u64>(),
    ) {
        let axis = |[input, output, kernel, stride, dilation, pad]: Axis| {
            Col2imAxis::new(input, output, kernel, stride, dilation, pad).unwrap()
        };
        let sums = Col2im::new(axis(down), axis(along)).unwrap();
        let mut noise = Noise::new(seed);
        let (x, bias) = (noise.values(planes * sums.x_plane()), noise.values(planes));
        let mut expected: Vec<f64> =
            bias.iter().flat_map(|bias| std::iter::repeat_n(f64::from(*bias), sums.y_plane())).collect();
        let mut products = x.iter();
        // where a tap of an input pixel belongs
        let place = |[_, output, _, stride, dilation, pad]: Axis, input: usize, tap: usize| {
            (input * stride + tap * dilation).checked_sub(pad).filter(|at| *at < output)
        };
        for plane in 0..planes {
            for (ky, kx) in (0..down[2]).flat_map(|ky| (0..along[2]).map(move |kx| (ky, kx))) {
                for (iy, ix) in (0..down[0]).flat_map(|iy| (0..along[0]).map(move |ix| (iy, ix))) {
                    let product = f64::from(*products.next().unwrap());
                    if let (Some(oy), Some(ox)) = (place(down, iy, ky), place(along, ix, kx)) {
                        expected[plane * sums.y_plane() + oy * along[1] + ox] += product;
                    }
                }
            }
        }
        for target in common::targets() {
            let mut y = vec![f32::NAN; expected.len()];
            sums.run(target, &x, &bias, &mut y).unwrap();
            // up to so many values of at most 1 are added in each
            assert_close(&format!("{target} {sums:?}"), &y, &expected, (down[2] * along[2] + 1).pow(2));
        }
    }

    #[test]
    fn planes_are_multiplied_by_their_numbers(planes in 0..40usize, plane in 0..90usize, seed in any::<u64>()) {
        let mut noise = Noise::new(seed);
        let (x, factors) = (noise.values(planes * plane), noise.values(planes));
        let expected: Vec<u32> = (0..x.len()).map(|at| (x[at] * factors[at / plane]).to_bits()).collect();
        for target in common::targets() {
            let mut y = x.clone();
            scale(target, &factors, &mut y).unwrap();
            // one product each, rounded once
            let y: Vec<u32> = y.into_iter().map(f32::to_bits).collect();
            assert_eq!(y, expected, "{target} {planes}x{plane}");
        }
    }

    #[test]
    fn softmaxes_agree_with_plain_loops(
        outer in 0..9usize,
        len in 1..90usize,
        inner in prop_oneof![Just(1usize), 1..40usize],
        scale in prop::sample::select(vec![0.1f32, 10.0, 300.0]),
        infinite in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut x: Vec<f32> = Noise::new(seed).values(outer * len * inner).iter().map(|x| x * scale).collect();
        if infinite && len > 1 && !x.is_empty() {
            let at = seed as usize % x.len();
            x[at] = f32::NEG_INFINITY;
        }
        let at = |o: usize, l: usize, i: usize| (o * len + l) * inner + i;
        let mut expected = vec![0f64; x.len()];
        for o in 0..outer {
            for i in 0..inner {
                let most = (0..len).map(|l| x[at(o, l, i)]).fold(f32::NEG_INFINITY, f32::max) as f64;
                let exp = |l: usize| (f64::from(x[at(o, l, i)]) - most).exp();
                let sum: f64 = (0..len).map(exp).sum();
                for l in 0..len {
                    expected[at(o, l, i)] = exp(l) / sum;
                }
            }
        }
        for target in common::targets() {
            let mut y = x.clone();
            softmax(target, len, inner, &mut y).unwrap();
            // the difference to the largest value is rounded, too, and that error grows with the value
            let terms = len + 4 + 2 * scale as usize;
            assert_close(&format!("{target} {outer}x{len}x{inner}"), &y, &expected, terms);
        }
    }
}

/// Indices and weights of an axis, or none if it stays.
type Plan = Option<(Vec<usize>, Vec<f32>)>;

fn check_resize([height, width]: [usize; 2], axes: &[Plan; 2], window: usize, planes: usize, seed: u64) {
    let sum = |plan: &Plan, output: usize, value: &dyn Fn(usize) -> f64| match plan {
        None => value(output),
        Some((indices, weights)) => (output * window..(output + 1) * window)
            .map(|tap| f64::from(weights[tap]) * value(indices[tap]))
            .sum(),
    };
    let length = |plan: &Plan, input| plan.as_ref().map_or(input, |(indices, _)| indices.len() / window);
    let (rows, columns) = (length(&axes[0], height), length(&axes[1], width));
    let taps = |plan: &Plan, input| plan.as_ref().map(|(i, w)| Taps::new(input, window, i, w).unwrap());
    let resize = Resize::new([height, width], taps(&axes[0], height), taps(&axes[1], width)).unwrap();
    let x = Noise::new(seed).values(if rows * columns == 0 { 0 } else { planes * height * width });
    let mut expected = vec![];
    for plane in x.chunks_exact(height * width) {
        for oy in 0..rows {
            for ox in 0..columns {
                let at = |iy: usize, ix: usize| f64::from(plane[iy * width + ix]);
                expected.push(sum(&axes[1], ox, &|ix| sum(&axes[0], oy, &|iy| at(iy, ix))));
            }
        }
    }
    for target in common::targets() {
        let mut y = vec![f32::NAN; expected.len()];
        resize.run(target, &x, &mut y).unwrap();
        assert_close(&format!("{target} {resize:?}"), &y, &expected, 16);
    }
    check_resize_of_quads(&resize, planes, seed);
}

/// A resize of quads is that of the floats that they stand for, to the bit.
fn check_resize_of_quads(resize: &Resize, planes: usize, seed: u64) {
    let [of_x, of_y] = affines(seed.is_multiple_of(2));
    let planes = if resize.y_plane() == 0 { 0 } else { planes };
    let noise = Noise::new(seed).values(planes * resize.x_plane());
    let x: Vec<u32> = noise.iter().map(|v| v.to_bits().wrapping_mul(0x9e37_79b9)).collect();
    for target in common::targets() {
        let mut wide_x = vec![0.0; 4 * x.len()];
        let mut wide_y = vec![0.0; 4 * planes * resize.y_plane()];
        quads::dequantize(target, [1, 4 * planes, resize.x_plane()], &x, of_x, &mut wide_x).unwrap();
        resize.run(target, &wide_x, &mut wide_y).unwrap();
        let mut expected = vec![0; planes * resize.y_plane()];
        quads::quantize(target, [1, 4 * planes, resize.y_plane()], &wide_y, of_y, &mut expected).unwrap();
        let mut y = vec![7; expected.len()];
        resize.run_quads(target, (&x, of_x), (&mut y, of_y)).unwrap();
        assert_eq!(y, expected, "{target} {resize:?}");
    }
}

/// Nearest neighbours, which are moved.
#[test]
fn lanes_of_nearest_neighbours_are_moved() {
    let nearest = |input: usize, output: usize| {
        let indices: Vec<usize> = (0..output).map(|at| at * input / output).collect();
        Taps::new(input, 1, &indices, &vec![1.0; output]).unwrap()
    };
    for (input, output) in [([3, 5], [6, 10]), ([4, 4], [7, 3]), ([1, 1], [5, 5]), ([6, 2], [3, 2])] {
        for kept in [[false; 2], [true, false], [false, true]] {
            let taps = |at: usize| (!kept[at]).then(|| nearest(input[at], output[at]));
            let resize = Resize::new(input, taps(0), taps(1)).unwrap();
            for seed in 0..2 {
                check_resize_of_quads(&resize, 3, seed);
            }
        }
    }
    let resize = Resize::new([2, 2], Some(nearest(2, 4)), None).unwrap();
    let of = affines(true)[0];
    assert!(resize.run_quads(Target::SCALAR, (&[0; 5], of), (&mut [0; 8], of)).is_err());
    assert!(resize.run_quads(Target::SCALAR, (&[0; 4], of), (&mut [0; 16], of)).is_err());
}

#[test]
fn a_pixel_without_weight_is_not_read() {
    let taps = || Taps::new(2, 2, &[0, 1, 0, 1], &[0.0, 1.0, 0.5, 0.5]).unwrap();
    let resize = Resize::new([1, 2], None, Some(taps())).unwrap();
    for target in common::targets() {
        let mut y = [0.0; 2];
        resize.run(target, &[f32::INFINITY, 3.0], &mut y).unwrap();
        assert_eq!(y, [3.0, f32::INFINITY]);
    }
}

#[test]
fn a_maximum_ignores_nan_and_has_a_floor() {
    let axis = || PoolAxis::new(2, 2, 2, 1, 1, 0).unwrap();
    let pool = Pool::new(Pooling::Max, axis(), axis());
    for target in common::targets() {
        let mut y = [0.0; 4];
        pool.run(target, &[f32::NAN, 1.0, f32::NEG_INFINITY, f32::NAN], &mut y).unwrap();
        assert_eq!(y, [1.0, 1.0, f32::MIN, f32::MIN]);
    }
}

#[test]
fn nonsense_is_refused() {
    assert!(PoolAxis::new(4, 2, 0, 1, 1, 0).is_err());
    assert!(PoolAxis::new(4, 2, 1, 0, 1, 0).is_err());
    assert!(PoolAxis::new(4, usize::MAX, 3, 2, 1, 0).is_err());
    assert!(Taps::new(2, 2, &[0, 2], &[1.0, 1.0]).is_err());
    assert!(Taps::new(2, 2, &[0, 1, 1], &[1.0; 3]).is_err());
    assert!(Taps::new(2, 0, &[], &[]).is_err());
    let taps = || Taps::new(2, 1, &[0, 1], &[1.0; 2]).unwrap();
    assert!(Resize::new([3, 3], Some(taps()), None).is_err());
    let resize = Resize::new([2, 3], Some(taps()), None).unwrap();
    assert!(resize.run(Target::SCALAR, &[0.0; 7], &mut [0.0; 6]).is_err());
    assert!(resize.run(Target::SCALAR, &[0.0; 6], &mut [0.0; 12]).is_err());
    assert!(softmax(Target::SCALAR, 3, 2, &mut [0.0; 7]).is_err());
    assert!(Col2imAxis::new(4, 8, 2, 0, 1, 0).is_err());
    assert!(Col2imAxis::new(usize::MAX / 2, 8, 2, 4, 1, 0).is_err());
    let axis = || Col2imAxis::new(2, 4, 2, 2, 1, 0).unwrap();
    let sums = Col2im::new(axis(), axis()).unwrap();
    assert!(sums.run(Target::SCALAR, &[0.0; 15], &[0.0], &mut [0.0; 16]).is_err());
    assert!(sums.run(Target::SCALAR, &[0.0; 16], &[0.0], &mut [0.0; 32]).is_err());
    assert!(softmax(Target::SCALAR, usize::MAX, 2, &mut [0.0; 7]).is_err());
    assert!(scale(Target::SCALAR, &[1.0; 2], &mut [0.0; 7]).is_err());
    assert!(scale(Target::SCALAR, &[], &mut [0.0; 7]).is_err());
}
