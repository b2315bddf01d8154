//! What stands between layers, on pairs of channels: values are widened, computed in f32, and rounded once.

use super::{Lanes, u32s};
use crate::executor::par_chunks_mut;
use crate::konst::f32s;
use crate::planar::Planar;
use sparse_kernels::pairs::{self, Arithmetic, Numbers, Operand};
use sparse_kernels::prelude::{Activation, Target};
use std::hash::{Hash, Hasher};
use tract_core::internal::*;

/// Runs `plane` for every plane of pairs of an output of this shape, on tract's threads: it is told which it is
/// among those of all images, and whether the pair has a second channel.
fn by_planes(
    lanes: Lanes,
    shape: &[usize],
    elements: usize,
    plane: impl Fn(usize, bool, &mut [u32]) -> TractResult<()> + Sync + Send,
) -> TractResult<TVec<TValue>> {
    by_rows(lanes.plane(shape), shape, elements, |at, y| plane(at, lanes.channels_of(at).1 == 2, y))
}

/// As [`by_planes`], for what does not tell one channel from another: it is told where in the tensor a row of lanes
/// begins, which is a plane, or all pairs of a pixel.
fn by_lanes(
    lanes: Lanes,
    shape: &[usize],
    elements: usize,
    row: impl Fn(usize, bool, &mut [u32]) -> TractResult<()> + Sync + Send,
) -> TractResult<TVec<TValue>> {
    let plane = lanes.plane(shape);
    if plane == 1 && lanes.channels().is_multiple_of(lanes.per_lane()) {
        return by_rows(lanes.lanes(), shape, elements, |at, y| row(at * lanes.lanes(), true, y));
    }
    by_planes(lanes, shape, elements, |at, both, y| row(at * plane, both, y))
}

/// Runs `row` for every row of this length, with its number.
fn by_rows(
    len: usize,
    shape: &[usize],
    elements: usize,
    row: impl Fn(usize, &mut [u32]) -> TractResult<()> + Sync + Send,
) -> TractResult<TVec<TValue>> {
    by_parts(len, shape, elements, |first, y| {
        for (at, y) in y.chunks_exact_mut(len).enumerate() {
            row(first + at, y)?;
        }
        Ok(())
    })
}

/// Makes an output of this shape of parts that are whole rows of this length, on tract's threads: `part` is told the number
/// of the first of them.
pub(crate) fn by_parts(
    row: usize,
    shape: &[usize],
    elements: usize,
    part: impl Fn(usize, &mut [u32]) -> TractResult<()> + Sync + Send,
) -> TractResult<TVec<TValue>> {
    let mut y = Tensor::zero::<u32>(shape)?;
    if y.len() > 0 {
        let mut y = y.try_as_plain_ram_mut()?;
        par_chunks_mut(y.as_slice_mut::<u32>()?, row, elements, part)?;
    }
    Ok(tvec!(y.into_tvalue()))
}

/// A function of each value.
#[derive(Debug, Clone, PartialEq)]
pub struct PairsUnary {
    function: Activation,
    lanes: Lanes,
    target: Target,
}

impl Eq for PairsUnary {}

impl PairsUnary {
    /// This function of these channels, with the instructions of the target.
    pub fn new(function: Activation, lanes: Lanes, target: Target) -> PairsUnary {
        PairsUnary { function, lanes, target }
    }

    /// Its channels.
    pub fn lanes(&self) -> Lanes {
        self.lanes
    }
}

impl Op for PairsUnary {
    fn name(&self) -> StaticName {
        "PairsUnary".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.function)])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for PairsUnary {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let (shape, x) = (x.shape(), u32s(&x)?);
        by_lanes(self.lanes, shape, 2 * x.len(), |at, both, y| {
            Ok(pairs::unary(self.target, self.function, &x[at..][..y.len()], both, y)?)
        })
    }
}

impl TypedOp for PairsUnary {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "got {} inputs", inputs.len());
        self.lanes.unpack_fact(inputs[0])?;
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// Arithmetic of pairs and a second operand: pairs of the same shape, pairs with one value for each channel, or
/// one number for all.
#[derive(Debug, Clone, Copy)]
pub struct PairsBinary {
    arithmetic: Arithmetic,
    lanes: Lanes,
    number: Option<f32>,
    target: Target,
}

impl PairsBinary {
    /// The arithmetic of two inputs, or, with a number, of one and that.
    pub fn new(arithmetic: Arithmetic, lanes: Lanes, number: Option<f32>, target: Target) -> PairsBinary {
        PairsBinary { arithmetic, lanes, number, target }
    }

