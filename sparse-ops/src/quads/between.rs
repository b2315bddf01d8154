//! What stands between layers, on quads of bytes.

use super::{FromQuads, Outside, Steps, ToQuads};
use crate::executor::par_chunks_mut;
use crate::pairs::{Lanes, by_parts, fits, u32s};
use crate::planar::Planar;
use sparse_kernels::prelude::{Element, Target};
use sparse_kernels::quads::{self, Affine, Binary};
use std::hash::{Hash, Hasher};
use tract_core::internal::*;

/// A function of each byte, which may be that of any two quantised values of one argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuadsLookup {
    table: Box<[u8; 256]>,
    lanes: Lanes,
}

impl QuadsLookup {
    /// This function of these channels.
    pub(crate) fn new(table: [u8; 256], lanes: Lanes) -> QuadsLookup {
        QuadsLookup { table: Box::new(table), lanes }
    }
}

impl Op for QuadsLookup {
    fn name(&self) -> StaticName {
        "QuadsLookup".into()
    }

    fn validation(&self) -> Validation {
        Validation::Accurate
    }

    op_as_typed_op!();
}

impl EvalOp for QuadsLookup {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(looked_up(&self.table, args_1!(inputs).into_tensor())?))
    }
}

/// Every byte of quads replaced by its entry in the table, on tract's threads.
fn looked_up(table: &[u8; 256], mut quads: Tensor) -> TractResult<TValue> {
    {
        let mut quads = quads.try_as_plain_ram_mut()?;
        let quads = quads.as_slice_mut::<u32>()?;
        let bytes = Element::Int8.per_lane() * quads.len();
        par_chunks_mut(quads, 1, bytes, |_, quads| {
            quads::lookup(table, quads);
            Ok(())
        })?;
    }
    Ok(quads.into_tvalue())
}

impl TypedOp for QuadsLookup {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "got {} inputs", inputs.len());
        self.lanes.unpack_fact(inputs[0])?;
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// The sum or the product of two quantised values: of the same shape, or the second with one value for each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuadsBinary {
    op: Binary,
    /// Of both operands and of the result.
    steps: [Steps; 3],
    lanes: Lanes,
    target: Target,
}

impl QuadsBinary {
    /// Of these channels; what the bytes of both operands and of the result stand for.
    pub(crate) fn new(op: Binary, steps: [Steps; 3], lanes: Lanes, target: Target) -> QuadsBinary {
        QuadsBinary { op, steps, lanes, target }
    }
}

impl Op for QuadsBinary {
    fn name(&self) -> StaticName {
        format!("Quads{:?}", self.op).into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for QuadsBinary {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (a, b) = args_2!(inputs);
        let shape: TVec<usize> = a.shape().into();
        let (a, b) = (u32s(&a)?, u32s(&b)?);
        let [of_a, of_b, of_y] = self.steps.map(Steps::affine);
        let elements = self.lanes.per_lane() * a.len();
        let run = |a: &[u32], b: &[u32], y: &mut [u32]| {
            Ok(quads::binary(self.target, self.op, (a, of_a), (b, of_b), (y, of_y))?)
        };
        if a.len() == b.len() {
            return by_parts(1, &shape, elements, |at, y| run(&a[at..][..y.len()], &b[at..][..y.len()], y));
        }
        let plane = self.lanes.plane(&shape);
        by_parts(plane, &shape, elements, |at, y| {
            for (plane_at, y) in y.chunks_exact_mut(plane).enumerate() {
                let at = at + plane_at;
                run(&a[at * plane..][..plane], &vec![b[at]; plane], y)?;
            }
            Ok(())
        })
    }
}

impl TypedOp for QuadsBinary {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "got {} inputs", inputs.len());
        for input in inputs {
            self.lanes.unpack_fact(input)?;
        }
        let [a, b] = [&inputs[0].shape, &inputs[1].shape];
        ensure!(fits(self.lanes, a, b), "{a:?} and {b:?}");
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}

/// The sum over all axes behind the channels, times a number: a global average. Sums are exact.
#[derive(Debug, Clone, Copy)]
pub struct QuadsMean {
    factor: f32,
    /// Of what is summed and of the result.
    steps: [Steps; 2],
    lanes: Lanes,
    target: Target,
}

