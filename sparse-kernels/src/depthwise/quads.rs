//! The loop for quads of bytes ([`crate::quads`]).
//!
//! A lane holds one byte of each of four channels, and the dot product adds up four bytes of a lane: so four input rows
//! are transposed, byte by byte, into lanes that hold one column of four rows of one channel. With such lanes a layer
//! is one whose kernel is a quarter as high, rounded up, and a lane of taps is a column of four. A kernel of three
//! rows leaves one of the four idle: two output rows below each other share these four rows, the taps of the second
//! one row further down. In general `Q` lanes of taps hold kernels of up to `4 Q` rows, and as many output rows share
//! them as fit (3x3: 2 rows of 1 lane, 5x5: 4 rows of 2).
//!
//! The transposed rows go to a buffer in the first-level cache, with the padding around them, so that what follows
//! knows no borders; for a horizontal stride of two even and odd columns lie apart in it. Of a strip all rows are
//! transposed before the first is read: what has just been written at one place cannot be read at another before it
//! is in the cache.
//!
//! Then, for `N` vectors of pixels and all rows that share lanes, channel after channel is summed and scaled; behind the
//! last one, quads are made of the four. So there are few sums at a time, four with 3x3, beside those that wait.

use super::body::{AHEAD, Depthwise, Loops, unroll};
use super::scalar::Scalar;
use super::{Plane, RowsArgs};
use crate::quads::{CHANNELS, Requantise};
use crate::table::Element;
use crate::vector::{MAX_LANES, Vector, compiled};
use std::ops::Range;

/// Columns of taps and lanes of a column of taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taps {
    height: usize,
    width: usize,
}

impl Taps {
    pub fn new([height, width]: [usize; 2]) -> Taps {
        Taps { height, width }
    }

    /// The `[ky, kx]` of all of them.
    pub fn all(self) -> impl Iterator<Item = [usize; 2]> {
        (0..self.height).flat_map(move |ky| (0..self.width).map(move |kx| [ky, kx]))
    }

    /// Lanes of a column of taps.
    const fn lanes(self) -> usize {
        self.height.div_ceil(CHANNELS)
    }

    /// Places that the first tap of a column can have in its lanes, with all others behind it.
    const fn places(self) -> usize {
        CHANNELS * self.lanes() - self.height + 1
    }

    /// Lanes of the taps of a quad of channels.
    pub const fn count(self) -> usize {
        CHANNELS * self.width * self.lanes() * self.places()
    }

    /// Output rows that share input rows, `step` apart.
    const fn rows(self, step: usize) -> usize {
        (self.places() - 1) / step + 1
    }

    /// Where the lane of column `kx` of a channel is whose taps begin at `place`.
    const fn at(self, channel: usize, kx: usize, lane: usize, place: usize) -> usize {
        ((channel * self.width + kx) * self.lanes() + lane) * self.places() + place
    }

