//! Weights, rearranged for one kernel.

use super::plan::Plan;
use super::{Planes, PointwiseKernel};
use crate::LOOK_AHEAD;
use crate::aligned::Aligned;
use crate::drive::Latest;
use crate::error::{FormatError, KernelError};
use crate::format::{Blocks, FormatKind};
use crate::pairs::{self, f16};
use crate::quads::{self, Quantised, Requantise};
use crate::table::Element;
use std::ops::Range;

/// Compressed weights and bias of one layer, ready for one kernel.
///
/// The input channels that have any weight are cut into chunks; a run takes one or several neighbouring ones
/// at a time.
///
/// Invariants, which the kernels rely on: every index, plus `c - 1`, is below `c` times the used block
/// columns, or below `ic` if it is of `channels`, and those of one chunk belong to its columns; behind those
/// of all blocks are `LOOK_AHEAD` zeros; `starts` has one entry for every chunk of every block row, that of a
/// chunk and row at `chunk * chunk_step + row * row_step`, and one more, which grow and are positions of
/// `indices` or its length; one of the steps is 1; `values` has `r * c` floats, or halves, per block; `bias` has
/// `r` floats per block row. If, and only if, the kernel is one of quads, there is a `requantise`, `whole_oc`
/// and the block rows fill whole lanes, and it has as many channels.
#[derive(Debug, Clone)]
pub struct PackedPointwise {
    pub(super) kernel: &'static PointwiseKernel,
    /// Output channels; of quads those of whole ones.
    pub(super) whole_oc: usize,
    /// Output channels of the layer.
    oc: usize,
    ic: usize,
    /// First block of every chunk of every block row: `[row][chunk]`, or `[chunk][row]`; and the number of
    /// blocks.
    pub(super) starts: Vec<u32>,
    /// From a block row to the next in `starts`.
    pub(super) row_step: usize,
    /// From a chunk to the next in `starts`.
    pub(super) chunk_step: usize,
    /// First channel of every block, counted in used channels; of f16 in the channels of used lanes.
    pub(super) indices: Vec<u32>,
    /// The same, counted in all channels, for kernels that read planes where they are; empty if these never
    /// do, or have `indices`.
    channels: Vec<u32>,
    pub(super) values: Aligned,
    /// Weights of all blocks.
    stored: usize,
    /// What sums begin with.
    pub(super) bias: Vec<f32>,
    /// What becomes of sums of quads.
    pub(super) requantise: Option<Requantise>,
    /// Block columns that have any weight, in order.
    used: Vec<u32>,
    /// Block columns of a chunk.
    chunk: usize,
    /// Pixels of a tile with a panel, at most.
    pub(super) tile: usize,
    pub(super) latest: Latest<Plan>,
}

impl PackedPointwise {
    /// Prepares `weights` and `bias` (one value per output channel, zeros if `None`) for `kernel`, for images
    /// of `pixels` output pixels if that is known: any number can be run, but a single one wants its
    /// weights in another order.
    ///
    /// # Errors
    /// The kernel reads another format, or the bias has another length.
    pub fn pack<const R: usize, const C: usize>(
        weights: &Blocks<R, C>,
        bias: Option<&[f32]>,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        if kernel.element() == Element::Int8 {
            return Err(KernelError::ElementMismatch {
                kernel: kernel.info.name,
                asked: "weights of floats",
            });
        }
        kernel.fits(Blocks::<R, C>::KIND)?;
        match (kernel.element(), kernel.format) {
            (Element::F32, _) => {
                let bias = whole_rows(bias, weights.rows(), weights.block_rows() * R)?;
                Ok(PackedPointwise::pack_lanes(
                    weights,
                    weights.values(),
                    weights.cols(),
                    bias,
                    pixels,
                    kernel,
                ))
            }
            (Element::F16, FormatKind::BLOCKS_4X4) => {
                PackedPointwise::pack_halves::<R, C, 4, 4>(weights, bias, pixels, kernel)
            }
            (Element::F16, FormatKind::ROWS_4) => {
                PackedPointwise::pack_halves::<R, C, 4, 1>(weights, bias, pixels, kernel)
            }
            (Element::F16, FormatKind::ROWS_2) => {
                PackedPointwise::pack_halves::<R, C, 2, 1>(weights, bias, pixels, kernel)
            }
            (Element::F16, _) => PackedPointwise::pack_halves::<R, C, 1, 1>(weights, bias, pixels, kernel),
            (_, FormatKind::BLOCKS_4X4) => {
                PackedPointwise::pack_pairs::<R, C, 4, 2>(weights, bias, pixels, kernel)
            }
            (_, FormatKind::BLOCKS_4X2) => {
                PackedPointwise::pack_pairs::<R, C, 4, 1>(weights, bias, pixels, kernel)
            }
            (_, FormatKind::BLOCKS_2X2) => {
                PackedPointwise::pack_pairs::<R, C, 2, 1>(weights, bias, pixels, kernel)
            }
            _ => PackedPointwise::pack_pairs::<R, C, 1, 1>(weights, bias, pixels, kernel),
        }
    }

