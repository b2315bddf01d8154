//! The tiles of a run, one after the other: panels, chunks, layouts.

use super::args::{Input, Output, Sums, TileArgs, Weights, extra_slots};
use super::plan::{Buffers, FINISHED, MOST_TOGETHER, Plan, Tiles};
use super::{PackedPointwise, panel};
use crate::drive::{self, Cut, Job, Latest, Packed};
use crate::epilogue::{Epilogue, Finish, FinishPairs, FinishPixel};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, ConvShape, Layout};
use crate::pairs::Numbers;
use crate::parallel::Parallel;
use crate::scratch::{self, LINE};
use crate::table::{Element, KernelInfo};
use std::ops::Range;

/// Block rows that neighbouring tiles go through together, at most. In WebAssembly tiles are narrow, and a call of their
/// kernels takes a third of a row's time.
const ROWS_TOGETHER: usize = if cfg!(target_arch = "wasm32") { 32 } else { 8 };

/// Block rows of `r` channels, `stride` floats apart, that neighbouring tiles go through together.
///
/// Lines that are a multiple of 4 KiB apart share a set of the first-level cache, which has room for 8 of
/// them (32 KiB caches; larger ones have more ways). Planes of 32, 64, 96 or 224 pixels a side are such
/// multiples: there the lines of more channels would push each other out before the next tile completes them.
fn rows_together(stride: usize, r: usize) -> usize {
    const WAYS: usize = 8;
    const SETS: usize = 4096 / size_of::<f32>();
    // channels whose first pixels are in different sets
    let apart = SETS >> stride.trailing_zeros().min(SETS.trailing_zeros());
    (WAYS * apart / r).clamp(1, ROWS_TOGETHER)
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
        drive::run(self, geometry, x, y, residual, epilogue, parallel)
    }

    /// [`PackedPointwise::run`] for weights that were packed for a kernel of pairs: `x`, `y` and `residual` are
    /// `[batch][ceil(channels / 2)][pixel]` lanes ([`crate::pairs`]). `geometry` counts channels.
    ///
    /// # Errors
    /// As there; a layout that is not planar.
    pub fn run_pairs(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        residual: Option<&[u32]>,
        epilogue: &Epilogue,
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run_pairs(self, geometry, x, y, residual, epilogue, parallel)
    }

    /// [`PackedPointwise::run`] for weights that were packed for a kernel of quads: `x` and `y` are
    /// `[batch][ceil(channels / 4)][pixel]` lanes ([`crate::quads`]). `geometry` counts channels.
    ///
    /// # Errors
    /// As there; a layout that is not planar.
    pub fn run_quads(
        &self,
        geometry: &ConvGeometry,
        x: &[u32],
        y: &mut [u32],
        parallel: &dyn Parallel,
    ) -> Result<(), KernelError> {
        drive::run_quads(self, geometry, x, y, parallel)
    }

    fn tiles(&self, job: &Job<Plan>) -> Tiles {
        job.plan.tiles(self, job.geometry, job.x.as_ptr(), job.y(0))
    }
}

impl Packed for PackedPointwise {
    type Plan = Plan;

    fn info(&self) -> &'static KernelInfo {
        self.kernel.info()
    }

    fn check(&self, s: &ConvShape) -> Result<(), KernelError> {
        drive::equal([
            ("output channels", self.oc(), s.oc),
            ("input channels", self.ic(), s.ic),
            ("groups", 1, s.group),
            ("kernel height", 1, s.kernel[0]),
            ("kernel width", 1, s.kernel[1]),
        ])
    }

    fn padding(&self) -> f32 {
        self.requantise.as_ref().map_or(0.0, |requantise| requantise.x_zeros)
    }

    fn latest(&self) -> &Latest<Plan> {
        &self.latest
    }

    fn plan(&self, geometry: &ConvGeometry, _: usize) -> Result<Plan, KernelError> {
        Plan::new(self, geometry)
    }

    fn cut(&self, job: &Job<Plan>) -> Cut {
        let places = job.geometry.shape().batch * self.tiles(job).count();
        Cut { places, least: 2, channels: self.block_rows().div_ceil(self.rows_of_line()) }
    }

    fn compute(&self, job: &Job<Plan>, places: Range<usize>, channels: Range<usize>) {
        let in_place = if job.plan.in_place { self.all_channels() } else { None };
        let together = self.rows_of_line();
        let rows = channels.start * together..(channels.end * together).min(self.block_rows());
        Run { weights: self, job, tiles: self.tiles(job), in_place }.part(places, rows);
    }
}

