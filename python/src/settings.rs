//! What a model is loaded by: when layers run sparse, for which instructions, on how many threads, at which
//! shapes.

use crate::errors::{wrong, wrong_type};
use anyhow::{Context, Result, anyhow, ensure};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tract_core::internal::*;
use tract_core::knobs::KnobScope;
use tract_hir::prelude::*;
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_sparse::{Policy, set_input_shapes};

/// Threads that nobody can mean.
const MOST_THREADS: usize = 1024;

/// When layers run sparse, for which instructions, and in which precision.
#[derive(Clone)]
pub(crate) struct Settings(KnobScope);

impl Settings {
    /// `sparse`, `target` and `precision` as the knobs `TRACT_SPARSE`, `TRACT_SPARSE_TARGET` and
    /// `TRACT_SPARSE_PRECISION` have them; those decide where there is `None`.
    ///
    /// # Errors
    /// A value that there is not; the message names the argument.
    pub(crate) fn new(
        sparse: Option<&str>,
        target: Option<&str>,
        precision: Option<&str>,
    ) -> Result<Settings> {
        let given = [
            ("sparse", "TRACT_SPARSE", sparse),
            ("target", "TRACT_SPARSE_TARGET", target),
            ("precision", "TRACT_SPARSE_PRECISION", precision),
        ];
        let knobs = given.iter().filter_map(|(_, knob, value)| Some((*knob, (*value)?)));
        let scope = KnobScope::new(knobs)?;
        scope.enter(Policy::from_knobs).map_err(|error| {
            let text = error.to_string();
            let blamed = given.iter().find(|(_, knob, value)| {
                value.is_some() && text.strip_prefix(knob).is_some_and(|rest| rest.starts_with('='))
            });
            match blamed {
                Some((argument, _, Some(value))) => {
                    // "TRACT_SPARSE=value: what is expected" says it of the knob
                    let reason = text.split_once(": ").map_or(&*text, |(_, reason)| reason);
                    anyhow!("{argument}={value:?}: {reason}")
                }
                _ => error,
            }
        })?;
        Ok(Settings(scope))
    }

    /// Does `work` by them.
    pub(crate) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.enter(work)
    }
}

/// The threads that run a model.
#[derive(Clone)]
pub(crate) struct Threads {
    count: usize,
    executor: Executor,
}

impl Threads {
    /// This number; 0 means one for every core.
    ///
    /// # Errors
    /// More than make sense.
    pub(crate) fn new(threads: usize) -> Result<Threads> {
        ensure!(threads <= MOST_THREADS, "threads={threads}: at most {MOST_THREADS}");
        let count = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let executor = if count > 1 { Executor::multithread(count) } else { Executor::SingleThread };
        Ok(Threads { count, executor })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Does `work` on them.
    pub(crate) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        // tract's scope does not end where something unwinds through it
        let work = || catch_unwind(AssertUnwindSafe(work));
        multithread_tract_scope(self.executor.clone(), work).unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// What is given by name: a dict, or any other mapping as one.
pub(crate) struct ByName<'py>(pub Bound<'py, PyDict>);

impl<'py> FromPyObject<'_, 'py> for ByName<'py> {
    type Error = PyErr;

    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<ByName<'py>> {
        if let Ok(dict) = given.cast::<PyDict>() {
            return Ok(ByName(dict.to_owned()));
        }
        let Ok(mapping) = given.cast::<PyMapping>() else {
            return Err(wrong_type(format!("a dict is needed, not {}", given.get_type().name()?)));
        };
        let dict = PyDict::new(given.py());
        dict.update(&mapping)?;
        Ok(ByName(dict))
    }
}

/// Shapes of inputs that are given in the place of those of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes(Vec<(String, Vec<Size>)>);

#[derive(Debug, Clone)]
enum Size {
    Known(usize),
    Symbol(String),
}

impl Shapes {
    /// Of a mapping from names to sequences of numbers and symbols.
    ///
    /// # Errors
    /// `TypeError` or `ValueError`, naming the input.
    pub(crate) fn new(inputs: Option<&ByName<'_>>) -> PyResult<Shapes> {
        let mut shapes = vec![];
        for (name, dims) in inputs.map(|inputs| &inputs.0).into_iter().flatten() {
            let name: String = name.extract()?;
            let blame = |what: String| wrong(format!("inputs: {name:?}: {what}"));
            if dims.is_instance_of::<PyString>() {
                return Err(blame("expected a shape such as (1, 3, 224, 224)".into()));
            }
            let mut sizes = vec![];
            for dim in
                dims.try_iter().map_err(|_| blame("expected a shape such as (1, 3, 224, 224)".into()))?
            {
                let dim = dim?;
                sizes.push(match (dim.extract::<usize>(), dim.extract::<String>()) {
                    (Ok(size), _) => Size::Known(size),
                    (_, Ok(symbol)) => Size::Symbol(symbol),
                    _ => return Err(blame(format!("{dim} is neither a size nor a symbol"))),
                });
            }
            shapes.push((name, sizes));
        }
        Ok(Shapes(shapes))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the inputs of `model` these shapes. A symbol of the file that gets a size gets it everywhere.
    ///
    /// # Errors
    /// No input has that name; another number of dimensions; text that is no size. The message names the
    /// input.
    pub(crate) fn apply(&self, model: &mut InferenceModel) -> Result<()> {
        let dims = |sizes: &[Size], symbols: &SymbolScope| {
            let dim = |size: &Size| match size {
                Size::Known(size) => Ok(size.to_dim()),
                Size::Symbol(text) => {
                    parse_tdim(symbols, text).with_context(|| format!("{text:?} is not a size"))
                }
            };
            sizes.iter().map(dim).collect()
        };
        let shapes = self.0.iter();
        let shapes = shapes.map(|(name, sizes)| (name.clone(), |symbols: &SymbolScope| dims(sizes, symbols)));
        set_input_shapes(model, shapes)
    }
}