    /// [`PackedPointwise::pack`] for a kernel of f16, whose blocks are `P` by `Q` channels.
    fn pack_halves<const R: usize, const C: usize, const P: usize, const Q: usize>(
        weights: &Blocks<R, C>,
        bias: Option<&[f32]>,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        let (rows, cols) = (weights.rows(), weights.cols());
        let mut dense = weights.to_dense();
        pairs::check_range(Element::F16, "weight", &dense)?;
        pairs::check_range(Element::F16, "bias", bias.unwrap_or_default())?;
        dense.iter_mut().for_each(|weight| *weight = f16::float(f16::round(*weight)));
        let rounded = Blocks::<P, Q>::from_dense(rows, cols, &dense)?;
        let bias = whole_rows(bias, rows, rounded.block_rows() * P)?;
        Ok(PackedPointwise::pack_lanes(&rounded, rounded.values(), cols, bias, pixels, kernel))
    }

    /// [`PackedPointwise::pack`] for a kernel of pairs, whose blocks are `P` rows by `Q` pairs.
    fn pack_pairs<const R: usize, const C: usize, const P: usize, const Q: usize>(
        weights: &Blocks<R, C>,
        bias: Option<&[f32]>,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        let (rows, cols) = (weights.rows(), weights.cols());
        let pairs = pairs::of_weights(cols, 1, &weights.to_dense())?;
        let lanes = Blocks::<P, Q>::from_dense(rows, Element::Bf16.lanes(cols), &pairs)?;
        let bias = whole_rows(bias, rows, lanes.block_rows() * P)?;
        Ok(PackedPointwise::pack_lanes(&lanes, lanes.values(), cols, bias, pixels, kernel))
    }

    /// Prepares weights, which are whole numbers from -128 to 127, and what follows their sums for a kernel of quads;
    /// `pixels` as in [`PackedPointwise::pack`].
    ///
    /// # Errors
    /// The kernel is not one of quads or reads other blocks, a weight is no such number, `quantised` has another number
    /// of channels, or the sums of a channel might be too large for 32 bits.
    pub fn pack_int8<const R: usize, const C: usize>(
        weights: &Blocks<R, C>,
        quantised: &Quantised,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        kernel.info.runs(quads::CHANNELS)?;
        kernel.fits(Blocks::<R, C>::KIND)?;
        match kernel.format {
            FormatKind::BLOCKS_4X4 => {
                PackedPointwise::pack_quads::<R, C, 4>(weights, quantised, pixels, kernel)
            }
            FormatKind::BLOCKS_2X4 => {
                PackedPointwise::pack_quads::<R, C, 2>(weights, quantised, pixels, kernel)
            }
            _ => PackedPointwise::pack_quads::<R, C, 1>(weights, quantised, pixels, kernel),
        }
    }

