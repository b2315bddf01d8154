//! Convolution of any kernel size over planar images without groups: dense, sparse by rows, 3x3 patterns with
//! or without connectivity. No im2col matrix is made.
//!
//! The weights are a sparse matrix `oc` x `(ic, ky, kx)` in groups of `R` output channels. Kernel patterns
//! that `R` filters share, absent kernels, pruned rows and dense layers are all the same to it: a group
//! stores `R` values for every `(ic, ky, kx)` where any of its filters has a weight.
//!
//! **The image.** A band of output rows is computed at a time. The input rows that it needs are copied once
//! into zero-padded planes small enough for the second-level cache (`Plan`). With a stride, rows and columns
//! are dealt into `stride` phases, each a small plane of its own, so that neighbouring outputs always read
//! neighbouring floats. Then every tap of every channel is one constant offset into that buffer, whatever the
//! output pixel.
//!
//! **Vectors.** A tile is a few vectors of output pixels, each with a base of its own in the buffer. Either
//! vectors stay inside an output row, or they run on through the padding into the next one, which wastes as
//! many lanes as there are columns between two rows: one, since the padding right of a row is also the
//! padding left of the next. The plan takes what needs fewer vectors: 7 for 7x7 and 27 for 14x14 pixels in
//! vectors of 8.
//!
//! Each output value is summed by one thread in the order of the weights: the split into bands, tiles and
//! threads never changes a result.

// Where there is only the scalar kernel, some of what vector kernels share has no user.
#![cfg_attr(
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        all(target_arch = "wasm32", target_feature = "simd128")
    )),
    allow(dead_code, unused_macros, unused_imports)
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_cores;
mod plan;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use crate::epilogue::{Clamps, Epilogue, Finish};
use crate::error::{FormatError, KernelError};
use crate::format::{FormatKind, Rows, check_groups};
use crate::geometry::{ConvGeometry, ConvShape, Layout};
use crate::parallel::{self, Parallel, share};
use crate::scratch;
use crate::table::KernelInfo;
use plan::{Plan, Work};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Most lanes that a kernel's vectors have.
const MAX_LANES: usize = 16;
/// Most vectors of a tile.
const MAX_VECTORS: usize = 16;
/// Memory of the weights that are applied to one tile after the other before the next weights are taken: a
/// quarter of a second-level cache of 512 KiB, the image has most of the rest.
const WEIGHT_BYTES: usize = 128 << 10;

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can
/// run.
#[derive(Debug)]
pub struct SpatialKernel {
    info: KernelInfo,
    format: FormatKind,
    /// Pixels of a vector.
    vector: usize,
    /// Any number of vectors from 1 to the tile.
    tile: unsafe fn(&TileArgs),
    evens: Evens,
}

/// Copies every other float: to, from, number of floats written, at least [`plan::CHUNK`]; reads twice as
/// many.
type Evens = unsafe fn(*mut f32, *const f32, usize);

impl SpatialKernel {
    /// Name, target and tile.
    pub fn info(&self) -> &KernelInfo {
        &self.info
    }

    /// The format it reads: groups of output channels.
    pub fn format(&self) -> FormatKind {
        self.format
    }

    /// Pixels of one vector register.
    pub fn vector(&self) -> usize {
        self.vector
    }
}

/// Builds a row of [`KERNELS`]: name parts, then the target's module; or, for a class of cores, the function
/// for tiles and the module for the rest.
macro_rules! kernel {
    ($format:ident, $text:literal, $r:literal, $pixels:literal, $isa:ident, $suffix:literal, $vector:literal,
     $quality:ident, $module:ident) => {
        kernel!($format, $text, $r, $pixels, $isa Any, $suffix, $vector, $quality, $module::tile, $module)
    };
    ($format:ident, $text:literal, $r:literal, $pixels:literal, $isa:ident $core:ident, $suffix:literal, $vector:literal,
     $quality:ident, $tiles:ident::$tile:ident, $module:ident) => {
        SpatialKernel {
            info: KernelInfo {
                name: concat!("spatial_", $text, "_", $r, "x", $pixels, "_", $suffix),
                operation: crate::table::Operation::Spatial,
                format: $text,
                isa: crate::target::Isa::$isa,
                core: crate::target::Core::$core,
                channels: $r,
                pixels: $pixels,
                quality: crate::table::Quality::$quality,
            },
            format: FormatKind::$format,
            vector: {
                assert!($vector <= MAX_LANES && $pixels / $vector <= MAX_VECTORS && $pixels % $vector == 0);
                $vector
            },
            tile: $tiles::$tile::<$r, $pixels>,
            evens: $module::evens,
        }
    };
}

