//! AVX2 and FMA: one vector of sums at a time, taps in registers as far as there are any.

use super::body::Depthwise;
use crate::table::Element;
use crate::vector::F32x8;

type Quads = F32x8<{ Element::Int8 as u8 }>;

impl Depthwise for F32x8 {
    type Values = F32x8;
    type Few = F32x8;
    type Strided = F32x8;
}

impl Depthwise for Quads {
    type Values = Quads;
    type Few = Quads;
    type Strided = Quads;
}