    /// [`PackedPointwise::pack_int8`] for a kernel whose blocks are a lane of `P` rows.
    fn pack_quads<const R: usize, const C: usize, const P: usize>(
        weights: &Blocks<R, C>,
        quantised: &Quantised,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        let (outputs, cols, dense) = (weights.rows(), weights.cols(), weights.to_dense());
        if quantised.channels() != outputs {
            let (expected, got) = (outputs, quantised.channels());
            return Err(FormatError::Length { what: "biases and scales", expected, got }.into());
        }
        let (bias, requantise) = quantised.prepare(&dense, kernel.signed)?;
        let (rows, columns) = (requantise.channels(), Element::Int8.lanes(cols));
        let mut lanes = quads::of_weights(cols, 1, &dense)?;
        lanes.resize(rows * columns, 0);
        // Lanes are any bits, not all of them floats: blocks are found by what is not zero.
        let there: Vec<f32> = lanes.iter().map(|lane| f32::from(u8::from(*lane != 0))).collect();
        let blocks = Blocks::<P, 1>::from_dense(rows, columns, &there)?;
        let mut values = Vec::with_capacity(blocks.values().len());
        for row in 0..blocks.block_rows() {
            for column in &blocks.columns()[blocks.range(row)] {
                let at = |r: usize| (row * P + r) * columns + *column as usize;
                values.extend((0..P).map(|r| f32::from_bits(lanes[at(r)])));
            }
        }
        let packed = PackedPointwise::pack_lanes(&blocks, &values, cols, bias, pixels, kernel);
        Ok(PackedPointwise { oc: outputs, requantise: Some(requantise), ..packed })
    }

