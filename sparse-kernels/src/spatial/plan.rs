//! Where every input float stands in the image buffer, and where every output vector reads it.

use super::body::RowsApart;
use super::{Copies, Vector, WEIGHT_BYTES};
use crate::LOOK_AHEAD;
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, inside};
use crate::pairs;
use crate::parallel::share;
use crate::scratch::LINE;
use crate::table::Element;
use crate::vector::{MAX_LANES, Order};
use std::ops::Range;

/// Floats of a quarter of a second-level cache of 512 KiB. Kernels run by a few per cent slower for every
/// such quarter that the image buffer takes; it never takes more than three.
const BAND_FLOATS: usize = 32 << 10;
/// Bands are not cut below this many output rows to make work for more threads.
const MIN_ROWS: usize = 8;
/// Floats that are copied at once.
pub(super) const CHUNK: usize = 8;

/// One axis of the padded input, dealt into phases: position `q` of phase `p` is padded coordinate `q *
/// stride + p`.
#[derive(Debug, Clone)]
struct Axis {
    stride: usize,
    pad: usize,
    input: usize,
    /// Phases that any tap reads, in the order in which they stand in the buffer.
    phases: Vec<usize>,
    /// For every tap the position in `phases` and how far right of (below) the output it reads.
    taps: Vec<(usize, usize)>,
    /// Largest of those distances.
    reach: usize,
}

impl Axis {
    fn new(geometry: &ConvGeometry, axis: usize) -> Axis {
        let s = geometry.shape();
        let (stride, dilation) = (s.stride[axis], s.dilation[axis]);
        let mut phases: Vec<usize> = (0..s.kernel[axis]).map(|k| k * dilation % stride).collect();
        let taps: Vec<(usize, usize)> =
            phases.iter().copied().enumerate().map(|(k, p)| (p, k * dilation / stride)).collect();
        phases.sort_unstable();
        phases.dedup();
        let taps: Vec<(usize, usize)> =
            taps.into_iter().map(|(phase, shift)| (phases.partition_point(|p| *p < phase), shift)).collect();
        let reach = taps.iter().map(|(_, shift)| *shift).max().unwrap_or(0);
        Axis { stride, pad: s.pad_before[axis], input: s.input[axis], phases, taps, reach }
    }

    /// The positions that hold input, the rest is padding, if position 0 is padded coordinate `first`.
    fn data(&self, first: usize) -> Range<usize> {
        inside(self.pad, self.input, first, self.stride, usize::MAX)
    }
}

/// Lanes in order.
const PLAIN: Order = {
    let mut order = [0; MAX_LANES];
    let mut lane = 0;
    while lane < MAX_LANES {
        order[lane] = lane as u32;
        lane += 1;
    }
    order
};

/// The output vectors of a band, as tiles of a kernel.
#[derive(Debug)]
pub(crate) struct Band {
    pub rows: usize,
    pub vectors: Vec<Vector>,
    /// Every order of lanes that a vector has, the plain one first.
    pub orders: Vec<Order>,
    /// Vectors of every tile, as even as possible, because a tile of a single vector would have too few
    /// independent sums to hide the latency of multiply-add.
    pub tiles: Vec<Range<usize>>,
}

impl Band {
    /// Covers `rows` rows of `width` outputs, whose inputs begin `pitch` floats apart, with vectors of
    /// `lanes` pixels.
    fn new(rows: usize, width: usize, pitch: usize, lanes: usize, tile: usize) -> Band {
        let (count, run_on) = Band::count(rows, width, pitch, lanes);
        let layout = Layout { width, pitch, lanes, run_on };
        let mut band = Band { rows, vectors: vec![], orders: vec![PLAIN], tiles: vec![] };
        if layout.run_on {
            (0..count).for_each(|i| band.push(i * lanes / pitch, i * lanes % pitch, layout));
        } else {
            // The last vector of a row is moved back to be full: it computes some pixels again.
            let column = |i: usize| (i * lanes).min(width.saturating_sub(lanes));
            for row in 0..rows {
                (0..count / rows).for_each(|i| band.push(row, column(i), layout));
            }
        }
        let (vectors, tiles) = (band.vectors.len(), band.vectors.len().div_ceil(tile));
        band.tiles = (0..tiles).map(|i| share(vectors, tiles, i)).collect();
        band
    }

