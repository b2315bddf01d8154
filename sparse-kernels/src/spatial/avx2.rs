//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! The tile is `R` output channels by `V` vectors of pixels. For every stored column, `V` vectors are loaded at its
//! offset and each of the `R` weights is broadcast from memory and multiplied into its row of sums. 4 x 24 pixels take
//! 12 sums, 3 inputs and 1 weight: all 16 registers; a column is 12 multiply-adds, 7 vector loads and one
//! offset, so two multiply-adds a cycle leave room for every load, also where loads cross cache lines. Single rows
//! (`R == 1`) read the image as a memory operand of the multiply-add: 8 sums are enough to cover its latency.

use super::{TileArgs, Vector};
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
    let bases: [*const f32; V] =
        std::array::from_fn(|v| args.image.as_ptr().wrapping_add(args.vectors[v].base));
    for group in args.groups.clone() {
        // SAFETY: `group` is one of the tile's; `bias` has R floats for each.
        let (offsets, values, columns, bias) = unsafe {
            let (offsets, values, columns) = args.columns(group, R);
            (offsets, values, columns, args.weights.bias.as_ptr().add(group * R))
        };
        // SAFETY: as above.
        let mut sums: [[__m256; V]; R] =
            std::array::from_fn(|r| [unsafe { _mm256_broadcast_ss(&*bias.add(r)) }; V]);
        // SAFETY: offsets, values and bases are those of the group and the tile.
        unsafe { accumulate(&mut sums, &bases, offsets, values, columns) };
        for (r, sums) in sums.iter().enumerate().take(args.weights.oc - group * R) {
            for (vector, sum) in args.vectors.iter().zip(sums) {
                // SAFETY: `group * R + r` is an output channel of the group.
                unsafe { store(args, group * R + r, vector, *sum) };
            }
        }
    }
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
    if R == 4 && V == 3 && columns > 0 {
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

/// The widest tile in assembly: it needs every register, and compilers spill some of them in the loop, which halves
/// its speed.
///
/// # Safety
/// As [`accumulate`]; `columns` is not 0.
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
            "2:",
            "mov {offset:e}, dword ptr [{offsets}]",
            "vbroadcastss {w}, dword ptr [{values}]",
            "vmovups {x0}, ymmword ptr [{b0} + 4*{offset}]",
            "vmovups {x1}, ymmword ptr [{b1} + 4*{offset}]",
            "vmovups {x2}, ymmword ptr [{b2} + 4*{offset}]",
            "vfmadd231ps {s00}, {w}, {x0}",
            "vfmadd231ps {s01}, {w}, {x1}",
            "vfmadd231ps {s02}, {w}, {x2}",
            "vbroadcastss {w}, dword ptr [{values} + 4]",
            "vfmadd231ps {s10}, {w}, {x0}",
            "vfmadd231ps {s11}, {w}, {x1}",
            "vfmadd231ps {s12}, {w}, {x2}",
            "vbroadcastss {w}, dword ptr [{values} + 8]",
            "vfmadd231ps {s20}, {w}, {x0}",
            "vfmadd231ps {s21}, {w}, {x1}",
            "vfmadd231ps {s22}, {w}, {x2}",
            "vbroadcastss {w}, dword ptr [{values} + 12]",
            "vfmadd231ps {s30}, {w}, {x0}",
            "vfmadd231ps {s31}, {w}, {x1}",
            "vfmadd231ps {s32}, {w}, {x2}",
            "add {offsets}, 4",
            "add {values}, 16",
            "cmp {offsets}, {end}",
            "jne 2b",
            b0 = in(reg) bases[0], b1 = in(reg) bases[1], b2 = in(reg) bases[2],
            offsets = inout(reg) offsets => _, values = inout(reg) values => _,
            end = in(reg) offsets.add(columns), offset = out(reg) _,
            s00 = inout(ymm_reg) *s00, s01 = inout(ymm_reg) *s01, s02 = inout(ymm_reg) *s02,
            s10 = inout(ymm_reg) *s10, s11 = inout(ymm_reg) *s11, s12 = inout(ymm_reg) *s12,
            s20 = inout(ymm_reg) *s20, s21 = inout(ymm_reg) *s21, s22 = inout(ymm_reg) *s22,
            s30 = inout(ymm_reg) *s30, s31 = inout(ymm_reg) *s31, s32 = inout(ymm_reg) *s32,
            x0 = out(ymm_reg) _, x1 = out(ymm_reg) _, x2 = out(ymm_reg) _, w = out(ymm_reg) _,
            options(readonly, nostack),
        );
    }
}

/// Epilogue and store of one vector of an output channel.
///
/// # Safety
/// As [`tile`]; `channel` is an output channel of `args.groups`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store(args: &TileArgs, channel: usize, vector: &Vector, sum: __m256) {
    let clamps = &args.clamps;
    if !vector.full {
        let mut lanes = [0f32; LANES];
        // SAFETY: `lanes` is a whole vector; passed on from the caller.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), sum);
            args.store_lanes(channel, vector, &lanes);
        }
        return;
    }
    // max and min return their second operand if either is NaN: NaN stays.
    let clamp = |v, (lo, hi)| _mm256_min_ps(_mm256_set1_ps(hi), _mm256_max_ps(_mm256_set1_ps(lo), v));
    let mut value = clamp(sum, clamps.before);
    let at = channel * args.stride + vector.pixels[0];
    // SAFETY: the vector is full: LANES pixels follow `at` (TileArgs).
    unsafe {
        if clamps.residual {
            value = clamp(_mm256_add_ps(value, _mm256_loadu_ps(args.residual.add(at))), clamps.after);
        }
        _mm256_storeu_ps(args.y.add(at), value);
    }
}
