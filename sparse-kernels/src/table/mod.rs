//! The one list of kernels. Dispatch, tests, benches and `--help` loop over it; a kernel that is not here
//! does not exist.
//!
//! Names follow `<operation>_<format>_<channels>x<pixels>_<target>`, with `_bf16` or `_f16` behind for
//! kernels of pairs and `_int8` for those of quads. A build has the rows of `scalar.rs` and of its
//! architecture's file.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use aarch64 as machine;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use wasm as machine;
#[cfg(target_arch = "x86_64")]
use x86 as machine;

use crate::depthwise::DepthwiseKernel;
use crate::error::KernelError;
use crate::format::FormatKind;
use crate::pointwise::PointwiseKernel;
use crate::spatial::SpatialKernel;
use crate::target::{Core, Half, Int8, Isa, Target};

/// Where there are no vectors that this crate knows.
#[cfg(not(any(
    target_arch = "aarch64",
    target_arch = "x86_64",
    all(target_arch = "wasm32", target_feature = "simd128")
)))]
mod machine {
    pub static POINTWISE: &[crate::pointwise::PointwiseKernel] = &[];
    pub static DEPTHWISE: &[crate::depthwise::DepthwiseKernel] = &[];
    pub static SPATIAL: &[crate::spatial::SpatialKernel] = &[];
}

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

impl Operation {
    /// The operation with the name of its module.
    const fn of(module: &str) -> Operation {
        match module.as_bytes() {
            b"pointwise" => Operation::Pointwise,
            b"depthwise" => Operation::Depthwise,
            b"spatial" => Operation::Spatial,
            _ => panic!("not an operation"),
        }
    }
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

/// The type of the values that are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// IEEE single precision, summed in the same.
    F32,
    /// bf16 in pairs of neighbouring channels ([`crate::pairs`]), summed in single precision.
    Bf16,
    /// f16 in pairs of neighbouring channels ([`crate::pairs`]), of which some products are summed in the same, and such
    /// sums added up in it.
    F16,
    /// Bytes in quads of neighbouring channels ([`crate::quads`]), summed in 32 bits.
    Int8,
}

impl Element {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::Bf16 => "bf16",
            Element::F16 => "f16",
            Element::Int8 => "int8",
        }
    }

    /// What lanes hold, for messages.
    pub(crate) const fn values(self) -> &'static str {
        match self {
            Element::F32 => "floats",
            Element::Bf16 => "pairs of bf16",
            Element::F16 => "pairs of f16",
            Element::Int8 => "quads of bytes",
        }
    }

    /// Neighbouring channels that share a lane of 32 bits.
    pub const fn per_lane(self) -> usize {
        match self {
            Element::F32 => 1,
            Element::Bf16 | Element::F16 => 2,
            Element::Int8 => 4,
        }
    }

    /// The element with a number, for constants of types.
    pub(crate) const fn numbered(number: u8) -> Element {
        match number {
            _ if number == Element::F32 as u8 => Element::F32,
            _ if number == Element::Bf16 as u8 => Element::Bf16,
            _ if number == Element::F16 as u8 => Element::F16,
            _ if number == Element::Int8 as u8 => Element::Int8,
            _ => panic!("no element has this number"),
        }
    }

    /// Neighbouring channels whose products spatial kernels add to the same sum: all of a lane, but of f16, whose lanes are
    /// taken apart where they are copied, each by itself.
    pub(crate) const fn per_product(self) -> usize {
        match self {
            Element::F16 => 1,
            _ => self.per_lane(),
        }
    }

    /// Bytes of the channels of [`Element::per_product`], of weights and of pixels.
    pub(crate) const fn product_bytes(self) -> usize {
        size_of::<u32>() * self.per_product() / self.per_lane()
    }

    /// Whether lanes hold pairs.
    pub(crate) const fn in_pairs(self) -> bool {
        self.per_lane() == 2
    }

    /// Lanes that hold `channels`; the last may hold fewer than the others.
    pub(crate) const fn lanes(self, channels: usize) -> usize {
        channels.div_ceil(self.per_lane())
    }

    /// The end of a kernel's name.
    #[cfg(test)]
    const fn suffix(self) -> &'static str {
        match self {
            Element::F32 => "",
            Element::Bf16 => "_bf16",
            Element::F16 => "_f16",
            Element::Int8 => "_int8",
        }
    }
}

