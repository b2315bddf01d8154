//! The loops, written once over a vector type; every target's file gives the vector and the entry points.
//!
//! A tile is one or two vectors of neighbouring pixels wide and walks down the input rows, which it reads where they
//! are: once per tile. An input row meets `KH / S` output rows: as many sums are under way, each one row of taps ahead of
//! the next; the last is complete, is stored, and the others move up. A 3x3 kernel of stride 1 has 3 sums, 9 taps and
//! an input in registers, and 3 loads for 9 multiply-adds. 5x5 has more taps than registers hold: there a tap is
//! loaded for two vectors of pixels at once.
//!
//! Rows outside of the map are skipped. Only the first and the last tiles of a row reach over its ends: they have
//! versions of the loop of their own, in which the loads that may reach over mask the lanes outside of the row. With stride 2 two loads are taken apart
//! into even and odd columns on the way; sums are put in order when they are complete.
//!
//! Which taps exist and the stride are constants, and the loops over taps are unrolled by a macro: what remains is a
//! straight line of loads and multiply-adds for every pattern.

use super::{Plane, RowsArgs};
use std::ops::Range;

/// One register of neighbouring pixels. Implementations are inlined into functions that enable their instruction set.
pub(super) trait Vector: Copy {
    /// Floats in a register.
    const LANES: usize;

    /// Registers of neighbouring pixels that a tile has while the taps are held in registers: 1 or 2.
    const SIDE_BY_SIDE: usize = 1;

    /// Which lanes of a load are inside a row.
    type Edge: Copy;

    /// # Safety
    /// The instruction set is there; so for every function of this trait.
    unsafe fn splat(v: f32) -> Self;

    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(p: *const f32) -> Self;

    /// Lanes whose columns `column..column + LANES` are inside a row of `width` columns.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn edge(column: isize, width: usize) -> Self::Edge;

    /// The floats of the lanes of `edge`, zeros in the others.
    ///
    /// # Safety
    /// `p`, less the `column` of `edge`, is readable for the `width` of `edge`. `p` itself may be outside of the row.
    unsafe fn load_edge(p: *const f32, edge: Self::Edge) -> Self;

    /// # Safety
    /// `p` is writable for `LANES` floats.
    unsafe fn store(self, p: *mut f32);

    /// # Safety
    /// `p` is writable for `n` floats, `0 < n < LANES`.
    unsafe fn store_part(self, p: *mut f32, n: usize);

    /// `self * b + c`.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;

    /// `min(max(self, lo), hi)`; NaN stays NaN.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn clamp(self, lo: Self, hi: Self) -> Self;

    /// The floats of even and of odd position of `self` followed by `b`, in an order that [`Vector::settle`] undoes.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn deinterleave(self, b: Self) -> (Self, Self);

    /// Puts the lanes of [`Vector::deinterleave`] in order.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn settle(self) -> Self;

    /// Asks for the line of `p`, which may be anywhere, where that helps this target.
    #[inline(always)]
    fn prefetch(_p: *const f32) {}
}

/// Lanes of a vector at `column` that are inside a row of `width` columns.
pub(super) fn inside(column: isize, width: usize, lanes: usize) -> Range<usize> {
    let from = column.min(0).unsigned_abs();
    let to = (width as isize).saturating_sub(column).max(0) as usize;
    from.min(lanes)..to.min(lanes)
}

/// Repeats a block for literal values of a constant.
macro_rules! unroll {
    ($name:ident in [$($value:literal)*] $block:block) => {
        $({ const $name: usize = $value; $block })*
    };
}

/// Rows by which a tile that walks down asks for its input ahead of time. Planes follow each other, so that the last
/// tiles of one ask for the first rows of the next. (What detects streams in hardware does not see one in a tile.)
const AHEAD: usize = 16;

/// Most sums under way: rows of the largest kernel.
const SLOTS: usize = 5;

/// Whether the taps are held in registers. If not, they are loaded for two vectors side by side.
const fn in_registers(kernel_width: usize) -> bool {
    kernel_width <= 3
}

