//! 1x1 convolution and fully connected layers: a sparse matrix times dense planes of pixels.
//!
//! One run cuts the output pixels of an image into tiles. For each tile, or a few neighbouring ones, the
//! input channels that have any weight are copied into a contiguous **panel** (`[channel][pixel]`), whatever
//! the layout, stride and padding of the input; then the kernel walks the weights once over the panel. The
//! copy costs a few per cent, buys contiguous loads and keeps the pixels in cache while the weights stream
//! by. Where the panel of all channels would be too large, channels are taken in **chunks**, and the sums
//! wait in the output.
//!
//! Each output value is summed by one thread in an order that depends on weights and geometry alone, so that
//! the split into threads never changes a result.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_cores;
mod packed;
mod panel;
mod run;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

pub use packed::PackedPointwise;

use crate::epilogue::Clamps;
use crate::format::FormatKind;
use crate::scratch::LINE;
use crate::table::KernelInfo;
use crate::target::{Core, Isa};
use std::ops::Range;

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can
/// run.
#[derive(Debug)]
pub struct PointwiseKernel {
    info: KernelInfo,
    format: FormatKind,
    /// Pixels of a vector: `tile` wants at least that many.
    vector: usize,
    /// So many pixels beyond the last whole vector are cheaper one by one than as one more vector.
    singles: usize,
    /// Any number of pixels from `vector` to the tile.
    tile: unsafe fn(&TileArgs),
    /// Exactly one pixel.
    single: unsafe fn(&TileArgs),
}

impl PointwiseKernel {
    /// Name, target and tile.
    pub fn info(&self) -> &KernelInfo {
        &self.info
    }

    /// The format it reads.
    pub fn format(&self) -> FormatKind {
        self.format
    }

    /// Pixels of one vector register.
    pub fn vector(&self) -> usize {
        self.vector
    }

    /// Sums wait for the next chunk of channels in a buffer of their own, not in the output.
    fn sums_apart(&self) -> bool {
        self.info.isa == Isa::Avx512
    }

    /// A panel of more floats is worked off in chunks of channels.
    ///
    /// In general 48 KiB, as measured on cores that have 32 KiB of first-level cache but load from the second
    /// level far ahead: half as much costs more in loads and stores of sums than it gains, twice as much
    /// is slower for dense weights. Kernels made for a class of Arm cores stay inside the first level,
    /// 256 channels by 20 pixels, with room for weights and outputs: in-order cores wait for every line.
    fn panel(&self) -> usize {
        match self.info.core {
            Core::Any => (48 << 10) / size_of::<f32>(),
            // twice the multiply-adds a cycle: each chunk's panel has to stay in the first level
            Core::Wide => (32 << 10) / size_of::<f32>(),
            Core::A53 | Core::A55 | Core::A76 => 256 * 20,
        }
    }

    /// Passes over the rows of weights that one tile takes whose panel holds `channels`, of weights of so
    /// many blocks and block rows: chunks of channels, at least one.
    pub fn chunks(&self, channels: usize, blocks: usize, block_rows: usize) -> usize {
        let columns = channels.div_ceil(self.format.c());
        let tile = self.tile_for(columns * self.format.c());
        columns.div_ceil(self.chunk(columns, tile, blocks, block_rows)).max(1)
    }

    /// Block columns of a chunk, of `columns` in all with tiles of `tile` pixels.
    fn chunk(&self, columns: usize, tile: usize, blocks: usize, block_rows: usize) -> usize {
        let mut most = (self.panel() / tile / self.format.c()).max(1);
        if self.chunk_major() {
            // What a row costs besides its blocks must not come back too often.
            const LEAST_BLOCKS: usize = 16;
            most = most.max((LEAST_BLOCKS * columns * block_rows).div_ceil(blocks.max(1)));
        }
        columns.div_ceil(columns.div_ceil(most).max(1)).max(1)
    }

    /// Most vectors of a tile that takes single pixels behind them along, instead of their being tiles of
    /// their own: as many as leave registers for the sums of these. None if the kernel never does.
    fn vectors_with_extra(&self) -> Option<usize> {
        (self.info.core == Core::Wide && self.format.r() == 4).then_some(5)
    }

    /// Weights lie in the order of chunks, and of rows within each, so that they are one stream for each
    /// tile: these cores wait for weights sooner than for anything else, and fetch ahead only what is in
    /// order.
    fn chunk_major(&self) -> bool {
        self.info.core == Core::Wide
    }

