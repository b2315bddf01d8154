//! What copies pieces of memory and computes nothing: shuffled channels, splits, concatenations.
//!
//! A channel shuffle is a concatenation, a reshape, a moved axis and a split: each of them a copy of the whole map by
//! stock tract. [`Pieces`] follows such operators back to where numbers come from and copies every piece once, from
//! there to where it is read. Operators that nothing reads any more vanish.

use crate::executor::par_chunks_mut;
use crate::konst::f32s;
use crate::opt_sparse_conv::is_layer;
use std::ops::Range;
use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice, TypedConcat};
use tract_core::ops::change_axes::IntoShape;

/// Fewest values of a piece: with fewer, looking each up takes as long as copying it.
const SHORTEST: usize = 32;

/// Most pieces of a tensor, so that a graph of any size is looked at in little time.
const MOST: usize = 1 << 12;

/// Operators that are followed back, one behind the other. Those farther away have become [`Pieces`] before.
const DEEPEST: usize = 16;

/// Puts pieces of its inputs, one after the other, into a tensor of a fixed shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pieces {
    shape: TVec<usize>,
    pieces: Vec<Piece>,
    /// The position of every piece.
    starts: Vec<usize>,
}

/// Values `start..start + len` of an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Piece {
    input: usize,
    start: usize,
    len: usize,
}

impl Piece {
    fn end(&self) -> usize {
        self.start + self.len
    }
}

/// Where the values of a tensor come from.
#[derive(Debug, Clone)]
struct Origin {
    pieces: Vec<Piece>,
    /// The position of every piece.
    starts: Vec<usize>,
    len: usize,
    /// Operators that copied them on the way.
    copies: usize,
}

impl Origin {
    /// The tensor itself.
    fn whole(input: usize, len: usize) -> Origin {
        Origin { pieces: vec![Piece { input, start: 0, len }], starts: vec![0], len, copies: 0 }
    }

    fn empty(copies: usize) -> Origin {
        Origin { pieces: vec![], starts: vec![], len: 0, copies }
    }

    /// Puts this range of `other` behind what is there; false if these would be too many pieces.
    fn push(&mut self, other: &Origin, range: Range<usize>) -> bool {
        let mut at = range.start;
        let first = other.starts.partition_point(|start| *start <= at).saturating_sub(1);
        for (piece, start) in other.pieces[first..].iter().zip(&other.starts[first..]) {
            if at == range.end {
                break;
            }
            let len = (start + piece.len).min(range.end) - at;
            let from = piece.start + at - start;
            match self.pieces.last_mut().filter(|last| last.input == piece.input && last.end() == from) {
                Some(last) => last.len += len,
                None => {
                    self.pieces.push(Piece { input: piece.input, start: from, len });
                    self.starts.push(self.len);
                }
            }
            self.len += len;
            at += len;
        }
        self.pieces.len() <= MOST
    }
}

/// Follows tensors of a model back.
struct Trace<'a> {
    model: &'a TypedModel,
    /// The tensors that are read.
    sources: TVec<OutletId>,
    /// What is known of operators that have been looked at.
    known: HashMap<usize, Option<Origin>>,
    /// How many operators may still be followed.
    depth: usize,
}

