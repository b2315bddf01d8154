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
use super::body::{self, Along, Pointwise, ask_for_next};
use super::scalar::{finish, finish_pair, gemv};
use crate::table::Element;
use crate::vector::{F32x16, Vector};
use std::arch::x86_64::*;

const LANES: usize = 16;

impl<const ELEMENT: u8> Pointwise for F32x16<ELEMENT> {
    const MOST_VECTORS: [usize; 4] = [8, 8, 6, 3];

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
                    body::tile::<Self, Extra<1>, R, C, WITH_EXTRA>(args);
                }
                4 if const { R == 4 } => {
                    body::tile::<Self, Extra<4>, R, C, WITH_EXTRA>(args);
                }
                0 => body::tile::<Self, (), R, C, PIXELS>(args),
                extra => unreachable!("{extra} pixels beyond a tile of {R} rows"),
            }
        }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe {
            match Self::ELEMENT {
                Element::F32 => single::<R, C>(args),
                Element::Bf16 => single_pairs::<R, C>(args),
            }
        }
    }
}

/// Pairs of a single pixel: a vector of weights, of as many blocks as fill one, times the inputs of each, which are
/// gathered. Block rows whose channels share a lane follow each other.
///
/// # Safety
/// As [`single`], with AVX512-BF16, for lanes of pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")]
unsafe fn single_pairs<const R: usize, const C: usize>(args: &TileArgs) {
    type Pairs = F32x16<{ Element::Bf16 as u8 }>;
    let together = const { LANES / (R * C) };
    let count = |f: fn(usize) -> usize| std::array::from_fn::<i32, LANES, _>(|lane| f(lane) as i32);
    // SAFETY: an array of sixteen numbers.
    let (block_of, column_of) = unsafe {
        let load = |numbers: [i32; LANES]| _mm512_loadu_si512(numbers.as_ptr().cast());
        (load(count(|lane| lane / (R * C))), load(count(|lane| lane / R % C)))
    };
    let stride = _mm512_set1_epi32(args.input.stride as i32);
    let mut first = [0f32; 2];
    for row in args.weights.rows.clone() {
        // SAFETY: this is a block row; every index is a lane of the chunks with C - 1 behind it, whose distance an
        // i32 holds (`gathers`; otherwise they are visited one by one); every block has R * C values
        // (PackedPointwise). Masks leave out what lies behind the last block.
        unsafe {
            let (mut index, mut w, mut blocks) = args.blocks(row, R * C);
            let mut sums = [Pairs::splat(0.0); 2];
            let gathers = args.gathers();
            let mut add = |blocks: usize, set: usize| {
                let lanes: __mmask16 = !0 >> (LANES - blocks * R * C);
                let indices = _mm512_maskz_loadu_epi32(!0 >> (LANES - blocks), index.cast());
                let of_lanes = _mm512_add_epi32(_mm512_permutexvar_epi32(block_of, indices), column_of);
                let x = if gathers {
                    let at = _mm512_mullo_epi32(of_lanes, stride);
                    _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), lanes, at, args.input.x)
                } else {
                    let mut inputs = [0f32; LANES];
                    for lane in 0..blocks * R * C {
                        let channel = *index.add(lane / (R * C)) as usize + lane / R % C;
                        inputs[lane] = *args.input.x.wrapping_add(channel * args.input.stride);
                    }
                    _mm512_loadu_ps(inputs.as_ptr())
                };
                sums[set] = Pairs::dot(F32x16(_mm512_maskz_loadu_ps(lanes, w)), F32x16(x), sums[set]);
                (index, w) = (index.wrapping_add(blocks), w.wrapping_add(blocks * R * C));
            };
            while blocks >= 2 * together {
                add(together, 0);
                add(together, 1);
                blocks -= 2 * together;
            }
            while blocks > 0 {
                let some = blocks.min(together);
                add(some, 0);
                blocks -= some;
            }
            let mut lanes = [0f32; LANES];
            sums[0].add(sums[1]).store(lanes.as_mut_ptr());
            let channels = args.channels(row, R);
            let sums: [f32; R] = std::array::from_fn(|r| lanes[r..].iter().step_by(R).sum());
            if R > 1 {
                for (pair, sums) in sums[..channels].chunks(2).enumerate() {
                    finish_pair(args, row * R + 2 * pair, sums);
                }
            } else {
                first[row % 2] = sums[0];
                if row % 2 == 1 || row + 1 == args.weights.rows.end {
                    finish_pair(args, row / 2 * 2, &first[..row % 2 + 1]);
                }
            }
        }
    }
}

