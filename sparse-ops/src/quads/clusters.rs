//! Which parts of a graph run on quads of bytes.
//!
//! A quantised graph goes in steps from bytes to bytes: some tensors are dequantised, an operator computes in f32, and what
//! it puts out is quantised. When layers have taken in all that they can, each such step that has an integer
//! operator becomes a [`Unit`]. Units that hang together with a layer are a cluster: its tensors are quads, with
//! conversions where they come in and go out and nowhere else. One patch puts all of them into the graph.

use super::between::{QuadsBinary, QuadsLookup, QuadsMean, QuadsMoved, QuadsPlanar, QuadsWide};
use super::{FromQuads, Outside, Steps, ToQuads};
use crate::epilogue::binary;
use crate::konst::f32s;
use crate::opt_sparse_conv::OptSparseConv;
use crate::pairs::clusters::{global_sum, number};
use crate::pairs::{Lanes, PairsReduce, fits};
use crate::planar::Planar;
use crate::wiring::Wiring;
use sparse_kernels::prelude::{Element, Target};
use sparse_kernels::quads::Binary;
use std::collections::{BTreeSet, HashSet};
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::{Add, Mul};
use tract_core::ops::nn::NearestUpsample;
use tract_core::ops::quant::{DequantizeLinearF32, LookupTable, QuantizeLinearI8, QuantizeLinearU8};

const INPUT: &str = "its input is not quantised";
const OUTPUT: &str = "its output is not quantised, or read in f32, too";
const LAYOUT: &str = "no kernel takes its layout in quads of channels";

/// The top bit of a byte, by which i8 and u8 differ.
const TOP: u8 = 0x80;

/// Whether a value is dequantised: from bytes, and moved at most.
pub fn is_dequantised(model: &TypedModel, mut outlet: OutletId) -> bool {
    loop {
        let node = model.node(outlet.node);
        if node.op_is::<DequantizeLinearF32>() {
            return true;
        }
        match node.op_as::<AxisOp>() {
            Some(_) => outlet = node.inputs[0],
            None => return false,
        }
    }
}

/// Decides for all layers of a model that may run in int8; none if some of them has not yet taken in what it can.
pub(crate) fn settle(model: &TypedModel) -> TractResult<Option<TypedModelPatch>> {
    let mut target = Target::SCALAR;
    for node in model.nodes() {
        if let Some(layer) = node.op_as::<OptSparseConv>().filter(|layer| layer.may_be_int8()) {
            rule_if!(layer.settled(model, node)?);
            target = layer.choice().target;
        }
    }
    if let Some(patch) = global_sum(model, target)? {
        return Ok(Some(patch));
    }
    Clusters::of(model, target)?.patch().map(Some)
}

/// A value in f32 that is dequantised.
#[derive(Debug, Clone, Copy)]
struct View {
    bytes: OutletId,
    steps: Steps,
}

/// Nodes that make bytes of bytes, as one operator on quads.
struct Unit {
    name: String,
    op: Box<dyn TypedOp>,
    /// What it is given, and the channels of those that are quads.
    inputs: TVec<(OutletId, Option<Lanes>)>,
    /// The bytes that it puts out, and their channels.
    output: OutletId,
    lanes: Lanes,
    /// Everything that it stands for, the node that puts out the bytes last.
    nodes: TVec<usize>,
    /// Of a layer: its node, and what the bytes of its input and output stand for.
    layer: Option<(usize, [Steps; 2])>,
    /// Behind a layer of floats: the bytes that its input is made of.
    before: Option<OutletId>,
}

struct Clusters<'a> {
    model: &'a TypedModel,
    order: Vec<usize>,
    target: Target,
    views: HashMap<OutletId, View>,
    units: Vec<Unit>,
    /// The unit that puts out these bytes.
    makers: HashMap<OutletId, usize>,
    /// Why layers stay outside.
    why: HashMap<usize, String>,
}

