//! The sums of a transposed convolution, in the optimised graph, on the loop of `sparse_kernels::planar`.

use crate::executor::par_chunks_mut;
use crate::konst::{f32s, konst_of};
use sparse_kernels::planar::{Col2im, Col2imAxis};
use sparse_kernels::prelude::Target;
use tract_core::internal::*;
use tract_core::ops::cnn::Deconv;
use tract_core::ops::cnn::deconv::output_shape;

/// Adds up the products of a transposed convolution where they belong, from the bias on.
///
/// Inputs: the products `[n, (group,) oc * taps, pixels]`, of every channel and tap with every pixel, and the bias, one value or
/// one for each channel. Output: as that of [`Deconv`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PlanarCol2im {
    deconv: Deconv,
    /// Of the transposed convolution.
    input_shape: ShapeFact,
    target: Target,
}

impl PlanarCol2im {
    /// The bias and the operator that sums up for `deconv`, which is at `node`; none if there is no loop for it, or
    /// no two taps meet: what there is to be moved then stock moves as well.
    pub(crate) fn of(
        model: &TypedModel,
        node: &TypedNode,
        deconv: &Deconv,
        target: Target,
    ) -> TractResult<Option<(Arc<Tensor>, PlanarCol2im)>> {
        let spec = &deconv.pool_spec;
        rule_if!(!spec.data_format.c_is_last() && matches!(spec.rank(), 1 | 2));
        rule_if!(*spec.kernel_shape != *spec.strides());
        rule_if_some!(bias = konst_of(model, node.inputs[2])?);
        rule_if!(bias.len() == 1 || bias.len() == spec.output_channels);
        let input_shape = model.outlet_fact(node.inputs[0])?.shape.clone();
        Ok(Some((bias, PlanarCol2im { deconv: deconv.clone(), input_shape, target })))
    }

    /// The sums for inputs of so many pixels an axis.
    fn sums(&self, input: &[usize]) -> TractResult<Col2im> {
        let spec = &self.deconv.pool_spec;
        let (strides, dilations) = (spec.strides(), spec.dilations());
        let kernel = &spec.kernel_shape;
        let adjustments = &self.deconv.adjustments;
        let sizes = spec.padding.compute_for_deconv(input, kernel, &dilations, &strides, adjustments)?;
        let axis = |at: usize| {
            let (output, pad) = (sizes[at].deconvoluted, sizes[at].pad_before);
            Col2imAxis::new(input[at], output, kernel[at], strides[at], dilations[at], pad)
        };
        Ok(match spec.rank() {
            1 => Col2im::new(Col2imAxis::new(1, 1, 1, 1, 1, 0)?, axis(0)?)?,
            _ => Col2im::new(axis(0)?, axis(1)?)?,
        })
    }
}

impl Op for PlanarCol2im {
    fn name(&self) -> StaticName {
        "PlanarCol2im".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.deconv.info()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for PlanarCol2im {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (products, bias) = args_2!(inputs);
        let spec = &self.deconv.pool_spec;
        let input = self.input_shape.eval_to_usize(ctx.symbols)?.into_owned();
        let shape = output_shape(spec, &input, &self.deconv.adjustments)?;
        let sums = self.sums(spec.data_format.shape(input)?.hw_dims())?;
        let mut y = Tensor::zero::<f32>(&shape)?;
        if y.len() > 0 {
            let (x, bias) = (f32s(&products)?, f32s(&bias)?);
            let mut y = y.try_as_plain_ram_mut()?;
            let y = y.as_slice_mut::<f32>()?;
            let (x_plane, y_plane) = (sums.x_plane(), sums.y_plane());
            let biases: Vec<f32> = bias.iter().copied().cycle().take(y.len() / y_plane).collect();
            ensure!(
                x.len() == biases.len() * x_plane,
                "{} products of planes of {x_plane}, expected {}",
                x.len(),
                biases.len()
            );
            par_chunks_mut(y, y_plane, x.len().max(y.len()), |first, y| {
                let planes = first..first + y.len() / y_plane;
                let x = &x[planes.start * x_plane..planes.end * x_plane];
                sums.run(self.target, x, &biases[planes], y).map_err(TractError::from)
            })?;
        }
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for PlanarCol2im {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "expected products and bias, got {} inputs", inputs.len());
        let shape = output_shape(&self.deconv.pool_spec, &self.input_shape, &self.deconv.adjustments)?;
        Ok(tvec!(f32::fact(shape)))
    }

    fn set_symbols(
        &self,
        _source: &TypedModel,
        node: &TypedNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
        subs: &HashMap<Symbol, TDim>,
    ) -> TractResult<TVec<OutletId>> {
        let input_shape = self.input_shape.substitute(subs)?.into_owned();
        let inputs: TVec<OutletId> = node.inputs.iter().map(|outlet| mapping[outlet]).collect();
        target.wire_node(&node.name, PlanarCol2im { input_shape, ..self.clone() }, &inputs)
    }

    as_op!();
}
