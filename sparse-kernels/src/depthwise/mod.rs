//! Depthwise convolution of planar tensors: one small kernel per channel, patterns of zeros shared by groups of channels.
//!
//! A plane is copied, whole or in strips of rows, into a small **buffer** with its padding around it, so that the loops
//! know no borders. With a horizontal stride of 2 the even and the odd columns go to two **phases** of
//! the buffer: every tap is then a contiguous load, as with stride 1. A buffer stays in the first-level cache; small
//! planes are copied several at a time, because loads that follow their stores at once have to wait for them. Then
//! the loops of `body` compute up to `MAX_ROWS` rows at a time. Each output value is summed by one thread in
//! the order of the taps, so that the split into strips and threads never changes a result.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod body;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use crate::epilogue::{Clamps, Epilogue, Finish};
use crate::error::{FormatError, KernelError};
use crate::format::{DepthwisePattern, DepthwisePatterns, check_finite};
use crate::geometry::{ConvGeometry, ConvShape, Layout};
use crate::parallel::{Parallel, share};
use crate::scratch;
use crate::table::KernelInfo;
use std::ops::Range;

/// Output rows of the largest tile.
const MAX_ROWS: usize = 8;

/// Row counts that tiles come in, largest first: 8 for maps of 112, 56 and 40 rows, 7 for 28, 14 and 7.
const ROWS: [usize; 5] = [8, 7, 4, 2, 1];

/// Floats that a buffer should not exceed: half of a first-level cache of 32 KiB.
const BUFFER: usize = 4096;

/// Rows of the buffer begin at multiples of this.
const ALIGN: usize = 8;

type RowsFn = unsafe fn(&RowsArgs);
type CopyFn = unsafe fn(&CopyArgs);

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can run.
#[derive(Debug)]
pub struct DepthwiseKernel {
    info: KernelInfo,
    /// Kernel height and width in taps; `None` for any.
    kernel: Option<[usize; 2]>,
    /// Pixels of a vector register.
    vector: usize,
    /// By pattern; for horizontal stride 1 and 2. Absent where `any` has to do.
    rows: [[Option<RowsFn>; 2]; DepthwisePattern::COUNT],
    /// Any kernel and stride.
    any: RowsFn,
    /// For horizontal stride 1 and 2.
    copy: [CopyFn; 2],
}

impl DepthwiseKernel {
    /// Name, target and tile.
    pub fn info(&self) -> &KernelInfo {
        &self.info
    }

    /// The kernel size it is made for, or `None` if it takes any.
    pub fn kernel(&self) -> Option<[usize; 2]> {
        self.kernel
    }

    /// Whether it computes kernels of this size.
    pub fn accepts(&self, kernel: [usize; 2]) -> bool {
        self.kernel.is_none_or(|k| k == kernel)
    }

    /// Pixels of one vector register.
    pub fn vector(&self) -> usize {
        self.vector
    }
}