impl<'a> Clusters<'a> {
    fn of(model: &'a TypedModel, target: Target) -> TractResult<Clusters<'a>> {
        let mut this = Clusters {
            model,
            order: model.eval_order()?,
            target,
            views: HashMap::new(),
            units: vec![],
            makers: HashMap::new(),
            why: HashMap::new(),
        };
        for id in this.order.clone() {
            let node = model.node(id);
            if let Some(op) = node.op_as::<DequantizeLinearF32>() {
                this.view(node, op)?;
            } else if let Some(unit) = this.unit(node)? {
                this.makers.insert(unit.output, this.units.len());
                this.units.push(unit);
            }
        }
        this.keep_clusters();
        Ok(this)
    }

    fn view(&mut self, node: &TypedNode, op: &DequantizeLinearF32) -> TractResult<()> {
        let bytes = node.inputs[0];
        let signed = match self.model.outlet_fact(bytes)?.datum_type {
            DatumType::U8 => false,
            DatumType::I8 => true,
            _ => return Ok(()),
        };
        match Steps::new(op.scale, op.zero_point, signed) {
            Ok(steps) => {
                self.views.insert(node.id.into(), View { bytes, steps });
            }
            Err(why) => {
                for reader in &node.outputs[0].successors {
                    self.why.insert(reader.node, format!("of its input, {why}"));
                }
            }
        }
        Ok(())
    }

    /// The channels of bytes that are put out as quads.
    fn known(&self, bytes: OutletId) -> Option<Lanes> {
        self.makers.get(&bytes).map(|unit| self.units[*unit].lanes)
    }

    /// The bytes that a node puts out as a unit, if it puts out such.
    fn unit(&mut self, node: &TypedNode) -> TractResult<Option<Unit>> {
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            if let Some(steps) = quantisation(op) {
                return self.quantised(node, steps);
            }
            return match op.0.downcast_ref::<LookupTable>() {
                Some(op) => self.looked_up(node, op),
                None => Ok(None),
            };
        }
        // bytes that are only moved
        rule_if_some!(op = node.op_as::<AxisOp>());
        rule_if_some!(lanes = self.known(node.inputs[0]));
        rule_if_some!(output = moved(op, lanes));
        Ok(Some(Unit {
            name: node.name.clone(),
            op: Box::new(op.clone()),
            inputs: tvec!((node.inputs[0], Some(lanes))),
            output: node.id.into(),
            lanes: output,
            nodes: tvec!(node.id),
            layer: None,
            before: None,
        }))
    }

    fn looked_up(&mut self, node: &TypedNode, op: &LookupTable) -> TractResult<Option<Unit>> {
        let x = node.inputs[0];
        rule_if_some!(lanes = self.known(x));
        rule_if_let!(Ok(table) = <[u8; 256]>::try_from(op.table.table()));
        let flip = if self.model.outlet_fact(x)?.datum_type == i8::datum_type() { TOP } else { 0 };
        let table = std::array::from_fn(|byte| table[byte ^ usize::from(flip)] ^ flip);
        self.lookup(x, table, lanes, tvec!(node.id)).map(Some)
    }

    /// A function of bytes: part of the layer that makes them, if nothing else reads them.
    fn lookup(
        &mut self,
        x: OutletId,
        table: [u8; 256],
        lanes: Lanes,
        nodes: TVec<usize>,
    ) -> TractResult<Unit> {
        let output = OutletId::from(nodes[nodes.len() - 1]);
        if let Some(maker) = self.makers.get(&x).copied().filter(|_| self.is_read_by_one(x))
            && let Some((id, steps)) = self.units[maker].layer
            && let Some(layer) = self.model.node(id).op_as::<OptSparseConv>()
        {
            let op = Box::new(layer.in_int8(steps, Some(table))?);
            self.makers.remove(&x);
            self.makers.values_mut().filter(|unit| **unit > maker).for_each(|unit| *unit -= 1);
            let without = self.units.remove(maker);
            let nodes = without.nodes.iter().copied().chain(nodes).collect();
            return Ok(Unit { op, output, nodes, layer: None, ..without });
        }
        Ok(Unit {
            name: self.model.node(nodes[0]).name.clone(),
            op: Box::new(QuadsLookup::new(table, lanes)),
            inputs: tvec!((x, Some(lanes))),
            output,
            lanes,
            nodes,
            layer: None,
            before: None,
        })
    }

