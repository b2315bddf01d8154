//! The one place that knows padding, stride, dilation and output size.

use crate::error::KernelError;
use crate::table::Element;
use std::ops::Range;

/// Order of a tensor's axes. Batch is always outermost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Layout {
    /// One plane of pixels per channel (NCHW): `[batch][channel][pixel]`.
    #[default]
    Planar,
    /// All channels of a pixel together (NHWC): `[batch][pixel][channel]`.
    Interleaved,
}

/// Plain description of a 2-D convolution, to be checked by [`ConvGeometry::new`]. 1-D convolutions have
/// height 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Input channels, of all groups.
    pub ic: usize,
    /// Output channels, of all groups.
    pub oc: usize,
    /// Channel groups: 1, or `ic` for a depthwise convolution.
    pub group: usize,
    /// Input height and width in pixels.
    pub input: [usize; 2],
    /// Kernel height and width in taps.
    pub kernel: [usize; 2],
    /// Step of the output, vertical and horizontal.
    pub stride: [usize; 2],
    /// Distance of neighbouring taps, vertical and horizontal.
    pub dilation: [usize; 2],
    /// Rows of zeros above and columns of zeros to the left.
    pub pad_before: [usize; 2],
    /// Rows of zeros below and columns of zeros to the right.
    pub pad_after: [usize; 2],
    /// Layout of the input.
    pub x_layout: Layout,
    /// Layout of the output and of the residual.
    pub y_layout: Layout,
}

impl ConvShape {
    /// A planar convolution of one image with a square kernel, stride and symmetric padding.
    pub fn square(ic: usize, oc: usize, hw: usize, kernel: usize, stride: usize, pad: usize) -> ConvShape {
        ConvShape {
            batch: 1,
            ic,
            oc,
            group: 1,
            input: [hw; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad_before: [pad; 2],
            pad_after: [pad; 2],
            x_layout: Layout::Planar,
            y_layout: Layout::Planar,
        }
    }
}

/// A checked convolution geometry: channels, kernel and steps are not zero, every product fits. Batch, input
/// and output may be empty; a kernel larger than the padded input has no outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    shape: ConvShape,
    output: [usize; 2],
    /// Floats from one plane to the next, of input and output.
    planes: [usize; 2],
}

impl ConvGeometry {
    /// Checks `shape` and computes the output size.
    ///
    /// # Errors
    /// No channels, groups, taps or step; groups that do not divide the channels; or sizes whose product
    /// overflows.
    pub fn new(shape: ConvShape) -> Result<ConvGeometry, KernelError> {
        let bad = |what: &str| Err(KernelError::Geometry(format!("{what} in {shape:?}")));
        let positive = [shape.ic, shape.oc, shape.group];
        let axes = [shape.kernel, shape.stride, shape.dilation];
        if positive.into_iter().chain(axes.into_iter().flatten()).any(|d| d == 0) {
            return bad("a dimension is zero");
        }
        if !shape.ic.is_multiple_of(shape.group) || !shape.oc.is_multiple_of(shape.group) {
            return bad("groups do not divide the channels");
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let reach =
                (shape.kernel[axis] - 1).checked_mul(shape.dilation[axis]).and_then(|d| d.checked_add(1));
            let padded = shape.input[axis]
                .checked_add(shape.pad_before[axis])
                .and_then(|p| p.checked_add(shape.pad_after[axis]));
            let (Some(reach), Some(padded)) = (reach, padded) else { return bad("a size overflows") };
            if let Some(last) = padded.checked_sub(reach) {
                output[axis] = last / shape.stride[axis] + 1;
            }
        }
        // An empty axis does not make the others fit: products of some of the sizes must not overflow,
        // either.
        let fits = |channels: usize, [h, w]: [usize; 2]| {
            [channels, h.max(1), w.max(1), size_of::<f32>()]
                .into_iter()
                .try_fold(shape.batch.max(1), usize::checked_mul)
                .is_some_and(|bytes| bytes <= isize::MAX as usize)
        };
        let padded = [0, 1].map(|a| shape.input[a] + shape.pad_before[a] + shape.pad_after[a]);
        if !fits(shape.ic, padded) || !fits(shape.oc, output) {
            return bad("a tensor is too large");
        }
        let planes = [shape.input, output].map(|[h, w]| h * w);
        Ok(ConvGeometry { shape, output, planes })
    }

