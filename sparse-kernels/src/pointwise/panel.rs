//! Copying the input of a tile into a contiguous panel.

use super::halves;
use crate::geometry::{ConvGeometry, Layout, inside};
use std::ops::Range;

/// Channels copied at a time from an interleaved input: their panel rows stay in cache while the pixels pass.
const INTERLEAVED_CHANNELS: usize = 16;

/// The top bit of each byte of a lane.
pub(super) const TOP_BITS: u32 = 0x8080_8080;

/// Floats copied at a time.
const RUN: usize = 8;

/// A run of output pixels that lie in one output row, and either all in the padding or all in the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Segment {
    /// First pixel, counted from the first of the tile.
    lane: usize,
    /// Pixels.
    len: usize,
    /// Input pixel read by the first, none in the padding. The next is one horizontal stride further.
    source: Option<usize>,
}

/// Cuts output `pixels` into segments.
pub(super) fn segments(geometry: &ConvGeometry, pixels: Range<usize>, segments: &mut Vec<Segment>) {
    segments.clear();
    if geometry.is_identity_map() {
        segments.push(Segment { lane: 0, len: pixels.len(), source: Some(pixels.start) });
        return;
    }
    let (s, width) = (geometry.shape(), geometry.output()[1]);
    // The columns `inside` of an output row have an input pixel.
    let inside = inside(s.pad_before[1], s.input[1], 0, s.stride[1], width);
    let mut at = pixels.start;
    while at < pixels.end {
        let (row, column) = (at / width, at % width);
        let source =
            geometry.tap(0, row, 0).and_then(|iy| Some(iy * s.input[1] + geometry.tap(1, column, 0)?));
        let border = if source.is_some() {
            inside.end
        } else if column < inside.start && geometry.tap(0, row, 0).is_some() {
            inside.start
        } else {
            width
        };
        let len = (border - column).min(pixels.end - at);
        segments.push(Segment { lane: at - pixels.start, len, source });
        at += len;
    }
}