    /// Packs blocks of lanes, or of channels that are rounded to f16, whose values are `lanes`; they hold `ic` input channels.
    /// `bias` has a float for every row.
    fn pack_lanes<const R: usize, const C: usize>(
        weights: &Blocks<R, C>,
        lanes: &[f32],
        ic: usize,
        bias: Vec<f32>,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> PackedPointwise {
        // Kernels of f16 count channels, panels lanes: single channels are two columns of one.
        let halves = kernel.element() == Element::F16;
        let per_column = if halves && C == 1 { 2 } else { 1 };
        let mut used: Vec<u32> = weights.columns().iter().map(|column| column / per_column).collect();
        used.sort_unstable();
        used.dedup();
        let mut position = vec![0u32; weights.cols().div_ceil(C)];
        for (i, column) in used.iter().enumerate() {
            let columns = position[(column * per_column) as usize..].iter_mut().take(per_column as usize);
            columns.for_each(|position| *position = i as u32);
        }
        let tile = kernel.tile_for(used.len() * kernel.c);
        let rows = weights.block_rows();
        let chunk_columns = match pixels {
            Some(1) => used.len().max(1),
            _ => kernel.chunk(used.len(), tile, weights.blocks(), rows),
        };
        let chunks = used.len().div_ceil(chunk_columns).max(1);
        let chunk_major = chunks > 1 && kernel.tuning.chunk_major;
        let (row_step, chunk_step) = if chunk_major { (1, rows) } else { (chunks, 1) };
        let (mut starts, mut columns) = (vec![], Vec::with_capacity(weights.blocks()));
        let mut values = Vec::with_capacity(lanes.len());
        for at in 0..rows * chunks {
            let (row, chunk) = if chunk_major { (at % rows, at / rows) } else { (at / chunks, at % chunks) };
            let range = weights.range(row);
            let of_row = &weights.columns()[range.clone()];
            let before = |chunk: usize| {
                range.start
                    + of_row.partition_point(|c| (position[*c as usize] as usize) < chunk * chunk_columns)
            };
            let part = before(chunk)..before(chunk + 1);
            starts.push(columns.len() as u32);
            columns.extend_from_slice(&weights.columns()[part.clone()]);
            values.extend_from_slice(&lanes[part.start * R * C..part.end * R * C]);
        }
        starts.push(columns.len() as u32);
        let step = if halves { 2 * kernel.c } else { kernel.c } as u32;
        let first_channels = |position: &dyn Fn(u32) -> u32| {
            let first = |c: &u32| position(*c) * step + c % per_column;
            columns.iter().map(first).chain([0; LOOK_AHEAD]).collect()
        };
        let stored = values.len() * if halves { 1 } else { kernel.element().per_lane() };
        if halves {
            let both = |both: &[f32]| f32::from_bits(f16::pair(both[0], both.get(1).copied().unwrap_or(0.0)));
            values = values.chunks(2).map(both).collect();
        }
        let some = used.len() * C < weights.cols() && weights.cols().is_multiple_of(C);
        let few = |p: &Planes| lanes.len() <= p.weights * weights.cols();
        let planes = kernel.tuning.planes.filter(|planes| some && few(planes));
        let channels = planes.map_or(vec![], |_| first_channels(&|column| column));
        PackedPointwise {
            kernel,
            whole_oc: weights.rows(),
            oc: weights.rows(),
            ic,
            starts,
            row_step,
            chunk_step,
            indices: first_channels(&|column| position[column as usize]),
            channels,
            values: Aligned::new(&values),
            stored,
            bias,
            requantise: None,
            used,
            chunk: chunk_columns,
            tile,
            latest: Latest::default(),
        }
    }

    /// Compresses a dense `oc` x `ic` matrix into the format of `kernel` and packs it.
    ///
    /// # Errors
    /// As [`Blocks::from_dense`] and [`PackedPointwise::pack`].
    pub fn from_dense(
        oc: usize,
        ic: usize,
        dense: &[f32],
        bias: Option<&[f32]>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        PackedPointwise::from_groups([oc, ic, 1], dense, bias, None, kernel)
    }

    /// Compresses the weights `[oc][ic / groups]` of a layer of `[oc, ic, groups]` in which every output
    /// channel sees the input channels of its group alone; `pixels` as in [`PackedPointwise::pack`]. The
    /// packed layer is one without groups: what the others would weigh is not stored.
    ///
    /// # Errors
    /// As [`Blocks::from_groups`] and [`PackedPointwise::pack`].
    pub fn from_groups(
        shape: [usize; 3],
        dense: &[f32],
        bias: Option<&[f32]>,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        fn pack<const R: usize, const C: usize>(
            [oc, ic, groups]: [usize; 3],
            dense: &[f32],
            bias: Option<&[f32]>,
            pixels: Option<usize>,
            kernel: &'static PointwiseKernel,
        ) -> Result<PackedPointwise, KernelError> {
            PackedPointwise::pack(&Blocks::<R, C>::from_groups(oc, ic, groups, dense)?, bias, pixels, kernel)
        }
        match kernel.format {
            FormatKind::ROWS_1 => pack::<1, 1>(shape, dense, bias, pixels, kernel),
            FormatKind::ROWS_2 => pack::<2, 1>(shape, dense, bias, pixels, kernel),
            FormatKind::ROWS_4 => pack::<4, 1>(shape, dense, bias, pixels, kernel),
            FormatKind::ROWS_8 => pack::<8, 1>(shape, dense, bias, pixels, kernel),
            // of pairs
            FormatKind::BLOCKS_1X2 => pack::<1, 2>(shape, dense, bias, pixels, kernel),
            FormatKind::BLOCKS_2X2 => pack::<2, 2>(shape, dense, bias, pixels, kernel),
            FormatKind::BLOCKS_4X2 => pack::<4, 2>(shape, dense, bias, pixels, kernel),
            _ => pack::<4, 4>(shape, dense, bias, pixels, kernel),
        }
    }

    /// [`PackedPointwise::from_groups`] for a kernel of quads: weights as in [`PackedPointwise::pack_int8`].
    ///
    /// # Errors
    /// As [`Blocks::from_groups`] and [`PackedPointwise::pack_int8`].
    pub fn from_groups_int8(
        [oc, ic, groups]: [usize; 3],
        dense: &[f32],
        quantised: &Quantised,
        pixels: Option<usize>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        // kernels of quads find their own blocks
        let weights = Blocks::<4, 4>::from_groups(oc, ic, groups, dense)?;
        PackedPointwise::pack_int8(&weights, quantised, pixels, kernel)
    }

    /// The kernel these weights were packed for.
    pub fn kernel(&self) -> &'static PointwiseKernel {
        self.kernel
    }

