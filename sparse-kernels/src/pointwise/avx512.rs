//! AVX-512F: 32 registers of 16 floats.
//!
//! The loop of the AVX2 kernels with twice the registers: 4 channels by 96 pixels take 24 sums, 6 inputs and
//! 1 weight. Per input channel that is 24 multiply-adds for 6 loads and 4 broadcasts, so a core with two
//! multiply-adds a cycle is not short of loads, and one with a single one (Zen 4) gains the registers: fewer
//! passes over the weights. Pairs of rows take 6 vectors.
//!
//! Single rows take 8 vectors and use every input once: each multiply-add is a load too, and on Zen 4, which
//! loads one such vector a cycle, these loads are the limit: about 0.82 of the peak with a panel in the
//! first-level cache, half from the second. So weights are loaded four at a time and broadcast from a
//! register, every vector of the panel is aligned, and up to 8 pixels beyond the last whole vector take half
//! a vector, which is half a load.
//!
//! Sums that wait for the next chunk do so in a buffer of their own with aligned rows.
//!
//! Few pixels beyond the last whole vector are taken along by the last tile of four channels, or summed one by
//! one: a 7x7 map is one tile of 48 pixels and one pixel.

use super::args::{TileArgs, extra_slots};
use super::avx2;
use super::body::{self, Along, Loops, Pointwise, ask_for_next};
use super::scalar::{Scalar, finish, finish_pair, finish_quad, gemv};
use crate::table::Element;
use crate::vector::{F32x16, Vector};
use crate::work::Work;
use std::arch::x86_64::*;

const LANES: usize = 16;

impl<const ELEMENT: u8> Pointwise for F32x16<ELEMENT> {
    const MOST_VECTORS: [usize; 4] = [8, 8, 6, 3];

    /// Four sums of pairs or quads, which wait longer for each other than floats.
    const TWO_SETS: usize = if ELEMENT == Element::F32 as u8 { 0 } else { 4 };

    /// What a core works off while the third level answers.
    const AHEAD: Option<usize> = Some((3 << 10) / size_of::<f32>());

    /// Single rows have a loop of their own. Up to 5 vectors of four channels take some pixels beyond them along.
    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        const WITH_EXTRA: usize = 5 * LANES;
        // SAFETY: passed on from the caller.
        unsafe {
            if R * C == 1 && ELEMENT == Element::F32 as u8 {
                return single_row_tile(args);
            }
            match extra_slots(args.extra) {
                1 if const { R == 4 } => {
                    body::tile::<Self, Extra<1, ELEMENT>, R, C, WITH_EXTRA>(args);
                }
                4 if const { R == 4 } => {
                    body::tile::<Self, Extra<4, ELEMENT>, R, C, WITH_EXTRA>(args);
                }
                0 => body::tile::<Self, (), R, C, PIXELS>(args),
                extra => unreachable!("{extra} pixels beyond a tile of {R} rows"),
            }
        }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { Self::on(Single::<ELEMENT, R, C>(args)) }
    }
}

/// `R` output channels of a single pixel.
///
/// Here every weight is used once, so loads are the limit: weights are read a whole vector at a time. A 4x4
/// block is one vector, times its four inputs, each in four lanes, or half a vector of pairs; of rows, 16 blocks
/// are `R` vectors, times 16 inputs that one instruction gathers, or that are neighbours.
///
/// Safety: made only where the instruction set of the element is there and the arguments keep the invariants of
/// [`TileArgs`] for blocks of `R` by `C` lanes; there is one pixel.
struct Single<'a, const ELEMENT: u8, const R: usize, const C: usize>(&'a TileArgs<'a>);

impl<const ELEMENT: u8, const R: usize, const C: usize> Work for Single<'_, ELEMENT, R, C> {
    #[inline(always)]
    fn run(self) {
        let args = self.0;
        // SAFETY: as this type says.
        unsafe {
            match (<F32x16<ELEMENT> as Vector>::ELEMENT, R, C, args.input.stride) {
                // Miri does not know gathers and permutations of 512 bits.
                (Element::F32, ..) if cfg!(miri) => avx2::single::<R, C>(args),
                (Element::F32, 4, 4, 1) => single_blocks::<ELEMENT, false>(args),
                (Element::F32, 4, 4, _) => single_blocks::<ELEMENT, true>(args),
                (Element::Bf16, 4, 2, 1) if !cfg!(miri) => single_blocks::<ELEMENT, false>(args),
                (Element::Bf16, 4, 2, _) if !cfg!(miri) => single_blocks::<ELEMENT, true>(args),
                (_, _, 1, 1) if args.gathers() && !cfg!(miri) => single_rows::<ELEMENT, R, false>(args),
                (_, _, 1, _) if args.gathers() && !cfg!(miri) => single_rows::<ELEMENT, R, true>(args),
                (Element::F32, ..) => gemv::<R, C, 2>(args, args.input.stride, f32::mul_add),
                _ => <Scalar<ELEMENT> as Loops>::single::<R, C>(args),
            }
        }
    }
}

