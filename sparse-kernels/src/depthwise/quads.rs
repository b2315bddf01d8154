//! The loop for quads of bytes ([`crate::quads`]).
//!
//! A lane holds one byte of each of four channels, and the dot product adds up four bytes of a lane: so four neighbouring
//! pixels, four lanes, are transposed byte by byte into a lane for each channel, which holds its four pixels. That is one
//! shuffle inside of 128 bits. A row of taps of a channel is then a lane, or `L` lanes if it has more than four, and a
//! vector of taps is the same four lanes again and again, one for each channel.
//!
//! A kernel of three columns leaves one of four bytes idle, which is worth something: the same pixels are those of the
//! next output, too, for taps one place further on. In general `4 L` pixels hold the inputs of as many neighbouring outputs
//! as taps have places there. So for the four outputs whose bytes are to be four neighbouring lanes, pixels are loaded twice
//! for 3x3, once for 5x5 (in two lanes); and every load is a shuffle and a dot product for each of these outputs. Of a
//! stride of two, four neighbouring pixels begin two outputs; two vectors of them are four sums again, whose bytes then want
//! to be moved by halves of four lanes.
//!
//! Sums of four outputs are scaled and packed to bytes, and those of a pixel are side by side as they should be: nothing is
//! transposed back. Two rows of outputs are computed together. They share most input rows, and all taps: with 3x3 these are
//! 8 sums, 6 vectors of taps and up to 8 of pixels in registers.

use super::body::{AHEAD, Depthwise, unroll};
use super::loops::Loops;
use super::scalar::Scalar;
use super::{Plane, RowsArgs};
use crate::quads::{Bounds, CHANNELS, Requantise};
use crate::table::Element;
use crate::vector::{MAX_LANES, Vector, compiled};
use std::hint::black_box;
use std::ops::Range;

/// Rows and columns of taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    height: usize,
    width: usize,
}

impl Taps {
    pub const fn new([height, width]: [usize; 2]) -> Taps {
        Taps { height, width }
    }

    /// The `[ky, kx]` of all of them.
    pub fn all(self) -> impl Iterator<Item = [usize; 2]> {
        (0..self.height).flat_map(move |ky| (0..self.width).map(move |kx| [ky, kx]))
    }

    /// Lanes of a row of taps.
    const fn lanes(self) -> usize {
        self.width.div_ceil(CHANNELS)
    }

    /// Places that the first tap of a row can have in its lanes, with all others behind it.
    const fn places(self) -> usize {
        CHANNELS * self.lanes() - self.width + 1
    }

    /// Lanes of the taps of a quad of channels.
    pub const fn count(self) -> usize {
        CHANNELS * self.height * self.lanes() * self.places()
    }

    /// Where the lanes of row `ky`, one for each channel, are whose taps begin at `place`.
    const fn at(self, ky: usize, place: usize, lane: usize) -> usize {
        CHANNELS * ((ky * self.places() + place) * self.lanes() + lane)
    }

    /// The lanes of the taps of up to four channels, `[channel][ky][kx]` whole numbers from -128 to 127:
    /// `[ky][place][lane][channel]`.
    pub fn pack(self, taps: &[f32]) -> Vec<f32> {
        let mut lanes = vec![[0u8; CHANNELS]; self.count()];
        for (i, tap) in taps.iter().enumerate() {
            let (channel, ky, kx) =
                (i / (self.height * self.width), i / self.width % self.height, i % self.width);
            for place in 0..self.places() {
                let column = kx + place;
                lanes[self.at(ky, place, column / CHANNELS) + channel][column % CHANNELS] = *tap as i8 as u8;
            }
        }
        lanes.into_iter().map(|lane| f32::from_bits(u32::from_le_bytes(lane))).collect()
    }

