//! The tile, written once over [`Vector`]; every machine's file says how it is used here.
//!
//! The tile is `R` output channels by `N` vectors of pixels. For every stored column, `N` vectors are loaded
//! at its offset, and each of the `R` weights is multiplied into its row of sums.

use super::TileArgs;
use super::plan::CHUNK;
use crate::pairs::{self, f16};
use crate::quads::CHANNELS;
use crate::table::Element;
use crate::vector::{MAX_LANES, Vector, compiled};
use crate::work::Work;
use std::marker::PhantomData;

/// How a machine's vectors are used here.
pub(super) trait Spatial: Vector {
    /// Pixels of a vector: in f16 it has halves, all of one channel.
    const PIXELS: usize = Self::LANES * Self::ELEMENT.per_lane() / Self::ELEMENT.per_product();

    /// Vectors of pixels that a tile of 1, 2 and 4 rows has registers for.
    const MOST_VECTORS: [usize; 3];

    /// Rows of quads wait in memory for the others of their quad. Where there are few registers, the compiler would leave
    /// sums there, in the loop.
    const ROWS_IN_MEMORY: bool = false;

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
/// (`PackedSpatial`). In f16 values are halves.
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

    /// What they multiply.
    const ELEMENT: Element;

    /// [`Vector::SIGNED`].
    const SIGNED: bool = false;

    /// Vectors of pixels that a tile of 1, 2 and 4 rows has registers for.
    const MOST_VECTORS: [usize; 3];

    /// `R` output channels by up to `PIXELS` pixels.
    ///
    /// # Safety
    /// The instruction set is there; `args` keeps the invariants of [`TileArgs`].
    unsafe fn tile<const R: usize, const PIXELS: usize>(args: &TileArgs);

    /// Copies every other float: to, from, number of floats written, at least [`CHUNK`].
    ///
    /// # Safety
    /// The instruction set is there; `to` has `len` floats, `from` twice that number.
    unsafe fn evens(to: *mut f32, from: *const f32, len: usize);

    /// Takes rows of lanes apart, of kernels of f16.
    ///
    /// # Safety
    /// The instruction set is there; `rows` keeps its invariants.
    unsafe fn apart(rows: &RowsApart) {
        unreachable!("{} rows of other lanes than those of f16", rows.height);
    }
}

impl<V: Spatial> Loops for V {
    const LANES: usize = V::PIXELS;
    const ELEMENT: Element = <V as Vector>::ELEMENT;
    const SIGNED: bool = <V as Vector>::SIGNED;
    const MOST_VECTORS: [usize; 3] = <V as Spatial>::MOST_VECTORS;

    unsafe fn tile<const R: usize, const PIXELS: usize>(args: &TileArgs) {
        macro_rules! vectors {
            ($($n:literal)*) => {
                match args.output.vectors.len() {
                    // SAFETY: passed on from the caller.
                    $($n if const { $n * V::PIXELS <= PIXELS } => unsafe { of_vectors::<V, R, $n>(args) },)*
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

    unsafe fn apart(rows: &RowsApart) {
        // SAFETY: passed on from the caller.
        unsafe { V::on(Apart { rows, vector: PhantomData::<V> }) }
    }
}

/// Rows of lanes, and where the halves of each go.
///
/// Invariants: a row has at least [`CHUNK`] lanes, `right` floats from each other, 1 or 2; rows are `down` floats from each
/// other, and there are `right * width` floats in each. Each place of `to` that is one has `width` halves for each row,
/// which are `pitch` from each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsApart {
    pub to: [Option<*mut u16>; 2],
    pub from: *const f32,
    pub height: usize,
    pub width: usize,
    pub pitch: usize,
    pub down: usize,
    pub right: usize,
}

/// A call of [`Loops::apart`], which has made it and vouches for what is in it.
struct Apart<'a, V> {
    rows: &'a RowsApart,
    vector: PhantomData<V>,
}

impl<V: Spatial> Work for Apart<'_, V> {
    #[inline(always)]
    fn run(self) {
        if V::ELEMENT == Element::F16 {
            match self.rows.right {
                1 => self.rows::<1>(),
                _ => self.rows::<2>(),
            }
        }
    }
}

impl<V: Spatial> Apart<'_, V> {
    /// The last vector of a row is moved back to end with it.
    #[inline(always)]
    fn rows<const RIGHT: usize>(self) {
        const { assert!(!matches!(V::ELEMENT, Element::F16) || CHUNK >= V::PIXELS) }
        let RowsApart { to: [first, second], mut from, height, width, pitch, down, .. } = *self.rows;
        for row in 0..height {
            let mut at = 0;
            loop {
                // SAFETY: `at + PIXELS` is at most `width` (RowsApart).
                unsafe {
                    let load = |lane: usize| match RIGHT {
                        1 => V::load(from.add(lane)),
                        _ => V::load_evens(from.add(2 * lane)),
                    };
                    let channels = load(at).apart(load(at + V::LANES));
                    for (to, channel) in [first, second].into_iter().zip(channels) {
                        if let Some(to) = to {
                            channel.store(to.add(row * pitch + at).cast());
                        }
                    }
                }
                if at + V::PIXELS == width {
                    break;
                }
                at = (at + V::PIXELS).min(width - V::PIXELS);
            }
            from = from.wrapping_add(down);
        }
    }
}