impl QuadsMean {
    /// Of each of these channels; what the bytes of input and output stand for.
    pub(crate) fn new(factor: f32, steps: [Steps; 2], lanes: Lanes, target: Target) -> QuadsMean {
        QuadsMean { factor, steps, lanes, target }
    }
}

impl PartialEq for QuadsMean {
    fn eq(&self, other: &QuadsMean) -> bool {
        (self.factor.to_bits(), self.steps, self.lanes) == (other.factor.to_bits(), other.steps, other.lanes)
    }
}

impl Eq for QuadsMean {}

impl Hash for QuadsMean {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.factor.to_bits(), self.steps, self.lanes).hash(state);
    }
}

impl Op for QuadsMean {
    fn name(&self) -> StaticName {
        "QuadsGlobalSum".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("times {}", self.factor)])
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for QuadsMean {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let x = args_1!(inputs);
        let mut shape: TVec<usize> = x.shape().into();
        let plane = self.lanes.plane(&shape);
        shape[self.lanes.axis() + 1..].fill(1);
        let x = u32s(&x)?;
        let [of_x, of_y] = self.steps.map(Steps::affine);
        let zeros = plane as i64 * i64::from(of_x.zero());
        let factor = self.factor * of_x.scale();
        by_parts(1, &shape, self.lanes.per_lane() * x.len(), |at, y| {
            for (at, y) in (at..).zip(y) {
                let sums = quads::sums(self.target, &x[at * plane..][..plane]);
                *y = quads::lane(sums.map(|sum| of_y.byte((sum as i64 - zeros) as f32 * factor)));
            }
            Ok(())
        })
    }
}

impl TypedOp for QuadsMean {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1, "got {} inputs", inputs.len());
        self.lanes.unpack_fact(inputs[0])?;
        let mut fact = inputs[0].without_value();
        for axis in self.lanes.axis() + 1..fact.rank() {
            fact.shape.set(axis, 1.to_dim());
        }
        Ok(tvec!(fact))
    }

    as_op!();
}

/// An operator that puts values where they belong and changes none, on lanes instead: bytes of each of its inputs may be
/// replaced by others first, which stand for the same in the output.
#[derive(Debug, Clone)]
pub struct QuadsMoved {
    op: Box<dyn TypedOp>,
    tables: TVec<Option<Box<[u8; 256]>>>,
}

impl PartialEq for QuadsMoved {
    fn eq(&self, other: &QuadsMoved) -> bool {
        self.op.name() == other.op.name() && self.tables == other.tables
    }
}

impl Eq for QuadsMoved {}

impl QuadsMoved {
    /// The operator, of inputs that stand for these, to what stands for `y`; itself if these are all the same.
    pub(crate) fn put(op: Box<dyn TypedOp>, inputs: &[Steps], y: Steps) -> Box<dyn TypedOp> {
        if inputs.iter().all(|x| *x == y) {
            return op;
        }
        let (y, requantised) = (y.affine(), |x: &Steps| (*x != y).then(|| x.affine()));
        let table = |x: Affine| Box::new(x.bytes_in(y));
        Box::new(QuadsMoved { op, tables: inputs.iter().map(|x| requantised(x).map(table)).collect() })
    }
}

impl Op for QuadsMoved {
    fn name(&self) -> StaticName {
        format!("Quads{}", self.op.name()).into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.op.info()
    }

    fn validation(&self) -> Validation {
        Validation::Accurate
    }

    op_as_typed_op!();
}

impl EvalOp for QuadsMoved {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let replaced = |(input, table): (TValue, &Option<Box<[u8; 256]>>)| match table {
            Some(table) => looked_up(table, input.into_tensor()),
            None => Ok(input),
        };
        let inputs = inputs.into_iter().zip(&self.tables).map(replaced).collect::<TractResult<_>>()?;
        self.op.eval(ctx, inputs)
    }
}

impl TypedOp for QuadsMoved {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == self.tables.len(), "got {} inputs", inputs.len());
        self.op.output_facts(inputs)
    }

    as_op!();
}

/// A [`Planar`] operator on quads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuadsPlanar {
    planar: Planar,
    /// Of input and output.
    steps: [Steps; 2],
    lanes: Lanes,
}

impl QuadsPlanar {
    /// This operator, whose input and output have these channels; what the bytes of both stand for.
    pub(crate) fn new(planar: Planar, steps: [Steps; 2], lanes: Lanes) -> QuadsPlanar {
        QuadsPlanar { planar, steps, lanes }
    }

