//! What has been decided for a layer, and the weights packed accordingly.

use crate::half::{Half, HalfChoice};
use crate::int8::{Int8, Int8Choice};
use sparse_kernels::chain::Layer;
use sparse_kernels::depthwise::{DepthwiseKernel, PackedDepthwise};
use sparse_kernels::prelude::*;
use sparse_kernels::quads::Quantised;
use sparse_kernels::spatial::PackedSpatial;
use sparse_kernels::table::KernelInfo;
use std::fmt;
use tract_core::internal::*;

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

    /// The row of the kernel table that runs this packing on pairs of channels.
    pub fn half_kernel(self, half: Half) -> &'static KernelInfo {
        match self {
            Packing::Pointwise(format) => table::pointwise_half(half, format).info(),
            Packing::Depthwise(taps) => depthwise_half(half, taps).info(),
            Packing::Spatial(format) => match table::spatial_half(half, format) {
                Some(kernel) => kernel.info(),
                None => self.kernel(half.target()),
            },
        }
    }

    /// Compresses dense weights for activations in pairs: each is rounded to bf16.
    ///
    /// # Errors
    /// As [`Packing::pack`]; weights that are too large for bf16.
    pub fn pack_half(self, half: Half, dense: &Dense) -> TractResult<Packed> {
        let Dense { oc, ic, group, kernel: taps, pixels, weights, bias } = *dense;
        Ok(match self {
            Packing::Pointwise(format) => {
                let (kernel, shape) = (table::pointwise_half(half, format), [oc, ic, group]);
                Packed::Pointwise(PackedPointwise::from_groups(shape, weights, Some(bias), pixels, kernel)?)
            }
            Packing::Depthwise(_) => {
                let kernel = depthwise_half(half, taps);
                Packed::Depthwise(PackedDepthwise::from_dense(oc, taps, weights, Some(bias), kernel)?)
            }
            Packing::Spatial(format) => {
                let Some(kernel) = table::spatial_half(half, format) else {
                    bail!("no {} kernels of 3x3 layers for {}", half.element().name(), half.target());
                };
                let channels = [oc, ic, group];
                Packed::Spatial(PackedSpatial::from_groups(channels, taps, weights, Some(bias), kernel)?)
            }
        })
    }

    /// The row of the kernel table that runs this packing on quads of channels.
    pub fn int8_kernel(self, int8: Int8) -> &'static KernelInfo {
        match self {
            Packing::Pointwise(format) => table::pointwise_int8(int8, format).info(),
            Packing::Depthwise(taps) => depthwise_int8(int8, taps).info(),
            Packing::Spatial(format) => table::spatial_int8(int8, format).info(),
        }
    }

    /// Compresses dense weights, which are whole numbers of one byte, for activations in quads; what follows the sums
    /// holds the bias, too.
    ///
    /// # Errors
    /// As [`Packing::pack`]; sums that might be too large for 32 bits.
    pub fn pack_int8(self, int8: Int8, dense: &Dense, quantised: &Quantised) -> TractResult<Packed> {
        let Dense { oc, ic, group, kernel: taps, pixels, weights, .. } = *dense;
        Ok(match self {
            Packing::Pointwise(format) => {
                let (kernel, shape) = (table::pointwise_int8(int8, format), [oc, ic, group]);
                let packed = PackedPointwise::from_groups_int8(shape, weights, quantised, pixels, kernel);
                Packed::Pointwise(packed?)
            }
            Packing::Depthwise(_) => {
                let kernel = depthwise_int8(int8, taps);
                Packed::Depthwise(PackedDepthwise::from_dense_int8(oc, taps, weights, quantised, kernel)?)
            }
            Packing::Spatial(format) => {
                let (kernel, channels) = (table::spatial_int8(int8, format), [oc, ic, group]);
                let packed = PackedSpatial::from_groups_int8(channels, taps, weights, quantised, kernel);
                Packed::Spatial(packed?)
            }
        })
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

fn depthwise_half(half: Half, taps: [usize; 2]) -> &'static DepthwiseKernel {
    table::depthwise_half(half, taps).unwrap_or_else(|| panic!("a kernel of {taps:?} taps has none"))
}

fn depthwise_int8(int8: Int8, taps: [usize; 2]) -> &'static DepthwiseKernel {
    table::depthwise_int8(int8, taps).unwrap_or_else(|| panic!("a kernel of {taps:?} taps has none"))
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Packing::Pointwise(format) | Packing::Spatial(format) => format.fmt(f),
            Packing::Depthwise(_) => f.write_str("patterns"),
        }
    }
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
    /// Whether the model has the layer in f16, which is not what it is computed in.
    pub of_f16: bool,
    /// Of a layer with a quantised input: how it would run in int8, or why it cannot.
    pub int8: Option<Result<Int8Choice, &'static str>>,
}

impl Choice {
    /// The least predicted time of ours, in nanoseconds.
    pub fn ns(&self) -> u64 {
        let half = self.half.map(|half| half.ns);
        let int8 = self.int8.and_then(Result::ok).map(|int8| int8.ns);
        [half, int8].into_iter().flatten().fold(self.sparse_ns, u64::min)
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
}

/// The same expression for every family of kernels.
macro_rules! each {
    ($packed:expr, $weights:ident => $value:expr) => {
        match $packed {
            Packed::Pointwise($weights) => $value,
            Packed::Depthwise($weights) => $value,
            Packed::Spatial($weights) => $value,
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
    ) -> Result<(), KernelError> {
        each!(self, weights => weights.run_pairs(geometry, x, y, residual, epilogue, parallel))
    }

    /// Runs the layer on quads of channels: weights of [`Packing::pack_int8`], planar layouts. The lengths are a quarter
    /// of those that the geometry says, for every image rounded up to whole quads.
    ///
    /// # Errors
    /// A geometry or an element that the weights do not fit.
    pub fn run_quads(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        each!(self, weights => weights.run_quads(geometry, x, y, parallel))
    }

    /// Which input channels are looked at.
    pub fn reads(&self) -> Vec<bool> {
        match self {
            Packed::Pointwise(weights) => weights.reads(),
            Packed::Depthwise(weights) => weights.reads().to_vec(),
            Packed::Spatial(weights) => weights.reads(),
        }
    }

    /// The same layer where nothing looks at the output channels that are not `read`, if it can leave them
    /// out (they become zeros) and does not yet. What costs a plane of its own is left out: the channels
    /// of depthwise layers.
    pub fn with_only(&self, read: &[bool]) -> Option<Packed> {
        let Packed::Depthwise(weights) = self else { return None };
        let both: Vec<bool> = weights.reads().iter().zip(read).map(|(a, b)| *a && *b).collect();
        if both == weights.reads() {
            return None;
        }
        weights.clone().with_only(&both).ok().map(Packed::Depthwise)
    }

    /// Stored weights of all output channels: multiply-adds for one output pixel of each.
    pub fn stored(&self) -> usize {
        each!(self, weights => weights.stored())
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        each!(self, weights => weights.nnz())
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        each!(self, weights => weights.bytes())
    }

    /// The kernel they were packed for.
    pub fn kernel(&self) -> &'static KernelInfo {
        each!(self, weights => weights.kernel().info())
    }
}