compiled! {
    unsafe fn of_vectors<V: Spatial; R: usize, N: usize>(TileArgs) = groups;
}

/// One group of weights after the other, for a fixed number of vectors; if a group has fewer rows than a lane has channels,
/// with the next groups.
///
/// # Safety
/// As [`Loops::tile`]; `N` is the number of vectors.
#[inline(always)]
unsafe fn groups<V: Spatial, const R: usize, const N: usize>(args: &TileArgs) {
    let (image, output) = (args.image.as_ptr(), &args.output);
    let mut bases = [image; N];
    let mut pixels = [0; N];
    for n in 0..N {
        bases[n] = image.wrapping_byte_add(output.vectors[n].base as usize * V::ELEMENT.product_bytes());
        pixels[n] = output.vectors[n].pixel as usize;
    }
    let (room, plain) = output.room(V::PIXELS);
    let run =
        V::STORES_TWO && !args.clamps.residual && (0..N).all(|n| pixels[n] == pixels[0] + n * V::PIXELS);
    let places = Places { bases, pixels, room, plain, run };
    let groups = &args.weights.groups;
    let together = const { V::ELEMENT.per_lane().div_ceil(R) };
    for group in groups.clone().step_by(together) {
        // SAFETY: these are groups of the tile.
        unsafe {
            let mut sums = sums::<V, R, N>(args, group, &places);
            match V::ELEMENT {
                Element::F32 => store(args, group, &places, &mut sums),
                Element::Bf16 | Element::F16 if R > 1 && output.sums => {
                    store_sums(args, group, &places, &mut sums);
                }
                Element::Bf16 | Element::F16 if R > 1 => store_pairs(args, group * R, &places, &mut sums),
                Element::Bf16 | Element::F16 => {
                    let mut second = [[V::splat(0.0); N]; R];
                    let both = group + 1 < groups.end;
                    if both {
                        second = self::sums::<V, R, N>(args, group + 1, &places);
                    }
                    if !output.sums {
                        store_pairs(args, group, &places, &mut [sums[0], second[0]]);
                        continue;
                    }
                    store_sums(args, group, &places, &mut sums);
                    if both {
                        store_sums(args, group + 1, &places, &mut second);
                    }
                }
                Element::Int8 => {
                    let mut rows = [[V::splat(0.0); N]; CHANNELS];
                    scale(args, group, &sums, &mut rows[..R]);
                    for next in 1..together {
                        if V::ROWS_IN_MEMORY {
                            std::hint::black_box(&mut rows);
                        }
                        let sums = self::sums::<V, R, N>(args, group + next, &places);
                        scale(args, group + next, &sums, &mut rows[next * R..][..R]);
                    }
                    store_quads(args, group * R, &places, &rows);
                }
            }
        }
    }
}

/// Where the `N` vectors of a tile are.
struct Places<const N: usize> {
    /// In the image.
    bases: [*const f32; N],
    /// In an output plane.
    pixels: [usize; N],
    /// What [`Output::room`](super::Output::room) says.
    room: bool,
    plain: bool,
    /// Whether they follow each other, and are stored two by two.
    run: bool,
}