/// [`Element::suffix`], as a literal.
macro_rules! suffix {
    (F32) => {
        ""
    };
    (Bf16) => {
        "_bf16"
    };
    (F16) => {
        "_f16"
    };
    (Int8) => {
        "_int8"
    };
}
use suffix;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelInfo {
    /// Unique name.
    pub name: &'static str,
    /// Operation.
    pub operation: Operation,
    /// Weight format, as printed.
    pub format: &'static str,
    /// Type of weights and pixels.
    pub element: Element,
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

impl KernelInfo {
    /// Refuses lanes of another number of channels than the kernel's.
    pub(crate) fn runs(&self, per_lane: usize) -> Result<(), KernelError> {
        let asked = match per_lane {
            1 => "floats",
            2 => "pairs",
            _ => "quads",
        };
        if self.element.per_lane() == per_lane {
            Ok(())
        } else {
            Err(KernelError::ElementMismatch { kernel: self.name, asked })
        }
    }

    /// What this row is for; whoever has its kernel has had such a target.
    pub(crate) fn target(&self) -> Target {
        Target::of_row(self.isa, self.core)
    }
}

/// A row of the table, for whatever operation.
///
/// `tile` is output channels by pixels, `loops` what runs them. Columns that only some operations have come
/// last, as the `tuning` of that operation. What does not fit together, such as a tile of more sums than the
/// machine has registers for, does not compile.
macro_rules! kernel {
    ($operation:ident, format: $format:literal, tile: $r:literal x $pixels:literal, target: $target:literal,
     element: $element:ident, quality: $quality:ident, loops: $loops:ty $(, tuning: $tuning:expr)? $(,)?) => {{
        const SHAPE: [usize; 2] = $crate::table::shape($format);
        const TARGET: ($crate::target::Isa, $crate::target::Core) = $crate::target::known($target);
        const LANES: usize = $crate::table::lanes($crate::table::Element::$element, SHAPE[1]);
        $crate::$operation::kernel::<$loops, { SHAPE[0] }, LANES, $pixels>(
            $crate::table::KernelInfo {
                name: concat!(
                    stringify!($operation),
                    "_",
                    $format,
                    "_",
                    $r,
                    "x",
                    $pixels,
                    "_",
                    $target,
                    $crate::table::suffix!($element)
                ),
                operation: $crate::table::Operation::of(stringify!($operation)),
                format: $format,
                element: $crate::table::Element::$element,
                isa: TARGET.0,
                core: TARGET.1,
                channels: $r,
                pixels: $pixels,
                quality: $crate::table::Quality::$quality,
            },
            ($($tuning)?),
        )
    }};
}
use kernel;

/// Rows and columns of a format's name; of single weights one each, of "any" none.
const fn shape(format: &str) -> [usize; 2] {
    match format.as_bytes() {
        b"unstructured" => [1, 1],
        b"any" => [0, 0],
        [r @ b'1'..=b'9', b'x', c @ b'1'..=b'9'] => [(*r - b'0') as usize, (*c - b'0') as usize],
        _ => panic!("not the name of a format"),
    }
}

/// What [`kernel`] counts the columns of a format in: lanes, of which its blocks hold whole ones; channels
/// for f16, whose kernels take lanes apart. Of depthwise kernels, which name their taps in place of that, and
/// spatial ones, whose lanes hold input channels, the columns stay.
const fn lanes(element: Element, columns: usize) -> usize {
    match (element, columns) {
        (Element::Bf16 | Element::Int8, 2 | 4) => columns / element.per_lane(),
        _ => columns,
    }
}

/// Every kernel compiled into this build, whether or not this CPU can run it.
pub fn all() -> impl Iterator<Item = &'static KernelInfo> {
    let depthwise = depthwise_kernels().map(DepthwiseKernel::info);
    let spatial = spatial_kernels().map(SpatialKernel::info);
    pointwise_kernels().map(PointwiseKernel::info).chain(depthwise).chain(spatial)
}

pub(crate) fn pointwise_kernels() -> impl Iterator<Item = &'static PointwiseKernel> {
    scalar::POINTWISE.iter().chain(machine::POINTWISE)
}

fn depthwise_kernels() -> impl Iterator<Item = &'static DepthwiseKernel> {
    scalar::DEPTHWISE.iter().chain(machine::DEPTHWISE)
}

fn spatial_kernels() -> impl Iterator<Item = &'static SpatialKernel> {
    scalar::SPATIAL.iter().chain(machine::SPATIAL)
}

/// The kernel that `target` runs: made for its core, else for its instruction set, else the scalar kernel.
pub fn pointwise(target: Target, format: FormatKind) -> &'static PointwiseKernel {
    find_pointwise(target, Element::F32, format)
}

/// The kernel of pairs for weights of any of the formats of pointwise kernels, or blocks of two columns.
/// Blocks of 4x4 have one; others run as rows of as many output channels as the format has up to four. Of
/// bf16 these are rows of pairs, in which a weight that has no neighbour shares its lane with a zero.
pub fn pointwise_half(half: Half, format: FormatKind) -> &'static PointwiseKernel {
    let [four, two, one] = match half.element() {
        Element::F16 => [FormatKind::ROWS_4, FormatKind::ROWS_2, FormatKind::ROWS_1],
        _ => [FormatKind::BLOCKS_4X2, FormatKind::BLOCKS_2X2, FormatKind::BLOCKS_1X2],
    };
    let rows = match format {
        FormatKind::BLOCKS_4X4 => FormatKind::BLOCKS_4X4,
        _ if format.r().is_multiple_of(4) => four,
        _ if format.r().is_multiple_of(2) => two,
        _ => one,
    };
    find_pointwise(half.target(), half.element(), rows)
}

