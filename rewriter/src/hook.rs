//! The early door: while an ONNX model becomes a typed one, sparse layers are swapped as they are made.
//!
//! `tract_onnx::Onnx` has a public register of operator builders. The builders of `Conv`, `Gemm` and `MatMul` are
//! replaced by ones that wrap what the stock builder makes; the wrapper delegates everything and looks at the result of
//! `to_typed`. A layer that stays dense is the stock operator, bit for bit.

use crate::choose::{Neighbours, is_worth_it};
use crate::policy::Policy;
use crate::rules;
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
    hook!("Gemm");
    hook!("MatMul");
}

/// A stock inference operator; its typed form is looked at once.
#[derive(Debug, Clone)]
struct SparseHook {
    stock: Box<dyn InferenceOp>,
    /// Whether this layer is worth running sparse; worked out when a layer of the model first needs to know.
    worth_it: OnceLock<bool>,
}

impl SparseHook {
    fn new(stock: Box<dyn InferenceOp>) -> SparseHook {
        SparseHook { stock, worth_it: OnceLock::new() }
    }

    /// Makes this layer alone, in a model of its own, and decides on that.
    fn is_worth_it(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
        policy: &Policy,
    ) -> TractResult<bool> {
        if let Some(known) = self.worth_it.get() {
            return Ok(*known);
        }
        let mut alone = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
        let mut mapping = HashMap::new();
        for (ix, outlet) in node.inputs.iter().enumerate() {
            let fact = model.outlet_fact(*outlet)?;
            let name = format!("input.{ix}");
            let wire = match fact.value.concretize() {
                Some(value) => alone.add_const(name, value)?,
                None => alone.add_source(name, TypedFact::try_from(fact)?)?,
            };
            mapping.insert(*outlet, wire);
        }
        self.stock.to_typed(model, node, &mut alone, &mapping)?;
        let mut worth_it = false;
        for node in alone.nodes() {
            worth_it |= is_worth_it(&alone, node, policy)?;
        }
        Ok(*self.worth_it.get_or_init(|| worth_it))
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
        for id in first..target.nodes().len() {
            rules::swap(target, id, &policy, neighbours)?;
        }
        Ok(outputs)
    }
}