    /// The tap of a channel at `ky`, `kx` in [`Taps::pack`]ed lanes.
    ///
    /// # Safety
    /// There are such lanes at `taps`.
    pub unsafe fn tap(self, taps: *const f32, channel: usize, [ky, kx]: [usize; 2]) -> i32 {
        // SAFETY: passed on from the caller.
        let lane = unsafe { *taps.add(self.at(ky, 0, kx / CHANNELS) + channel) };
        i32::from(lane.to_bits().to_le_bytes()[kx % CHANNELS] as i8)
    }

    /// Neighbouring outputs whose inputs are in the same lanes, of those that four pixels begin.
    const fn together(self, stride: usize) -> usize {
        let (outputs, together) = (CHANNELS / stride, (self.places() - 1) / stride + 1);
        if together < outputs { together } else { outputs }
    }

    /// Groups of such outputs.
    const fn groups(self, stride: usize) -> usize {
        (CHANNELS / stride).div_ceil(self.together(stride))
    }

    /// Vectors of pixels that an input row is loaded in for a vector of outputs.
    const fn loads(self, stride: usize) -> usize {
        stride * self.groups(stride) * self.lanes()
    }

    /// Of which half of the outputs a load is, in which group of outputs, and which of its lanes.
    const fn load(self, stride: usize, load: usize) -> [usize; 3] {
        let (lanes, groups) = (self.lanes(), self.groups(stride));
        [load / lanes / groups, load / lanes % groups, load % lanes]
    }

    /// Columns from the first input of the first output to such a load, with vectors of so many lanes.
    const fn column(self, stride: usize, [half, group, lane]: [usize; 3], vector: usize) -> usize {
        half * vector + group * self.together(stride) * stride + lane * CHANNELS
    }
}

/// What kernels of quads have beside the rest of [`RowsArgs`].
///
/// Invariant: `scales` has one for each channel of the planes.
#[derive(Clone, Copy)]
pub(super) struct Quads<'a> {
    pub taps: Taps,
    /// What loops take from every activation.
    pub less: i32,
    pub requantise: &'a Requantise,
    pub scales: *const f32,
}

/// Loads of an input row, at most, of kernels that loops are unrolled for.
const LOADS: usize = 8;

/// Input rows of two output rows, at most, of the same.
const ROWS: usize = 9;

compiled! {
    /// Rows of a kernel of `K` x `K` taps, up to 7, of any number if `K` is 0; `S` is the horizontal stride.
    ///
    /// # Safety
    /// The instruction set of `V` is there; `args` keeps the invariants of [`RowsArgs`] for these taps and this stride.
    pub(super) unsafe fn quads_on<V: Depthwise; K: usize, S: usize>(RowsArgs) = walk;
}

/// [`quads_on`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn walk<V: Depthwise, const K: usize, const S: usize>(args: &RowsArgs) {
    if const { !V::FREE_MASKS } && args.x_width < V::LANES {
        // SAFETY: passed on from the caller.
        return unsafe { Scalar::<{ Element::Int8 as u8 }>::any::<S>(args) };
    }
    let taps = if K == 0 { args.quads().taps } else { Taps::new([K; 2]) };
    let reach = taps.column(S, taps.load(S, taps.loads(S) - 1), V::LANES) + V::LANES;
    // The last vector is moved back to end with the row.
    let (strips, last) = (args.y_width.div_ceil(V::LANES), args.y_width.saturating_sub(V::LANES));
    // Where a vector is a whole row, all planes have the same columns.
    let (blocks, planes) = if strips == 1 { (1, args.planes) } else { (strips * args.planes, 1) };
    for block in 0..blocks {
        let ox = (block % strips * V::LANES).min(last);
        let first = (ox * S) as isize - args.left as isize;
        let strip = Strip { taps, ox, first };
        let planes = block / strips..block / strips + planes;
        // SAFETY: the vector at this column is inside the output rows, or these are narrower; in the first case all that is
        // loaded is inside the input rows; these planes are there.
        unsafe {
            if first >= 0 && first as usize + reach <= args.x_width {
                strip.walk::<V, K, S, false>(args, planes);
            } else {
                strip.walk::<V, K, S, true>(args, planes);
            }
        }
    }
}

