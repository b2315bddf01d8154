//! aarch64 Advanced SIMD, for quads of bytes.
//!
//! Instructions multiply signed bytes by signed ones: the top bits of activations are flipped in front of them, which
//! takes 128 from each, and what sums begin with makes up for it ([`Vector::SIGNED`]). Loops that are scheduled for a
//! class of cores find them flipped.

use super::{F32x4, Order, Vector};
use crate::quads::Bounds;
use crate::table::Element;
use crate::target::Core;
use crate::work::Work;
use std::arch::aarch64::*;
use std::arch::asm;

/// Four lanes of four bytes; with `DOT`, for cores that have the dot product of bytes, and of these for the class with the
/// number `CORE` of [`Core`].
#[derive(Clone, Copy)]
pub(crate) struct I8x16<const DOT: bool, const CORE: u8 = { Core::Any as u8 }>(pub(crate) float32x4_t);

/// What is the same for floats.
type Floats = F32x4;

fn floats(v: float32x4_t) -> Floats {
    F32x4(v)
}

impl<const DOT: bool, const CORE: u8> Vector for I8x16<DOT, CORE> {
    const LANES: usize = 4;
    const ELEMENT: Element = Element::Int8;
    const SIGNED: bool = true;
    const FREE_MASKS: bool = false;
    const STORES_TWO: bool = true;
    type Narrow = Self;
    type Edge = <Floats as Vector>::Edge;

    #[inline(always)]
    unsafe fn on(work: impl Work) {
        #[target_feature(enable = "neon")]
        fn on(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "neon,dotprod")]
        fn on_dot(work: impl Work) {
            work.run();
        }
        // SAFETY: contract of `Vector`.
        unsafe { if DOT { on_dot(work) } else { on(work) } }
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        // SAFETY: contract of `Vector`.
        I8x16(unsafe { Floats::splat(v).0 })
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        I8x16(unsafe { Floats::load(p).0 })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { floats(self.0).store(p) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`.
        unsafe { floats(self.0).store_part(p, n) }
    }

    #[inline(always)]
    unsafe fn edge(column: isize, width: usize) -> Self::Edge {
        // SAFETY: contract of `Vector`.
        unsafe { Floats::edge(column, width) }
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: Self::Edge) -> Self {
        // SAFETY: contract of `Vector`.
        I8x16(unsafe { Floats::load_edge(p, edge).0 })
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: contract of `Vector`.
        I8x16(unsafe {
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(self.0), vreinterpretq_s32_f32(b.0)))
        })
    }

    unsafe fn mul_add(self, _: Self, _: Self) -> Self {
        unreachable!("for floats")
    }

    /// The instruction where there is one; otherwise products of 16 bits, added in pairs to 32.
    #[inline(always)]
    unsafe fn dot(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let w = vreinterpretq_s8_f32(self.0);
            let x = vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_f32(b.0), vdupq_n_u8(0x80)));
            let mut sum = vreinterpretq_s32_f32(c.0);
            if DOT {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                    sum = inout(vreg) sum,
                    w = in(vreg) w,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
            } else {
                let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
                let high = vpaddlq_s16(vmull_high_s8(w, x));
                sum = vaddq_s32(sum, vpaddq_s32(low, high));
            }
            I8x16(vreinterpretq_f32_s32(sum))
        }
    }

    #[inline(always)]
    unsafe fn scaled(self, scale: Self) -> Self {
        // SAFETY: contract of `Vector`.
        I8x16(unsafe {
            let product = vmulq_f32(vcvtq_f32_s32(vreinterpretq_s32_f32(self.0)), scale.0);
            vreinterpretq_f32_s32(vcvtnq_s32_f32(product))
        })
    }

    /// Halves, then bytes of each vector, saturated.
    #[inline(always)]
    unsafe fn side_by_side(vectors: [Self; 4], bounds: &Bounds<Self>) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i: usize| vqmovn_s32(vreinterpretq_s32_f32(vectors[i].0)));
            let zero = vreinterpretq_s16_f32(bounds.zero.0);
            let ab = vqmovun_s16(vqaddq_s16(vcombine_s16(a, b), zero));
            let cd = vqmovun_s16(vqaddq_s16(vcombine_s16(c, d), zero));
            let [lo, hi] = [vreinterpretq_u8_f32(bounds.lo.0), vreinterpretq_u8_f32(bounds.hi.0)];
            I8x16(vreinterpretq_f32_u8(vminq_u8(vmaxq_u8(vcombine_u8(ab, cd), lo), hi)))
        }
    }

    #[inline(always)]
    unsafe fn transposed(self) -> Self {
        const ORDER: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
        // SAFETY: contract of `Vector`; the array has 16 bytes.
        unsafe {
            let bytes = vqtbl1q_u8(vreinterpretq_u8_f32(self.0), vld1q_u8(ORDER.as_ptr()));
            I8x16(vreinterpretq_f32_u8(bytes))
        }
    }

    #[inline(always)]
    unsafe fn halves(self) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn repeated(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        unsafe { Self::load(p) }
    }

    unsafe fn clamp(self, _: Self, _: Self) -> Self {
        unreachable!("for floats")
    }

    #[inline(always)]
    unsafe fn permute(self, order: &Order) -> Self {
        // SAFETY: contract of `Vector`.
        I8x16(unsafe { floats(self.0).permute(order).0 })
    }

    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        // SAFETY: contract of `Vector`.
        let (even, odd) = unsafe { floats(self.0).deinterleave(floats(b.0)) };
        (I8x16(even.0), I8x16(odd.0))
    }
}
