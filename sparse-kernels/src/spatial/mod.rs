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
//! **Pairs** of bf16 ([`crate::pairs`]) are the same in lanes of 32 bits: a lane of the buffer is a pixel of two input
//! channels, a weight is of both, `Vector::dot` multiplies them into sums of floats, and
//! those of two output channels are rounded to one row of lanes when they are stored. Patterns that four input
//! channels share fill every lane. A channel that is alone in its lanes, as the third of a picture, has the pixel below in
//! the other half: of a 7x7 kernel four lanes in place of seven. Functions that kernels do not fuse see the sums of
//! some channels in a buffer, and are rounded after that.
//!
//! **Quads** of bytes ([`crate::quads`]) are the same once more: four channels in a lane, or four rows of one that is alone,
//! sums of whole numbers, and padding that is the zero point of the input in every byte. The sums of four output channels
//! are scaled and become one row of lanes when they are stored; a table is looked up in after that.
//!
//! **f16** is not multiplied in pairs: an instruction takes eight pixels of one channel. So the image buffer has planes of
//! channels, of halves, and lanes are taken apart where they are copied into it. From there on all is as it is for floats,
//! columns, offsets and loops, with vectors of twice as many pixels and weights of half the bits; a pattern leaves nothing
//! to fill. Sums are f16, as many products of them as the pointwise ones are of (`pointwise/halves.rs`), and two channels of
//! eight pixels become two vectors of lanes when they are stored.
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
mod plan;
pub(crate) mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use crate::drive::{self, Cut, Job, Latest, Packed};
use crate::epilogue::{Clamps, Epilogue, Finish, FinishPairs};
use crate::error::{FormatError, KernelError};
use crate::format::{FormatKind, Rows, TapLanes, check_groups};
use crate::geometry::{ConvGeometry, ConvShape, Layout};
use crate::pairs::{self, Numbers, f16};
use crate::parallel::Parallel;
use crate::quads::{self, CHANNELS, Quantised, Requantise};
use crate::scratch::{self, LINE};
use crate::table::{Element, KernelInfo};
use crate::target::Target;
use crate::vector::Order;
use body::{Loops, RowsApart};
use plan::{Band, Plan, Work};
use std::ops::Range;

/// Memory of the weights that are applied to one tile after the other before the next weights are taken: a
/// quarter of a second-level cache of 512 KiB, the image has most of the rest.
const WEIGHT_BYTES: usize = 128 << 10;

/// Floats of the sums of pairs that wait for a function that kernels do not fuse, if the channels of one row of lanes do not
/// have more: half of a first-level cache.
const FINISHED: usize = 4 << 10;

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can
/// run.
#[derive(Debug)]
pub struct SpatialKernel {
    info: KernelInfo,
    format: FormatKind,
    /// Pixels of a vector.
    vector: usize,
    /// Whether loops take 128 from every activation of quads.
    signed: bool,
    /// Any number of vectors from 1 to the tile.
    tile: unsafe fn(&TileArgs),
    copies: Copies,
}

/// How a kernel copies rows of the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copies {
    /// [`Loops::evens`].
    evens: unsafe fn(*mut f32, *const f32, usize),
    /// [`Loops::apart`].
    apart: unsafe fn(&RowsApart),
}

/// A row of the table, for [`crate::table::kernel`].
pub(crate) const fn kernel<L: Loops, const R: usize, const C: usize, const PIXELS: usize>(
    info: KernelInfo,
    _: (),
) -> SpatialKernel {
    assert!(C == 1 && PIXELS.is_multiple_of(L::LANES), "a tile is whole vectors");
    assert!(
        PIXELS / L::LANES <= L::MOST_VECTORS[R.ilog2() as usize],
        "more sums than the machine has registers for"
    );
    assert!(info.element as u8 == L::ELEMENT as u8, "loops are for one type");
    SpatialKernel {
        info,
        format: FormatKind::new(R, 1),
        vector: L::LANES,
        signed: L::SIGNED,
        tile: L::tile::<R, PIXELS>,
        copies: Copies { evens: L::evens, apart: L::apart },
    }
}

impl SpatialKernel {
    /// Name, target and tile.
    pub fn info(&self) -> &KernelInfo {
        &self.info
    }

    /// The target that it was obtained for, or one with the same instructions.
    pub fn target(&self) -> Target {
        self.info.target()
    }