/// Vectors of sums of a block row of a single pixel: they hide the latency of adding. Weights come from the second
/// level, which gives less than a vector in two cycles, and pairs wait longer for their sums.
const fn sets(element: Element) -> usize {
    match element {
        Element::F32 => 2,
        _ => 4,
    }
}

// What follows is compiled without the instructions where it is not inlined: no closures.

/// The inputs of one block, or of one or two of pairs, `args.input.stride` lanes apart if `STRIDED`, else neighbours:
/// zeros in place of those of a second block that is not there.
///
/// # Safety
/// As [`single_blocks`]; `blocks` indices are there.
#[inline(always)]
unsafe fn inputs_of_blocks<const ELEMENT: u8, const STRIDED: bool>(
    args: &TileArgs,
    index: *const u32,
    blocks: usize,
) -> __m128 {
    // SAFETY: passed on from the caller; every index is a channel of the chunks with three behind it, or a pair with
    // the next one behind it (TileArgs).
    unsafe {
        match <F32x16<ELEMENT> as Vector>::ELEMENT {
            Element::F32 => avx2::four_inputs::<STRIDED>(args, *index),
            Element::Int8 => unreachable!("a block is one lane of inputs"),
            _ => {
                let first = two_inputs::<STRIDED>(args, *index);
                let second =
                    if blocks > 1 { two_inputs::<STRIDED>(args, *index.add(1)) } else { _mm_setzero_ps() };
                _mm_movelh_ps(first, second)
            }
        }
    }
}

/// Two inputs from `channel` on.
///
/// # Safety
/// As [`avx2::four_inputs`], with one behind.
#[inline(always)]
unsafe fn two_inputs<const STRIDED: bool>(args: &TileArgs, channel: u32) -> __m128 {
    let x = args.input.x.wrapping_add(channel as usize * args.input.stride);
    // SAFETY: passed on from the caller.
    unsafe {
        if STRIDED {
            _mm_setr_ps(*x, *x.wrapping_add(args.input.stride), 0.0, 0.0)
        } else {
            _mm_castsi128_ps(_mm_loadl_epi64(x.cast()))
        }
    }
}

/// 4x4 blocks of a single pixel; inputs are `args.input.stride` lanes apart if `STRIDED`, else neighbours. The
/// sums are the same.
///
/// # Safety
/// As [`Single`], for blocks of four rows and four columns; not `STRIDED` only if the stride is 1.
#[inline(always)]
unsafe fn single_blocks<const ELEMENT: u8, const STRIDED: bool>(args: &TileArgs) {
    const MOST_SETS: usize = 4;
    // lanes of a block, and blocks of a vector
    let block = const { LANES / <F32x16<ELEMENT> as Vector>::ELEMENT.per_lane() };
    let together = LANES / block;
    let sets = const { sets(<F32x16<ELEMENT> as Vector>::ELEMENT) };
    for first in args.weights.rows.clone().step_by(4) {
        // SAFETY: these are block rows of four channels; every block has its lanes (PackedPointwise).
        unsafe {
            let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            let mut rows = [_mm512_setzero_ps(); 4];
            let there = (args.weights.rows.end - first).min(4);
            for row in 0..there {
                let mut sums = [F32x16::<ELEMENT>::splat(0.0); MOST_SETS];
                let (mut index, mut w, mut blocks) = args.blocks(first + row, block);
                macro_rules! add {
                    ($set:expr) => {
                        let x = inputs_of_blocks::<ELEMENT, STRIDED>(args, index, together);
                        let x = F32x16(_mm512_permutexvar_ps(spread, _mm512_castps128_ps512(x)));
                        sums[$set] = F32x16::load(w).dot(x, sums[$set]);
                        (index, w) = (index.add(together), w.add(LANES));
                    };
                }
                while blocks >= sets * together {
                    for set in 0..sets {
                        add!(set);
                    }
                    blocks -= sets * together;
                }
                while blocks >= together {
                    add!(0);
                    blocks -= together;
                }
                if blocks > 0 {
                    // half a vector of pairs
                    let x = inputs_of_blocks::<ELEMENT, STRIDED>(args, index, 1);
                    let x = F32x16(_mm512_permutexvar_ps(spread, _mm512_castps128_ps512(x)));
                    sums[0] = F32x16(_mm512_maskz_loadu_ps(0xff, w)).dot(x, sums[0]);
                }
                let [a, b, c, d] = sums;
                let sum = a.add(b);
                rows[row] = if sets > 2 { sum.add(c.add(d)).0 } else { sum.0 };
            }
            let channels = (args.weights.packed.whole_oc - first * 4).min(there * 4);
            finish_channels::<ELEMENT>(args, first * 4, channels, fold_four_rows::<ELEMENT>(rows));
        }
    }
}

