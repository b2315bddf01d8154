//! How the pixels of an image are cut into tiles, decided once for a geometry.

use super::args::extra_slots;
use super::{PackedPointwise, panel};
use crate::error::KernelError;
use crate::geometry::{ConvGeometry, Layout};
use crate::parallel::share;
use crate::scratch::LINE;
use std::ops::Range;

/// How a geometry is computed.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Kernels read the input itself.
    pub in_place: bool,
    /// Pixels of a tile, at most.
    pub tile: usize,
    /// Tiles may be whole lines: it depends on where the planes begin.
    lines: bool,
    tiles: Tiles,
}

impl Plan {
    /// # Errors
    /// The buffers of a tile cannot be addressed.
    pub fn new(weights: &PackedPointwise, geometry: &ConvGeometry) -> Result<Plan, KernelError> {
        let (kernel, pixels) = (weights.kernel(), geometry.output_pixels());
        let planes = planes(weights, geometry);
        let (in_place, tile) = (planes.is_some(), planes.unwrap_or(weights.tile));
        let tuning = &kernel.tuning;
        let lines = tuning.planes.is_some() && in_lines(geometry, tile);
        let tiles = Tiles::new(pixels, kernel.vector, tuning.singles, tile, tuning.with_extra);
        let plan = Plan { in_place, tile, lines, tiles };
        let all = geometry.shape().batch * tiles.count();
        match Buffers::new(weights, geometry, &plan, &tiles, all, weights.whole_oc) {
            Some(_) => Ok(plan),
            None => {
                let shape = geometry.shape();
                Err(KernelError::Geometry(format!("the buffers of a tile cannot be addressed in {shape:?}")))
            }
        }
    }

    /// The tiles of an image, where the planes that matter begin at the input or the output of a run.
    ///
    /// If tiles are whole lines, the first one begins where a line does, if whole vectors lead there.
    pub fn tiles(
        &self,
        weights: &PackedPointwise,
        geometry: &ConvGeometry,
        x: *const f32,
        y: *const f32,
    ) -> Tiles {
        let start = if self.in_place { x } else { y };
        let past = start.addr() / size_of::<f32>() % LINE;
        if !self.lines || !past.is_multiple_of(weights.kernel().vector) {
            return self.tiles;
        }
        let before = if past == 0 { 0 } else { (self.tile + past).saturating_sub(LINE) };
        Tiles::lines(geometry.output_pixels(), before, self.tile)
    }
}

/// The pixels of a tile, at most, if kernels should read the input, all of it in order, without a copy.
///
/// An image of a single pixel needs none: its channels are neighbours already. Otherwise a panel pays by how
/// often the kernel comes back to its lines, and few visits are cheaper without it; unless planes are at such
/// distances that their lines want the same few places in a cache.
fn planes(weights: &PackedPointwise, geometry: &ConvGeometry) -> Option<usize> {
    /// Lines of one set of a first-level cache: all cores that this is for have four.
    const WAYS: usize = 4;
    let (kernel, ic, pixels) = (weights.kernel(), weights.ic(), geometry.output_pixels());
    weights.all_channels().filter(|_| geometry.is_identity_map())?;
    if pixels == 1 {
        return Some(kernel.info.pixels);
    }
    let planes = kernel.tuning.planes?;
    let apart = planes.way >> geometry.x_plane().trailing_zeros().min(planes.way.ilog2());
    if geometry.shape().x_layout != Layout::Planar
        || pixels < kernel.vector
        || ic > apart * WAYS
        || weights.stored() > planes.weights * ic
    {
        return None;
    }
    let lines = kernel.line_tile(ic);
    if in_lines(geometry, lines) {
        return Some(lines);
    }
    (weights.stored() <= planes.visits * ic * kernel.format.r()).then_some(kernel.info.pixels)
}

