//! aarch64 Advanced SIMD: 32 registers of 4 floats.
//!
//! 4 channels by 20 pixels take 20 sums, 5 inputs and 1 register with the four weights of a column, which the multiply-add
//! picks by lane: 26 registers, and 6 that the compiler may use to load ahead. Per 4x4 block that is 80 multiply-adds for
//! 20 loads of pixels and 4 of weights. Single rows and pairs take 32 pixels, 8x1 takes 8.
//!
//! The last vector of a tile ends at its last pixel and may overlap the one before: both then compute the same values.

use super::TileArgs;
use super::scalar::gemv;
use std::arch::aarch64::*;

const LANES: usize = 4;

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
        match R * C {
            16 => gemv::<R, C, 2>(args, f32::mul_add),
            _ => gemv::<R, C, 4>(args, f32::mul_add),
        }
    }
}

/// The loop over blocks for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is the number of vectors of `args.pixels`.
#[target_feature(enable = "neon")]
unsafe fn rows<const R: usize, const C: usize, const V: usize>(args: &TileArgs) {
    if R * V > 20 {
        return; // never a tile in the kernel table: keeps the compiler from making code for it
    }
    let mut at = [0; V];
    for (v, at) in at.iter_mut().enumerate() {
        *at = v * LANES;
    }
    at[V - 1] = args.pixels - LANES;
    for row in args.block_rows.clone() {
        let channels = args.channels(row, R);
        let mut sums = [[vdupq_n_f32(0.0); V]; R];
        for r in 0..R {
            // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels, with
            // `args.pixels` floats of `y` (TileArgs).
            unsafe {
                if args.first {
                    sums[r] = [vdupq_n_f32(*args.weights.bias.get_unchecked(row * R + r)); V];
                } else if r < channels {
                    let y = args.y.wrapping_add((row * R + r) * args.stride);
                    for v in 0..V {
                        sums[r][v] = vld1q_f32(y.add(at[v]));
                    }
                }
            }
        }
        // SAFETY: `row` is a block row.
        let (indices, mut w, blocks) = unsafe { args.blocks(row, R * C) };
        for block in 0..blocks {
            // SAFETY: every index is a channel of the chunk with C - 1 behind it, each with `args.pixels` floats
            // (TileArgs); every block has R * C values (PackedPointwise).
            unsafe {
                let mut channel = args.x.add(*indices.add(block) as usize * args.x_stride);
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
        // Only constant positions of `sums`: anything else would keep them in memory.
        for r in 0..R {
            if r < channels {
                // SAFETY: `row * R + r` is an output channel.
                unsafe { store(args, row * R + r, &at, &sums[r]) };
            }
        }
    }
}

/// Adds one input channel to all sums: weights of four channels are loaded together and picked by lane.
///
/// # Safety
/// NEON is there; `w` is valid for R floats.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn column<const R: usize, const V: usize>(
    sums: &mut [[float32x4_t; V]; R],
    x: &[float32x4_t; V],
    w: *const f32,
) {
    for quad in 0..R / 4 {
        // SAFETY: R is at least 4 * (quad + 1).
        let w = unsafe { vld1q_f32(w.add(4 * quad)) };
        for v in 0..V {
            sums[4 * quad][v] = vfmaq_laneq_f32::<0>(sums[4 * quad][v], x[v], w);
            sums[4 * quad + 1][v] = vfmaq_laneq_f32::<1>(sums[4 * quad + 1][v], x[v], w);
            sums[4 * quad + 2][v] = vfmaq_laneq_f32::<2>(sums[4 * quad + 2][v], x[v], w);
            sums[4 * quad + 3][v] = vfmaq_laneq_f32::<3>(sums[4 * quad + 3][v], x[v], w);
        }
    }
    for r in R / 4 * 4..R {
        // SAFETY: r is below R.
        let w = unsafe { *w.add(r) };
        for v in 0..V {
            sums[r][v] = vfmaq_n_f32(sums[r][v], x[v], w);
        }
    }
}

/// Epilogue and store of one output channel.
///
/// # Safety
/// As [`tile`]; `channel` is an output channel of `args.block_rows`; `at + LANES` is at most `args.pixels`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store<const V: usize>(args: &TileArgs, channel: usize, at: &[usize; V], sums: &[float32x4_t; V]) {
    let clamps = &args.clamps;
    let (lo0, hi0) = (vdupq_n_f32(clamps.before.0), vdupq_n_f32(clamps.before.1));
    let (lo1, hi1) = (vdupq_n_f32(clamps.after.0), vdupq_n_f32(clamps.after.1));
    let y = args.y.wrapping_add(channel * args.stride);
    let residual = args.residual.wrapping_add(channel * args.stride);
    for v in 0..V {
        let mut value = sums[v];
        // SAFETY: `args.pixels` floats are valid (TileArgs).
        unsafe {
            if args.last {
                // fmax and fmin return NaN if either operand is: NaN stays.
                value = vminq_f32(hi0, vmaxq_f32(lo0, value));
                if clamps.residual {
                    value = vaddq_f32(value, vld1q_f32(residual.add(at[v])));
                    value = vminq_f32(hi1, vmaxq_f32(lo1, value));
                }
            }
            vst1q_f32(y.add(at[v]), value);
        }
    }
}
