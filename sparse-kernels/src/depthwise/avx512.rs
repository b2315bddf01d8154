//! AVX-512F: maps of up to 8 columns take the AVX2 loops, which waste fewer lanes.

use super::body::Depthwise;
use crate::vector::{F32x8, F32x16};

impl Depthwise for F32x16 {
    /// 4 to 12 % faster on Zen 4 where the input comes from the third-level cache.
    const ASKS: bool = true;
    type Few = F32x8;
    type Strided = F32x16;
}
