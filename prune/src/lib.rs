//! Makes the weights of ONNX networks sparse, in structures that run faster: kernel-group pruning after
//! SparseByteNN, and the reading and writing of models. Knows ONNX's protobuf and what the kernels want; runs
//! models on stock tract ([`Tract`]), or on what else is a [`Runtime`].
//!
//! ```no_run
//! use prune::{Document, Recipe};
//!
//! let mut document = Document::open("dense.onnx".as_ref())?;
//! let report = prune::prune(&mut document.model, &Recipe { ratio: Some(0.3), ..Recipe::default() })?;
//! for layer in report.pruned() {
//!     println!("{}: {:.3} of the weights stay", layer.name, layer.density.unwrap_or(1.0));
//! }
//! document.save("pruned.onnx".as_ref())?;
//! # anyhow::Ok(())
//! ```
//!
//! [`mask`] has the plain functions over slices, which choose the groups of lowest norm; [`mod@rearrange`]
//! permutes channels first and [`mod@proof`] shows that this changes nothing, [`calibrate`] looks at
//! activations, [`budget`] meets a time, [`sensitivity`] keeps within an error; [`checkpoint`] keeps what they come
//! to, for a call that is interrupted.

mod apply;
pub mod budget;
pub mod calibrate;
mod check;
pub mod checkpoint;
mod index;
pub mod layer;
pub mod mask;
pub mod proof;
pub mod rearrange;
mod recipe;
mod runtime;
pub mod sensitivity;
mod stored;
mod tract;

pub use apply::{L1, LayerReport, Method, Plan, Planned, RECIPE_KEY, Report, prune, zero};
pub use checkpoint::{Checkpoint, Steps};
pub use layer::{Layer, Role, Skip};
pub use onnx_file::{self as onnx, Document, densify, file};
pub use proof::prove;
pub use rearrange::{Kept, Move, Progress, Rearranged, Search, rearrange};
pub use recipe::{Recipe, Rule, Scope, Wish};
pub use runtime::{Array, Runtime, Session};
pub use sparsity::{Setting, Structure, Zeros};
pub use tract::Tract;