/// The rows of [`KERNELS`] of one target's module: 3x3 with every pattern, 5x5, and any size.
macro_rules! kernel {
    (@info $text:literal, $pixels:literal, $isa:ident, $suffix:literal, $quality:ident) => {
        KernelInfo {
            name: concat!("depthwise_", $text, "_1x", $pixels, "_", $suffix),
            operation: crate::table::Operation::Depthwise,
            format: $text,
            isa: crate::target::Isa::$isa,
            core: crate::target::Core::Any,
            channels: 1,
            pixels: $pixels,
            quality: crate::table::Quality::$quality,
        }
    };
    (3x3, $pixels:literal, $isa:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        DepthwiseKernel {
            info: kernel!(@info "3x3", $pixels, $isa, $suffix, $quality),
            kernel: Some([3, 3]),
            vector: $vector,
            rows: [
                kernel!(@masked $module, 0),
                kernel!(@masked $module, 1),
                kernel!(@masked $module, 2),
                kernel!(@masked $module, 3),
                kernel!(@masked $module, 4),
                kernel!(@masked $module, 5),
                kernel!(@masked $module, 6),
                kernel!(@masked $module, 7),
                kernel!(@masked $module, 8),
            ],
            any: $module::any,
            copy: [$module::copy::<1>, $module::copy::<2>],
        }
    };
    (@masked $module:ident, $id:literal) => {
        [
            Some($module::rows::<3, 3, 1, { DepthwisePattern::MASKS[$id] }> as RowsFn),
            Some($module::rows::<3, 3, 2, { DepthwisePattern::MASKS[$id] }> as RowsFn),
        ]
    };
    (5x5, $pixels:literal, $isa:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        DepthwiseKernel {
            info: kernel!(@info "5x5", $pixels, $isa, $suffix, $quality),
            kernel: Some([5, 5]),
            vector: $vector,
            rows: {
                let mut rows = [[None; 2]; DepthwisePattern::COUNT];
                rows[DepthwisePattern::COUNT - 1] = [
                    Some($module::rows::<5, 5, 1, 0x1FF_FFFF> as RowsFn),
                    Some($module::rows::<5, 5, 2, 0x1FF_FFFF> as RowsFn),
                ];
                rows
            },
            any: $module::any,
            copy: [$module::copy::<1>, $module::copy::<2>],
        }
    };
    (any, $pixels:literal, $isa:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        DepthwiseKernel {
            info: kernel!(@info "any", $pixels, $isa, $suffix, $quality),
            kernel: None,
            vector: $vector,
            rows: [[None; 2]; DepthwisePattern::COUNT],
            any: $module::any,
            copy: [$module::copy::<1>, $module::copy::<2>],
        }
    };
}

