//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::args::TileArgs;
use super::body::Loops;
use super::halves;
use crate::pairs;
use crate::quads;
use crate::table::Element;

/// Pixels summed at a time.
const RUN: usize = 16;

/// Most output channels that are summed together.
const MOST: usize = 8;

/// No vectors: plain Rust, for lanes of the [`Element`] with the number `ELEMENT`.
pub(crate) struct Scalar<const ELEMENT: u8 = { Element::F32 as u8 }>;

impl<const ELEMENT: u8> Loops for Scalar<ELEMENT> {
    const LANES: usize = 1;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    const MOST_VECTORS: [usize; 4] = [usize::MAX; 4];

    /// Channels of a lane that are in several block rows are summed one after the other and stored together.
    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        if const { matches!(Self::ELEMENT, Element::F16) } {
            // SAFETY: passed on from the caller.
            return unsafe { halves::tile::<R, C>(args, args.input.stride) };
        }
        let together = const { Self::ELEMENT.per_lane().div_ceil(R) };
        for first in args.weights.rows.clone().step_by(together) {
            let rows = first..args.weights.rows.end.min(first + together);
            let channels = args.channels_from(first * R, together * R);
            for start in (0..args.pixels).step_by(RUN) {
                let pixels = RUN.min(args.pixels - start);
                let mut all = [[0f32; RUN]; MOST];
                for (r, sums) in all.iter_mut().enumerate().take(channels) {
                    // SAFETY: `first * R + r` is an output channel.
                    unsafe { begin(args, first * R + r, start, &mut sums[..pixels]) };
                }
                for (row, sums) in rows.clone().zip(all.chunks_exact_mut(R)) {
                    // SAFETY: `row` is a block row.
                    let (indices, values, blocks) = unsafe { args.blocks(row, R * C) };
                    for block in 0..blocks {
                        for c in 0..C {
                            // SAFETY: every index is a channel of the chunks with C - 1 behind it, each with
                            // `args.pixels` floats (TileArgs); a block has R * C values
                            // (PackedPointwise).
                            let (x, w) = unsafe {
                                let channel = *indices.add(block) as usize + c;
                                let x = args.input.x.wrapping_add(channel * args.input.stride + start);
                                let w = values.add((block * C + c) * R);
                                (std::slice::from_raw_parts(x, pixels), std::slice::from_raw_parts(w, R))
                            };
                            for (sums, w) in sums.iter_mut().zip(w) {
                                for (sum, x) in sums.iter_mut().zip(x) {
                                    *sum = match Self::ELEMENT {
                                        Element::F32 => *sum + w * x,
                                        Element::Int8 => quads::dot(w.to_bits(), x.to_bits(), *sum),
                                        _ => pairs::dot(w.to_bits(), x.to_bits(), *sum),
                                    };
                                }
                            }
                        }
                    }
                }
                // SAFETY: these are output channels, the first of a pair or quad is the first of its lane.
                unsafe {
                    match Self::ELEMENT {
                        Element::F32 => {
                            for (r, sums) in all.iter().enumerate().take(channels) {
                                store(args, first * R + r, start, &sums[..pixels]);
                            }
                        }
                        Element::Bf16 | Element::F16 => {
                            for (r, sums) in all[..channels].chunks(2).enumerate() {
                                store_pair(args, first * R + 2 * r, start, pixels, sums);
                            }
                        }
                        Element::Int8 => {
                            for (r, sums) in all[..channels].chunks(quads::CHANNELS).enumerate() {
                                store_quad(args, first * R + quads::CHANNELS * r, start, pixels, sums);
                            }
                        }
                    }
                }
            }
        }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe {
            match Self::ELEMENT {
                Element::F32 => gemv::<R, C, 1>(args, args.input.stride, |w, x, sum| sum + w * x),
                Element::Bf16 | Element::Int8 => <Self as Loops>::tile::<R, C, 1>(args),
                Element::F16 => halves::tile::<R, C>(args, 1),
            }
        }
    }
}

