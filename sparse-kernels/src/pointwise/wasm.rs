//! WebAssembly simd128.
//!
//! 4 channels by 8 pixels take 8 sums, 2 inputs and 1 weight, which leaves room in the 16 registers of x86.
//! Single rows take 32 pixels, pairs 16, 8x1 takes 4. Tiles of one or two whole vectors, which most of those of four rows
//! are, have them at constants: V8 has an instruction less for each channel.
//!
//! Of a single pixel a vector is four weights of a column of a 4x4 block, times its input in all lanes.

use super::args::TileArgs;
use super::body::{Along, Pointwise, accumulate, begin};
use super::scalar::{finish, gemv};
use super::single::single_of_quads;
use crate::table::Element;
use crate::vector::{F32x4, multiply_add};
use std::arch::wasm32::*;
use std::hint::black_box;

impl Pointwise for F32x4 {
    const MOST_VECTORS: [usize; 4] = [8, 4, 2, 1];

    const WHOLE: usize = 2;

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
        unsafe {
            match (R, C) {
                (4, 4) => single_blocks(args),
                (1 | 2, 1) => gemv::<R, C, 4>(args, args.input.stride, |w, x, sum| sum + w * x),
                _ => gemv::<R, C, 2>(args, args.input.stride, |w, x, sum| sum + w * x),
            }
        }
    }
}

/// 4x4 blocks of a single pixel: four vectors, each times an input in all lanes.
///
/// # Safety
/// As [`Pointwise::single`], for `R` and `C` of 4.
#[inline(always)]
unsafe fn single_blocks(args: &TileArgs) {
    const R: usize = 4;
    const C: usize = 4;
    for row in args.weights.rows.clone() {
        let mut sums = [f32x4_splat(0.0); C];
        let mut lanes = [0f32; R];
        // SAFETY: `row` is a block row; every index is a channel of the chunks with three behind it (TileArgs); every
        // block has 16 values (PackedPointwise); the array has the size of a vector.
        unsafe {
            let (indices, mut w, blocks) = args.blocks(row, R * C);
            for block in 0..blocks {
                let channel = *indices.add(block) as usize;
                let mut x = args.input.x.wrapping_add(channel * args.input.stride);
                for sum in &mut sums {
                    *sum = multiply_add(v128_load(w.cast()), v128_load32_splat(x.cast()), *sum);
                    x = x.wrapping_add(args.input.stride);
                    w = w.add(R);
                }
            }
            let [a, b, c, d] = sums;
            v128_store(lanes.as_mut_ptr().cast(), f32x4_add(f32x4_add(a, b), f32x4_add(c, d)));
        }
        for (r, sum) in lanes.into_iter().enumerate().take(args.channels(row, R)) {
            // SAFETY: `row * R + r` is an output channel with one pixel.
            unsafe { finish(args, row * R + r, sum) };
        }
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
