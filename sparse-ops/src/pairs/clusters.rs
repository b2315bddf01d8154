//! Which parts of a graph run on pairs of channels.
//!
//! When layers have taken in all that they can, and none is left that could become one, those that have kernels
//! for pairs are looked at together with what stands between them. Every node that could run on pairs is taken for
//! inside at first. Then nodes leave, alone or together, as long as that makes the whole faster: what they gain in pairs is
//! less than what the conversions cost that vanish with them, and what bands spare of larger maps in f32. What is left are clusters, with conversions at their borders
//! and nowhere else, which one patch puts into the graph.

use super::between::{PairsBinary, PairsPlanar, PairsReduce, PairsUnary, fits};
use super::{FromPairs, Lanes, ToPairs};
use crate::epilogue::{binary, element_wise};
use crate::konst::f32s;
use crate::opt_sparse_chain::spared_by_bands;
use crate::opt_sparse_conv::OptSparseConv;
use crate::planar::Planar;
use crate::wiring::Wiring;
use sparse_kernels::pairs::Arithmetic;
use sparse_kernels::prelude::{Element, Target};
use std::collections::{BTreeSet, HashSet};
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::binary::BinMiniOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Max, Min, Mul, Sub};
use tract_core::ops::nn::{NearestUpsample, Reduce, Reducer};

/// Extent that is assumed for a symbolic axis of pixels.
const ASSUMED_EXTENT: usize = 14;

const NO_LAYOUT: &str = "no kernel takes its layout in pairs of channels";
const RESULT: &str = "what it computes is a result of the model, which keeps the digits of f32";
const NO_GAIN: &str = "with the conversions around it, no gain is predicted";

/// Decides for all layers of a model that are still open; none if some of them has not yet taken in what it can.
pub(crate) fn settle(model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
    let mut target = Target::SCALAR;
    for node in model.nodes() {
        if let Some(layer) = node.op_as::<OptSparseConv>().filter(|layer| layer.is_open()) {
            rule_if!(!layer.may_be_int8() && layer.settled(model, node)?);
            target = layer.choice().target;
        }
    }
    if let Some(patch) = global_sum(model, target)? {
        return Ok(Some(patch));
    }
    Clusters::of(model, target)?.patch().map(Some)
}

/// The first sum over all pixels with a number behind it, in one operator: otherwise it would be rounded twice.
pub(crate) fn global_sum(model: &TypedModel, target: Target) -> TractResult<Option<TypedModelPatch>> {
    for node in model.nodes() {
        if let Some(patch) = global_sum_at(model, node, target)? {
            return Ok(Some(patch));
        }
    }
    Ok(None)
}

/// A sum over all pixels and the number behind it in one operator.
pub(crate) fn global_sum_at(
    model: &TypedModel,
    node: &TypedNode,
    target: Target,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if_some!(reduce = node.op_as::<Reduce>());
    rule_if!(reduce.reducer == Reducer::Sum);
    let x = model.outlet_fact(node.inputs[0])?;
    rule_if!(x.datum_type == f32::datum_type());
    rule_if_some!(first = reduce.axes.first().copied().filter(|first| *first > 0));
    rule_if!(reduce.axes.iter().copied().eq(first..x.rank()));
    rule_if_some!(channels = x.shape[first - 1].to_usize().ok());
    rule_if_some!(succ = model.single_succ(node.id)?);
    rule_if!(!model.output_outlets()?.contains(&node.id.into()));
    rule_if!(binary(succ).is_some_and(|op| op.is::<Mul>()));
    rule_if!(succ.outputs[0].fact.shape == node.outputs[0].fact.shape);
    rule_if_some!(other = succ.inputs.iter().find(|input| input.node != node.id));
    rule_if_some!(factor = number(model, *other)?);
    let op = PairsReduce::new(factor, Lanes::new(first - 1, channels), target);
    let mut patch = TypedModelPatch::new("sum of all pixels times a number");
    let x = patch.tap_model(model, node.inputs[0])?;
    let y = patch.wire_node(&succ.name, op, &[x])?;
    patch.shunt_outside(model, succ.id.into(), y[0])?;
    Ok(Some(patch))
}

/// The value of a constant that is one number.
pub(crate) fn number(model: &TypedModel, outlet: OutletId) -> TractResult<Option<f32>> {
    rule_if_some!(konst = &model.outlet_fact(outlet)?.konst);
    rule_if!(konst.len() == 1 && konst.datum_type() == f32::datum_type());
    Ok(Some(f32s(konst)?[0]))
}

