//! WebAssembly simd128: vectors of 4 floats, without a fused multiply-add.
//!
//! 4 x 8 pixels take 8 sums, 2 inputs, 1 weight and 1 product: an engine has 16 registers on x86-64.

use super::body::tiles;
use super::plan::CHUNK;
use super::{Order, TileArgs};
use plain as accumulate;
use std::arch::wasm32::*;

const LANES: usize = 4;
type Floats = v128;

tiles!("simd128");

#[inline]
#[target_feature(enable = "simd128")]
fn splat(v: f32) -> Floats {
    f32x4_splat(v)
}

/// Loads a vector.
///
/// # Safety
/// LANES floats are there.
#[inline]
#[target_feature(enable = "simd128")]
unsafe fn load(from: *const f32) -> Floats {
    // SAFETY: passed on from the caller.
    unsafe { v128_load(from.cast()) }
}

/// Stores a vector.
///
/// # Safety
/// There is room for LANES floats.
#[inline]
#[target_feature(enable = "simd128")]
unsafe fn store(to: *mut f32, v: Floats) {
    // SAFETY: passed on from the caller.
    unsafe { v128_store(to.cast(), v) }
}

#[inline]
#[target_feature(enable = "simd128")]
fn add(a: Floats, b: Floats) -> Floats {
    f32x4_add(a, b)
}

#[inline]
#[target_feature(enable = "simd128")]
fn multiply_add(w: Floats, x: Floats, sum: Floats) -> Floats {
    f32x4_add(sum, f32x4_mul(w, x))
}

/// NaN stays: the first operand is returned unless the second is greater (smaller).
#[inline]
#[target_feature(enable = "simd128")]
fn clamp(v: Floats, (lo, hi): (f32, f32)) -> Floats {
    f32x4_pmin(f32x4_pmax(v, splat(lo)), splat(hi))
}

#[inline]
#[target_feature(enable = "simd128")]
fn permute(v: Floats, order: &Order) -> Floats {
    // SAFETY: an order has at least LANES entries.
    let order = unsafe { v128_load(order.as_ptr().cast()) };
    // The four bytes of every lane.
    let bytes = i32x4_add(i32x4_mul(order, u32x4_splat(0x0404_0404)), u32x4_splat(0x0302_0100));
    i8x16_swizzle(v, bytes)
}

/// There is no such instruction.
#[inline]
#[target_feature(enable = "simd128")]
fn prefetch(_: *const f32) {}

/// Copies every other float. The last vector is moved back to end with the row.
///
/// # Safety
/// simd128 is there; `to` has `len` floats, at least `CHUNK`, and `from` twice as many.
#[target_feature(enable = "simd128")]
pub(super) unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
    const { assert!(CHUNK >= LANES) }
    let mut at = 0;
    loop {
        // SAFETY: `at + LANES` is at most `len`.
        unsafe {
            let (a, b) = (load(from.add(2 * at)), load(from.add(2 * at + LANES)));
            v128_store(to.add(at).cast(), i32x4_shuffle::<0, 2, 4, 6>(a, b));
        }
        if at + LANES == len {
            return;
        }
        at = (at + LANES).min(len - LANES);
    }
}
