//! aarch64 with FEAT_FP16: 32 registers of 8 halves, pixels of one channel ([`super::halves`]).
//!
//! The loops over blocks are those of floats (`crate::neon`), with the same registers: a multiply-add takes
//! eight pixels in place of four in the same time, and picks its weight from half a register. Tiles have
//! twice as many pixels. What is more is around them: sums of [`MOST_PRODUCTS`] products are added up in memory,
//! because registers have no room for them; and two rows of sums become one of lanes when they are stored.

use super::args::TileArgs;
use super::body::Loops;
use super::halves::{blocks, finish};
use crate::neon::{Walk, in_order_blocks, in_order_rows, out_of_order};
use crate::pairs;
use crate::pairs::f16::MOST_PRODUCTS;
use crate::table::Element;
use crate::target::Core;
use crate::vector::{F32x4, Vector};
use std::arch::aarch64::*;
use std::arch::asm;

pub(super) const LANES: usize = 8;

/// Eight pixels of a channel, for the class of cores with the number `CORE` of [`Core`].
pub(crate) struct Halves<const CORE: u8>;

type Half<const CORE: u8> = F32x4<CORE, { Element::F16 as u8 }>;

const fn in_order(core: u8) -> bool {
    core == Core::A55 as u8
}

impl<const CORE: u8> Loops for Halves<CORE> {
    const LANES: usize = LANES;
    const ELEMENT: Element = Element::F16;
    const MOST_VECTORS: [usize; 4] = if in_order(CORE) { [7, 7, 5, 0] } else { [10, 10, 7, 0] };

    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        macro_rules! vectors {
            ($($n:literal)*) => {
                match args.pixels.div_ceil(LANES) {
                    // SAFETY: passed on from the caller; the number of vectors is that of the pixels.
                    $($n if const { $n * LANES <= PIXELS } => unsafe { rows::<CORE, R, C, $n>(args) },)*
                    vectors => unreachable!("a tile of {vectors} vectors"),
                }
            };
        }
        vectors!(1 2 3 4 5 6 7 8 9 10);
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { single::<R, C>(args) }
    }
}

/// One block row after the other, or two of them where a block has one row.
///
/// # Safety
/// As [`Loops::tile`]; `N` is the number of vectors of the pixels.
#[target_feature(enable = "neon")]
unsafe fn rows<const CORE: u8, const R: usize, const C: usize, const N: usize>(args: &TileArgs) {
    let mut at = [0; N];
    for (n, at) in at.iter_mut().enumerate() {
        *at = n * LANES;
    }
    at[N - 1] = args.pixels - LANES;
    let together = const { 2usize.div_ceil(R) };
    // SAFETY: NEON is there.
    let bounds = unsafe { pairs::bounds::<Half<CORE>>(&args.clamps) };
    for row in args.weights.rows.clone().step_by(together) {
        // SAFETY: block rows; the last vector ends at the last pixel.
        unsafe {
            let first = sums::<CORE, R, C, N>(args, row, &at);
            if const { R == 1 } {
                let mut second = [[Half::<CORE>::splat(0.0); N]; R];
                if row + 1 < args.weights.rows.end {
                    second = sums::<CORE, R, C, N>(args, row + 1, &at);
                }
                store(args, row, &at, [&first[0], &second[0]], &bounds);
            } else {
                for r in (0..R).step_by(2) {
                    store(args, row * R + r, &at, [&first[r], &first[r + 1]], &bounds);
                }
            }
        }
    }
}

