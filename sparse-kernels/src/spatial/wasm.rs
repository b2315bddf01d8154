//! WebAssembly simd128: vectors of 4 floats, without a fused multiply-add.
//!
//! The tile is 4 output channels by 8 pixels: 8 sums, 2 inputs, 1 weight and 1 product fit the 16 registers that an
//! engine has on x86-64.

use super::TileArgs;
use super::plan::CHUNK;
use std::arch::wasm32::*;

const LANES: usize = 4;

/// `R` output channels by up to `TILE` pixels.
///
/// # Safety
/// simd128 is there; `args` keeps the invariants of [`TileArgs`].
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
#[target_feature(enable = "simd128")]
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
        // SAFETY: as above.
        let mut sums: [[v128; V]; R] = std::array::from_fn(|r| [unsafe { f32x4_splat(*bias.add(r)) }; V]);
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
                // SAFETY: an order has at least LANES entries.
                let order = unsafe { v128_load(order.cast()) };
                // The four bytes of every lane.
                let bytes = i32x4_mul(order, u32x4_splat(0x0404_0404));
                let bytes = i32x4_add(bytes, u32x4_splat(0x0302_0100));
                sums.iter_mut().for_each(|sums| sums[v] = i8x16_swizzle(sums[v], bytes));
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
                        value = clamp(f32x4_add(value, load(residual)), args.clamps.after);
                    }
                    v128_store(y.add(at).cast(), value);
                }
            }
        }
    }
}

/// NaN stays: the second operand is returned unless it is smaller (greater) than the first.
#[inline]
#[target_feature(enable = "simd128")]
fn clamp(v: v128, (lo, hi): (f32, f32)) -> v128 {
    f32x4_pmin(f32x4_pmax(v, f32x4_splat(lo)), f32x4_splat(hi))
}

/// Loads a vector.
///
/// # Safety
/// There are LANES floats.
#[inline]
#[target_feature(enable = "simd128")]
unsafe fn load(x: *const f32) -> v128 {
    // SAFETY: passed on from the caller; loads need no alignment.
    unsafe { v128_load(x.cast()) }
}

/// Adds `columns` columns to the sums.
///
/// # Safety
/// simd128 is there; there are so many offsets, with a whole vector of the image at each offset of each base
/// (`TileArgs`), and `R` values for each (`PackedSpatial`).
#[inline]
#[target_feature(enable = "simd128")]
unsafe fn accumulate<const R: usize, const V: usize>(
    sums: &mut [[v128; V]; R],
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
            let x: [v128; V] = std::array::from_fn(|v| load(bases[v].add(offset)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let w = f32x4_splat(*w.add(r));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = f32x4_add(*sum, f32x4_mul(w, x));
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
#[target_feature(enable = "simd128")]
unsafe fn store_pixels<const R: usize, const V: usize>(args: &TileArgs, group: usize, sums: &[[v128; V]; R]) {
    let channels = group * R..args.weights.oc.min(group * R + R);
    for (channel, sums) in channels.zip(sums) {
        for (vector, sum) in args.vectors.iter().zip(sums) {
            let mut lanes = [0f32; LANES];
            // SAFETY: `channel` is an output channel of the group; `lanes` is a whole vector.
            unsafe {
                v128_store(lanes.as_mut_ptr().cast(), *sum);
                args.store_pixels(channel, vector, &lanes);
            }
        }
    }
}

/// Copies every other float. The last vector is moved back to end with the row.
///
/// # Safety
/// simd128 is there; `to` has `len` floats, at least `CHUNK`, and `from` twice as many.
#[target_feature(enable = "simd128")]
pub(super) unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
    const { assert!(CHUNK >= LANES) }
    let mut at = 0;
    loop {
        // SAFETY: `at + LANES` is at most `len`.
        unsafe {
            let (a, b) = (load(from.add(2 * at)), load(from.add(2 * at + LANES)));
            v128_store(to.add(at).cast(), i32x4_shuffle::<0, 2, 4, 6>(a, b));
        }
        if at + LANES == len {
            return;
        }
        at = (at + LANES).min(len - LANES);
    }
}
