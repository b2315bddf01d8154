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
//! The helpers without `target_feature` are always inlined into functions with it, see avx2.rs.
//!
//! The last vector of a tile of more rows ends at its last pixel and may overlap the one before, without
//! masks. Few pixels beyond the last whole vector are summed one by one: a 7x7 map is one tile of 48 pixels
//! and one pixel.

use super::scalar::{finish, gemv};
use super::{TileArgs, avx2, extra_slots};
use std::arch::x86_64::*;

const LANES: usize = 16;

/// `R` output channels by `LANES` to 8 `LANES` pixels.
///
/// # Safety
/// AVX-512F, AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller; the number of vectors is that of the pixels.
    unsafe {
        if R * C == 1 {
            return match args.pixels.div_ceil(LANES / 2) {
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
            };
        }
        match args.pixels.div_ceil(LANES) {
            1 => rows::<R, C, 1, false, 0>(args),
            2 => rows::<R, C, 2, false, 0>(args),
            3 => rows::<R, C, 3, false, 0>(args),
            4 => rows::<R, C, 4, false, 0>(args),
            5 => rows::<R, C, 5, false, 0>(args),
            6 => rows::<R, C, 6, false, 0>(args),
            7 => rows::<R, C, 7, false, 0>(args),
            8 => rows::<R, C, 8, false, 0>(args),
            vectors => unreachable!("a tile of {vectors} vectors"),
        }
    }
}

/// [`tile`] for cores with two full-width units, where weights are one stream: `R` output channels by `LANES`
/// to 6 `LANES` pixels, single rows to 8. Of many channels 4 vectors are taken, whose panel stays in the
/// first level for longer chunks. Up to 5 vectors of four channels take some pixels beyond them along, see
/// [`rows`].
///
/// # Safety
/// As [`tile`].
pub(super) unsafe fn tile_wide<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller; the number of vectors is that of the pixels.
    unsafe {
        if R * C == 1 {
            return tile::<R, C>(args);
        }
        match (args.pixels.div_ceil(LANES), extra_slots(args.extra)) {
            (1, 0) => rows::<R, C, 1, true, 0>(args),
            (2, 0) => rows::<R, C, 2, true, 0>(args),
            (3, 0) => rows::<R, C, 3, true, 0>(args),
            (4, 0) => rows::<R, C, 4, true, 0>(args),
            (5, 0) => rows::<R, C, 5, true, 0>(args),
            (6, 0) => rows::<R, C, 6, true, 0>(args),
            (1, 1) => rows::<R, C, 1, true, 1>(args),
            (2, 1) => rows::<R, C, 2, true, 1>(args),
            (3, 1) => rows::<R, C, 3, true, 1>(args),
            (4, 1) => rows::<R, C, 4, true, 1>(args),
            (5, 1) => rows::<R, C, 5, true, 1>(args),
            (1, 4) => rows::<R, C, 1, true, 4>(args),
            (2, 4) => rows::<R, C, 2, true, 4>(args),
            (3, 4) => rows::<R, C, 3, true, 4>(args),
            (4, 4) => rows::<R, C, 4, true, 4>(args),
            (5, 4) => rows::<R, C, 5, true, 4>(args),
            (vectors, extra) => unreachable!("a tile of {vectors} vectors and {extra} pixels"),
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
/// AVX-512F, AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`]; `pixels` is 1.
#[target_feature(enable = "avx512f,avx2,fma")]
pub(super) unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        if cfg!(miri) {
            // Miri does not know gathers and permutations of 512 bits.
            return avx2::single::<R, C>(args);
        }
        match (R, C, args.x_stride) {
            (4, 4, 1) => single_blocks::<false>(args),
            (4, 4, _) => single_blocks::<true>(args),
            (_, 1, 1) if args.gathers() => single_rows::<R, false>(args),
            (_, 1, _) if args.gathers() => single_rows::<R, true>(args),
            _ => gemv::<R, C, 2>(args, args.x_stride, f32::mul_add),
        }
    }
}

