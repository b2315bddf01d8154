//! What has been decided for a layer, and the weights packed accordingly.

use crate::half::{Half, HalfChoice};
use sparse_kernels::chain::Layer;
use sparse_kernels::depthwise::{DepthwiseKernel, PackedDepthwise};
use sparse_kernels::pairs;
use sparse_kernels::prelude::*;
use sparse_kernels::spatial::PackedSpatial;
use sparse_kernels::table::KernelInfo;
use std::cell::Cell;
use std::fmt;
use tract_core::internal::*;
use tract_linalg::multithread::par_chunks_mut;

/// Which family of kernels runs a layer, and in which format its weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// 1x1 convolution or matrix product.
    Pointwise(FormatKind),
    /// One kernel per channel, with these taps: patterns are found group by group.
    Depthwise([usize; 2]),
    /// Larger kernels over all channels; the format groups output channels.
    Spatial(FormatKind),
}

/// Dense weights `[oc][ic / group][kh][kw]` and what belongs to them.
#[derive(Debug, Clone, Copy)]
pub struct Dense<'a> {
    /// Output channels.
    pub oc: usize,
    /// Input channels, of all groups.
    pub ic: usize,
    /// Channel groups.
    pub group: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Output pixels of an image, if they are known.
    pub pixels: Option<usize>,
    /// The weights.
    pub weights: &'a [f32],
    /// One value per output channel.
    pub bias: &'a [f32],
}

impl Packing {
    /// The row of the kernel table that runs this packing on `target`.
    pub fn kernel(self, target: Target) -> &'static KernelInfo {
        match self {
            Packing::Pointwise(format) => table::pointwise(target, format).info(),
            Packing::Depthwise(taps) => depthwise(target, taps).info(),
            Packing::Spatial(format) => table::spatial(target, format).info(),
        }
    }

    /// The block format of the weights, if they are stored in blocks.
    pub fn format(self) -> Option<FormatKind> {
        match self {
            Packing::Pointwise(format) | Packing::Spatial(format) => Some(format),
            Packing::Depthwise(_) => None,
        }
    }

    /// Compresses dense weights.
    ///
    /// # Errors
    /// Weights that are not finite, weights or bias that do not fit the shape.
    pub fn pack(self, target: Target, dense: &Dense) -> TractResult<Packed> {
        let Dense { oc, ic, group, kernel: taps, pixels, weights, bias } = *dense;
        Ok(match self {
            Packing::Pointwise(format) => {
                let kernel = table::pointwise(target, format);
                let (shape, bias) = ([oc, ic, group], Some(bias));
                Packed::Pointwise(PackedPointwise::from_groups(shape, weights, bias, pixels, kernel)?)
            }
            Packing::Depthwise(_) => {
                let kernel = depthwise(target, taps);
                Packed::Depthwise(PackedDepthwise::from_dense(oc, taps, weights, Some(bias), kernel)?)
            }
            Packing::Spatial(format) => {
                let kernel = table::spatial(target, format);
                let channels = [oc, ic, group];
                Packed::Spatial(PackedSpatial::from_groups(channels, taps, weights, Some(bias), kernel)?)
            }
        })
    }

    /// The row of the kernel table that runs this packing on pairs of channels; where there is none yet, that which
    /// runs it on the widened pairs.
    pub fn half_kernel(self, half: Half) -> &'static KernelInfo {
        match self {
            Packing::Pointwise(format) => table::pointwise_half(half, format).info(),
            Packing::Depthwise(_) | Packing::Spatial(_) => self.kernel(half.target()),
        }
    }

    /// Compresses dense weights for activations in pairs: each is rounded to bf16.
    ///
    /// # Errors
    /// As [`Packing::pack`]; weights that are too large for bf16.
    pub fn pack_half(self, half: Half, dense: &Dense) -> TractResult<Packed> {
        let Dense { oc, ic, group, pixels, weights, bias, .. } = *dense;
        if let Packing::Pointwise(format) = self {
            let (kernel, shape) = (table::pointwise_half(half, format), [oc, ic, group]);
            let packed = PackedPointwise::from_groups(shape, weights, Some(bias), pixels, kernel)?;
            return Ok(Packed::Pointwise(packed));
        }
        let rounded = |weight: &f32| pairs::float(pairs::round(*weight));
        let weights: Vec<f32> = weights.iter().map(rounded).collect();
        let Packing::Depthwise(taps) = self else {
            return self.pack(half.target(), &Dense { weights: &weights, ..*dense });
        };
        let channels = channels_of_part(oc, pixels);
        let each = (weights.len() / oc.max(1)).max(1);
        let parts = weights.chunks(channels * each).zip(bias.chunks(channels)).map(|(weights, bias)| {
            let kernel = depthwise(half.target(), taps);
            PackedDepthwise::from_dense(bias.len(), taps, weights, Some(bias), kernel)
        });
        Ok(Packed::Parts(parts.collect::<Result<_, _>>()?))
    }

    /// The channel groups of a layer of `group` of them as the kernels of this packing see it: one, but for
    /// depthwise kernels. Weights of channel groups are packed as those of an ungrouped layer, of which
    /// most are zeros that nobody stores.
    pub fn kernel_groups(self, group: usize) -> usize {
        match self {
            Packing::Depthwise(_) => group,
            Packing::Pointwise(_) | Packing::Spatial(_) => 1,
        }
    }

    /// Whether the kernels of this packing take channels-last activations.
    pub fn takes_interleaved(self) -> bool {
        matches!(self, Packing::Pointwise(_))
    }
}

