//! The one changed line.

use onnx_file::Document;
use rewriter::Precision;
use std::collections::HashMap;
use std::path::Path;
use tract_core::internal::*;
use tract_hir::infer::Factoid;
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
/// that contradict themselves, outputs that nothing computes.
pub fn model_for_path(path: impl AsRef<Path>) -> TractResult<InferenceModel> {
    let mut model = Document::open(path.as_ref())?.model;
    onnx_file::densify(&mut model)?;
    onnx_file::outputs_are_there(&model)?;
    onnx().model_for_proto_model(&model)
}

/// Gives inputs, by name, shapes in the place of those of the file; `dims` makes them, where symbols stand for
/// sizes. A symbol of the file that gets a size gets it everywhere.
///
/// # Errors
/// No input has that name; another number of dimensions; what `dims` refuses. The message names the input.
pub fn set_input_shapes<D>(
    model: &mut InferenceModel,
    shapes: impl IntoIterator<Item = (String, D)>,
) -> TractResult<()>
where
    D: FnOnce(&SymbolScope) -> TractResult<Vec<TDim>>,
{
    let mut values = HashMap::new();
    let outlets = model.input_outlets()?.to_vec();
    let names: Vec<String> = outlets.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    for (name, dims) in shapes {
        let position = names.iter().position(|input| *input == name).with_context(|| {
            format!("inputs: no input is called {name:?}; the model has {}", names.join(", "))
        })?;
        let own = model.input_fact(position)?.clone();
        let dims = dims(&model.symbols).with_context(|| format!("inputs: {name:?}"))?;
        if let Some(rank) = own.shape.rank().concretize() {
            let got = dims.len();
            ensure!(got as i64 == rank, "inputs: {name:?}: {got} dimensions, the input has {rank}");
        }
        for (own, given) in own.shape.dims().zip(&dims) {
            if let Some(TDim::Sym(symbol)) = own.concretize()
                && !given.symbols().contains(&symbol)
            {
                values.entry(symbol).or_insert(given.clone());
            }
        }
        let dt = own.datum_type.concretize().unwrap_or(DatumType::F32);
        model.set_input_fact(position, dt.fact(&dims).into())?;
    }
    if !values.is_empty() {
        InferenceModelExt::set_symbols(model, &values)?;
    }
    Ok(())
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

    /// Makes layers of ours compute in this precision, whatever the knob `TRACT_SPARSE_PRECISION` says: of models
    /// that are loaded afterwards. tract's reader of NNEF, which makes no layers of ours, stays as it is.
    ///
    /// ```no_run
    /// use tract_sparse::Precision;
    /// use tract_sparse::prelude::*;
    ///
    /// # fn main() -> TractResult<()> {
    /// let model = tract_sparse::onnx().with_precision(Precision::Half).model_for_path("pruned.onnx")?;
    /// # Ok(())
    /// # }
    /// ```
    fn with_precision(self, precision: Precision) -> Self;

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

    fn with_precision(mut self, precision: Precision) -> Self {
        rewriter::set_precision(&mut self, precision);
        self
    }
}

impl WithTractSparse for Nnef {
    fn enable_tract_sparse(&mut self) {
        sparse_ops::nnef::enable(self);
    }

    fn with_precision(self, _precision: Precision) -> Self {
        self
    }
}