/// How a node runs on pairs.
struct Plan {
    op: Box<dyn TypedOp>,
    /// What it is given, and the channels of those that are pairs.
    inputs: TVec<(OutletId, Option<Lanes>)>,
    /// The channels of its output.
    output: Lanes,
    /// Nanoseconds that pairs save.
    gain: f64,
    /// Whether it is a layer, and one that runs in pairs whatever the times.
    layer: Option<bool>,
}

impl Plan {
    fn between(op: impl Into<Box<dyn TypedOp>>, input: OutletId, output: Lanes, x: Lanes) -> Option<Plan> {
        let inputs = tvec!((input, Some(x)));
        Some(Plan { op: op.into(), inputs, output, gain: 0.0, layer: None })
    }
}

/// Two layers of which the second is the only one to read what the first writes.
struct Bands {
    layers: [usize; 2],
    /// Nanoseconds that bands spare if both are f32, and if both run on pairs.
    spare: [f64; 2],
}

struct Clusters<'a> {
    model: &'a TypedModel,
    order: Vec<usize>,
    /// Where the layers run.
    target: Target,
    plans: HashMap<usize, Plan>,
    inside: BTreeSet<usize>,
    /// Nanoseconds for the conversion of a value.
    convert: f64,
    bands: Vec<Bands>,
    /// Why open layers stay outside.
    why: HashMap<usize, &'static str>,
}

impl<'a> Clusters<'a> {
    fn of(model: &'a TypedModel, target: Target) -> TractResult<Clusters<'a>> {
        let order = model.eval_order()?;
        let mut this = Clusters {
            model,
            order,
            target,
            plans: HashMap::new(),
            inside: BTreeSet::new(),
            convert: 0.0,
            bands: vec![],
            why: HashMap::new(),
        };
        let mut known: HashMap<OutletId, Lanes> = HashMap::new();
        for id in this.order.clone() {
            let node = model.node(id);
            let Some(plan) = this.plan(node, &known)? else {
                if is_open(node) {
                    this.why.insert(id, NO_LAYOUT);
                }
                continue;
            };
            known.insert(id.into(), plan.output);
            this.plans.insert(id, plan);
            this.inside.insert(id);
        }
        this.bands = this.bands()?;
        this.leave_results();
        this.leave_what_does_not_pay();
        Ok(this)
    }

    /// How a node runs on pairs, if it can: `known` are the channels of the values that can be pairs.
    fn plan(&self, node: &TypedNode, known: &HashMap<OutletId, Lanes>) -> TractResult<Option<Plan>> {
        let model = self.model;
        if let Some(layer) = node.op_as::<OptSparseConv>() {
            rule_if_some!(op = layer.in_pairs());
            rule_if_some!(half = layer.choice().half);
            rule_if_some!([x, y] = layer.lanes(Element::Bf16, model.outlet_fact(node.inputs[0])?)?);
            let mut inputs = tvec!((node.inputs[0], Some(x)));
            inputs.extend(node.inputs.get(1).map(|residual| (*residual, Some(y))));
            rule_if!(
                inputs
                    .iter()
                    .all(|(input, lanes)| known.get(input).is_none_or(|known| Some(*known) == *lanes))
            );
            let gain = layer.choice().sparse_ns as f64 - half.ns as f64;
            return Ok(Some(Plan { op: Box::new(op), inputs, output: y, gain, layer: Some(half.always) }));
        }
        rule_if!(node.outputs.len() == 1 && node.outputs[0].fact.datum_type == f32::datum_type());
        rule_if_some!(lanes = node.inputs.iter().find_map(|input| known.get(input)).copied());
        let x = node.inputs[0];
        let rank = model.outlet_fact(x)?.rank();
        let first = known.get(&x).copied();
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            rule_if_some!(function = element_wise(op));
            return Ok(Plan::between(PairsUnary::new(function, lanes, self.target), x, lanes, lanes));
        }
        if let Some(op) = binary(node) {
            return self.plan_binary(node, op, lanes, known);
        }
        if let Some(op) = node.op_as::<PairsReduce>() {
            rule_if!(op.lanes() == lanes);
            return Ok(Plan::between(op.in_pairs(), x, lanes, lanes));
        }
        if let Some(op) = node.op_as::<Planar>() {
            rule_if!(op.channel_axis(rank) == Some(lanes.axis()) && first == Some(lanes));
            let y = &node.outputs[0].fact.shape;
            rule_if!(y.len() == rank && y[lanes.axis()] == lanes.channels().to_dim());
            let mut inputs: TVec<_> = node.inputs.iter().map(|input| (*input, None)).collect();
            inputs[0].1 = first;
            let op = Box::new(PairsPlanar::new(op.clone(), lanes));
            return Ok(Some(Plan { op, inputs, output: lanes, gain: 0.0, layer: None }));
        }
        if let Some(op) = node.op_as::<NearestUpsample>() {
            rule_if!(op.scales.get(lanes.axis()) == Some(&1));
            return Ok(Plan::between(op.clone(), x, lanes, lanes));
        }
        if let Some(op) = node.op_as::<AxisOp>() {
            rule_if!(matches!(op, AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Move(..)));
            rule_if_some!(axis = op.transform_axis(lanes.axis()));
            let output = Lanes::new(axis, lanes.channels());
            return Ok(Plan::between(op.clone(), x, output, lanes));
        }
        if let Some(op) = node.op_as::<TypedConcat>() {
            return self.plan_concat(node, op, lanes, known);
        }
        Ok(None)
    }

