//! The loops, written once over a vector type; every target's file gives the vector and the entry points.
//!
//! A tile is `R` output rows by one vector of neighbouring pixels: `R` sums. The columns of taps are walked one after
//! the other; for each, the input rows from top to bottom. A loaded vector of inputs is used by every output row that
//! it reaches (up to `KH` of them), so that 8 rows of a 3x3 kernel load 30 vectors for 72 multiply-adds. The sums
//! are independent: 8 of them cover the latency of two multiply-adds a cycle. Live at a time are `R` sums, one
//! input and the taps of one column (5x5: 8 + 1 + 5 registers).
//!
//! Which taps exist, the stride and the number of rows are constants, and the loops over columns and rows are unrolled
//! by a macro: what remains is a straight line of loads and multiply-adds for every pattern.

use super::{CopyArgs, Plane, RowsArgs};

/// One register of neighbouring pixels. Implementations are inlined into functions that enable their instruction set.
pub(super) trait Vector: Copy {
    /// Floats in a register.
    const LANES: usize;

    /// # Safety
    /// The instruction set is there; so for every function of this trait.
    unsafe fn splat(v: f32) -> Self;

    /// # Safety
    /// `p` is readable for `LANES` floats.
    unsafe fn load(p: *const f32) -> Self;

    /// The first `n` floats, zeros behind them.
    ///
    /// # Safety
    /// `p` is readable for `n` floats, `0 < n < LANES`.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;

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

    /// The floats of even and of odd position of `self` followed by `b`.
    ///
    /// # Safety
    /// As [`Vector::splat`].
    unsafe fn deinterleave(self, b: Self) -> (Self, Self);
}

/// Repeats a block for literal values of a constant.
macro_rules! unroll {
    ($name:ident in [$($value:literal)*] $block:block) => {
        $({ const $name: usize = $value; $block })*
    };
}

/// One tile after the other along `R` output rows.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`] for a kernel of `KH` x `KW` taps of
/// which `MASK` are stored, a horizontal stride of `S`, and `R` rows; with more than one row the
/// vertical stride is `S`, too.
#[inline(always)]
pub(super) unsafe fn rows<
    V: Vector,
    const KH: usize,
    const KW: usize,
    const S: usize,
    const MASK: u32,
    const R: usize,
>(
    args: &RowsArgs,
) {
    for plane in 0..args.planes {
        // SAFETY: every plane keeps the invariants of `RowsArgs`.
        unsafe { plane_rows::<V, KH, KW, S, MASK, R>(args, args.plane(plane)) }
    }
}

/// One plane of [`rows`].
///
/// # Safety
/// As [`rows`]; `plane` is one of its planes.
#[inline(always)]
unsafe fn plane_rows<
    V: Vector,
    const KH: usize,
    const KW: usize,
    const S: usize,
    const MASK: u32,
    const R: usize,
>(
    args: &RowsArgs,
    plane: Plane,
) {
    let last = args.width.saturating_sub(V::LANES);
    let mut ox = 0;
    loop {
        // SAFETY: a tile reads V::LANES columns from `ox <= last` on and the KW - 1 behind them in each phase, all inside
        // the rows of `RowsArgs`, and R * S + KH - S rows.
        unsafe {
            let bias = V::splat(*plane.bias);
            let mut sums = [bias; R];
            unroll!(KX in [0 1 2 3 4] {
                if KX < KW && MASK & column(KH, KW, KX) != 0 {
                    let mut taps = [bias; KH];
                    for (ky, tap) in taps.iter_mut().enumerate() {
                        let bit = ky * KW + KX;
                        if MASK >> bit & 1 == 1 {
                            *tap = V::splat(*plane.taps.add((MASK & ((1 << bit) - 1)).count_ones() as usize));
                        }
                    }
                    let x = plane.x.add(ox + KX / S).add(if KX.is_multiple_of(S) { 0 } else { args.phase });
                    unroll!(IY in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18] {
                        if reached(KH, KW, S, MASK, R, KX, IY) {
                            let v = V::load(x.add(IY * args.x_row));
                            for ky in 0..KH {
                                if MASK >> (ky * KW + KX) & 1 == 1 && meets(S, R, ky, IY) {
                                    let r = (IY - ky) / S;
                                    sums[r] = taps[ky].mul_add(v, sums[r]);
                                }
                            }
                        }
                    });
                }
            });
            let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
            if args.width >= V::LANES {
                for (r, sum) in sums.iter().enumerate() {
                    sum.clamp(lo, hi).store(plane.y.add(r * args.y_row + ox));
                }
            } else {
                for (r, sum) in sums.iter().enumerate() {
                    sum.clamp(lo, hi).store_part(plane.y.add(r * args.y_row), args.width);
                }
            }
        }
        if ox >= last {
            break;
        }
        // The last tile overlaps the one before it rather than being cut.
        ox = (ox + V::LANES).min(last);
    }
}