/// The sums of a block row, rounded; if the last chunk is not among those of the call, they are left where
/// sums wait.
///
/// # Safety
/// As [`rows`], for one of the block rows.
#[inline(always)]
unsafe fn sums<const CORE: u8, const R: usize, const C: usize, const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
) -> [[Half<CORE>; N]; R] {
    let weights = &args.weights;
    // SAFETY: there is a bias for each of R rows; of every piece of a row the walk has blocks, whose indices
    // are channels of the chunks with C - 1 behind them, each with the pixels of the tile, and which have R *
    // C values (PackedPointwise).
    unsafe {
        let (indices, values, all) = blocks(args, row, R * C);
        let most = const { MOST_PRODUCTS / C };
        let mut sums = [[Half::<CORE>::splat(0.0); N]; R];
        if weights.first {
            for r in 0..R {
                sums[r] = [Half::<CORE>::splat(args.bias(row * R + r)); N];
            }
        }
        let piece = |begin: usize, sums: &mut [[Half<CORE>; N]; R]| {
            let here = most.min(all - begin);
            multiply_add::<CORE, R, C, N>(
                args,
                sums,
                at,
                indices.add(begin),
                values.add(begin * R * C),
                here,
            );
            begin + here
        };
        let mut begin = piece(0, &mut sums);
        while begin < all {
            let mut next = [[Half::<CORE>::splat(0.0); N]; R];
            begin = piece(begin, &mut next);
            for (sum, next) in sums.as_flattened_mut().iter_mut().zip(next.as_flattened()) {
                *sum = sum.add(*next);
            }
        }
        if weights.first && weights.last {
            return sums;
        }
        let mut totals = sums.map(|row| row.map(|sum| widen(sum.0)));
        if !weights.first {
            waiting(args, row, at, |r, n, p| {
                let [low, high] = totals[r][n];
                totals[r][n] = [vaddq_f32(low, vld1q_f32(p)), vaddq_f32(high, vld1q_f32(p.add(LANES / 2)))];
            });
        }
        if !weights.last {
            waiting(args, row, at, |r, n, p| {
                vst1q_f32(p, totals[r][n][0]);
                vst1q_f32(p.add(LANES / 2), totals[r][n][1]);
            });
            return sums;
        }
        for (sums, totals) in sums.as_flattened_mut().iter_mut().zip(totals.as_flattened()) {
            *sums = F32x4(narrow(*totals));
        }
        sums
    }
}

/// Calls `visit` with a row, a vector and where its sums wait, for all rows that exist.
///
/// # Safety
/// As [`sums`]; there are chunks in other calls.
#[inline(always)]
unsafe fn waiting<const N: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; N],
    mut visit: impl FnMut(usize, usize, *mut f32),
) {
    let r = args.weights.packed.kernel().format().r();
    for i in 0..args.channels(row, r) {
        let sums = args.sums.at.wrapping_add((row * r + i) * args.sums.stride);
        for (n, at) in at.iter().enumerate() {
            visit(i, n, sums.wrapping_add(*at));
        }
    }
}

/// Adds some blocks to `sums`.
///
/// # Safety
/// As [`sums`]; these are neighbouring blocks of the row.
#[inline(always)]
unsafe fn multiply_add<const CORE: u8, const R: usize, const C: usize, const N: usize>(
    args: &TileArgs,
    sums: &mut [[Half<CORE>; N]; R],
    at: &[usize; N],
    indices: *const u32,
    values: *const u16,
    blocks: usize,
) {
    if blocks == 0 {
        return;
    }
    // SAFETY: passed on from the caller; indices go on behind the last (PackedPointwise).
    unsafe {
        let x = args.input.x;
        let stride = args.input.stride * size_of::<u16>();
        let walk = Walk {
            indices,
            values: values.cast(),
            blocks,
            first: x.wrapping_byte_add(*indices as usize * stride),
            x,
            stride,
            last: at[N - 1] * size_of::<u16>(),
        };
        if const { !in_order(CORE) } {
            out_of_order::multiply_add::<CORE, _, R, C, N>(sums, &walk);
        } else if const { C == 1 } {
            in_order_rows::multiply_add::<R, CORE, _, N>(sums, &walk);
        } else {
            in_order_blocks::multiply_add::<R, CORE, _, N>(sums, &walk);
        }
    }
}

/// Epilogue and store of two output channels, of which the second may not exist.
///
/// # Safety
/// As [`rows`], for a channel of an even number; the second one is zero if it does not exist.
#[inline(always)]
unsafe fn store<const CORE: u8, const N: usize>(
    args: &TileArgs,
    channel: usize,
    at: &[usize; N],
    sums: [&[Half<CORE>; N]; 2],
    bounds: &[Half<CORE>; 4],
) {
    let channels = args.weights.packed.oc().saturating_sub(channel);
    if !args.weights.last || channels == 0 {
        return;
    }
    let line = channel / 2 * args.output.stride;
    let (y, residual) = (args.output.y.wrapping_add(line), args.output.residual.wrapping_add(line));
    // SAFETY: the pixels of the tile are valid in `y`, and in `residual` if there is one, for every pair of
    // output channels (Output).
    unsafe {
        for n in 0..N {
            let residual = args.clamps.residual.then(|| residual.add(at[n]));
            pairs::store_apart([sums[0][n], sums[1][n]], channels > 1, bounds, residual, y.add(at[n]));
        }
    }
}

