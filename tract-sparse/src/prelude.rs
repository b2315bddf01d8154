//! What `tract_onnx::prelude` offers, with our [`onnx`] in place of the stock one.

pub use crate::loader::{WithTractSparse, onnx};
pub use tract_hir::prelude::*;
pub use tract_onnx::WithOnnx;
