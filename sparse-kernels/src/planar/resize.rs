//! Planes of another size: every output pixel is a weighted sum of some input pixels, down the columns, then
//! along the rows.
//!
//! The sums are those of a resize axis by axis, in the same order. The rows between the two halves are made some at
//! a time and stay in cache.
//!
//! Down the columns, whole rows are added up. Along the rows, neighbouring outputs read neighbouring inputs
//! at distances that differ from place to place: a gather, pixel by pixel. Outputs with as many taps as the ones before are
//! summed in loops of so many, some rows at a time, which share what is known of the taps: where they are, that they are
//! inside of the row, their weights. Only an enlargement to twice the size, by far the most frequent, has a loop
//! without a gather: there two neighbouring outputs read the same two inputs with weights that are everywhere
//! the same.

mod quads;

use super::planes;
use crate::error::KernelError;
use crate::scratch;
use crate::target::Target;
use crate::work::{Work, on};
use std::ops::Range;

/// Which pixels of an axis every output is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    input: usize,
    /// First tap of every output, and the number of taps.
    starts: Vec<u32>,
    /// Input pixels, each less than `input`.
    indices: Vec<u32>,
    weights: Vec<f32>,
    /// All outputs, those with the same number of taps together.
    runs: Vec<Range<usize>>,
    doubled: Option<Doubled>,
}

/// Outputs `first + 2 i` and the one behind, for `i < pairs`, are sums of inputs `from + i` and the one
/// behind.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Doubled {
    first: usize,
    from: usize,
    pairs: usize,
    weights: [[f32; 2]; 2],
}

impl Taps {
    /// An axis of `input` pixels: `window` taps of every output, `indices` with `weights`. Taps of weight 0
    /// are left out, so that they do not make a NaN of an infinite pixel.
    ///
    /// # Errors
    /// Slices that are not of one length or no multiple of `window`; an index outside of the input.
    pub fn new(input: usize, window: usize, indices: &[usize], weights: &[f32]) -> Result<Taps, KernelError> {
        if indices.len() != weights.len() || window == 0 || !indices.len().is_multiple_of(window) {
            let expected = weights.len().next_multiple_of(window.max(1));
            return Err(KernelError::Length { what: "taps", expected, got: indices.len() });
        }
        if input > u32::MAX as usize || indices.len() > u32::MAX as usize {
            return Err(KernelError::Geometry("an axis is too long to resize".into()));
        }
        if let Some(index) = indices.iter().find(|index| **index >= input) {
            return Err(KernelError::Geometry(format!("pixel {index} of an axis of {input}")));
        }
        let mut taps =
            Taps { input, starts: vec![0], indices: vec![], weights: vec![], runs: vec![], doubled: None };
        for (indices, weights) in indices.chunks_exact(window).zip(weights.chunks_exact(window)) {
            for (index, weight) in indices.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
                taps.indices.push(*index as u32);
                taps.weights.push(*weight);
            }
            taps.starts.push(taps.indices.len() as u32);
        }
        taps.runs = taps.find_runs();
        taps.doubled = taps.find_doubled();
        Ok(taps)
    }

    fn find_runs(&self) -> Vec<Range<usize>> {
        let lens: Vec<usize> = (0..self.output()).map(|output| self.of(output).len()).collect();
        let mut end = 0;
        lens.chunk_by(|a, b| a == b)
            .map(|run| {
                end += run.len();
                end - run.len()..end
            })
            .collect()
    }

    /// Output pixels.
    pub fn output(&self) -> usize {
        self.starts.len() - 1
    }

    /// The taps of an output.
    #[inline(always)]
    fn of(&self, output: usize) -> Range<usize> {
        self.starts[output] as usize..self.starts[output + 1] as usize
    }

    /// The longest run of pairs of outputs, from the first or the second output on, that [`Doubled`]
    /// describes.
    fn find_doubled(&self) -> Option<Doubled> {
        let pair = |output: usize| {
            let taps = self.of(output);
            let (i, w) = (self.indices.get(taps.clone())?, self.weights.get(taps)?);
            match (i, w) {
                ([a, b], [v, w]) if *b == a + 1 => Some((*a as usize, [*v, *w])),
                _ => None,
            }
        };
        let run = |first: usize| {
            let (from, even) = (first + 1 < self.output()).then(|| pair(first)).flatten()?;
            let odd = pair(first + 1)?.1;
            let fits = |i: &usize| {
                let at = first + 2 * i;
                at + 1 < self.output()
                    && pair(at) == Some((from + i, even))
                    && pair(at + 1) == Some((from + i, odd))
            };
            let pairs = (0..).take_while(fits).count();
            Some(Doubled { first, from, pairs, weights: [even, odd] })
        };
        (0..4).filter_map(run).max_by_key(|run| run.pairs).filter(|run| run.pairs >= 4)
    }
}

