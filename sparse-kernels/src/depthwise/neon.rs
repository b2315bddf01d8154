//! aarch64 Advanced SIMD.
//!
//! A load at every column of taps is what wide cores want, which start as many loads as multiply-adds. On
//! cores that work in order a load of 128 bits keeps multiply-adds waiting for two or three cycles; moving
//! the columns together from two vectors takes one: [`InOrder`] loads every vector of a row once. With stride
//! 2 that is less work on any core.
//!
//! Four taps share a register, of which a multiply-add picks one: three hold those of 3x3, seven those of
//! 5x5. What is left is room for 12 sums, four vectors wide, and their inputs.
//!
//! Of f16 a vector has two channels of four pixels, and a tap is a pair, which no multiply-add picks from a
//! register with others: nine registers hold those of 3x3, which leaves room for 6 sums, two vectors wide.
//! Both halves are computed at once, in f16: of 9 to 49 taps no sum is too long for that.

use super::body::{Depthwise, HELD};
use super::values::Values;
use crate::table::Element;
use crate::target::Core;
use crate::vector::{F32x4, I8x16, Vector};
use std::arch::aarch64::*;

/// For all cores that work in order.
pub(crate) type InOrder = F32x4<{ Core::A55 as u8 }>;

/// Lanes of two halves.
pub(crate) type Halves<const CORE: u8> = F32x4<CORE, { Element::F16 as u8 }>;

impl<const CORE: u8> Depthwise for F32x4<CORE> {
    const SIDE_BY_SIDE: usize = 4;
    const TAPS: usize = 4;
    const SHIFTS: [bool; 2] = [CORE != Core::Any as u8, true];
    type Values = Self;
    type Few = Self;
    type Strided = F32x4;

    /// Loads of whole registers, the last of which ends with the taps: from single ones the compiler would
    /// make a register each.
    #[inline(always)]
    unsafe fn taps(p: *const f32, n: usize) -> [Self; HELD] {
        // SAFETY: contract of `Depthwise`: there are at least four, or none.
        unsafe {
            let mut taps = [Vector::splat(0.0); HELD];
            let mut i = 0;
            while 4 * i < n {
                taps[i] = Self::load(p.add(if 4 * i + 4 > n { n - 4 } else { 4 * i }));
                i += 1;
            }
            taps
        }
    }

    #[inline(always)]
    unsafe fn mul_add_tap(v: Self, taps: &[Self; HELD], n: usize, tap: usize, c: Self) -> Self {
        let (sum, v, taps) = (c.0, v.0, taps[tap / 4].0);
        let lane = if tap / 4 * 4 + 4 > n { tap + 4 - n } else { tap % 4 };
        // SAFETY: contract of `Depthwise`.
        F32x4(unsafe {
            match lane {
                0 => vfmaq_laneq_f32::<0>(sum, v, taps),
                1 => vfmaq_laneq_f32::<1>(sum, v, taps),
                2 => vfmaq_laneq_f32::<2>(sum, v, taps),
                _ => vfmaq_laneq_f32::<3>(sum, v, taps),
            }
        })
    }

    #[inline(always)]
    unsafe fn shift(self, next: Self, lanes: usize) -> Self {
        // SAFETY: contract of `Depthwise`.
        F32x4(unsafe { shift(self.0, next.0, lanes) })
    }

    /// Wide cores start moves where they start multiply-adds, and have loads to spare.
    #[inline(always)]
    fn again(v: &Self) -> Self {
        // SAFETY: a reference is valid for reads.
        if CORE != Core::Any as u8 { *v } else { unsafe { std::ptr::read_volatile(v) } }
    }
}

/// [`Depthwise::shift`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn shift(v: float32x4_t, next: float32x4_t, lanes: usize) -> float32x4_t {
    // SAFETY: passed on from the caller.
    unsafe {
        match lanes {
            0 => v,
            1 => vextq_f32::<1>(v, next),
            2 => vextq_f32::<2>(v, next),
            3 => vextq_f32::<3>(v, next),
            _ => next,
        }
    }
}

impl<const CORE: u8> Depthwise for Halves<CORE> {
    const SIDE_BY_SIDE: usize = 2;
    const SHIFTS: [bool; 2] = [CORE != Core::Any as u8, true];
    type Values = Both<CORE>;
    type Few = Self;
    type Strided = Halves<{ Core::Any as u8 }>;

    #[inline(always)]
    unsafe fn shift(self, next: Self, lanes: usize) -> Self {
        // SAFETY: contract of `Depthwise`.
        F32x4(unsafe { shift(self.0, next.0, lanes) })
    }

    /// As that of floats.
    #[inline(always)]
    fn again(v: &Both<CORE>) -> Both<CORE> {
        // SAFETY: a reference is valid for reads.
        if CORE != Core::Any as u8 { *v } else { unsafe { std::ptr::read_volatile(v) } }
    }
}

/// Lanes of two bf16.
pub(crate) type Pairs = F32x4<{ Core::Any as u8 }, { Element::Bf16 as u8 }>;

/// For kernels of any size alone: what takes maps that are too narrow for masks knows single taps.
impl Depthwise for Pairs {
    type Values = [Pairs; 2];
    type Few = Self;
    type Strided = Self;
}

/// Both halves of lanes, as f16.
#[derive(Clone, Copy)]
pub(crate) struct Both<const CORE: u8>(Halves<CORE>);

impl<const CORE: u8> Values<Halves<CORE>> for Both<CORE> {
    const DUOS: bool = false;

    #[inline(always)]
    unsafe fn of(lanes: Halves<CORE>) -> Self {
        Both(lanes)
    }

    unsafe fn duo(_: Halves<CORE>, _: Halves<CORE>) -> Self {
        unreachable!("taps are multiplied one by one")
    }

    unsafe fn dot(self, _: Self, _: Self) -> Self {
        unreachable!("taps are multiplied one by one")
    }

    /// What is at `p` is a lane.
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self {
        // SAFETY: contract of `Values`.
        Both(F32x4(unsafe { vld1q_dup_f32(p) }))
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: contract of `Values`.
        Both(unsafe { Vector::mul_add(self.0, b.0, c.0) })
    }

    #[inline(always)]
    unsafe fn clamp(self, lo: Halves<CORE>, hi: Halves<CORE>) -> Self {
        // SAFETY: contract of `Values`.
        Both(unsafe { Vector::clamp(self.0, lo, hi) })
    }

    #[inline(always)]
    unsafe fn store<const STRIDE: usize>(self, y: *mut f32, part: Option<usize>, apart: usize) {
        let store = |v: Halves<CORE>, y: *mut f32| {
            // SAFETY: contract of `Values`.
            unsafe {
                match part {
                    None => Vector::store(v, y),
                    Some(n) => v.store_part(y, n),
                }
            }
        };
        if apart == 0 {
            return store(self.0, y);
        }
        // SAFETY: contract of `Values`.
        let [first, second] = unsafe { self.0.widen() };
        store(first, y);
        store(second, y.wrapping_add(apart));
    }
}

impl<const DOT: bool> Depthwise for I8x16<DOT> {
    type Values = Self;
    type Few = Self;
    type Strided = Self;
}
