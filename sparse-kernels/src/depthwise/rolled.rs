//! The loops of kernels that are not unrolled: large ones, and any.

use super::body::{Depthwise, NARROWEST, SLOTS, place, rarely, step_of_row, tap_at, under_way, unroll};
use super::values::Values;
use super::{Plane, RowsArgs};
use crate::vector::inside;

/// All taps of a large kernel, `K` x `K`.
///
/// As [`Unroll::walk`], in a fraction of the code: `K / S` sums are under way, each a row of taps ahead of the next, and a
/// step takes `S` input rows, but steps are not unrolled, taps are broadcast from memory, and the first and the
/// last steps of a tile compute some sums that nobody wants, `K - 1` rows' at most. A row of 7x7 is 7 loads, 49
/// broadcasts and 49 multiply-adds for 7 moves of sums.
///
/// # Safety
/// As [`walk_rows`], for a kernel of `K` x `K` taps, all stored.
#[inline(always)]
pub(super) unsafe fn walk_large<V: Depthwise, const K: usize, const S: usize>(args: &RowsArgs) {
    let last = args.y_width.saturating_sub(V::LANES);
    for plane in 0..args.planes {
        let plane = args.plane(plane);
        for ox in (0..args.y_width).step_by(V::LANES).map(|ox| ox.min(last)) {
            let column = (ox * S) as isize - args.left as isize;
            let inside = column >= 0 && column as usize + K.div_ceil(S) * S + S * V::LANES <= args.x_width;
            // SAFETY: passed on from the caller; the vector is inside the output row, or that is narrower.
            // Without masks only where what is loaded is inside the input row.
            unsafe {
                if inside {
                    large::<V, K, S, false>(args, plane, ox, column);
                } else if const { V::FREE_MASKS } {
                    large::<V, K, S, true>(args, plane, ox, column);
                } else {
                    let mut places = [[0; 2]; SLOTS * SLOTS];
                    for (tap, place) in places.iter_mut().enumerate().take(K * K) {
                        *place = [tap / K, tap % K];
                    }
                    rarely::<V, S>(args, plane, &places[..K * K], ox, 1);
                }
            }
        }
    }
}

/// A vector of pixels of all rows, from input columns from `column` on; those outside of the row are masked if
/// `MASKED`.
///
/// # Safety
/// As [`walk_large`]; all loads are inside the row if they are not masked.
#[inline(always)]
unsafe fn large<V: Depthwise, const K: usize, const S: usize, const MASKED: bool>(
    args: &RowsArgs,
    plane: Plane,
    ox: usize,
    column: isize,
) {
    // SAFETY: input rows are read only if they are inside the map, and their columns as the caller says or by
    // the lanes of `edges`; output rows 0..args.rows are written, at columns inside the row.
    unsafe {
        let slots = const { under_way(K, S) };
        let mut edges = [V::edge(0, 0); SLOTS + 1];
        for (load, edge) in edges.iter_mut().enumerate() {
            if MASKED && load < K.next_multiple_of(S) {
                *edge = V::edge(column + place::<V>(S, load, 0) as isize, args.x_width);
            }
        }
        let load = |row: *const f32, load: usize| {
            let at = row.wrapping_add(place::<V>(S, load, 0));
            if MASKED { V::load_edge(at, edges[load]) } else { V::load(at) }
        };
        let taken = |row: *const f32, column: usize| {
            let a = load(row, column);
            let (a, b) = if S == 1 { (a, a) } else { a.deinterleave(load(row, column + 1)) };
            [a, b]
        };
        let bias = V::Values::splat(plane.bias);
        let mut sums = [bias; SLOTS];
        let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        let mut iy = args.first;
        let mut row = plane.x.wrapping_offset(args.first * args.x_width as isize + column);
        let mut y = plane.y.add(ox);
        for step in 1..args.rows + slots {
            unroll!(D in [0 1] {
                if const { D < S } {
                    if (iy as usize) < args.x_height {
                        unroll!(KX in [0 1 2 3 4 5 6] {
                            if const { KX < K && KX.is_multiple_of(S) } {
                                let [a, b] = taken(row, KX);
                                unroll!(ODD in [0 1] {
                                    if const { ODD < S && of_row::<V>(K, KX + ODD) > 0 } {
                                        let duo = const { of_row::<V>(K, KX + ODD) == 2 };
                                        let column = if ODD == 0 { a } else { b };
                                        let columns = match duo {
                                            true if S == 2 => V::Values::duo(a, b),
                                            true => V::Values::duo(a, taken(row, KX + 1)[0]),
                                            false => V::Values::of(column),
                                        };
                                        unroll!(SLOT in [0 1 2 3 4 5 6] {
                                            if const { SLOT * S + D < K } {
                                                let tap = const { (SLOT * S + D) * steps_of_row::<V>(K, K) + steps_of_row::<V>(K, KX + ODD) };
                                                let tap = tap_at::<V>(plane.taps, tap);
                                                sums[SLOT] = if duo { columns.dot(tap, sums[SLOT]) } else { columns.mul_add(tap, sums[SLOT]) };
                                            }
                                        });
                                    }
                                });
                            }
                        });
                    }
                    iy += 1;
                    row = row.wrapping_add(args.x_width);
                }
            });
            if step >= slots {
                let sum = sums[slots - 1].clamp(lo, hi);
                let part = if args.y_width >= V::LANES { None } else { Some(args.y_width) };
                sum.store::<S>(y, part, args.apart);
                y = y.wrapping_add(args.y_width);
            }
            unroll!(SLOT in [6 5 4 3 2 1] {
                sums[SLOT] = sums[SLOT - 1];
            });
            sums[0] = bias;
        }
    }
}

