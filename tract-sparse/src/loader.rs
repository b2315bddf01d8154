//! The one changed line.

use tract_onnx::Onnx;

/// tract's ONNX loader, which makes pruned layers sparse as it reads them. Drop-in for `tract_onnx::onnx()`.
pub fn onnx() -> Onnx {
    tract_onnx::onnx().with_tract_sparse()
}

/// Adds sparse layers to a loader that already exists, with operators of its own perhaps.
pub trait WithTractSparse: Sized {
    /// Makes this loader read pruned layers as sparse ones.
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
