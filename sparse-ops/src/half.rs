//! Half precision: activations in pairs of channels, two bf16 in one `u32`.
//!
//! Of the channels `2k` and `2k + 1` the first is in the low 16 bits, the second in the high ones; behind an odd
//! number of channels stands a zero.

use crate::choice::Packing;
use sparse_kernels::pairs;
pub use sparse_kernels::target::Half;
use sparse_kernels::table::KernelInfo;

/// What the numbers of half precision are called.
pub(crate) const NAME: &str = "bf16";

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

impl HalfChoice {
    /// The kernel.
    pub fn kernel(&self) -> &'static KernelInfo {
        self.packing.half_kernel(self.half)
    }
}

/// Pairs of two neighbouring channels; without a second one, of zeros. All slices are of one length.
#[inline(always)]
pub(crate) fn pack(even: &[f32], odd: Option<&[f32]>, lanes: &mut [u32]) {
    match odd {
        Some(odd) => {
            for ((lane, even), odd) in lanes.iter_mut().zip(even).zip(odd) {
                *lane = pairs::pair(*even, *odd);
            }
        }
        None => lanes.iter_mut().zip(even).for_each(|(lane, even)| *lane = pairs::pair(*even, 0.0)),
    }
}

/// The two channels of pairs; the second is left out if there is none. All slices are of one length.
#[inline(always)]
pub(crate) fn unpack(lanes: &[u32], even: &mut [f32], odd: Option<&mut [f32]>) {
    even.iter_mut().zip(lanes).for_each(|(even, lane)| *even = pairs::widen(*lane)[0]);
    if let Some(odd) = odd {
        odd.iter_mut().zip(lanes).for_each(|(odd, lane)| *odd = pairs::widen(*lane)[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
