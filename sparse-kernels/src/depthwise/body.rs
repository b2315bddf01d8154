//! The loops, written once over [`Vector`]; every machine's file says how it is used here.
//!
//! A tile is one or two vectors of neighbouring pixels wide and walks down the input rows, which it reads
//! where they are: once per tile. An input row meets `KH / S` output rows: as many sums are under way, each
//! one row of taps ahead of the next; the last is complete, is stored, and the others move up. A 3x3 kernel
//! of stride 1 has 3 sums, 9 taps and an input in registers, and 3 loads for 9 multiply-adds. 5x5 has more
//! taps than most registers hold: there a tap is loaded for two vectors of pixels at once.
//!
//! Rows outside of the map are skipped. Only the first and the last tiles of a row reach over its ends: they
//! have a version of the loop of their own, in which the loads that may reach over mask the lanes outside of
//! the row. With stride 2 two loads are taken apart into even and odd columns on the way; sums are put in
//! order when they are complete.
//!
//! Which taps exist and the stride are constants, and the loops over taps are unrolled by a macro: what
//! remains is a straight line of loads and multiply-adds for every pattern.
//!
//! Of pairs of channels a plane holds two, and all of this is done for both at once: lanes are loaded, and taken
//! apart into columns, as floats are, and two vectors of sums become one of lanes when they are stored. Two
//! neighbouring taps of a row are one step: two shuffles group the lanes of their columns by channels, and an
//! instruction multiplies both and adds to the sum. A tap without such a neighbour is one of floats, of which a shift
//! and a mask make two vectors of a column. All rows of 3:9 patterns are such steps; other rows of an odd number
//! of taps have one more. 3x3 with stride 1 has 6 sums, 6 or 12 taps and 4 inputs in registers.

use super::rolled::span;
use super::values::Values;
use super::{Plane, RowsArgs};
use crate::vector::Vector;
use std::hint::black_box;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// How a machine's vectors are used here.
pub(crate) trait Depthwise: Vector {
    /// What their lanes are computed as.
    type Values: Values<Self>;

    /// Registers of neighbouring pixels that a tile has while the taps are held in registers: 1, 2 or 4.
    const SIDE_BY_SIDE: usize = 1;

    /// Taps that a register holds: more than one if a multiply-add can pick one of its lanes.
    const TAPS: usize = 1;

    /// Whether the columns between two vectors are shifted together from these and not loaded, with stride 1
    /// and with stride 2.
    const SHIFTS: [bool; 2] = [false; 2];

    /// Whether input rows are asked for ahead of time.
    const ASKS: bool = false;

    /// Whether tiles that mask no lanes have a version of the loop, and those at one end of a row. Otherwise they are
    /// taken for tiles at both.
    const VERSIONS: [bool; 2] = [true; 2];

    /// Whether small maps of many channels are computed with channels across the lanes, of which there are eight.
    const ACROSS: bool = false;

    /// Whether rows narrower than a vector are left to what computes them one by one, and steps whose rows are all there are
    /// counted ahead: nothing is asked between two of them.
    const COUNTS: bool = false;

    /// For maps of no more columns than half a vector has, if there are shorter ones.
    type Few: Depthwise;

    /// For stride 2.
    type Strided: Depthwise;

