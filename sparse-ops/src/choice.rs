//! What has been decided for a layer, and the weights packed accordingly.

use sparse_kernels::prelude::*;
use sparse_kernels::table::KernelInfo;
use std::fmt;
use tract_core::internal::*;

/// Which family of kernels runs a layer, and in which format its weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// 1x1 convolution or matrix product.
    Pointwise(FormatKind),
}

impl Packing {
    /// The row of the kernel table that runs this packing on `target`.
    pub fn kernel(self, target: Target) -> &'static KernelInfo {
        match self {
            Packing::Pointwise(format) => table::pointwise(target, format).info(),
        }
    }

    /// The block format of the weights, if they are stored in blocks.
    pub fn format(self) -> Option<FormatKind> {
        match self {
            Packing::Pointwise(format) => Some(format),
        }
    }

    /// Compresses dense weights `[oc][ic / group][kh][kw]`.
    ///
    /// # Errors
    /// Weights or bias that are not finite or do not fit the shape.
    pub fn pack(
        self,
        target: Target,
        oc: usize,
        ic: usize,
        weights: &[f32],
        bias: &[f32],
    ) -> TractResult<Packed> {
        Ok(match self {
            Packing::Pointwise(format) => {
                let kernel = table::pointwise(target, format);
                Packed::Pointwise(PackedPointwise::from_dense(oc, ic, weights, Some(bias), kernel)?)
            }
        })
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Packing::Pointwise(format) => format.fmt(f),
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
}

impl Choice {
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
#[derive(Debug, Clone)]
pub enum Packed {
    /// 1x1 convolution or matrix product.
    Pointwise(PackedPointwise),
}

impl Packed {
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
        match self {
            Packed::Pointwise(packed) => packed.run(geometry, x, y, residual, epilogue, parallel),
        }
    }

    /// Stored weights: multiply-adds per output pixel (of one output channel for depthwise layers).
    pub fn stored(&self) -> usize {
        match self {
            Packed::Pointwise(packed) => packed.stored(),
        }
    }

    /// Stored weights that are not zero.
    pub fn nnz(&self) -> usize {
        match self {
            Packed::Pointwise(packed) => packed.nnz(),
        }
    }

    /// Memory of the packed weights.
    pub fn bytes(&self) -> usize {
        match self {
            Packed::Pointwise(packed) => packed.bytes(),
        }
    }

    /// The kernel they were packed for.
    pub fn kernel(&self) -> &'static KernelInfo {
        match self {
            Packed::Pointwise(packed) => packed.kernel().info(),
        }
    }
}
