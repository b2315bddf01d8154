//! AVX-512F: 32 registers of 16 floats.
//!
//! As AVX2, with a tile of 4 x 80 pixels: 20 sums, 5 inputs and 1 weight, which leaves the compiler six registers.
//! Four vectors are a whole 7x7 map.

use super::TileArgs;
use std::arch::x86_64::*;

pub(super) use super::avx2::evens;

const LANES: usize = 16;

/// `R` output channels by up to `TILE` pixels.
///
/// # Safety
/// AVX-512F is there; `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const TILE: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller; there are at most TILE / LANES vectors.
    unsafe {
        match args.vectors.len() {
            1 => rows::<R, TILE, 1>(args),
            2 => rows::<R, TILE, 2>(args),
            3 => rows::<R, TILE, 3>(args),
            4 => rows::<R, TILE, 4>(args),
            5 => rows::<R, TILE, 5>(args),
            6 => rows::<R, TILE, 6>(args),
            7 => rows::<R, TILE, 7>(args),
            _ => rows::<R, TILE, 8>(args),
        }
    }
}

/// The loop over columns for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is `args.vectors.len()`.
#[target_feature(enable = "avx512f")]
unsafe fn rows<const R: usize, const TILE: usize, const V: usize>(args: &TileArgs) {
    if V * LANES > TILE || args.vectors.len() != V {
        return; // not a tile of this kernel: keeps the compiler from making code for it
    }
    let bases = std::array::from_fn(|v| args.image.as_ptr().wrapping_add(args.vectors[v].base as usize));
    let pixels: [usize; V] = std::array::from_fn(|v| args.vectors[v].pixel as usize);
    let (room, plain) = args.room(LANES);
    for group in args.groups.clone() {
        // SAFETY: `group` is one of the tile's; `bias` has R floats for each.
        let (offsets, values, columns, bias) = unsafe {
            let (offsets, values, columns) = args.columns(group, R);
            (offsets, values, columns, args.weights.bias.as_ptr().add(group * R))
        };
        let y = args.y.wrapping_add(group * R * args.stride);
        for r in 0..R {
            for pixel in pixels {
                // The lines of the output arrive while the sums are computed.
                let at = y.wrapping_add(r * args.stride + pixel);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
            }
        }
        // SAFETY: as above.
        let mut sums: [[__m512; V]; R] =
            std::array::from_fn(|r| [unsafe { _mm512_set1_ps(*bias.add(r)) }; V]);
        // SAFETY: offsets, values and bases are those of the group and the tile.
        unsafe { accumulate(&mut sums, &bases, offsets, values, columns) };
        if !room || group * R + R > args.weights.oc {
            // A copy, so that the sums themselves can stay in registers.
            let sums = sums;
            // SAFETY: passed on from the caller.
            unsafe { store_pixels(args, group, &sums) };
            continue;
        }
        if !plain {
            for v in 0..V {
                let order = args.orders[args.vectors[v].order as usize].as_ptr();
                // SAFETY: an order has LANES entries.
                let order = unsafe { _mm512_loadu_si512(order.cast()) };
                sums.iter_mut().for_each(|sums| sums[v] = _mm512_permutexvar_ps(order, sums[v]));
            }
        }
        for r in 0..R {
            for v in 0..V {
                let at = r * args.stride + pixels[v];
                // SAFETY: there is room for a whole vector in each of the R output channels of the group (TileArgs).
                unsafe {
                    let mut value = clamp(sums[r][v], args.clamps.before);
                    if args.clamps.residual {
                        let residual = args.residual.add(group * R * args.stride + at);
                        value = clamp(_mm512_add_ps(value, _mm512_loadu_ps(residual)), args.clamps.after);
                    }
                    _mm512_storeu_ps(y.add(at), value);
                }
            }
        }
    }
}

/// NaN stays: max and min return their second operand if either is NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn clamp(v: __m512, (lo, hi): (f32, f32)) -> __m512 {
    _mm512_min_ps(_mm512_set1_ps(hi), _mm512_max_ps(_mm512_set1_ps(lo), v))
}

/// Adds `columns` columns to the sums.
///
/// # Safety
/// AVX-512F is there; there are so many offsets, with a whole vector of the image at each offset of each base
/// (`TileArgs`), and `R` values for each (`PackedSpatial`).
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn accumulate<const R: usize, const V: usize>(
    sums: &mut [[__m512; V]; R],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    for column in 0..columns {
        // SAFETY: passed on from the caller.
        unsafe {
            let offset = *offsets.add(column) as usize;
            let w = values.add(column * R);
            let x: [__m512; V] = std::array::from_fn(|v| _mm512_loadu_ps(bases[v].add(offset)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let w = _mm512_set1_ps(*w.add(r));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm512_fmadd_ps(w, x, *sum);
                }
            }
        }
    }
}

/// Epilogue and store of a group, pixel by pixel.
///
/// # Safety
/// As [`rows`]; `group` is one of `args.groups`.
#[inline(never)]
#[target_feature(enable = "avx512f")]
unsafe fn store_pixels<const R: usize, const V: usize>(
    args: &TileArgs,
    group: usize,
    sums: &[[__m512; V]; R],
) {
    let channels = group * R..args.weights.oc.min(group * R + R);
    for (channel, sums) in channels.zip(sums) {
        for (vector, sum) in args.vectors.iter().zip(sums) {
            let mut lanes = [0f32; LANES];
            // SAFETY: `channel` is an output channel of the group; `lanes` is a whole vector.
            unsafe {
                _mm512_storeu_ps(lanes.as_mut_ptr(), *sum);
                args.store_pixels(channel, vector, &lanes);
            }
        }
    }
}