    /// `n` taps, one or [`Depthwise::TAPS`] to a register.
    ///
    /// # Safety
    /// The taps are readable at `p`, and fit; they are 0 or at least [`Depthwise::TAPS`].
    #[inline(always)]
    unsafe fn taps(p: *const f32, n: usize) -> [Self::Values; HELD] {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut taps = [Self::Values::of(Self::splat(0.0)); HELD];
            for (i, tap) in taps.iter_mut().enumerate().take(n) {
                *tap = tap_at::<Self>(p, i);
            }
            taps
        }
    }

    /// `v * taps[tap] + c`, of `n` taps.
    ///
    /// # Safety
    /// As [`Vector::on`].
    #[inline(always)]
    unsafe fn mul_add_tap(
        v: Self::Values,
        taps: &[Self::Values; HELD],
        n: usize,
        tap: usize,
        c: Self::Values,
    ) -> Self::Values {
        debug_assert!(tap < n);
        // SAFETY: passed on from the caller.
        unsafe { taps[tap].mul_add(v, c) }
    }

    /// The lanes of `self` from `lanes` on, and behind them as many of `next` as fill a vector; only if
    /// [`Depthwise::SHIFTS`].
    ///
    /// # Safety
    /// As [`Vector::on`]; `lanes` is less than `LANES`.
    unsafe fn shift(self, _next: Self, _lanes: usize) -> Self {
        unreachable!("for vectors that shift")
    }

    /// The vector `floats` behind `row`.
    ///
    /// # Safety
    /// As [`Vector::load`]; both are in the same input row.
    #[inline(always)]
    unsafe fn load_at(row: *const f32, floats: usize) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { Self::load(row.wrapping_add(floats)) }
    }

    /// A vector that begins with the float at `p`; what follows is anything.
    ///
    /// # Safety
    /// As [`Vector::on`]; `p` is readable.
    #[inline(always)]
    unsafe fn load_one(p: *const f32) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { Self::splat(*p) }
    }

    /// The columns of eight vectors; only if [`Depthwise::ACROSS`].
    ///
    /// # Safety
    /// As [`Vector::on`].
    unsafe fn transpose(_rows: [Self; 8]) -> [Self; 8] {
        unreachable!("for vectors of eight channels")
    }

    /// A copy, by a load where that is cheaper than a move.
    #[inline(always)]
    fn again(v: &Self::Values) -> Self::Values {
        *v
    }
}

/// A tap of each of the channels of a lane, the one of step `tap`.
///
/// # Safety
/// As [`Values::splat`], for the tap.
#[inline(always)]
pub(super) unsafe fn tap_at<V: Depthwise>(taps: *const f32, tap: usize) -> V::Values {
    // SAFETY: passed on from the caller.
    unsafe { V::Values::splat(taps.add(tap * V::ELEMENT.per_lane())) }
}

/// Repeats a block for literal values of a constant.
macro_rules! unroll {
    ($name:ident in [$($value:literal)*] $block:block) => {
        $({ const $name: usize = $value; $block })*
    };
}
pub(super) use unroll;

/// Rows by which a tile that walks down asks for its input ahead of time. Planes follow each other, so that
/// the last tiles of one ask for the first rows of the next. (What detects streams in hardware does not see
/// one in a tile.)
pub(super) const AHEAD: usize = 16;

/// Most sums under way: rows of the largest kernel.
pub(super) const SLOTS: usize = 7;

/// Tap rows and columns that unrolled loops ask for: more than there are.
const PLACES: usize = 2 * SLOTS;

/// Lanes of a vector whose masks are not free.
pub(super) const NARROWEST: usize = 4;

/// Most vectors of a row that are loaded for a tile.
const VECTORS: usize = 5;

/// Bytes of a cache line.
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "never written or read")] [u8; 64]);

/// Most registers that hold taps.
pub(super) const HELD: usize = 9;

/// Whether the taps are held in registers. If not, they are loaded for two vectors side by side.
const fn in_registers<V: Depthwise>(kernel_width: usize) -> bool {
    (kernel_width * kernel_width).div_ceil(V::TAPS) <= HELD
}

/// Registers of neighbouring pixels of a tile: 1, 2 or 4. More sums and inputs leave room for no more than
/// two.
const fn side_by_side<V: Depthwise>(kernel_width: usize, stride: usize) -> usize {
    if kernel_width > 3 || V::SIDE_BY_SIDE == 4 && stride > 1 { 2 } else { V::SIDE_BY_SIDE }
}

/// One tile after the other along `args.rows` output rows.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`] for a kernel of `KH` x
/// `KW` taps of which `MASK` are stored, and a horizontal stride of `S`; with more than one row the vertical
/// stride is `S`, too.
#[inline(always)]
pub(super) unsafe fn walk_rows<
    V: Depthwise,
    U: Unroll,
    const KH: usize,
    const KW: usize,
    const S: usize,
    const MASK: u32,
