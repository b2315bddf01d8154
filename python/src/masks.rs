//! `masks`: which weights `prune` would keep, for networks that are no ONNX files yet.

use crate::array::tensor;
use crate::errors::wrong;
use crate::prune::recipe;
use crate::work::watched;
use ::prune::mask::{Masker, Shape, l1};
use ::prune::{L1, Method, Plan, Scope, Structure, Zeros};
use anyhow::{Context, Result, ensure};
use numpy::{PyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::collections::HashMap;
use tract_core::internal::*;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Which weights stay if zeros of one kind are made in them.
///
/// weights: float32 array (out, in) or (out, in / groups, *kernel).
/// zeros: structure and ratio: "2x1:0.8", "unstructured:0.9", "2:4", "3:9" for depthwise 3x3 kernels, "5:9"
/// or "5:9:0.5" for 3x3 ones. groups: groups of channels of a convolution.
///
/// Returns a bool array of the shape of the weights: true where a weight stays.
#[pyfunction]
#[pyo3(signature = (weights, zeros, *, groups = 1))]
pub(crate) fn mask<'py>(
    py: Python<'py>,
    weights: &Bound<'py, PyAny>,
    zeros: &str,
    groups: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let zeros: Zeros = zeros.parse().map_err(|error: sparsity::Error| wrong(error))?;
    let weights = tensor(weights, DatumType::F32)?;
    let keep = watched(py, None, |_| keep(&weights, zeros, groups))?;
    Ok(shaped(py, keep, weights.shape())?.into_any())
}

fn keep(weights: &Tensor, zeros: Zeros, groups: usize) -> Result<Vec<bool>> {
    ensure!(zeros.is_complete(), "zeros={zeros}: no ratio, as in {zeros}:0.5");
    let shape = seen(weights.shape(), zeros.structure(), groups)?;
    let values = weights.try_as_plain_ram()?.as_slice::<f32>()?;
    l1(zeros.structure(), shape, values, zeros.ratio().unwrap_or(0.0))
}

/// The shape of weights (out, in, *kernel) as a structure divides it.
fn seen(shape: &[usize], structure: Structure, groups: usize) -> Result<Shape> {
    let [oc, ic, kernel @ ..] = shape else {
        anyhow::bail!("weights of shape {shape:?}: expected (out, in) or (out, in, *kernel)")
    };
    let len = shape.iter().try_fold(1usize, |len, n| len.checked_mul(*n));
    ensure!(len.is_some(), "weights of shape {shape:?}: more than memory has addresses");
    // patterns of depthwise kernels are shared by channels, each of which is a group of its own
    let shared = matches!(structure, Structure::ThreeOfNine(_));
    ensure!(groups > 0, "groups=0: a convolution has one at least");
    let parts = if shared { 1 } else { groups };
    ensure!(oc.is_multiple_of(parts), "groups={groups}: {oc} output channels");
    Ok(Shape { parts, ..Shape::new(*oc, *ic, kernel.iter().product()) })
}

/// Which weights go together if zeros of a structure are made.
///
/// shape: (out, in) or (out, in / groups, *kernel). structure: such as "2x1", "4x4" or "5:9". groups: groups
/// of channels of a convolution.
///
/// Returns an int64 array of that shape: the number of the group that each weight belongs to, from 0.
///
/// Raises ValueError for a structure that removes no groups, such as "2:4" or "3:9".
#[pyfunction]
#[pyo3(signature = (shape, structure, *, groups = 1))]
pub(crate) fn groups<'py>(
    py: Python<'py>,
    shape: Vec<usize>,
    structure: &str,
    groups: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let zeros: Zeros = structure.parse().map_err(|error: sparsity::Error| wrong(error))?;
    let numbers = watched(py, None, |_| numbered(&shape, zeros.structure(), groups))?;
    Ok(PyArray::from_vec(py, numbers).reshape(shape)?.into_any())
}

fn numbered(shape: &[usize], structure: Structure, groups: usize) -> Result<Vec<i64>> {
    ensure!(structure.removes_groups(), "structure={structure}: it removes no groups");
    let shape = seen(shape, structure, groups)?;
    let masker = Masker::new(structure, shape, &vec![0.0; shape.len()])?;
    let mut numbers = vec![0; shape.len()];
    for group in 0..masker.scores().len() {
        for kernel in masker.kernels(group) {
            numbers[kernel * masker.taps()..][..masker.taps()].fill(group as i64);
        }
    }
    Ok(numbers)
}

fn shaped<'py>(py: Python<'py>, keep: Vec<bool>, shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyArray::from_vec(py, keep).reshape(shape)?.into_any())
}

/// One layer of a network that is no ONNX file.
struct Given {
    name: String,
    weights: Tensor,
    groups: usize,
}