    /// The same convolution of rows of a larger planar image: its planes are `x` floats apart, and those of
    /// the output and of the residual `y`.
    ///
    /// # Errors
    /// More than one image, a layout that is not planar, planes that overlap, or a size that overflows.
    pub fn in_planes(self, x: usize, y: usize) -> Result<ConvGeometry, KernelError> {
        let s = &self.shape;
        let bytes =
            |channels: usize, plane: usize| channels.checked_mul(plane)?.checked_mul(size_of::<f32>());
        let fits = |bytes: Option<usize>| bytes.is_some_and(|bytes| bytes <= isize::MAX as usize);
        let planar = s.batch == 1 && [s.x_layout, s.y_layout] == [Layout::Planar; 2];
        let apart = x >= self.input_pixels() && y >= self.output_pixels();
        if !planar || !apart || !fits(bytes(s.ic, x)) || !fits(bytes(s.oc, y)) {
            let what = format!("planes of {x} and {y} floats for {s:?}");
            return Err(KernelError::Geometry(what));
        }
        Ok(ConvGeometry { planes: [x, y], ..self })
    }

    /// The same convolution with lanes of `element` in place of channels, the last of them perhaps with fewer channels
    /// than the others. Depthwise stays depthwise.
    ///
    /// # Errors
    /// Where lanes hold several channels: channel groups that are not one or one for each channel; a layout that is not
    /// planar.
    pub(crate) fn in_lanes(self, element: Element) -> Result<ConvGeometry, KernelError> {
        let s = self.shape;
        if element.per_lane() == 1 {
            return Ok(self);
        }
        let bad = |what: &str| {
            let per_lane = element.per_lane();
            Err(KernelError::Geometry(format!("lanes of {per_lane} channels want {what}: {s:?}")))
        };
        if [s.x_layout, s.y_layout] != [Layout::Planar; 2] {
            return bad("planar input and output");
        }
        let [ic, oc] = [s.ic, s.oc].map(|channels| element.lanes(channels));
        let group = match s.group {
            1 if s.ic > 1 || s.oc > 1 => 1,
            group if [s.ic, s.oc] == [group; 2] => ic,
            _ => return bad("one channel group, or one for each channel"),
        };
        Ok(ConvGeometry { shape: ConvShape { ic, oc, group, ..s }, ..self })
    }

    /// A planar 1x1 convolution over `pixels` pixels: a matrix product with `ic` x `pixels` columns per
    /// image.
    ///
    /// # Errors
    /// As [`ConvGeometry::new`].
    pub fn pointwise(batch: usize, ic: usize, oc: usize, pixels: usize) -> Result<ConvGeometry, KernelError> {
        ConvGeometry::new(ConvShape { batch, input: [1, pixels], ..ConvShape::square(ic, oc, 1, 1, 1, 0) })
    }

    /// The description this geometry was made from.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Output height and width.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// Pixels of one input plane.
    pub fn input_pixels(&self) -> usize {
        self.shape.input[0] * self.shape.input[1]
    }

    /// Pixels of one output plane.
    pub fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Whether it is of rows of a larger image.
    pub(crate) fn is_band(&self) -> bool {
        self.planes != [self.input_pixels(), self.output_pixels()]
    }

    /// Floats from one input plane to the next: its pixels, unless they are [in larger
    /// planes](ConvGeometry::in_planes).
    pub fn x_plane(&self) -> usize {
        self.planes[0]
    }