>(
    args: &RowsArgs,
) {
    // Where there are not registers enough taps are spilled, to a frame that the compiler aligns to 16 bytes,
    // and every other of longer vectors would lie across two lines. A variable that is aligned to a line
    // aligns the frame.
    let mut frame = MaybeUninit::<Line>::uninit();
    if const { align_of::<V>() > 16 } {
        black_box(frame.as_mut_ptr());
    }
    let last = args.y_width.saturating_sub(V::LANES);
    for plane in 0..args.planes {
        let plane = args.plane(plane);
        let held = if in_registers::<V>(KW) { Steps::<V, KH, KW, MASK>::COUNT } else { 0 };
        // SAFETY: a plane has a value per stored tap.
        let taps = unsafe { V::taps(plane.taps, held) };
        let mut ox = 0;
        while ox < args.y_width {
            // SAFETY: the vectors from column `ox` on are inside the output row, or there is one and the row
            // is narrower.
            ox = unsafe {
                let left = args.y_width - ox;
                let wide = const { side_by_side::<V>(KW, S) };
                if wide == 4 && left >= 4 * V::LANES {
                    tile::<V, U, KH, KW, S, MASK, 4>(args, plane, &taps, ox);
                    ox + 4 * V::LANES
                } else if wide >= 2 && left > V::LANES && args.y_width >= 2 * V::LANES {
                    tile::<V, U, KH, KW, S, MASK, 2>(args, plane, &taps, ox.min(args.y_width - 2 * V::LANES));
                    ox + 2 * V::LANES
                } else {
                    // The last tile overlaps the one before it rather than being cut.
                    tile::<V, U, KH, KW, S, MASK, 1>(args, plane, &taps, ox.min(last));
                    ox + V::LANES
                }
            };
        }
    }
}

/// `N` vectors of pixels of all rows, by the version of the loop that their place asks for.
///
/// # Safety
/// As [`walk_rows`]; the vectors from output column `ox` on are inside the row, or `ox` is 0, `N` is 1 and the row
/// is narrower.
#[inline(always)]
unsafe fn tile<
    V: Depthwise,
    U: Unroll,
    const KH: usize,
    const KW: usize,
    const S: usize,
    const MASK: u32,
    const N: usize,
>(
    args: &RowsArgs,
    plane: Plane,
    taps: &[V::Values; HELD],
    ox: usize,
) {
    let column = (ox * S) as isize - args.left as isize;
    let outside = |side: u8| {
        (0..loads::<V>(KW, S) * vectors::<V>(S, N)).any(|i| {
            let (load, n) = (i % loads::<V>(KW, S), i / loads::<V>(KW, S));
            let at = column + place::<V>(S, load, n) as isize;
            !masks::<V>(KW, S, N, side, load, n) && (at < 0 || at + V::LANES as isize > args.x_width as isize)
        })
    };
    // SAFETY: passed on from the caller; other versions than that for ALL where what they do not mask is
    // inside. Where masks are not free, all narrower tiles than the widest, which are at the ends most of
    // the time, are taken for tiles there.
    unsafe {
        let narrow = args.x_width < V::LANES || V::COUNTS && args.y_width < V::LANES;
        if const { !V::FREE_MASKS } && (narrow || outside(ENDS)) {
            let (places, stored) = const { places::<KH, KW>(MASK) };
            rarely::<V, S>(args, plane, &places[..stored], ox, N);
        } else if const { V::VERSIONS[0] && (V::FREE_MASKS || N == side_by_side::<V>(KW, S)) }
            && !outside(NONE)
        {
            U::walk::<V, KH, KW, S, MASK, N, NONE>(args, plane, taps, ox, column);
        } else if const { one_sided::<V>(S, N) } && !outside(LEFT) {
            U::walk::<V, KH, KW, S, MASK, N, LEFT>(args, plane, taps, ox, column);
        } else if const { one_sided::<V>(S, N) } && !outside(RIGHT) {
            U::walk::<V, KH, KW, S, MASK, N, RIGHT>(args, plane, taps, ox, column);
        } else if const { V::FREE_MASKS } {
            U::walk::<V, KH, KW, S, MASK, N, ALL>(args, plane, taps, ox, column);
        } else {
            U::walk::<V, KH, KW, S, MASK, N, ENDS>(args, plane, taps, ox, column);
        }
    }
}

