//! Quads of a single pixel, for machines of four lanes.

use super::args::TileArgs;
use super::scalar::finish_quad;
use crate::quads::CHANNELS;
use crate::vector::{MAX_LANES, Vector, compiled};

compiled! {
    /// `R` output channels of a single pixel, of quads.
    ///
    /// # Safety
    /// As [`super::body::Pointwise::single`], for blocks of one lane of `R` rows, which is a divisor of four.
    pub(super) unsafe fn single_of_quads<V: Vector; R: usize>(TileArgs) = single_quads;
}

/// [`single_of_quads`]: a vector is the weights of as many blocks as fill it, times the input of each in as many lanes as
/// it has rows.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn single_quads<V: Vector, const R: usize>(args: &TileArgs) {
    let together = const { V::LANES / R };
    for quad in args.weights.rows.clone().step_by(const { CHANNELS / R }) {
        let mut channels = [0f32; CHANNELS];
        for (row, of_row) in (quad..).zip(channels.chunks_exact_mut(R)) {
            // SAFETY: all rows of a quad are there; every index is a lane of the chunks, and every block has R values
            // (TileArgs, PackedPointwise); arrays have as many lanes as a vector, at least.
            unsafe {
                let (indices, values, blocks) = args.blocks(row, R);
                let mut sum = V::splat(0.0);
                for first in (0..blocks).step_by(together) {
                    let there = together.min(blocks - first);
                    let mut x = [0f32; MAX_LANES];
                    for (block, x) in x.chunks_exact_mut(R).enumerate().take(there) {
                        let lane = *indices.add(first + block) as usize;
                        x.fill(*args.input.x.wrapping_add(lane * args.input.stride));
                    }
                    let mut w = [0f32; MAX_LANES];
                    let w = if there == together {
                        values.add(first * R)
                    } else {
                        std::ptr::copy_nonoverlapping(values.add(first * R), w.as_mut_ptr(), there * R);
                        w.as_ptr()
                    };
                    sum = V::load(w).dot(V::load(x.as_ptr()), sum);
                }
                let mut lanes = [0f32; MAX_LANES];
                sum.store(lanes.as_mut_ptr());
                for (i, lane) in lanes[..V::LANES].iter().enumerate() {
                    let sum = &mut of_row[i % R];
                    *sum = f32::from_bits(sum.to_bits().wrapping_add(lane.to_bits()));
                }
            }
        }
        // SAFETY: these are the channels of a quad, with one pixel.
        unsafe { finish_quad(args, quad * R, &channels) };
    }
}
