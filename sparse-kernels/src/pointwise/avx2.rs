//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! The tile is `R` output channels by `V` vectors of pixels. A core can start two multiply-adds a cycle, each
//! taking four (five on some), so it wants at least 8 independent sums, better 10; and it can load two
//! vectors a cycle, so that every value loaded has to be used about once or more.
//!
//! * 4 x 24 pixels (4x4, 4x1): 12 sums, 3 inputs, 1 weight are all 16 registers. An input channel is 12
//!   multiply-adds for 3 loads and 4 broadcasts.
//! * 2 x 48: 12 sums, 2 weights, and one input at a time that is used twice: 12 multiply-adds for 8 loads.
//! * 1 x 112: 14 sums and 1 weight; inputs are memory operands: 14 multiply-adds for 15 loads. Loads are the
//!   limit, so sums are many, to lose nothing on top. Maps of 7, 14, 28, 56 and 112 pixels a side are cut
//!   into whole tiles.
//! * 8 x 8: 8 sums, 1 input, broadcasts.

use super::args::TileArgs;
use super::body::{self, Along, Pointwise, add_loaded};
use super::panel::COPIES;
use super::scalar::{finish, finish_pixel, finish_quad};
use crate::table::Element;
use crate::vector::{APART, EVEX, F32x8, VEX, Vector};
use crate::work::Work;
use std::arch::{asm, x86_64::*};

const LANES: usize = <F32x8 as Vector>::LANES;

/// How far ahead rows of a single pixel ask for their weights, each of which they read once. What fetches ahead in hardware
/// stays inside a page, and a row of blocks takes a line every few cycles.
const SINGLE_AHEAD: usize = (8 << 10) / size_of::<f32>();

impl Pointwise for F32x8 {
    const MOST_VECTORS: [usize; 4] = [14, 6, 3, 1];
    const TWO_SETS: usize = 4;

    /// What a core works off while the third level answers.
    const AHEAD: Option<usize> = Some((3 << 10) / size_of::<f32>());

    unsafe fn tile<const R: usize, const C: usize, const PIXELS: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe {
            match args.extra {
                1 if const { R == 4 } => body::tile::<Self, Extra, R, C, PIXELS>(args),
                0 => body::tile::<Self, (), R, C, PIXELS>(args),
                extra => unreachable!("{extra} pixels beyond a tile of {R} rows"),
            }
        }
    }

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { single::<R, C>(args) }
    }

    #[inline(always)]
    unsafe fn add_channel<const R: usize, const N: usize>(
        sums: &mut [[Self; N]; R],
        x: *const f32,
        at: &[usize; N],
        w: *const f32,
    ) {
        // SAFETY: passed on from the caller.
        unsafe { add_at_once(sums, x, at, w) }
    }
}

/// Quads. Products of bytes of even and of odd place take two registers for each input and each weight: 4 x 16 are 8 sums, 4
/// of inputs, 2 of weights, and 2 for products. Where a dot product is one instruction, tiles are those of floats.
impl<const DOT: u8> Pointwise for F32x8<{ Element::Int8 as u8 }, DOT> {
    const MOST_VECTORS: [usize; 4] = if DOT == APART { [6, 3, 2, 0] } else { [14, 6, 3, 0] };
    const TWO_SETS: usize = if DOT == APART { 0 } else { <F32x8 as Pointwise>::TWO_SETS };

    unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
        // SAFETY: passed on from the caller.
        unsafe { Self::on(Quads::<DOT, R>(args)) }
    }

    #[inline(always)]
    unsafe fn add_channel<const R: usize, const N: usize>(
        sums: &mut [[Self; N]; R],
        x: *const f32,
        at: &[usize; N],
        w: *const f32,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            match DOT {
                APART => add_loaded(sums, x, at, w),
                _ => add_at_once(sums, x, at, w),
            }
        }
    }
}

