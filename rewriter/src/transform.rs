//! The late entry point: models that are already typed (NNEF, TFLite, the `tract` facade, deployment files).

use crate::analyse::see;
use crate::choose::{Assessed, Decision, Neighbours};
use crate::integer::unfolded;
use crate::nested::{Around, edit_bodies, iterations};
use crate::policy::{Mode, Policy, Precision};
use crate::record::note_all;
use crate::report::{LayerReport, Report, layer_report};
use crate::restore::restored;
use crate::rules;
use sparse_ops::{
    Choice, OptSparseConv, OptSparseGru, SparseConv, SparseDeconv, SparseGruSeq, SparseIf, SparseMatMul,
};
use tract_core::internal::*;
use tract_core::ops::gru_seq::GruSeq;
use tract_core::ops::scan::Scan;
use tract_core::transform::ModelTransform;

/// Swaps the sparse layers of a typed model that has not been optimised, and of its bodies; returns how many.
///
/// A model with loops or recurrent layers is decluttered first, so that products which do not depend on the
/// step before have left their loop.
///
/// # Errors
/// A model that has already been optimised, or layers whose shapes contradict each other.
pub fn sparsify(model: &mut TypedModel, policy: &Policy) -> TractResult<usize> {
    let Swapped { layers, notes } = sparsify_part(model, policy, &Around::nothing())?;
    note_all(model, notes)?;
    Ok(layers)
}

/// What has become of the layers of a model and its bodies.
#[derive(Debug)]
pub(crate) struct Swapped {
    /// How many have been swapped.
    pub(crate) layers: usize,
    /// What is to be noted of all of them, in the order in which they run.
    pub(crate) notes: Vec<LayerReport>,
}

/// [`sparsify`], but that the caller notes what was found: of a body, or of a model that another is made from.
pub(crate) fn sparsify_part(
    model: &mut TypedModel,
    policy: &Policy,
    around: &Around,
) -> TractResult<Swapped> {
    enable_pulse();
    if policy.mode == Mode::Never {
        return Ok(Swapped { layers: 0, notes: Report::with_policy(model, policy)?.layers });
    }
    if model.nodes().iter().any(|node| may_be_hoisted(model, node)) {
        model.declutter()?;
    } else if model.nodes().iter().any(|node| node.op_is::<Scan>()) {
        // weights of a loop may be slices of a constant
        model.prop_consts()?;
    }
    let mut notes = HashMap::new();
    let mut as_they_were = restored(model)?;
    let neighbours = |model: &TypedModel| Ok(Look::at(model, policy)?.neighbours);
    if let Some(floats) = unfolded(as_they_were.as_ref().unwrap_or(model), policy, neighbours)? {
        as_they_were = Some(floats);
    }
    let mut layers = match as_they_were {
        None => Look::at(model, policy)?.swap(model, policy, around, &mut notes)?,
        Some(mut restored) => {
            let layers = Look::at(&restored, policy)?.swap(&mut restored, policy, around, &mut notes)?;
            if layers > 0 {
                *model = restored;
            } else {
                // left as it is, and noted so
                notes.clear();
                let look = Look::at(model, policy)?;
                let nodes: Vec<usize> = look.layers.iter().map(|(id, _)| *id).collect();
                look.note(model, &nodes, policy, around, &mut notes)?;
            }
            layers
        }
    };
    layers += edit_bodies(
        model,
        around,
        |branches| Box::new(SparseIf::new(branches)),
        |body, around, node| {
            let in_body = sparsify_part(body, policy, around)?;
            notes.entry(node.to_string()).or_default().extend(in_body.notes);
            Ok(in_body.layers)
        },
    )?;
    let order = model.eval_order()?;
    let notes = order.iter().filter_map(|id| notes.remove(&model.node(*id).name)).flatten().collect();
    Ok(Swapped { layers, notes })
}

/// What is to be noted of the layers of a model, by the names of its nodes.
type Notes = HashMap<String, Vec<LayerReport>>;

/// Whether products may still stand in this loop or recurrent layer that do not depend on the step before. A
/// loop of a single step is left alone: stock tract may only unroll it where the model around lets it.
fn may_be_hoisted(model: &TypedModel, node: &TypedNode) -> bool {
    if let Some(scan) = node.op_as::<Scan>() {
        !scan.decluttered && !iterations(model, node).is_ok_and(|steps| steps == 1)
    } else {
        node.op_as::<GruSeq>()
            .is_some_and(|seq| !seq.projected && seq.declutter(model, node).is_ok_and(|p| p.is_some()))
    }
}

/// The layers of a model, its bodies apart.
struct Look {
    /// Those that may become sparse, in the order in which they run.
    layers: Vec<(usize, Assessed)>,
    /// Those that are sparse already, and stay so.
    already: Vec<usize>,
    neighbours: Neighbours,
}

impl Look {
    fn at(model: &TypedModel, policy: &Policy) -> TractResult<Look> {
        let (mut layers, mut already) = (vec![], vec![]);
        for id in model.eval_order()? {
            let node = model.node(id);
            if made(node).is_some() {
                already.push(id);
            } else if let Some(assessed) = Assessed::of(model, node, policy)? {
                layers.push((id, assessed));
            }
        }
        let sparse = already.iter().any(|id| made(model.node(*id)).is_some_and(|choice| choice.sparse))
            || layers.iter().any(|(_, assessed)| assessed.assessment.is_worth_it(policy));
        let neighbours = if sparse { Neighbours::Sparse } else { Neighbours::Dense };
        Ok(Look { layers, already, neighbours })
    }