/// The kernel of quads for weights of any of the formats of pointwise kernels, or blocks of up to four columns: rows of
/// quads, of as many output channels as the format has up to four, in which a weight without neighbours shares its
/// lane with zeros.
pub fn pointwise_int8(int8: Int8, format: FormatKind) -> &'static PointwiseKernel {
    let rows = match format.r() {
        r if r.is_multiple_of(4) => FormatKind::BLOCKS_4X4,
        r if r.is_multiple_of(2) => FormatKind::BLOCKS_2X4,
        _ => FormatKind::BLOCKS_1X4,
    };
    find_pointwise(int8.target(), Element::Int8, rows)
}

fn find_pointwise(target: Target, element: Element, format: FormatKind) -> &'static PointwiseKernel {
    let find = |isa, core| {
        let fits = |k: &&PointwiseKernel| {
            let info = k.info();
            (info.isa, info.core, info.element, k.format()) == (isa, core, element, format)
        };
        pointwise_kernels().find(fits)
    };
    find(target.isa(), target.core())
        .or_else(|| find(target.isa(), Core::Any))
        .or_else(|| find(Isa::Scalar, Core::Any))
        .unwrap_or_else(|| panic!("every pointwise format has a scalar kernel, {format} has none"))
}

/// Whether this machine can run a kernel of single precision.
fn runs(info: &KernelInfo, available: &[Target]) -> bool {
    info.element == Element::F32 && available.iter().any(|t| t.isa() == info.isa)
}

/// Whether this machine can run a kernel of pairs.
fn runs_half(info: &KernelInfo, available: &[Half]) -> bool {
    available.iter().any(|half| (half.target().isa(), half.element()) == (info.isa, info.element))
}

/// Whether this machine can run a kernel of quads.
fn runs_int8(info: &KernelInfo, available: &[Int8]) -> bool {
    let runs = |target: Target| target.isa() == info.isa && [Core::Any, target.core()].contains(&info.core);
    info.element == Element::Int8 && available.iter().any(|int8| runs(int8.target()))
}

/// Every pointwise kernel of quads that this machine can run.
pub fn pointwise_int8_available() -> impl Iterator<Item = &'static PointwiseKernel> {
    let available = Int8::available();
    pointwise_kernels().filter(move |k| runs_int8(k.info(), &available))
}

/// Every depthwise kernel of quads that this machine can run.
pub fn depthwise_int8_available() -> impl Iterator<Item = &'static DepthwiseKernel> {
    let available = Int8::available();
    depthwise_kernels().filter(move |k| runs_int8(k.info(), &available))
}

/// Every pointwise kernel of single precision that this machine can run.
pub fn pointwise_available() -> impl Iterator<Item = &'static PointwiseKernel> {
    let available = Target::available();
    pointwise_kernels().filter(move |k| runs(k.info(), &available))
}

/// Every pointwise kernel of pairs that this machine can run.
pub fn pointwise_half_available() -> impl Iterator<Item = &'static PointwiseKernel> {
    let available = Half::available();
    pointwise_kernels().filter(move |k| runs_half(k.info(), &available))
}

/// The depthwise kernel of `target` for kernels of `kernel` (height, width) taps: one made for its core and
/// this size, else for its instruction set and this size, else one that takes any. `None` for an empty size.
pub fn depthwise(target: Target, kernel: [usize; 2]) -> Option<&'static DepthwiseKernel> {
    find_depthwise(target, Element::F32, kernel)
}

/// The depthwise kernel of pairs for kernels of `kernel` taps, as [`depthwise`] finds those of single precision.
pub fn depthwise_half(half: Half, kernel: [usize; 2]) -> Option<&'static DepthwiseKernel> {
    find_depthwise(half.target(), half.element(), kernel)
}

/// The depthwise kernel of quads for kernels of `kernel` taps, as [`depthwise`] finds those of single precision.
pub fn depthwise_int8(int8: Int8, kernel: [usize; 2]) -> Option<&'static DepthwiseKernel> {
    find_depthwise(int8.target(), Element::Int8, kernel)
}

fn find_depthwise(target: Target, element: Element, kernel: [usize; 2]) -> Option<&'static DepthwiseKernel> {
    let find = |isa, core| {
        depthwise_kernels()
            .filter(move |k| (k.info().isa, k.info().core, k.info().element) == (isa, core, element))
            .find(|k| k.accepts(kernel))
    };
    find(target.isa(), target.core())
        .or_else(|| find(target.isa(), Core::Any))
        .or_else(|| find(Isa::Scalar, Core::Any))
        .filter(|_| !kernel.contains(&0))
}