    /// Its channels.
    pub fn lanes(&self) -> Lanes {
        self.lanes
    }
}

impl PartialEq for PairsBinary {
    fn eq(&self, other: &PairsBinary) -> bool {
        self.arithmetic == other.arithmetic
            && self.lanes == other.lanes
            && self.number.map(f32::to_bits) == other.number.map(f32::to_bits)
    }
}

impl Eq for PairsBinary {}

impl Hash for PairsBinary {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.arithmetic, self.lanes, self.number.map(f32::to_bits)).hash(state);
    }
}

impl Op for PairsBinary {
    fn name(&self) -> StaticName {
        format!("Pairs{:?}", self.arithmetic).into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(self.number.iter().map(|number| number.to_string()).collect())
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for PairsBinary {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let shape: TVec<usize> = inputs[0].shape().into();
        let a = u32s(&inputs[0])?;
        let b = inputs.get(1).map(|b| u32s(b)).transpose()?;
        let run = |at: usize, b, both, y: &mut [u32]| {
            Ok(pairs::arithmetic(self.target, self.arithmetic, &a[at..][..y.len()], b, both, y)?)
        };
        let (lanes, elements) = (self.lanes, 2 * a.len());
        match (self.number, b) {
            (Some(number), _) => by_lanes(lanes, &shape, elements, |at, both, y| {
                run(at, Operand::Channels([number; 2]), both, y)
            }),
            (None, Some(b)) if b.len() == a.len() => by_lanes(lanes, &shape, elements, |at, both, y| {
                run(at, Operand::Lanes(&b[at..][..y.len()]), both, y)
            }),
            (None, Some(b)) => by_planes(lanes, &shape, elements, |plane, both, y| {
                run(plane * y.len(), Operand::Channels(Numbers::from(self.target).widen(b[plane])), both, y)
            }),
            (None, None) => bail!("one operand"),
        }
    }
}

impl TypedOp for PairsBinary {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2 - self.number.is_some() as usize, "got {} inputs", inputs.len());
        for input in inputs {
            self.lanes.unpack_fact(input)?;
        }
        if let Some(b) = inputs.get(1) {
            ensure!(fits(self.lanes, &inputs[0].shape, &b.shape), "{:?} and {b:?}", inputs[0]);
        }
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// Whether a second operand of this shape is of the same shape, or has one value for each channel.
pub(crate) fn fits(lanes: Lanes, a: &[TDim], b: &[TDim]) -> bool {
    let axis = lanes.axis();
    a == b
        || (a.len() == b.len()
            && axis < a.len()
            && a[..=axis] == b[..=axis]
            && b[axis + 1..].iter().all(|dim| dim.is_one()))
}

/// A [`Planar`] operator on pairs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PairsPlanar {
    planar: Planar,
    lanes: Lanes,
}

impl PairsPlanar {
    /// This operator, whose input and output have these channels.
    pub fn new(planar: Planar, lanes: Lanes) -> PairsPlanar {
        PairsPlanar { planar, lanes }
    }

    /// Its channels.
    pub fn lanes(&self) -> Lanes {
        self.lanes
    }
}

impl Op for PairsPlanar {
    fn name(&self) -> StaticName {
        format!("Pairs{}", self.planar.name()).into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.planar.info()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for PairsPlanar {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (lanes, target) = (self.lanes, self.planar.target());
        let channels = lanes.unpack_shape(inputs[0].shape())?;
        let Some((planes, shape)) = self.planar.planes(&channels, &inputs)? else {
            inputs[0] = lanes.unpack(target, &inputs[0])?.into_tvalue();
            let y = self.planar.eval(ctx, inputs)?.remove(0);
            return Ok(tvec!(lanes.pack(target, &y)?.into_tvalue()));
        };
        let (x, [x_plane, y_plane]) = (u32s(&inputs[0])?, planes.lens());
        by_planes(lanes, &lanes.pack_shape(&shape)?, 2 * x.len(), |plane, both, y| {
            let count = 1 + both as usize;
            let (mut wide_x, mut wide_y) = (vec![0f32; count * x_plane], vec![0f32; count * y_plane]);
            pairs::unpack(target, [1, count, x_plane], &x[plane * x_plane..][..x_plane], &mut wide_x)?;
            planes.run(target, &wide_x, &mut wide_y)?;
            Ok(pairs::pack(target, [1, count, y_plane], &wide_y, y)?)
        })
    }
}

impl TypedOp for PairsPlanar {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let x = self.lanes.unpack_fact(inputs[0])?;
        let mut wide: TVec<&TypedFact> = inputs.into();
        wide[0] = &x;
        Ok(tvec!(self.lanes.pack_fact(&self.planar.output_facts(&wide)?[0])?))
    }

