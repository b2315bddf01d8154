//! Bytes in quads of channels: the activations and weights of int8.
//!
//! An image of `C` channels by `P` pixels is `[ceil(C / 4)][P]` lanes of 32 bits: byte `i` of a lane, counted from the
//! lowest, belongs to channel `4 k + i`. So a vector of lanes holds four channels of neighbouring pixels, as
//! instructions want them that multiply bytes and add four products to a sum of 32 bits.
//!
//! Activations are u8 with a zero point: byte `b` stands for `scale * (b - zero)`. Those that are i8 elsewhere become
//! u8 by a flip of their top bit and of that of their zero point, which is exact. Weights are i8 without a zero
//! point, sums i32. Bytes beyond the last channel count for nothing: layers multiply them by zero, [`unpack`]
//! leaves them out; [`pack`] makes them zero, and layers what a channel of zero sums would become.
//!
//! Sums are exact, and what becomes of them is defined to the bit, so that results are the same on every target:
//! `y = table[clamp(round(sum as f32 * scale) + zero, lo, hi)]`, where the sum is rounded to the nearest float, the
//! product is one of f32, and both roundings are to the nearest, ties to even ([`Quantised`]). Padding counts as the
//! zero point of the input.

mod between;
mod quantised;

pub use between::{Affine, Binary, binary, dequantize, lookup, quantize, sums};
pub use quantised::Quantised;
pub(crate) use quantised::{Bounds, Requantise};

use crate::error::{FormatError, KernelError};
use crate::table::Element;
use crate::target::Target;
use crate::work::{Work, on};

/// Channels of a lane.
pub(crate) const CHANNELS: usize = Element::Int8.per_lane();

/// The four bytes of a lane, that of the first channel first.
#[inline(always)]
pub fn bytes(lane: u32) -> [u8; CHANNELS] {
    lane.to_le_bytes()
}

/// Four bytes as a lane.
#[inline(always)]
pub fn lane(bytes: [u8; CHANNELS]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// `sum`, the bits of an i32, with the products of the weights of one lane and the activations of another.
#[inline(always)]
pub(crate) fn dot(weights: u32, x: u32, sum: f32) -> f32 {
    let mut total = sum.to_bits() as i32;
    for (w, x) in bytes(weights).into_iter().zip(bytes(x)) {
        total = total.wrapping_add(i32::from(w as i8) * i32::from(x));
    }
    f32::from_bits(total as u32)
}

/// A lane of the same byte four times, as the float with its bits.
pub(crate) fn repeated(byte: u8) -> f32 {
    f32::from_bits(lane([byte; CHANNELS]))
}

/// Refuses weights that are no whole numbers from -128 to 127.
pub(crate) fn check_weights(weights: &[f32]) -> Result<(), FormatError> {
    match weights.iter().position(|w| f32::from(*w as i8) != *w) {
        Some(index) => Err(FormatError::NotInt8 { index }),
        None => Ok(()),
    }
}

/// The weights `[row][col][tap]` in quads of columns: `[row][ceil(cols / 4)][tap]` lanes.
///
/// # Errors
/// A weight that is no whole number from -128 to 127.
pub(crate) fn of_weights(cols: usize, taps: usize, dense: &[f32]) -> Result<Vec<u32>, FormatError> {
    check_weights(dense)?;
    let mut lanes = Vec::with_capacity(dense.len() / CHANNELS + dense.len() / cols.max(1));
    for row in dense.chunks_exact((cols * taps).max(1)) {
        for quad in row.chunks(CHANNELS * taps) {
            let of = |tap: usize, c: usize| quad.get(c * taps + tap).map_or(0, |w| *w as i8 as u8);
            lanes.extend((0..taps).map(|tap| lane(std::array::from_fn(|c| of(tap, c)))));
        }
    }
    Ok(lanes)
}

/// Bytes in lanes that are not zero.
pub(crate) fn nonzeros(lanes: &[f32]) -> usize {
    lanes.iter().flat_map(|lane| bytes(lane.to_bits())).filter(|b| *b != 0).count()
}

/// Checks the lengths of planes, `[images, channels, pixels]` of them, and of quads of the same.
fn check(
    [images, channels, pixels]: [usize; 3],
    planes: (&'static str, usize),
    quads: (&'static str, usize),
) -> Result<(), KernelError> {
    let product = |channels: usize| images.checked_mul(channels)?.checked_mul(pixels);
    let (Some(of_planes), Some(of_quads)) = (product(channels), product(Element::Int8.lanes(channels)))
    else {
        let what = format!("{images} images of {channels} x {pixels} are too large");
        return Err(KernelError::Geometry(what));
    };
    for ((what, got), expected) in [(planes, of_planes), (quads, of_quads)] {
        if got != expected {
            return Err(KernelError::Length { what, expected, got });
        }
    }
    Ok(())
}

/// Puts planes of bytes, `[images, channels, pixels]` of them, in quads: `[images][ceil(channels / 4)][pixels]`. With
/// `flip`, the bytes are those of i8, and become u8 by a flip of the top bit: their zero point grows by 128.
///
/// # Errors
/// Slices of other lengths.
pub fn pack(
    target: Target,
    shape: [usize; 3],
    planes: &[u8],
    flip: bool,
    quads: &mut [u32],
) -> Result<(), KernelError> {
    check(shape, ("input", planes.len()), ("output", quads.len()))?;
    let flip = top_bits(flip);
    on(target, IntoQuads { shape, planes, byte: |v| v ^ flip, quads });
    Ok(())
}

/// [`pack`] in the other direction.
///
/// # Errors
/// Slices of other lengths.
pub fn unpack(
    target: Target,
    shape: [usize; 3],
    quads: &[u32],
    flip: bool,
    planes: &mut [u8],
) -> Result<(), KernelError> {
    check(shape, ("output", planes.len()), ("input", quads.len()))?;
    let flip = top_bits(flip);
    on(target, FromQuads { shape, quads, value: |v| v ^ flip, planes });
    Ok(())
}

fn top_bits(flip: bool) -> u8 {
    if flip { 0x80 } else { 0 }
}

/// Planes of what `byte` makes bytes of, put in quads.
struct IntoQuads<'a, T, F> {
    shape: [usize; 3],
    planes: &'a [T],
    byte: F,
    quads: &'a mut [u32],
}

impl<T: Copy, F: Fn(T) -> u8> Work for IntoQuads<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        let IntoQuads { shape, planes, byte, quads } = self;
        for (planes, quads) in rows(shape, planes, quads) {
            let pixels = quads.len();
            if planes.len() == CHANNELS * pixels {
                let (ab, cd) = planes.split_at(2 * pixels);
                let ((a, b), (c, d)) = (ab.split_at(pixels), cd.split_at(pixels));
                for ((((quad, a), b), c), d) in quads.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *quad = lane([byte(*a), byte(*b), byte(*c), byte(*d)]);
                }
                continue;
            }
            quads.fill(0);
            for (channel, plane) in planes.chunks_exact(pixels).enumerate() {
                let place = 8 * channel;
                for (quad, v) in quads.iter_mut().zip(plane) {
                    *quad |= u32::from(byte(*v)) << place;
                }
            }
        }
    }
}

