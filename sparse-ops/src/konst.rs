//! Values of constant wires.

use tract_core::internal::*;

/// The value of a wire that depends on constants alone, computed if the graph does not carry it.
///
/// Between translation and the first optimisation, small detours (`Reshape`, `AddAxis`, ...) still stand between a
/// weight and its consumer. At most `DEPTH` of them are followed.
pub fn konst_of(model: &TypedModel, outlet: OutletId) -> TractResult<Option<Arc<Tensor>>> {
    const DEPTH: usize = 4;
    fn walk(model: &TypedModel, outlet: OutletId, depth: usize) -> TractResult<Option<Arc<Tensor>>> {
        if let Some(konst) = &model.outlet_fact(outlet)?.konst {
            return Ok(Some(konst.clone()));
        }
        let node = model.node(outlet.node);
        rule_if!(depth > 0 && node.inputs.len() == 1 && node.outputs.len() == 1);
        rule_if_some!(input = walk(model, node.inputs[0], depth - 1)?);
        rule_if!(input.is_plain_ram());
        rule_if_some!(outputs = node.op.eval_out_of_plan(tvec!(input.into_tvalue()))?);
        Ok(outputs.into_iter().next().map(|value| value.into_arc_tensor()))
    }
    walk(model, outlet, DEPTH)
}

/// The values of a plain f32 constant.
pub(crate) fn f32s(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

/// The cost of a layer from that of its stock operator: the multiply-adds of the weights that are not zero, those of the
/// dense layer beside them.
pub(crate) fn sparse_cost(stock: TVec<(Cost, TDim)>, weights: &TypedFact) -> TractResult<TVec<(Cost, TDim)>> {
    let Some(konst) = &weights.konst else { return Ok(stock) };
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
