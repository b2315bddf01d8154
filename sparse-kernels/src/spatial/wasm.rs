//! WebAssembly simd128: vectors of 4 floats, without a fused multiply-add.
//!
//! 4 x 8 pixels take 8 sums, 2 inputs, 1 weight and 1 product: an engine has 16 registers on x86-64.

use super::body::Spatial;
use crate::table::Element;
use crate::vector::F32x4;

impl Spatial for F32x4 {
    const MOST_VECTORS: [usize; 3] = [8, 4, 2];
}

/// Quads: every input and every weight are two registers, bytes of even and of odd place.
impl Spatial for F32x4<{ Element::Int8 as u8 }> {
    const MOST_VECTORS: [usize; 3] = [6, 3, 2];
}
