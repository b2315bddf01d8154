//! NEON, for any core and for three classes of them.

use super::{Element, kernel};
use crate::depthwise::DepthwiseKernel;
use crate::depthwise::neon::{Halves as DepthwiseHalves, InOrder, Pairs as DepthwisePairs};
use crate::pointwise::PointwiseKernel;
use crate::pointwise::neon_halves::Halves;
use crate::pointwise::{Planes, Tuning};
use crate::spatial::SpatialKernel;
use crate::target::Core;
use crate::vector::{F32x4, I8x16};

type A53 = F32x4<{ Core::A53 as u8 }>;
type A55 = F32x4<{ Core::A55 as u8 }>;
type A76 = F32x4<{ Core::A76 as u8 }>;

type Pairs = F32x4<{ Core::A76 as u8 }, { Element::Bf16 as u8 }>;
type Halves55 = Halves<{ Core::A55 as u8 }>;
type Halves76 = Halves<{ Core::A76 as u8 }>;
type DepthwiseHalves55 = DepthwiseHalves<{ Core::A55 as u8 }>;
type DepthwiseHalvesAny = DepthwiseHalves<{ Core::Any as u8 }>;
type SpatialHalves55 = F32x4<{ Core::A55 as u8 }, { Element::F16 as u8 }>;
type SpatialHalves76 = F32x4<{ Core::A76 as u8 }, { Element::F16 as u8 }>;
/// Quads, for any core and for those with the dot product of bytes.
type Quads = I8x16<false>;
type DotQuads = I8x16<true>;
type Quads55 = I8x16<true, { Core::A55 as u8 }>;
type Quads76 = I8x16<true, { Core::A76 as u8 }>;

/// Rows of sums do not fit rows of quads.
const QUADS: Tuning = Tuning { panel: 256 * 20, sums_apart: true, ..Tuning::GENERAL };

const KB: usize = 1024 / size_of::<f32>();

/// The panel stays inside the first level, 256 channels by 20 pixels, with room for weights and outputs:
/// in-order cores wait for every line.
const IN_ORDER_A53: Tuning = Tuning {
    panel: 256 * 20,
    planes: Some(Planes { weights: 60, visits: 15, way: 8 * KB }),
    ..Tuning::GENERAL
};

const IN_ORDER_A55: Tuning =
    Tuning { planes: Some(Planes { weights: 60, visits: 12, way: 8 * KB }), ..IN_ORDER_A53 };

const OUT_OF_ORDER: Tuning =
    Tuning { planes: Some(Planes { weights: 60, visits: 15, way: 16 * KB }), ..IN_ORDER_A53 };

/// As much of the first level as for floats: 256 channels by twice as many pixels, in half the bits. Rows of
/// sums do not fit rows of pairs.
const HALVES: Tuning = Tuning { panel: 256 * 20, sums_apart: true, ..Tuning::GENERAL };

