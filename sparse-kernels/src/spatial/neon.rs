//! NEON: 32 registers of 4 floats.
//!
//! 4 x 20 pixels take 20 sums, 5 inputs and the 4 weights of a column in one register, each multiplied by its
//! lane. A column is 20 multiply-adds, 6 vector loads and one offset. For classes of cores the loop over
//! groups of four output channels is in assembly (`crate::neon`), with as many registers as there are.

use super::body::{Columns, Spatial, plain};
use crate::neon::{in_order_rows, out_of_order};
use crate::target::Core;
use crate::vector::{F32x4, I8x16};

const ANY: u8 = Core::Any as u8;
const A76: u8 = Core::A76 as u8;

/// In f16 the same registers have twice as many pixels, and weights are half a register.
impl<const CORE: u8, const ELEMENT: u8> Spatial for F32x4<CORE, ELEMENT> {
    const MOST_VECTORS: [usize; 3] = if CORE == A76 { [8, 8, 7] } else { [8, 8, 5] };

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const N: usize>(sums: &mut [[Self; N]; R], columns: Columns<N>) {
        let Columns { bases, offsets, values, count } = columns;
        // SAFETY: passed on from the caller.
        unsafe {
            match <&mut [_; 4]>::try_from(sums.as_mut_slice()) {
                Ok(four) if const { CORE != ANY } => {
                    if count == 0 {
                    } else if const { CORE == A76 } {
                        out_of_order::gather(four, &bases, offsets, values, count);
                    } else {
                        in_order_rows::gather(four, &bases, offsets, values, count);
                    }
                }
                _ => plain(sums, columns),
            }
        }
    }
}

/// Quads: with the dot product as many sums as of floats; without it products take two registers more.
impl<const DOT: bool> Spatial for I8x16<DOT> {
    const MOST_VECTORS: [usize; 3] = [8, 8, 5];
}
