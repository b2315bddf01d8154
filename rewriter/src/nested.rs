//! Models inside of models: the bodies of `Scan` and `If`.
//!
//! Every body is a model of its own: whether its dense layers run on our kernels depends on its other layers
//! alone.

use crate::analyse::{Seen, see, see_packed};
use crate::choose::{Assessment, Neighbours};
use crate::costs::ASSUMED_PIXELS;
use crate::policy::Policy;
use crate::report::LayerReport;
use crate::transform::made;
use sparse_ops::{Choice, OptSparseChain, OptSparseConv, OptSparseIf, SparseIf};
use std::collections::HashMap;
use tract_core::internal::*;
use tract_core::ops::logic::IfThenElse;
use tract_core::ops::scan::{InputMapping, OptScan, Scan};

/// A layer of a model or of one of its bodies.
#[derive(Debug)]
pub struct Place<'a> {
    /// The model or body that it is in.
    pub model: &'a TypedModel,
    /// Its node there.
    pub node: &'a TypedNode,
    /// Name of the node, or of the layer that it was before it took in what follows, behind those of the
    /// nodes around: `scan.loop.product`, `If.then.product`.
    pub name: String,
    /// What it is; [`LayerShape::calls`](crate::analyse::LayerShape::calls) counts all iterations of the
    /// loops around.
    pub seen: Seen,
    /// The packed layer, if it has been packed: that of the node, or one of a chain.
    pub(crate) packed: Option<&'a OptSparseConv>,
}

impl Place<'_> {
    /// The decision that made this layer sparse, if it is.
    pub(crate) fn made(&self) -> Option<&Choice> {
        self.packed.map(OptSparseConv::choice).or_else(|| made(self.node))
    }
}

/// Where the nodes of a model are: in a model that is in no other, or in a body.
#[derive(Debug, Clone)]
pub(crate) struct Around {
    /// What stands before the names of the nodes.
    prefix: String,
    /// How often they run in one run of the whole model.
    calls: usize,
}

impl Around {
    /// In no other model.
    pub(crate) fn nothing() -> Around {
        Around { prefix: String::new(), calls: 1 }
    }

    /// In the body that tract calls `label` of a node of this name, which runs `iterations` times.
    fn body(&self, name: &str, label: &str, iterations: usize) -> Around {
        Around { prefix: format!("{}.{label}.", self.name(name)), calls: self.calls * iterations }
    }

    /// The name of a node, behind those of the nodes around.
    fn name(&self, node: &str) -> String {
        qualified(&self.prefix, node)
    }

    /// A node of this model that has been seen to be a layer.
    pub(crate) fn place<'a>(&self, model: &'a TypedModel, node: &'a TypedNode, mut seen: Seen) -> Place<'a> {
        if let Some(shape) = seen.shape_mut() {
            shape.calls *= self.calls;
        }
        let packed = node.op_as::<OptSparseConv>();
        Place { model, node, name: self.name(packed.map_or(&node.name, OptSparseConv::layer)), seen, packed }
    }

    /// The layers of a chain.
    fn chain<'a>(
        &self,
        model: &'a TypedModel,
        node: &'a TypedNode,
        chain: &'a OptSparseChain,
    ) -> TractResult<Vec<Place<'a>>> {
        let mut x = model.outlet_fact(node.inputs[0])?.clone();
        let mut places = vec![];
        for layer in chain.layers() {
            let place = self.place(model, node, see_packed(layer, &x)?);
            places.push(Place { name: self.name(layer.layer()), packed: Some(layer), ..place });
            x = layer.y_fact(&x)?;
        }
        Ok(places)
    }
}

/// The layers of a model in the order in which they run, those of bodies where the operator around them is.
///
/// # Errors
/// Layers whose shapes contradict each other.
pub fn places(model: &TypedModel) -> TractResult<Vec<Place<'_>>> {
    places_among(model, &model.eval_order()?)
}

