//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! The tile is `R` output channels by `V` vectors of pixels. For every input channel of a block, `V` vectors of
//! pixels are loaded once and each of the `R` weights is broadcast from memory and multiplied into its row of
//! sums. 4 x 24 pixels take 12 sums, 3 inputs and 1 weight: all 16 registers. Per 4x4 block that is 48 multiply-adds, 28
//! loads and one index, so two multiply-adds a cycle leave room for every load. Single rows (`R == 1`) read
//! the pixels as a memory operand of the multiply-add: 8 sums are enough to cover its latency.
//!
//! The last vector of a tile ends at its last pixel and may overlap the one before: both then compute the same values.

use super::TileArgs;
use super::scalar::gemv;
use std::arch::x86_64::*;

const LANES: usize = 8;

/// `R` output channels by `LANES` to 8 `LANES` pixels.
///
/// # Safety
/// AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`].
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
/// AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`]; `pixels` is 1.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        match R * C {
            16 => gemv::<R, C, 2>(args, f32::mul_add),
            _ => gemv::<R, C, 8>(args, f32::mul_add),
        }
    }
}

/// The loop over blocks for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is the number of vectors of `args.pixels`.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const R: usize, const C: usize, const V: usize>(args: &TileArgs) {
    if R * V > 12 {
        return; // never a tile in the kernel table: keeps the compiler from making code for it
    }
    let mut at = [0; V];
    for (v, at) in at.iter_mut().enumerate() {
        *at = v * LANES;
    }
    at[V - 1] = args.pixels - LANES;
    for row in args.block_rows.clone() {
        let channels = args.channels(row, R);
        let mut sums = [[_mm256_setzero_ps(); V]; R];
        for r in 0..R {
            // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels, with
            // `args.pixels` floats of `y` (TileArgs).
            unsafe {
                if args.first() {
                    sums[r] = [_mm256_broadcast_ss(args.weights.bias.get_unchecked(row * R + r)); V];
                } else if r < channels {
                    let y = args.y.wrapping_add((row * R + r) * args.stride);
                    for v in 0..V {
                        sums[r][v] = _mm256_loadu_ps(y.add(at[v]));
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
                    let mut x = [_mm256_setzero_ps(); V];
                    for v in 0..V {
                        x[v] = _mm256_loadu_ps(channel.add(at[v]));
                    }
                    for r in 0..R {
                        let w = _mm256_broadcast_ss(&*w.add(r));
                        for v in 0..V {
                            sums[r][v] = _mm256_fmadd_ps(w, x[v], sums[r][v]);
                        }
                    }
                    channel = channel.wrapping_add(args.x_stride);
                    w = w.add(R);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(channels) {
            // SAFETY: `row * R + r` is an output channel.
            unsafe { store(args, row * R + r, &at, sums) };
        }
    }
}

/// Epilogue and store of one output channel.
///
/// # Safety
/// As [`tile`]; `channel` is an output channel of `args.block_rows`; `at + LANES` is at most `args.pixels`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const V: usize>(args: &TileArgs, channel: usize, at: &[usize; V], sums: &[__m256; V]) {
    let clamps = &args.clamps;
    let (lo0, hi0) = (_mm256_set1_ps(clamps.before.0), _mm256_set1_ps(clamps.before.1));
    let (lo1, hi1) = (_mm256_set1_ps(clamps.after.0), _mm256_set1_ps(clamps.after.1));
    let y = args.y.wrapping_add(channel * args.stride);
    let residual = args.residual.wrapping_add(channel * args.stride);
    for v in 0..V {
        let mut value = sums[v];
        // SAFETY: `args.pixels` floats are valid (TileArgs).
        unsafe {
            if args.last() {
                // max and min return their second operand if either is NaN: NaN stays.
                value = _mm256_min_ps(hi0, _mm256_max_ps(lo0, value));
                if clamps.residual {
                    value = _mm256_add_ps(value, _mm256_loadu_ps(residual.add(at[v])));
                    value = _mm256_min_ps(hi1, _mm256_max_ps(lo1, value));
                }
            }
            _mm256_storeu_ps(y.add(at[v]), value);
        }
    }
}
