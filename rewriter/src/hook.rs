//! The early door: while an ONNX model becomes a typed one, sparse layers are swapped as they are made.
//!
//! `tract_onnx::Onnx` has a public register of operator builders. The builders of `Conv`, `ConvTranspose`, `Gemm` and `MatMul` are
//! replaced by ones that wrap what the stock builder makes; the wrapper delegates everything and looks at the result of
//! `to_typed`. A layer that stays dense is the stock operator, bit for bit.
//!
//! So are those of recurrent layers and of operators with bodies. What they become is simplified in a model of its own, so
//! that products leave their loops as they would later on, and the layers are swapped where they stand then.

use crate::choose::{Assessment, Neighbours};
use crate::policy::Policy;
use crate::rules;
use crate::transform::{made, sparsify, unsparsify, unsparsify_bodies};
use sparse_ops::{constant, konst_of};
use std::sync::OnceLock;
use tract_hir::internal::*;
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;

type Builder = fn(&ParsingContext, &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Makes `onnx` load pruned layers as sparse ones. Calling it twice is harmless.
pub fn hook_onnx(onnx: &mut Onnx) {
    // A builder is a plain function pointer and cannot carry the one that it wraps: one slot per operator.
    macro_rules! hook {
        ($name:literal) => {
            hook!($name, layer)
        };
        ($name:literal, $make:ident) => {{
            static STOCK: OnceLock<Builder> = OnceLock::new();
            fn build(
                ctx: &ParsingContext,
                node: &NodeProto,
            ) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
                let stock = STOCK.get().with_context(|| format!("no stock builder for {}", $name))?;
                let (op, closures) = stock(ctx, node)?;
                Ok((Box::new(SparseHook::$make(op)), closures))
            }
            if let Some(stock) = onnx.op_register.0.get($name).copied()
                && stock as usize != build as Builder as usize
            {
                // All stock registers hold the same function: the first one seen will do.
                let _ = STOCK.set(stock);
                onnx.op_register.insert($name, build);
            }
        }};
    }
    hook!("Conv");
    hook!("ConvTranspose");
    hook!("Gemm");
    hook!("MatMul");
    hook!("GRU", composite);
    hook!("LSTM", composite);
    hook!("RNN", composite);
    hook!("Scan", composite);
    hook!("If", composite);
}

/// A stock inference operator; its typed form is looked at once.
#[derive(Debug, Clone)]
struct SparseHook {
    stock: Box<dyn InferenceOp>,
    found: Finding,
}

/// What was found out about an operator; worked out when a layer of the model first needs to know.
#[derive(Debug, Clone)]
enum Finding {
    /// Of a layer: about each of the typed nodes that it becomes.
    Layer(OnceLock<Vec<Found>>),
    /// Of a recurrent layer or an operator with bodies.
    Composite(OnceLock<Composite>),
}

/// What a recurrent layer or an operator with bodies becomes for inputs of these facts.
#[derive(Debug, Clone)]
struct Composite {
    inputs: TVec<TypedFact>,
    /// It alone, simplified and with sparse layers; its inputs that are not constant, by their positions. None if it is to
    /// be the stock operator.
    sparse: Option<Arc<(TypedModel, Vec<usize>)>>,
}

/// What was found out about one of the typed nodes of a layer, and how to know it again.
#[derive(Debug, Clone)]
struct Found {
    op: StaticName,
    inputs: TVec<TypedFact>,
    assessment: Option<Assessment>,
}

