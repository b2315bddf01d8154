//! The tile, written once over [`Vector`]; every machine's file says how it is used here.
//!
//! A tile is `R` output channels by `N` vectors of pixels, whose sums are registers. For every block of a row
//! of blocks, and each of its `C` input channels, `N` vectors of pixels are read, and each of `R` weights is
//! multiplied into its sums. The last vector ends at the last pixel and may overlap the one before: both then
//! compute the same values, and no tile needs masks.
//!
//! Sums are only indexed by constants, so that they stay in registers.

use super::args::TileArgs;
use crate::pairs;
use crate::scratch::LINE;
use crate::table::Element;
use crate::vector::{Vector, compiled};

/// Rows of a tile, at most.
const MOST_ROWS: usize = 8;

/// How a machine's vectors are used here.
pub(super) trait Pointwise: Vector {
    /// Vectors of pixels that a tile of 1, 2, 4 and 8 rows has registers for.
    const MOST_VECTORS: [usize; 4];

    /// Tiles of up to this number of sums keep two sets of them, for blocks at odd and even positions: fewer would
    /// not hide the latency of a multiply-add.
    const TWO_SETS: usize = 0;

    /// Floats by which the weights of 4x4 blocks are asked for ahead of their use, if they are.
    const AHEAD: Option<usize> = None;

    /// [`Loops::FLIPPED`].
    const FLIPPED: bool = false;

    /// `R` output channels by at least a vector and at most `PIXELS` pixels.
    ///
    /// # Safety
    /// The instruction set is there; `args` keeps the invariants of [`TileArgs`].
    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { tile::<Self, (), R, C, PIXELS>(args) }
    }

    /// `R` output channels of a single pixel.
    ///
    /// # Safety
    /// As [`Pointwise::tile`]; there is one pixel.
    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs);

    /// The sums of a block row.
    ///
    /// # Safety
    /// As [`block_row`].
    #[inline(always)]
    unsafe fn accumulate<A: Along<Self>, const R: usize, const C: usize, const N: usize>(
        args: &TileArgs,
        row: usize,
        at: &[usize; N],
        along: &mut A,
    ) -> [[Self; N]; R] {
        // SAFETY: passed on from the caller.
        unsafe { accumulate::<Self, A, R, C, N>(args, row, at, along) }
    }

    /// Adds one input channel, whose pixels begin at `x`, to all sums.
    ///
    /// # Safety
    /// The instruction set is there; `x` is valid for a vector at every position of `at`, `w` for R floats.
    #[inline(always)]
    unsafe fn add_channel<const R: usize, const N: usize>(
        sums: &mut [[Self; N]; R],
        x: *const f32,
        at: &[usize; N],
        w: *const f32,
    ) {
        // SAFETY: passed on from the caller.
        unsafe { add_loaded(sums, x, at, w) }
    }
}

/// [`Pointwise::add_channel`], all vectors of pixels first.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn add_loaded<V: Vector, const R: usize, const N: usize>(
    sums: &mut [[V; N]; R],
    x: *const f32,
    at: &[usize; N],
    w: *const f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut vectors = [V::splat(0.0); N];
        for n in 0..N {
            vectors[n] = V::load(x.add(at[n]));
        }
        V::add_column(sums, &vectors, w);
    }
}

/// What a row of the kernel table runs: the loops over a machine's vectors, or plain Rust.
pub(crate) trait Loops {
    /// Pixels of a vector.
    const LANES: usize;

    /// What they multiply.
    const ELEMENT: Element;

    /// [`Vector::SIGNED`].
    const SIGNED: bool = false;

    /// Whether tiles want activations of quads with the top bit of each byte flipped, so that none is left to flip in the
    /// loop; single pixels do not.
    const FLIPPED: bool = false;

    /// Vectors of pixels that a tile of 1, 2, 4 and 8 rows has registers for.
    const MOST_VECTORS: [usize; 4];

    /// `R` output channels by at least a vector and at most `PIXELS` pixels.
    ///
    /// # Safety
    /// The instruction set is there; `args` keeps the invariants of [`TileArgs`].
    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs);

    /// `R` output channels of a single pixel.
    ///
    /// # Safety
    /// As [`Loops::tile`]; there is one pixel.
    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs);
}

impl<V: Pointwise> Loops for V {
    const LANES: usize = <V as Vector>::LANES;
    const ELEMENT: Element = <V as Vector>::ELEMENT;
    const SIGNED: bool = <V as Vector>::SIGNED;
    const FLIPPED: bool = <V as Pointwise>::FLIPPED;
    const MOST_VECTORS: [usize; 4] = <V as Pointwise>::MOST_VECTORS;

    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { <V as Pointwise>::tile::<R, C, PIXELS>(args) }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { <V as Pointwise>::single::<R, C>(args) }
    }
}

