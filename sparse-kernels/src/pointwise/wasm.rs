//! WebAssembly simd128.
//!
//! 4 channels by 8 pixels take 8 sums, 2 inputs and 1 weight, which leaves room in the 16 registers of x86.
//! Single rows take 32 pixels, pairs 16, 8x1 takes 4. Whole tiles, which most are, have their vectors at constants: V8 has an
//! instruction less for each channel.
//!
//! Of a single pixel a vector is four weights of a column of a 4x4 block, times its input in all lanes.

use super::args::TileArgs;
use super::body::{Along, Pointwise, accumulate, begin, tile};
use super::scalar::{finish, gemv};
use super::single::single_of_quads;
use crate::table::Element;
use crate::vector::{F32x4, Vector, multiply_add};
use std::arch::wasm32::*;
use std::hint::black_box;

type Floats = F32x4;

impl Pointwise for Floats {
    const MOST_VECTORS: [usize; 4] = [8, 4, 2, 1];

    /// The usual tile has a loop of its own: all of its vectors are whole, and so are its rows.
    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        let weights = &args.weights;
        let usual = weights.first && weights.last && weights.rows.end * R <= weights.packed.whole_oc;
        if !usual || args.pixels != PIXELS {
            // SAFETY: passed on from the caller.
            return unsafe { tile::<Self, (), R, C, PIXELS>(args) };
        }
        macro_rules! whole {
            ($($n:literal)*) => {
                match args.clamps.residual {
                    $(false if const { $n * Self::LANES == PIXELS } => whole_rows::<R, C, $n, false>(args),
                    true if const { $n * Self::LANES == PIXELS } => whole_rows::<R, C, $n, true>(args),)*
                    _ => unreachable!("tiles have 8 sums"),
                }
            };
        }
        // SAFETY: passed on from the caller; the rest is what was asked above.
        unsafe { whole!(1 2 4 8) }
    }

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

/// A tile of whole vectors and whole rows, all chunks of them: the compiler keeps what all rows share, and nothing is asked
/// between two of them.
///
/// # Safety
/// As [`Pointwise::tile`]; there are `N` whole vectors of pixels, `R` output channels in every block row, the first and the
/// last chunk among the weights, and a residual if the clamps want one: `RESIDUAL`.
#[inline(always)]
unsafe fn whole_rows<const R: usize, const C: usize, const N: usize, const RESIDUAL: bool>(args: &TileArgs) {
    // SAFETY: numbers of `starts` and what they count are as in `TileArgs::blocks`; every index is a channel of the chunks
    // with C - 1 behind it, each with the pixels of the tile (Input); every block has R * C values (PackedPointwise); there
    // is a bias for each of R rows, and the pixels of the tile are valid in `y`, and in `residual` if there is one, for each
    // of these output channels (Output).
    unsafe {
        let mut at = [0; N];
        for (n, at) in at.iter_mut().enumerate() {
            *at = n * Floats::LANES;
        }
        let (weights, clamps, stride) = (&args.weights, &args.clamps, args.output.stride);
        let (first_x, x_stride) = (args.input.x, args.input.stride);
        let [lo, hi] = [clamps.before.0, clamps.before.1].map(|v| F32x4(f32x4_splat(v)));
        let [lo1, hi1] = [clamps.after.0, clamps.after.1].map(|v| F32x4(f32x4_splat(v)));
        let first = weights.rows.start;
        let mut starts = weights.starts.wrapping_add(first * weights.row_step);
        let mut bias = weights.packed.bias.as_ptr().wrapping_add(first * R);
        let mut y = args.output.y.wrapping_add(first * R * stride);
        let mut residual = args.output.residual.wrapping_add(first * R * stride);
        let values = weights.packed.values.as_ptr();
        // as if a row could end within a block: see `accumulate`
        let ends = black_box(values);
        for _ in weights.rows.clone() {
            let start = *starts as usize;
            let end = ends.wrapping_add(*starts.wrapping_add(weights.chunks) as usize * R * C);
            starts = starts.wrapping_add(weights.row_step);
            let mut index = weights.indices.wrapping_add(start);
            let mut w = values.wrapping_add(start * R * C);
            let mut sums = [[Floats::splat(0.0); N]; R];
            for r in 0..R {
                sums[r] = [Floats::splat(*bias.wrapping_add(r)); N];
            }
            bias = bias.wrapping_add(R);
            'row: while w != end {
                let mut x = first_x.wrapping_add(*index as usize * x_stride);
                index = index.wrapping_add(1);
                // written out: a build for size would leave a loop
                macro_rules! channel {
                    () => {
                        Floats::add_channel(&mut sums, x, &at, w);
                        w = w.wrapping_add(R);
                    };
                }
                macro_rules! next_channel {
                    () => {
                        if w == end {
                            break 'row;
                        }
                        x = x.wrapping_add(x_stride);
                        channel!();
                    };
                }
                channel!();
                if const { C == 4 } {
                    next_channel!();
                    next_channel!();
                    next_channel!();
                }
            }
            for r in 0..R {
                for n in 0..N {
                    let mut sum = sums[r][n].clamp(lo, hi);
                    if RESIDUAL {
                        sum = sum.add(Floats::load(residual.wrapping_add(at[n]))).clamp(lo1, hi1);
                    }
                    sum.store(y.wrapping_add(at[n]));
                }
                y = y.wrapping_add(stride);
                residual = residual.wrapping_add(stride);
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