/// All spatial kernels of this build.
pub(crate) static KERNELS: &[SpatialKernel] = &[
    kernel!(ROWS_1, "unstructured", 1, 16, Scalar, "scalar", 8, Portable, scalar),
    kernel!(ROWS_2, "2x1", 2, 16, Scalar, "scalar", 8, Portable, scalar),
    kernel!(ROWS_4, "4x1", 4, 16, Scalar, "scalar", 8, Portable, scalar),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_1, "unstructured", 1, 48, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_2, "2x1", 2, 32, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_4, "4x1", 4, 24, Avx2, "avx2", 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_1, "unstructured", 1, 128, Avx512, "avx512", 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_2, "2x1", 2, 128, Avx512, "avx512", 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(ROWS_4, "4x1", 4, 80, Avx512, "avx512", 16, Tuned, avx512),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_1, "unstructured", 1, 32, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_2, "2x1", 2, 32, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4, "4x1", 4, 20, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4, "4x1", 4, 20, Neon A53, "neon-a53", 4, Tuned, neon_cores::tile_a53, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4, "4x1", 4, 20, Neon A55, "neon-a55", 4, Tuned, neon_cores::tile_a55, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(ROWS_4, "4x1", 4, 28, Neon A76, "neon-a76", 4, Tuned, neon_cores::tile_a76, neon),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_1, "unstructured", 1, 32, Wasm, "wasm", 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_2, "2x1", 2, 16, Wasm, "wasm", 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(ROWS_4, "4x1", 4, 8, Wasm, "wasm", 4, Intrinsics, wasm),
];

/// Whether this operation computes a shape: `Err` says what it cannot do.
///
/// Any kernel size, stride, dilation and padding is fine.
///
/// # Errors
/// Channel groups, or an input or output that is not planar.
pub fn supports(shape: &ConvShape) -> Result<(), &'static str> {
    if shape.group != 1 {
        return Err("spatial kernels have no channel groups");
    }
    if shape.x_layout != Layout::Planar || shape.y_layout != Layout::Planar {
        return Err("spatial kernels want planar input and output");
    }
    Ok(())
}

/// Compressed weights and bias of one layer, ready for one kernel.
///
/// Invariants, which the kernels rely on: every column is below `used.len() * taps`; `starts` grows from 0 to
/// the number of columns, one entry more than groups; `values` has `r` floats per column; `bias` has `r`
/// floats per group.
#[derive(Debug)]
pub struct PackedSpatial {
    kernel: &'static SpatialKernel,
    oc: usize,
    ic: usize,
    taps: [usize; 2],
    starts: Vec<u32>,
    /// `(position in used) * kh * kw + ky * kw + kx` of every stored group of `r` weights.
    columns: Vec<u32>,
    values: Vec<f32>,
    bias: Vec<f32>,
    /// Input channels that have any weight: only those are copied.
    used: Vec<u32>,
    /// The plan of the latest run: one geometry is the rule.
    plan: Mutex<Option<Arc<Plan>>>,
}

impl Clone for PackedSpatial {
    fn clone(&self) -> PackedSpatial {
        PackedSpatial {
            kernel: self.kernel,
            oc: self.oc,
            ic: self.ic,
            taps: self.taps,
            starts: self.starts.clone(),
            columns: self.columns.clone(),
            values: self.values.clone(),
            bias: self.bias.clone(),
            used: self.used.clone(),
            plan: Mutex::new(None),
        }
    }
}

/// Some output pixels of a band and where they are: lanes in an order of their own, but without gaps in the
/// output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vector {
    /// First float of the vector in the image buffer at offset 0.
    base: u32,
    /// Position of the first pixel in the output rows of the band; the others follow it.
    pixel: u32,
    /// How many pixels there are: the number of lanes, but for those that lie between two rows.
    count: u32,
    /// Position in [`Band::orders`] of the lanes of these pixels.
    order: u32,
}

/// The lane of every pixel of a vector; some lane for those beyond its `count`.
type Order = [u32; MAX_LANES];

