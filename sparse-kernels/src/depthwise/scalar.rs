//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::RowsArgs;
use super::body::Loops;

/// No vectors: plain Rust.
pub(crate) struct Scalar;

impl Loops for Scalar {
    const LANES: usize = 1;

    /// The table has no row that asks for it.
    unsafe fn rows<const KH: usize, const KW: usize, const S: usize, const MASK: u32>(_: &RowsArgs) {
        unreachable!("plain Rust takes taps as a list")
    }

    /// The table has no row that asks for it.
    unsafe fn large<const K: usize, const S: usize>(_: &RowsArgs) {
        unreachable!("plain Rust takes taps as a list")
    }

    unsafe fn any<const S: usize>(args: &RowsArgs) {
        let (lo, hi) = args.clamp;
        for plane in 0..args.planes {
            let plane = args.plane(plane);
            for row in 0..args.rows {
                for ox in 0..args.y_width {
                    // SAFETY: RowsArgs: output `row, ox` is there, and so is every input inside the map.
                    unsafe {
                        let mut sum = *plane.bias;
                        for (tap, [ky, kx]) in args.places.iter().enumerate() {
                            let iy = args.first + (row * args.step + ky) as isize;
                            let ix = (ox * S + kx) as isize - args.left as isize;
                            if (iy as usize) < args.x_height && (ix as usize) < args.x_width {
                                sum += *plane.taps.add(tap)
                                    * *plane.x.add(iy as usize * args.x_width + ix as usize);
                            }
                        }
                        let sum = if sum < lo { lo } else { sum };
                        *plane.y.add(row * args.y_width + ox) = if sum > hi { hi } else { sum };
                    }
                }
            }
        }
    }
}