    /// Pixels of a tile whose panel holds `channels`: all that there are registers for, or some fewer where
    /// that spares chunks.
    fn tile_for(&self, channels: usize) -> usize {
        let most = self.info.pixels;
        let least = match self.info.core {
            Core::Any | Core::A53 | Core::A55 => most,
            Core::Wide if self.info.channels == 1 => most,
            Core::Wide => most * 2 / 3,
            Core::A76 => most * 5 / 7 / self.vector * self.vector,
        };
        let chunks = |tile: &usize| (channels * tile).div_ceil(self.panel());
        (least..=most).rev().step_by(self.vector).min_by_key(chunks).unwrap_or(most)
    }

    /// When a kernel does better without a panel; none if it never does.
    ///
    /// The limits are where modelled cycles, lines included, are fewer. (Translations of addresses are not
    /// modelled: another reason to come back seldom.) Other kernels than those made for a class of Arm
    /// cores have wide tiles, for which a panel is cheap.
    fn planes(&self) -> Option<Planes> {
        const KB: usize = 1024 / size_of::<f32>();
        let (visits, way) = match self.info.core {
            Core::Any | Core::Wide => return None,
            Core::A53 => (15, 8 * KB),
            Core::A55 => (12, 8 * KB),
            Core::A76 => (15, 16 * KB),
        };
        Some(Planes { weights: 60, visits, way })
    }

    /// Pixels of a tile that reads `channels` planes in place, if planes are whole lines: whole lines, too,
    /// where the lines of rows that begin anywhere would not leave half of the cache to others, and if
    /// that leaves sums enough to be worth the loads and the loop around them.
    fn line_tile(&self, channels: usize) -> usize {
        /// Lines of the smallest first-level cache of these cores.
        const LINES: usize = (32 << 10) / size_of::<f32>() / LINE;
        let most = self.info.pixels;
        let whole = most / LINE * LINE;
        let crowded = 2 * channels * (most.div_ceil(LINE) + 1) > LINES;
        let enough = 5 * whole >= 4 * most || self.info.channels * whole >= 16 * self.vector;
        if crowded && enough { whole } else { most }
    }
}

/// When kernels read planes where they are.
struct Planes {
    /// Up to so many weights of an input channel.
    weights: usize,
    /// And up to so many visits to it for one tile, unless tiles are whole lines.
    visits: usize,
    /// Floats of one way of the first-level cache.
    way: usize,
}

/// Builds a row of [`KERNELS`]: format, tile, singles, target, vector, quality, the target's module; or, for
/// a class of cores, the function for tiles and the module for single pixels.
macro_rules! kernel {
    ($format:ident $text:literal, $r:literal x $pixels:literal, $c:literal, singles $singles:literal,
     $isa:ident $suffix:literal $vector:literal, $quality:ident, $module:ident) => {
        kernel!($format $text, $r x $pixels, $c, singles $singles, $isa Any $suffix $vector, $quality, $module::tile, $module)
    };
    ($format:ident $text:literal, $r:literal x $pixels:literal, $c:literal, singles $singles:literal,
     $isa:ident $core:ident $suffix:literal $vector:literal, $quality:ident, $tiles:ident::$tile:ident, $module:ident) => {
        PointwiseKernel {
            info: KernelInfo {
                name: concat!("pointwise_", $text, "_", $r, "x", $pixels, "_", $suffix),
                operation: crate::table::Operation::Pointwise,
                format: $text,
                isa: crate::target::Isa::$isa,
                core: crate::target::Core::$core,
                channels: $r,
                pixels: $pixels,
                quality: crate::table::Quality::$quality,
            },
            format: FormatKind::$format,
            vector: $vector,
            singles: $singles,
            tile: $tiles::$tile::<$r, $c>,
            single: $module::single::<$r, $c>,
        }
    };
}

