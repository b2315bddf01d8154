//! AVX-512F: maps of up to 8 columns take vectors of half the lanes, which waste fewer.

use super::body::Depthwise;
use crate::table::Element;
use crate::vector::{EVEX, F32x8, F32x16};

type Pairs8 = F32x8<{ Element::Bf16 as u8 }>;
type Pairs16 = F32x16<{ Element::Bf16 as u8 }>;
type Quads8 = F32x8<{ Element::Int8 as u8 }, EVEX>;
type Quads16 = F32x16<{ Element::Int8 as u8 }>;

impl Depthwise for F32x16 {
    /// 4 to 12 % faster on Zen 4 where the input comes from the third-level cache.
    const ASKS: bool = true;
    type Values = F32x16;
    type Few = F32x8;
    type Strided = F32x16;
}

/// Masks cost nothing, and versions of the loops cost time to compile.
impl Depthwise for Pairs16 {
    const ASKS: bool = true;
    const VERSIONS: [bool; 2] = [true, false];
    type Values = [Pairs16; 2];
    type Few = Pairs8;
    type Strided = Pairs16;
}

/// A vector is a whole row, which has both ends.
impl Depthwise for Pairs8 {
    const VERSIONS: [bool; 2] = [false; 2];
    type Values = [Pairs8; 2];
    type Few = Pairs8;
    type Strided = Pairs8;
}

impl Depthwise for Quads16 {
    type Values = Quads16;
    type Few = Quads8;
    type Strided = Quads16;
}
