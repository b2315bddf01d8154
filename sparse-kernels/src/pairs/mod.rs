//! bf16 in pairs of channels: the activations and weights of half precision.
//!
//! A number of bf16 is the upper half of a float: its sign, its exponent and seven bits behind the point. An
//! image of `C` channels by `P` pixels is `[ceil(C / 2)][P]` lanes of 32 bits: the lower half of a lane belongs to
//! channel `2 k`, the upper one to channel `2 k + 1`; of an odd number of channels the last upper halves are zero.
//! So a vector of lanes holds a pair of channels of neighbouring pixels, as instructions want them that multiply
//! pairs and add both products to a float.
//!
//! Floats are rounded to the nearest, ties to even; NaN stays NaN, and denormals, which the instructions count as
//! zero, become zero, on every target.

mod between;

pub use between::{Arithmetic, Operand, arithmetic, sums, unary};

use crate::epilogue::Clamps;
use crate::error::{FormatError, KernelError};
use crate::table::Element;
#[cfg(target_arch = "x86_64")]
use crate::target::Isa;
use crate::target::Target;
#[cfg(target_arch = "x86_64")]
use crate::vector::F32x16;
use crate::vector::Vector;
use crate::work::{Work, on};
#[cfg(target_arch = "x86_64")]
use std::marker::PhantomData;

/// The bf16 nearest to a float: ties to even, denormals to zero, NaN to a quiet one.
#[inline(always)]
pub fn round(v: f32) -> u16 {
    let bits = v.to_bits();
    let sign = bits & 0x8000_0000;
    let magnitude = bits ^ sign;
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let rounded = if magnitude > 0x7f80_0000 { bits | 0x0040_0000 } else { rounded };
    let rounded = if magnitude < 0x0080_0000 { sign } else { rounded };
    (rounded >> 16) as u16
}

/// The float that a bf16 stands for.
#[inline(always)]
pub fn float(v: u16) -> f32 {
    f32::from_bits(u32::from(v) << 16)
}

/// Two floats, rounded, as a lane.
#[inline(always)]
pub fn pair(first: f32, second: f32) -> u32 {
    u32::from(round(first)) | u32::from(round(second)) << 16
}

/// The two floats of a lane.
#[inline(always)]
pub fn widen(lane: u32) -> [f32; 2] {
    [f32::from_bits(lane << 16), f32::from_bits(lane & 0xffff_0000)]
}

/// `sum` with both products of two lanes added, the first one first. The products are exact.
#[inline(always)]
pub(crate) fn dot(a: u32, b: u32, sum: f32) -> f32 {
    let ([a, c], [b, d]) = (widen(a), widen(b));
    sum + a * b + c * d
}

/// Lanes as the floats with their bits, which is how they pass through code that copies and never computes.
pub(crate) fn as_floats(lanes: &[u32]) -> &[f32] {
    // SAFETY: both types have the same size and alignment, and any bits are a float.
    unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len()) }
}

/// [`as_floats`], to be written to.
pub(crate) fn as_floats_mut(lanes: &mut [u32]) -> &mut [f32] {
    // SAFETY: as there, and any float is a number.
    unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len()) }
}

/// The lanes of [`as_floats`].
pub(crate) fn as_lanes(floats: &[f32]) -> &[u32] {
    // SAFETY: both types have the same size and alignment, and any float is a number.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len()) }
}

/// [`as_lanes`], to be written to.
pub(crate) fn as_lanes_mut(floats: &mut [f32]) -> &mut [u32] {
    // SAFETY: as there, and any bits are a float.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len()) }
}

/// Rounds weights `[row][col][tap]` and pairs their columns: `[row][ceil(cols / 2)][tap]` lanes, as floats. A lane of
/// two zeros is a float that is zero, and no other is.
///
/// # Errors
/// A weight that is not finite, or rounds to infinity.
pub(crate) fn of_weights(cols: usize, taps: usize, dense: &[f32]) -> Result<Vec<f32>, FormatError> {
    check_weights(dense)?;
    let mut lanes = Vec::with_capacity(dense.len() / 2 + dense.len() / cols.max(1));
    for row in dense.chunks_exact((cols * taps).max(1)) {
        for both in row.chunks(2 * taps) {
            let (first, second) = both.split_at(taps);
            lanes.extend((0..taps).map(|tap| {
                let second = second.get(tap).copied().unwrap_or(0.0);
                // negative zeros, too
                let lane = pair(first[tap], second);
                if widen(lane) == [0.0; 2] { 0.0 } else { f32::from_bits(lane) }
            }));
        }
    }
    Ok(lanes)
}