    /// Floats from one output plane to the next.
    pub fn y_plane(&self) -> usize {
        self.planes[1]
    }

    /// Elements of the whole input tensor, from the first that is read to the last.
    pub fn x_len(&self) -> usize {
        span(self.shape.batch * self.shape.ic, self.x_plane(), self.input_pixels())
    }

    /// Elements of the whole output tensor, from the first that is written to the last.
    pub fn y_len(&self) -> usize {
        span(self.shape.batch * self.shape.oc, self.y_plane(), self.output_pixels())
    }

    /// Where the planes of an image are in the input.
    pub(crate) fn x_image(&self, image: usize) -> Range<usize> {
        let first = image * self.shape.ic * self.x_plane();
        first..first + span(self.shape.ic, self.x_plane(), self.input_pixels())
    }

    /// The input rows that some output rows read.
    pub(crate) fn rows_read(&self, rows: &Range<usize>) -> Range<usize> {
        let s = &self.shape;
        if rows.is_empty() {
            return 0..0;
        }
        let first = rows.start * s.stride[0];
        let [start, end] = [first, first + self.rows_spanned(rows.len())]
            .map(|row| row.saturating_sub(s.pad_before[0]).min(s.input[0]));
        start..end
    }

    /// Rows from the first to the last that some neighbouring output rows see, padding among them.
    pub(crate) fn rows_spanned(&self, rows: usize) -> usize {
        let s = &self.shape;
        rows.saturating_sub(1) * s.stride[0] + (s.kernel[0] - 1) * s.dilation[0] + 1
    }

    /// The geometry of some output rows that reads the input rows of [`ConvGeometry::rows_read`] alone, its
    /// planes `planes` floats apart.
    ///
    /// # Errors
    /// As [`ConvGeometry::in_planes`].
    pub(crate) fn rows(&self, rows: &Range<usize>, planes: [usize; 2]) -> Result<ConvGeometry, KernelError> {
        let (mut s, read) = (self.shape, self.rows_read(rows));
        let padded = self.rows_spanned(rows.len());
        let before = (s.pad_before[0] + read.start).saturating_sub(rows.start * s.stride[0]);
        s.input[0] = read.len();
        s.pad_before[0] = before.min(padded - read.len());
        s.pad_after[0] = padded - read.len() - s.pad_before[0];
        let [x, y] = planes;
        ConvGeometry::new(ConvShape { batch: 1, ..s })?.in_planes(x, y)
    }

    /// True if output pixel `p` reads exactly input pixel `p`: 1x1, stride 1, no padding.
    pub fn is_identity_map(&self) -> bool {
        let s = &self.shape;
        s.kernel == [1; 2] && s.stride == [1; 2] && s.pad_before == [0; 2] && s.pad_after == [0; 2]
    }

    /// Input position read by output position `o` at tap `k` along `axis`, or `None` in the padding.
    pub fn tap(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let s = &self.shape;
        (o * s.stride[axis] + k * s.dilation[axis])
            .checked_sub(s.pad_before[axis])
            .filter(|i| *i < s.input[axis])
    }

    /// If every tap of every output lies in the padding because the input has no pixels: a geometry with the
    /// same outputs for an input of `padding`, and that input. A pixel takes the place of one of padding
    /// along each empty axis.
    pub(crate) fn on_padding(&self, padding: f32) -> Option<(ConvGeometry, Vec<f32>)> {
        if self.x_len() > 0 || self.y_len() == 0 {
            return None;
        }
        let mut shape = self.shape;
        for axis in (0..2).filter(|axis| self.shape.input[*axis] == 0) {
            let pad = if shape.pad_before[axis] > 0 { &mut shape.pad_before } else { &mut shape.pad_after };
            // The kernel fits the padded input, which is all padding.
            pad[axis] -= 1;
            shape.input[axis] = 1;
        }
        let planes = [shape.input[0] * shape.input[1], self.planes[1]];
        let geometry = ConvGeometry { shape, planes, ..*self };
        Some((geometry, vec![padding; geometry.x_len()]))
    }

