//! 1x1 convolution and fully connected layers: a sparse matrix times dense planes of pixels.
//!
//! One run cuts the output pixels of an image into tiles. For each tile the input channels that have any weight are
//! copied once into a contiguous **panel** (`[channel][tile]`), whatever the layout, stride and padding of the input;
//! then the kernel walks all weights once over that panel. The copy costs a few per cent and buys contiguous,
//! always full vector loads. Each output value is summed by one thread in the order of the weights, so
//! that the split into tiles and threads never changes a result.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use crate::epilogue::{Clamps, Epilogue, Finish};
use crate::error::{FormatError, KernelError};
use crate::format::{Blocks, FormatKind, check_finite};
use crate::geometry::{ConvGeometry, Layout};
use crate::parallel::{Parallel, share};
use crate::scratch;
use crate::table::KernelInfo;
use std::ops::Range;

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can run.
#[derive(Debug)]
pub struct PointwiseKernel {
    info: KernelInfo,
    format: FormatKind,
    /// Pixels of a vector: tiles are cut at multiples of it.
    vector: usize,
    /// Any number of pixels from 1 to the tile.
    tile: unsafe fn(&TileArgs),
    /// Exactly one pixel; the panel has one float per channel.
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
}

/// Builds a row of [`KERNELS`]: name parts, then the functions of one target's module.
macro_rules! kernel {
    ($format:ident, $text:literal, $r:literal, $c:literal, $pixels:literal, $isa:ident, $suffix:literal,
     $vector:literal, $quality:ident, $module:ident) => {
        PointwiseKernel {
            info: KernelInfo {
                name: concat!("pointwise_", $text, "_", $r, "x", $pixels, "_", $suffix),
                operation: crate::table::Operation::Pointwise,
                format: $text,
                isa: crate::target::Isa::$isa,
                channels: $r,
                pixels: $pixels,
                quality: crate::table::Quality::$quality,
            },
            format: FormatKind::$format,
            vector: $vector,
            tile: $module::tile::<$r, $c, $pixels>,
            single: $module::single::<$r, $c>,
        }
    };
}

/// All pointwise kernels of this build.
pub(crate) static KERNELS: &[PointwiseKernel] = &[
    kernel!(ROWS_1, "unstructured", 1, 1, 16, Scalar, "scalar", 1, Portable, scalar),
    kernel!(ROWS_2, "2x1", 2, 1, 16, Scalar, "scalar", 1, Portable, scalar),
    kernel!(ROWS_4, "4x1", 4, 1, 16, Scalar, "scalar", 1, Portable, scalar),
    kernel!(ROWS_8, "8x1", 8, 1, 16, Scalar, "scalar", 1, Portable, scalar),
    kernel!(BLOCKS_4X4, "4x4", 4, 4, 16, Scalar, "scalar", 1, Portable, scalar),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_1, "unstructured", 1, 1, 64, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_2, "2x1", 2, 1, 40, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_4, "4x1", 4, 1, 24, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_8, "8x1", 8, 1, 8, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(BLOCKS_4X4, "4x4", 4, 4, 24, Avx2, "avx2", 8, Intrinsics, avx2),
];

/// Compressed weights and bias of one layer, ready for one kernel.
///
/// Invariants, which the kernels rely on: every index is below `used.len() * c`; `starts` grows from 0 to the number
/// of blocks, one entry more than block rows; `values` has `r * c` floats per block; `bias` has `r` floats
/// per block row.
#[derive(Debug, Clone)]
pub struct PackedPointwise {
    kernel: &'static PointwiseKernel,
    oc: usize,
    ic: usize,
    starts: Vec<u32>,
    /// Panel row of the first channel of every block.
    indices: Vec<u32>,
    values: Vec<f32>,
    bias: Vec<f32>,
    /// Block columns that have any weight: only those are copied into the panel.
    used: Vec<u32>,
}

/// One call of a kernel: `pixels` output pixels of the output channels in `block_rows`.
///
/// Invariants: `panel` has `used * c` rows of `KERNEL TILE` floats (one float for `single`); `y`, and `residual`
/// if `clamps.residual`, are valid for `pixels` floats at every multiple of `stride` up to the last output channel
/// of `block_rows`; nothing else writes there during the call.
pub(crate) struct TileArgs<'a> {
    weights: &'a PackedPointwise,
    panel: &'a [f32],
    block_rows: Range<usize>,
    pixels: usize,
    /// First pixel of output channel 0.
    y: *mut f32,
    residual: *const f32,
    /// Floats from one output channel to the next.
    stride: usize,
    clamps: Clamps,
}