/// A resize of planes; an axis without taps keeps its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    input: [usize; 2],
    output: [usize; 2],
    down: Option<Taps>,
    along: Option<Taps>,
}

impl Resize {
    /// From planes of `input` rows and columns; axes without taps stay as they are.
    ///
    /// # Errors
    /// Taps of an axis of another length.
    pub fn new(input: [usize; 2], down: Option<Taps>, along: Option<Taps>) -> Result<Resize, KernelError> {
        for (what, taps, expected) in [("rows", &down, input[0]), ("columns", &along, input[1])] {
            if let Some(taps) = taps
                && taps.input != expected
            {
                return Err(KernelError::Length { what, expected, got: taps.input });
            }
        }
        if input[0].checked_mul(input[1]).is_none() {
            return Err(KernelError::Geometry("a plane is too large to resize".into()));
        }
        let length = |taps: &Option<Taps>, input| taps.as_ref().map_or(input, Taps::output);
        let output = [length(&down, input[0]), length(&along, input[1])];
        if output[0].checked_mul(output[1]).is_none() {
            return Err(KernelError::Geometry("a plane is too large to resize to".into()));
        }
        Ok(Resize { input, output, down, along })
    }

    /// Pixels of an input plane.
    pub fn x_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Pixels of an output plane.
    pub fn y_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Resizes `x`, any number of planes, into `y`, as many.
    ///
    /// # Errors
    /// Slices of another length.
    pub fn run(&self, target: Target, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        planes(x, self.x_plane(), y, self.y_plane())?;
        if !y.is_empty() {
            let rows = (ROWS / self.input[1].max(1)).clamp(1, self.output[0]);
            let job = |between: &mut [f32]| on(target, Job { resize: self, x, y, between });
            scratch::with(rows * self.input[1], job);
        }
        Ok(())
    }
}

/// Floats of the rows between the two halves: half of a first-level cache.
const ROWS: usize = (16 << 10) / size_of::<f32>();

struct Job<'a> {
    resize: &'a Resize,
    x: &'a [f32],
    y: &'a mut [f32],
    /// Some rows as long as those of the input.
    between: &'a mut [f32],
}

impl Work for Job<'_> {
    #[inline(always)]
    fn run(self) {
        let Job {
            resize: Resize { input: [height, width], output: [rows, columns], down, along },
            x,
            y,
            between,
        } = self;
        let (width, columns) = (*width, *columns);
        let block = between.len().checked_div(width).unwrap_or(1);
        for (plane, y) in x.chunks_exact((height * width).max(1)).zip(y.chunks_exact_mut(rows * columns)) {
            for (block, y) in (0..*rows).step_by(block).zip(y.chunks_mut(block * columns)) {
                let rows = y.len() / columns;
                let between = match (down, along) {
                    (Some(down), Some(_)) => {
                        let between = &mut between[..rows * width];
                        for (row, out) in between.chunks_exact_mut(width).enumerate() {
                            add_rows(plane, width, down, block + row, out);
                        }
                        &*between
                    }
                    (Some(down), None) => {
                        for (row, out) in y.chunks_exact_mut(width).enumerate() {
                            add_rows(plane, width, down, block + row, out);
                        }
                        continue;
                    }
                    (None, _) => &plane[block * width..][..rows * width],
                };
                match along {
                    Some(along) => gather(between, width, along, y),
                    None => y.copy_from_slice(between),
                }
            }
        }
    }
}

/// One row between the rows of a plane, in one pass for the usual numbers of taps.
#[inline(always)]
fn add_rows(plane: &[f32], width: usize, down: &Taps, output: usize, out: &mut [f32]) {
    let line = |tap: usize| (down.weights[tap], &plane[down.indices[tap] as usize * width..][..width]);
    let taps = down.of(output);
    let first = taps.start;
    match taps.len() {
        1 => {
            let (v, a) = line(first);
            out.iter_mut().zip(a).for_each(|(out, a)| *out = 0.0 + v * a);
        }
        2 => {
            let [(v, a), (w, b)] = [0, 1].map(|tap| line(first + tap));
            for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                *out = 0.0 + v * a + w * b;
            }
        }
        4 => {
            let [(u, a), (v, b), (w, c), (x, d)] = [0, 1, 2, 3].map(|tap| line(first + tap));
            for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out = 0.0 + u * a + v * b + w * c + x * d;
            }
        }
        _ => {
            out.fill(0.0);
            for (weight, line) in taps.map(line) {
                out.iter_mut().zip(line).for_each(|(out, x)| *out += weight * x);
            }
        }
    }
}

