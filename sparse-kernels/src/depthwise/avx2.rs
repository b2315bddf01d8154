//! AVX2 and FMA: one vector of sums at a time, taps in registers as far as there are any.

use super::body::Depthwise;
use crate::table::Element;
use crate::vector::F32x8;

type Quads<const DOT: u8> = F32x8<{ Element::Int8 as u8 }, DOT>;

impl Depthwise for F32x8 {
    type Values = F32x8;
    type Few = F32x8;
    type Strided = F32x8;
}

impl<const DOT: u8> Depthwise for Quads<DOT> {
    type Values = Self;
    type Few = Self;
    type Strided = Self;
}