/// The output tensor, written by several threads in disjoint parts.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements (`PackedPointwise::run` cuts pixels or channels apart).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl PackedPointwise {
    /// Prepares `weights` and `bias` (one value per output channel, zeros if `None`) for `kernel`.
    ///
    /// # Errors
    /// The kernel reads another format, or the bias has another length or is not finite.
    pub fn pack<const R: usize, const C: usize>(
        weights: &Blocks<R, C>,
        bias: Option<&[f32]>,
        kernel: &'static PointwiseKernel,
    ) -> Result<PackedPointwise, KernelError> {
        let got = Blocks::<R, C>::KIND;
        if kernel.format != got {
            let expected = kernel.format;
            return Err(KernelError::FormatMismatch { kernel: kernel.info.name, expected, got });
        }
        let mut padded = vec![0f32; weights.block_rows() * R];
        if let Some(bias) = bias {
            let (expected, got) = (weights.rows(), bias.len());
            if got != expected {
                return Err(FormatError::Length { what: "bias", expected, got }.into());
            }
            check_finite(bias)?;
            padded[..got].copy_from_slice(bias);
        }
        let mut used: Vec<u32> = weights.columns().to_vec();
        used.sort_unstable();
        used.dedup();
        let mut panel_row = vec![0u32; weights.cols().div_ceil(C)];
        for (position, column) in used.iter().enumerate() {
            panel_row[*column as usize] = (position * C) as u32;
        }
        Ok(PackedPointwise {
            kernel,
            oc: weights.rows(),
            ic: weights.cols(),
            starts: weights.starts().to_vec(),
            indices: weights.columns().iter().map(|c| panel_row[*c as usize]).collect(),
            values: weights.values().to_vec(),
            bias: padded,
            used,
        })
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
        fn pack<const R: usize, const C: usize>(
            oc: usize,
            ic: usize,
            dense: &[f32],
            bias: Option<&[f32]>,
            kernel: &'static PointwiseKernel,
        ) -> Result<PackedPointwise, KernelError> {
            PackedPointwise::pack(&Blocks::<R, C>::from_dense(oc, ic, dense)?, bias, kernel)
        }
        match kernel.format {
            FormatKind::ROWS_1 => pack::<1, 1>(oc, ic, dense, bias, kernel),
            FormatKind::ROWS_2 => pack::<2, 1>(oc, ic, dense, bias, kernel),
            FormatKind::ROWS_4 => pack::<4, 1>(oc, ic, dense, bias, kernel),
            FormatKind::ROWS_8 => pack::<8, 1>(oc, ic, dense, bias, kernel),
            _ => pack::<4, 4>(oc, ic, dense, bias, kernel),
        }
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

    /// Stored weights, zeros inside blocks included: multiply-adds per output pixel.
    pub fn stored(&self) -> usize {
        self.values.len()
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        self.values.iter().filter(|v| **v != 0.0).count()
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        4 * (self.starts.len() + self.indices.len() + self.values.len() + self.bias.len() + self.used.len())
    }

    /// Computes `y = epilogue(weights * x + bias)`, with `residual` (shape and layout of `y`) added inside the epilogue.
    ///
    /// # Errors
    /// A geometry that is not 1x1 without groups, or does not fit the weights; slices of another length.
    pub fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        let s = geometry.shape();
        geometry.check(x, y, residual)?;
        for (what, weights, geometry) in [
            ("output channels", self.oc, s.oc),
            ("input channels", self.ic, s.ic),
            ("groups", 1, s.group),
            ("kernel height", 1, s.kernel[0]),
            ("kernel width", 1, s.kernel[1]),
        ] {
            if weights != geometry {
                return Err(KernelError::Shape { what, weights, geometry });
            }
        }
        let (clamps, finish) = epilogue.split(residual.is_some());
        let job = Job {
            weights: self,
            geometry,
            x,
            y: Shared(y.as_mut_ptr()),
            residual,
            clamps,
            finish,
            tiles: Tiles::new(geometry.output_pixels(), self.kernel.vector, self.kernel.info.pixels),
        };
        let (tiles, threads) = (s.batch * job.tiles.count, parallel.threads());
        let block_rows = self.starts.len() - 1;
        if threads <= 1 {
            job.run_part(0..tiles, 0..block_rows);
        } else if tiles >= 2 * threads {
            let parts = tiles.min(4 * threads);
            parallel.for_each(parts, &|part| job.run_part(share(tiles, parts, part), 0..block_rows));
        } else {
            // Few pixels: every thread packs all of them and takes some of the output channels.
            let parts = block_rows.min(threads);
            parallel.for_each(parts, &|part| job.run_part(0..tiles, share(block_rows, parts, part)));
        }
        Ok(())
    }
}

