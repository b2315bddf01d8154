//! Errors as Python's exceptions.

use anyhow::Error;
use pyo3::PyErr;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use std::fmt::Display;

/// An error of what was given: `OSError` (of the kind that Python has for it) where a file is to blame, else
/// `ValueError`.
pub(crate) fn raised(error: Error) -> PyErr {
    let text = format!("{error:#}");
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    match io.map(std::io::Error::raw_os_error) {
        Some(Some(number)) => PyOSError::new_err((number, text)),
        Some(None) => PyOSError::new_err(text),
        None => PyValueError::new_err(text),
    }
}

/// An error of a model that does not run.
pub(crate) fn failed(error: Error) -> PyErr {
    PyRuntimeError::new_err(format!("{error:#}"))
}

/// A value that makes no sense.
pub(crate) fn wrong(text: impl Display) -> PyErr {
    PyValueError::new_err(text.to_string())
}

/// A value of the wrong type.
pub(crate) fn wrong_type(text: impl Display) -> PyErr {
    PyTypeError::new_err(text.to_string())
}
