//! Maxima and means over windows: first down the columns of a band of rows, then along the row that is left.
//!
//! A window of `kh` by `kw` taps costs `kh + kw` operations a pixel instead of `kh * kw`, and both halves run
//! along rows. The row in between has its padding written out, so that the second half knows no edges.

use super::planes;
use crate::error::KernelError;
use crate::geometry::inside;
use crate::scratch;
use crate::target::Target;
use crate::work::{Work, on};
use std::ops::Range;

/// What becomes of the values in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The largest; `f32::MIN` of none. A NaN is no value.
    Max,
    /// The sum.
    Sum,
    /// The sum over the number of values, padding that counts (see [`PoolAxis::counting`]) included.
    Mean,
}

/// One axis of a pooling window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolAxis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad_before: usize,
    /// Pixels from the first one of the padding that count for a mean; `None` if only those of the input do.
    counting: Option<usize>,
}

impl PoolAxis {
    /// An axis of `input` pixels that `output` windows of `kernel` taps, `dilation` apart, go over in steps
    /// of `stride`, the first of them `pad_before` pixels ahead of the input.
    ///
    /// # Errors
    /// A kernel, stride or dilation of zero, or sizes whose sums are too large to count.
    pub fn new(
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        dilation: usize,
        pad_before: usize,
    ) -> Result<PoolAxis, KernelError> {
        for (what, value) in [("kernel", kernel), ("stride", stride), ("dilation", dilation)] {
            if value == 0 {
                return Err(KernelError::Geometry(format!("the {what} of a pooling window is 0")));
            }
        }
        let reach = output.max(1).checked_mul(stride).zip(kernel.checked_mul(dilation));
        let reach = reach
            .and_then(|(steps, taps)| steps.checked_add(taps)?.checked_add(input)?.checked_add(pad_before));
        if reach.is_none_or(|reach| reach > u32::MAX as usize) {
            return Err(KernelError::Geometry("a pooling window reaches too far".into()));
        }
        Ok(PoolAxis { input, output, kernel, stride, dilation, pad_before, counting: None })
    }

    /// The same axis, of which for a mean the first `padded` pixels count, from the first one of the padding
    /// on, whether or not they are inside the input.
    pub fn counting(self, padded: usize) -> PoolAxis {
        PoolAxis { counting: Some(padded), ..self }
    }

    /// The taps of a window that are inside the input.
    #[inline(always)]
    fn taps(&self, window: usize) -> Range<usize> {
        inside(self.pad_before, self.input, window * self.stride, self.dilation, self.kernel)
    }

    /// Values that count for the mean of a window.
    fn count(&self, window: usize) -> usize {
        match self.counting {
            Some(padded) => inside(0, padded, window * self.stride, self.dilation, self.kernel).len(),
            None => self.taps(window).len(),
        }
    }

    /// Floats of a row with its padding, as far as any window or input pixel goes.
    fn row(&self) -> usize {
        let windows = self.output.max(1) * self.stride + (self.kernel - 1) * self.dilation;
        windows.max(self.pad_before + self.input)
    }
}

/// A pooling of planes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pool {
    pooling: Pooling,
    /// Down and along.
    axes: [PoolAxis; 2],
}

impl Pool {
    /// Windows over rows (`down`) and columns (`along`).
    pub fn new(pooling: Pooling, down: PoolAxis, along: PoolAxis) -> Pool {
        Pool { pooling, axes: [down, along] }
    }

    /// Pixels of an output plane.
    pub fn y_plane(&self) -> usize {
        self.axes[0].output * self.axes[1].output
    }

    /// Pixels of an input plane.
    pub fn x_plane(&self) -> usize {
        self.axes[0].input * self.axes[1].input
    }