    /// The format it reads: groups of output channels.
    pub fn format(&self) -> FormatKind {
        self.format
    }

    /// Pixels of one vector register.
    pub fn vector(&self) -> usize {
        self.vector
    }

    /// What its weights and pixels are.
    pub fn element(&self) -> Element {
        self.info.element
    }

    /// Groups of output channels that share rows of lanes.
    fn groups_of_line(&self) -> usize {
        self.element().per_lane().div_ceil(self.format.r())
    }
}

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
/// the number of columns, one entry more than groups; `values` has `r` lanes per column, in f16 halves; `bias` has `r`
/// floats per group. Of floats a lane is one. If, and only if, the kernel is one of quads, there is a `requantise`, the
/// groups fill whole lanes of output channels, and it has as many channels.
#[derive(Debug, Clone)]
pub struct PackedSpatial {
    kernel: &'static SpatialKernel,
    oc: usize,
    ic: usize,
    taps: [usize; 2],
    starts: Vec<u32>,
    /// `(position in used) * kh * kw + ky * kw + kx` of every stored group of `r` lanes of weights.
    columns: Vec<u32>,
    values: Vec<f32>,
    /// What sums begin with.
    bias: Vec<f32>,
    /// What becomes of sums of quads.
    requantise: Option<Requantise>,
    /// Lanes of input channels, in f16 channels, that have any weight: only those are copied.
    used: Vec<u32>,
    latest: Latest<Plan>,
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

/// One call of a kernel: a tile of output pixels, the output channels of some groups.
///
/// Invariants, beside those of the parts:
/// * for every vector and every offset, the image has a whole vector of floats so far behind `base`;
/// * `output` is valid for all output channels of the groups.
pub(crate) struct TileArgs<'a> {
    weights: Weights<'a>,
    /// The copied input of the band.
    image: &'a [f32],
    output: Output<'a>,
    clamps: Clamps,
}

/// The weights of a call.
///
/// Invariants: `offsets`, in bytes, has one entry per column of `packed`, and then as many zeros as a kernel
/// may look ahead; `groups` lies within those of `packed`.
struct Weights<'a> {
    packed: &'a PackedSpatial,
    offsets: &'a [u32],
    groups: Range<usize>,
}

/// Where the pixels of a tile go.
///
/// Invariants:
/// * there are at least one and at most as many vectors as the kernel's tile has, in rising order of their
///   pixels, whose `order` is in `orders`; every lane of an order is one of a vector;
/// * `y`, and `residual` if the clamps want it, are valid at `line * stride + pixel` for the lanes `line` of all
///   channels, or, of `sums`, for all channels, and for all `pixel` below `pixels`, and nothing else writes there during
///   the call;
/// * tiles are called in rising order, and the next vector begins where the pixels of this end: a kernel may
///   write a whole vector if `pixels` leaves room for it, what is too much will be written again.
struct Output<'a> {
    vectors: &'a [Vector],
    orders: &'a [Order],
    /// Output pixels of the band.
    pixels: usize,
    /// First pixel of the band in output channel 0.
    y: *mut f32,
    residual: *const f32,
    /// From one output channel to the next, or, of lanes, from those of one to the next.
    stride: usize,
    /// Whether outputs are bare sums, a row of floats for every channel, whatever the element is.
    sums: bool,
}

