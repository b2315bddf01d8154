//! AVX-512F: 32 registers of 16 floats, masks.

use super::{F32x8, Order, Vector, inside};
use crate::quads::Bounds;
use crate::table::Element;
use crate::work::Work;
use std::arch::x86_64::*;

/// Sixteen floats; inputs and weights may be lanes of another type, the [`Element`] with the number `ELEMENT`.
#[derive(Clone, Copy)]
pub(crate) struct F32x16<const ELEMENT: u8 = { Element::F32 as u8 }>(pub(crate) __m512);

/// What the interpreter Miri does not know, lane by lane.
#[cfg(miri)]
impl<const ELEMENT: u8> F32x16<ELEMENT> {
    fn by_lane(self, lane: impl Fn(&[f32; 16], usize) -> f32) -> Self {
        // SAFETY: a vector is sixteen floats.
        unsafe {
            let lanes: [f32; 16] = std::mem::transmute(self.0);
            F32x16(std::mem::transmute::<[f32; 16], __m512>(std::array::from_fn(|i| lane(&lanes, i))))
        }
    }
}

impl<const ELEMENT: u8> Vector for F32x16<ELEMENT> {
    const LANES: usize = 16;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    type Narrow = F32x8;
    type Edge = __mmask16;

    #[inline(always)]
    unsafe fn on(work: impl Work) {
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn on(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
        fn on_pairs(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
        fn on_quads(work: impl Work) {
            work.run();
        }
        // SAFETY: contract of `Vector`.
        unsafe {
            match Self::ELEMENT {
                Element::F32 => on(work),
                Element::Int8 => on_quads(work),
                _ => on_pairs(work),
            }
        }
    }

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
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`; lanes outside of the mask are not written.
        unsafe { _mm512_mask_storeu_ps(p, (1 << n) - 1, self.0) }
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
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            match Self::ELEMENT {
                Element::Int8 => {
                    let [a, b] = [self, b].map(|v| _mm512_castps_si512(v.0));
                    F32x16(_mm512_castsi512_ps(_mm512_add_epi32(a, b)))
                }
                _ => F32x16(_mm512_add_ps(self.0, b.0)),
            }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    /// The products of pairs are exact; denormals count as zero.
    #[inline(always)]
    unsafe fn dot(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`; a vector of pairs is as many bits as one of floats.
        unsafe {
            match Self::ELEMENT {
                Element::F32 => self.mul_add(b, c),
                Element::Bf16 | Element::F16 => F32x16(_mm512_dpbf16_ps(
                    c.0,
                    std::mem::transmute::<__m512, __m512bh>(self.0),
                    std::mem::transmute::<__m512, __m512bh>(b.0),
                )),
                Element::Int8 => {
                    let [w, x, sum] = [self, b, c].map(|v| _mm512_castps_si512(v.0));
                    F32x16(_mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, x, w)))
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn scaled(self, scale: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(self.0)), scale.0);
            F32x16(_mm512_castsi512_ps(_mm512_cvtps_epi32(product)))
        }
    }

    /// Instructions that pack two vectors saturate.
    #[inline(always)]
    unsafe fn side_by_side(vectors: [Self; 4], bounds: &Bounds<Self>) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let [a, b, c, d] = vectors.map(|v| _mm512_castps_si512(v.0));
            let [zero, lo, hi] = [bounds.zero, bounds.lo, bounds.hi].map(|v| _mm512_castps_si512(v.0));
            let ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero);
            let cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero);
            let bytes = _mm512_packus_epi16(ab, cd);
            F32x16(_mm512_castsi512_ps(_mm512_min_epu8(_mm512_max_epu8(bytes, lo), hi)))
        }
    }

    #[inline(always)]
    unsafe fn transposed(self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let order =
                _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
            F32x16(_mm512_castsi512_ps(_mm512_shuffle_epi8(_mm512_castps_si512(self.0), order)))
        }
    }

    #[inline(always)]
    unsafe fn halves(self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
            F32x16(_mm512_castpd_ps(_mm512_permutexvar_pd(order, _mm512_castps_pd(self.0))))
        }
    }

    #[inline(always)]
    unsafe fn repeated(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x16(unsafe { _mm512_broadcast_f32x4(_mm_loadu_ps(p)) })
    }

    #[inline(always)]
    unsafe fn widen(self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let second = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000u32 as i32));
            [_mm512_slli_epi32::<16>(bits), second].map(|bits| F32x16(_mm512_castsi512_ps(bits)))
        }
    }

    /// The instruction that rounds leaves the first vector in the lower half of its result.
    #[inline(always)]
    unsafe fn pair(first: Self, second: Self) -> Self {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut lane = 0;
            while lane < 16 {
                (order[2 * lane], order[2 * lane + 1]) = (lane as u16, lane as u16 + 16);
                lane += 1;
            }
            order
        };
        // SAFETY: contract of `Vector`; an order has 32 numbers.
        unsafe {
            let apart = _mm512_cvtne2ps_pbh(second.0, first.0);
            let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
            let pairs = _mm512_permutexvar_epi16(order, std::mem::transmute::<__m512bh, __m512i>(apart));
            F32x16(_mm512_castsi512_ps(pairs))
        }
    }

    /// A shuffle that swaps the halves of every lane, and leaves one of them as it was in the other vector.
    #[inline(always)]
    unsafe fn regroup(self, next: Self) -> [Self; 2] {
        // SAFETY: contract of `Vector`.
        unsafe {
            let (a, b) = (_mm512_castps_si512(self.0), _mm512_castps_si512(next.0));
            let swap =
                _mm512_broadcast_i32x4(_mm_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
            let first = _mm512_mask_shuffle_epi8(a, 0xcccc_cccc_cccc_cccc, b, swap);
            let second = _mm512_mask_shuffle_epi8(b, 0x3333_3333_3333_3333, a, swap);
            [first, second].map(|bits| F32x16(_mm512_castsi512_ps(bits)))
        }
    }

    /// max and min return their second operand if either is NaN: NaN stays.
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        #[cfg(miri)]
        return self.by_lane(|v, i| {
            // SAFETY: a vector is sixteen floats.
            let [lo, hi] = [lo, hi].map(|v| unsafe { std::mem::transmute::<__m512, [f32; 16]>(v.0)[i] });
            let v = if v[i] < lo { lo } else { v[i] };
            if v > hi { hi } else { v }
        });
        #[cfg(not(miri))]
        // SAFETY: contract of `Vector`.
        F32x16(unsafe { _mm512_min_ps(hi.0, _mm512_max_ps(lo.0, self.0)) })
    }

    #[inline(always)]
    unsafe fn permute(self, order: &Order) -> Self {
        #[cfg(miri)]
        return self.by_lane(|v, i| v[order[i] as usize]);
        #[cfg(not(miri))]
        // SAFETY: contract of `Vector`; an order has sixteen numbers.
        F32x16(unsafe { _mm512_permutexvar_ps(_mm512_loadu_si512(order.as_ptr().cast()), self.0) })
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
    fn prefetch(p: *const f32) {
        // SAFETY: a hint, which reads nothing: any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