    /// How many vectors `rows` rows need, and whether these run on from one row into the next.
    fn count(rows: usize, width: usize, pitch: usize, lanes: usize) -> (usize, bool) {
        if rows == 0 {
            return (0, false);
        }
        let in_rows = rows * width.div_ceil(lanes);
        let run_on = ((rows - 1) * pitch + width).div_ceil(lanes);
        (run_on.min(in_rows), run_on < in_rows)
    }

    /// Adds the vector that begins at `row` and `column`.
    fn push(&mut self, row: usize, column: usize, layout: Layout) {
        let Layout { width, pitch, lanes, run_on } = layout;
        // The lane's column, rows being `pitch` apart; a lane between two rows is no pixel.
        let inside = |lane: &usize| {
            let position = column + lane;
            let (row, column) =
                if run_on { (row + position / pitch, position % pitch) } else { (row, position) };
            row < self.rows && column < width
        };
        // Lanes beyond the last pixel write what will be written again: any lane will do.
        let mut order = PLAIN;
        let pixels = (0..lanes).filter(inside);
        let count = order.iter_mut().zip(pixels).map(|(order, lane)| *order = lane as u32).count();
        order[count..lanes].fill(0);
        if count == lanes || (0..count).all(|i| order[i] == i as u32) {
            order = PLAIN;
        }
        // The first lane may lie between two rows: the first pixel is then that of the next row.
        let pixel = row * width + column.min(width);
        let known = self.orders.iter().position(|known| *known == order);
        let order = known.unwrap_or_else(|| {
            self.orders.push(order);
            self.orders.len() - 1
        });
        self.vectors.push(Vector {
            base: (row * pitch + column) as u32,
            pixel: pixel as u32,
            count: count as u32,
            order: order as u32,
        });
    }
}

/// What a vector needs to know of a band.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Outputs of a row.
    width: usize,
    /// Floats from the inputs of one row to the next.
    pitch: usize,
    /// Pixels of a vector.
    lanes: usize,
    /// Vectors run on from one row into the next.
    run_on: bool,
}

/// What a kernel does with the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    /// The columns of all groups, as in `PackedSpatial`.
    pub columns: &'a [u32],
    /// Output channels of a group.
    pub r: usize,
    /// Memory of the weights, with their offsets.
    pub bytes: usize,
    /// Pixels of a vector.
    pub lanes: usize,
    /// Vectors of a tile.
    pub tile: usize,
    /// What the buffer holds: lanes of it, or halves.
    pub element: Element,
    /// The lane of input channels that holds one channel, at several rows ([`TapLanes`](crate::format::TapLanes)).
    pub alone: Option<usize>,
    /// What stands around images.
    pub padding: f32,
}

/// Buffer layout of one geometry: `[used channel][row phase][column phase][row][column]`. A place of it is a lane, of which
/// a float has the bits; in f16 it is a half.
///
/// Invariants: for every vector of the bands, `base + offset + lanes`, all of them places, is at most `len`, for each of
/// `offsets`; the pixels of a vector are inside the output rows of its band.
#[derive(Debug)]
pub(crate) struct Plan {
    geometry: ConvGeometry,
    rows: Axis,
    cols: Axis,
    /// Places from one row to the next in a phase.
    pitch: usize,
    /// Places of one phase.
    subplane: usize,
    /// Places of one channel: its phases and a gap that spreads channels over the sets of a cache.
    plane: usize,
    /// Bands have this number of rows...
    full: Band,
    /// ... or one less.
    shorter: Band,
    /// Bands of output rows per image.
    pub bands: usize,
    /// Places of the buffer.
    pub len: usize,
    /// Position in the buffer, in bytes and for output pixel 0, of every column of the weights; then
    /// [`LOOK_AHEAD`] zeros.
    pub offsets: Vec<u32>,
    element: Element,
    /// Which of the channels of the buffer is a lane of one channel, at several rows.
    alone: Option<usize>,
    padding: f32,
}

