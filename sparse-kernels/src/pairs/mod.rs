//! Numbers of 16 bits in pairs of channels: the activations and weights of half precision.
//!
//! An image of `C` channels by `P` pixels is `[ceil(C / 2)][P]` lanes of 32 bits: the lower half of a lane
//! belongs to channel `2 k`, the upper one to channel `2 k + 1`; of an odd number of channels the last upper
//! halves are zero. So a vector of lanes holds a pair of channels of neighbouring pixels.
//!
//! The halves are of one of two types, whose floats are rounded to the nearest, ties to even. NaN stays NaN.
//!
//! * **bf16** is the upper half of a float: its sign, its exponent and seven bits behind the point.
//!   Instructions multiply both halves of a lane and add both products to a float. Denormals, which they
//!   count as zero, become zero, on every target.
//! * **f16** ([`f16`](mod@f16)), IEEE half precision, has ten bits behind the point and no values beyond
//!   65504: what is larger becomes infinite. Denormals are numbers like others. Instructions multiply and add
//!   in f16.

mod between;
pub mod f16;

pub use between::{Arithmetic, Operand, arithmetic, sums, unary};

use crate::epilogue::Clamps;
use crate::error::{FormatError, KernelError};
use crate::table::{Element, KernelInfo};
#[cfg(target_arch = "x86_64")]
use crate::target::Isa;
use crate::target::{Half, Target};
#[cfg(target_arch = "aarch64")]
use crate::vector::F32x4;
#[cfg(target_arch = "x86_64")]
use crate::vector::F32x16;
use crate::vector::Vector;
use crate::work::{Work, on};
use std::marker::PhantomData;

/// Which numbers pairs hold, and with which instructions they are computed: those of [`Half`]. A [`Target`]
/// stands for its half precision, and if it has none for plain loops over bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    target: Target,
    element: Element,
}

impl Numbers {
    /// Those of the outputs of a kernel of pairs.
    pub(crate) fn of_kernel(kernel: &KernelInfo) -> Numbers {
        Numbers { target: kernel.target(), element: kernel.element }
    }

    /// The type of the halves of a lane.
    pub fn element(self) -> Element {
        self.element
    }

    /// The number nearest to a float.
    pub fn round(self, v: f32) -> u16 {
        if self.element == Element::F16 { f16::round(v) } else { round(v) }
    }

    /// The float that a number stands for.
    pub fn float(self, v: u16) -> f32 {
        if self.element == Element::F16 { f16::float(v) } else { float(v) }
    }

    /// Two floats, rounded, as a lane.
    pub fn pair(self, first: f32, second: f32) -> u32 {
        u32::from(self.round(first)) | u32::from(self.round(second)) << 16
    }

    /// The two floats of a lane.
    pub fn widen(self, lane: u32) -> [f32; 2] {
        [lane as u16, (lane >> 16) as u16].map(|v| self.float(v))
    }
}

impl From<Half> for Numbers {
    fn from(half: Half) -> Numbers {
        Numbers { target: half.target(), element: half.element() }
    }
}

impl From<Target> for Numbers {
    fn from(target: Target) -> Numbers {
        target.half().map_or(Numbers { target, element: Element::Bf16 }, Numbers::from)
    }
}

/// A type of numbers, for loops over them.
pub(crate) trait Number {
    fn pair(first: f32, second: f32) -> u32;
    fn widen(lane: u32) -> [f32; 2];
}

struct OfBf16;

impl Number for OfBf16 {
    #[inline(always)]
    fn pair(first: f32, second: f32) -> u32 {
        pair(first, second)
    }

    #[inline(always)]
    fn widen(lane: u32) -> [f32; 2] {
        widen(lane)
    }
}

struct OfF16;

impl Number for OfF16 {
    #[inline(always)]
    fn pair(first: f32, second: f32) -> u32 {
        f16::pair(first, second)
    }

    #[inline(always)]
    fn widen(lane: u32) -> [f32; 2] {
        f16::widen(lane)
    }
}

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

/// The halves of lanes, the first one of each first.
pub(crate) fn as_halves(floats: &[f32]) -> &[u16] {
    // SAFETY: a float is two halves, whose alignment is less, and any bits are a number.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), 2 * floats.len()) }
}

/// [`as_halves`], to be written to.
pub(crate) fn as_halves_mut(floats: &mut [f32]) -> &mut [u16] {
    // SAFETY: as there, and any bits are a float.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 2 * floats.len()) }
}

/// [`as_lanes`], to be written to.
pub(crate) fn as_lanes_mut(floats: &mut [f32]) -> &mut [u32] {
    // SAFETY: as there, and any bits are a float.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len()) }
}

