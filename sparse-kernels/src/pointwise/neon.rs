//! aarch64 Advanced SIMD: 32 registers of 4 floats.
//!
//! 4 channels by 20 pixels take 20 sums, 5 inputs and 1 register with the four weights of a column, which the
//! multiply-add picks by lane: 26 registers, and 6 that the compiler may use to load ahead. Per 4x4 block
//! that is 80 multiply-adds for 20 loads of pixels and 4 of weights. Single rows and pairs take 32 pixels,
//! 8x1 takes 8.
//!
//! The last vector of a tile ends at its last pixel and may overlap the one before: both then compute the
//! same values.

use super::TileArgs;
use super::scalar::{finish, gemv};
use std::arch::aarch64::*;

pub(super) const LANES: usize = 4;

/// `R` output channels by `LANES` to 8 `LANES` pixels.
///
/// # Safety
/// NEON is there; `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller; the number of vectors is that of the pixels.
    unsafe {
        match args.pixels.div_ceil(LANES) {
            1 => rows::<R, C, 1>(args),
            2 => rows::<R, C, 2>(args),
            3 => rows::<R, C, 3>(args),
            4 => rows::<R, C, 4>(args),
            5 => rows::<R, C, 5>(args),
            6 => rows::<R, C, 6>(args),
            7 => rows::<R, C, 7>(args),
            8 => rows::<R, C, 8>(args),
            vectors => unreachable!("a tile of {vectors} vectors"),
        }
    }
}

/// `R` output channels of a single pixel.
///
/// # Safety
/// NEON is there; `args` keeps the invariants of [`TileArgs`]; `pixels` is 1.
#[target_feature(enable = "neon")]
pub(super) unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        // In an image of a single pixel channels are neighbours, and the distance a constant.
        match (R * C, args.x_stride) {
            (16, 1) => fours::<1>(args),
            (16, _) => fours::<0>(args),
            (4 | 8, 1) => columns::<R, 1>(args),
            (4 | 8, _) => columns::<R, 0>(args),
            (_, 1) => gemv::<R, C, 4>(args, 1, f32::mul_add),
            (_, stride) => gemv::<R, C, 4>(args, stride, f32::mul_add),
        }
    }
}

/// 4x4 blocks and a single pixel: the four inputs of a block are one vector, and each of its columns has sums
/// of its own. Two blocks are loaded before they are multiplied: in-order cores wait between one and the
/// other.
///
/// # Safety
/// As [`single`] for 4x4 blocks; `STRIDE` is the `x_stride` of `args`, or 0 for any.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn fours<const STRIDE: usize>(args: &TileArgs) {
    let x_stride = if STRIDE == 0 { args.x_stride } else { STRIDE };
    // SAFETY: every index is a channel of the chunks with three behind it (TileArgs); a block has 16 values
    // (PackedPointwise).
    let load = |index: *const u32, w: *const f32| unsafe {
        let x = args.x.wrapping_add(*index as usize * x_stride);
        let x = match x_stride {
            1 => vld1q_f32(x),
            stride => vld1q_f32([*x, *x.add(stride), *x.add(2 * stride), *x.add(3 * stride)].as_ptr()),
        };
        (x, [vld1q_f32(w), vld1q_f32(w.add(4)), vld1q_f32(w.add(8)), vld1q_f32(w.add(12))])
    };
    for row in args.block_rows.clone() {
        // SAFETY: `row` is a block row.
        let (indices, values, blocks) = unsafe { args.blocks(row, 16) };
        let mut sums = [vdupq_n_f32(0.0); 4];
        let mut add = |(x, w): (float32x4_t, [float32x4_t; 4])| {
            sums[0] = vfmaq_laneq_f32::<0>(sums[0], w[0], x);
            sums[1] = vfmaq_laneq_f32::<1>(sums[1], w[1], x);
            sums[2] = vfmaq_laneq_f32::<2>(sums[2], w[2], x);
            sums[3] = vfmaq_laneq_f32::<3>(sums[3], w[3], x);
        };
        let block = |block: usize| load(indices.wrapping_add(block), values.wrapping_add(16 * block));
        for first in (0..blocks / 2 * 2).step_by(2) {
            let two = [block(first), block(first + 1)];
            two.into_iter().for_each(&mut add);
        }
        if blocks % 2 == 1 {
            add(block(blocks - 1));
        }
        let [a, b, c, d] = sums;
        // SAFETY: `row` is a block row of four rows.
        unsafe { finish_four(args, row * 4, vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) };
    }
}