/// Bits of the taps of column `kx`.
const fn column(kh: usize, kw: usize, kx: usize) -> u32 {
    let (mut mask, mut ky) = (0, 0);
    while ky < kh {
        mask |= 1 << (ky * kw + kx);
        ky += 1;
    }
    mask
}

/// Whether tap row `ky` of one of `rows` output rows falls on input row `iy`.
#[inline(always)]
const fn meets(stride: usize, rows: usize, ky: usize, iy: usize) -> bool {
    match iy.checked_sub(ky) {
        Some(distance) => distance.is_multiple_of(stride) && distance / stride < rows,
        None => false,
    }
}

/// Whether any of `rows` output rows has a stored tap of column `kx` on input row `iy`.
const fn reached(kh: usize, kw: usize, stride: usize, mask: u32, rows: usize, kx: usize, iy: usize) -> bool {
    let mut ky = 0;
    while ky < kh {
        if mask >> (ky * kw + kx) & 1 == 1 && meets(stride, rows, ky, iy) {
            return true;
        }
        ky += 1;
    }
    false
}

/// Any kernel: taps are a list of offsets. One output row at a time, four vectors of sums where the row is long enough.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`].
#[inline(always)]
pub(super) unsafe fn any<V: Vector>(args: &RowsArgs) {
    let last = args.width.saturating_sub(V::LANES);
    for plane in 0..args.planes {
        let mut plane = args.plane(plane);
        for _ in 0..args.rows {
            let mut ox = 0;
            while ox < args.width {
                // SAFETY: the vectors from column `ox` on are inside the row, or there is one vector and the row is
                // narrower than it, for which `RowsArgs` gives room in the input.
                ox = unsafe {
                    if ox + 4 * V::LANES <= args.width {
                        span::<V, 4>(args, &plane, ox);
                        ox + 4 * V::LANES
                    } else {
                        span::<V, 1>(args, &plane, ox.min(last));
                        ox + V::LANES
                    }
                };
            }
            plane.x = plane.x.wrapping_add(args.step);
            plane.y = plane.y.wrapping_add(args.y_row);
        }
    }
}

/// `N` vectors of one output row.
///
/// # Safety
/// As [`any`]; the vectors from column `ox` on are inside the row.
#[inline(always)]
unsafe fn span<V: Vector, const N: usize>(args: &RowsArgs, plane: &Plane, ox: usize) {
    // SAFETY: every offset leads to a tap of column `ox`, with the other columns of the row behind it (RowsArgs).
    unsafe {
        let mut sums = [V::splat(*plane.bias); N];
        for (tap, offset) in args.offsets.iter().enumerate() {
            let tap = V::splat(*plane.taps.add(tap));
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = tap.mul_add(V::load(plane.x.add(offset + ox + i * V::LANES)), *sum);
            }
        }
        let (lo, hi) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        for (i, sum) in sums.iter().enumerate() {
            let v = sum.clamp(lo, hi);
            if args.width >= V::LANES {
                v.store(plane.y.add(ox + i * V::LANES));
            } else {
                v.store_part(plane.y, args.width);
            }
        }
    }
}