/// Every depthwise kernel of single precision that this machine can run.
pub fn depthwise_available() -> impl Iterator<Item = &'static DepthwiseKernel> {
    let available = Target::available();
    depthwise_kernels().filter(move |k| runs(k.info(), &available))
}

/// Every depthwise kernel of pairs that this machine can run.
pub fn depthwise_half_available() -> impl Iterator<Item = &'static DepthwiseKernel> {
    let available = Half::available();
    depthwise_kernels().filter(move |k| runs_half(k.info(), &available))
}

/// The spatial kernel that `target` runs for weights grouped as `format`: the most output channels at a time
/// that the groups allow.
pub fn spatial(target: Target, format: FormatKind) -> &'static SpatialKernel {
    find_spatial(target.isa(), target.core(), Element::F32, format)
        .or_else(|| find_spatial(Isa::Scalar, Core::Any, Element::F32, format))
        .unwrap_or_else(|| panic!("single rows fit every format, {format} has no spatial kernel"))
}

/// The spatial kernel of pairs for weights grouped as `format`, as [`spatial`] finds those of single precision; none if the
/// instructions have none.
pub fn spatial_half(half: Half, format: FormatKind) -> Option<&'static SpatialKernel> {
    find_spatial(half.target().isa(), half.target().core(), half.element(), format)
}

/// The spatial kernel of quads for weights grouped as `format`, as [`spatial`] finds those of single precision.
pub fn spatial_int8(int8: Int8, format: FormatKind) -> &'static SpatialKernel {
    find_spatial(int8.target().isa(), int8.target().core(), Element::Int8, format)
        .or_else(|| find_spatial(Isa::Scalar, Core::Any, Element::Int8, format))
        .unwrap_or_else(|| panic!("single rows fit every format, {format} has no spatial kernel of quads"))
}

fn find_spatial(
    isa: Isa,
    core: Core,
    element: Element,
    format: FormatKind,
) -> Option<&'static SpatialKernel> {
    let usable = |k: &&SpatialKernel| {
        (k.info().isa, k.info().element) == (isa, element)
            && [core, Core::Any].contains(&k.info().core)
            && format.r().is_multiple_of(k.format().r())
    };
    // One for the instruction set may take more output channels together than one for the core.
    spatial_kernels().filter(usable).max_by_key(|k| (k.format().r(), k.info().core == core))
}

/// Every spatial kernel of single precision that this machine can run.
pub fn spatial_available() -> impl Iterator<Item = &'static SpatialKernel> {
    let available = Target::available();
    spatial_kernels().filter(move |k| runs(k.info(), &available))
}

/// Every spatial kernel of quads that this machine can run.
pub fn spatial_int8_available() -> impl Iterator<Item = &'static SpatialKernel> {
    let available = Int8::available();
    spatial_kernels().filter(move |k| runs_int8(k.info(), &available))
}

/// Every spatial kernel of pairs that this machine can run.
pub fn spatial_half_available() -> impl Iterator<Item = &'static SpatialKernel> {
    let available = Half::available();
    spatial_kernels().filter(move |k| runs_half(k.info(), &available))
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
            assert_eq!(k.name, expected + k.element.suffix());
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
    fn half_precision_has_depthwise_kernels() {
        for half in Half::available() {
            for size in [[3, 3], [5, 5], [1, 3], [7, 7]] {
                let info = depthwise_half(half, size).unwrap().info();
                assert_eq!((info.isa, info.element), (half.target().isa(), half.element()), "{}", info.name);
            }
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
            assert!([target.core(), Core::Any].contains(&blocks.core), "{}", blocks.name);
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

    #[test]
    fn int8_runs_every_spatial_format() {
        for int8 in Int8::available() {
            for format in FormatKind::SPATIAL {
                let kernel = spatial_int8(int8, format);
                let info = kernel.info();
                assert_eq!(
                    (info.isa, info.element, kernel.format()),
                    (int8.target().isa(), Element::Int8, format)
                );
                assert!([int8.target().core(), Core::Any].contains(&info.core), "{}", info.name);
            }
        }
    }

    #[test]
    fn half_precision_runs_every_spatial_format() {
        for half in Half::available() {
            for format in FormatKind::SPATIAL {
                if (half.target().isa(), half.element()) == (Isa::Neon, Element::Bf16) {
                    assert!(spatial_half(half, format).is_none());
                    continue;
                }
                let kernel = spatial_half(half, format).unwrap();
                let info = kernel.info();
                assert_eq!(
                    (info.isa, info.element, kernel.format()),
                    (half.target().isa(), half.element(), format)
                );
            }
        }
    }
}
