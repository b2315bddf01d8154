//! f16: pixels of one channel beside each other.
//!
//! A multiply-add of f16 takes as many halves as a register has, and its sums are f16, too. So lanes, of
//! which each has two channels, are taken apart where they are copied to the panel: of the row of a lane the
//! first half has the pixels of the first channel, the second half those of the second one. Kernels read
//! channels, as they do of floats, and indices count them. Weights are halves in the order of those of
//! floats, and no pair has to be filled.
//!
//! **Sums.** Ten bits behind the point lose what is a two-thousandth of a sum, once for every product that is
//! added to it. So no more than [`f16::MOST_PRODUCTS`] products are added one after the other, beginning with the
//! bias, rounded, or with zero; then such sums are added up. A sum of 128 random products errs by 0.16 % of
//! its scale in the root mean square, as much as rounding it to bf16 would, and a sum of eight such sums by
//! 0.18 %: seven roundings more are little beside 128. Sums of chunks of channels, which wait in memory
//! while others are computed, are added up in f32, and the total is rounded. Clamps and the residual are f16:
//! bounds are rounded, which makes no difference to a value that is rounded; the sum with the residual is
//! rounded once more.

use super::args::TileArgs;
use crate::pairs::{self, f16};

/// The blocks of a row: pointers to the index of the first channel and to the values of the first block, and
/// the number of blocks.
///
/// # Safety
/// As [`TileArgs::blocks`]; a block has `block` values.
#[inline(always)]
pub(super) unsafe fn blocks(args: &TileArgs, row: usize, block: usize) -> (*const u32, *const u16, usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        let (indices, _, blocks) = args.blocks(row, 0);
        let first = indices.offset_from_unsigned(args.weights.indices);
        let values = args.weights.packed.values.as_ptr().cast::<u16>();
        (indices, values.add(first * block), blocks)
    }
}

/// Any number of pixels, one by one: what vectors must agree with, bit by bit. Channels of a lane are `apart`
/// halves from each other, lanes twice the stride.
///
/// # Safety
/// `args` keeps the invariants of [`TileArgs`] for blocks of `R` by `C` channels.
pub(super) unsafe fn tile<const R: usize, const C: usize>(args: &TileArgs, apart: usize) {
    let first = args.weights.rows.start * R;
    for channel in first..first + args.channels_from(first, args.weights.rows.len() * R) {
        for pixel in 0..args.pixels {
            // SAFETY: there are such an output channel and pixel.
            unsafe {
                let sum = sum::<R, C>(args, channel, pixel, apart);
                store(args, channel, pixel, sum);
            }
        }
    }
}

/// Adds the sum of a single pixel to what it begins with, and stores it.
///
/// # Safety
/// `channel` is an output channel of the block rows, and there is one pixel.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn finish(args: &TileArgs, channel: usize, sum: f32) {
    let weights = &args.weights;
    let waiting = args.sums.at.wrapping_add(channel * args.sums.stride);
    // SAFETY: sums wait at channel * stride (Sums).
    unsafe {
        let total = sum + if weights.first { args.bias(channel) } else { *waiting };
        if !weights.last {
            *waiting = total;
        }
        store(args, channel, 0, f16::round(total));
    }
}

/// The sum of a pixel of an output channel, rounded; if this is not the last chunk, it is left where sums
/// wait.
///
/// # Safety
/// As [`tile`]; there are such a channel and pixel.
unsafe fn sum<const R: usize, const C: usize>(
    args: &TileArgs,
    channel: usize,
    pixel: usize,
    apart: usize,
) -> u16 {
    let (weights, input) = (&args.weights, &args.input);
    // SAFETY: every index is a channel of the chunks with C - 1 behind it, each with the pixels of the tile;
    // a block has R * C values (PackedPointwise); sums wait at channel * stride + pixel (Sums).
    unsafe {
        let (indices, values, blocks) = blocks(args, channel / R, R * C);
        let waiting = args.sums.at.wrapping_add(channel * args.sums.stride + pixel);
        let mut sum = f16::Sum::new(if weights.first { f16::round(args.bias(channel)) } else { 0 });
        for block in 0..blocks {
            for c in 0..C {
                let from = *indices.add(block) as usize + c;
                let x = input
                    .x
                    .cast::<u16>()
                    .wrapping_add(from / 2 * 2 * input.stride + from % 2 * apart + pixel);
                sum.add(*x, *values.add((block * C + c) * R + channel % R));
            }
        }
        let sum = sum.value();
        if weights.first && weights.last {
            return sum;
        }
        let total = f16::float(sum) + if weights.first { 0.0 } else { *waiting };
        if !weights.last {
            *waiting = total;
        }
        f16::round(total)
    }
}

