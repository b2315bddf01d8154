//! AVX-512F: 32 registers of 16 floats.
//!
//! 4 x 80 pixels take 20 sums, 5 inputs and 1 weight, which leaves the compiler six registers. Four vectors
//! are a whole 7x7 map. Pairs and quads of channels take the same.

use super::body::Spatial;
use crate::vector::F32x16;

impl<const ELEMENT: u8> Spatial for F32x16<ELEMENT> {
    const MOST_VECTORS: [usize; 3] = [8, 8, 5];
}