/// Columns of the input that are a vector.
#[derive(Clone, Copy)]
struct Columns<V: Vector> {
    first: isize,
    edge: V::Edge,
    padding: V,
    /// Padding in lanes outside of the map, zeros in others.
    outside: V,
}

impl<V: Vector> Columns<V> {
    /// # Safety
    /// As [`walk`].
    #[inline(always)]
    unsafe fn new(args: &RowsArgs, first: isize) -> Columns<V> {
        let padding = args.quads().requantise.x_zeros;
        let mut lanes = [padding; MAX_LANES];
        for (i, lane) in lanes.iter_mut().enumerate() {
            let column = first + i as isize;
            *lane = if column >= 0 && column < args.x_width as isize { 0.0 } else { padding };
        }
        // SAFETY: passed on from the caller; an array of the most lanes.
        unsafe {
            Columns {
                first,
                edge: V::edge(first, args.x_width),
                padding: V::splat(padding),
                outside: V::load(lanes.as_ptr()),
            }
        }
    }

    /// Four neighbouring pixels of one channel in each lane, of input row `iy`; padding where there is no input. Without
    /// `EDGES` all columns are inside of the map.
    ///
    /// # Safety
    /// As [`walk`].
    #[inline(always)]
    unsafe fn pixels<const EDGES: bool>(&self, args: &RowsArgs, plane: Plane, iy: isize) -> V {
        // SAFETY: passed on from the caller; only what is inside the map is read.
        unsafe {
            // padding is the same in all bytes
            if iy as usize >= args.x_height {
                return self.padding;
            }
            let at = plane.x.wrapping_offset(iy * args.x_width as isize + self.first);
            let lanes = match EDGES {
                true => V::load_edge(at, self.edge).add(self.outside),
                false => V::load(at),
            };
            lanes.transposed()
        }
    }
}

/// A vector of outputs in all rows.
///
/// Invariants: planes have these taps; the vector at `ox` is inside the output rows, or these are narrower, and it begins
/// with them; `first` is the column of its first input.
#[derive(Clone, Copy)]
struct Strip {
    taps: Taps,
    ox: usize,
    first: isize,
}

/// A plane with the scales of its channels, and the bounds of its outputs.
#[derive(Clone, Copy)]
struct Scaled<V> {
    plane: Plane,
    scales: *const f32,
    bounds: Bounds<V>,
}

impl Strip {
    /// Two rows of a plane at a time, as long as there are two.
    ///
    /// # Safety
    /// As [`walk`]; these planes are there; without `EDGES` all that is loaded is inside of the input rows.
    #[inline(always)]
    unsafe fn walk<V: Depthwise, const K: usize, const S: usize, const EDGES: bool>(
        self,
        args: &RowsArgs,
        planes: Range<usize>,
    ) {
        // SAFETY: passed on from the caller; these rows are there.
        unsafe {
            let mut columns = [Columns::<V>::new(args, self.first); LOADS];
            for load in 1..const { Taps::new([K; 2]).loads(S) } {
                let taps = const { Taps::new([K; 2]) };
                let column = taps.column(S, taps.load(S, load), V::LANES);
                columns[load] = Columns::new(args, self.first + column as isize);
            }
            let bounds = args.quads().requantise.bounds();
            for plane in planes {
                let scales = args.quads().scales.wrapping_add(plane * CHANNELS);
                let plane = Scaled { plane: args.plane(plane), scales, bounds };
                let mut row = 0;
                if K == 0 {
                    while row < args.rows {
                        let bytes = self.any_row::<V, S, EDGES>(args, plane, row);
                        self.store(args, plane, row, bytes);
                        row += 1;
                    }
                    continue;
                }
                // Outputs are stored when the next rows are summed: pages of input and output often begin alike, and cores
                // take a load for one of what was stored last if both are at the same place of a page.
                let mut waiting = [columns[0].padding; 2];
                while row + 2 <= args.rows {
                    let bytes = self.rows::<V, K, S, EDGES, 2>(args, plane, &columns, row);
                    if row > 0 {
                        self.store(args, plane, row - 2, waiting);
                    }
                    (waiting, row) = (bytes, row + 2);
                }
                if row < args.rows {
                    let last = self.rows::<V, K, S, EDGES, 1>(args, plane, &columns, row);
                    self.store(args, plane, row, last);
                }
                if row > 0 {
                    self.store(args, plane, row - 2, waiting);
                }
            }
        }
    }