impl Plan {
    /// Lays out the buffer for the input channels `used`.
    ///
    /// # Errors
    /// A band that has more than `u32::MAX` bytes, or outputs.
    pub(super) fn new(
        geometry: &ConvGeometry,
        used: &[u32],
        work: Work,
        threads: usize,
    ) -> Result<Plan, KernelError> {
        let [oh, ow] = geometry.output();
        let (rows, cols) = (Axis::new(geometry, 0), Axis::new(geometry, 1));
        // A row ends where its input ends. What is right of that is padding, and so are the first columns of the
        // next row: these can stand for those.
        let width = ow + cols.reach;
        let zeros = cols.phases.iter().map(|p| cols.data(*p).start).min().unwrap_or(0).min(cols.reach);
        let filled = cols.phases.iter().map(|p| cols.data(*p).end).max().unwrap_or(0).min(width);
        let pitch = filled.max(width - zeros);
        let phases = rows.phases.len() * cols.phases.len();
        let place = work.element.product_bytes();
        let line = LINE * size_of::<f32>() / place;
        // Of several planes that are written together none may reach into the next.
        let gap = if work.element == Element::F16 { cols.reach + CHUNK } else { 0 };

        let plane = |rows_per_band: usize| {
            let places = (rows_per_band + rows.reach).checked_mul(pitch)?.checked_mul(phases)?;
            // An odd number of lines.
            Some((places.checked_add(gap)?.div_ceil(line) | 1) * line)
        };
        let len = |rows_per_band: usize| {
            plane(rows_per_band)?.checked_mul(used.len())?.checked_add(zeros + work.lanes.max(CHUNK))
        };
        let band_places = BAND_FLOATS * size_of::<f32>() / place;
        let fits = |bands: &usize| len(oh.div_ceil(*bands)).is_some_and(|len| len <= 3 * band_places);
        // In cycles, roughly; what counts is how many vectors there are, how many rows are copied twice, and
        // how often weights that do not stay in the second-level cache are read from behind it.
        let reload = if work.bytes > WEIGHT_BYTES { work.bytes / 16 } else { 0 };
        let cost = |bands: &usize| {
            let band = oh.div_ceil(*bands);
            let vectors = Band::count(band, ow, pitch, work.lanes).0;
            let short = oh - (band - 1) * bands;
            let vectors = vectors * short + Band::count(band - 1, ow, pitch, work.lanes).0 * (bands - short);
            let slow = 1.0 + 0.05 * (len(band).unwrap_or(0) / band_places) as f64;
            let sums = vectors as f64 * (work.columns.len() * work.r) as f64 / 2.0 * slow;
            sums + *bands as f64 * (len(band).unwrap_or(0) + reload) as f64
        };
        let cheapest = (1..=oh).filter(fits).min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let mut bands = cheapest.unwrap_or(oh);
        if threads > 1 {
            // Threads take bands, as many each; or output channels, if there is one band.
            let wanted = (2 * threads).div_ceil(geometry.shape().batch);
            bands = bands.max(wanted.min(oh / MIN_ROWS));
            if bands > 1 {
                bands = bands.next_multiple_of(threads).min(oh);
            }
        }
        let rows_per_band = oh.div_ceil(bands);
        // Offsets are in bytes, the pixels of a band are counted; both are u32.
        const MOST: usize = if usize::BITS > 32 { u32::MAX as usize } else { isize::MAX as usize };
        let small = |places: &usize| *places < MOST / place - line;
        let (len, plane) = (len(rows_per_band).filter(small), plane(rows_per_band).filter(small));
        let pixels = rows_per_band.checked_mul(ow).filter(|pixels| *pixels < MOST);
        let (Some(len), Some(plane), Some(_)) = (len, plane, pixels) else {
            return Err(KernelError::Geometry(format!(
                "a row is too large to index in {:?}",
                geometry.shape()
            )));
        };
        let subplane = (rows_per_band + rows.reach) * pitch;

        let [_, kw] = geometry.shape().kernel;
        let window = rows.taps.len() * kw;
        let taps: Vec<usize> = (0..window)
            .map(|tap| {
                let ((py, dy), (px, dx)) = (rows.taps[tap / kw], cols.taps[tap % kw]);
                (py * cols.phases.len() + px) * subplane + dy * pitch + dx
            })
            .collect();
        let offset = |column: &u32| {
            let column = *column as usize;
            (place * (column / window * plane + taps[column % window])) as u32
        };
        let offsets = work.columns.iter().map(offset).chain([0; LOOK_AHEAD]).collect();
        let band = |rows| Band::new(rows, ow, pitch, work.lanes, work.tile);
        let (full, shorter, geometry) = (band(rows_per_band), band(rows_per_band - 1), *geometry);
        let element = work.element;
        let alone = work.alone.and_then(|lane| used.iter().position(|used| *used as usize == lane));
        Ok(Plan {
            geometry,
            rows,
            cols,
            pitch,
            subplane,
            plane,
            full,
            shorter,
            bands,
            len,
            offsets,
            element,
            alone,
            padding: work.padding,
        })
    }