    fn plan_binary(
        &self,
        node: &TypedNode,
        op: &dyn BinMiniOp,
        lanes: Lanes,
        known: &HashMap<OutletId, Lanes>,
    ) -> TractResult<Option<Plan>> {
        rule_if_some!(arithmetic = arithmetic(op));
        rule_if_let!(&[a, b] = &*node.inputs);
        let (a_fact, b_fact) = (self.model.outlet_fact(a)?, self.model.outlet_fact(b)?);
        let commutes = arithmetic != Arithmetic::Sub;
        if let Some(number) = number(self.model, b)? {
            let op = PairsBinary::new(arithmetic, lanes, Some(number), self.target);
            return Ok(Plan::between(op, a, lanes, lanes));
        }
        if let Some(number) = number(self.model, a)? {
            rule_if!(commutes);
            let op = PairsBinary::new(arithmetic, lanes, Some(number), self.target);
            return Ok(Plan::between(op, b, lanes, lanes));
        }
        let y = &node.outputs[0].fact.shape;
        let [a, b] = match () {
            () if a_fact.shape == *y && fits(lanes, &a_fact.shape, &b_fact.shape) => [a, b],
            () if commutes && b_fact.shape == *y && fits(lanes, &b_fact.shape, &a_fact.shape) => [b, a],
            () => return Ok(None),
        };
        rule_if!([a, b].iter().all(|x| known.get(x).is_none_or(|known| *known == lanes)));
        // constants would be rounded
        rule_if!(a_fact.konst.is_none() && b_fact.konst.is_none());
        rule_if!([a_fact, b_fact].iter().all(|fact| fact.datum_type == f32::datum_type()));
        let op = Box::new(PairsBinary::new(arithmetic, lanes, None, self.target));
        let inputs = tvec!((a, Some(lanes)), (b, Some(lanes)));
        Ok(Some(Plan { op, inputs, output: lanes, gain: 0.0, layer: None }))
    }

    /// Channels one behind the other are pairs one behind the other if all but the last are of even numbers.
    fn plan_concat(
        &self,
        node: &TypedNode,
        op: &TypedConcat,
        lanes: Lanes,
        known: &HashMap<OutletId, Lanes>,
    ) -> TractResult<Option<Plan>> {
        let (mut inputs, mut channels) = (tvec!(), 0);
        for (at, input) in node.inputs.iter().enumerate() {
            let fact = self.model.outlet_fact(*input)?;
            rule_if!(fact.konst.is_none() && fact.datum_type == f32::datum_type());
            rule_if_some!(own = fact.shape[lanes.axis()].to_usize().ok());
            let own = Lanes::new(lanes.axis(), own);
            rule_if!(known.get(input).is_none_or(|known| *known == own));
            rule_if!(
                op.axis != lanes.axis() || own.channels().is_multiple_of(2) || at + 1 == node.inputs.len()
            );
            channels += own.channels();
            inputs.push((*input, Some(own)));
        }
        let channels = if op.axis == lanes.axis() { channels } else { lanes.channels() };
        let output = Lanes::new(lanes.axis(), channels);
        Ok(Some(Plan { op: Box::new(op.clone()), inputs, output, gain: 0.0, layer: None }))
    }