/// All depthwise kernels of this build. Of a target, those for one kernel size come before the one for any.
pub(crate) static KERNELS: &[DepthwiseKernel] = &[
    kernel!(any, 1, Scalar, "scalar", 1, Portable, scalar),
    #[cfg(target_arch = "x86_64")]
    kernel!(3x3, 64, Avx2, "avx2", 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(5x5, 64, Avx2, "avx2", 8, Tuned, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(any, 32, Avx2, "avx2", 8, Intrinsics, avx2),
    #[cfg(target_arch = "x86_64")]
    kernel!(3x3, 128, Avx512, "avx512", 16, Intrinsics, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(5x5, 128, Avx512, "avx512", 16, Intrinsics, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(any, 64, Avx512, "avx512", 16, Intrinsics, avx512),
    #[cfg(target_arch = "aarch64")]
    kernel!(3x3, 32, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(5x5, 32, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(any, 16, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(3x3, 32, Wasm, "wasm", 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(5x5, 32, Wasm, "wasm", 4, Intrinsics, wasm),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernel!(any, 16, Wasm, "wasm", 4, Intrinsics, wasm),
];

/// Whether the kernels of this module compute a convolution of this shape.
///
/// # Errors
/// The reason why not.
pub fn supports(shape: &ConvShape) -> Result<(), &'static str> {
    if shape.x_layout != Layout::Planar || shape.y_layout != Layout::Planar {
        Err("depthwise kernels are planar")
    } else if shape.group != shape.ic || shape.group != shape.oc {
        Err("not depthwise: groups, input channels and output channels differ")
    } else if shape.dilation != [1, 1] {
        Err("depthwise kernels have no dilation")
    } else if shape.stride.iter().any(|s| *s > 2) {
        Err("depthwise kernels have strides of 1 and 2")
    } else {
        Ok(())
    }
}

/// Depthwise weights and bias of one layer, ready for one kernel.
///
/// Invariants: `bias` has one value per channel; the kernel accepts the size of the weights.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {
    kernel: &'static DepthwiseKernel,
    weights: DepthwisePatterns,
    bias: Vec<f32>,
    /// Group of every channel.
    group: Vec<u32>,
}

/// One call of a kernel: `rows` rows of `width` output pixels in each of `planes` consecutive channels of one pattern.
///
/// Invariants: from the `x` of a plane on, and from every multiple of `step` up to row `rows - 1`, each of `offsets` leads
/// to a tap of output column 0, and `max(width, LANES)` floats are readable there: the taps of the other columns.
/// Specialised kernels compute the offsets themselves: tap `ky, kx` is `ky * x_row + (kx % S) * phase + kx / S`, and
/// `step` is `stride * x_row`. A plane has a value in `taps` per stored tap, and one in `bias`. The `y` of a plane is
/// writable for `width` floats at every multiple of `y_row` up to row `rows - 1`; nothing else writes there during
/// the call.
pub(crate) struct RowsArgs<'a> {
    first: Plane,
    planes: usize,
    /// Floats of the buffer, of the output and of the taps from one plane to the next.
    x_plane: usize,
    y_plane: usize,
    taps_plane: usize,
    x_row: usize,
    phase: usize,
    step: usize,
    offsets: &'a [usize],
    rows: usize,
    width: usize,
    y_row: usize,
    clamp: (f32, f32),
}

/// Where a call finds one of its planes.
#[derive(Debug, Clone, Copy)]
struct Plane {
    x: *const f32,
    y: *mut f32,
    taps: *const f32,
    bias: *const f32,
}

impl RowsArgs<'_> {
    #[inline(always)]
    fn plane(&self, plane: usize) -> Plane {
        Plane {
            x: self.first.x.wrapping_add(plane * self.x_plane),
            y: self.first.y.wrapping_add(plane * self.y_plane),
            taps: self.first.taps.wrapping_add(plane * self.taps_plane),
            bias: self.first.bias.wrapping_add(plane),
        }
    }
}

/// One copy of `rows` rows of `width` columns in each of `planes` planes: column `i` goes to `to[i % S] + i / S`.
///
/// Invariants: `x` is readable for `width * rows` floats at every multiple of `x_plane`; both of `to` are writable, at
/// every multiple of `to_row` in every plane, for the columns that go there, rounded up to whole vectors.
pub(crate) struct CopyArgs {
    x: *const f32,
    to: [*mut f32; 2],
    planes: usize,
    rows: usize,
    width: usize,
    x_plane: usize,
    to_plane: usize,
    to_row: usize,
}

/// The output tensor, written by several threads in disjoint parts.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements (`PackedDepthwise::run` cuts planes and strips of rows apart).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl PackedDepthwise {
    /// Prepares `weights` and `bias` (one value per channel, zeros if `None`) for `kernel`.
    ///
    /// # Errors
    /// The kernel is made for another size, or the bias has another length or is not finite.
    pub fn pack(
        weights: DepthwisePatterns,
        bias: Option<&[f32]>,
        kernel: &'static DepthwiseKernel,
    ) -> Result<PackedDepthwise, KernelError> {
        let channels = weights.channels();
        for (axis, what) in ["kernel height", "kernel width"].into_iter().enumerate() {
            let made_for = kernel.kernel.unwrap_or(weights.kernel())[axis];
            if made_for != weights.kernel()[axis] {
                return Err(KernelError::Shape { what, weights: weights.kernel()[axis], geometry: made_for });
            }
        }
        let bias = match bias {
            Some(bias) if bias.len() != channels => {
                let (expected, got) = (channels, bias.len());
                return Err(FormatError::Length { what: "bias", expected, got }.into());
            }
            Some(bias) => {
                check_finite(bias)?;
                bias.to_vec()
            }
            None => vec![0.0; channels],
        };
        let groups = weights.groups().iter().enumerate();
        let group = groups.flat_map(|(i, g)| g.channels().map(move |_| i as u32)).collect();
        Ok(PackedDepthwise { kernel, weights, bias, group })
    }

    /// Finds the patterns of dense weights `[channel][kh][kw]` and packs them.
    ///
    /// # Errors
    /// As [`DepthwisePatterns::from_dense`] and [`PackedDepthwise::pack`].
    pub fn from_dense(
        channels: usize,
        kernel_size: [usize; 2],
        weights: &[f32],
        bias: Option<&[f32]>,
        kernel: &'static DepthwiseKernel,
    ) -> Result<PackedDepthwise, KernelError> {
        PackedDepthwise::pack(DepthwisePatterns::from_dense(channels, kernel_size, weights)?, bias, kernel)
    }

    /// The kernel these weights were packed for.
    pub fn kernel(&self) -> &'static DepthwiseKernel {
        self.kernel
    }

    /// The weights: groups, their patterns and taps.
    pub fn weights(&self) -> &DepthwisePatterns {
        &self.weights
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.weights.channels()
    }

    /// Kept taps of all channels: multiply-adds per output pixel of all planes.
    pub fn stored(&self) -> usize {
        self.weights.stored()
    }

    /// Kept taps that are not zero.
    pub fn nnz(&self) -> usize {
        self.weights.nnz()
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        self.weights.bytes() + 4 * (self.bias.len() + self.group.len())
    }

    /// Computes `y = epilogue(weights * x + bias)`, with `residual` (shape of `y`) added inside the epilogue.
    ///
    /// # Errors
    /// A geometry that [`supports`] refuses or that does not fit the weights; slices of another length.
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
        supports(s).map_err(|reason| KernelError::Geometry(reason.into()))?;
        let [kh, kw] = self.weights.kernel();
        for (what, weights, geometry) in [
            ("channels", self.channels(), s.ic),
            ("kernel height", kh, s.kernel[0]),
            ("kernel width", kw, s.kernel[1]),
        ] {
            if weights != geometry {
                return Err(KernelError::Shape { what, weights, geometry });
            }
        }
        let (clamps, finish) = epilogue.split(residual.is_some());
        let buffer = Buffer::new(geometry, self.kernel.vector)?;
        let job = Job {
            weights: self,
            geometry,
            x,
            y: Shared(y.as_mut_ptr()),
            residual,
            clamps,
            finish,
            offsets: self.offsets(s, &buffer),
            buffer,
        };
        let (items, threads) = (s.batch * s.ic * job.buffer.strips, parallel.threads());
        if threads <= 1 {
            job.run_part(0..items);
        } else {
            let parts = items.min(4 * threads);
            parallel.for_each(parts, &|part| job.run_part(share(items, parts, part)));
        }
        Ok(())
    }

    /// Offsets of the kept taps in the order of the kernel, by pattern, for the patterns that no loop is made for.
    fn offsets(&self, s: &ConvShape, buffer: &Buffer) -> [Vec<usize>; DepthwisePattern::COUNT] {
        let ([kh, kw], histogram) = (s.kernel, self.weights.histogram());
        let mut offsets = [const { vec![] }; DepthwisePattern::COUNT];
        for pattern in DepthwisePattern::all() {
            let id = pattern.id();
            if histogram[id] > 0 && self.kernel.rows[id][s.stride[1] - 1].is_none() {
                let taps = (0..kh * kw).filter(|tap| pattern.keeps(*tap));
                offsets[id] = taps.map(|tap| buffer.offset(s, tap / kw, tap % kw)).collect();
            }
        }
        offsets
    }
}

/// Where the columns and rows of a strip of a plane stand in the buffer.
///
/// Invariants: a row has a phase for each of `stride[1]` column positions, of `phase` floats. A phase has room for
/// every column that a tile reads (a whole vector at least, `kw / stride` more behind the last) and for the input
/// columns rounded up to whole vectors. A strip has `strip` output rows (the last one of a plane fewer) and
/// `rows` input rows, paddings included.
#[derive(Debug, Clone)]
struct Buffer {
    phase: usize,
    /// Floats from one input row to the next.
    row: usize,
    /// Output rows of a strip.
    strip: usize,
    strips: usize,
    /// Input rows of a strip.
    rows: usize,
    /// First float of the even and odd input columns of a row.
    to: [usize; 2],
}

impl Buffer {
    fn new(geometry: &ConvGeometry, vector: usize) -> Result<Buffer, KernelError> {
        let s = geometry.shape();
        let [oh, ow] = geometry.output();
        let ([kh, kw], [sy, sx], left) = (s.kernel, s.stride, s.pad_before[1]);
        let too_large = || KernelError::Geometry(format!("the padded rows are too large in {s:?}"));
        let read = ow.max(vector) + (kw - 1) / sx;
        let start = [left / sx, (left + 1) / sx];
        let written = (start[1] + s.input[1].div_ceil(sx)).checked_add(vector).ok_or_else(too_large)?;
        let phase = read.max(written).checked_next_multiple_of(ALIGN).ok_or_else(too_large)?;
        let row = phase.checked_mul(sx).ok_or_else(too_large)?;
        // As many rows as the buffer should have, but a whole tile at least.
        let fit = (BUFFER / row).saturating_sub(kh) / sy + 1;
        let strip = if fit >= oh { oh } else { (fit / MAX_ROWS * MAX_ROWS).max(MAX_ROWS).min(oh) };
        let rows = (strip - 1) * sy + kh;
        rows.checked_mul(row)
            .and_then(|floats| floats.checked_mul(size_of::<f32>()))
            .filter(|bytes| *bytes <= isize::MAX as usize / 2)
            .ok_or_else(too_large)?;
        let place = |column: usize| (column % sx) * phase + column / sx;
        let to = [place(left), place(left + 1)];
        Ok(Buffer { phase, row, strip, strips: oh.div_ceil(strip), rows, to })
    }

    /// Where tap `ky, kx` of the first output pixel stands.
    fn offset(&self, s: &ConvShape, ky: usize, kx: usize) -> usize {
        ky * self.row + kx % s.stride[1] * self.phase + kx / s.stride[1]
    }

    /// Floats of one strip.
    fn len(&self) -> usize {
        self.rows * self.row
    }
}

struct Job<'a> {
    weights: &'a PackedDepthwise,
    geometry: &'a ConvGeometry,
    x: &'a [f32],
    y: Shared,
    residual: Option<&'a [f32]>,
    clamps: Clamps,
    finish: Option<Finish>,
    buffer: Buffer,
    /// By pattern.
    offsets: [Vec<usize>; DepthwisePattern::COUNT],
}

