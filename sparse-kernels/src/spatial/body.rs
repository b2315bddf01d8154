//! The tile, written once over [`Vector`]; every machine's file says how it is used here.
//!
//! The tile is `R` output channels by `N` vectors of pixels. For every stored column, `N` vectors are loaded
//! at its offset, and each of the `R` weights is multiplied into its row of sums.

use super::TileArgs;
use super::plan::CHUNK;
use crate::vector::{Vector, compiled};
use crate::work::Work;
use std::marker::PhantomData;

/// How a machine's vectors are used here.
pub(super) trait Spatial: Vector {
    /// Vectors of pixels that a tile of 1, 2 and 4 rows has registers for.
    const MOST_VECTORS: [usize; 3];

    /// Adds some columns to the sums.
    ///
    /// # Safety
    /// The instruction set is there; `columns` keeps the invariants of [`Columns`] for `R` rows.
    #[inline(always)]
    unsafe fn accumulate<const R: usize, const N: usize>(sums: &mut [[Self; N]; R], columns: Columns<N>) {
        // SAFETY: passed on from the caller.
        unsafe { plain(sums, columns) }
    }
}

/// Columns of weights, and the `N` vectors of pixels that they are applied to.
///
/// Invariants: there are `count` offsets, in bytes, that go on behind the last (`Plan`), with a whole vector
/// of the image at each offset of each base (`TileArgs`), and a value for each of the rows of each column
/// (`PackedSpatial`).
#[derive(Clone, Copy)]
pub(super) struct Columns<const N: usize> {
    pub bases: [*const f32; N],
    pub offsets: *const u32,
    pub values: *const f32,
    pub count: usize,
}

/// What a row of the kernel table runs: the loops over a machine's vectors, or plain Rust.
pub(crate) trait Loops {
    /// Pixels of a vector.
    const LANES: usize;

    /// Vectors of pixels that a tile of 1, 2 and 4 rows has registers for.
    const MOST_VECTORS: [usize; 3];

    /// `R` output channels by up to `PIXELS` pixels.
    ///
    /// # Safety
    /// The instruction set is there; `args` keeps the invariants of [`TileArgs`].
    unsafe fn tile<const R: usize, const PIXELS: usize>(args: &TileArgs);

    /// Copies every other float: to, from, number of floats written, at least [`super::plan::CHUNK`].
    ///
    /// # Safety
    /// The instruction set is there; `to` has `len` floats, `from` twice that number.
    unsafe fn evens(to: *mut f32, from: *const f32, len: usize);
}

impl<V: Spatial> Loops for V {
    const LANES: usize = <V as Vector>::LANES;
    const MOST_VECTORS: [usize; 3] = <V as Spatial>::MOST_VECTORS;

    unsafe fn tile<const R: usize, const PIXELS: usize>(args: &TileArgs) {
        macro_rules! vectors {
            ($($n:literal)*) => {
                match args.output.vectors.len() {
                    // SAFETY: passed on from the caller.
                    $($n if const { $n * <V as Vector>::LANES <= PIXELS } => unsafe { of_vectors::<V, R, $n>(args) },)*
                    vectors => unreachable!("a tile of {vectors} vectors"),
                }
            };
        }
        vectors!(1 2 3 4 5 6 7 8);
    }

    unsafe fn evens(to: *mut f32, from: *const f32, len: usize) {
        // SAFETY: passed on from the caller.
        unsafe { V::Narrow::on(Evens { to, from, len, vector: PhantomData::<V::Narrow> }) }
    }
}

compiled! {
    unsafe fn of_vectors<V: Spatial; R: usize, N: usize>(TileArgs) = groups;
}