/// Registers of neighbouring pixels of a tile: 1, 2 or 4. Four leave room for the inputs only beside few taps.
const fn side_by_side<V: Vector>(kernel_width: usize, stride: usize, mask: u32) -> usize {
    if !in_registers(kernel_width) || V::SIDE_BY_SIDE == 4 && (stride > 1 || mask.count_ones() > 6) {
        2
    } else {
        V::SIDE_BY_SIDE
    }
}

/// One tile after the other along `args.rows` output rows.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`] for a kernel of `KH` x `KW` taps of
/// which `MASK` are stored, and a horizontal stride of `S`; with more than one row the vertical stride is `S`, too.
#[inline(always)]
pub(super) unsafe fn rows<V: Vector, const KH: usize, const KW: usize, const S: usize, const MASK: u32>(
    args: &RowsArgs,
) {
    let last = args.y_width.saturating_sub(V::LANES);
    for plane in 0..args.planes {
        let plane = args.plane(plane);
        // SAFETY: a plane has a value per stored tap.
        let taps = unsafe { taps::<V, KH, KW, MASK>(plane.taps) };
        let mut ox = 0;
        while ox < args.y_width {
            // SAFETY: the vectors from column `ox` on are inside the output row, or there is one and the row is narrower.
            ox = unsafe {
                let left = args.y_width - ox;
                let wide = const { side_by_side::<V>(KW, S, MASK) };
                if wide == 4 && left >= 4 * V::LANES {
                    tile::<V, KH, KW, S, MASK, 4>(args, plane, &taps, ox);
                    ox + 4 * V::LANES
                } else if wide >= 2 && left > V::LANES && args.y_width >= 2 * V::LANES {
                    tile::<V, KH, KW, S, MASK, 2>(args, plane, &taps, ox.min(args.y_width - 2 * V::LANES));
                    ox + 2 * V::LANES
                } else {
                    // The last tile overlaps the one before it rather than being cut.
                    tile::<V, KH, KW, S, MASK, 1>(args, plane, &taps, ox.min(last));
                    ox + V::LANES
                }
            };
        }
    }
}

/// A register for every stored tap.
///
/// # Safety
/// The instruction set of `V` is there; `p` is readable for as many floats as `MASK` has bits.
#[inline(always)]
unsafe fn taps<V: Vector, const KH: usize, const KW: usize, const MASK: u32>(p: *const f32) -> [[V; KW]; KH] {
    // SAFETY: the bits below a bit of MASK are fewer than its bits.
    unsafe {
        let mut taps = [[V::splat(0.0); KW]; KH];
        for (ky, row) in taps.iter_mut().enumerate() {
            for (kx, tap) in row.iter_mut().enumerate() {
                let bit = ky * KW + kx;
                if MASK >> bit & 1 == 1 {
                    *tap = V::splat(*p.add((MASK & ((1 << bit) - 1)).count_ones() as usize));
                }
            }
        }
        taps
    }
}

/// `N` vectors of pixels of all rows, by the version of the loop that their place asks for.
///
/// # Safety
/// As [`rows`]; the vectors from output column `ox` on are inside the row, or `ox` is 0, `N` is 1 and the row is narrower.
#[inline(always)]
unsafe fn tile<
    V: Vector,
    const KH: usize,
    const KW: usize,
    const S: usize,
    const MASK: u32,
    const N: usize,
>(
    args: &RowsArgs,
    plane: Plane,
    taps: &[[V; KW]; KH],
    ox: usize,
) {
    let column = (ox * S) as isize - args.left as isize;
    let outside = |side: u8| {
        (0..N * loads(KW, S)).any(|i| {
            let (load, n) = (i / N, i % N);
            let at = column + place::<V>(S, load, n) as isize;
            !leaves(KW, S, N, side, load, n) && (at < 0 || at + V::LANES as isize > args.x_width as isize)
        })
    };
    // SAFETY: passed on from the caller; other versions than that for BOTH where what they do not mask is inside.
    unsafe {
        if !outside(NONE) {
            walk::<V, KH, KW, S, MASK, N, NONE>(args, plane, taps, ox, column);
        } else if !outside(LEFT) {
            walk::<V, KH, KW, S, MASK, N, LEFT>(args, plane, taps, ox, column);
        } else if !outside(RIGHT) {
            walk::<V, KH, KW, S, MASK, N, RIGHT>(args, plane, taps, ox, column);
        } else {
            walk::<V, KH, KW, S, MASK, N, BOTH>(args, plane, taps, ox, column);
        }
    }
}