/// One call of a kernel: a tile of output pixels, the output channels of `groups`.
///
/// Invariants: for every vector and every offset, which is in bytes, `image` has a whole vector of floats so
/// far behind `base`; there are at least one and at most `tile / lanes` vectors, in rising order of their
/// pixels, whose `order` is in `orders`; every lane of an order is one of a vector; `offsets` has one entry
/// per column of `weights`, and then as many zeros as a kernel may look ahead; `y`, and `residual` if
/// `clamps.residual`, are valid at `channel * stride + pixel` for all `pixel` below `pixels` and all output
/// channels of `groups`, and nothing else writes there during the call. Tiles are called in rising order, and
/// the next vector begins where the pixels of this end: a kernel may write a whole vector if `pixels` leaves
/// room for it, what is too much will be written again.
pub(crate) struct TileArgs<'a> {
    weights: &'a PackedSpatial,
    offsets: &'a [u32],
    image: &'a [f32],
    groups: Range<usize>,
    vectors: &'a [Vector],
    orders: &'a [Order],
    /// Output pixels of the band.
    pixels: usize,
    /// First pixel of the band in output channel 0.
    y: *mut f32,
    residual: *const f32,
    /// Floats from one output channel to the next.
    stride: usize,
    clamps: Clamps,
}

/// The output tensor, written by several threads in disjoint parts.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements (`PackedSpatial::run` cuts rows or channels apart).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl PackedSpatial {
    /// Compresses dense weights `[oc][ic][kh][kw]` into the format of `kernel`; `taps` is `[kh, kw]`, `bias`
    /// one value per output channel (zeros if `None`).
    ///
    /// # Errors
    /// An empty shape, a slice of another length, a weight that is not finite, more than `u32::MAX` weights.
    pub fn from_dense(
        oc: usize,
        ic: usize,
        taps: [usize; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        kernel: &'static SpatialKernel,
    ) -> Result<PackedSpatial, KernelError> {
        PackedSpatial::from_groups([oc, ic, 1], taps, weights, bias, kernel)
    }

    /// Compresses the weights `[oc][ic / groups][kh][kw]` of a layer in which every output channel sees the
    /// input channels of its group alone; the first argument is `[oc, ic, groups]`. The packed layer is
    /// one without groups: what the others would weigh is not stored.
    ///
    /// # Errors
    /// As [`PackedSpatial::from_dense`]; groups that do not divide the channels.
    pub fn from_groups(
        [oc, ic, groups]: [usize; 3],
        taps: [usize; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        kernel: &'static SpatialKernel,
    ) -> Result<PackedSpatial, KernelError> {
        let cols = taps.into_iter().try_fold(ic, usize::checked_mul);
        let cols = cols.ok_or(FormatError::TooLarge("matrix"))?;
        check_groups(ic, groups)?;
        let (starts, mut columns, values) = match kernel.format {
            FormatKind::ROWS_1 => Rows::<1>::from_groups(oc, cols, groups, weights)?.into_parts(),
            FormatKind::ROWS_2 => Rows::<2>::from_groups(oc, cols, groups, weights)?.into_parts(),
            _ => Rows::<4>::from_groups(oc, cols, groups, weights)?.into_parts(),
        };
        let mut padded = vec![0f32; (starts.len() - 1) * kernel.format.r()];
        if let Some(bias) = bias {
            if bias.len() != oc {
                return Err(FormatError::Length { what: "bias", expected: oc, got: bias.len() }.into());
            }
            padded[..oc].copy_from_slice(bias);
        }
        let window = (taps[0] * taps[1]) as u32;
        let mut live = vec![false; ic];
        columns.iter().for_each(|c| live[(c / window) as usize] = true);
        let used: Vec<u32> = (0..ic as u32).filter(|channel| live[*channel as usize]).collect();
        let mut position = vec![0u32; ic];
        for (p, channel) in used.iter().enumerate() {
            position[*channel as usize] = p as u32;
        }
        for column in &mut columns {
            *column = position[(*column / window) as usize] * window + *column % window;
        }
        let plan = Mutex::new(None);
        Ok(PackedSpatial { kernel, oc, ic, taps, starts, columns, values, bias: padded, used, plan })
    }

    /// The kernel these weights were packed for.
    pub fn kernel(&self) -> &'static SpatialKernel {
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

    /// Kernel height and width.
    pub fn taps(&self) -> [usize; 2] {
        self.taps
    }

    /// Which input channels are looked at: those that have any weight.
    pub fn reads(&self) -> Vec<bool> {
        let mut reads = vec![false; self.ic];
        self.used.iter().for_each(|channel| reads[*channel as usize] = true);
        reads
    }

    /// Stored weights, zeros inside groups included: multiply-adds per output pixel.
    pub fn stored(&self) -> usize {
        self.values.len()
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        self.values.iter().filter(|v| **v != 0.0).count()
    }

    /// Memory of the packed weights, with the offsets that the first run adds.
    pub fn bytes(&self) -> usize {
        4 * (self.starts.len()
            + 2 * self.columns.len()
            + self.values.len()
            + self.bias.len()
            + self.used.len())
    }

    /// Computes `y = epilogue(weights * x + bias)`, with `residual` (shape and layout of `y`) added inside
    /// the epilogue.
    ///
    /// # Errors
    /// A geometry that [`supports`] refuses, that does not fit the weights, or whose buffer cannot be
    /// indexed; slices of another length.
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
            ("kernel height", self.taps[0], s.kernel[0]),
            ("kernel width", self.taps[1], s.kernel[1]),
        ] {
            if weights != geometry {
                return Err(KernelError::Shape { what, weights, geometry });
            }
        }
        supports(s).map_err(|what| KernelError::Geometry(format!("{what}: {s:?}")))?;
        if y.is_empty() {
            return Ok(());
        }
        if let Some((geometry, zeros)) = geometry.on_zeros() {
            return self.run(&geometry, &zeros, y, residual, epilogue, parallel);
        }
        let threads = parallel::threads(parallel);
        let plan = self.plan(geometry, threads)?;
        let (clamps, finish) = epilogue.split(residual.is_some());
        let y = Shared(y.as_mut_ptr());
        let job = Job { weights: self, geometry, plan: &plan, x, y, residual, clamps, finish };
        let (bands, groups) = (s.batch * plan.bands, self.starts.len() - 1);
        if threads == 1 {
            job.run_part(0..bands, 0..groups);
            Ok(())
        } else if bands >= threads {
            parallel::for_each(parallel, bands, |band| job.run_part(band..band + 1, 0..groups))
        } else {
            // A small image: every thread copies it and takes some of the output channels.
            let parts = groups.min(threads);
            parallel::for_each(parallel, parts, |part| job.run_part(0..bands, share(groups, parts, part)))
        }
    }

    /// The plan for a geometry, from the latest run or new.
    fn plan(&self, geometry: &ConvGeometry, threads: usize) -> Result<Arc<Plan>, KernelError> {
        // A panic of another thread cannot leave half a plan behind: it is replaced as a whole.
        let mut latest = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = latest.as_ref().filter(|plan| plan.is_for(geometry, threads)) {
            return Ok(plan.clone());
        }
        let lanes = self.kernel.vector;
        let work = Work {
            columns: &self.columns,
            r: self.kernel.format.r(),
            lanes,
            tile: self.kernel.info.pixels / lanes,
        };
        let plan = Arc::new(Plan::new(geometry, &self.used, work, threads)?);
        *latest = Some(plan.clone());
        Ok(plan)
    }
}

