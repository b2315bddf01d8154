//! The early entry point: while an ONNX model becomes a typed one, sparse layers are swapped as they are
//! made.
//!
//! `tract_onnx::Onnx` has a public register of operator builders. The builders of `Conv`, `ConvTranspose`,
//! `Gemm` and `MatMul` are replaced by ones that wrap what the stock builder makes; the wrapper delegates
//! everything and looks at the result of `to_typed`. A layer that stays dense is the stock operator, bit for
//! bit.
//!
//! So are those of recurrent layers and of operators with bodies. What they become is simplified in a model
//! of its own, so that products leave their loops as they would later on, and the layers are swapped where
//! they stand then.
//!
//! What is found is noted on the way for reports on the optimised model; for their sake operators are hooked,
//! too, whose layers always stay stock.

use crate::choose::{Assessed, Neighbours};
use crate::integer::Integer;
use crate::nested::{Around, neighbours_of, places_among, splice};
use crate::policy::{Mode, Policy, Precision};
use crate::record::{Interface, note};
use crate::report::{LayerReport, decided, layer_report};
use crate::rules;
use crate::transform::{Swapped, enable_pulse, made, note_of, sparsify_part, unsparsify};
use sparse_ops::{constant, konst_of};
use std::cell::Cell;
use std::sync::OnceLock;
use tract_core::ops::cast::Cast;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::math::max;
use tract_hir::internal::*;
use tract_hir::ops::quant::DequantizeLinearF32;
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::pb::tensor_proto::DataType;

