//! Tiles, threads and layouts: what happens around the kernels.

use super::{PackedPointwise, TileArgs, extra_slots, panel};
use crate::epilogue::{Clamps, Epilogue, Finish};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, Layout};
use crate::parallel::{self, Parallel, share};
use crate::scratch::{self, LINE};
use std::ops::Range;

/// Most neighbouring tiles that share a panel.
const MOST_TOGETHER: usize = 16;

/// Block rows that such tiles go through together, at most.
const ROWS_TOGETHER: usize = 8;

/// Block rows of `r` channels, `stride` floats apart, that neighbouring tiles go through together.
///
/// Lines that are a multiple of 4 KiB apart share a set of the first-level cache, which has room for 8 of
/// them (32 KiB caches; larger ones have more ways). Planes of 32, 64, 96 or 224 pixels a side are such
/// multiples: there the lines of more channels would push each other out before the next tile completes them.
fn rows_together(stride: usize, r: usize) -> usize {
    const WAYS: usize = 8;
    const SETS: usize = 4096 / size_of::<f32>();
    // So many channels have their first pixels in different sets.
    let apart = SETS >> stride.trailing_zeros().min(SETS.trailing_zeros());
    (WAYS * apart / r).clamp(1, ROWS_TOGETHER)
}

/// The output tensor, written by several threads in disjoint parts.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: tasks write disjoint elements (`PackedPointwise::run` cuts pixels or channels apart).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(self) -> *mut f32 {
        self.0
    }
}

impl PackedPointwise {
    /// Computes `y = epilogue(weights * x + bias)`, with `residual` (shape and layout of `y`) added inside
    /// the epilogue.
    ///
    /// # Errors
    /// A geometry that is not 1x1 without groups, or does not fit the weights; slices of another length.
    pub fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        y: &mut [f32],
        residual: Option<&[f32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        let s = geometry.shape();
        geometry.check(x, y, residual)?;
        for (what, weights, geometry) in [
            ("output channels", self.oc(), s.oc),
            ("input channels", self.ic(), s.ic),
            ("groups", 1, s.group),
            ("kernel height", 1, s.kernel[0]),
            ("kernel width", 1, s.kernel[1]),
        ] {
            if weights != geometry {
                return Err(KernelError::Shape { what, weights, geometry });
            }
        }
        if y.is_empty() {
            return Ok(());
        }
        if let Some((geometry, zeros)) = geometry.on_zeros() {
            return self.run(&geometry, &zeros, y, residual, epilogue, parallel);
        }
        let (clamps, finish) = epilogue.split(residual.is_some());
        let kernel = self.kernel();
        let (in_place, tile, start) = match self.planes(geometry) {
            Some((indices, tile)) => (Some(indices), tile, x.as_ptr()),
            None => (None, self.tile, y.as_ptr()),
        };
        let tiles = match self.pixels_before(geometry, tile, start) {
            Some(before) => Tiles::lines(geometry.output_pixels(), before, tile),
            None => {
                let extra = kernel.vectors_with_extra();
                Tiles::new(geometry.output_pixels(), kernel.vector, kernel.singles, tile, extra)
            }
        };
        let job = Job {
            weights: self,
            geometry,
            x,
            y: Shared(y.as_mut_ptr()),
            residual,
            clamps,
            finish,
            tile,
            tiles,
            in_place,
        };
        let (tiles, threads) = (s.batch * tiles.count(), parallel::threads(parallel));
        let block_rows = self.block_rows();
        if job.buffers(tiles, self.oc).is_none() {
            return Err(KernelError::Geometry(format!("the buffers of a tile cannot be addressed in {s:?}")));
        }
        if threads <= 1 {
            job.run_part(0..tiles, 0..block_rows);
            Ok(())
        } else if tiles >= 2 * threads {
            let parts = tiles.min(4 * threads);
            parallel::for_each(parallel, parts, |part| job.run_part(share(tiles, parts, part), 0..block_rows))
        } else {
            // Few pixels: every thread packs all of them and takes some of the output channels.
            let parts = block_rows.min(threads);
            parallel::for_each(parallel, parts, |part| job.run_part(0..tiles, share(block_rows, parts, part)))
        }
    }