/// Refuses values of a layer, weights or bias, that are not finite, or not once they are rounded.
pub(crate) fn check_range(element: Element, what: &'static str, values: &[f32]) -> Result<(), FormatError> {
    let float = |v: f32| match element {
        Element::F16 => f16::float(f16::round(v)),
        _ => float(round(v)),
    };
    match values.iter().position(|v| !float(*v).is_finite()) {
        Some(index) => Err(FormatError::Range { what, index, element: element.name() }),
        None => Ok(()),
    }
}

/// Rounds weights `[row][col][tap]` to bf16 and pairs their columns: `[row][ceil(cols / 2)][tap]` lanes, as
/// floats. A lane of two zeros is a float that is zero, and no other is.
///
/// # Errors
/// A weight that is not finite, or rounds to infinity.
pub(crate) fn of_weights(cols: usize, taps: usize, dense: &[f32]) -> Result<Vec<f32>, FormatError> {
    check_range(Element::Bf16, "weight", dense)?;
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

/// The bounds of clamps: before the residual, and after it.
///
/// # Safety
/// The instruction set is there.
#[inline(always)]
pub(crate) unsafe fn bounds<V: Vector>(clamps: &Clamps) -> [V; 4] {
    let ((lo, hi), (lo1, hi1)) = (clamps.before, clamps.after);
    // SAFETY: passed on from the caller.
    [lo, hi, lo1, hi1].map(|bound| unsafe { V::splat(bound) })
}

/// [`store`] for sums in f16, of twice as many pixels: clamped between bounds, added to the residual if there is one, and
/// stored as two vectors of pairs.
///
/// # Safety
/// The instruction set is there; `y`, and the residual if there is one, are valid for two vectors.
#[inline(always)]
pub(crate) unsafe fn store_apart<V: Vector>(
    mut sums: [V; 2],
    second: bool,
    [lo, hi, lo1, hi1]: &[V; 4],
    residual: Option<*const f32>,
    y: *mut f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        sums = sums.map(|sum| sum.clamp(*lo, *hi));
        if let Some(residual) = residual {
            let [a, b] = V::load(residual).apart(V::load(residual.add(V::LANES)));
            sums = [sums[0].add(a).clamp(*lo1, *hi1), sums[1].add(b).clamp(*lo1, *hi1)];
        }
        let [low, high] = sums[0].beside(if second { sums[1] } else { V::splat(0.0) });
        low.store_two(high, y);
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

/// Halves of lanes that are not zero, of either type.
pub(crate) fn nonzeros(lanes: &[f32]) -> usize {
    let halves = |lane: &f32| [lane.to_bits() << 1 & 0xffff, lane.to_bits() >> 16 << 1 & 0xffff];
    lanes.iter().flat_map(halves).filter(|magnitude| *magnitude != 0).count()
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
pub fn pack(
    numbers: impl Into<Numbers>,
    shape: [usize; 3],
    planes: &[f32],
    pairs: &mut [u32],
) -> Result<(), KernelError> {
    check(shape, ("input", planes.len()), ("output", pairs.len()))?;
    rounding(numbers, Pack { shape, planes, pairs });
    Ok(())
}

/// Work that converts rows from and to pairs, as `rows` does it.
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

/// Runs `work`, which is all `#[inline(always)]`, with the instructions of the target.
pub(crate) fn rounding(numbers: impl Into<Numbers>, work: impl Rounding) {
    let Numbers { target, element } = numbers.into();
    #[cfg(target_arch = "x86_64")]
    if target.isa() == Isa::Avx512 && element == Element::Bf16 && target.half().is_some() {
        // SAFETY: the target has half precision: the instructions are there.
        unsafe { Lanes::on(With(work, ByVectors::<Lanes, OfBf16>(PhantomData))) };
        return;
    }
    #[cfg(target_arch = "aarch64")]
    if element == Element::F16 {
        // SAFETY: builds for aarch64 have Advanced SIMD, which converts to f16 and back.
        unsafe { F32x4::<0>::on(With(work, ByVectors::<Lanes, OfF16>(PhantomData))) };
        return;
    }
    match element {
        Element::F16 => on(target, With(work, Plain::<OfF16>(PhantomData))),
        _ => on(target, With(work, Plain::<OfBf16>(PhantomData))),
    }
}

/// Vectors of pairs.
#[cfg(target_arch = "x86_64")]
type Lanes = F32x16<{ Element::Bf16 as u8 }>;
#[cfg(target_arch = "aarch64")]
type Lanes = F32x4<0, { Element::F16 as u8 }>;

/// The floats of pairs, `[images, channels, pixels]` of them: [`pack`] in the other direction, without error.
///
/// # Errors
/// Slices of other lengths.
pub fn unpack(
    numbers: impl Into<Numbers>,
    shape: [usize; 3],
    pairs: &[u32],
    planes: &mut [f32],
) -> Result<(), KernelError> {
    check(shape, ("output", planes.len()), ("input", pairs.len()))?;
    rounding(numbers, Unpack { shape, pairs, planes });
    Ok(())
}

struct Pack<'a> {
    shape: [usize; 3],
    planes: &'a [f32],
    pairs: &'a mut [u32],
}

/// Lanes that are computed together.
pub(crate) const WIDTH: usize = 16;

/// Converts between rows of floats and of pairs. Made by [`rounding`] alone, where its instructions are
/// there.
pub(crate) trait Rows {
    type Number: Number;

    /// Rounds a row and, unless it is empty, the one of the next channel.
    fn pack(&self, first: &[f32], second: &[f32], pairs: &mut [u32]);

    /// Two floats, rounded, as a lane.
    #[inline(always)]
    fn pair(&self, first: f32, second: f32) -> u32 {
        Self::Number::pair(first, second)
    }

    /// The two floats of a lane.
    #[inline(always)]
    fn floats(&self, lane: u32) -> [f32; 2] {
        Self::Number::widen(lane)
    }

    /// The floats of the first and of the second channel of some lanes.
    #[inline(always)]
    fn widen(&self, lanes: &[u32; WIDTH]) -> [[f32; WIDTH]; 2] {
        // compilers make vectors of this, and not of one loop for both
        [lanes.map(|lane| Self::Number::widen(lane)[0]), lanes.map(|lane| Self::Number::widen(lane)[1])]
    }
}

struct Plain<N>(PhantomData<N>);

impl<N: Number> Rows for Plain<N> {
    type Number = N;

    #[inline(always)]
    fn pack(&self, first: &[f32], second: &[f32], pairs: &mut [u32]) {
        pack_rows::<N>(first, second, pairs);
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
fn pack_rows<N: Number>(first: &[f32], second: &[f32], pairs: &mut [u32]) {
    if second.is_empty() {
        pairs.iter_mut().zip(first).for_each(|(lane, v)| *lane = N::pair(*v, 0.0));
    } else {
        for ((lane, a), b) in pairs.iter_mut().zip(first).zip(second) {
            *lane = N::pair(*a, *b);
        }
    }
}

/// An instruction or two round vectors, which takes some twenty in plain Rust. The last vector ends with the
/// row, and may overlap the one before.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct ByVectors<V, N>(PhantomData<(V, N)>);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl<V: Vector, N: Number> Rows for ByVectors<V, N> {
    type Number = N;

    #[inline(always)]
    fn pack(&self, first: &[f32], second: &[f32], pairs: &mut [u32]) {
        let pixels = pairs.len();
        if pixels < V::LANES || second.is_empty() {
            return pack_rows::<N>(first, second, pairs);
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

    /// Compilers know how to widen bf16.
    #[cfg(target_arch = "aarch64")]
    #[inline(always)]
    fn widen(&self, lanes: &[u32; WIDTH]) -> [[f32; WIDTH]; 2] {
        let mut floats = [[0f32; WIDTH]; 2];
        let [first, second] = &mut floats;
        for at in (0..WIDTH).step_by(V::LANES) {
            // SAFETY: whole vectors are inside all three arrays; the instructions are there (`Rows`).
            unsafe {
                let [a, b] = V::load(as_floats(lanes).as_ptr().add(at)).widen();
                a.store(first.as_mut_ptr().add(at));
                b.store(second.as_mut_ptr().add(at));
            }
        }
        floats
    }
}

struct Unpack<'a> {
    shape: [usize; 3],
    pairs: &'a [u32],
    planes: &'a mut [f32],
}

impl Rounding for Unpack<'_> {
    #[inline(always)]
    fn run(self, rows: &impl Rows) {
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
                unpack_rows(rows, pairs, first, second);
            }
        }
    }
}

/// The floats of a row of lanes: of the first channel, and of the second one unless its row is empty.
#[inline(always)]
pub(crate) fn unpack_rows(rows: &impl Rows, pairs: &[u32], first: &mut [f32], second: &mut [f32]) {
    for (i, pairs) in pairs.chunks(WIDTH).enumerate() {
        let mut lanes = [0; WIDTH];
        lanes[..pairs.len()].copy_from_slice(pairs);
        let floats = rows.widen(&lanes);
        for (row, floats) in [&mut *first, &mut *second].into_iter().zip(floats) {
            let row = row.get_mut(i * WIDTH..).unwrap_or_default();
            let count = pairs.len().min(row.len());
            row[..count].copy_from_slice(&floats[..count]);
        }
    }
}
