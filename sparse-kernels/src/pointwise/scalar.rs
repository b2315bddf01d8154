//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::args::TileArgs;
use super::body::Loops;

/// Pixels summed at a time.
const RUN: usize = 16;

/// No vectors: plain Rust.
pub(crate) struct Scalar;

impl Loops for Scalar {
    const LANES: usize = 1;
    const MOST_VECTORS: [usize; 4] = [usize::MAX; 4];

    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        for row in args.weights.rows.clone() {
            for start in (0..args.pixels).step_by(RUN) {
                let pixels = RUN.min(args.pixels - start);
                let mut sums = [[0f32; RUN]; R];
                for (r, sums) in sums.iter_mut().enumerate().take(args.channels(row, R)) {
                    // SAFETY: `row * R + r` is an output channel.
                    unsafe { begin(args, row * R + r, start, &mut sums[..pixels]) };
                }
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
                                *sum += w * x;
                            }
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(args.channels(row, R)) {
                    // SAFETY: `row * R + r` is an output channel.
                    unsafe { store(args, row * R + r, start, &sums[..pixels]) };
                }
            }
        }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { gemv::<R, C, 1>(args, args.input.stride, |w, x, sum| sum + w * x) };
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
    let mut sums = [0f32];
    // SAFETY: passed on from the caller.
    unsafe {
        begin(args, channel, 0, &mut sums);
        sums[0] += sum;
        store(args, channel, 0, &sums);
    }
}

/// What the sums of pixels from `start` of one output channel begin with.
///
/// # Safety
/// `channel` is an output channel of `args.weights.rows` and `start + sums.len()` is at most `args.pixels`.
unsafe fn begin(args: &TileArgs, channel: usize, start: usize, sums: &mut [f32]) {
    if args.weights.first {
        sums.fill(args.weights.packed.bias[channel]);
        return;
    }
    for (p, sum) in sums.iter_mut().enumerate() {
        // SAFETY: TileArgs: `y` is valid at channel * stride + pixel.
        *sum = unsafe { *args.output.y.wrapping_add(channel * args.output.stride + start + p) };
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
            if args.weights.last {
                v = clamp(v, clamps.before);
                if clamps.residual {
                    v = clamp(v + *args.output.residual.wrapping_add(at), clamps.after);
                }
            }
            *args.output.y.wrapping_add(at) = v;
        }
    }
}

/// NaN stays NaN.
fn clamp(v: f32, (lo, hi): (f32, f32)) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}
