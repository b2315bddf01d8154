//! WebAssembly simd128.
//!
//! 4 channels by 8 pixels take 8 sums, 2 inputs and 1 weight, which leaves room in the 16 registers of x86.
//! Single rows take 32 pixels, pairs 16, 8x1 takes 4.

use super::args::TileArgs;
use super::body::{Along, Pointwise, accumulate, begin, single_of_quads};
use super::scalar::gemv;
use crate::table::Element;
use crate::vector::F32x4;
use std::hint::black_box;

impl Pointwise for F32x4 {
    const MOST_VECTORS: [usize; 4] = [8, 4, 2, 1];

    /// As `body::accumulate`, but one channel of a 4x4 block after the other.
    ///
    /// The compiler would sort the straight line of a block by sums: all products of the first, all of the next. Engines
    /// keep its order, and have no registers for the 8 inputs and 16 weights that live through that: every
    /// other instruction would be a spill. So the end of the weights is looked for behind each channel, and not only
    /// behind each block; nothing is moved across that.
    #[inline(always)]
    unsafe fn accumulate<A: Along<Self>, const R: usize, const C: usize, const N: usize>(
        args: &TileArgs,
        row: usize,
        at: &[usize; N],
        along: &mut A,
    ) -> [[Self; N]; R] {
        // SAFETY: passed on from the caller; for four channels, every index is a channel of the chunks with three behind it,
        // each with the pixels of the tile (Input), and every block has R * C values, the last of which end at `end`
        // (PackedPointwise).
        unsafe {
            if C != 4 {
                return accumulate::<Self, A, R, C, N>(args, row, at, along);
            }
            let mut sums: [[Self; N]; R] = begin(args, row, at);
            let (mut index, mut w, blocks) = args.blocks(row, R * C);
            // as if it could be within a block
            let end = black_box(w.wrapping_add(blocks * R * C));
            while w != end {
                let channel = *index as usize;
                index = index.wrapping_add(1);
                along.block::<R, C>(args, channel, w);
                let mut x = args.input.x.wrapping_add(channel * args.input.stride);
                // written out: a build for size would leave a loop
                macro_rules! channel {
                    () => {
                        Self::add_channel(&mut sums, x, at, w);
                        x = x.wrapping_add(args.input.stride);
                        w = w.wrapping_add(R);
                        if w == end {
                            return sums;
                        }
                    };
                }
                channel!();
                channel!();
                channel!();
                channel!();
            }
            sums
        }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { gemv::<R, C, 2>(args, args.input.stride, |w, x, sum| sum + w * x) };
    }
}

/// Quads: every input and every weight are two registers, bytes of even and of odd place.
impl Pointwise for F32x4<{ Element::Int8 as u8 }> {
    const MOST_VECTORS: [usize; 4] = [6, 3, 2, 0];

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { single_of_quads::<Self, R>(args) }
    }
}
