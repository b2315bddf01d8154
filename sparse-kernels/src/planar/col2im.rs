//! What makes a transposed convolution of a matrix product: the products of every pixel and tap, added up where
//! they belong ("col2im").
//!
//! Along a row, a tap goes to every `stride`-th output. Outputs that are a stride apart are kept together, one row
//! for each phase, so that a tap is the sum of two contiguous rows; phases are put in turn when all taps are there.
//! An output row takes the taps in their order, after the bias.

use super::not_zero;
use crate::error::KernelError;
use crate::scratch;
use crate::target::Target;
use crate::work::{Work, on};

/// One axis of a transposed convolution: tap `t` of input pixel `i` belongs to output pixel
/// `i * stride + t * dilation - pad_before`, if there is such a one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Col2imAxis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad_before: usize,
}

impl Col2imAxis {
    /// An axis of `input` pixels and of `output` ones.
    ///
    /// # Errors
    /// A stride or dilation of zero, or sizes whose sums are too large to count.
    pub fn new(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad_before: usize,
    ) -> Result<Col2imAxis, KernelError> {
        not_zero("a transposed convolution", [("stride", stride), ("dilation", dilation)])?;
        let reach = input.checked_mul(stride).zip(kernel.checked_mul(dilation));
        let reach = reach
            .and_then(|(steps, taps)| steps.checked_add(taps)?.checked_add(output)?.checked_add(pad_before));
        if reach.is_none_or(|reach| reach > u32::MAX as usize) {
            return Err(KernelError::Geometry("a transposed convolution reaches too far".into()));
        }
        Ok(Col2imAxis { input, output, kernel, stride, dilation, pad_before })
    }

    /// The taps that belong to an output pixel, each with its input pixel.
    #[inline(always)]
    fn taps(&self, output: usize) -> impl Iterator<Item = (usize, usize)> {
        let at = output + self.pad_before;
        (0..self.kernel).filter_map(move |tap| {
            let steps = at.checked_sub(tap * self.dilation)?;
            let input = steps / self.stride;
            (steps.is_multiple_of(self.stride) && input < self.input).then_some((tap, input))
        })
    }

    /// Floats of a phase, as far as any tap or output reaches.
    fn phase(&self) -> usize {
        let taps = self.kernel.saturating_sub(1) * self.dilation / self.stride + self.input;
        taps.max((self.pad_before + self.output).div_ceil(self.stride))
    }
}

/// The sums of a transposed convolution.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Col2im {
    down: Col2imAxis,
    along: Col2imAxis,
}

impl Col2im {
    /// Over rows (`down`) and columns (`along`).
    ///
    /// # Errors
    /// Planes that are too large to count.
    pub fn new(down: Col2imAxis, along: Col2imAxis) -> Result<Col2im, KernelError> {
        let taps = down.kernel.checked_mul(along.kernel);
        let pixels = down.input.checked_mul(along.input);
        let columns = taps.zip(pixels).and_then(|(taps, pixels)| taps.checked_mul(pixels));
        if columns.is_none() || down.output.checked_mul(along.output).is_none() {
            return Err(KernelError::Geometry("a plane of a transposed convolution is too large".into()));
        }
        Ok(Col2im { down, along })
    }

    /// Products of an output plane: of each tap, row by row, each pixel of the input.
    pub fn x_plane(&self) -> usize {
        let [down, along] = [&self.down, &self.along];
        down.kernel * along.kernel * down.input * along.input
    }

    /// Pixels of an output plane.
    pub fn y_plane(&self) -> usize {
        self.down.output * self.along.output
    }

    /// Adds up the products `x` of as many planes as there are in `bias`, each from its bias on, into `y`.
    ///
    /// # Errors
    /// Slices of another length.
    pub fn run(&self, target: Target, x: &[f32], bias: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        let planes = bias.len();
        for (what, got, plane) in [("products", x.len(), self.x_plane()), ("output", y.len(), self.y_plane())]
        {
            let expected = planes.saturating_mul(plane);
            if got != expected {
                return Err(KernelError::Length { what, expected, got });
            }
        }
        if !y.is_empty() {
            let stride = self.along.stride;
            scratch::with(stride * self.along.phase(), |phases| {
                let job = Job { sums: self, x, bias, y, phases };
                match stride {
                    1 => on(target, Strided::<1>(job)),
                    2 => on(target, Strided::<2>(job)),
                    _ => on(target, Strided::<0>(job)),
                }
            });
        }
        Ok(())
    }
}

struct Job<'a> {
    sums: &'a Col2im,
    x: &'a [f32],
    bias: &'a [f32],
    y: &'a mut [f32],
    /// One [`Col2imAxis::phase`] for each pixel of the stride.
    phases: &'a mut [f32],
}

/// The loop for a stride along rows that is a constant, or any if it is 0.
struct Strided<'a, const S: usize>(Job<'a>);

impl<const S: usize> Work for Strided<'_, S> {
    #[inline(always)]
    fn run(self) {
        let Job { sums, x, bias, y, phases } = self.0;
        let Col2im { down, along } = sums;
        let (stride, phase) = (if S == 0 { along.stride } else { S }, along.phase());
        let pixels = down.input * along.input;
        for (plane, (y, bias)) in y.chunks_exact_mut(sums.y_plane()).zip(bias).enumerate() {
            let x = &x[plane * sums.x_plane()..][..sums.x_plane()];
            for (row, y) in y.chunks_exact_mut(along.output).enumerate() {
                phases.fill(*bias);
                for (tap, input) in down.taps(row) {
                    for column in 0..along.kernel {
                        let products = &x[(tap * along.kernel + column) * pixels + input * along.input..];
                        let at = column * along.dilation;
                        let sums = &mut phases[at % stride * phase + at / stride..][..along.input];
                        for (sum, product) in sums.iter_mut().zip(products) {
                            *sum += product;
                        }
                    }
                }
                let from = |first: usize| {
                    let at = along.pad_before + first;
                    &phases[at % stride * phase + at / stride..][..(along.output - first).div_ceil(stride)]
                };
                match S {
                    1 => y.copy_from_slice(from(0)),
                    2 if along.output > 1 => {
                        let (even, odd) = (from(0), from(1));
                        for (pair, (even, odd)) in y.chunks_exact_mut(2).zip(even.iter().zip(odd)) {
                            pair[0] = *even;
                            pair[1] = *odd;
                        }
                        if let ([.., last], true) = (y, even.len() > odd.len()) {
                            *last = even[odd.len()];
                        }
                    }
                    _ => {
                        for first in 0..stride.min(along.output) {
                            let outputs = y[first..].iter_mut().step_by(stride);
                            outputs.zip(from(first)).for_each(|(y, sum)| *y = *sum);
                        }
                    }
                }
            }
        }
    }
}
