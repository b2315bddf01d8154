//! aarch64 Advanced SIMD.
//!
//! A load at every column of taps is what wide cores want, which start as many loads as multiply-adds. On
//! cores that work in order a load of 128 bits keeps multiply-adds waiting for two or three cycles; moving
//! the columns together from two vectors takes one: [`InOrder`] loads every vector of a row once. With stride
//! 2 that is less work on any core.
//!
//! Four taps share a register, of which a multiply-add picks one: three hold those of 3x3, seven those of
//! 5x5. What is left is room for 12 sums, four vectors wide, and their inputs.

use super::body::{Depthwise, HELD};
use crate::target::Core;
use crate::vector::{F32x4, I8x16, Vector};
use std::arch::aarch64::*;

/// For all cores that work in order.
pub(crate) type InOrder = F32x4<{ Core::A55 as u8 }>;

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
            let mut taps = [Self::splat(0.0); HELD];
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
        F32x4(unsafe {
            match lanes {
                0 => self.0,
                1 => vextq_f32::<1>(self.0, next.0),
                2 => vextq_f32::<2>(self.0, next.0),
                3 => vextq_f32::<3>(self.0, next.0),
                _ => next.0,
            }
        })
    }

    /// Wide cores start moves where they start multiply-adds, and have loads to spare.
    #[inline(always)]
    fn again(v: &Self) -> Self {
        // SAFETY: a reference is valid for reads.
        if CORE != Core::Any as u8 { *v } else { unsafe { std::ptr::read_volatile(v) } }
    }
}

impl<const DOT: bool> Depthwise for I8x16<DOT> {
    type Values = Self;
    type Few = Self;
    type Strided = Self;
}