fn depthwise(target: Target, taps: [usize; 2]) -> &'static DepthwiseKernel {
    table::depthwise(target, taps).unwrap_or_else(|| panic!("a kernel of {taps:?} taps has none"))
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Packing::Pointwise(format) | Packing::Spatial(format) => format.fmt(f),
            Packing::Depthwise(_) => f.write_str("patterns"),
        }
    }
}

/// Floats of the widened input of a part of a depthwise layer: a quarter of a small second-level cache.
const PART: usize = 16 * 1024;

/// Into how many channels at a time a depthwise layer of pairs is cut, so that what they are widened to stays in the
/// cache: a divisor of all of them, of an even number; all if there is none.
fn channels_of_part(channels: usize, pixels: Option<usize>) -> usize {
    let most = (PART / pixels.unwrap_or(PART / 16).max(1)).max(2);
    let divides = |part: &usize| part.is_multiple_of(2) && channels.is_multiple_of(*part);
    (2..=most.min(channels)).rev().find(divides).unwrap_or(channels.max(1))
}

/// A decision to run a layer on a sparse kernel, with the figures that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Format of the weights.
    pub packing: Packing,
    /// Where it runs.
    pub target: Target,
    /// Predicted time of the stock operator, in nanoseconds.
    pub stock_ns: u64,
    /// Predicted time of the sparse operator, in nanoseconds.
    pub sparse_ns: u64,
    /// False for a dense layer that runs here because its neighbours do.
    pub sparse: bool,
    /// How it would run in half precision, if that is wanted and there is a kernel.
    pub half: Option<HalfChoice>,
}

impl Choice {
    /// The least predicted time of ours, in nanoseconds.
    pub fn ns(&self) -> u64 {
        self.half.map_or(self.sparse_ns, |half| half.ns.min(self.sparse_ns))
    }

    /// Name of the kernel.
    pub fn kernel(&self) -> &'static KernelInfo {
        self.packing.kernel(self.target)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (stock, sparse) = (self.stock_ns as f64 / 1e3, self.sparse_ns as f64 / 1e3);
        write!(f, "{}, predicted {sparse:.0} us against {stock:.0} us", self.kernel().name)
    }
}

/// Weights in the format of one kernel.
#[derive(Debug)]
pub enum Packed {
    /// 1x1 convolution or matrix product.
    Pointwise(PackedPointwise),
    /// One kernel per channel.
    Depthwise(PackedDepthwise),
    /// Larger kernels over all channels.
    Spatial(PackedSpatial),
    /// One kernel per channel for pairs of channels: some channels in each, in their order. At least one.
    Parts(Vec<PackedDepthwise>),
}