/// [`IntoQuads`] in the other direction: planes of what `value` makes of bytes.
struct FromQuads<'a, T, F> {
    shape: [usize; 3],
    quads: &'a [u32],
    value: F,
    planes: &'a mut [T],
}

impl<T, F: Fn(u8) -> T> Work for FromQuads<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        let FromQuads { shape, quads, value, planes } = self;
        for (planes, quads) in rows_mut(shape, planes, quads) {
            for (channel, plane) in planes.chunks_exact_mut(quads.len()).enumerate() {
                let place = 8 * channel;
                for (v, quad) in plane.iter_mut().zip(quads) {
                    *v = value((quad >> place) as u8);
                }
            }
        }
    }
}

/// The planes of each row of quads, one to four of them, beside it.
#[inline(always)]
fn rows<'a, T>(
    [_, channels, pixels]: [usize; 3],
    planes: &'a [T],
    quads: &'a mut [u32],
) -> impl Iterator<Item = (&'a [T], &'a mut [u32])> {
    let image = (channels * pixels).max(1);
    let of_image = (Element::Int8.lanes(channels) * pixels).max(1);
    let images = planes.chunks_exact(image).zip(quads.chunks_exact_mut(of_image));
    images
        .flat_map(move |(planes, quads)| planes.chunks(CHANNELS * pixels).zip(quads.chunks_exact_mut(pixels)))
}

/// [`rows`], to write planes.
#[inline(always)]
fn rows_mut<'a, T>(
    [_, channels, pixels]: [usize; 3],
    planes: &'a mut [T],
    quads: &'a [u32],
) -> impl Iterator<Item = (&'a mut [T], &'a [u32])> {
    let image = (channels * pixels).max(1);
    let of_image = (Element::Int8.lanes(channels) * pixels).max(1);
    let images = planes.chunks_exact_mut(image).zip(quads.chunks_exact(of_image));
    images
        .flat_map(move |(planes, quads)| planes.chunks_mut(CHANNELS * pixels).zip(quads.chunks_exact(pixels)))
}