/// 4x4 blocks of a single pixel; inputs are `args.x_stride` floats apart if `STRIDED`, else neighbours. The
/// sums are the same.
///
/// # Safety
/// As [`single`], for `R` and `C` of 4; not `STRIDED` only if the stride is 1.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn single_blocks<const STRIDED: bool>(args: &TileArgs) {
    let spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    for first in args.block_rows.clone().step_by(4) {
        let mut rows = [_mm512_setzero_ps(); 4];
        let there = (args.block_rows.end - first).min(4);
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
/// As [`single`] for an `R` of 4; the rows are in `args.block_rows`.
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
    let channels = (args.weights.oc - channel).min(there * 4);
    // SAFETY: `bias` has four floats for each of the rows; each of these channels has one pixel of `y`, and
    // of `residual` if there is one, and they are neighbours if the stride is 1 (TileArgs); masks leave
    // out others. There are 16 lanes.
    unsafe {
        if args.stride != 1 {
            let mut lanes = [0f32; LANES];
            _mm512_storeu_ps(lanes.as_mut_ptr(), sum);
            for (i, sum) in lanes.iter().enumerate().take(channels) {
                finish(args, channel + i, *sum);
            }
            return;
        }
        let some: __mmask16 = !0 >> (LANES - channels);
        let (y, clamps) = (args.y.wrapping_add(channel), &args.clamps);
        let begin = if args.first { args.weights.bias.as_ptr().add(channel) } else { y.cast_const() };
        let mut value = _mm512_add_ps(_mm512_maskz_loadu_ps(some, begin), sum);
        if args.last {
            let all = |(lo, hi): (f32, f32)| (_mm512_set1_ps(lo), _mm512_set1_ps(hi));
            let (lo, hi) = all(clamps.before);
            value = clamp(value, lo, hi);
            if clamps.residual {
                let (lo, hi) = all(clamps.after);
                let residual = _mm512_maskz_loadu_ps(some, args.residual.wrapping_add(channel));
                value = clamp(_mm512_add_ps(value, residual), lo, hi);
            }
        }
        _mm512_mask_storeu_ps(y, some, value);
    }
}

/// Rows of `R` channels of a single pixel; inputs are `args.x_stride` floats apart if `STRIDED`, else
/// neighbours.
///
/// # Safety
/// As [`single`], for a `C` of 1, if [`TileArgs::gathers`].
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn single_rows<const R: usize, const STRIDED: bool>(args: &TileArgs) {
    let stride = _mm512_set1_epi32(args.x_stride as i32);
    // the lanes of vector `v` of weights are those of block (LANES * v + lane) / R
    let count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let shift = _mm_cvtsi32_si128(R.trailing_zeros() as i32);
    let mut spread = [count; R];
    for (v, spread) in spread.iter_mut().enumerate() {
        *spread = _mm512_srl_epi32(_mm512_add_epi32(count, _mm512_set1_epi32((LANES * v) as i32)), shift);
    }
    // Rows that are finished together.
    let together = if R == 4 { 4 } else { 1 };
    for first in args.block_rows.clone().step_by(together) {
        let there = (args.block_rows.end - first).min(together);
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
                    let x = _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), some, at, args.x);
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
/// As [`single`]; `row` is in `args.block_rows`.
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

