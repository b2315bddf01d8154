//! Finds the layers of a graph whose weights can be pruned, and says why others cannot.

use crate::check;
use crate::mask::Shape;
use crate::onnx::tensor;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
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
    /// Any other convolution.
    Other,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Role::Pointwise => "1x1 convolution",
            Role::FullyConnected => "fully connected",
            Role::Depthwise => "depthwise 3x3",
            Role::Conv3x3 => "3x3 convolution",
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
    /// Name of the activation that it reads.
    pub input: String,
    /// Where the weights are.
    pub place: Place,
    /// Whether they are kept as `[ic][oc]`.
    pub transposed: bool,
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
    /// The weights as `[oc][ic][taps]`.
    ///
    /// # Errors
    /// They are not there, not f32, or do not fit the shape.
    pub fn weights(&self, graph: &GraphProto) -> Result<Vec<f32>> {
        let tensor = self.place.get(graph).context("the weights are gone")?;
        let values = tensor::floats(tensor)?;
        ensure!(values.len() == self.shape.len(), "{} weights for {:?}", values.len(), self.shape);
        Ok(if self.transposed { transpose(&values, self.shape.ic, self.shape.oc) } else { values })
    }

    /// Puts weights `[oc][ic][taps]` back.
    ///
    /// # Errors
    /// As [`Layer::weights`].
    pub fn set_weights(&self, graph: &mut GraphProto, values: &[f32]) -> Result<()> {
        let tensor = self.place.get_mut(graph).context("the weights are gone")?;
        if self.transposed {
            tensor::set_floats(tensor, &transpose(values, self.shape.oc, self.shape.ic))
        } else {
            tensor::set_floats(tensor, values)
        }
    }
}

fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
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

/// The constants of a graph, found through `Identity` nodes.
///
/// Old exporters list every initializer as a graph input too: a default value that nobody replaces. It counts as constant.
pub struct Constants {
    places: HashMap<String, Place>,
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
                // an identity is transparent: what reads its output is what counts
                continue;
            }
            for (slot, input) in node.input.iter().enumerate() {
                if let Some(place) = places.get(input) {
                    uses.entry(*place).or_default().push((id, slot));
                }
            }
            for name in captured_names(node) {
                captured.extend(places.get(&name).copied());
            }
        }
        captured.extend(graph.output.iter().filter_map(|o| places.get(&o.name).copied()));
        Constants { places, uses, captured }
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

const LAYERS: [&str; 4] = ["Conv", "Gemm", "MatMul", "ConvTranspose"];

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
        if LAYERS.contains(&&*node.op_type) && node.domain.is_empty() {
            let skip = |reason: anyhow::Error| Skip {
                name: name_of(node),
                op: node.op_type.clone(),
                reason: format!("{reason:#}"),
            };
            found.push(read(graph, &constants, id, node).map_err(skip));
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

fn read(graph: &GraphProto, constants: &Constants, id: usize, node: &NodeProto) -> Result<Layer> {
    ensure!(node.op_type != "ConvTranspose", "transposed convolutions are not pruned");
    let constant = |slot: usize| node.input.get(slot).and_then(|name| constants.place(name));
    let computed = "its weights are computed at run time";
    let (slot, place) = match (constant(1), constant(0), &*node.op_type) {
        (Some(place), ..) => (1, place),
        (None, Some(place), "MatMul") => (0, place),
        _ => anyhow::bail!("{computed}"),
    };
    ensure!(constant(1 - slot).is_none(), "both its inputs are constant");
    let tensor = place.get(graph).context(computed)?;
    let dims = tensor::shape(&tensor.dims)?;
    let values = tensor::floats(tensor)?;
    ensure!(values.iter().all(|w| w.is_finite()), "a weight is NaN or infinite");
    ensure!(!constants.is_captured(place), "its weights are also read by a subgraph or are an output");
    let layer = |role, [oc, ic, taps]: [usize; 3], kernel: &[usize], transposed| Layer {
        name: name_of(node),
        op: node.op_type.clone(),
        role,
        shape: Shape { oc, ic, taps },
        kernel: kernel.to_vec(),
        node: id,
        input: node.input[1 - slot].clone(),
        place,
        transposed,
    };
    ensure!(!values.is_empty(), "it has no weights");
    match (&*node.op_type, &dims[..]) {
        ("Conv", [oc, ic, kernel @ ..]) if !kernel.is_empty() => {
            let taps = kernel.iter().product();
            let group = usize::try_from(int(node, "group", 1)).ok().filter(|g| *g > 0);
            let group = group.context("its number of channel groups makes no sense")?;
            ensure!(oc % group == 0, "{oc} output channels in {group} groups");
            let role = match (group, kernel) {
                (1, _) if taps == 1 => Role::Pointwise,
                (1, [3, 3]) => Role::Conv3x3,
                (g, [3, 3]) if g == *oc && *ic == 1 => Role::Depthwise,
                _ => Role::Other,
            };
            Ok(layer(role, [*oc, *ic, taps], kernel, false))
        }
        ("Gemm", [n, k]) => {
            let transposed = int(node, "transB", 0) == 0;
            let [oc, ic] = if transposed { [*k, *n] } else { [*n, *k] };
            Ok(layer(Role::FullyConnected, [oc, ic, 1], &[], transposed))
        }
        ("MatMul", [k, n]) => {
            let [oc, ic] = if slot == 1 { [*n, *k] } else { [*k, *n] };
            Ok(layer(Role::FullyConnected, [oc, ic, 1], &[], slot == 1))
        }
        _ => anyhow::bail!("weights of shape {dims:?}"),
    }
}

/// Weights that layers share are pruned once if all see them alike; else none of them is pruned.
fn refuse_other_roles(graph: &GraphProto, constants: &Constants, found: &mut [Result<Layer, Skip>]) {
    let readers: HashMap<usize, (Role, bool, usize)> = found
        .iter()
        .flatten()
        .map(|layer| (layer.node, (layer.role, layer.transposed, layer.shape.ic)))
        .collect();
    let mut first: HashMap<Place, String> = HashMap::new();
    for entry in found.iter_mut() {
        let Ok(layer) = entry else { continue };
        let own = (layer.role, layer.transposed, layer.shape.ic);
        let other = constants.uses(layer.place).iter().find(|(node, _)| readers.get(node) != Some(&own));
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