/// [`Pointwise::add_channel`] where [`Vector::dot`] is one instruction.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn add_at_once<const ELEMENT: u8, const DOT: u8, const R: usize, const N: usize>(
    sums: &mut [[F32x8<ELEMENT, DOT>; N]; R],
    x: *const f32,
    at: &[usize; N],
    w: *const f32,
) {
    // SAFETY: as the caller has vouched for.
    unsafe {
        if R == 4 && N == 3 && !cfg!(miri) {
            return four_by_three(sums, x, x.add(at[N - 1]), w);
        }
        if R == 2 {
            let w = [F32x8::splat(*w), F32x8::splat(*w.add(1))];
            for n in 0..N {
                let x = F32x8::load(x.add(at[n]));
                sums[0][n] = w[0].dot(x, sums[0][n]);
                sums[1][n] = w[1].dot(x, sums[1][n]);
            }
            return;
        }
        for r in 0..R {
            let w = F32x8::splat(*w.add(r));
            for n in 0..N {
                sums[r][n] = w.dot(F32x8::load(x.add(at[n])), sums[r][n]);
            }
        }
    }
}

/// The sums of four channels of the pixel behind a tile's vectors: one more multiply-add for each input channel.
/// [`super::args::Input::extra`] has each input four times.
#[derive(Clone, Copy)]
struct Extra(__m128);

