//! The early door: while an ONNX model becomes a typed one, sparse layers are swapped as they are made.
//!
//! `tract_onnx::Onnx` has a public register of operator builders. The builders of `Conv`, `Gemm` and `MatMul` are
//! replaced by ones that wrap what the stock builder makes; the wrapper delegates everything and looks at the result of
//! `to_typed`. A layer that stays dense is the stock operator, bit for bit.

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
                Ok((Box::new(SparseHook(op)), closures))
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
struct SparseHook(Box<dyn InferenceOp>);

impl PartialEq for SparseHook {
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

impl Eq for SparseHook {}

impl Op for SparseHook {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.0.info()
    }

    fn validation(&self) -> Validation {
        self.0.validation()
    }

    not_a_typed_op!();
}

impl EvalOp for SparseHook {
    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(ctx, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.0.eval_out_of_plan(inputs)
    }

    fn state(&self, ctx: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.0.state(ctx)
    }
}

impl InferenceOp for SparseHook {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.0.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.0.observe_outlets(model, node)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.0.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
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
        let outputs = self.0.to_typed(source, node, target, mapping)?;
        let policy = Policy::from_knobs()?;
        for id in first..target.nodes().len() {
            rules::swap(target, id, &policy)?;
        }
        Ok(outputs)
    }
}
