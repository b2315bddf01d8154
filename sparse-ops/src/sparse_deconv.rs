//! A transposed convolution with sparse weights, in the decluttered graph.
//!
//! Stock tract computes one as a product and a sum: the weights of every output channel and tap times the
//! input channels of every pixel, and what puts the results in their places. The product is run by a sparse
//! kernel, the sum by a loop of ours.

use crate::choice::Choice;
use crate::col2im::PlanarCol2im;
use crate::konst::{konst_of, sparse_cost};
use crate::sparse_matmul::SparseMatMul;
use crate::widen;
use tract_core::internal::*;
use tract_core::ops::cnn::Deconv;
use tract_core::ops::einsum::EinSum;

/// tract's transposed convolution, its product marked to be run by a sparse kernel.
///
/// Inputs as those of [`Deconv`]: the activation, the dense weights (a constant), the bias. Facts, axes and
/// evaluation are those of the stock operator inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SparseDeconv {
    deconv: Deconv,
    choice: Choice,
}

impl SparseDeconv {
    /// Marks `deconv`.
    pub fn new(deconv: Deconv, choice: Choice) -> SparseDeconv {
        SparseDeconv { deconv, choice }
    }

    /// The stock operator.
    pub fn deconv(&self) -> &Deconv {
        &self.deconv
    }

    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The same layer for inputs that have been widened from f16.
    pub(crate) fn of_f16(&self) -> SparseDeconv {
        SparseDeconv { choice: Choice { of_f16: true, ..self.choice }, ..self.clone() }
    }

    /// The stock operator in place of this one.
    pub fn unwrap(&self, model: &TypedModel, node: &TypedNode) -> TractResult<TypedModelPatch> {
        TypedModelPatch::replace_single_op(model, node, &node.inputs, self.deconv.clone())
    }

    /// Whether the product can be swapped: f32, and the weights are constant.
    fn is_sparse(&self, model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
        let facts = model.node_input_facts(node.id)?;
        let plain = facts.iter().all(|f| f.is_plain() && f.datum_type == f32::datum_type());
        Ok(plain && konst_of(model, node.inputs[1])?.is_some())
    }
}

/// The weights of a transposed convolution as its product has them: `[oc * taps][ic / group]`.
///
/// # Errors
/// Weights of another shape than the convolution says.
pub fn deconv_matrix(deconv: &Deconv, weights: &Tensor) -> TractResult<Tensor> {
    let kernel = deconv.kernel_format.kernel_as_group_o_i_hw(weights, deconv.group)?;
    let [group, oc, ic, taps] = *kernel.shape() else {
        bail!("weights of shape {:?} in a transposed convolution", weights.shape())
    };
    kernel.permute_axes(&[0, 1, 3, 2])?.into_shape(&[group * oc * taps, ic])
}

impl Op for SparseDeconv {
    fn name(&self) -> StaticName {
        named!("SparseDeconv")
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let mut info = self.deconv.info()?;
        info.push(format!("Weights {}: {}", self.choice.packing, self.choice));
        Ok(info)
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for SparseDeconv {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.deconv.eval(ctx, inputs)
    }
}

impl TypedOp for SparseDeconv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.deconv.output_facts(inputs)
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        self.deconv.axes_mapping(inputs, outputs)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        sparse_cost(self.deconv.cost(inputs)?, inputs[1])
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = widen::around(model, node)? {
            return Ok(Some(patch));
        }
        rule_if!(!self.is_sparse(model, node)?);
        Ok(Some(self.unwrap(model, node)?))
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = widen::around(model, node)? {
            return Ok(Some(patch));
        }
        rule_if_some!(mut patch = self.deconv.codegen(model, node)?);
        if !self.is_sparse(model, node)? {
            return Ok(Some(patch));
        }
        let taps: usize = self.deconv.pool_spec.kernel_shape.iter().product();
        let rows = self.deconv.pool_spec.output_channels * taps;
        for id in 0..patch.model.nodes.len() {
            let Some(einsum) = patch.model.node(id).op_as::<EinSum>().cloned() else { continue };
            let name = format!("{}.no_bias", patch.model.node(id).name);
            let bias = patch.model.add_const(name, Tensor::zero::<f32>(&[rows])?)?;
            patch.model.add_edge(bias, InletId::new(id, 2))?;
            patch.model.node_mut(id).op = Box::new(SparseMatMul::new(einsum, 1, self.choice));
        }
        let sums = |node: &TypedNode| node.op.name() == "DeconvSum";
        if let Some(id) = patch.model.nodes.iter().find(|node| sums(node)).map(|node| node.id)
            && let Some((bias, op)) = PlanarCol2im::of(model, node, &self.deconv, self.choice.target)?
        {
            let name = format!("{}.bias", patch.model.node(id).name);
            let bias = patch.model.add_const(name, bias)?;
            patch.model.add_edge(bias, InletId::new(id, 1))?;
            patch.model.node_mut(id).op = Box::new(op);
        }
        Ok(Some(patch))
    }

    as_op!();
}
