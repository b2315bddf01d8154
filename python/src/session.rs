//! `Session`: a model that is ready to run.

use crate::array::array;
use crate::errors::{failed, raised, wrong, wrong_type};
use crate::settings::{ByName, Settings, Shapes, Threads};
use crate::source::{Flavour, Given, Source};
use crate::value::Value;
use crate::work::{Watch, detached, watched};
use anyhow::{Context, Result};
use figures::{Agreement, HALF_TOLERANCE, Ratio, TOLERANCE, Timing, in_turn};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use pythonize::pythonize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tract_core::internal::*;
use tract_libcli::profile::BenchLimits;
use tract_sparse::{Report, keeping_names, output_names};

/// Seed of inputs that are made up.
const SEED: u64 = 1;

/// A model that is ready to run, with the methods of onnxruntime's `InferenceSession`. Several threads may
/// use it at once.
///
/// model: path of an ONNX file or an NNEF archive, or the bytes of an ONNX file.
/// threads: threads that one run may use; 0 means one for every core.
/// sparse: when layers run sparse: "auto" where a gain is predicted, "measure" where one is measured while
/// loading, "always"     wherever a weight is zero, "dense" as "auto" in models without zeros too, "never";
/// without it TRACT_SPARSE decides, else "auto". target: instructions of the kernels: "auto", "scalar",
/// "avx2", "avx-vnni", "avx512", "avx512-wide", "neon"; without it     TRACT_SPARSE_TARGET decides, else the best
/// of this machine. inputs: shapes in the place of those of the file: {"x": (1, 3, 224, 224)}; text is a symbol.
///
/// Raises OSError for a file that cannot be read, ValueError for one that is no model or a value that makes
/// no sense.
#[pyclass(frozen, module = "tract_sparse")]
pub(crate) struct Session {
    source: Source,
    shapes: Shapes,
    settings: Settings,
    threads: Threads,
    plan: Arc<TypedRunnableModel>,
    /// Made when it is compared with first.
    stock: Mutex<Option<Arc<TypedRunnableModel>>>,
    report: Report,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

/// What one output of two models is like.
#[derive(serde::Serialize)]
struct Compared {
    name: String,
    shape: Vec<usize>,
    #[serde(flatten)]
    agreement: Agreement,
}

/// What `compare` has found.
#[derive(serde::Serialize)]
struct Comparison {
    agrees: bool,
    tolerance: f64,
    outputs: Vec<Compared>,
}

/// What `bench` has measured.
#[derive(serde::Serialize)]
struct Measured {
    target: String,
    threads: usize,
    layers: usize,
    layers_sparse: usize,
    runs: usize,
    sparse_ms: f64,
    sparse: Timing,
    #[serde(flatten)]
    against: Option<Against>,
}

#[derive(serde::Serialize)]
struct Against {
    stock_ms: f64,
    stock: Timing,
    ratio: f64,
    ratio_q1: f64,
    ratio_q3: f64,
    max_abs_diff: f64,
    agrees: bool,
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (model, *, threads = 1, sparse = None, target = None, precision = None, inputs = None))]
    fn new(
        py: Python<'_>,
        model: Given,
        threads: i64,
        sparse: Option<&str>,
        target: Option<&str>,
        precision: Option<&str>,
        inputs: Option<ByName<'_>>,
    ) -> PyResult<Session> {
        let settings = Settings::new(sparse, target, precision).map_err(raised)?;
        let threads =
            usize::try_from(threads).map_err(|_| wrong(format!("threads={threads}: at least 1")))?;
        let threads = Threads::new(threads).map_err(raised)?;
        let shapes = Shapes::new(inputs.as_ref())?;
        watched(py, None, move |_| {
            let source = Source::new(model)?;
            let (plan, report) = settings.enter(|| -> Result<_> {
                let model =
                    keeping_names(source.load(Flavour::Sparse, &shapes)?, |model| model.into_optimized())?;
                let plan = model.into_runnable()?;
                let report = Report::of(plan.model())?;
                Ok((plan, report))
            })?;
            let model = plan.model();
            let named = |name: &str, outlet: &OutletId| Ok(Value::new(name, model.outlet_fact(*outlet)?));
            let inputs = model.input_outlets()?.iter().map(|o| named(&model.node(o.node).name, o));
            let inputs = inputs.collect::<Result<_>>()?;
            let names = output_names(model)?;
            let outputs = model.output_outlets()?.iter().zip(&names).map(|(o, name)| named(name, o));
            let outputs = outputs.collect::<Result<_>>()?;
            let stock = Mutex::new(None);
            Ok(Session { source, shapes, settings, threads, plan, stock, report, inputs, outputs })
        })
    }

    /// The inputs in the order of the model.
    fn get_inputs(&self) -> Vec<Value> {
        self.inputs.clone()
    }

    /// The outputs in the order of the model.
    fn get_outputs(&self) -> Vec<Value> {
        self.outputs.clone()
    }

    /// Runs the model on arrays; other threads of Python go on meanwhile.
    ///
    /// output_names: which outputs, in which order; None means all.
    /// input_feed: an array for every input by name, of its type and shape.
    /// run_options: None; there for code that is written for onnxruntime.
    ///
    /// Returns a list of arrays, which own their memory.
    ///
    /// Raises TypeError for an array of another type, ValueError for another shape and for names that are
    /// missing or unknown; the message names the input. RuntimeError if the model cannot run.
    #[pyo3(signature = (output_names, input_feed, run_options = None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        output_names: Option<Vec<String>>,
        input_feed: ByName<'py>,
        run_options: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        if run_options.is_some_and(|options| !options.is_none()) {
            return Err(wrong("run_options: there are none here"));
        }
        let wanted = output_names.map(|names| self.positions(&names)).transpose()?;
        let inputs = self.tensors(&input_feed.0)?;
        let outputs = detached(py, || self.threads.enter(|| self.plan.run(inputs)))?.map_err(failed)?;
        let list = PyList::empty(py);
        match wanted {
            None => {
                outputs.into_iter().try_for_each(|output| list.append(array(py, output.into_tensor())?))?
            }
            Some(wanted) => wanted
                .iter()
                .try_for_each(|at| list.append(array(py, outputs[*at].clone().into_tensor())?))?,
        }
        Ok(list)
    }

    /// What runs each layer, and why the others stay on stock tract: a dictionary for each, which
    /// `pandas.DataFrame` takes. Times (`stock_ms`, `sparse_ms`) are predicted, in milliseconds.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, &self.report.layers)?)
    }

    /// The report as a table for people.
    fn report_table(&self) -> String {
        self.report.to_string()
    }

    /// Instruction set of the kernels.
    #[getter]
    fn target(&self) -> &str {
        &self.report.target
    }

    /// Times runs, in turn with stock tract.
    ///
    /// against: "stock", or None to time this model alone.
    /// inputs: arrays by name; seeded random ones without.
    /// seconds: how long to measure.
    /// progress: called with a text and the share that is done.
    ///
    /// Returns a dictionary: `sparse_ms` and `stock_ms` (median milliseconds of a run), `ratio` (median of
    /// the ratios of runs of neighbouring turns) with its quartiles, `runs`, `max_abs_diff` and `agrees`
    /// (of the outputs), and more.
    #[pyo3(signature = (against = Some("stock"), *, inputs = None, seconds = 1.0, progress = None))]
    fn bench<'py>(
        &self,
        py: Python<'py>,
        against: Option<&str>,
        inputs: Option<ByName<'py>>,
        seconds: f64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if against.is_some_and(|against| against != "stock") {
            return Err(wrong(format!(
                "against={:?}: expected \"stock\" or None",
                against.unwrap_or_default()
            )));
        }
        if !(seconds > 0.0 && seconds <= 1e6) {
            return Err(wrong(format!("seconds={seconds}: not a time")));
        }
        let inputs = self.given_or_made_up(inputs)?;
        let limits = BenchLimits {
            warmup_loops: 2,
            warmup_time: Duration::ZERO,
            max_loops: usize::MAX,
            max_time: Duration::from_secs_f64(seconds),
        };
        let measured =
            watched(py, progress, |watch| self.measure(watch, against.is_some(), &inputs, &limits))?;
        Ok(pythonize(py, &measured)?)
    }

    /// Runs the model here and on stock tract, and says how far the outputs are from each other.
    ///
    /// inputs: arrays by name; seeded random ones without.
    /// tolerance: floats agree if they differ by at most that many times their size and that of the values
    /// around them; without it 1e-4, or 0.3 where layers are in 16 bits or in int8.
    ///
    /// Returns a dictionary: `agrees`, `tolerance`, and `outputs`, a dictionary with `name`, `shape`,
    /// `max_abs_diff` and more for each.
    #[pyo3(signature = (inputs = None, *, tolerance = None))]
    fn compare<'py>(
        &self,
        py: Python<'py>,
        inputs: Option<ByName<'py>>,
        tolerance: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let tolerance = tolerance.unwrap_or_else(|| self.tolerance());
        if !(tolerance >= 0.0 && tolerance.is_finite()) {
            return Err(wrong(format!("tolerance={tolerance}: not a distance")));
        }
        let inputs = self.given_or_made_up(inputs)?;
        let comparison = watched(py, None, |_| {
            let (expected, got) = self.threads.enter(|| self.both(&inputs))?;
            let outputs =
                self.outputs.iter().zip(expected.iter().zip(&got)).map(|(output, (expected, got))| {
                    let agreement = Agreement::of(expected, got, tolerance);
                    let agreement = agreement.with_context(|| format!("output {:?}", output.name()))?;
                    Ok(Compared { name: output.name().into(), shape: got.shape().to_vec(), agreement })
                });
            let outputs = outputs.collect::<Result<Vec<_>>>()?;
            Ok(Comparison {
                agrees: outputs.iter().all(|output| output.agreement.agrees),
                tolerance,
                outputs,
            })
        })?;
        Ok(pythonize(py, &comparison)?)
    }

    fn __repr__(&self) -> String {
        let names = |values: &[Value]| values.iter().map(Value::name).collect::<Vec<_>>().join(", ");
        format!(
            "<tract_sparse.Session {} -> {}: {} of {} layers sparse on {}>",
            names(&self.inputs),
            names(&self.outputs),
            self.report.sparse_layers(),
            self.report.layers.len(),
            self.report.target
        )
    }
}

