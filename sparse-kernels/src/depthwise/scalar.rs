//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::{CopyArgs, RowsArgs};

/// Rows of any kernel.
///
/// # Safety
/// `args` keeps the invariants of [`RowsArgs`].
pub(super) unsafe fn any(args: &RowsArgs) {
    let (lo, hi) = args.clamp;
    for plane in 0..args.planes {
        let plane = args.plane(plane);
        for row in 0..args.rows {
            for ox in 0..args.width {
                // SAFETY: RowsArgs: output `row, ox` is there, and so is every tap of it.
                unsafe {
                    let x = plane.x.add(row * args.step + ox);
                    let mut sum = *plane.bias;
                    for (tap, offset) in args.offsets.iter().enumerate() {
                        sum += *plane.taps.add(tap) * *x.add(*offset);
                    }
                    let sum = if sum < lo { lo } else { sum };
                    *plane.y.add(row * args.y_row + ox) = if sum > hi { hi } else { sum };
                }
            }
        }
    }
}

/// Rows of planes into the buffer; `S` is the horizontal stride, 1 or 2.
///
/// # Safety
/// `args` keeps the invariants of [`CopyArgs`].
pub(super) unsafe fn copy<const S: usize>(args: &CopyArgs) {
    for plane in 0..args.planes {
        for row in 0..args.rows {
            for i in 0..args.width {
                // SAFETY: CopyArgs: row `row` has `width` columns, and a place for each.
                unsafe {
                    let to = args.to[i % S].add(plane * args.to_plane + row * args.to_row + i / S);
                    *to = *args.x.add(plane * args.x_plane + row * args.width + i);
                }
            }
        }
    }
}