/// The sums of the channels of four block rows of four channels each, of each of which lane `i` belongs to channel
/// `i % 4`.
///
/// # Safety
/// AVX-512F is there.
#[inline(always)]
unsafe fn fold_four_rows<const ELEMENT: u8>(sums: [__m512; 4]) -> __m512 {
    // SAFETY: passed on from the caller.
    unsafe {
        // Quarters are added across rows: two times, halves of two vectors side by side.
        let [a, b, c, d] = sums;
        let [low, high] = [
            [_mm512_shuffle_f32x4::<0b01_00_01_00>(a, b), _mm512_shuffle_f32x4::<0b01_00_01_00>(c, d)],
            [_mm512_shuffle_f32x4::<0b11_10_11_10>(a, b), _mm512_shuffle_f32x4::<0b11_10_11_10>(c, d)],
        ];
        let (a, b) = (plus::<ELEMENT>(low[0], high[0]), plus::<ELEMENT>(low[1], high[1]));
        plus::<ELEMENT>(
            _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
        )
    }
}

/// [`Vector::add`] of sums.
///
/// # Safety
/// AVX-512F is there.
#[inline(always)]
unsafe fn plus<const ELEMENT: u8>(a: __m512, b: __m512) -> __m512 {
    // SAFETY: passed on from the caller.
    unsafe { F32x16::<ELEMENT>(a).add(F32x16(b)).0 }
}

/// Finishes `channels` channels from `channel` on, at most 16, the first of which is the first of its lane; each has a
/// lane of `sum`.
///
/// # Safety
/// As [`Single`]; the channels are those of block rows in `args.weights.rows`.
#[inline(always)]
unsafe fn finish_channels<const ELEMENT: u8>(args: &TileArgs, channel: usize, channels: usize, sum: __m512) {
    // SAFETY: each of these channels has a bias, one of quads a scale, and one pixel of `y`, of `residual` if there is one, and of the sums
    // that wait; they are neighbours if the strides are 1 (TileArgs), numbers of bf16 and bytes those of a lane and
    // the next one. Masks leave out others. There are 16 lanes.
    unsafe {
        let waits = !args.weights.first || !args.weights.last;
        if args.output.stride != 1 || waits && args.sums.stride != 1 {
            let mut lanes = [0f32; LANES];
            _mm512_storeu_ps(lanes.as_mut_ptr(), sum);
            match <F32x16<ELEMENT> as Vector>::ELEMENT {
                Element::F32 => {
                    for (i, sum) in lanes[..channels].iter().enumerate() {
                        finish(args, channel + i, *sum);
                    }
                }
                Element::Bf16 | Element::F16 => {
                    for (pair, sums) in lanes[..channels].chunks(2).enumerate() {
                        finish_pair(args, channel + 2 * pair, sums);
                    }
                }
                Element::Int8 => {
                    for (quad, sums) in lanes[..channels].chunks(4).enumerate() {
                        finish_quad(args, channel + 4 * quad, sums);
                    }
                }
            }
            return;
        }
        let some: __mmask16 = !0 >> (LANES - channels);
        let clamps = &args.clamps;
        let waiting = args.sums.at.wrapping_add(channel);
        let begin = if args.weights.first {
            args.weights.packed.bias.as_ptr().add(channel)
        } else {
            waiting.cast_const()
        };
        let mut value = plus::<ELEMENT>(_mm512_maskz_loadu_ps(some, begin), sum);
        if !args.weights.last {
            return _mm512_mask_storeu_ps(waiting, some, value);
        }
        if const { <F32x16<ELEMENT> as Vector>::ELEMENT as u8 == Element::Int8 as u8 } {
            let requantise = args.requantise();
            let scales = _mm512_maskz_loadu_ps(some, requantise.scales.as_ptr().add(channel));
            let steps = _mm512_castps_si512(F32x16::<ELEMENT>(value).scaled(F32x16(scales)).0);
            let [zero, lo, hi] = [requantise.zero, requantise.lo, requantise.hi];
            let shifted = _mm512_add_epi32(steps, _mm512_set1_epi32(i32::from(zero)));
            let above = _mm512_max_epi32(shifted, _mm512_set1_epi32(i32::from(lo)));
            let within = _mm512_min_epi32(above, _mm512_set1_epi32(i32::from(hi)));
            let y = args.output.y.cast::<i8>().wrapping_add(channel);
            // the lowest bytes of the lanes, as neighbours
            return _mm_mask_storeu_epi8(y, some, _mm512_cvtepi32_epi8(within));
        }
        let [(lo, hi), (lo1, hi1)] = [clamps.before, clamps.after];
        value = clamp(value, _mm512_set1_ps(lo), _mm512_set1_ps(hi));
        match <F32x16<ELEMENT> as Vector>::ELEMENT {
            Element::F32 => {
                if clamps.residual {
                    let residual = _mm512_maskz_loadu_ps(some, args.output.residual.wrapping_add(channel));
                    value = clamp(_mm512_add_ps(value, residual), _mm512_set1_ps(lo1), _mm512_set1_ps(hi1));
                }
                _mm512_mask_storeu_ps(args.output.y.wrapping_add(channel), some, value);
            }
            Element::Bf16 | Element::F16 => {
                if clamps.residual {
                    let residual = args.output.residual.cast::<i16>().wrapping_add(channel);
                    let residual = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, residual));
                    let residual = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(residual));
                    value = clamp(_mm512_add_ps(value, residual), _mm512_set1_ps(lo1), _mm512_set1_ps(hi1));
                }
                // a channel that does not exist is zero
                let rounded = _mm512_cvtneps_pbh(_mm512_maskz_mov_ps(some, value));
                let lanes: __mmask16 = !0 >> (LANES - channels.next_multiple_of(2));
                let y = args.output.y.cast::<i16>().wrapping_add(channel);
                _mm256_mask_storeu_epi16(y, lanes, std::mem::transmute::<__m256bh, __m256i>(rounded));
            }
            Element::Int8 => unreachable!("stored above"),
        }
    }
}