impl Session {
    /// What outputs may differ from those of stock tract by.
    fn tolerance(&self) -> f64 {
        if self.report.has_fewer_bits() { HALF_TOLERANCE } else { TOLERANCE }
    }

    /// Positions of outputs by name.
    fn positions(&self, names: &[String]) -> PyResult<Vec<usize>> {
        let position = |name: &String| {
            let known = || self.outputs.iter().map(Value::name).collect::<Vec<_>>().join(", ");
            let at = self.outputs.iter().position(|output| output.name() == name);
            at.ok_or_else(|| wrong(format!("no output is called {name:?}; the model has {}", known())))
        };
        names.iter().map(position).collect()
    }

    /// Copies of the arrays given for all inputs.
    fn tensors(&self, given: &Bound<'_, PyDict>) -> PyResult<TVec<TValue>> {
        let known = || self.inputs.iter().map(Value::name).collect::<Vec<_>>().join(", ");
        let mut sizes = HashMap::new();
        let mut tensors = tvec![];
        for input in &self.inputs {
            let name = input.name();
            let value = given.get_item(name)?;
            let value = value.ok_or_else(|| wrong(format!("no array for input {name:?}")))?;
            tensors.push(input.tensor(&value, &mut sizes)?.into_tvalue());
        }
        if given.len() > self.inputs.len() {
            for name in given.keys() {
                let Ok(name) = name.cast::<PyString>() else {
                    return Err(wrong_type(format!("inputs are named by text, not by {name}")));
                };
                let name = name.to_cow()?;
                if !self.inputs.iter().any(|input| input.name() == &*name) {
                    return Err(wrong(format!("no input is called {name:?}; the model has {}", known())));
                }
            }
        }
        Ok(tensors)
    }

