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
//! [`onnx`] returns tract's own `Onnx`; every type after it is tract's. Layers whose weights have enough
//! zeros run on sparse kernels, all others are the stock operators. A model without such a layer is the stock
//! model, bit for bit.
//!
//! Other entry points to the same machinery:
//!
//! * the transforms `sparsify`, `planar` (layers without zeros too) and `unsparsify`, for any typed model: by
//!   name, as tract's own, or as [`sparsify`](fn@sparsify) and [`unsparsify`](fn@unsparsify);
//! * the runtimes `cpu-sparse` and `cpu-planar` (layers without zeros too): `runtime_for_name("cpu-sparse")`;
//! * [`nnef`](fn@nnef), for NNEF files in both directions;
//! * `facade` (feature `facade`), for users of the `tract` crate.
//!
//! For transforms, runtimes and the facade the binary must link this crate: any use of it will do, or `extern
//! crate tract_sparse;`.
//!
//! What was decided for each layer, and why, says a [`Report`], of a model at any stage:
//!
//! ```no_run
//! use tract_sparse::prelude::*;
//!
//! # fn main() -> TractResult<()> {
//! let plan = tract_sparse::onnx().model_for_path("pruned.onnx")?.into_optimized()?.into_runnable()?;
//! let report = tract_sparse::Report::of(plan.model())?;
//! println!("{report}"); // the table of `tract-sparse inspect`
//! for layer in report.layers.iter().filter(|layer| layer.chosen.is_none()) {
//!     println!("{} stays on stock tract: {}", layer.name, layer.reason.as_deref().unwrap_or("?"));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Options are tract knobs, read from environment variables, a `KnobScope` or a deployment file:
//!
//! | knob | what it does |
//! |---|---|
//! | `TRACT_SPARSE` | when layers run sparse: `auto` where a gain is predicted, `measure` where one is measured while loading, `always` wherever a weight is zero, `dense` as `auto`, in models without zeros too, `never` |
//! | `TRACT_SPARSE_TARGET` | instructions of the kernels: `auto` the best of this machine, `scalar`, `avx2`, `avx-vnni`, `avx512`, `avx512-wide`, `neon`, `wasm`; for a class of Arm cores `neon-a53`, `neon-a55`, `neon-a76` |
//! | `TRACT_SPARSE_COSTS` | cost table that predicts times: `auto` that which `tract-sparse fit` has made for this machine, if it has, `built-in`, or a file |
//! | `TRACT_SPARSE_PRECISION` | what layers compute in: `f32`, or `half`: 16 bits (bf16 on x86) where this machine has kernels for it and a gain is predicted, f32 elsewhere |
//! | `TRACT_SPARSE_MIN_GAIN` | how many times faster than stock a layer must be predicted to be, or else it stays stock: `1.1` |
//!
//! One documented difference: a weight that is zero and left out does not multiply its activation. Where
//! stock tract computes `0 * inf = NaN`, a sparse layer does not see the infinity.

#[cfg(feature = "facade")]
pub mod facade;
mod loader;
mod nnef;
pub mod prelude;

pub use loader::{WithTractSparse, model_for_path, onnx, set_input_shapes};
pub use nnef::{SparseNnef, nnef, nnef_model_for_path};
pub use onnx_file::densify;
pub use rewriter::{
    LayerKind, LayerReport, Mode, Policy, Precision, Report, TRACT_VERSION, keeping_names, output_names,
    sparsify, unsparsify,
};
pub use sparse_kernels::target::{Isa, Target};
pub use sparse_ops::{
    FromPairs, Half, Lanes, OptSparseConv, Planar, SparseConv, SparseDeconv, SparseMatMul, ToPairs, lanes_of,
};

// What code written for tract_onnx spells through that crate.
pub use tract_onnx::{Onnx, WithOnnx, data_resolver, model, pb, pb_helpers, tensor, tract_core, tract_hir};