/// Which loads of a tile mask lanes: none, those that reach over one or both ends of a row with the usual
/// padding, all.
const NONE: u8 = 0;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const ENDS: u8 = 3;
const ALL: u8 = 4;

/// Whether tiles at one end of a row have versions of their own. If columns are shifted, masks for both are
/// one more.
const fn one_sided<V: Depthwise>(stride: usize, side_by_side: usize) -> bool {
    V::VERSIONS[1] && !shifts::<V>(stride) && (V::FREE_MASKS || side_by_side > 1)
}

/// Whether columns are shifted and not loaded.
const fn shifts<V: Depthwise>(stride: usize) -> bool {
    V::SHIFTS[stride - 1]
}

/// Loads of a row for one vector of sums: one for every column of taps, with stride 2 two for every pair of
/// columns; only those of the first column if the others are shifted.
const fn loads<V: Depthwise>(kernel_width: usize, stride: usize) -> usize {
    if shifts::<V>(stride) { stride } else { kernel_width.next_multiple_of(stride) }
}

/// Vectors of a row that are loaded for `side_by_side` vectors of sums.
const fn vectors<V: Depthwise>(stride: usize, side_by_side: usize) -> usize {
    side_by_side + shifts::<V>(stride) as usize
}

/// Column of a load from that of the first one; `n` counts vectors.
#[inline(always)]
pub(super) fn place<V: Depthwise>(stride: usize, load: usize, n: usize) -> usize {
    (load % stride + n * stride) * V::LANES + load / stride * stride
}

/// Whether a tile with masks for `side` masks a load. At the ends these are the first and the last load; of
/// stride 1, where every column of taps has a load, those for taps left of the middle in the first vector and
/// right of it in the last.
const fn masks<V: Depthwise>(
    kernel_width: usize,
    stride: usize,
    side_by_side: usize,
    side: u8,
    load: usize,
    n: usize,
) -> bool {
    let (first, last) = (n == 0, n + 1 == vectors::<V>(stride, side_by_side));
    let (left, right) = if shifts::<V>(stride) {
        (load == 0, true)
    } else if stride == 1 {
        (load < kernel_width / 2, load > kernel_width / 2)
    } else {
        (load == 0, load + 1 == loads::<V>(kernel_width, stride))
    };
    side == ALL || side & LEFT != 0 && first && left || side & RIGHT != 0 && last && right
}

/// The `[ky, kx]` of the taps of `mask`, and how many there are.
pub(super) const fn places<const KH: usize, const KW: usize>(
    mask: u32,
) -> ([[usize; 2]; SLOTS * SLOTS], usize) {
    let (mut places, mut stored, mut tap) = ([[0; 2]; SLOTS * SLOTS], 0, 0);
    while tap < KH * KW {
        if mask >> tap & 1 == 1 {
            places[stored] = [tap / KW, tap % KW];
            stored += 1;
        }
        tap += 1;
    }
    (places, stored)
}

/// A tile of a map that is very narrow or has a very wide padding: its vectors and rows one by one. One piece
/// of code for all kernels.
///
/// # Safety
/// As [`tile`], for a kernel whose stored taps are at `places`.
#[inline(never)]
pub(super) unsafe fn rarely<V: Depthwise, const S: usize>(
    args: &RowsArgs,
    plane: Plane,
    places: &[[usize; 2]],
    ox: usize,
    n: usize,
) {
    for row in 0..args.rows {
        let plane = Plane { y: plane.y.wrapping_add(row * args.y_width), ..plane };
        for n in 0..n {
            // SAFETY: passed on from the caller.
            unsafe {
                span::<V, S, 1, 1>(args, plane, places, args.first + (row * S) as isize, ox + n * V::LANES)
            };
        }
    }
}

