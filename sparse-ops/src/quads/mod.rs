//! Operators on tensors in quads of channels, and which parts of a graph become such.
//!
//! An activation of int8 is a tensor of `u32`, four neighbouring channels in each, so that its axis of channels is a
//! quarter as long. All of them are u8 inside: i8 become such by a flip of the top bit. Such tensors are seen by nobody
//! but our operators: they come from a [`ToQuads`] and end in a [`FromQuads`] ([`clusters`]).

mod between;
pub(crate) mod clusters;

pub use between::{QuadsBinary, QuadsLookup, QuadsMean, QuadsMoved, QuadsPlanar, QuadsWide};

pub use clusters::is_dequantised;

use crate::konst::f32s;
use crate::pairs::{Lanes, u32s};
use sparse_kernels::prelude::Target;
use sparse_kernels::quads::{self, Affine};
use std::hash::{Hash, Hasher};
use tract_core::internal::*;

/// What the bytes of a tensor stand for: `scale * (byte - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps(Affine);

impl Eq for Steps {}

impl Hash for Steps {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.scale().to_bits(), self.0.zero()).hash(state);
    }
}

impl Steps {
    /// # Errors
    /// A scale that is zero, negative, NaN or infinite; a zero point that is not one of the type, in words.
    pub(crate) fn new(scale: f32, zero: i32, signed: bool) -> Result<Steps, &'static str> {
        let zero = if signed { zero.checked_add(128) } else { Some(zero) };
        let zero =
            zero.and_then(|zero| u8::try_from(zero).ok()).ok_or("a zero point is not one of its type")?;
        Affine::new(scale, zero).map(Steps).map_err(|_| "a scale is zero, negative, infinite or NaN")
    }

    /// The same for kernels.
    pub fn affine(self) -> Affine {
        self.0
    }
}

/// What the values of a tensor are outside of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outside {
    /// The bytes themselves, of u8.
    U8,
    /// The bytes with the top bit flipped, as i8.
    I8,
    /// What the bytes stand for, in f32.
    F32(Steps),
}

impl Outside {
    fn datum_type(self) -> DatumType {
        match self {
            Outside::U8 => u8::datum_type(),
            Outside::I8 => i8::datum_type(),
            Outside::F32(_) => f32::datum_type(),
        }
    }
}

/// Puts channels in quads. Floats are quantised as ONNX defines it: divided by the scale, rounded to the nearest, ties
/// to even, added to the zero point, saturated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ToQuads {
    lanes: Lanes,
    from: Outside,
    target: Target,
}

/// Takes quads of channels apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FromQuads {
    lanes: Lanes,
    to: Outside,
    target: Target,
}

impl ToQuads {
    /// For these channels of such a type, with the instructions of the target.
    pub fn new(lanes: Lanes, from: Outside, target: Target) -> ToQuads {
        ToQuads { lanes, from, target }
    }

    fn run(&self, x: &Tensor) -> TractResult<Tensor> {
        let (lanes, target) = (self.lanes, self.target);
        let bytes = |values: &[u8], flip| {
            let pack = move |shape, x: &[u8], y: &mut [u32]| quads::pack(target, shape, x, flip, y);
            lanes.pack_with(x.shape(), values, pack)
        };
        match self.from {
            Outside::U8 => bytes(x.try_as_plain_ram()?.as_slice::<u8>()?, false),
            Outside::I8 => {
                let signed = x.try_as_plain_ram()?;
                bytes(&signed.as_slice::<i8>()?.iter().map(|x| *x as u8).collect::<Vec<u8>>(), true)
            }
            Outside::F32(steps) => {
                let quantize =
                    |shape, x: &[f32], y: &mut [u32]| quads::quantize(target, shape, x, steps.affine(), y);
                lanes.pack_with(x.shape(), f32s(x)?, quantize)
            }
        }
    }

    fn fact(&self, x: &TypedFact) -> TractResult<TypedFact> {
        let expected = self.from.datum_type();
        ensure!(x.datum_type == expected, "{:?} to quads, expected {expected:?}", x.datum_type);
        self.lanes.pack_fact(x)
    }
}

impl FromQuads {
    /// For these channels to such a type, with the instructions of the target.
    pub fn new(lanes: Lanes, to: Outside, target: Target) -> FromQuads {
        FromQuads { lanes, to, target }
    }

    fn run(&self, x: &Tensor) -> TractResult<Tensor> {
        let (lanes, target) = (self.lanes, self.target);
        let bytes = |flip| {
            let unpack = move |shape, x: &[u32], y: &mut [u8]| quads::unpack(target, shape, x, flip, y);
            lanes.unpack_with(x.shape(), u32s(x)?, unpack)
        };
        match self.to {
            Outside::U8 => bytes(false),
            Outside::I8 => {
                let bytes = bytes(true)?;
                let signed: Vec<i8> =
                    bytes.try_as_plain_ram()?.as_slice::<u8>()?.iter().map(|x| *x as i8).collect();
                Tensor::from_shape(bytes.shape(), &signed)
            }
            Outside::F32(steps) => {
                let unpack =
                    |shape, x: &[u32], y: &mut [f32]| quads::dequantize(target, shape, x, steps.affine(), y);
                lanes.unpack_with(x.shape(), u32s(x)?, unpack)
            }
        }
    }

    fn fact(&self, x: &TypedFact) -> TractResult<TypedFact> {
        let mut fact = self.lanes.unpack_fact(x)?;
        fact.datum_type = self.to.datum_type();
        Ok(fact)
    }
}

macro_rules! conversion {
    ($op:ident, $outside:ident, $words:literal) => {
        impl Op for $op {
            fn name(&self) -> StaticName {
                stringify!($op).into()
            }

            fn info(&self) -> TractResult<Vec<String>> {
                let mut info = vec![format!(
                    "{} channels in axis {}, {} {:?}",
                    self.lanes.channels(),
                    self.lanes.axis(),
                    $words,
                    self.$outside.datum_type()
                )];
                if let Outside::F32(steps) = self.$outside {
                    info.push(format!("scale {}, zero {}", steps.0.scale(), steps.0.zero()));
                }
                Ok(info)
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
                Ok(tvec!(self.run(&x)?.into_tvalue()))
            }
        }

        impl TypedOp for $op {
            fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
                ensure!(inputs.len() == 1, "got {} inputs", inputs.len());
                Ok(tvec!(self.fact(inputs[0])?))
            }

            as_op!();
        }
    };
}

conversion!(ToQuads, from, "from");
conversion!(FromQuads, to, "to");
