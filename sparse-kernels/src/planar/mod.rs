//! What stands between convolutions: resizing, pooling, softmax, over planes of contiguous pixels.
//!
//! None of these multiply by weights; all of them move as much data as the layers around them, and a plain loop pixel by pixel can take longer
//! than a pruned network's layers together. The loops here go row by row over slices whose length the compiler sees, so that it makes
//! vectors of them; the whole is compiled once for each instruction set. Nothing here is tuned for a core: rows
//! that fit the first-level cache are enough to make these operators disappear beside the layers.

mod pool;
mod resize;
mod softmax;

pub use pool::{Pool, PoolAxis, Pooling};
pub use resize::{Resize, Taps};
pub use softmax::softmax;

use crate::error::KernelError;
use crate::target::{Isa, Target};

/// A loop that is compiled for every instruction set. [`Work::run`] and all that it calls must be `#[inline(always)]`.
trait Work {
    fn run(self);
}

/// Runs `work` with the instructions of `target`.
#[inline]
fn on(target: Target, work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2(work: impl Work) {
            work.run();
        }
        #[target_feature(enable = "avx512f,avx2,fma")]
        fn avx512(work: impl Work) {
            work.run();
        }
        match target.isa() {
            // SAFETY: a `Target` of this instruction set exists only where it has been detected.
            Isa::Avx512 => return unsafe { avx512(work) },
            // SAFETY: as above.
            Isa::Avx2 => return unsafe { avx2(work) },
            Isa::Scalar | Isa::Neon | Isa::Wasm => {}
        }
    }
    // NEON and simd128 are enabled for all code of the builds that have them.
    let _ = (target, Isa::Scalar);
    work.run();
}

/// Checks that `x` and `y` hold the same number of planes of so many pixels; returns that number.
fn planes(x: &[f32], x_plane: usize, y: &[f32], y_plane: usize) -> Result<usize, KernelError> {
    let planes = match (x_plane, y_plane) {
        (0, 0) => 0,
        (0, pixels) => y.len() / pixels,
        (pixels, _) => x.len() / pixels,
    };
    for (what, got, expected) in [("input", x.len(), planes * x_plane), ("output", y.len(), planes * y_plane)]
    {
        if got != expected {
            return Err(KernelError::Length { what, expected, got });
        }
    }
    Ok(planes)
}