    /// Whether bytes have one reader, which is not a result of the model: dequantisation counts as its readers.
    fn is_read_by_one(&self, bytes: OutletId) -> bool {
        let readers = |outlet: OutletId| {
            self.model.node(outlet.node).outputs.get(outlet.slot).map_or(&[][..], |output| &output.successors)
        };
        let mut count = 0;
        for reader in readers(bytes) {
            let view = OutletId::from(reader.node);
            count += if self.views.contains_key(&view) { readers(view).len() } else { 1 };
            if self.model.outputs.contains(&view) {
                return false;
            }
        }
        count == 1 && !self.model.outputs.contains(&bytes)
    }

    /// What is computed of dequantised values and quantised at `node`.
    fn quantised(
        &mut self,
        node: &TypedNode,
        steps: Result<Steps, &'static str>,
    ) -> TractResult<Option<Unit>> {
        let y = node.inputs[0];
        let core = self.model.node(y.node);
        let steps = match steps {
            Ok(steps) => steps,
            Err(why) => {
                self.why.insert(core.id, format!("of its output, {why}"));
                return Ok(None);
            }
        };
        if let Some(unit) = self.function(node, steps)? {
            return Ok(Some(unit));
        }
        rule_if!(self.is_read_once(y) && core.outputs.len() == 1);
        let nodes = tvec!(core.id, node.id);
        let output = OutletId::from(node.id);
        let unit = |op: Box<dyn TypedOp>, inputs, lanes, layer| Unit {
            name: core.name.clone(),
            op,
            inputs,
            output,
            lanes,
            nodes: nodes.clone(),
            layer,
            before: None,
        };
        if let Some(layer) = core.op_as::<OptSparseConv>() {
            let lanes = layer.lanes(Element::Int8, self.model.outlet_fact(core.inputs[0])?)?;
            let Some([x_lanes, y_lanes]) = lanes else {
                self.why.insert(core.id, LAYOUT.into());
                return Ok(None);
            };
            match self.layer(layer, core, x_lanes, steps) {
                Ok((op, x)) => {
                    let inputs = tvec!((x.bytes, Some(x_lanes)));
                    let layer = Some((core.id, [x.steps, steps]));
                    return Ok(Some(unit(Box::new(op), inputs, y_lanes, layer)));
                }
                Err(why) => {
                    self.why.entry(core.id).or_insert_with(|| format!("{why:#}"));
                }
            }
            // bytes around a layer of floats can be quads
            let before = self.views.get(&core.inputs[0]).map(|view| view.bytes);
            if let Some(bytes) = before.filter(|bytes| self.known(*bytes).is_none())
                && let Some(unit) = self.entry(bytes, x_lanes)
            {
                self.makers.insert(bytes, self.units.len());
                self.units.push(unit);
            }
            return Ok(self.entry(output, y_lanes).map(|unit| Unit { before, ..unit }));
        }
        let views: TVec<Option<View>> =
            core.inputs.iter().map(|input| self.views.get(input).copied()).collect();
        let known = views.iter().flatten().find_map(|view| self.known(view.bytes));
        rule_if_some!(lanes = known);
        if let Some(op) = binary(core) {
            let op = match () {
                () if op.is::<Add>() => Binary::Add,
                () if op.is::<Mul>() => Binary::Mul,
                () => return Ok(None),
            };
            rule_if_let!(&[Some(a), Some(b)] = &*views);
            let a_shape = &self.model.outlet_fact(core.inputs[0])?.shape;
            let b_shape = &self.model.outlet_fact(core.inputs[1])?.shape;
            let y_shape = &core.outputs[0].fact.shape;
            let [a, b] = match () {
                () if *a_shape == *y_shape && fits(lanes, a_shape, b_shape) => [a, b],
                () if *b_shape == *y_shape && fits(lanes, b_shape, a_shape) => [b, a],
                () => return Ok(None),
            };
            rule_if!([a, b].iter().all(|x| self.known(x.bytes).is_none_or(|known| known == lanes)));
            let op = QuadsBinary::new(op, [a.steps, b.steps, steps], lanes, self.target);
            let inputs = tvec!((a.bytes, Some(lanes)), (b.bytes, Some(lanes)));
            return Ok(Some(unit(Box::new(op), inputs, lanes, None)));
        }
        rule_if_some!(x = views[0]);
        let x_lanes = self.known(x.bytes).unwrap_or(lanes);
        let inputs = tvec!((x.bytes, Some(x_lanes)));
        if let Some(op) = core.op_as::<PairsReduce>() {
            rule_if!((op.lanes().axis(), op.lanes().channels()) == (x_lanes.axis(), x_lanes.channels()));
            let op = QuadsMean::new(op.factor(), [x.steps, steps], x_lanes, self.target);
            return Ok(Some(unit(Box::new(op), inputs, x_lanes, None)));
        }
        if let Some(op) = core.op_as::<AxisOp>() {
            rule_if_some!(lanes = moved(op, x_lanes));
            let op = QuadsMoved::put(Box::new(op.clone()), &[x.steps], steps);
            return Ok(Some(unit(op, inputs, lanes, None)));
        }
        if let Some(op) = core.op_as::<NearestUpsample>() {
            rule_if!(op.scales.get(x_lanes.axis()) == Some(&1));
            let op = QuadsMoved::put(Box::new(op.clone()), &[x.steps], steps);
            return Ok(Some(unit(op, inputs, x_lanes, None)));
        }
        if let Some(op) = core.op_as::<Planar>() {
            let y = &core.outputs[0].fact.shape;
            rule_if!(op.channel_axis(y.len()) == Some(x_lanes.axis()));
            rule_if!(y[x_lanes.axis()] == x_lanes.channels().to_dim());
            let rest = core.inputs.iter().skip(1).map(|input| (*input, None));
            let inputs: TVec<_> = inputs.into_iter().chain(rest).collect();
            let op = QuadsPlanar::new(op.clone(), [x.steps, steps], x_lanes);
            return Ok(Some(unit(Box::new(op), inputs, x_lanes, None)));
        }
        if let Some(op) = core.op_as::<TypedConcat>() {
            rule_if_some!((op, inputs, lanes) = self.concatenated(core, op, &views, lanes, steps)?);
            return Ok(Some(unit(op, inputs, lanes, None)));
        }
        Ok(None)
    }

