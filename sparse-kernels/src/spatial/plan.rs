//! Where every input float stands in the image buffer, and where every output vector reads it.

use super::{Evens, Vector};
use crate::error::KernelError;
use crate::geometry::ConvGeometry;
use crate::parallel::share;
use std::ops::Range;

/// Floats of the image buffer that a band should not exceed: half of a second-level cache of 512 KiB.
const BAND_FLOATS: usize = 32 << 10;
/// Bands are not cut below this many output rows to make work for more threads.
const MIN_ROWS: usize = 8;
/// Floats that are copied at once.
pub(super) const CHUNK: usize = 8;
/// Floats of a cache line.
const LINE: usize = 16;

/// One axis of the padded input, dealt into phases: position `q` of phase `p` is padded coordinate `q * stride + p`.
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
        let position = |padded: usize| padded.saturating_sub(first).div_ceil(self.stride);
        position(self.pad)..position(self.pad + self.input)
    }
}

/// Buffer layout of one geometry: `[used channel][row phase][column phase][row][column]`.
///
/// Invariants: for every vector that [`Plan::place`] makes, `base + offset + lanes` is at most `len`, for each of
/// `offsets`; the pixels of a vector are inside the output rows of its band.
#[derive(Debug)]
pub(super) struct Plan {
    geometry: ConvGeometry,
    threads: usize,
    rows: Axis,
    cols: Axis,
    lanes: usize,
    /// Floats from one row to the next in a phase.
    pitch: usize,
    /// Floats of one phase.
    subplane: usize,
    /// Floats of one channel: its phases and a gap that spreads channels over the sets of a cache.
    plane: usize,
    /// Vectors run on from one row into the next.
    flat: bool,
    /// Bands of output rows per image.
    pub bands: usize,
    /// Floats of the buffer.
    pub len: usize,
    /// Position in the buffer, for output pixel 0, of every column of the weights.
    pub offsets: Vec<u32>,
}

impl Plan {
    /// Lays out the buffer for input channels `used`; `columns` are those of `PackedSpatial`.
    ///
    /// # Errors
    /// A band of a single row that has more than `u32::MAX` floats.
    pub fn new(
        geometry: &ConvGeometry,
        used: &[u32],
        columns: &[u32],
        lanes: usize,
        threads: usize,
    ) -> Result<Plan, KernelError> {
        let [oh, ow] = geometry.output();
        let (rows, cols) = (Axis::new(geometry, 0), Axis::new(geometry, 1));
        // A row ends where its input ends. What is right of that is zero, and so are the first columns of the next
        // row: these can stand for those.
        let width = ow + cols.reach;
        let zeros = cols.phases.iter().map(|p| cols.data(*p).start).min().unwrap_or(0).min(cols.reach);
        let filled = cols.phases.iter().map(|p| cols.data(*p).end).max().unwrap_or(0).min(width);
        let pitch = filled.max(width - zeros);
        let phases = rows.phases.len() * cols.phases.len();

        let plane = |rows_per_band: usize| {
            let floats = (rows_per_band + rows.reach).checked_mul(pitch)?.checked_mul(phases)?;
            // An odd number of lines.
            Some((floats.div_ceil(LINE) | 1) * LINE)
        };
        let len = |rows_per_band: usize| {
            plane(rows_per_band)?.checked_mul(used.len())?.checked_add(zeros + lanes.max(CHUNK))
        };
        let fits = |bands: usize| {
            len(oh.div_ceil(bands))
                .is_some_and(|len| len <= std::env::var("BF").map_or(BAND_FLOATS, |v| v.parse().unwrap()))
        };
        let mut bands = 1;
        while bands < oh && !fits(bands) {
            bands += 1;
        }
        if threads > 1 {
            let wanted = (2 * threads).div_ceil(geometry.shape().batch);
            bands = bands.max(wanted.min(oh / MIN_ROWS)).next_multiple_of(threads).min(oh);
        }
        let rows_per_band = oh.div_ceil(bands);
        let len = len(rows_per_band).filter(|len| u32::try_from(*len).is_ok());
        let (Some(len), Some(plane)) = (len, plane(rows_per_band)) else {
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
            (column / window * plane + taps[column % window]) as u32
        };
        let offsets = columns.iter().map(offset).collect();
        let (geometry, in_rows) = (*geometry, rows_per_band * ow.div_ceil(lanes));
        let flat = ((rows_per_band - 1) * pitch + ow).div_ceil(lanes) < in_rows;
        Ok(Plan { geometry, threads, rows, cols, lanes, pitch, subplane, plane, flat, bands, len, offsets })
    }