/// 4 or 8 rows and a single pixel, four columns at a time, loaded before they are multiplied.
///
/// # Safety
/// As [`single`] for blocks of one column; `STRIDE` is the `x_stride` of `args`, or 0 for any.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn columns<const R: usize, const STRIDE: usize>(args: &TileArgs) {
    let x_stride = if STRIDE == 0 { args.x_stride } else { STRIDE };
    const TOGETHER: usize = 4;
    let zero = vdupq_n_f32(0.0);
    for row in args.block_rows.clone() {
        // SAFETY: `row` is a block row.
        let (indices, values, blocks) = unsafe { args.blocks(row, R) };
        // SAFETY: every index is a channel of the chunks (TileArgs); a block has R values (PackedPointwise).
        let load = |block: usize| unsafe {
            let w = values.add(R * block);
            let w = [vld1q_f32(w), if R == 8 { vld1q_f32(w.add(4)) } else { zero }];
            (vld1q_dup_f32(args.x.wrapping_add(*indices.add(block) as usize * x_stride)), w)
        };
        let mut sums = [[zero; 2]; TOGETHER];
        for first in (0..blocks / TOGETHER * TOGETHER).step_by(TOGETHER) {
            let loaded: [_; TOGETHER] = std::array::from_fn(|i| load(first + i));
            for (sums, (x, w)) in sums.iter_mut().zip(loaded) {
                for q in 0..R / 4 {
                    sums[q] = vfmaq_f32(sums[q], w[q], x);
                }
            }
        }
        for block in blocks / TOGETHER * TOGETHER..blocks {
            let (x, w) = load(block);
            for q in 0..R / 4 {
                sums[0][q] = vfmaq_f32(sums[0][q], w[q], x);
            }
        }
        for q in 0..R / 4 {
            let [a, b, c, d] = sums.map(|sums| sums[q]);
            // SAFETY: `row` is a block row of R rows.
            unsafe { finish_four(args, row * R + 4 * q, vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) };
        }
    }
}

/// [`finish`] for four output channels from `channel` on, as far as there are any.
///
/// # Safety
/// `channel` is of a block row of `args`, and `args.pixels` is 1.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn finish_four(args: &TileArgs, channel: usize, sums: float32x4_t) {
    let mut lanes = [0f32; LANES];
    // SAFETY: there is room for four.
    unsafe { vst1q_f32(lanes.as_mut_ptr(), sums) };
    for (channel, sum) in (channel..args.weights.oc).zip(lanes) {
        // SAFETY: an output channel with one pixel.
        unsafe { finish(args, channel, sum) };
    }
}

/// The loop over blocks for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is the number of vectors of `args.pixels`.
#[target_feature(enable = "neon")]
unsafe fn rows<const R: usize, const C: usize, const V: usize>(args: &TileArgs) {
    if R * V > 20 {
        // Never a tile in the kernel table: keeps the compiler from making code for it.
        unreachable!("a tile of {V} vectors of {R} rows");
    }
    let mut at = [0; V];
    for (v, at) in at.iter_mut().enumerate() {
        *at = v * LANES;
    }
    at[V - 1] = args.pixels - LANES;
    for row in args.block_rows.clone() {
        // SAFETY: `row` is a block row.
        let mut sums: [[float32x4_t; V]; R] = unsafe { begin(args, row, &at) };
        // SAFETY: `row` is a block row.
        let (indices, mut w, blocks) = unsafe { args.blocks(row, R * C) };
        for block in 0..blocks {
            // SAFETY: every index is a channel of the chunks with C - 1 behind it, each with `args.pixels`
            // floats (TileArgs); every block has R * C values (PackedPointwise).
            unsafe {
                let mut channel = args.x.wrapping_add(*indices.add(block) as usize * args.x_stride);
                for _ in 0..C {
                    let mut x = [vdupq_n_f32(0.0); V];
                    for v in 0..V {
                        x[v] = vld1q_f32(channel.add(at[v]));
                    }
                    column(&mut sums, &x, w);
                    channel = channel.wrapping_add(args.x_stride);
                    w = w.add(R);
                }
            }
        }
        // SAFETY: `row` is a block row.
        unsafe { store(args, row, &at, &sums) };
    }
}

