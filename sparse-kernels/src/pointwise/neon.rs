//! aarch64 Advanced SIMD: 32 registers of 4 floats.
//!
//! 4 channels by 20 pixels take 20 sums, 5 inputs and 1 register with the four weights of a column, which the
//! multiply-add picks by lane: 26 registers, and 6 that the compiler may use to load ahead. Per 4x4 block
//! that is 80 multiply-adds for 20 loads of pixels and 4 of weights. Single rows and pairs take 32 pixels,
//! 8x1 takes 8.
//!
//! For classes of cores the loop over blocks is in assembly (`crate::neon`), with as many registers as there
//! are.

use super::args::TileArgs;
use super::body::{Along, Loops, Pointwise, accumulate, begin};
use super::panel::TOP_BITS;
use super::scalar::{Scalar, finish, finish_pair, gemv};
use super::single::single_of_quads;
use crate::neon::{Walk, in_order_blocks, in_order_rows, out_of_order};
use crate::table::Element;
use crate::target::Core;
use crate::vector::{F32x4, I8x16, Vector};
use std::arch::aarch64::*;

const LANES: usize = 4;

const ANY: u8 = Core::Any as u8;
const A76: u8 = Core::A76 as u8;

impl<const CORE: u8, const ELEMENT: u8> Pointwise for F32x4<CORE, ELEMENT> {
    const MOST_VECTORS: [usize; 4] = match CORE {
        ANY => [8, 8, 5, 2],
        A76 => [10, 10, 7, 0],
        _ => [8, 7, 5, 0],
    };

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe {
            match <Self as Vector>::ELEMENT {
                Element::F32 => single::<R, C>(args),
                _ if R == 4 => single_pairs::<C>(args),
                _ => <Scalar<ELEMENT> as Loops>::single::<R, C>(args),
            }
        }
    }

    #[inline(always)]
    unsafe fn accumulate<A: Along<Self>, const R: usize, const C: usize, const N: usize>(
        args: &TileArgs,
        row: usize,
        at: &[usize; N],
        along: &mut A,
    ) -> [[Self; N]; R] {
        // SAFETY: passed on from the caller. Every index is a channel of the chunks with C - 1 behind it, each
        // with the pixels of the tile (Input); every block has R * C values, and indices go on behind the
        // last (PackedPointwise).
        unsafe {
            if const { CORE == ANY } {
                return accumulate::<Self, A, R, C, N>(args, row, at, along);
            }
            // Where the first block begins is known many cycles after its index is asked for: ask before the
            // sums begin.
            let (indices, values, blocks) = args.blocks(row, R * C);
            let first = if blocks > 0 { *indices as usize } else { 0 };
            let input = args.input;
            let walk = Walk {
                indices,
                values,
                blocks,
                first: input.x.wrapping_add(first * input.stride),
                x: input.x,
                stride: input.stride * size_of::<f32>(),
                last: at[N - 1] * size_of::<f32>(),
            };
            let mut sums: [[Self; N]; R] = begin(args, row, at);
            if blocks > 0 {
                if const { CORE == A76 } {
                    out_of_order::multiply_add::<CORE, _, R, C, N>(&mut sums, &walk);
                } else if const { C == 1 } {
                    in_order_rows::multiply_add::<R, CORE, _, N>(&mut sums, &walk);
                } else {
                    in_order_blocks::multiply_add::<R, CORE, _, N>(&mut sums, &walk);
                }
            }
            sums
        }
    }
}

/// Blocks of 4 rows by `C` pairs and a single pixel: the four weights of a pair of inputs are one vector, and
/// every other pair has sums of its own.
///
/// # Safety
/// FEAT_BF16 is there; `args` keeps the invariants of [`TileArgs`] for such blocks of pairs; there is one
/// pixel.
#[target_feature(enable = "neon")]
unsafe fn single_pairs<const C: usize>(args: &TileArgs) {
    type Pairs = F32x4<{ Core::Any as u8 }, { Element::Bf16 as u8 }>;
    // SAFETY: every index is a channel of the chunks with C - 1 behind it (TileArgs); a block has 4 * C
    // values (PackedPointwise); the channels are those of a block row.
    unsafe {
        for row in args.weights.rows.clone() {
            let (indices, values, blocks) = args.blocks(row, 4 * C);
            let mut sums = [Pairs::splat(0.0); 2];
            for block in 0..blocks {
                for c in 0..C {
                    let x = args.input.x.wrapping_add((*indices.add(block) as usize + c) * args.input.stride);
                    let sum = &mut sums[(block * C + c) % 2];
                    *sum = Pairs::load(values.add((block * C + c) * 4)).dot(F32x4(vld1q_dup_f32(x)), *sum);
                }
            }
            let mut lanes = [0f32; LANES];
            sums[0].add(sums[1]).store(lanes.as_mut_ptr());
            for (r, sums) in lanes[..args.channels(row, 4)].chunks(2).enumerate() {
                finish_pair(args, row * 4 + 2 * r, sums);
            }
        }
    }
}