/// Ends of the rows that a tile reaches over.
const NONE: u8 = 0;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const BOTH: u8 = 3;

/// Loads of a row for one vector of sums: one for every column of taps, with stride 2 two for every pair of columns.
const fn loads(kernel_width: usize, stride: usize) -> usize {
    kernel_width.next_multiple_of(stride)
}

/// Column of a load from that of the first one; `n` counts vectors of sums.
#[inline(always)]
fn place<V: Vector>(stride: usize, load: usize, n: usize) -> usize {
    (load % stride + n * stride) * V::LANES + load / stride * stride
}

/// Whether a tile at the end `side` masks a load. At the left end these are the loads for taps left of the middle; at the
/// right end those right of it; with stride 2 the first and the last load.
const fn leaves(
    kernel_width: usize,
    stride: usize,
    side_by_side: usize,
    side: u8,
    load: usize,
    n: usize,
) -> bool {
    match side {
        NONE => false,
        LEFT if stride == 1 => n == 0 && load < kernel_width / 2,
        LEFT => n == 0 && load == 0,
        RIGHT if stride == 1 => n + 1 == side_by_side && load > kernel_width / 2,
        RIGHT => n + 1 == side_by_side && load + 1 == loads(kernel_width, stride),
        _ => true,
    }
}

/// A tile that reads columns from `column` on.
///
/// # Safety
/// As [`tile`]; the loads that a tile at the end `SIDE` does not mask are inside the row.
// The last of the unrolled steps leave sums and a place that nothing reads.
#[allow(unused_assignments)]
#[inline(always)]
unsafe fn walk<
    V: Vector,
    const KH: usize,
    const KW: usize,
    const S: usize,
    const MASK: u32,
    const N: usize,
    const SIDE: u8,