impl Along<F32x8> for Extra {
    #[inline(always)]
    unsafe fn begin() -> Self {
        // SAFETY: SSE is always there.
        Extra(unsafe { _mm_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn channel<const R: usize, const N: usize>(
        &mut self,
        sums: &mut [[F32x8; N]; R],
        args: &TileArgs,
        channel: usize,
        x: *const f32,
        at: &[usize; N],
        w: *const f32,
    ) {
        let extra = args.input.extra.wrapping_add(channel * COPIES);
        // SAFETY: passed on from the caller; `extra` has four floats for each channel (Input), and a channel of a block
        // has four weights.
        unsafe {
            if R == 4 && N == 3 && !cfg!(miri) {
                return four_by_three_and_one(sums, &mut self.0, [x, x.add(at[N - 1]), extra], w);
            }
            self.0 = _mm_fmadd_ps(_mm_loadu_ps(w), _mm_loadu_ps(extra), self.0);
            F32x8::add_channel(sums, x, at, w);
        }
    }

    #[inline(always)]
    unsafe fn finish<const C: usize>(self, args: &TileArgs, row: usize) {
        let mut sums = [0f32; 4];
        // SAFETY: passed on from the caller; there is an extra pixel.
        unsafe {
            _mm_storeu_ps(sums.as_mut_ptr(), self.0);
            for (r, sum) in sums.iter().enumerate().take(args.channels(row, 4)) {
                finish_pixel(args, row * 4 + r, args.pixels, *sum);
            }
        }
    }
}

/// `R` output channels of a single pixel.
///
/// # Safety
/// AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`]; there is one pixel.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller.
    unsafe {
        match (R, C, args.input.stride) {
            (4, 4, 1) => single_blocks::<false>(args),
            (4, 4, _) => single_blocks::<true>(args),
            (8, 1, 1) => single_eights::<false>(args),
            (8, 1, _) => single_eights::<true>(args),
            (1 | 2 | 4, 1, 1) => single_rows::<FLOAT, APART, R, false>(args),
            (1 | 2 | 4, 1, _) => single_rows::<FLOAT, APART, R, true>(args),
            _ => unreachable!("no row of the table has blocks of {R}x{C}"),
        }
    }
}

/// The inputs of `LANES / R` blocks of one column, from the first of `indices` on, each in `R` lanes. A broadcast is a load
/// and nothing else, and a blend goes to any of the pipes; on Zen an instruction that gathers takes twice as
/// long.
///
/// # Safety
/// AVX2 is there; as many `indices` are valid, each of a channel of the chunks. Not `STRIDED` only if the stride is 1.
#[inline(always)]
unsafe fn inputs_of_blocks<const R: usize, const STRIDED: bool>(
    args: &TileArgs,
    indices: *const u32,
) -> __m256 {
    // SAFETY: passed on from the caller (`x` is valid at every multiple of the stride: Input).
    unsafe {
        let of = |block: usize| {
            let channel = *indices.add(block) as usize;
            let at = if STRIDED { channel * args.input.stride } else { channel };
            _mm256_broadcast_ss(&*args.input.x.wrapping_add(at))
        };
        let quarter = |first: usize| match R {
            1 => _mm256_blend_ps::<0b10_10_10_10>(of(first), of(first + 1)),
            _ => of(first / 2),
        };
        let half = |first: usize| match R {
            1 | 2 => _mm256_blend_ps::<0b1100_1100>(quarter(first), quarter(first + 2)),
            _ => of(first / 4),
        };
        _mm256_blend_ps::<0b1111_0000>(half(0), half(4))
    }
}

const FLOAT: u8 = Element::F32 as u8;
const INT8: u8 = Element::Int8 as u8;

/// Rows of `R` channels of a single pixel, of quads.
struct Quads<'a, const DOT: u8, const R: usize>(&'a TileArgs<'a>);

impl<const DOT: u8, const R: usize> Work for Quads<'_, DOT, R> {
    #[inline(always)]
    fn run(self) {
        // SAFETY: passed on from the caller of `single`, who alone makes these.
        unsafe {
            match self.0.input.stride {
                1 => single_rows::<INT8, DOT, R, false>(self.0),
                _ => single_rows::<INT8, DOT, R, true>(self.0),
            }
        }
    }
}

/// Rows of `R` channels of a single pixel: a vector is the weights of `LANES / R` blocks, times the input of each. Rows are
/// short and of any length, so that the loop takes one vector at a time, for one branch that is guessed wrong; two sums, in
/// turn, hide the latency of multiply-add.
///
/// # Safety
/// As [`single`], for an `R` of 1, 2 or 4 and a `C` of 1, or for quads; not `STRIDED` only if the stride is 1.
#[inline(always)]
unsafe fn single_rows<const ELEMENT: u8, const DOT: u8, const R: usize, const STRIDED: bool>(
    args: &TileArgs,
) {
    let (at_once, together) = const { (LANES / R, 4 / R) };
    for first in args.weights.rows.clone().step_by(together) {
        let rows = first..args.weights.rows.end.min(first + together);
        let mut channels = [0f32; 8];
        for (place, row) in rows.clone().enumerate() {
            // SAFETY: `row` is a block row; every index is a channel of the chunks (TileArgs), and every block has R values
            // (PackedPointwise), of which the mask takes those that are there. Four lanes fit from any of four channels on.
            unsafe {
                let mut sums = [F32x8::<ELEMENT, DOT>::splat(0.0); 2];
                let (mut index, mut w, blocks) = args.blocks(row, R);
                for _ in 0..blocks / at_once {
                    <F32x8 as Vector>::prefetch(w.wrapping_add(SINGLE_AHEAD));
                    let x = F32x8(inputs_of_blocks::<R, STRIDED>(args, index));
                    sums = [sums[1], F32x8::load(w).dot(x, sums[0])];
                    (index, w) = (index.add(at_once), w.add(LANES));
                }
                let rest = blocks % at_once;
                if rest > 0 {
                    let indices: [u32; LANES] = std::array::from_fn(|block| *index.add(block.min(rest - 1)));
                    let mask = F32x8::<ELEMENT, DOT>::edge(0, rest * R);
                    let x = inputs_of_blocks::<R, STRIDED>(args, indices.as_ptr());
                    // What the mask leaves out may be infinite.
                    let x = F32x8(_mm256_and_ps(x, _mm256_castsi256_ps(mask)));
                    sums[0] = F32x8::load_edge(w, mask).dot(x, sums[0]);
                }
                let sum = sums[0].add(sums[1]).0;
                let mut sum = plus::<ELEMENT>(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
                if R < 4 {
                    sum = plus::<ELEMENT>(sum, _mm_movehl_ps(sum, sum));
                }
                if R < 2 {
                    sum = plus::<ELEMENT>(sum, _mm_movehdup_ps(sum));
                }
                _mm_storeu_ps(channels.as_mut_ptr().add(place * R), sum);
            }
        }
        // SAFETY: these are channels of the rows, with one pixel; of quads all four are there (PackedPointwise).
        unsafe {
            match ELEMENT {
                INT8 => finish_quad(args, first * R, &channels[..4]),
                _ => finish_some(args, first * R, rows.len() * R, _mm_loadu_ps(channels.as_ptr())),
            }
        }
    }
}

/// Sums of floats, or of whole numbers.
///
/// # Safety
/// SSE2 is there.
#[inline(always)]
unsafe fn plus<const ELEMENT: u8>(a: __m128, b: __m128) -> __m128 {
    // SAFETY: passed on from the caller.
    unsafe {
        match ELEMENT {
            INT8 => _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a), _mm_castps_si128(b))),
            _ => _mm_add_ps(a, b),
        }
    }
}

