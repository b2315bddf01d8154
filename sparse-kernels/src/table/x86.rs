//! AVX2 and AVX-512.

use super::{Element, kernel};
use crate::depthwise::DepthwiseKernel;
use crate::pointwise::PointwiseKernel;
use crate::pointwise::Tuning;
use crate::spatial::SpatialKernel;
use crate::vector::{F32x8, F32x16, VEX};

/// Lanes of pairs of channels.
type Pairs = F32x16<{ Element::Bf16 as u8 }>;

/// Lanes of quads of channels.
type Quads = F32x16<{ Element::Int8 as u8 }>;
type Quads8 = F32x8<{ Element::Int8 as u8 }>;
type Quads8Vnni = F32x8<{ Element::Int8 as u8 }, VEX>;

/// Weights come from the third level, later than they are needed unless they are one stream; each chunk's panel
/// stays in the first level.
const STREAM: Tuning = Tuning { panel: (32 << 10) / size_of::<f32>(), chunk_major: true, ..Tuning::GENERAL };
const AVX2: Tuning = Tuning { next_lines: true, ..STREAM };
const AVX2_QUADS: Tuning = Tuning { next_lines: true, sums_apart: true, ..Tuning::GENERAL };
const AVX512: Tuning = Tuning { sums_apart: true, ..STREAM };

