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
mod scale;
mod softmax;

pub use col2im::{Col2im, Col2imAxis};
pub use pool::{Pool, PoolAxis, Pooling};
pub use resize::{Resize, Taps};
pub use scale::scale;
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

/// The values of `rows` rows at every place of `to`, folded one after the other into what starts as `begin`.
///
/// A run of them waits in registers until all rows are folded and is then stored, whole. Folded in `to` itself, maxima would
/// be stored under a mask that says which of them have changed: compilers find that better than a choice between a new value
/// and the loaded one, and it takes processors with AVX2 many times as long.
#[inline(always)]
fn fold_rows<'a>(
    to: &mut [f32],
    rows: usize,
    row: impl Fn(usize) -> &'a [f32],
    begin: f32,
    fold: impl Fn(f32, f32) -> f32,
) {
    if fold_runs::<16>(to, rows, &row, begin, &fold) || fold_runs::<4>(to, rows, &row, begin, &fold) {
        return;
    }
    for (place, to) in to.iter_mut().enumerate() {
        *to = (0..rows).fold(begin, |all, at| fold(all, row(at)[place]));
    }
}

/// [`fold_rows`] in runs, of which the last one may overlap the one before; false, and nothing is done, if there are fewer
/// values than a run has.
#[inline(always)]
fn fold_runs<'a, const RUN: usize>(
    to: &mut [f32],
    rows: usize,
    row: &impl Fn(usize) -> &'a [f32],
    begin: f32,
    fold: &impl Fn(f32, f32) -> f32,
) -> bool {
    let Some(last) = to.len().checked_sub(RUN) else { return false };
    for place in (0..to.len()).step_by(RUN).map(|place| place.min(last)) {
        let mut all = [begin; RUN];
        for at in 0..rows {
            let Some(values) = row(at)[place..].first_chunk::<RUN>() else {
                unreachable!("a row is as long as what it is folded into")
            };
            all = std::array::from_fn(|i| fold(all[i], values[i]));
        }
        to[place..place + RUN].copy_from_slice(&all);
    }
    true
}