/// How the pixels of an image are cut: tiles of whole vectors, as equal as possible, because a last tile of a single
/// vector would have too few independent sums to hide the latency of multiply-add.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    pixels: usize,
    vector: usize,
    vectors: usize,
    count: usize,
}

impl Tiles {
    fn new(pixels: usize, vector: usize, tile: usize) -> Tiles {
        let vectors = pixels.div_ceil(vector);
        Tiles { pixels, vector, vectors, count: vectors.div_ceil(tile / vector) }
    }

    fn range(&self, tile: usize) -> Range<usize> {
        let vectors = share(self.vectors, self.count, tile);
        vectors.start * self.vector..(vectors.end * self.vector).min(self.pixels)
    }
}

struct Job<'a> {
    weights: &'a PackedPointwise,
    geometry: &'a ConvGeometry,
    x: &'a [f32],
    y: Shared,
    residual: Option<&'a [f32]>,
    clamps: Clamps,
    finish: Option<Finish>,
    tiles: Tiles,
}

impl Job<'_> {
    /// Computes `block_rows` of the tiles in `tiles`, which count through all images.
    fn run_part(&self, tiles: Range<usize>, block_rows: Range<usize>) {
        let (s, w) = (self.geometry.shape(), self.weights);
        let single = self.tiles.pixels == 1;
        let stride = if single { 1 } else { w.kernel.info.pixels };
        let panel_len = w.used.len() * w.kernel.format.c() * stride;
        let channels = self.channels(&block_rows);
        let transposed =
            if s.y_layout == Layout::Interleaved && !single { channels.len() * stride } else { 0 };
        // The panel, then a planar copy of the output tile and of the residual tile where the output is interleaved.
        scratch::with(panel_len + 2 * transposed, |buffer| {
            let (panel, staging) = buffer.split_at_mut(panel_len);
            let (y_tile, residual_tile) = staging.split_at_mut(transposed);
            for tile in tiles {
                let (n, pixels) = (tile / self.tiles.count, self.tiles.range(tile % self.tiles.count));
                self.fill_panel(panel, stride, n, pixels.clone());
                if transposed == 0 {
                    self.run_planar(panel, n, pixels, block_rows.clone());
                } else {
                    self.run_interleaved(panel, n, pixels, block_rows.clone(), y_tile, residual_tile);
                }
            }
        });
    }

    /// Output channels of some block rows.
    fn channels(&self, block_rows: &Range<usize>) -> Range<usize> {
        let r = self.weights.kernel.format.r();
        block_rows.start * r..(block_rows.end * r).min(self.weights.oc)
    }

    fn run_planar(&self, panel: &[f32], n: usize, pixels: Range<usize>, block_rows: Range<usize>) {
        let plane = self.tiles.pixels;
        let first = n * self.weights.oc * plane + pixels.start;
        let channels = self.channels(&block_rows);
        let args = TileArgs {
            weights: self.weights,
            panel,
            block_rows,
            pixels: pixels.len(),
            // SAFETY: `ConvGeometry::check` has compared the lengths; `first` is inside the tensor.
            y: unsafe { self.y.get().add(first) },
            residual: self.residual.map_or(std::ptr::null(), |r| r[first..].as_ptr()),
            stride: plane,
            clamps: self.clamps,
        };
        self.call(&args);
        if let Some(finish) = self.finish {
            for channel in channels {
                let range = first + channel * plane..first + channel * plane + pixels.len();
                // SAFETY: the range is inside the tensor and belongs to this task alone (see `Shared`).
                let row =
                    unsafe { std::slice::from_raw_parts_mut(self.y.get().add(range.start), range.len()) };
                finish.apply(row, self.residual.map(|r| &r[range]));
            }
        }
    }

    /// Runs the kernel into a planar tile and scatters that to `[pixel][channel]`.
    fn run_interleaved(
        &self,
        panel: &[f32],
        n: usize,
        pixels: Range<usize>,
        block_rows: Range<usize>,
        y_tile: &mut [f32],
        residual_tile: &mut [f32],
    ) {
        let (oc, plane) = (self.weights.oc, self.tiles.pixels);
        let channels = self.channels(&block_rows);
        let stride = y_tile.len() / channels.len();
        let first = n * plane + pixels.start;
        if let Some(residual) = self.residual {
            for lane in 0..pixels.len() {
                let row = &residual[(first + lane) * oc..][..oc];
                for (i, channel) in channels.clone().enumerate() {
                    residual_tile[i * stride + lane] = row[channel];
                }
            }
        }
        let args = TileArgs {
            weights: self.weights,
            panel,
            block_rows,
            pixels: pixels.len(),
            // The tile begins at channel `channels.start`; kernels count from channel 0.
            y: y_tile.as_mut_ptr().wrapping_sub(channels.start * stride),
            residual: residual_tile.as_ptr().wrapping_sub(channels.start * stride),
            stride,
            clamps: self.clamps,
        };
        self.call(&args);
        for (i, channel) in channels.enumerate() {
            let row = &mut y_tile[i * stride..][..pixels.len()];
            if let Some(finish) = self.finish {
                finish.apply(row, self.residual.map(|_| &residual_tile[i * stride..][..pixels.len()]));
            }
            for (lane, v) in row.iter().enumerate() {
                // SAFETY: inside the tensor by `ConvGeometry::check`; this pixel and channel belong to this task alone.
                unsafe { *self.y.get().add((first + lane) * oc + channel) = *v };
            }
        }
    }

    fn call(&self, args: &TileArgs) {
        let kernel = self.weights.kernel;
        let run = if self.tiles.pixels == 1 { kernel.single } else { kernel.tile };
        // SAFETY: the kernel came from the table, which hands out only kernels whose target was detected; `args`
        // keeps the invariants of `TileArgs` and `PackedPointwise`.
        unsafe { run(args) }
    }

    /// Copies the input of `pixels` into the panel: rows of `stride` floats, lanes beyond the tile left alone (they
    /// are computed and thrown away), rows beyond the last input channel zero.
    fn fill_panel(&self, panel: &mut [f32], stride: usize, n: usize, pixels: Range<usize>) {
        let (s, c) = (self.geometry.shape(), self.weights.kernel.format.c());
        let plane = self.geometry.input_pixels();
        let image = &self.x[n * s.ic * plane..][..s.ic * plane];
        let identity = self.geometry.is_identity_map();
        let width = self.geometry.output()[1];
        let source = |pixel: usize| {
            let iy = self.geometry.tap(0, pixel / width, 0)?;
            Some(iy * s.input[1] + self.geometry.tap(1, pixel % width, 0)?)
        };
        for (rows, block) in panel.chunks_exact_mut(c * stride).zip(&self.weights.used) {
            for (i, row) in rows.chunks_exact_mut(stride).enumerate() {
                let channel = *block as usize * c + i;
                if channel >= s.ic {
                    row.fill(0.0);
                    continue;
                }
                match s.x_layout {
                    Layout::Planar if identity => {
                        row[..pixels.len()].copy_from_slice(&image[channel * plane..][pixels.clone()]);
                    }
                    Layout::Planar => {
                        let channel = &image[channel * plane..][..plane];
                        for (v, pixel) in row.iter_mut().zip(pixels.clone()) {
                            *v = source(pixel).map_or(0.0, |p| channel[p]);
                        }
                    }
                    Layout::Interleaved => {
                        for (v, pixel) in row.iter_mut().zip(pixels.clone()) {
                            *v = source(pixel).map_or(0.0, |p| image[p * s.ic + channel]);
                        }
                    }
                }
            }
        }
    }
}