/// `R` output channels of a single pixel.
///
/// Here every weight is used once, so loads are the limit: weights are read a whole vector at a time. A 4x4
/// block is one vector, times its four inputs, each in four lanes; of rows, 16 blocks are `R` vectors, times
/// 16 inputs that one instruction gathers.
///
/// # Safety
/// AVX-512F, AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`]; there is one pixel.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        if cfg!(miri) {
            // Miri does not know gathers and permutations of 512 bits.
            return avx2::single::<R, C>(args);
        }
        match (R, C, args.input.stride) {
            (4, 4, 1) => single_blocks::<false>(args),
            (4, 4, _) => single_blocks::<true>(args),
            (_, 1, 1) if args.gathers() => single_rows::<R, false>(args),
            (_, 1, _) if args.gathers() => single_rows::<R, true>(args),
            _ => gemv::<R, C, 2>(args, args.input.stride, f32::mul_add),
        }
    }
}

/// 4x4 blocks of a single pixel; inputs are `args.input.stride` floats apart if `STRIDED`, else neighbours. The
/// sums are the same.
///
/// # Safety
/// As [`single`], for `R` and `C` of 4; not `STRIDED` only if the stride is 1.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn single_blocks<const STRIDED: bool>(args: &TileArgs) {
    let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    for first in args.weights.rows.clone().step_by(4) {
        let mut rows = [_mm512_setzero_ps(); 4];
        let there = (args.weights.rows.end - first).min(4);
        for row in 0..there {
            // Weights come from the second level, which gives less than a block in two cycles: two sums hide
            // the latency of adding.
            let mut sums = [_mm512_setzero_ps(); 2];
            // SAFETY: this is a block row; every index is a channel of the chunks with three behind it
            // (TileArgs); every block has 16 values (PackedPointwise).
            unsafe {
                let (mut index, mut w, blocks) = args.blocks(first + row, LANES);
                let mut add = |set: usize| {
                    let x = avx2::four_inputs::<STRIDED>(args, *index);
                    let x = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(x));
                    sums[set] = _mm512_fmadd_ps(_mm512_loadu_ps(w), x, sums[set]);
                    (index, w) = (index.add(1), w.add(LANES));
                };
                for _ in 0..blocks / 2 {
                    add(0);
                    add(1);
                }
                if blocks % 2 > 0 {
                    add(0);
                }
            }
            rows[row] = _mm512_add_ps(sums[0], sums[1]);
        }
        // SAFETY: these are block rows of four channels.
        unsafe { finish_four_rows(args, first, there, rows) };
    }
}

