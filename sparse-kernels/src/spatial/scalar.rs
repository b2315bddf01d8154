//! The plain version: what every other target must agree with, and what runs where there is no other.

use super::TileArgs;
use super::body::{Loops, RowsApart};
use crate::pairs::{self, f16};
use crate::quads;
use crate::table::Element;
use std::ops::Range;

const LANES: usize = 8;

/// Most output channels that are summed together.
const MOST: usize = 4;

/// No vectors: plain Rust, for lanes of the [`Element`] with the number `ELEMENT`.
pub(crate) struct Scalar<const ELEMENT: u8 = { Element::F32 as u8 }>;

impl<const ELEMENT: u8> Loops for Scalar<ELEMENT> {
    const LANES: usize = LANES;
    const ELEMENT: Element = Element::numbered(ELEMENT);
    const MOST_VECTORS: [usize; 3] = [usize::MAX; 3];

    /// Channels of a pair or quad that are in several groups are summed one after the other and stored together.
    unsafe fn tile<const R: usize, const PIXELS: usize>(args: &TileArgs) {
        let (w, groups) = (args.weights.packed, &args.weights.groups);
        let together = const { Self::ELEMENT.per_lane().div_ceil(R) };
        for first in groups.clone().step_by(together) {
            let some = first..groups.end.min(first + together);
            for vector in args.output.vectors {
                let mut all = [[0f32; LANES]; MOST];
                for (group, sums) in some.clone().zip(all.chunks_exact_mut(R)) {
                    for (sums, bias) in sums.iter_mut().zip(&w.bias[group * R..]) {
                        sums.fill(*bias);
                    }
                    let columns = w.starts[group] as usize..w.starts[group + 1] as usize;
                    match Self::ELEMENT {
                        Element::F16 => Self::add_halves::<R>(args, columns, vector.base as usize, sums),
                        _ => Self::add::<R>(args, columns, vector.base as usize, sums),
                    }
                }
                let channel = first * R;
                if Self::ELEMENT == Element::Int8 {
                    for (quad, sums) in all[..some.len() * R].as_chunks().0.iter().enumerate() {
                        // SAFETY: the quads of these groups are there, the first is that of the first group.
                        unsafe { args.store_quad(channel + quads::CHANNELS * quad, vector, sums) };
                    }
                    continue;
                }
                let sums = &all[..(w.oc - channel).min(some.len() * R)];
                if Self::ELEMENT == Element::F32 || args.output.sums {
                    for (r, sums) in sums.iter().enumerate() {
                        // SAFETY: `channel + r` is an output channel of the groups.
                        unsafe { args.store_pixels(channel + r, vector, sums) };
                    }
                } else {
                    for (pair, sums) in sums.chunks(2).enumerate() {
                        let both = [&sums[0][..], &sums[sums.len() - 1][..]];
                        // SAFETY: as above; the first channel of a group, or of two, is that of a lane.
                        unsafe {
                            args.store_lanes(Self::ELEMENT, channel + 2 * pair, vector, &both[..sums.len()])
                        };
                    }
                }
            }
        }
    }

    unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
        for i in 0..len {
            // SAFETY: passed on from the caller.
            unsafe { *to.add(i) = *from.add(2 * i) };
        }
    }

    unsafe fn apart(rows: &RowsApart) {
        for (row, i) in (0..rows.height).flat_map(|row| (0..rows.width).map(move |i| (row, i))) {
            // SAFETY: passed on from the caller.
            let lane = unsafe { *rows.from.add(row * rows.down + i * rows.right) }.to_bits();
            for (to, half) in rows.to.into_iter().zip([lane as u16, (lane >> 16) as u16]) {
                if let Some(to) = to {
                    // SAFETY: as above.
                    unsafe { *to.add(row * rows.pitch + i) = half };
                }
            }
        }
    }
}

impl<const ELEMENT: u8> Scalar<ELEMENT> {
    /// [`Scalar::add`] in f16: sums are floats that are rounded already.
    fn add_halves<const R: usize>(
        args: &TileArgs,
        columns: Range<usize>,
        base: usize,
        sums: &mut [[f32; LANES]],
    ) {
        let (image, values) = (pairs::as_halves(args.image), pairs::as_halves(&args.weights.packed.values));
        for (r, sums) in sums.iter_mut().enumerate() {
            for (lane, sum) in sums.iter_mut().enumerate() {
                let mut halves = f16::Sum::new(f16::round(*sum));
                for column in columns.clone() {
                    let offset = args.weights.offsets[column] as usize / size_of::<u16>();
                    halves.add(image[base + offset + lane], values[column * R + r]);
                }
                *sum = f16::float(halves.value());
            }
        }
    }

    /// Adds some columns of weights, times the pixels from `base` on, to `R` rows of sums.
    fn add<const R: usize>(args: &TileArgs, columns: Range<usize>, base: usize, sums: &mut [[f32; LANES]]) {
        for column in columns {
            let offset = args.weights.offsets[column] as usize / size_of::<f32>();
            let x = &args.image[base + offset..][..LANES];
            for (sums, w) in sums.iter_mut().zip(&args.weights.packed.values[column * R..]) {
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = match <Self as Loops>::ELEMENT {
                        Element::F32 => *sum + w * x,
                        Element::Bf16 => pairs::dot(w.to_bits(), x.to_bits(), *sum),
                        Element::Int8 => quads::dot(w.to_bits(), x.to_bits(), *sum),
                        Element::F16 => unreachable!("lanes of f16 are taken apart"),
                    };
                }
            }
        }
    }
}
