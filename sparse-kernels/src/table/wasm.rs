//! WebAssembly with simd128.

use super::{Element, kernel};
use crate::depthwise::DepthwiseKernel;
use crate::pointwise::PointwiseKernel;
use crate::pointwise::{Planes, Tuning};
use crate::spatial::SpatialKernel;
use crate::vector::F32x4;

type Quads = F32x4<{ Element::Int8 as u8 }>;

/// Channels that are visited seldom are read where they are, whatever lies between their planes: a copy is a visit, too.
const FLOATS: Tuning =
    Tuning { planes: Some(Planes { weights: 60, visits: 12, way: 1 << 10 }), ..Tuning::GENERAL };

/// Rows of sums do not fit rows of quads.
const QUADS: Tuning = Tuning { sums_apart: true, ..Tuning::GENERAL };

#[rustfmt::skip]
pub(super) static POINTWISE: &[PointwiseKernel] = &[
    kernel!(pointwise, format: "unstructured", tile: 1 x 32, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: FLOATS),
    kernel!(pointwise, format: "2x1", tile: 2 x 16, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: FLOATS),
    kernel!(pointwise, format: "4x1", tile: 4 x 8, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: FLOATS),
    kernel!(pointwise, format: "8x1", tile: 8 x 4, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: FLOATS),
    kernel!(pointwise, format: "4x4", tile: 4 x 8, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4, tuning: Tuning { singles: 1, ..FLOATS }),
    kernel!(pointwise, format: "1x4", tile: 1 x 24, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: QUADS),
    kernel!(pointwise, format: "2x4", tile: 2 x 12, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: QUADS),
    kernel!(pointwise, format: "4x4", tile: 4 x 8, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: QUADS),
];

#[rustfmt::skip]
pub(super) static DEPTHWISE: &[DepthwiseKernel] = &[
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "7x7", tile: 1 x 32, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(depthwise, format: "3x3", tile: 1 x 16, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(depthwise, format: "any", tile: 1 x 16, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads),
];

#[rustfmt::skip]
pub(super) static SPATIAL: &[SpatialKernel] = &[
    kernel!(spatial, format: "unstructured", tile: 1 x 32, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(spatial, format: "2x1", tile: 2 x 16, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(spatial, format: "4x1", tile: 4 x 8, target: "wasm", element: F32, quality: Intrinsics,
            loops: F32x4),
    kernel!(spatial, format: "unstructured", tile: 1 x 24, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "2x1", tile: 2 x 12, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "4x1", tile: 4 x 8, target: "wasm", element: Int8, quality: Intrinsics,
            loops: Quads),
];