/// Finishes the channels of the block rows `first..first + there`, four at most, of four channels each: lane
/// `i` of their sums belongs to channel `i % 4`.
///
/// # Safety
/// As [`single`] for an `R` of 4; the rows are in `args.weights.rows`.
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn finish_four_rows(args: &TileArgs, first: usize, there: usize, sums: [__m512; 4]) {
    // Quarters are added across rows: two times, halves of two vectors side by side.
    let halves = |a: __m512, b: __m512| {
        _mm512_add_ps(
            _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
        )
    };
    let (a, b) = (halves(sums[0], sums[1]), halves(sums[2], sums[3]));
    let sum = _mm512_add_ps(
        _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
    );
    let channel = first * 4;
    let channels = (args.weights.packed.oc - channel).min(there * 4);
    // SAFETY: `bias` has four floats for each of the rows; each of these channels has one pixel of `y`, and
    // of `residual` if there is one, and they are neighbours if the stride is 1 (TileArgs); masks leave
    // out others. There are 16 lanes.
    unsafe {
        if args.output.stride != 1 {
            let mut lanes = [0f32; LANES];
            _mm512_storeu_ps(lanes.as_mut_ptr(), sum);
            for (i, sum) in lanes.iter().enumerate().take(channels) {
                finish(args, channel + i, *sum);
            }
            return;
        }
        let some: __mmask16 = !0 >> (LANES - channels);
        let (y, clamps) = (args.output.y.wrapping_add(channel), &args.clamps);
        let begin =
            if args.weights.first { args.weights.packed.bias.as_ptr().add(channel) } else { y.cast_const() };
        let mut value = _mm512_add_ps(_mm512_maskz_loadu_ps(some, begin), sum);
        if args.weights.last {
            let all = |(lo, hi): (f32, f32)| (_mm512_set1_ps(lo), _mm512_set1_ps(hi));
            let (lo, hi) = all(clamps.before);
            value = clamp(value, lo, hi);
            if clamps.residual {
                let (lo, hi) = all(clamps.after);
                let residual = _mm512_maskz_loadu_ps(some, args.output.residual.wrapping_add(channel));
                value = clamp(_mm512_add_ps(value, residual), lo, hi);
            }
        }
        _mm512_mask_storeu_ps(y, some, value);
    }
}

/// Rows of `R` channels of a single pixel; inputs are `args.input.stride` floats apart if `STRIDED`, else
/// neighbours.
///
/// # Safety
/// As [`single`], for a `C` of 1, if [`TileArgs::gathers`].
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn single_rows<const R: usize, const STRIDED: bool>(args: &TileArgs) {
    let stride = _mm512_set1_epi32(args.input.stride as i32);
    // the lanes of vector `v` of weights are those of block (LANES * v + lane) / R
    let count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let shift = _mm_cvtsi32_si128(R.trailing_zeros() as i32);
    let mut spread = [count; R];
    for (v, spread) in spread.iter_mut().enumerate() {
        *spread = _mm512_srl_epi32(_mm512_add_epi32(count, _mm512_set1_epi32((LANES * v) as i32)), shift);
    }
    // Rows that are finished together.
    let together = if R == 4 { 4 } else { 1 };
    for first in args.weights.rows.clone().step_by(together) {
        let there = (args.weights.rows.end - first).min(together);
        let mut of_rows = [_mm512_setzero_ps(); 4];
        for row in 0..there {
            let mut sums = [_mm512_setzero_ps(); R];
            // SAFETY: this is a block row; every index is a channel of the chunks, whose distance in floats
            // an i32 holds (TileArgs, `gathers`); every block has R values (PackedPointwise).
            // Masks leave out what lies behind the last block.
            unsafe {
                let (mut index, mut w, blocks) = args.blocks(first + row, R);
                let mut add = |index: *const u32, w: *const f32, blocks: usize| {
                    let some: __mmask16 = !0 >> (LANES - blocks);
                    let channels = _mm512_maskz_loadu_epi32(some, index.cast());
                    let at = if STRIDED { _mm512_mullo_epi32(channels, stride) } else { channels };
                    let x = _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), some, at, args.input.x);
                    for v in 0..R {
                        let values = (blocks * R).saturating_sub(LANES * v).min(LANES);
                        let some = ((1u32 << values) - 1) as __mmask16;
                        let w = _mm512_maskz_loadu_ps(some, w.wrapping_add(LANES * v));
                        sums[v] = _mm512_fmadd_ps(w, _mm512_permutexvar_ps(spread[v], x), sums[v]);
                    }
                };
                for _ in 0..blocks / LANES {
                    add(index, w, LANES);
                    (index, w) = (index.add(LANES), w.add(LANES * R));
                }
                if blocks % LANES > 0 {
                    add(index, w, blocks % LANES);
                }
            }
            for v in 1..R {
                sums[0] = _mm512_add_ps(sums[0], sums[v]);
            }
            of_rows[row] = sums[0];
        }
        // SAFETY: these are block rows.
        unsafe {
            if R == 4 {
                finish_four_rows(args, first, there, of_rows);
            } else {
                finish_row::<R>(args, first, of_rows[0]);
            }
        }
    }
}