/// Refuses weights that are not finite, or round to infinity.
pub(crate) fn check_weights(dense: &[f32]) -> Result<(), FormatError> {
    match dense.iter().position(|w| !float(round(*w)).is_finite()) {
        Some(index) => Err(FormatError::NotFinite { index }),
        None => Ok(()),
    }
}

/// Clamps two vectors of sums, adds those of a residual in between if the clamps want it, and stores both as one of
/// pairs; the second is zeros if it is of no channel.
///
/// # Safety
/// The instruction set is there; `y`, and `residual` if the clamps want it, are valid for a vector.
#[inline(always)]
pub(crate) unsafe fn store<V: Vector>(
    sums: [V; 2],
    second: bool,
    clamps: &Clamps,
    residual: *const f32,
    y: *mut f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let (lo, hi) = (V::splat(clamps.before.0), V::splat(clamps.before.1));
        let mut values = [sums[0].clamp(lo, hi), sums[1].clamp(lo, hi)];
        if clamps.residual {
            let (lo, hi) = (V::splat(clamps.after.0), V::splat(clamps.after.1));
            let [a, b] = V::load(residual).widen();
            values = [values[0].add(a).clamp(lo, hi), values[1].add(b).clamp(lo, hi)];
        }
        if !second {
            values[1] = V::splat(0.0);
        }
        V::pair(values[0], values[1]).store(y);
    }
}

/// Numbers in lanes that are not zero.
pub(crate) fn nonzeros(lanes: &[f32]) -> usize {
    lanes.iter().flat_map(|lane| widen(lane.to_bits())).filter(|v| *v != 0.0).count()
}

/// Lanes of `images` images of `channels` channels by `pixels` pixels; none if they cannot be addressed.
fn lanes(images: usize, channels: usize, pixels: usize) -> Option<usize> {
    Element::Bf16.lanes(channels).checked_mul(images)?.checked_mul(pixels)
}

/// Checks the lengths of planes and of pairs of [`pack`] and [`unpack`].
fn check(
    [images, channels, pixels]: [usize; 3],
    planes: (&'static str, usize),
    pairs: (&'static str, usize),
) -> Result<(), KernelError> {
    let too_large =
        || KernelError::Geometry(format!("{images} images of {channels} x {pixels} are too large"));
    let of_planes = images.checked_mul(channels).and_then(|n| n.checked_mul(pixels)).ok_or_else(too_large)?;
    let of_pairs = lanes(images, channels, pixels).ok_or_else(too_large)?;
    for ((what, got), expected) in [(planes, of_planes), (pairs, of_pairs)] {
        if got != expected {
            return Err(KernelError::Length { what, expected, got });
        }
    }
    Ok(())
}

/// Rounds planes of floats, `[images, channels, pixels]` of them, to pairs: `[images][ceil(channels / 2)][pixels]`.
///
/// # Errors
/// Slices of other lengths.
pub fn pack(target: Target, shape: [usize; 3], planes: &[f32], pairs: &mut [u32]) -> Result<(), KernelError> {
    check(shape, ("input", planes.len()), ("output", pairs.len()))?;
    rounding(target, Pack { shape, planes, pairs });
    Ok(())
}

/// Work that rounds rows to pairs, as `rows` does it.
pub(crate) trait Rounding {
    fn run(self, rows: &impl Rows);
}

struct With<W, R>(W, R);

impl<W: Rounding, R: Rows> Work for With<W, R> {
    #[inline(always)]
    fn run(self) {
        self.0.run(&self.1);
    }
}

/// Runs `work`, which is all `#[inline(always)]`, with the instructions of `target`.
pub(crate) fn rounding(target: Target, work: impl Rounding) {
    #[cfg(target_arch = "x86_64")]
    if target.isa() == Isa::Avx512 && target.half().is_some() {
        // SAFETY: the target has half precision: the instructions are there.
        unsafe { Lanes::on(With(work, ByVectors::<Lanes>(PhantomData))) };
        return;
    }
    on(target, With(work, Plain));
}

/// Vectors of pairs.
#[cfg(target_arch = "x86_64")]
type Lanes = F32x16<{ Element::Bf16 as u8 }>;

/// The floats of pairs, `[images, channels, pixels]` of them: [`pack`] in the other direction, without error.
///
/// # Errors
/// Slices of other lengths.
pub fn unpack(
    target: Target,
    shape: [usize; 3],
    pairs: &[u32],
    planes: &mut [f32],
) -> Result<(), KernelError> {
    check(shape, ("output", planes.len()), ("input", pairs.len()))?;
    on(target, Unpack { shape, pairs, planes });
    Ok(())
}

struct Pack<'a> {
    shape: [usize; 3],
    planes: &'a [f32],
    pairs: &'a mut [u32],
}

/// Rounds a row and, unless it is empty, the one of the next channel. Made by [`rounding`] alone, where its
/// instructions are there.
pub(crate) trait Rows {
    fn pack(&self, first: &[f32], second: &[f32], pairs: &mut [u32]);
}

struct Plain;

impl Rows for Plain {
    #[inline(always)]
    fn pack(&self, first: &[f32], second: &[f32], pairs: &mut [u32]) {
        pack_rows(first, second, pairs);
    }
}

impl Rounding for Pack<'_> {
    #[inline(always)]
    fn run(self, rows: &impl Rows) {
        let [_, channels, pixels] = self.shape;
        if channels * pixels == 0 {
            return;
        }
        let lanes = Element::Bf16.lanes(channels);
        for (image, pairs) in
            self.planes.chunks_exact(channels * pixels).zip(self.pairs.chunks_exact_mut(lanes * pixels))
        {
            for (planes, pairs) in image.chunks(2 * pixels).zip(pairs.chunks_exact_mut(pixels)) {
                let (first, second) = planes.split_at(pixels);
                rows.pack(first, second, pairs);
            }
        }
    }
}

