//! The early door: while an ONNX model becomes a typed one, sparse layers are swapped as they are made.
//!
//! `tract_onnx::Onnx` has a public register of operator builders. The builders of `Conv`, `ConvTranspose`, `Gemm` and `MatMul` are
//! replaced by ones that wrap what the stock builder makes; the wrapper delegates everything and looks at the result of
//! `to_typed`. A layer that stays dense is the stock operator, bit for bit.

use crate::choose::{Assessment, Neighbours};
use crate::policy::Policy;
use crate::rules;
use sparse_ops::constant;
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
        ($name:literal) => {{
            static STOCK: OnceLock<Builder> = OnceLock::new();
            fn build(
                ctx: &ParsingContext,
                node: &NodeProto,
            ) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
                let stock = STOCK.get().with_context(|| format!("no stock builder for {}", $name))?;
                let (op, closures) = stock(ctx, node)?;
                Ok((Box::new(SparseHook::new(op)), closures))
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
}

/// A stock inference operator; its typed form is looked at once.
#[derive(Debug, Clone)]
struct SparseHook {
    stock: Box<dyn InferenceOp>,
    /// What was found out about this layer; worked out when a layer of the model first needs to know.
    found: OnceLock<Vec<Found>>,
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
        let same = |a: &TypedFact, b: &TypedFact| {
            a.datum_type == b.datum_type
                && a.shape == b.shape
                && match (&a.konst, &b.konst) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                    (a, b) => a.is_none() == b.is_none(),
                }
        };
        let inputs = model.node_input_facts(node.id)?;
        Ok(self.op == node.op.name()
            && self.inputs.len() == inputs.len()
            && self.inputs.iter().zip(&inputs).all(|(a, b)| same(a, b)))
    }
}

impl SparseHook {
    fn new(stock: Box<dyn InferenceOp>) -> SparseHook {
        SparseHook { stock, found: OnceLock::new() }
    }

    /// Makes this layer alone, in a model of its own, and looks at that.
    fn found(&self, model: &InferenceModel, node: &InferenceNode, policy: &Policy) -> TractResult<&[Found]> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let mut alone = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
        let mut mapping = HashMap::new();
        for (ix, outlet) in node.inputs.iter().enumerate() {
            let fact = model.outlet_fact(*outlet)?;
            let name = format!("input.{ix}");
            let value =
                constant(model, *outlet, &|fact: &InferenceFact| fact.value.concretize(), &|op, inputs| {
                    op.eval_out_of_plan(inputs)
                })?;
            let wire = match value {
                Some(value) => alone.add_const(name, value)?,
                None => alone.add_source(name, TypedFact::try_from(fact)?)?,
            };
            mapping.insert(*outlet, wire);
        }
        let first = alone.nodes().len();
        self.stock.to_typed(model, node, &mut alone, &mapping)?;
        let made = &alone.nodes()[first..];
        let found = made.iter().map(|node| Found::of(&alone, node, policy)).collect::<TractResult<_>>()?;
        Ok(self.found.get_or_init(|| found))
    }

    fn is_worth_it(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
        policy: &Policy,
    ) -> TractResult<bool> {
        let found = self.found(model, node, policy)?;
        Ok(found.iter().filter_map(|found| found.assessment.as_ref()).any(|a| a.is_worth_it(policy)))
    }
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
        let first = target.nodes().len();
        let outputs = self.stock.to_typed(source, node, target, mapping)?;
        let policy = Policy::from_knobs()?;
        let neighbours = neighbours(source, &policy);
        for (position, id) in (first..target.nodes().len()).enumerate() {
            let node = target.node(id);
            let known = self.found.get().and_then(|found| found.get(position));
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