    /// Layers of single pixels, such as classifiers, that put out a result of the model, or what becomes one without
    /// another layer in between.
    fn leave_results(&mut self) {
        let mut read_by_layers = HashSet::new();
        for id in self.order.iter().rev() {
            let by_layer = |reader: usize| {
                self.plans.get(&reader).is_some_and(|plan| plan.layer.is_some())
                    || read_by_layers.contains(&reader)
            };
            if self.model.node(*id).outputs.iter().flat_map(|y| &y.successors).any(|to| by_layer(to.node)) {
                read_by_layers.insert(*id);
            }
        }
        for id in self.inside.clone() {
            let node = self.model.node(id);
            let Some(layer) = node.op_as::<OptSparseConv>() else { continue };
            let single =
                self.model.outlet_fact(node.inputs[0]).is_ok_and(|x| layer.is_single_pixel(&x.shape));
            let is_output = self.model.outputs.contains(&id.into());
            if single && (is_output || !read_by_layers.contains(&id)) {
                self.leave(id, RESULT);
            }
        }
    }

    /// What bands of layers will spare, in either precision.
    fn bands(&self) -> TractResult<Vec<Bands>> {
        let mut all = vec![];
        for id in &self.order {
            let node = self.model.node(*id);
            let Some(succ) = self.model.single_succ(*id)? else { continue };
            if succ.inputs[0] != OutletId::from(*id) {
                continue;
            }
            let pair = [node, succ].map(|node| node.op_as::<OptSparseConv>());
            let [Some(first), Some(second)] = pair else { continue };
            let values = self.volume((*id).into());
            let spare = if first.epilogue().1 { [0.0; 2] } else { spared_by_bands(first, second, values) };
            all.push(Bands { layers: [*id, succ.id], spare });
        }
        Ok(all)
    }

    fn leave(&mut self, id: usize, why: &'static str) {
        self.inside.remove(&id);
        if is_open(self.model.node(id)) {
            self.why.insert(id, why);
        }
    }

    /// Nodes leave as long as that makes the whole faster, or as fast.
    fn leave_what_does_not_pay(&mut self) {
        let halves = self.inside.iter().filter_map(|id| self.model.node(*id).op_as::<OptSparseConv>());
        self.convert = halves
            .filter_map(|layer| layer.choice().half)
            .map(|half| half.convert_ps as f64 / 1e3)
            .fold(0.0, f64::max);
        loop {
            // what hangs together, single nodes, and all up to some node or from there on: where maps are large at
            // first, and single pixels at last
            let in_order: Vec<usize> =
                self.order.iter().copied().filter(|id| self.inside.contains(id)).collect();
            let mut candidates: Vec<Vec<usize>> = self.components();
            candidates.extend(in_order.iter().map(|id| vec![*id]));
            for at in 1..in_order.len() {
                let (first, last) = in_order.split_at(at);
                candidates.extend([first.to_vec(), last.to_vec()]);
            }
            let may_leave = |ids: &Vec<usize>| ids.iter().all(|id| self.plans[id].layer != Some(true));
            let after = |ids: &[usize]| {
                let mut less = self.inside.clone();
                ids.iter().for_each(|id| {
                    less.remove(id);
                });
                self.cost(&less)
            };
            let costs = candidates.into_iter().filter(may_leave).map(|ids| (after(&ids), ids));
            let best = costs.min_by(|(a, _), (b, _)| a.total_cmp(b));
            let Some((_, ids)) = best.filter(|(cost, _)| *cost <= self.cost(&self.inside)) else { return };
            for id in ids {
                self.leave(id, NO_GAIN);
            }
        }
    }

    /// Nodes inside that hang together.
    fn components(&self) -> Vec<Vec<usize>> {
        let (mut seen, mut components) = (HashSet::new(), vec![]);
        for id in &self.inside {
            let (mut open, mut component) = (vec![*id], vec![]);
            while let Some(id) = open.pop() {
                if !self.inside.contains(&id) || !seen.insert(id) {
                    continue;
                }
                component.push(id);
                open.extend(self.plans[&id].inputs.iter().map(|(input, _)| input.node));
                open.extend(self.model.node(id).outputs[0].successors.iter().map(|reader| reader.node));
            }
            if !component.is_empty() {
                components.push(component);
            }
        }
        components
    }

    /// Values of an outlet.
    fn volume(&self, outlet: OutletId) -> f64 {
        let Ok(fact) = self.model.outlet_fact(outlet) else { return 0.0 };
        let extent = |(axis, dim): (usize, &TDim)| match dim.to_usize() {
            Ok(extent) => extent as f64,
            Err(_) if axis == 0 => 1.0,
            Err(_) => ASSUMED_EXTENT as f64,
        };
        fact.shape.iter().enumerate().map(extent).product()
    }

