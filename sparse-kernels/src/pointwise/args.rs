//! What a kernel is given.

use super::PackedPointwise;
use crate::epilogue::Clamps;
use crate::quads::Requantise;
use std::ops::Range;

/// One call of a kernel: some output pixels of the output channels in some block rows, over some chunks of
/// input channels.
///
/// Invariants, beside those of the parts:
/// * `pixels` is at least the vector of the kernel and at most its tile, or 1 for `single`;
/// * `extra` is zero but for kernels with [`super::Tuning::with_extra`], whose tiles have at most that many
///   vectors of pixels then; it is at most 4;
/// * `input`, `output` and `sums` are valid for `pixels + extra` pixels, of the channels that `weights` asks
///   for.
pub(crate) struct TileArgs<'a> {
    pub weights: Weights<'a>,
    pub input: Input,
    pub output: Output,
    pub sums: Sums,
    pub pixels: usize,
    /// Pixels behind the `pixels` that are computed along with them.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub extra: usize,
    pub clamps: Clamps,
}

/// The weights of a call.
///
/// Invariants:
/// * `indices` are those of the blocks of `packed`;
/// * `starts` points to the number of block row 0, those of the other rows are multiples of `row_step` behind
///   it, and `chunks` numbers behind each of them is another one;
/// * `rows` lies within the block rows of `packed`.
pub(crate) struct Weights<'a> {
    pub packed: &'a PackedPointwise,
    /// The first channel of every block: counted in used channels, or in all.
    pub indices: *const u32,
    /// Where the first block of block row 0 in these chunks is.
    pub starts: *const u32,
    /// From where blocks of a row begin to where they end, in numbers of `starts`.
    pub chunks: usize,
    /// From a row to the next, in numbers of `starts`.
    pub row_step: usize,
    /// Block rows.
    pub rows: Range<usize>,
    /// The first chunk is among them: sums start from the bias, otherwise from what the chunk before has left
    /// in [`Sums`].
    pub first: bool,
    /// The last chunk is among them: clamps are applied, otherwise bare sums are left in [`Sums`].
    pub last: bool,
}

/// The pixels that are read.
///
/// Invariants, for the channels of the chunks as [`Weights::indices`] count them:
/// * `x` is valid at every multiple of `stride`; for a kernel without [`super::Tuning::planes`] for whole
///   vectors, unless there is one pixel;
/// * `extra` is valid for what the extra pixels fill.
#[derive(Clone, Copy)]
pub(crate) struct Input {
    /// First pixel of the channel that indices count from; only channels of the chunks may be there.
    pub x: *const f32,
    /// Floats from one input channel to the next.
    pub stride: usize,
    /// Inputs of extra pixels: for every block column, [`extra_slots`] times those of such a pixel, each of
    /// which fills four neighbours.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub extra: *const f32,
}

/// Where finished pixels go: the tensor, or a planar copy of interleaved pixels.
///
/// Invariants:
/// * `y`, and `residual` if the clamps want it, are valid at every multiple of `stride` up to the last output
///   channel of the block rows;
/// * nothing else touches that part of `y` during the call.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// First pixel of output channel 0.
    pub y: *mut f32,
    pub residual: *const f32,
    /// Lanes from one output channel to the next; from one pair or quad of them, of kernels for these.
    pub stride: usize,
    /// Floats from the pixels of this call to those whose lines the kernel asks for: its own, or those of the
    /// tile that comes next. A hint: it may point beyond the tensor.
    pub ahead: usize,
}

/// Where sums wait between chunks.
///
/// Invariant: if not all chunks are in this call, `at` is valid for whole vectors at every multiple of
/// `stride`, as [`Output::y`] is for pixels; it may be that.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// First pixel of output channel 0.
    pub at: *mut f32,
    /// Floats from one output channel to the next.
    pub stride: usize,
}

/// Places for extra pixels: there are kernels for none, one and four.
pub(crate) fn extra_slots(extra: usize) -> usize {
    match extra {
        0 | 1 => extra,
        2..=4 => 4,
        _ => unreachable!("{extra} extra pixels"),
    }
}

impl TileArgs<'_> {
    /// The blocks of block row `row` in these chunks: pointers to the index of its first channel and to the
    /// values of the first block, and the number of blocks.
    ///
    /// # Safety
    /// `row` must be one of the block rows (invariant of `PackedPointwise`: `starts` is inside `indices`).
    #[inline(always)]
    pub unsafe fn blocks(&self, row: usize, block: usize) -> (*const u32, *const f32, usize) {
        let w = &self.weights;
        // SAFETY: there is a number at `row_step` times a row, and one `chunks` behind it (Weights); all are
        // valid positions of `indices` (PackedPointwise).
        unsafe {
            let starts = w.starts.add(row * w.row_step);
            let (start, end) = (*starts as usize, *starts.add(w.chunks) as usize);
            (w.indices.add(start), w.packed.values.as_ptr().add(start * block), end - start)
        }
    }

    /// Whether an i32 holds the distance of every channel from the first, in floats: what instructions that
    /// gather take.
    #[cfg(target_arch = "x86_64")]
    pub fn gathers(&self) -> bool {
        let floats = self.weights.packed.ic().checked_mul(self.input.stride);
        floats.is_some_and(|floats| i32::try_from(floats).is_ok())
    }

    /// How many output channels of block row `row` exist: `r`, or fewer in a ragged last row.
    #[inline(always)]
    pub fn channels(&self, row: usize, r: usize) -> usize {
        self.channels_from(row * r, r)
    }

    /// How many of the `r` output channels from `channel` on exist.
    #[inline(always)]
    pub fn channels_from(&self, channel: usize, r: usize) -> usize {
        (self.weights.packed.whole_oc - channel).min(r)
    }

    /// What becomes of sums of quads.
    #[inline(always)]
    pub fn requantise(&self) -> &Requantise {
        match &self.weights.packed.requantise {
            Some(requantise) => requantise,
            None => unreachable!("kernels of quads have weights of quads (invariant of PackedPointwise)"),
        }
    }

    /// What the sums of an output channel begin with in the first chunk.
    ///
    /// # Safety
    /// The channel is one of the block rows, which may be ragged (invariant of `PackedPointwise`: `bias` has
    /// whole rows).
    #[inline(always)]
    pub unsafe fn bias(&self, channel: usize) -> f32 {
        // SAFETY: passed on from the caller.
        unsafe { *self.weights.packed.bias.get_unchecked(channel) }
    }
}
