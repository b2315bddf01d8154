//! Pruned neural networks that run faster, by changing one line.
//!
//! ```no_run
//! use tract_sparse::prelude::*;
//!
//! # fn main() -> TractResult<()> {
//! let model = tract_sparse::onnx() // was: tract_onnx::onnx()
//!     .model_for_path("pruned.onnx")?
//!     .with_input_fact(0, f32::fact([1, 3, 224, 224]).into())?
//!     .into_optimized()?
//!     .into_runnable()?;
//! # Ok(())
//! # }
//! ```
//!
//! [`onnx`] returns tract's own `Onnx`; every type after it is tract's. Layers whose weights have enough zeros run on sparse
//! kernels, all others are the stock operators. A model without such a layer is the stock model, bit for bit.
//!
//! Other doors to the same machinery:
//!
//! * the transforms `sparsify`, `planar` (layers without zeros too) and `unsparsify`, for any typed model: `model.transform("sparsify")`, or
//!   [`sparsify`](fn@sparsify);
//! * the runtimes `cpu-sparse` and `cpu-planar` (layers without zeros too): `runtime_for_name("cpu-sparse")`;
//! * [`facade`] (feature `facade`), for users of the `tract` crate.
//!
//! For the last three the binary must link this crate: any use of it will do, or `extern crate tract_sparse;`.
//!
//! What was decided, and why: [`Report::of`]. Options are tract knobs (environment variable, `KnobScope` or
//! deployment file): `TRACT_SPARSE=auto|measure|always|dense|never`, `TRACT_SPARSE_TARGET=auto|scalar|avx2|avx512|neon|wasm` (for a
//! class of Arm cores `neon-a53|neon-a55|neon-a76`), `TRACT_SPARSE_MIN_GAIN=1.1`.
//!
//! One documented difference: a weight that is zero and left out does not multiply its activation. Where stock tract
//! computes `0 * inf = NaN`, a sparse layer does not see the infinity.

#[cfg(feature = "facade")]
pub mod facade;
mod loader;
mod nnef;
pub mod prelude;

pub use loader::{WithTractSparse, model_for_path, onnx};
pub use nnef::{SparseNnef, nnef, nnef_model_for_path};
pub use onnx_file::densify;
pub use rewriter::{LayerKind, LayerReport, Mode, Policy, Report, TRACT_VERSION, sparsify, unsparsify};
pub use sparse_kernels::target::{Isa, Target};
pub use sparse_ops::{OptSparseConv, Planar, SparseConv, SparseDeconv, SparseMatMul};

// What code written for tract_onnx spells through that crate.
pub use tract_onnx::{Onnx, WithOnnx, data_resolver, model, pb, pb_helpers, tensor, tract_core, tract_hir};