/// Copies rows of a plane: to one place (stride 1), or even and odd columns to two (stride 2). Vectors are stored whole:
/// behind the last column zeros follow.
///
/// # Safety
/// The instruction set of `V` is there; `args` keeps the invariants of [`CopyArgs`].
#[inline(always)]
pub(super) unsafe fn copy<V: Vector, const S: usize>(args: &CopyArgs) {
    let tail = args.width % (S * V::LANES);
    let whole = args.width - tail;
    for plane in 0..args.planes {
        let mut x = args.x.wrapping_add(plane * args.x_plane);
        let [mut even, mut odd] = args.to.map(|to| to.wrapping_add(plane * args.to_plane));
        for _ in 0..args.rows {
            let mut i = 0;
            // SAFETY: rows are where `CopyArgs` says; every load stays inside `width` floats, and the stores of whole
            // vectors stay inside the room behind the last column.
            unsafe {
                while i < whole {
                    let a = V::load(x.add(i));
                    if S == 1 {
                        a.store(even.add(i));
                    } else {
                        let (a, b) = a.deinterleave(V::load(x.add(i + V::LANES)));
                        a.store(even.add(i / 2));
                        b.store(odd.add(i / 2));
                    }
                    i += S * V::LANES;
                }
                if tail > 0 {
                    let a = part::<V>(x.add(i), tail);
                    if S == 1 {
                        a.store(even.add(i));
                    } else {
                        let b = match tail > V::LANES {
                            true => V::load_part(x.add(i + V::LANES), tail - V::LANES),
                            false => V::splat(0.0),
                        };
                        let (a, b) = a.deinterleave(b);
                        a.store(even.add(i / 2));
                        b.store(odd.add(i / 2));
                    }
                }
            }
            x = x.wrapping_add(args.width);
            [even, odd] = [even, odd].map(|to| to.wrapping_add(args.to_row));
        }
    }
}

/// `left` floats, at most a vector.
///
/// # Safety
/// `p` is readable for `left > 0` floats.
#[inline(always)]
unsafe fn part<V: Vector>(p: *const f32, left: usize) -> V {
    // SAFETY: passed on from the caller.
    unsafe { if left >= V::LANES { V::load(p) } else { V::load_part(p, left) } }
}

/// The entry points of a target: the loops with its instruction set enabled, and the choice of the number of rows.
macro_rules! entries {
    ($vector:ty, $($feature:literal)?) => {
        /// Up to [`MAX_ROWS`](crate::depthwise::MAX_ROWS) rows of a kernel whose size, stride and taps are constants.
        ///
        /// # Safety
        /// The instruction set is there; `args` keeps the invariants of [`RowsArgs`] for this kernel and stride.
        pub(in crate::depthwise) unsafe fn rows<const KH: usize, const KW: usize, const S: usize, const MASK: u32>(args: &RowsArgs) {
            $(#[target_feature(enable = $feature)])?
            unsafe fn rows<
                const KH: usize,
                const KW: usize,
                const S: usize,
                const MASK: u32,
                const R: usize,
            >(
                args: &RowsArgs,
            ) {
                // SAFETY: passed on from the caller, with R = `args.rows`.
                unsafe { body::rows::<$vector, KH, KW, S, MASK, R>(args) }
            }
            // SAFETY: passed on from the caller; `rows` is one of `ROWS`.
            unsafe {
                match args.rows {
                    8 => rows::<KH, KW, S, MASK, 8>(args),
                    7 => rows::<KH, KW, S, MASK, 7>(args),
                    4 => rows::<KH, KW, S, MASK, 4>(args),
                    2 => rows::<KH, KW, S, MASK, 2>(args),
                    _ => rows::<KH, KW, S, MASK, 1>(args),
                }
            }
        }

        /// Rows of any kernel.
        ///
        /// # Safety
        /// The instruction set is there; `args` keeps the invariants of [`RowsArgs`].
        $(#[target_feature(enable = $feature)])?
        pub(in crate::depthwise) unsafe fn any(args: &RowsArgs) {
            // SAFETY: passed on from the caller.
            unsafe { body::any::<$vector>(args) }
        }

        /// Rows of a plane into the buffer; `S` is the horizontal stride.
        ///
        /// # Safety
        /// The instruction set is there; `args` keeps the invariants of [`CopyArgs`].
        $(#[target_feature(enable = $feature)])?
        pub(in crate::depthwise) unsafe fn copy<const S: usize>(args: &CopyArgs) {
            // SAFETY: passed on from the caller.
            unsafe { body::copy::<$vector, S>(args) }
        }
    };
}
pub(super) use entries;