/// Adds up to 16 blocks of one column, whose rows' lanes `spread` puts beside the inputs.
///
/// # Safety
/// As [`single_rows`]; these are blocks of a row.
#[inline(always)]
unsafe fn add_blocks<const ELEMENT: u8, const R: usize, const STRIDED: bool>(
    args: &TileArgs,
    spread: &[__m512i; R],
    sums: &mut [F32x16<ELEMENT>; R],
    index: *const u32,
    w: *const f32,
    blocks: usize,
) {
    // SAFETY: passed on from the caller. Masks leave out what lies behind the last block.
    unsafe {
        let some: __mmask16 = !0 >> (LANES - blocks);
        let neighbours = !STRIDED && *index.add(blocks - 1) - *index == blocks as u32 - 1;
        let x = if neighbours {
            _mm512_maskz_loadu_ps(some, args.input.x.wrapping_add(*index as usize))
        } else {
            let channels = _mm512_maskz_loadu_epi32(some, index.cast());
            let stride = _mm512_set1_epi32(args.input.stride as i32);
            let at = if STRIDED { _mm512_mullo_epi32(channels, stride) } else { channels };
            _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), some, at, args.input.x)
        };
        for v in 0..R {
            let values = (blocks * R).saturating_sub(LANES * v).min(LANES);
            let some = ((1u32 << values) - 1) as __mmask16;
            let w = F32x16(_mm512_maskz_loadu_ps(some, w.wrapping_add(LANES * v)));
            sums[v] = w.dot(F32x16(_mm512_permutexvar_ps(spread[v], x)), sums[v]);
        }
    }
}