/// Finishes the `rows` output channels from `channel` on, at most four, those of them that there are, as [`finish`] does
/// one.
///
/// # Safety
/// AVX2 and FMA are there; these are channels of the rows in `args.weights.rows`; `pixels` is 1.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn finish_some(args: &TileArgs, channel: usize, rows: usize, sum: __m128) {
    // SAFETY: there are four lanes; each channel below `oc` has one pixel of `y`, and of `residual` if there
    // is one, and four of them are neighbours if the stride is 1 (TileArgs); `bias` has whole rows.
    unsafe {
        let there = args.weights.packed.whole_oc.saturating_sub(channel).min(rows);
        if args.output.stride != 1 || there < 4 {
            let mut lanes = [0f32; 4];
            _mm_storeu_ps(lanes.as_mut_ptr(), sum);
            for (r, sum) in lanes.iter().enumerate().take(there) {
                finish(args, channel + r, *sum);
            }
            return;
        }
        let (y, clamps) = (args.output.y.wrapping_add(channel), &args.clamps);
        let begin =
            if args.weights.first { args.weights.packed.bias.as_ptr().add(channel) } else { y.cast_const() };
        let mut value = _mm_add_ps(_mm_loadu_ps(begin), sum);
        if args.weights.last {
            // max and min return their second operand if either is NaN: NaN stays.
            let clamp = |v, (lo, hi): (f32, f32)| _mm_min_ps(_mm_set1_ps(hi), _mm_max_ps(_mm_set1_ps(lo), v));
            value = clamp(value, clamps.before);
            if clamps.residual {
                let residual = _mm_loadu_ps(args.output.residual.wrapping_add(channel));
                value = clamp(_mm_add_ps(value, residual), clamps.after);
            }
        }
        _mm_storeu_ps(y, value);
    }
}

/// The four inputs from `channel` on, `args.input.stride` floats apart if `STRIDED`, else neighbours.
///
/// # Safety
/// SSE is there; `channel` is one of the chunks with three behind it; not `STRIDED` only if the stride is 1.
#[inline(always)]
pub(super) unsafe fn four_inputs<const STRIDED: bool>(args: &TileArgs, channel: u32) -> __m128 {
    let x = args.input.x.wrapping_add(channel as usize * args.input.stride);
    // SAFETY: passed on from the caller.
    unsafe {
        if STRIDED {
            let at = |i: usize| *x.wrapping_add(i * args.input.stride);
            _mm_setr_ps(at(0), at(1), at(2), at(3))
        } else {
            _mm_loadu_ps(x)
        }
    }
}

/// 4x4 blocks of a single pixel; inputs are `args.input.stride` floats apart if `STRIDED`, else neighbours. A
/// block is two vectors of two columns, times its inputs, each in four lanes.
///
/// # Safety
/// As [`single`], for `R` and `C` of 4; not `STRIDED` only if the stride is 1.
#[target_feature(enable = "avx2,fma")]
unsafe fn single_blocks<const STRIDED: bool>(args: &TileArgs) {
    let spread = [_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3)];
    for row in args.weights.rows.clone() {
        let mut sums = [[_mm256_setzero_ps(); 2]; 2];
        // SAFETY: `row` is a block row; every index is a channel of the chunks with three behind it
        // (TileArgs); every block has 16 values (PackedPointwise); `row * 4 + r` is an output channel
        // with one pixel.
        unsafe {
            let (mut index, mut w, blocks) = args.blocks(row, 2 * LANES);
            let mut add = |set: usize| {
                <F32x8 as Vector>::prefetch(w.wrapping_add(SINGLE_AHEAD));
                let x = four_inputs::<STRIDED>(args, *index);
                let x = _mm256_set_m128(x, x);
                for half in 0..2 {
                    let x = _mm256_permutevar_ps(x, spread[half]);
                    sums[set][half] =
                        _mm256_fmadd_ps(_mm256_loadu_ps(w.add(LANES * half)), x, sums[set][half]);
                }
                (index, w) = (index.add(1), w.add(2 * LANES));
            };
            for _ in 0..blocks / 2 {
                add(0);
                add(1);
            }
            if blocks % 2 > 0 {
                add(0);
            }
            let [even, odd] = sums.map(|[left, right]| _mm256_add_ps(left, right));
            let sum = _mm256_add_ps(even, odd);
            let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
            finish_some(args, row * 4, 4, sum);
        }
    }
}