/// What the pixels beyond the last vector take along of every block; nothing if there are none.
pub(super) trait Along<V: Pointwise>: Copy {
    /// The state at the beginning of a block row.
    ///
    /// # Safety
    /// The instruction set is there.
    unsafe fn begin() -> Self;

    /// Adds the block whose first channel is `index` and whose values begin at `w`.
    ///
    /// # Safety
    /// As [`block_row`]; this is one of the row's blocks.
    #[inline(always)]
    unsafe fn block<const R: usize, const C: usize>(&mut self, _: &TileArgs, _: usize, _: *const f32) {}

    /// [`Pointwise::add_channel`] of `channel`, for those that go along better channel by channel.
    ///
    /// # Safety
    /// As there; `channel` is one of a block of the row.
    #[inline(always)]
    unsafe fn channel<const R: usize, const N: usize>(
        &mut self,
        sums: &mut [[V; N]; R],
        _: &TileArgs,
        _: usize,
        x: *const f32,
        at: &[usize; N],
        w: *const f32,
    ) {
        // SAFETY: passed on from the caller.
        unsafe { V::add_channel(sums, x, at, w) }
    }

    /// Epilogue and store of these pixels in block row `row`.
    ///
    /// # Safety
    /// As [`block_row`].
    unsafe fn finish<const C: usize>(self, args: &TileArgs, row: usize);
}

impl<V: Pointwise> Along<V> for () {
    #[inline(always)]
    unsafe fn begin() {}

    #[inline(always)]
    unsafe fn finish<const C: usize>(self, _: &TileArgs, _: usize) {}
}

/// [`Pointwise::tile`], with what goes along.
///
/// # Safety
/// As there; the extra pixels are those of `A`.
pub(super) unsafe fn tile<V: Pointwise, A: Along<V>, const R: usize, const C: usize, const PIXELS: usize>(
    args: &TileArgs,
) {
    macro_rules! vectors {
        ($($n:literal)*) => {
            match args.pixels.div_ceil(V::LANES) {
                // SAFETY: passed on from the caller; the number of vectors is that of the pixels.
                $($n if const { $n * V::LANES <= PIXELS } => unsafe { of_vectors::<V, A, R, C, $n>(args) },)*
                vectors => unreachable!("a tile of {vectors} vectors"),
            }
        };
    }
    vectors!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

compiled! {
    unsafe fn of_vectors<V: Pointwise, A: Along<V>; R: usize, C: usize, N: usize>(TileArgs) = rows;
}

/// One block row after the other, for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `N` is the number of vectors of the pixels.
#[inline(always)]
unsafe fn rows<V: Pointwise, A: Along<V>, const R: usize, const C: usize, const N: usize>(args: &TileArgs) {
    let mut at = [0; N];
    for (n, at) in at.iter_mut().enumerate() {
        *at = n * V::LANES;
    }
    at[N - 1] = args.pixels - V::LANES;
    let together = const { V::ELEMENT.per_lane().div_ceil(R) };
    for row in args.weights.rows.clone().step_by(together) {
        // SAFETY: a block row; the last vector ends at the last pixel.
        unsafe { block_row::<V, A, R, C, N>(args, row, &at) };
    }
}

/// Block row `row` of a tile whose vectors begin `at` these pixels. Where a block has fewer rows than a lane has
/// channels, with the next rows.
///
/// # Safety
/// As [`tile`]; `row` is one of the block rows; vectors are inside the pixels.
#[inline(always)]
unsafe fn block_row<V: Pointwise, A: Along<V>, const R: usize, const C: usize, const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
) {
    // SAFETY: passed on from the caller; the next row is looked at if there is one; those of a quad are always there, and
    // so is the line of it in the output (PackedPointwise, Output).
    unsafe {
        let mut along = A::begin();
        let sums = V::accumulate::<A, R, C, N>(args, row, at, &mut along);
        match V::ELEMENT {
            Element::F32 => store(args, row, at, &sums),
            Element::Bf16 | Element::F16 if R > 1 => store_pairs(args, row * R, at, &sums),
            Element::Bf16 | Element::F16 => {
                let mut second = [[V::splat(0.0); N]; R];
                if row + 1 < args.weights.rows.end {
                    second = V::accumulate::<A, R, C, N>(args, row + 1, at, &mut along);
                }
                store_pairs(args, row, at, &[sums[0], second[0]]);
            }
            Element::Int8 => {
                let mut rows = [[V::splat(0.0); N]; MOST_ROWS];
                finish_rows(args, row, at, &sums, &mut rows[..R]);
                for next in 1..const { V::ELEMENT.per_lane().div_ceil(R) } {
                    let sums = V::accumulate::<A, R, C, N>(args, row + next, at, &mut along);
                    finish_rows(args, row + next, at, &sums, &mut rows[next * R..][..R]);
                }
                if args.weights.last {
                    let line = row * R / V::ELEMENT.per_lane();
                    let y = args.output.y.wrapping_add(line * args.output.stride);
                    let bounds = args.requantise().bounds();
                    let [a, b, c, d, ..] = rows;
                    for n in 0..N {
                        V::quad([a[n], b[n], c[n], d[n]], &bounds).store(y.add(at[n]));
                    }
                }
            }
        }
        along.finish::<C>(args, row);
    }
}

