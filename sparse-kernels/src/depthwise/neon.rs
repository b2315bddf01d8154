//! aarch64 Advanced SIMD: 32 registers of 4 floats.

use super::RowsArgs;
use super::body::{self, Vector, entries, inside};
use std::arch::aarch64::*;

entries!(F32x4, "neon");

/// Four floats.
#[derive(Clone, Copy)]
pub(super) struct F32x4(float32x4_t);

/// A vector of a row, taken where all of it is inside the row, and which of its bytes go where.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// Floats from the column of the load to that vector.
    shift: isize,
    /// Numbers above 15 give zeros.
    index: uint8x16_t,
    /// Of a row narrower than a vector: the lanes inside of it.
    narrow: Option<(usize, usize)>,
}

impl Vector for F32x4 {
    const LANES: usize = 4;
    const SIDE_BY_SIDE: usize = 4;
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
        let lanes = inside(column, width, 4);
        let shift = column.clamp(0, width.saturating_sub(4) as isize) - column;
        let mut index = [u8::MAX; 16];
        for lane in lanes.clone() {
            for byte in 0..4 {
                index[4 * lane + byte] = (4 * (lane as isize - shift)) as u8 + byte as u8;
            }
        }
        let narrow = (width < 4).then_some((lanes.start, lanes.end));
        // SAFETY: contract of `Vector`; the array has 16 bytes.
        Edge { shift, index: unsafe { vld1q_u8(index.as_ptr()) }, narrow }
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: Edge) -> Self {
        // SAFETY: contract of `Vector`: all of the vector at `shift`, or the lanes of `narrow`, are inside the row.
        unsafe {
            if let Some((from, to)) = edge.narrow {
                let mut lanes = [0f32; 4];
                for (lane, v) in lanes.iter_mut().enumerate().take(to).skip(from) {
                    *v = *p.wrapping_add(lane);
                }
                return F32x4(vld1q_f32(lanes.as_ptr()));
            }
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
    unsafe fn settle(self) -> Self {
        self
    }
}
