//! NEON: 32 registers of 4 floats.
//!
//! 4 x 20 pixels take 20 sums, 5 inputs and the 4 weights of a column in one register, each multiplied by its
//! lane. A column is 20 multiply-adds, 6 vector loads and one offset.

use super::body::tiles;
use super::plan::CHUNK;
use super::{Order, TileArgs};
use std::arch::aarch64::*;

pub(super) const LANES: usize = 4;
pub(super) type Floats = float32x4_t;

tiles!("neon", store_run);

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn splat(v: f32) -> Floats {
    vdupq_n_f32(v)
}

/// Loads a vector.
///
/// # Safety
/// LANES floats are there.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn load(from: *const f32) -> Floats {
    // SAFETY: passed on from the caller.
    unsafe { vld1q_f32(from) }
}

/// Stores a vector.
///
/// # Safety
/// There is room for LANES floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn store(to: *mut f32, v: Floats) {
    // SAFETY: passed on from the caller.
    unsafe { vst1q_f32(to, v) }
}

/// Clamps the sums of neighbouring pixels and stores them, two vectors at a time: that takes as long as one.
///
/// # Safety
/// There is room for `V` vectors at `y` and every `stride` floats from there.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn store_run<const R: usize, const V: usize>(
    mut y: *mut f32,
    stride: usize,
    bounds: (f32, f32),
    sums: &[[Floats; V]; R],
) {
    for sums in sums {
        for v in (0..V).step_by(2) {
            // SAFETY: vectors `v`, and `v + 1` if there is one, are in a row.
            unsafe {
                let to = y.add(v * LANES);
                match sums.get(v + 1) {
                    Some(next) => {
                        vst1q_f32_x2(to, float32x4x2_t(clamp(sums[v], bounds), clamp(*next, bounds)))
                    }
                    None => store(to, clamp(sums[v], bounds)),
                }
            }
        }
        y = y.wrapping_add(stride);
    }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn add(a: Floats, b: Floats) -> Floats {
    vaddq_f32(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn multiply_add(w: Floats, x: Floats, sum: Floats) -> Floats {
    vfmaq_f32(sum, w, x)
}

/// fmax and fmin return NaN if either operand is: NaN stays.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn clamp(v: Floats, (lo, hi): (f32, f32)) -> Floats {
    vminq_f32(splat(hi), vmaxq_f32(splat(lo), v))
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn permute(v: Floats, order: &Order) -> Floats {
    // SAFETY: an order has at least LANES entries.
    let order = unsafe { vld1q_u32(order.as_ptr()) };
    // The four bytes of every lane.
    let bytes = vmlaq_n_u32(vdupq_n_u32(0x0302_0100), order, 0x0404_0404);
    vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), vreinterpretq_u8_u32(bytes)))
}

/// There is no stable way to say it.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn prefetch(_: *const f32) {}

/// Adds `columns` columns to the sums.
///
/// # Safety
/// As [`plain`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn accumulate<const R: usize, const V: usize>(
    sums: &mut [[Floats; V]; R],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    if R != 4 {
        // SAFETY: passed on from the caller.
        return unsafe { plain(sums, bases, offsets, values, columns) };
    }
    for column in 0..columns {
        // SAFETY: passed on from the caller.
        unsafe {
            let offset = *offsets.add(column) as usize;
            let w = load(values.add(column * R));
            for v in 0..V {
                let x = load(bases[v].byte_add(offset));
                sums[0][v] = vfmaq_laneq_f32::<0>(sums[0][v], x, w);
                sums[1][v] = vfmaq_laneq_f32::<1>(sums[1][v], x, w);
                sums[2][v] = vfmaq_laneq_f32::<2>(sums[2][v], x, w);
                sums[3][v] = vfmaq_laneq_f32::<3>(sums[3][v], x, w);
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
