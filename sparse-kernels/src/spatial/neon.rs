//! NEON: 32 registers of 4 floats.
//!
//! The tile is 4 output channels by 20 pixels: 20 sums, 5 inputs and the 4 weights of a column in one register, each
//! multiplied by its lane. A column is 20 multiply-adds, 6 vector loads and one offset.

use super::TileArgs;
use super::plan::CHUNK;
use std::arch::aarch64::*;

const LANES: usize = 4;

/// `R` output channels by up to `TILE` pixels.
///
/// # Safety
/// NEON is there; `args` keeps the invariants of [`TileArgs`].
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
#[target_feature(enable = "neon")]
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
        let mut sums: [[float32x4_t; V]; R] =
            std::array::from_fn(|r| [unsafe { vld1q_dup_f32(bias.add(r)) }; V]);
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
                let order = unsafe { vld1q_u32(order) };
                // The four bytes of every lane.
                let bytes = vmlaq_n_u32(vdupq_n_u32(0x0302_0100), order, 0x0404_0404);
                let bytes = vreinterpretq_u8_u32(bytes);
                for sums in &mut sums {
                    let sum = vqtbl1q_u8(vreinterpretq_u8_f32(sums[v]), bytes);
                    sums[v] = vreinterpretq_f32_u8(sum);
                }
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
                        value = clamp(vaddq_f32(value, vld1q_f32(residual)), args.clamps.after);
                    }
                    vst1q_f32(y.add(at), value);
                }
            }
        }
    }
}

/// NaN stays: the comparisons are false for it.
#[inline]
#[target_feature(enable = "neon")]
fn clamp(v: float32x4_t, (lo, hi): (f32, f32)) -> float32x4_t {
    let (lo, hi) = (vdupq_n_f32(lo), vdupq_n_f32(hi));
    let v = vbslq_f32(vcltq_f32(v, lo), lo, v);
    vbslq_f32(vcgtq_f32(v, hi), hi, v)
}

/// Adds `columns` columns to the sums.
///
/// # Safety
/// NEON is there; there are so many offsets, with a whole vector of the image at each offset of each base
/// (`TileArgs`), and `R` values for each (`PackedSpatial`).
#[inline]
#[target_feature(enable = "neon")]
unsafe fn accumulate<const R: usize, const V: usize>(
    sums: &mut [[float32x4_t; V]; R],
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
            let x: [float32x4_t; V] = std::array::from_fn(|v| vld1q_f32(bases[v].add(offset)));
            if R == 4 {
                let w = vld1q_f32(w);
                for v in 0..V {
                    sums[0][v] = vfmaq_laneq_f32::<0>(sums[0][v], x[v], w);
                    sums[1][v] = vfmaq_laneq_f32::<1>(sums[1][v], x[v], w);
                    sums[2][v] = vfmaq_laneq_f32::<2>(sums[2][v], x[v], w);
                    sums[3][v] = vfmaq_laneq_f32::<3>(sums[3][v], x[v], w);
                }
                continue;
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let w = vld1q_dup_f32(w.add(r));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = vfmaq_f32(*sum, w, x);
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
#[target_feature(enable = "neon")]
unsafe fn store_pixels<const R: usize, const V: usize>(
    args: &TileArgs,
    group: usize,
    sums: &[[float32x4_t; V]; R],
) {
    let channels = group * R..args.weights.oc.min(group * R + R);
    for (channel, sums) in channels.zip(sums) {
        for (vector, sum) in args.vectors.iter().zip(sums) {
            let mut lanes = [0f32; LANES];
            // SAFETY: `channel` is an output channel of the group; `lanes` is a whole vector.
            unsafe {
                vst1q_f32(lanes.as_mut_ptr(), *sum);
                args.store_pixels(channel, vector, &lanes);
            }
        }
    }
}

/// Copies every other float. The last vector is moved back to end with the row.
///
/// # Safety
/// NEON is there; `to` has `len` floats, at least `CHUNK`, and `from` twice as many.
#[target_feature(enable = "neon")]
pub(super) unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
    const { assert!(CHUNK >= LANES) }
    let mut at = 0;
    loop {
        // SAFETY: `at + LANES` is at most `len`.
        unsafe { vst1q_f32(to.add(at), vld2q_f32(from.add(2 * at)).0) };
        if at + LANES == len {
            return;
        }
        at = (at + LANES).min(len - LANES);
    }
}