    /// Whether this plan was made for these.
    pub fn is_for(&self, geometry: &ConvGeometry, threads: usize) -> bool {
        self.geometry == *geometry && self.threads == threads
    }

    /// Output rows of a band.
    pub fn rows(&self, band: usize) -> Range<usize> {
        share(self.geometry.output()[0], self.bands, band)
    }

    /// Vectors of a band of `rows` rows.
    pub fn vectors(&self, rows: usize) -> usize {
        let width = self.geometry.output()[1];
        if self.flat {
            ((rows - 1) * self.pitch + width).div_ceil(self.lanes)
        } else {
            rows * width.div_ceil(self.lanes)
        }
    }

    /// Says where vector `index` of a band of output rows `band` reads and writes.
    pub fn place(&self, vector: &mut Vector, index: usize, band: &Range<usize>) {
        let width = self.geometry.output()[1];
        let (mut row, mut column) = if self.flat {
            (index * self.lanes / self.pitch, index * self.lanes % self.pitch)
        } else {
            let per_row = width.div_ceil(self.lanes);
            // The last vector of a row is moved back to be full: it computes some pixels again.
            let column = (index % per_row * self.lanes).min(width.saturating_sub(self.lanes));
            (index / per_row, column)
        };
        vector.base = row * self.pitch + column;
        vector.full = column + self.lanes <= width;
        if vector.full {
            vector.pixels[0] = (band.start + row) * width + column;
            return;
        }
        for pixel in &mut vector.pixels[..self.lanes] {
            let inside = column < width && row < band.len();
            *pixel = if inside { (band.start + row) * width + column } else { Vector::NONE };
            column += 1;
            if self.flat && column == self.pitch {
                (row, column) = (row + 1, 0);
            }
        }
    }

    /// Copies what the output rows `band` need of `image` into `buffer`, padding included.
    ///
    /// The buffer is written from front to back: zeros up to the next row of input, that row, and so on, so that zeros
    /// can be written in whole chunks.
    pub fn fill(&self, buffer: &mut [f32], image: &[f32], used: &[u32], band: Range<usize>, evens: Evens) {
        let [ih, iw] = [self.rows.input, self.cols.input];
        let [sy, sx] = [self.rows.stride, self.cols.stride];
        // Rows and columns of the buffer that hold input, and the first input row and column there.
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
        let rows: Vec<(Range<usize>, usize)> = self.rows.phases.iter().map(rows).collect();
        let cols: Vec<(Range<usize>, usize)> = self.cols.phases.iter().map(cols).collect();
        for (position, channel) in used.iter().enumerate() {
            let plane = &mut buffer[position * self.plane..];
            let source = &image[*channel as usize * ih * iw..];
            let (mut start, mut done) = (0, 0);
            for (rows, iy) in &rows {
                for (cols, ix) in &cols {
                    if !cols.is_empty() {
                        for (i, row) in rows.clone().enumerate() {
                            let range =
                                start + row * self.pitch + cols.start..start + row * self.pitch + cols.end;
                            zero(plane, done..range.start);
                            done = range.end;
                            copy(&mut plane[range], &source[(iy + i * sy) * iw + ix..], sx, evens);
                        }
                    }
                    start += self.subplane;
                }
            }
            zero(plane, done..self.plane);
        }
        buffer[self.plane * used.len()..].fill(0.0);
    }
}