type Builder = fn(&ParsingContext, &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// What there is to do for an operator.
#[derive(Clone, Copy)]
enum Kind {
    /// It is a layer.
    Layer,
    /// It has layers inside.
    Composite,
    /// It is a layer in integers.
    Integer,
    /// Its layers stay stock, which reports say.
    Stock,
    /// It quantises or dequantises.
    Steps,
    /// It normalises, which stock tract is kept from mistaking.
    Normalising,
}

/// Operators that are looked at.
const HOOKED: [(&str, Kind); 18] = [
    ("Conv", Kind::Layer),
    ("ConvTranspose", Kind::Layer),
    ("Gemm", Kind::Layer),
    ("MatMul", Kind::Layer),
    ("GRU", Kind::Composite),
    ("LSTM", Kind::Composite),
    ("RNN", Kind::Composite),
    ("Scan", Kind::Composite),
    ("If", Kind::Composite),
    ("ConvInteger", Kind::Stock),
    ("QLinearConv", Kind::Integer),
    ("MatMulInteger", Kind::Stock),
    ("QLinearMatMul", Kind::Integer),
    ("Einsum", Kind::Stock),
    (QUANTIZE, Kind::Steps),
    ("DequantizeLinear", Kind::Steps),
    ("Softmax", Kind::Normalising),
    ("LogSoftmax", Kind::Normalising),
];

const QUANTIZE: &str = "QuantizeLinear";

/// How many times a register may be hooked with another builder put over ours in between.
const LEVELS: usize = 4;

/// Builders for the operator of this position in [`HOOKED`], by level.
type Builders = [Builder; LEVELS];

const BUILDERS: [Builders; HOOKED.len()] = [
    builders::<0>(),
    builders::<1>(),
    builders::<2>(),
    builders::<3>(),
    builders::<4>(),
    builders::<5>(),
    builders::<6>(),
    builders::<7>(),
    builders::<8>(),
    builders::<9>(),
    builders::<10>(),
    builders::<11>(),
    builders::<12>(),
    builders::<13>(),
    builders::<14>(),
    builders::<15>(),
    builders::<16>(),
    builders::<17>(),
];

const fn builders<const OP: usize>() -> Builders {
    [build::<OP, 0>, build::<OP, 1>, build::<OP, 2>, build::<OP, 3>]
}

/// The entry of the register that holds what our builder of a level wraps. No ONNX operator has a name like
/// it.
fn wrapped(op: &str, level: usize) -> String {
    format!("tract_sparse.wrapped/{op}/{level}")
}

/// The entry of the register that holds our own builder of a level.
fn ours(op: &str, level: usize) -> String {
    format!("tract_sparse.builder/{op}/{level}")
}

/// Makes `onnx` load pruned layers as sparse ones, whatever builds its `Conv`, `ConvTranspose`, `Gemm` and
/// `MatMul`: stock tract, or the user. Calling it twice is harmless.
///
/// A builder that the user inserts afterwards replaces ours, and layers that it makes are not looked at,
/// unless it calls the one that it has found in the register, or `onnx` is hooked again.
pub fn hook_onnx(onnx: &mut Onnx) {
    enable_pulse();
    // A builder is a plain function pointer and cannot carry the one that it wraps: that waits in the same
    // register.
    let register = &mut onnx.op_register.0;
    for ((op, _), builders) in HOOKED.into_iter().zip(BUILDERS) {
        let Some(builder) = register.get(op).copied() else { continue };
        let level = (0..LEVELS).find(|level| !register.contains_key(&ours(op, *level))).unwrap_or(LEVELS);
        let hooked = level.checked_sub(1).and_then(|last| register.get(&ours(op, last)));
        if hooked.is_some_and(|hooked| *hooked as usize == builder as usize) {
            continue;
        }
        if let Some(build) = builders.get(level) {
            register.insert(wrapped(op, level), builder);
            register.insert(ours(op, level), *build);
            register.insert(op.to_string(), *build);
        }
    }
}

/// The entry of the register that says that layers are to compute in this precision. What it holds is never called.
fn wanted(precision: Precision) -> String {
    format!("tract_sparse.precision/{precision}")
}

/// Makes layers that `onnx` loads compute in this precision, whatever the knob says.
pub fn set_precision(onnx: &mut Onnx, precision: Precision) {
    let register = &mut onnx.op_register.0;
    for other in [Precision::F32, Precision::Half] {
        register.remove(&wanted(other));
    }
    register.insert(wanted(precision), BUILDERS[0][0]);
}

/// Builds what the wrapped builder builds, and hooks it.
fn build<const OP: usize, const LEVEL: usize>(
    ctx: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (op_name, kind) = HOOKED[OP];
    let wrapped = ctx.framework.op_register.0.get(&wrapped(op_name, LEVEL));
    let wrapped = wrapped.with_context(|| format!("no builder of {op_name} in this register to wrap"))?;
    let (op, closures) = wrapped(ctx, node)?;
    let found = match kind {
        Kind::Layer => Finding::Layer(OnceLock::new()),
        Kind::Composite => Finding::Composite(OnceLock::new()),
        Kind::Integer => Finding::Integer(OnceLock::new()),
        Kind::Stock => Finding::Stock,
        Kind::Steps => Finding::Steps(steps_axis(op_name, node)?),
        Kind::Normalising => Finding::Normalising,
    };
    let precision = [Precision::F32, Precision::Half]
        .into_iter()
        .find(|precision| ctx.framework.op_register.0.contains_key(&wanted(*precision)));
    Ok((Box::new(SparseHook { stock: op, found, precision }), closures))
}

/// The axis of the scales of an operator that quantises or dequantises. Stock tract makes u8 where there is no zero point.
fn steps_axis(op_name: &str, node: &NodeProto) -> TractResult<i64> {
    let u8 = DataType::Uint8 as i64;
    let out = node.get_attr_opt::<i64>("output_dtype")?.filter(|dt| ![0, u8].contains(dt));
    let typed = node.input.get(2).is_some_and(|zero| !zero.is_empty());
    ensure!(
        op_name != QUANTIZE || typed || out.is_none(),
        "{op_name} {}: output_dtype says another type than u8, which is read from a zero point alone",
        node.name
    );
    Ok(node.get_attr_opt("axis")?.unwrap_or(1))
}

thread_local! {
    /// Set while a layer is made alone: hooks inside of what a user has built must not look at the model around it, which waits
    /// for what is found here.
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// The time in which a layer is made alone, on this thread.
struct Looking;

impl Looking {
    fn begin() -> Looking {
        LOOKING.set(true);
        Looking
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.set(false);
    }
}

/// A stock inference operator; its typed form is looked at once.
#[derive(Debug, Clone)]
struct SparseHook {
    stock: Box<dyn InferenceOp>,
    found: Finding,
    /// What the loader was told to have layers compute in; else the knob says.
    precision: Option<Precision>,
}

/// What was found out about an operator; worked out when a layer of the model first needs to know.
#[derive(Debug, Clone)]
enum Finding {
    /// Of a layer: about each of the typed nodes that it becomes.
    Layer(OnceLock<Vec<Found>>),
    /// Of a recurrent layer or an operator with bodies.
    Composite(OnceLock<Box<Composite>>),
    /// Of an integer operator: the layer in floats, if it can be read.
    Integer(OnceLock<Option<Arc<Integer>>>),
    /// Of an operator whose layers stay stock.
    Stock,
    /// Of an operator that quantises or dequantises: the axis of its scales. It is only checked.
    Steps(i64),
    /// Of a softmax, whose values depend on each other.
    Normalising,
}

/// What a recurrent layer or an operator with bodies becomes for inputs of these facts.
#[derive(Debug, Clone)]
struct Composite {
    inputs: TVec<TypedFact>,
    /// It alone, simplified and with sparse layers; its inputs that are not constant, by their positions.
    /// None if it is to be the stock operator.
    sparse: Option<Arc<(TypedModel, Vec<usize>)>>,
    /// What is to be noted of its layers.
    notes: Vec<LayerReport>,
}

/// What was found out about one of the typed nodes of a layer, and how to know it again.
#[derive(Debug, Clone)]
struct Found {
    op: StaticName,
    inputs: TVec<TypedFact>,
    assessed: Option<Assessed>,
}

impl Found {
    fn of(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<Found> {
        let assessed = Assessed::of(model, node, policy)?;
        let inputs = model.node_input_facts(node.id)?.into_iter().cloned().collect();
        Ok(Found { op: node.op.name(), inputs, assessed })
    }

    /// Whether it was this node: the same operator on the same shapes and the very same weights.
    fn is_of(&self, model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
        Ok(self.op == node.op.name() && same(&self.inputs, &model.node_input_facts(node.id)?))
    }
}

/// Whether inputs have the same types and shapes and the very same constants.
fn same(known: &[TypedFact], inputs: &[&TypedFact]) -> bool {
    let same = |a: &TypedFact, b: &TypedFact| {
        a.datum_type == b.datum_type
            && a.shape == b.shape
            && match (&a.konst, &b.konst) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                (a, b) => a.is_none() == b.is_none(),
            }
    };
    known.len() == inputs.len() && known.iter().zip(inputs).all(|(a, b)| same(a, b))
}

/// An operator in a model of its own.
struct Alone {
    model: TypedModel,
    /// The inputs that are not constant, by their positions.
    sources: Vec<usize>,
    /// The first of the nodes that it became.
    first: usize,
}

impl SparseHook {
    /// Makes what the stock operator makes. A `Gemm` of f16 with a bias, which stock tract 0.23.9 refuses because it
    /// multiplies the bias by a number of f32, is made in f32, between conversions.
    fn make(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let is_f16 = |outlet: &OutletId| -> TractResult<bool> {
            Ok(target.outlet_fact(mapping[outlet])?.datum_type == DatumType::F16)
        };
        let refused = self.stock.name() == "Gemm"
            && node.inputs.len() == 3
            && node.inputs.iter().map(is_f16).collect::<TractResult<Vec<_>>>()?.iter().all(|is| *is);
        if !refused {
            return self.stock.to_typed(source, node, target, mapping);
        }
        let mut mapping = mapping.clone();
        for (ix, input) in node.inputs.iter().enumerate() {
            let name = format!("{}.{APART}.wide.{ix}", node.name);
            let wide = target.wire_node(name, Cast { to: DatumType::F32 }, &[mapping[input]])?[0];
            mapping.insert(*input, wide);
        }
        let mut wide = node.clone();
        wide.outputs[0].fact.datum_type = DatumType::F32.into();
        let outputs = self.stock.to_typed(source, &wide, target, &mapping)?;
        let name = format!("{}.{APART}.f16", node.name);
        target.wire_node(name, Cast { to: DatumType::F16 }, &outputs)
    }

    /// Makes this operator alone, for inputs of these facts.
    fn alone(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
        inputs: &[TypedFact],
    ) -> TractResult<Alone> {
        let mut alone = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
        let mut mapping = HashMap::new();
        let mut sources = vec![];
        for (ix, (outlet, fact)) in node.inputs.iter().zip(inputs).enumerate() {
            let name = format!("{}.{APART}.{ix}", node.name);
            let wire = match &fact.konst {
                Some(value) => alone.add_const(name, value.clone())?,
                None => {
                    sources.push(ix);
                    self.source(model, *outlet, &mut alone, name, fact)?
                }
            };
            mapping.insert(*outlet, wire);
        }
        let first = alone.nodes().len();
        let looking = Looking::begin();
        let outputs = self.make(model, node, &mut alone, &mapping)?;
        drop(looking);
        alone.select_output_outlets(&outputs)?;
        Ok(Alone { model: alone, sources, first })
    }

    /// An input of an operator that is made alone. Of a layer, one that the model dequantises is dequantised here, too: that
    /// is how it shows.
    fn source(
        &self,
        model: &InferenceModel,
        outlet: OutletId,
        alone: &mut TypedModel,
        name: String,
        fact: &TypedFact,
    ) -> TractResult<OutletId> {
        let is_layer = matches!(self.found, Finding::Layer(_));
        if !is_layer || model.node(outlet.node).op.name() != "DequantizeLinear" {
            return alone.add_source(name, fact.clone());
        }
        let bytes = alone.add_source(format!("{name}.bytes"), u8::fact(fact.shape.clone()))?;
        Ok(alone.wire_node(name, DequantizeLinearF32::new(1.0, 0), &[bytes])?[0])
    }

    /// What this recurrent layer or operator with bodies becomes.
    fn simplified(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
        inputs: TVec<TypedFact>,
        policy: &Policy,
    ) -> TractResult<Composite> {
        let Alone { model: mut alone, sources, .. } = self.alone(model, node, &inputs)?;
        // hooks in the bodies have decided before it was known what leaves a loop
        unsparsify(&mut alone)?;
        let Swapped { layers, notes } = sparsify_part(&mut alone, policy, &Around::nothing())
            .with_context(|| format!("simplifying {node}"))?;
        Ok(Composite { inputs, sparse: (layers > 0).then(|| Arc::new((alone, sources))), notes })
    }

    fn is_worth_it(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
        policy: &Policy,
    ) -> TractResult<bool> {
        let inputs = || -> TractResult<TVec<TypedFact>> {
            let known = |outlet: &OutletId| {
                let value = constant(
                    model,
                    *outlet,
                    &|fact: &InferenceFact| fact.value.concretize(),
                    &|op, inputs| op.eval_out_of_plan(inputs),
                )?;
                match value {
                    Some(value) => TypedFact::try_from(value),
                    None => TypedFact::try_from(model.outlet_fact(*outlet)?),
                }
            };
            node.inputs.iter().map(known).collect()
        };
        match &self.found {
            Finding::Layer(known) => {
                let found = match known.get() {
                    Some(found) => found,
                    None => {
                        let Alone { model, first, .. } = self.alone(model, node, &inputs()?)?;
                        let made = model.nodes()[first..].iter();
                        let found =
                            made.map(|node| Found::of(&model, node, policy)).collect::<TractResult<_>>()?;
                        known.get_or_init(|| found)
                    }
                };
                let mut assessed = found.iter().filter_map(|found| found.assessed.as_ref());
                Ok(assessed.any(|assessed| assessed.assessment.is_worth_it(policy)))
            }
            Finding::Composite(known) => {
                let found = match known.get() {
                    Some(found) => found,
                    None => {
                        let found = self.simplified(model, node, inputs()?, policy)?;
                        known.get_or_init(|| Box::new(found))
                    }
                };
                // layers that stay in a body are neighbours of those of that body alone
                let sparse = |node: &TypedNode| made(node).is_some_and(|choice| choice.sparse);
                Ok(found
                    .sparse
                    .as_ref()
                    .is_some_and(|sparse_model| sparse_model.0.nodes().iter().any(sparse)))
            }
            Finding::Integer(known) => {
                let integer = self.integer(known, model, node, &inputs()?, policy)?;
                Ok(integer.is_some_and(|integer| integer.runs(policy, Neighbours::Dense)))
            }
            Finding::Stock | Finding::Steps(_) | Finding::Normalising => Ok(false),
        }
    }

    /// The layer of this integer operator in floats, if it can be read.
    fn integer(
        &self,
        known: &OnceLock<Option<Arc<Integer>>>,
        model: &InferenceModel,
        node: &InferenceNode,
        inputs: &[TypedFact],
        policy: &Policy,
    ) -> TractResult<Option<Arc<Integer>>> {
        if let Some(known) = known.get() {
            return Ok(known.clone());
        }
        let Alone { model, first, .. } = self.alone(model, node, inputs)?;
        let found = Integer::alone(&model, first, policy)?.map(Arc::new);
        Ok(known.get_or_init(|| found).clone())
    }

    /// Puts the layer of an integer operator into `target`, if it is to run here; returns its outputs and what is to be
    /// noted of it.
    fn wire_integer(
        &self,
        known: &OnceLock<Option<Arc<Integer>>>,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
        policy: &Policy,
    ) -> TractResult<Option<(TVec<OutletId>, Vec<LayerReport>)>> {
        rule_if!(policy.mode != Mode::Never);
        let wires: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let fact = |wire: &OutletId| match konst_of(target, *wire)? {
            Some(value) => TypedFact::try_from(value),
            None => target.outlet_fact(*wire).cloned(),
        };
        let facts: TVec<TypedFact> = wires.iter().map(fact).collect::<TractResult<_>>()?;
        let neighbours = neighbours(source, policy);
        rule_if_some!(integer = self.integer(known, source, node, &facts, policy)?);
        rule_if!(integer.runs(policy, neighbours));
        let Integer { mut model, layer, assessed } = (*integer).clone();
        rule_if_some!(layer = rules::swap(&mut model, layer, &assessed, policy, neighbours)?);
        let mut notes = vec![note_of(&model, layer, &assessed, policy, neighbours, &Around::nothing())?];
        let before = target.nodes().len();
        let outputs = splice(&model, &wires[..1], target, &mut notes)?;
        set_apart(source, target, before, &node.name);
        Ok(Some((outputs, notes)))
    }

    /// Puts a recurrent layer or an operator with bodies into `target`; returns its outputs and what is to be
    /// noted of its layers.
    fn wire_composite(
        &self,
        known: &OnceLock<Box<Composite>>,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
        policy: &Policy,
    ) -> TractResult<(TVec<OutletId>, Vec<LayerReport>)> {
        let wires: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let fact = |wire: &OutletId| match konst_of(target, *wire)? {
            Some(value) => TypedFact::try_from(value),
            None => target.outlet_fact(*wire).cloned(),
        };
        let facts: TVec<TypedFact> = wires.iter().map(fact).collect::<TractResult<_>>()?;
        let found = match known.get() {
            Some(known) if same(&known.inputs, &facts.iter().collect::<TVec<_>>()) => known.clone(),
            _ => Box::new(self.simplified(source, node, facts, policy)?),
        };
        let mut notes = found.notes;
        if let Some(sparse) = found.sparse {
            let (alone, sources) = &*sparse;
            let sources: TVec<OutletId> = sources.iter().map(|ix| wires[*ix]).collect();
            return Ok((splice(alone, &sources, target, &mut notes)?, notes));
        }
        // hooks in the bodies would decide otherwise than all of it together
        let looking = Looking::begin();
        let outputs = self.stock.to_typed(source, node, target, mapping)?;
        drop(looking);
        Ok((outputs, notes))
    }
}

/// Whether any hooked layer of the model is worth running sparse. A layer that cannot be made on its own (its
/// input is not known well enough) is none.
fn neighbours(model: &InferenceModel, policy: &Policy) -> Neighbours {
    let worth_it = model.nodes().iter().any(|node| {
        let hook = node.op_as::<SparseHook>();
        hook.is_some_and(|hook| hook.is_worth_it(model, node, policy).unwrap_or(false))
    });
    if worth_it { Neighbours::Sparse } else { Neighbours::Dense }
}

impl PartialEq for SparseHook {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl Eq for SparseHook {}

impl Op for SparseHook {
    fn name(&self) -> StaticName {
        self.stock.name()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.stock.info()
    }

    fn validation(&self) -> Validation {
        self.stock.validation()
    }

    not_a_typed_op!();
}

impl EvalOp for SparseHook {
    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.stock.eval(ctx, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.stock.eval_out_of_plan(inputs)
    }

    fn state(&self, ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.stock.state(ctx)
    }
}

impl InferenceOp for SparseHook {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.stock.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.stock.observe_outlets(model, node)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.stock.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.stock.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        if let Finding::Steps(axis) = self.found {
            let wires: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
            let checked = check_steps(target, &wires, axis);
            checked.with_context(|| format!("{} {}", self.stock.name(), node.name))?;
        }
        if let Finding::Normalising = self.found {
            let mapping = kept_apart(node, target, mapping)?;
            return self.make(source, node, target, &mapping);
        }
        if LOOKING.get() || matches!(self.found, Finding::Steps(_)) {
            return self.make(source, node, target, mapping);
        }
        let knobs = Policy::from_knobs()?;
        let policy = Policy { precision: self.precision.unwrap_or(knobs.precision), ..knobs };
        let first = target.nodes().len();
        let stock = |target: &mut TypedModel| self.make(source, node, target, mapping);
        let (outputs, notes) = match &self.found {
            Finding::Layer(found) => {
                let outputs = stock(target)?;
                (outputs, swap_layers(source, target, first, found, &policy)?)
            }
            Finding::Composite(known) => {
                self.wire_composite(known, source, node, target, mapping, &policy)?
            }
            Finding::Integer(known) => {
                match self.wire_integer(known, source, node, target, mapping, &policy)? {
                    Some(wired) => wired,
                    None => {
                        let outputs = stock(target)?;
                        (outputs, notes(target, first, &policy)?)
                    }
                }
            }
            Finding::Stock | Finding::Steps(_) | Finding::Normalising => {
                let outputs = stock(target)?;
                (outputs, notes(target, first, &policy)?)
            }
        };
        note(&target.symbols, Interface::of(source)?, notes);
        Ok(outputs)
    }
}

/// Wires for the inputs of a softmax. Stock tract 0.23.9 takes what stands alone between a dequantised and a quantised value for
/// a function of single values, and makes a table of a softmax in which every value is one. A maximum with minus infinity,
/// which changes nothing, has a second input and is not taken for such.
fn kept_apart(
    node: &InferenceNode,
    target: &mut TypedModel,
    mapping: &HashMap<OutletId, OutletId>,
) -> TractResult<HashMap<OutletId, OutletId>> {
    let mut mapping = mapping.clone();
    let x = mapping[&node.inputs[0]];
    let mut from = x;
    while let op = target.node(from.node)
        && (op.op_is::<ElementWiseOp>() || op.op_is::<AxisOp>())
    {
        from = op.inputs[0];
    }
    if target.node(from.node).op_is::<DequantizeLinearF32>() {
        let name = format!("{}.{APART}", node.name);
        let lowest = tensor0(f32::NEG_INFINITY).broadcast_into_rank(target.outlet_fact(x)?.rank())?;
        let lowest = target.add_const(format!("{name}.lowest"), lowest)?;
        let wire = target.wire_node(name, max(), &[x, lowest])?[0];
        mapping.insert(node.inputs[0], wire);
    }
    Ok(mapping)
}

/// Refuses scales and zero points, the second and third of these wires, that do not fit each other or the axis.
fn check_steps(target: &TypedModel, wires: &[OutletId], axis: i64) -> TractResult<()> {
    use DatumType::{F32, I8, I32, U8};
    let mut most = 1;
    for (wire, what) in wires.iter().skip(1).zip(["scales", "zero points"]) {
        let Some(values) = konst_of(target, *wire)? else { continue };
        let (len, dt) = (values.len(), values.datum_type());
        ensure!([F32, U8, I8, I32].contains(&dt), "{what} of {dt:?} are not read");
        ensure!(len > 0, "it has no {what}");
        ensure!(most == 1 || [1, most].contains(&len), "{most} scales and {len} {what}");
        most = most.max(len);
    }
    if most > 1 {
        let x = target.outlet_fact(wires[0])?;
        let at = if axis < 0 { axis + x.rank() as i64 } else { axis };
        let extent = usize::try_from(at).ok().and_then(|at| x.shape.get(at));
        let extent = extent.with_context(|| format!("scales along axis {axis} of {} axes", x.rank()))?;
        ensure!(
            extent.to_usize().map_or(true, |extent| extent == most),
            "{most} scales for an axis of {extent}"
        );
    }
    Ok(())
}

/// Swaps the typed nodes from `first` on, which a layer has become, where that is worth it; returns what is
/// to be noted of them.
fn swap_layers(
    source: &InferenceModel,
    target: &mut TypedModel,
    first: usize,
    found: &OnceLock<Vec<Found>>,
    policy: &Policy,
) -> TractResult<Vec<LayerReport>> {
    let neighbours = neighbours(source, policy);
    let mut notes = vec![];
    for (position, id) in (first..target.nodes().len()).enumerate() {
        let node = target.node(id);
        let known = found.get().and_then(|found| found.get(position));
        let assessed = match known {
            Some(known) if known.is_of(target, node)? => known.assessed.clone(),
            _ => Assessed::of(target, node, policy)?,
        };
        let Some(assessed) = assessed else { continue };
        let (before, name) = (target.nodes().len(), target.node(id).name.clone());
        let runs = rules::swap(target, id, &assessed, policy, neighbours)?;
        set_apart(source, target, before, &name);
        let id = runs.unwrap_or(id);
        notes.push(note_of(target, id, &assessed, policy, neighbours, &Around::nothing())?);
    }
    Ok(notes)
}

/// What is to be noted of the layers among the nodes from `first` on and in their bodies.
fn notes(model: &TypedModel, first: usize, policy: &Policy) -> TractResult<Vec<LayerReport>> {
    let nodes: Vec<usize> = (first..model.nodes().len()).collect();
    let places = places_among(model, &nodes)?;
    let neighbours = neighbours_of(&places, policy)?;
    places
        .iter()
        .zip(neighbours)
        .map(|(place, neighbours)| {
            let decision = decided(place, policy, neighbours)?;
            layer_report(place, decision, policy, neighbours, false)
        })
        .collect()
}

/// What is in names that we make while nodes are still to come, and in none that tract makes.
const APART: &str = "tract_sparse";

/// Renames the nodes from `first` on, which we have added, but for that of the name `kept`: nodes of `source`
/// that are still to come, and what they become, may want such names.
fn set_apart(source: &InferenceModel, target: &mut TypedModel, first: usize, kept: &str) {
    for id in first..target.nodes().len() {
        if target.node(id).name == kept {
            continue;
        }
        let base = format!("{}.{APART}", target.node(id).name);
        let taken = |name: &String| {
            source.nodes().iter().any(|node| node.name == *name)
                || target.nodes().iter().any(|node| node.name == *name)
        };
        let numbered = (1..).map(|number| format!("{base}.{number}"));
        if let Some(name) = std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)) {
            target.node_mut(id).name = name;
        }
    }
}