    /// Output rows of a band.
    pub fn rows(&self, band: usize) -> Range<usize> {
        share(self.geometry.output()[0], self.bands, band)
    }

    /// The vectors of a band of `rows` output rows.
    pub fn band(&self, rows: usize) -> &Band {
        if rows == self.full.rows { &self.full } else { &self.shorter }
    }

    /// Floats of the buffer.
    pub fn floats(&self) -> usize {
        (self.len * self.element.product_bytes()).div_ceil(size_of::<f32>())
    }

    /// Copies what the output rows `band` need of `image` into `buffer`, padding included.
    ///
    /// The buffer is written from front to back: padding up to the next row of input, that row, and so on, so
    /// that padding can be written in whole chunks.
    pub fn fill(&self, buffer: &mut [f32], image: &[f32], used: &[u32], band: Range<usize>, copies: Copies) {
        if self.element == Element::F16 {
            return self.take_apart(pairs::as_halves_mut(buffer), image, used, band, copies);
        }
        self.copy(buffer, image, used, band.clone(), copies);
        if let Some(alone) = self.alone {
            self.join_rows(&mut buffer[alone * self.plane..], band.len());
        }
    }

    /// Puts into every lane of a channel what its first part is one tap below, as the second part, and so on: where the
    /// buffer has that row, as it has all that a kernel reads. Padding stays what it is.
    fn join_rows(&self, plane: &mut [f32], rows_per_band: usize) {
        let (per_lane, phases) = (self.element.per_lane(), self.cols.phases.len());
        let bits = u32::BITS as usize / per_lane;
        let mask = u32::MAX >> (u32::BITS as usize - bits);
        let (height, dilation) = (rows_per_band + self.rows.reach, self.geometry.shape().dilation[0]);
        let first_part = |lane: &f32| lane.to_bits() & mask;
        for (at, phase) in self.rows.phases.iter().enumerate() {
            for part in 1..per_lane {
                let below = phase + part * dilation;
                let Some(from) = self.rows.phases.iter().position(|p| *p == below % self.rows.stride) else {
                    continue;
                };
                for row in 0..height.saturating_sub(below / self.rows.stride) {
                    let row_below = row + below / self.rows.stride;
                    for column in 0..phases {
                        let place =
                            |at: usize, row: usize| (at * phases + column) * self.subplane + row * self.pitch;
                        let (to, from) = (place(at, row), place(from, row_below));
                        let (head, tail) = plane.split_at_mut(to.max(from));
                        let (to, from) = match to < from {
                            true => (&mut head[to..to + self.pitch], &tail[..self.pitch]),
                            false => (&mut tail[..self.pitch], &head[from..from + self.pitch]),
                        };
                        let others = !(mask << (part * bits));
                        for (to, from) in to.iter_mut().zip(from) {
                            let lane = to.to_bits() & others | first_part(from) << (part * bits);
                            *to = f32::from_bits(lane);
                        }
                    }
                }
            }
        }
    }