impl Job<'_> {
    /// Computes strips, which count through all channels of all images.
    fn run_part(&self, items: Range<usize>) {
        let (strips, len) = (self.buffer.strips, self.buffer.len());
        let batch = if strips == 1 { (BUFFER / len).clamp(1, items.len().max(1)) } else { 1 };
        scratch::with(batch * len, |buffer| {
            // Paddings that no copy overwrites: with a single strip all of them.
            buffer.fill(0.0);
            let mut start = items.start;
            while start < items.end {
                let planes = start / strips..items.end.min(start + batch).div_ceil(strips);
                let first = start % strips * self.buffer.strip;
                let rows = first..(first + self.buffer.strip).min(self.geometry.output()[0]);
                self.fill(buffer, planes.clone(), &rows);
                self.compute(buffer, planes, &rows);
                start += batch;
            }
        });
    }

    /// Copies the input of some output rows, with zeros for the rows of the padding.
    fn fill(&self, buffer: &mut [f32], planes: Range<usize>, out: &Range<usize>) {
        let (s, b) = (self.geometry.shape(), &self.buffer);
        let [height, width] = s.input;
        let rows = (out.len() - 1) * s.stride[0] + s.kernel[0];
        // Rows of the padded plane; those of the input begin at `pad`.
        let (first, pad) = (out.start * s.stride[0], s.pad_before[0]);
        let above = pad.saturating_sub(first).min(rows);
        let start = (first + above).saturating_sub(pad).min(height);
        let copied = (height - start).min(rows - above);
        if b.strips > 1 {
            buffer[..above * b.row].fill(0.0);
            buffer[(above + copied) * b.row..rows * b.row].fill(0.0);
        }
        if copied == 0 {
            return;
        }
        let x = &self.x[(planes.start * height + start) * width
            ..(planes.end - 1) * height * width + (start + copied) * width];
        let to = buffer[above * b.row..].as_mut_ptr();
        let args = CopyArgs {
            x: x.as_ptr(),
            // Both are inside a row by the invariant of `Buffer`.
            to: b.to.map(|place| to.wrapping_add(place)),
            planes: planes.len(),
            rows: copied,
            width,
            x_plane: height * width,
            to_plane: b.len(),
            to_row: b.row,
        };
        // SAFETY: the kernel came from the table, which hands out only kernels whose target was detected; the source
        // rows were sliced above, and a row of `Buffer` has room for whole vectors behind its last column.
        unsafe { self.weights.kernel.copy[s.stride[1] - 1](&args) }
    }

    /// Computes output rows whose input stands in the buffer.
    fn compute(&self, buffer: &[f32], planes: Range<usize>, out: &Range<usize>) {
        let (s, b, w) = (self.geometry.shape(), &self.buffer, self.weights);
        let [oh, width] = self.geometry.output();
        let mut plane = planes.start;
        while plane < planes.end {
            // The planes of a group of channels are computed together.
            let channel = plane % s.ic;
            let group = &w.weights.groups()[w.group[channel] as usize];
            let count = (group.channels().end - channel).min(planes.end - plane);
            let pattern = group.pattern().id();
            let special = w.kernel.rows[pattern][s.stride[1] - 1];
            let taps = w.weights.group_taps(group, channel);
            let kept = taps.len() / (group.channels().end - channel);
            let x = &buffer[(plane - planes.start) * b.len()..][..count * b.len()];
            let mut row = out.start;
            while row < out.end {
                let left = out.end - row;
                let rows = match special {
                    // Rows are used together only where both strides are that of the loop.
                    Some(_) if s.stride[0] == s.stride[1] => tile_rows(left),
                    Some(_) => 1,
                    None => left,
                };
                let args = RowsArgs {
                    first: Plane {
                        x: x[(row - out.start) * s.stride[0] * b.row..].as_ptr(),
                        // SAFETY: `ConvGeometry::check` has compared the lengths; the row is inside the plane.
                        y: unsafe { self.y.get().add((plane * oh + row) * width) },
                        taps: taps.as_ptr(),
                        bias: w.bias[channel..].as_ptr(),
                    },
                    planes: count,
                    x_plane: b.len(),
                    y_plane: oh * width,
                    taps_plane: kept,
                    x_row: b.row,
                    phase: b.phase,
                    step: s.stride[0] * b.row,
                    offsets: &self.offsets[pattern],
                    rows,
                    width,
                    y_row: width,
                    clamp: self.clamps.before,
                };
                // SAFETY: the kernel came from the table, which hands out only kernels whose target was detected;
                // `Buffer` gives the room that `RowsArgs` asks for, and the taps and biases of the channels of a
                // group follow each other; the rows belong to this task alone (see `Shared`).
                unsafe { special.unwrap_or(w.kernel.any)(&args) };
                row += rows;
            }
            plane += count;
        }
        for plane in planes {
            self.complete((plane * oh + out.start) * width..(plane * oh + out.end) * width);
        }
    }

    /// What the kernels do not do: residual and functions other than clamps.
    fn complete(&self, range: Range<usize>) {
        let (clamps, residual) = (&self.clamps, self.residual.map(|r| &r[range.clone()]));
        if !clamps.residual && self.finish.is_none() {
            return;
        }
        // SAFETY: the range is inside the tensor and belongs to this task alone (see `Shared`).
        let y = unsafe { std::slice::from_raw_parts_mut(self.y.get().add(range.start), range.len()) };
        if let Some(residual) = residual.filter(|_| clamps.residual) {
            let (lo, hi) = clamps.after;
            for (v, r) in y.iter_mut().zip(residual) {
                let sum = *v + r;
                let sum = if sum < lo { lo } else { sum };
                *v = if sum > hi { hi } else { sum };
            }
        }
        if let Some(finish) = self.finish {
            finish.apply(y, residual);
        }
    }
}