impl PackedSpatial {
    /// Compresses dense weights `[oc][ic][kh][kw]` into the format of `kernel`; `taps` is `[kh, kw]`, `bias`
    /// one value per output channel (zeros if `None`). For kernels of pairs weights are rounded, in f16 the bias, too.
    ///
    /// # Errors
    /// An empty shape, a slice of another length, a weight that is not finite (of pairs, rounds to infinity; in f16 a bias
    /// that does), more than `u32::MAX` weights, a kernel of quads.
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
        let element = kernel.element();
        if element == Element::Int8 {
            let (kernel, asked) = (kernel.info.name, "weights of floats");
            return Err(KernelError::ElementMismatch { kernel, asked });
        }
        let rows = columns_of([oc, ic, groups], taps, weights, kernel)?;
        if element != Element::F32 {
            pairs::check_range(element, "weight", weights)?;
        }
        if element == Element::F16 {
            pairs::check_range(element, "bias", bias.unwrap_or_default())?;
        }
        let mut padded = vec![0f32; rows.groups() * kernel.format.r()];
        if let Some(bias) = bias {
            if bias.len() != oc {
                return Err(FormatError::Length { what: "bias", expected: oc, got: bias.len() }.into());
            }
            padded[..oc].copy_from_slice(bias);
        }
        Ok(PackedSpatial::of_columns([oc, ic], taps, rows, padded, None, kernel))
    }

    /// [`PackedSpatial::from_groups`] for a kernel of quads: weights are whole numbers from -128 to 127, and `quantised`
    /// says what follows their sums.
    ///
    /// # Errors
    /// As there; the kernel is not one of quads, a weight is no such number, `quantised` has another number of channels, or
    /// the sums of a channel might be too large for 32 bits.
    pub fn from_groups_int8(
        [oc, ic, groups]: [usize; 3],
        taps: [usize; 2],
        weights: &[f32],
        quantised: &Quantised,
        kernel: &'static SpatialKernel,
    ) -> Result<PackedSpatial, KernelError> {
        kernel.info.runs(CHANNELS)?;
        quads::check_weights(weights)?;
        let mut rows = columns_of([oc, ic, groups], taps, weights, kernel)?;
        if quantised.channels() != oc {
            let (expected, got) = (oc, quantised.channels());
            return Err(FormatError::Length { what: "biases and scales", expected, got }.into());
        }
        let (bias, requantise) = quantised.prepare(weights, kernel.signed)?;
        rows.fill_up_to(requantise.channels() / kernel.format.r());
        Ok(PackedSpatial::of_columns([oc, ic], taps, rows, bias, Some(requantise), kernel))
    }

    /// With columns numbered by lanes, or channels, that are used; `bias` has `r` floats per group.
    fn of_columns(
        [oc, ic]: [usize; 2],
        taps: [usize; 2],
        rows: Columns,
        bias: Vec<f32>,
        requantise: Option<Requantise>,
        kernel: &'static SpatialKernel,
    ) -> PackedSpatial {
        let Columns { starts, mut columns, values } = rows;
        let window = (taps[0] * taps[1]) as u32;
        let lanes = ic.div_ceil(kernel.element().per_product());
        let mut live = vec![false; lanes];
        columns.iter().for_each(|c| live[(c / window) as usize] = true);
        let used: Vec<u32> = (0..lanes as u32).filter(|lane| live[*lane as usize]).collect();
        let mut position = vec![0u32; lanes];
        for (p, channel) in used.iter().enumerate() {
            position[*channel as usize] = p as u32;
        }
        for column in &mut columns {
            *column = position[(*column / window) as usize] * window + *column % window;
        }
        let latest = Latest::default();
        PackedSpatial { kernel, oc, ic, taps, starts, columns, values, bias, requantise, used, latest }
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

    /// Which input channels are looked at: those in lanes that have any weight.
    pub fn reads(&self) -> Vec<bool> {
        let per_lane = self.kernel.element().per_product();
        let mut reads = vec![false; self.ic];
        for lane in &self.used {
            let first = *lane as usize * per_lane;
            reads[first..(first + per_lane).min(self.ic)].fill(true);
        }
        reads
    }

    /// Stored weights, zeros inside groups and lanes included: multiply-adds per output pixel.
    pub fn stored(&self) -> usize {
        self.columns.len() * self.kernel.format.r() * self.kernel.element().per_product()
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        match self.kernel.element() {
            Element::F32 => self.values.iter().filter(|v| **v != 0.0).count(),
            Element::Bf16 | Element::F16 => pairs::nonzeros(&self.values),
            Element::Int8 => quads::nonzeros(&self.values),
        }
    }

    /// Memory of the packed weights, with the offsets that the first run adds.
    pub fn bytes(&self) -> usize {
        4 * (self.starts.len()
            + 2 * self.columns.len()
            + self.values.len()
            + self.bias.len()
            + self.used.len())
            + self.requantise.as_ref().map_or(0, Requantise::bytes)
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
        drive::run(self, geometry, x, y, residual, epilogue, parallel)
    }

    /// [`PackedSpatial::run`] for weights that were packed for a kernel of pairs: `x`, `y` and `residual` are
    /// `[batch][ceil(channels / 2)][pixel]` lanes ([`crate::pairs`]). `geometry` counts channels.
    ///
    /// # Errors
    /// As there.
    pub fn run_pairs(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        residual: Option<&[u32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run_pairs(self, geometry, x, y, residual, epilogue, parallel)
    }

    /// [`PackedSpatial::run`] for weights that were packed for a kernel of quads: `x` and `y` are
    /// `[batch][ceil(channels / 4)][pixel]` lanes ([`crate::quads`]). `geometry` counts channels.
    ///
    /// # Errors
    /// As there.
    pub fn run_quads(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run_quads(self, geometry, x, y, parallel)
    }

    /// Groups of output channels.
    fn groups(&self) -> usize {
        self.starts.len() - 1
    }
}

/// Memory of a column of weights, with its offset.
fn column_bytes(kernel: &SpatialKernel) -> usize {
    size_of::<u32>() + kernel.format.r() * kernel.element().product_bytes()
}

/// Stored columns of weights: those of a group of `r` output channels begin at its entry of `starts`, which has one more.
struct Columns {
    starts: Vec<u32>,
    columns: Vec<u32>,
    /// A lane, or half, for each channel of a group, for each column.
    values: Vec<f32>,
}

impl Columns {
    fn groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// Adds groups without weights.
    fn fill_up_to(&mut self, groups: usize) {
        self.starts.resize(groups + 1, self.columns.len() as u32);
    }
}

/// The columns of dense weights, in lanes of the kernel, or in halves.
fn columns_of(
    [oc, ic, groups]: [usize; 3],
    taps: [usize; 2],
    weights: &[f32],
    kernel: &SpatialKernel,
) -> Result<Columns, KernelError> {
    let cols = taps.into_iter().try_fold(ic, usize::checked_mul);
    let cols = cols.ok_or(FormatError::TooLarge("matrix"))?;
    check_groups(ic, groups)?;
    let (starts, columns, values) = match kernel.format {
        FormatKind::ROWS_1 => Rows::<1>::from_groups(oc, cols, groups, weights)?.into_parts(),
        FormatKind::ROWS_2 => Rows::<2>::from_groups(oc, cols, groups, weights)?.into_parts(),
        _ => Rows::<4>::from_groups(oc, cols, groups, weights)?.into_parts(),
    };
    let rows = Columns { starts, columns, values };
    Ok(match kernel.element() {
        Element::F32 => rows,
        Element::F16 => in_halves(rows),
        element => in_lanes(TapLanes::new(ic, taps, element), element, kernel.format.r(), rows),
    })
}

/// Columns of single weights in f16, two to a lane, whichever columns these are of.
fn in_halves(rows: Columns) -> Columns {
    let lane = |both: &[f32]| f32::from_bits(f16::pair(both[0], both.get(1).copied().unwrap_or(0.0)));
    Columns { values: rows.values.chunks(2).map(lane).collect(), ..rows }
}

/// Columns of single weights, for groups of `r` output channels, in lanes.
fn in_lanes(lanes: TapLanes, element: Element, r: usize, rows: Columns) -> Columns {
    let mut all = Columns { starts: vec![0], columns: vec![], values: vec![] };
    for group in rows.starts.windows(2) {
        let group = group[0] as usize..group[1] as usize;
        lanes.for_each(&rows.columns[group.clone()], |lane| {
            all.columns.push(lane.column);
            all.values.extend((0..r).map(|row| {
                let parts =
                    lane.parts.map(|part| part.map_or(0.0, |p| rows.values[(group.start + p) * r + row]));
                f32::from_bits(match element {
                    Element::Int8 => quads::lane(parts.map(|weight| weight as i8 as u8)),
                    _ => pairs::pair(parts[0], parts[1]),
                })
            }));
        });
        all.starts.push(all.columns.len() as u32);
    }
    all
}

impl Packed for PackedSpatial {
    type Plan = Plan;

    fn info(&self) -> &'static KernelInfo {
        self.kernel.info()
    }

    fn check(&self, s: &ConvShape) -> Result<(), KernelError> {
        drive::equal([
            ("output channels", self.oc, s.oc),
            ("input channels", self.ic, s.ic),
            ("groups", 1, s.group),
            ("kernel height", self.taps[0], s.kernel[0]),
            ("kernel width", self.taps[1], s.kernel[1]),
        ])?;
        supports(s).map_err(|what| KernelError::Geometry(format!("{what}: {s:?}")))
    }

    fn padding(&self) -> f32 {
        self.requantise.as_ref().map_or(0.0, |requantise| requantise.x_zeros)
    }

    fn latest(&self) -> &Latest<Plan> {
        &self.latest
    }

    fn plan(&self, geometry: &ConvGeometry, threads: usize) -> Result<Plan, KernelError> {
        let lanes = self.kernel.vector;
        let work = Work {
            columns: &self.columns,
            r: self.kernel.format.r(),
            bytes: self.columns.len() * column_bytes(self.kernel),
            lanes,
            tile: self.kernel.info.pixels / lanes,
            element: self.kernel.element(),
            alone: TapLanes::new(self.ic, self.taps, self.kernel.element()).alone(),
            padding: self.padding(),
        };
        Plan::new(geometry, &self.used, work, threads)
    }

    fn cut(&self, job: &Job<Plan>) -> Cut {
        let places = job.geometry.shape().batch * job.plan.bands;
        Cut { places, least: 1, channels: self.groups().div_ceil(self.kernel.groups_of_line()) }
    }

    fn compute(&self, job: &Job<Plan>, places: Range<usize>, lines: Range<usize>) {
        let groups = self.kernel.groups_of_line();
        let groups = lines.start * groups..(lines.end * groups).min(self.groups());
        Run { weights: self, job }.part(places, groups);
    }
}