/// All outputs of some rows of `width` pixels.
#[inline(always)]
fn gather(rows: &[f32], width: usize, along: &Taps, out: &mut [f32]) {
    let columns = along.output();
    let Some(Doubled { first, from, pairs, weights: [even, odd] }) = along.doubled else {
        return sums(rows, width, along, out, 0..columns);
    };
    let double = |row: &[f32], out: &mut [f32], pairs: usize| {
        let (left, right) = (&row[from..][..pairs], &row[from + 1..][..pairs]);
        for ((out, a), b) in out[first..][..2 * pairs].chunks_exact_mut(2).zip(left).zip(right) {
            out[0] = 0.0 + even[0] * a + even[1] * b;
            out[1] = 0.0 + odd[0] * a + odd[1] * b;
        }
    };
    if columns == 2 * width {
        // Rows are often short: all of them in one loop, as if they were one. The pairs across two rows are what
        // the single outputs are written over.
        double(rows, out, pairs + (rows.len() - width));
    } else {
        rows.chunks_exact(width)
            .zip(out.chunks_exact_mut(columns))
            .for_each(|(row, out)| double(row, out, pairs));
    }
    let end = first + 2 * pairs;
    sums(rows, width, along, out, 0..first);
    sums(rows, width, along, out, end..columns);
}

/// Rows that are gathered from at a time.
const LINES: usize = 4;

/// Some outputs of some rows of `width` pixels, run by run.
#[inline(always)]
fn sums(rows: &[f32], width: usize, along: &Taps, out: &mut [f32], outputs: Range<usize>) {
    let columns = along.output();
    for run in &along.runs {
        let run = run.start.max(outputs.start)..run.end.min(outputs.end);
        if run.is_empty() {
            continue;
        }
        let (many, few) = (LINES * width, LINES * columns);
        for (rows, out) in rows.chunks(many).zip(out.chunks_mut(few)) {
            if rows.len() == many {
                lines::<LINES>(rows, width, along, out, &run);
            } else {
                for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(columns)) {
                    lines::<1>(row, width, along, out, &run);
                }
            }
        }
    }
}

/// Outputs of a run, of `R` rows.
#[inline(always)]
fn lines<const R: usize>(rows: &[f32], width: usize, along: &Taps, out: &mut [f32], run: &Range<usize>) {
    let columns = along.output();
    let x: [&[f32]; R] = std::array::from_fn(|r| &rows[r * width..][..width]);
    let mut y = out.chunks_exact_mut(columns).map(|out| &mut out[run.clone()]);
    let y: [&mut [f32]; R] = std::array::from_fn(|_| y.next().expect("there are as many rows"));
    match along.of(run.start).len() {
        1 => same::<R, 1>(x, along, y, run),
        2 => same::<R, 2>(x, along, y, run),
        4 => same::<R, 4>(x, along, y, run),
        _ => {
            for (x, y) in x.iter().zip(y) {
                for (output, y) in run.clone().zip(y) {
                    let taps = along.of(output);
                    *y = 0.0;
                    for (index, weight) in along.indices[taps.clone()].iter().zip(&along.weights[taps]) {
                        *y += weight * x[*index as usize];
                    }
                }
            }
        }
    }
}

/// Outputs of a run of `T` taps each.
#[inline(always)]
fn same<const R: usize, const T: usize>(
    x: [&[f32]; R],
    along: &Taps,
    y: [&mut [f32]; R],
    run: &Range<usize>,
) {
    let taps = along.starts[run.start] as usize..along.starts[run.end] as usize;
    let (indices, _) = along.indices[taps.clone()].as_chunks::<T>();
    let (weights, _) = along.weights[taps].as_chunks::<T>();
    for (at, (indices, weights)) in indices.iter().zip(weights).enumerate() {
        for r in 0..R {
            let mut sum = 0.0;
            for t in 0..T {
                sum += weights[t] * x[r][indices[t] as usize];
            }
            y[r][at] = sum;
        }
    }
}