    /// `N` output rows of a kernel of `K` x `K` taps; several are as far apart as columns are.
    ///
    /// # Safety
    /// As [`Strip::walk`]; the rows are there.
    #[inline(always)]
    unsafe fn rows<V: Depthwise, const K: usize, const S: usize, const EDGES: bool, const N: usize>(
        self,
        args: &RowsArgs,
        of: Scaled<V>,
        columns: &[Columns<V>; LOADS],
        row: usize,
    ) -> [V; N] {
        let taps = const { Taps::new([K; 2]) };
        const { assert!(Taps::new([K; 2]).loads(S) <= LOADS && (N - 1) * S + K <= ROWS) };
        // More taps than there are registers for would be vectors on the stack, loaded for every sum: as if these were others
        // for every row, they are loaded for all sums.
        let taps_here = if K > 3 { black_box(of.plane.taps) } else { of.plane.taps };
        let of = Scaled { plane: Plane { taps: taps_here, ..of.plane }, ..of };
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [[V::repeated(of.plane.bias); CHANNELS]; N];
            let mut pixels = [[columns[0].padding; LOADS]; ROWS];
            let first = args.first + (row * args.step) as isize;
            unroll!(KY in [0 1 2 3 4 5 6] {
                if const { KY < K } {
                    // the input rows that no taps before have met
                    let new = if KY == 0 { 0 } else { KY + (N - 1) * S };
                    for down in new..KY + (N - 1) * S + 1 {
                        V::prefetch(of.plane.x.wrapping_offset(
                            (first + (down + AHEAD) as isize) * args.x_width as isize + self.first
                        ));
                        for load in 0..const { Taps::new([K; 2]).loads(S) } {
                            pixels[down][load] =
                                columns[load].pixels::<EDGES>(args, of.plane, first + down as isize);
                        }
                    }
                    for load in 0..const { Taps::new([K; 2]).loads(S) } {
                        let mut x = [columns[0].padding; N];
                        for r in 0..N {
                            x[r] = pixels[KY + r * S][load];
                        }
                        of.add::<S, N>(taps, KY, taps.load(S, load), x, &mut sums);
                    }
                }
            });
            of.finish::<S, N>(sums)
        }
    }

    /// An output row of a kernel of any size.
    ///
    /// # Safety
    /// As [`Strip::walk`]; the row is there.
    #[inline(always)]
    unsafe fn any_row<V: Depthwise, const S: usize, const EDGES: bool>(
        self,
        args: &RowsArgs,
        of: Scaled<V>,
        row: usize,
    ) -> [V; 1] {
        let taps = self.taps;
        let first = args.first + (row * args.step) as isize;
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [[V::repeated(of.plane.bias); CHANNELS]];
            for half in 0..S {
                for group in 0..taps.groups(S) {
                    for lane in 0..taps.lanes() {
                        let column = taps.column(S, [half, group, lane], V::LANES);
                        let columns = Columns::<V>::new(args, self.first + column as isize);
                        for ky in 0..taps.height {
                            let x = columns.pixels::<EDGES>(args, of.plane, first + ky as isize);
                            of.add::<S, 1>(taps, ky, [half, group, lane], [x], &mut sums);
                        }
                    }
                }
            }
            of.finish::<S, 1>(sums)
        }
    }

    /// Stores the vectors of `N` rows.
    ///
    /// # Safety
    /// As [`Strip::walk`]; the rows are there.
    #[inline(always)]
    unsafe fn store<V: Depthwise, const N: usize>(
        &self,
        args: &RowsArgs,
        of: Scaled<V>,
        row: usize,
        bytes: [V; N],
    ) {
        for r in 0..N {
            let y = of.plane.y.wrapping_add((row + r) * args.y_width + self.ox);
            // SAFETY: passed on from the caller.
            unsafe {
                if args.y_width >= V::LANES {
                    bytes[r].store(y);
                } else {
                    bytes[r].store_part(y, args.y_width);
                }
            }
        }
    }
}