/// Quads: with the dot product as many sums as of floats; without it products take two registers more.
///
/// A block is one lane of inputs by the weights of its rows, four bytes each: what a column of weights is to floats. So
/// the loops for a class of cores are those of floats for groups of rows, whose multiply-add is a dot product by lane.
impl<const DOT: bool, const CORE: u8> Pointwise for I8x16<DOT, CORE> {
    const MOST_VECTORS: [usize; 4] = match CORE {
        ANY => [8, 8, 5, 0],
        _ => <Scheduled<CORE> as Pointwise>::MOST_VECTORS,
    };
    const FLIPPED: bool = CORE != ANY;

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { single_of_quads::<I8x16<DOT>, R>(args) }
    }

    #[inline(always)]
    unsafe fn accumulate<A: Along<Self>, const R: usize, const C: usize, const N: usize>(
        args: &TileArgs,
        row: usize,
        at: &[usize; N],
        along: &mut A,
    ) -> [[Self; N]; R] {
        // SAFETY: passed on from the caller; a class of cores is only asked for with the dot product.
        unsafe {
            if const { CORE == ANY } {
                return accumulate::<Self, A, R, C, N>(args, row, at, along);
            }
            const { assert!(DOT || CORE == ANY, "without the dot product there is no loop for a class") };
            // nothing goes along with tiles of NEON
            let sums = <Scheduled<CORE> as Pointwise>::accumulate::<(), R, C, N>(args, row, at, &mut ());
            let mut quads = [[Self::splat(0.0); N]; R];
            for r in 0..R {
                for n in 0..N {
                    quads[r][n] = I8x16(sums[r][n].0);
                }
            }
            quads
        }
    }
}

/// Sums of quads in the loops that are scheduled for a class of cores.
type Scheduled<const CORE: u8> = F32x4<CORE, { Element::Int8 as u8 }>;

/// `R` output channels of a single pixel.
///
/// # Safety
/// NEON is there; `args` keeps the invariants of [`TileArgs`]; there is one pixel.
#[target_feature(enable = "neon")]
unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        // In an image of a single pixel channels are neighbours, and the distance a constant.
        match (R * C, args.input.stride) {
            (16, 1) => fours::<1>(args),
            (16, _) => fours::<0>(args),
            (4 | 8, 1) => columns::<R, 1>(args),
            (4 | 8, _) => columns::<R, 0>(args),
            (_, 1) => gemv::<R, C, 4>(args, 1, f32::mul_add),
            (_, stride) => gemv::<R, C, 4>(args, stride, f32::mul_add),
        }
    }
}

/// 4x4 blocks and a single pixel: the four inputs of a block are one vector, and each of its columns has sums
/// of its own. Two blocks are loaded before they are multiplied: in-order cores wait between one and the
/// other.
///
/// # Safety
/// As [`single`] for 4x4 blocks; `STRIDE` is the `x_stride` of `args`, or 0 for any.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn fours<const STRIDE: usize>(args: &TileArgs) {
    let x_stride = if STRIDE == 0 { args.input.stride } else { STRIDE };
    // SAFETY: every index is a channel of the chunks with three behind it (TileArgs); a block has 16 values
    // (PackedPointwise).
    let load = |index: *const u32, w: *const f32| unsafe {
        let x = args.input.x.wrapping_add(*index as usize * x_stride);
        let x = match x_stride {
            1 => vld1q_f32(x),
            stride => vld1q_f32([*x, *x.add(stride), *x.add(2 * stride), *x.add(3 * stride)].as_ptr()),
        };
        (x, [vld1q_f32(w), vld1q_f32(w.add(4)), vld1q_f32(w.add(8)), vld1q_f32(w.add(12))])
    };
    for row in args.weights.rows.clone() {
        // SAFETY: `row` is a block row.
        let (indices, values, blocks) = unsafe { args.blocks(row, 16) };
        let mut sums = [vdupq_n_f32(0.0); 4];
        let mut add = |(x, w): (float32x4_t, [float32x4_t; 4])| {
            sums[0] = vfmaq_laneq_f32::<0>(sums[0], w[0], x);
            sums[1] = vfmaq_laneq_f32::<1>(sums[1], w[1], x);
            sums[2] = vfmaq_laneq_f32::<2>(sums[2], w[2], x);
            sums[3] = vfmaq_laneq_f32::<3>(sums[3], w[3], x);
        };
        let block = |block: usize| load(indices.wrapping_add(block), values.wrapping_add(16 * block));
        for first in (0..blocks / 2 * 2).step_by(2) {
            let two = [block(first), block(first + 1)];
            two.into_iter().for_each(&mut add);
        }
        if blocks % 2 == 1 {
            add(block(blocks - 1));
        }
        let [a, b, c, d] = sums;
        // SAFETY: `row` is a block row of four rows.
        unsafe { finish_four(args, row * 4, vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) };
    }
}

