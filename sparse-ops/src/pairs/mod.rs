//! Operators on tensors in pairs of channels, and which parts of a graph become such.
//!
//! An activation of half precision is a tensor of `u32`, two neighbouring channels in each, so that its axis of
//! channels is half as long: see [`half`](crate::half). Such tensors are seen by nobody but our operators: they
//! come from a [`ToPairs`] and end in a [`FromPairs`], and between the two no value is f32
//! ([`clusters`]).

mod between;
pub(crate) mod clusters;

pub use between::{PairsBinary, PairsPlanar, PairsReduce, PairsUnary};
pub(crate) use between::{by_parts, fits};

use crate::executor::par_chunks_mut;
use crate::konst::f32s;
use crate::opt_sparse_chain::layers;
use sparse_kernels::pairs;
use sparse_kernels::prelude::{Element, KernelError, Target};
use tract_core::internal::*;

/// Which axis of a tensor has its channels, how many there are, and how many of them a lane of 32 bits holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lanes {
    axis: usize,
    channels: usize,
    element: Element,
}

impl Lanes {
    /// Channels of the axis of this number, in pairs.
    pub fn new(axis: usize, channels: usize) -> Lanes {
        Lanes::of(Element::Bf16, axis, channels)
    }

    /// Channels of the axis of this number, in lanes of these elements.
    pub fn of(element: Element, axis: usize, channels: usize) -> Lanes {
        Lanes { axis, channels, element }
    }

    /// The axis that has the channels.
    pub fn axis(self) -> usize {
        self.axis
    }

    /// Channels, of which neighbours share a lane.
    pub fn channels(self) -> usize {
        self.channels
    }

    /// How many lanes there are.
    pub fn lanes(self) -> usize {
        self.channels.div_ceil(self.per_lane())
    }

    /// How many channels a lane holds.
    pub(crate) fn per_lane(self) -> usize {
        self.element.per_lane()
    }

    /// The fact of lanes for channels like these.
    ///
    /// # Errors
    /// A tensor of pairs that is not of f32, or one that has other channels.
    pub fn pack_fact(self, x: &TypedFact) -> TractResult<TypedFact> {
        let fits = self.element != Element::Bf16 || x.datum_type == f32::datum_type();
        ensure!(fits, "{:?} in pairs", x.datum_type);
        let mut shape = x.shape.to_tvec();
        self.swap(&mut shape, self.channels, self.lanes())?;
        Ok(u32::fact(shape))
    }

    /// The fact of channels, as f32, for lanes like these.
    ///
    /// # Errors
    /// A tensor that is not one of lanes, or has another number of them.
    pub fn unpack_fact(self, x: &TypedFact) -> TractResult<TypedFact> {
        ensure!(x.datum_type == u32::datum_type(), "lanes of channels in {:?}", x.datum_type);
        let mut shape = x.shape.to_tvec();
        self.swap(&mut shape, self.lanes(), self.channels)?;
        Ok(f32::fact(shape))
    }

    /// The shape of channels for lanes of this shape.
    pub(crate) fn unpack_shape(self, lanes: &[usize]) -> TractResult<TVec<usize>> {
        let mut shape: TVec<usize> = lanes.into();
        self.swap(&mut shape, self.lanes(), self.channels)?;
        Ok(shape)
    }

    /// The shape of lanes for channels of this shape.
    pub(crate) fn pack_shape(self, channels: &[usize]) -> TractResult<TVec<usize>> {
        let mut shape: TVec<usize> = channels.into();
        self.swap(&mut shape, self.channels, self.lanes())?;
        Ok(shape)
    }

    fn swap<D: DimLike>(self, shape: &mut [D], from: usize, to: usize) -> TractResult<()> {
        let Some(extent) = shape.get_mut(self.axis) else {
            bail!("channels in axis {} of {} axes", self.axis, shape.len());
        };
        ensure!(extent.to_usize().ok() == Some(from), "{extent} in the axis of channels, expected {from}");
        *extent = to.into();
        Ok(())
    }

    /// Values behind the axis of channels, of a tensor of this shape.
    pub(crate) fn plane(self, shape: &[usize]) -> usize {
        shape[self.axis + 1..].iter().product()
    }

    /// Where the channels of plane `plane` of lanes (of all images) begin among planes of channels, and how many there
    /// are.
    pub(crate) fn channels_of(self, plane: usize) -> (usize, usize) {
        let (image, lane) = (plane / self.lanes(), plane % self.lanes());
        let first = self.per_lane() * lane;
        (image * self.channels + first, self.per_lane().min(self.channels - first))
    }

