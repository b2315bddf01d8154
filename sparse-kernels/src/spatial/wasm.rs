//! WebAssembly simd128: vectors of 4 floats, without a fused multiply-add.
//!
//! 4 x 8 pixels take 8 sums, 2 inputs, 1 weight and 1 product: an engine has 16 registers on x86-64. What is left to save are
//! addresses and questions: vectors that follow each other share an address, and columns look for the end of the weights.

use super::body::{Columns, Spatial, plain};
use crate::table::Element;
use crate::vector::{F32x4, Vector};
use std::hint::black_box;

type Floats = F32x4;

impl Spatial for F32x4 {
    const MOST_VECTORS: [usize; 3] = [8, 4, 2];

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const N: usize>(sums: &mut [[Self; N]; R], columns: Columns<N>) {
        let first = columns.bases[0];
        let neighbours = |n: usize| columns.bases[n] == first.wrapping_add(n * Self::LANES);
        // SAFETY: passed on from the caller.
        unsafe {
            if N > 1 && (1..N).all(neighbours) { side_by_side(sums, columns) } else { plain(sums, columns) }
        }
    }
}

/// [`Spatial::accumulate`] of vectors that follow each other, as nearly all do: one address, and the others at constants from it.
///
/// # Safety
/// As there; they do.
#[inline(always)]
unsafe fn side_by_side<const R: usize, const N: usize>(sums: &mut [[F32x4; N]; R], columns: Columns<N>) {
    let Columns { bases, offsets, values, count } = columns;
    let (mut offset, mut w) = (offsets, values);
    // as if it could be anywhere: no counter beside the pointers
    let end = black_box(values.wrapping_add(count * R));
    // SAFETY: passed on from the caller.
    unsafe {
        while w != end {
            // written out: engines ask in every round of a loop whether they are to stop
            macro_rules! column {
                () => {
                    let at = bases[0].byte_add(*offset as usize);
                    let mut x = [Floats::splat(0.0); N];
                    for n in 0..N {
                        x[n] = Floats::load(at.add(n * Floats::LANES));
                    }
                    Floats::add_column(sums, &x, w);
                    offset = offset.wrapping_add(1);
                    w = w.wrapping_add(R);
                };
            }
            column!();
            if w == end {
                return;
            }
            column!();
            if w == end {
                return;
            }
            column!();
        }
    }
}

/// Quads: every input and every weight are two registers, bytes of even and of odd place.
impl Spatial for F32x4<{ Element::Int8 as u8 }> {
    const MOST_VECTORS: [usize; 3] = [6, 3, 2];
}
