//! 1x1 convolution and fully connected layers: a sparse matrix times dense planes of pixels.
//!
//! One run cuts the output pixels of an image into tiles. For each tile, or a few neighbouring ones, the
//! input channels that have any weight are copied into a contiguous **panel** (`[channel][pixel]`), whatever
//! the layout, stride and padding of the input; then the kernel walks the weights once over the panel. The
//! copy costs a few per cent, buys contiguous loads and keeps the pixels in cache while the weights stream
//! by. Where the panel of all channels would be too large, channels are taken in **chunks**, and the sums
//! wait in the output.
//!
//! **Pairs** of bf16 ([`crate::pairs`]) are the same in lanes of 32 bits: an input channel is a lane, which
//! holds two, as does a weight; panels are copied without a look at what they hold. Sums are floats, one row
//! for each output channel; two rows are rounded to one of pairs when they are stored. Of f16 the panel has
//! pixels of one channel beside each other (`halves.rs`).
//!
//! Each output value is summed by one thread in an order that depends on weights and geometry alone, so that
//! the split into threads never changes a result.

mod args;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
pub(crate) mod halves;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_halves;
mod packed;
mod panel;
mod plan;
mod run;
pub(crate) mod scalar;
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
mod single;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

pub use packed::PackedPointwise;

use crate::error::KernelError;
use crate::format::FormatKind;
use crate::scratch::LINE;
use crate::table::{Element, KernelInfo};
use args::TileArgs;
use body::Loops;

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can
/// run.
#[derive(Debug)]
pub struct PointwiseKernel {
    info: KernelInfo,
    format: FormatKind,
    /// Columns of a block in lanes.
    c: usize,
    /// Pixels of a vector: `tile` wants at least that many.
    vector: usize,
    /// Whether loops take 128 from every activation of quads.
    signed: bool,
    /// Whether tiles want a panel of activations whose top bits are flipped.
    flipped: bool,
    tuning: Tuning,
    /// Any number of pixels from `vector` to the tile.
    tile: unsafe fn(&TileArgs),
    /// Exactly one pixel.
    single: unsafe fn(&TileArgs),
}

/// What is fitted to a core, by measurement or by a model of it, and not part of a kernel's code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// Up to this number of pixels beyond the last whole vector are cheaper one by one than as one more
    /// vector.
    pub singles: usize,
    /// Most vectors of a tile that takes such pixels along, instead of their being tiles of their own: as
    /// many as leave registers for the sums of these. None if the kernel never does.
    pub with_extra: Option<usize>,
    /// Floats of a panel; what is more is worked off in chunks of channels.
    pub panel: usize,
    /// Fewest pixels of a tile of many channels, where fewer pixels spare chunks; none if that never pays.
    pub least_tile: Option<usize>,
    /// Weights lie in the order of chunks, and of rows within each, so that they are one stream for each
    /// tile: for cores that wait for weights sooner than for anything else, and fetch ahead only what is in
    /// order.
    pub chunk_major: bool,
    /// Sums wait for the next chunk of channels in a small buffer of their own, whose rows begin on cache
    /// lines, and not in the output.
    pub sums_apart: bool,
    /// While a tile is computed, the output lines of the next one are asked for, and not its own.
    pub next_lines: bool,
    /// When the kernel does better without a panel; none if it never does.
    pub planes: Option<Planes>,
}

impl Tuning {
    /// What serves most cores.
    ///
    /// The panel has 48 KiB, as measured on cores that have 32 KiB of first-level cache but load from the
    /// second level far ahead: half as much costs more in loads and stores of sums than it gains, twice as
    /// much is slower for dense weights.
    pub(crate) const GENERAL: Tuning = Tuning {
        singles: 0,
        with_extra: None,
        panel: (48 << 10) / size_of::<f32>(),
        least_tile: None,
        chunk_major: false,
        sums_apart: false,
        next_lines: false,
        planes: None,
    };
}

/// When kernels read planes where they are.
///
/// The limits are where modelled cycles, lines included, are fewer. (Translations of addresses are not
/// modelled: another reason to come back seldom.) Those of WebAssembly were measured. Kernels with wide tiles need none of
/// this: a panel is cheap for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planes {
    /// Most weights of an input channel.
    pub weights: usize,
    /// Most visits to it for one tile, unless tiles are whole lines.
    pub visits: usize,
    /// Floats of one way of the first-level cache.
    pub way: usize,
}