/// Runs the parts of a depthwise layer on tract's threads, each widened in the cache.
fn run_parts(
    parts: &[PackedDepthwise],
    geometry: &ConvGeometry,
    x: &[u32],
    y: &mut [u32],
    residual: Option<&[u32]>,
    epilogue: &Epilogue,
) -> TractResult<()> {
    let (target, shape) = (parts[0].kernel().target(), *geometry.shape());
    let channels = parts[0].reads().len();
    let part =
        ConvGeometry::new(ConvShape { batch: 1, ic: channels, oc: channels, group: channels, ..shape })?;
    let [x_len, y_len] =
        [geometry.input_pixels(), geometry.output_pixels()].map(|n| channels.div_ceil(2) * n);
    let all = shape.batch * parts.len();
    for (what, got, expected) in [
        ("input", x.len(), all * x_len),
        ("output", y.len(), all * y_len),
        ("residual", residual.map_or(all * y_len, <[u32]>::len), all * y_len),
    ] {
        if got != expected {
            return Err(KernelError::Length { what, expected, got }.into());
        }
    }
    if y.is_empty() {
        return Ok(());
    }
    let elements = 2 * y.len();
    par_chunks_mut(y, y_len, elements, |first, y| {
        for (at, y) in (first..).zip(y.chunks_exact_mut(y_len)) {
            let residual = residual.map(|residual| &residual[at * y_len..][..y_len]);
            let weights = &parts[at % parts.len()];
            widened(target, &part, &x[at * x_len..][..x_len], y, residual, |x, y, residual| {
                weights.run(&part, x, y, residual, epilogue, &Serial)
            })?;
        }
        Ok(())
    })
}

/// Widens input and residual, runs a layer on them, and rounds what it puts out.
fn widened(
    target: Target,
    geometry: &ConvGeometry,
    x: &[u32],
    y: &mut [u32],
    residual: Option<&[u32]>,
    run: impl FnOnce(&[f32], &mut [f32], Option<&[f32]>) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    let shape = geometry.shape();
    let of_x = [shape.batch, shape.ic, geometry.input_pixels()];
    let of_y = [shape.batch, shape.oc, geometry.output_pixels()];
    let (x_len, y_len) = (geometry.x_len(), geometry.y_len());
    let mut rooms = WIDE.take();
    let [wide, wide_residual, sums] = &mut rooms;
    for (room, len) in [(&mut *wide, x_len), (&mut *wide_residual, y_len), (&mut *sums, y_len)] {
        room.resize(room.len().max(len), 0.0);
    }
    pairs::unpack(target, of_x, x, &mut wide[..x_len])?;
    if let Some(residual) = residual {
        pairs::unpack(target, of_y, residual, &mut wide_residual[..y_len])?;
    }
    let residual = residual.map(|_| &wide_residual[..y_len]);
    run(&wide[..x_len], &mut sums[..y_len], residual)?;
    pairs::pack(target, of_y, &sums[..y_len], y)?;
    WIDE.set(rooms);
    Ok(())
}

thread_local! {
    /// Room for the widened input, residual and output of a layer that no kernel takes in pairs: kept, because new
    /// memory takes longer than the conversions.
    static WIDE: Cell<[Vec<f32>; 3]> = const { Cell::new([vec![], vec![], vec![]]) };
}

/// The same expression for every family of kernels.
macro_rules! each {
    ($packed:expr, $weights:ident => $value:expr) => {
        match $packed {
            Packed::Pointwise($weights) => $value,
            Packed::Depthwise($weights) => $value,
            Packed::Spatial($weights) => $value,
            Packed::Parts(parts) => {
                let $weights = &parts[0];
                $value
            }
        }
    };
}