/// 4 or 8 rows and a single pixel, four columns at a time, loaded before they are multiplied.
///
/// # Safety
/// As [`single`] for blocks of one column; `STRIDE` is the `x_stride` of `args`, or 0 for any.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn columns<const R: usize, const STRIDE: usize>(args: &TileArgs) {
    let x_stride = if STRIDE == 0 { args.input.stride } else { STRIDE };
    const TOGETHER: usize = 4;
    let zero = vdupq_n_f32(0.0);
    for row in args.weights.rows.clone() {
        // SAFETY: `row` is a block row.
        let (indices, values, blocks) = unsafe { args.blocks(row, R) };
        // SAFETY: every index is a channel of the chunks (TileArgs); a block has R values (PackedPointwise).
        let load = |block: usize| unsafe {
            let w = values.add(R * block);
            let w = [vld1q_f32(w), if R == 8 { vld1q_f32(w.add(4)) } else { zero }];
            (vld1q_dup_f32(args.input.x.wrapping_add(*indices.add(block) as usize * x_stride)), w)
        };
        let mut sums = [[zero; 2]; TOGETHER];
        for first in (0..blocks / TOGETHER * TOGETHER).step_by(TOGETHER) {
            let loaded: [_; TOGETHER] = std::array::from_fn(|i| load(first + i));
            for (sums, (x, w)) in sums.iter_mut().zip(loaded) {
                for q in 0..R / 4 {
                    sums[q] = vfmaq_f32(sums[q], w[q], x);
                }
            }
        }
        for block in blocks / TOGETHER * TOGETHER..blocks {
            let (x, w) = load(block);
            for q in 0..R / 4 {
                sums[0][q] = vfmaq_f32(sums[0][q], w[q], x);
            }
        }
        for q in 0..R / 4 {
            let [a, b, c, d] = sums.map(|sums| sums[q]);
            // SAFETY: `row` is a block row of R rows.
            unsafe { finish_four(args, row * R + 4 * q, vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) };
        }
    }
}

/// [`finish`] for four output channels from `channel` on, as far as there are any.
///
/// # Safety
/// `channel` is of a block row of `args`, and `args.pixels` is 1.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn finish_four(args: &TileArgs, channel: usize, sums: float32x4_t) {
    let mut lanes = [0f32; LANES];
    // SAFETY: there is room for four.
    unsafe { vst1q_f32(lanes.as_mut_ptr(), sums) };
    for (channel, sum) in (channel..args.weights.packed.whole_oc).zip(lanes) {
        // SAFETY: an output channel with one pixel.
        unsafe { finish(args, channel, sum) };
    }
}

/// Copies `V` vectors, or `len / LANES` if `V` is 0, of every channel of `columns`, of `c` channels each, to
/// rows at distances of `stride`; the first channel begins at `from`, the others at distances of `plane`.
/// Four neighbouring channels at a time: stops where there are none within `from` or no rows for them, and
/// says how many columns it has copied.
///
/// The loads for four channels come before their stores: an in-order core waits for each load that is stored
/// at once. With `FLIP` the top bits of bytes are flipped between the two.
#[inline]
pub(super) fn copy_fours<const V: usize, const FLIP: bool>(
    to: &mut [f32],
    stride: usize,
    from: &[f32],
    plane: usize,
    columns: &[u32],
    c: usize,
    len: usize,
) -> usize {
    let group = 4 / c;
    let room = (to.len() / stride.max(1) / 4).min(columns.len() / group);
    let vectors = if V == 0 { len / LANES } else { V };
    let (Some(last), true) = (from.len().checked_sub(3 * plane + vectors * LANES), stride >= vectors * LANES)
    else {
        return 0;
    };
    for (i, columns) in columns.chunks_exact(group).take(room).enumerate() {
        let at = columns[0] as usize * c * plane;
        if at > last || (columns[group - 1] - columns[0]) as usize != group - 1 {
            return i * group;
        }
        // SAFETY: the last vector read ends at most at `last + 3 * plane + vectors * LANES`, which is the end
        // of `from`; the last one written is in the row `4 * i + 3` of more than that many rows of at
        // least `vectors * LANES` floats in `to`. The standard library for aarch64 needs NEON.
        unsafe {
            let (to, from) = (to.as_mut_ptr().add(4 * i * stride), from.as_ptr().add(at));
            let top_bits = vdupq_n_u32(TOP_BITS);
            let copied = |x: float32x4_t| match FLIP {
                true => vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), top_bits)),
                false => x,
            };
            for v in (0..vectors / 2).map(|pair| 2 * pair * LANES) {
                let x: [float32x4x2_t; 4] = std::array::from_fn(|i| vld1q_f32_x2(from.add(i * plane + v)));
                for (i, x) in x.into_iter().enumerate() {
                    vst1q_f32_x2(to.add(i * stride + v), float32x4x2_t(copied(x.0), copied(x.1)));
                }
            }
            if vectors % 2 == 1 {
                let v = (vectors - 1) * LANES;
                let x: [float32x4_t; 4] = std::array::from_fn(|i| vld1q_f32(from.add(i * plane + v)));
                for (i, x) in x.into_iter().enumerate() {
                    vst1q_f32(to.add(i * stride + v), copied(x));
                }
            }
        }
    }
    room * group
}
