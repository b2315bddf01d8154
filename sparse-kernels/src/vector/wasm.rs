//! WebAssembly simd128: vectors of 4 floats, and as many registers as the engine finds on the machine below.
//! Multiply and add are separate, unless the build has relaxed SIMD, too: its multiply-add is fused where the
//! machine can.

use super::{BYTES, Order, Vector, into_row};
use crate::quads::Bounds;
use crate::table::Element;
use crate::work::Work;
use std::arch::wasm32::*;

/// Four floats; or four lanes of another type, the [`Element`] with the number `ELEMENT`.
#[derive(Clone, Copy)]
pub(crate) struct F32x4<const ELEMENT: u8 = { Element::F32 as u8 }>(pub(crate) v128);

/// `a * b + c`.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(crate) fn multiply_add(a: v128, b: v128, c: v128) -> v128 {
    f32x4_add(f32x4_mul(a, b), c)
}

/// `a * b + c`.
#[cfg(target_feature = "relaxed-simd")]
#[inline(always)]
pub(crate) fn multiply_add(a: v128, b: v128, c: v128) -> v128 {
    f32x4_relaxed_madd(a, b, c)
}

/// A vector of a row, taken where all of it is inside the row, and which of its bytes go where.
#[derive(Clone, Copy)]
pub(crate) struct Edge {
    /// Floats from the column of the load to that vector.
    shift: isize,
    /// Numbers above 15 give zeros.
    index: v128,
}

impl<const ELEMENT: u8> Vector for F32x4<ELEMENT> {
    const LANES: usize = 4;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    const FREE_MASKS: bool = false;
    type Narrow = F32x4;
    type Edge = Edge;

    /// All code of a build with simd128 may use it.
    #[inline(never)]
    unsafe fn on(work: impl Work) {
        work.run();
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        F32x4(f32x4_splat(v))
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: contract of `Vector`.
        F32x4(unsafe { v128_load(p.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: contract of `Vector`.
        unsafe { v128_store(p.cast(), self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        // SAFETY: contract of `Vector`: lanes 0..n are stored, `n` is 1, 2 or 3.
        unsafe {
            if n >= 2 {
                v128_store64_lane::<0>(self.0, p.cast());
            } else {
                v128_store32_lane::<0>(self.0, p.cast());
            }
            if n == 3 {
                v128_store32_lane::<2>(self.0, p.add(2).cast());
            }
        }
    }

    #[inline(always)]
    unsafe fn edge(column: isize, width: usize) -> Edge {
        let (shift, bytes) = into_row(column, width);
        // SAFETY: contract of `Vector`; the array has 16 bytes.
        Edge { shift, index: u8x16_sub(unsafe { v128_load(BYTES.as_ptr().cast()) }, u8x16_splat(bytes)) }
    }

    #[inline(always)]
    unsafe fn load_edge(p: *const f32, edge: Edge) -> Self {
        // SAFETY: contract of `Vector`: all of the vector at `shift` is inside the row.
        unsafe { F32x4(u8x16_swizzle(v128_load(p.wrapping_offset(edge.shift).cast()), edge.index)) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        match Self::ELEMENT {
            Element::Int8 => F32x4(i32x4_add(self.0, b.0)),
            _ => F32x4(f32x4_add(self.0, b.0)),
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        F32x4(multiply_add(self.0, b.0, c.0))
    }

    /// Of quads, bytes of even and of odd place become 16 bits first.
    #[inline(always)]
    unsafe fn dot(self, b: Self, c: Self) -> Self {
        if Self::ELEMENT != Element::Int8 {
            // SAFETY: contract of `Vector`.
            return unsafe { self.mul_add(b, c) };
        }
        let even = i32x4_dot_i16x8(i16x8_shr(i16x8_shl(self.0, 8), 8), v128_and(b.0, i16x8_splat(0xff)));
        let odd = i32x4_dot_i16x8(i16x8_shr(self.0, 8), u16x8_shr(b.0, 8));
        F32x4(i32x4_add(c.0, i32x4_add(even, odd)))
    }

    #[inline(always)]
    unsafe fn scaled(self, scale: Self) -> Self {
        let product = f32x4_mul(f32x4_convert_i32x4(self.0), scale.0);
        F32x4(i32x4_trunc_sat_f32x4(f32x4_nearest(product)))
    }

    /// Instructions that narrow two vectors saturate.
    #[inline(always)]
    unsafe fn side_by_side(vectors: [Self; 4], bounds: &Bounds<Self>) -> Self {
        let [a, b, c, d] = vectors;
        let ab = i16x8_add_sat(i16x8_narrow_i32x4(a.0, b.0), bounds.zero.0);
        let cd = i16x8_add_sat(i16x8_narrow_i32x4(c.0, d.0), bounds.zero.0);
        let bytes = u8x16_narrow_i16x8(ab, cd);
        F32x4(u8x16_min(u8x16_max(bytes, bounds.lo.0), bounds.hi.0))
    }

    #[inline(always)]
    unsafe fn transposed(self) -> Self {
        F32x4(i8x16_shuffle::<0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15>(self.0, self.0))
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

    /// The pseudo-maximum and -minimum give their first operand if either is NaN: NaN stays.
    #[inline(always)]
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self {
        F32x4(f32x4_pmin(f32x4_pmax(self.0, lo.0), hi.0))
    }

    #[inline(always)]
    unsafe fn permute(self, order: &Order) -> Self {
        // SAFETY: contract of `Vector`; an order has at least four numbers.
        let order = unsafe { v128_load(order.as_ptr().cast()) };
        // The four bytes of every lane.
        let bytes = i32x4_add(i32x4_mul(order, u32x4_splat(0x0404_0404)), u32x4_splat(0x0302_0100));
        F32x4(i8x16_swizzle(self.0, bytes))
    }

    #[inline(always)]
    unsafe fn deinterleave(self, b: Self) -> (Self, Self) {
        (F32x4(i32x4_shuffle::<0, 2, 4, 6>(self.0, b.0)), F32x4(i32x4_shuffle::<1, 3, 5, 7>(self.0, b.0)))
    }
}