/// A list of [`unroll`] as an array.
macro_rules! listed {
    ([$($value:literal)*]) => {
        [$($value),*]
    };
}

/// How far loops over taps and sums are unrolled. Each step asks constants whether it exists, which takes the compiler
/// longer than all else. So small kernels have loops of their own, which are decided by a type; and the constants are
/// those of types that name what they depend on and nothing else: an inline `const` is evaluated again for all that
/// its function is generic over.
pub(crate) trait Unroll {
    /// Most rows and columns of taps.
    const TAPS: usize;

    /// A tile that reads columns from `column` on.
    ///
    /// # Safety
    /// As [`tile`]; the loads that a tile at the end `SIDE` does not mask are inside the row.
    unsafe fn walk<
        V: Depthwise,
        const KH: usize,
        const KW: usize,
        const S: usize,
        const MASK: u32,
        const N: usize,
        const SIDE: u8,
    >(
        args: &RowsArgs,
        plane: Plane,
        taps: &[V::Values; HELD],
        ox: usize,
        column: isize,
    );
}

/// For kernels of up to 3x3 taps.
pub(crate) struct UpTo3;

/// For kernels of up to 5x5 taps.
pub(crate) struct UpTo5;

/// Writes the loop for kernels of so many `columns` of taps and `slots` of sums, of which all but the first are
/// `moved`, the last one first, and `missing` at the ends of a map. (`$d` is a dollar sign, for the macros inside.)
macro_rules! unrolled {
    ($d:tt $unroll:ident: columns $columns:tt, slots $slots:tt, moved $moved:tt, missing $missing:tt) => {
        impl Unroll for $unroll {
            const TAPS: usize = { let columns: &[usize] = &listed!($columns); columns.len() };

            // The last of the unrolled steps leave sums and a place that nothing reads.
            #[allow(unused_assignments)]
            #[inline(always)]
            unsafe fn walk<
                V: Depthwise,
                const KH: usize,
                const KW: usize,
                const S: usize,
                const MASK: u32,
                const N: usize,
                const SIDE: u8,
            >(
                args: &RowsArgs,
                plane: Plane,
                taps: &[V::Values; HELD],
                ox: usize,
                column: isize,
            ) {
                const { assert!(KH <= Self::TAPS && KW <= Self::TAPS, "a kernel of more taps than are unrolled") }
            // SAFETY: input rows are read only if they are inside the map, and their columns as the caller says or by
            // the lanes of `edges`; output rows 0..args.rows are written, at columns inside the row.
            unsafe {
                let mut edges = [[V::edge(0, 0); VECTORS]; SLOTS + 1];
                let mut i = 0;
                while SIDE != NONE && i < loads::<V>(KW, S) * vectors::<V>(S, N) {
                    let (load, n) = (i % loads::<V>(KW, S), i / loads::<V>(KW, S));
                    if masks::<V>(KW, S, N, SIDE, load, n) {
                        edges[load][n] = V::edge(column + place::<V>(S, load, n) as isize, args.x_width);
                    }
                    i += 1;
                }
                let load = |row: *const f32, load: usize, n: usize| {
                    let at = place::<V>(S, load, n);
                    if masks::<V>(KW, S, N, SIDE, load, n) {
                        V::load_edge(row.wrapping_add(at), edges[load][n])
                    } else if SIDE == NONE {
                        V::load_at(row, at)
                    } else {
                        // what is masked begins outside of the row, and so may the tile
                        V::load(row.wrapping_add(at))
                    }
                };
                // The columns of a step, by its number.
                let multiply = |tap: usize, columns: V::Values, duo: bool, sum: V::Values| {
                    let held = in_registers::<V>(KW);
                    match duo {
                        true => columns.dot(if held { taps[tap] } else { tap_at::<V>(plane.taps, tap) }, sum),
                        false if held => {
                            V::mul_add_tap(columns, taps, Steps::<V, KH, KW, MASK>::COUNT, tap, sum)
                        }
                        false => tap_at::<V>(plane.taps, tap).mul_add(columns, sum),
                    }
                };
                let nothing = V::splat(0.0);
                let bias = V::Values::splat(plane.bias);
                let mut sums = [[bias; N]; SLOTS];
                let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
                let mut iy = args.first;
                let mut row = plane.x.wrapping_offset(args.first * args.x_width as isize + column);
                let mut y = plane.y.add(ox);
                // Where a machine has no other word for it, what the next tile reads of a row is asked for by a load.
                let ahead = (2 * S * V::LANES).min((args.x_width as isize - column - 1).max(0) as usize);
                if const { V::COUNTS } {
                    // as if they could be anywhere: constants from one pointer, and no index into several
                    (row, y) = (black_box(row), black_box(y));
                }
                let last = plane.y.add(args.rows * args.y_width).wrapping_sub(V::LANES);
                // Sums under way. What is chosen by constants is chosen in blocks of constants: the other versions
                // are then never handed to the optimiser, which takes its time.
                let slots = const { under_way(KH, S) };
                // The sums `$from..$to` that are under way take S input rows, which are `$inside` of the map or may not be:
                // tap row `slot * S + D` meets input row D.
                macro_rules! meet {
                    ($d from:expr, $d to:expr, $d inside:literal) => {
                        unroll!(D in [0 1] {
                            if InRange::<D, 0, S>::YES {
                                if Row::<KH, KW, S, MASK, D, { $d from }, { $d to }>::REACHED && ($d inside || (iy as usize) < args.x_height) {
                                    let taken = |column: usize, n: usize| {
                                        let a = load(row, column, n);
                                        let (a, b) = if S == 1 { (a, a) } else { a.deinterleave(load(row, column + 1, n)) };
                                        [a, b]
                                    };
                                    let mut first = [[nothing; 2]; VECTORS];
                                    let mut n = 0;
                                    while shifts::<V>(S) && n < vectors::<V>(S, N) {
                                        first[n] = taken(0, n);
                                        n += 1;
                                    }
                                    unroll!(KX in $columns {
                                        if Column::<KW, S, KX>::BEGINS {
                                            let mut v = [[nothing; 2]; N];
                                            let mut n = 0;
                                            while n < N {
                                                v[n] = if const { V::COUNTS && S == 2 && KW == 3 && KX == 2 && SIDE == NONE } {
                                                    // one column further than the even ones
                                                    let next = V::load_one(row.add(place::<V>(S, 0, n) + S * V::LANES));
                                                    [first[n][0].shift(next, 1); 2]
                                                } else if !shifts::<V>(S) {
                                                    taken(KX, n)
                                                } else if KX == 0 {
                                                    first[n]
                                                } else {
                                                    let ([a, b], [c, d]) = (first[n], first[n + 1]);
                                                    [a.shift(c, KX / S), b.shift(d, KX / S)]
                                                };
                                                if const { V::COUNTS && KX == 0 } {
                                                    first[n] = v[n];
                                                }
                                                n += 1;
                                            }
                                            unroll!(ODD in [0 1] {
                                                let mut duos = [V::Values::of(nothing); N];
                                                if InRange::<ODD, 0, S>::YES && Twos::<V, KH, KW, S, MASK, D, { KX + ODD }, { $d from }, { $d to }>::YES {
                                                    let mut n = 0;
                                                    while n < N {
                                                        let next = if ODD + 1 < S { v[n][1] } else { taken(KX + S, n)[0] };
                                                        duos[n] = V::Values::duo(v[n][ODD], next);
                                                        n += 1;
                                                    }
                                                }
                                                unroll!(SLOT in $slots {
                                                    if InRange::<SLOT, { $d from }, { $d to }>::YES && InRange::<ODD, 0, S>::YES && Step::<V, KH, KW, S, MASK, SLOT, D, { KX + ODD }>::EXISTS {
                                                        let [taken, tap] = Step::<V, KH, KW, S, MASK, SLOT, D, { KX + ODD }>::THIS;
                                                        let mut n = 0;
                                                        while n < N {
                                                            let columns = if taken == 2 { duos[n] } else { V::Values::of(v[n][ODD]) };
                                                            sums[SLOT][n] = multiply(tap, columns, taken == 2, sums[SLOT][n]);
                                                            n += 1;
                                                        }
                                                    }
                                                });
                                            });
                                        }
                                    });
                                }
                                if const { V::COUNTS && S == 2 && SIDE == NONE } && $d inside {
                                    std::ptr::read_volatile(row.add(ahead));
                                }
                                if V::ASKS {
                                    V::prefetch(row.wrapping_add(AHEAD * args.x_width));
                                }
                                iy += 1;
                                row = row.wrapping_add(args.x_width);
                            }
                        });
                    };
                }
                macro_rules! advance {
                    () => {
                        unroll!(SLOT in $moved {
                            if UnderWay::<KH, S, SLOT>::YES {
                                sums[SLOT] = sums[SLOT - 1];
                            }
                        });
                        let mut n = 0;
                        while n < N {
                            sums[0][n] = V::again(&bias);
                            n += 1;
                        }
                    };
                }
                macro_rules! store {
                    () => {
                        let mut n = 0;
                        while n < N {
                            let sum = sums[slots - 1][n].clamp(lo, hi);
                            // What a vector writes behind a narrow row is overwritten by the next one.
                            let part = if N > 1 || V::COUNTS || y <= last { None } else { Some(args.y_width) };
                            sum.store::<S>(y.add(n * V::LANES), part, args.apart);
                            n += 1;
                        }
                        y = y.wrapping_add(args.y_width);
                    };
                }
                // Until the first sum has met all rows of taps but the last ones.
                unroll!(BEGUN in $missing {
                    if UnderWay::<KH, S, BEGUN>::YES {
                        meet!(0, BEGUN, false);
                        advance!();
                    }
                });
                let mut left = args.rows.saturating_sub(slots - 1);
                while left > 0 {
                    if const { V::COUNTS } && iy >= 0 {
                        let steps = left.min(args.x_height.saturating_sub(iy as usize) / S);
                        for _ in 0..steps {
                            meet!(0, SLOTS, true);
                            store!();
                            advance!();
                        }
                        left -= steps;
                        if left == 0 {
                            break;
                        }
                    }
                    // As often as it takes until every sum is back in its register, without a branch between them. Of tiles of
                    // several widths only in the wider ones, of which there are most, and not where both
                    // ends are near: the code is long enough.
                    if const { !V::COUNTS && KW <= 3 && (V::SIDE_BY_SIDE == 1 || N > 1 && (SIDE < ENDS || !one_sided::<V>(S, N))) }
                        && left >= slots
                        && iy >= 0
                        && iy as usize + slots * S <= args.x_height
                    {
                        unroll!(STEP in [0 1 2] {
                            if UnderWay::<KH, S, STEP>::YES {
                                meet!(0, SLOTS, true);
                                store!();
                                advance!();
                            }
                        });
                        left -= slots;
                    } else {
                        meet!(0, SLOTS, false);
                        store!();
                        advance!();
                        left -= 1;
                    }
                }
                // No sum is begun any more.
                unroll!(FROM in $missing {
                    if UnderWay::<KH, S, FROM>::YES && args.rows + FROM >= slots {
                        meet!(FROM, SLOTS, false);
                        store!();
                        advance!();
                    }
                });
            }
            }
        }
    };
}