/// One group of weights after the other, for a fixed number of vectors.
///
/// # Safety
/// As [`Loops::tile`]; `N` is the number of vectors.
#[inline(always)]
unsafe fn groups<V: Spatial, const R: usize, const N: usize>(args: &TileArgs) {
    let (image, output, w) = (args.image.as_ptr(), &args.output, args.weights.packed);
    let mut bases = [image; N];
    let mut pixels = [0; N];
    for n in 0..N {
        bases[n] = image.wrapping_add(output.vectors[n].base as usize);
        pixels[n] = output.vectors[n].pixel as usize;
    }
    let (room, plain) = output.room(V::LANES);
    let run = V::STORES_TWO && !args.clamps.residual && (0..N).all(|n| pixels[n] == pixels[0] + n * V::LANES);
    for group in args.weights.groups.clone() {
        // SAFETY: `group` is one of the tile's; `bias` has R floats for each; offsets, values and bases are
        // those of the group and the tile.
        unsafe {
            let (offsets, values, count) = args.columns(group, R);
            let bias = w.bias.as_ptr().add(group * R);
            let mut y = output.y.wrapping_add(group * R * output.stride);
            for r in 0..R {
                // The lines of the output arrive while the sums are computed.
                for pixel in pixels {
                    V::prefetch(y.wrapping_add(r * output.stride + pixel));
                }
            }
            let mut sums = [[V::splat(0.0); N]; R];
            for r in 0..R {
                sums[r] = [V::splat(*bias.add(r)); N];
            }
            V::accumulate(&mut sums, Columns { bases, offsets, values, count });
            if !room || group * R + R > w.oc {
                // A copy, so that the sums themselves can stay in registers.
                let sums = sums;
                store_pixels(args, group, &sums);
                continue;
            }
            if !plain {
                for n in 0..N {
                    let order = &output.orders[output.vectors[n].order as usize];
                    for r in 0..R {
                        sums[r][n] = sums[r][n].permute(order);
                    }
                }
            }
            let (lo, hi) = (V::splat(args.clamps.before.0), V::splat(args.clamps.before.1));
            if run {
                for r in 0..R {
                    let to = y.wrapping_add(pixels[0]);
                    for n in (1..N).step_by(2) {
                        let (a, b) = (sums[r][n - 1].clamp(lo, hi), sums[r][n].clamp(lo, hi));
                        a.store_two(b, to.add((n - 1) * V::LANES));
                    }
                    if N % 2 == 1 {
                        sums[r][N - 1].clamp(lo, hi).store(to.add((N - 1) * V::LANES));
                    }
                    y = y.wrapping_add(output.stride);
                }
                continue;
            }
            // As if the stride were another for every group: the compiler would work out the addresses of all
            // vectors once, and has no registers to keep them.
            let stride = std::hint::black_box(output.stride);
            let (lo1, hi1) = (V::splat(args.clamps.after.0), V::splat(args.clamps.after.1));
            let mut residual = output.residual.wrapping_add(group * R * stride);
            for r in 0..R {
                for n in 0..N {
                    // There is room for a whole vector in each of the R output channels of the group.
                    let mut value = sums[r][n].clamp(lo, hi);
                    if args.clamps.residual {
                        value = value.add(V::load(residual.add(pixels[n]))).clamp(lo1, hi1);
                    }
                    value.store(y.add(pixels[n]));
                }
                y = y.wrapping_add(stride);
                residual = residual.wrapping_add(stride);
            }
        }
    }
}

/// [`Spatial::accumulate`], column by column.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn plain<V: Vector, const R: usize, const N: usize>(
    sums: &mut [[V; N]; R],
    columns: Columns<N>,
) {
    for column in 0..columns.count {
        // SAFETY: passed on from the caller.
        unsafe {
            let offset = *columns.offsets.add(column) as usize;
            let mut x = [V::splat(0.0); N];
            for n in 0..N {
                x[n] = V::load(columns.bases[n].byte_add(offset));
            }
            V::add_column(sums, &x, columns.values.add(column * R));
        }
    }
}

/// Epilogue and store of a group, pixel by pixel.
///
/// # Safety
/// As [`Loops::tile`]; `group` is one of the tile's.
#[inline(never)]
unsafe fn store_pixels<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    group: usize,
    sums: &[[V; N]; R],
) {
    let channels = group * R..args.weights.packed.oc.min(group * R + R);
    for (channel, sums) in channels.zip(sums) {
        for (vector, sum) in args.output.vectors.iter().zip(sums) {
            // SAFETY: `channel` is an output channel of the group; a vector is as many floats as it has lanes.
            unsafe {
                let lanes = std::slice::from_raw_parts(std::ptr::from_ref(sum).cast(), V::LANES);
                args.store_pixels(channel, vector, lanes);
            }
        }
    }
}

/// A call of [`Loops::evens`], which has made it and vouches for what is in it.
struct Evens<V> {
    to: *mut f32,
    from: *const f32,
    len: usize,
    vector: PhantomData<V>,
}

impl<V: Vector> Work for Evens<V> {
    /// The last vector is moved back to end with the row.
    #[inline(always)]
    fn run(self) {
        const { assert!(CHUNK >= V::LANES) }
        let mut at = 0;
        loop {
            // SAFETY: `at + LANES` is at most `len`.
            unsafe { V::load_evens(self.from.add(2 * at)).store(self.to.add(at)) };
            if at + V::LANES == self.len {
                return;
            }
            at = (at + V::LANES).min(self.len - V::LANES);
        }
    }
}