    /// The lanes of the taps of up to four channels, `[channel][ky][kx]` whole numbers from -128 to 127:
    /// `[channel][kx][lane][place]`.
    pub fn pack(self, taps: &[f32]) -> Vec<f32> {
        let mut lanes = vec![[0u8; CHANNELS]; self.count()];
        for (i, tap) in taps.iter().enumerate() {
            let (channel, ky, kx) =
                (i / (self.height * self.width), i / self.width % self.height, i % self.width);
            for place in 0..self.places() {
                let row = ky + place;
                lanes[self.at(channel, kx, row / CHANNELS, place)][row % CHANNELS] = *tap as i8 as u8;
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
        let lane = unsafe { *taps.add(self.at(channel, kx, ky / CHANNELS, 0)) };
        i32::from(lane.to_bits().to_le_bytes()[ky % CHANNELS] as i8)
    }
}

/// What kernels of quads have beside the rest of [`RowsArgs`].
///
/// Invariants: `scales` has one for each channel of the planes; `buffer` is writable for `len` floats, of which there are
/// at least what [`buffer`] says, and `nowhere` for a vector; nothing else touches these.
#[derive(Clone, Copy)]
pub(super) struct Quads<'a> {
    pub taps: Taps,
    /// What loops take from every activation.
    pub less: i32,
    pub requantise: &'a Requantise,
    pub scales: *const f32,
    pub buffer: *mut f32,
    pub len: usize,
    pub nowhere: *mut f32,
}

/// Floats that the buffer of transposed rows should have.
const BUFFER: usize = 3 << 10;

/// Lanes of a vector, at most, twice: what rows of the buffer have behind the last column that is read.
const BEHIND: usize = 2 * MAX_LANES;

/// Floats of a row of the buffer: columns of one parity, whole vectors, and so that the last vector is inside.
const fn row_width(y_width: usize, kernel_width: usize, stride: usize) -> usize {
    (y_width + (kernel_width - 1) / stride + BEHIND).next_multiple_of(MAX_LANES)
}

/// Floats of a buffer for layers with these taps, output width and horizontal stride; none if they cannot be addressed.
pub(super) fn buffer(taps: Taps, y_width: usize, stride: usize) -> Option<usize> {
    let rows = taps.lanes().checked_mul(CHANNELS * stride)?;
    let width = y_width.checked_add(taps.width)?.checked_add(2 * BEHIND)?;
    let group = width.checked_mul(rows)?;
    (group <= isize::MAX as usize / size_of::<f32>()).then_some(group.max(BUFFER))
}

compiled! {
    /// Rows of a kernel of `K` x `K` taps, of any number if `K` is 0; `S` is the horizontal stride.
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
    let quads = args.quads();
    let taps = if K == 0 { quads.taps } else { Taps { height: K, width: K } };
    macro_rules! rows {
        ($($rows:literal)*) => {
            match taps.rows(args.step) {
                // SAFETY: passed on from the caller.
                $($rows => unsafe { planes::<V, K, S, $rows>(args, taps) },)*
                rows => unreachable!("{rows} rows of taps in common"),
            }
        };
    }
    rows!(1 2 3 4);
}

/// The same for a number of output rows that share lanes.
///
/// # Safety
/// As there; `ROWS` is that of `taps`.
#[inline(always)]
unsafe fn planes<V: Depthwise, const K: usize, const S: usize, const ROWS: usize>(
    args: &RowsArgs,
    taps: Taps,
) {
    let quads = args.quads();
    let width = row_width(args.y_width, taps.width, S);
    let group = taps.lanes() * CHANNELS * S * width;
    let groups = args.rows.div_ceil(ROWS);
    let together = (quads.len / group).clamp(1, groups);
    for plane in 0..args.planes {
        let scales = quads.scales.wrapping_add(plane * CHANNELS);
        let plane = args.plane(plane);
        for first in (0..groups).step_by(together) {
            let here = first..groups.min(first + together);
            // SAFETY: the buffer holds `together` groups, or one (Quads).
            unsafe { transpose::<V, S, ROWS>(args, plane, taps, &here, width) };
            // Of narrow maps two groups are a tile, of wide ones two vectors of a row.
            let both = ROWS <= 2 && args.y_width <= V::LANES;
            let (mut i, mut left) = (0, here.len());
            while left > 0 {
                let g = here.start + i;
                let y = plane.y.wrapping_add(g * ROWS * args.y_width);
                let rows = args.rows - g * ROWS;
                // SAFETY: these rows are there; the buffer has what was just transposed.
                unsafe {
                    let tile = Tile { taps, scales, x: quads.buffer.add(i * group), width, rows };
                    let plane = Plane { y, ..plane };
                    if both && left > 1 {
                        tile.run::<V, K, S, ROWS, 2>(args, plane, group, ROWS * args.y_width);
                        (i, left) = (i + 2, left - 2);
                    } else {
                        tile.along::<V, K, S, ROWS>(args, plane);
                        (i, left) = (i + 1, left - 1);
                    }
                }
            }
        }
    }
}

/// Transposes the input rows that some groups of `ROWS` output rows meet, with the padding around them, into the buffer:
/// `[group][lane][channel][parity][column]`, rows of `width` floats.
///
/// # Safety
/// As [`walk`]; the buffer has room for these groups.
#[inline(always)]
unsafe fn transpose<V: Depthwise, const S: usize, const ROWS: usize>(
    args: &RowsArgs,
    plane: Plane,
    taps: Taps,
    groups: &Range<usize>,
    width: usize,
) {
    let columns = args.y_width + (taps.width - 1) / S;
    let mut at = 0;
    while at < columns {
        // SAFETY: only rows and columns inside the map are read; vectors that are written begin before the last column
        // that is read later, behind which a row of the buffer has room for two vectors.
        unsafe {
            let column = (at * S) as isize - args.left as isize;
            let first = Columns::<V>::new(args, column);
            let second = if S == 1 { first } else { Columns::new(args, column + V::LANES as isize) };
            let mut to = args.quads().buffer.add(at);
            for group in groups.clone() {
                for lane in 0..taps.lanes() {
                    let iy = args.first + (group * ROWS * args.step + lane * CHANNELS) as isize;
                    let even = first.by_channel(args, plane, iy);
                    let odd = if S == 1 { even } else { second.by_channel(args, plane, iy) };
                    for c in 0..CHANNELS {
                        if const { S == 1 } {
                            even[c].store(to);
                        } else {
                            let (even, odd) = even[c].deinterleave(odd[c]);
                            even.settle().store(to);
                            odd.settle().store(to.add(width));
                        }
                        to = to.wrapping_add(S * width);
                    }
                }
            }
        }
        at += V::LANES;
    }
}

/// Columns of the input that are a vector.
#[derive(Clone, Copy)]
struct Columns<V: Vector> {
    first: isize,
    /// Whether all of them are inside of the map.
    inside: bool,
    /// Whether none of them is.
    beyond: bool,
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
                inside: first >= 0 && first + V::LANES as isize <= args.x_width as isize,
                beyond: first <= -(V::LANES as isize) || first >= args.x_width as isize,
                edge: V::edge(first, args.x_width),
                padding: V::splat(padding),
                outside: V::load(lanes.as_ptr()),
            }
        }
    }

    /// Four rows from `iy` on, of each channel; padding where there is no input.
    ///
    /// # Safety
    /// As [`walk`].
    #[inline(always)]
    unsafe fn by_channel(&self, args: &RowsArgs, plane: Plane, iy: isize) -> [V; CHANNELS] {
        // SAFETY: passed on from the caller; only what is inside the map is read.
        unsafe {
            let mut rows = [self.padding; CHANNELS];
            if self.beyond {
                return rows;
            }
            let mut at = plane.x.wrapping_offset(iy * args.x_width as isize + self.first);
            for (row, v) in rows.iter_mut().enumerate() {
                if ((iy + row as isize) as usize) < args.x_height {
                    V::prefetch(at.wrapping_add(AHEAD * args.x_width));
                    *v = match self.inside {
                        true => V::load(at),
                        false => V::load_edge(at, self.edge).add(self.outside),
                    };
                }
                at = at.wrapping_add(args.x_width);
            }
            V::by_channel(rows)
        }
    }
}