>(
    args: &RowsArgs,
    plane: Plane,
    taps: &[[V; KW]; KH],
    ox: usize,
    column: isize,
) {
    // SAFETY: input rows are read only if they are inside the map, and their columns as the caller says or by the
    // lanes of `edges`; output rows 0..args.rows are written, at columns inside the row.
    unsafe {
        let mut edges = [[V::edge(0, 0); N]; SLOTS + 1];
        for (load, edges) in edges.iter_mut().enumerate().take(loads(KW, S)) {
            for (n, edge) in edges.iter_mut().enumerate() {
                if leaves(KW, S, N, SIDE, load, n) {
                    *edge = V::edge(column + place::<V>(S, load, n) as isize, args.x_width);
                }
            }
        }
        let load = |row: *const f32, load: usize, n: usize| {
            let at = row.wrapping_add(place::<V>(S, load, n));
            if leaves(KW, S, N, SIDE, load, n) { V::load_edge(at, edges[load][n]) } else { V::load(at) }
        };
        let tap = |ky: usize, kx: usize| {
            let bit = ky * KW + kx;
            let tap = (MASK & ((1 << bit) - 1)).count_ones() as usize;
            if in_registers(KW) { taps[ky][kx] } else { V::splat(*plane.taps.add(tap)) }
        };
        let bias = V::splat(*plane.bias);
        let mut sums = [[bias; N]; SLOTS];
        let slots = KH.div_ceil(S);
        let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        let mut iy = args.first;
        let mut row = plane.x.wrapping_offset(args.first * args.x_width as isize + column);
        let mut y = plane.y.add(ox);
        let last = plane.y.add(args.rows * args.y_width).wrapping_sub(V::LANES);
        // The sums `$from..$to` take S input rows, which are `$inside` of the map or may not be: tap row `slot * S + D` meets input row D.
        macro_rules! meet {
            ($from:expr, $to:expr, $inside:literal) => {
                unroll!(D in [0 1] {
                    if D < S {
                        let inside = $inside || (iy as usize) < args.x_height;
                        if reached(KH, KW, S, MASK, D, $from, $to) && inside {
                            unroll!(KX in [0 1 2 3 4] {
                                if KX < KW && KX.is_multiple_of(S) {
                                    let mut v = [[bias; 2]; N];
                                    for (n, v) in v.iter_mut().enumerate() {
                                        let a = load(row, KX, n);
                                        let (a, b) = if S == 1 { (a, a) } else { a.deinterleave(load(row, KX + 1, n)) };
                                        *v = [a, b];
                                    }
                                    for slot in $from..$to {
                                        let ky = slot * S + D;
                                        for odd in 0..S {
                                            let kx = KX + odd;
                                            if ky < KH && kx < KW && MASK >> (ky * KW + kx) & 1 == 1 {
                                                let tap = tap(ky, kx);
                                                for n in 0..N {
                                                    sums[slot][n] = tap.mul_add(v[n][odd], sums[slot][n]);
                                                }
                                            }
                                        }
                                    }
                                }
                            });
                        }
                        V::prefetch(row.wrapping_add(AHEAD * args.x_width));
                        iy += 1;
                        row = row.wrapping_add(args.x_width);
                    }
                });
            };
        }
        macro_rules! advance {
            () => {
                for slot in (1..slots).rev() {
                    sums[slot] = sums[slot - 1];
                }
                sums[0] = [bias; N];
            };
        }
        macro_rules! store {
            () => {
                for (n, sum) in sums[slots - 1].into_iter().enumerate() {
                    let sum = sum.clamp(lo, hi);
                    let sum = if S == 1 { sum } else { sum.settle() };
                    // What a vector writes behind a narrow row is overwritten by the next one.
                    if N > 1 || y <= last {
                        sum.store(y.add(n * V::LANES));
                    } else {
                        sum.store_part(y, args.y_width);
                    }
                }
                y = y.wrapping_add(args.y_width);
            };
        }
        // Until the first sum has met all rows of taps but the last ones.
        unroll!(BEGUN in [1 2 3 4] {
            if BEGUN < slots {
                meet!(0, BEGUN, false);
                advance!();
            }
        });
        let mut left = args.rows.saturating_sub(slots - 1);
        while left > 0 {
            // So many rows that every sum is back in its register, without a branch between them. Of tiles of several
            // widths only in the wider ones, and not where both ends are near: the code is long enough.
            if const { in_registers(KW) && (V::SIDE_BY_SIDE == 1 || N > 1 && SIDE != BOTH) }
                && left >= slots
                && iy >= 0
                && iy as usize + slots * S <= args.x_height
            {
                unroll!(STEP in [0 1 2] {
                    if STEP < slots {
                        meet!(0, slots, true);
                        store!();
                        advance!();
                    }
                });
                left -= slots;
            } else {
                meet!(0, slots, false);
                store!();
                advance!();
                left -= 1;
            }
        }
        // No sum is begun any more.
        unroll!(FROM in [1 2 3 4] {
            if FROM < slots && args.rows + FROM >= slots {
                meet!(FROM, slots, false);
                store!();
                advance!();
            }
        });
    }
}

/// Whether any sum of `from..to` has a stored tap on row `d` of the `stride` input rows it meets.
const fn reached(kh: usize, kw: usize, stride: usize, mask: u32, d: usize, from: usize, to: usize) -> bool {
    let mut slot = from;
    while slot < to {
        let ky = slot * stride + d;
        if ky < kh && (mask >> (ky * kw)) & ((1 << kw) - 1) != 0 {
            return true;
        }
        slot += 1;
    }
    false
}