/// Rows of `R` channels of a single pixel; inputs are `args.input.stride` lanes apart if `STRIDED`, else
/// neighbours.
///
/// # Safety
/// As [`Single`], for blocks of one column, if [`TileArgs::gathers`].
#[inline(always)]
unsafe fn single_rows<const ELEMENT: u8, const R: usize, const STRIDED: bool>(args: &TileArgs) {
    // Rows that are finished together.
    let together = LANES / R;
    for first in args.weights.rows.clone().step_by(together) {
        let there = (args.weights.rows.end - first).min(together);
        // SAFETY: these are block rows; every index is a lane of the chunks, whose distance an i32 holds (TileArgs,
        // `gathers`); every block has R values (PackedPointwise). The room for sums has a vector behind the last row.
        unsafe {
            // the lanes of vector `v` of weights are those of block (LANES * v + lane) / R
            let count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let shift = _mm_cvtsi32_si128(R.trailing_zeros() as i32);
            let mut spread = [count; R];
            for (v, spread) in spread.iter_mut().enumerate() {
                *spread =
                    _mm512_srl_epi32(_mm512_add_epi32(count, _mm512_set1_epi32((LANES * v) as i32)), shift);
            }
            let (mut of_rows, mut folded) = ([_mm512_setzero_ps(); 4], [0f32; 2 * LANES]);
            for row in 0..there {
                let mut sums = [F32x16::<ELEMENT>::splat(0.0); R];
                let (mut index, mut w, blocks) = args.blocks(first + row, R);
                for _ in 0..blocks / LANES {
                    add_blocks::<ELEMENT, R, STRIDED>(args, &spread, &mut sums, index, w, LANES);
                    (index, w) = (index.add(LANES), w.add(LANES * R));
                }
                if blocks % LANES > 0 {
                    add_blocks::<ELEMENT, R, STRIDED>(args, &spread, &mut sums, index, w, blocks % LANES);
                }
                let mut sum = sums[0];
                for v in 1..R {
                    sum = sum.add(sums[v]);
                }
                if R == 4 {
                    of_rows[row] = sum.0;
                } else {
                    _mm512_storeu_ps(folded.as_mut_ptr().add(row * R), fold::<ELEMENT, R>(sum.0));
                }
            }
            let sum =
                if R == 4 { fold_four_rows::<ELEMENT>(of_rows) } else { _mm512_loadu_ps(folded.as_ptr()) };
            let channels = (args.weights.packed.whole_oc - first * R).min(there * R);
            finish_channels::<ELEMENT>(args, first * R, channels, sum);
        }
    }
}

/// The sums of the `R` channels that lanes `i % R` belong to, in the first lanes.
///
/// # Safety
/// AVX-512F is there.
#[inline(always)]
unsafe fn fold<const ELEMENT: u8, const R: usize>(mut sum: __m512) -> __m512 {
    // SAFETY: passed on from the caller.
    unsafe {
        sum = plus::<ELEMENT>(sum, _mm512_shuffle_f32x4::<0b11_10_11_10>(sum, sum));
        if R < 8 {
            sum = plus::<ELEMENT>(sum, _mm512_shuffle_f32x4::<0b01_01_01_01>(sum, sum));
        }
        if R < 4 {
            sum = plus::<ELEMENT>(sum, _mm512_permute_ps::<0b11_10_11_10>(sum));
        }
        if R < 2 {
            sum = plus::<ELEMENT>(sum, _mm512_permute_ps::<0b01_01_01_01>(sum));
        }
        sum
    }
}

/// `E` pixels beyond the vectors, some of them perhaps without use.
///
/// On its own, every such pixel would be a pass over all weights. Of 4x4 blocks, a whole block is one vector,
/// whose lane `4 * c + r` is the weight of input `c` for output `r`. Times the inputs of such a pixel, that
/// is one multiply-add and one load for each pixel, beside 16 for each vector of pixels. Of 4x1 rows, the
/// weights of a column are repeated for each of the pixels, so that lane `4 * e + r` belongs to output `r` of
/// pixel `e`: one multiply-add for all of them. (The vector of inputs is as long as one of pixels then, so
/// that more than two pixels gain nothing. Pairs of rows do without: of 3 vectors they have so few sums that
/// their latency counts, and one more vector is as cheap.) [`super::args::Input::extra`] has the inputs as
/// these vectors want them.
///
/// A block of 4x4 channels in pairs is half a vector: repeated, it is multiplied with the inputs of two such pixels.
///
/// Registers: `R * N` sums, `N` inputs, one weight, `E` sums and the vector of weights, which is at most 31.
#[derive(Clone, Copy)]
struct Extra<const E: usize, const ELEMENT: u8>([F32x16<ELEMENT>; E]);

impl<const E: usize, const ELEMENT: u8> Along<F32x16<ELEMENT>> for Extra<E, ELEMENT> {
    #[inline(always)]
    unsafe fn begin() -> Self {
        // SAFETY: contract of `Along`.
        Extra([unsafe { F32x16::splat(0.0) }; E])
    }