unrolled!($ UpTo3: columns [0 1 2], slots [0 1 2], moved [2 1], missing [1 2]);
unrolled!($ UpTo5: columns [0 1 2 3 4], slots [0 1 2 3 4], moved [4 3 2 1], missing [1 2 3 4]);

/// Sums under way of one column of output.
pub(super) const fn under_way(kernel_height: usize, stride: usize) -> usize {
    kernel_height.div_ceil(stride)
}

/// Constants of a type that is named after what they depend on.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident<$([$v:ident: $bound:path])? $($c:ident: $type:ty),*> {
        $(const $constant:ident: $of:ty = $value:expr;)*
    })*) => {
        $(
            $(#[$doc])*
            struct $name<$($v,)? $(const $c: $type),*>($(PhantomData<$v>)?);

            impl<$($v: $bound,)? $(const $c: $type),*> $name<$($v,)? $($c),*> {
                $(const $constant: $of = $value;)*
            }
        )*
    };
}

constants! {
    /// Whether `FROM <= N` and `N < TO`.
    InRange<N: usize, FROM: usize, TO: usize> {
        const YES: bool = FROM <= N && N < TO;
    }

    /// Whether there is a sum with the number `N` among those under way.
    UnderWay<KH: usize, S: usize, N: usize> {
        const YES: bool = N < under_way(KH, S);
    }

    /// Whether columns are loaded for tap column `KX`: of stride 2, for pairs of them.
    Column<KW: usize, S: usize, KX: usize> {
        const BEGINS: bool = KX < KW && KX.is_multiple_of(S);
    }

    /// Whether any sum of `FROM..TO` has a stored tap on row `D` of the `S` input rows it meets.
    Row<KH: usize, KW: usize, S: usize, MASK: u32, D: usize, FROM: usize, TO: usize> {
        const REACHED: bool = {
            let (mut slot, mut reached) = (FROM, false);
            while slot < TO {
                let ky = slot * S + D;
                reached |= ky < KH && (MASK >> (ky * KW)) & ((1 << KW) - 1) != 0;
                slot += 1;
            }
            reached
        };
    }

    /// The step of the sum `SLOT` that begins at tap column `KX`, on row `D` of the `S` input rows it meets: its taps, and
    /// its number.
    Step<[V: Depthwise] KH: usize, KW: usize, S: usize, MASK: u32, SLOT: usize, D: usize, KX: usize> {
        const THIS: [usize; 2] = Steps::<V, KH, KW, MASK>::ALL.0[SLOT * S + D][KX];
        const EXISTS: bool = Self::THIS[0] > 0;
    }

    /// Whether a step of any sum of `FROM..TO` takes column `KX` and its neighbour on row `D` of the `S` input rows it
    /// meets.
    Twos<[V: Depthwise] KH: usize, KW: usize, S: usize, MASK: u32, D: usize, KX: usize, FROM: usize, TO: usize> {
        const YES: bool = {
            let (mut slot, mut yes) = (FROM, false);
            while slot < TO && slot * S + D < PLACES {
                yes |= Steps::<V, KH, KW, MASK>::ALL.0[slot * S + D][KX][0] == 2;
                slot += 1;
            }
            yes
        };
    }
}

