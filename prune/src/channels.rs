//! Which channels of a network may change places.
//!
//! Every position along a channel axis of an activation or a weight tensor holds a channel. Operators that move positions
//! about (concatenation, split, shuffle, flatten) carry the channels along; operators that combine two tensors element
//! by element make channels in the same position one; weights read and write channels along their axes. A permutation
//! of all channels is sound if every list that weights are indexed by holds the same channels afterwards: so channels that
//! occur in exactly the same lists may be exchanged freely, and no others. Whatever an unknown operator, a graph input or
//! output touches stays in its place.

use crate::labels::{Label, Labels, indices};
use crate::layer::{Constants, Place, attribute, captured_names, int};
use crate::onnx::tensor;
use crate::runtime::{Runtime, shapes};
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, HashMap, HashSet};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};
use tract_onnx::prelude::Tensor;

/// The lists of channels of a model's constants, and which channels may be exchanged.
pub(crate) struct Channels {
    /// Channels along an axis of a constant.
    pub(crate) lists: Vec<(Place, usize, Vec<Label>)>,
    /// Sets of channels that may be exchanged with each other, each of at least two.
    pub(crate) classes: Vec<Vec<u32>>,
}

impl Channels {
    /// Follows the channels of `model`, whose shapes are learned by running it.
    pub(crate) fn of(model: &ModelProto, runtime: &dyn Runtime, inputs: &[Tensor]) -> Result<Channels> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let mut tracker = Tracker {
            graph,
            constants: Constants::of(graph),
            shapes: shapes(model, runtime, inputs)?,
            parent: vec![],
            pinned: vec![],
            values: HashMap::new(),
            lists: vec![],
            list_of: HashMap::new(),
            closed: vec![],
            fixed: HashSet::new(),
            read: graph.node.iter().flat_map(|n| n.input.iter().cloned().chain(captured_names(n))).collect(),
        };
        tracker.read.extend(graph.output.iter().map(|o| o.name.clone()));
        graph.node.iter().for_each(|node| tracker.node(node));
        tracker.finish()
    }

    /// The channels along an axis of a constant, if any are known.
    pub(crate) fn list(&self, place: Place, axis: usize) -> Option<&[Label]> {
        self.lists.iter().find(|(p, a, _)| (*p, *a) == (place, axis)).map(|(_, _, list)| &**list)
    }

    /// Exchanges channels: position `p` that held channel `c` now holds `to[c]` (or `c` if there is no entry), with
    /// everything that the constants say about it.
    pub(crate) fn permute(&self, model: &mut ModelProto, to: &HashMap<u32, u32>) -> Result<()> {
        let graph = model.graph.as_mut().context("the model has no graph")?;
        for (place, axis, list) in &self.lists {
            let mut positions: HashMap<Label, Vec<usize>> = HashMap::new();
            list.iter().enumerate().for_each(|(j, label)| positions.entry(*label).or_default().push(j));
            let mut seen: HashMap<Label, usize> = HashMap::new();
            let mut order = vec![];
            for label in list {
                let nth = seen.entry(*label).or_default();
                let wanted = Label { atom: *to.get(&label.atom).unwrap_or(&label.atom), tag: label.tag };
                let from = positions.get(&wanted).and_then(|p| p.get(*nth));
                order.push(*from.context("a permutation moves channels where there are none")?);
                *nth += 1;
            }
            if order.iter().enumerate().any(|(j, from)| j != *from) {
                let tensor = place.get_mut(graph).context("a constant is gone")?;
                let dims = tensor::shape(&tensor.dims)?;
                let (bytes, size) = tensor::bytes(tensor)?;
                let typed = tensor.raw_data.is_empty();
                let permuted = take(&bytes, size, &dims, *axis, &order);
                if typed && !tensor.float_data.is_empty() {
                    let floats =
                        permuted.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    tensor.float_data = floats.collect();
                } else {
                    tensor::set_bytes(tensor, permuted);
                }
            }
        }
        Ok(())
    }
}

/// Bytes of a tensor with the positions `order` along `axis`.
fn take(bytes: &[u8], size: usize, dims: &[usize], axis: usize, order: &[usize]) -> Vec<u8> {
    let inner = dims[axis + 1..].iter().product::<usize>() * size;
    let block = dims[axis] * inner;
    let rows = bytes
        .chunks_exact(block.max(1))
        .flat_map(|outer| order.iter().map(move |j| &outer[j * inner..][..inner]));
    rows.flatten().copied().collect()
}