/// [`step_of_row`] of a row of `k` taps, all stored.
const fn of_row<V: Depthwise>(k: usize, kx: usize) -> usize {
    step_of_row((1 << k) - 1, kx, V::Values::DUOS)
}

/// Steps of such a row that begin left of `kx`.
const fn steps_of_row<V: Depthwise>(k: usize, kx: usize) -> usize {
    let (mut steps, mut column) = (0, 0);
    while column < kx {
        steps += (of_row::<V>(k, column) > 0) as usize;
        column += 1;
    }
    steps
}

/// Any kernel: taps are a list.
///
/// Four vectors of sums hide the latency of their multiply-adds: those of four rows below each other, so that a
/// map may be as narrow as a vector, or of what rows are left, side by side. A tap is then one broadcast, four
/// loads and four multiply-adds.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`] for a horizontal stride
/// of `S`.
#[inline(always)]
pub(super) unsafe fn walk_any<V: Depthwise, const S: usize>(args: &RowsArgs) {
    const ROWS: usize = 4;
    let last = args.y_width.saturating_sub(V::LANES);
    for plane in 0..args.planes {
        let mut plane = args.plane(plane);
        let (mut iy, mut left) = (args.first, args.rows);
        while left > 0 {
            let rows = if left >= ROWS { ROWS } else { 1 };
            let mut ox = 0;
            while ox < args.y_width {
                // SAFETY: the vectors from column `ox` on are inside the row, or there is one and the row is
                // narrower; `rows` are left.
                ox = unsafe {
                    if rows == ROWS {
                        span::<V, S, ROWS, 1>(args, plane, args.places, iy, ox.min(last));
                        ox + V::LANES
                    } else if ox + 4 * V::LANES <= args.y_width {
                        span::<V, S, 1, 4>(args, plane, args.places, iy, ox);
                        ox + 4 * V::LANES
                    } else {
                        span::<V, S, 1, 1>(args, plane, args.places, iy, ox.min(last));
                        ox + V::LANES
                    }
                };
            }
            iy += (rows * args.step) as isize;
            left -= rows;
            plane.y = plane.y.wrapping_add(rows * args.y_width);
        }
    }
}

/// `N` vectors in each of `R` output rows, the first of whose rows of taps meets input row `iy`.
///
/// # Safety
/// As [`walk_any`]; there are `R` rows; the vectors from column `ox` on are inside the row, or `ox` is 0, `N` is
/// 1 and the row is narrower.
#[inline(always)]
pub(super) unsafe fn span<V: Depthwise, const S: usize, const R: usize, const N: usize>(
    args: &RowsArgs,
    plane: Plane,
    places: &[[usize; 2]],
    iy: isize,
    ox: usize,
) {
    // SAFETY: only rows inside the map are read, and of them only columns inside the row; a plane has a value
    // per tap.
    unsafe {
        // The columns of a load, and its lanes that are inside the row if not all are.
        let columns = |column: isize| {
            let whole = column >= 0 && column + V::LANES as isize <= args.x_width as isize;
            (column, if whole { None } else { Some(V::edge(column, args.x_width)) })
        };
        let load = |row: *const f32, (column, edge): (isize, Option<V::Edge>)| {
            let at = row.wrapping_offset(column);
            match edge {
                None => V::load(at),
                Some(_) if !V::FREE_MASKS && args.x_width < V::LANES => {
                    let mut lanes = [0f32; NARROWEST];
                    for lane in inside(column, args.x_width, V::LANES) {
                        lanes[lane] = *at.wrapping_add(lane);
                    }
                    V::load(lanes.as_ptr())
                }
                Some(edge) => V::load_edge(at, edge),
            }
        };
        let mut sums = [[V::Values::splat(plane.bias); N]; R];
        for (i, [ky, kx]) in places.iter().enumerate() {
            let tap = tap_at::<V>(plane.taps, i);
            let column = (ox * S + kx) as isize - args.left as isize;
            for n in 0..N {
                let column = column + (n * V::LANES * S) as isize;
                let (even, odd) = (columns(column), columns(column + ((S - 1) * V::LANES) as isize));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let iy = iy + (r * args.step + ky) as isize;
                    if iy as usize >= args.x_height {
                        continue;
                    }
                    let row = plane.x.add(iy as usize * args.x_width);
                    let mut v = load(row, even);
                    if S == 2 {
                        (v, _) = v.deinterleave(load(row, odd));
                    }
                    sums[n] = tap.mul_add(V::Values::of(v), sums[n]);
                }
            }
        }
        let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        for (r, sums) in sums.into_iter().enumerate() {
            let y = plane.y.wrapping_add(r * args.y_width);
            for (n, sum) in sums.into_iter().enumerate() {
                let sum = sum.clamp(lo, hi);
                if args.y_width >= V::LANES {
                    sum.store::<S>(y.add(ox + n * V::LANES), None, args.apart);
                } else {
                    sum.store::<S>(y, Some(args.y_width), args.apart);
                }
            }
        }
    }
}
