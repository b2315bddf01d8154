//! The one list of kernels. Dispatch, tests, benches and `--help` loop over it; a kernel that is not here
//! does not exist.
//!
//! Names follow `<operation>_<format>_<channels>x<pixels>_<target>`.

use crate::depthwise::{self, DepthwiseKernel};
use crate::format::FormatKind;
use crate::pointwise::{self, PointwiseKernel};
use crate::spatial::{self, SpatialKernel};
use crate::target::{Core, Isa, Target};

/// What a kernel computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// 1x1 convolution and fully connected layers.
    Pointwise,
    /// One kernel per channel.
    Depthwise,
    /// Any kernel size, all channels.
    Spatial,
}

/// How much work has gone into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quality {
    /// Plain Rust loops.
    Portable,
    /// Intrinsics, correct, not tuned for a core.
    Intrinsics,
    /// Tuned by measurement; where there was no such machine, by a model of it.
    Tuned,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelInfo {
    /// Unique name.
    pub name: &'static str,
    /// Operation.
    pub operation: Operation,
    /// Weight format, as printed.
    pub format: &'static str,
    /// Instruction set.
    pub isa: Isa,
    /// Class of cores it is scheduled for.
    pub core: Core,
    /// Output channels of a tile.
    pub channels: usize,
    /// Output pixels of a tile.
    pub pixels: usize,
    /// Tuning state.
    pub quality: Quality,
}

/// Every kernel compiled into this build, whether or not this CPU can run it.
pub fn all() -> impl Iterator<Item = &'static KernelInfo> {
    let depthwise = depthwise::KERNELS.iter().map(DepthwiseKernel::info);
    let spatial = spatial::KERNELS.iter().map(SpatialKernel::info);
    pointwise::KERNELS.iter().map(PointwiseKernel::info).chain(depthwise).chain(spatial)
}

/// The kernel that `target` runs: made for its core, else for its instruction set, else the scalar kernel.
pub fn pointwise(target: Target, format: FormatKind) -> &'static PointwiseKernel {
    let find = |isa, core| {
        let fits = |k: &&PointwiseKernel| (k.info().isa, k.info().core, k.format()) == (isa, core, format);
        pointwise::KERNELS.iter().find(fits)
    };
    find(target.isa(), target.core())
        .or_else(|| find(target.isa(), Core::Any))
        .or_else(|| find(Isa::Scalar, Core::Any))
        .unwrap_or_else(|| panic!("every pointwise format has a scalar kernel, {format} has none"))
}

/// Every pointwise kernel that this machine can run.
pub fn pointwise_available() -> impl Iterator<Item = &'static PointwiseKernel> {
    let available = Target::available();
    pointwise::KERNELS.iter().filter(move |k| available.iter().any(|t| t.isa() == k.info().isa))
}

/// The depthwise kernel of `target` for kernels of `kernel` (height, width) taps: one made for its core and
/// this size, else for its instruction set and this size, else one that takes any. `None` for an empty size.
pub fn depthwise(target: Target, kernel: [usize; 2]) -> Option<&'static DepthwiseKernel> {
    let find = |isa, core| {
        depthwise::KERNELS
            .iter()
            .filter(move |k| (k.info().isa, k.info().core) == (isa, core))
            .find(|k| k.accepts(kernel))
    };
    find(target.isa(), target.core())
        .or_else(|| find(target.isa(), Core::Any))
        .or_else(|| find(Isa::Scalar, Core::Any))
        .filter(|_| !kernel.contains(&0))
}

/// Every depthwise kernel that this machine can run.
pub fn depthwise_available() -> impl Iterator<Item = &'static DepthwiseKernel> {
    let available = Target::available();
    depthwise::KERNELS.iter().filter(move |k| available.iter().any(|t| t.isa() == k.info().isa))
}

/// The spatial kernel that `target` runs for weights grouped as `format`: the most output channels at a time
/// that the groups allow.
pub fn spatial(target: Target, format: FormatKind) -> &'static SpatialKernel {
    let find = |isa, core| {
        let usable = |k: &&SpatialKernel| {
            (k.info().isa, k.info().core) == (isa, core) && format.r().is_multiple_of(k.format().r())
        };
        spatial::KERNELS.iter().filter(usable).max_by_key(|k| k.format().r())
    };
    // One for the instruction set may take more output channels together than one for the core.
    [find(target.isa(), target.core()), find(target.isa(), Core::Any), find(Isa::Scalar, Core::Any)]
        .into_iter()
        .flatten()
        .reduce(
            |best, k| {
                if k.info().isa == best.info().isa && k.format().r() > best.format().r() { k } else { best }
            },
        )
        .unwrap_or_else(|| panic!("single rows fit every format, {format} has no spatial kernel"))
}

/// Every spatial kernel that this machine can run.
pub fn spatial_available() -> impl Iterator<Item = &'static SpatialKernel> {
    let available = Target::available();
    spatial::KERNELS.iter().filter(move |k| available.iter().any(|t| t.isa() == k.info().isa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::name;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_grammar() {
        let mut seen = HashSet::new();
        for k in all() {
            assert!(seen.insert(k.name), "{} twice", k.name);
            let operation = format!("{:?}", k.operation).to_lowercase();
            let expected =
                format!("{operation}_{}_{}x{}_{}", k.format, k.channels, k.pixels, name(k.isa, k.core));
            assert_eq!(k.name, expected);
        }
    }

    #[test]
    fn every_target_has_depthwise_kernels() {
        for target in Target::available() {
            for size in [[3, 3], [5, 5], [1, 3], [7, 7]] {
                let kernel = depthwise(target, size).unwrap();
                assert_eq!(kernel.info().isa, target.isa(), "{}", kernel.info().name);
                assert!(kernel.accepts(size));
            }
            assert!(depthwise(target, [0, 3]).is_none());
        }
    }

    #[test]
    fn every_target_runs_every_pointwise_format() {
        for target in Target::available() {
            for format in FormatKind::POINTWISE {
                let kernel = pointwise(target, format);
                assert_eq!(kernel.info().isa, target.isa(), "{}", kernel.info().name);
            }
            let blocks = pointwise(target, FormatKind::BLOCKS_4X4).info();
            assert_eq!(blocks.core, target.core(), "{}", blocks.name);
        }
    }

    #[test]
    fn every_target_runs_every_spatial_format() {
        for target in Target::available() {
            for format in FormatKind::SPATIAL {
                let kernel = spatial(target, format);
                assert_eq!((kernel.info().isa, kernel.format()), (target.isa(), format));
            }
            for format in [FormatKind::ROWS_8, FormatKind::BLOCKS_4X4] {
                assert_eq!(spatial(target, format).format(), FormatKind::ROWS_4);
            }
        }
    }
}
