//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! 4 x 24 pixels take 12 sums, 3 inputs and 1 weight, broadcast from memory: all 16 registers. A column is 12
//! multiply-adds, 7 vector loads and one offset, so two multiply-adds a cycle leave room for every load, also
//! where loads cross cache lines. Single rows read the image as a memory operand of the multiply-add; more
//! than six vectors have more bases than there are address registers.

use super::body::{Columns, Spatial, plain};
use crate::table::Element;
use crate::vector::{APART, F32x8};
#[cfg(not(miri))]
use crate::vector::{EVEX, VEX};

impl Spatial for F32x8 {
    const MOST_VECTORS: [usize; 3] = [6, 4, 3];

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const N: usize>(sums: &mut [[Self; N]; R], columns: Columns<N>) {
        // SAFETY: passed on from the caller.
        unsafe { accumulate(sums, columns) };
    }
}

/// Quads. Products of bytes of even and of odd place take two registers for each input and each weight, and 4 x 16 are 8
/// sums; where a dot product is one instruction, tiles are those of floats.
impl<const DOT: u8> Spatial for F32x8<{ Element::Int8 as u8 }, DOT> {
    const MOST_VECTORS: [usize; 3] = if DOT == APART { [6, 3, 2] } else { <F32x8 as Spatial>::MOST_VECTORS };
    const ROWS_IN_MEMORY: bool = DOT != APART;

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const N: usize>(sums: &mut [[Self; N]; R], columns: Columns<N>) {
        // SAFETY: passed on from the caller.
        unsafe { accumulate(sums, columns) };
    }
}

/// [`Spatial::accumulate`]: the widest tile of one instruction for a product and a sum by [`accumulate_4x3`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn accumulate<const ELEMENT: u8, const DOT: u8, const R: usize, const N: usize>(
    sums: &mut [[F32x8<ELEMENT, DOT>; N]; R],
    columns: Columns<N>,
) {
    #[cfg(not(miri))]
    if R == 4
        && N == 3
        && (ELEMENT == Element::F32 as u8 || DOT != APART)
        && let Some(bases) = columns.bases.first_chunk::<3>()
    {
        let Columns { offsets, values, count, .. } = columns;
        // SAFETY: passed on from the caller; the type is the same for these R and N.
        return unsafe {
            let sums = &mut *std::ptr::from_mut(sums).cast::<[[F32x8<ELEMENT, DOT>; 3]; 4]>();
            accumulate_4x3(sums, Columns { bases: *bases, offsets, values, count });
        };
    }
    // SAFETY: passed on from the caller.
    unsafe { plain(sums, columns) };
}

/// One column of [`accumulate_4x3`], `$i` columns after the pointers. `$add` adds to its first operand.
#[cfg(not(miri))]
macro_rules! column {
    ($add:literal, $i:literal) => {
        concat!(
            concat!("mov {offset:e}, dword ptr [{offsets} + 4*", $i, "]\n"),
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, "]\n"),
            "vmovups {x0}, ymmword ptr [{b0} + {offset}]\n",
            "vmovups {x1}, ymmword ptr [{b1} + {offset}]\n",
            "vmovups {x2}, ymmword ptr [{b2} + {offset}]\n",
            concat!($add, " {s00}, {x0}, {w}\n"),
            concat!($add, " {s01}, {x1}, {w}\n"),
            concat!($add, " {s02}, {x2}, {w}\n"),
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 4]\n"),
            concat!($add, " {s10}, {x0}, {w}\n"),
            concat!($add, " {s11}, {x1}, {w}\n"),
            concat!($add, " {s12}, {x2}, {w}\n"),
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 8]\n"),
            concat!($add, " {s20}, {x0}, {w}\n"),
            concat!($add, " {s21}, {x1}, {w}\n"),
            concat!($add, " {s22}, {x2}, {w}\n"),
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 12]\n"),
            concat!($add, " {s30}, {x0}, {w}\n"),
            concat!($add, " {s31}, {x1}, {w}\n"),
            concat!($add, " {s32}, {x2}, {w}"),
        )
    };
}

/// The loop of [`accumulate_4x3`].
#[cfg(not(miri))]
macro_rules! columns_4x3 {
    ($add:literal, $sums:ident, $columns:ident) => {{
        let Columns { bases, offsets, values, count } = $columns;
        let [[s00, s01, s02], [s10, s11, s12], [s20, s21, s22], [s30, s31, s32]] = $sums;
        std::arch::asm!(
            "sub {left}, 4",
            "jl 3f",
            "2:",
            column!($add, 0),
            column!($add, 1),
            column!($add, 2),
            column!($add, 3),
            "add {offsets}, 16",
            "add {values}, 64",
            "sub {left}, 4",
            "jge 2b",
            "3:",
            "add {left}, 4",
            "jz 5f",
            "4:",
            column!($add, 0),
            "add {offsets}, 4",
            "add {values}, 16",
            "dec {left}",
            "jnz 4b",
            "5:",
            b0 = in(reg) bases[0], b1 = in(reg) bases[1], b2 = in(reg) bases[2],
            offsets = inout(reg) offsets => _, values = inout(reg) values => _,
            left = inout(reg) count => _, offset = out(reg) _,
            s00 = inout(ymm_reg) s00.0, s01 = inout(ymm_reg) s01.0, s02 = inout(ymm_reg) s02.0,
            s10 = inout(ymm_reg) s10.0, s11 = inout(ymm_reg) s11.0, s12 = inout(ymm_reg) s12.0,
            s20 = inout(ymm_reg) s20.0, s21 = inout(ymm_reg) s21.0, s22 = inout(ymm_reg) s22.0,
            s30 = inout(ymm_reg) s30.0, s31 = inout(ymm_reg) s31.0, s32 = inout(ymm_reg) s32.0,
            x0 = out(ymm_reg) _, x1 = out(ymm_reg) _, x2 = out(ymm_reg) _, w = out(ymm_reg) _,
            options(readonly, nostack),
        )
    }};
}

/// The widest tile in assembly: it needs every register, and compilers spill some of them in the loop, which
/// halves its speed. Four columns at a time (the taps of a pattern): with so few rounds, the end of the loop
/// is often foreseen, and the next tile begins while this one ends.
///
/// # Safety
/// As [`Spatial::accumulate`], not for quads of [`APART`].
#[cfg(not(miri))]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate_4x3<const ELEMENT: u8, const DOT: u8>(
    sums: &mut [[F32x8<ELEMENT, DOT>; 3]; 4],
    columns: Columns<3>,
) {
    // SAFETY: reads what the caller vouches for and writes registers only.
    unsafe {
        match DOT {
            VEX => columns_4x3!("{{vex}} vpdpbusd", sums, columns),
            EVEX => columns_4x3!("vpdpbusd", sums, columns),
            _ => columns_4x3!("vfmadd231ps", sums, columns),
        }
    }
}
