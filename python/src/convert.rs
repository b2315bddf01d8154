//! `convert`: a model as an NNEF archive.

use crate::work::watched;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;

/// Writes a model as an NNEF archive, without the zeros of its weights where that is smaller.
///
/// model: path of an ONNX file or an NNEF archive.
/// output: file to write, whole or not at all: .nnef.tgz, .nnef.tar.gz or .nnef.tar.
/// plain: write what any tract reads, zeros and all.
///
/// Returns a dictionary with `bytes`, `plain_bytes` (what it would be with the zeros written out) and
/// `compact`.
#[pyfunction]
#[pyo3(signature = (model, output, *, plain = false))]
pub(crate) fn convert(
    py: Python<'_>,
    model: PathBuf,
    output: PathBuf,
    plain: bool,
) -> PyResult<Bound<'_, PyDict>> {
    let written = watched(py, None, move |_| tract_sparse_cli::convert(&model, &output, plain))?;
    let result = PyDict::new(py);
    result.set_item("bytes", written.bytes())?;
    result.set_item("plain_bytes", written.plain_bytes())?;
    result.set_item("compact", written.is_compact())?;
    Ok(result)
}
