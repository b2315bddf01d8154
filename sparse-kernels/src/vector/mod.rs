//! One register of neighbouring floats, for every machine: what the loops of all operations are written over.
//!
//! A machine's file has one type, its instructions and nothing else. What an operation does differently on a
//! machine stands in that operation's file for it, as a trait of the operation for the same type.
//!
//! Loops are generic, and Rust compiles generic code without a machine's instructions. So the entry of a loop
//! is made by [`compiled`], which hands it to [`Vector::on`]; what it calls is `#[inline(always)]`, down to
//! the functions of this trait: a call would put every register into memory.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_quads;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{APART, EVEX, F32x8, VEX};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::F32x16;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{F32x4, is_f16, is_int8};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon_quads::I8x16;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::{F32x4, multiply_add};

use crate::geometry;
use crate::quads::Bounds;
use crate::table::Element;
use crate::work::Work;
use std::ops::Range;

/// Most lanes of any vector.
pub(crate) const MAX_LANES: usize = 16;

/// A lane for every lane of a vector; vectors of fewer lanes look at the first ones.
pub(crate) type Order = [u32; MAX_LANES];

/// One register of neighbouring floats.
pub(crate) trait Vector: Copy {
    /// Floats in a register: lanes of 32 bits, whatever they hold.
    const LANES: usize;

    /// What inputs and weights hold in a lane. Sums are floats, of quads the bits of whole numbers; other functions than
    /// those that say otherwise compute with floats.
    const ELEMENT: Element = Element::F32;

    /// Whether [`Vector::dot`] of quads takes 128 from every activation, which what sums begin with has to make up for.
    const SIGNED: bool = false;

    /// Whether masks cost a load nothing.
    const FREE_MASKS: bool = true;

    /// Whether two neighbouring vectors are stored in the time of one.
    const STORES_TWO: bool = false;

    /// The machine's register of half the lanes, for what is too narrow for this one; if it has none, this
    /// one.
    type Narrow: Vector;

    /// Which lanes of a load are inside a row.
    type Edge: Copy;

    /// Runs `work` with the instructions of this machine.
    ///
    /// # Safety
    /// The instruction set is there; so for every function of this trait.
    unsafe fn on(work: impl Work);

    /// # Safety
    /// As [`Vector::on`].
    unsafe fn splat(v: f32) -> Self;

    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(p: *const f32) -> Self;

    /// # Safety
    /// `p` is writable for `LANES` floats.
    unsafe fn store(self, p: *mut f32);

    /// Stores `self`, and `next` behind it.
    ///
    /// # Safety
    /// `p` is writable for `2 * LANES` floats.
    #[inline(always)]
    unsafe fn store_two(self, next: Self, p: *mut f32) {
        // SAFETY: passed on from the caller.
        unsafe {
            self.store(p);
            next.store(p.add(Self::LANES));
        }
    }

    /// Stores the first `n` lanes.
    ///
    /// # Safety
    /// `p` is writable for `n` floats, `0 < n < LANES`.
    unsafe fn store_part(self, p: *mut f32, n: usize);

    /// Lanes whose columns `column..column + LANES` are inside a row of `width` columns.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn edge(column: isize, width: usize) -> Self::Edge;

    /// The floats of the lanes of `edge`, zeros in the others.
    ///
    /// # Safety
    /// `p`, less the `column` of `edge`, is readable for the `width` of `edge`, which is at least `LANES`
    /// unless masks are free. `p` itself may be outside of the row.
    unsafe fn load_edge(p: *const f32, edge: Self::Edge) -> Self;

    /// The sum of two sums: of floats, or of whole numbers for quads.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn add(self, b: Self) -> Self;

    /// `self * b + c`.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;

