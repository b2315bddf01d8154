//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! 4 x 24 pixels take 12 sums, 3 inputs and 1 weight, broadcast from memory: all 16 registers. A column is 12
//! multiply-adds, 7 vector loads and one offset, so two multiply-adds a cycle leave room for every load, also
//! where loads cross cache lines. Single rows read the image as a memory operand of the multiply-add; more
//! than six vectors have more bases than there are address registers.

use super::body::tiles;
use super::plan::CHUNK;
use super::{Order, TileArgs};
use std::arch::x86_64::*;

const LANES: usize = 8;
type Floats = __m256;

tiles!("avx2,fma");

#[inline]
#[target_feature(enable = "avx2,fma")]
fn splat(v: f32) -> Floats {
    _mm256_set1_ps(v)
}

/// Loads a vector.
///
/// # Safety
/// LANES floats are there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load(from: *const f32) -> Floats {
    // SAFETY: passed on from the caller.
    unsafe { _mm256_loadu_ps(from) }
}

/// Stores a vector.
///
/// # Safety
/// There is room for LANES floats.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store(to: *mut f32, v: Floats) {
    // SAFETY: passed on from the caller.
    unsafe { _mm256_storeu_ps(to, v) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add(a: Floats, b: Floats) -> Floats {
    _mm256_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_add(w: Floats, x: Floats, sum: Floats) -> Floats {
    _mm256_fmadd_ps(w, x, sum)
}

/// NaN stays: max and min return their second operand if either is NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn clamp(v: Floats, (lo, hi): (f32, f32)) -> Floats {
    _mm256_min_ps(splat(hi), _mm256_max_ps(splat(lo), v))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn permute(v: Floats, order: &Order) -> Floats {
    // SAFETY: an order has at least LANES entries.
    let order = unsafe { _mm256_loadu_si256(order.as_ptr().cast()) };
    _mm256_permutevar8x32_ps(v, order)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
#[allow(unused_unsafe)] // older Rust does not know that it is safe
fn prefetch(at: *const f32) {
    // SAFETY: a hint, which reads nothing: any address will do.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

/// Adds `columns` columns to the sums.
///
/// # Safety
/// As [`plain`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate<const R: usize, const V: usize>(
    sums: &mut [[Floats; V]; R],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    #[cfg(not(miri))]
    if R == 4 && V == 3 {
        // SAFETY: passed on from the caller; the types are the same for these R and V.
        unsafe {
            let sums = &mut *std::ptr::from_mut(sums).cast::<[[Floats; 3]; 4]>();
            let bases = &*std::ptr::from_ref(bases).cast::<[*const f32; 3]>();
            return accumulate_4x3(sums, bases, offsets, values, columns);
        }
    }
    // SAFETY: passed on from the caller.
    unsafe { plain(sums, bases, offsets, values, columns) };
}

/// One column of [`accumulate_4x3`], `$i` columns after the pointers.
#[cfg(not(miri))]
macro_rules! column {
    ($i:literal) => {
        concat!(
            concat!("mov {offset:e}, dword ptr [{offsets} + 4*", $i, "]\n"),
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, "]\n"),
            "vmovups {x0}, ymmword ptr [{b0} + {offset}]\n",
            "vmovups {x1}, ymmword ptr [{b1} + {offset}]\n",
            "vmovups {x2}, ymmword ptr [{b2} + {offset}]\n",
            "vfmadd231ps {s00}, {w}, {x0}\n",
            "vfmadd231ps {s01}, {w}, {x1}\n",
            "vfmadd231ps {s02}, {w}, {x2}\n",
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 4]\n"),
            "vfmadd231ps {s10}, {w}, {x0}\n",
            "vfmadd231ps {s11}, {w}, {x1}\n",
            "vfmadd231ps {s12}, {w}, {x2}\n",
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 8]\n"),
            "vfmadd231ps {s20}, {w}, {x0}\n",
            "vfmadd231ps {s21}, {w}, {x1}\n",
            "vfmadd231ps {s22}, {w}, {x2}\n",
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 12]\n"),
            "vfmadd231ps {s30}, {w}, {x0}\n",
            "vfmadd231ps {s31}, {w}, {x1}\n",
            "vfmadd231ps {s32}, {w}, {x2}",
        )
    };
}

/// The widest tile in assembly: it needs every register, and compilers spill some of them in the loop, which
/// halves its speed. Four columns at a time (the taps of a pattern): with so few rounds, the end of the loop
/// is often foreseen, and the next tile begins while this one ends.
///
/// # Safety
/// As [`plain`].
#[cfg(not(miri))]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate_4x3(
    sums: &mut [[__m256; 3]; 4],
    bases: &[*const f32; 3],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    let [[s00, s01, s02], [s10, s11, s12], [s20, s21, s22], [s30, s31, s32]] = sums;
    // SAFETY: reads what the caller vouches for and writes registers only.
    unsafe {
        std::arch::asm!(
            "sub {left}, 4",
            "jl 3f",
            "2:",
            column!(0),
            column!(1),
            column!(2),
            column!(3),
            "add {offsets}, 16",
            "add {values}, 64",
            "sub {left}, 4",
            "jge 2b",
            "3:",
            "add {left}, 4",
            "jz 5f",
            "4:",
            column!(0),
            "add {offsets}, 4",
            "add {values}, 16",
            "dec {left}",
            "jnz 4b",
            "5:",
            b0 = in(reg) bases[0], b1 = in(reg) bases[1], b2 = in(reg) bases[2],
            offsets = inout(reg) offsets => _, values = inout(reg) values => _,
            left = inout(reg) columns => _, offset = out(reg) _,
            s00 = inout(ymm_reg) *s00, s01 = inout(ymm_reg) *s01, s02 = inout(ymm_reg) *s02,
            s10 = inout(ymm_reg) *s10, s11 = inout(ymm_reg) *s11, s12 = inout(ymm_reg) *s12,
            s20 = inout(ymm_reg) *s20, s21 = inout(ymm_reg) *s21, s22 = inout(ymm_reg) *s22,
            s30 = inout(ymm_reg) *s30, s31 = inout(ymm_reg) *s31, s32 = inout(ymm_reg) *s32,
            x0 = out(ymm_reg) _, x1 = out(ymm_reg) _, x2 = out(ymm_reg) _, w = out(ymm_reg) _,
            options(readonly, nostack),
        );
    }
}

/// Copies every other float. The last vector is moved back to end with the row.
///
/// # Safety
/// AVX2 is there; `to` has `len` floats, at least `CHUNK`, and `from` twice as many.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
    const { assert!(CHUNK == LANES) }
    let mut at = 0;
    loop {
        // SAFETY: `at + LANES` is at most `len`.
        unsafe {
            let (a, b) = (_mm256_loadu_ps(from.add(2 * at)), _mm256_loadu_ps(from.add(2 * at + LANES)));
            // Even floats of the low halves of a and b, then of the high halves, in pairs.
            let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
            let ordered = _mm256_permute4x64_pd::<0b11_01_10_00>(pairs);
            _mm256_storeu_ps(to.add(at), _mm256_castpd_ps(ordered));
        }
        if at + LANES == len {
            return;
        }
        at = (at + LANES).min(len - LANES);
    }
}
