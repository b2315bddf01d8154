//! Planes times a number each, as squeeze-and-excitation has them between two layers.
//!
//! Stock tract's operator gives every plane to its pool and sleeps until all are done: that takes longer than the layer
//! behind it. [`PlanarScale`] computes the same product on the threads that layers keep awake, each on its share of the
//! planes.

use crate::executor::par_chunks_mut;
use crate::konst::f32s;
use crate::opt_sparse_chain::layers;
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

/// Puts a [`PlanarScale`] in place of a product of planes that stands between layers.
pub(crate) fn swap(
    model: &TypedModel,
    node: &TypedNode,
    target: Target,
) -> TractResult<Option<TypedModelPatch>> {
    rule_if!(node.op_as::<OptBinByScalar>().is_some_and(|op| op.binop.is::<Mul>()));
    rule_if!(node.outputs[0].fact.datum_type == f32::datum_type());
    rule_if_some!(_layer = layers(model.node(node.inputs[0].node)));
    let readers = &node.outputs[0].successors;
    let read_by_layers = readers.iter().all(|inlet| layers(model.node(inlet.node)).is_some());
    rule_if!(read_by_layers && !readers.is_empty());
    TypedModelPatch::replace_single_op(model, node, &node.inputs, PlanarScale { target }).map(Some)
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