#[inline(always)]
fn pack_rows(first: &[f32], second: &[f32], pairs: &mut [u32]) {
    if second.is_empty() {
        pairs.iter_mut().zip(first).for_each(|(lane, v)| *lane = pair(*v, 0.0));
    } else {
        for ((lane, a), b) in pairs.iter_mut().zip(first).zip(second) {
            *lane = pair(*a, *b);
        }
    }
}

/// One instruction rounds two vectors, which takes some twenty in plain Rust. The last vector ends with the row, and
/// may overlap the one before.
#[cfg(target_arch = "x86_64")]
struct ByVectors<V>(PhantomData<V>);

#[cfg(target_arch = "x86_64")]
impl<V: Vector> Rows for ByVectors<V> {
    #[inline(always)]
    fn pack(&self, first: &[f32], second: &[f32], pairs: &mut [u32]) {
        let pixels = pairs.len();
        if pixels < V::LANES || second.is_empty() {
            return pack_rows(first, second, pairs);
        }
        let (first, second) = (&first[..pixels], &second[..pixels]);
        let y = as_floats_mut(pairs);
        for at in (0..pixels).step_by(V::LANES).map(|at| at.min(pixels - V::LANES)) {
            // SAFETY: the vector is inside all three rows; the instructions are there (`Rows`).
            unsafe {
                let [first, second] = [first, second].map(|row| V::load(row.as_ptr().add(at)));
                V::pair(first, second).store(y.as_mut_ptr().add(at));
            }
        }
    }
}

struct Unpack<'a> {
    shape: [usize; 3],
    pairs: &'a [u32],
    planes: &'a mut [f32],
}

impl Work for Unpack<'_> {
    #[inline(always)]
    fn run(self) {
        let [_, channels, pixels] = self.shape;
        if channels * pixels == 0 {
            return;
        }
        let lanes = Element::Bf16.lanes(channels);
        for (image, pairs) in
            self.planes.chunks_exact_mut(channels * pixels).zip(self.pairs.chunks_exact(lanes * pixels))
        {
            for (planes, pairs) in image.chunks_mut(2 * pixels).zip(pairs.chunks_exact(pixels)) {
                let (first, second) = planes.split_at_mut(pixels);
                first.iter_mut().zip(pairs).for_each(|(v, lane)| *v = widen(*lane)[0]);
                second.iter_mut().zip(pairs).for_each(|(v, lane)| *v = widen(*lane)[1]);
            }
        }
    }
}