/// What the sums of a block row begin with.
///
/// # Safety
/// As [`rows`]; `row` is in `args.block_rows`; `at + LANES` is at most `args.pixels`.
#[inline(always)]
pub(super) unsafe fn begin<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
) -> [[float32x4_t; V]; R] {
    let channels = args.channels(row, R);
    let mut y = args.y.wrapping_add(row * R * args.stride);
    // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels,
    // with `args.pixels` floats of `y` (TileArgs).
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                if args.first {
                    sums[r][v] = vdupq_n_f32(*args.weights.bias.get_unchecked(row * R + r));
                } else if r < channels {
                    sums[r][v] = vld1q_f32(y.add(at[v]));
                }
            }
            y = y.wrapping_add(args.stride);
        }
        sums
    }
}

/// Adds one input channel to all sums: weights of four channels are loaded together and picked by lane.
///
/// # Safety
/// NEON is there; `w` is valid for R floats.
#[inline(always)]
unsafe fn column<const R: usize, const V: usize>(
    sums: &mut [[float32x4_t; V]; R],
    x: &[float32x4_t; V],
    w: *const f32,
) {
    // SAFETY: as the caller has vouched for.
    unsafe {
        for quad in (0..R / 4 * 4).step_by(4) {
            let w = vld1q_f32(w.add(quad));
            for v in 0..V {
                sums[quad][v] = vfmaq_laneq_f32::<0>(sums[quad][v], x[v], w);
                sums[quad + 1][v] = vfmaq_laneq_f32::<1>(sums[quad + 1][v], x[v], w);
                sums[quad + 2][v] = vfmaq_laneq_f32::<2>(sums[quad + 2][v], x[v], w);
                sums[quad + 3][v] = vfmaq_laneq_f32::<3>(sums[quad + 3][v], x[v], w);
            }
        }
        for r in R / 4 * 4..R {
            for v in 0..V {
                sums[r][v] = vfmaq_n_f32(sums[r][v], x[v], *w.add(r));
            }
        }
    }
}