    /// Copies of the arrays given, or made-up inputs.
    fn given_or_made_up(&self, given: Option<ByName<'_>>) -> PyResult<TVec<TValue>> {
        if let Some(given) = given {
            return self.tensors(&given.0);
        }
        let facts = self.inputs.iter().map(|input| {
            input.concrete().ok_or_else(|| {
                wrong(format!("input {:?} has a symbol for a size: give arrays with inputs=", input.name()))
            })
        });
        let facts = facts.collect::<PyResult<Vec<_>>>()?;
        let mut made_up = ::prune::proof::inputs(&facts, SEED).map_err(raised)?;
        Ok(made_up.swap_remove(0).into_iter().map(Tensor::into_tvalue).collect())
    }

    /// The same model on stock tract.
    fn stock(&self) -> Result<Arc<TypedRunnableModel>> {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = &*stock {
            return Ok(plan.clone());
        }
        let load = || self.source.load(Flavour::Stock, &self.shapes)?.into_optimized()?.into_runnable();
        let plan = self.settings.enter(load).context("stock tract")?;
        *stock = Some(plan.clone());
        Ok(plan)
    }

    /// Outputs on stock tract, and here.
    fn both(&self, inputs: &TVec<TValue>) -> Result<(TVec<TValue>, TVec<TValue>)> {
        let expected = self.stock()?.run(inputs.clone()).context("stock tract")?;
        Ok((expected, self.plan.run(inputs.clone())?))
    }

    fn measure(
        &self,
        watch: &Watch,
        against: bool,
        inputs: &TVec<TValue>,
        limits: &BenchLimits,
    ) -> Result<Measured> {
        let stock = against.then(|| self.stock()).transpose()?;
        let plans: Vec<&Arc<TypedRunnableModel>> = [&self.plan].into_iter().chain(&stock).collect();
        let said = |done: f64| watch.say("timing", Some(done.min(1.0)));
        let times = self.threads.enter(|| in_turn(&plans, inputs, limits, &said))?;
        let sparse = Timing::of(&times[0]);
        let against = match times.get(1) {
            None => None,
            Some(stock) => {
                let (expected, got) = self.threads.enter(|| self.both(inputs))?;
                let agreement = Agreement::of_all(&expected, &got, self.tolerance())?;
                let (ratio, stock) = (Ratio::of_pairs(stock, &times[0]), Timing::of(stock));
                Some(Against {
                    stock_ms: stock.median_ms,
                    stock,
                    ratio: ratio.median,
                    ratio_q1: ratio.q1,
                    ratio_q3: ratio.q3,
                    max_abs_diff: agreement.max_abs_diff,
                    agrees: agreement.agrees,
                })
            }
        };
        Ok(Measured {
            target: self.report.target.clone(),
            threads: self.threads.count(),
            layers: self.report.layers.len(),
            layers_sparse: self.report.sparse_layers(),
            runs: times[0].len(),
            sparse_ms: sparse.median_ms,
            sparse,
            against,
        })
    }
}
