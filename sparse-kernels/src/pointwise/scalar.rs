//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::TileArgs;

/// `R` output channels by up to `TILE` pixels at a time.
///
/// # Safety
/// `args` keeps the invariants of [`TileArgs`].
pub(super) unsafe fn tile<const R: usize, const C: usize, const TILE: usize>(args: &TileArgs) {
    for row in args.block_rows.clone() {
        let mut sums = [[0f32; TILE]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            sums.fill(args.weights.bias[row * R + r]);
        }
        let blocks = args.weights.starts[row] as usize..args.weights.starts[row + 1] as usize;
        for block in blocks {
            let panel = &args.panel[args.weights.indices[block] as usize * TILE..][..C * TILE];
            let values = &args.weights.values[block * R * C..][..R * C];
            for (x, w) in panel.chunks_exact(TILE).zip(values.chunks_exact(R)) {
                for (sums, w) in sums.iter_mut().zip(w) {
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum += w * x;
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(args.weights.oc - row * R) {
            // SAFETY: row `row * R + r` is an output channel, `pixels` floats are valid there (TileArgs).
            unsafe { store(args, row * R + r, &sums[..args.pixels]) };
        }
    }
}

/// `R` output channels of a single pixel.
///
/// # Safety
/// `args` keeps the invariants of [`TileArgs`]; `pixels` is 1.
pub(super) unsafe fn single<const R: usize, const C: usize>(args: &TileArgs) {
    for row in args.block_rows.clone() {
        let mut sums = [0f32; R];
        sums.copy_from_slice(&args.weights.bias[row * R..][..R]);
        // SAFETY: `row` is a block row.
        let (indices, values, blocks) = unsafe { args.blocks(row, R * C) };
        for block in 0..blocks {
            for c in 0..C {
                // SAFETY: every index is a row of the panel, with `C - 1` rows behind it; a block has R * C values.
                let (x, w) = unsafe {
                    let index = *indices.add(block) as usize + c;
                    (*args.panel.get_unchecked(index), values.add((block * C + c) * R))
                };
                for (r, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: as above.
                    *sum += unsafe { *w.add(r) } * x;
                }
            }
        }
        for (r, sum) in sums.iter().enumerate().take(args.weights.oc - row * R) {
            // SAFETY: row `row * R + r` is an output channel with one pixel.
            unsafe { store(args, row * R + r, std::slice::from_ref(sum)) };
        }
    }
}

/// Writes one row of finished sums.
///
/// # Safety
/// `channel` is an output channel of `args.block_rows` and `sums` is not longer than `args.pixels`.
pub(super) unsafe fn store(args: &TileArgs, channel: usize, sums: &[f32]) {
    let clamps = &args.clamps;
    for (p, v) in sums.iter().enumerate() {
        let at = channel * args.stride + p;
        let mut v = clamp(*v, clamps.before);
        // SAFETY: TileArgs: `y` and `residual` are valid at channel * stride + pixel.
        unsafe {
            if clamps.residual {
                v += *args.residual.wrapping_add(at);
            }
            *args.y.wrapping_add(at) = clamp(v, clamps.after);
        }
    }
}

/// NaN stays NaN.
fn clamp(v: f32, (lo, hi): (f32, f32)) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}
