//! Long work: without the interpreter's lock, with what Python is told of it, and an end where Python wants
//! one.

use crate::errors::raised;
use anyhow::Result;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Tells Python how far the work is, and asks it whether to go on.
pub(crate) struct Watch(Option<Py<PyAny>>);

/// What unwinds through work that Python has ended: an exception of the callback, or that of a signal such as
/// Ctrl-C.
struct Ended(PyErr);

impl Watch {
    /// Says what is being done, and which share of it is behind us if that is known.
    pub(crate) fn say(&self, text: &str, done: Option<f64>) {
        let told = Python::attach(|py| {
            py.check_signals()?;
            self.0.as_ref().map_or(Ok(()), |callback| callback.call1(py, (text, done)).map(drop))
        });
        if let Err(error) = told {
            // the crates' callbacks have no way to say no; what they were making is dropped on the way up
            resume_unwind(Box::new(Ended(error)));
        }
    }
}

/// Does `work` without the interpreter's lock. `progress` is a callable that takes a text and a share or
/// `None`.
///
/// # Errors
/// Those of `work`; an exception of `progress` or of a signal handler while it worked; a panic, as
/// `RuntimeError`.
pub(crate) fn watched<R: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&Watch) -> Result<R> + Send,
) -> PyResult<R> {
    let watch = Watch(progress);
    let result = detached(py, || work(&watch));
    result.and_then(|done| done.map_err(raised))
}

/// Does `work` without the interpreter's lock.
///
/// # Errors
/// As [`watched`], but for those of `work`, which are returned.
pub(crate) fn detached<R: Send>(py: Python<'_>, work: impl FnOnce() -> R + Send) -> PyResult<R> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work))).map_err(unwound)
}

/// What has unwound, as an exception.
fn unwound(panic: Box<dyn Any + Send>) -> PyErr {
    match panic.downcast::<Ended>() {
        Ok(ended) => ended.0,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown panic");
            PyRuntimeError::new_err(format!("internal error: {text}"))
        }
    }
}
