//! `prune`: makes the weights of a model sparse.

use crate::array::tensor;
use crate::errors::{raised, wrong};
use crate::settings::{ByName, Shapes};
use crate::source::{Flavour, Given, Source};
use crate::work::{Watch, watched};
use ::prune::calibrate::{Calibration, Wanda, sequential};
use ::prune::{
    Array, Checkpoint, L1, Plan, RECIPE_KEY, Rearranged, Recipe, Report, Scope, Search, Steps, Tract, proof,
    rearrange,
};
use anyhow::{Context, Result};
use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pythonize::{depythonize, pythonize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tract_core::internal::*;
use tract_onnx::pb::ModelProto;

/// How weights are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    Magnitude,
    Wanda,
    Obc,
}

/// How to go about it.
struct Way {
    judge: Judge,
    search: Option<Search>,
    sparse_initializer: bool,
}

/// A recipe of keywords, in the place of entries of a recipe as text. Keywords that are `None` say nothing.
///
/// # Errors
/// `ValueError` for an entry that there is not, or a value that makes no sense.
pub(crate) fn recipe(
    py: Python<'_>,
    text: Option<&str>,
    entries: Option<&Bound<'_, PyDict>>,
) -> PyResult<Recipe> {
    let base = text.map_or_else(|| Ok(Recipe::default()), str::parse).map_err(raised)?;
    let merged = pythonize(py, &base)?.cast_into::<PyDict>()?;
    for (name, value) in entries.into_iter().flatten() {
        if !value.is_none() {
            merged.set_item(name, value)?;
        }
    }
    let recipe: Recipe = depythonize(merged.as_any()).map_err(|error| wrong(format!("recipe: {error}")))?;
    recipe.check().map_err(raised)?;
    Ok(recipe)
}

/// Sets weights of an ONNX model to zero, in structures that run faster.
///
/// model: path of an ONNX file, or its bytes.
/// output: file to write, whole or not at all; without it the result has the model.
/// calibrate: real inputs, float32: an array whose first dimension is a multiple of that of the model's
/// input, or several. method: "l1" (by magnitude), "wanda" (times the norm of inputs) or "obc" (exact cost,
/// weights that stay are refitted); "obc"     if there is something to calibrate on, else "l1".
/// rearrange: permute channels first, so that more of the norm is kept, for at most `search_seconds`
/// (seconds). seed: of the rearrangement.
/// inputs: shapes of inputs by name, for calibration and rearrangement, where those of the model have symbols.
/// sparse_initializer: write weights without their zeros where that is smaller.
/// recipe: text of a recipe (TOML), whose entries the keywords replace.
/// progress: called with a text and the share that is done, or None where nobody knows it.
/// entries: what to prune, as recipes have it: ratio (0..1), scope ("uniform" or "global"), conv1x1, fc,
/// dwconv3x3, conv3x3,     connectivity, conv, convtranspose, recurrent (zeros such as "4x4:0.5", "2x1",
/// "unstructured:0.8", "2:4", "3:9", "5:9",     "none"), include, exclude (lists of globs over names of
/// layers), layer (a list of dictionaries with name, ratio, structure).
///
/// Returns a dictionary with `layers` (a dictionary for each), `density` (share of nonzero weights of the
/// layers pruned), `rearranged` (None, or a dictionary with `layers`, `classes`, `channels`, `proof`, and
/// `moves`: dictionaries with `tensor`, `axis`, and `order`, where what stands at each position was before),
/// and without `output` `model`, the bytes of the file.
///
/// Raises OSError for a file that cannot be read or written, ValueError for what makes no sense.
#[pyfunction]
#[pyo3(signature = (
    model, output = None, *, calibrate = None, method = None, rearrange = false, search_seconds = 30.0, seed = 1,
    sparse_initializer = false, inputs = None, recipe = None, progress = None, **entries
))]
#[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
pub(crate) fn prune<'py>(
    py: Python<'py>,
    model: Given,
    output: Option<PathBuf>,
    calibrate: Option<&Bound<'py, PyAny>>,
    method: Option<&str>,
    rearrange: bool,
    search_seconds: f64,
    seed: u64,
    sparse_initializer: bool,
    inputs: Option<ByName<'py>>,
    recipe: Option<&str>,
    progress: Option<Py<PyAny>>,
    entries: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let recipe = self::recipe(py, recipe, entries)?;
    let arrays = calibrate.map(samples).transpose()?;
    let shapes = Shapes::new(inputs.as_ref())?;
    let judge = match (method, &arrays) {
        (Some("l1"), _) | (None, None) => Judge::Magnitude,
        (None | Some("obc"), Some(_)) => Judge::Obc,
        (Some("wanda"), Some(_)) => Judge::Wanda,
        (Some("wanda" | "obc"), None) => return Err(wrong("method: wanda and obc need calibrate")),
        (Some(other), _) => return Err(wrong(format!("method={other:?}: expected l1, wanda or obc"))),
    };
    if !(0.0..=1e6).contains(&search_seconds) {
        return Err(wrong(format!("search_seconds={search_seconds}: not a time")));
    }
    let search = rearrange.then(|| Search { seed, budget: Duration::from_secs_f64(search_seconds) });
    let way = Way { judge, search, sparse_initializer };
    let arrays = arrays.unwrap_or_default();
    let (report, rearranged, bytes) = watched(py, progress, move |watch| {
        let mut document = model.document()?;
        let (report, rearranged) = prune_model(&mut document.model, &recipe, &way, &arrays, &shapes, watch)?;
        document.set_metadata(RECIPE_KEY, &recipe.to_string());
        let bytes = match &output {
            Some(path) => document.save(path).map(|_| None)?,
            None => Some(document.encode()?),
        };
        Ok((report, rearranged, bytes))
    })?;
    let result = pythonize(py, &report)?.cast_into::<PyDict>()?;
    let moves = rearranged.as_ref().map(|rearranged| pythonize(py, &rearranged.moves)).transpose()?;
    let rearranged = pythonize(py, &rearranged)?;
    if let (Ok(rearranged), Some(moves)) = (rearranged.cast::<PyDict>(), moves) {
        rearranged.set_item("moves", moves)?;
    }
    result.set_item("rearranged", rearranged)?;
    if let Some(bytes) = bytes {
        result.set_item("model", PyBytes::new(py, &bytes))?;
    }
    Ok(result.into_any())
}

