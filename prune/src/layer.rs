//! Finds the layers of a graph whose weights can be pruned, and says why others cannot.

use crate::check;
use crate::mask::Shape;
use crate::stored::{Stored, derives};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sparsity::Layers;
use std::collections::{HashMap, HashSet};
use std::fmt;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// What a layer computes, as far as pruning is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// 1x1 convolution.
    Pointwise,
    /// `Gemm` or `MatMul` with constant weights.
    FullyConnected,
    /// 3x3 convolution with one kernel per channel.
    Depthwise,
    /// 3x3 convolution over all channels.
    Conv3x3,
    /// Transposed convolution.
    Transposed,
    /// Input or recurrent matrix of a GRU, LSTM or RNN.
    Recurrent,
    /// Any other convolution.
    Other,
}

impl Role {
    /// Which zeros such layers can have.
    pub fn layers(self) -> Layers {
        match self {
            Role::Depthwise => Layers::Depthwise3x3,
            Role::Conv3x3 => Layers::Conv3x3,
            _ => Layers::Others,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Role::Pointwise => "1x1 convolution",
            Role::FullyConnected => "fully connected",
            Role::Depthwise => "depthwise 3x3",
            Role::Conv3x3 => "3x3 convolution",
            Role::Transposed => "transposed convolution",
            Role::Recurrent => "recurrent layer",
            Role::Other => "other convolution",
        })
    }
}

/// Where a constant is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// An initializer of the graph.
    Initializer(usize),
    /// An attribute of a `Constant` node: node and attribute.
    Constant(usize, usize),
}

impl Place {
    /// The tensor.
    pub fn get(self, graph: &GraphProto) -> Option<&TensorProto> {
        match self {
            Place::Initializer(at) => graph.initializer.get(at),
            Place::Constant(node, at) => graph.node.get(node)?.attribute.get(at)?.t.as_ref(),
        }
    }

    /// The tensor, to be edited.
    pub fn get_mut(self, graph: &mut GraphProto) -> Option<&mut TensorProto> {
        match self {
            Place::Initializer(at) => graph.initializer.get_mut(at),
            Place::Constant(node, at) => graph.node.get_mut(node)?.attribute.get_mut(at)?.t.as_mut(),
        }
    }
}

/// A layer with weights that can be pruned.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Name of the node, or of its first output if it has none.
    pub name: String,
    /// Operator.
    pub op: String,
    /// What it computes.
    pub role: Role,
    /// Shape of the weights as pruning sees them.
    pub shape: Shape,
    /// Taps per axis.
    pub kernel: Vec<usize>,
    /// Position of the node in the graph.
    pub node: usize,
    /// Which of the node's inputs the weights are.
    pub slot: usize,
    /// Name of the activation that it reads.
    pub input: String,
    /// Where the weights are.
    pub place: Place,
    /// Whether they are kept as `[ic][oc]`, in each group of channels.
    pub transposed: bool,
    /// Constant operators between that place and the layer: numbers of nodes.
    chain: Vec<usize>,
}

/// A layer that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Name of the node, or of its first output if it has none.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

impl Layer {
    /// What tells the matrices of a model apart: a recurrent node has two.
    pub fn key(&self) -> (usize, usize) {
        (self.node, self.slot)
    }

    /// Whether the stored tensor has the axes of the weights: channels can be found along them.
    pub fn is_plain(&self) -> bool {
        self.chain.is_empty() && !matches!(self.role, Role::Transposed | Role::Recurrent)
    }

    /// The weights as `[oc][ic][taps]`.
    ///
    /// # Errors
    /// They are not there, not f32, or do not fit the shape.
    pub fn weights(&self, graph: &GraphProto) -> Result<Vec<f32>> {
        Ok(self.stored(graph)?.values)
    }

    /// Puts weights `[oc][ic][taps]` back. Those that stay the same keep every bit of what is stored; zeros
    /// become what is computed as zero.
    ///
    /// # Errors
    /// As [`Layer::weights`].
    pub fn set_weights(&self, graph: &mut GraphProto, values: &[f32]) -> Result<()> {
        self.stored(graph)?.write(graph, self.place, values)
    }