    /// What takes lanes apart, and puts those of the output together.
    fn conversions(&self) -> (FromQuads, ToQuads) {
        let ([x, y], target) = (self.steps.map(Outside::F32), self.planar.target());
        (FromQuads::new(self.lanes, x, target), ToQuads::new(self.lanes, y, target))
    }
}

impl Op for QuadsPlanar {
    fn name(&self) -> StaticName {
        format!("Quads{}", self.planar.name()).into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.planar.info()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for QuadsPlanar {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (lanes, target) = (self.lanes, self.planar.target());
        let channels = lanes.unpack_shape(inputs[0].shape())?;
        let Some((planes, shape)) = self.planar.planes(&channels, &inputs)? else {
            let (from, to) = self.conversions();
            inputs[0] = from.run(&inputs[0])?.into_tvalue();
            let y = args_1!(self.planar.eval(ctx, inputs)?);
            return Ok(tvec!(to.run(&y)?.into_tvalue()));
        };
        let (x, [x_plane, y_plane]) = (u32s(&inputs[0])?, planes.lens());
        let [of_x, of_y] = self.steps.map(Steps::affine);
        by_parts(y_plane, &lanes.pack_shape(&shape)?, lanes.per_lane() * x.len(), |first, y| {
            let x = &x[first * x_plane..][..y.len() / y_plane * x_plane];
            Ok(planes.run_quads(target, (x, of_x), (y, of_y))?)
        })
    }
}

impl TypedOp for QuadsPlanar {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (from, to) = self.conversions();
        let x = from.fact(inputs[0])?;
        let mut wide: TVec<&TypedFact> = inputs.into();
        wide[0] = &x;
        Ok(tvec!(to.fact(&self.planar.output_facts(&wide)?[0])?))
    }

    as_op!();
}

/// An operator that computes in f32: its inputs are dequantised, and what it puts out is quantised again.
#[derive(Debug, Clone)]
pub struct QuadsWide {
    op: Box<dyn TypedOp>,
    /// Those that are quads, the others are as they are.
    inputs: TVec<Option<FromQuads>>,
    output: ToQuads,
}

impl PartialEq for QuadsWide {
    fn eq(&self, other: &QuadsWide) -> bool {
        self.op.name() == other.op.name() && self.inputs == other.inputs && self.output == other.output
    }
}

impl Eq for QuadsWide {}

impl QuadsWide {
    /// The operator with these inputs, quads of such channels that stand for this, and this output.
    pub(crate) fn new(
        op: Box<dyn TypedOp>,
        inputs: &[Option<(Lanes, Steps)>],
        (lanes, steps): (Lanes, Steps),
        target: Target,
    ) -> QuadsWide {
        let from = |(lanes, steps)| FromQuads::new(lanes, Outside::F32(steps), target);
        QuadsWide {
            op,
            inputs: inputs.iter().map(|input| input.map(from)).collect(),
            output: ToQuads::new(lanes, Outside::F32(steps), target),
        }
    }
}

impl Op for QuadsWide {
    fn name(&self) -> StaticName {
        format!("Quads{}", self.op.name()).into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.op.info()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for QuadsWide {
    op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let widen = |(input, from): (TValue, &Option<FromQuads>)| match from {
            Some(from) => Ok(from.run(&input)?.into_tvalue()),
            None => Ok(input),
        };
        let inputs = inputs.into_iter().zip(&self.inputs).map(widen).collect::<TractResult<_>>()?;
        let y = args_1!(self.op.eval(ctx, inputs)?);
        Ok(tvec!(self.output.run(&y)?.into_tvalue()))
    }
}

impl TypedOp for QuadsWide {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == self.inputs.len(), "got {} inputs", inputs.len());
        let widen = |(input, from): (&&TypedFact, &Option<FromQuads>)| match from {
            Some(from) => from.fact(input),
            None => Ok((*input).clone()),
        };
        let wide: TVec<TypedFact> = inputs.iter().zip(&self.inputs).map(widen).collect::<TractResult<_>>()?;
        let outputs = self.op.output_facts(&wide.iter().collect::<TVec<_>>())?;
        ensure!(outputs.len() == 1, "{} outputs", outputs.len());
        Ok(tvec!(self.output.fact(&outputs[0])?))
    }

    as_op!();
}