fn prune_model(
    model: &mut ModelProto,
    recipe: &Recipe,
    way: &Way,
    arrays: &[Tensor],
    shapes: &Shapes,
    watch: &Watch,
) -> Result<(Report, Option<Rearranged>)> {
    let mut plan = Plan::new(model, recipe)?;
    let facts = || inputs_of(model, shapes);
    let runs = if arrays.is_empty() { vec![] } else { runs(arrays, &facts()?)? };
    // ratios first, so that the rearrangement knows what is to go
    if recipe.scope == Scope::Global {
        plan.spread(model, &L1, recipe.ratio.unwrap_or(0.0))?;
    }
    let mut rearranged = None;
    if let Some(search) = way.search {
        let inputs = proof::inputs_with(&facts()?, search.seed, &runs)?;
        let mut say = |p: ::prune::Progress| watch.say(&format!("rearranging, kept {:.4}", p.kept), None);
        rearranged = Some(rearrange(model, &plan, &Tract, &inputs, search, &mut say)?);
    }
    watch.say("pruning", None);
    let mut report = match way.judge {
        Judge::Magnitude => plan.apply(model, &L1)?,
        Judge::Wanda => {
            let calibration = Calibration::collect(model, &plan, &Tract, &runs)?;
            plan.apply(model, &Wanda(&calibration))?
        }
        Judge::Obc => {
            let mut say =
                |layer: usize, all: usize| watch.say("pruning", Some(layer as f64 / all.max(1) as f64));
            let mut steps = Steps { say: &mut say, kept: &mut Checkpoint::default() };
            sequential(model, &plan, &Tract, &runs, &mut steps)?
        }
    };
    if let Some(rearranged) = &rearranged {
        report.note_rearranged(rearranged);
    }
    if way.sparse_initializer {
        plan.store_sparse(model)?;
    }
    Ok((report, rearranged))
}

/// Type and shape of every input, with what `shapes` says of them.
fn inputs_of(model: &ModelProto, shapes: &Shapes) -> Result<Vec<(DatumType, Vec<usize>)>> {
    let model = Source::Onnx(Arc::new(model.clone())).load(Flavour::Stock, shapes)?;
    let facts = model.input_outlets()?.iter().map(|outlet| {
        let (fact, name) = (model.outlet_fact(*outlet)?, &model.node(outlet.node).name);
        let shape = fact.shape.as_concrete();
        let shape = shape.with_context(|| {
            format!(
                "input {name:?}: shape {:?} has symbols; inputs={{{name:?}: [...]}} gives them values",
                fact.shape
            )
        })?;
        Ok((fact.datum_type, shape.to_vec()))
    });
    facts.collect()
}

/// The arrays for calibration: one, or several.
fn samples(given: &Bound<'_, PyAny>) -> PyResult<Vec<Tensor>> {
    let read = |at: usize, array: &Bound<'_, PyAny>| {
        tensor(array, DatumType::F32).map_err(|error| {
            let py = array.py();
            PyErr::from_type(error.get_type(py), format!("calibrate, array {at}: {}", error.value(py)))
        })
    };
    if given.cast::<PyUntypedArray>().is_ok() {
        return Ok(vec![read(0, given)?]);
    }
    let arrays: Vec<Tensor> =
        given.try_iter()?.enumerate().map(|(at, array)| read(at, &array?)).collect::<PyResult<_>>()?;
    if arrays.is_empty() { Err(wrong("calibrate: no arrays")) } else { Ok(arrays) }
}

/// Inputs of runs. An array whose first dimension is larger than the input's holds several.
fn runs(arrays: &[Tensor], facts: &[(DatumType, Vec<usize>)]) -> Result<Vec<Vec<Array>>> {
    let [(DatumType::F32, shape)] = facts else {
        anyhow::bail!("calibrate: for models of one float32 input; this has {facts:?}")
    };
    let mut runs = vec![];
    for (at, array) in arrays.iter().enumerate() {
        runs.extend(Array::runs(&format!("calibrate, array {at}"), array, shape)?);
    }
    Ok(runs)
}
