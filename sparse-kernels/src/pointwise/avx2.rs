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
use std::arch::{asm, x86_64::*};

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
            let y = args.y.wrapping_add((row * R + r) * args.stride);
            for v in 0..V {
                // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels,
                // with `args.pixels` floats of `y` (TileArgs).
                unsafe {
                    if args.first {
                        sums[r][v] = _mm256_broadcast_ss(args.weights.bias.get_unchecked(row * R + r));
                    } else if r < channels {
                        sums[r][v] = _mm256_loadu_ps(y.add(at[v]));
                    }
                }
            }
            // The output is often not in cache: ask for it before the sums need it.
            _mm_prefetch::<_MM_HINT_T0>(y.cast());
            _mm_prefetch::<_MM_HINT_T0>(y.wrapping_add(args.pixels - 1).cast());
        }
        // SAFETY: `row` is a block row.
        let (indices, mut w, blocks) = unsafe { args.blocks(row, R * C) };
        for block in 0..blocks {
            // SAFETY: every index is a channel of the chunk with C - 1 behind it, each with `args.pixels` floats
            // (TileArgs); every block has R * C values (PackedPointwise).
            unsafe {
                let mut channel = args.x.add(*indices.add(block) as usize * args.x_stride);
                for _ in 0..C {
                    column(&mut sums, channel, &at, w);
                    channel = channel.wrapping_add(args.x_stride);
                    w = w.add(R);
                }
            }
        }
        // SAFETY: as this function; `row` is a block row.
        unsafe { store(args, row, &at, &sums) };
    }
}

/// Adds one input channel to all sums.
///
/// # Safety
/// AVX2 and FMA are there; `x` is valid for LANES floats at every position of `at`, `w` for R floats.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn column<const R: usize, const V: usize>(
    sums: &mut [[__m256; V]; R],
    x: *const f32,
    at: &[usize; V],
    w: *const f32,
) {
    if R == 4 && V == 3 && !cfg!(miri) {
        // All 16 registers: the compiler would broadcast two weights at a time and move sums to the stack.
        // SAFETY: reads what the caller has vouched for.
        unsafe {
            asm!(
                "vmovups {x0}, [{x}]",
                "vmovups {x1}, [{x} + 32]",
                "vmovups {x2}, [{last}]",
                "vbroadcastss {b}, [{w}]",
                "vfmadd231ps {s00}, {x0}, {b}",
                "vfmadd231ps {s01}, {x1}, {b}",
                "vfmadd231ps {s02}, {x2}, {b}",
                "vbroadcastss {b}, [{w} + 4]",
                "vfmadd231ps {s10}, {x0}, {b}",
                "vfmadd231ps {s11}, {x1}, {b}",
                "vfmadd231ps {s12}, {x2}, {b}",
                "vbroadcastss {b}, [{w} + 8]",
                "vfmadd231ps {s20}, {x0}, {b}",
                "vfmadd231ps {s21}, {x1}, {b}",
                "vfmadd231ps {s22}, {x2}, {b}",
                "vbroadcastss {b}, [{w} + 12]",
                "vfmadd231ps {s30}, {x0}, {b}",
                "vfmadd231ps {s31}, {x1}, {b}",
                "vfmadd231ps {s32}, {x2}, {b}",
                x = in(reg) x,
                last = in(reg) x.add(at[V - 1]),
                w = in(reg) w,
                x0 = out(ymm_reg) _,
                x1 = out(ymm_reg) _,
                x2 = out(ymm_reg) _,
                b = out(ymm_reg) _,
                s00 = inout(ymm_reg) sums[0][0],
                s01 = inout(ymm_reg) sums[0][1],
                s02 = inout(ymm_reg) sums[0][2],
                s10 = inout(ymm_reg) sums[1][0],
                s11 = inout(ymm_reg) sums[1][1],
                s12 = inout(ymm_reg) sums[1][2],
                s20 = inout(ymm_reg) sums[2][0],
                s21 = inout(ymm_reg) sums[2][1],
                s22 = inout(ymm_reg) sums[2][2],
                s30 = inout(ymm_reg) sums[3][0],
                s31 = inout(ymm_reg) sums[3][1],
                s32 = inout(ymm_reg) sums[3][2],
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        return;
    }
    // SAFETY: as the caller has vouched for.
    unsafe {
        if R == 2 {
            let w = [_mm256_broadcast_ss(&*w), _mm256_broadcast_ss(&*w.add(1))];
            for v in 0..V {
                let x = _mm256_loadu_ps(x.add(at[v]));
                sums[0][v] = _mm256_fmadd_ps(w[0], x, sums[0][v]);
                sums[1][v] = _mm256_fmadd_ps(w[1], x, sums[1][v]);
            }
            return;
        }
        for r in 0..R {
            let w = _mm256_broadcast_ss(&*w.add(r));
            for v in 0..V {
                sums[r][v] = _mm256_fmadd_ps(w, _mm256_loadu_ps(x.add(at[v])), sums[r][v]);
            }
        }
    }
}

/// Epilogue and store of one block row.
///
/// `sums` is only indexed by constants: anything else would keep it in memory throughout.
///
/// # Safety
/// As [`tile`]; `row` is in `args.block_rows`; `at + LANES` is at most `args.pixels`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
    sums: &[[__m256; V]; R],
) {
    let (clamps, channels) = (&args.clamps, args.channels(row, R));
    let mut y = args.y.wrapping_add(row * R * args.stride);
    if !args.last {
        for r in 0..R {
            for v in 0..V {
                if r < channels {
                    // SAFETY: `args.pixels` floats are valid (TileArgs).
                    unsafe { _mm256_storeu_ps(y.add(at[v]), sums[r][v]) };
                }
            }
            y = y.wrapping_add(args.stride);
        }
        return;
    }
    // max and min return their second operand if either is NaN: NaN stays.
    let (lo, hi) = (_mm256_set1_ps(clamps.before.0), _mm256_set1_ps(clamps.before.1));
    if !clamps.residual {
        for r in 0..R {
            for v in 0..V {
                if r < channels {
                    let value = _mm256_min_ps(hi, _mm256_max_ps(lo, sums[r][v]));
                    // SAFETY: as above.
                    unsafe { _mm256_storeu_ps(y.add(at[v]), value) };
                }
            }
            y = y.wrapping_add(args.stride);
        }
        return;
    }
    let (lo1, hi1) = (_mm256_set1_ps(clamps.after.0), _mm256_set1_ps(clamps.after.1));
    let mut residual = args.residual.wrapping_add(row * R * args.stride);
    for r in 0..R {
        for v in 0..V {
            if r < channels {
                let value = _mm256_min_ps(hi, _mm256_max_ps(lo, sums[r][v]));
                // SAFETY: as above, for `residual` too.
                unsafe {
                    let value = _mm256_add_ps(value, _mm256_loadu_ps(residual.add(at[v])));
                    _mm256_storeu_ps(y.add(at[v]), _mm256_min_ps(hi1, _mm256_max_ps(lo1, value)));
                }
            }
        }
        y = y.wrapping_add(args.stride);
        residual = residual.wrapping_add(args.stride);
    }
}
