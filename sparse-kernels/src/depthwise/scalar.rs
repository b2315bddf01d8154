//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::{CopyArgs, RowsArgs};

/// Rows of any kernel.
///
/// # Safety
/// `args` keeps the invariants of [`RowsArgs`].
pub(super) unsafe fn any(args: &RowsArgs) {
    let (lo, hi) = args.clamp;
    for row in 0..args.rows {
        for ox in 0..args.width {
            // SAFETY: RowsArgs: output `row, ox` is there, and so is every tap of it.
            unsafe {
                let x = args.x.add(row * args.step + ox);
                let mut sum = *args.bias;
                for (tap, offset) in args.offsets.iter().enumerate() {
                    sum += *args.taps.add(tap) * *x.add(*offset);
                }
                let sum = if sum < lo { lo } else { sum };
                *args.y.add(row * args.y_row + ox) = if sum > hi { hi } else { sum };
            }
        }
    }
}

/// Rows of a plane into the buffer; `S` is the horizontal stride, 1 or 2.
///
/// # Safety
/// `args` keeps the invariants of [`CopyArgs`].
pub(super) unsafe fn copy<const S: usize>(args: &CopyArgs) {
    for row in 0..args.rows {
        for i in 0..args.width {
            // SAFETY: CopyArgs: row `row` has `width` columns, and a place for each.
            unsafe { *args.to[i % S].add(row * args.to_row + i / S) = *args.x.add(row * args.x_row + i) };
        }
    }
}