    #[inline(always)]
    unsafe fn block<const R: usize, const C: usize>(&mut self, args: &TileArgs, index: usize, w: *const f32) {
        // SAFETY: a block has four weights of one, two or four lanes of channels; `extra` has as many lanes for each
        // pixel, or of one column four for each (Input).
        unsafe {
            let x = args.input.extra.wrapping_add(index * E * R);
            let repeated = match (C, E) {
                (4, _) => _mm512_loadu_ps(w),
                (2, 4) => _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_loadu_pd(w.cast()))),
                (2, _) => _mm512_zextps256_ps512(_mm256_loadu_ps(w)),
                (_, 4) => _mm512_broadcast_f32x4(_mm_loadu_ps(w)),
                _ => _mm512_zextps128_ps512(_mm_loadu_ps(w)),
            };
            for e in 0..const { vectors_of_extra(C, E) } {
                let x = match (C, E) {
                    (1, 1) => _mm512_zextps128_ps512(_mm_loadu_ps(x)),
                    (2, 1) => _mm512_zextps256_ps512(_mm256_loadu_ps(x)),
                    _ => _mm512_loadu_ps(x.add(e * LANES)),
                };
                self.0[e] = F32x16(repeated).dot(F32x16(x), self.0[e]);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<const C: usize>(self, args: &TileArgs, row: usize) {
        // SAFETY: there are 16 lanes, of one column four for each pixel, of two eight; passed on from the caller.
        unsafe {
            let mut channels = [_mm_setzero_ps(); E];
            let mut lanes = [0f32; 2 * LANES];
            for e in 0..vectors_of_extra(C, E).min(2) {
                _mm512_storeu_ps(lanes.as_mut_ptr().add(e * LANES), self.0[e].0);
            }
            for e in 0..E {
                channels[e] = match C {
                    4 => fold_blocks(self.0[e].0),
                    2 => {
                        let lanes = lanes.as_ptr().add(e * 8);
                        _mm_add_ps(_mm_loadu_ps(lanes), _mm_loadu_ps(lanes.add(4)))
                    }
                    _ => _mm_loadu_ps(lanes.as_ptr().add(e * 4)),
                };
            }
            store_extra::<E, ELEMENT>(args, row, &channels);
        }
    }
}

/// Vectors of inputs of `e` extra pixels, of blocks of `c` columns of lanes and four rows.
const fn vectors_of_extra(c: usize, e: usize) -> usize {
    (4 * c * e).div_ceil(LANES)
}

/// The sums of the four channels of a block row: lane `i` of `sum` belongs to channel `i % 4`.
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
fn fold_blocks(sum: __m512) -> __m128 {
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sum)));
    let half = _mm256_add_ps(_mm512_castps512_ps256(sum), high);
    _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half))
}