/// Rows of eight channels of a single pixel: a block is a vector, times one input. Rows of a product with a vector are long, and
/// three loads for eight multiply-adds are all that there is time for: blocks are counted in fours, whose weights are two lines.
///
/// # Safety
/// As [`single`], for an `R` of 8 and a `C` of 1; not `STRIDED` only if the stride is 1.
#[target_feature(enable = "avx2,fma")]
unsafe fn single_eights<const STRIDED: bool>(args: &TileArgs) {
    /// Independent sums, to hide the latency of multiply-add.
    const SETS: usize = 4;
    let stride = if STRIDED { args.input.stride } else { 1 };
    for row in args.weights.rows.clone() {
        let mut sums = [_mm256_setzero_ps(); SETS];
        // SAFETY: `row` is a block row; every index is a channel of the chunks (TileArgs); every block has 8
        // values (PackedPointwise); `row * 8 + r` is an output channel with one pixel.
        unsafe {
            let (mut index, mut w, blocks) = args.blocks(row, LANES);
            let times = |index: *const u32, w: *const f32, sum: &mut __m256| {
                let x = _mm256_broadcast_ss(&*args.input.x.wrapping_add(*index as usize * stride));
                *sum = _mm256_fmadd_ps(_mm256_loadu_ps(w), x, *sum);
            };
            for _ in 0..blocks / SETS {
                for line in 0..2 {
                    <F32x8 as Vector>::prefetch(w.wrapping_add(SINGLE_AHEAD + 2 * LANES * line));
                }
                for (set, sum) in sums.iter_mut().enumerate() {
                    times(index.add(set), w.add(LANES * set), sum);
                }
                (index, w) = (index.add(SETS), w.add(SETS * LANES));
            }
            for set in 0..blocks % SETS {
                times(index.add(set), w.add(LANES * set), &mut sums[set]);
            }
            let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
            finish_some(args, row * 8, 4, _mm256_castps256_ps128(sum));
            finish_some(args, row * 8 + 4, 4, _mm256_extractf128_ps::<1>(sum));
        }
    }
}