impl Trace<'_> {
    /// Where the values of a tensor of floats of known size come from; none of others.
    fn of(&mut self, outlet: OutletId) -> TractResult<Option<Origin>> {
        rule_if_some!(shape = self.shape(outlet)?);
        let node = self.model.node(outlet.node);
        if self.depth > 0 {
            self.depth -= 1;
            let origin = self.through(node);
            self.depth += 1;
            if let Some(origin) = origin? {
                return Ok(Some(origin));
            }
        }
        let input = self.sources.iter().position(|source| *source == outlet).unwrap_or_else(|| {
            self.sources.push(outlet);
            self.sources.len() - 1
        });
        Ok(Some(Origin::whole(input, shape.iter().product())))
    }

    /// Where what this node writes comes from, if it need not be run.
    fn through(&mut self, node: &TypedNode) -> TractResult<Option<Origin>> {
        if is_reshape(node) {
            return self.of(node.inputs[0]);
        }
        rule_if!(is_copy(node) && is_only_copied(self.model, node, DEEPEST));
        if let Some(known) = self.known.get(&node.id) {
            return Ok(known.clone());
        }
        let origin = self.copied(node)?;
        self.known.insert(node.id, origin.clone());
        Ok(origin)
    }

    /// The shape of a tensor of floats, if it is known.
    fn shape(&self, outlet: OutletId) -> TractResult<Option<TVec<usize>>> {
        let fact = self.model.outlet_fact(outlet)?;
        rule_if!(fact.is_plain() && fact.datum_type == f32::datum_type());
        Ok(fact.shape.as_concrete().map(|shape| shape.into()))
    }

    /// Where what this copying node writes comes from.
    fn copied(&mut self, node: &TypedNode) -> TractResult<Option<Origin>> {
        let mut inputs = vec![];
        let read = if node.op_is::<Gather>() { &node.inputs[..1] } else { &node.inputs };
        for outlet in read {
            rule_if_some!(shape = self.shape(*outlet)?);
            rule_if_some!(origin = self.of(*outlet)?);
            inputs.push((origin, shape));
        }
        let mut whole = Origin::empty(1 + inputs.iter().map(|(origin, _)| origin.copies).sum::<usize>());
        let Some((origin, shape)) = inputs.first() else { return Ok(None) };
        let inner = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let outer = |axis: usize| shape[..axis].iter().product::<usize>();
        if let Some(op) = node.op_as::<Pieces>() {
            for Piece { input, start, len } in &op.pieces {
                rule_if!(whole.push(&inputs[*input].0, *start..start + len));
            }
        } else if let Some(TypedConcat { axis }) = node.op_as() {
            for block in 0..outer(*axis) {
                for (origin, shape) in &inputs {
                    let len = shape[*axis..].iter().product::<usize>();
                    rule_if!(whole.push(origin, block * len..(block + 1) * len));
                }
            }
        } else if let Some(Slice { axis, start, end }) = node.op_as() {
            let (Ok(start), Ok(end)) = (start.to_usize(), end.to_usize()) else { return Ok(None) };
            let inner = inner(*axis);
            for block in 0..outer(*axis) {
                let first = block * shape[*axis];
                rule_if!(whole.push(origin, (first + start) * inner..(first + end) * inner));
            }
        } else if let Some(Gather { axis, .. }) = node.op_as() {
            rule_if_some!(indices = &self.model.outlet_fact(node.inputs[1])?.konst);
            let (inner, dim) = (inner(*axis), shape[*axis]);
            let indices = indices.cast_to::<i64>()?;
            let indices = indices.try_as_plain_ram()?;
            for block in 0..outer(*axis) {
                for index in indices.as_slice::<i64>()? {
                    let index = if *index < 0 { index + dim as i64 } else { *index };
                    rule_if!((0..dim as i64).contains(&index));
                    let at = block * dim + index as usize;
                    rule_if!(whole.push(origin, at * inner..(at + 1) * inner));
                }
            }
        } else if let Some(AxisOp::Move(from, to)) = node.op_as() {
            let last = *from.max(to);
            let mut strides: TVec<usize> = (0..=last).map(&inner).collect();
            let mut moved: TVec<usize> = shape[..=last].into();
            for dims in [&mut strides, &mut moved] {
                let dim = dims.remove(*from);
                dims.insert(*to, dim);
            }
            let blocks = moved.iter().product::<usize>();
            rule_if!(blocks <= MOST);
            for block in 0..blocks {
                let (mut at, mut rest) = (0, block);
                for (dim, stride) in moved.iter().zip(&strides).rev() {
                    at += rest % dim * stride;
                    rest /= dim;
                }
                rule_if!(whole.push(origin, at..at + inner(last)));
            }
        }
        Ok(Some(whole))
    }
}

