//! What operators do to the channels of their inputs.

use super::tracker::Tracker;
use crate::index::indices;
use crate::layer::{Place, attribute, captured_names, int};
use crate::onnx::tensor;
use crate::rearrange::labels::{Label, Labels};
use tract_onnx::pb::NodeProto;

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
    /// Follows the channels through a node.
    pub(super) fn node(&mut self, node: &NodeProto) {
        let done = node.domain.is_empty() && self.known(node).is_some();
        if !done || self.has_unfollowed_output(node) {
            node.input.iter().chain(&node.output).for_each(|name| self.pin_value(name));
        }
        for name in captured_names(node) {
            self.pin_value(&name);
        }
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

    /// Whether nothing is added or cut along the axes of channels: as much of both keeps the size and moves
    /// all.
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
}

/// An axis or index, counted from the end if negative.
fn position(i: i64, n: usize) -> Option<usize> {
    let i = if i < 0 { i.checked_add(n as i64)? } else { i };
    usize::try_from(i).ok().filter(|i| *i < n)
}