/// Epilogue and store of the extra pixels of a block row: the sums of one have a lane for each channel.
///
/// # Safety
/// As [`Along::finish`].
#[inline(always)]
unsafe fn store_extra<const E: usize, const ELEMENT: u8>(args: &TileArgs, row: usize, sums: &[__m128; E]) {
    // SAFETY: `bias` has four floats for each block row; there are `args.extra` floats behind the
    // `args.pixels` of each of its channels that exist, in `y`, in `residual` if there is one, and in the
    // sums that wait (TileArgs).
    unsafe {
        let some = _mm_cmpgt_epi32(_mm_set1_epi32(args.extra as i32), _mm_setr_epi32(0, 1, 2, 3));
        let mut rows = [_mm_setzero_ps(); 4];
        rows[..E].copy_from_slice(sums);
        // from channels of a pixel to pixels of a channel
        let [a, b, c, d] = rows;
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        let (ab_hi, cd_hi) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        rows = [
            _mm_movelh_ps(ab, cd),
            _mm_movehl_ps(cd, ab),
            _mm_movelh_ps(ab_hi, cd_hi),
            _mm_movehl_ps(cd_hi, ab_hi),
        ];
        let clamps = &args.clamps;
        let (channels, mut first) = (args.channels(row, 4), _mm_setzero_ps());
        let mut quad = _mm_setzero_si128();
        for r in 0..channels {
            let channel = row * 4 + r;
            let waiting = args.sums.at.wrapping_add(channel * args.sums.stride + args.pixels);
            let begin = if args.weights.first {
                _mm_set1_ps(args.bias(channel))
            } else {
                _mm_maskload_ps(waiting, some)
            };
            let mut value = match <F32x16<ELEMENT> as Vector>::ELEMENT {
                Element::Int8 => {
                    let [begin, sum] = [begin, rows[r]].map(|v| _mm_castps_si128(v));
                    _mm_castsi128_ps(_mm_add_epi32(begin, sum))
                }
                _ => _mm_add_ps(begin, rows[r]),
            };
            if !args.weights.last {
                _mm_maskstore_ps(waiting, some, value);
                continue;
            }
            if const { <F32x16<ELEMENT> as Vector>::ELEMENT as u8 == Element::Int8 as u8 } {
                let requantise = args.requantise();
                let scale = _mm_set1_ps(*requantise.scales.get_unchecked(channel));
                let product = _mm_mul_ps(_mm_cvtepi32_ps(_mm_castps_si128(value)), scale);
                let [zero, lo, hi] =
                    [requantise.zero, requantise.lo, requantise.hi].map(|b| _mm_set1_epi32(i32::from(b)));
                let shifted = _mm_add_epi32(_mm_cvtps_epi32(product), zero);
                let within = _mm_min_epi32(_mm_max_epi32(shifted, lo), hi);
                quad = _mm_or_si128(quad, _mm_sll_epi32(within, _mm_cvtsi32_si128(8 * r as i32)));
                if r + 1 == channels {
                    let y = args.output.y.wrapping_add(row * args.output.stride + args.pixels);
                    _mm_maskstore_ps(y, some, _mm_castsi128_ps(quad));
                }
                continue;
            }
            let within = |v, (lo, hi)| _mm_min_ps(_mm_set1_ps(hi), _mm_max_ps(_mm_set1_ps(lo), v));
            let at =
                channel / <F32x16<ELEMENT> as Vector>::ELEMENT.per_lane() * args.output.stride + args.pixels;
            value = within(value, clamps.before);
            if clamps.residual {
                let residual = _mm_maskload_ps(args.output.residual.wrapping_add(at), some);
                let residual = match <F32x16<ELEMENT> as Vector>::ELEMENT {
                    Element::F32 => residual,
                    Element::Bf16 | Element::F16 => _mm_castsi128_ps(match r % 2 {
                        0 => _mm_slli_epi32::<16>(_mm_castps_si128(residual)),
                        _ => _mm_and_si128(_mm_castps_si128(residual), _mm_set1_epi32(0xffff_0000u32 as i32)),
                    }),
                    Element::Int8 => unreachable!("stored above"),
                };
                value = within(_mm_add_ps(value, residual), clamps.after);
            }
            match <F32x16<ELEMENT> as Vector>::ELEMENT {
                Element::F32 => _mm_maskstore_ps(args.output.y.wrapping_add(at), some, value),
                Element::Bf16 | Element::F16 if r % 2 == 0 && r + 1 < channels => first = value,
                Element::Bf16 | Element::F16 => {
                    let both = if r % 2 == 0 { [value, _mm_setzero_ps()] } else { [first, value] };
                    _mm_maskstore_ps(args.output.y.wrapping_add(at), some, pair(both));
                }
                Element::Int8 => unreachable!("stored above"),
            }
        }
    }
}

/// Rounds two vectors of floats to one of pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
fn pair([first, second]: [__m128; 2]) -> __m128 {
    // SAFETY: both types are 128 bits.
    let apart = unsafe { std::mem::transmute::<__m128bh, __m128i>(_mm_cvtne2ps_pbh(second, first)) };
    _mm_castsi128_ps(_mm_unpacklo_epi16(apart, _mm_unpackhi_epi64(apart, apart)))
}

/// Single rows of up to 8 vectors of pixels, in halves.
///
/// # Safety
/// As [`Pointwise::tile`], for blocks of one weight.
unsafe fn single_row_tile(args: &TileArgs) {
    // SAFETY: passed on from the caller; the number of halves is that of the pixels.
    unsafe {
        match args.pixels.div_ceil(LANES / 2) {
            2 => row::<1, 0>(args),
            3 => row::<1, 1>(args),
            4 => row::<2, 0>(args),
            5 => row::<2, 1>(args),
            6 => row::<3, 0>(args),
            7 => row::<3, 1>(args),
            8 => row::<4, 0>(args),
            9 => row::<4, 1>(args),
            10 => row::<5, 0>(args),
            11 => row::<5, 1>(args),
            12 => row::<6, 0>(args),
            13 => row::<6, 1>(args),
            14 => row::<7, 0>(args),
            15 => row::<7, 1>(args),
            16 => row::<8, 0>(args),
            halves => unreachable!("a tile of {halves} half vectors"),
        }
    }
}

