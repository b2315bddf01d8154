//! Which layers of a tract model are worth running sparse, why or why not, and the swap.
//!
//! [`analyse`] reads a layer and its weights off a node; [`choose`] compares predicted times under a
//! [`Policy`]; [`rules`] puts the operators of `sparse-ops` in place of the stock ones. Three entry points
//! lead here: [`hook`] while an ONNX model is being read, [`transform`] for a model that is already typed,
//! [`runtime`] for users who pick a runtime by name. The [`Report`] says what was decided for every layer,
//! [`advise`] what would help, [`estimate`] where sparsity begins to pay.

pub mod advice;
pub mod analyse;
pub mod choose;
pub mod costs;
pub mod estimate;
pub mod fit;
pub mod halve;
pub mod hook;
mod integer;
pub mod map;
pub mod measure;
mod names;
pub mod nested;
pub mod policy;
mod record;
pub mod report;
mod restore;
pub mod rules;
pub mod runtime;
pub mod table;
pub mod transform;
pub mod zeros;

/// The version of tract that this workspace extends.
pub const TRACT_VERSION: &str = "0.23.9";

pub use advice::{Advice, advise};
pub use analyse::{Layer, LayerKind};
pub use choose::Decision;
pub use halve::{Halved, Values, halve};
pub use hook::{hook_onnx, set_precision};
pub use map::{Map, maps};
pub use names::{keeping_names, output_names};
pub use nested::{Place, places};
pub use policy::{Mode, Policy, Precision};
pub use report::{LayerReport, Report};
pub use restore::{for_files, pad_in_numbers};
pub use transform::{sparsify, unsparsify};
pub use zeros::zeros;
