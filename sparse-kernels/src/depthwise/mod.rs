//! Depthwise convolution of planar tensors: one small kernel per channel, patterns of zeros shared by groups
//! of channels.
//!
//! The loops of `body` read the planes where they are and know the borders themselves: nothing is copied or
//! padded. A large plane is computed in strips of rows that the first-level cache holds. Each output value is
//! summed by one thread in the order of the taps, so that the split into strips and threads never changes a
//! result.

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
use crate::format::{DepthwisePattern, DepthwisePatterns};
use crate::geometry::{ConvGeometry, ConvShape, Layout};
use crate::parallel::{self, Parallel, share};
use crate::table::KernelInfo;
#[cfg(target_arch = "aarch64")]
use neon::in_order;
use std::ops::Range;

/// Floats of input rows that a strip should not exceed: they and as many output rows fit a first-level cache
/// of 32 KiB.
const STRIP: usize = 3072;

/// Output rows of the shortest strip: each reads some rows of its neighbours.
const MIN_ROWS: usize = 8;

type RowsFn = unsafe fn(&RowsArgs);

/// One row of the kernel table: obtained from [`crate::table`], which hands out only what this machine can
/// run.
#[derive(Debug)]
pub struct DepthwiseKernel {
    info: KernelInfo,
    /// Kernel height and width in taps; `None` for any.
    kernel: Option<[usize; 2]>,
    /// Pixels of a vector register.
    vector: usize,
    /// By pattern; for horizontal stride 1 and 2. Absent where `any` has to do.
    rows: [[Option<RowsFn>; 2]; DepthwisePattern::COUNT],
    /// Any kernel, for horizontal stride 1 and 2.
    any: [RowsFn; 2],
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
    (@info $text:literal, $pixels:literal, $isa:ident $core:ident, $suffix:literal, $quality:ident) => {
        KernelInfo {
            name: concat!("depthwise_", $text, "_1x", $pixels, "_", $suffix),
            operation: crate::table::Operation::Depthwise,
            format: $text,
            isa: crate::target::Isa::$isa,
            core: crate::target::Core::$core,
            channels: 1,
            pixels: $pixels,
            quality: crate::table::Quality::$quality,
        }
    };
    (3x3, $pixels:literal, $isa:ident $core:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        DepthwiseKernel {
            info: kernel!(@info "3x3", $pixels, $isa $core, $suffix, $quality),
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
            any: [$module::any::<1>, $module::any::<2>],
        }
    };
    (@masked $module:ident, $id:literal) => {
        [
            Some($module::rows::<3, 3, 1, { DepthwisePattern::MASKS[$id] }> as RowsFn),
            Some($module::rows::<3, 3, 2, { DepthwisePattern::MASKS[$id] }> as RowsFn),
        ]
    };
    (5x5, $pixels:literal, $isa:ident $core:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        DepthwiseKernel {
            info: kernel!(@info "5x5", $pixels, $isa $core, $suffix, $quality),
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
            any: [$module::any::<1>, $module::any::<2>],
        }
    };
    (any, $pixels:literal, $isa:ident $core:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        DepthwiseKernel {
            info: kernel!(@info "any", $pixels, $isa $core, $suffix, $quality),
            kernel: None,
            vector: $vector,
            rows: [[None; 2]; DepthwisePattern::COUNT],
            any: [$module::any::<1>, $module::any::<2>],
        }
    };
    ($size:tt, $pixels:literal, $isa:ident, $suffix:literal, $vector:literal, $quality:ident, $module:ident) => {
        kernel!($size, $pixels, $isa Any, $suffix, $vector, $quality, $module)
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
    kernel!(3x3, 128, Avx512, "avx512", 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(5x5, 128, Avx512, "avx512", 16, Tuned, avx512),
    #[cfg(target_arch = "x86_64")]
    kernel!(any, 64, Avx512, "avx512", 16, Intrinsics, avx512),
    #[cfg(target_arch = "aarch64")]
    kernel!(3x3, 32, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(3x3, 32, Neon A53, "neon-a53", 4, Intrinsics, in_order),
    #[cfg(target_arch = "aarch64")]
    kernel!(3x3, 32, Neon A55, "neon-a55", 4, Intrinsics, in_order),
    #[cfg(target_arch = "aarch64")]
    kernel!(5x5, 32, Neon, "neon", 4, Intrinsics, neon),
    #[cfg(target_arch = "aarch64")]
    kernel!(5x5, 32, Neon A53, "neon-a53", 4, Intrinsics, in_order),
    #[cfg(target_arch = "aarch64")]
    kernel!(5x5, 32, Neon A55, "neon-a55", 4, Intrinsics, in_order),
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
/// Invariants: `bias` has one value per channel; the kernel accepts the size of the weights; `reads` says
/// something of every channel.
#[derive(Debug, Clone)]
pub struct PackedDepthwise {
    kernel: &'static DepthwiseKernel,
    weights: DepthwisePatterns,
    bias: Vec<f32>,
    /// Group of every channel.
    group: Vec<u32>,
    /// Channels that are computed.
    reads: Vec<bool>,
}

/// One call of a kernel: `rows` rows of `y_width` output pixels in each of `planes` consecutive channels of
/// one pattern.
///
/// Invariants: the `x` of a plane is readable for `x_height` rows of `x_width` floats. Tap `ky, kx` of output
/// `row, ox` meets input row `first + row * step + ky` and column `ox * S + kx - left`, where `S` is the
/// horizontal stride; those outside of the map are padding. A plane has a value in `taps` per stored tap,
/// whose `[ky, kx]` are in `places` (which specialised kernels do not read), and one in `bias`. The `y` of a
/// plane is writable for `rows` rows of `y_width` floats; nothing else writes there during the call. `rows`
/// and `y_width` are not 0.
pub(crate) struct RowsArgs<'a> {
    origin: Plane,
    planes: usize,
    /// Floats of the input, of the output and of the taps from one plane to the next.
    x_plane: usize,
    y_plane: usize,
    taps_plane: usize,
    x_height: usize,
    x_width: usize,
    first: isize,
    step: usize,
    left: usize,
    places: &'a [[usize; 2]],
    rows: usize,
    y_width: usize,
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
            x: self.origin.x.wrapping_add(plane * self.x_plane),
            y: self.origin.y.wrapping_add(plane * self.y_plane),
            taps: self.origin.taps.wrapping_add(plane * self.taps_plane),
            bias: self.origin.bias.wrapping_add(plane),
        }
    }
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
    /// The kernel is made for another size, or the bias has another length.
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
            Some(bias) => bias.to_vec(),
            None => vec![0.0; channels],
        };
        let groups = weights.groups().iter().enumerate();
        let group = groups.flat_map(|(i, g)| g.channels().map(move |_| i as u32)).collect();
        Ok(PackedDepthwise { kernel, weights, bias, group, reads: vec![true; channels] })
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

