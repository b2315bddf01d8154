//! Values of constant wires.

use std::fmt::{Debug, Display};
use tract_core::internal::*;

/// Operators between a constant and its consumer that are followed at most.
const DETOUR: usize = 24;

/// Elements that an operator on the way may make of fewer: as much as tract folds by itself, in f32.
const SMALL: usize = 1 << 20;

/// Runs an operator out of its graph; `None` if it needs more than its inputs.
pub type Eval<'a, O> = &'a dyn Fn(&O, TVec<TValue>) -> TractResult<Option<TVec<TValue>>>;

/// The value of a wire that depends on constants alone, computed if the graph does not carry it.
///
/// Between translation and the first optimisation, small detours (`Reshape`, `Transpose`, `Cast`,
/// `DequantizeLinear`, ...) still stand between a weight and its consumer; tract never folds those of more
/// than a few megabytes.
///
/// # Errors
/// A wire that is not in the graph.
pub fn konst_of(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
    constant(model, outlet, &|fact| fact.konst.clone(), &|op, inputs| op.eval_out_of_plan(inputs))
}

/// As [`konst_of`], in a graph of any kind: `known` is the value that a fact carries, `eval` runs an operator
/// that needs nothing but its inputs.
///
/// # Errors
/// A wire that is not in the graph.
pub fn constant<F, O>(
    graph: &Graph<F, O>,
    outlet: OutletId,
    known: &dyn Fn(&F) -> Option<Arc<Tensor>>,
    eval: Eval<O>,
) -> TractResult<Option<Arc<Tensor>>>
where
    F: Fact + Clone + 'static,
    O: Debug + Display + AsRef<dyn Op> + AsMut<dyn Op> + Clone + 'static,
{
    if let Some(konst) = known(graph.outlet_fact(outlet)?) {
        return Ok(Some(konst));
    }
    // nothing is computed for a wire that turns out to depend on an input
    let (mut open, mut left) = (vec![outlet], DETOUR);
    while let Some(outlet) = open.pop() {
        let node = graph.node(outlet.node);
        if known(graph.outlet_fact(outlet)?).is_none() {
            rule_if!(left > 0 && !node.inputs.is_empty());
            left -= 1;
            open.extend(&node.inputs);
        }
    }
    let node = graph.node(outlet.node);
    let mut inputs = tvec!();
    let mut elements = SMALL;
    for input in &node.inputs {
        rule_if_some!(value = constant(graph, *input, known, eval)?);
        rule_if!(value.is_plain_ram());
        elements = elements.max(value.len());
        inputs.push(value.into_tvalue());
    }
    let fits = |shape: &[usize]| {
        shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= elements)
    };
    if let Ok(fact) = graph.outlet_fact(outlet)?.to_typed_fact() {
        rule_if!(fact.shape.as_concrete().is_none_or(fits));
    }
    // what cannot be computed is no constant: stock tract says what is wrong with it when it runs
    let Ok(Some(outputs)) = eval(&node.op, inputs) else { return Ok(None) };
    rule_if_some!(value = outputs.into_iter().nth(outlet.slot));
    rule_if!(fits(value.shape()));
    Ok(Some(value.into_arc_tensor()))
}

/// The values of a plain f32 constant.
pub(crate) fn f32s(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

/// The cost of a layer from that of its stock operator: the multiply-adds of the weights that are not zero,
/// those of the dense layer beside them.
pub(crate) fn sparse_cost(stock: TVec<(Cost, TDim)>, weights: &TypedFact) -> TractResult<TVec<(Cost, TDim)>> {
    let Some(konst) = weights.konst.as_ref().filter(|konst| konst.datum_type() == f32::datum_type()) else {
        return Ok(stock);
    };
    let values = f32s(konst)?;
    let nnz = values.iter().filter(|v| **v != 0.0).count();
    let mut cost = tvec!();
    for (kind, count) in stock {
        if kind == Cost::FMA(f32::datum_type()) {
            cost.push((kind, count.clone() * nnz / values.len().max(1)));
            cost.push((dense_fma(), count));
        } else {
            cost.push((kind, count));
        }
    }
    Ok(cost)
}

/// What a layer would compute if none of its weights were left out; nothing that takes time.
pub(crate) fn dense_fma() -> Cost {
    Cost::Custom(false, "DenseFMA".into())
}