struct Run<'a> {
    weights: &'a PackedSpatial,
    job: &'a Job<'a, Plan>,
}

impl Run<'_> {
    /// Computes the output channels of `groups` in the bands `bands`, which count through all images.
    fn part(&self, bands: Range<usize>, groups: Range<usize>) {
        let (geometry, plan) = (self.job.geometry, self.job.plan);
        scratch::with(plan.floats(), |buffer| {
            for band in bands {
                let (n, rows) = (band / plan.bands, plan.rows(band % plan.bands));
                let (image, used) = (&self.job.x[geometry.x_image(n)], &self.weights.used);
                plan.fill(buffer, image, used, rows.clone(), self.weights.kernel.copies);
                let mut start = groups.start;
                while start < groups.end {
                    let block = self.block(start..groups.end);
                    self.run_block(buffer, n, rows.clone(), block.clone());
                    start = block.end;
                }
            }
        });
    }

    /// As many of the first groups of `groups` as stay in cache, at least those of a row of lanes.
    fn block(&self, groups: Range<usize>) -> Range<usize> {
        let (starts, kernel) = (&self.weights.starts, self.weights.kernel);
        let (columns, together) = (WEIGHT_BYTES / column_bytes(kernel), kernel.groups_of_line());
        let after = |end: usize| (end + together).min(groups.end);
        let mut end = after(groups.start);
        while end < groups.end && (starts[after(end)] - starts[groups.start]) as usize <= columns {
            end = after(end);
        }
        groups.start..end
    }

    /// All tiles of a band for some groups.
    fn run_block(&self, image: &[f32], n: usize, rows: Range<usize>, groups: Range<usize>) {
        let (w, job) = (self.weights, self.job);
        let ([_, width], stride) = (job.geometry.output(), job.geometry.y_plane());
        let (first, pixels) = (n * job.geometry.shape().oc * stride + rows.start * width, rows.len() * width);
        let band = job.plan.band(rows.len());
        if let Some(finish) = job.finish().filter(|_| w.kernel.element().in_pairs()) {
            return self.run_finished(finish, image, band, first, groups);
        }
        let output = Output {
            vectors: &[],
            orders: &band.orders,
            pixels,
            y: job.y(first),
            residual: job.residual(first),
            stride,
            sums: false,
        };
        // SAFETY: these rows of these channels are this part's, in the output and in the residual.
        unsafe { self.run_tiles(image, band, groups.clone(), output, job.clamps) };
        let r = w.kernel.format.r();
        let channels = groups.start * r..(groups.end * r).min(w.oc);
        match w.kernel.element() {
            Element::F32 => {
                // SAFETY: these rows of these channels are this part's.
                unsafe { job.complete(first + channels.start * stride, channels.len(), stride, pixels) };
            }
            Element::Int8 => {
                let Some(requantise) = &w.requantise else { return };
                for line in channels.start / CHANNELS..channels.end.div_ceil(CHANNELS) {
                    let at = first + line * stride;
                    // SAFETY: these rows of these channels are this part's, which holds no other slice of them.
                    requantise.look_up(unsafe { job.outputs(at..at + pixels) });
                }
            }
            Element::Bf16 | Element::F16 => {} // complete
        }
    }

    /// [`Run::run_block`] with a function that kernels do not fuse, for lanes, the first of which is `first`: sums wait in a
    /// buffer, those of some rows of lanes at a time.
    fn run_finished(&self, finish: &Finish, image: &[f32], band: &Band, first: usize, groups: Range<usize>) {
        let (w, job) = (self.weights, self.job);
        let (r, together, stride) = (w.kernel.format.r(), w.kernel.groups_of_line(), job.geometry.y_plane());
        let pixels = band.rows * job.geometry.output()[1];
        let apart = pixels.next_multiple_of(LINE);
        let at_once = (FINISHED / (r * together * apart)).max(1) * together;
        scratch::with(at_once * r * apart, |sums| {
            for start in groups.clone().step_by(at_once) {
                let some = start..groups.end.min(start + at_once);
                let channels = start * r..w.oc.min(some.end * r);
                let output = Output {
                    vectors: &[],
                    orders: &band.orders,
                    pixels,
                    // Kernels count from channel 0.
                    y: sums.as_mut_ptr().wrapping_sub(channels.start * apart),
                    residual: std::ptr::null(),
                    stride: apart,
                    sums: true,
                };
                // SAFETY: the buffer has a row for each of these channels.
                unsafe { self.run_tiles(image, band, some, output, Clamps::NONE) };
                let lines = channels.start / 2..channels.end.div_ceil(2);
                let mut rows = sums.chunks_exact_mut(apart).take(channels.len());
                for line in lines {
                    let at = first + line * stride;
                    let mut row = || rows.next().map_or(&mut [][..], |row| &mut row[..pixels]);
                    let sums = [row(), row()];
                    let residual = job.all_residual().map(|r| pairs::as_lanes(&r[at..at + pixels]));
                    // SAFETY: these rows of these channels are this part's, which holds no other slice of them.
                    let y = pairs::as_lanes_mut(unsafe { job.outputs(at..at + pixels) });
                    FinishPairs { finish: Some(finish), clamps: &job.clamps, sums, residual, y }
                        .on(Numbers::of_kernel(&w.kernel.info));
                }
            }
        });
    }

    /// All tiles of a band for some groups; `output` has no vectors yet.
    ///
    /// # Safety
    /// `output.y`, and `output.residual` if the clamps want it, are valid for the pixels of the band and these groups
    /// ([`Output`]), and nothing else writes there.
    unsafe fn run_tiles(
        &self,
        image: &[f32],
        band: &Band,
        groups: Range<usize>,
        output: Output,
        clamps: Clamps,
    ) {
        let w = self.weights;
        let weights = Weights { packed: w, offsets: &self.job.plan.offsets, groups };
        let mut args = TileArgs { weights, image, output, clamps };
        for tile in &band.tiles {
            args.output.vectors = &band.vectors[tile.clone()];
            // SAFETY: the kernel came from the table, which hands out only kernels whose target was detected;
            // `args` keeps the invariants of `TileArgs`: `Plan::new` has made the buffer as long as the last
            // vector at the largest offset needs.
            unsafe { (w.kernel.tile)(&args) };
        }
    }
}