/// Zeros in `range` and, to the end of a chunk, behind it. Short ranges are the rule.
#[inline(always)]
fn zero(plane: &mut [f32], range: Range<usize>) {
    for at in range.step_by(CHUNK) {
        plane[at..at + CHUNK].fill(0.0);
    }
}

/// Every `stride`-th float of `source`, as many as `row` has.
#[inline(always)]
fn copy(row: &mut [f32], source: &[f32], stride: usize, evens: Evens) {
    let len = row.len();
    if stride == 1 && len >= CHUNK {
        // The last chunk is moved back to end with the row.
        let source = &source[..len];
        for (to, from) in row.chunks_exact_mut(CHUNK).zip(source.chunks_exact(CHUNK)) {
            to.copy_from_slice(from);
        }
        row[len - CHUNK..].copy_from_slice(&source[len - CHUNK..]);
    } else if stride == 2 && len >= CHUNK && source.len() >= 2 * len {
        // SAFETY: the lengths were just compared; the plan was made for a kernel of the table, whose target was
        // detected.
        unsafe { evens(row.as_mut_ptr(), source.as_ptr(), len) };
    } else {
        row.iter_mut().zip(source.iter().step_by(stride)).for_each(|(v, x)| *v = *x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::ConvShape;

    fn plan(shape: ConvShape, lanes: usize) -> Plan {
        let columns: Vec<u32> = (0..(shape.ic * shape.kernel[0] * shape.kernel[1]) as u32).collect();
        let used: Vec<u32> = (0..shape.ic as u32).collect();
        Plan::new(&ConvGeometry::new(shape).unwrap(), &used, &columns, lanes, 1).unwrap()
    }

    #[test]
    fn small_maps_fill_their_vectors() {
        let vectors = |hw, lanes| plan(ConvShape::square(4, 4, hw, 3, 1, 1), lanes).vectors(hw);
        assert_eq!([7, 8, 14, 28, 56].map(|hw| vectors(hw, 8)), [7, 8, 27, 102, 392]);
        assert_eq!([7, 8, 14, 28, 56].map(|hw| vectors(hw, 4)), [14, 16, 53, 196, 784]);
    }

    #[test]
    fn padding_is_shared_and_planes_are_odd() {
        let plan = plan(ConvShape::square(3, 4, 16, 3, 1, 1), 8);
        assert_eq!((plan.pitch, plan.plane % 32), (17, 16));
    }

    #[test]
    fn every_offset_stays_inside_and_every_pixel_is_computed() {
        for (hw, kernel, stride, pad) in
            [(1, 3, 1, 1), (5, 5, 3, 4), (9, 2, 2, 0), (13, 3, 2, 1), (6, 1, 3, 2)]
        {
            for lanes in [4, 8, 16] {
                let plan = plan(ConvShape::square(2, 2, hw, kernel, stride, pad), lanes);
                let [oh, ow] = plan.geometry.output();
                let mut seen = vec![false; oh * ow];
                for band in 0..plan.bands {
                    let rows = plan.rows(band);
                    let mut vector = Vector::EMPTY;
                    for index in 0..plan.vectors(rows.len()) {
                        plan.place(&mut vector, index, &rows);
                        let last = plan.offsets.iter().max().unwrap();
                        assert!(vector.base + *last as usize + lanes <= plan.len);
                        for lane in 0..lanes {
                            let pixel =
                                if vector.full { vector.pixels[0] + lane } else { vector.pixels[lane] };
                            if pixel != Vector::NONE {
                                assert!(rows.contains(&(pixel / ow)));
                                seen[pixel] = true;
                            }
                        }
                    }
                }
                assert!(seen.iter().all(|s| *s), "{hw} {kernel} {stride} {pad} {lanes}");
            }
        }
    }
}
