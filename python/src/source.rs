//! Models, from a file or from memory.

use crate::settings::Shapes;
use ::prune::Document;
use anyhow::{Context, Result, ensure};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::path::PathBuf;
use std::sync::Arc;
use tract_hir::prelude::*;
use tract_onnx::pb::ModelProto;
use tract_sparse::{Policy, keeping_names};
use tract_sparse_cli::is_nnef;

/// Where a model comes from: an ONNX file or its bytes, or an NNEF archive.
#[derive(Clone)]
pub(crate) enum Source {
    Onnx(Arc<ModelProto>),
    Nnef(PathBuf),
}

/// Which operators run its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Stock,
    Sparse,
}

/// What a function is given for a model.
pub(crate) enum Given {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

impl<'py> FromPyObject<'_, 'py> for Given {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Given> {
        match given.cast::<PyBytes>() {
            Ok(bytes) => Ok(Given::Bytes(bytes.as_bytes().to_vec())),
            Err(_) => Ok(Given::Path(given.extract()?)),
        }
    }
}

impl Given {
    /// The model as a document that can be edited; it has to be ONNX.
    ///
    /// # Errors
    /// A file that cannot be read, or is no ONNX model.
    pub(crate) fn document(self) -> Result<Document> {
        let mut document = match self {
            Given::Path(path) => {
                ensure!(!is_nnef(&path), "{}: an NNEF archive; an ONNX file is needed", path.display());
                Document::open(&path)?
            }
            Given::Bytes(bytes) => Document::read(bytes, None)?,
        };
        ::prune::densify(&mut document.model)?;
        ::prune::onnx::outputs_are_there(&document.model)?;
        Ok(document)
    }
}

impl Source {
    /// Reads what is given.
    ///
    /// # Errors
    /// A file that cannot be read, or is no model.
    pub(crate) fn new(given: Given) -> Result<Source> {
        match given {
            Given::Path(path) if is_nnef(&path) => Ok(Source::Nnef(path)),
            given => Ok(Source::Onnx(Arc::new(given.document()?.model))),
        }
    }

    /// The model, simplified, for inputs of these shapes.
    ///
    /// # Errors
    /// A model that tract cannot load, shapes that do not suit it.
    pub(crate) fn load(&self, flavour: Flavour, shapes: &Shapes) -> Result<TypedModel> {
        match self {
            Source::Onnx(proto) => {
                let onnx = match flavour {
                    Flavour::Stock => tract_onnx::onnx(),
                    Flavour::Sparse => tract_sparse::onnx(),
                };
                let mut model = onnx.model_for_proto_model(proto)?;
                shapes.apply(&mut model)?;
                keeping_names(model, |model| model.into_typed()?.into_decluttered())
            }
            Source::Nnef(path) => {
                ensure!(shapes.is_empty(), "inputs: an NNEF model keeps the shapes it was written with");
                let nnef = tract_sparse::nnef().into_inner();
                let model = nnef.model_for_path(path);
                let model = model
                    .with_context(|| format!("{}: not an NNEF archive, or cut short", path.display()))?;
                let mut model = model.into_decluttered()?;
                if flavour == Flavour::Sparse {
                    tract_sparse::sparsify(&mut model, &Policy::from_knobs()?)?;
                }
                Ok(model)
            }
        }
    }
}