/// Fills rows of `stride` floats, one for each channel of the block columns in `columns` (of `c` channels
/// each) of one image. Lanes beyond the segments are left alone; what has no input pixel becomes `padding`,
/// rows beyond the last input channel, whose weights are zero, that or zero.
#[allow(clippy::too_many_arguments)]
pub(super) fn fill(
    panel: &mut [f32],
    stride: usize,
    geometry: &ConvGeometry,
    image: &[f32],
    columns: &[u32],
    c: usize,
    segments: &[Segment],
    padding: f32,
) {
    let (s, step) = (geometry.shape(), geometry.shape().stride[1]);
    let plane = geometry.x_plane();
    if let Some((source, len)) = neighbours(geometry, segments) {
        return copy_planes::<false>(panel, stride, &image[source..], plane, len, columns, c);
    }
    match s.x_layout {
        Layout::Planar => {
            for (rows, column) in panel.chunks_exact_mut(c * stride).zip(columns) {
                for (i, row) in rows.chunks_exact_mut(stride).enumerate() {
                    let channel = *column as usize * c + i;
                    if channel >= s.ic {
                        row.fill(padding);
                        continue;
                    }
                    let plane = &image[channel * plane..][..geometry.input_pixels()];
                    for segment in segments {
                        let row = &mut row[segment.lane..][..segment.len];
                        match segment.source {
                            None => row.fill(padding),
                            Some(source) => gather(row, &plane[source..], step),
                        }
                    }
                }
            }
        }
        Layout::Interleaved => {
            let group = INTERLEAVED_CHANNELS.div_ceil(c);
            for (rows, columns) in panel.chunks_mut(group * c * stride).zip(columns.chunks(group)) {
                for segment in segments {
                    let pixels = segment.source.map(|source| &image[source * s.ic..]);
                    let lanes = segment.lane..segment.lane + segment.len;
                    for (rows, column) in rows.chunks_exact_mut(c * stride).zip(columns) {
                        let first = *column as usize * c;
                        match pixels {
                            Some(pixels) if c == 1 => {
                                columns_to_rows::<1>(
                                    rows,
                                    stride,
                                    lanes.clone(),
                                    &pixels[first..],
                                    step * s.ic,
                                );
                            }
                            Some(pixels) if c == 4 && first + c <= s.ic => {
                                columns_to_rows::<4>(
                                    rows,
                                    stride,
                                    lanes.clone(),
                                    &pixels[first..],
                                    step * s.ic,
                                );
                            }
                            _ => {
                                for (i, row) in rows.chunks_exact_mut(stride).enumerate() {
                                    let row = &mut row[lanes.clone()];
                                    match pixels.filter(|_| first + i < s.ic) {
                                        Some(pixels) => gather(row, &pixels[first + i..], step * s.ic),
                                        None => row.fill(padding),
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where the pixels begin in each plane of planar channels, and how many they are, if they are neighbours there.
fn neighbours(geometry: &ConvGeometry, segments: &[Segment]) -> Option<(usize, usize)> {
    let s = geometry.shape();
    match (segments, s.stride[1], s.x_layout) {
        ([Segment { source: Some(source), len, .. }], 1, Layout::Planar) => Some((*source, *len)),
        _ => None,
    }
}

/// [`fill`] for kernels of f16, which want the pixels of each channel of a lane beside each other
/// ([`halves`]): rows of the same length, first those of the first channel.
pub(super) fn fill_apart(
    panel: &mut [f32],
    stride: usize,
    geometry: &ConvGeometry,
    image: &[f32],
    columns: &[u32],
    c: usize,
    segments: &[Segment],
) {
    let panel = &mut panel[..columns.len() * c * stride];
    #[cfg(target_arch = "aarch64")]
    if let Some((source, len)) = neighbours(geometry, segments)
        && len >= super::neon_halves::LANES
    {
        let mut rows = panel.chunks_exact_mut(stride);
        for column in columns {
            let mut at = source + *column as usize * c * geometry.x_plane();
            for row in rows.by_ref().take(c) {
                match image.get(at..at + len) {
                    Some(from) => super::neon_halves::copy_apart(row, from),
                    None => row.fill(0.0), // beyond the last channel
                }
                at += geometry.x_plane();
            }
        }
        return;
    }
    fill(panel, stride, geometry, image, columns, c, segments, 0.0);
    halves::take_apart(panel, stride);
}

/// [`fill`] for kernels of quads that want the top bit of every byte flipped.
#[allow(clippy::too_many_arguments)]
pub(super) fn fill_flipped(
    panel: &mut [f32],
    stride: usize,
    geometry: &ConvGeometry,
    image: &[f32],
    columns: &[u32],
    c: usize,
    segments: &[Segment],
    padding: f32,
) {
    let panel = &mut panel[..columns.len() * c * stride];
    if let Some((source, len)) = neighbours(geometry, segments) {
        return copy_planes::<true>(panel, stride, &image[source..], geometry.x_plane(), len, columns, c);
    }
    fill(panel, stride, geometry, image, columns, c, segments, padding);
    for lane in panel {
        *lane = f32::from_bits(lane.to_bits() ^ TOP_BITS);
    }
}

/// Copies lanes with the top bits of their bytes flipped.
fn copy_flipped(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(from.to_bits() ^ TOP_BITS);
    }
}

/// Lanes that an input of an extra pixel fills: one for each row of a block.
pub(super) const COPIES: usize = 4;

/// Fills, for each of the block columns of `C` channels, `slots` slots with the inputs of one of the few
/// `pixels` of an image each. Slots beyond the pixels, channels beyond the last one, and what has no input pixel become
/// `padding`.
pub(super) fn spread<const C: usize>(
    to: &mut [f32],
    slots: usize,
    geometry: &ConvGeometry,
    image: &[f32],
    columns: &[u32],
    pixels: Range<usize>,
    padding: f32,
) {
    let (s, width) = (geometry.shape(), geometry.output()[1]);
    let (pixel_step, channel_step) = match s.x_layout {
        Layout::Planar => (1, geometry.x_plane()),
        Layout::Interleaved => (s.ic, 1),
    };
    let sources: [Option<usize>; 4] = std::array::from_fn(|slot| {
        let pixel = pixels.start + slot;
        let tap = || Some([geometry.tap(0, pixel / width, 0)?, geometry.tap(1, pixel % width, 0)?]);
        tap().filter(|_| pixel < pixels.end).map(|[y, x]| (y * s.input[1] + x) * pixel_step)
    });
    for (to, column) in to.chunks_exact_mut(slots * C * COPIES).zip(columns) {
        let (to, []) = to.as_chunks_mut::<COPIES>() else { unreachable!("whole slots") };
        for (i, copies) in to.iter_mut().enumerate() {
            let channel = *column as usize * C + i % C;
            *copies = match sources[i / C] {
                Some(source) if channel < s.ic => [image[source + channel * channel_step]; COPIES],
                _ => [padding; COPIES],
            };
        }
    }
}

/// Transposes `C` neighbouring columns, the first of which `from` begins with, in rows `from_stride` floats
/// apart: into `lanes` of `C` rows of `stride` floats each.
fn columns_to_rows<const C: usize>(
    rows: &mut [f32],
    stride: usize,
    lanes: Range<usize>,
    from: &[f32],
    from_stride: usize,
) {
    let mut at = 0;
    let mut lane = lanes.start;
    while lane + RUN <= lanes.end {
        let tile: [[f32; C]; RUN] = std::array::from_fn(|i| *run(&from[at + i * from_stride..]));
        for c in 0..C {
            let column: [f32; RUN] = std::array::from_fn(|i| tile[i][c]);
            rows[c * stride + lane..][..RUN].copy_from_slice(&column);
        }
        (lane, at) = (lane + RUN, at + RUN * from_stride);
    }
    for lane in lane..lanes.end {
        for c in 0..C {
            rows[c * stride + lane] = from[at + c];
        }
        at += from_stride;
    }
}

/// Transposes `columns` rows of `from`, `from_stride` floats apart: calls `put` with the number of one of the
/// `rows` rows of the result, a column, and what stands in that row from there on.
pub(super) fn transpose(
    mut put: impl FnMut(usize, usize, &[f32]),
    rows: usize,
    columns: usize,
    from: &[f32],
    from_stride: usize,
) {
    for row in (0..rows).step_by(RUN) {
        for column in (0..columns).step_by(RUN) {
            let (tall, wide) = ((rows - row).min(RUN), (columns - column).min(RUN));
            let from = &from[column * from_stride + row..];
            if (tall, wide) == (RUN, RUN) {
                // lengths that the compiler knows: vectors in registers, without a call to copy
                let tile: [[f32; RUN]; RUN] = std::array::from_fn(|i| *run(&from[i * from_stride..]));
                for r in 0..RUN {
                    let of_row: [f32; RUN] = std::array::from_fn(|i| tile[i][r]);
                    put(row + r, column, &of_row);
                }
            } else {
                for r in 0..tall {
                    let of_row: [f32; RUN] =
                        std::array::from_fn(|i| if i < wide { from[i * from_stride + r] } else { 0.0 });
                    put(row + r, column, &of_row[..wide]);
                }
            }
        }
    }
}

/// The first `N` floats.
fn run<const N: usize>(floats: &[f32]) -> &[f32; N] {
    floats.first_chunk().expect("the caller counts them")
}

/// [`fill`], or [`fill_flipped`] with `FLIP`, for neighbouring pixels of planar channels, which begin at `from` and every
/// `plane` floats from there.
fn copy_planes<const FLIP: bool>(
    panel: &mut [f32],
    stride: usize,
    from: &[f32],
    plane: usize,
    len: usize,
    columns: &[u32],
    c: usize,
) {
    #[cfg(target_arch = "aarch64")]
    match len {
        16 => return copy_blocks::<4, FLIP>(panel, stride, from, plane, columns, c, len),
        20 => return copy_blocks::<5, FLIP>(panel, stride, from, plane, columns, c, len),
        24 => return copy_blocks::<6, FLIP>(panel, stride, from, plane, columns, c, len),
        28 => return copy_blocks::<7, FLIP>(panel, stride, from, plane, columns, c, len),
        32 => return copy_blocks::<8, FLIP>(panel, stride, from, plane, columns, c, len),
        _ if (FLIP || len > 32) && len.is_multiple_of(4) => {
            return copy_blocks::<0, FLIP>(panel, stride, from, plane, columns, c, len);
        }
        _ => {}
    }
    if FLIP {
        return copy_rows(panel, stride, from, plane, columns, c, copy_flipped, len);
    }
    // From here on the call of a general copy is worth it, which has wider vectors. In WebAssembly it is one of the
    // engine, which costs more than the copy.
    const CALL: usize = if cfg!(target_arch = "wasm32") { usize::MAX } else { 8 };
    match len.div_ceil(RUN) {
        _ if len < RUN => {
            copy_rows(panel, stride, from, plane, columns, c, |to, from| gather(to, from, 1), len)
        }
        1 => copy_rows(panel, stride, from, plane, columns, c, copy_runs::<1>, len),
        2 => copy_rows(panel, stride, from, plane, columns, c, copy_runs::<2>, len),
        3 => copy_rows(panel, stride, from, plane, columns, c, copy_runs::<3>, len),
        CALL.. => copy_rows(panel, stride, from, plane, columns, c, |to, from| to.copy_from_slice(from), len),
        _ => copy_rows(panel, stride, from, plane, columns, c, |to, from| gather(to, from, 1), len),
    }
}

/// The loop of [`copy_planes`] for one way to copy `len` floats: a tile of few pixels has a row of two lines,
/// so that every instruction around their copy counts.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // what the loop reads, flat, so that it stays in registers
fn copy_rows(
    panel: &mut [f32],
    stride: usize,
    from: &[f32],
    plane: usize,
    columns: &[u32],
    c: usize,
    copy: impl Fn(&mut [f32], &[f32]),
    len: usize,
) {
    let mut rows = panel.chunks_exact_mut(stride);
    for column in columns {
        let mut at = *column as usize * c * plane;
        for row in rows.by_ref().take(c) {
            match from.get(at..at + len) {
                Some(from) => copy(&mut row[..len], from),
                None => row.fill(0.0), // beyond the last channel
            }
            at += plane;
        }
    }
}

/// [`copy_planes`] for tiles of `V` vectors of four pixels, or any number if `V` is 0: four neighbouring
/// channels together where that is possible, so that a core that works in order has other rows to load while
/// it waits for one. With `FLIP` as [`fill_flipped`].
#[cfg(target_arch = "aarch64")]
fn copy_blocks<const V: usize, const FLIP: bool>(
    panel: &mut [f32],
    stride: usize,
    from: &[f32],
    plane: usize,
    columns: &[u32],
    c: usize,
    len: usize,
) {
    let group = 4 / c;
    let (mut rows, mut columns) = (panel, columns);
    while !columns.is_empty() {
        let done = super::neon::copy_fours::<V, FLIP>(rows, stride, from, plane, columns, c, len);
        (rows, columns) = (&mut rows[done * c * stride..], &columns[done..]);
        // What is not four neighbours: a channel that is missing, the last ones.
        let some = columns.len().min(group);
        let copy = |to: &mut [f32], from: &[f32]| match FLIP {
            true => copy_flipped(to, from),
            false => to.copy_from_slice(from),
        };
        copy_rows(rows, stride, from, plane, &columns[..some], c, copy, len);
        (rows, columns) = (&mut rows[some * c * stride..], &columns[some..]);
    }
}

/// Copies more than `V - 1` and up to `V` runs; the last overlaps the one before.
#[inline(always)]
fn copy_runs<const V: usize>(to: &mut [f32], from: &[f32]) {
    let len = to.len();
    assert!(from.len() == len && len >= RUN && len > (V - 1) * RUN);
    for v in 0..V - 1 {
        to[v * RUN..][..RUN].copy_from_slice(&from[v * RUN..][..RUN]);
    }
    to[len - RUN..].copy_from_slice(&from[len - RUN..]);
}

/// `to[i] = from[i * step]`. Most tiles are short: constant lengths spare the call of a general copy.
#[inline]
fn gather(to: &mut [f32], from: &[f32], step: usize) {
    let len = to.len();
    match step {
        1 if len >= RUN => {
            let from = &from[..len];
            for (to, from) in to.chunks_exact_mut(RUN).zip(from.chunks_exact(RUN)) {
                to.copy_from_slice(from);
            }
            to[len - RUN..].copy_from_slice(&from[len - RUN..]);
        }
        1 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        2 => to.iter_mut().zip(from.chunks(2)).for_each(|(to, from)| *to = from[0]),
        _ => to.iter_mut().zip(from.chunks(step)).for_each(|(to, from)| *to = from[0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::ConvShape;

    #[test]
    fn segments_are_the_taps() {
        let mut found = vec![];
        for (hw, stride, before, after) in
            [(5, 1, 0, 0), (5, 1, 1, 2), (7, 2, 0, 0), (7, 2, 3, 4), (4, 3, 2, 1), (1, 2, 4, 4), (6, 5, 1, 9)]
        {
            let geometry = ConvGeometry::new(ConvShape {
                pad_before: [before, after],
                pad_after: [after, before],
                stride: [stride, stride.min(2)],
                ..ConvShape::square(1, 1, hw, 1, 1, 0)
            })
            .unwrap();
            let [height, width] = geometry.output();
            let all: Vec<Option<usize>> = (0..height * width)
                .map(|p| Some(geometry.tap(0, p / width, 0)? * hw + geometry.tap(1, p % width, 0)?))
                .collect();
            for start in (0..all.len()).step_by(if cfg!(miri) { 17 } else { 1 }) {
                for end in start + 1..=all.len().min(start + 30) {
                    segments(&geometry, start..end, &mut found);
                    let mut lanes = vec![];
                    for s in &found {
                        assert_eq!((s.lane, s.len > 0), (lanes.len(), true));
                        lanes.extend((0..s.len).map(|i| s.source.map(|p| p + i * stride.min(2))));
                    }
                    assert_eq!(lanes, all[start..end]);
                }
            }
        }
    }

    #[test]
    fn gathering_every_length() {
        let from: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for step in 1..4 {
            for len in 1..33 {
                let mut to = vec![-1f32; len];
                gather(&mut to, &from, step);
                assert!(to.iter().enumerate().all(|(i, v)| *v == (i * step) as f32), "{step} {to:?}");
            }
        }
    }

    #[test]
    fn whole_runs_are_copied_from_planes_that_exist() {
        let (ic, side) = (7, 8);
        let geometry = ConvGeometry::new(ConvShape::square(ic, 1, side, 1, 1, 0)).unwrap();
        let image: Vec<f32> = (0..ic * side * side).map(|i| i as f32).collect();
        let mut found = vec![];
        for pixels in [16, 20, 13, 36] {
            for source in [0, 3, side * side - pixels] {
                segments(&geometry, source..source + pixels, &mut found);
                for stride in [pixels, pixels + 4] {
                    let mut panel = vec![-1f32; 8 * stride];
                    fill(&mut panel, stride, &geometry, &image, &[0, 1], 4, &found, 0.0);
                    for (channel, row) in panel.chunks(stride).enumerate() {
                        for (p, v) in row[..pixels].iter().enumerate() {
                            let expected = (channel * side * side + source + p) as f32;
                            assert_eq!(*v, if channel < ic { expected } else { 0.0 });
                        }
                        assert!(channel >= ic || row[pixels..].iter().all(|v| *v == -1.0));
                    }
                }
            }
        }
    }
}
