//! AVX2 and FMA: 16 registers of 8 floats.

use super::body::{self, Vector, entries};
use super::{CopyArgs, RowsArgs};
use std::arch::x86_64::*;

entries!(F32x8, "avx2,fma");

/// Eight floats.
#[derive(Clone, Copy)]
pub(super) struct F32x8(__m256);

/// Eight set lanes, eight clear ones: a window of it is the mask of the first `n` lanes.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The mask of the first `n < 8` lanes.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    debug_assert!(n < 8);
    // SAFETY: 8 values from 8 - n on are inside MASK.
    unsafe { _mm256_loadu_si256(MASK.as_ptr().add(8 - n).cast()) }
}

// Safety of every block below: the caller of a trait function vouches for AVX2, FMA and the pointers.
impl Vector for F32x8 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_set1_ps(v) })
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_loadu_ps(p) })
    }

    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        // SAFETY: contract of `Vector`; lanes outside of the mask are not read.
        F32x8(unsafe { _mm256_maskload_ps(p, mask(n)) })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }

    /// Two overlapping halves: a masked store takes twelve cycles on Zen.
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`.
        unsafe {
            let low = _mm256_castps256_ps128(self.0);
            if n >= 4 {
                let lane = _mm256_set1_epi32(n as i32 - 4);
                let index = _mm256_add_epi32(lane, _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3));
                let end = _mm256_permutevar8x32_ps(self.0, index);
                _mm_storeu_ps(p, low);
                _mm_storeu_ps(p.add(n - 4), _mm256_castps256_ps128(end));
            } else {
                if n >= 2 {
                    _mm_storel_epi64(p.cast(), _mm_castps_si128(low));
                }
                if n == 3 {
                    _mm_store_ss(p.add(2), _mm_movehl_ps(low, low));
                } else if n == 1 {
                    _mm_store_ss(p, low);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }

    /// max and min return their second operand if either is NaN: NaN stays.
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_min_ps(hi.0, _mm256_max_ps(lo.0, self.0)) })
    }

    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        // SAFETY: contract of `Vector`.
        unsafe {
            let low = _mm256_permute2f128_ps::<0x20>(self.0, b.0);
            let high = _mm256_permute2f128_ps::<0x31>(self.0, b.0);
            (
                F32x8(_mm256_shuffle_ps::<0b10_00_10_00>(low, high)),
                F32x8(_mm256_shuffle_ps::<0b11_01_11_01>(low, high)),
            )
        }
    }
}