/// How many taps a step takes that begins at column `kx` of a row that stores the taps of `row`; none if no step
/// begins there. If there are `duos`, a tap and its stored neighbour to the right are one step.
pub(super) const fn step_of_row(row: u32, kx: usize, duos: bool) -> usize {
    let mut column = 0;
    while column < kx {
        column += if duos && row >> column & 0b11 == 0b11 { 2 } else { 1 };
    }
    if column > kx || row >> kx & 1 == 0 {
        0
    } else if duos && row >> kx & 0b11 == 0b11 {
        2
    } else {
        1
    }
}

/// The steps of a kernel.
struct Steps<V, const KH: usize, const KW: usize, const MASK: u32>(PhantomData<V>);

impl<V: Depthwise, const KH: usize, const KW: usize, const MASK: u32> Steps<V, KH, KW, MASK> {
    /// How many taps a step takes that begins at a tap, none if there is no such step; and how many steps begin
    /// before, in the order of the taps. Computed once, because constants of unrolled loops ask for them often.
    const ALL: ([[[usize; 2]; PLACES]; PLACES], usize) = {
        let (mut all, mut steps, mut tap) = ([[[0; 2]; PLACES]; PLACES], 0, 0);
        while tap < KH * KW {
            let (ky, kx) = (tap / KW, tap % KW);
            let taken = step_of_row((MASK >> (ky * KW)) & ((1 << KW) - 1), kx, V::Values::DUOS);
            all[ky][kx] = [taken, steps];
            steps += (taken > 0) as usize;
            tap += 1;
        }
        (all, steps)
    };

    const COUNT: usize = Self::ALL.1;
}