impl Found {
    fn of(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<Found> {
        let assessment = Assessment::of(model, node, policy)
            .with_context(|| format!("deciding whether {node} runs sparse"))?;
        let inputs = model.node_input_facts(node.id)?.into_iter().cloned().collect();
        Ok(Found { op: node.op.name(), inputs, assessment })
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
    fn layer(stock: Box<dyn InferenceOp>) -> SparseHook {
        SparseHook { stock, found: Finding::Layer(OnceLock::new()) }
    }

    fn composite(stock: Box<dyn InferenceOp>) -> SparseHook {
        SparseHook { stock, found: Finding::Composite(OnceLock::new()) }
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
            let name = format!("input.{ix}");
            let wire = match &fact.konst {
                Some(value) => alone.add_const(name, value.clone())?,
                None => {
                    sources.push(ix);
                    alone.add_source(name, fact.clone())?
                }
            };
            mapping.insert(*outlet, wire);
        }
        let first = alone.nodes().len();
        let outputs = self.stock.to_typed(model, node, &mut alone, &mapping)?;
        alone.select_output_outlets(&outputs)?;
        Ok(Alone { model: alone, sources, first })
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
        let swapped = sparsify(&mut alone, policy).with_context(|| format!("simplifying {node}"))?;
        Ok(Composite { inputs, sparse: (swapped > 0).then(|| Arc::new((alone, sources))) })
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
                Ok(found.iter().filter_map(|found| found.assessment.as_ref()).any(|a| a.is_worth_it(policy)))
            }
            Finding::Composite(known) => {
                let found = match known.get() {
                    Some(found) => found,
                    None => {
                        let found = self.simplified(model, node, inputs()?, policy)?;
                        known.get_or_init(|| found)
                    }
                };
                // layers that stay in a body are neighbours of those of that body alone
                let sparse = |node: &TypedNode| made(node).is_some_and(|choice| choice.sparse);
                Ok(found
                    .sparse
                    .as_ref()
                    .is_some_and(|sparse_model| sparse_model.0.nodes().iter().any(sparse)))
            }
        }
    }

    /// Puts a recurrent layer or an operator with bodies into `target`.
    fn wire_composite(
        &self,
        known: &OnceLock<Composite>,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let policy = Policy::from_knobs()?;
        let wires: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let fact = |wire: &OutletId| match konst_of(target, *wire)? {
            Some(value) => TypedFact::try_from(value),
            None => target.outlet_fact(*wire).cloned(),
        };
        let facts: TVec<TypedFact> = wires.iter().map(fact).collect::<TractResult<_>>()?;
        let found = match known.get() {
            Some(known) if same(&known.inputs, &facts.iter().collect::<TVec<_>>()) => known.clone(),
            _ => self.simplified(source, node, facts, &policy)?,
        };
        if let Some(sparse) = found.sparse {
            let (alone, sources) = &*sparse;
            let sources: TVec<OutletId> = sources.iter().map(|ix| wires[*ix]).collect();
            return splice(alone, &sources, target);
        }
        let first = target.nodes().len();
        let outputs = self.stock.to_typed(source, node, target, mapping)?;
        // hooks in the bodies may have decided otherwise than all of it together
        unsparsify_bodies(target, first)?;
        Ok(outputs)
    }
}

/// Wires the nodes of `model` into `target`, whose wires `inputs` are its inputs; returns those that are its outputs.
fn splice(model: &TypedModel, inputs: &[OutletId], target: &mut TypedModel) -> TractResult<TVec<OutletId>> {
    let mut mapping: HashMap<OutletId, OutletId> =
        model.input_outlets()?.iter().copied().zip(inputs.iter().copied()).collect();
    for id in model.eval_order()? {
        if mapping.contains_key(&id.into()) {
            continue;
        }
        let node = model.node(id);
        let inputs: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let name = target.unique_name(&node.name).into_owned();
        let outputs = target.wire_node(name, node.op.clone(), &inputs)?;
        mapping.extend(outputs.into_iter().enumerate().map(|(slot, wire)| (OutletId::new(id, slot), wire)));
    }
    Ok(model.output_outlets()?.iter().map(|outlet| mapping[outlet]).collect())
}

/// Whether any hooked layer of the model is worth running sparse. A layer that cannot be made on its own (its input is
/// not known well enough) is none.
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
        let found = match &self.found {
            Finding::Layer(found) => found,
            Finding::Composite(known) => return self.wire_composite(known, source, node, target, mapping),
        };
        let first = target.nodes().len();
        let outputs = self.stock.to_typed(source, node, target, mapping)?;
        let policy = Policy::from_knobs()?;
        let neighbours = neighbours(source, &policy);
        for (position, id) in (first..target.nodes().len()).enumerate() {
            let node = target.node(id);
            let known = found.get().and_then(|found| found.get(position));
            let assessment = match known {
                Some(known) if known.is_of(target, node)? => known.assessment.clone(),
                _ => Found::of(target, node, &policy)?.assessment,
            };
            if let Some(assessment) = assessment {
                rules::swap(target, id, &assessment, &policy, neighbours)?;
            }
        }
        Ok(outputs)
    }
}