/// What output rows are made of that share input rows.
///
/// Invariants: the transposed rows of these taps are at `x`, `width` floats from one to the next; there is a scale for each
/// channel; `rows` are left, at least one.
#[derive(Clone, Copy)]
struct Tile {
    taps: Taps,
    scales: *const f32,
    x: *const f32,
    width: usize,
    rows: usize,
}

impl Tile {
    /// All vectors along `ROWS` rows.
    ///
    /// # Safety
    /// As [`planes`].
    #[inline(always)]
    unsafe fn along<V: Depthwise, const K: usize, const S: usize, const ROWS: usize>(
        self,
        args: &RowsArgs,
        plane: Plane,
    ) {
        let last = args.y_width.saturating_sub(V::LANES);
        let mut ox = 0;
        while ox < args.y_width {
            let two = ROWS <= 2 && args.y_width - ox > V::LANES && args.y_width >= 2 * V::LANES;
            let first = if two { ox.min(args.y_width - 2 * V::LANES) } else { ox.min(last) };
            let tile = Tile { x: self.x.wrapping_add(first), ..self };
            let plane = Plane { y: plane.y.wrapping_add(first), ..plane };
            // SAFETY: passed on from the caller; the vectors from column `first` on are inside the output row, or there is
            // one and the row is narrower.
            unsafe {
                if two {
                    tile.run::<V, K, S, ROWS, 2>(args, plane, V::LANES, V::LANES);
                } else {
                    tile.run::<V, K, S, ROWS, 1>(args, plane, 0, 0);
                }
            }
            ox = first + if two { 2 * V::LANES } else { V::LANES };
        }
    }