struct Tracker<'a> {
    graph: &'a GraphProto,
    constants: Constants,
    shapes: HashMap<String, Vec<usize>>,
    parent: Vec<u32>,
    pinned: Vec<bool>,
    values: HashMap<String, Labels>,
    lists: Vec<(Place, usize, Vec<Label>)>,
    list_of: HashMap<(Place, usize), usize>,
    /// Lists that must hold the same channels afterwards without being those of a constant.
    closed: Vec<Vec<Label>>,
    /// Constants that must not change at all.
    fixed: HashSet<Place>,
    /// Tensors that somebody reads.
    read: HashSet<String>,
}

/// Each output position depends on the same position of the input alone (and on scalars).
const UNARY: [&str; 30] = [
    "Relu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Softplus",
    "Softsign",
    "Mish",
    "Gelu",
    "Tanh",
    "Exp",
    "Log",
    "Sqrt",
    "Abs",
    "Neg",
    "Reciprocal",
    "Floor",
    "Ceil",
    "Round",
    "Erf",
    "Sign",
    "Identity",
    "Dropout",
    "Cast",
    "ThresholdedRelu",
    "Not",
];
/// Each output channel depends on the same channel of the input alone.
const SPATIAL: [&str; 9] = [
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LpPool",
    "GlobalLpPool",
    "Resize",
    "Upsample",
    "Pad",
];
const BINARY: [&str; 10] = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu"];
const REDUCE: [&str; 5] = ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2"];

