//! WebAssembly simd128: vectors of 4 floats, and as many registers as the engine finds on the machine below.
//!
//! 4 channels by 8 pixels take 8 sums, 2 inputs and 1 weight, which leaves room in the 16 registers of x86.
//! Multiply and add are separate: fused multiply-add is in relaxed SIMD only. Single rows take 32 pixels,
//! pairs 16, 8x1 takes 4.
//!
//! The last vector of a tile ends at its last pixel and may overlap the one before: both then compute the
//! same values.

use super::TileArgs;
use super::scalar::gemv;
use std::arch::wasm32::*;

const LANES: usize = 4;

/// `R` output channels by `LANES` to 8 `LANES` pixels.
///
/// # Safety
/// The build has simd128; `args` keeps the invariants of [`TileArgs`].
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
/// The build has simd128; `args` keeps the invariants of [`TileArgs`]; `pixels` is 1.
#[target_feature(enable = "simd128")]
pub(super) unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe { gemv::<R, C, 2>(args, args.x_stride, |w, x, sum| sum + w * x) };
}

/// The loop over blocks for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is the number of vectors of `args.pixels`.
#[target_feature(enable = "simd128")]
unsafe fn rows<const R: usize, const C: usize, const V: usize>(args: &TileArgs) {
    if R * V > 8 {
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
        let mut sums: [[v128; V]; R] = unsafe { begin(args, row, &at) };
        // SAFETY: `row` is a block row.
        let (indices, mut w, blocks) = unsafe { args.blocks(row, R * C) };
        for block in 0..blocks {
            // SAFETY: every index is a channel of the chunks with C - 1 behind it, each with `args.pixels`
            // floats (TileArgs); every block has R * C values (PackedPointwise).
            unsafe {
                let mut channel = args.x.wrapping_add(*indices.add(block) as usize * args.x_stride);
                for _ in 0..C {
                    let mut x = [f32x4_splat(0.0); V];
                    for v in 0..V {
                        x[v] = v128_load(channel.add(at[v]).cast());
                    }
                    for r in 0..R {
                        let w = f32x4_splat(*w.add(r));
                        for v in 0..V {
                            sums[r][v] = f32x4_add(sums[r][v], f32x4_mul(w, x[v]));
                        }
                    }
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
unsafe fn begin<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
) -> [[v128; V]; R] {
    let channels = args.channels(row, R);
    let mut y = args.y.wrapping_add(row * R * args.stride);
    // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels,
    // with `args.pixels` floats of `y` (TileArgs).
    unsafe {
        let mut sums = [[f32x4_splat(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                if args.first {
                    sums[r][v] = f32x4_splat(*args.weights.bias.get_unchecked(row * R + r));
                } else if r < channels {
                    sums[r][v] = v128_load(y.add(at[v]).cast());
                }
            }
            y = y.wrapping_add(args.stride);
        }
        sums
    }
}

/// Epilogue and store of one block row.
///
/// # Safety
/// As [`begin`].
#[inline(always)]
unsafe fn store<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
    sums: &[[v128; V]; R],
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
                        v128_store(y.add(at[v]).cast(), sums[r][v]);
                    }
                }
                y = y.wrapping_add(args.stride);
            }
            return;
        }
        // f32x4_max and f32x4_min return NaN if either operand is: NaN stays.
        let (lo, hi) = (f32x4_splat(clamps.before.0), f32x4_splat(clamps.before.1));
        if !clamps.residual {
            for r in 0..R {
                for v in 0..V {
                    if r < channels {
                        let value = f32x4_min(hi, f32x4_max(lo, sums[r][v]));
                        v128_store(y.add(at[v]).cast(), value);
                    }
                }
                y = y.wrapping_add(args.stride);
            }
            return;
        }
        let (lo1, hi1) = (f32x4_splat(clamps.after.0), f32x4_splat(clamps.after.1));
        for r in 0..R {
            for v in 0..V {
                if r < channels {
                    let value = f32x4_min(hi, f32x4_max(lo, sums[r][v]));
                    let value = f32x4_add(value, v128_load(residual.add(at[v]).cast()));
                    v128_store(y.add(at[v]).cast(), f32x4_min(hi1, f32x4_max(lo1, value)));
                }
            }
            y = y.wrapping_add(args.stride);
            residual = residual.wrapping_add(args.stride);
        }
    }
}