    /// Where floats are quantised to these bytes, to quads of such channels.
    fn entry(&self, bytes: OutletId, lanes: Lanes) -> Option<Unit> {
        let node = self.model.node(bytes.node);
        let steps = node.op_as::<ElementWiseOp>().and_then(quantisation)?.ok()?;
        let x = self.model.outlet_fact(node.inputs[0]).ok()?;
        (x.datum_type == f32::datum_type()).then(|| Unit {
            name: format!("{}.quads", node.name),
            op: Box::new(ToQuads::new(lanes, Outside::F32(steps), self.target)),
            inputs: tvec!((node.inputs[0], None)),
            output: bytes,
            lanes,
            nodes: tvec!(bytes.node),
            layer: None,
            before: None,
        })
    }

    /// The layer at a node in int8, and its input.
    fn layer(
        &self,
        layer: &OptSparseConv,
        node: &TypedNode,
        lanes: Lanes,
        y: Steps,
    ) -> TractResult<(OptSparseConv, View)> {
        let x = self.views.get(&node.inputs[0]).copied().context(INPUT)?;
        ensure!(self.known(x.bytes).is_none_or(|known| known == lanes), LAYOUT);
        Ok((layer.in_int8([x.steps, y], None)?, x))
    }

    /// Channels one behind the other are quads one behind the other if all but the last fill their quads.
    #[allow(clippy::type_complexity)]
    fn concatenated(
        &self,
        core: &TypedNode,
        op: &TypedConcat,
        views: &[Option<View>],
        lanes: Lanes,
        steps: Steps,
    ) -> TractResult<Option<(Box<dyn TypedOp>, TVec<(OutletId, Option<Lanes>)>, Lanes)>> {
        let along = op.axis == lanes.axis();
        let (mut inputs, mut wide, mut channels) = (tvec!(), tvec!(), 0);
        let mut whole = true;
        for (at, (input, view)) in core.inputs.iter().zip(views).enumerate() {
            rule_if_some!(view = view);
            let extent = &self.model.outlet_fact(*input)?.shape[lanes.axis()];
            rule_if_some!(own = extent.to_usize().ok());
            let own = Lanes::of(Element::Int8, lanes.axis(), own);
            rule_if!(self.known(view.bytes).is_none_or(|known| known == own));
            whole &= own.channels().is_multiple_of(own.per_lane()) || at + 1 == views.len() || !along;
            channels += own.channels();
            inputs.push((view.bytes, Some(own)));
            wide.push(Some((own, view.steps)));
        }
        let channels = if along { channels } else { lanes.channels() };
        let output = Lanes::of(Element::Int8, lanes.axis(), channels);
        let of_inputs: TVec<Steps> = views.iter().flatten().map(|view| view.steps).collect();
        let op = match whole {
            true => QuadsMoved::put(Box::new(op.clone()), &of_inputs, steps),
            false => self.wide(core, &wide, (output, steps)),
        };
        Ok(Some((op, inputs, output)))
    }