/// What becomes of a layer.
enum Masked {
    Keep(Vec<bool>, String),
    Skipped(String),
}

/// Which weights of a whole network `prune` would keep.
///
/// layers: tuples of a name, weights (float32, (out, in) of a linear layer or (out, in / groups, *kernel) of
/// a convolution) and the     number of groups of channels.
/// share: of the way to all ratios, 0..1: half of the groups go with ratio 0.8 and share 0.625.
/// entries: what to prune, as `prune` has it.
///
/// Returns for every layer a dictionary with `name`, and either `mask` (bool, true where a weight stays) and
/// `structure`, or `skipped`: why it is left alone.
#[pyfunction]
#[pyo3(signature = (layers, *, share = 1.0, **entries))]
pub(crate) fn masks<'py>(
    py: Python<'py>,
    layers: Vec<(String, Bound<'py, PyAny>, usize)>,
    share: f64,
    entries: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyList>> {
    if !(0.0..=1.0).contains(&share) {
        return Err(wrong(format!("share={share}: not between 0 and 1")));
    }
    let recipe = recipe(py, None, entries)?;
    let given = layers.into_iter().map(|(name, weights, groups)| {
        let weights = tensor(&weights, DatumType::F32).map_err(|error| {
            PyErr::from_type(error.get_type(py), format!("layer {name:?}: {}", error.value(py)))
        })?;
        Ok(Given { name, weights, groups })
    });
    let given = given.collect::<PyResult<Vec<_>>>()?;
    let masked = watched(py, None, |_| {
        let model = network(&given)?;
        let mut plan = Plan::new(&model, &recipe)?;
        for planned in plan.layers.iter_mut().flatten() {
            planned.wish.ratio *= share;
        }
        let maskers = match recipe.scope {
            Scope::Global => plan.spread(&model, &L1, share * recipe.ratio.unwrap_or(0.0))?,
            Scope::Uniform => HashMap::new(),
        };
        masked(&plan, &given, maskers)
    })?;
    let list = PyList::empty(py);
    for (given, masked) in given.iter().zip(masked) {
        let entry = PyDict::new(py);
        entry.set_item("name", &given.name)?;
        match masked {
            Masked::Keep(keep, structure) => {
                entry.set_item("mask", shaped(py, keep, given.weights.shape())?)?;
                entry.set_item("structure", structure)?;
            }
            Masked::Skipped(reason) => entry.set_item("skipped", reason)?,
        }
        list.append(entry)?;
    }
    Ok(list)
}

/// What `prune` would do to each layer, in their order; `maskers` of some layers are there already.
fn masked(plan: &Plan, given: &[Given], mut maskers: HashMap<usize, Masker>) -> Result<Vec<Masked>> {
    let layers = plan.layers.iter().zip(given).enumerate().map(|(at, (planned, given))| {
        let planned = match planned {
            Ok(planned) => planned,
            Err(skip) => return Ok(Masked::Skipped(skip.reason.clone())),
        };
        let (layer, wish) = (&planned.layer, planned.wish);
        let masker = match maskers.remove(&at) {
            Some(masker) => masker,
            None => {
                let weights = given.weights.try_as_plain_ram()?.as_slice::<f32>()?;
                L1.masker(layer, wish.structure, weights)
                    .with_context(|| format!("layer {:?}", layer.name))?
            }
        };
        let removed = masker.lowest(wish.ratio);
        Ok(Masked::Keep(masker.remove(&removed), wish.structure.to_string()))
    });
    layers.collect()
}

/// The layers as nodes of an ONNX graph, so that what looks at one looks at them.
fn network(layers: &[Given]) -> Result<ModelProto> {
    let mut graph = GraphProto::default();
    for (at, Given { name, weights, groups }) in layers.iter().enumerate() {
        let rank = weights.rank();
        ensure!(rank >= 2, "layer {name:?}: weights of shape {:?}", weights.shape());
        let tensor = format!("{at}.weight");
        graph.node.push(NodeProto {
            name: name.clone(),
            op_type: if rank == 2 { "Gemm" } else { "Conv" }.into(),
            input: vec![format!("{at}.input"), tensor.clone()],
            output: vec![format!("{at}.output")],
            attribute: vec![int(
                if rank == 2 { "transB" } else { "group" },
                if rank == 2 { 1 } else { *groups },
            )?],
            ..NodeProto::default()
        });
        graph.initializer.push(TensorProto {
            name: tensor,
            dims: weights.shape().iter().map(|dim| *dim as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: weights.as_bytes().to_vec(),
            ..TensorProto::default()
        });
    }
    Ok(ModelProto { graph: Some(graph), ..ModelProto::default() })
}

fn int(name: &str, value: usize) -> Result<AttributeProto> {
    let i = i64::try_from(value)?;
    Ok(AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    })
}