impl TileArgs<'_> {
    /// The columns of group `group`: pointers to the offset and to the values of the first, and their number.
    ///
    /// # Safety
    /// `r` and `element` must be those of the kernel, and `group` in `groups` (invariant of `PackedSpatial`: `starts` is inside `columns`, and there are
    /// as many offsets).
    #[inline(always)]
    unsafe fn columns(&self, group: usize, r: usize, element: Element) -> (*const u32, *const f32, usize) {
        let (w, offsets) = (self.weights.packed, self.weights.offsets);
        // SAFETY: `group + 1` is a valid position of `starts`, whose entries are valid positions of
        // `offsets`.
        unsafe {
            let start = *w.starts.get_unchecked(group) as usize;
            let end = *w.starts.get_unchecked(group + 1) as usize;
            let values = w.values.as_ptr().byte_add(start * r * element.product_bytes());
            (offsets.as_ptr().add(start), values, end - start)
        }
    }

    /// Epilogue and store of the `sums` of a vector of floats, pixel by pixel: where there is no room to write it
    /// whole.
    ///
    /// # Safety
    /// `channel` is an output channel of `groups`, `vector` one of `vectors`, and `sums` has a lane for each
    /// of its order (invariant of `Output`: `y` and `residual` are valid at every pixel of a vector).
    #[inline]
    unsafe fn store_pixels(&self, channel: usize, vector: &Vector, sums: &[f32]) {
        let order = &self.output.orders[vector.order as usize][..vector.count as usize];
        let at = channel * self.output.stride + vector.pixel as usize;
        for (i, lane) in order.iter().enumerate() {
            let mut v = clamp(sums[*lane as usize], self.clamps.before);
            // SAFETY: `y` and `residual` are valid (Output) at channel * stride + pixel.
            unsafe {
                if self.clamps.residual {
                    v = clamp(v + *self.output.residual.add(at + i), self.clamps.after);
                }
                *self.output.y.add(at + i) = v;
            }
        }
    }
}

