//! `convert`: a model as an NNEF archive.

use crate::work::watched;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use tract_sparse_cli::Weights;

/// Writes a model as an NNEF archive, without the zeros of its weights where that is smaller.
///
/// model: path of an ONNX file or an NNEF archive.
/// output: file to write, whole or not at all: .nnef.tgz, .nnef.tar.gz or .nnef.tar.
/// plain: write what any tract reads, zeros and all.
/// weights: what weights of layers are stored as, "f32", or "bf16" or "f16", to which they are rounded: the file is about
///     half as large, and those of f32 are gone.
///
/// Returns a dictionary with `bytes`, `plain_bytes` (what it would be with all weights written out),
/// `compact`, and the names of the layers whose weights have been `rounded` or, too large for that, `kept`.
#[pyfunction]
#[pyo3(signature = (model, output, *, plain = false, weights = "f32"))]
pub(crate) fn convert<'py>(
    py: Python<'py>,
    model: PathBuf,
    output: PathBuf,
    plain: bool,
    weights: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let weights =
        Weights::named(weights).map_err(|error| PyValueError::new_err(format!("weights: {error:#}")))?;
    let written = watched(py, None, move |_| tract_sparse_cli::convert(&model, &output, plain, weights))?;
    let result = PyDict::new(py);
    result.set_item("bytes", written.bytes())?;
    result.set_item("plain_bytes", written.plain_bytes())?;
    result.set_item("compact", written.is_compact())?;
    result.set_item("rounded", written.rounded().to_vec())?;
    result.set_item("kept", written.kept().to_vec())?;
    Ok(result)
}
