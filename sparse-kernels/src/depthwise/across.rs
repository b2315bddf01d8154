//! Small maps of many channels, with channels across the lanes of a vector.
//!
//! Rows of up to four columns leave half of eight lanes empty, and every load of theirs reaches over both ends of the map. So here
//! eight planes are taken together and transposed: a vector is a pixel of eight channels, a tap of theirs another. Which pixels and
//! taps meet is the same for all planes, and is listed once; what is outside of the map is a pixel of zeros. What remains of
//! borders, strides and patterns is a multiply-add for each tap and output pixel, four pixels at a time: their sums hide the latency
//! of adding, and no branch depends on the place of a pixel. A tap is one load for four multiply-adds, which load their inputs.

use super::RowsArgs;
use super::body::Depthwise;
use crate::geometry::inside;
use crate::vector::compiled;
use std::marker::PhantomData;

/// Planes that are computed together.
const TOGETHER: usize = 8;

/// Output pixels that are summed side by side.
const SUMS: usize = 4;

/// Most pixels of an input plane, output pixels, and taps.
const INPUTS: usize = 64;
const OUTPUTS: usize = 16;
const TAPS: usize = 32;

/// Rows of planes, all of which [`Across::of`] found small enough.
pub(super) struct Across<'a> {
    rows: &'a RowsArgs<'a>,
    /// The `[ky, kx]` of the stored taps.
    places: &'a [[usize; 2]],
    /// Horizontal.
    stride: usize,
}

impl<'a> Across<'a> {
    /// None if these planes are too few or too large, or better computed along their rows.
    #[inline(always)]
    pub(super) fn of<V: Depthwise>(
        rows: &'a RowsArgs<'a>,
        places: &'a [[usize; 2]],
        stride: usize,
    ) -> Option<Across<'a>> {
        let small = 2 * rows.y_width <= V::LANES
            && rows.rows * rows.y_width <= OUTPUTS
            && rows.x_height * rows.x_width <= INPUTS
            && places.len() <= TAPS;
        (V::ACROSS && small && rows.planes >= TOGETHER).then_some(Across { rows, places, stride })
    }
}

/// Pixels of eight channels, and one of zeros behind them.
type Inputs<V> = [V; INPUTS + 1];

/// The input pixel that a tap meets, for each of some neighbouring output pixels.
///
/// Invariant: all are bytes from the first of [`Inputs`] to one of them.
struct Meetings<V>([[[u16; SUMS]; TAPS]; OUTPUTS / SUMS], PhantomData<V>);

impl<V> Meetings<V> {
    #[inline(always)]
    fn of(across: &Across) -> Meetings<V> {
        const { assert!(size_of::<Inputs<V>>() <= u16::MAX as usize) };
        let args = across.rows;
        let (before, left) = ((-args.first).max(0) as usize, args.left);
        let above = args.first.max(0) as usize;
        let mut met = [[[(INPUTS * size_of::<V>()) as u16; SUMS]; TAPS]; OUTPUTS / SUMS];
        for (tap, [ky, kx]) in across.places.iter().enumerate() {
            let columns = inside(left, args.x_width, *kx, across.stride, args.y_width);
            for oy in inside(before, args.x_height.saturating_sub(above), *ky, args.step, args.rows) {
                let row = (above + oy * args.step + ky - before) * args.x_width;
                for ox in columns.clone() {
                    let (pixel, met_by) = (oy * args.y_width + ox, row + ox * across.stride + kx - left);
                    met[pixel / SUMS][tap][pixel % SUMS] = (met_by.min(INPUTS) * size_of::<V>()) as u16;
                }
            }
        }
        Meetings(met, PhantomData)
    }
}