    /// The first channels of blocks and the pixels of a tile, at most, if kernels should read an input, all
    /// of it in order, without a copy.
    ///
    /// An image of a single pixel needs none: its channels are neighbours already. Otherwise a panel pays by
    /// how often the kernel comes back to its lines, and few visits are cheaper without it; unless planes
    /// are at such distances that their lines want the same few places in a cache.
    fn planes(&self, geometry: &ConvGeometry) -> Option<(&[u32], usize)> {
        /// Lines of one set of a first-level cache: all cores that this is for have four.
        const WAYS: usize = 4;
        let (kernel, ic, pixels) = (self.kernel(), self.ic(), geometry.output_pixels());
        let indices = self.all_channels().filter(|_| geometry.is_identity_map())?;
        if pixels == 1 {
            return Some((indices, kernel.info.pixels));
        }
        let planes = kernel.planes()?;
        let apart = planes.way >> pixels.trailing_zeros().min(planes.way.ilog2());
        if geometry.shape().x_layout != Layout::Planar
            || pixels < kernel.vector
            || ic > apart * WAYS
            || self.stored() > planes.weights * ic
        {
            return None;
        }
        let lines = kernel.line_tile(ic);
        if in_lines(geometry, lines) {
            return Some((indices, lines));
        }
        (self.stored() <= planes.visits * ic * kernel.format.r()).then_some((indices, kernel.info.pixels))
    }

    /// How many pixels before the first one the first tile of an image would begin, if tiles of `tile` pixels
    /// shall begin where lines do; none if they need not, or do not fit whole vectors. `start` is where
    /// the planes begin that matter.
    fn pixels_before(&self, geometry: &ConvGeometry, tile: usize, start: *const f32) -> Option<usize> {
        let kernel = self.kernel();
        let past = start.addr() / size_of::<f32>() % LINE;
        let before = if past == 0 { 0 } else { (tile + past).saturating_sub(LINE) };
        (kernel.planes().is_some() && in_lines(geometry, tile) && past.is_multiple_of(kernel.vector))
            .then_some(before)
    }
}

/// Whether tiles of `tile` pixels can begin with lines of input and output, and are so many that one more,
/// for the pixels before the first line, does not matter.
fn in_lines(geometry: &ConvGeometry, tile: usize) -> bool {
    const MANY: usize = 24;
    let (shape, pixels) = (geometry.shape(), geometry.output_pixels());
    [shape.x_layout, shape.y_layout] == [Layout::Planar; 2]
        && [tile, geometry.input_pixels(), pixels].iter().all(|pixels| pixels.is_multiple_of(LINE))
        && pixels >= MANY * tile
}

/// How the pixels of an image are cut: tiles of one or more vectors, as equal as possible, because a last
/// tile of a single vector would have too few independent sums to hide the latency of multiply-add; then a
/// few single pixels.
///
/// A tile that is no multiple of the vector ends with a vector that overlaps the one before: no tile needs
/// masks, and none reads or writes outside its pixels. A map of fewer pixels than a vector has nothing to
/// overlap with: it is computed as a whole vector, whose other lanes are thrown away. (Pixel by pixel, every
/// pixel would read all weights.)
///
/// Where lines are what counts, tiles are whole lines, and only the first and the last one may have fewer
/// pixels.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    vector: usize,
    /// Pixels of a tile, and so many before the first one that the first tile has fewer, if tiles are whole
    /// lines.
    lines: Option<(usize, usize)>,
    /// Tiles of whole vectors, the last perhaps overlapping.
    tiles: usize,
    /// Vectors of all tiles.
    vectors: usize,
    /// Pixels of all tiles, without singles.
    tiled: usize,
    singles: usize,
    /// The last tile takes the single pixels along.
    along: bool,
}

impl Tiles {
    /// Up to `singles` pixels beyond the last whole vector are left to single pixels; the last tile takes
    /// them along if it has no more than `with_extra` vectors.
    fn new(pixels: usize, vector: usize, singles: usize, tile: usize, with_extra: Option<usize>) -> Tiles {
        let rest = pixels % vector;
        // With tiles of one vector there is nothing to overlap with.
        let alone = pixels == 1 || (pixels > vector && tile == vector);
        let singles = if alone || (pixels > vector && rest <= singles) { rest } else { 0 };
        let tiled = pixels - singles;
        let vectors = tiled.div_ceil(vector);
        let mut tiles = vectors.div_ceil(tile / vector);
        let along = singles > 0 && tiles > 0 && with_extra.is_some();
        if along && with_extra.is_some_and(|most| vectors / tiles > most) {
            tiles += 1; // the smallest tile was a full one
        }
        Tiles { vector, lines: None, tiles, vectors, tiled, singles, along }
    }