/// A single pixel, with `U` independent sets of sums for each column of a block so that latency hides: block
/// `b` adds to set `b % U`. The `R` values of a column are neighbours, which is what makes this loop a vector
/// loop for `R` of 4 and 8.
///
/// # Safety
/// As [`Loops::single`]; `x_stride` is that of `args`. (A constant spares a multiplication for each column.)
#[inline(always)]
pub(super) unsafe fn gemv<const R: usize, const C: usize, const U: usize>(
    args: &TileArgs,
    x_stride: usize,
    multiply_add: impl Fn(f32, f32, f32) -> f32,
) {
    for row in args.weights.rows.clone() {
        // SAFETY: `row` is a block row.
        let (indices, values, blocks) = unsafe { args.blocks(row, R * C) };
        let mut sums = [[[0f32; R]; C]; U];
        let mut add = |block: usize, set: usize| {
            for c in 0..C {
                // SAFETY: every index is a channel of the chunks with C - 1 behind it (TileArgs); a block has
                // R * C values (PackedPointwise).
                let (x, w) = unsafe {
                    let channel = *indices.add(block) as usize + c;
                    (*args.input.x.wrapping_add(channel * x_stride), values.add((block * C + c) * R))
                };
                for r in 0..R {
                    // SAFETY: as above.
                    sums[set][c][r] = multiply_add(unsafe { *w.add(r) }, x, sums[set][c][r]);
                }
            }
        };
        for block in (0..blocks / U * U).step_by(U) {
            for set in 0..U {
                add(block + set, set);
            }
        }
        for block in blocks / U * U..blocks {
            add(block, 0);
        }
        for r in 0..args.channels(row, R) {
            // SAFETY: `row * R + r` is an output channel with one pixel.
            unsafe { finish(args, row * R + r, sums.iter().flatten().map(|sums| sums[r]).sum()) };
        }
    }
}

/// Adds `sum` to what a single pixel begins with, and stores it.
///
/// # Safety
/// `channel` is an output channel of `args.weights.rows`, and `args.pixels` is 1.
pub(super) unsafe fn finish(args: &TileArgs, channel: usize, sum: f32) {
    // SAFETY: passed on from the caller.
    unsafe { finish_pixel(args, channel, 0, sum) }
}

/// [`finish`] of pixel `pixel` of those of `args`, extra ones included.
///
/// # Safety
/// `channel` is an output channel of `args.weights.rows`, and `pixel` less than `args.pixels + args.extra`.
pub(super) unsafe fn finish_pixel(args: &TileArgs, channel: usize, pixel: usize, sum: f32) {
    let mut sums = [0f32];
    // SAFETY: passed on from the caller.
    unsafe {
        begin(args, channel, pixel, &mut sums);
        sums[0] += sum;
        store(args, channel, pixel, &sums);
    }
}

/// What the sums of pixels from `start` of one output channel begin with.
///
/// # Safety
/// `channel` is an output channel of `args.weights.rows` and `start + sums.len()` is at most `args.pixels + args.extra`.
unsafe fn begin(args: &TileArgs, channel: usize, start: usize, sums: &mut [f32]) {
    if args.weights.first {
        sums.fill(args.weights.packed.bias[channel]);
        return;
    }
    for (p, sum) in sums.iter_mut().enumerate() {
        // SAFETY: TileArgs: sums wait at channel * stride + pixel.
        *sum = unsafe { *args.sums.at.wrapping_add(channel * args.sums.stride + start + p) };
    }
}

