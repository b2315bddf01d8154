//! AVX2 and FMA: 16 registers of 8 floats.
//!
//! The tile is `R` output channels by `V` vectors of pixels. For every input channel of a block, `V` vectors of the
//! panel are loaded once and each of the `R` weights is broadcast from memory and multiplied into its row of
//! sums. 4 x 24 pixels take 12 sums, 3 inputs and 1 weight: all 16 registers. Per 4x4 block that is 48 multiply-adds, 28
//! loads and one index, so two multiply-adds a cycle leave room for every load. Single rows (`R == 1`) read
//! the panel as a memory operand of the multiply-add: 8 sums are enough to cover its latency.

use super::TileArgs;
use std::arch::x86_64::*;

const LANES: usize = 8;

pub(super) use super::scalar::single;

/// `R` output channels by up to `TILE` pixels.
///
/// # Safety
/// AVX2 and FMA are there; `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const C: usize, const TILE: usize>(args: &TileArgs) {
    // SAFETY: passed on from the caller; a tile of `pixels` needs that many vectors, at most TILE / LANES.
    unsafe {
        match args.pixels.div_ceil(LANES) {
            1 => rows::<R, C, TILE, 1>(args),
            2 => rows::<R, C, TILE, 2>(args),
            3 => rows::<R, C, TILE, 3>(args),
            4 => rows::<R, C, TILE, 4>(args),
            5 => rows::<R, C, TILE, 5>(args),
            6 => rows::<R, C, TILE, 6>(args),
            7 => rows::<R, C, TILE, 7>(args),
            _ => rows::<R, C, TILE, 8>(args),
        }
    }
}

/// The loop over blocks for a fixed number of vectors.
///
/// # Safety
/// As [`tile`]; `V * LANES` is at least `args.pixels` and at most `TILE`.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const R: usize, const C: usize, const TILE: usize, const V: usize>(args: &TileArgs) {
    if V * LANES > TILE {
        return; // not a tile of this kernel: keeps the compiler from making code for it
    }
    let panel = args.panel.as_ptr();
    for row in args.block_rows.clone() {
        // SAFETY: `row` is a block row; `bias` has R floats for each.
        let (indices, values, blocks, bias) = unsafe {
            let (indices, values, blocks) = args.blocks(row, R * C);
            (indices, values, blocks, args.weights.bias.as_ptr().add(row * R))
        };
        // SAFETY: as above.
        let mut sums: [[__m256; V]; R] =
            std::array::from_fn(|r| [unsafe { _mm256_broadcast_ss(&*bias.add(r)) }; V]);
        for block in 0..blocks {
            // SAFETY: every index is a row of the panel with C - 1 rows behind it, each of TILE >= V * LANES floats;
            // every block has R * C values (PackedPointwise).
            unsafe {
                let x = panel.add(*indices.add(block) as usize * TILE);
                let w = values.add(block * R * C);
                for c in 0..C {
                    let x: [__m256; V] =
                        std::array::from_fn(|v| _mm256_loadu_ps(x.add(c * TILE + v * LANES)));
                    for r in 0..R {
                        let w = _mm256_broadcast_ss(&*w.add(c * R + r));
                        for v in 0..V {
                            sums[r][v] = _mm256_fmadd_ps(w, x[v], sums[r][v]);
                        }
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(args.weights.oc - row * R) {
            // SAFETY: `row * R + r` is an output channel.
            unsafe { store(args, row * R + r, sums) };
        }
    }
}

/// Epilogue and store of one output channel.
///
/// # Safety
/// As [`tile`]; `channel` is an output channel of `args.block_rows`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store<const V: usize>(args: &TileArgs, channel: usize, sums: &[__m256; V]) {
    let clamps = &args.clamps;
    let (lo0, hi0) = (_mm256_set1_ps(clamps.before.0), _mm256_set1_ps(clamps.before.1));
    let (lo1, hi1) = (_mm256_set1_ps(clamps.after.0), _mm256_set1_ps(clamps.after.1));
    let y = args.y.wrapping_add(channel * args.stride);
    let residual = args.residual.wrapping_add(channel * args.stride);
    // max and min return their second operand if either is NaN: NaN stays.
    let before = |v| _mm256_min_ps(hi0, _mm256_max_ps(lo0, v));
    let after = |v| _mm256_min_ps(hi1, _mm256_max_ps(lo1, v));
    for (v, sum) in sums.iter().enumerate() {
        let mut value = before(*sum);
        let left = args.pixels - (v * LANES).min(args.pixels);
        // SAFETY: `left` floats are valid from pixel v * LANES on (TileArgs); a whole vector is touched only if that
        // many are left.
        unsafe {
            if left >= LANES {
                if clamps.residual {
                    value = after(_mm256_add_ps(value, _mm256_loadu_ps(residual.add(v * LANES))));
                }
                _mm256_storeu_ps(y.add(v * LANES), value);
            } else {
                let mut lanes = [0f32; LANES];
                if clamps.residual {
                    std::ptr::copy_nonoverlapping(residual.add(v * LANES), lanes.as_mut_ptr(), left);
                    value = after(_mm256_add_ps(value, _mm256_loadu_ps(lanes.as_ptr())));
                }
                _mm256_storeu_ps(lanes.as_mut_ptr(), value);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), y.add(v * LANES), left);
            }
        }
    }
}