    /// Output channels.
    pub fn oc(&self) -> usize {
        self.oc
    }

    /// Input channels.
    pub fn ic(&self) -> usize {
        self.ic
    }

    /// Which input channels are looked at: those of the block columns that have any weight.
    pub fn reads(&self) -> Vec<bool> {
        let mut reads = vec![false; self.ic];
        let c = self.kernel.c * self.kernel.element().per_lane();
        for column in &self.used {
            let first = *column as usize * c;
            reads[first..(first + c).min(self.ic)].fill(true);
        }
        reads
    }

    /// Stored weights, zeros inside blocks included: multiply-adds per output pixel.
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        match self.kernel.element() {
            Element::F32 => self.values.iter().filter(|v| **v != 0.0).count(),
            Element::Bf16 | Element::F16 => pairs::nonzeros(&self.values),
            Element::Int8 => quads::nonzeros(&self.values),
        }
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        let numbers = [&self.starts, &self.indices, &self.channels, &self.used].map(Vec::len);
        let requantise = self.requantise.as_ref().map_or(0, Requantise::bytes);
        4 * (numbers.iter().sum::<usize>() + self.values.len() + self.bias.len()) + requantise
    }

    /// Rows of blocks.
    pub(super) fn block_rows(&self) -> usize {
        self.bias.len() / self.kernel.format.r()
    }

    /// Chunks of input channels, at least one.
    pub(super) fn chunks(&self) -> usize {
        self.used.len().div_ceil(self.chunk).max(1)
    }

    /// The block columns of some chunks.
    pub(super) fn columns(&self, chunks: Range<usize>) -> &[u32] {
        let end = (chunks.end * self.chunk).min(self.used.len());
        &self.used[(chunks.start * self.chunk).min(end)..end]
    }

    /// Lanes of used input channels in chunks before `chunk`.
    pub(super) fn channels_before(&self, chunk: usize) -> usize {
        chunk * self.chunk * self.kernel.c
    }

    /// The first channel of every block counted in all channels, where the kernel can read the input without
    /// a copy.
    pub(super) fn all_channels(&self) -> Option<&[u32]> {
        if self.used.len() * self.kernel.c == self.kernel.element().lanes(self.ic) {
            return Some(&self.indices);
        }
        (!self.channels.is_empty()).then_some(&self.channels)
    }

    /// Output channels of some block rows.
    pub(super) fn channels(&self, block_rows: &Range<usize>) -> Range<usize> {
        let r = self.kernel.format.r();
        block_rows.start * r..(block_rows.end * r).min(self.whole_oc)
    }

    /// Rows of lanes of some output channels, the first of which is the first of its lane.
    pub(super) fn lines(&self, channels: &Range<usize>) -> Range<usize> {
        let per_lane = self.kernel.element().per_lane();
        channels.start / per_lane..channels.end.div_ceil(per_lane)
    }

    /// Block rows that share rows of lanes.
    pub(super) fn rows_of_line(&self) -> usize {
        self.kernel.element().per_lane().div_ceil(self.kernel.format.r())
    }
}

/// `bias`, which has `rows` floats, or zeros, filled up to `whole` floats.
fn whole_rows(bias: Option<&[f32]>, rows: usize, whole: usize) -> Result<Vec<f32>, FormatError> {
    let mut all = vec![0f32; whole];
    if let Some(bias) = bias {
        let (expected, got) = (rows, bias.len());
        if got != expected {
            return Err(FormatError::Length { what: "bias", expected, got });
        }
        all[..got].copy_from_slice(bias);
    }
    Ok(all)
}
