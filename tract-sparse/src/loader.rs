//! The one changed line.

use onnx_file::Document;
use std::path::Path;
use tract_hir::prelude::*;
use tract_nnef::internal::Nnef;
use tract_onnx::Onnx;

/// tract's ONNX loader, which makes pruned layers sparse as it reads them. Drop-in for `tract_onnx::onnx()`.
pub fn onnx() -> Onnx {
    tract_onnx::onnx().with_tract_sparse()
}

/// Reads an ONNX model as [`onnx`] does, and also one with `sparse_initializer` or `Constant.sparse_value`,
/// which tract's own methods refuse: those become dense first, see [`densify`](onnx_file::densify).
///
/// # Errors
/// A file that cannot be read or is no ONNX model, values of other files that are not there, sparse tensors
/// that contradict themselves.
pub fn model_for_path(path: impl AsRef<Path>) -> TractResult<InferenceModel> {
    let mut model = Document::open(path.as_ref())?.model;
    onnx_file::densify(&mut model)?;
    onnx().model_for_proto_model(&model)
}

/// Adds sparse layers to a loader that already exists, with operators of its own perhaps.
pub trait WithTractSparse: Sized {
    /// Makes a loader of ONNX read pruned layers as sparse ones, and one of NNEF compact weights: its layers
    /// are stock ones until the transform `sparsify`, or [`nnef`](crate::nnef()) as the loader, makes
    /// them sparse.
    ///
    /// Builders that an `Onnx` has for `Conv`, `Gemm` and `MatMul` are called as before, and what they build
    /// is looked at. A builder that is inserted afterwards takes the place of ours: its layers stay as it
    /// makes them, until this is called again. Calling it twice is harmless.
    fn enable_tract_sparse(&mut self);

    /// As [`WithTractSparse::enable_tract_sparse`], for call chains.
    fn with_tract_sparse(mut self) -> Self {
        self.enable_tract_sparse();
        self
    }
}

impl WithTractSparse for Onnx {
    fn enable_tract_sparse(&mut self) {
        rewriter::hook_onnx(self);
    }
}

impl WithTractSparse for Nnef {
    fn enable_tract_sparse(&mut self) {
        sparse_ops::nnef::enable(self);
    }
}
