//! AVX-512F: 32 registers of 16 floats, masks. Maps of up to 8 columns take the AVX2 loops, which waste fewer
//! lanes.

use super::body::{Vector, inside};
use super::{RowsArgs, avx2};
use std::arch::x86_64::*;

/// The loops for maps of more than 8 columns.
mod wide {
    use super::super::body::{self, entries};
    use super::*;

    entries!(F32x16, "avx512f,avx2,fma");
}

/// Columns up to which half a register is enough.
const NARROW: usize = 8;

/// Rows of a kernel whose size, stride and taps are constants.
///
/// # Safety
/// AVX-512F, AVX2 and FMA are there; `args` keeps the invariants of [`RowsArgs`] for this kernel and stride.
pub(super) unsafe fn rows<const KH: usize, const KW: usize, const S: usize, const MASK: u32>(
    args: &RowsArgs,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        if args.y_width <= NARROW {
            avx2::rows::<KH, KW, S, MASK>(args);
        } else {
            wide::rows::<KH, KW, S, MASK>(args);
        }
    }
}

pub(super) use wide::any;

/// Sixteen floats.
#[derive(Clone, Copy)]
pub(super) struct F32x16(__m512);

/// The mask of the first `n < 16` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    (1 << n) - 1
}

/// The clamp by AVX2 halves, for Miri, which has no 512-bit minimum and maximum.
///
/// # Safety
/// As [`Vector::clamp`].
#[cfg(miri)]
unsafe fn clamp_halves(v: F32x16, lo: F32x16, hi: F32x16) -> F32x16 {
    // SAFETY: plain data of the same size; the caller vouches for the instruction set.
    unsafe {
        let [v, lo, hi] = [v, lo, hi].map(|v| std::mem::transmute::<__m512, [avx2::F32x8; 2]>(v.0));
        F32x16(std::mem::transmute::<[avx2::F32x8; 2], __m512>([0, 1].map(|i| v[i].clamp(lo[i], hi[i]))))
    }
}

impl Vector for F32x16 {
    const LANES: usize = 16;
    type Edge = __mmask16;

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x16(unsafe { _mm512_set1_ps(v) })
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x16(unsafe { _mm512_loadu_ps(p) })
    }

    #[inline(always)]
    unsafe fn edge(column: isize, width: usize) -> __mmask16 {
        let lanes = inside(column, width, 16);
        ((1u32 << lanes.end) - 1) as u16 & !((1u32 << lanes.start) - 1) as u16
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: __mmask16) -> Self {
        // SAFETY: contract of `Vector`; lanes outside of the mask are not read.
        F32x16(unsafe { _mm512_maskz_loadu_ps(edge, p) })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`; lanes outside of the mask are not written.
        unsafe { _mm512_mask_storeu_ps(p, mask(n), self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    /// max and min return their second operand if either is NaN: NaN stays.
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            #[cfg(miri)]
            return clamp_halves(self, lo, hi);
            #[cfg(not(miri))]
            F32x16(_mm512_min_ps(hi.0, _mm512_max_ps(lo.0, self.0)))
        }
    }

    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        // SAFETY: contract of `Vector`.
        unsafe {
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(self.0, b.0);
            let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(self.0, b.0);
            (
                F32x16(_mm512_shuffle_ps::<0b10_00_10_00>(low, high)),
                F32x16(_mm512_shuffle_ps::<0b11_01_11_01>(low, high)),
            )
        }
    }

    #[inline(always)]
    unsafe fn settle(self) -> Self {
        self
    }

    /// 4 to 12 % faster on Zen 4 where the input comes from the third-level cache.
    #[inline(always)]
    fn prefetch(p: *const f32) {
        // SAFETY: a hint, which reads nothing: any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
