//! Half precision: activations in pairs of channels, two bf16 in one `u32`.
//!
//! Of the channels `2k` and `2k + 1` the first is in the low 16 bits, the second in the high ones; behind an odd
//! number of channels stands a zero.

use crate::choice::Packing;
use sparse_kernels::table::KernelInfo;
pub use sparse_kernels::target::Half;

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
    /// What the numbers are called.
    pub fn name(&self) -> &'static str {
        self.half.element().name()
    }

    /// The kernel.
    pub fn kernel(&self) -> &'static KernelInfo {
        self.packing.half_kernel(self.half)
    }
}