#[rustfmt::skip]
pub(super) static POINTWISE: &[PointwiseKernel] = &[
    kernel!(pointwise, format: "unstructured", tile: 1 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "2x1", tile: 2 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "4x1", tile: 4 x 20, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "8x1", tile: 8 x 8, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "4x4", tile: 4 x 20, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: Tuning { singles: 1, ..Tuning::GENERAL }),
    kernel!(pointwise, format: "unstructured", tile: 1 x 32, target: "neon-a53", element: F32, quality: Tuned,
            loops: A53, tuning: IN_ORDER_A53),
    kernel!(pointwise, format: "unstructured", tile: 1 x 32, target: "neon-a55", element: F32, quality: Tuned,
            loops: A55, tuning: IN_ORDER_A55),
    kernel!(pointwise, format: "unstructured", tile: 1 x 40, target: "neon-a76", element: F32, quality: Tuned,
            loops: A76, tuning: Tuning { least_tile: Some(28), ..OUT_OF_ORDER }),
    kernel!(pointwise, format: "2x1", tile: 2 x 28, target: "neon-a53", element: F32, quality: Tuned,
            loops: A53, tuning: IN_ORDER_A53),
    kernel!(pointwise, format: "2x1", tile: 2 x 28, target: "neon-a55", element: F32, quality: Tuned,
            loops: A55, tuning: IN_ORDER_A55),
    kernel!(pointwise, format: "2x1", tile: 2 x 40, target: "neon-a76", element: F32, quality: Tuned,
            loops: A76, tuning: Tuning { least_tile: Some(28), ..OUT_OF_ORDER }),
    kernel!(pointwise, format: "4x1", tile: 4 x 20, target: "neon-a53", element: F32, quality: Tuned,
            loops: A53, tuning: IN_ORDER_A53),
    kernel!(pointwise, format: "4x1", tile: 4 x 20, target: "neon-a55", element: F32, quality: Tuned,
            loops: A55, tuning: IN_ORDER_A55),
    kernel!(pointwise, format: "4x1", tile: 4 x 28, target: "neon-a76", element: F32, quality: Tuned,
            loops: A76, tuning: Tuning { least_tile: Some(20), ..OUT_OF_ORDER }),
    kernel!(pointwise, format: "4x4", tile: 4 x 20, target: "neon-a53", element: F32, quality: Tuned,
            loops: A53, tuning: IN_ORDER_A53),
    kernel!(pointwise, format: "4x4", tile: 4 x 20, target: "neon-a55", element: F32, quality: Tuned,
            loops: A55, tuning: IN_ORDER_A55),
    kernel!(pointwise, format: "4x4", tile: 4 x 28, target: "neon-a76", element: F32, quality: Tuned,
            loops: A76, tuning: Tuning { least_tile: Some(20), ..OUT_OF_ORDER }),
    kernel!(pointwise, format: "1x2", tile: 1 x 40, target: "neon", element: Bf16, quality: Tuned,
            loops: Pairs, tuning: Tuning { least_tile: Some(28), ..HALVES }),
    kernel!(pointwise, format: "2x2", tile: 2 x 40, target: "neon", element: Bf16, quality: Tuned,
            loops: Pairs, tuning: Tuning { least_tile: Some(28), ..HALVES }),
    kernel!(pointwise, format: "4x2", tile: 4 x 28, target: "neon", element: Bf16, quality: Tuned,
            loops: Pairs, tuning: Tuning { least_tile: Some(20), ..HALVES }),
    kernel!(pointwise, format: "4x4", tile: 4 x 28, target: "neon", element: Bf16, quality: Tuned,
            loops: Pairs, tuning: Tuning { least_tile: Some(20), ..HALVES }),
    kernel!(pointwise, format: "unstructured", tile: 1 x 80, target: "neon", element: F16, quality: Tuned,
            loops: Halves76, tuning: Tuning { least_tile: Some(56), ..HALVES }),
    kernel!(pointwise, format: "2x1", tile: 2 x 80, target: "neon", element: F16, quality: Tuned,
            loops: Halves76, tuning: Tuning { least_tile: Some(56), ..HALVES }),
    kernel!(pointwise, format: "4x1", tile: 4 x 56, target: "neon", element: F16, quality: Tuned,
            loops: Halves76, tuning: Tuning { least_tile: Some(40), ..HALVES }),
    kernel!(pointwise, format: "4x4", tile: 4 x 56, target: "neon", element: F16, quality: Tuned,
            loops: Halves76, tuning: Tuning { least_tile: Some(40), ..HALVES }),
    kernel!(pointwise, format: "unstructured", tile: 1 x 56, target: "neon-a55", element: F16, quality: Tuned,
            loops: Halves55, tuning: HALVES),
    kernel!(pointwise, format: "2x1", tile: 2 x 56, target: "neon-a55", element: F16, quality: Tuned,
            loops: Halves55, tuning: HALVES),
    kernel!(pointwise, format: "4x1", tile: 4 x 40, target: "neon-a55", element: F16, quality: Tuned,
            loops: Halves55, tuning: HALVES),
    kernel!(pointwise, format: "4x4", tile: 4 x 40, target: "neon-a55", element: F16, quality: Tuned,
            loops: Halves55, tuning: HALVES),
    kernel!(pointwise, format: "1x4", tile: 1 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: QUADS),
    kernel!(pointwise, format: "1x4", tile: 1 x 32, target: "neon-a55", element: Int8, quality: Tuned,
            loops: Quads55, tuning: QUADS),
    kernel!(pointwise, format: "1x4", tile: 1 x 40, target: "neon-a76", element: Int8, quality: Tuned,
            loops: Quads76, tuning: Tuning { least_tile: Some(28), ..QUADS }),
    kernel!(pointwise, format: "2x4", tile: 2 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: QUADS),
    kernel!(pointwise, format: "2x4", tile: 2 x 28, target: "neon-a55", element: Int8, quality: Tuned,
            loops: Quads55, tuning: QUADS),
    kernel!(pointwise, format: "2x4", tile: 2 x 40, target: "neon-a76", element: Int8, quality: Tuned,
            loops: Quads76, tuning: Tuning { least_tile: Some(28), ..QUADS }),
    kernel!(pointwise, format: "4x4", tile: 4 x 12, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: QUADS),
    kernel!(pointwise, format: "4x4", tile: 4 x 20, target: "neon-a55", element: Int8, quality: Tuned,
            loops: Quads55, tuning: QUADS),
    kernel!(pointwise, format: "4x4", tile: 4 x 28, target: "neon-a76", element: Int8, quality: Tuned,
            loops: Quads76, tuning: Tuning { least_tile: Some(20), ..QUADS }),
];