/// Whether tiles of `tile` pixels can begin with lines of input and output, and are enough that one more,
/// for the pixels before the first line, does not matter.
fn in_lines(geometry: &ConvGeometry, tile: usize) -> bool {
    const MANY: usize = 24;
    let (shape, pixels) = (geometry.shape(), geometry.output_pixels());
    [shape.x_layout, shape.y_layout] == [Layout::Planar; 2]
        && [tile, geometry.x_plane(), geometry.y_plane(), pixels]
            .iter()
            .all(|pixels| pixels.is_multiple_of(LINE))
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
pub(crate) struct Tiles {
    vector: usize,
    /// Pixels of a tile, and the pixels that the first tile is short of, if tiles are whole
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
    pub fn new(
        pixels: usize,
        vector: usize,
        singles: usize,
        tile: usize,
        with_extra: Option<usize>,
    ) -> Tiles {
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
    pub fn lines(pixels: usize, before: usize, tile: usize) -> Tiles {
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

    pub fn count(&self) -> usize {
        if self.along { self.tiles } else { self.tiles + self.singles }
    }

    /// Single pixels at the end of a tile.
    pub fn extra(&self, tile: usize) -> usize {
        if self.along && tile + 1 == self.tiles { self.singles } else { 0 }
    }

    /// Single pixels that the last tile takes along.
    pub fn along(&self) -> usize {
        if self.along { self.singles } else { 0 }
    }

    /// Whether the only tile has fewer pixels than a vector.
    pub fn padded(&self) -> bool {
        (1..self.vector).contains(&self.tiled)
    }

    /// The pixels of a tile, extra ones included; at least a vector unless [`Tiles::padded`], or exactly one.
    pub fn range(&self, tile: usize) -> Range<usize> {
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

/// Floats of the sums of pairs that wait for a function that kernels do not fuse, if a block row does not have more:
/// what stays in a first-level cache.
pub(super) const FINISHED: usize = 4 << 10;

/// Most neighbouring tiles that share a panel.
pub(super) const MOST_TOGETHER: usize = 16;

/// What a part of the work needs, in floats.
pub(super) struct Buffers {
    /// Neighbouring tiles that are taken together, at most.
    pub together: usize,
    /// Their panel; none if kernels read the input itself.
    pub panel: usize,
    /// Inputs of single pixels that a tile takes along.
    pub extra: usize,
    /// Sums between chunks.
    pub waiting: usize,
    /// A planar copy of their outputs; none if kernels write to the output itself.
    pub staged: usize,
}

impl Buffers {
    /// The buffers for `count` tiles and `channels` output channels, which fewer of them do not exceed; none if they
    /// cannot be addressed.
    pub fn new(
        w: &PackedPointwise,
        geometry: &ConvGeometry,
        plan: &Plan,
        tiles: &Tiles,
        count: usize,
        channels: usize,
    ) -> Option<Buffers> {
        const MOST: usize = isize::MAX as usize / size_of::<f32>();
        let tuning = &w.kernel().tuning;
        let (c, tile, limit) = (w.kernel().c, plan.tile, tuning.panel);
        let panel = |columns: &[u32]| columns.len().checked_mul(c)?.checked_mul(tile);
        let all = panel(w.columns(0..w.chunks()))?;
        // single pixels at the end, in lines of their own
        let slots = extra_slots(tiles.along());
        let along = if slots > 0 { LINE } else { 0 };
        // as whole lines, so that what follows begins with one
        let extra = w
            .columns(0..w.chunks())
            .len()
            .checked_mul(slots * panel::COPIES * c)?
            .checked_next_multiple_of(LINE)?;
        let out = channels.checked_mul(tile + along)?;
        let finished = w.kernel().element().in_pairs().then_some(tile * MOST_TOGETHER + along);
        let finished = finished.map_or(0, |row| FINISHED.max(row * w.kernel().format.r().max(2)));
        let planar = geometry.shape().y_layout == Layout::Planar || geometry.output_pixels() == 1;
        let planar = planar && !tiles.padded();
        let most = MOST_TOGETHER.min(count.max(1));
        let together = if plan.in_place && planar { most } else { limit / all.max(1) };
        let together = if planar { together } else { together.min(MOST / 4 / out.max(1)) }.clamp(1, most);
        // One chunk alone may be larger than the limit: a column of it is not cut.
        let panel = match plan.in_place {
            true => 0,
            false => all.saturating_mul(together).min(limit.max(panel(w.columns(0..1))?)),
        };
        let staged = if planar { 0 } else { out.checked_mul(together)? };
        let waiting = if w.chunks() > 1 && tuning.sums_apart { out } else { 0 }.max(finished);
        let floats = [extra, waiting, staged.checked_mul(2)?, LINE]
            .iter()
            .try_fold(panel, |a, b| a.checked_add(*b))?;
        (floats <= MOST).then_some(Buffers { together, panel, extra, waiting, staged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
