//! aarch64 Advanced SIMD: 32 registers of 4 floats.

use super::body::{self, Vector, entries};
use super::{CopyArgs, RowsArgs};
use std::arch::aarch64::*;

entries!(F32x4, "neon");

/// Four floats.
#[derive(Clone, Copy)]
pub(super) struct F32x4(float32x4_t);

impl Vector for F32x4 {
    const LANES: usize = 4;

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
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        let mut lanes = [0f32; 4];
        // SAFETY: contract of `Vector`; `n` is below 4.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            F32x4(vld1q_f32(lanes.as_ptr()))
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
}
