//! What the lanes of a vector are computed as, so that loops are the same for floats and for pairs of channels.

use crate::vector::Vector;

/// What the lanes of a vector are computed as: floats as they are; pairs as two vectors of floats, those of the
/// first and of the second channels.
///
/// # Safety
/// Of every function: as [`Vector::on`].
pub(crate) trait Values<V: Vector>: Copy {
    /// Whether two neighbouring taps are multiplied in one step.
    const DUOS: bool;

    /// The floats of lanes.
    unsafe fn of(lanes: V) -> Self;

    /// The lanes of two neighbouring columns, by channels; only if there are [`Values::DUOS`].
    unsafe fn duo(lanes: V, next: V) -> Self;

    /// `c` and the products of both columns of `self`, which are a [`Values::duo`], with their taps in `b`.
    unsafe fn dot(self, b: Self, c: Self) -> Self;

    /// The tap, or two neighbouring taps in a lane, or the bias, of each of the channels of a lane.
    ///
    /// # Safety
    /// `p` is readable for a float for each of them.
    unsafe fn splat(p: *const f32) -> Self;

    /// `self * b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;

    /// [`Vector::clamp`] of every float.
    unsafe fn clamp(self, lo: V, hi: V) -> Self;

    /// Stores finished sums at `y`, of narrow rows only the first `part`. Of pairs they become lanes, unless `apart`
    /// says that the floats of the second channel are wanted, too, that far behind those of the first. `STRIDE` is
    /// that of the columns they were made from, whose order is settled here.
    ///
    /// # Safety
    /// All that is stored is writable.
    unsafe fn store<const STRIDE: usize>(self, y: *mut f32, part: Option<usize>, apart: usize);
}

/// [`Values::store`] for one vector.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn store<V: Vector, const STRIDE: usize>(v: V, y: *mut f32, part: Option<usize>) {
    // SAFETY: passed on from the caller.
    unsafe {
        let v = if STRIDE == 1 { v } else { v.settle() };
        match part {
            None => v.store(y),
            Some(n) => v.store_part(y, n),
        }
    }
}

impl<V: Vector> Values<V> for V {
    const DUOS: bool = false;

    #[inline(always)]
    unsafe fn of(lanes: V) -> V {
        lanes
    }

    unsafe fn duo(_: V, _: V) -> V {
        unreachable!("for vectors of pairs")
    }

    unsafe fn dot(self, _: V, _: V) -> V {
        unreachable!("for vectors of pairs")
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> V {
        // SAFETY: contract of `Values`.
        unsafe { V::splat(*p) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: V, c: V) -> V {
        // SAFETY: contract of `Values`.
        unsafe { Vector::mul_add(self, b, c) }
    }

    #[inline(always)]
    unsafe fn clamp(self, lo: V, hi: V) -> V {
        // SAFETY: contract of `Values`.
        unsafe { Vector::clamp(self, lo, hi) }
    }

    #[inline(always)]
    unsafe fn store<const STRIDE: usize>(self, y: *mut f32, part: Option<usize>, _: usize) {
        // SAFETY: contract of `Values`.
        unsafe { store::<V, STRIDE>(self, y, part) }
    }
}

impl<V: Vector> Values<V> for [V; 2] {
    const DUOS: bool = true;

    #[inline(always)]
    unsafe fn of(lanes: V) -> [V; 2] {
        // SAFETY: contract of `Values`.
        unsafe { lanes.widen() }
    }

    #[inline(always)]
    unsafe fn duo(lanes: V, next: V) -> [V; 2] {
        // SAFETY: contract of `Values`.
        unsafe { lanes.regroup(next) }
    }

    #[inline(always)]
    unsafe fn dot(self, b: [V; 2], c: [V; 2]) -> [V; 2] {
        // SAFETY: contract of `Values`.
        unsafe { [self[0].dot(b[0], c[0]), self[1].dot(b[1], c[1])] }
    }

    #[inline(always)]
    unsafe fn splat(p: *const f32) -> [V; 2] {
        // SAFETY: contract of `Values`: there are two floats.
        unsafe { [V::splat(*p), V::splat(*p.add(1))] }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: [V; 2], c: [V; 2]) -> [V; 2] {
        // SAFETY: contract of `Values`.
        unsafe { [self[0].mul_add(b[0], c[0]), self[1].mul_add(b[1], c[1])] }
    }

    #[inline(always)]
    unsafe fn clamp(self, lo: V, hi: V) -> [V; 2] {
        // SAFETY: contract of `Values`.
        unsafe { [self[0].clamp(lo, hi), self[1].clamp(lo, hi)] }
    }

    #[inline(always)]
    unsafe fn store<const STRIDE: usize>(self, y: *mut f32, part: Option<usize>, apart: usize) {
        // SAFETY: contract of `Values`.
        unsafe {
            if apart == 0 {
                store::<V, STRIDE>(V::pair(self[0], self[1]), y, part);
            } else {
                store::<V, STRIDE>(self[0], y, part);
                store::<V, STRIDE>(self[1], y.wrapping_add(apart), part);
            }
        }
    }
}
