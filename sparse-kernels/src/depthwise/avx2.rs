//! AVX2 and FMA: one vector of sums at a time, taps in registers as far as there are any.

use super::body::Depthwise;
use crate::table::Element;
use crate::vector::F32x8;
use std::arch::x86_64::*;

type Quads<const DOT: u8> = F32x8<{ Element::Int8 as u8 }, DOT>;

impl Depthwise for F32x8 {
    const ACROSS: bool = true;
    type Values = F32x8;
    type Few = F32x8;
    type Strided = F32x8;

    #[inline(always)]
    unsafe fn transpose(rows: [F32x8; 8]) -> [F32x8; 8] {
        let [a, b, c, d, e, f, g, h] = rows;
        // SAFETY: contract of `Vector`.
        unsafe {
            // two rows beside each other, then four, then eight
            let [ab, cd] = [_mm256_unpacklo_ps(a.0, b.0), _mm256_unpacklo_ps(c.0, d.0)];
            let [ef, gh] = [_mm256_unpacklo_ps(e.0, f.0), _mm256_unpacklo_ps(g.0, h.0)];
            let [ab_high, cd_high] = [_mm256_unpackhi_ps(a.0, b.0), _mm256_unpackhi_ps(c.0, d.0)];
            let [ef_high, gh_high] = [_mm256_unpackhi_ps(e.0, f.0), _mm256_unpackhi_ps(g.0, h.0)];
            let upper = [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xEE>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                _mm256_shuffle_ps::<0xEE>(ab_high, cd_high),
            ];
            let lower = [
                _mm256_shuffle_ps::<0x44>(ef, gh),
                _mm256_shuffle_ps::<0xEE>(ef, gh),
                _mm256_shuffle_ps::<0x44>(ef_high, gh_high),
                _mm256_shuffle_ps::<0xEE>(ef_high, gh_high),
            ];
            [
                F32x8(_mm256_permute2f128_ps::<0x20>(upper[0], lower[0])),
                F32x8(_mm256_permute2f128_ps::<0x20>(upper[1], lower[1])),
                F32x8(_mm256_permute2f128_ps::<0x20>(upper[2], lower[2])),
                F32x8(_mm256_permute2f128_ps::<0x20>(upper[3], lower[3])),
                F32x8(_mm256_permute2f128_ps::<0x31>(upper[0], lower[0])),
                F32x8(_mm256_permute2f128_ps::<0x31>(upper[1], lower[1])),
                F32x8(_mm256_permute2f128_ps::<0x31>(upper[2], lower[2])),
                F32x8(_mm256_permute2f128_ps::<0x31>(upper[3], lower[3])),
            ]
        }
    }
}

impl<const DOT: u8> Depthwise for Quads<DOT> {
    type Values = Self;
    type Few = Self;
    type Strided = Self;
}
