//! WebAssembly simd128: one vector of sums at a time.
//!
//! Nine taps, three sums and the inputs of a row are the 15 registers that V8 has on x86-64, which leaves none to ask with: steps are
//! counted ahead, and sums move from place to place, which costs no instruction that is executed. (Unrolled until every sum is
//! back in its place, or two vectors wide, taps would be loaded again and again.) Rows are read from one pointer that the compiler
//! knows nothing of: it would make an index and a base of it, and engines an address of every load. There is no prefetch: with
//! stride 2, of which a row is read fast, a load of what the next tile begins with stands for one.

use super::body::Depthwise;
use crate::table::Element;
use crate::vector::{F32x4, Vector};
use std::arch::wasm32::*;

type Quads = F32x4<{ Element::Int8 as u8 }>;

impl Depthwise for F32x4 {
    const COUNTS: bool = true;
    type Values = F32x4;
    type Few = F32x4;
    type Strided = F32x4;

    #[inline(always)]
    unsafe fn shift(self, next: Self, lanes: usize) -> Self {
        debug_assert_eq!(lanes, 1);
        F32x4(i32x4_shuffle::<1, 2, 3, 4>(self.0, next.0))
    }

    #[inline(always)]
    unsafe fn load_one(p: *const f32) -> Self {
        // SAFETY: contract of `Depthwise`.
        F32x4(unsafe { v128_load32_zero(p.cast()) })
    }

    /// An offset that cannot wrap around is a part of the instruction.
    #[inline(always)]
    unsafe fn load_at(row: *const f32, floats: usize) -> Self {
        // SAFETY: passed on from the caller; both are in the same row.
        unsafe { Self::load(row.add(floats)) }
    }
}

impl Depthwise for Quads {
    type Values = Quads;
    type Few = Quads;
    type Strided = Quads;
}