impl Packed {
    /// The weights as a layer of a chain.
    pub(crate) fn layer(&self) -> Layer<'_> {
        match self {
            Packed::Pointwise(weights) => Layer::Pointwise(weights),
            Packed::Depthwise(weights) => Layer::Depthwise(weights),
            Packed::Spatial(weights) => Layer::Spatial(weights),
            // of floats, of which they do not take all channels, this is refused
            Packed::Parts(parts) => Layer::Depthwise(&parts[0]),
        }
    }

    /// Runs the layer; arguments as in [`PackedPointwise::run`].
    ///
    /// # Errors
    /// A geometry that the weights do not fit.
    pub fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        each!(self, weights => weights.run(geometry, x, y, residual, epilogue, parallel))
    }

    /// As [`Packed::run`], on activations in pairs of channels: weights of [`Packing::pack_half`], planar
    /// layouts. The lengths are half of those that the geometry says, for every image rounded up to whole pairs.
    ///
    /// # Errors
    /// As [`Packed::run`].
    pub fn run_pairs(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        residual: Option<&[u32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> TractResult<()> {
        let target = match self {
            Packed::Pointwise(weights) => {
                return Ok(weights.run_pairs(geometry, x, y, residual, epilogue, parallel)?);
            }
            Packed::Parts(parts) => return run_parts(parts, geometry, x, y, residual, epilogue),
            Packed::Depthwise(weights) => weights.kernel().target(),
            Packed::Spatial(weights) => weights.kernel().target(),
        };
        Ok(widened(target, geometry, x, y, residual, |x, y, residual| {
            self.run(geometry, x, y, residual, epilogue, parallel)
        })?)
    }

    /// Which input channels are looked at.
    pub fn reads(&self) -> Vec<bool> {
        match self {
            Packed::Pointwise(weights) => weights.reads(),
            Packed::Depthwise(weights) => weights.reads().to_vec(),
            Packed::Spatial(weights) => weights.reads(),
            Packed::Parts(parts) => parts.iter().flat_map(|weights| weights.reads().to_vec()).collect(),
        }
    }

    /// The same layer where nothing looks at the output channels that are not `read`, if it can leave them
    /// out (they become zeros) and does not yet. What costs a plane of its own is left out: the channels
    /// of depthwise layers.
    pub fn with_only(&self, read: &[bool]) -> Option<Packed> {
        let both = |weights: &PackedDepthwise, read: &[bool]| -> Vec<bool> {
            weights.reads().iter().zip(read).map(|(a, b)| *a && *b).collect()
        };
        if let Packed::Parts(parts) = self {
            let mut first = 0;
            let part = |weights: &PackedDepthwise| {
                let read = &read[first..][..weights.reads().len()];
                first += read.len();
                weights.clone().with_only(&both(weights, read))
            };
            return parts.iter().map(part).collect::<Result<_, _>>().ok().map(Packed::Parts);
        }
        let Packed::Depthwise(weights) = self else { return None };
        let both = both(weights, read);
        if both == weights.reads() {
            return None;
        }
        weights.clone().with_only(&both).ok().map(Packed::Depthwise)
    }

    /// Stored weights of all output channels: multiply-adds for one output pixel of each.
    pub fn stored(&self) -> usize {
        match self {
            Packed::Parts(parts) => parts.iter().map(PackedDepthwise::stored).sum(),
            _ => each!(self, weights => weights.stored()),
        }
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        match self {
            Packed::Parts(parts) => parts.iter().map(PackedDepthwise::nnz).sum(),
            _ => each!(self, weights => weights.nnz()),
        }
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        match self {
            Packed::Parts(parts) => parts.iter().map(PackedDepthwise::bytes).sum(),
            _ => each!(self, weights => weights.bytes()),
        }
    }

    /// Whether there is a kernel that takes pairs of channels as they are.
    pub fn takes_pairs(&self) -> bool {
        self.kernel().element == Element::Bf16
    }

    /// The kernel they were packed for.
    pub fn kernel(&self) -> &'static KernelInfo {
        each!(self, weights => weights.kernel().info())
    }
}