/// The loop over blocks for a fixed number of vectors; weights that are a `STREAM` are asked for ahead.
///
/// `E` pixels beyond the vectors go along, some of them perhaps without use; on its own, every such pixel
/// would be a pass over all weights. Of 4x4 blocks, a whole block is one vector, whose lane `4 * c + r` is
/// the weight of input `c` for output `r`. Times the inputs of such a pixel, that is one multiply-add and one
/// load for each pixel, beside 16 for each vector of pixels. Of 4x1 rows, the weights of a column are
/// repeated for each of the pixels, so that lane `4 * e + r` belongs to output `r` of pixel `e`: one
/// multiply-add for all of them. (The vector of inputs is as long as one of pixels then, so that more than
/// two pixels gain nothing. Pairs of rows do without: of 3 vectors they have so few sums that their latency
/// counts, and one more vector is as cheap.) [`TileArgs::extra_x`] has the inputs as these vectors want them.
/// Registers: `R * V` sums, `V` inputs, one weight, `E` sums and the vector of weights, which is at most 31.
///
/// # Safety
/// As [`tile`]; `V` is the number of vectors of `args.pixels`, and `E` is [`extra_slots`] of its extra
/// pixels.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn rows<const R: usize, const C: usize, const V: usize, const STREAM: bool, const E: usize>(
    args: &TileArgs,
) {
    /// How far ahead, in floats: what a core works off while the third level answers.
    const AHEAD: usize = (3 << 10) / size_of::<f32>();
    if R * V > 24 || (E > 0 && R != 4) {
        // Never a tile in the kernel table: keeps the compiler from making code for it.
        unreachable!("a tile of {V} vectors and {E} pixels of {R} rows");
    }
    let mut at = [0; V];
    for (v, at) in at.iter_mut().enumerate() {
        *at = v * LANES;
    }
    at[V - 1] = args.pixels - LANES;
    for row in args.block_rows.clone() {
        // SAFETY: `row` is a block row.
        let mut sums: [[__m512; V]; R] = unsafe { begin(args, row, &at) };
        // of rows only the first
        let mut extra = [_mm512_setzero_ps(); E];
        // SAFETY: `row` is a block row.
        let (indices, mut w, blocks) = unsafe { args.blocks(row, R * C) };
        prefetch_next(args, row, R * C);
        for block in 0..blocks {
            // SAFETY: every index is a channel of the chunks with C - 1 behind it, each with `args.pixels`
            // floats (TileArgs) and, for four channels together, a vector for each of `E` pixels
            // (`extra_x`); every block has R * C values (PackedPointwise).
            unsafe {
                let index = *indices.add(block) as usize;
                let mut channel = args.x.wrapping_add(index * args.x_stride);
                if STREAM && R * C == LANES {
                    _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(AHEAD).cast());
                }
                if E > 0 {
                    let x = args.extra_x.wrapping_add(index * E * R);
                    let repeated = match (C, E) {
                        (4, _) => _mm512_loadu_ps(w),
                        (_, 4) => _mm512_broadcast_f32x4(_mm_loadu_ps(w)),
                        _ => _mm512_zextps128_ps512(_mm_loadu_ps(w)),
                    };
                    for e in 0..if C == 4 { E } else { 1 } {
                        let x = match (C, E) {
                            (1, 1) => _mm512_zextps128_ps512(_mm_loadu_ps(x)),
                            _ => _mm512_loadu_ps(x.add(e * LANES)),
                        };
                        extra[e] = _mm512_fmadd_ps(repeated, x, extra[e]);
                    }
                }
                for _ in 0..C {
                    let mut x = [_mm512_setzero_ps(); V];
                    for v in 0..V {
                        x[v] = _mm512_loadu_ps(channel.add(at[v]));
                    }
                    for r in 0..R {
                        let w = _mm512_set1_ps(*w.add(r));
                        for v in 0..V {
                            sums[r][v] = _mm512_fmadd_ps(w, x[v], sums[r][v]);
                        }
                    }
                    channel = channel.wrapping_add(args.x_stride);
                    w = w.add(R);
                }
            }
        }
        let mut channels = [_mm_setzero_ps(); E];
        if C == 4 {
            channels = extra.map(|sum| fold_blocks(sum));
        } else if E > 0 {
            let mut lanes = [0f32; LANES];
            // SAFETY: there are 16 lanes, four for each pixel.
            unsafe {
                _mm512_storeu_ps(lanes.as_mut_ptr(), extra[0]);
                for e in 0..E {
                    channels[e] = _mm_loadu_ps(lanes.as_ptr().add(e * 4));
                }
            }
        }
        // SAFETY: `row` is a block row.
        unsafe {
            store(args, row, &at, &sums);
            if E > 0 {
                store_extra(args, row, &channels);
            }
        };
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
/// As [`begin`], for an `R` of 4.
#[inline(always)]
unsafe fn store_extra<const E: usize>(args: &TileArgs, row: usize, sums: &[__m128; E]) {
    // SAFETY: `bias` has four floats for each block row; there are `args.extra` floats behind the
    // `args.pixels` of each of its channels that exist, in `y`, in `residual` if there is one, and in the
    // waiting sums (TileArgs).
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
            let waiting = args.sums.wrapping_add(channel * args.sums_stride + args.pixels);
            let begin = if args.first {
                _mm_set1_ps(*args.weights.bias.get_unchecked(channel))
            } else {
                _mm_maskload_ps(waiting, some)
            };
            let mut value = _mm_add_ps(begin, rows[r]);
            if !args.last {
                _mm_maskstore_ps(waiting, some, value);
                continue;
            }
            let within = |v, (lo, hi)| _mm_min_ps(_mm_set1_ps(hi), _mm_max_ps(_mm_set1_ps(lo), v));
            let at = channel * args.stride + args.pixels;
            value = within(value, clamps.before);
            if clamps.residual {
                let residual = _mm_maskload_ps(args.residual.wrapping_add(at), some);
                value = within(_mm_add_ps(value, residual), clamps.after);
            }
            _mm_maskstore_ps(args.y.wrapping_add(at), some, value);
        }
    }
}