    /// Of each phase the rows and columns of the buffer that hold input, and the first input row and column there.
    fn inputs(&self, band: Range<usize>) -> [Vec<(Range<usize>, usize)>; 2] {
        let [sy, sx] = [self.rows.stride, self.cols.stride];
        let rows = |phase: &usize| {
            let data = self.rows.data(band.start * sy + phase);
            let data = data.start..data.end.min(band.len() + self.rows.reach);
            let first = ((band.start + data.start) * sy + phase).saturating_sub(self.rows.pad);
            (data, first)
        };
        let cols = |phase: &usize| {
            let data = self.cols.data(*phase);
            let first = (data.start * sx + phase).saturating_sub(self.cols.pad);
            (data.start..data.end.min(self.pitch), first)
        };
        [self.rows.phases.iter().map(rows).collect(), self.cols.phases.iter().map(cols).collect()]
    }

    /// Writes one channel of the buffer, or several together: `planes` puts padding between the rows that it copies.
    fn deal(&self, [rows, cols]: &[Vec<(Range<usize>, usize)>; 2], planes: &mut impl Planes) {
        let (iw, sy, pitch) = (self.cols.input, self.rows.stride, self.pitch);
        let (mut start, mut done) = (0, 0);
        for (rows, iy) in rows {
            for (cols, ix) in cols {
                if !rows.is_empty() && !cols.is_empty() {
                    let first = start + rows.start * pitch + cols.start;
                    planes.pad(done..first);
                    let (height, width) = (rows.len(), cols.len());
                    done = first + (height - 1) * pitch + width;
                    // of a single row nothing is asked down there, and the step may be any
                    let (down, right) = (sy.wrapping_mul(iw), self.cols.stride);
                    let padding = self.padding;
                    planes.copy(first, iy * iw + ix, Copy { height, width, pitch, down, right, padding });
                }
                start += self.subplane;
            }
        }
        // What follows the last row stands for the padding right of it.
        planes.pad(done..(start + self.cols.reach).min(self.plane));
    }

    /// [`Plan::fill`] in f16: each channel of a lane has a plane of halves.
    fn take_apart(
        &self,
        buffer: &mut [u16],
        image: &[f32],
        used: &[u32],
        band: Range<usize>,
        copies: Copies,
    ) {
        let inputs = self.inputs(band);
        let mut planes = buffer.chunks_exact_mut(self.plane);
        for channels in used.chunk_by(|a, b| a / 2 == b / 2) {
            let lanes = &image[channels[0] as usize / 2 * self.geometry.x_plane()..];
            let lanes = &lanes[..self.geometry.input_pixels()];
            let planes =
                [0, 1].map(|half| channels.iter().find(|c| **c % 2 == half).and_then(|_| planes.next()));
            self.deal(&inputs, &mut Apart { planes, lanes, copies });
        }
        buffer[self.plane * used.len()..].fill(0);
    }

    fn copy(&self, buffer: &mut [f32], image: &[f32], used: &[u32], band: Range<usize>, copies: Copies) {
        let iw = self.cols.input;
        let strides = [self.rows.stride, self.cols.stride];
        let inputs = self.inputs(band);
        let [rows, cols] = &inputs;
        if let ([(rows, iy)], [(cols, _)], Some(copy)) = (&rows[..], &cols[..], whole_rows(iw))
            && (strides, cols.len(), self.pitch) == ([1, 1], iw, iw + 1)
        {
            let first = rows.start * self.pitch + cols.start;
            let end = first + rows.len() * self.pitch;
            let planes = WholeRows {
                plane: self.plane,
                rows: first..end,
                padding: self.padding,
                padding_to: (self.subplane + self.cols.reach).min(self.plane),
                image_plane: self.geometry.x_plane(),
                image_rows: iy * iw..(iy + rows.len()) * iw,
            };
            copy(&planes, buffer, image, used);
            buffer[self.plane * used.len()..].fill(self.padding);
            return;
        }
        for (position, channel) in used.iter().enumerate() {
            let plane = &mut buffer[position * self.plane..];
            let source = &image[*channel as usize * self.geometry.x_plane()..];
            let source = &source[..self.geometry.input_pixels()];
            self.deal(&inputs, &mut One { plane, source, padding: self.padding, copies });
        }
        buffer[self.plane * used.len()..].fill(self.padding);
    }
}