struct Job<'a> {
    weights: &'a PackedSpatial,
    geometry: &'a ConvGeometry,
    plan: &'a Plan,
    x: &'a [f32],
    y: Shared,
    residual: Option<&'a [f32]>,
    clamps: Clamps,
    finish: Option<Finish>,
}

impl Job<'_> {
    /// Computes the output channels of `groups` in the bands `bands`, which count through all images.
    fn run_part(&self, bands: Range<usize>, groups: Range<usize>) {
        let (s, plan) = (self.geometry.shape(), self.plan);
        let image_len = s.ic * self.geometry.input_pixels();
        scratch::with(plan.len, |buffer| {
            for band in bands {
                let (n, rows) = (band / plan.bands, plan.rows(band % plan.bands));
                let (image, used) = (&self.x[n * image_len..][..image_len], &self.weights.used);
                plan.fill(buffer, image, used, rows.clone(), self.weights.kernel.evens);
                let mut start = groups.start;
                while start < groups.end {
                    let block = self.block(start..groups.end);
                    self.run_block(buffer, n, rows.clone(), block.clone());
                    start = block.end;
                }
            }
        });
    }

    /// As many of the first groups of `groups` as stay in cache, at least one.
    fn block(&self, groups: Range<usize>) -> Range<usize> {
        let (starts, r) = (&self.weights.starts, self.weights.kernel.format.r());
        let columns = WEIGHT_BYTES / (4 * (r + 1));
        let mut end = groups.start + 1;
        while end < groups.end && (starts[end + 1] - starts[groups.start]) as usize <= columns {
            end += 1;
        }
        groups.start..end
    }

    /// All tiles of a band for some groups.
    fn run_block(&self, image: &[f32], n: usize, rows: Range<usize>, groups: Range<usize>) {
        let (w, plan) = (self.weights, self.plan);
        let plane = self.geometry.output_pixels();
        let width = self.geometry.output()[1];
        let first = n * w.oc * plane + rows.start * width;
        let band = plan.band(rows.len());
        let mut args = TileArgs {
            weights: w,
            offsets: &plan.offsets,
            image,
            groups: groups.clone(),
            vectors: &[],
            orders: &band.orders,
            pixels: rows.len() * width,
            // SAFETY: `ConvGeometry::check` has compared the lengths; the first row of the band is inside the
            // tensor.
            y: unsafe { self.y.get().add(first) },
            residual: self.residual.map_or(std::ptr::null(), |r| r[first..].as_ptr()),
            stride: plane,
            clamps: self.clamps,
        };
        for tile in &band.tiles {
            args.vectors = &band.vectors[tile.clone()];
            // SAFETY: the kernel came from the table, which hands out only kernels whose target was detected;
            // `args` keeps the invariants of `TileArgs`: `Plan::new` has made the buffer as long as the last
            // vector at the largest offset needs.
            unsafe { (w.kernel.tile)(&args) };
        }
        if let Some(finish) = self.finish {
            let r = w.kernel.format.r();
            for channel in groups.start * r..(groups.end * r).min(w.oc) {
                let at = first + channel * plane;
                let range = at..at + rows.len() * width;
                // SAFETY: the range is inside the tensor and belongs to this task alone (see `Shared`).
                let row =
                    unsafe { std::slice::from_raw_parts_mut(self.y.get().add(range.start), range.len()) };
                finish.apply(row, self.residual.map(|r| &r[range]));
            }
        }
    }
}

