//! AVX-512F: 32 registers of 16 floats.
//!
//! 4 x 80 pixels take 20 sums, 5 inputs and 1 weight, which leaves the compiler six registers. Four vectors
//! are a whole 7x7 map.

use super::body::tiles;
use super::{Order, TileArgs};
use plain as accumulate;
use std::arch::x86_64::*;

pub(super) use super::avx2::evens;

const LANES: usize = 16;
type Floats = __m512;

tiles!("avx512f");

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(v: f32) -> Floats {
    _mm512_set1_ps(v)
}

/// Loads a vector.
///
/// # Safety
/// LANES floats are there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const f32) -> Floats {
    // SAFETY: passed on from the caller.
    unsafe { _mm512_loadu_ps(from) }
}

/// Stores a vector.
///
/// # Safety
/// There is room for LANES floats.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(to: *mut f32, v: Floats) {
    // SAFETY: passed on from the caller.
    unsafe { _mm512_storeu_ps(to, v) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Floats, b: Floats) -> Floats {
    _mm512_add_ps(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn multiply_add(w: Floats, x: Floats, sum: Floats) -> Floats {
    _mm512_fmadd_ps(w, x, sum)
}

/// NaN stays: max and min return their second operand if either is NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn clamp(v: Floats, (lo, hi): (f32, f32)) -> Floats {
    if cfg!(miri) {
        // Miri, which runs the tests where no CPU can, does not know the next two instructions.
        let mut lanes = [0f32; 16];
        // SAFETY: a vector is sixteen floats, and so is the array.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), v) };
        let lanes = lanes.map(|v| if v < lo { lo } else { v }).map(|v| if v > hi { hi } else { v });
        // SAFETY: as above.
        return unsafe { _mm512_loadu_ps(lanes.as_ptr()) };
    }
    _mm512_min_ps(splat(hi), _mm512_max_ps(splat(lo), v))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn permute(v: Floats, order: &Order) -> Floats {
    if cfg!(miri) {
        // The interpreter does not know the instruction.
        let (mut from, mut to) = ([0f32; LANES], [0f32; LANES]);
        // SAFETY: both arrays are a whole vector.
        unsafe {
            store(from.as_mut_ptr(), v);
            to.iter_mut().zip(order).for_each(|(to, lane)| *to = from[*lane as usize]);
            return load(to.as_ptr());
        }
    }
    // SAFETY: an order has LANES entries.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    _mm512_permutexvar_ps(order, v)
}

#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unused_unsafe)] // older Rust does not know that it is safe
fn prefetch(at: *const f32) {
    // SAFETY: a hint, which reads nothing: any address will do.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}