/// Planes of the buffer that are written together, each from front to back.
trait Planes {
    /// Padding in `range` and, to the end of a chunk, behind it.
    fn pad(&mut self, range: Range<usize>);

    /// Rows from the place `first` on, of what stands at `source` in the image.
    fn copy(&mut self, first: usize, source: usize, copy: Copy);
}

/// One plane of lanes.
struct One<'a> {
    plane: &'a mut [f32],
    source: &'a [f32],
    padding: f32,
    copies: Copies,
}

impl Planes for One<'_> {
    fn pad(&mut self, range: Range<usize>) {
        pad(self.plane, range, self.padding);
    }

    fn copy(&mut self, first: usize, source: usize, copy: Copy) {
        let (to, from) = (&mut self.plane[first..], &self.source[source..]);
        match copy.width {
            4 if copy.right == 1 => copy.rows::<4, 0>(to, from),
            5..8 if copy.right == 1 => copy.rows::<4, 1>(to, from),
            8 if copy.right == 1 => copy.rows::<8, 0>(to, from),
            9..=16 if copy.right == 1 => copy.rows::<8, 1>(to, from),
            17..=32 if copy.right == 1 => copy.rows::<16, 1>(to, from),
            33..=64 if copy.right == 1 => copy.rows::<32, 1>(to, from),
            _ => copy.others(to, from, self.copies),
        }
    }
}

/// Planes of the halves of the same lanes: the first, the second, or both.
struct Apart<'a> {
    planes: [Option<&'a mut [u16]>; 2],
    lanes: &'a [f32],
    copies: Copies,
}

impl Planes for Apart<'_> {
    fn pad(&mut self, range: Range<usize>) {
        for plane in self.planes.iter_mut().flatten() {
            pad(plane, range.clone(), 0);
        }
    }

    fn copy(&mut self, first: usize, source: usize, copy: Copy) {
        let Copy { height, width, pitch, down, right, .. } = copy;
        let from = &self.lanes[source..];
        // The last lane of an image is not followed by another.
        let whole = |height: usize| (height - 1) * down + right * width <= from.len();
        let vectors = match (width >= CHUNK && (1..=2).contains(&right), whole(height)) {
            (true, true) => height,
            (true, false) => height - 1,
            _ => 0,
        };
        if vectors > 0 {
            assert!(whole(vectors), "a row is behind the one above it");
            let to = self.planes.each_mut().map(|plane| {
                let plane = plane.as_mut()?;
                Some(plane[first..][..(vectors - 1) * pitch + width].as_mut_ptr())
            });
            let rows = RowsApart { to, from: from.as_ptr(), height: vectors, width, pitch, down, right };
            // SAFETY: the lengths were just compared; the plan was made for a kernel of the table, whose target was detected.
            unsafe { (self.copies.apart)(&rows) };
        }
        for (half, plane) in self.planes.iter_mut().enumerate() {
            let Some(plane) = plane else { continue };
            for row in 0..height {
                let (to, gap) = plane[first + row * pitch..].split_at_mut(width);
                if row >= vectors {
                    for (to, lane) in to.iter_mut().zip(from[row * down..].iter().step_by(right)) {
                        *to = (lane.to_bits() >> (u16::BITS as usize * half)) as u16;
                    }
                }
                match &mut gap[..if row + 1 < height { pitch - width } else { 0 }] {
                    [one] => *one = 0,
                    gap => gap.fill(0),
                }
            }
        }
    }
}

/// Where the rows of a channel are in the buffer and in the image.
struct WholeRows {
    /// Floats from one channel to the next in the buffer.
    plane: usize,
    /// Rows, of one float more than in the image; padding before them, and behind them up to `padding_to`.
    rows: Range<usize>,
    padding: f32,
    padding_to: usize,
    image_plane: usize,
    image_rows: Range<usize>,
}