/// Epilogue and store of one block row.
///
/// # Safety
/// As [`begin`].
#[inline(always)]
pub(super) unsafe fn store<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
    sums: &[[float32x4_t; V]; R],
) {
    let (clamps, channels) = (&args.clamps, args.channels(row, R));
    let mut y = args.y.wrapping_add(row * R * args.stride);
    let mut residual = args.residual.wrapping_add(row * R * args.stride);
    // SAFETY: `args.pixels` floats of `y`, and of `residual` if there is one, are valid (TileArgs).
    unsafe {
        if !args.last {
            for r in 0..R {
                for v in 0..V {
                    if r < channels {
                        vst1q_f32(y.add(at[v]), sums[r][v]);
                    }
                }
                y = y.wrapping_add(args.stride);
            }
            return;
        }
        // fmax and fmin return NaN if either operand is: NaN stays.
        let (lo, hi) = (vdupq_n_f32(clamps.before.0), vdupq_n_f32(clamps.before.1));
        if !clamps.residual && channels == R {
            // The usual case, without a branch between the rows.
            let clamp = |sum| vminq_f32(hi, vmaxq_f32(lo, sum));
            // Two vectors are stored in the time of one, but the last may overlap the one before.
            let pairs = if args.pixels == V * LANES { V / 2 } else { (V - 1) / 2 };
            for sums in sums {
                for v in 0..V {
                    if v % 2 == 1 && v < 2 * pairs {
                        let pair = float32x4x2_t(clamp(sums[v - 1]), clamp(sums[v]));
                        vst1q_f32_x2(y.add(at[v - 1]), pair);
                    } else if v >= 2 * pairs {
                        vst1q_f32(y.add(at[v]), clamp(sums[v]));
                    }
                }
                y = y.wrapping_add(args.stride);
            }
            return;
        }
        if !clamps.residual {
            for r in 0..R {
                for v in 0..V {
                    if r < channels {
                        let value = vminq_f32(hi, vmaxq_f32(lo, sums[r][v]));
                        vst1q_f32(y.add(at[v]), value);
                    }
                }
                y = y.wrapping_add(args.stride);
            }
            return;
        }
        let (lo1, hi1) = (vdupq_n_f32(clamps.after.0), vdupq_n_f32(clamps.after.1));
        for r in 0..R {
            for v in 0..V {
                if r < channels {
                    let value = vminq_f32(hi, vmaxq_f32(lo, sums[r][v]));
                    let value = vaddq_f32(value, vld1q_f32(residual.add(at[v])));
                    vst1q_f32(y.add(at[v]), vminq_f32(hi1, vmaxq_f32(lo1, value)));
                }
            }
            y = y.wrapping_add(args.stride);
            residual = residual.wrapping_add(args.stride);
        }
    }
}

/// Copies `V` vectors, or `len / LANES` if `V` is 0, of every channel of `columns`, of `c` channels each, to
/// rows at distances of `stride`; the first channel begins at `from`, the others at distances of `plane`.
/// Four neighbouring channels at a time: stops where there are none within `from` or no rows for them, and
/// says how many columns it has copied.
///
/// The loads for four channels come before their stores: an in-order core waits for each load that is stored
/// at once.
#[inline]
pub(super) fn copy_fours<const V: usize>(
    to: &mut [f32],
    stride: usize,
    from: &[f32],
    plane: usize,
    columns: &[u32],
    c: usize,
    len: usize,
) -> usize {
    let group = 4 / c;
    let room = (to.len() / stride.max(1) / 4).min(columns.len() / group);
    let vectors = if V == 0 { len / LANES } else { V };
    let (Some(last), true) = (from.len().checked_sub(3 * plane + vectors * LANES), stride >= vectors * LANES)
    else {
        return 0;
    };
    for (i, columns) in columns.chunks_exact(group).take(room).enumerate() {
        let at = columns[0] as usize * c * plane;
        if at > last || (columns[group - 1] - columns[0]) as usize != group - 1 {
            return i * group;
        }
        // SAFETY: the last vector read ends at most at `last + 3 * plane + vectors * LANES`, which is the end
        // of `from`; the last one written is in the row `4 * i + 3` of more than that many rows of at
        // least `vectors * LANES` floats in `to`. The standard library for aarch64 needs NEON.
        unsafe {
            let (to, from) = (to.as_mut_ptr().add(4 * i * stride), from.as_ptr().add(at));
            for v in (0..vectors / 2).map(|pair| 2 * pair * LANES) {
                let x: [float32x4x2_t; 4] = std::array::from_fn(|i| vld1q_f32_x2(from.add(i * plane + v)));
                for (i, x) in x.into_iter().enumerate() {
                    vst1q_f32_x2(to.add(i * stride + v), x);
                }
            }
            if vectors % 2 == 1 {
                let v = (vectors - 1) * LANES;
                let x: [float32x4_t; 4] = std::array::from_fn(|i| vld1q_f32(from.add(i * plane + v)));
                for (i, x) in x.into_iter().enumerate() {
                    vst1q_f32(to.add(i * stride + v), x);
                }
            }
        }
    }
    room * group
}