/// Any kernel: taps are a list. One output row at a time, four vectors of sums where the row is long enough.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`] for a horizontal stride of `S`.
#[inline(always)]
pub(super) unsafe fn any<V: Vector, const S: usize>(args: &RowsArgs) {
    let last = args.y_width.saturating_sub(V::LANES);
    for plane in 0..args.planes {
        let mut plane = args.plane(plane);
        let mut iy = args.first;
        for _ in 0..args.rows {
            let mut ox = 0;
            while ox < args.y_width {
                // SAFETY: the vectors from column `ox` on are inside the row, or there is one and the row is narrower.
                ox = unsafe {
                    if ox + 4 * V::LANES <= args.y_width {
                        span::<V, S, 4>(args, plane, iy, ox);
                        ox + 4 * V::LANES
                    } else {
                        span::<V, S, 1>(args, plane, iy, ox.min(last));
                        ox + V::LANES
                    }
                };
            }
            iy += args.step as isize;
            plane.y = plane.y.wrapping_add(args.y_width);
        }
    }
}

/// `N` vectors of the output row whose first row of taps meets input row `iy`.
///
/// # Safety
/// As [`any`]; the vectors from column `ox` on are inside the row, or `ox` is 0, `N` is 1 and the row is narrower.
#[inline(always)]
unsafe fn span<V: Vector, const S: usize, const N: usize>(
    args: &RowsArgs,
    plane: Plane,
    iy: isize,
    ox: usize,
) {
    // SAFETY: only rows inside the map are read, and of them only columns inside the row; a plane has a value per tap.
    unsafe {
        let load = |row: *const f32, column: isize| {
            let at = row.wrapping_offset(column);
            if column >= 0 && column + V::LANES as isize <= args.x_width as isize {
                V::load(at)
            } else {
                V::load_edge(at, V::edge(column, args.x_width))
            }
        };
        let mut sums = [V::splat(*plane.bias); N];
        for (i, [ky, kx]) in args.places.iter().enumerate() {
            let iy = iy + *ky as isize;
            if iy as usize >= args.x_height {
                continue;
            }
            let row = plane.x.add(iy as usize * args.x_width);
            let column = (ox * S + kx) as isize - args.left as isize;
            let tap = V::splat(*plane.taps.add(i));
            for (n, sum) in sums.iter_mut().enumerate() {
                let column = column + (n * V::LANES * S) as isize;
                let mut v = load(row, column);
                if S == 2 {
                    (v, _) = v.deinterleave(load(row, column + V::LANES as isize));
                }
                *sum = tap.mul_add(v, *sum);
            }
        }
        let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        for (n, sum) in sums.into_iter().enumerate() {
            let sum = sum.clamp(lo, hi);
            let sum = if S == 1 { sum } else { sum.settle() };
            if args.y_width >= V::LANES {
                sum.store(plane.y.add(ox + n * V::LANES));
            } else {
                sum.store_part(plane.y, args.y_width);
            }
        }
    }
}

/// The entry points of a target: the loops with its instruction set enabled.
macro_rules! entries {
    ($vector:ty, $($feature:literal)?) => {
        /// Rows of a kernel whose size, stride and taps are constants.
        ///
        /// # Safety
        /// The instruction set is there; `args` keeps the invariants of [`RowsArgs`] for this kernel and stride.
        $(#[target_feature(enable = $feature)])?
        pub(in crate::depthwise) unsafe fn rows<const KH: usize, const KW: usize, const S: usize, const MASK: u32>(args: &RowsArgs) {
            // SAFETY: passed on from the caller.
            unsafe { body::rows::<$vector, KH, KW, S, MASK>(args) }
        }

        /// Rows of any kernel; `S` is the horizontal stride.
        ///
        /// # Safety
        /// The instruction set is there; `args` keeps the invariants of [`RowsArgs`] for this stride.
        $(#[target_feature(enable = $feature)])?
        pub(in crate::depthwise) unsafe fn any<const S: usize>(args: &RowsArgs) {
            // SAFETY: passed on from the caller.
            unsafe { body::any::<$vector, S>(args) }
        }
    };
}
pub(super) use entries;