/// Copies the channels that are used from the image (second) to the buffer (first).
type CopyPlanes = fn(&WholeRows, &mut [f32], &[f32], &[u32]);

/// Copies whole rows of `width` floats, with padding of one behind each: for the usual sizes of maps.
fn whole_rows(width: usize) -> Option<CopyPlanes> {
    fn copy<const W: usize, const P: usize>(
        planes: &WholeRows,
        buffer: &mut [f32],
        image: &[f32],
        used: &[u32],
    ) {
        let row = |to: &mut [f32; P], from: &[f32; W]| {
            to[..W].copy_from_slice(from);
            to[W] = planes.padding;
        };
        for (position, channel) in used.iter().enumerate() {
            let plane = &mut buffer[position * planes.plane..];
            pad(plane, 0..planes.rows.start, planes.padding);
            let from = &image[*channel as usize * planes.image_plane..][planes.image_rows.clone()];
            let (to, from) = (plane[planes.rows.clone()].as_chunks_mut::<P>().0, from.as_chunks::<W>().0);
            // Two at a time: cores that work in order wait for a load that is stored at once.
            let ((pairs, to), (from_pairs, from)) = (to.as_chunks_mut::<2>(), from.as_chunks::<2>());
            for ([a, b], [from_a, from_b]) in pairs.iter_mut().zip(from_pairs) {
                let (from_a, from_b) = (*from_a, *from_b);
                row(a, &from_a);
                row(b, &from_b);
            }
            if let ([to], [from]) = (to, from) {
                row(to, from);
            }
            pad(plane, planes.rows.end..planes.padding_to, planes.padding);
        }
    }
    Some(match width {
        7 => copy::<7, 8>,
        8 => copy::<8, 9>,
        14 => copy::<14, 15>,
        16 => copy::<16, 17>,
        28 => copy::<28, 29>,
        32 => copy::<32, 33>,
        56 => copy::<56, 57>,
        _ => return None,
    })
}

/// Rows of one phase of a channel to copy, with padding between them.
#[derive(Debug, Clone, Copy)]
struct Copy {
    height: usize,
    width: usize,
    /// Floats from one row to the next in the buffer.
    pitch: usize,
    /// Floats from one row to the next and from one column to the next in the image.
    down: usize,
    right: usize,
    padding: f32,
}

impl Copy {
    /// Neighbouring columns, more than `K * C` and at most `(K + 1) * C`: `K` chunks of `C` floats and one
    /// that ends with the row. Without a call per row, which takes longer than the copy.
    #[inline(never)]
    fn rows<const C: usize, const K: usize>(self, mut to: &mut [f32], mut from: &[f32]) {
        let Copy { height, width, pitch, down, padding, .. } = self;
        for _ in 0..height {
            let (row, rest) = to.split_at_mut(pitch);
            let (row, gap) = row.split_at_mut(width);
            let source = &from[..width];
            let (chunks, _) = row.as_chunks_mut::<C>();
            for (to, from) in chunks.iter_mut().zip(source.as_chunks::<C>().0).take(K) {
                *to = *from;
            }
            if let (Some(to), Some(from)) = (row.last_chunk_mut::<C>(), source.last_chunk::<C>()) {
                *to = *from;
            }
            // Padding that two rows share is one float for kernels of three columns.
            match gap {
                [one] => *one = padding,
                gap => gap.fill(padding),
            }
            to = rest;
            from = &from[down.min(from.len())..];
        }
    }

    /// Few columns or very many, or columns apart.
    fn others(self, to: &mut [f32], from: &[f32], copies: Copies) {
        let Copy { height, width, pitch, down, right, padding } = self;
        for row in 0..height {
            let (row_to, row_from) = (&mut to[row * pitch..][..width], &from[row * down..]);
            if right == 2 && width >= CHUNK && row_from.len() >= 2 * width {
                // SAFETY: the lengths were just compared; the plan was made for a kernel of the table, whose
                // target was detected.
                unsafe { (copies.evens)(row_to.as_mut_ptr(), row_from.as_ptr(), width) };
            } else if right == 1 {
                row_to.copy_from_slice(&row_from[..width]);
            } else {
                row_to.iter_mut().zip(row_from.iter().step_by(right)).for_each(|(v, x)| *v = *x);
            }
            if row + 1 < height {
                pad(to, row * pitch + width..(row + 1) * pitch, padding);
            }
        }
    }
}