/// All pointwise kernels of this build.
#[rustfmt::skip]
pub(crate) static KERNELS: &[PointwiseKernel] = &[
    kernel!(ROWS_1 "unstructured", 1 x 16, 1, singles 0, Scalar "scalar" 1, Portable, scalar),
    kernel!(ROWS_2 "2x1", 2 x 16, 1, singles 0, Scalar "scalar" 1, Portable, scalar),
    kernel!(ROWS_4 "4x1", 4 x 16, 1, singles 0, Scalar "scalar" 1, Portable, scalar),
    kernel!(ROWS_8 "8x1", 8 x 16, 1, singles 0, Scalar "scalar" 1, Portable, scalar),
    kernel!(BLOCKS_4X4 "4x4", 4 x 16, 4, singles 0, Scalar "scalar" 1, Portable, scalar),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_1 "unstructured", 1 x 112, 1, singles 0, Avx2 "avx2" 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_2 "2x1", 2 x 48, 1, singles 0, Avx2 "avx2" 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_4 "4x1", 4 x 24, 1, singles 1, Avx2 "avx2" 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_8 "8x1", 8 x 8, 1, singles 2, Avx2 "avx2" 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 24, 4, singles 2, Avx2 "avx2" 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_1 "unstructured", 1 x 128, 1, singles 0, Avx512 "avx512" 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_2 "2x1", 2 x 96, 1, singles 0, Avx512 "avx512" 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_4 "4x1", 4 x 96, 1, singles 2, Avx512 "avx512" 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_8 "8x1", 8 x 48, 1, singles 4, Avx512 "avx512" 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 96, 4, singles 4, Avx512 "avx512" 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_1 "unstructured", 1 x 128, 1, singles 0, Avx512 Wide "avx512-wide" 16, Tuned, avx512::tile_wide, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_2 "2x1", 2 x 96, 1, singles 0, Avx512 Wide "avx512-wide" 16, Tuned, avx512::tile_wide, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_4 "4x1", 4 x 96, 1, singles 2, Avx512 Wide "avx512-wide" 16, Tuned, avx512::tile_wide, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 96, 4, singles 4, Avx512 Wide "avx512-wide" 16, Tuned, avx512::tile_wide, avx512),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_1 "unstructured", 1 x 32, 1, singles 0, Neon "neon" 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_2 "2x1", 2 x 32, 1, singles 0, Neon "neon" 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4 "4x1", 4 x 20, 1, singles 0, Neon "neon" 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_8 "8x1", 8 x 8, 1, singles 0, Neon "neon" 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 20, 4, singles 1, Neon "neon" 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_1 "unstructured", 1 x 32, 1, singles 0, Neon A53 "neon-a53" 4, Tuned, neon_cores::tile_a53, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_1 "unstructured", 1 x 32, 1, singles 0, Neon A55 "neon-a55" 4, Tuned, neon_cores::tile_a55, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_1 "unstructured", 1 x 40, 1, singles 0, Neon A76 "neon-a76" 4, Tuned, neon_cores::tile_a76, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_2 "2x1", 2 x 28, 1, singles 0, Neon A53 "neon-a53" 4, Tuned, neon_cores::tile_a53, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_2 "2x1", 2 x 28, 1, singles 0, Neon A55 "neon-a55" 4, Tuned, neon_cores::tile_a55, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_2 "2x1", 2 x 40, 1, singles 0, Neon A76 "neon-a76" 4, Tuned, neon_cores::tile_a76, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4 "4x1", 4 x 20, 1, singles 0, Neon A53 "neon-a53" 4, Tuned, neon_cores::tile_a53, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4 "4x1", 4 x 20, 1, singles 0, Neon A55 "neon-a55" 4, Tuned, neon_cores::tile_a55, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4 "4x1", 4 x 28, 1, singles 0, Neon A76 "neon-a76" 4, Tuned, neon_cores::tile_a76, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 20, 4, singles 0, Neon A53 "neon-a53" 4, Tuned, neon_cores::tile_a53, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 20, 4, singles 0, Neon A55 "neon-a55" 4, Tuned, neon_cores::tile_a55, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(BLOCKS_4X4 "4x4", 4 x 28, 4, singles 0, Neon A76 "neon-a76" 4, Tuned, neon_cores::tile_a76, neon),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_1 "unstructured", 1 x 32, 1, singles 0, Wasm "wasm" 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_2 "2x1", 2 x 16, 1, singles 0, Wasm "wasm" 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_4 "4x1", 4 x 8, 1, singles 0, Wasm "wasm" 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_8 "8x1", 8 x 4, 1, singles 0, Wasm "wasm" 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(BLOCKS_4X4 "4x4", 4 x 8, 4, singles 1, Wasm "wasm" 4, Intrinsics, wasm),
];

