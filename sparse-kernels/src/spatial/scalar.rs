//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::TileArgs;

const LANES: usize = 8;

/// `R` output channels by the vectors of the tile, one after the other.
///
/// # Safety
/// `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const TILE: usize>(args: &TileArgs) {
    let w = args.weights;
    for group in args.groups.clone() {
        let columns = w.starts[group] as usize..w.starts[group + 1] as usize;
        for vector in args.vectors {
            let mut sums = [[0f32; LANES]; R];
            for (sums, bias) in sums.iter_mut().zip(&w.bias[group * R..]) {
                sums.fill(*bias);
            }
            for column in columns.clone() {
                let offset = args.offsets[column] as usize / size_of::<f32>();
                let x = &args.image[vector.base as usize + offset..][..LANES];
                for (sums, w) in sums.iter_mut().zip(&w.values[column * R..]) {
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum += w * x;
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate().take(w.oc - group * R) {
                // SAFETY: `group * R + r` is an output channel of the group.
                unsafe { args.store_pixels(group * R + r, vector, sums) };
            }
        }
    }
}

/// Copies every other float.
///
/// # Safety
/// `to` has `len` floats, `from` twice as many.
pub(super) unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
    for i in 0..len {
        // SAFETY: passed on from the caller.
        unsafe { *to.add(i) = *from.add(2 * i) };
    }
}
