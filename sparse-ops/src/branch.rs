//! tract's `IfThenElse` with sparse layers in its bodies.

use tract_core::internal::*;
use tract_core::ops::logic::IfThenElse;

/// tract's `IfThenElse`, marked to have its bodies optimised.
///
/// Stock tract 0.23.9 runs the bodies as they were written, and prepares them anew at every run. Inputs,
/// outputs and evaluation are those of the stock operator inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparseIf(IfThenElse);

impl SparseIf {
    /// Marks `branches`.
    pub fn new(branches: IfThenElse) -> SparseIf {
        SparseIf(branches)
    }

    /// The stock operator.
    pub fn branches(&self) -> &IfThenElse {
        &self.0
    }
}

impl Op for SparseIf {
    fn name(&self) -> StaticName {
        named!("SparseIf")
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(info(&self.0.then_body, &self.0.else_body))
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

/// What stands in the bodies: the listing of a model does not go into operators that it does not know.
fn info(then: &TypedModel, otherwise: &TypedModel) -> Vec<String> {
    let ops = |body: &TypedModel| -> Vec<String> {
        let shown = |node: &&TypedNode| !matches!(&*node.op.name(), "Source" | "Const");
        body.nodes().iter().filter(shown).map(|node| crate::plain_name(&node.op.name()).to_string()).collect()
    };
    vec![format!("then: {}", ops(then).join(", ")), format!("else: {}", ops(otherwise).join(", "))]
}

impl EvalOp for SparseIf {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(ctx, inputs)
    }
}

impl TypedOp for SparseIf {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        self.0.declutter(model, node)
    }

    fn set_symbols(
        &self,
        _source: &TypedModel,
        node: &TypedNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
        values: &HashMap<Symbol, TDim>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        let branches = IfThenElse {
            then_body: self.0.then_body.set_symbols(values)?,
            else_body: self.0.else_body.set_symbols(values)?,
            ..self.0.clone()
        };
        target.wire_node(&node.name, SparseIf(branches), &inputs)
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        let branch = |body: &TypedModel, inputs: &[usize]| -> TractResult<Branch> {
            Ok(Branch { plan: body.clone().into_optimized()?.into_runnable()?, inputs: inputs.to_vec() })
        };
        let op = OptSparseIf {
            then: branch(&self.0.then_body, &self.0.then_input_mapping)
                .with_context(|| format!("optimising the then branch of {node}"))?,
            otherwise: branch(&self.0.else_body, &self.0.else_input_mapping)
                .with_context(|| format!("optimising the else branch of {node}"))?,
            outputs: node.outputs.iter().map(|outlet| outlet.fact.clone()).collect(),
        };
        Ok(Some(TypedModelPatch::replace_single_op(model, node, &node.inputs, op)?))
    }

    as_op!();
}

/// `IfThenElse` with optimised bodies.
///
/// Inputs: the condition, one boolean, and what the bodies take. Every run begins with fresh bodies, as that
/// of the stock operator does: they keep no state.
#[derive(Debug, Clone)]
pub struct OptSparseIf {
    then: Branch,
    otherwise: Branch,
    outputs: TVec<TypedFact>,
}

#[derive(Debug, Clone)]
struct Branch {
    plan: Arc<TypedRunnableModel>,
    /// For each input of the plan, that of the operator.
    inputs: Vec<usize>,
}

impl OptSparseIf {
    /// The optimised bodies: the one that runs if the condition is true, and the other.
    pub fn bodies(&self) -> [&TypedModel; 2] {
        [self.then.plan.model(), self.otherwise.plan.model()]
    }
}

impl PartialEq for OptSparseIf {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.then.plan, &other.then.plan)
            && Arc::ptr_eq(&self.otherwise.plan, &other.otherwise.plan)
            && self.then.inputs == other.then.inputs
            && self.otherwise.inputs == other.otherwise.inputs
    }
}

impl Eq for OptSparseIf {}

impl Op for OptSparseIf {
    fn name(&self) -> StaticName {
        "OptSparseIf".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let [then, otherwise] = self.bodies();
        Ok(info(then, otherwise))
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for OptSparseIf {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let branch = if inputs[0].cast_to_scalar::<bool>()? { &self.then } else { &self.otherwise };
        branch.plan.run(branch.inputs.iter().map(|slot| inputs[*slot].clone()).collect())
    }
}

impl TypedOp for OptSparseIf {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.outputs.clone())
    }

    as_op!();
}
