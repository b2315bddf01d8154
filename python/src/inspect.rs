//! `inspect`: what would run sparse, and why the rest would not.

use crate::errors::raised;
use crate::settings::{ByName, Settings, Shapes};
use crate::source::{Flavour, Given, Source};
use crate::work::watched;
use anyhow::{Context, Result};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pythonize::pythonize;
use tract_sparse::{LayerReport, Policy, Report};

/// A report, with what can be computed from it.
#[derive(serde::Serialize)]
struct Inspected<'a> {
    target: &'a str,
    costs: &'a str,
    layers_sparse: usize,
    layers_half: usize,
    precision_note: Option<&'a str>,
    layers: Vec<Layer<'a>>,
    text: String,
}

#[derive(serde::Serialize)]
struct Layer<'a> {
    /// Name of the layer in the file, of which the node may be a part.
    layer: &'a str,
    #[serde(flatten)]
    report: &'a LayerReport,
}

/// Says what runs each layer of a model, and why the others stay on stock tract.
///
/// model: path of an ONNX file or an NNEF archive, or the bytes of an ONNX file.
/// sparse, target, precision, inputs: as `Session` has them.
/// measure: also time every layer for some milliseconds on either operator.
/// progress: called with a text and the share that is done.
///
/// Returns a dictionary with `layers` (one dictionary for every layer, which `pandas.DataFrame` takes; times
/// in milliseconds), `layers_sparse`, `layers_half` (of these in half precision), `precision_note` (why none can
/// have it), `target`, `costs`, and `text`, a table for people.
///
/// Raises OSError for a file that cannot be read, ValueError for one that is no model or a value that makes
/// no sense.
#[pyfunction]
#[pyo3(signature = (model, *, sparse = None, target = None, precision = None, inputs = None, measure = false, progress = None))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn inspect<'py>(
    py: Python<'py>,
    model: Given,
    sparse: Option<&str>,
    target: Option<&str>,
    precision: Option<&str>,
    inputs: Option<ByName<'py>>,
    measure: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let settings = Settings::new(sparse, target, precision).map_err(raised)?;
    let shapes = Shapes::new(inputs.as_ref())?;
    let report = watched(py, progress, |watch| {
        let source = Source::new(model)?;
        settings.enter(|| {
            let model = source.load(Flavour::Sparse, &shapes)?;
            if !measure {
                return Report::of(&model);
            }
            let mut said =
                |done: usize, all: usize| watch.say("timing layers", Some(done as f64 / all.max(1) as f64));
            Report::measured(&model, &Policy::from_knobs()?, &mut said)
        })
    })?;
    let inspected = Inspected {
        target: &report.target,
        costs: &report.costs,
        layers_sparse: report.sparse_layers(),
        layers_half: report.half_layers(),
        precision_note: report.precision_note.as_deref(),
        layers: report.layers.iter().map(|layer| Layer { layer: layer.layer(), report: layer }).collect(),
        text: report.to_string(),
    };
    Ok(pythonize(py, &inspected)?)
}

/// A layer of an ONNX file as `prune` sees it.
#[derive(serde::Serialize)]
struct Prunable {
    name: String,
    op: String,
    /// Name of the tensor that has its weights, if they can be pruned.
    weights: Option<String>,
    /// Why they cannot.
    skipped: Option<String>,
}

/// The layers of an ONNX model that have weights, in the order of its nodes: a list of dictionaries with
/// `name`, `op`, `weights` (the name of their tensor) and `skipped` (why they cannot be pruned).
#[pyfunction]
pub(crate) fn layers(py: Python<'_>, model: Given) -> PyResult<Bound<'_, PyAny>> {
    let found = watched(py, None, |_| -> Result<Vec<Prunable>> {
        let document = model.document()?;
        let graph = document.model.graph.as_ref().context("the model has no graph")?;
        let found = ::prune::layer::layers(&document.model)?.into_iter().map(|layer| match layer {
            Ok(layer) => {
                let weights = layer.place.get(graph).map(|tensor| tensor.name.clone());
                Prunable { name: layer.name, op: layer.op, weights, skipped: None }
            }
            Err(skip) => Prunable { name: skip.name, op: skip.op, weights: None, skipped: Some(skip.reason) },
        });
        Ok(found.collect())
    })?;
    Ok(pythonize(py, &found)?)
}

/// An ONNX model, its bytes, whose layers are called as the tensors of their weights, without the end
/// ".weight": as PyTorch calls the modules that they were.
#[pyfunction]
pub(crate) fn named<'py>(py: Python<'py>, model: Given) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = watched(py, None, |_| {
        let mut document = model.document()?;
        let found = ::prune::layer::layers(&document.model)?;
        let graph = document.model.graph.as_mut().context("the model has no graph")?;
        for layer in found.into_iter().flatten() {
            let tensor = layer.place.get(graph).map(|tensor| tensor.name.clone()).unwrap_or_default();
            if let Some(module) = tensor.strip_suffix(".weight") {
                graph.node[layer.node].name = module.into();
            }
        }
        document.encode()
    })?;
    Ok(PyBytes::new(py, &bytes))
}