struct Run<'a> {
    weights: &'a PackedPointwise,
    job: &'a Job<'a, Plan>,
    tiles: Tiles,
    /// Kernels read the input itself, where blocks begin with these channels.
    in_place: Option<&'a [u32]>,
}

impl Run<'_> {
    /// Computes `block_rows` of the tiles in `tiles`, which count through all images.
    ///
    /// Neighbouring tiles are taken together as long as their common panel is small, or if there is none:
    /// longer runs of pixels are copied and written, which is what makes large maps with few channels
    /// stream.
    fn part(&self, tiles: Range<usize>, block_rows: Range<usize>) {
        let w = self.weights;
        let channels = w.channels(&block_rows);
        let (geometry, plan) = (self.job.geometry, self.job.plan);
        let buffers = Buffers::new(w, geometry, plan, &self.tiles, tiles.len(), channels.len());
        let Some(Buffers { together, panel, extra, waiting, staged }) = buffers else {
            unreachable!("the plan has asked for the buffers of all tiles and channels");
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
                    panel::segments(geometry, whole, &mut segments);
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
        let (geometry, w) = (self.job.geometry, self.weights);
        let kernel = w.kernel;
        let (c, tuning) = (kernel.c, &kernel.tuning);
        let halves = kernel.element() == Element::F16;
        let (plane, image) = (geometry.x_plane(), &self.job.x[geometry.x_image(n)]);
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
        let mut rows_together = if tiles.len() == 1 || self.in_place.is_some() {
            block_rows.len()
        } else {
            rows_together(output.stride, kernel.format.r()).next_multiple_of(w.rows_of_line())
        };
        // Sums of pairs wait for the functions that kernels do not fuse: between two chunks all of them, otherwise
        // only those of rows that are finished at once.
        let finish = self.job.finish().filter(|_| kernel.element().in_pairs());
        let all_chunks = w.chunks();
        let chunks_together = match tuning.panel / (w.columns(0..1).len() * c * width).max(1) {
            _ if self.in_place.is_some() && w.chunk_step == 1 => all_chunks,
            // not one after the other in memory
            _ if w.chunk_step > 1 => 1,
            fit => fit.clamp(1, all_chunks),
        };
        let at_once = finish.is_some() && chunks_together >= all_chunks;
        if at_once {
            let fit = FINISHED / (kernel.format.r() * sums_stride);
            rows_together =
                rows_together.min(fit / w.rows_of_line() * w.rows_of_line()).max(w.rows_of_line());
        }
        for chunk in (0..all_chunks).step_by(chunks_together) {
            let chunks = chunk..all_chunks.min(chunk + chunks_together);
            let (x, x_stride) = if self.in_place.is_some() {
                (image[origin..].as_ptr(), plane)
            } else {
                let columns = w.columns(chunks.clone());
                if halves {
                    panel::fill_apart(panel, width, geometry, image, columns, c, segments);
                } else if kernel.flipped && pixels > 1 {
                    panel::fill_flipped(panel, width, geometry, image, columns, c, segments, w.padding());
                } else {
                    panel::fill(panel, width, geometry, image, columns, c, segments, w.padding());
                }
                if extra > 0 {
                    let spread = match c {
                        4 => panel::spread::<4>,
                        2 => panel::spread::<2>,
                        _ => panel::spread::<1>,
                    };
                    spread(extra_x, slots, geometry, image, columns, end - extra..end, w.padding());
                }
                // Kernels count used channels from the first chunk.
                (panel.as_ptr().wrapping_sub(w.channels_before(chunk) * width), width)
            };
            for rows in block_rows.clone().step_by(rows_together.max(1)) {
                let sums = if tuning.sums_apart {
                    // Kernels count from channel 0.
                    let first = if at_once { rows } else { block_rows.start };
                    let before = first * kernel.format.r() * sums_stride;
                    Sums { at: sums.as_mut_ptr().wrapping_sub(before), stride: sums_stride }
                } else {
                    Sums { at: output.y, stride: output.stride }
                };
                let before = w.channels_before(chunk) * slots * panel::COPIES;
                let waiting = sums;
                let mut args = TileArgs {
                    weights: Weights {
                        packed: w,
                        indices: self.in_place.unwrap_or(&w.indices).as_ptr(),
                        starts: w.starts[chunks.start * w.chunk_step..].as_ptr(),
                        chunks: chunks.len(),
                        row_step: w.row_step,
                        rows: rows..block_rows.end.min(rows + rows_together),
                        first: chunks.start == 0,
                        last: chunks.end == all_chunks && finish.is_none(),
                    },
                    input: Input { x, stride: x_stride, extra: extra_x.as_ptr().wrapping_sub(before) },
                    output,
                    sums,
                    pixels: 0,
                    extra: 0,
                    clamps: self.job.clamps,
                };
                for (i, len) in lengths[..tiles.len()].iter().enumerate() {
                    args.pixels = *len;
                    args.extra = if i + 1 == tiles.len() { extra } else { 0 };
                    args.output.ahead = if tuning.next_lines && tiles.len() > 1 { *len } else { 0 };
                    let run = if *len == 1 { kernel.single } else { kernel.tile };
                    // SAFETY: the kernel came from the table, which hands out only kernels whose target was
                    // detected; `args` keeps the invariants of `TileArgs` and
                    // `PackedPointwise`.
                    unsafe { run(&args) }
                    args.input.x = match halves && self.in_place.is_none() {
                        true => args.input.x.cast::<u16>().wrapping_add(*len).cast(),
                        false => args.input.x.wrapping_add(*len),
                    };
                    args.output.y = args.output.y.wrapping_add(*len);
                    args.output.residual = args.output.residual.wrapping_add(*len);
                    args.sums.at = args.sums.at.wrapping_add(*len);
                }
                if let Some(finish) = finish.filter(|_| chunks.end == all_chunks) {
                    let rows = w.channels(&(rows..block_rows.end.min(rows + rows_together)));
                    // SAFETY: the kernel has left the sums of these channels and pixels, and their places in the
                    // output are this part's.
                    unsafe { self.finish_pairs(finish, rows, pixels + extra, waiting, output) };
                }
            }
        }
    }

    /// Finishes the sums of `pixels` pixels of some channels, the first of which is even, and rounds them to pairs.
    ///
    /// # Safety
    /// `sums`, `output.y`, and `output.residual` if the run has one, are valid for these channels and pixels;
    /// nothing else reads or writes the pixels of `y`.
    unsafe fn finish_pairs(
        &self,
        finish: &Finish,
        channels: Range<usize>,
        pixels: usize,
        sums: Sums,
        output: Output,
    ) {
        let residual = self.job.all_residual().map(|_| output.residual);
        let (numbers, clamps) = (Numbers::of_kernel(&self.weights.kernel.info), &self.job.clamps);
        if [pixels, sums.stride, output.stride] == [1; 3] {
            // Channels of a single pixel are neighbours.
            let lanes = self.weights.lines(&channels);
            // SAFETY: passed on from the caller; a float has the size of a lane.
            unsafe {
                let sums =
                    std::slice::from_raw_parts_mut(sums.at.wrapping_add(channels.start), channels.len());
                let residual = residual.map(|r| {
                    std::slice::from_raw_parts(r.wrapping_add(lanes.start).cast::<u32>(), lanes.len())
                });
                let y = output.y.wrapping_add(lanes.start).cast::<u32>();
                let y = std::slice::from_raw_parts_mut(y, lanes.len());
                FinishPixel { finish, clamps, sums, residual, y }.on(numbers);
            }
            return;
        }
        for first in channels.clone().step_by(2) {
            let line = first / 2 * output.stride;
            let both = first..channels.end.min(first + 2);
            // SAFETY: passed on from the caller; a float has the size of a lane.
            let (y, mut rows, residual) = unsafe {
                let y = std::slice::from_raw_parts_mut(output.y.wrapping_add(line).cast::<u32>(), pixels);
                let row = |channel: usize| {
                    std::slice::from_raw_parts_mut(sums.at.wrapping_add(channel * sums.stride), pixels)
                };
                let residual =
                    residual.map(|r| std::slice::from_raw_parts(r.wrapping_add(line).cast::<u32>(), pixels));
                (y, both.map(row), residual)
            };
            let (Some(a), b) = (rows.next(), rows.next().unwrap_or_default()) else { return };
            FinishPairs { finish: Some(finish), clamps, sums: [a, b], residual, y }.on(numbers);
        }
    }

    /// Looks up a row of finished quads, if the layer has a table.
    fn look_up(&self, row: &mut [f32]) {
        if let Some(requantise) = &self.weights.requantise {
            requantise.look_up(row);
        }
    }

    fn run_planar(&self, n: usize, pixels: Range<usize>, channels: Range<usize>, call: impl FnOnce(Output)) {
        let stride = self.job.geometry.y_plane();
        let first = n * self.job.geometry.shape().oc * stride + pixels.start;
        call(Output { y: self.job.y(first), residual: self.job.residual(first), stride, ahead: 0 });
        match self.weights.kernel.element() {
            Element::F32 => {}
            Element::Bf16 | Element::F16 => return, // complete
            Element::Int8 => {
                for line in self.weights.lines(&channels) {
                    let at = n * self.job.geometry.shape().oc * stride + line * stride + pixels.start;
                    // SAFETY: these pixels of these channels are this part's.
                    self.look_up(unsafe { self.job.outputs(at..at + pixels.len()) });
                }
                return;
            }
        }
        // SAFETY: these pixels of these channels are this part's.
        unsafe {
            self.job.complete(first + channels.start * stride, channels.len(), stride, pixels.len());
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
        let (oc, plane) = (self.job.geometry.shape().oc, self.job.geometry.y_plane());
        let channels = self.weights.lines(&channels);
        let stride = y_copy.len() / channels.len();
        let layout = self.job.geometry.shape().y_layout;
        let first = n * oc * plane
            + match layout {
                Layout::Planar => pixels.start + channels.start * plane,
                Layout::Interleaved => pixels.start * oc + channels.start,
            };
        if let Some(residual) = self.job.all_residual() {
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
            ahead: 0,
        });
        if let Some(finish) = self.job.finish().filter(|_| !self.weights.kernel.element().in_pairs()) {
            let rows = y_copy.chunks_exact_mut(stride).zip(residual_copy.chunks_exact(stride));
            let wanted = self.job.all_residual().is_some();
            let rows = rows.map(|(row, residual)| {
                (&mut row[..pixels.len()], wanted.then_some(&residual[..pixels.len()]))
            });
            finish.on(self.weights.kernel.info().target(), rows);
        }
        for row in y_copy.chunks_exact_mut(stride) {
            self.look_up(&mut row[..pixels.len()]);
        }
        let put = |at: usize, v: &[f32]| {
            // SAFETY: the callers below write pixels and channels of this task alone, which are inside the
            // tensor (`ConvGeometry::check`, `Packed::compute`).
            unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), self.job.y(first + at), v.len()) }
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
        for (hw, apart) in [(1, 1024), (7, 1024), (14, 256), (28, 64), (48, 4), (56, 16), (112, 4)] {
            let expected = [1, 4, 8].map(|r| (8 * apart / r).min(ROWS_TOGETHER));
            assert_eq!(rows(hw), expected, "{hw}");
        }
    }

    #[test]
    fn tiles_are_smaller_only_where_that_spares_chunks() {
        for kernel in crate::table::pointwise_kernels() {
            let most = kernel.info.pixels;
            for channels in (4..2000).step_by(4) {
                let tile = kernel.tile_for(channels);
                let chunks = |tile: usize| (channels * tile).div_ceil(kernel.tuning.panel);
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
}