    fn stored(&self, graph: &GraphProto) -> Result<Stored> {
        let mut stored = Stored::of(graph, self.place, &self.chain)?;
        let (all, shape) = (stored.values.len(), self.shape);
        ensure!(all == shape.len(), "{all} weights for {shape:?}");
        if self.transposed {
            // of each group of channels [ic][oc][taps]; a matrix has one group
            let Shape { ic, taps, .. } = shape;
            let rows = shape.oc / shape.parts;
            let at = |i: usize| {
                let (tap, col, row) = (i % taps, i / taps % ic, i / taps / ic);
                ((row / rows * ic + col) * rows + row % rows) * taps + tap
            };
            stored.pick(&(0..all).map(at).collect::<Vec<_>>());
        }
        Ok(stored)
    }
}

/// An attribute of a node.
pub(crate) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// An integer attribute of a node.
pub(crate) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |a| a.i)
}

/// Name of a node, or of its first output if it has none.
pub(crate) fn name_of(node: &NodeProto) -> String {
    if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() }
}

/// The constants of a graph, found through `Identity` nodes, and what operators that move or recode their
/// elements make of them.
///
/// Old exporters list every initializer as a graph input too: a default value that nobody replaces. It counts
/// as constant.
pub struct Constants {
    places: HashMap<String, Place>,
    derived: HashMap<String, (Place, Vec<usize>)>,
    uses: HashMap<Place, Vec<(usize, usize)>>,
    captured: HashSet<Place>,
}

impl Constants {
    /// Finds them, and who uses them.
    pub fn of(graph: &GraphProto) -> Constants {
        let mut places: HashMap<String, Place> = HashMap::new();
        for (at, tensor) in graph.initializer.iter().enumerate() {
            places.insert(tensor.name.clone(), Place::Initializer(at));
        }
        let mut derived: HashMap<String, (Place, Vec<usize>)> = HashMap::new();
        let (mut uses, mut captured) = (HashMap::<Place, Vec<(usize, usize)>>::new(), HashSet::new());
        for (id, node) in graph.node.iter().enumerate() {
            let constant = node.op_type == "Constant";
            if let Some(at) =
                node.attribute.iter().position(|a| constant && a.name == "value" && a.t.is_some())
            {
                places.extend(node.output.first().map(|o| (o.clone(), Place::Constant(id, at))));
            } else if node.op_type == "Identity" {
                let from = node.input.first().and_then(|i| places.get(i).copied());
                places.extend(from.and_then(|place| Some((node.output.first()?.clone(), place))));
            }
            let origin = |name: &String| {
                places.get(name).copied().or_else(|| derived.get(name).map(|(place, _)| *place))
            };
            // what makes a constant of a constant is transparent: what reads its output is what counts
            let transparent = derives(node) && node.input.first().is_some_and(|i| origin(i).is_some());
            for (slot, input) in node.input.iter().enumerate().skip(usize::from(transparent)) {
                if let Some(place) = origin(input) {
                    uses.entry(place).or_default().push((id, slot));
                }
            }
            for name in captured_names(node) {
                captured.extend(origin(&name));
            }
            if transparent && let (Some(from), Some(to)) = (node.input.first(), node.output.first()) {
                let place = origin(from);
                let mut chain = derived.get(from).map(|d| d.1.clone()).unwrap_or_default();
                if node.op_type != "Identity" {
                    chain.push(id);
                }
                derived.extend(place.map(|place| (to.clone(), (place, chain))));
            }
        }
        for output in &graph.output {
            captured.extend(derived.get(&output.name).map(|(place, _)| *place));
            captured.extend(places.get(&output.name).copied());
        }
        Constants { places, derived, uses, captured }
    }

    /// Where the constant is that this name is computed of, and by which nodes, each of which only moves or
    /// recodes its elements.
    fn origin(&self, name: &str) -> Option<(Place, Vec<usize>)> {
        match self.places.get(name) {
            Some(place) => Some((*place, vec![])),
            None => self.derived.get(name).cloned(),
        }
    }

    /// Where the constant of this name is, if it is one.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }

    /// Whether a subgraph or the outside reads it.
    pub fn is_captured(&self, place: Place) -> bool {
        self.captured.contains(&place)
    }

    /// The node and input slot of every reader.
    pub fn uses(&self, place: Place) -> &[(usize, usize)] {
        self.uses.get(&place).map_or(&[], |u| u)
    }
}