/// Single rows of `V` vectors and `H` half vectors, each read from an aligned place of the panel: the last
/// one is masked where it is stored.
///
/// # Safety
/// As [`tile`], for `R * C == 1`; `V` vectors and `H` halves are what `args.pixels` fill, the last perhaps in
/// part.
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn row<const V: usize, const H: usize>(args: &TileArgs) {
    let end = V + H - 1; // the vector that is masked
    let mask: __mmask16 = !0 >> ((end + 1) * LANES - args.pixels);
    for row in args.block_rows.clone() {
        let y = args.y.wrapping_add(row * args.stride);
        let waiting = args.sums.wrapping_add(row * args.sums_stride);
        let mut sums = [_mm512_setzero_ps(); V];
        let mut half = _mm256_setzero_ps();
        // SAFETY: `row` is a block row and an output channel; panel rows and waiting sums are valid for whole
        // vectors; every index is a channel of the chunks (TileArgs); every block has one value
        // (PackedPointwise). A prefetch may go anywhere.
        unsafe {
            if args.first {
                let bias = *args.weights.bias.get_unchecked(row);
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
            prefetch_next(args, row, 1);
            let mut add = |index: u32, w: __m512| {
                let x = args.x.wrapping_add(index as usize * args.x_stride);
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
            if !args.last {
                for v in 0..V {
                    _mm512_storeu_ps(waiting.add(v * LANES), sums[v]);
                }
                if H == 1 {
                    _mm256_storeu_ps(waiting.add(V * LANES), half);
                }
                continue;
            }
            let residual = args.residual.wrapping_add(row * args.stride);
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

/// Asks for the weights of the row after `row` where only some chunks are worked on: its part of them is
/// elsewhere, and the prefetcher of the core cannot know where.
#[inline(always)]
fn prefetch_next(args: &TileArgs, row: usize, block: usize) {
    if args.row_step > 1 {
        // SAFETY: the row is a block row: the next one or the last. A prefetch may go anywhere.
        unsafe {
            let (index, w, _) = args.blocks((row + 1).min(args.block_rows.end - 1), block);
            for line in 0..2 {
                _mm_prefetch::<_MM_HINT_T0>(index.wrapping_add(line * LANES).cast());
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(line * LANES).cast());
            }
        }
    }
}

/// What the sums of a block row begin with.
///
/// # Safety
/// As [`rows`]; `row` is in `args.block_rows`; `at + LANES` is at most `args.pixels`.
#[inline(always)]
unsafe fn begin<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
) -> [[__m512; V]; R] {
    let channels = args.channels(row, R);
    let mut y = args.y.wrapping_add(row * R * args.stride);
    let mut waiting = args.sums.wrapping_add(row * R * args.sums_stride);
    // SAFETY: `bias` has R floats for each block row; `row * R + r` is an output channel if r < channels,
    // with `args.pixels` floats of `y` (TileArgs). A prefetch may go anywhere.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for r in 0..R {
            for v in 0..V {
                if args.first {
                    sums[r][v] = _mm512_set1_ps(*args.weights.bias.get_unchecked(row * R + r));
                } else if r < channels {
                    sums[r][v] = _mm512_loadu_ps(waiting.add(at[v]));
                }
            }
            if args.first {
                // The output is often not in cache: ask for it now, store it many cycles later.
                for line in 0..V {
                    _mm_prefetch::<_MM_HINT_T0>(y.wrapping_add(line * LANES).cast());
                }
                _mm_prefetch::<_MM_HINT_T0>(y.wrapping_add(args.pixels - 1).cast());
            }
            y = y.wrapping_add(args.stride);
            waiting = waiting.wrapping_add(args.sums_stride);
        }
        sums
    }
}

/// Epilogue and store of one block row.
///
/// # Safety
/// As [`begin`].
#[inline(always)]
unsafe fn store<const R: usize, const V: usize>(
    args: &TileArgs,
    row: usize,
    at: &[usize; V],
    sums: &[[__m512; V]; R],
) {
    let (clamps, channels) = (&args.clamps, args.channels(row, R));
    let mut y = args.y.wrapping_add(row * R * args.stride);
    let mut residual = args.residual.wrapping_add(row * R * args.stride);
    // SAFETY: `args.pixels` floats of `y`, and of `residual` if there is one, are valid (TileArgs).
    unsafe {
        if !args.last {
            let mut waiting = args.sums.wrapping_add(row * R * args.sums_stride);
            for r in 0..R {
                for v in 0..V {
                    if r < channels {
                        _mm512_storeu_ps(waiting.add(at[v]), sums[r][v]);
                    }
                }
                waiting = waiting.wrapping_add(args.sums_stride);
            }
            return;
        }
        let (lo, hi) = (_mm512_set1_ps(clamps.before.0), _mm512_set1_ps(clamps.before.1));
        if !clamps.residual {
            for r in 0..R {
                for v in 0..V {
                    if r < channels {
                        let value = clamp(sums[r][v], lo, hi);
                        _mm512_storeu_ps(y.add(at[v]), value);
                    }
                }
                y = y.wrapping_add(args.stride);
            }
            return;
        }
        let (lo1, hi1) = (_mm512_set1_ps(clamps.after.0), _mm512_set1_ps(clamps.after.1));
        for r in 0..R {
            for v in 0..V {
                if r < channels {
                    let value = clamp(sums[r][v], lo, hi);
                    let value = _mm512_add_ps(value, _mm512_loadu_ps(residual.add(at[v])));
                    _mm512_storeu_ps(y.add(at[v]), clamp(value, lo1, hi1));
                }
            }
            y = y.wrapping_add(args.stride);
            residual = residual.wrapping_add(args.stride);
        }
    }
}

/// NaN stays NaN: max and min return their second operand if either is.
#[inline]
#[target_feature(enable = "avx512f,avx2,fma")]
fn clamp(v: __m512, lo: __m512, hi: __m512) -> __m512 {
    if cfg!(miri) {
        // Miri, which runs the tests where no CPU can, does not know the next two instructions.
        return halves(v, lo, hi);
    }
    _mm512_min_ps(hi, _mm512_max_ps(lo, v))
}

/// [`clamp`] in two vectors of 8.
#[target_feature(enable = "avx512f,avx2,fma")]
fn halves(v: __m512, lo: __m512, hi: __m512) -> __m512 {
    let split = |v| {
        let v = _mm512_castps_pd(v);
        [_mm512_extractf64x4_pd::<0>(v), _mm512_extractf64x4_pd::<1>(v)].map(|v| _mm256_castpd_ps(v))
    };
    let (v, lo, hi) = (split(v), split(lo), split(hi));
    let half = |i: usize| _mm256_castps_pd(_mm256_min_ps(hi[i], _mm256_max_ps(lo[i], v[i])));
    _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(half(0)), half(1)))
}