    /// Tiles of `tile` pixels, the first of which begins `before` pixels ahead.
    fn lines(pixels: usize, before: usize, tile: usize) -> Tiles {
        let tiles = (before + pixels).div_ceil(tile);
        Tiles {
            vector: 1,
            lines: Some((tile, before)),
            tiles,
            vectors: pixels,
            tiled: pixels,
            singles: 0,
            along: false,
        }
    }

    fn count(&self) -> usize {
        if self.along { self.tiles } else { self.tiles + self.singles }
    }

    /// Single pixels at the end of a tile.
    fn extra(&self, tile: usize) -> usize {
        if self.along && tile + 1 == self.tiles { self.singles } else { 0 }
    }

    /// Whether the only tile has fewer pixels than a vector.
    fn padded(&self) -> bool {
        (1..self.vector).contains(&self.tiled)
    }

    /// The pixels of a tile, extra ones included; at least a vector unless [`Tiles::padded`], or exactly one.
    fn range(&self, tile: usize) -> Range<usize> {
        if tile >= self.tiles {
            let pixel = self.tiled + tile - self.tiles;
            return pixel..pixel + 1;
        }
        if let Some((length, before)) = self.lines {
            let end = (tile + 1) * length - before;
            return (tile * length).saturating_sub(before)..end.min(self.tiled);
        }
        if self.along {
            // The smaller tiles come last, which have registers left.
            let vectors = share(self.vectors, self.tiles, tile);
            return vectors.start * self.vector..vectors.end * self.vector + self.extra(tile);
        }
        // The larger tiles come last: one of two vectors or more can end with a part of a vector.
        let mirrored = share(self.vectors, self.tiles, self.tiles - 1 - tile);
        let vectors = self.vectors - mirrored.end..self.vectors - mirrored.start;
        vectors.start * self.vector..(vectors.end * self.vector).min(self.tiled)
    }
}

struct Job<'a> {
    weights: &'a PackedPointwise,
    geometry: &'a ConvGeometry,
    x: &'a [f32],
    y: Shared,
    residual: Option<&'a [f32]>,
    clamps: Clamps,
    finish: Option<Finish>,
    /// Pixels of a tile, at most.
    tile: usize,
    tiles: Tiles,
    /// Kernels read `x` itself, where blocks begin with these channels.
    in_place: Option<&'a [u32]>,
}

/// What a part of the work needs, in floats.
struct Buffers {
    /// Neighbouring tiles that are taken together, at most.
    together: usize,
    /// Their panel; none if kernels read the input itself.
    panel: usize,
    /// Inputs of single pixels that a tile takes along.
    extra: usize,
    /// Sums between chunks.
    waiting: usize,
    /// A planar copy of their outputs; none if kernels write to the output itself.
    staged: usize,
}

/// Where tiles of output go: the tensor, or a planar copy of interleaved pixels.
#[derive(Clone, Copy)]
struct Output {
    /// First pixel of output channel 0.
    y: *mut f32,
    residual: *const f32,
    stride: usize,
}