/// Clamps a pixel of an output channel and stores it in its half of a lane, if the last chunk is among those
/// of the call. If it has no neighbour, the other half becomes zero.
///
/// # Safety
/// As [`sum`].
unsafe fn store(args: &TileArgs, channel: usize, pixel: usize, sum: u16) {
    if !args.weights.last {
        return;
    }
    let (clamps, at) = (&args.clamps, 2 * (channel / 2 * args.output.stride + pixel) + channel % 2);
    let y = args.output.y.cast::<u16>().wrapping_add(at);
    // SAFETY: `y` and `residual` are valid at channel / 2 * stride + pixel (Output), for a lane of two
    // halves.
    unsafe {
        let residual = args.output.residual.cast::<u16>().wrapping_add(at);
        *y = clamps.half(sum, if clamps.residual { *residual } else { 0 });
        if channel.is_multiple_of(2) && channel + 1 == args.weights.packed.oc() {
            *y.wrapping_add(1) = 0;
        }
    }
}

/// Takes the lanes of `rows` apart, `width` of them in each: the pixels of the first channel come first.
pub(super) fn take_apart(rows: &mut [f32], width: usize) {
    if width < 2 {
        return; // a lane begins with its first channel
    }
    crate::scratch::with(width, |lanes| {
        for row in rows.chunks_exact_mut(width) {
            lanes.copy_from_slice(row);
            put_apart(lanes, row);
        }
    });
}

/// Writes the halves of `lanes` to a row of the same length: first those of the first channel.
#[inline(always)]
fn put_apart(lanes: &[f32], row: &mut [f32]) {
    let (first, second) = pairs::as_halves_mut(row).split_at_mut(lanes.len());
    for ((lane, first), second) in lanes.iter().zip(first).zip(second) {
        (*first, *second) = (lane.to_bits() as u16, (lane.to_bits() >> 16) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use noise::Noise;

    /// The error of sums of products in the root mean square, in f16 with so many `together`, and where the
    /// exact sum is rounded to bf16, over the root mean square of the sums.
    fn errors(products: usize, together: usize) -> [f64; 2] {
        const SUMS: usize = 2000;
        let mut noise = Noise::new(11);
        let mut squares = [0f64; 3];
        for _ in 0..SUMS {
            let [x, w] =
                [0; 2].map(|_| noise.values(products).into_iter().map(f16::round).collect::<Vec<u16>>());
            let (mut sum, mut exact) = (0, 0f64);
            for (x, w) in x.chunks(together).zip(w.chunks(together)) {
                let mut piece = 0;
                for (x, w) in x.iter().zip(w) {
                    piece = f16::mul_add(*x, *w, piece);
                    exact += f64::from(f16::float(*x)) * f64::from(f16::float(*w));
                }
                sum = f16::add(sum, piece);
            }
            let rounded = pairs::float(pairs::round(exact as f32));
            let all = [f64::from(f16::float(sum)) - exact, f64::from(rounded) - exact, exact];
            squares.iter_mut().zip(all).for_each(|(square, v)| *square += v * v);
        }
        let [of_f16, of_bf16, scale] = squares.map(f64::sqrt);
        [of_f16 / scale, of_bf16 / scale]
    }

    /// What the number of products is chosen by.
    #[test]
    #[cfg_attr(miri, ignore = "minutes in an interpreter")]
    fn sums_err_no_more_than_bf16_does() {
        let [most, rounding] = errors(f16::MOST_PRODUCTS, f16::MOST_PRODUCTS);
        assert!((0.0014..0.0018).contains(&most) && most < 1.1 * rounding, "{most} {rounding}");
        assert!((0.0010..0.0014).contains(&errors(f16::MOST_PRODUCTS / 2, f16::MOST_PRODUCTS)[0]));
        let many = 8 * f16::MOST_PRODUCTS;
        assert!(errors(many, f16::MOST_PRODUCTS)[0] < 1.15 * most, "{:?}", errors(many, f16::MOST_PRODUCTS));
        assert!(errors(many, many)[0] > 2.0 * rounding);
    }
}
