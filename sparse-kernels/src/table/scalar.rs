//! Plain Rust, everywhere.

use super::{Element, kernel};
use crate::depthwise::DepthwiseKernel;
use crate::depthwise::scalar::Scalar as DepthwiseLoops;
use crate::pointwise::PointwiseKernel;
use crate::pointwise::Tuning;
use crate::pointwise::scalar::Scalar as PointwiseLoops;
use crate::spatial::SpatialKernel;
use crate::spatial::scalar::Scalar as SpatialLoops;

type DepthwisePairs = DepthwiseLoops<{ Element::Bf16 as u8 }>;
type SpatialPairs = SpatialLoops<{ Element::Bf16 as u8 }>;
type PointwisePairs = PointwiseLoops<{ Element::Bf16 as u8 }>;
type DepthwiseHalves = DepthwiseLoops<{ Element::F16 as u8 }>;
type PointwiseHalves = PointwiseLoops<{ Element::F16 as u8 }>;

type DepthwiseQuads = DepthwiseLoops<{ Element::Int8 as u8 }>;
type SpatialHalves = SpatialLoops<{ Element::F16 as u8 }>;
type PointwiseQuads = PointwiseLoops<{ Element::Int8 as u8 }>;
type SpatialQuads = SpatialLoops<{ Element::Int8 as u8 }>;

/// Rows of sums do not fit rows of lanes that hold several channels.
const SEVERAL: Tuning = Tuning { sums_apart: true, ..Tuning::GENERAL };

#[rustfmt::skip]
pub(super) static POINTWISE: &[PointwiseKernel] = &[
    kernel!(pointwise, format: "unstructured", tile: 1 x 16, target: "scalar", element: F32, quality: Portable,
            loops: PointwiseLoops, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "2x1", tile: 2 x 16, target: "scalar", element: F32, quality: Portable,
            loops: PointwiseLoops, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "4x1", tile: 4 x 16, target: "scalar", element: F32, quality: Portable,
            loops: PointwiseLoops, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "8x1", tile: 8 x 16, target: "scalar", element: F32, quality: Portable,
            loops: PointwiseLoops, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "4x4", tile: 4 x 16, target: "scalar", element: F32, quality: Portable,
            loops: PointwiseLoops, tuning: Tuning::GENERAL),
    kernel!(pointwise, format: "1x2", tile: 1 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: PointwisePairs, tuning: SEVERAL),
    kernel!(pointwise, format: "2x2", tile: 2 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: PointwisePairs, tuning: SEVERAL),
    kernel!(pointwise, format: "4x2", tile: 4 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: PointwisePairs, tuning: SEVERAL),
    kernel!(pointwise, format: "4x4", tile: 4 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: PointwisePairs, tuning: SEVERAL),
    kernel!(pointwise, format: "unstructured", tile: 1 x 16, target: "scalar", element: F16, quality: Portable,
            loops: PointwiseHalves, tuning: SEVERAL),
    kernel!(pointwise, format: "2x1", tile: 2 x 16, target: "scalar", element: F16, quality: Portable,
            loops: PointwiseHalves, tuning: SEVERAL),
    kernel!(pointwise, format: "4x1", tile: 4 x 16, target: "scalar", element: F16, quality: Portable,
            loops: PointwiseHalves, tuning: SEVERAL),
    kernel!(pointwise, format: "4x4", tile: 4 x 16, target: "scalar", element: F16, quality: Portable,
            loops: PointwiseHalves, tuning: SEVERAL),
    kernel!(pointwise, format: "1x4", tile: 1 x 16, target: "scalar", element: Int8, quality: Portable,
            loops: PointwiseQuads, tuning: SEVERAL),
    kernel!(pointwise, format: "2x4", tile: 2 x 16, target: "scalar", element: Int8, quality: Portable,
            loops: PointwiseQuads, tuning: SEVERAL),
    kernel!(pointwise, format: "4x4", tile: 4 x 16, target: "scalar", element: Int8, quality: Portable,
            loops: PointwiseQuads, tuning: SEVERAL),
];

#[rustfmt::skip]
pub(super) static DEPTHWISE: &[DepthwiseKernel] = &[
    kernel!(depthwise, format: "any", tile: 1 x 1, target: "scalar", element: F32, quality: Portable,
            loops: DepthwiseLoops),
    kernel!(depthwise, format: "any", tile: 1 x 1, target: "scalar", element: Bf16, quality: Portable,
            loops: DepthwisePairs),
    kernel!(depthwise, format: "any", tile: 1 x 1, target: "scalar", element: F16, quality: Portable,
            loops: DepthwiseHalves),
    kernel!(depthwise, format: "any", tile: 1 x 1, target: "scalar", element: Int8, quality: Portable,
            loops: DepthwiseQuads),
];

#[rustfmt::skip]
pub(super) static SPATIAL: &[SpatialKernel] = &[
    kernel!(spatial, format: "unstructured", tile: 1 x 16, target: "scalar", element: F32, quality: Portable,
            loops: SpatialLoops),
    kernel!(spatial, format: "2x1", tile: 2 x 16, target: "scalar", element: F32, quality: Portable,
            loops: SpatialLoops),
    kernel!(spatial, format: "4x1", tile: 4 x 16, target: "scalar", element: F32, quality: Portable,
            loops: SpatialLoops),
    kernel!(spatial, format: "unstructured", tile: 1 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: SpatialPairs),
    kernel!(spatial, format: "2x1", tile: 2 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: SpatialPairs),
    kernel!(spatial, format: "4x1", tile: 4 x 16, target: "scalar", element: Bf16, quality: Portable,
            loops: SpatialPairs),
    kernel!(spatial, format: "unstructured", tile: 1 x 16, target: "scalar", element: F16, quality: Portable,
            loops: SpatialHalves),
    kernel!(spatial, format: "2x1", tile: 2 x 16, target: "scalar", element: F16, quality: Portable,
            loops: SpatialHalves),
    kernel!(spatial, format: "4x1", tile: 4 x 16, target: "scalar", element: F16, quality: Portable,
            loops: SpatialHalves),
    kernel!(spatial, format: "unstructured", tile: 1 x 16, target: "scalar", element: Int8, quality: Portable,
            loops: SpatialQuads),
    kernel!(spatial, format: "2x1", tile: 2 x 16, target: "scalar", element: Int8, quality: Portable,
            loops: SpatialQuads),
    kernel!(spatial, format: "4x1", tile: 4 x 16, target: "scalar", element: Int8, quality: Portable,
            loops: SpatialQuads),
];