    /// The same layer where nothing reads the output channels that are not `read`: they become zeros,
    /// whatever their bias, and their inputs are not looked at.
    ///
    /// # Errors
    /// Another number of channels.
    pub fn with_only(mut self, read: &[bool]) -> Result<PackedDepthwise, KernelError> {
        if read.len() != self.channels() {
            return Err(KernelError::Shape {
                what: "channels",
                weights: self.channels(),
                geometry: read.len(),
            });
        }
        self.reads = read.to_vec();
        Ok(self)
    }

    /// Which input channels are looked at.
    pub fn reads(&self) -> &[bool] {
        &self.reads
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
        self.weights.bytes() + 4 * (self.bias.len() + self.group.len()) + self.reads.len()
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
        if y.is_empty() {
            return Ok(());
        }
        if let Some((geometry, zeros)) = geometry.on_zeros() {
            return self.run(&geometry, &zeros, y, residual, epilogue, parallel);
        }
        let (clamps, finish) = epilogue.split(residual.is_some());
        let [oh, _] = geometry.output();
        // As many rows as a strip should have, and strips of the same height.
        let fit = (STRIP / s.input[1] / s.stride[0]).max(MIN_ROWS);
        let strip = oh.div_ceil(oh.div_ceil(fit));
        let job = Job {
            weights: self,
            geometry,
            x,
            y: Shared(y.as_mut_ptr()),
            residual,
            clamps,
            finish,
            places: self.places(s),
            strip,
            strips: oh.div_ceil(strip),
        };
        let (items, threads) = (s.batch * s.ic * job.strips, parallel::threads(parallel));
        if threads <= 1 {
            job.run_part(0..items);
            Ok(())
        } else {
            let parts = items.min(4 * threads);
            parallel::for_each(parallel, parts, |part| job.run_part(share(items, parts, part)))
        }
    }

    /// Places `[ky, kx]` of the kept taps in the order of the kernel, by pattern, for the patterns that no
    /// loop is made for.
    fn places(&self, s: &ConvShape) -> [Vec<[usize; 2]>; DepthwisePattern::COUNT] {
        let ([kh, kw], histogram) = (s.kernel, self.weights.histogram());
        let mut places = [const { vec![] }; DepthwisePattern::COUNT];
        for pattern in DepthwisePattern::all() {
            let id = pattern.id();
            if histogram[id] > 0 && self.kernel.rows[id][s.stride[1] - 1].is_none() {
                let taps = (0..kh * kw).filter(|tap| pattern.keeps(*tap));
                places[id] = taps.map(|tap| [tap / kw, tap % kw]).collect();
            }
        }
        places
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
    /// By pattern.
    places: [Vec<[usize; 2]>; DepthwisePattern::COUNT],
    /// Output rows of a strip; the last one of a plane may have fewer.
    strip: usize,
    /// Strips of a plane.
    strips: usize,
}

impl Job<'_> {
    /// Computes strips, which count through all channels of all images.
    fn run_part(&self, items: Range<usize>) {
        let (oh, strips) = (self.geometry.output()[0], self.strips);
        let mut start = items.start;
        while start < items.end {
            let first = start % strips * self.strip;
            let planes = start / strips..if strips == 1 { items.end } else { start / strips + 1 };
            start += planes.len();
            self.compute(planes, first..(first + self.strip).min(oh));
        }
    }