    /// The products of the channels of each lane of `self`, which are weights, and of `b`, added to the sum in that lane
    /// of `c`. Of vectors of floats a lane is one channel.
    ///
    /// # Safety
    /// As [`Vector::on`].
    #[inline(always)]
    unsafe fn dot(self, b: Self, c: Self) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { self.mul_add(b, c) }
    }

    /// The floats of the first and of the second channel of every lane; only for pairs.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn widen(self) -> [Self; 2] {
        unreachable!("for vectors of pairs")
    }

    /// Rounds two vectors of floats to one of pairs; only for pairs.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn pair(_first: Self, _second: Self) -> Self {
        unreachable!("for vectors of pairs")
    }

    /// The first channels of the lanes of `self` and of `next` in pairs, and the second ones; only for pairs.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn regroup(self, _next: Self) -> [Self; 2] {
        unreachable!("for vectors of pairs")
    }

    /// The first channels of the lanes of `self`, then those of `next`; and the second ones. Only for pairs of f16.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn apart(self, _next: Self) -> [Self; 2] {
        unreachable!("for vectors of halves")
    }

    /// The lanes of two channels, of which each is one vector of halves: [`Vector::apart`] in the other direction. Only for
    /// pairs of f16.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn beside(self, _second: Self) -> [Self; 2] {
        unreachable!("for vectors of halves")
    }

    /// The floats of a vector of halves, in order. Only for pairs of f16.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn floats(self) -> [Self; 2] {
        unreachable!("for vectors of halves")
    }

    /// The sums, which are whole numbers, as floats, times `scale`, rounded to the nearest whole numbers, ties to even.
    /// Only for quads.
    ///
    /// # Safety
    /// As [`Vector::on`]; products are within 31 bits.
    unsafe fn scaled(self, _scale: Self) -> Self {
        unreachable!("for vectors of quads")
    }

    /// The lanes of four vectors of whole numbers, with the zero point added and within bounds, as bytes: of every four
    /// lanes, lane `i` has the bytes of those of vector `i`. Only for quads.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn side_by_side(_vectors: [Self; 4], _bounds: &Bounds<Self>) -> Self {
        unreachable!("for vectors of quads")
    }

    /// Of every four lanes, byte `i` of lane `k` as byte `k` of lane `i`. Only for quads.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn transposed(self) -> Self {
        unreachable!("for vectors of quads")
    }

    /// The lanes of four rows of whole numbers, with the zero point added and within bounds, as bytes. Only for quads.
    ///
    /// # Safety
    /// As [`Vector::on`].
    #[inline(always)]
    unsafe fn quad(rows: [Self; 4], bounds: &Bounds<Self>) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { Self::side_by_side(rows, bounds).transposed() }
    }

    /// The first two of every four lanes, and behind all of these the other two. Only for quads.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn halves(self) -> Self {
        unreachable!("for vectors of quads")
    }

    /// The same four floats in every four lanes. Only for quads.
    ///
    /// # Safety
    /// `p` is readable for four floats.
    unsafe fn repeated(_p: *const f32) -> Self {
        unreachable!("for vectors of quads")
    }

    /// Adds one input, `N` vectors of it, times one weight for each of `R` outputs: `sums[r][n] += w[r] *
    /// x[n]`. Of f16 vectors are halves, pixels of one channel, and so are weights.
    ///
    /// # Safety
    /// `w` is readable for `R` floats, or halves.
    #[inline(always)]
    unsafe fn add_column<const R: usize, const N: usize>(
        sums: &mut [[Self; N]; R],
        x: &[Self; N],
        w: *const f32,
    ) {
        for r in 0..R {
            // SAFETY: passed on from the caller.
            unsafe {
                let w = Self::splat(*w.add(r));
                for n in 0..N {
                    sums[r][n] = w.dot(x[n], sums[r][n]);
                }
            }
        }
    }

    /// `min(max(self, lo), hi)`; NaN stays NaN.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self;

    /// Lane `order[i]` at lane `i`; of f16 half `order[i]` at half `i`.
    ///
    /// # Safety
    /// As [`Vector::on`]; the first `LANES` numbers of `order` are less than `LANES`, or twice that for halves.
    unsafe fn permute(self, order: &Order) -> Self;

    /// The floats of even and of odd position of `self` followed by `b`, in an order that [`Vector::settle`]
    /// undoes.
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn deinterleave(self, b: Self) -> (Self, Self);

    /// Puts the lanes of [`Vector::deinterleave`] in order.
    ///
    /// # Safety
    /// As [`Vector::on`].
    #[inline(always)]
    unsafe fn settle(self) -> Self {
        self
    }

    /// Every other one of the floats at `p`.
    ///
    /// # Safety
    /// `p` is readable for `2 * LANES` floats.
    #[inline(always)]
    unsafe fn load_evens(p: *const f32) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { Self::load(p).deinterleave(Self::load(p.add(Self::LANES))).0.settle() }
    }

    /// Asks for the line of `p`, which may be anywhere, where that helps this machine.
    #[inline(always)]
    fn prefetch(_p: *const f32) {}
}

/// Writes `$name`, which is `$function` compiled with the instructions of its vector `$v`.
///
/// `$function` is `#[inline(always)]`, with the same generics and contract; the constants have types, too.
macro_rules! compiled {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident<$v:ident: $bound:path $(, $t:ident: $other:path)*;
     $($c:ident: $type:ty),*>($args:ident) = $function:ident;) => {
        $(#[$doc])*
        $vis unsafe fn $name<$v: $bound $(, $t: $other)* $(, const $c: $type)*>(args: &$args) {
            struct Call<'a, $v $(, $t)* $(, const $c: $type)*>(
                &'a $args<'a>,
                std::marker::PhantomData<($v, $($t,)*)>,
            );
            impl<$v: $bound $(, $t: $other)* $(, const $c: $type)*> crate::work::Work for Call<'_, $v $(, $t)* $(, $c)*> {
                #[inline(always)]
                fn run(self) {
                    // SAFETY: passed on from the caller of the function that has made this.
                    unsafe { $function::<$v $(, $t)* $(, $c)*>(self.0) }
                }
            }
            // SAFETY: passed on from the caller.
            unsafe { <$v as $crate::vector::Vector>::on(Call::<$v $(, $t)* $(, $c)*>(args, std::marker::PhantomData)) }
        }
    };
}
pub(crate) use compiled;

/// Lanes of a vector at `column` that are inside a row of `width` columns.
pub(crate) fn inside(column: isize, width: usize, lanes: usize) -> Range<usize> {
    let (before, at) = (column.min(0).unsigned_abs(), column.max(0) as usize);
    geometry::inside(before, width, at, 1, lanes)
}

/// Floats from `column` to the nearest vector of four that is all inside a row of `width` columns, and the
/// bytes of them.
///
/// Byte `b` of the vector at `column` is byte `b - bytes` of that one; where the row does not have it, that
/// number is less than 0 or above 15, and does not wrap around: vectors without a common lane count as
/// neighbours.
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline(always)]
fn into_row(column: isize, width: usize) -> (isize, u8) {
    let shift = column.clamp(0, width.saturating_sub(4) as isize) - column;
    (shift, (4 * shift.clamp(-4, 4)) as u8)
}

/// The numbers of the bytes of a vector of four.
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
const BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
