//! WebAssembly simd128: vectors of 4 floats, and as many registers as the engine finds on the machine below.
//!
//! 4 channels by 8 pixels take 8 sums, 2 inputs and 1 weight, which leaves room in the 16 registers of x86. Multiply and add
//! are separate: fused multiply-add is in relaxed SIMD only. Single rows take 32 pixels, pairs 16, 8x1 takes 4.
//!
//! The last vector of a tile ends at its last pixel and may overlap the one before: both then compute the same values.

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
    unsafe { gemv::<R, C, 2>(args, |w, x, sum| sum + w * x) };
}

/// The loop over blocks for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is the number of vectors of `args.pixels`.
#[target_feature(enable = "simd128")]
unsafe fn rows<const R: usize, const C: usize, const V: usize>(args: &TileArgs) {
    if R * V > 8 {
        return; // never a tile in the kernel table: keeps the compiler from making code for it
    }
    let mut at = [0; V];
    for (v, at) in at.iter_mut().enumerate() {
        *at = v * LANES;
    }
    at[V - 1] = args.pixels - LANES;
    for row in args.block_rows.clone() {
        let channels = args.channels(row, R);
        let mut sums = [[f32x4_splat(0.0); V]; R];
        for r in 0..R {
            // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels, with
            // `args.pixels` floats of `y` (TileArgs).
            unsafe {
                if args.first {
                    sums[r] = [f32x4_splat(*args.weights.bias.get_unchecked(row * R + r)); V];
                } else if r < channels {
                    let y = args.y.wrapping_add((row * R + r) * args.stride);
                    for v in 0..V {
                        sums[r][v] = v128_load(y.add(at[v]).cast());
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
        // Only constant positions of `sums`: anything else would keep them in memory.
        for r in 0..R {
            if r < channels {
                // SAFETY: `row * R + r` is an output channel.
                unsafe { store(args, row * R + r, &at, &sums[r]) };
            }
        }
    }
}

/// Epilogue and store of one output channel.
///
/// # Safety
/// As [`tile`]; `channel` is an output channel of `args.block_rows`; `at + LANES` is at most `args.pixels`.
#[inline]
#[target_feature(enable = "simd128")]
unsafe fn store<const V: usize>(args: &TileArgs, channel: usize, at: &[usize; V], sums: &[v128; V]) {
    let clamps = &args.clamps;
    let (lo0, hi0) = (f32x4_splat(clamps.before.0), f32x4_splat(clamps.before.1));
    let (lo1, hi1) = (f32x4_splat(clamps.after.0), f32x4_splat(clamps.after.1));
    let y = args.y.wrapping_add(channel * args.stride);
    let residual = args.residual.wrapping_add(channel * args.stride);
    for v in 0..V {
        let mut value = sums[v];
        // SAFETY: `args.pixels` floats are valid (TileArgs).
        unsafe {
            if args.last {
                // f32x4_max and f32x4_min return NaN if either operand is: NaN stays.
                value = f32x4_min(hi0, f32x4_max(lo0, value));
                if clamps.residual {
                    value = f32x4_add(value, v128_load(residual.add(at[v]).cast()));
                    value = f32x4_min(hi1, f32x4_max(lo1, value));
                }
            }
            v128_store(y.add(at[v]).cast(), value);
        }
    }
}