    as_op!();
}

/// The sum over all axes behind the channels, times a number: a global average.
///
/// On f32 it is what stock tract does in two operators; [`PairsReduce::in_pairs`] takes pairs. Sums are f32.
#[derive(Debug, Clone, Copy)]
pub struct PairsReduce {
    factor: f32,
    lanes: Lanes,
    target: Target,
    in_pairs: bool,
}

impl PairsReduce {
    /// The sum of each of these channels, times the factor, of f32.
    pub fn new(factor: f32, lanes: Lanes, target: Target) -> PairsReduce {
        PairsReduce { factor, lanes, target, in_pairs: false }
    }

    /// Its channels.
    pub fn lanes(&self) -> Lanes {
        self.lanes
    }

    /// What sums are multiplied by.
    pub(crate) fn factor(&self) -> f32 {
        self.factor
    }

    /// Whether it takes pairs and puts them out.
    pub fn puts_out_pairs(&self) -> bool {
        self.in_pairs
    }

    /// The same of pairs, to pairs.
    pub fn in_pairs(self) -> PairsReduce {
        PairsReduce { in_pairs: true, ..self }
    }
}

impl PartialEq for PairsReduce {
    fn eq(&self, other: &PairsReduce) -> bool {
        (self.factor.to_bits(), self.lanes, self.in_pairs)
            == (other.factor.to_bits(), other.lanes, other.in_pairs)
    }
}

impl Eq for PairsReduce {}

impl Op for PairsReduce {
    fn name(&self) -> StaticName {
        if self.in_pairs { "PairsGlobalSum".into() } else { "GlobalSum".into() }
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("times {}", self.factor)])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

/// The sum of values in sixteen sums, which the compiler keeps in registers, and adds up by halves.
fn sum(values: &[f32]) -> f32 {
    const SUMS: usize = 16;
    let mut sums = [0f32; SUMS];
    let (whole, rest) = values.as_chunks::<SUMS>();
    for values in whole {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    for half in [8, 4, 2, 1] {
        let (first, second) = sums.split_at_mut(half);
        first.iter_mut().zip(second).for_each(|(sum, other)| *sum += *other);
    }
    sums[0] + rest.iter().sum::<f32>()
}

impl EvalOp for PairsReduce {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let mut shape: TVec<usize> = x.shape().into();
        let len = self.lanes.plane(&shape);
        shape[self.lanes.axis() + 1..].fill(1);
        if !self.in_pairs {
            let mut y = Tensor::zero::<f32>(&shape)?;
            let x = f32s(&x)?;
            {
                let mut y = y.try_as_plain_ram_mut()?;
                par_chunks_mut(y.as_slice_mut::<f32>()?, 1, x.len(), |first, y| {
                    for (at, y) in (first..).zip(y) {
                        *y = self.factor * sum(&x[at * len..][..len]);
                    }
                    Ok(())
                })?;
            }
            return Ok(tvec!(y.into_tvalue()));
        }
        let x = u32s(&x)?;
        by_planes(self.lanes, &shape, 2 * x.len(), |plane, both, y| {
            let sums = pairs::sums(self.target, &x[plane * len..][..len]);
            let [even, odd] = sums.map(|sum| self.factor * sum);
            y[0] = Numbers::from(self.target).pair(even, if both { odd } else { 0.0 });
            Ok(())
        })
    }
}

impl TypedOp for PairsReduce {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "got {} inputs", inputs.len());
        let mut fact = inputs[0].without_value();
        for axis in self.lanes.axis() + 1..fact.rank() {
            fact.shape.set(axis, 1.to_dim());
        }
        Ok(tvec!(fact))
    }

    /// As many additions as stock tract counts for a sum.
    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let channels = self.lanes.channels().to_dim();
        let dims = inputs[0].shape.iter().enumerate();
        let values = dims.map(|(axis, dim)| if axis == self.lanes.axis() { &channels } else { dim });
        Ok(tvec!((Cost::FMA(f32::datum_type()), values.product())))
    }

    as_op!();
}
