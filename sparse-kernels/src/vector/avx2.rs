//! AVX2 and FMA: 16 registers of 8 floats.

use super::{Order, Vector};
use crate::quads::Bounds;
use crate::table::Element;
use crate::work::Work;
use std::arch::x86_64::*;

/// Instructions for the dot product of quads: bytes of even and of odd place apart, as AVX2 has it.
pub(crate) const APART: u8 = 0;

/// `vpdpbusd` of AVX-VNNI, which machines without AVX-512 have.
pub(crate) const VEX: u8 = 1;

/// `vpdpbusd` of AVX-512, which wants other bits for the same.
pub(crate) const EVEX: u8 = 2;

/// Eight floats; inputs and weights may be lanes of another type, the [`Element`] with the number `ELEMENT`: of pairs
/// only what machines with AVX-512 use for what is too narrow for sixteen. `DOT` says how quads are multiplied; with [`EVEX`]
/// they are of such machines, too.
#[derive(Clone, Copy)]
pub(crate) struct F32x8<const ELEMENT: u8 = { Element::F32 as u8 }, const DOT: u8 = APART>(pub(crate) __m256);

/// Eight clear lanes, eight set ones, eight clear ones.
static WINDOW: [i32; 24] = [0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl<const ELEMENT: u8, const DOT: u8> Vector for F32x8<ELEMENT, DOT> {
    const LANES: usize = 8;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    type Narrow = F32x8;
    type Edge = __m256i;

    #[inline(always)]
    unsafe fn on(work: impl Work) {
        #[target_feature(enable = "avx2,fma")]
        fn on(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
        fn on_pairs(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avxvnni,avx2,fma")]
        fn on_vex_quads(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        fn on_evex_quads(work: impl Work) {
            work.run();
        }
        // SAFETY: contract of `Vector`.
        unsafe {
            match Self::ELEMENT {
                Element::Int8 if DOT == VEX => on_vex_quads(work),
                Element::Int8 if DOT == EVEX => on_evex_quads(work),
                Element::F32 | Element::Int8 => on(work),
                _ => on_pairs(work),
            }
        }
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
        unsafe {
            match Self::ELEMENT {
                Element::Int8 => {
                    let [a, b] = [self, b].map(|v| _mm256_castps_si256(v.0));
                    F32x8(_mm256_castsi256_ps(_mm256_add_epi32(a, b)))
                }
                _ => F32x8(_mm256_add_ps(self.0, b.0)),
            }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn widen(self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let second = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff_0000u32 as i32));
            [_mm256_slli_epi32::<16>(bits), second].map(|bits| F32x8(_mm256_castsi256_ps(bits)))
        }
    }

    /// The instruction that rounds leaves the first vector in the lower half of its result.
    #[inline(always)]
    unsafe fn pair(first: Self, second: Self) -> Self {
        const ORDER: [u16; 16] = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];
        // SAFETY: contract of `Vector`; an order has 16 numbers.
        unsafe {
            let apart = _mm256_cvtne2ps_pbh(second.0, first.0);
            let order = _mm256_loadu_si256(ORDER.as_ptr().cast());
            let pairs = _mm256_permutexvar_epi16(order, std::mem::transmute::<__m256bh, __m256i>(apart));
            F32x8(_mm256_castsi256_ps(pairs))
        }
    }

    #[inline(always)]
    unsafe fn dot(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`; a vector of pairs is as many bits as one of floats.
        unsafe {
            match Self::ELEMENT {
                Element::F32 => self.mul_add(b, c),
                Element::Bf16 | Element::F16 => F32x8(_mm256_dpbf16_ps(
                    c.0,
                    std::mem::transmute::<__m256, __m256bh>(self.0),
                    std::mem::transmute::<__m256, __m256bh>(b.0),
                )),
                Element::Int8 => {
                    let [w, x, sum] = [self, b, c].map(|v| _mm256_castps_si256(v.0));
                    F32x8(_mm256_castsi256_ps(match DOT {
                        VEX => _mm256_dpbusd_avx_epi32(sum, x, w),
                        EVEX => _mm256_dpbusd_epi32(sum, x, w),
                        _ => dot(sum, x, w),
                    }))
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn scaled(self, scale: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let product = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_castps_si256(self.0)), scale.0);
            F32x8(_mm256_castsi256_ps(_mm256_cvtps_epi32(product)))
        }
    }

    /// Instructions that pack two vectors saturate.
    #[inline(always)]
    unsafe fn side_by_side(vectors: [Self; 4], bounds: &Bounds<Self>) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let [a, b, c, d] = vectors.map(|v| _mm256_castps_si256(v.0));
            let [zero, lo, hi] = [bounds.zero, bounds.lo, bounds.hi].map(|v| _mm256_castps_si256(v.0));
            let ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero);
            let cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero);
            let bytes = _mm256_packus_epi16(ab, cd);
            F32x8(_mm256_castsi256_ps(_mm256_min_epu8(_mm256_max_epu8(bytes, lo), hi)))
        }
    }

    #[inline(always)]
    unsafe fn transposed(self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
            ));
            F32x8(_mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_castps_si256(self.0), order)))
        }
    }

    #[inline(always)]
    unsafe fn halves(self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe { self.settle() }
    }

    #[inline(always)]
    unsafe fn repeated(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x8(unsafe { _mm256_broadcast_ps(&_mm_loadu_ps(p)) })
    }

    /// A shuffle that swaps the halves of every lane, and leaves one of them as it was in the other vector.
    #[inline(always)]
    unsafe fn regroup(self, next: Self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let (a, b) = (_mm256_castps_si256(self.0), _mm256_castps_si256(next.0));
            let swap = _mm_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
            let swap = _mm256_broadcastsi128_si256(swap);
            let first = _mm256_mask_shuffle_epi8(a, 0xcccc_cccc, b, swap);
            let second = _mm256_mask_shuffle_epi8(b, 0x3333_3333, a, swap);
            [first, second].map(|bits| F32x8(_mm256_castsi256_ps(bits)))
        }
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

/// `sum` and the products of unsigned bytes `x` and signed bytes `w`. (An instruction that multiplies bytes adds two
/// products in 16 bits, which do not always hold the sum: so bytes of even and of odd place become 16 bits first.)
#[inline(always)]
unsafe fn dot(sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
    // SAFETY: AVX2 is there, as the caller needs it.
    unsafe {
        let even_x = _mm256_and_si256(x, _mm256_set1_epi16(0xff));
        let even_w = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(w));
        let even = _mm256_madd_epi16(even_x, even_w);
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(x), _mm256_srai_epi16::<8>(w));
        _mm256_add_epi32(sum, _mm256_add_epi32(even, odd))
    }
}