/// Every name that the subgraphs of a node read.
pub(crate) fn captured_names(node: &NodeProto) -> Vec<String> {
    fn inside(graph: &GraphProto, names: &mut Vec<String>) {
        names.extend(graph.output.iter().map(|o| o.name.clone()));
        for node in &graph.node {
            names.extend(node.input.iter().cloned());
            subgraphs(node).for_each(|g| inside(g, names));
        }
    }
    let mut names = vec![];
    subgraphs(node).for_each(|g| inside(g, &mut names));
    names
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

const LAYERS: [&str; 7] = ["Conv", "Gemm", "MatMul", "ConvTranspose", "GRU", "LSTM", "RNN"];

/// Of ONNX and of onnxruntime's domain.
const INTEGER_LAYERS: [&str; 5] = ["QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger"];

/// Gates of a recurrent operator, whose rows follow each other in its matrices.
fn gates(op: &str) -> Option<usize> {
    match op {
        "GRU" => Some(3),
        "LSTM" => Some(4),
        "RNN" => Some(1),
        _ => None,
    }
}

/// Every layer of a model in the order of its nodes: prunable, or why not.
///
/// # Errors
/// The model has no graph, or a node lacks an input or output that it needs: the message names it.
pub fn layers(model: &ModelProto) -> Result<Vec<Result<Layer, Skip>>> {
    let graph = model.graph.as_ref().context("the model has no graph")?;
    check::nodes(graph)?;
    let constants = Constants::of(graph);
    let mut found = vec![];
    for (id, node) in graph.node.iter().enumerate() {
        inside_control_flow(node, &mut found);
        if INTEGER_LAYERS.contains(&&*node.op_type) {
            let reason = "it is an integer operator; the same network as a QDQ file can be pruned".into();
            found.push(Err(Skip { name: name_of(node), op: node.op_type.clone(), reason }));
        }
        if LAYERS.contains(&&*node.op_type) && node.domain.is_empty() {
            let skip = |name: String, reason: anyhow::Error| Skip {
                name,
                op: node.op_type.clone(),
                reason: format!("{reason:#}"),
            };
            if let Some(gates) = gates(&node.op_type) {
                for (slot, matrix) in [(1, "W"), (2, "R")] {
                    let name = format!("{}.{matrix}", name_of(node));
                    let layer = recurrent(graph, &constants, id, (slot, gates), name.clone());
                    found.push(layer.map_err(|reason| skip(name, reason)));
                }
            } else {
                found.push(read(graph, &constants, id, node).map_err(|reason| skip(name_of(node), reason)));
            }
        }
    }
    refuse_other_roles(graph, &constants, &mut found);
    Ok(found)
}

fn inside_control_flow(node: &NodeProto, found: &mut Vec<Result<Layer, Skip>>) {
    for inner in subgraphs(node).flat_map(|g| &g.node) {
        if LAYERS.contains(&&*inner.op_type) {
            let reason = format!("inside the control flow of {} {}", node.op_type, name_of(node));
            found.push(Err(Skip { name: name_of(inner), op: inner.op_type.clone(), reason }));
        }
        inside_control_flow(inner, found);
    }
}

const COMPUTED: &str = "its weights are computed at run time";

/// Weights behind constant operators, checked.
fn constant(
    graph: &GraphProto,
    constants: &Constants,
    name: Option<&String>,
) -> Result<(Place, Vec<usize>, Vec<usize>)> {
    let (place, chain) = name.and_then(|name| constants.origin(name)).context(COMPUTED)?;
    let stored = Stored::of(graph, place, &chain)?;
    ensure!(stored.values.iter().all(|w| w.is_finite()), "a weight is NaN or infinite");
    ensure!(!constants.is_captured(place), "its weights are also read by a subgraph or are an output");
    ensure!(!stored.values.is_empty(), "it has no weights");
    Ok((place, chain, stored.dims))
}

/// The input matrix (slot 1) or the recurrent one (slot 2), of all directions and gates.
fn recurrent(
    graph: &GraphProto,
    constants: &Constants,
    id: usize,
    (slot, gates): (usize, usize),
    name: String,
) -> Result<Layer> {
    let node = &graph.node[id];
    let (place, chain, dims) = constant(graph, constants, node.input.get(slot))?;
    let [directions, rows, cols] = dims[..] else { anyhow::bail!("weights of shape {dims:?}") };
    ensure!(rows % gates == 0, "{rows} rows for {gates} gates");
    ensure!(slot == 1 || rows == gates * cols, "weights of shape {dims:?}");
    Ok(Layer {
        name,
        op: node.op_type.clone(),
        role: Role::Recurrent,
        shape: Shape { parts: directions * gates, ..Shape::new(directions * rows, cols, 1) },
        kernel: vec![],
        node: id,
        slot,
        input: node.input[0].clone(),
        place,
        transposed: false,
        chain,
    })
}

fn read(graph: &GraphProto, constants: &Constants, id: usize, node: &NodeProto) -> Result<Layer> {
    let is_constant = |slot: usize| node.input.get(slot).is_some_and(|name| constants.origin(name).is_some());
    let slot = match (is_constant(1), is_constant(0), &*node.op_type) {
        (true, ..) => 1,
        (false, true, "MatMul") => 0,
        _ => anyhow::bail!(COMPUTED),
    };
    ensure!(!is_constant(1 - slot), "both its inputs are constant");
    let (place, chain, dims) = constant(graph, constants, node.input.get(slot))?;
    let layer = |role, shape, kernel: &[usize], transposed| Layer {
        name: name_of(node),
        op: node.op_type.clone(),
        role,
        shape,
        kernel: kernel.to_vec(),
        node: id,
        slot,
        input: node.input[1 - slot].clone(),
        place,
        transposed,
        chain,
    };
    let group = usize::try_from(int(node, "group", 1)).ok().filter(|g| *g > 0);
    let group = group.context("its number of channel groups makes no sense")?;
    match (&*node.op_type, &dims[..]) {
        ("Conv", [oc, ic, kernel @ ..]) if !kernel.is_empty() => {
            let taps = kernel.iter().product();
            ensure!(oc % group == 0, "{oc} output channels in {group} groups");
            let role = match (group, kernel) {
                (1, _) if taps == 1 => Role::Pointwise,
                (1, [3, 3]) => Role::Conv3x3,
                (g, [3, 3]) if g == *oc && *ic == 1 => Role::Depthwise,
                _ => Role::Other,
            };
            // the patterns of depthwise kernels are shared by channels, each of which is a group of its own
            let parts = if role == Role::Depthwise { 1 } else { group };
            Ok(layer(role, Shape { parts, ..Shape::new(*oc, *ic, taps) }, kernel, false))
        }
        ("ConvTranspose", [ic, oc, kernel @ ..]) if !kernel.is_empty() => {
            ensure!(ic % group == 0, "{ic} input channels in {group} groups");
            let shape = Shape::new(oc * group, ic / group, kernel.iter().product());
            Ok(layer(Role::Transposed, Shape { parts: group, ..shape }, kernel, true))
        }
        ("Gemm", [n, k]) => {
            let transposed = int(node, "transB", 0) == 0;
            let [oc, ic] = if transposed { [*k, *n] } else { [*n, *k] };
            Ok(layer(Role::FullyConnected, Shape::new(oc, ic, 1), &[], transposed))
        }
        ("MatMul", [k, n]) => {
            let [oc, ic] = if slot == 1 { [*n, *k] } else { [*k, *n] };
            Ok(layer(Role::FullyConnected, Shape::new(oc, ic, 1), &[], slot == 1))
        }
        _ => anyhow::bail!("weights of shape {dims:?}"),
    }
}

/// Weights that layers share are pruned once if all see them alike; else none of them is pruned.
fn refuse_other_roles(graph: &GraphProto, constants: &Constants, found: &mut [Result<Layer, Skip>]) {
    // a chain of operators is like another if all but the names of its tensors is
    let alike = |id: &usize| {
        let mut node = graph.node[*id].clone();
        (node.name, node.output, node.doc_string) = Default::default();
        node.input.iter_mut().take(1).for_each(String::clear);
        node
    };
    let view = |layer: &Layer| {
        let chain: Vec<NodeProto> = layer.chain.iter().map(alike).collect();
        (layer.role, layer.transposed, layer.shape, chain)
    };
    let readers: HashMap<(usize, usize), _> =
        found.iter().flatten().map(|layer| (layer.key(), view(layer))).collect();
    let mut first: HashMap<Place, String> = HashMap::new();
    for entry in found.iter_mut() {
        let Ok(layer) = entry else { continue };
        let own = view(layer);
        let other = constants.uses(layer.place).iter().find(|of| readers.get(of) != Some(&own));
        let reason = if let Some((node, _)) = other {
            let node = &graph.node[*node];
            Some(format!(
                "it shares its weights with {} {}, which is another role",
                node.op_type,
                name_of(node)
            ))
        } else {
            first
                .get(&layer.place)
                .map(|name| format!("it shares its weights with {name}, where they are pruned"))
        };
        match reason {
            Some(reason) => {
                let (name, op) = (layer.name.clone(), layer.op.clone());
                *entry = Err(Skip { name, op, reason });
            }
            None => drop(first.insert(layer.place, layer.name.clone())),
        }
    }
}