    /// Checks the length of the input of a run.
    pub(crate) fn check_input(&self, x: &[f32]) -> Result<(), KernelError> {
        check_length("input", self.x_len(), x)
    }

    /// Checks the lengths of the output and of the residual of a run.
    pub(crate) fn check_output(&self, y: &[f32], residual: Option<&[f32]>) -> Result<(), KernelError> {
        check_length("output", self.y_len(), y)?;
        residual.map_or(Ok(()), |residual| check_length("residual", self.y_len(), residual))
    }
}

fn check_length(what: &'static str, expected: usize, floats: &[f32]) -> Result<(), KernelError> {
    let got = floats.len();
    if expected == got { Ok(()) } else { Err(KernelError::Length { what, expected, got }) }
}

/// Floats of `count` planes of `pixels`, `plane` floats apart, from the first to the last.
fn span(count: usize, plane: usize, pixels: usize) -> usize {
    if pixels == 0 { 0 } else { count.saturating_sub(1) * plane + count.min(1) * pixels }
}

/// The positions `at + i * step`, of `count` of them, that are inside `input` pixels which come after `pad`
/// pixels of padding: the range of these `i`.
#[inline(always)]
pub(crate) fn inside(pad: usize, input: usize, at: usize, step: usize, count: usize) -> Range<usize> {
    let before = |position: usize| position.saturating_sub(at).div_ceil(step).min(count);
    before(pad)..before(pad + input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes() {
        let g = |hw, k, s, p| ConvGeometry::new(ConvShape::square(3, 8, hw, k, s, p)).unwrap().output();
        assert_eq!(g(224, 3, 2, 1), [112, 112]);
        assert_eq!(g(7, 3, 1, 1), [7, 7]);
        assert_eq!(g(5, 5, 1, 0), [1, 1]);
        assert_eq!(g(1, 1, 2, 0), [1, 1]);
        assert_eq!(g(0, 1, 1, 0), [0, 0]);
        assert_eq!(g(0, 3, 1, 2), [2, 2]);
        assert_eq!(g(2, 3, 1, 0), [0, 0]);
    }

    #[test]
    fn what_is_inside_is_neither_before_nor_behind() {
        for (pad, input, at, step) in [(2, 5, 0, 1), (2, 5, 1, 2), (0, 3, 4, 1), (7, 1, 0, 3), (1, 0, 0, 1)] {
            for count in [0, 1, 3, 20] {
                let real = |i: &usize| (pad..pad + input).contains(&(at + i * step));
                let expected: Vec<usize> = (0..count).filter(real).collect();
                assert_eq!(inside(pad, input, at, step, count).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn taps_fall_into_the_padding() {
        let g = ConvGeometry::new(ConvShape::square(1, 1, 4, 3, 2, 1)).unwrap();
        assert_eq!((g.tap(0, 0, 0), g.tap(0, 0, 1), g.tap(1, 1, 2)), (None, Some(0), Some(3)));
    }

    #[test]
    fn nonsense_is_refused() {
        let ok = ConvShape::square(4, 4, 5, 3, 1, 0);
        let refused = [
            ConvShape { ic: 0, ..ok },
            ConvShape { stride: [0, 1], ..ok },
            ConvShape { group: 3, ..ok },
            ConvShape { kernel: [0, 1], ..ok },
            ConvShape { pad_after: [usize::MAX, 0], ..ok },
            ConvShape { dilation: [usize::MAX, 1], ..ok },
            ConvShape { batch: usize::MAX / 8, ..ok },
            ConvShape { batch: usize::MAX / 8, input: [0, 5], ..ok },
            ConvShape { batch: 0, input: [usize::MAX / 8, 5], ..ok },
        ];
        for shape in refused {
            assert!(ConvGeometry::new(shape).is_err(), "{shape:?}");
        }
    }
}
