//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! The tile is `R` output channels by `V` vectors of pixels. For every stored column, `V` vectors are loaded at its
//! offset and each of the `R` weights is broadcast from memory and multiplied into its row of sums. 4 x 24 pixels take
//! 12 sums, 3 inputs and 1 weight: all 16 registers; a column is 12 multiply-adds, 7 vector loads and one
//! offset, so two multiply-adds a cycle leave room for every load, also where loads cross cache lines. Single rows
//! (`R == 1`) read the image as a memory operand of the multiply-add: 8 sums are enough to cover its latency.

use super::TileArgs;
use super::plan::CHUNK;
use std::arch::x86_64::*;

const LANES: usize = 8;

/// `R` output channels by up to `TILE` pixels.
///
/// # Safety
/// AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const TILE: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller; there are at most TILE / LANES vectors.
    unsafe {
        match args.vectors.len() {
            1 => rows::<R, TILE, 1>(args),
            2 => rows::<R, TILE, 2>(args),
            3 => rows::<R, TILE, 3>(args),
            4 => rows::<R, TILE, 4>(args),
            5 => rows::<R, TILE, 5>(args),
            6 => rows::<R, TILE, 6>(args),
            7 => rows::<R, TILE, 7>(args),
            _ => rows::<R, TILE, 8>(args),
        }
    }
}

/// The loop over columns for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V` is `args.vectors.len()`.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const R: usize, const TILE: usize, const V: usize>(args: &TileArgs) {
    if V * LANES > TILE || args.vectors.len() != V {
        return; // not a tile of this kernel: keeps the compiler from making code for it
    }
    let bases = std::array::from_fn(|v| args.image.as_ptr().wrapping_add(args.vectors[v].base as usize));
    let pixels: [usize; V] = std::array::from_fn(|v| args.vectors[v].pixel as usize);
    let (room, plain) = args.room(LANES);
    for group in args.groups.clone() {
        // SAFETY: `group` is one of the tile's; `bias` has R floats for each.
        let (offsets, values, columns, bias) = unsafe {
            let (offsets, values, columns) = args.columns(group, R);
            (offsets, values, columns, args.weights.bias.as_ptr().add(group * R))
        };
        let y = args.y.wrapping_add(group * R * args.stride);
        for r in 0..R {
            for pixel in pixels {
                // The lines of the output arrive while the sums are computed.
                let at = y.wrapping_add(r * args.stride + pixel);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
            }
        }
        // SAFETY: as above.
        let mut sums: [[__m256; V]; R] =
            std::array::from_fn(|r| [unsafe { _mm256_broadcast_ss(&*bias.add(r)) }; V]);
        // SAFETY: offsets, values and bases are those of the group and the tile.
        unsafe { accumulate(&mut sums, &bases, offsets, values, columns) };
        if !room || group * R + R > args.weights.oc {
            // A copy, so that the sums themselves can stay in registers.
            let sums = sums;
            // SAFETY: passed on from the caller.
            unsafe { store_pixels(args, group, &sums) };
            continue;
        }
        if !plain {
            for v in 0..V {
                let order = args.orders[args.vectors[v].order as usize].as_ptr();
                // SAFETY: an order has at least LANES entries.
                let order = unsafe { _mm256_loadu_si256(order.cast()) };
                sums.iter_mut().for_each(|sums| sums[v] = _mm256_permutevar8x32_ps(sums[v], order));
            }
        }
        for r in 0..R {
            for v in 0..V {
                let at = r * args.stride + pixels[v];
                // SAFETY: there is room for a whole vector in each of the R output channels of the group (TileArgs).
                unsafe {
                    let mut value = clamp(sums[r][v], args.clamps.before);
                    if args.clamps.residual {
                        let residual = args.residual.add(group * R * args.stride + at);
                        value = clamp(_mm256_add_ps(value, _mm256_loadu_ps(residual)), args.clamps.after);
                    }
                    _mm256_storeu_ps(y.add(at), value);
                }
            }
        }
    }
}

/// NaN stays: max and min return their second operand if either is NaN.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn clamp(v: __m256, (lo, hi): (f32, f32)) -> __m256 {
    _mm256_min_ps(_mm256_set1_ps(hi), _mm256_max_ps(_mm256_set1_ps(lo), v))
}

/// Adds `columns` columns to the sums.
///
/// # Safety
/// AVX2 and FMA are there; there are so many offsets, with a whole vector of the image at each offset of each base
/// (`TileArgs`), and `R` values for each (`PackedSpatial`).
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate<const R: usize, const V: usize>(
    sums: &mut [[__m256; V]; R],
    bases: &[*const f32; V],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    #[cfg(not(miri))]
    if R == 4 && V == 3 {
        // SAFETY: passed on from the caller; the types are the same for these R and V.
        unsafe {
            let sums = &mut *std::ptr::from_mut(sums).cast::<[[__m256; 3]; 4]>();
            let bases = &*std::ptr::from_ref(bases).cast::<[*const f32; 3]>();
            return accumulate_4x3(sums, bases, offsets, values, columns);
        }
    }
    for column in 0..columns {
        // SAFETY: passed on from the caller.
        unsafe {
            let offset = *offsets.add(column) as usize;
            let w = values.add(column * R);
            let x: [__m256; V] = std::array::from_fn(|v| _mm256_loadu_ps(bases[v].add(offset)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let w = _mm256_broadcast_ss(&*w.add(r));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = _mm256_fmadd_ps(w, x, *sum);
                }
            }
        }
    }
}