/// [`Pointwise::accumulate`], block by block.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn accumulate<V: Pointwise, A: Along<V>, const R: usize, const C: usize, const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
    along: &mut A,
) -> [[V; N]; R] {
    // SAFETY: every index is a channel of the chunks with C - 1 behind it, each with the pixels of the tile
    // (Input); every block has R * C values (PackedPointwise).
    unsafe {
        let mut sums: [[V; N]; R] = begin(args, row, at);
        let (indices, mut w, blocks) = args.blocks(row, R * C);
        ask_for_next::<V>(args, row, R * C);
        macro_rules! add_block {
            ($sums:ident, $block:expr) => {
                let channel = *indices.add($block) as usize;
                if C > 1
                    && let Some(ahead) = V::AHEAD
                {
                    V::prefetch(w.wrapping_add(ahead));
                }
                along.block::<R, C>(args, channel, w);
                let mut x = args.input.x.wrapping_add(channel * args.input.stride);
                for c in 0..C {
                    along.channel(&mut $sums, args, channel + c, x, at, w);
                    x = x.wrapping_add(args.input.stride);
                    w = w.add(R);
                }
            };
        }
        if const { R * N <= V::TWO_SETS } {
            let mut odd = [[V::splat(0.0); N]; R];
            for pair in 0..blocks / 2 {
                add_block!(sums, 2 * pair);
                add_block!(odd, 2 * pair + 1);
            }
            if blocks % 2 > 0 {
                add_block!(sums, blocks - 1);
            }
            for r in 0..R {
                for n in 0..N {
                    sums[r][n] = sums[r][n].add(odd[r][n]);
                }
            }
        } else {
            for block in 0..blocks {
                add_block!(sums, block);
            }
        }
        sums
    }
}

/// Asks for the weights of the row after `row` where only some chunks are worked on: its part of them is
/// elsewhere, and the prefetcher of the core cannot know where.
///
/// # Safety
/// `row` is one of the block rows.
#[inline(always)]
pub(super) unsafe fn ask_for_next<V: Vector>(args: &TileArgs, row: usize, block: usize) {
    if args.weights.row_step > 1 {
        // SAFETY: the row is a block row: the next one or the last.
        let (index, w, _) = unsafe { args.blocks((row + 1).min(args.weights.rows.end - 1), block) };
        for line in 0..2 {
            V::prefetch(index.wrapping_add(line * LINE).cast());
            V::prefetch(w.wrapping_add(line * LINE));
        }
    }
}

/// What the sums of a block row begin with.
///
/// # Safety
/// As [`block_row`].
#[inline(always)]
pub(super) unsafe fn begin<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
) -> [[V; N]; R] {
    // SAFETY: there is a bias for each of R rows; `row * R + r` is an output channel if r < channels, whose
    // sums wait from the chunk before (Sums).
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        if args.weights.first {
            for r in 0..R {
                sums[r] = [V::splat(args.bias(row * R + r)); N];
                // The output is often not in cache: ask for it now, store it many cycles later.
                if const { R > 1 } && !r.is_multiple_of(V::ELEMENT.per_lane()) {
                    continue;
                }
                let line = (row * R + r) / V::ELEMENT.per_lane();
                let y = args.output.y.wrapping_add(line * args.output.stride + args.output.ahead);
                for n in (0..N).step_by(LINE / V::LANES) {
                    V::prefetch(y.wrapping_add(n * V::LANES));
                }
                V::prefetch(y.wrapping_add(args.pixels - 1));
            }
            return sums;
        }
        let channels = args.channels(row, R);
        let mut waiting = args.sums.at.wrapping_add(row * R * args.sums.stride);
        for r in 0..R {
            for n in 0..N {
                if r < channels {
                    sums[r][n] = V::load(waiting.add(at[n]));
                }
            }
            waiting = waiting.wrapping_add(args.sums.stride);
        }
        sums
    }
}