impl<V: Depthwise> Scaled<V> {
    /// The bytes that sums of `N` rows become.
    ///
    /// # Safety
    /// As [`Strip::walk`].
    #[inline(always)]
    unsafe fn finish<const S: usize, const N: usize>(&self, mut sums: [[V; CHANNELS]; N]) -> [V; N] {
        // SAFETY: passed on from the caller; there is a scale for each channel.
        unsafe {
            let scale = V::repeated(self.scales);
            let mut all = [scale; N];
            for r in 0..N {
                for output in 0..CHANNELS {
                    sums[r][output] = sums[r][output].scaled(scale);
                }
                let bytes = V::side_by_side(sums[r], &self.bounds);
                all[r] = if S == 2 { bytes.halves() } else { bytes };
            }
            all
        }
    }

    /// Adds row `ky` of the taps, as far as it meets the pixels `x` of `N` input rows, which are for this half and group of
    /// the outputs, and this lane of the taps.
    ///
    /// # Safety
    /// As [`Strip::walk`].
    #[inline(always)]
    unsafe fn add<const S: usize, const N: usize>(
        &self,
        taps: Taps,
        ky: usize,
        [half, group, lane]: [usize; 3],
        x: [V; N],
        sums: &mut [[V; CHANNELS]; N],
    ) {
        for output in 0..CHANNELS / S {
            if output / taps.together(S) == group {
                let place = output % taps.together(S) * S;
                // SAFETY: passed on from the caller; the plane has these taps.
                unsafe {
                    let w = V::repeated(self.plane.taps.add(taps.at(ky, place, lane)));
                    for r in 0..N {
                        let sum = &mut sums[r][half * (CHANNELS / S) + output];
                        *sum = w.dot(x[r], *sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_where_kernels_look_for_them() {
        for size in [[1, 1], [3, 1], [3, 3], [2, 4], [5, 5], [3, 7], [1, 8]] {
            let (taps, [height, width]) = (Taps::new(size), size);
            let values: Vec<f32> = (0..3 * height * width).map(|i| i as f32 - 50.0).collect();
            let lanes = taps.pack(&values);
            assert_eq!(lanes.len(), taps.count());
            for (i, v) in values.iter().enumerate() {
                let (channel, tap) = (i / (height * width), [i / width % height, i % width]);
                // SAFETY: `lanes` are packed.
                assert_eq!(unsafe { taps.tap(lanes.as_ptr(), channel, tap) }, *v as i32);
            }
        }
    }

    #[test]
    fn all_outputs_find_their_taps() {
        for (width, stride) in (1..12).flat_map(|width| [(width, 1), (width, 2)]) {
            let taps = Taps::new([1, width]);
            let outputs: usize = CHANNELS / stride;
            // the first and the last place that a group needs
            assert!((taps.together(stride) - 1) * stride < taps.places(), "{width} {stride}");
            assert!(taps.groups(stride) * taps.together(stride) >= outputs, "{width} {stride}");
            for output in 0..outputs {
                let (group, place) =
                    (output / taps.together(stride), output % taps.together(stride) * stride);
                let first = taps.column(stride, [0, group, 0], 16) + place;
                assert_eq!(first, output * stride, "{width} {stride}");
            }
        }
        assert_eq!([3, 5, 7].map(|width| Taps::new([1, width]).loads(1)), [2, 2, 4]);
        assert_eq!([3, 5, 7].map(|width| Taps::new([1, width]).loads(2)), [4, 4, 8]);
    }
}