/// Writes the halves of at least [`LANES`] lanes to a row that is as long or longer: first those of the first
/// channel, and those of the second one in its second half. The last vector may overlap the one before.
pub(super) fn copy_apart(row: &mut [f32], lanes: &[f32]) {
    assert!(lanes.len() >= LANES && row.len() >= lanes.len());
    let (first, from) = (row.as_mut_ptr().cast::<u16>(), lanes.as_ptr().cast::<u16>());
    let last = lanes.len() - LANES;
    let both = |at: usize| {
        // SAFETY: eight lanes from `at` on are inside; the standard library for aarch64 needs NEON.
        unsafe {
            let halves = vld1q_u16_x2(from.add(2 * at));
            [vuzp1q_u16(halves.0, halves.1), vuzp2q_u16(halves.0, halves.1)]
        }
    };
    let store = |at: usize, both: [uint16x8_t; 2]| {
        // SAFETY: the row has as many halves for each channel as it has lanes, of which eight from `at` on
        // are inside.
        unsafe {
            vst1q_u16(first.add(at), both[0]);
            vst1q_u16(first.add(row.len() + at), both[1]);
        }
    };
    // Two vectors are loaded before they are stored: a core that works in order waits for each that is stored
    // at once.
    let mut at = 0;
    while at < last {
        let next = (at + LANES).min(last);
        let two = [both(at), both(next)];
        store(at, two[0]);
        store(next, two[1]);
        at += 2 * LANES;
    }
    if at < lanes.len() {
        store(last, both(last));
    }
}

/// The floats of eight halves.
///
/// # Safety
/// NEON is there.
#[inline(always)]
unsafe fn widen(halves: float32x4_t) -> [float32x4_t; 2] {
    let (low, high);
    // SAFETY: an instruction of registers.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {v:v}.4h",
            "fcvtl2 {high:v}.4s, {v:v}.8h",
            low = out(vreg) low,
            high = lateout(vreg) high,
            v = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [low, high]
}

/// Eight floats, rounded.
///
/// # Safety
/// NEON is there.
#[inline(always)]
unsafe fn narrow([low, high]: [float32x4_t; 2]) -> float32x4_t {
    let halves;
    // SAFETY: an instruction of registers.
    unsafe {
        asm!(
            "fcvtn {v:v}.4h, {low:v}.4s",
            "fcvtn2 {v:v}.8h, {high:v}.4s",
            v = out(vreg) halves,
            low = in(vreg) low,
            high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    halves
}

/// `R` output channels of a single pixel, summed in f32: weights and inputs are loaded once, and memory is
/// what decides. Products are exact there.
///
/// # Safety
/// As [`Loops::single`].
#[target_feature(enable = "neon")]
unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: every index is a channel of the chunks with C - 1 behind it, each of which has a pixel (Input);
    // a block has R * C values (PackedPointwise).
    unsafe {
        let stride = args.input.stride;
        let x = args.input.x.cast::<u16>();
        let float = |half: u16| {
            let half = vreinterpretq_f32_u16(vdupq_n_u16(half));
            vgetq_lane_f32::<0>(widen(half)[0])
        };
        for row in args.weights.rows.clone() {
            let (indices, mut values, blocks) = blocks(args, row, R * C);
            let mut sums = [vdupq_n_f32(0.0); 4];
            let mut few = [0f32; R];
            for block in 0..blocks {
                let channel = *indices.add(block) as usize;
                let place = |c: usize| x.wrapping_add((channel + c) / 2 * 2 * stride + (channel + c) % 2);
                if const { R * C == 16 } {
                    // Two lanes, of which each has two neighbouring channels.
                    let x = [place(0), place(2)].map(|p| vdupq_n_u32(p.cast::<u32>().read_unaligned()));
                    let x = widen(vreinterpretq_f32_u32(vzip1q_u32(x[0], x[1])))[0];
                    let w = [vld1q_f32(values.cast()), vld1q_f32(values.add(8).cast())].map(|w| widen(w));
                    sums[0] = vfmaq_laneq_f32::<0>(sums[0], w[0][0], x);
                    sums[1] = vfmaq_laneq_f32::<1>(sums[1], w[0][1], x);
                    sums[2] = vfmaq_laneq_f32::<2>(sums[2], w[1][0], x);
                    sums[3] = vfmaq_laneq_f32::<3>(sums[3], w[1][1], x);
                } else if const { R == 4 } {
                    let w = vreinterpretq_f32_u16(vcombine_u16(vld1_u16(values), vdup_n_u16(0)));
                    sums[block % 4] = vfmaq_n_f32(sums[block % 4], widen(w)[0], float(*place(0)));
                } else {
                    let x = float(*place(0));
                    for r in 0..R {
                        few[r] = float(*values.add(r)).mul_add(x, few[r]);
                    }
                }
                values = values.add(R * C);
            }
            if const { R == 4 } {
                let sums = vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]));
                vst1q_f32(few.as_mut_ptr(), sums);
            }
            for r in 0..args.channels(row, R) {
                finish(args, row * R + r, few[r]);
            }
        }
    }
}