    /// Pools `x`, any number of planes, into `y`, as many.
    ///
    /// # Errors
    /// Slices of another length.
    pub fn run(&self, target: Target, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        planes(x, self.x_plane(), y, self.y_plane())?;
        if y.is_empty() {
            return Ok(());
        }
        let [down, along] = &self.axes;
        let counts: Vec<usize> = match self.pooling {
            Pooling::Mean => (0..along.output).map(|window| along.count(window)).collect(),
            Pooling::Max | Pooling::Sum => vec![],
        };
        let job = |row: &mut [f32]| {
            let job = Job { down, along, counts: &counts, x, y, row };
            match (self.pooling, along.stride) {
                (Pooling::Max, 1) => on(target, Strided::<Max, 1>(job, Max)),
                (Pooling::Max, 2) => on(target, Strided::<Max, 2>(job, Max)),
                (Pooling::Max, _) => on(target, Strided::<Max, 0>(job, Max)),
                (Pooling::Sum | Pooling::Mean, 1) => on(target, Strided::<Add, 1>(job, Add)),
                (Pooling::Sum | Pooling::Mean, 2) => on(target, Strided::<Add, 2>(job, Add)),
                (Pooling::Sum | Pooling::Mean, _) => on(target, Strided::<Add, 0>(job, Add)),
            }
        };
        scratch::with(along.row(), job);
        Ok(())
    }
}

/// How two values become one.
trait Fold {
    const NEUTRAL: f32;
    fn fold(a: f32, b: f32) -> f32;
}

struct Max;

impl Fold for Max {
    const NEUTRAL: f32 = f32::MIN;

    #[inline(always)]
    fn fold(a: f32, b: f32) -> f32 {
        if a < b { b } else { a }
    }
}

struct Add;

impl Fold for Add {
    const NEUTRAL: f32 = 0.0;

    #[inline(always)]
    fn fold(a: f32, b: f32) -> f32 {
        a + b
    }
}

struct Job<'a> {
    down: &'a PoolAxis,
    along: &'a PoolAxis,
    /// Values that count along every window, for a mean.
    counts: &'a [usize],
    x: &'a [f32],
    y: &'a mut [f32],
    /// [`PoolAxis::row`] floats.
    row: &'a mut [f32],
}

/// The loop for a stride along rows that is a constant, or any if it is 0.
struct Strided<'a, F, const S: usize>(Job<'a>, F);

impl<F: Fold, const S: usize> Work for Strided<'_, F, S> {
    #[inline(always)]
    fn run(self) {
        let Job { down, along, counts, x, y, row } = self.0;
        let stride = if S == 0 { along.stride } else { S };
        row.fill(F::NEUTRAL);
        let inside = along.pad_before..along.pad_before + along.input;
        let mut lines = y.chunks_exact_mut(along.output);
        for plane in 0..y_planes(x.len(), down, along, lines.len()) {
            let plane = &x[plane * down.input * along.input..][..down.input * along.input];
            for window in 0..down.output {
                let Some(out) = lines.next() else { return };
                let column = &mut row[inside.clone()];
                column.fill(F::NEUTRAL);
                for tap in down.taps(window) {
                    let line = window * down.stride + tap * down.dilation - down.pad_before;
                    let line = &plane[line * along.input..][..along.input];
                    for (a, b) in column.iter_mut().zip(line) {
                        *a = F::fold(*a, *b);
                    }
                }
                out.fill(F::NEUTRAL);
                for tap in 0..along.kernel {
                    let from = &row[tap * along.dilation..];
                    if S == 1 {
                        for (a, b) in out.iter_mut().zip(from) {
                            *a = F::fold(*a, *b);
                        }
                    } else {
                        for (a, b) in out.iter_mut().zip(from.chunks_exact(stride)) {
                            *a = F::fold(*a, b[0]);
                        }
                    }
                }
                if !counts.is_empty() {
                    let rows = down.count(window);
                    for (sum, columns) in out.iter_mut().zip(counts) {
                        *sum *= ((rows * columns) as f32).recip();
                    }
                }
            }
        }
    }
}

/// Planes of the output, of `rows` rows in all.
#[inline(always)]
fn y_planes(x: usize, down: &PoolAxis, along: &PoolAxis, rows: usize) -> usize {
    match x / (down.input * along.input).max(1) {
        // an input without pixels still has windows over its padding
        0 => rows / down.output.max(1),
        planes => planes,
    }
}
