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