/// The first `n` floats of eight rows, which are `stride` floats apart, as vectors of one of each.
///
/// # Safety
/// The instruction set of `V` is there; the rows are readable for `n` floats; there are as many vectors in `to`.
#[inline(always)]
unsafe fn gather<V: Depthwise>(from: *const f32, stride: usize, n: usize, to: &mut [V]) {
    let mut at = 0;
    while at < n {
        // The last vectors of a row overlap those before them.
        let first = at.min(n.saturating_sub(TOGETHER));
        // SAFETY: these are floats of the rows; of shorter rows those behind them are masked.
        let columns = unsafe {
            let mut rows = [V::splat(0.0); TOGETHER];
            for (row, v) in rows.iter_mut().enumerate() {
                let p = from.wrapping_add(row * stride + first);
                *v = if n < TOGETHER { V::load_edge(p, V::edge(0, n)) } else { V::load(p) };
            }
            V::transpose(rows)
        };
        for (place, v) in to[first..n].iter_mut().zip(columns) {
            *place = v;
        }
        at += TOGETHER;
    }
}

/// Writes one of each of the vectors of `from` to each of eight rows, which are `stride` floats apart.
///
/// # Safety
/// The instruction set of `V` is there; the rows are writable for as many floats as there are vectors.
#[inline(always)]
unsafe fn scatter<V: Depthwise>(from: &[V], to: *mut f32, stride: usize) {
    let n = from.len();
    let mut at = 0;
    while at < n {
        let first = at.min(n.saturating_sub(TOGETHER));
        // SAFETY: these are floats of the rows.
        unsafe {
            let mut columns = [V::splat(0.0); TOGETHER];
            for (column, v) in columns.iter_mut().zip(&from[first..]) {
                *column = *v;
            }
            for (row, v) in V::transpose(columns).into_iter().enumerate() {
                let p = to.wrapping_add(row * stride + first);
                if n < TOGETHER { v.store_part(p, n) } else { v.store(p) }
            }
        }
        at += TOGETHER;
    }
}

/// Eight planes after the other; the last eight overlap those before them.
///
/// # Safety
/// The instruction set of `V` is there; the rows keep the invariants of [`RowsArgs`] for kernels whose stored taps are at the
/// `places`, and the horizontal stride, and are floats.
#[inline(always)]
unsafe fn walk_across<V: Depthwise>(across: &Across) {
    const { assert!(!V::ACROSS || V::LANES == TOGETHER, "planes fill a vector") };
    let (args, meetings) = (across.rows, Meetings::<V>::of(across));
    let (pixels, outputs, taps) =
        (args.x_height * args.x_width, args.rows * args.y_width, across.places.len());
    // SAFETY: the planes from `first` on are eight of the call: their inputs, taps and biases are readable, and their outputs
    // writable (RowsArgs). All `pixels` are inside of `x` (Meetings).
    unsafe {
        let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        let nothing = V::splat(0.0);
        let (mut x, mut w, mut y) = ([nothing; INPUTS + 1], [nothing; TAPS], [nothing; OUTPUTS]);
        let mut at = 0;
        while at < args.planes {
            let plane = args.plane(at.min(args.planes - TOGETHER));
            gather(plane.x, args.strides.x, pixels, &mut x);
            gather(plane.taps, args.strides.taps, taps, &mut w);
            let bias = V::load(plane.bias);
            let some = meetings.0.iter().zip(y.as_chunks_mut::<SUMS>().0);
            for (meetings, y) in some.take(outputs.div_ceil(SUMS)) {
                let mut sums = [bias; SUMS];
                for (pixels, tap) in meetings.iter().zip(&w).take(taps) {
                    for (sum, pixel) in sums.iter_mut().zip(pixels) {
                        *sum = (*x.as_ptr().byte_add(*pixel as usize)).mul_add(*tap, *sum);
                    }
                }
                for (place, sum) in y.iter_mut().zip(sums) {
                    *place = sum.clamp(lo, hi);
                }
            }
            scatter(&y[..outputs], plane.y, args.strides.y);
            at += TOGETHER;
        }
    }
}

compiled! {
    pub(super) unsafe fn across_on<V: Depthwise;>(Across) = walk_across;
}