#[rustfmt::skip]
pub(super) static DEPTHWISE: &[DepthwiseKernel] = &[
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "neon-a53", element: F32, quality: Intrinsics,
            loops: InOrder),
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "neon-a55", element: F32, quality: Intrinsics,
            loops: InOrder),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "7x7", tile: 1 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "neon-a53", element: F32, quality: Intrinsics,
            loops: InOrder),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "neon-a55", element: F32, quality: Intrinsics,
            loops: InOrder),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "neon", element: Bf16, quality: Intrinsics,
            loops: DepthwisePairs),
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "neon", element: F16, quality: Intrinsics,
            loops: DepthwiseHalvesAny),
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "neon-a55", element: F16, quality: Intrinsics,
            loops: DepthwiseHalves55),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "neon", element: F16, quality: Intrinsics,
            loops: DepthwiseHalvesAny),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "neon-a55", element: F16, quality: Intrinsics,
            loops: DepthwiseHalves55),
    kernel!(depthwise, format: "7x7", tile: 1 x 32, target: "neon", element: F16, quality: Intrinsics,
            loops: DepthwiseHalvesAny),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "neon", element: F16, quality: Intrinsics,
            loops: DepthwiseHalvesAny),
    kernel!(depthwise, format: "3x3", tile: 1 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(depthwise, format: "3x3", tile: 1 x 16, target: "neon-a55", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(depthwise, format: "3x3", tile: 1 x 16, target: "neon-a76", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(depthwise, format: "5x5", tile: 1 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(depthwise, format: "5x5", tile: 1 x 16, target: "neon-a55", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(depthwise, format: "5x5", tile: 1 x 16, target: "neon-a76", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "neon-a55", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "neon-a76", element: Int8, quality: Intrinsics,
            loops: DotQuads),
];

#[rustfmt::skip]
pub(super) static SPATIAL: &[SpatialKernel] = &[
    kernel!(spatial, format: "unstructured", tile: 1 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(spatial, format: "2x1", tile: 2 x 32, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(spatial, format: "4x1", tile: 4 x 20, target: "neon", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(spatial, format: "4x1", tile: 4 x 20, target: "neon-a53", element: F32, quality: Tuned,
            loops: A53),
    kernel!(spatial, format: "4x1", tile: 4 x 20, target: "neon-a55", element: F32, quality: Tuned,
            loops: A55),
    kernel!(spatial, format: "4x1", tile: 4 x 28, target: "neon-a76", element: F32, quality: Tuned,
            loops: A76),
    kernel!(spatial, format: "unstructured", tile: 1 x 64, target: "neon", element: F16, quality: Intrinsics,
            loops: SpatialHalves76),
    kernel!(spatial, format: "2x1", tile: 2 x 64, target: "neon", element: F16, quality: Intrinsics,
            loops: SpatialHalves76),
    kernel!(spatial, format: "4x1", tile: 4 x 56, target: "neon", element: F16, quality: Tuned,
            loops: SpatialHalves76),
    kernel!(spatial, format: "4x1", tile: 4 x 40, target: "neon-a55", element: F16, quality: Tuned,
            loops: SpatialHalves55),
    kernel!(spatial, format: "unstructured", tile: 1 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "2x1", tile: 2 x 16, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "4x1", tile: 4 x 12, target: "neon", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "unstructured", tile: 1 x 32, target: "neon-a55", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(spatial, format: "unstructured", tile: 1 x 32, target: "neon-a76", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(spatial, format: "2x1", tile: 2 x 32, target: "neon-a55", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(spatial, format: "2x1", tile: 2 x 32, target: "neon-a76", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(spatial, format: "4x1", tile: 4 x 20, target: "neon-a55", element: Int8, quality: Intrinsics,
            loops: DotQuads),
    kernel!(spatial, format: "4x1", tile: 4 x 20, target: "neon-a76", element: Int8, quality: Intrinsics,
            loops: DotQuads),
];