/// Padding in `range` and, to the end of a chunk, behind it. Short ranges are the rule.
#[inline(always)]
fn pad<T: Clone>(plane: &mut [T], range: Range<usize>, padding: T) {
    for at in range.step_by(CHUNK) {
        plane[at..at + CHUNK].fill(padding.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::ConvShape;

    fn plan(shape: ConvShape, lanes: usize) -> Plan {
        let columns: Vec<u32> = (0..(shape.ic * shape.kernel[0] * shape.kernel[1]) as u32).collect();
        let used: Vec<u32> = (0..shape.ic as u32).collect();
        let (element, alone) = (Element::F32, None);
        let work = Work { columns: &columns, r: 4, bytes: 0, lanes, tile: 3, element, alone, padding: 0.0 };
        Plan::new(&ConvGeometry::new(shape).unwrap(), &used, work, 1).unwrap()
    }

    #[test]
    fn small_maps_fill_their_vectors() {
        let vectors = |hw, lanes| Band::count(hw, hw, hw + 1, lanes).0;
        assert_eq!([7, 8, 14, 28, 56].map(|hw| vectors(hw, 8)), [7, 8, 27, 102, 392]);
        assert_eq!([7, 8, 14, 28, 56].map(|hw| vectors(hw, 4)), [14, 16, 53, 196, 784]);
    }

    #[test]
    fn padding_is_shared_and_planes_are_odd() {
        let plan = plan(ConvShape::square(3, 4, 16, 3, 1, 1), 8);
        assert_eq!((plan.pitch, plan.plane % 32), (17, 16));
    }

    #[test]
    fn tiles_are_even() {
        let tiles = |hw| {
            let plan = plan(ConvShape::square(4, 4, hw, 3, 1, 1), 8);
            plan.full.tiles.iter().map(|t| t.len()).collect::<Vec<_>>()
        };
        assert_eq!((tiles(7), tiles(8)), (vec![3, 2, 2], vec![3, 3, 2]));
    }

    #[test]
    fn every_offset_stays_inside_and_every_pixel_is_computed() {
        for (hw, kernel, stride, pad) in
            [(1, 3, 1, 1), (5, 5, 3, 4), (9, 2, 2, 0), (13, 3, 2, 1), (6, 1, 3, 2)]
        {
            for lanes in [4, 8, 16] {
                let plan = plan(ConvShape::square(2, 2, hw, kernel, stride, pad), lanes);
                let [oh, ow] = plan.geometry.output();
                let last = *plan.offsets.iter().max().unwrap() as usize / size_of::<f32>();
                let mut seen = vec![false; oh * ow];
                for rows in (0..plan.bands).map(|band| plan.rows(band)) {
                    let band = plan.band(rows.len());
                    assert_eq!(band.rows, rows.len());
                    for vector in &band.vectors {
                        assert!(vector.base as usize + last + lanes <= plan.len);
                        for pixel in vector.pixel..vector.pixel + vector.count {
                            assert!((pixel as usize) < rows.len() * ow);
                            seen[rows.start * ow + pixel as usize] = true;
                        }
                        let order = &band.orders[vector.order as usize];
                        assert!(order[..lanes].iter().all(|lane| (*lane as usize) < lanes));
                    }
                    // What a vector writes too much, the next writes again.
                    let next = |pair: &[Vector]| pair[0].pixel + pair[0].count >= pair[1].pixel;
                    assert!(band.vectors.windows(2).all(next));
                    assert_eq!(band.tiles.iter().map(|t| t.len()).sum::<usize>(), band.vectors.len());
                }
                assert!(seen.iter().all(|s| *s), "{hw} {kernel} {stride} {pad} {lanes}");
            }
        }
    }
}