/// Epilogue and store of one block row.
///
/// # Safety
/// As [`block_row`].
#[inline(always)]
pub(super) unsafe fn store<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
    sums: &[[V; N]; R],
) {
    let (clamps, channels, stride) = (&args.clamps, args.channels(row, R), args.output.stride);
    let mut y = args.output.y.wrapping_add(row * R * stride);
    let mut residual = args.output.residual.wrapping_add(row * R * stride);
    // SAFETY: the pixels of the tile are valid in `y`, in `residual` if there is one, and in the sums that
    // wait, for every output channel (Output, Sums).
    unsafe {
        if !args.weights.last {
            let mut waiting = args.sums.at.wrapping_add(row * R * args.sums.stride);
            for r in 0..R {
                for n in 0..N {
                    if r < channels {
                        sums[r][n].store(waiting.add(at[n]));
                    }
                }
                waiting = waiting.wrapping_add(args.sums.stride);
            }
            return;
        }
        let (lo, hi) = (V::splat(clamps.before.0), V::splat(clamps.before.1));
        if V::STORES_TWO && !clamps.residual && channels == R {
            // The usual case, without a branch between the rows. The last vector may overlap the one before.
            let pairs = if args.pixels == N * V::LANES { N / 2 } else { (N - 1) / 2 };
            for sums in sums {
                for n in 0..N {
                    if n % 2 == 1 && n < 2 * pairs {
                        sums[n - 1].clamp(lo, hi).store_two(sums[n].clamp(lo, hi), y.add(at[n - 1]));
                    } else if n >= 2 * pairs {
                        sums[n].clamp(lo, hi).store(y.add(at[n]));
                    }
                }
                y = y.wrapping_add(stride);
            }
            return;
        }
        if !clamps.residual {
            for r in 0..R {
                for n in 0..N {
                    if r < channels {
                        sums[r][n].clamp(lo, hi).store(y.add(at[n]));
                    }
                }
                y = y.wrapping_add(stride);
            }
            return;
        }
        let (lo1, hi1) = (V::splat(clamps.after.0), V::splat(clamps.after.1));
        for r in 0..R {
            for n in 0..N {
                if r < channels {
                    let value = sums[r][n].clamp(lo, hi).add(V::load(residual.add(at[n])));
                    value.clamp(lo1, hi1).store(y.add(at[n]));
                }
            }
            y = y.wrapping_add(stride);
            residual = residual.wrapping_add(stride);
        }
    }
}

/// What becomes of the sums of a block row, up to the zero point; or, if there is another chunk, leaves them to wait.
///
/// # Safety
/// As [`Pointwise::row`]; there are `R` of `rows`.
#[inline(always)]
unsafe fn finish_rows<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
    sums: &[[V; N]; R],
    rows: &mut [[V; N]],
) {
    // SAFETY: all channels of a quad are there (PackedPointwise) and have scales (Requantise) and sums that wait (Sums).
    unsafe {
        for r in 0..R {
            let channel = row * R + r;
            if !args.weights.last {
                let waiting = args.sums.at.wrapping_add(channel * args.sums.stride);
                for n in 0..N {
                    sums[r][n].store(waiting.add(at[n]));
                }
                continue;
            }
            let scale = V::splat(*args.requantise().scales.get_unchecked(channel));
            for n in 0..N {
                rows[r][n] = sums[r][n].scaled(scale);
            }
        }
    }
}

/// Epilogue and store of the `R` output channels from `channel` on, an even number of them, in pairs. Those that do
/// not exist are zero in the last pair, and not stored beyond it.
///
/// # Safety
/// As [`block_row`]; `channel` is even.
#[inline(always)]
unsafe fn store_pairs<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    channel: usize,
    at: &[usize; N],
    sums: &[[V; N]; R],
) {
    let (clamps, stride) = (&args.clamps, args.output.stride);
    let channels = args.channels_from(channel, R);
    // SAFETY: the pixels of the tile are valid in `y`, in `residual` if there is one, for every pair of output
    // channels, and in the sums that wait for every channel (Output, Sums).
    unsafe {
        if !args.weights.last {
            for r in 0..R {
                let waiting = args.sums.at.wrapping_add((channel + r) * args.sums.stride);
                for n in 0..N {
                    if r < channels {
                        sums[r][n].store(waiting.add(at[n]));
                    }
                }
            }
            return;
        }
        for r in (0..R).step_by(2) {
            if r >= channels {
                return;
            }
            let line = (channel + r) / 2 * stride;
            let (y, residual) = (args.output.y.wrapping_add(line), args.output.residual.wrapping_add(line));
            for n in 0..N {
                let (both, second) = ([sums[r][n], sums[r + 1][n]], r + 1 < channels);
                pairs::store(both, second, clamps, residual.wrapping_add(at[n]), y.add(at[n]));
            }
        }
    }
}