impl TileArgs<'_> {
    /// The blocks of block row `row`: pointers to the panel row index and to the values of the first, and their number.
    ///
    /// # Safety
    /// `row` must be in `block_rows` (invariant of `PackedPointwise`: `starts` is inside `indices`).
    #[inline(always)]
    unsafe fn blocks(&self, row: usize, block: usize) -> (*const u32, *const f32, usize) {
        let w = self.weights;
        // SAFETY: `row + 1` is a valid position of `starts`, whose entries are valid positions of `indices`.
        unsafe {
            let start = *w.starts.get_unchecked(row) as usize;
            let end = *w.starts.get_unchecked(row + 1) as usize;
            (w.indices.as_ptr().add(start), w.values.as_ptr().add(start * block), end - start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_even_and_complete() {
        for pixels in 1..200 {
            let tiles = Tiles::new(pixels, 8, 24);
            let all: Vec<usize> = (0..tiles.count).flat_map(|t| tiles.range(t)).collect();
            assert_eq!(all, (0..pixels).collect::<Vec<_>>());
            assert!((0..tiles.count).all(|t| tiles.range(t).len() <= 24));
        }
        let vectors = |p| {
            let t = Tiles::new(p, 8, 24);
            (0..t.count).map(|i| t.range(i).len().div_ceil(8)).collect::<Vec<_>>()
        };
        assert_eq!(vectors(49), [3, 2, 2]);
        assert_eq!(vectors(25), [2, 2]);
    }
}
