//! WebAssembly simd128: one vector of sums at a time.

use super::body::Depthwise;
use crate::table::Element;
use crate::vector::F32x4;

type Quads = F32x4<{ Element::Int8 as u8 }>;

impl Depthwise for F32x4 {
    type Values = F32x4;
    type Few = F32x4;
    type Strided = F32x4;
}

impl Depthwise for Quads {
    type Values = Quads;
    type Few = Quads;
    type Strided = Quads;
}
