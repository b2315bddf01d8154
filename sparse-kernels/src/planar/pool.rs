//! Maxima and means over windows: first down the columns of a band of rows, then along the row that is left.
//!
//! A window of `kh` by `kw` taps costs `kh + kw` operations a pixel instead of `kh * kw`, and both halves run
//! along rows. The row in between has its padding written out, so that the second half knows no edges. Where windows are
//! two pixels apart, its even and its odd pixels are taken apart first: all taps are neighbours then.

mod quads;

use super::{fold_rows, not_zero, planes};
use crate::error::KernelError;
use crate::geometry::inside;
use crate::scratch;
use crate::target::Target;
use crate::work::{Work, on};
use std::ops::Range;

/// What becomes of the values in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The largest; `f32::MIN` of none. A NaN is no value. (Stock tract keeps one in some
    /// places of a window.)
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
        not_zero("a pooling window", [("kernel", kernel), ("stride", stride), ("dilation", dilation)])?;
        // a single window takes no steps
        let stride = if output > 1 { stride } else { 1 };
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
        let block = Block::new(down, along);
        let job = |rows: &mut [f32]| {
            let (columns, rows) = rows.split_at_mut(block.columns(along));
            let (apart, folded) = rows.split_at_mut(block.apart(along));
            let job = Job { down, along, counts: &counts, x, y, block, columns, apart, folded };
            if block.whole {
                return match self.pooling {
                    Pooling::Max => on(target, Whole(job, Max)),
                    Pooling::Sum | Pooling::Mean => on(target, Whole(job, Add)),
                };
            }
            match (self.pooling, along.stride) {
                (Pooling::Max, 1) => on(target, Strided::<Max, 1>(job, Max)),
                (Pooling::Max, 2) => on(target, Strided::<Max, 2>(job, Max)),
                (Pooling::Max, _) => on(target, Strided::<Max, 0>(job, Max)),
                (Pooling::Sum | Pooling::Mean, 1) => on(target, Strided::<Add, 1>(job, Add)),
                (Pooling::Sum | Pooling::Mean, 2) => on(target, Strided::<Add, 2>(job, Add)),
                (Pooling::Sum | Pooling::Mean, _) => on(target, Strided::<Add, 0>(job, Add)),
            }
        };
        scratch::with(block.columns(along) + block.apart(along) + block.rows * block.windows, job);
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
    block: Block,
    /// [`Block::columns`] floats.
    columns: &'a mut [f32],
    /// [`Block::apart`] floats.
    apart: &'a mut [f32],
    /// `rows * windows` of the block.
    folded: &'a mut [f32],
}

/// Output rows that are computed together. Rows are often short: the windows of some are folded in one loop, as if
/// they were one row, which also computes windows between two rows that nobody wants.
#[derive(Debug, Clone, Copy)]
struct Block {
    rows: usize,
    /// Floats of a row of columns that have been folded, a multiple of the stride.
    row: usize,
    /// Windows of such a row, with those that nobody wants.
    windows: usize,
    /// The window is the plane.
    whole: bool,
}

impl Block {
    fn new(down: &PoolAxis, along: &PoolAxis) -> Block {
        /// What leaves a first-level cache room for as much again, and for the rows that are read.
        const FLOATS: usize = (8 << 10) / size_of::<f32>();
        let row = along.row().next_multiple_of(along.stride);
        let rows = (FLOATS / row).clamp(1, down.output.max(1));
        let whole = |axis: &PoolAxis| {
            (axis.output, axis.kernel, axis.dilation, axis.pad_before) == (1, axis.input, 1, 0)
        };
        Block { rows, row, windows: row / along.stride, whole: whole(down) && whole(along) }
    }

    /// Floats of all rows of columns, as far as any window reaches.
    fn columns(&self, along: &PoolAxis) -> usize {
        self.rows * self.row + (along.kernel - 1) * along.dilation + along.stride
    }

    /// Floats of the even and the odd ones of these, taken apart for windows that are two pixels apart.
    fn apart(&self, along: &PoolAxis) -> usize {
        if along.stride == 2 { self.columns(along).next_multiple_of(2) } else { 0 }
    }
}

/// Windows that are the plane: one value for each.
struct Whole<'a, F>(Job<'a>, F);

