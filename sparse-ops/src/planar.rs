//! Stock operators between sparse layers, on the loops of `sparse_kernels::planar`.
//!
//! In an optimised model that has sparse layers, resizing, pooling and softmax of planes take longer on stock
//! tract than the layers do. [`swap_next`] puts a [`Planar`] in place of each; sparse layers call it when
//! they fuse. A model without a sparse layer never gets here: it is stock tract, bit for bit.

use crate::executor::par_chunks_mut;
use crate::form::padding;
use crate::konst::f32s;
use crate::opt_sparse_conv::is_layer;
use sparse_kernels::error::KernelError;
use sparse_kernels::planar::{Pool, PoolAxis, Pooling, Resize as ResizePlanes, Taps, softmax};
use sparse_kernels::prelude::Target;
use sparse_kernels::quads::Affine;
use tract_core::internal::*;
use tract_core::ops::cnn::{MaxPool, OptMaxPool, OptSumPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::nn::{DataFormat, Resize, Softmax, SoftmaxKind};

/// A stock operator over planes, run by a faster loop wherever there is one for the shapes that it meets.
///
/// Inputs, outputs and facts are those of the stock operator, which runs all that the loops do not take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Planar {
    stock: Stock,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stock {
    Resize(Resize),
    MaxPool(MaxPool),
    SumPool(SumPool),
    Softmax(Softmax),
}

impl Stock {
    /// The operator at `node`, if there is a loop for what is known of its shapes.
    fn of(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Stock>> {
        let stock = if let Some(op) = node.op_as::<Resize>() {
            Stock::Resize(op.clone())
        } else if let Some(op) = node.op_as::<MaxPool>() {
            Stock::MaxPool(op.clone())
        } else if let Some(OptMaxPool { pool_spec, with_index_outputs, .. }) = node.op_as() {
            let (pool_spec, with_index_outputs) = (pool_spec.clone(), *with_index_outputs);
            Stock::MaxPool(MaxPool { pool_spec, with_index_outputs })
        } else if let Some(op) = node.op_as::<SumPool>() {
            Stock::SumPool(op.clone())
        } else if let Some(OptSumPool { pool_spec, count_include_pad, normalize, .. }) = node.op_as() {
            let (count_include_pad, normalize) = (*count_include_pad, *normalize);
            Stock::SumPool(SumPool { pool_spec: pool_spec.clone(), count_include_pad, normalize })
        } else if let Some(op) = node.op_as::<Softmax>() {
            Stock::Softmax(op.clone())
        } else {
            return Ok(None);
        };
        let x = model.outlet_fact(node.inputs[0])?;
        rule_if!(x.is_plain() && x.datum_type == f32::datum_type());
        let fits = match &stock {
            Stock::Resize(op) => {
                let known = |input: Option<usize>| -> TractResult<bool> {
                    let Some(outlet) = input.and_then(|input| node.inputs.get(input)) else {
                        return Ok(true);
                    };
                    Ok(model.outlet_fact(*outlet)?.konst.is_some())
                };
                known(op.optional_scales_input)? && known(op.optional_sizes_input)? && x.rank() >= 2
            }
            Stock::MaxPool(op) => op.with_index_outputs.is_none() && takes(&op.pool_spec),
            Stock::SumPool(op) => takes(&op.pool_spec),
            Stock::Softmax(op) => op.kind == SoftmaxKind::Softmax && middle(&op.axes, x.rank()).is_some(),
        };
        Ok(fits.then_some(stock))
    }

    fn op(&self) -> &dyn TypedOp {
        match self {
            Stock::Resize(op) => op,
            Stock::MaxPool(op) => op,
            Stock::SumPool(op) => op,
            Stock::Softmax(op) => op,
        }
    }
}

/// Whether pooling is over planes of one or two axes.
fn takes(spec: &PoolSpec) -> bool {
    matches!(spec.data_format, DataFormat::NCHW | DataFormat::CHW) && matches!(spec.rank(), 1 | 2)
}

/// The axes of a softmax as a range, if they are neighbours.
fn middle(axes: &[usize], rank: usize) -> Option<std::ops::Range<usize>> {
    let mut axes: TVec<usize> = axes.into();
    axes.sort_unstable();
    let range = *axes.first()?..*axes.last()? + 1;
    (range.len() == axes.len() && range.end <= rank).then_some(range)
}

/// Puts a [`Planar`] in place of the first stock operator of the model that has a loop; none if there is no
/// such operator left.
pub(crate) fn swap_next(model: &TypedModel, target: Target) -> TractResult<Option<TypedModelPatch>> {
    for node in model.nodes().iter().filter(|node| !is_layer(node)) {
        if let Some(stock) = Stock::of(model, node)? {
            let op = Planar { stock, target };
            return TypedModelPatch::replace_single_op(model, node, &node.inputs, op).map(Some);
        }
    }
    Ok(None)
}

impl Planar {
    /// Puts these operators in place of all stock ones of an optimised model that have a loop; returns how
    /// many.
    ///
    /// # Errors
    /// A graph that cannot be patched.
    pub fn swap_all(model: &mut TypedModel, target: Target) -> TractResult<usize> {
        let mut swapped = 0;
        while let Some(patch) = swap_next(model, target)? {
            patch.apply(model)?;
            model.compact()?;
            swapped += 1;
        }
        Ok(swapped)
    }
}

/// A loop that makes planes of planes, one of one.
#[derive(Debug)]
pub(crate) enum Planes {
    Resize(ResizePlanes),
    Pool(Pool),
}

impl Planes {
    /// Values of a plane of the input and of the output.
    pub(crate) fn lens(&self) -> [usize; 2] {
        match self {
            Planes::Resize(resize) => [resize.x_plane(), resize.y_plane()],
            Planes::Pool(pool) => [pool.x_plane(), pool.y_plane()],
        }
    }

    /// Runs it on planes of quads one after the other: bytes, and what they stand for.
    pub(crate) fn run_quads(
        &self,
        target: Target,
        x: (&[u32], Affine),
        y: (&mut [u32], Affine),
    ) -> Result<(), KernelError> {
        match self {
            Planes::Resize(resize) => resize.run_quads(target, x, y),
            Planes::Pool(pool) => pool.run_quads(target, x, y),
        }
    }

    /// Runs it on planes one after the other.
    pub(crate) fn run(&self, target: Target, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        match self {
            Planes::Resize(resize) => resize.run(target, x, y),
            Planes::Pool(pool) => pool.run(target, x, y),
        }
    }
}

impl Planar {
    /// Where it runs.
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// Whether every channel is computed from that channel alone, and its planes follow each other: the axis of
    /// channels then. Not of a softmax, nor of a resize of other axes than the two last ones.
    pub(crate) fn channel_axis(&self, rank: usize) -> Option<usize> {
        match &self.stock {
            Stock::Resize(_) => rank.checked_sub(3),
            Stock::MaxPool(MaxPool { pool_spec, .. }) | Stock::SumPool(SumPool { pool_spec, .. }) => {
                Some(pool_spec.data_format.has_n() as usize)
            }
            Stock::Softmax(_) => None,
        }
    }

    /// The loop for an input of this shape, the other inputs being these, and the shape of the output; none if
    /// there is no loop that goes plane by plane.
    ///
    /// # Errors
    /// A shape that the operator cannot take.
    pub(crate) fn planes(
        &self,
        x: &[usize],
        inputs: &[TValue],
    ) -> TractResult<Option<(Planes, TVec<usize>)>> {
        let (pool, shape) = match &self.stock {
            Stock::Resize(op) => {
                rule_if_some!((resize, shape) = resize(op, x, inputs)?);
                return Ok(Some((Planes::Resize(resize), shape)));
            }
            Stock::MaxPool(MaxPool { pool_spec, .. }) => pool(pool_spec, Pooling::Max, false, x)?,
            Stock::SumPool(SumPool { pool_spec, count_include_pad, normalize }) => {
                let pooling = if *normalize { Pooling::Mean } else { Pooling::Sum };
                pool(pool_spec, pooling, *count_include_pad, x)?
            }
            Stock::Softmax(_) => return Ok(None),
        };
        Ok(Some((Planes::Pool(pool), shape)))
    }
}

/// The geometry of a pooling for an input of this shape.
fn pool(
    spec: &PoolSpec,
    pooling: Pooling,
    include_pad: bool,
    x: &[usize],
) -> TractResult<(Pool, TVec<usize>)> {
    let shape = spec.data_format.shape(x)?;
    let (hw, strides, dilations) = (shape.hw_dims(), spec.strides(), spec.dilations());
    let computed = padding(spec, hw);
    let axis = |at: usize| -> TractResult<PoolAxis> {
        let padding = &computed[at];
        let axis = PoolAxis::new(
            hw[at],
            padding.convoluted,
            spec.kernel_shape[at],
            strides[at],
            dilations[at],
            padding.pad_before,
        )?;
        Ok(match &spec.padding {
            _ if !include_pad => axis,
            // a window that runs past the padding because sizes are rounded up does not count what is beyond
            PaddingSpec::ExplicitOnnxPool(before, after, true) => {
                axis.counting(before[at] + hw[at] + after[at])
            }
            _ => axis.counting(usize::MAX),
        })
    };
    let pool = match spec.rank() {
        1 => Pool::new(pooling, PoolAxis::new(1, 1, 1, 1, 1, 0)?, axis(0)?),
        _ => Pool::new(pooling, axis(0)?, axis(1)?),
    };
    Ok((
        pool,
        spec.data_format
            .from_n_c_hw(
                shape.n().copied().unwrap_or(1),
                *shape.c(),
                computed.iter().map(|padding| padding.convoluted).collect::<TVec<_>>(),
            )?
            .shape,
    ))
}

/// A resize of the two last axes for an input of this shape; none if another axis is resized, or the input
/// has no pixel. Scales and sizes are among `inputs`.
fn resize(op: &Resize, x: &[usize], inputs: &[TValue]) -> TractResult<Option<(ResizePlanes, TVec<usize>)>> {
    let input = |at: Option<usize>| at.and_then(|at| inputs.get(at)).map(|tensor| &**tensor);
    let (scales, sizes) = (input(op.optional_scales_input), input(op.optional_sizes_input));
    let y = op.compute_output_shape(x, scales, sizes)?;
    rule_if!(x.len() >= 2 && y.len() == x.len() && x.iter().all(|dim| *dim > 0));
    let scales: TVec<f32> = match scales.filter(|scales| scales.len() == x.len()) {
        Some(scales) => f32s(scales)?.into(),
        None => y.iter().zip(x).map(|(y, x)| *y as f32 / *x as f32).collect(),
    };
    let kept = |axis: usize| x[axis] == y[axis] && scales[axis] == 1.0;
    let (planes, rank) = (x.len() - 2, x.len());
    rule_if!((0..planes).all(kept));
    let taps = |axis: usize| -> TractResult<Option<Taps>> {
        rule_if!(!kept(axis));
        let plan = op.plan_axis(scales[axis], x[axis], y[axis]);
        // coordinates without an input pixel come with regions of interest alone, which this operator does
        // not have
        ensure!(!plan.extrapolated.contains(&true), "a resize without a region of interest leaves its input");
        Ok(Some(Taps::new(x[axis], plan.window, &plan.indices, &plan.weights)?))
    };
    let resize = ResizePlanes::new([x[rank - 2], x[rank - 1]], taps(rank - 2)?, taps(rank - 1)?)?;
    Ok(Some((resize, y)))
}

/// Runs `run` on the planes of `x` and of an output of `shape`, on tract's threads.
fn over_planes(
    x: &Tensor,
    shape: &[usize],
    [x_plane, y_plane]: [usize; 2],
    run: impl Fn(&[f32], &mut [f32]) -> Result<(), KernelError> + Sync + Send,
) -> TractResult<TVec<TValue>> {
    let mut y = Tensor::zero::<f32>(shape)?;
    let x = f32s(x)?;
    if y.len() > 0 {
        let mut y = y.try_as_plain_ram_mut()?;
        let y = y.as_slice_mut::<f32>()?;
        let elements = y.len().max(x.len());
        par_chunks_mut(y, y_plane, elements, |first, y| {
            let planes = first..first + y.len() / y_plane;
            run(&x[planes.start * x_plane..planes.end * x_plane], y).map_err(TractError::from)
        })?;
    }
    Ok(tvec!(y.into_tvalue()))
}

impl Op for Planar {
    fn name(&self) -> StaticName {
        match self.stock {
            Stock::Resize(_) => "PlanarResize".into(),
            Stock::MaxPool(_) => "PlanarMaxPool".into(),
            Stock::SumPool(_) => "PlanarSumPool".into(),
            Stock::Softmax(_) => "PlanarSoftmax".into(),
        }
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.stock.op().info()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Planar {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = &inputs[0];
        match &self.stock {
            Stock::Resize(_) | Stock::MaxPool(_) | Stock::SumPool(_) => {
                match self.planes(x.shape(), &inputs)? {
                    Some((planes, shape)) => {
                        over_planes(x, &shape, planes.lens(), |x, y| planes.run(self.target, x, y))
                    }
                    None => self.stock.op().eval(ctx, inputs),
                }
            }
            Stock::Softmax(op) => {
                let axes = middle(&op.axes, x.rank()).context("softmax over axes apart")?;
                let len: usize = x.shape()[axes.clone()].iter().product();
                let inner: usize = x.shape()[axes.end..].iter().product();
                let mut y = args_1!(inputs).into_tensor();
                if y.len() > 0 {
                    let mut y = y.try_as_plain_ram_mut()?;
                    let y = y.as_slice_mut::<f32>()?;
                    let elements = y.len();
                    par_chunks_mut(y, len * inner, elements, |_, y| {
                        softmax(self.target, len, inner, y).map_err(TractError::from)
                    })?;
                }
                Ok(tvec!(y.into_tvalue()))
            }
        }
    }
}

impl TypedOp for Planar {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.stock.op().output_facts(inputs)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        self.stock.op().cost(inputs)
    }

    as_op!();
}