/// Whether the values of this node are those of its input in the same order.
fn is_reshape(node: &TypedNode) -> bool {
    node.op_is::<IntoShape>()
        || matches!(node.op_as(), Some(AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..)))
}

/// Whether this node copies its inputs and computes nothing.
fn is_copy(node: &TypedNode) -> bool {
    node.op_is::<TypedConcat>()
        || node.op_is::<Slice>()
        || node.op_as::<Gather>().is_some_and(|gather| gather.output_type.is_none())
        || node.op_is::<Pieces>()
        || matches!(node.op_as(), Some(AxisOp::Move(..)))
}

/// Whether a tensor is, but for reshapes, what a copying node writes.
fn is_copied(model: &TypedModel, outlet: OutletId) -> bool {
    let behind = |node: &&TypedNode| is_reshape(node).then(|| model.node(node.inputs[0].node));
    let mut way = std::iter::successors(Some(model.node(outlet.node)), behind).take(DEEPEST);
    way.find(|node| !is_reshape(node)).is_some_and(is_copy)
}

/// Whether nobody reads what this node writes but those that copy it, which come within `depth` reshapes.
fn is_only_copied(model: &TypedModel, node: &TypedNode, depth: usize) -> bool {
    let copies = |inlet: &InletId| {
        let reader = model.node(inlet.node);
        is_copy(reader) || depth > 0 && is_reshape(reader) && is_only_copied(model, reader, depth - 1)
    };
    let outlet = OutletId::from(node.id);
    let readers = &node.outputs[0].successors;
    !readers.is_empty() && readers.iter().all(copies) && !model.outputs.contains(&outlet)
}

/// Puts a [`Pieces`] in place of an operator behind which others that copy can be left out.
pub(crate) fn swap(model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
    // only where something could be left out: most copies stand alone
    let copied = |outlet: &OutletId| is_copied(model, *outlet);
    rule_if!(!is_layer(node) && is_copy(node) && node.inputs.iter().any(copied));
    rule_if!(!is_only_copied(model, node, DEEPEST));
    let mut trace = Trace { model, sources: tvec!(), known: HashMap::new(), depth: DEEPEST };
    rule_if_some!(shape = trace.shape(node.id.into())?);
    rule_if_some!(origin = trace.copied(node)?);
    let long = origin.pieces.iter().all(|piece| piece.len >= SHORTEST);
    rule_if!(origin.copies > 1 && long && !origin.pieces.is_empty());
    let op = Pieces { shape, pieces: origin.pieces, starts: origin.starts };
    TypedModelPatch::replace_single_op(model, node, &trace.sources, op).map(Some)
}

impl Op for Pieces {
    fn name(&self) -> StaticName {
        "Pieces".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{} pieces", self.pieces.len())])
    }

    op_as_typed_op!();
}

impl EvalOp for Pieces {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let sources = inputs.iter().map(|input| f32s(input)).collect::<TractResult<TVec<_>>>()?;
        let mut y = Tensor::zero::<f32>(&self.shape)?;
        let mut view = y.try_as_plain_ram_mut()?;
        let values = view.as_slice_mut::<f32>()?;
        let elements = values.len();
        par_chunks_mut(values, 1, elements, |first, y| {
            let last = first + y.len();
            let mut rest = y;
            let from = self.starts.partition_point(|start| *start <= first).saturating_sub(1);
            for (piece, start) in self.pieces[from..].iter().zip(&self.starts[from..]) {
                if *start >= last {
                    break;
                }
                let skip = first.saturating_sub(*start);
                let range = piece.start + skip..piece.start + piece.len.min(last - start);
                let source = sources.get(piece.input).and_then(|source| source.get(range));
                let source = source.context("an input is shorter than its pieces")?;
                let (out, behind) = rest.split_at_mut(source.len());
                out.copy_from_slice(source);
                rest = behind;
            }
            Ok(())
        })?;
        Ok(tvec!(y.into_tvalue()))
    }
}

impl TypedOp for Pieces {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&*self.shape)))
    }

    as_op!();
}