    fn wide(
        &self,
        core: &TypedNode,
        inputs: &[Option<(Lanes, Steps)>],
        output: (Lanes, Steps),
    ) -> Box<dyn TypedOp> {
        Box::new(QuadsWide::new(core.op.clone(), inputs, output, self.target))
    }

    fn is_read_once(&self, outlet: OutletId) -> bool {
        self.model.node(outlet.node).outputs[outlet.slot].successors.len() == 1
            && !self.model.outputs.contains(&outlet)
    }

    /// Functions of one dequantised value up to where it is quantised at `node`, as a table.
    fn function(&mut self, node: &TypedNode, steps: Steps) -> TractResult<Option<Unit>> {
        let (mut y, mut functions) = (node.inputs[0], vec![]);
        let x = loop {
            if let Some(view) = self.views.get(&y) {
                break *view;
            }
            let before = self.model.node(y.node);
            rule_if!(self.is_read_once(y));
            rule_if_some!((function, input) = function_at(self.model, before)?);
            functions.push((before.id, function));
            y = input;
        };
        rule_if_some!(lanes = self.known(x.bytes));
        functions.reverse();
        let (of_x, of_y) = (x.steps.affine(), steps.affine());
        let mut values = tensor1(&(0..=u8::MAX).map(|byte| of_x.float(byte)).collect::<Vec<f32>>());
        for (_, function) in &functions {
            values = function.apply(values)?;
        }
        let values = f32s(&values)?;
        let table = std::array::from_fn(|byte| of_y.byte(values[byte]));
        let nodes = functions.iter().map(|(id, _)| *id).chain([node.id]).collect();
        self.lookup(x.bytes, table, lanes, nodes).map(Some)
    }

