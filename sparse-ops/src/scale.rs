//! Planes times a number each, as squeeze-and-excitation has them between two layers.
//!
//! Stock tract's operator gives every plane to its pool and sleeps until all are done: that takes longer than the layer
//! behind it. [`PlanarScale`] computes the same product on the threads that layers keep awake, each on its share of the
//! planes.

use crate::executor::par_chunks_mut;
use crate::konst::f32s;
use crate::opt_sparse_chain::layers;
use crate::opt_sparse_conv::OptSparseConv;
use sparse_kernels::planar::scale;
use sparse_kernels::prelude::Target;
use tract_core::internal::*;
use tract_core::ops::binary::OptBinByScalar;
use tract_core::ops::math::Mul;

/// Multiplies each plane of the first input by its number in the second.
///
/// Inputs and facts are those of tract's [`OptBinByScalar`]: the second input has the shape of the first, but for its last
/// axes, those of a plane, which are 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanarScale {
    target: Target,
}

/// Puts a [`PlanarScale`] in place of the first product of planes that stands between layers; none if there is none left, or a
/// layer still has to find out which numbers it computes in: lanes of several channels have a product of their own.
pub(crate) fn swap_next(model: &TypedModel, target: Target) -> TractResult<Option<TypedModelPatch>> {
    let unsettled = |op: &OptSparseConv| op.is_open() || op.may_be_int8();
    rule_if!(!model.nodes().iter().any(|node| node.op_as().is_some_and(unsettled)));
    for node in model.nodes() {
        let product = node.op_as::<OptBinByScalar>().is_some_and(|op| op.binop.is::<Mul>());
        if !product || layers(model.node(node.inputs[0].node)).is_none() {
            continue;
        }
        let readers = &node.outputs[0].successors;
        let read_by_layers = readers.iter().all(|inlet| layers(model.node(inlet.node)).is_some());
        if read_by_layers && !readers.is_empty() && node.outputs[0].fact.datum_type == f32::datum_type() {
            let op = PlanarScale { target };
            return TypedModelPatch::replace_single_op(model, node, &node.inputs, op).map(Some);
        }
    }
    Ok(None)
}

impl Op for PlanarScale {
    fn name(&self) -> StaticName {
        "PlanarScale".into()
    }

    op_as_typed_op!();
}

impl EvalOp for PlanarScale {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (x, factors) = args_2!(inputs);
        let (mut y, factors) = (x.into_tensor(), f32s(&factors)?);
        if y.len() > 0 {
            let mut view = y.try_as_plain_ram_mut()?;
            let values = view.as_slice_mut::<f32>()?;
            let elements = values.len();
            let plane = elements.checked_div(factors.len()).context("planes without a number")?;
            par_chunks_mut(values, plane, elements, |first, y| {
                let factors =
                    factors.get(first..first + y.len() / plane).context("a plane without a number")?;
                Ok(scale(self.target, factors, y)?)
            })?;
        }
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for PlanarScale {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(inputs[0].shape.clone())))
    }

    as_op!();
}