/// As [`places`], of these nodes and their bodies alone.
pub(crate) fn places_among<'a>(model: &'a TypedModel, nodes: &[usize]) -> TractResult<Vec<Place<'a>>> {
    fn visit<'a>(
        model: &'a TypedModel,
        nodes: &[usize],
        around: &Around,
        places: &mut Vec<Place<'a>>,
    ) -> TractResult<()> {
        for id in nodes {
            let node = model.node(*id);
            if let Some(chain) = node.op_as::<OptSparseChain>() {
                places.extend(around.chain(model, node, chain)?);
                continue;
            }
            if let Some(seen) = see(model, node)? {
                places.push(around.place(model, node, seen));
                continue;
            }
            for (label, body) in bodies(node) {
                let around = around.body(&node.name, label, iterations(model, node)?);
                visit(body, &body.eval_order()?, &around, places)?;
            }
        }
        Ok(())
    }
    let mut places = vec![];
    visit(model, nodes, &Around::nothing(), &mut places)?;
    Ok(places)
}

/// The neighbours of each layer among those of the same body: whether some of them is worth running sparse, or
/// already does.
pub(crate) fn neighbours_of(places: &[Place], policy: &Policy) -> TractResult<Vec<Neighbours>> {
    let mut known: HashMap<*const TypedModel, Neighbours> = HashMap::new();
    for place in places {
        let found = known.entry(place.model).or_insert(Neighbours::Dense);
        if *found == Neighbours::Dense {
            let sparse = match place.made() {
                Some(choice) => choice.sparse,
                None => Assessment::of_seen(&place.seen, policy)?.is_worth_it(policy),
            };
            if sparse {
                *found = Neighbours::Sparse;
            }
        }
    }
    Ok(places.iter().map(|place| known[&std::ptr::from_ref(place.model)]).collect())
}

/// The name of a node of a body; what the body's nodes are called after is not said twice.
fn qualified(prefix: &str, name: &str) -> String {
    let around = prefix.split_once('.').map_or("", |(around, _)| around);
    match name.strip_prefix(around).and_then(|rest| rest.strip_prefix('.')) {
        Some(rest) if !around.is_empty() => format!("{prefix}{rest}"),
        _ => format!("{prefix}{name}"),
    }
}

/// The bodies of a node, decluttered or optimised, with what tract calls them.
fn bodies(node: &TypedNode) -> TVec<(&'static str, &TypedModel)> {
    if let Some(scan) = node.op_as::<Scan>() {
        tvec!(("loop", &scan.body))
    } else if let Some(scan) = node.op_as::<OptScan>() {
        tvec!(("loop", scan.plan.model()))
    } else if let Some(op) = branches(node) {
        tvec!(("then", &op.then_body), ("else", &op.else_body))
    } else if let Some(op) = node.op_as::<OptSparseIf>() {
        let [then, otherwise] = op.bodies();
        tvec!(("then", then), ("else", otherwise))
    } else {
        tvec!()
    }
}

fn branches(node: &TypedNode) -> Option<&IfThenElse> {
    node.op_as::<IfThenElse>().or_else(|| node.op_as::<SparseIf>().map(SparseIf::branches))
}

/// How often the body of a node runs in one run of the model around. For a sequence of unknown length, as
/// many steps are assumed as pixels elsewhere; of the branches of an `If`, each counts as if it were taken.
pub(crate) fn iterations(model: &TypedModel, node: &TypedNode) -> TractResult<usize> {
    let mapping = match (node.op_as::<Scan>(), node.op_as::<OptScan>()) {
        (Some(scan), _) => &scan.input_mapping,
        (_, Some(scan)) => &scan.input_mapping,
        _ => return Ok(1),
    };
    let facts = model.node_input_facts(node.id)?;
    let scanned = mapping.iter().zip(facts).find_map(|(mapping, fact)| match mapping {
        InputMapping::Scan(info) => Some((info, fact)),
        _ => None,
    });
    Ok(scanned.map_or(1, |(info, fact)| match fact.shape[info.axis].to_usize() {
        Ok(length) => length.div_ceil(info.chunk.unsigned_abs().max(1)),
        Err(_) => ASSUMED_PIXELS,
    }))
}