#[rustfmt::skip]
pub(super) static POINTWISE: &[PointwiseKernel] = &[
    kernel!(pointwise, format: "unstructured", tile: 1 x 112, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8, tuning: AVX2),
    kernel!(pointwise, format: "2x1", tile: 2 x 48, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8, tuning: AVX2),
    kernel!(pointwise, format: "4x1", tile: 4 x 24, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8, tuning: Tuning { singles: 1, with_extra: Some(3), ..AVX2 }),
    kernel!(pointwise, format: "8x1", tile: 8 x 8, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8, tuning: Tuning { singles: 2, ..AVX2 }),
    kernel!(pointwise, format: "4x4", tile: 4 x 24, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8, tuning: Tuning { singles: 1, with_extra: Some(3), ..AVX2 }),
    kernel!(pointwise, format: "8x1", tile: 8 x 48, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16, tuning: Tuning { singles: 4, ..AVX512 }),
    kernel!(pointwise, format: "unstructured", tile: 1 x 128, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16, tuning: AVX512),
    kernel!(pointwise, format: "2x1", tile: 2 x 96, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16, tuning: Tuning { least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "4x1", tile: 4 x 96, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16, tuning: Tuning { singles: 2, with_extra: Some(5), least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "4x4", tile: 4 x 96, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16, tuning: Tuning { singles: 4, with_extra: Some(5), least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "1x2", tile: 1 x 128, target: "avx512", element: Bf16, quality: Intrinsics,
            loops: Pairs, tuning: AVX512),
    kernel!(pointwise, format: "2x2", tile: 2 x 96, target: "avx512", element: Bf16, quality: Intrinsics,
            loops: Pairs, tuning: Tuning { least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "4x2", tile: 4 x 96, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs, tuning: Tuning { singles: 2, with_extra: Some(5), least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "4x4", tile: 4 x 96, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs, tuning: Tuning { singles: 4, with_extra: Some(5), least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "1x4", tile: 1 x 48, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8, tuning: AVX2_QUADS),
    kernel!(pointwise, format: "2x4", tile: 2 x 24, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8, tuning: AVX2_QUADS),
    kernel!(pointwise, format: "4x4", tile: 4 x 16, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8, tuning: Tuning { singles: 1, ..AVX2_QUADS }),
    kernel!(pointwise, format: "1x4", tile: 1 x 80, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni, tuning: AVX2_QUADS),
    kernel!(pointwise, format: "2x4", tile: 2 x 48, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni, tuning: AVX2_QUADS),
    kernel!(pointwise, format: "4x4", tile: 4 x 24, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni, tuning: AVX2_QUADS),
    kernel!(pointwise, format: "1x4", tile: 1 x 128, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: AVX512),
    kernel!(pointwise, format: "2x4", tile: 2 x 96, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads, tuning: Tuning { least_tile: Some(64), ..AVX512 }),
    kernel!(pointwise, format: "4x4", tile: 4 x 96, target: "avx512", element: Int8, quality: Tuned,
            loops: Quads, tuning: Tuning { singles: 4, with_extra: Some(5), least_tile: Some(64), ..AVX512 }),
];

#[rustfmt::skip]
pub(super) static DEPTHWISE: &[DepthwiseKernel] = &[
    kernel!(depthwise, format: "3x3", tile: 1 x 64, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8),
    kernel!(depthwise, format: "5x5", tile: 1 x 64, target: "avx2", element: F32, quality: Tuned,
            loops: F32x8),
    kernel!(depthwise, format: "7x7", tile: 1 x 64, target: "avx2", element: F32, quality: Intrinsics,
            loops: F32x8),
    kernel!(depthwise, format: "any", tile: 1 x 32, target: "avx2", element: F32, quality: Intrinsics,
            loops: F32x8),
    kernel!(depthwise, format: "3x3", tile: 1 x 128, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16),
    kernel!(depthwise, format: "5x5", tile: 1 x 128, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16),
    kernel!(depthwise, format: "7x7", tile: 1 x 128, target: "avx512", element: F32, quality: Intrinsics,
            loops: F32x16),
    kernel!(depthwise, format: "any", tile: 1 x 64, target: "avx512", element: F32, quality: Intrinsics,
            loops: F32x16),
    kernel!(depthwise, format: "3x3", tile: 1 x 128, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs),
    kernel!(depthwise, format: "5x5", tile: 1 x 128, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs),
    kernel!(depthwise, format: "7x7", tile: 1 x 128, target: "avx512", element: Bf16, quality: Intrinsics,
            loops: Pairs),
    kernel!(depthwise, format: "any", tile: 1 x 64, target: "avx512", element: Bf16, quality: Intrinsics,
            loops: Pairs),
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8),
    kernel!(depthwise, format: "any", tile: 1 x 32, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8),
    kernel!(depthwise, format: "3x3", tile: 1 x 32, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni),
    kernel!(depthwise, format: "5x5", tile: 1 x 32, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni),
    kernel!(depthwise, format: "any", tile: 1 x 32, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni),
    kernel!(depthwise, format: "3x3", tile: 1 x 64, target: "avx512", element: Int8, quality: Tuned,
            loops: Quads),
    kernel!(depthwise, format: "5x5", tile: 1 x 64, target: "avx512", element: Int8, quality: Tuned,
            loops: Quads),
    kernel!(depthwise, format: "7x7", tile: 1 x 64, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(depthwise, format: "any", tile: 1 x 64, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads),
];

#[rustfmt::skip]
pub(super) static SPATIAL: &[SpatialKernel] = &[
    kernel!(spatial, format: "unstructured", tile: 1 x 48, target: "avx2", element: F32, quality: Intrinsics,
            loops: F32x8),
    kernel!(spatial, format: "2x1", tile: 2 x 32, target: "avx2", element: F32, quality: Intrinsics,
            loops: F32x8),
    kernel!(spatial, format: "4x1", tile: 4 x 24, target: "avx2", element: F32, quality: Tuned, loops: F32x8),
    kernel!(spatial, format: "unstructured", tile: 1 x 128, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16),
    kernel!(spatial, format: "2x1", tile: 2 x 128, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16),
    kernel!(spatial, format: "4x1", tile: 4 x 80, target: "avx512", element: F32, quality: Tuned,
            loops: F32x16),
    kernel!(spatial, format: "unstructured", tile: 1 x 128, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs),
    kernel!(spatial, format: "2x1", tile: 2 x 128, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs),
    kernel!(spatial, format: "4x1", tile: 4 x 80, target: "avx512", element: Bf16, quality: Tuned,
            loops: Pairs),
    kernel!(spatial, format: "unstructured", tile: 1 x 48, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8),
    kernel!(spatial, format: "2x1", tile: 2 x 24, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8),
    kernel!(spatial, format: "4x1", tile: 4 x 16, target: "avx2", element: Int8, quality: Intrinsics,
            loops: Quads8),
    kernel!(spatial, format: "unstructured", tile: 1 x 48, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni),
    kernel!(spatial, format: "2x1", tile: 2 x 32, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni),
    kernel!(spatial, format: "4x1", tile: 4 x 24, target: "avx-vnni", element: Int8, quality: Intrinsics,
            loops: Quads8Vnni),
    kernel!(spatial, format: "unstructured", tile: 1 x 128, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "2x1", tile: 2 x 96, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads),
    kernel!(spatial, format: "4x1", tile: 4 x 80, target: "avx512", element: Int8, quality: Intrinsics,
            loops: Quads),
];
