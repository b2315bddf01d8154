//! Sparse convolution kernels for CPUs: how zeros are left out, and the loops that profit.
//!
//! Three nouns carry the crate:
//!
//! * a **format** ([`mod@format`]) stores only the nonzero groups of a weight tensor;
//! * a **kernel** ([`table`]) is one hand-written loop for one operation, one format and one target;
//! * a **target** ([`target::Target`]) is a proof that this CPU can run a kernel.
//!
//! Plain slices in, plain slices out: the crate knows no inference engine. Everything is decided when weights
//! are packed; a call to `run` only computes.
//!
//! ```
//! use sparse_kernels::prelude::*;
//!
//! // A 4 x 8 matrix with one nonzero 4x4 block, applied to 8 planes of 5 pixels.
//! let mut dense = vec![0f32; 4 * 8];
//! for row in 0..4 {
//!     dense[row * 8 + 4] = 1.0 + row as f32;
//! }
//! let weights = Blocks::<4, 4>::from_dense(4, 8, &dense)?;
//! let kernel = table::pointwise(Target::detect(), FormatKind::BLOCKS_4X4);
//! let packed = PackedPointwise::pack(&weights, None, None, kernel)?;
//!
//! let geometry = ConvGeometry::pointwise(1, 8, 4, 5)?;
//! let x = vec![1f32; 8 * 5];
//! let mut y = vec![0f32; 4 * 5];
//! packed.run(&geometry, &x, &mut y, None, &Epilogue::default(), &Serial)?;
//! assert_eq!(y[15..], [4.0; 5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Kernels number rows, taps and vectors: indices say more there than iterators.
#![allow(clippy::needless_range_loop)]

mod aligned;
pub mod chain;
mod cores;
pub mod depthwise;
pub mod doctor;
mod drive;
pub mod epilogue;
pub mod error;
mod exp;
pub mod format;
pub mod geometry;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod pairs;
pub mod parallel;
pub mod planar;
pub mod pointwise;
pub mod quads;
pub mod recurrent;
pub mod reference;
mod scratch;
pub mod spatial;
pub mod table;
pub mod target;
pub mod team;
mod vector;
mod work;

/// How many indices behind those of its own columns a kernel may read, because it reads them before it needs
/// them.
const LOOK_AHEAD: usize = 4;

/// What most callers need.
pub mod prelude {
    pub use crate::depthwise::PackedDepthwise;
    pub use crate::epilogue::{Activation, Epilogue};
    pub use crate::error::{FormatError, KernelError, TargetError};
    pub use crate::format::{Blocks, DepthwisePatterns, FormatKind, Rows};
    pub use crate::geometry::{ConvGeometry, ConvShape, Layout};
    pub use crate::parallel::{Parallel, Serial};
    pub use crate::pointwise::PackedPointwise;
    pub use crate::quads::Quantised;
    pub use crate::spatial::PackedSpatial;
    pub use crate::table::{self, Element};
    pub use crate::target::{Core, Half, Int8, Isa, Target};
}