impl TileArgs<'_> {
    /// The columns of group `group`: pointers to the offset and to the values of the first, and their number.
    ///
    /// # Safety
    /// `group` must be in `groups` (invariant of `PackedSpatial`: `starts` is inside `columns`, and there are
    /// as many offsets).
    #[inline(always)]
    unsafe fn columns(&self, group: usize, r: usize) -> (*const u32, *const f32, usize) {
        let w = self.weights;
        // SAFETY: `group + 1` is a valid position of `starts`, whose entries are valid positions of
        // `offsets`.
        unsafe {
            let start = *w.starts.get_unchecked(group) as usize;
            let end = *w.starts.get_unchecked(group + 1) as usize;
            (self.offsets.as_ptr().add(start), w.values.as_ptr().add(start * r), end - start)
        }
    }

    /// Whether every vector of the tile can be written whole, and whether its lanes are in order.
    #[inline(always)]
    fn room(&self, lanes: usize) -> (bool, bool) {
        let last = self.vectors.last().map_or(0, |v| v.pixel as usize);
        (last + lanes <= self.pixels, self.vectors.iter().all(|v| v.order == 0))
    }

    /// Epilogue and store of the `sums` of a vector, pixel by pixel: where there is no room to write it
    /// whole.
    ///
    /// # Safety
    /// `channel` is an output channel of `groups`, `vector` one of `vectors`, and `sums` has a lane for each
    /// of its order (invariant of `TileArgs`: `y` and `residual` are valid at every pixel of a vector).
    #[inline]
    unsafe fn store_pixels(&self, channel: usize, vector: &Vector, sums: &[f32]) {
        let order = &self.orders[vector.order as usize][..vector.count as usize];
        let at = channel * self.stride + vector.pixel as usize;
        for (i, lane) in order.iter().enumerate() {
            let mut v = clamp(sums[*lane as usize], self.clamps.before);
            // SAFETY: TileArgs: `y` and `residual` are valid at channel * stride + pixel.
            unsafe {
                if self.clamps.residual {
                    v = clamp(v + *self.residual.add(at + i), self.clamps.after);
                }
                *self.y.add(at + i) = v;
            }
        }
    }
}

/// NaN stays NaN.
#[inline(always)]
fn clamp(v: f32, (lo, hi): (f32, f32)) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}