    /// Leaves out what no layer hangs together with, and says why of layers that are no unit.
    fn keep_clusters(&mut self) {
        let layers = self.units.iter().map(|unit| unit.nodes.iter().any(|id| is_layer(self.model, *id)));
        let mut inside: Vec<bool> = layers.collect();
        // units are in order: what is inside spreads to readers in one pass, to those that are read in another
        loop {
            let before = inside.clone();
            for (at, unit) in self.units.iter().enumerate() {
                let read = unit.inputs.iter().filter_map(|(input, lanes)| lanes.and(Some(input)));
                let makers = read.chain(&unit.before).filter_map(|bytes| self.makers.get(bytes));
                let makers: Vec<usize> = makers.copied().collect();
                let any = inside[at] || makers.iter().any(|maker| inside[*maker]);
                inside[at] = any;
                makers.iter().for_each(|maker| inside[*maker] |= any);
            }
            if inside == before {
                break;
            }
        }
        let mut keep = inside.iter();
        self.units.retain(|_| keep.next().copied().unwrap_or(false));
        self.makers = self.units.iter().enumerate().map(|(at, unit)| (unit.output, at)).collect();
        let units: HashSet<usize> = self.units.iter().flat_map(|unit| unit.nodes.iter().copied()).collect();
        for id in &self.order {
            if is_layer(self.model, *id) && !units.contains(id) {
                self.why.entry(*id).or_insert_with(|| OUTPUT.into());
            }
        }
    }

    /// Puts the clusters into the graph.
    fn patch(self) -> TractResult<TypedModelPatch> {
        let model = self.model;
        let by_last: HashMap<usize, &Unit> = self.units.iter().map(|unit| (unit.output.node, unit)).collect();
        let covered: BTreeSet<usize> =
            self.units.iter().flat_map(|unit| unit.nodes.iter().copied()).collect();
        let mut wiring = Wiring::new("clusters on quads of bytes");
        for id in &self.order {
            let node = model.node(*id);
            if let Some(unit) = by_last.get(id) {
                let mut wires = tvec!();
                for (input, lanes) in &unit.inputs {
                    wires.push(match lanes {
                        Some(lanes) => self.in_quads(&mut wiring, *input, *lanes)?,
                        None => wiring.whole(model, *input)?,
                    });
                }
                let readers = &node.outputs[unit.output.slot].successors;
                let is_view = |id: usize| self.views.contains_key(&id.into());
                let wanted = model.outputs.contains(&unit.output)
                    || readers.iter().any(|to| !is_view(to.node) && !covered.contains(&to.node));
                // the names of what others want, or of what stays, stay with the values
                let name = match unit.name == node.name && wanted {
                    true => format!("{}.quads", unit.name),
                    false => unit.name.clone(),
                };
                let y = wiring.patch.wire_node(name, unit.op.clone(), &wires)?[0];
                wiring.put_lanes(unit.output, unit.lanes, y);
                if wanted {
                    let signed = node.outputs[unit.output.slot].fact.datum_type == i8::datum_type();
                    let to = if signed { Outside::I8 } else { Outside::U8 };
                    let op = FromQuads::new(unit.lanes, to, self.target);
                    wiring.leave(model, unit.output, &node.name, op, &[y])?;
                }
                for reader in readers.iter().filter(|_| !wanted) {
                    let view = OutletId::from(reader.node);
                    let Some(View { steps, .. }) = self.views.get(&view) else { continue };
                    let mut values = model.node(view.node).outputs[0].successors.iter();
                    if model.outputs.contains(&view) || values.any(|to| !covered.contains(&to.node)) {
                        let op = FromQuads::new(unit.lanes, Outside::F32(*steps), self.target);
                        wiring.leave(model, view, &model.node(view.node).name, op, &[y])?;
                    }
                }
            } else if let Some(why) = self.why.get(id)
                && let Some(layer) = node.op_as::<OptSparseConv>().filter(|layer| layer.may_be_int8())
            {
                let mut wires = tvec!();
                for input in &node.inputs {
                    wires.push(wiring.whole(model, *input)?);
                }
                wiring.leave(model, node.id.into(), &node.name, layer.without_int8(why), &wires)?;
            }
        }
        Ok(wiring.into_patch())
    }