/// Writes sums, and finishes them after the last chunk.
///
/// # Safety
/// As [`begin`].
unsafe fn store(args: &TileArgs, channel: usize, start: usize, sums: &[f32]) {
    let clamps = &args.clamps;
    for (p, v) in sums.iter().enumerate() {
        let at = channel * args.output.stride + start + p;
        let mut v = *v;
        // SAFETY: TileArgs: `y` and `residual` are valid at channel * stride + pixel.
        unsafe {
            if !args.weights.last {
                *args.sums.at.wrapping_add(channel * args.sums.stride + start + p) = v;
                continue;
            }
            v = clamp(v, clamps.before);
            if clamps.residual {
                v = clamp(v + *args.output.residual.wrapping_add(at), clamps.after);
            }
            *args.output.y.wrapping_add(at) = v;
        }
    }
}

/// [`store`] for a pair: the sums of the first `pixels` of one or two channels.
///
/// # Safety
/// As [`begin`], for each of the channels; `channel` is even.
unsafe fn store_pair(args: &TileArgs, channel: usize, start: usize, pixels: usize, sums: &[[f32; RUN]]) {
    let clamps = &args.clamps;
    if !args.weights.last {
        for (r, sums) in sums.iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { store(args, channel + r, start, &sums[..pixels]) };
        }
        return;
    }
    for p in 0..pixels {
        let at = channel / 2 * args.output.stride + start + p;
        // SAFETY: TileArgs: `y` and `residual` are valid at channel / 2 * stride + pixel.
        unsafe {
            let mut residual = 0;
            if clamps.residual {
                residual = (*args.output.residual.wrapping_add(at)).to_bits();
            }
            let pixel = [sums[0][p], sums.get(1).map_or(0.0, |second| second[p])];
            *args.output.y.wrapping_add(at) = f32::from_bits(clamps.pair(&pixel[..sums.len()], residual));
        }
    }
}

/// [`store`] for a quad: the sums of the first `pixels` of four channels.
///
/// # Safety
/// As [`begin`], for each of the channels; `channel` is the first of its quad.
unsafe fn store_quad(args: &TileArgs, channel: usize, start: usize, pixels: usize, sums: &[[f32; RUN]]) {
    if !args.weights.last {
        for (r, sums) in sums.iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { store(args, channel + r, start, &sums[..pixels]) };
        }
        return;
    }
    for p in 0..pixels {
        let quad = args.requantise().quad(channel, std::array::from_fn(|c| sums[c][p]));
        let at = channel / quads::CHANNELS * args.output.stride + start + p;
        // SAFETY: TileArgs: `y` is valid at channel / 4 * stride + pixel.
        unsafe { *args.output.y.wrapping_add(at) = quad };
    }
}

/// Adds the sums of single pixels, of one or two channels from an even one on, to what they begin with, and stores
/// the pair.
///
/// # Safety
/// As [`finish`], for each of the channels.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) unsafe fn finish_pair(args: &TileArgs, channel: usize, sums: &[f32]) {
    let mut all = [[0f32; RUN]; 2];
    // SAFETY: passed on from the caller.
    unsafe {
        for (r, (all, sum)) in all.iter_mut().zip(sums).enumerate() {
            begin(args, channel + r, 0, &mut all[..1]);
            all[0] += sum;
        }
        store_pair(args, channel, 0, 1, &all[..sums.len()]);
    }
}

/// Adds the sums of single pixels, of four channels from the first of a quad on, to what they begin with, and stores the
/// quad.
///
/// # Safety
/// As [`finish`], for each of the channels.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
pub(super) unsafe fn finish_quad(args: &TileArgs, channel: usize, sums: &[f32]) {
    let mut all = [[0f32; RUN]; quads::CHANNELS];
    // SAFETY: passed on from the caller.
    unsafe {
        for (r, (all, sum)) in all.iter_mut().zip(sums).enumerate() {
            begin(args, channel + r, 0, &mut all[..1]);
            all[0] = f32::from_bits(all[0].to_bits().wrapping_add(sum.to_bits()));
        }
        store_quad(args, channel, 0, 1, &all);
    }
}

/// NaN stays NaN.
fn clamp(v: f32, (lo, hi): (f32, f32)) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}