/// How many of `left` rows the next tile takes: 8s or 7s alone where that comes out even.
fn tile_rows(left: usize) -> usize {
    match left {
        _ if left.is_multiple_of(7) && !left.is_multiple_of(8) => 7,
        _ => ROWS.into_iter().find(|r| *r <= left).unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_all_rows() {
        let tiles = |mut left| {
            let mut tiles = vec![];
            while left > 0 {
                tiles.push(tile_rows(left));
                left -= tiles.last().unwrap();
            }
            tiles
        };
        assert_eq!(tiles(112), [8; 14]);
        assert_eq!(tiles(28), [7; 4]);
        assert_eq!(tiles(10), [8, 2]);
        assert!((1..200).all(|rows| tiles(rows).iter().all(|t| ROWS.contains(t))));
    }

    #[test]
    fn reasons_are_given() {
        let good = ConvShape { group: 8, ..ConvShape::square(8, 8, 5, 3, 1, 1) };
        assert_eq!(supports(&good), Ok(()));
        for bad in [
            ConvShape { group: 1, ..good },
            ConvShape { oc: 16, ..good },
            ConvShape { dilation: [1, 2], ..good },
            ConvShape { stride: [3, 1], ..good },
            ConvShape { x_layout: Layout::Interleaved, ..good },
            ConvShape { y_layout: Layout::Interleaved, ..good },
        ] {
            assert!(supports(&bad).is_err_and(|reason| !reason.is_empty()), "{bad:?}");
        }
    }
}
