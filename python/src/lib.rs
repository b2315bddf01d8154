//! The native half of the Python package `tract_sparse`: arguments and exceptions over the crates that do the
//! work.
//!
//! `session` runs models; `inspect`, `prune`, `masks`, `convert` and `zoo` are the functions of those names;
//! `source` loads models, `settings` has what loading goes by, `array` exchanges numpy's arrays for tensors,
//! `work` lets Python go on, and stop, meanwhile.

mod array;
mod convert;
mod errors;
mod inspect;
mod masks;
mod prune;
mod session;
mod settings;
mod source;
mod value;
mod work;
mod zoo;

use pyo3::prelude::*;

/// What `tract_sparse/__init__.py` makes public.
#[pymodule]
mod _tract_sparse {
    use super::*;

    #[pymodule_export]
    use crate::convert::convert;
    #[pymodule_export]
    use crate::inspect::{inspect, layers, named};
    #[pymodule_export]
    use crate::masks::{groups, mask, masks};
    #[pymodule_export]
    use crate::prune::prune;
    #[pymodule_export]
    use crate::session::Session;
    #[pymodule_export]
    use crate::value::Value;
    #[pymodule_export]
    use crate::zoo::zoo;

    /// Writes `bytes` to `path`, whole or not at all.
    #[pyfunction]
    fn write(path: std::path::PathBuf, bytes: Vec<u8>) -> PyResult<()> {
        ::prune::file::write(&path, &bytes).map_err(errors::raised)
    }

    /// Runs the command line `line`, the name of the program first, and returns its exit code.
    #[pyfunction]
    fn main(py: Python<'_>, line: Vec<std::ffi::OsString>) -> u8 {
        py.detach(|| tract_sparse_cli::main(line))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