impl<F: Fold> Work for Whole<'_, F> {
    #[inline(always)]
    fn run(self) {
        const LANES: usize = 16;
        let Job { down, along, counts, x, y, .. } = self.0;
        for (plane, y) in x.chunks_exact((down.input * along.input).max(1)).zip(y) {
            let mut lanes = [F::NEUTRAL; LANES];
            let mut pixels = plane.chunks_exact(LANES);
            for pixels in &mut pixels {
                for (a, b) in lanes.iter_mut().zip(pixels) {
                    *a = F::fold(*a, *b);
                }
            }
            let all = lanes.iter().chain(pixels.remainder()).fold(F::NEUTRAL, |a, b| F::fold(a, *b));
            *y = match counts {
                [columns, ..] => all * ((down.count(0) * columns) as f32).recip(),
                [] => all,
            };
        }
    }
}

/// The loop for a stride along rows that is a constant, or any if it is 0.
struct Strided<'a, F, const S: usize>(Job<'a>, F);

impl<F: Fold, const S: usize> Work for Strided<'_, F, S> {
    #[inline(always)]
    fn run(self) {
        let Job { down, along, counts, x, y, block, columns, apart, folded } = self.0;
        let (even, odd) = apart.split_at_mut(apart.len() / 2);
        let stride = if S == 0 { along.stride } else { S };
        // the padding of rows is written once
        columns.fill(F::NEUTRAL);
        let mut lines = y.chunks_exact_mut(along.output);
        for plane in 0..y_planes(x.len(), down, along, lines.len()) {
            let plane = &x[plane * down.input * along.input..][..down.input * along.input];
            for first in (0..down.output).step_by(block.rows) {
                let rows = block.rows.min(down.output - first);
                for row in 0..rows {
                    let column = &mut columns[row * block.row + along.pad_before..][..along.input];
                    fold_lines::<F>(plane, down, first + row, column);
                }
                let folded = &mut folded[..rows * block.windows];
                let (taps, dilation) = (along.kernel, along.dilation);
                match S {
                    1 => fold_rows(folded, taps, |tap| &columns[tap * dilation..], F::NEUTRAL, F::fold),
                    2 => {
                        take_apart(columns, even, odd);
                        let halves = [&*even, &*odd];
                        let tap = |tap: usize| &halves[tap * dilation % 2][tap * dilation / 2..];
                        fold_rows(folded, taps, tap, F::NEUTRAL, F::fold);
                    }
                    _ => {
                        for (at, window) in folded.iter_mut().enumerate() {
                            let tap = |tap: usize| columns[at * stride + tap * dilation];
                            *window = (0..taps).fold(F::NEUTRAL, |all, at| F::fold(all, tap(at)));
                        }
                    }
                }
                for row in 0..rows {
                    let Some(out) = lines.next() else { return };
                    out.copy_from_slice(&folded[row * block.windows..][..along.output]);
                    if !counts.is_empty() {
                        let rows = down.count(first + row);
                        for (sum, columns) in out.iter_mut().zip(counts) {
                            *sum *= ((rows * columns) as f32).recip();
                        }
                    }
                }
            }
        }
    }
}

/// The even and the odd values of a row.
#[inline(always)]
fn take_apart(row: &[f32], even: &mut [f32], odd: &mut [f32]) {
    const RUN: usize = 16;
    let (runs, rest) = row.as_chunks::<{ 2 * RUN }>();
    let (even_runs, even_rest) = even.as_chunks_mut::<RUN>();
    let (odd_runs, odd_rest) = odd.as_chunks_mut::<RUN>();
    for ((run, even), odd) in runs.iter().zip(&mut *even_runs).zip(&mut *odd_runs) {
        *even = std::array::from_fn(|i| run[2 * i]);
        *odd = std::array::from_fn(|i| run[2 * i + 1]);
    }
    let done = runs.len();
    let even_rest = even_runs[done..].as_flattened_mut().iter_mut().chain(even_rest);
    let odd_rest = odd_runs[done..].as_flattened_mut().iter_mut().chain(odd_rest);
    for ((values, even), odd) in rest.chunks(2).zip(even_rest).zip(odd_rest) {
        *even = values[0];
        if let [_, value] = values {
            *odd = *value;
        }
    }
}

/// All columns of the rows under output row `window`.
#[inline(always)]
fn fold_lines<F: Fold>(plane: &[f32], down: &PoolAxis, window: usize, out: &mut [f32]) {
    let width = out.len();
    let line = |tap: usize| {
        let line = window * down.stride + tap * down.dilation - down.pad_before;
        &plane[line * width..][..width]
    };
    let taps = down.taps(window);
    fold_rows(out, taps.len(), |tap| line(taps.start + tap), F::NEUTRAL, F::fold);
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
