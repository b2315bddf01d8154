//! Layers of ours in graphs of f16, and what of such a graph becomes f32 for their sake.
//!
//! A layer that is swapped in a graph of f16 (that of a model stored so, or of tract's transform from f32) stays what it
//! is, in f16, until the graph is decluttered. Then the part of the graph that it hangs together with becomes f32 in one
//! patch: operators keep their names, constants are widened, conversions that meet vanish, and new ones stand where the part
//! begins and ends. So everything that later folds and fuses arithmetic finds an f32 graph.
//!
//! How far a part reaches depends on stock tract. Where it computes f16 by way of f32, all that hangs together with a layer
//! of ours is faster in f32. Where the processor computes in f16, operators of stock tract stay in it, but for those that
//! stand between layers of ours.

use crate::konst::konst_of;
use crate::sparse_conv::SparseConv;
use crate::sparse_deconv::SparseDeconv;
use crate::sparse_matmul::SparseMatMul;
use std::collections::BTreeSet;
use tract_core::internal::*;
use tract_core::ops::Downsample;
use tract_core::ops::array::{
    DynSlice, Gather, MultiBroadcastTo, Pad, Slice, StridedSlice, Tile, TypedConcat,
};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::change_axes::IntoShape;
use tract_core::ops::cnn::{Conv, Deconv, MaxPool, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::logic::Iff;
use tract_core::ops::nn::{NearestUpsample, Reduce, Resize, Softmax};

/// Brings the part of the graph around a layer of ours to f32, if the layer is in f16 or stands beside a conversion that
/// may vanish.
pub(crate) fn around(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    let touches = |outlet: OutletId, to: DatumType| {
        model.node(outlet.node).op_as::<Cast>().is_some_and(|cast| cast.to == to)
    };
    let mut inputs = node.inputs.iter();
    let before = inputs.any(|input| {
        let comes_from = model.node(input.node).inputs.first().copied();
        is_f16(model, *input)
            || (touches(*input, DatumType::F32) && comes_from.is_some_and(|from| is_f16(model, from)))
    });
    let behind = || {
        let mut readers = node.outputs.iter().flat_map(|output| &output.successors);
        readers.any(|reader| touches(reader.node.into(), DatumType::F16))
    };
    rule_if!(before || behind());
    Part::of(model, stock_keeps_f16())?.patch()
}

/// Whether stock tract computes f16 as such here, and not by way of f32.
pub fn stock_keeps_f16() -> bool {
    tract_linalg::has_fp16()
}

fn is_f16(model: &TypedModel, outlet: OutletId) -> bool {
    model.outlet_fact(outlet).is_ok_and(|fact| fact.datum_type == DatumType::F16 && fact.is_plain())
}

/// Whether it is a layer of ours that has not been packed.
fn is_ours(node: &TypedNode) -> bool {
    node.op_is::<SparseConv>() || node.op_is::<SparseMatMul>() || node.op_is::<SparseDeconv>()
}

/// What becomes of a node in f32.
enum Plan {
    /// This operator on widened inputs.
    Run(Box<dyn TypedOp>),
    /// A conversion of which the input is left.
    Pass,
}

/// The part of a graph of f16 that becomes f32.
struct Part<'a> {
    model: &'a TypedModel,
    order: Vec<usize>,
    plans: HashMap<usize, Plan>,
    inside: BTreeSet<usize>,
}

