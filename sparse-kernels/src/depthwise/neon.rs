//! aarch64 Advanced SIMD: 32 registers of 4 floats.
//!
//! A load at every column of taps is what wide cores want, which start as many loads as multiply-adds. On
//! cores that work in order a load of 128 bits keeps multiply-adds waiting for two or three cycles; moving
//! the columns together from two vectors takes one: [`in_order`] loads every vector of a row once. With
//! stride 2 that is less work on any core.
//!
//! Four taps share a register, of which a multiply-add picks one: three hold those of 3x3, seven those of
//! 5x5. What is left is room for 12 sums, four vectors wide, and their inputs.

use super::RowsArgs;
use super::body::{self, BYTES, HELD, Vector, entries, into_row};
use std::arch::aarch64::*;

entries!(F32x4<false>, "neon");

/// The loops for cores that work in order, where these are others.
pub(super) mod in_order {
    use super::{F32x4, RowsArgs, body};

    pub(in crate::depthwise) use super::any;

    /// Rows of a kernel whose size, stride and taps are constants.
    ///
    /// # Safety
    /// As [`super::rows`].
    #[target_feature(enable = "neon")]
    pub(in crate::depthwise) unsafe fn rows<
        const KH: usize,
        const KW: usize,
        const S: usize,
        const MASK: u32,
    >(
        args: &RowsArgs,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            if S == 1 {
                body::rows::<F32x4<true>, KH, KW, S, MASK>(args);
            } else {
                super::rows::<KH, KW, S, MASK>(args);
            }
        }
    }
}

/// Four floats; for cores that work in order or not.
#[derive(Clone, Copy)]
pub(super) struct F32x4<const IN_ORDER: bool>(float32x4_t);

/// A vector of a row, taken where all of it is inside the row, and which of its bytes go where.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// Floats from the column of the load to that vector.
    shift: isize,
    /// Numbers above 15 give zeros.
    index: uint8x16_t,
}

impl<const IN_ORDER: bool> Vector for F32x4<IN_ORDER> {
    const LANES: usize = 4;
    const SIDE_BY_SIDE: usize = 4;
    const TAPS: usize = 4;
    const SHIFTS: [bool; 2] = [IN_ORDER, true];
    const FREE_MASKS: bool = false;
    type Edge = Edge;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { vdupq_n_f32(v) })
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { vld1q_f32(p) })
    }

    #[inline(always)]
    unsafe fn edge(column: isize, width: usize) -> Edge {
        let (shift, bytes) = into_row(column, width);
        // SAFETY: contract of `Vector`; the array has 16 bytes.
        Edge { shift, index: unsafe { vsubq_u8(vld1q_u8(BYTES.as_ptr()), vdupq_n_u8(bytes)) } }
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: Edge) -> Self {
        // SAFETY: contract of `Vector`: all of the vector at `shift` is inside the row.
        unsafe {
            let v = vreinterpretq_u8_f32(vld1q_f32(p.wrapping_offset(edge.shift)));
            F32x4(vreinterpretq_f32_u8(vqtbl1q_u8(v, edge.index)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { vst1q_f32(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`: lanes 0..n are stored, `n` is 1, 2 or 3.
        unsafe {
            if n >= 2 {
                vst1_f32(p, vget_low_f32(self.0));
            } else {
                vst1q_lane_f32::<0>(p, self.0);
            }
            if n == 3 {
                vst1q_lane_f32::<2>(p.add(2), self.0);
            }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }

    /// Loads of whole registers, the last of which ends with the taps: from single ones the compiler would
    /// make a register each.
    #[inline(always)]
    unsafe fn taps(p: *const f32, n: usize) -> [Self; HELD] {
        // SAFETY: contract of `Vector`: there are at least four, or none.
        unsafe {
            let mut taps = [Self::splat(0.0); HELD];
            let mut i = 0;
            while 4 * i < n {
                taps[i] = Self::load(p.add(if 4 * i + 4 > n { n - 4 } else { 4 * i }));
                i += 1;
            }
            taps
        }
    }

    #[inline(always)]
    unsafe fn mul_add_tap(self, taps: &[Self; HELD], n: usize, tap: usize, c: Self) -> Self {
        let (sum, v, taps) = (c.0, self.0, taps[tap / 4].0);
        let lane = if tap / 4 * 4 + 4 > n { tap + 4 - n } else { tap % 4 };
        // SAFETY: contract of `Vector`.
        F32x4(unsafe {
            match lane {
                0 => vfmaq_laneq_f32::<0>(sum, v, taps),
                1 => vfmaq_laneq_f32::<1>(sum, v, taps),
                2 => vfmaq_laneq_f32::<2>(sum, v, taps),
                _ => vfmaq_laneq_f32::<3>(sum, v, taps),
            }
        })
    }

    /// vmax and vmin give NaN if either operand is NaN.
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { vminq_f32(hi.0, vmaxq_f32(lo.0, self.0)) })
    }

    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        // SAFETY: contract of `Vector`.
        unsafe { (F32x4(vuzp1q_f32(self.0, b.0)), F32x4(vuzp2q_f32(self.0, b.0))) }
    }

    #[inline(always)]
    unsafe fn shift(self, next: Self, lanes: usize) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe {
            match lanes {
                0 => self.0,
                1 => vextq_f32::<1>(self.0, next.0),
                2 => vextq_f32::<2>(self.0, next.0),
                3 => vextq_f32::<3>(self.0, next.0),
                _ => next.0,
            }
        })
    }

    /// Wide cores start moves where they start multiply-adds, and have loads to spare.
    #[inline(always)]
    fn again(v: &Self) -> Self {
        // SAFETY: a reference is valid for reads.
        if IN_ORDER { *v } else { unsafe { std::ptr::read_volatile(v) } }
    }

    #[inline(always)]
    unsafe fn settle(self) -> Self {
        self
    }
}