/// Finishes the channels of block row `row`: lane `i` of `sums` belongs to channel `i % R` of it.
///
/// # Safety
/// As [`single`]; `row` is in `args.weights.rows`.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn finish_row<const R: usize>(args: &TileArgs, row: usize, sums: __m512) {
    let mut lanes = [0f32; LANES];
    // SAFETY: there are 16 lanes; `row * R + r` is an output channel with one pixel.
    unsafe {
        _mm512_storeu_ps(lanes.as_mut_ptr(), sums);
        for r in 0..args.channels(row, R) {
            finish(args, row * R + r, lanes[r..].iter().step_by(R).sum());
        }
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
/// Registers: `R * N` sums, `N` inputs, one weight, `E` sums and the vector of weights, which is at most 31.
#[derive(Clone, Copy)]
struct Extra<const E: usize>([__m512; E]);

impl<const E: usize> Along for Extra<E> {
    #[inline(always)]
    unsafe fn begin() -> Self {
        // SAFETY: contract of `Along`.
        Extra([unsafe { _mm512_setzero_ps() }; E])
    }

    #[inline(always)]
    unsafe fn block<const R: usize, const C: usize>(&mut self, args: &TileArgs, index: usize, w: *const f32) {
        // SAFETY: a block has four weights of one or four channels; `extra` has a vector for each pixel of a
        // block of four channels, or one for the pixels of a channel, of four floats for each (Input).
        unsafe {
            let x = args.input.extra.wrapping_add(index * E * R);
            let repeated = match (C, E) {
                (4, _) => _mm512_loadu_ps(w),
                (_, 4) => _mm512_broadcast_f32x4(_mm_loadu_ps(w)),
                _ => _mm512_zextps128_ps512(_mm_loadu_ps(w)),
            };
            // of rows only the first
            for e in 0..if C == 4 { E } else { 1 } {
                let x = match (C, E) {
                    (1, 1) => _mm512_zextps128_ps512(_mm_loadu_ps(x)),
                    _ => _mm512_loadu_ps(x.add(e * LANES)),
                };
                self.0[e] = _mm512_fmadd_ps(repeated, x, self.0[e]);
            }
        }
    }

    #[inline(always)]
    unsafe fn finish<const C: usize>(self, args: &TileArgs, row: usize) {
        // SAFETY: there are 16 lanes, four for each pixel; passed on from the caller.
        unsafe {
            let mut channels = [_mm_setzero_ps(); E];
            if C == 4 {
                for e in 0..E {
                    channels[e] = fold_blocks(self.0[e]);
                }
            } else {
                let mut lanes = [0f32; LANES];
                _mm512_storeu_ps(lanes.as_mut_ptr(), self.0[0]);
                for e in 0..E {
                    channels[e] = _mm_loadu_ps(lanes.as_ptr().add(e * 4));
                }
            }
            store_extra(args, row, &channels);
        }
    }
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
unsafe fn store_extra<const E: usize>(args: &TileArgs, row: usize, sums: &[__m128; E]) {
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
        for r in 0..args.channels(row, 4) {
            let channel = row * 4 + r;
            let waiting = args.sums.at.wrapping_add(channel * args.sums.stride + args.pixels);
            let begin = if args.weights.first {
                _mm_set1_ps(args.bias(channel))
            } else {
                _mm_maskload_ps(waiting, some)
            };
            let mut value = _mm_add_ps(begin, rows[r]);
            if !args.weights.last {
                _mm_maskstore_ps(waiting, some, value);
                continue;
            }
            let within = |v, (lo, hi)| _mm_min_ps(_mm_set1_ps(hi), _mm_max_ps(_mm_set1_ps(lo), v));
            let at = channel * args.output.stride + args.pixels;
            value = within(value, clamps.before);
            if clamps.residual {
                let residual = _mm_maskload_ps(args.output.residual.wrapping_add(at), some);
                value = within(_mm_add_ps(value, residual), clamps.after);
            }
            _mm_maskstore_ps(args.output.y.wrapping_add(at), some, value);
        }
    }
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