/// One call of a kernel: `pixels` output pixels of the output channels in `block_rows`, over some chunks of
/// channels.
///
/// Invariants: `x` is valid for `pixels` floats, and for a kernel without [`PointwiseKernel::planes`] rounded
/// up to whole vectors unless `pixels` is 1, at every multiple of `x_stride` over the channels of the chunks,
/// as `indices` count them, and so are `sums` at every multiple of `sums_stride` over the channels of
/// `block_rows` if the kernel keeps them apart and `first` or `last` is not set; `y`, and `residual` if
/// `clamps.residual`, are valid for `pixels` floats at every multiple of `stride` up to the last output
/// channel of `block_rows`; nothing else touches that part of `y` during the call; `indices` are those of
/// `weights`; `starts` points to the number of block row 0, those of the other rows are multiples of
/// `row_step` behind it, and `chunks` numbers behind each of them is another one; `block_rows` lies within
/// its block rows; `pixels` is at least the vector of the kernel and at most its tile, or 1 for `single`;
/// `extra` is zero but for a kernel with [`PointwiseKernel::vectors_with_extra`] and at most that many
/// vectors of pixels, and is at most 4; `y`, `residual` and `sums` are valid for as many more pixels, and
/// `extra_x` is valid for the channels that `x` is.
pub(crate) struct TileArgs<'a> {
    weights: &'a PackedPointwise,
    /// The first channel of every block of `weights`: counted in used channels, or in all.
    indices: *const u32,
    /// Where the first block of block row 0 in these chunks is.
    starts: *const u32,
    /// From where blocks of a row begin to where they end, in numbers of `starts`.
    chunks: usize,
    /// From a row to the next, in numbers of `starts`.
    row_step: usize,
    /// The first chunk is among them: sums start from the bias, otherwise from what the chunk before has
    /// left in `y`.
    first: bool,
    /// The last chunk is among them: clamps are applied, otherwise bare sums are stored.
    last: bool,
    block_rows: Range<usize>,
    pixels: usize,
    /// Floats from the pixels of this call to those whose output lines a kernel may prefetch: the tile that
    /// comes next, or 0 if this is the only one. A hint: it may point beyond the tensor.
    ahead: usize,
    /// First pixel of the channel that `indices` count from; only channels of these chunks may be there.
    x: *const f32,
    /// Floats from one input channel to the next.
    x_stride: usize,
    /// First pixel of output channel 0.
    y: *mut f32,
    residual: *const f32,
    /// Floats from one output channel to the next.
    stride: usize,
    /// Where sums wait between chunks, as `y` and `stride` are for outputs: a small buffer that stays in
    /// cache and whose rows begin on cache lines. Kernels of other than [`PointwiseKernel::sums_apart`]
    /// leave them in `y`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only AVX-512 kernels read them
    sums: *mut f32,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    sums_stride: usize,
    /// Pixels behind the `pixels` that are computed along with them.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    extra: usize,
    /// Their inputs, counted as those of `x`: for every block column, [`extra_slots`] times those of such a
    /// pixel, each of which fills four neighbours.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    extra_x: *const f32,
    clamps: Clamps,
}

/// Places for so many extra pixels: there are kernels for none, one and four.
fn extra_slots(extra: usize) -> usize {
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
    /// `row` must be in `block_rows` (invariant of `PackedPointwise`: `starts` is inside `indices`).
    #[inline(always)]
    unsafe fn blocks(&self, row: usize, block: usize) -> (*const u32, *const f32, usize) {
        let w = self.weights;
        // SAFETY: there is a number at `row_step` times a row, and one `chunks` behind it (TileArgs); all are
        // valid positions of `indices` (PackedPointwise).
        unsafe {
            let starts = self.starts.add(row * self.row_step);
            let (start, end) = (*starts as usize, *starts.add(self.chunks) as usize);
            (self.indices.add(start), w.values.as_ptr().add(start * block), end - start)
        }
    }

    /// Whether an i32 holds the distance of every channel from the first, in floats: what instructions that
    /// gather take.
    #[cfg(target_arch = "x86_64")]
    fn gathers(&self) -> bool {
        self.weights.ic().checked_mul(self.x_stride).is_some_and(|floats| i32::try_from(floats).is_ok())
    }

    /// How many output channels of block row `row` exist: `r`, or fewer in a ragged last row.
    #[inline(always)]
    fn channels(&self, row: usize, r: usize) -> usize {
        (self.weights.oc - row * r).min(r)
    }
}
