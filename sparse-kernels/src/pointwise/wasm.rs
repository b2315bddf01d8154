//! WebAssembly simd128.
//!
//! 4 channels by 8 pixels take 8 sums, 2 inputs and 1 weight, which leaves room in the 16 registers of x86.
//! Single rows take 32 pixels, pairs 16, 8x1 takes 4.

use super::args::TileArgs;
use super::body::{Pointwise, single_of_quads};
use super::scalar::gemv;
use crate::table::Element;
use crate::vector::F32x4;

impl Pointwise for F32x4 {
    const MOST_VECTORS: [usize; 4] = [8, 4, 2, 1];

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { gemv::<R, C, 2>(args, args.input.stride, |w, x, sum| sum + w * x) };
    }
}

/// Quads: every input and every weight are two registers, bytes of even and of odd place.
impl Pointwise for F32x4<{ Element::Int8 as u8 }> {
    const MOST_VECTORS: [usize; 4] = [6, 3, 2, 0];

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { single_of_quads::<Self, R>(args) }
    }
}