    /// The wire of bytes in quads: converted where they come into a cluster, once, and quantised there if they are.
    fn in_quads(&self, wiring: &mut Wiring, bytes: OutletId, lanes: Lanes) -> TractResult<OutletId> {
        let (model, node) = (self.model, self.model.node(bytes.node));
        let (from, outlet) = match node.op_as::<ElementWiseOp>().and_then(quantisation) {
            Some(Ok(steps)) if model.outlet_fact(node.inputs[0])?.datum_type == f32::datum_type() => {
                (Outside::F32(steps), node.inputs[0])
            }
            _ if model.outlet_fact(bytes)?.datum_type == i8::datum_type() => (Outside::I8, bytes),
            _ => (Outside::U8, bytes),
        };
        let op = || ToQuads::new(lanes, from, self.target);
        wiring.enter(model, [bytes, outlet], lanes, format!("{}.quads", node.name), op)
    }
}

fn is_layer(model: &TypedModel, id: usize) -> bool {
    model.node(id).op_as::<OptSparseConv>().is_some_and(OptSparseConv::may_be_int8)
}

/// The channels of quads behind a change of axes that leaves the order of values alone.
fn moved(op: &AxisOp, lanes: Lanes) -> Option<Lanes> {
    let axis = match op {
        AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Move(..) => op.transform_axis(lanes.axis())?,
        AxisOp::Reshape(..) => return None,
    };
    Some(Lanes::of(Element::Int8, axis, lanes.channels()))
}

/// A function of single values.
enum Function<'a> {
    One(&'a ElementWiseOp),
    /// With a number as the first or the second operand.
    Two(&'a dyn tract_core::ops::binary::BinMiniOp, f32, bool),
}

impl Function<'_> {
    fn apply(&self, x: Tensor) -> TractResult<Tensor> {
        match self {
            Function::One(op) => {
                let y = op.eval_out_of_plan(tvec!(x.into_tvalue()))?.context("a function with a state")?;
                Ok(y[0].clone().into_tensor())
            }
            Function::Two(op, number, first) => {
                let number = tensor1(&[*number]);
                let (a, b) = if *first { (&number, &x) } else { (&x, &number) };
                op.eval(a.clone().into_tvalue(), b.clone().into_tvalue(), f32::datum_type())
            }
        }
    }
}

/// The function of f32 at a node, and its argument.
fn function_at<'a>(model: &TypedModel, node: &'a TypedNode) -> TractResult<Option<(Function<'a>, OutletId)>> {
    let f32 = f32::datum_type();
    rule_if!(node.outputs.len() == 1 && node.outputs[0].fact.datum_type == f32);
    if let Some(op) = node.op_as::<ElementWiseOp>() {
        rule_if!(model.outlet_fact(node.inputs[0])?.datum_type == f32);
        return Ok(Some((Function::One(op), node.inputs[0])));
    }
    rule_if_some!(op = binary(node));
    rule_if_let!(&[a, b] = &*node.inputs);
    if let Some(value) = number(model, b)? {
        return Ok(Some((Function::Two(op, value, false), a)));
    }
    Ok(number(model, a)?.map(|value| (Function::Two(op, value, true), b)))
}

/// What the bytes stand for that an operator quantises to, if it does; in words, why they stand for nothing.
fn quantisation(op: &ElementWiseOp) -> Option<Result<Steps, &'static str>> {
    if let Some(op) = op.0.downcast_ref::<QuantizeLinearU8>() {
        return Some(Steps::new(op.scale.recip(), i32::from(op.zero_point), false));
    }
    let op = op.0.downcast_ref::<QuantizeLinearI8>()?;
    Some(Steps::new(op.scale.recip(), i32::from(op.zero_point), true))
}