/// The sums of a group; in f16 of no more products than are added one after the other there ([`f16::MOST_PRODUCTS`]), and
/// then of such sums.
///
/// # Safety
/// As [`Loops::tile`]; `group` is one of the tile's, `places` are its vectors.
#[inline(always)]
unsafe fn sums<V: Spatial, const R: usize, const N: usize>(
    args: &TileArgs,
    group: usize,
    places: &Places<N>,
) -> [[V; N]; R] {
    let (output, w) = (&args.output, args.weights.packed);
    let per_lane = if output.sums { 1 } else { V::ELEMENT.per_lane() };
    // SAFETY: `bias` has R floats for each group; offsets, values and bases are those of the group and the tile.
    unsafe {
        let (offsets, values, count) = args.columns(group, R, V::ELEMENT);
        let bias = w.bias.as_ptr().add(group * R);
        for r in (0..R).step_by(per_lane) {
            // The lines of the output arrive while the sums are computed.
            let y = output.y.wrapping_add((group * R + r) / per_lane * output.stride);
            for pixel in places.pixels {
                V::prefetch(y.wrapping_add(pixel));
            }
        }
        let mut sums = [[V::splat(0.0); N]; R];
        for r in 0..R {
            sums[r] = [V::splat(*bias.add(r)); N];
        }
        let Places { bases, .. } = *places;
        if const { !matches!(V::ELEMENT, Element::F16) } {
            V::accumulate(&mut sums, Columns { bases, offsets, values, count });
            return sums;
        }
        let piece = |begin: usize, sums: &mut [[V; N]; R]| {
            let here = (count - begin).min(f16::MOST_PRODUCTS);
            let (offsets, values) = (offsets.add(begin), values.cast::<u16>().add(begin * R).cast());
            V::accumulate(sums, Columns { bases, offsets, values, count: here });
            begin + here
        };
        let mut begin = piece(0, &mut sums);
        while begin < count {
            let mut next = [[V::splat(0.0); N]; R];
            begin = piece(begin, &mut next);
            for (sum, next) in sums.as_flattened_mut().iter_mut().zip(next.as_flattened()) {
                *sum = sum.add(*next);
            }
        }
        sums
    }
}

/// Puts the lanes of sums in the order of their pixels.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn settle<V: Vector, const R: usize, const N: usize>(args: &TileArgs, sums: &mut [[V; N]; R]) {
    let output = &args.output;
    for n in 0..N {
        let order = &output.orders[output.vectors[n].order as usize];
        for r in 0..R {
            // SAFETY: every lane of an order is one of a vector (Output).
            sums[r][n] = unsafe { sums[r][n].permute(order) };
        }
    }
}

/// Stores the sums of a group of pairs as floats, bare as they are.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn store_sums<V: Spatial, const R: usize, const N: usize>(
    args: &TileArgs,
    group: usize,
    places: &Places<N>,
    sums: &mut [[V; N]; R],
) {
    // SAFETY: passed on from the caller.
    unsafe {
        if const { !matches!(V::ELEMENT, Element::F16) } {
            return store(args, group, places, sums);
        }
        let output = &args.output;
        settle(args, sums);
        for r in 0..R.min(args.weights.packed.oc - group * R) {
            let y = output.y.wrapping_add((group * R + r) * output.stride);
            for n in 0..N {
                let ([low, high], mut floats) = (sums[r][n].floats(), [0f32; MAX_LANES]);
                low.store_two(high, floats.as_mut_ptr());
                let to = y.wrapping_add(places.pixels[n]);
                to.copy_from_nonoverlapping(floats.as_ptr(), output.vectors[n].count as usize);
            }
        }
    }
}