/// Applies `edit`, which is told where a body and in which node of this model it is and says how many layers
/// it has changed, to the bodies of all nodes; returns how many of theirs have been. An `If` with changed
/// bodies becomes what `marked` says.
pub(crate) fn edit_bodies(
    model: &mut TypedModel,
    around: &Around,
    marked: fn(IfThenElse) -> Box<dyn TypedOp>,
    mut edit: impl FnMut(&mut TypedModel, &Around, &str) -> TractResult<usize>,
) -> TractResult<usize> {
    let mut changed = 0;
    for id in 0..model.nodes().len() {
        let node = model.node(id);
        let mut here = 0;
        let body =
            |label| -> TractResult<Around> { Ok(around.body(&node.name, label, iterations(model, node)?)) };
        let op: Box<dyn TypedOp> = if let Some(scan) = node.op_as::<Scan>() {
            let mut scan = scan.clone();
            share_constants(&mut scan, &model.node_input_facts(id)?)?;
            here += edit(&mut scan.body, &body("loop")?, &node.name)
                .with_context(|| format!("in the body of {node}"))?;
            // what has been put into the body is simplified together with its neighbours
            scan.decluttered = false;
            Box::new(scan)
        } else if let Some(op) = branches(node) {
            let mut op = op.clone();
            here += edit(&mut op.then_body, &body("then")?, &node.name)
                .with_context(|| format!("in the then branch of {node}"))?;
            here += edit(&mut op.else_body, &body("else")?, &node.name)
                .with_context(|| format!("in the else branch of {node}"))?;
            marked(op)
        } else {
            continue;
        };
        if here > 0 {
            model.node_mut(id).op = op;
            changed += here;
        }
    }
    Ok(changed)
}

/// Tells a body which of its inputs are constant.
fn share_constants(scan: &mut Scan, facts: &[&TypedFact]) -> TractResult<()> {
    let inputs = scan.body.input_outlets()?.to_vec();
    for ((outlet, mapping), fact) in inputs.into_iter().zip(&scan.input_mapping).zip(facts) {
        if let (InputMapping::Full, Some(konst)) = (mapping, &fact.konst) {
            scan.body.set_outlet_fact(outlet, TypedFact::try_from(konst.clone())?)?;
        }
    }
    Ok(())
}

/// Wires the nodes of `model` into `target`, whose wires `inputs` are its inputs; returns those that are its
/// outputs. Notes on nodes whose names are taken get the new ones.
pub(crate) fn splice(
    model: &TypedModel,
    inputs: &[OutletId],
    target: &mut TypedModel,
    notes: &mut [LayerReport],
) -> TractResult<TVec<OutletId>> {
    let mut mapping: HashMap<OutletId, OutletId> =
        model.input_outlets()?.iter().copied().zip(inputs.iter().copied()).collect();
    for id in model.eval_order()? {
        if mapping.contains_key(&id.into()) {
            continue;
        }
        let node = model.node(id);
        let inputs: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let name = target.unique_name(&node.name).into_owned();
        for note in notes.iter_mut().filter(|_| name != node.name) {
            let rest = note.name.strip_prefix(&node.name);
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('.')) {
                note.name = format!("{name}{rest}");
            }
        }
        let outputs = target.wire_node(name, node.op.clone(), &inputs)?;
        mapping.extend(outputs.into_iter().enumerate().map(|(slot, wire)| (OutletId::new(id, slot), wire)));
    }
    Ok(model.output_outlets()?.iter().map(|outlet| mapping[outlet]).collect())
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn names_of_bodies_do_not_repeat_that_of_the_loop() {
        assert_eq!(qualified("", "conv"), "conv");
        assert_eq!(qualified("lstm.loop.", "lstm.product"), "lstm.loop.product");
        assert_eq!(qualified("scan.loop.", "m2"), "scan.loop.m2");
        assert_eq!(qualified("If.then.", "If2"), "If.then.If2");
    }
}
