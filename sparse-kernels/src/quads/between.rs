//! What stands between layers, on quads, and what leads into and out of them.

use super::quantised::round;
use super::{CHANNELS, FromQuads, IntoQuads, bytes, check, lane};
use crate::error::{FormatError, KernelError};
use crate::target::Target;
use crate::work::{Work, on};

/// What bytes stand for: byte `b` for `scale * (b - zero)`.
///
/// Invariant: the scale is finite and above zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    scale: f32,
    zero: u8,
}

impl Affine {
    /// # Errors
    /// A scale that is zero, negative, NaN or infinite.
    pub fn new(scale: f32, zero: u8) -> Result<Affine, FormatError> {
        if scale.is_finite() && scale > 0.0 {
            Ok(Affine { scale, zero })
        } else {
            Err(FormatError::Scale { channel: 0 })
        }
    }

    /// What a step of one byte is worth.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// The byte that stands for zero.
    pub fn zero(self) -> u8 {
        self.zero
    }

    /// The byte for a float, as ONNX defines QuantizeLinear: rounded to the nearest, ties to even, added to the zero
    /// point, saturated. NaN becomes the lowest.
    #[inline(always)]
    pub fn byte(self, v: f32) -> u8 {
        self.saturated(v / self.scale)
    }

    /// The byte that is this number of steps from the zero point, rounded and saturated.
    #[inline(always)]
    pub(crate) fn saturated(self, steps: f32) -> u8 {
        let zero = i32::from(self.zero);
        (round(steps.max(-zero as f32).min((255 - zero) as f32)) + zero) as u8
    }

    /// The float that a byte stands for.
    #[inline(always)]
    pub fn float(self, byte: u8) -> f32 {
        self.steps(byte) * self.scale
    }

    /// Of each byte the one that stands for the same in `other`.
    pub fn bytes_in(self, other: Affine) -> [u8; 256] {
        std::array::from_fn(|byte| match self == other {
            true => byte as u8,
            false => other.byte(self.float(byte as u8)),
        })
    }

    /// Steps from the zero point to a byte.
    #[inline(always)]
    fn steps(self, byte: u8) -> f32 {
        (i32::from(byte) - i32::from(self.zero)) as f32
    }
}

/// Quantises planes of floats, `[images, channels, pixels]` of them, to quads, as [`Affine::byte`] does.
///
/// # Errors
/// Slices of other lengths.
pub fn quantize(
    target: Target,
    shape: [usize; 3],
    planes: &[f32],
    affine: Affine,
    quads: &mut [u32],
) -> Result<(), KernelError> {
    check(shape, ("input", planes.len()), ("output", quads.len()))?;
    on(target, IntoQuads { shape, planes, byte: |v| affine.byte(v), quads });
    Ok(())
}

/// The floats that quads stand for: [`quantize`] in the other direction.
///
/// # Errors
/// Slices of other lengths.
pub fn dequantize(
    target: Target,
    shape: [usize; 3],
    quads: &[u32],
    affine: Affine,
    planes: &mut [f32],
) -> Result<(), KernelError> {
    check(shape, ("output", planes.len()), ("input", quads.len()))?;
    on(target, FromQuads { shape, quads, value: |v| affine.float(v), planes });
    Ok(())
}

/// Arithmetic of two quantised values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    /// The sum: `round(a_steps * (a_scale / y_scale) + b_steps * (b_scale / y_scale)) + y_zero`, saturated.
    Add,
    /// The product: `round(a_steps * b_steps * (a_scale * b_scale / y_scale)) + y_zero`, saturated.
    Mul,
}

/// `y = a op b` for every byte, in f32: steps are distances from zero points, products and sums are rounded one by
/// one, as onnxruntime does it, too.
///
/// # Errors
/// Slices of different lengths.
pub fn binary(
    target: Target,
    op: Binary,
    (a, of_a): (&[u32], Affine),
    (b, of_b): (&[u32], Affine),
    (y, of_y): (&mut [u32], Affine),
) -> Result<(), KernelError> {
    equal("second operand", a.len(), b.len())?;
    equal("output", a.len(), y.len())?;
    on(target, BinaryWork { op, a, of_a, b, of_b, y, of_y });
    Ok(())
}

struct BinaryWork<'a> {
    op: Binary,
    a: &'a [u32],
    of_a: Affine,
    b: &'a [u32],
    of_b: Affine,
    y: &'a mut [u32],
    of_y: Affine,
}

impl Work for BinaryWork<'_> {
    #[inline(always)]
    fn run(self) {
        let BinaryWork { op, a, of_a, b, of_b, y, of_y } = self;
        // loops over bytes, one for each operation, so that compilers make vectors of them
        match op {
            Binary::Add => {
                let (scale_a, scale_b) = (of_a.scale / of_y.scale, of_b.scale / of_y.scale);
                for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                    let (a, b) = (bytes(*a), bytes(*b));
                    let sum = |c: usize| of_a.steps(a[c]) * scale_a + of_b.steps(b[c]) * scale_b;
                    *y = lane(std::array::from_fn(|c| of_y.saturated(sum(c))));
                }
            }
            Binary::Mul => {
                let scale = of_a.scale * of_b.scale / of_y.scale;
                for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
                    let (a, b) = (bytes(*a), bytes(*b));
                    let product = |c: usize| of_a.steps(a[c]) * of_b.steps(b[c]) * scale;
                    *y = lane(std::array::from_fn(|c| of_y.saturated(product(c))));
                }
            }
        }
    }
}

/// Every byte replaced by its entry in `table`, in place.
pub fn lookup(table: &[u8; 256], quads: &mut [u32]) {
    for quad in quads {
        *quad = lane(bytes(*quad).map(|b| table[usize::from(b)]));
    }
}

/// The sums of the bytes of each of the four channels over all lanes.
pub fn sums(target: Target, x: &[u32]) -> [u64; CHANNELS] {
    let mut sums = [0; CHANNELS];
    on(target, Sums { x, sums: &mut sums });
    sums
}

struct Sums<'a> {
    x: &'a [u32],
    sums: &'a mut [u64; CHANNELS],
}

impl Work for Sums<'_> {
    #[inline(always)]
    fn run(self) {
        // Two bytes at a time, as many lanes as 16 bits hold the sums of.
        const MOST: usize = (u16::MAX / u8::MAX as u16) as usize;
        for part in self.x.chunks(MOST) {
            let (mut even, mut odd) = (0u32, 0u32);
            for quad in part {
                even = even.wrapping_add(quad & 0x00ff_00ff);
                odd = odd.wrapping_add(quad >> 8 & 0x00ff_00ff);
            }
            for (sum, part) in self.sums.iter_mut().zip([even & 0xffff, odd & 0xffff, even >> 16, odd >> 16])
            {
                *sum += u64::from(part);
            }
        }
    }
}

fn equal(what: &'static str, expected: usize, got: usize) -> Result<(), KernelError> {
    if expected == got { Ok(()) } else { Err(KernelError::Length { what, expected, got }) }
}
