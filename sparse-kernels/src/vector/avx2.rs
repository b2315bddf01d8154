//! AVX2 and FMA: 16 registers of 8 floats.

use super::{Order, Vector};
use crate::work::Work;
use std::arch::x86_64::*;

/// Eight floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(pub(crate) __m256);

/// Eight clear lanes, eight set ones, eight clear ones.
static WINDOW: [i32; 24] = [0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Vector for F32x8 {
    const LANES: usize = 8;
    type Narrow = F32x8;
    type Edge = __m256i;

    #[inline(always)]
    unsafe fn on(work: impl Work) {
        #[target_feature(enable = "avx2,fma")]
        fn on(work: impl Work) {
            work.run();
        }
        // SAFETY: contract of `Vector`.
        unsafe { on(work) }
    }

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
    unsafe fn edge(column: isize, width: usize) -> __m256i {
        // Lanes from column 0 on, and those before `width`: two windows of WINDOW.
        let from = 8 + column.clamp(-8, 0);
        let to = 16 - (width as isize - column).clamp(0, 8);
        // SAFETY: contract of `Vector`; both windows are inside WINDOW.
        unsafe {
            let window = |at: isize| _mm256_loadu_si256(WINDOW.as_ptr().offset(at).cast());
            _mm256_and_si256(window(from), window(to))
        }
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: __m256i) -> Self {
        // SAFETY: contract of `Vector`; lanes outside of the mask are not read.
        F32x8(unsafe { _mm256_maskload_ps(p, edge) })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_add_ps(self.0, b.0) })
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
    unsafe fn permute(self, order: &Order) -> Self {
        // SAFETY: contract of `Vector`; an order has at least eight numbers.
        F32x8(unsafe { _mm256_permutevar8x32_ps(self.0, _mm256_loadu_si256(order.as_ptr().cast())) })
    }

    /// In the order 0 1 4 5 2 3 6 7.
    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        // SAFETY: contract of `Vector`.
        unsafe {
            (
                F32x8(_mm256_shuffle_ps::<0b10_00_10_00>(self.0, b.0)),
                F32x8(_mm256_shuffle_ps::<0b11_01_11_01>(self.0, b.0)),
            )
        }
    }

    #[inline(always)]
    unsafe fn settle(self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(self.0))) })
    }

    #[inline(always)]
    fn prefetch(p: *const f32) {
        // SAFETY: a hint, which reads nothing: any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