    /// `N` vectors of `ROWS` rows; those behind the first are `apart` floats further in the buffer and `beyond` in the
    /// output: in the same rows, or in as many rows below these.
    ///
    /// # Safety
    /// As [`planes`]; the vectors are inside the output row, or it is narrower and they begin with it.
    #[inline(always)]
    unsafe fn run<V: Depthwise, const K: usize, const S: usize, const ROWS: usize, const N: usize>(
        self,
        args: &RowsArgs,
        plane: Plane,
        apart: usize,
        beyond: usize,
    ) {
        let Tile { taps, scales, x, width, rows } = self;
        let taps = if K == 0 { taps } else { Taps { height: K, width: K } };
        // SAFETY: a plane has these taps, a bias and a scale for each channel; the columns that they meet are in the buffer,
        // as `row_width` says; rows that are there are written, others elsewhere.
        unsafe {
            let mut finished = [[[V::splat(0.0); N]; ROWS]; CHANNELS];
            macro_rules! channel {
                ($c:expr) => {{
                    let mut sums = [[V::splat(*plane.bias.add($c)); N]; ROWS];
                    for kx in 0..taps.width {
                        for lane in 0..taps.lanes() {
                            let row = x.add(((lane * CHANNELS + $c) * S + kx % S) * width + kx / S);
                            let mut columns = [V::splat(0.0); N];
                            for n in 0..N {
                                columns[n] = V::load(row.add(n * apart));
                            }
                            let w = plane.taps.add(taps.at($c, kx, lane, 0));
                            for r in 0..ROWS {
                                let w = V::splat(*w.add(r * args.step));
                                for n in 0..N {
                                    sums[r][n] = w.dot(columns[n], sums[r][n]);
                                }
                            }
                        }
                    }
                    let scale = V::splat(*scales.add($c));
                    for r in 0..ROWS {
                        for n in 0..N {
                            finished[$c][r][n] = sums[r][n].scaled(scale);
                        }
                    }
                }};
            }
            // Unrolled, what is finished stays in registers; but the code for more rows would not stay in the caches.
            if const { ROWS <= 2 } {
                unroll!(CHANNEL in [0 1 2 3] { channel!(CHANNEL) });
            } else {
                for c in 0..CHANNELS {
                    channel!(c);
                }
            }
            let bounds = args.quads().requantise.bounds();
            let below = if args.y_width > V::LANES { 0 } else { ROWS };
            for n in 0..N {
                for r in 0..ROWS {
                    // Rows that are not there are stored, too: otherwise compilers would move what computes them behind a
                    // branch, and all inputs to the stack.
                    let y = match n * below + r < rows {
                        true => plane.y.wrapping_add(n * beyond + r * args.y_width),
                        false => args.quads().nowhere,
                    };
                    let quads = V::quad(finished.map(|channel| channel[r][n]), &bounds);
                    if args.y_width >= V::LANES {
                        quads.store(y);
                    } else {
                        quads.store_part(y, args.y_width);
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
        for size in [[1, 1], [1, 3], [3, 3], [4, 2], [5, 5], [7, 3], [8, 1]] {
            let (taps, [height, width]) = (Taps::new(size), size);
            let values: Vec<f32> = (0..3 * height * width).map(|i| i as f32 - 50.0).collect();
            let lanes = taps.pack(&values);
            assert_eq!(lanes.len(), taps.count());
            for (i, v) in values.iter().enumerate() {
                let (channel, tap) = (i / (height * width), [i / width % height, i % width]);
                // SAFETY: `lanes` are packed.
                assert_eq!(unsafe { taps.tap(lanes.as_ptr(), channel, tap) }, *v as i32);
            }
            assert!([1, 2].iter().all(|step| (1..=4).contains(&taps.rows(*step))));
        }
    }
}