impl Job<'_> {
    /// The buffers for so many tiles and output channels, which fewer of them do not exceed; none if they
    /// cannot be addressed.
    fn buffers(&self, tiles: usize, channels: usize) -> Option<Buffers> {
        const MOST: usize = isize::MAX as usize / size_of::<f32>();
        let (w, c) = (self.weights, self.weights.kernel.format.c());
        let (tile, limit) = (self.tile, w.kernel.panel());
        let panel = |columns: &[u32]| columns.len().checked_mul(c)?.checked_mul(tile);
        let all = panel(w.columns(0..w.chunks()))?;
        // single pixels at the end, in lines of their own
        let (along, slots) = if self.tiles.along { (LINE, extra_slots(self.tiles.singles)) } else { (0, 0) };
        // as whole lines, so that what follows begins with one
        let extra = w
            .columns(0..w.chunks())
            .len()
            .checked_mul(slots * panel::COPIES * c)?
            .checked_next_multiple_of(LINE)?;
        let out = channels.checked_mul(tile + along)?;
        let planar = self.geometry.shape().y_layout == Layout::Planar || self.geometry.output_pixels() == 1;
        let planar = planar && !self.tiles.padded();
        let most = MOST_TOGETHER.min(tiles.max(1));
        let together = if self.in_place.is_some() && planar { most } else { limit / all.max(1) };
        let together = if planar { together } else { together.min(MOST / 4 / out.max(1)) }.clamp(1, most);
        // One chunk alone may be larger than the limit: a column of it is not cut.
        let panel = match self.in_place {
            Some(_) => 0,
            None => all.saturating_mul(together).min(limit.max(panel(w.columns(0..1))?)),
        };
        let staged = if planar { 0 } else { out.checked_mul(together)? };
        let waiting = if w.chunks() > 1 && w.kernel.sums_apart() { out } else { 0 };
        let floats = [extra, waiting, staged.checked_mul(2)?, LINE]
            .iter()
            .try_fold(panel, |a, b| a.checked_add(*b))?;
        (floats <= MOST).then_some(Buffers { together, panel, extra, waiting, staged })
    }

    /// Computes `block_rows` of the tiles in `tiles`, which count through all images.
    ///
    /// Neighbouring tiles are taken together as long as their common panel is small, or if there is none:
    /// longer runs of pixels are copied and written, which is what makes large maps with few channels
    /// stream.
    fn run_part(&self, tiles: Range<usize>, block_rows: Range<usize>) {
        let w = self.weights;
        let channels = w.channels(&block_rows);
        let Some(Buffers { together, panel, extra, waiting, staged }) =
            self.buffers(tiles.len(), channels.len())
        else {
            unreachable!("`run` has asked for the buffers of all tiles and channels");
        };
        let planar = staged == 0;
        let mut segments = vec![];
        // The panel, inputs of extra pixels, sums between chunks, then a planar copy of the output and of the
        // residual where kernels cannot write to the output itself.
        scratch::with(panel + extra + waiting + 2 * staged, |buffer| {
            let (panel, rest) = buffer.split_at_mut(panel);
            let (extra, rest) = rest.split_at_mut(extra);
            let (sums, staging) = rest.split_at_mut(waiting);
            let (y_copy, residual_copy) = staging.split_at_mut(staged);
            if self.tiles.padded() {
                // whatever was there before may be slow to multiply (denormals)
                panel.fill(0.0);
            }
            let mut next = tiles.start;
            while next < tiles.end {
                let (n, first) = (next / self.tiles.count(), next % self.tiles.count());
                let last = (first + together).min(self.tiles.count()).min(first + tiles.end - next);
                next += last - first;
                let pixels = self.tiles.range(first).start..self.tiles.range(last - 1).end;
                if self.in_place.is_none() {
                    let whole = pixels.start..pixels.end - self.tiles.extra(last - 1);
                    panel::segments(self.geometry, whole, &mut segments);
                }
                let call = |output: Output| {
                    self.chunks(
                        [&mut *panel, &mut *extra, &mut *sums],
                        &segments,
                        n,
                        first..last,
                        block_rows.clone(),
                        output,
                    );
                };
                if planar {
                    self.run_planar(n, pixels.clone(), channels.clone(), call);
                } else {
                    self.run_staged(n, pixels.clone(), channels.clone(), y_copy, residual_copy, call);
                }
            }
        });
    }

    /// Neighbouring tiles of one image, chunk by chunk of the input channels. The buffers are the panel,
    /// inputs of extra pixels, and sums between chunks.
    fn chunks(
        &self,
        [panel, extra_x, sums]: [&mut [f32]; 3],
        segments: &[panel::Segment],
        n: usize,
        tiles: Range<usize>,
        block_rows: Range<usize>,
        output: Output,
    ) {
        let (s, w) = (self.geometry.shape(), self.weights);
        let (kernel, c) = (w.kernel, w.kernel.format.c());
        let plane = self.geometry.input_pixels();
        let image = &self.x[n * s.ic * plane..][..s.ic * plane];
        let origin = self.tiles.range(tiles.start).start;
        let (extra, end) = (self.tiles.extra(tiles.end - 1), self.tiles.range(tiles.end - 1).end);
        let (slots, pixels) = (extra_slots(extra), end - extra - origin);
        let mut lengths = [0; MOST_TOGETHER];
        for (length, tile) in lengths.iter_mut().zip(tiles.clone()) {
            *length = self.tiles.range(tile).len() - self.tiles.extra(tile);
            if self.tiles.padded() {
                *length = kernel.vector;
            }
        }
        let width = if pixels == 1 { 1 } else { pixels.next_multiple_of(kernel.vector) };
        let sums_stride = if extra > 0 { width + LINE } else { width };
        // Output rows written by all tiles before the next rows begin, so that their lines are complete in
        // cache. In place the inputs of several tiles would be more lines than these are: there one
        // tile after the other.
        let rows_together = if tiles.len() == 1 || self.in_place.is_some() {
            block_rows.len()
        } else {
            rows_together(output.stride, kernel.format.r())
        };
        let all_chunks = w.chunks();
        let chunks_together = match kernel.panel() / (w.columns(0..1).len() * c * width).max(1) {
            _ if self.in_place.is_some() && w.chunk_step == 1 => all_chunks,
            // not one after the other in memory
            _ if w.chunk_step > 1 => 1,
            fit => fit.clamp(1, all_chunks),
        };
        for chunk in (0..all_chunks).step_by(chunks_together) {
            let chunks = chunk..all_chunks.min(chunk + chunks_together);
            let (x, x_stride) = if self.in_place.is_some() {
                (image[origin..].as_ptr(), plane)
            } else {
                let columns = w.columns(chunks.clone());
                panel::fill(panel, width, self.geometry, image, columns, c, segments);
                if extra > 0 {
                    let spread = if c == 4 { panel::spread::<4> } else { panel::spread::<1> };
                    spread(extra_x, slots, self.geometry, image, columns, end - extra..end);
                }
                // Kernels count used channels from the first chunk.
                (panel.as_ptr().wrapping_sub(w.channels_before(chunk) * width), width)
            };
            for rows in block_rows.clone().step_by(rows_together.max(1)) {
                let mut args = TileArgs {
                    weights: w,
                    indices: self.in_place.unwrap_or(&w.indices).as_ptr(),
                    first: chunks.start == 0,
                    last: chunks.end == all_chunks,
                    starts: w.starts[chunks.start * w.chunk_step..].as_ptr(),
                    chunks: chunks.len(),
                    row_step: w.row_step,
                    block_rows: rows..block_rows.end.min(rows + rows_together),
                    pixels: 0,
                    ahead: 0,
                    x,
                    x_stride,
                    y: output.y,
                    residual: output.residual,
                    stride: output.stride,
                    // Kernels count from channel 0.
                    sums: sums.as_mut_ptr().wrapping_sub(block_rows.start * kernel.format.r() * sums_stride),
                    sums_stride,
                    extra: 0,
                    extra_x: extra_x.as_ptr().wrapping_sub(w.channels_before(chunk) * slots * panel::COPIES),
                    clamps: self.clamps,
                };
                for (i, len) in lengths[..tiles.len()].iter().enumerate() {
                    args.pixels = *len;
                    args.extra = if i + 1 == tiles.len() { extra } else { 0 };
                    args.ahead = if tiles.len() == 1 { 0 } else { *len };
                    let run = if *len == 1 { kernel.single } else { kernel.tile };
                    // SAFETY: the kernel came from the table, which hands out only kernels whose target was
                    // detected; `args` keeps the invariants of `TileArgs` and
                    // `PackedPointwise`.
                    unsafe { run(&args) }
                    args.x = args.x.wrapping_add(*len);
                    args.y = args.y.wrapping_add(*len);
                    args.residual = args.residual.wrapping_add(*len);
                    args.sums = args.sums.wrapping_add(*len);
                }
            }
        }
    }

    fn run_planar(&self, n: usize, pixels: Range<usize>, channels: Range<usize>, call: impl FnOnce(Output)) {
        let plane = self.geometry.output_pixels();
        let first = n * self.weights.oc * plane + pixels.start;
        call(Output {
            // SAFETY: `ConvGeometry::check` has compared the lengths; `first` is inside the tensor.
            y: unsafe { self.y.get().add(first) },
            residual: self.residual.map_or(std::ptr::null(), |r| r[first..].as_ptr()),
            stride: plane,
        });
        if let Some(finish) = self.finish {
            for channel in channels {
                let range = first + channel * plane..first + channel * plane + pixels.len();
                // SAFETY: the range is inside the tensor and belongs to this task alone (see `Shared`).
                let row =
                    unsafe { std::slice::from_raw_parts_mut(self.y.get().add(range.start), range.len()) };
                finish.apply(row, self.residual.map(|r| &r[range]));
            }
        }
    }

    /// Runs the kernel into a planar tile and scatters that: to `[pixel][channel]`, or to planes of fewer
    /// pixels than a vector.
    fn run_staged(
        &self,
        n: usize,
        pixels: Range<usize>,
        channels: Range<usize>,
        y_copy: &mut [f32],
        residual_copy: &mut [f32],
        call: impl FnOnce(Output),
    ) {
        let (oc, plane) = (self.weights.oc, self.geometry.output_pixels());
        let stride = y_copy.len() / channels.len();
        let layout = self.geometry.shape().y_layout;
        let first = n * oc * plane
            + match layout {
                Layout::Planar => pixels.start + channels.start * plane,
                Layout::Interleaved => pixels.start * oc + channels.start,
            };
        if let Some(residual) = self.residual {
            let residual = &residual[first..];
            let put = |row: usize, at: usize, v: &[f32]| {
                residual_copy[row * stride + at..][..v.len()].copy_from_slice(v)
            };
            match layout {
                Layout::Planar => {
                    for (channel, row) in residual_copy.chunks_exact_mut(stride).enumerate() {
                        row[..pixels.len()].copy_from_slice(&residual[channel * plane..][..pixels.len()]);
                    }
                }
                Layout::Interleaved => panel::transpose(put, channels.len(), pixels.len(), residual, oc),
            }
        }
        call(Output {
            // The tile begins at channel `channels.start`; kernels count from channel 0.
            y: y_copy.as_mut_ptr().wrapping_sub(channels.start * stride),
            residual: residual_copy.as_ptr().wrapping_sub(channels.start * stride),
            stride,
        });
        if let Some(finish) = self.finish {
            for (row, residual) in y_copy.chunks_exact_mut(stride).zip(residual_copy.chunks_exact(stride)) {
                finish.apply(&mut row[..pixels.len()], self.residual.map(|_| &residual[..pixels.len()]));
            }
        }
        let put = |at: usize, v: &[f32]| {
            // SAFETY: the callers below write pixels and channels of this task alone, which are inside the
            // tensor (`ConvGeometry::check`, `Shared`).
            unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), self.y.get().add(first + at), v.len()) }
        };
        match layout {
            Layout::Planar => {
                for (channel, row) in y_copy.chunks_exact(stride).enumerate() {
                    put(channel * plane, &row[..pixels.len()]);
                }
            }
            Layout::Interleaved => {
                let put = |pixel: usize, channel: usize, v: &[f32]| put(pixel * oc + channel, v);
                panel::transpose(put, pixels.len(), channels.len(), y_copy, stride);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::ConvShape;
    use crate::parallel::Serial;

    #[test]
    fn planes_of_whole_pages_are_taken_in_few_rows() {
        let rows = |hw: usize| [1, 4, 8].map(|r| rows_together(hw * hw, r));
        assert_eq!(rows(96), [8, 2, 1]);
        assert_eq!(rows(64), [8, 2, 1]);
        assert_eq!(rows(48), [8, 8, 4]);
        for hw in [1, 7, 14, 28, 56, 112] {
            assert_eq!(rows(hw), [8, 8, if hw == 112 { 4 } else { 8 }], "{hw}");
        }
    }

    #[test]
    fn tiles_are_smaller_only_where_that_spares_chunks() {
        for kernel in super::super::KERNELS {
            let most = kernel.info.pixels;
            assert!(kernel.vectors_with_extra().is_none() || kernel.singles <= 4, "{}", kernel.info.name);
            for channels in (4..2000).step_by(4) {
                let tile = kernel.tile_for(channels);
                let chunks = |tile: usize| (channels * tile).div_ceil(kernel.panel());
                assert!(tile.is_multiple_of(kernel.vector) && (most / 2..=most).contains(&tile), "{tile}");
                assert!(tile == most || chunks(tile) < chunks(most), "{}: {channels}", kernel.info.name);
            }
        }
    }

    /// Where lines begin decides where tiles begin, but not what comes out.
    #[test]
    fn an_image_may_begin_anywhere_in_a_line() {
        let (ic, oc, side) = if cfg!(miri) { (4, 4, 20) } else { (96, 8, 28) };
        let geometry = ConvGeometry::new(ConvShape::square(ic, oc, side, 1, 1, 0)).unwrap();
        let noise = |i: usize| (i * 7919 % 1013) as f32 / 500.0 - 1.0;
        let weights: Vec<f32> = (0..oc * ic).map(noise).collect();
        let x: Vec<f32> = (0..geometry.x_len()).map(noise).collect();
        for kernel in crate::table::pointwise_available() {
            let packed = PackedPointwise::from_dense(oc, ic, &weights, None, kernel).unwrap();
            let outputs = [0, 4, 8, 12, 13].map(|at| {
                scratch::with(LINE + x.len(), |aligned| {
                    let moved = &mut aligned[at..][..x.len()];
                    moved.copy_from_slice(&x);
                    scratch::with(LINE + geometry.y_len(), |aligned| {
                        let y = &mut aligned[at..][..geometry.y_len()];
                        packed.run(&geometry, moved, y, None, &Epilogue::default(), &Serial).unwrap();
                        y.to_vec()
                    })
                })
            });
            assert!(outputs[0].iter().any(|v| *v != 0.0));
            assert!(outputs.iter().all(|y| y == &outputs[0]), "{}", kernel.info.name);
        }
    }

    #[test]
    fn tiles_are_even_and_complete() {
        for (vector, singles, tile) in
            [(8, 1, 24), (8, 0, 64), (8, 2, 8), (1, 0, 16), (16, 3, 96), (4, 1, 20)]
        {
            for pixels in (1..300).step_by(if cfg!(miri) { 23 } else { 1 }) {
                for with_extra in [None, Some(tile / vector), Some((tile / vector).max(2) - 1)] {
                    let tiles = Tiles::new(pixels, vector, singles, tile, with_extra);
                    let all: Vec<usize> = (0..tiles.count()).flat_map(|t| tiles.range(t)).collect();
                    assert_eq!(all, (0..pixels).collect::<Vec<_>>());
                    assert_eq!(tiles.padded(), (2..vector).contains(&pixels), "{pixels} {vector}");
                    for (len, extra) in (0..tiles.count()).map(|t| (tiles.range(t).len(), tiles.extra(t))) {
                        let whole = len == 1 || (vector..=tile).contains(&(len - extra));
                        assert!(whole || (tiles.padded() && len == pixels), "{pixels} {vector} {len}");
                        assert!(
                            extra == 0 || len - extra <= with_extra.unwrap() * vector,
                            "{pixels} {vector} {len}"
                        );
                    }
                    let alone = (0..tiles.count()).any(|t| tiles.range(t).len() == 1);
                    assert!(
                        !alone || with_extra.is_none() || pixels == 1 || vector == 1,
                        "{pixels} {vector}"
                    );
                }
            }
        }
        for (pixels, before, tile) in
            [(784, 4, 16), (784, 0, 16), (400, 12, 16), (784, 28, 32), (3136, 20, 32)]
        {
            let tiles = Tiles::lines(pixels, before, tile);
            let all: Vec<usize> = (0..tiles.count()).flat_map(|t| tiles.range(t)).collect();
            assert_eq!(all, (0..pixels).collect::<Vec<_>>());
            assert!(
                !tiles.padded()
                    && (1..tiles.count()).all(|t| (tiles.range(t).start + before).is_multiple_of(tile))
            );
        }
        let vectors = |p| {
            let t = Tiles::new(p, 8, 1, 24, None);
            (0..t.count()).map(|i| t.range(i).len()).collect::<Vec<_>>()
        };
        assert_eq!(vectors(49), [24, 24, 1]);
        assert_eq!(vectors(29), [16, 13]);
        assert_eq!(vectors(196), [16, 16, 24, 24, 24, 24, 24, 24, 20]);
    }
}