/// Single rows of `V` vectors and `H` half vectors, each read from an aligned place of the panel: the last
/// one is masked where it is stored.
///
/// # Safety
/// As [`Pointwise::tile`], for blocks of one weight; `V` vectors and `H` halves are what `args.pixels` fill, the last perhaps in
/// part.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn row<const V: usize, const H: usize>(args: &TileArgs) {
    let end = V + H - 1; // the vector that is masked
    let mask: __mmask16 = !0 >> ((end + 1) * LANES - args.pixels);
    for row in args.weights.rows.clone() {
        let y = args.output.y.wrapping_add(row * args.output.stride);
        let waiting = args.sums.at.wrapping_add(row * args.sums.stride);
        let mut sums = [_mm512_setzero_ps(); V];
        let mut half = _mm256_setzero_ps();
        // SAFETY: `row` is a block row and an output channel; panel rows and waiting sums are valid for whole
        // vectors; every index is a channel of the chunks (TileArgs); every block has one value
        // (PackedPointwise). A prefetch may go anywhere.
        unsafe {
            if args.weights.first {
                let bias = args.bias(row);
                (sums, half) = ([_mm512_set1_ps(bias); V], _mm256_set1_ps(bias));
                // The output is often not in cache: ask for it now, store it many cycles later.
                for line in 0..V + H {
                    _mm_prefetch::<_MM_HINT_T0>(y.wrapping_add(line * LANES).cast());
                }
                _mm_prefetch::<_MM_HINT_T0>(y.wrapping_add(args.pixels - 1).cast());
            } else {
                for v in 0..V {
                    sums[v] = _mm512_loadu_ps(waiting.add(v * LANES));
                }
                if H == 1 {
                    half = _mm256_loadu_ps(waiting.add(V * LANES));
                }
            }
            let (mut index, mut w, blocks) = args.blocks(row, 1);
            ask_for_next::<F32x16>(args, row, 1);
            let mut add = |index: u32, w: __m512| {
                let x = args.input.x.wrapping_add(index as usize * args.input.stride);
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(w, _mm512_loadu_ps(x.add(v * LANES)), sums[v]);
                }
                if H == 1 {
                    half =
                        _mm256_fmadd_ps(_mm512_castps512_ps256(w), _mm256_loadu_ps(x.add(V * LANES)), half);
                }
            };
            for _ in 0..blocks / 4 {
                let four = _mm_loadu_ps(w);
                add(*index, _mm512_broadcastss_ps(four));
                add(*index.add(1), _mm512_broadcastss_ps(_mm_permute_ps::<1>(four)));
                add(*index.add(2), _mm512_broadcastss_ps(_mm_permute_ps::<2>(four)));
                add(*index.add(3), _mm512_broadcastss_ps(_mm_permute_ps::<3>(four)));
                (index, w) = (index.add(4), w.add(4));
            }
            for _ in 0..blocks % 4 {
                add(*index, _mm512_set1_ps(*w));
                (index, w) = (index.add(1), w.add(1));
            }
        }
        // SAFETY: `args.pixels` floats of `y`, and of `residual` if there is one, and whole vectors of
        // waiting sums are valid (TileArgs); the mask leaves out what lies beyond.
        unsafe {
            if !args.weights.last {
                for v in 0..V {
                    _mm512_storeu_ps(waiting.add(v * LANES), sums[v]);
                }
                if H == 1 {
                    _mm256_storeu_ps(waiting.add(V * LANES), half);
                }
                continue;
            }
            let residual = args.output.residual.wrapping_add(row * args.output.stride);
            let finish = |v: usize, sum: __m512, mask: __mmask16| {
                let clamps = &args.clamps;
                let (lo, hi) = (_mm512_set1_ps(clamps.before.0), _mm512_set1_ps(clamps.before.1));
                let mut value = clamp(sum, lo, hi);
                if clamps.residual {
                    let (lo, hi) = (_mm512_set1_ps(clamps.after.0), _mm512_set1_ps(clamps.after.1));
                    let residual = _mm512_maskz_loadu_ps(mask, residual.wrapping_add(v * LANES));
                    value = clamp(_mm512_add_ps(value, residual), lo, hi);
                }
                _mm512_mask_storeu_ps(y.wrapping_add(v * LANES), mask, value);
            };
            for v in 0..V {
                finish(v, sums[v], if v == end { mask } else { !0 });
            }
            if H == 1 {
                finish(V, _mm512_castps256_ps512(half), mask);
            }
        }
    }
}

/// NaN stays NaN.
#[inline(always)]
unsafe fn clamp(v: __m512, lo: __m512, hi: __m512) -> __m512 {
    // SAFETY: AVX-512F is there, as the caller's kernel needs it.
    unsafe { F32x16::<{ Element::F32 as u8 }>(v).clamp(F32x16(lo), F32x16(hi)).0 }
}