/// One column of [`accumulate_4x3`], `$i` columns after the pointers.
#[cfg(not(miri))]
macro_rules! column {
    ($i:literal) => {
        concat!(
            concat!("mov {offset:e}, dword ptr [{offsets} + 4*", $i, "]\n"),
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, "]\n"),
            "vmovups {x0}, ymmword ptr [{b0} + 4*{offset}]\n",
            "vmovups {x1}, ymmword ptr [{b1} + 4*{offset}]\n",
            "vmovups {x2}, ymmword ptr [{b2} + 4*{offset}]\n",
            "vfmadd231ps {s00}, {w}, {x0}\n",
            "vfmadd231ps {s01}, {w}, {x1}\n",
            "vfmadd231ps {s02}, {w}, {x2}\n",
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 4]\n"),
            "vfmadd231ps {s10}, {w}, {x0}\n",
            "vfmadd231ps {s11}, {w}, {x1}\n",
            "vfmadd231ps {s12}, {w}, {x2}\n",
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 8]\n"),
            "vfmadd231ps {s20}, {w}, {x0}\n",
            "vfmadd231ps {s21}, {w}, {x1}\n",
            "vfmadd231ps {s22}, {w}, {x2}\n",
            concat!("vbroadcastss {w}, dword ptr [{values} + 16*", $i, " + 12]\n"),
            "vfmadd231ps {s30}, {w}, {x0}\n",
            "vfmadd231ps {s31}, {w}, {x1}\n",
            "vfmadd231ps {s32}, {w}, {x2}",
        )
    };
}

/// The widest tile in assembly: it needs every register, and compilers spill some of them in the loop, which halves
/// its speed. Four columns at a time (the taps of a pattern): with so few rounds, the end of the loop is often
/// foreseen, and the next tile begins while this one ends.
///
/// # Safety
/// As [`accumulate`].
#[cfg(not(miri))]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate_4x3(
    sums: &mut [[__m256; 3]; 4],
    bases: &[*const f32; 3],
    offsets: *const u32,
    values: *const f32,
    columns: usize,
) {
    let [[s00, s01, s02], [s10, s11, s12], [s20, s21, s22], [s30, s31, s32]] = sums;
    // SAFETY: reads what the caller vouches for and writes registers only.
    unsafe {
        std::arch::asm!(
            "sub {left}, 4",
            "jl 3f",
            "2:",
            column!(0),
            column!(1),
            column!(2),
            column!(3),
            "add {offsets}, 16",
            "add {values}, 64",
            "sub {left}, 4",
            "jge 2b",
            "3:",
            "add {left}, 4",
            "jz 5f",
            "4:",
            column!(0),
            "add {offsets}, 4",
            "add {values}, 16",
            "dec {left}",
            "jnz 4b",
            "5:",
            b0 = in(reg) bases[0], b1 = in(reg) bases[1], b2 = in(reg) bases[2],
            offsets = inout(reg) offsets => _, values = inout(reg) values => _,
            left = inout(reg) columns => _, offset = out(reg) _,
            s00 = inout(ymm_reg) *s00, s01 = inout(ymm_reg) *s01, s02 = inout(ymm_reg) *s02,
            s10 = inout(ymm_reg) *s10, s11 = inout(ymm_reg) *s11, s12 = inout(ymm_reg) *s12,
            s20 = inout(ymm_reg) *s20, s21 = inout(ymm_reg) *s21, s22 = inout(ymm_reg) *s22,
            s30 = inout(ymm_reg) *s30, s31 = inout(ymm_reg) *s31, s32 = inout(ymm_reg) *s32,
            x0 = out(ymm_reg) _, x1 = out(ymm_reg) _, x2 = out(ymm_reg) _, w = out(ymm_reg) _,
            options(readonly, nostack),
        );
    }
}

/// Epilogue and store of a group, pixel by pixel.
///
/// # Safety
/// As [`rows`]; `group` is one of `args.groups`.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_pixels<const R: usize, const V: usize>(
    args: &TileArgs,
    group: usize,
    sums: &[[__m256; V]; R],
) {
    let channels = group * R..args.weights.oc.min(group * R + R);
    for (channel, sums) in channels.zip(sums) {
        for (vector, sum) in args.vectors.iter().zip(sums) {
            let mut lanes = [0f32; LANES];
            // SAFETY: `channel` is an output channel of the group; `lanes` is a whole vector.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), *sum);
                args.store_pixels(channel, vector, &lanes);
            }
        }
    }
}

/// Copies every other float. The last vector is moved back to end with the row.
///
/// # Safety
/// AVX2 is there; `to` has `len` floats, at least `CHUNK`, and `from` twice as many.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
    const { assert!(CHUNK == LANES) }
    let mut at = 0;
    loop {
        // SAFETY: `at + LANES` is at most `len`.
        unsafe {
            let (a, b) = (_mm256_loadu_ps(from.add(2 * at)), _mm256_loadu_ps(from.add(2 * at + LANES)));
            // Even floats of the low halves of a and b, then of the high halves, in pairs.
            let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b10_00_10_00>(a, b));
            let ordered = _mm256_permute4x64_pd::<0b11_01_10_00>(pairs);
            _mm256_storeu_ps(to.add(at), _mm256_castpd_ps(ordered));
        }
        if at + LANES == len {
            return;
        }
        at = (at + LANES).min(len - LANES);
    }
}