impl TileArgs<'_> {
    /// [`TileArgs::store_pixels`] for a lane of one or two channels, the first of which is `channel`; of f16 sums are rounded
    /// already.
    ///
    /// # Safety
    /// As there, for each of the channels; the first is that of a lane.
    #[inline]
    unsafe fn store_lanes(&self, element: Element, channel: usize, vector: &Vector, sums: &[&[f32]]) {
        let order = &self.output.orders[vector.order as usize][..vector.count as usize];
        let at = channel / 2 * self.output.stride + vector.pixel as usize;
        for (i, lane) in order.iter().enumerate() {
            let mut pixel = [0.0; 2];
            pixel.iter_mut().zip(sums).for_each(|(v, sums)| *v = sums[*lane as usize]);
            // SAFETY: `y` and `residual` are valid (Output) at line * stride + pixel.
            unsafe {
                let mut residual = 0;
                if self.clamps.residual {
                    residual = (*self.output.residual.add(at + i)).to_bits();
                }
                let lane = match element {
                    Element::F16 => {
                        let halves = |channel: usize| {
                            let residual = (residual >> (16 * channel)) as u16;
                            u32::from(self.clamps.half(f16::round(pixel[channel]), residual))
                        };
                        halves(0) | if sums.len() > 1 { halves(1) << 16 } else { 0 }
                    }
                    _ => self.clamps.pair(&pixel[..sums.len()], residual),
                };
                *self.output.y.add(at + i) = f32::from_bits(lane);
            }
        }
    }
}

