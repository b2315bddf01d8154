//! What stands between convolutions: resizing, pooling, softmax, and the sums of transposed ones, over planes of contiguous pixels.
//!
//! None of these multiply by weights; all of them move as much data as the layers around them, and a plain
//! loop pixel by pixel can take longer than a pruned network's layers together. The loops here go row by row
//! over slices whose length the compiler sees, so that it makes vectors of them; the whole is compiled once
//! for each instruction set. Nothing here is tuned for a core: rows that fit the first-level cache are enough
//! to make these operators disappear beside the layers.

mod col2im;
mod pool;
mod resize;
mod softmax;

pub use col2im::{Col2im, Col2imAxis};
pub use pool::{Pool, PoolAxis, Pooling};
pub use resize::{Resize, Taps};
pub use softmax::softmax;

use crate::error::KernelError;

/// Refuses numbers of `whose` axis that are zero.
fn not_zero<const N: usize>(whose: &str, numbers: [(&'static str, usize); N]) -> Result<(), KernelError> {
    match numbers.into_iter().find(|(_, number)| *number == 0) {
        Some((what, _)) => Err(KernelError::Geometry(format!("the {what} of {whose} is 0"))),
        None => Ok(()),
    }
}

/// Checks that `x` and `y` hold the same number of planes, of the given sizes; returns that number.
fn planes<T>(x: &[T], x_plane: usize, y: &[T], y_plane: usize) -> Result<usize, KernelError> {
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