impl<'a> Part<'a> {
    /// That of all layers of ours; `keeps_f16` says that stock tract computes in f16 here.
    fn of(model: &'a TypedModel, keeps_f16: bool) -> TractResult<Part<'a>> {
        let mut this =
            Part { model, order: model.eval_order()?, plans: HashMap::new(), inside: BTreeSet::new() };
        for id in &this.order {
            if let Some(plan) = plan(model, model.node(*id))? {
                this.plans.insert(*id, plan);
            }
        }
        this.inside = if keeps_f16 { this.between_layers() } else { this.around_layers() };
        this.drop_borders();
        Ok(this)
    }

    /// The planned nodes that make the inputs of a node in f16, and those that read its output.
    fn neighbours(&self, id: usize) -> (Vec<usize>, Vec<usize>) {
        let node = self.model.node(id);
        let planned = |id: &usize| self.plans.contains_key(id);
        let wide_already = |id: usize| matches!(self.plans.get(&id), Some(Plan::Pass));
        // a conversion that vanishes leads on to the value of which it is one
        let before =
            node.inputs.iter().filter(|input| is_f16(self.model, **input) || wide_already(input.node));
        let behind = node.outputs[0].successors.iter().map(|reader| reader.node);
        let behind = behind.filter(|reader| is_f16(self.model, id.into()) || wide_already(*reader));
        (before.map(|input| input.node).filter(planned).collect(), behind.filter(planned).collect())
    }

    /// All that hangs together with a layer of ours.
    fn around_layers(&self) -> BTreeSet<usize> {
        let mut inside = BTreeSet::new();
        let mut open: Vec<usize> = vec![];
        for node in self.model.nodes().iter().filter(|node| is_ours(node)) {
            open.extend(self.plans.contains_key(&node.id).then_some(node.id));
            // a layer in f32 stands between conversions
            let beside = node.inputs.iter().map(|input| input.node);
            let beside = beside.chain(node.outputs[0].successors.iter().map(|reader| reader.node));
            open.extend(beside.filter(|id| matches!(self.plans.get(id), Some(Plan::Pass))));
        }
        while let Some(id) = open.pop() {
            if inside.insert(id) {
                let (before, behind) = self.neighbours(id);
                open.extend(before.into_iter().chain(behind));
            }
        }
        inside
    }

    /// Layers of ours, and the operators between them whose inputs all are in f32 by then, layers of stock tract apart.
    fn between_layers(&self) -> BTreeSet<usize> {
        let stays =
            |node: &TypedNode| node.op_is::<Conv>() || node.op_is::<EinSum>() || node.op_is::<Deconv>();
        let mut wide = BTreeSet::new();
        for id in &self.order {
            let node = self.model.node(*id);
            let known = |input: &OutletId| {
                !is_f16(self.model, *input)
                    || wide.contains(&input.node)
                    || self.model.outlet_fact(*input).is_ok_and(|fact| fact.konst.is_some())
            };
            if self.plans.contains_key(id)
                && (is_ours(node) || (!stays(node) && node.inputs.iter().all(known)))
            {
                wide.insert(*id);
            }
        }
        let mut inside = BTreeSet::new();
        for id in self.order.iter().rev().filter(|id| wide.contains(id)) {
            let node = self.model.node(*id);
            let ends = matches!(self.plans[id], Plan::Pass) && !is_f16(self.model, (*id).into());
            if is_ours(node) || ends || node.outputs[0].successors.iter().any(|to| inside.contains(&to.node))
            {
                inside.insert(*id);
            }
        }
        inside
    }

    /// Leaves out the conversions at the borders: they stay what they are.
    fn drop_borders(&mut self) {
        let is_border = |id: &usize| {
            let node = self.model.node(*id);
            let mut readers = node.outputs[0].successors.iter();
            matches!(self.plans[id], Plan::Pass)
                && match is_f16(self.model, (*id).into()) {
                    true => !readers.any(|reader| self.inside.contains(&reader.node)),
                    false => !self.inside.contains(&node.inputs[0].node),
                }
        };
        let borders: Vec<usize> = self.inside.iter().copied().filter(is_border).collect();
        borders.iter().for_each(|id| {
            self.inside.remove(id);
        });
    }

    fn patch(self) -> TractResult<Option<TypedModelPatch>> {
        rule_if!(!self.inside.is_empty());
        let model = self.model;
        let mut wiring =
            Wiring { patch: TypedModelPatch::new("f32 around sparse layers"), wide: HashMap::new() };
        let outputs = model.output_outlets()?;
        for id in self.order.iter().filter(|id| self.inside.contains(id)) {
            let (node, outlet) = (model.node(*id), OutletId::from(*id));
            let narrow = is_f16(model, outlet);
            // the name of an output of the model stays with its value
            let [name, narrowed] = match outputs.contains(&outlet) {
                true => [format!("{}.f32", node.name), node.name.clone()],
                false => [node.name.clone(), format!("{}.f16", node.name)],
            };
            let inputs: TVec<OutletId> =
                node.inputs.iter().map(|input| wiring.wide(model, *input)).collect::<TractResult<_>>()?;
            let y = match &self.plans[id] {
                Plan::Run(op) => wiring.patch.wire_node(name, op.clone(), &inputs)?[0],
                Plan::Pass => inputs[0],
            };
            if narrow {
                wiring.wide.insert(outlet, y);
                let readers = &node.outputs[0].successors;
                if outputs.contains(&outlet) || readers.iter().any(|to| !self.inside.contains(&to.node)) {
                    let y = wiring.patch.wire_node(narrowed, Cast { to: DatumType::F16 }, &[y])?[0];
                    wiring.patch.shunt_outside(model, outlet, y)?;
                }
            } else {
                wiring.wide.insert(outlet, y);
                wiring.patch.shunt_outside(model, outlet, y)?;
            }
        }
        Ok(Some(wiring.patch))
    }
}

/// A patch, and which of its wires have the values of the model in f32.
struct Wiring {
    patch: TypedModelPatch,
    wide: HashMap<OutletId, OutletId>,
}

impl Wiring {
    /// The wire of a value, widened if it is in f16: converted where it comes into the part, once.
    fn wide(&mut self, model: &TypedModel, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(wire) = self.wide.get(&outlet) {
            return Ok(*wire);
        }
        let name = || format!("{}.f32", model.node(outlet.node).name);
        let wire = match konst_of(model, outlet)?.filter(|_| is_f16(model, outlet)) {
            Some(konst) => self.patch.add_const(name(), widened(&konst)?)?,
            None => {
                let wire = self.patch.tap_model(model, outlet)?;
                match is_f16(model, outlet) {
                    true => self.patch.wire_node(name(), Cast { to: DatumType::F32 }, &[wire])?[0],
                    false => wire,
                }
            }
        };
        self.wide.insert(outlet, wire);
        Ok(wire)
    }
}

/// A tensor of f16 in f32, which is exact; others as they are.
///
/// # Errors
/// A tensor whose values are not in memory.
pub fn widened(tensor: &Arc<Tensor>) -> TractResult<Arc<Tensor>> {
    if tensor.datum_type() != DatumType::F16 {
        return Ok(tensor.clone());
    }
    Ok(tensor.cast_to::<f32>()?.into_owned().into_arc_tensor())
}

/// What becomes of a node in f32; none if it is not in f16, or no operator of which that is known.
fn plan(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Plan>> {
    rule_if!(node.outputs.len() == 1);
    if let Some(cast) = node.op_as::<Cast>() {
        let from = model.outlet_fact(node.inputs[0])?.datum_type;
        return Ok(match (from, cast.to) {
            // the name of an output of the model stays with its value
            (DatumType::F16, DatumType::F32) if !model.output_outlets()?.contains(&node.id.into()) => {
                Some(Plan::Pass)
            }
            (DatumType::F32, DatumType::F16) => Some(Plan::Pass),
            (from, DatumType::F16) if from != DatumType::F16 => {
                Some(Plan::Run(Box::new(Cast { to: DatumType::F32 })))
            }
            _ => None,
        });
    }
    rule_if!(is_f16(model, node.id.into()));
    rule_if_some!(op = in_f32(model, node)?);
    let facts: Vec<TypedFact> =
        node.inputs.iter().map(|input| wide_fact(model, *input)).collect::<TractResult<_>>()?;
    rule_if_let!(Ok(outputs) = op.output_facts(&facts.iter().collect::<Vec<_>>()));
    let y = &node.outputs[0].fact;
    rule_if!(outputs.len() == 1 && outputs[0].datum_type == DatumType::F32 && outputs[0].shape == y.shape);
    Ok(Some(Plan::Run(op)))
}

fn wide_fact(model: &TypedModel, outlet: OutletId) -> TractResult<TypedFact> {
    let fact = model.outlet_fact(outlet)?;
    Ok(if is_f16(model, outlet) { f32::fact(fact.shape.clone()) } else { fact.clone() })
}

/// The operator of a node for inputs in f32.
fn in_f32(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Box<dyn TypedOp>>> {
    if is_ours(node) {
        // weights that have left the range of f16 on their way are for stock tract
        for input in &node.inputs {
            if let Some(konst) = konst_of(model, *input)?.filter(|konst| konst.is_plain_ram()) {
                let konst = widened(&konst)?;
                rule_if!(crate::konst::f32s(&konst)?.iter().all(|value| value.is_finite()));
            }
        }
    }
    if let Some(op) = node.op_as::<SparseConv>() {
        return Ok(Some(Box::new(op.of_f16())));
    }
    if let Some(op) = node.op_as::<SparseMatMul>() {
        return Ok(Some(Box::new(op.of_f16())));
    }
    if let Some(op) = node.op_as::<SparseDeconv>() {
        return Ok(Some(Box::new(op.of_f16())));
    }
    let wide = |dt: Option<DatumType>| dt.map(|dt| if dt == DatumType::F16 { DatumType::F32 } else { dt });
    if let Some(op) = node.op_as::<ElementWiseOp>() {
        return Ok(Some(Box::new(ElementWiseOp(op.0.clone(), wide(op.1)))));
    }
    if let Some(op) = node.op_as::<TypedBinOp>() {
        return Ok(Some(Box::new(TypedBinOp(op.0.clone(), wide(op.1)))));
    }
    if let Some(op) = node.op_as::<EinSum>() {
        rule_if!(op.q_params.is_none());
        return Ok(Some(Box::new(EinSum { operating_dt: DatumType::F32, ..op.clone() })));
    }
    let takes_any_float = node.op_as::<Conv>().is_some_and(|conv| conv.q_params.is_none())
        || node.op_is::<Deconv>()
        || node.op_is::<MaxPool>()
        || node.op_is::<SumPool>()
        || node.op_is::<Reduce>()
        || node.op_as::<Softmax>().is_some_and(|softmax| softmax.quant_output_dt.is_none())
        || node.op_is::<Resize>()
        || node.op_is::<NearestUpsample>()
        || node.op_is::<Iff>()
        || node.op_is::<AxisOp>()
        || node.op_is::<IntoShape>()
        || node.op_is::<Downsample>()
        || node.op_is::<TypedConcat>()
        || node.op_is::<Slice>()
        || node.op_is::<DynSlice>()
        || node.op_is::<StridedSlice>()
        || node.op_is::<Pad>()
        || node.op_is::<Tile>()
        || node.op_is::<Gather>()
        || node.op_is::<MultiBroadcastTo>();
    Ok(takes_any_float.then(|| node.op.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::{Choice, Packing};
    use sparse_kernels::prelude::{FormatKind, Target};
    use tract_core::ops::cnn::{KernelFormat, PaddingSpec, PoolSpec};
    use tract_core::ops::nn::{DataFormat, sigmoid};

    const CHANNELS: usize = 8;

    fn conv() -> Conv {
        let kernel = tvec!(1, 1);
        let pool_spec =
            PoolSpec::new(DataFormat::NCHW, kernel, PaddingSpec::Valid, None, None, CHANNELS, CHANNELS);
        Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None }
    }

    fn ours() -> SparseConv {
        let choice = Choice {
            packing: Packing::Pointwise(FormatKind::ROWS_1),
            target: Target::SCALAR,
            stock_ns: 1,
            sparse_ns: 1,
            sparse: true,
            half: None,
            of_f16: false,
            int8: None,
        };
        SparseConv::new(conv(), choice)
    }

    /// Two layers of ours, a function behind each, then a layer of stock tract, all in f16.
    fn model() -> TractResult<TypedModel> {
        let mut model = TypedModel::default();
        let mut wire = model.add_source("x", f16::fact([1, CHANNELS, 3, 3]))?;
        let stock: Box<dyn TypedOp> = Box::new(conv());
        for (name, layer) in [("a", Box::new(ours()) as _), ("b", Box::new(ours()) as _), ("c", stock)] {
            let weights =
                (0..CHANNELS * CHANNELS).map(|i| f16::from_f32((i % 7) as f32 / 32.0)).collect::<Vec<_>>();
            let weights = Tensor::from_shape(&[CHANNELS, CHANNELS, 1, 1], &weights)?;
            let w = model.add_const(format!("{name}.w"), weights)?;
            let b = model.add_const(format!("{name}.b"), Tensor::zero::<f16>(&[CHANNELS])?)?;
            wire = model.wire_node(name, layer, &[wire, w, b])?[0];
            wire = model.wire_node(format!("{name}.sigmoid"), sigmoid(), &[wire])?[0];
        }
        model.select_output_outlets(&[wire])?;
        Ok(model)
    }

    fn type_of(model: &TypedModel, name: &str) -> DatumType {
        model.nodes().iter().find(|node| node.name == name).unwrap().outputs[0].fact.datum_type
    }

    /// Where stock tract computes in f16, its layers stay in it; elsewhere all that hangs together is f32. A second look finds
    /// nothing to do in either.
    #[test]
    fn a_part_reaches_as_far_as_it_pays() -> TractResult<()> {
        let expected = {
            let model = model()?;
            let x = Tensor::zero::<f16>(&[1, CHANNELS, 3, 3])?.into_tvalue();
            model.into_runnable()?.run(tvec!(x))?
        };
        for (keeps_f16, last_of_part) in [(true, "b"), (false, "c.sigmoid.f32")] {
            let mut model = model()?;
            Part::of(&model, keeps_f16)?.patch()?.unwrap().apply(&mut model)?;
            model.compact()?;
            for name in ["a", "a.sigmoid", "b", last_of_part] {
                assert_eq!(type_of(&model, name), DatumType::F32, "{name}");
            }
            assert_eq!(type_of(&model, "c"), if keeps_f16 { DatumType::F16 } else { DatumType::F32 });
            assert_eq!(type_of(&model, "c.sigmoid"), DatumType::F16);
            let casts = model.nodes().iter().filter(|node| node.op_is::<Cast>()).count();
            assert_eq!(casts, 2, "{keeps_f16}");
            assert!(Part::of(&model, keeps_f16)?.patch()?.is_none());
            let x = Tensor::zero::<f16>(&[1, CHANNELS, 3, 3])?.into_tvalue();
            let got = model.into_runnable()?.run(tvec!(x))?;
            got[0].close_enough(&expected[0], Approximation::Approximate)?;
        }
        Ok(())
    }
}
