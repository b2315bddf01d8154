//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::TileArgs;
use super::body::Loops;

const LANES: usize = 8;

/// No vectors: plain Rust.
pub(crate) struct Scalar;

impl Loops for Scalar {
    const LANES: usize = LANES;
    const MOST_VECTORS: [usize; 3] = [usize::MAX; 3];

    unsafe fn tile<const R: usize, const PIXELS: usize>(args: &TileArgs) {
        let w = args.weights.packed;
        for group in args.weights.groups.clone() {
            let columns = w.starts[group] as usize..w.starts[group + 1] as usize;
            for vector in args.output.vectors {
                let mut sums = [[0f32; LANES]; R];
                for (sums, bias) in sums.iter_mut().zip(&w.bias[group * R..]) {
                    sums.fill(*bias);
                }
                for column in columns.clone() {
                    let offset = args.weights.offsets[column] as usize / size_of::<f32>();
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

    unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
        for i in 0..len {
            // SAFETY: passed on from the caller.
            unsafe { *to.add(i) = *from.add(2 * i) };
        }
    }
}