impl Tracker<'_> {
    fn node(&mut self, node: &NodeProto) {
        let done = node.domain.is_empty() && self.known(node).is_some();
        if !done || self.has_unfollowed_output(node) {
            node.input.iter().chain(&node.output).for_each(|name| self.pin_value(name));
        }
        for name in captured_names(node) {
            self.pin_value(&name);
        }
    }

    /// Whether somebody reads an output that no rule has followed: indices of maxima and statistics of a batch, say,
    /// depend on the places of channels in ways of their own.
    fn has_unfollowed_output(&self, node: &NodeProto) -> bool {
        let plain = ["Constant", "Shape", "Size"].contains(&&*node.op_type);
        let unfollowed = |o: &&String| {
            !o.is_empty()
                && self.read.contains(*o)
                && !self.values.contains_key(*o)
                && self.constants.place(o).is_none()
        };
        !plain && node.output.iter().any(|o| unfollowed(&o))
    }

    /// Applies the rule of a known operator; `None` if there is none or it does not fit.
    fn known(&mut self, node: &NodeProto) -> Option<()> {
        let labelled = node.input.iter().any(|i| self.values.contains_key(i));
        match &*node.op_type {
            "Constant" | "Shape" | "Size" => Some(()),
            "Identity" if self.constants.place(node.output.first()?).is_some() => Some(()),
            "Conv" => self.conv(node),
            "Gemm" | "MatMul" => self.product(node),
            op if BINARY.contains(&op) => self.elementwise(node),
            // nothing to follow: constants must stay as they are
            _ if !labelled => None,
            op if UNARY.contains(&op) => self.same(node, false),
            op if SPATIAL.contains(&op) => self.same(node, true),
            op if REDUCE.contains(&op) => self.reduce(node),
            "Softmax" | "LogSoftmax" => {
                self.closed.push(self.values.get(&node.input[0])?.data.clone());
                self.same(node, false)
            }
            "BatchNormalization" | "InstanceNormalization" => self.normalisation(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let labels = self.values.get(&node.input[0])?.reshape(self.shapes.get(&node.output[0])?)?;
                self.set(&node.output[0], labels)
            }
            "Transpose" => self.transpose(node),
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            _ => None,
        }
    }

    fn set(&mut self, name: &str, labels: Labels) -> Option<()> {
        if self.shapes.get(name)? != &labels.shape {
            return None;
        }
        self.values.insert(name.to_string(), labels);
        Some(())
    }

    fn fresh(&mut self, n: usize, pinned: bool) -> Vec<Label> {
        let first = self.parent.len() as u32;
        self.parent.extend(first..first + n as u32);
        self.pinned.resize(self.pinned.len() + n, pinned);
        (first..first + n as u32).map(|atom| Label { atom, tag: 0 }).collect()
    }

    fn root(&mut self, mut atom: u32) -> u32 {
        while self.parent[atom as usize] != atom {
            let up = self.parent[self.parent[atom as usize] as usize];
            self.parent[atom as usize] = up;
            atom = up;
        }
        atom
    }

    fn pin(&mut self, labels: &[Label]) {
        for label in labels {
            let root = self.root(label.atom);
            self.pinned[root as usize] = true;
        }
    }

    fn unify(&mut self, a: &[Label], b: &[Label]) {
        for (a, b) in a.iter().zip(b) {
            if a.tag != b.tag {
                self.pin(&[*a, *b]);
                continue;
            }
            let (a, b) = (self.root(a.atom), self.root(b.atom));
            self.parent[b as usize] = a;
            self.pinned[a as usize] |= self.pinned[b as usize];
        }
    }

    fn pin_value(&mut self, name: &str) {
        if let Some(labels) = self.values.get(name) {
            let data = labels.data.clone();
            self.pin(&data);
        }
        self.fixed.extend(self.constants.place(name));
    }

    fn dims(&self, place: Place) -> Option<Vec<usize>> {
        tensor::shape(&place.get(self.graph)?.dims).ok()
    }

    /// The channels along an axis of a constant.
    fn axis(&mut self, place: Place, axis: usize) -> Option<Vec<Label>> {
        if let Some(at) = self.list_of.get(&(place, axis)) {
            return Some(self.lists[*at].2.clone());
        }
        let n = *self.dims(place)?.get(axis)?;
        let list = self.fresh(n, false);
        self.list_of.insert((place, axis), self.lists.len());
        self.lists.push((place, axis, list.clone()));
        Some(list)
    }

    /// Says which channels a constant is indexed by; they stay in place if nobody knows.
    fn bind(&mut self, place: Place, axis: usize, channels: Option<&[Label]>) -> Option<()> {
        let list = self.axis(place, axis)?;
        match channels {
            Some(channels) if channels.len() == list.len() => self.unify(&list, channels),
            _ => {
                self.pin(&list);
                self.pin(channels.unwrap_or(&[]));
            }
        }
        Some(())
    }

    /// The channels of an activation along an axis; pins them if they are not in one list.
    fn channels_of(&mut self, name: &str, axis: usize) -> Option<Vec<Label>> {
        let list = self.values.get(name).and_then(|l| l.list(axis)).map(<[Label]>::to_vec);
        if list.is_none() {
            self.pin_value(name);
        }
        list
    }

    fn conv(&mut self, node: &NodeProto) -> Option<()> {
        let weights = self.constants.place(node.input.get(1)?)?;
        let dims = self.dims(weights)?;
        let (oc, ic) = (*dims.first()?, *dims.get(1)?);
        let bias = node.input.get(2).filter(|b| !b.is_empty());
        let bias = bias.map(|b| self.constants.place(b)).map_or(Some(None), |place| Some(Some(place?)))?;
        let group = usize::try_from(int(node, "group", 1)).ok()?;
        let input = self.channels_of(&node.input[0], 1);
        let output = self.axis(weights, 0)?;
        if group == 1 {
            self.bind(weights, 1, input.as_deref())?;
        } else if group == oc && ic == 1 {
            self.bind(weights, 0, input.as_deref())?;
        } else {
            self.pin(&input.unwrap_or_default());
            self.pin(&output);
        }
        if let Some(bias) = bias {
            self.bind(bias, 0, Some(&output))?;
        }
        let shape = self.shapes.get(node.output.first()?)?.clone();
        let labels = Labels::along(&shape, 1, output)?;
        self.set(&node.output[0], labels)
    }

    fn product(&mut self, node: &NodeProto) -> Option<()> {
        let gemm = node.op_type == "Gemm";
        let weights = self.constants.place(node.input.get(1)?)?;
        let shape = self.shapes.get(node.output.first()?)?.clone();
        let last = shape.len().checked_sub(1)?;
        if self.dims(weights)?.len() != 2 || (gemm && int(node, "transA", 0) != 0) {
            return None;
        }
        let (k, n) = if gemm && int(node, "transB", 0) != 0 { (1, 0) } else { (0, 1) };
        let input = self.channels_of(&node.input[0], last);
        self.bind(weights, k, input.as_deref())?;
        let output = self.axis(weights, n)?;
        if let Some(bias) = node.input.get(2).filter(|b| gemm && !b.is_empty()) {
            let bias = self.constants.place(bias)?;
            self.bind_broadcast(bias, shape.len(), last, &output)?;
        }
        let labels = Labels::along(&shape, last, output)?;
        self.set(&node.output[0], labels)
    }

    /// A constant that is broadcast to a tensor of this rank, whose channels are along `axis`.
    fn bind_broadcast(&mut self, place: Place, rank: usize, axis: usize, channels: &[Label]) -> Option<()> {
        let dims = self.dims(place)?;
        let missing = rank.checked_sub(dims.len())?;
        for (own, dim) in dims.iter().enumerate().filter(|(_, d)| **d > 1) {
            let channels = (own + missing == axis && *dim == channels.len()).then_some(channels);
            self.bind(place, own, channels)?;
        }
        Some(())
    }

    fn elementwise(&mut self, node: &NodeProto) -> Option<()> {
        let shape = self.shapes.get(node.output.first()?)?.clone();
        let rank = shape.len();
        let inputs: Vec<Labels> = node.input.iter().filter_map(|i| self.values.get(i).cloned()).collect();
        if inputs.is_empty() || inputs.iter().any(|l| l.dims.len() > rank) {
            return None;
        }
        let mut dims = vec![1; rank];
        for labels in &inputs {
            let missing = rank - labels.dims.len();
            labels.dims.iter().enumerate().for_each(|(a, d)| dims[a + missing] = dims[a + missing].max(*d));
        }
        // a tensor that is the same for all channels need not move with any
        let per_channel = |of: &[usize]| {
            let missing = rank - of.len();
            of.iter().enumerate().any(|(a, d)| *d > 1 && dims[a + missing] > 1)
        };
        let (moving, still): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|l| per_channel(&l.shape));
        still.iter().for_each(|labels| self.pin(&labels.data));
        // labels of a single channel: every position holds it
        let first = moving.first()?.clone();
        if moving.iter().any(|l| l.dims.iter().rev().zip(dims.iter().rev()).any(|(own, d)| own != d)) {
            return None;
        }
        let data: Vec<Label> = indices(&dims).map(|at| first.at(&at)).collect();
        for labels in &moving[1..] {
            let other: Vec<Label> = indices(&dims).map(|at| labels.at(&at)).collect();
            self.unify(&data, &other);
        }
        let labels = Labels { shape: shape.clone(), dims: dims.clone(), data: data.clone() };
        let axis = (0..rank).find(|a| dims[*a] > 1);
        for name in &node.input {
            if let Some(place) = self.constants.place(name) {
                match axis.filter(|a| labels.list(*a).is_some()) {
                    Some(axis) => self.bind_broadcast(place, rank, axis, &data)?,
                    None => return None,
                }
            } else if !self.values.contains_key(name) && !name.is_empty() {
                // an activation whose channels nobody has followed
                let own = self.shapes.get(name).cloned();
                if own.is_none_or(|own| own.len() > rank || per_channel(&own)) {
                    self.pin(&data);
                }
            }
        }
        self.set(&node.output[0], labels)
    }

    fn same(&mut self, node: &NodeProto, spatial: bool) -> Option<()> {
        let labels = self.values.get(&node.input[0])?.clone();
        if spatial && labels.dims.iter().skip(2).any(|d| *d > 1) {
            return None;
        }
        for name in &node.input[1..] {
            // bounds, sizes and the like: if they follow channels, something else is going on
            if self.values.contains_key(name) {
                return None;
            }
            self.fixed.extend(self.constants.place(name));
        }
        if node.op_type == "Pad" && !self.pads_others(node, &labels)? {
            return None;
        }
        let shape = self.shapes.get(&node.output[0])?.clone();
        let labels = labels.keep(&shape)?;
        self.set(&node.output[0], labels)
    }

    /// Whether nothing is added or cut along the axes of channels: as much of both keeps the size and moves all.
    fn pads_others(&self, node: &NodeProto, labels: &Labels) -> Option<bool> {
        let pads = self.numbers(node, "pads", 1)?;
        let rank = labels.shape.len();
        let axes: Vec<usize> = match node.input.get(3).filter(|a| !a.is_empty()) {
            Some(_) => {
                let axes = self.numbers(node, "axes", 3)?;
                axes.iter().map(|a| position(*a, rank)).collect::<Option<_>>()?
            }
            None => (0..rank).collect(),
        };
        let still = |(i, pad): (usize, &i64)| *pad == 0 || labels.dims[axes[i % axes.len()]] == 1;
        Some(pads.len() == 2 * axes.len() && pads.iter().enumerate().all(still))
    }

    fn reduce(&mut self, node: &NodeProto) -> Option<()> {
        let labels = self.values.get(&node.input[0])?.clone();
        let rank = labels.shape.len();
        let axes = self.numbers(node, "axes", 1)?;
        let axes: Vec<usize> = axes.iter().map(|a| position(*a, rank)).collect::<Option<_>>()?;
        if axes.iter().any(|a| labels.dims[*a] > 1) {
            return None;
        }
        let keep = int(node, "keepdims", 1) != 0;
        let reduced = |of: &[usize]| -> Vec<usize> {
            let sizes = of.iter().enumerate().filter(|(a, _)| keep || !axes.contains(a));
            sizes.map(|(a, d)| if axes.contains(&a) { 1 } else { *d }).collect()
        };
        let labels = Labels { shape: reduced(&labels.shape), dims: reduced(&labels.dims), data: labels.data };
        self.set(&node.output[0], labels)
    }

    fn normalisation(&mut self, node: &NodeProto) -> Option<()> {
        let list = self.channels_of(&node.input[0], 1)?;
        for name in &node.input[1..] {
            let place = self.constants.place(name)?;
            self.bind(place, 0, Some(&list))?;
        }
        let shape = self.shapes.get(&node.output[0])?.clone();
        self.set(&node.output[0], Labels::along(&shape, 1, list)?)
    }

    fn transpose(&mut self, node: &NodeProto) -> Option<()> {
        let labels = self.values.get(&node.input[0])?;
        let rank = labels.shape.len();
        let perm: Vec<usize> = match attribute(node, "perm") {
            Some(perm) => perm.ints.iter().map(|p| usize::try_from(*p).ok()).collect::<Option<_>>()?,
            None => (0..rank).rev().collect(),
        };
        let labels = labels.transpose(&perm)?;
        self.set(&node.output[0], labels)
    }

    fn concat(&mut self, node: &NodeProto) -> Option<()> {
        let shape = self.shapes.get(&node.output[0])?.clone();
        let axis = position(int(node, "axis", 1), shape.len())?;
        let mut parts = vec![];
        for name in &node.input {
            let labels = match (self.values.get(name).cloned(), self.constants.place(name)) {
                (Some(labels), _) => labels.expand(|a| a == axis)?,
                (None, place) => {
                    self.fixed.extend(place);
                    let own = match place {
                        Some(place) => self.dims(place)?,
                        None => self.shapes.get(name)?.clone(),
                    };
                    let n = *own.get(axis)?;
                    let list = self.fresh(n, true);
                    Labels::along(&own, axis, list)?
                }
            };
            parts.push(labels);
        }
        let mut dims: Vec<usize> =
            (0..shape.len()).map(|a| parts.iter().map(|p| p.dims[a]).max()).collect::<Option<_>>()?;
        dims[axis] = shape[axis];
        let mut owner = vec![];
        parts.iter().enumerate().for_each(|(p, part)| owner.extend((0..part.shape[axis]).map(|i| (p, i))));
        let data = indices(&dims)
            .map(|mut at| {
                let (part, i) = *owner.get(at[axis])?;
                at[axis] = i;
                Some(parts[part].at(&at))
            })
            .collect::<Option<_>>()?;
        self.set(&node.output[0], Labels { shape, dims, data })
    }

    fn split(&mut self, node: &NodeProto) -> Option<()> {
        let labels = self.values.get(&node.input[0])?.clone();
        let axis = position(int(node, "axis", 0), labels.shape.len())?;
        let mut start = 0;
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            let size = *self.shapes.get(output)?.get(axis)?;
            let positions: Vec<usize> = (start..start + size).collect();
            self.set(output, labels.select(axis, &positions)?)?;
            start += size;
        }
        Some(())
    }

    fn slice(&mut self, node: &NodeProto) -> Option<()> {
        let mut labels = self.values.get(&node.input[0])?.clone();
        let starts = self.numbers(node, "starts", 1)?;
        let ends = self.numbers(node, "ends", 2)?;
        let axes = self.numbers(node, "axes", 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.numbers(node, "steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
        for (((axis, start), end), step) in axes.iter().zip(&starts).zip(&ends).zip(&steps) {
            let axis = position(*axis, labels.shape.len())?;
            let n = labels.shape[axis] as i64;
            if *step <= 0 {
                return None;
            }
            let clamp = |i: i64| if i < 0 { i.saturating_add(n).max(0) } else { i.min(n) };
            let positions: Vec<usize> =
                (clamp(*start)..clamp(*end)).step_by(*step as usize).map(|i| i as usize).collect();
            labels = labels.select(axis, &positions)?;
        }
        self.set(&node.output[0], labels)
    }

    fn gather(&mut self, node: &NodeProto) -> Option<()> {
        let labels = self.values.get(&node.input[0])?.clone();
        let axis = position(int(node, "axis", 0), labels.shape.len())?;
        let tensor = self.constants.place(node.input.get(1)?)?.get(self.graph)?;
        let positions: Vec<usize> = tensor::ints(tensor)
            .ok()?
            .iter()
            .map(|i| position(*i, labels.shape[axis]))
            .collect::<Option<_>>()?;
        let mut picked = labels.select(axis, &positions)?;
        match tensor.dims.len() {
            0 => {
                picked.shape.remove(axis);
                picked.dims.remove(axis);
            }
            1 => {}
            _ => return None,
        }
        self.set(&node.output[0], picked)
    }

    /// Integers that a node has as an attribute or, since later versions, as a constant input.
    fn numbers(&self, node: &NodeProto, name: &str, slot: usize) -> Option<Vec<i64>> {
        if let Some(attribute) = attribute(node, name) {
            return Some(attribute.ints.clone());
        }
        let place = self.constants.place(node.input.get(slot)?)?;
        tensor::ints(place.get(self.graph)?).ok()
    }

    fn finish(mut self) -> Result<Channels> {
        for output in &self.graph.output {
            self.pin_value(&output.name);
        }
        let lists = std::mem::take(&mut self.lists);
        for (place, _, list) in &lists {
            // read by a subgraph, by an operator without a rule, or given to the outside
            if self.fixed.contains(place) || self.constants.is_captured(*place) {
                self.pin(list);
            }
        }
        let canonical = |tracker: &mut Self, list: &[Label]| -> Vec<Label> {
            list.iter().map(|l| Label { atom: tracker.root(l.atom), tag: l.tag }).collect()
        };
        let lists: Vec<(Place, usize, Vec<Label>)> =
            lists.into_iter().map(|(p, a, list)| (p, a, canonical(&mut self, &list))).collect();
        let closed: Vec<Vec<Label>> =
            std::mem::take(&mut self.closed).iter().map(|l| canonical(&mut self, l)).collect();
        // where each channel occurs: list, tag and how often
        let mut sites: BTreeMap<u32, BTreeMap<(usize, u32), usize>> = BTreeMap::new();
        for (site, list) in lists.iter().map(|l| &l.2).chain(&closed).enumerate() {
            for label in list {
                *sites.entry(label.atom).or_default().entry((site, label.tag)).or_default() += 1;
            }
        }
        let mut classes: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for (atom, sites) in sites {
            if !self.pinned[atom as usize] {
                classes.entry(sites).or_default().push(atom);
            }
        }
        let mut classes: Vec<Vec<u32>> = classes.into_values().filter(|c| c.len() > 1).collect();
        classes.sort();
        ensure!(self.parent.len() < u32::MAX as usize, "too many channels");
        Ok(Channels { lists, classes })
    }
}

/// An axis or index, counted from the end if negative.
fn position(i: i64, n: usize) -> Option<usize> {
    let i = if i < 0 { i.checked_add(n as i64)? } else { i };
    usize::try_from(i).ok().filter(|i| *i < n)
}