/// Epilogue and store of the sums of a group, as floats.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn store<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    group: usize,
    places: &Places<N>,
    sums: &mut [[V; N]; R],
) {
    let (output, pixels) = (&args.output, &places.pixels);
    let mut y = output.y.wrapping_add(group * R * output.stride);
    // SAFETY: passed on from the caller; there is room for whole vectors.
    unsafe {
        if !places.room || group * R + R > args.weights.packed.oc {
            // A copy, so that the sums themselves can stay in registers.
            let sums = *sums;
            store_pixels(args, group, &sums);
            return;
        }
        if !places.plain {
            settle(args, sums);
        }
        let (lo, hi) = (V::splat(args.clamps.before.0), V::splat(args.clamps.before.1));
        if places.run {
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
            return;
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

/// Epilogue and store of the sums of the `R` output channels from `channel` on, an even number of them, in pairs. Those
/// that do not exist are zero in the last pair, and not stored beyond it.
///
/// # Safety
/// As [`sums`], for the groups of these channels; `channel` is even.
#[inline(always)]
unsafe fn store_pairs<V: Spatial, const R: usize, const N: usize>(
    args: &TileArgs,
    channel: usize,
    places: &Places<N>,
    sums: &mut [[V; N]; R],
) {
    let (output, pixels) = (&args.output, &places.pixels);
    let channels = (args.weights.packed.oc - channel).min(R);
    // SAFETY: passed on from the caller; there is room for whole vectors, or for the pixels of each.
    unsafe {
        if !places.plain {
            settle(args, sums);
        }
        // As in `store`.
        let stride = std::hint::black_box(output.stride);
        let mut y = output.y.wrapping_add(channel / 2 * stride);
        let mut residual = output.residual.wrapping_add(channel / 2 * stride);
        let of_f16 = const { matches!(V::ELEMENT, Element::F16) };
        let bounds = pairs::bounds::<V>(&args.clamps);
        let store = |both: [V; 2], second: bool, residual: *const f32, y: *mut f32| {
            if of_f16 {
                let residual = args.clamps.residual.then_some(residual);
                pairs::store_apart(both, second, &bounds, residual, y);
            } else {
                pairs::store(both, second, &args.clamps, residual, y);
            }
        };
        if !places.room {
            // From memory, so that the sums themselves can stay in registers.
            let mut sums = *sums;
            let sums = std::hint::black_box(&mut sums);
            for (r, both) in sums[..channels].chunks(2).enumerate() {
                for n in 0..N {
                    let (at, count) = (r * stride + pixels[n], output.vectors[n].count as usize);
                    let mut lanes = [0f32; MAX_LANES];
                    if args.clamps.residual {
                        lanes.as_mut_ptr().copy_from_nonoverlapping(residual.wrapping_add(at), count);
                    }
                    let both = [both[0][n], both[both.len() - 1][n]];
                    let lanes = lanes.as_mut_ptr();
                    store(both, 2 * r + 1 < channels, lanes, lanes);
                    y.wrapping_add(at).copy_from_nonoverlapping(lanes, count);
                }
            }
            return;
        }
        if of_f16 && channels >= R {
            // Nothing is left to ask for a single vector: there are few instructions to a pixel.
            for r in (0..R).step_by(2) {
                for n in 0..N {
                    let both = [sums[r][n], sums[r + 1][n]];
                    if places.run {
                        pairs::store_apart(both, true, &bounds, None, y.add(pixels[0] + n * V::PIXELS));
                    } else {
                        store(both, true, residual.wrapping_add(pixels[n]), y.add(pixels[n]));
                    }
                }
                y = y.wrapping_add(stride);
                residual = residual.wrapping_add(stride);
            }
            return;
        }
        for r in (0..R).step_by(2) {
            if r >= channels {
                return;
            }
            for n in 0..N {
                let (both, second) = ([sums[r][n], sums[r + 1][n]], r + 1 < channels);
                store(both, second, residual.wrapping_add(pixels[n]), y.add(pixels[n]));
            }
            y = y.wrapping_add(stride);
            residual = residual.wrapping_add(stride);
        }
    }
}

/// Scales the sums of a group to what their bytes are, up to the zero point.
///
/// # Safety
/// As [`sums`]; there are `R` of `rows`.
#[inline(always)]
unsafe fn scale<V: Vector, const R: usize, const N: usize>(
    args: &TileArgs,
    group: usize,
    sums: &[[V; N]; R],
    rows: &mut [[V; N]],
) {
    for r in 0..R {
        // SAFETY: all channels of a quad have scales (PackedSpatial).
        unsafe {
            let scale = V::splat(*args.requantise().scales.get_unchecked(group * R + r));
            for n in 0..N {
                rows[r][n] = sums[r][n].scaled(scale);
            }
        }
    }
}

/// Stores the quad that begins with `channel`, whose sums are scaled.
///
/// # Safety
/// As [`sums`], for the groups of these channels.
#[inline(always)]
unsafe fn store_quads<V: Vector, const N: usize>(
    args: &TileArgs,
    channel: usize,
    places: &Places<N>,
    rows: &[[V; N]; CHANNELS],
) {
    let output = &args.output;
    let y = output.y.wrapping_add(channel / CHANNELS * output.stride);
    // SAFETY: passed on from the caller; there is room for whole vectors, or for the pixels of each.
    unsafe {
        let bounds = args.requantise().bounds();
        for n in 0..N {
            let mut quads = V::quad(rows.map(|row| row[n]), &bounds);
            let vector = &output.vectors[n];
            if !places.plain {
                quads = quads.permute(&output.orders[vector.order as usize]);
            }
            let y = y.wrapping_add(places.pixels[n]);
            if places.room {
                quads.store(y);
            } else {
                let mut lanes = [0f32; MAX_LANES];
                quads.store(lanes.as_mut_ptr());
                y.copy_from_nonoverlapping(lanes.as_ptr(), vector.count as usize);
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
            V::add_column(sums, &x, columns.values.byte_add(column * R * V::ELEMENT.product_bytes()));
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