    /// Images, channels and pixels behind each channel, of a tensor of channels of this shape.
    fn sizes(self, channels: &[usize]) -> [usize; 3] {
        [channels[..self.axis].iter().product(), self.channels, self.plane(channels)]
    }

    /// Makes lanes of channels of this shape, on tract's threads: `pack` is given images, channels and pixels, the
    /// values and the lanes, and writes all of these or fails.
    pub(crate) fn pack_with<T: Sync>(
        self,
        shape: &[usize],
        x: &[T],
        pack: impl Fn([usize; 3], &[T], &mut [u32]) -> Result<(), KernelError> + Sync,
    ) -> TractResult<Tensor> {
        let lanes = self.pack_shape(shape)?;
        let [images, channels, plane] = self.sizes(shape);
        // SAFETY: planes of lanes follow each other without a gap, and `pack` writes all of each or fails, whereupon
        // the output is dropped; a u32 has no invalid bit pattern.
        let mut y = unsafe { Tensor::uninitialized::<u32>(&lanes)? };
        if y.len() > 0 {
            let mut y = y.try_as_plain_ram_mut()?;
            let y = y.as_slice_mut::<u32>()?;
            if plane == 1 {
                pack([images, channels, plane], x, y)?;
            } else {
                par_chunks_mut(y, plane, x.len(), |first, y| {
                    for (at, y) in y.chunks_exact_mut(plane).enumerate() {
                        let (channel, count) = self.channels_of(first + at);
                        pack([1, count, plane], &x[channel * plane..][..count * plane], y)?;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(y)
    }

    /// Makes channels of lanes of this shape, on tract's threads: `unpack` as in [`Lanes::pack_with`].
    pub(crate) fn unpack_with<T: Number>(
        self,
        shape: &[usize],
        x: &[u32],
        unpack: impl Fn([usize; 3], &[u32], &mut [T]) -> Result<(), KernelError> + Sync,
    ) -> TractResult<Tensor> {
        let shape = self.unpack_shape(shape)?;
        let [images, channels, plane] = self.sizes(&shape);
        // SAFETY: as in `Lanes::pack_with`: planes of channels follow each other, and the numbers that are unpacked to have
        // no invalid bit pattern.
        let mut y = unsafe { Tensor::uninitialized::<T>(&shape)? };
        if y.len() > 0 {
            let (elements, per_lane) = (y.len(), self.per_lane());
            let mut y = y.try_as_plain_ram_mut()?;
            let y = y.as_slice_mut::<T>()?;
            if !channels.is_multiple_of(per_lane) || plane == 1 {
                // chunks of lanes would be of several lengths
                unpack([images, channels, plane], x, y)?;
            } else {
                par_chunks_mut(y, per_lane * plane, elements, |first, y| {
                    let lanes = y.len() / per_lane;
                    Ok(unpack([1, y.len() / plane, plane], &x[first * plane..][..lanes], y)?)
                })?;
            }
        }
        Ok(y)
    }

    /// Rounds channels and pairs them, with the instructions of the target, on tract's threads.
    ///
    /// # Errors
    /// A tensor that is not of f32, or has other channels.
    pub fn pack(self, target: Target, x: &Tensor) -> TractResult<Tensor> {
        let pack = |shape, x: &[f32], y: &mut [u32]| pairs::pack(target, shape, x, y);
        self.pack_with(x.shape(), f32s(x)?, pack)
    }

    /// Widens pairs to channels, with the instructions of the target, on tract's threads.
    ///
    /// # Errors
    /// A tensor that is not one of pairs, or has another number of them.
    pub fn unpack(self, target: Target, x: &Tensor) -> TractResult<Tensor> {
        let unpack = |shape, x: &[u32], y: &mut [f32]| pairs::unpack(target, shape, x, y);
        self.unpack_with(x.shape(), u32s(x)?, unpack)
    }
}

/// What channels are outside of lanes: plain numbers, all of whose bit patterns are values.
pub(crate) trait Number: Datum + Copy {}

impl Number for f32 {}
impl Number for u8 {}

/// The channels of the pairs that a node of our operators puts out; none if it puts out others, or if its operator
/// is one of tract's, which moves pairs without knowing.
pub fn lanes_of(node: &TypedNode) -> Option<Lanes> {
    if let Some(layer) = layers(node).and_then(<[_]>::last) {
        return layer.half().and_then(|_| layer.output_lanes(node.outputs[0].fact.rank()));
    }
    let unary = node.op_as::<PairsUnary>().map(PairsUnary::lanes);
    let planar = || node.op_as::<PairsPlanar>().map(PairsPlanar::lanes);
    let sum = || node.op_as::<PairsReduce>().filter(|op| op.puts_out_pairs()).map(PairsReduce::lanes);
    unary
        .or_else(|| node.op_as::<PairsBinary>().map(PairsBinary::lanes))
        .or_else(planar)
        .or_else(sum)
        .or_else(|| node.op_as::<ToPairs>().map(|op| op.lanes))
}

/// The values of a tensor of pairs.
pub(crate) fn u32s(tensor: &Tensor) -> TractResult<&[u32]> {
    tensor.try_as_plain_ram()?.as_slice::<u32>()
}

/// From f32 to pairs of channels: each value is rounded to the nearest bf16, ties to even.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ToPairs {
    lanes: Lanes,
    target: Target,
}

/// From pairs of channels to f32, which is exact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FromPairs {
    lanes: Lanes,
    target: Target,
}

impl ToPairs {
    /// Pairs these channels, with the instructions of the target.
    pub fn new(lanes: Lanes, target: Target) -> ToPairs {
        ToPairs { lanes, target }
    }
}

impl FromPairs {
    /// Takes these channels apart, with the instructions of the target.
    pub fn new(lanes: Lanes, target: Target) -> FromPairs {
        FromPairs { lanes, target }
    }
}

macro_rules! conversion {
    ($op:ident, $run:ident, $fact:ident) => {
        impl Op for $op {
            fn name(&self) -> StaticName {
                stringify!($op).into()
            }

            fn info(&self) -> TractResult<Vec<String>> {
                Ok(vec![format!("{} channels in axis {}", self.lanes.channels, self.lanes.axis)])
            }

            fn validation(&self) -> Validation {
                Validation::Rounding
            }

            op_as_typed_op!();
        }

        impl EvalOp for $op {
            op_out_of_plan!();

            fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
                let x = args_1!(inputs);
                Ok(tvec!(self.lanes.$run(self.target, &x)?.into_tvalue()))
            }
        }

        impl TypedOp for $op {
            fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
                ensure!(inputs.len() == 1, "got {} inputs", inputs.len());
                Ok(tvec!(self.lanes.$fact(inputs[0])?))
            }

            as_op!();
        }
    };
}

conversion!(ToPairs, pack, pack_fact);
conversion!(FromPairs, unpack, unpack_fact);

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_kernels::pairs::{float, round};