impl TileArgs<'_> {
    /// What becomes of sums of quads.
    #[inline(always)]
    fn requantise(&self) -> &Requantise {
        match &self.weights.packed.requantise {
            Some(requantise) => requantise,
            None => unreachable!("kernels of quads have weights of quads (invariant of PackedSpatial)"),
        }
    }

    /// [`TileArgs::store_pixels`] for a quad of channels, the first of which is `channel`.
    ///
    /// # Safety
    /// As there, for each of the channels.
    #[inline]
    unsafe fn store_quad<const LANES: usize>(
        &self,
        channel: usize,
        vector: &Vector,
        sums: &[[f32; LANES]; CHANNELS],
    ) {
        let order = &self.output.orders[vector.order as usize][..vector.count as usize];
        let at = channel / CHANNELS * self.output.stride + vector.pixel as usize;
        for (i, lane) in order.iter().enumerate() {
            let quad = self.requantise().quad(channel, sums.each_ref().map(|sums| sums[*lane as usize]));
            // SAFETY: `y` is valid (Output) at line * stride + pixel.
            unsafe { *self.output.y.add(at + i) = quad };
        }
    }
}

impl Output<'_> {
    /// Whether every vector of the tile can be written whole, and whether its lanes are in order.
    #[inline(always)]
    fn room(&self, lanes: usize) -> (bool, bool) {
        let last = self.vectors.last().map_or(0, |v| v.pixel as usize);
        (last + lanes <= self.pixels, self.vectors.iter().all(|v| v.order == 0))
    }
}

/// NaN stays NaN.
#[inline(always)]
fn clamp(v: f32, (lo, hi): (f32, f32)) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}