    /// Whether someone outside of `inside` wants the output of a node.
    fn is_wanted(&self, id: usize, inside: &BTreeSet<usize>) -> bool {
        let outlet: OutletId = id.into();
        let reads_pairs = |reader: usize| {
            inside.contains(&reader)
                && self.plans[&reader].inputs.iter().all(|(input, lanes)| *input != outlet || lanes.is_some())
        };
        self.model.outputs.contains(&outlet)
            || self.model.node(id).outputs[0].successors.iter().any(|reader| !reads_pairs(reader.node))
    }

    /// Nanoseconds if these nodes are inside, up to a constant.
    fn cost(&self, inside: &BTreeSet<usize>) -> f64 {
        let (mut cost, mut converted) = (0.0, HashSet::new());
        for Bands { layers, spare } in &self.bands {
            cost -= match layers.map(|id| inside.contains(&id)) {
                [false, false] => spare[0],
                [true, true] => spare[1],
                _ => 0.0,
            };
        }
        for id in inside {
            let plan = &self.plans[id];
            cost -= plan.gain;
            for (input, lanes) in &plan.inputs {
                if lanes.is_some() && !inside.contains(&input.node) && converted.insert((*input, *lanes)) {
                    cost += self.convert * self.volume(*input);
                }
            }
            if self.is_wanted(*id, inside) {
                cost += self.convert * self.volume((*id).into());
            }
        }
        cost
    }

    /// Puts the clusters into the graph, and makes what is still open and stays outside f32.
    fn patch(self) -> TractResult<TypedModelPatch> {
        let mut wiring = Wiring::new("clusters on pairs of channels");
        for id in &self.order {
            let node = self.model.node(*id);
            let outlet: OutletId = (*id).into();
            if self.inside.contains(id) {
                let Plan { op, inputs, output, .. } = &self.plans[id];
                let mut wires = tvec!();
                for (input, lanes) in inputs {
                    wires.push(match lanes {
                        Some(lanes) => self.in_pairs(&mut wiring, *input, *lanes)?,
                        None => wiring.whole(self.model, *input)?,
                    });
                }
                // the name of an output of the model stays with its value
                let is_output = self.model.output_outlets()?.contains(&outlet);
                let [name, whole] = match is_output {
                    true => [format!("{}.pairs", node.name), node.name.clone()],
                    false => [node.name.clone(), format!("{}.whole", node.name)],
                };
                let y = wiring.patch.wire_node(name, op.clone(), &wires)?[0];
                wiring.put_lanes(outlet, *output, y);
                if self.is_wanted(*id, &self.inside) {
                    wiring.leave(self.model, outlet, &whole, FromPairs::new(*output, self.target), &[y])?;
                }
            } else if let Some(layer) = node.op_as::<OptSparseConv>().filter(|layer| layer.is_open()) {
                let why = self.why.get(id).copied().unwrap_or(NO_GAIN);
                let mut wires = tvec!();
                for input in &node.inputs {
                    wires.push(wiring.whole(self.model, *input)?);
                }
                wiring.leave(self.model, outlet, &node.name, layer.in_full(why), &wires)?;
            }
        }
        Ok(wiring.into_patch())
    }

    /// The wire of a value in pairs: converted where it comes into a cluster, once.
    fn in_pairs(&self, wiring: &mut Wiring, outlet: OutletId, lanes: Lanes) -> TractResult<OutletId> {
        let name = format!("{}.pairs", self.model.node(outlet.node).name);
        let op = || ToPairs::new(lanes, self.target);
        wiring.enter(self.model, [outlet; 2], lanes, name, op)
    }
}

fn is_open(node: &TypedNode) -> bool {
    node.op_as::<OptSparseConv>().is_some_and(OptSparseConv::is_open)
}

fn arithmetic(op: &dyn BinMiniOp) -> Option<Arithmetic> {
    if op.is::<Add>() {
        Some(Arithmetic::Add)
    } else if op.is::<Sub>() {
        Some(Arithmetic::Sub)
    } else if op.is::<Mul>() {
        Some(Arithmetic::Mul)
    } else if op.is::<Max>() {
        Some(Arithmetic::Max)
    } else if op.is::<Min>() {
        Some(Arithmetic::Min)
    } else {
        None
    }
}