/// A row of the table, for [`crate::table::kernel`].
pub(crate) const fn kernel<L: Loops, const R: usize, const C: usize, const PIXELS: usize>(
    info: KernelInfo,
    tuning: Tuning,
) -> PointwiseKernel {
    assert!(PIXELS.is_multiple_of(L::LANES), "a tile is whole vectors");
    assert!(
        PIXELS / L::LANES <= L::MOST_VECTORS[R.ilog2() as usize],
        "more sums than the machine has registers for"
    );
    assert!(tuning.with_extra.is_none() || tuning.singles <= 4, "there are kernels for up to four");
    if let Some(least) = tuning.least_tile {
        assert!(least.is_multiple_of(L::LANES) && least <= PIXELS, "a tile is whole vectors");
    }
    let per_lane = info.element.per_lane();
    assert!(L::ELEMENT as u8 == info.element as u8, "loops are for one type");
    // Rows of floats do not fit where pairs go.
    assert!(per_lane == 1 || tuning.sums_apart && tuning.planes.is_none());
    // Panels of one pixel are those of `single`, which nothing is flipped for; all others are of tiles.
    assert!(!L::FLIPPED || (L::SIGNED && tuning.singles == 0 && PIXELS > L::LANES));
    PointwiseKernel {
        info,
        format: match info.element {
            Element::F16 => FormatKind::new(R, C),
            _ => FormatKind::new(R, C * per_lane),
        },
        c: match info.element {
            Element::F16 => C.div_ceil(per_lane),
            _ => C,
        },
        vector: L::LANES,
        signed: L::SIGNED,
        flipped: L::FLIPPED,
        tuning,
        tile: L::tile::<R, C, PIXELS>,
        single: L::single::<R, C>,
    }
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

    /// Type of weights and pixels.
    pub fn element(&self) -> Element {
        self.info.element
    }

    /// Refuses weights in blocks that it cannot read: kernels of floats want their own, those of lanes that hold
    /// several channels also what fits into theirs.
    fn fits(&self, got: FormatKind) -> Result<(), KernelError> {
        let expected = self.format;
        let columns = match self.element() {
            Element::F32 => expected == got,
            Element::Bf16 | Element::Int8 => got.c() <= expected.c(),
            Element::F16 => expected.c() == 1 || got.c() <= expected.c(),
        };
        let fits = columns && got.r().is_multiple_of(expected.r());
        if fits { Ok(()) } else { Err(KernelError::FormatMismatch { kernel: self.info.name, expected, got }) }
    }

    /// Passes over the rows of weights that one tile takes whose panel holds `channels`, of weights with
    /// `blocks` blocks in `block_rows` rows: chunks of channels, at least one.
    pub fn chunks(&self, channels: usize, blocks: usize, block_rows: usize) -> usize {
        let columns = channels.div_ceil(self.c * self.element().per_lane());
        let tile = self.tile_for(columns * self.c);
        columns.div_ceil(self.chunk(columns, tile, blocks, block_rows)).max(1)
    }

    /// Block columns of a chunk, of `columns` in all with tiles of `tile` pixels.
    fn chunk(&self, columns: usize, tile: usize, blocks: usize, block_rows: usize) -> usize {
        let mut most = (self.tuning.panel / tile / self.c).max(1);
        if self.tuning.chunk_major {
            // What a row costs besides its blocks must not come back too often.
            const LEAST_BLOCKS: usize = 16;
            most = most.max((LEAST_BLOCKS * columns * block_rows).div_ceil(blocks.max(1)));
        }
        columns.div_ceil(columns.div_ceil(most).max(1)).max(1)
    }

    /// Pixels of a tile whose panel holds `channels`, counted in lanes: all that there are registers for, or some fewer where
    /// that spares chunks.
    fn tile_for(&self, channels: usize) -> usize {
        let most = self.info.pixels;
        let chunks = |tile: &usize| (channels * tile).div_ceil(self.tuning.panel);
        let sizes = (self.tuning.least_tile.unwrap_or(most)..=most).rev().step_by(self.vector);
        sizes.min_by_key(chunks).unwrap_or(most)
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
