//! What goes into a model, and what comes out of it.

use crate::array::{numpy_name, tensor};
use crate::errors::wrong;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::HashMap;
use std::fmt;
use tract_core::internal::*;

/// An input or an output of a model.
#[pyclass(frozen, skip_from_py_object, module = "tract_sparse", name = "NodeArg")]
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Its name in the file.
    #[pyo3(get)]
    name: String,
    dt: DatumType,
    dims: TVec<Dim>,
}

/// A dimension. Symbols are text, which stays when the model goes.
#[derive(Debug, Clone, IntoPyObjectRef)]
enum Dim {
    Known(usize),
    Symbolic(String),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Dim::Known(size) => size.fmt(f),
            Dim::Symbolic(text) => text.fmt(f),
        }
    }
}

impl Value {
    pub(crate) fn new(name: &str, fact: &TypedFact) -> Value {
        let dim = |dim: &TDim| dim.to_usize().map_or_else(|_| Dim::Symbolic(dim.to_string()), Dim::Known);
        Value { name: name.into(), dt: fact.datum_type, dims: fact.shape.iter().map(dim).collect() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Type and shape, if all of it is known.
    pub(crate) fn concrete(&self) -> Option<(DatumType, Vec<usize>)> {
        let known = |dim: &Dim| if let Dim::Known(size) = dim { Some(*size) } else { None };
        Some((self.dt, self.dims.iter().map(known).collect::<Option<_>>()?))
    }

    /// The dimensions in words.
    fn dims(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(Dim::to_string).collect();
        format!("({})", dims.join(", "))
    }

    /// A copy of an array that is given for this input. `sizes` are those that symbols have got from other
    /// inputs.
    ///
    /// # Errors
    /// `TypeError` for another type, `ValueError` for another shape; both name the input.
    pub(crate) fn tensor(
        &self,
        value: &Bound<'_, PyAny>,
        sizes: &mut HashMap<String, usize>,
    ) -> PyResult<Tensor> {
        let py = value.py();
        let name = &self.name;
        let tensor = tensor(value, self.dt).map_err(|error| {
            let text = format!("input {name:?}: {}", error.value(py));
            PyErr::from_type(error.get_type(py), text)
        })?;
        let fits = tensor.rank() == self.dims.len()
            && self.dims.iter().zip(tensor.shape()).all(|(wanted, got)| match wanted {
                Dim::Known(wanted) => wanted == got,
                Dim::Symbolic(text) => *got > 0 && *sizes.entry(text.clone()).or_insert(*got) == *got,
            });
        if !fits {
            let (got, wanted) = (tensor.shape(), self.dims());
            let said: Vec<String> = sizes.iter().map(|(symbol, size)| format!("{symbol}={size}")).collect();
            let said = if said.is_empty() { String::new() } else { format!(" with {}", said.join(", ")) };
            return Err(wrong(format!("input {name:?}: an array of shape {got:?}, expected {wanted}{said}")));
        }
        Ok(tensor)
    }
}

#[pymethods]
impl Value {
    /// Dimensions: numbers, or text where a symbol stands for any size.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, &self.dims)
    }

    /// Type, in the words of onnxruntime: `tensor(float)`, `tensor(int64)`.
    #[getter]
    fn r#type(&self) -> String {
        let name = match (self.dt, numpy_name(self.dt)) {
            (DatumType::F32, _) => "float".into(),
            (DatumType::F64, _) => "double".into(),
            (DatumType::TDim, _) => "int64".into(),
            (_, Some(name)) => name.into(),
            (dt, None) => format!("{dt:?}").to_lowercase(),
        };
        format!("tensor({name})")
    }

    fn __repr__(&self) -> String {
        format!("NodeArg(name={:?}, type={:?}, shape={})", self.name, self.r#type(), self.dims())
    }
}