    /// Computes output rows `out` of planes.
    fn compute(&self, planes: Range<usize>, out: Range<usize>) {
        let (s, w) = (self.geometry.shape(), self.weights);
        let [oh, y_width] = self.geometry.output();
        let [x_height, x_width] = s.input;
        let mut plane = planes.start;
        while plane < planes.end {
            // The planes of a group of channels are computed together, as far as they are read.
            let channel = plane % s.ic;
            let group = &w.weights.groups()[w.group[channel] as usize];
            let count = (group.channels().end - channel).min(planes.end - plane);
            let reads = &w.reads[channel..channel + count];
            let count = reads.iter().take_while(|read| **read == reads[0]).count();
            if !reads[0] {
                for plane in plane..plane + count {
                    // SAFETY: these rows are this task's, which holds no slice of the output.
                    unsafe { self.rows(plane, &out) }.fill(0.0);
                }
                plane += count;
                continue;
            }
            let pattern = group.pattern().id();
            let special = w.kernel.rows[pattern][s.stride[1] - 1];
            let taps = w.weights.group_taps(group, channel);
            let kept = taps.len() / (group.channels().end - channel);
            let x = &self.x[plane * x_height * x_width..][..count * x_height * x_width];
            // Specialised kernels walk down the rows with their horizontal stride.
            let alone = special.is_some() && s.stride[0] != s.stride[1];
            let rows = if alone { 1 } else { out.len() };
            for row in out.clone().step_by(rows) {
                let args = RowsArgs {
                    origin: Plane {
                        x: x.as_ptr(),
                        // SAFETY: `ConvGeometry::check` has compared the lengths; the row is inside the
                        // plane.
                        y: unsafe { self.y.get().add((plane * oh + row) * y_width) },
                        taps: taps.as_ptr(),
                        bias: w.bias[channel..].as_ptr(),
                    },
                    planes: count,
                    x_plane: x_height * x_width,
                    y_plane: oh * y_width,
                    taps_plane: kept,
                    x_height,
                    x_width,
                    first: (row * s.stride[0]) as isize - s.pad_before[0] as isize,
                    step: s.stride[0],
                    left: s.pad_before[1],
                    places: &self.places[pattern],
                    rows,
                    y_width,
                    clamp: self.clamps.before,
                };
                // SAFETY: the kernel came from the table, which hands out only kernels whose target was
                // detected; the input planes were sliced above, and the taps and biases of
                // the channels of a group follow each other; the rows belong to this task
                // alone (see `Shared`).
                unsafe { special.unwrap_or(w.kernel.any[s.stride[1] - 1])(&args) };
            }
            plane += count;
        }
        for plane in planes.filter(|plane| w.reads[plane % s.ic]) {
            self.complete(plane, &out);
        }
    }

    /// Where rows of an output plane are in the tensor.
    fn place(&self, plane: usize, rows: &Range<usize>) -> Range<usize> {
        let [oh, width] = self.geometry.output();
        (plane * oh + rows.start) * width..(plane * oh + rows.end) * width
    }

    /// Rows of an output plane.
    ///
    /// # Safety
    /// They are this task's (see `Shared`), which holds no other slice of them.
    #[expect(clippy::mut_from_ref, reason = "what `Shared` is for")]
    unsafe fn rows(&self, plane: usize, rows: &Range<usize>) -> &mut [f32] {
        let range = self.place(plane, rows);
        // SAFETY: `ConvGeometry::check` has compared the lengths: the range is inside the tensor; the caller
        // vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.y.get().add(range.start), range.len()) }
    }

    /// What the kernels do not do: residual and functions other than clamps.
    fn complete(&self, plane: usize, rows: &Range<usize>) {
        let clamps = &self.clamps;
        let residual = self.residual.map(|r| &r[self.place(plane, rows)]);
        if !clamps.residual && self.finish.is_none() {
            return;
        }
        // SAFETY: these rows are this task's, which holds no other slice of the output.
        let y = unsafe { self.rows(plane, rows) };
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

#[cfg(test)]
mod tests {
    use super::*;

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
