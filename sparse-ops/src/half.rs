//! Half precision: activations in pairs of channels, two bf16 in one `u32`.
//!
//! Of the channels `2k` and `2k + 1` the first is in the low 16 bits, the second in the high ones; behind an odd
//! number of channels stands a zero.

use crate::choice::Packing;
use sparse_kernels::prelude::*;

/// Says that a target computes in half precision. Only [`Half::of`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Half {
    target: Target,
}

impl Half {
    /// The half precision of a target; none if it has no kernels for it.
    pub fn of(target: Target) -> Option<Half> {
        let runs = match target.isa() {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512bf16"),
            _ => false,
        };
        runs.then_some(Half { target })
    }

    /// What its numbers are called.
    pub fn name(self) -> &'static str {
        "bf16"
    }

    /// Where it runs.
    pub fn target(self) -> Target {
        self.target
    }
}

/// How a layer would run in half precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HalfChoice {
    /// That the target can.
    pub half: Half,
    /// Format of the weights.
    pub packing: Packing,
    /// Predicted time in nanoseconds, input and output in pairs.
    pub ns: u64,
    /// Predicted picoseconds for the conversion of one value from or to f32.
    pub convert_ps: u64,
    /// Whether it runs in pairs whatever the times, wherever there is a kernel.
    pub always: bool,
}

/// The nearest bf16, ties to even, in the upper half of an f32. NaN stays NaN.
pub fn rounded(v: f32) -> f32 {
    f32::from_bits((bf16(v) as u32) << 16)
}

#[inline(always)]
fn bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    let even = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // a NaN whose payload would be rounded away stays one
    let bits = if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x40_0000 } else { even };
    (bits >> 16) as u16
}

/// Pairs of two neighbouring channels; without a second one, of zeros. All slices are of one length.
#[inline(always)]
pub(crate) fn pack(even: &[f32], odd: Option<&[f32]>, pairs: &mut [u32]) {
    match odd {
        Some(odd) => {
            for ((pair, even), odd) in pairs.iter_mut().zip(even).zip(odd) {
                *pair = bf16(*even) as u32 | (bf16(*odd) as u32) << 16;
            }
        }
        None => pairs.iter_mut().zip(even).for_each(|(pair, even)| *pair = bf16(*even) as u32),
    }
}

/// The two channels of pairs; the second is left out if there is none. All slices are of one length.
#[inline(always)]
pub(crate) fn unpack(pairs: &[u32], even: &mut [f32], odd: Option<&mut [f32]>) {
    even.iter_mut().zip(pairs).for_each(|(even, pair)| *even = f32::from_bits(pair << 16));
    if let Some(odd) = odd {
        odd.iter_mut().zip(pairs).for_each(|(odd, pair)| *odd = f32::from_bits(pair & 0xffff_0000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_to_the_nearest_even_one() {
        let ulp = 2f32.powi(-7);
        for (v, expected) in [
            (1.0, 1.0),
            (1.0 + 0.5 * ulp, 1.0),
            (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
            (1.0 + 0.51 * ulp, 1.0 + ulp),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
        ] {
            assert_eq!(rounded(v).to_bits(), expected.to_bits(), "{v}");
        }
        assert!(rounded(f32::NAN).is_nan() && rounded(f32::from_bits(0x7f80_0001)).is_nan());
    }

    #[test]
    fn channels_come_back_as_they_went_in() {
        let (even, odd) = ([1.0, -2.5, 0.0], [f32::INFINITY, 96.0, -0.5]);
        let mut pairs = [0; 3];
        pack(&even, Some(&odd), &mut pairs);
        let (mut a, mut b) = ([7.0; 3], [7.0; 3]);
        unpack(&pairs, &mut a, Some(&mut b));
        assert_eq!((a, b), (even, odd));
        pack(&even, None, &mut pairs);
        unpack(&pairs, &mut a, Some(&mut b));
        assert_eq!((a, b), (even, [0.0; 3]));
    }
}