    #[test]
    fn every_number_of_channels_comes_back_rounded() {
        for (shape, axis) in [
            (vec![1, 4, 3, 5], 1),
            (vec![2, 5, 3, 3], 1),
            (vec![3, 1, 2], 1),
            (vec![7, 4], 0),
            (vec![2, 6], 1),
            (vec![2, 7], 1),
            (vec![2, 3, 5], 2),
            (vec![0, 3, 5], 1),
            (vec![2, 3, 0], 1),
        ] {
            let len: usize = shape.iter().product();
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7311).sin()).collect();
            let x = Tensor::from_shape(&shape, &values).unwrap();
            let (lanes, target) = (Lanes::new(axis, shape[axis]), Target::detect());
            let pairs = lanes.pack(target, &x).unwrap();
            assert_eq!(pairs.shape()[axis], shape[axis].div_ceil(2), "{shape:?}");
            let back = lanes.unpack(target, &pairs).unwrap();
            let expected: Vec<f32> = values.iter().map(|v| float(round(*v))).collect();
            assert_eq!(back.shape(), &*shape);
            assert_eq!(f32s(&back).unwrap(), &*expected, "{shape:?}");
        }
    }

    #[test]
    fn other_tensors_are_refused() {
        let (lanes, target) = (Lanes::new(1, 6), Target::SCALAR);
        let x = Tensor::zero::<f32>(&[1, 5, 2]).unwrap();
        assert!(lanes.pack(target, &x).unwrap_err().to_string().contains("expected 6"));
        assert!(lanes.pack(target, &Tensor::zero::<f32>(&[6]).unwrap()).is_err());
        assert!(lanes.unpack(target, &Tensor::zero::<u32>(&[1, 6, 2]).unwrap()).is_err());
        assert!(lanes.unpack(target, &Tensor::zero::<f32>(&[1, 3, 2]).unwrap()).is_err());
        assert!(lanes.pack_fact(&i64::fact([1, 6])).is_err());
        assert!(lanes.unpack_fact(&f32::fact([1, 3])).is_err());
    }
}