    /// Swaps the layers that are to run sparse; returns how many.
    fn swap(
        &self,
        model: &mut TypedModel,
        policy: &Policy,
        around: &Around,
        notes: &mut Notes,
    ) -> TractResult<usize> {
        let (mut nodes, mut swapped) = (vec![], 0);
        for (id, assessed) in &self.layers {
            let runs = rules::swap(model, *id, assessed, policy, self.neighbours)?;
            nodes.push(runs.unwrap_or(*id));
            swapped += runs.is_some() as usize;
        }
        self.note(model, &nodes, policy, around, notes)?;
        if swapped > 0 {
            model.compact()?;
        }
        Ok(swapped)
    }

    /// Notes the layers, which are these nodes by now, and those that have been sparse before.
    fn note(
        &self,
        model: &TypedModel,
        nodes: &[usize],
        policy: &Policy,
        around: &Around,
        notes: &mut Notes,
    ) -> TractResult<()> {
        for (id, (_, assessed)) in nodes.iter().zip(&self.layers) {
            let note = note_of(model, *id, assessed, policy, self.neighbours, around)?;
            notes.insert(model.node(*id).name.clone(), vec![note]);
        }
        for id in &self.already {
            let node = model.node(*id);
            let (Some(choice), Some(seen)) = (made(node), see(model, node)?) else { continue };
            let place = around.place(model, node, seen);
            let note = layer_report(&place, Decision::Sparse(*choice), policy, self.neighbours, false)?;
            notes.insert(node.name.clone(), vec![note]);
        }
        Ok(())
    }
}

/// What is to be noted of the layer at a node.
pub(crate) fn note_of(
    model: &TypedModel,
    id: usize,
    Assessed { seen, assessment }: &Assessed,
    policy: &Policy,
    neighbours: Neighbours,
    around: &Around,
) -> TractResult<LayerReport> {
    let place = around.place(model, model.node(id), seen.clone());
    layer_report(&place, assessment.decide(policy, neighbours), policy, neighbours, false)
}

/// Lets `tract_pulse` pulse the layers that will be made sparse.
pub(crate) fn enable_pulse() {
    #[cfg(feature = "pulse")]
    if let Err(error) = sparse_ops::pulse::register() {
        log::warn!("sparse layers cannot be pulsed: {error:#}");
    }
}

/// The decision that made this layer sparse, if it is.
pub(crate) fn made(node: &TypedNode) -> Option<&Choice> {
    let made = node.op_as::<SparseConv>().map(SparseConv::choice);
    let made = made.or_else(|| node.op_as::<SparseDeconv>().map(SparseDeconv::choice));
    let made = made.or_else(|| node.op_as::<SparseMatMul>().map(SparseMatMul::choice));
    let made = made.or_else(|| node.op_as::<OptSparseConv>().map(OptSparseConv::choice));
    let made = made.or_else(|| node.op_as::<SparseGruSeq>().map(SparseGruSeq::choice));
    made.or_else(|| node.op_as::<OptSparseGru>().map(OptSparseGru::choice))
}

/// Puts the stock operators back in place of the sparse ones, in bodies, too; returns how many.
///
/// # Errors
/// A graph that cannot be patched.
pub fn unsparsify(model: &mut TypedModel) -> TractResult<usize> {
    let mut unwrapped =
        edit_bodies(model, &Around::nothing(), |branches| Box::new(branches), |body, _, _| unsparsify(body))?;
    loop {
        let patch = model.nodes().iter().find_map(|node| {
            if let Some(op) = node.op_as::<SparseConv>() {
                Some(op.unwrap(model, node))
            } else if let Some(op) = node.op_as::<SparseDeconv>() {
                Some(op.unwrap(model, node))
            } else if let Some(op) = node.op_as::<SparseMatMul>() {
                Some(op.unwrap(model, node))
            } else {
                node.op_as::<SparseGruSeq>().map(|op| op.unwrap(model, node))
            }
        });
        let Some(patch) = patch else { return Ok(unwrapped) };
        patch?.apply(model)?;
        model.compact()?;
        unwrapped += 1;
    }
}

#[derive(Debug)]
struct Sparsify;

impl ModelTransform for Sparsify {
    fn name(&self) -> StaticName {
        "sparsify".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        sparsify(model, &Policy::from_knobs()?).map(|_| ())
    }
}

/// `sparsify` under [`Mode::Dense`], whatever the knob says.
#[derive(Debug)]
struct Planar;

impl ModelTransform for Planar {
    fn name(&self) -> StaticName {
        "planar".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        sparsify(model, &Policy { mode: Mode::Dense, ..Policy::from_knobs()? }).map(|_| ())
    }
}

/// `sparsify` in half precision, whatever the knob says.
#[derive(Debug)]
struct SparsifyHalf;

impl ModelTransform for SparsifyHalf {
    fn name(&self) -> StaticName {
        "sparsify_half".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        sparsify(model, &Policy { precision: Precision::Half, ..Policy::from_knobs()? }).map(|_| ())
    }
}

#[derive(Debug)]
struct Unsparsify;

impl ModelTransform for Unsparsify {
    fn name(&self) -> StaticName {
        "unsparsify".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        unsparsify(model).map(|_| ())
    }
}

tract_core::register_simple_model_transform!("sparsify", Sparsify);
tract_core::register_simple_model_transform!("sparsify_half", SparsifyHalf);
tract_core::register_simple_model_transform!("planar", Planar);
tract_core::register_simple_model_transform!("unsparsify", Unsparsify);