/// These instructions, of which operands are `$operand`s, and `s00` to `s32`, 4 by 3 sums.
macro_rules! on_sums {
    ($sums:ident, [$($instruction:expr),* $(,)?], $($operand:tt)*) => {
        asm!(
            $($instruction,)*
            $($operand)*
            s00 = inout(ymm_reg) $sums[0][0].0,
            s01 = inout(ymm_reg) $sums[0][1].0,
            s02 = inout(ymm_reg) $sums[0][2].0,
            s10 = inout(ymm_reg) $sums[1][0].0,
            s11 = inout(ymm_reg) $sums[1][1].0,
            s12 = inout(ymm_reg) $sums[1][2].0,
            s20 = inout(ymm_reg) $sums[2][0].0,
            s21 = inout(ymm_reg) $sums[2][1].0,
            s22 = inout(ymm_reg) $sums[2][2].0,
            s30 = inout(ymm_reg) $sums[3][0].0,
            s31 = inout(ymm_reg) $sums[3][1].0,
            s32 = inout(ymm_reg) $sums[3][2].0,
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}

/// The instructions of [`four_by_three`]; `$add` adds to its first operand.
macro_rules! four_by_three {
    ($add:literal, $sums:ident, $x:ident, $last:ident, $w:ident) => {
        on_sums!(
            $sums,
            [
                "vmovups {x0}, [{x}]",
                "vmovups {x1}, [{x} + 32]",
                "vmovups {x2}, [{last}]",
                "vbroadcastss {b}, [{w}]",
                concat!($add, " {s00}, {x0}, {b}"),
                concat!($add, " {s01}, {x1}, {b}"),
                concat!($add, " {s02}, {x2}, {b}"),
                "vbroadcastss {b}, [{w} + 4]",
                concat!($add, " {s10}, {x0}, {b}"),
                concat!($add, " {s11}, {x1}, {b}"),
                concat!($add, " {s12}, {x2}, {b}"),
                "vbroadcastss {b}, [{w} + 8]",
                concat!($add, " {s20}, {x0}, {b}"),
                concat!($add, " {s21}, {x1}, {b}"),
                concat!($add, " {s22}, {x2}, {b}"),
                "vbroadcastss {b}, [{w} + 12]",
                concat!($add, " {s30}, {x0}, {b}"),
                concat!($add, " {s31}, {x1}, {b}"),
                concat!($add, " {s32}, {x2}, {b}"),
            ],
            x = in(reg) $x,
            last = in(reg) $last,
            w = in(reg) $w,
            x0 = out(ymm_reg) _,
            x1 = out(ymm_reg) _,
            x2 = out(ymm_reg) _,
            b = out(ymm_reg) _,
        )
    };
}

/// [`Pointwise::add_channel`] of 4 channels by 3 vectors, the last at `last`: all 16 registers. The compiler would broadcast
/// two weights at a time and move sums to the stack.
///
/// # Safety
/// As [`Pointwise::add_channel`], not for quads of [`APART`]; `sums` is 4 by 3.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn four_by_three<const ELEMENT: u8, const DOT: u8, const R: usize, const V: usize>(
    sums: &mut [[F32x8<ELEMENT, DOT>; V]; R],
    x: *const f32,
    last: *const f32,
    w: *const f32,
) {
    // SAFETY: reads what the caller has vouched for.
    unsafe {
        match DOT {
            VEX => four_by_three!("{{vex}} vpdpbusd", sums, x, last, w),
            EVEX => four_by_three!("vpdpbusd", sums, x, last, w),
            _ => four_by_three!("vfmadd231ps", sums, x, last, w),
        }
    }
}

/// [`four_by_three`], and `extra`, the sums of one pixel more, whose input is four times at the last of `x`. Registers are
/// all in use: the third vector of pixels is read once for each weight, 12 loads in place of 7 for 13 multiply-adds.
///
/// # Safety
/// As [`four_by_three`]; the last of `x` is valid for four floats.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn four_by_three_and_one<const R: usize, const V: usize>(
    sums: &mut [[F32x8; V]; R],
    extra: &mut __m128,
    [x, last, one]: [*const f32; 3],
    w: *const f32,
) {
    // SAFETY: reads what the caller has vouched for.
    unsafe {
        on_sums!(
            sums,
            [
                "vmovups {b:x}, [{one}]",
                "vmovups {x0}, [{x}]",
                "vmovups {x1}, [{x} + 32]",
                "vfmadd231ps {extra:x}, {b:x}, [{w}]",
                "vbroadcastss {b}, [{w}]",
                "vfmadd231ps {s00}, {x0}, {b}",
                "vfmadd231ps {s01}, {x1}, {b}",
                "vfmadd231ps {s02}, {b}, [{last}]",
                "vbroadcastss {b}, [{w} + 4]",
                "vfmadd231ps {s10}, {x0}, {b}",
                "vfmadd231ps {s11}, {x1}, {b}",
                "vfmadd231ps {s12}, {b}, [{last}]",
                "vbroadcastss {b}, [{w} + 8]",
                "vfmadd231ps {s20}, {x0}, {b}",
                "vfmadd231ps {s21}, {x1}, {b}",
                "vfmadd231ps {s22}, {b}, [{last}]",
                "vbroadcastss {b}, [{w} + 12]",
                "vfmadd231ps {s30}, {x0}, {b}",
                "vfmadd231ps {s31}, {x1}, {b}",
                "vfmadd231ps {s32}, {b}, [{last}]",
            ],
            x = in(reg) x,
            last = in(reg) last,
            one = in(reg) one,
            w = in(reg) w,
            x0 = out(ymm_reg) _,
            x1 = out(ymm_reg) _,
            b = out(ymm_reg) _,
            extra = inout(ymm_reg) *extra,
        );
    }
}
