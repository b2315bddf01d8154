//! What an arrangement of channels is worth to a layer: the norm that its groups keep, as a whole and per exchange.

use crate::apply::{L1, Method, Planned};
use crate::channels::Channels;
use crate::labels::Label;
use anyhow::{Context, Result};
use sparsity::Structure;
use sparsity::patterns::channel_groups;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::iter::Sum;
use std::ops::Add;
use tract_onnx::pb::ModelProto;

/// How the norm of a group follows from the sums of its taps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Norm {
    Sum,
    /// Of every `share` rows of the group the centre and the best three of the others: the 56 patterns are all choices
    /// of three.
    FourOfNine {
        share: usize,
    },
    /// The middle column, and the better end of each row; `full_ones` of the groups keep all.
    SixOfNine {
        full_ones: f64,
    },
    /// Of every four columns the best two, row by row and tap by tap: no function of sums.
    TwoOfFour,
}

impl Norm {
    fn new(structure: Structure) -> Norm {
        match structure {
            Structure::Blocks(_) => Norm::Sum,
            Structure::FiveOfNine(patterns) => Norm::FourOfNine { share: patterns.filters() },
            Structure::ThreeOfNine(patterns) => Norm::SixOfNine { full_ones: patterns.full_ones() },
            Structure::TwoOfFour => Norm::TwoOfFour,
        }
    }

    /// Sets of rows within a group that have sums of their own.
    fn parts(self) -> usize {
        match self {
            Norm::FourOfNine { share } => 4 / share,
            _ => 1,
        }
    }

    fn of<T: Copy + Default + PartialOrd + Add<Output = T> + Sum>(self, taps: &[T]) -> T {
        match self {
            Norm::Sum | Norm::TwoOfFour => taps.iter().copied().sum(),
            Norm::FourOfNine { .. } => taps.chunks_exact(9).map(four_of_nine).sum(),
            Norm::SixOfNine { .. } => {
                taps.chunks(3).map(|row| row[1] + if row[0] > row[2] { row[0] } else { row[2] }).sum()
            }
        }
    }
}

fn four_of_nine<T: Copy + Default + PartialOrd + Add<Output = T> + Sum>(taps: &[T]) -> T {
    let mut top = [T::default(); 3];
    for (_, v) in taps.iter().enumerate().filter(|(tap, _)| *tap != 4) {
        if *v > top[0] {
            top = [*v, top[0], top[1]];
        } else if *v > top[1] {
            top = [top[0], *v, top[1]];
        } else if *v > top[2] {
            top[2] = *v;
        }
    }
    taps[4] + top.into_iter().sum()
}

/// The magnitudes of a layer's weights in the present arrangement.
#[derive(Clone)]
pub(crate) struct Matrix {
    norm: Norm,
    /// Taps that matter: 1 for sums.
    taps: usize,
    /// `[row][column][taps]`.
    magnitude: Vec<f32>,
    /// First line of each group of rows and of columns, and the end.
    groups: [Vec<usize>; 2],
    /// The channel that may move at each row and column.
    axes: [Vec<Option<Label>>; 2],
    /// Groups kept; all if none is removed.
    kept: usize,
    total: f64,
    /// Share kept before anything has moved.
    base: f64,
    /// Share kept now, once it has been asked for.
    share: Cell<Option<f64>>,
}

impl Matrix {
    pub(crate) fn new(model: &ModelProto, channels: &Channels, p: &Planned) -> Result<Matrix> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let weights = p.layer.weights(graph)?;
        let shape = p.layer.shape.seen_by(p.wish.structure);
        let (r, c) = p.wish.structure.group();
        let norm = Norm::new(p.wish.structure);
        let taps = if norm == Norm::Sum { 1 } else { shape.taps };
        let magnitude: Vec<f32> = if norm == Norm::Sum {
            weights.chunks(shape.taps).map(|kernel| kernel.iter().map(|w| w.abs()).sum()).collect()
        } else {
            weights.iter().map(|w| w.abs()).collect()
        };
        let starts = |n: usize, size: usize| (0..n).step_by(size).chain([n]).collect::<Vec<_>>();
        let rows = match norm {
            Norm::SixOfNine { .. } => {
                channel_groups(shape.oc, r).map(|g| g.start).chain([shape.oc]).collect()
            }
            _ => {
                let rows = shape.oc / shape.parts;
                let of = |part: usize| (part * rows..(part + 1) * rows).step_by(r);
                (0..shape.parts).flat_map(of).chain([shape.oc]).collect()
            }
        };
        let masker = L1.masker(&p.layer, p.wish.structure, &weights)?;
        let kept = masker.scores().len() - masker.lowest(p.wish.ratio).len();
        let movable: HashSet<u32> = channels.classes.iter().flatten().copied().collect();
        let axis = |axis: usize, n: usize| -> Vec<Option<Label>> {
            let axis = if p.layer.transposed { 1 - axis } else { axis };
            let list = channels.list(p.layer.place, axis).filter(|_| p.layer.is_plain()).unwrap_or(&[]);
            let label = |i: usize| list.get(i).copied().filter(|l: &Label| movable.contains(&l.atom));
            (0..n).map(label).collect()
        };
        // a channel has a column for every tap that stands for itself
        let each = shape.ic / p.layer.shape.ic;
        let column = |label: Option<Label>, tap: usize| {
            label.map(|l| Label { tag: l.tag * each as u32 + tap as u32, ..l })
        };
        // depthwise kernels have no input channels of their own
        let cols = if p.layer.shape.ic == 1 {
            vec![None; shape.ic]
        } else {
            let channels = axis(1, p.layer.shape.ic);
            channels.into_iter().flat_map(|label| (0..each).map(move |tap| column(label, tap))).collect()
        };
        let mut matrix = Matrix {
            norm,
            taps,
            total: magnitude.iter().map(|v| f64::from(*v)).sum::<f64>().max(1e-30),
            magnitude,
            groups: [rows, starts(shape.ic, c)],
            axes: [axis(0, shape.oc), cols],
            kept,
            base: 0.0,
            share: Cell::new(None),
        };
        if norm == Norm::TwoOfFour {
            // each row chooses for itself
            matrix.axes[0].fill(None);
        }
        matrix.base = matrix.share();
        Ok(matrix)
    }

    fn columns(&self) -> usize {
        self.axes[1].len()
    }

    /// Values of a group's sums.
    fn width(&self) -> usize {
        self.taps * self.norm.parts()
    }

    /// Where the taps of a row are among the sums of its group.
    fn offset(&self, row: usize, first: usize) -> usize {
        match self.norm {
            Norm::FourOfNine { share } => (row - first) / share * self.taps,
            _ => 0,
        }
    }

    /// Norm and kernels of every group.
    fn norms(&self) -> Vec<(f64, usize)> {
        let (rows, cols) = (&self.groups[0], &self.groups[1]);
        let mut norms = Vec::with_capacity((rows.len() - 1) * (cols.len() - 1));
        let mut sums = vec![0f64; self.width()];
        for rows in rows.windows(2) {
            for cols in cols.windows(2) {
                sums.fill(0.0);
                for row in rows[0]..rows[1] {
                    let own = &mut sums[self.offset(row, rows[0])..][..self.taps];
                    let cells = &self.magnitude[(row * self.columns() + cols[0]) * self.taps..]
                        [..(cols[1] - cols[0]) * self.taps];
                    for cell in cells.chunks_exact(self.taps) {
                        own.iter_mut().zip(cell).for_each(|(s, v)| *s += f64::from(*v));
                    }
                }
                norms.push((self.norm.of(&sums), (rows[1] - rows[0]) * (cols[1] - cols[0])));
            }
        }
        norms
    }

    /// Norm per kernel below which groups go, or 0 if none goes.
    fn threshold(&self) -> f32 {
        if !self.removes() {
            return 0.0;
        }
        let mut means: Vec<f64> = self.norms().iter().map(|(s, n)| s / *n as f64).collect();
        let at = means.len() - self.kept;
        *means.select_nth_unstable_by(at, f64::total_cmp).1 as f32
    }

    /// Whether some groups go and some stay.
    fn removes(&self) -> bool {
        let groups = (self.groups[0].len() - 1) * (self.groups[1].len() - 1);
        self.kept > 0 && self.kept < groups
    }

    /// Share of the norm that is kept: what pruning by magnitude would keep, exactly.
    pub(crate) fn share(&self) -> f64 {
        let share = self.share.get().unwrap_or_else(|| self.kept_norm() / self.total);
        self.share.set(Some(share));
        share
    }

    fn kept_norm(&self) -> f64 {
        match self.norm {
            Norm::TwoOfFour => self.two_of_four(),
            Norm::SixOfNine { full_ones } => {
                let groups = self.norms();
                let all = self.groups[0].windows(2).map(|rows| {
                    let cells = &self.magnitude[rows[0] * 9..rows[1] * 9];
                    cells.iter().map(|v| f64::from(*v)).sum::<f64>()
                });
                let mut losses: Vec<(f64, usize)> =
                    all.zip(&groups).map(|(all, (six, n))| (all - six, *n)).collect();
                losses.sort_by(|a, b| (b.0 / b.1 as f64).total_cmp(&(a.0 / a.1 as f64)));
                let full = losses.len() - ((1.0 - full_ones) * losses.len() as f64).round() as usize;
                groups.iter().map(|g| g.0).sum::<f64>() + losses[..full].iter().map(|l| l.0).sum::<f64>()
            }
            Norm::Sum | Norm::FourOfNine { .. } => {
                let mut norms = self.norms();
                if self.removes() {
                    norms.sort_by(|a, b| (b.0 / b.1 as f64).total_cmp(&(a.0 / a.1 as f64)));
                    norms.truncate(self.kept);
                }
                norms.iter().map(|n| n.0).sum()
            }
        }
    }

    fn two_of_four(&self) -> f64 {
        let (columns, taps) = (self.columns(), self.taps);
        let whole = columns - columns % 4;
        let mut kept = 0.0;
        for row in self.magnitude.chunks_exact(columns * taps) {
            for four in row[..whole * taps].chunks_exact(4 * taps) {
                for tap in 0..taps {
                    let mut best = [0f32; 2];
                    for v in four[tap..].iter().step_by(taps) {
                        if *v > best[0] {
                            best = [*v, best[0]];
                        } else if *v > best[1] {
                            best[1] = *v;
                        }
                    }
                    kept += f64::from(best[0]) + f64::from(best[1]);
                }
            }
            kept += row[whole * taps..].iter().map(|v| f64::from(*v)).sum::<f64>();
        }
        kept
    }

    /// What it keeps beyond what it kept before anything had moved.
    pub(crate) fn gained(&self) -> f64 {
        self.share() - self.base
    }

    /// Whether an arrangement makes a difference.
    pub(crate) fn matters(&self) -> bool {
        self.norm != Norm::Sum || self.removes()
    }

    /// Whether any of its channels may move.
    pub(crate) fn movable(&self) -> bool {
        self.axes.iter().flatten().any(Option::is_some)
    }

    /// The lines of every channel of `class` along an axis, in the order of its values; `None` if they do not stand there.
    pub(crate) fn lines(&self, axis: usize, class: &[u32]) -> Option<Vec<Vec<usize>>> {
        let mut at: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
        for (line, label) in self.axes[axis].iter().enumerate() {
            if let Some(label) = label {
                at.entry(label.atom).or_default().push((label.tag, line));
            }
        }
        at.values_mut().for_each(|lines| lines.sort_unstable());
        let of = |channel: &u32| at.get(channel).map(|lines| lines.iter().map(|l| l.1).collect());
        class.iter().map(of).collect()
    }

    /// Gives every member of a class the place of another: `order[p]` is the member that comes to the lines of member `p`.
    pub(crate) fn reorder(&mut self, axis: usize, lines: &[Vec<usize>], order: &[usize]) {
        let (rows, cols, taps) = (self.axes[0].len(), self.columns(), self.taps);
        let mut from: Vec<usize> = (0..self.axes[axis].len()).collect();
        for (to, member) in lines.iter().zip(order) {
            to.iter().zip(&lines[*member]).for_each(|(to, line)| from[*to] = *line);
        }
        let mut moved = Vec::with_capacity(self.magnitude.len());
        for row in 0..rows {
            for col in 0..cols {
                let at = if axis == 0 { from[row] * cols + col } else { row * cols + from[col] };
                moved.extend_from_slice(&self.magnitude[at * taps..][..taps]);
            }
        }
        self.magnitude = moved;
        self.share.set(None);
    }
}

/// One axis of a layer, prepared for exchanges of its lines.
pub(crate) struct View {
    /// Line of every member of the class.
    line: Vec<usize>,
    /// Group of every line, where its taps are among the group's sums, and sizes of the groups.
    group: Vec<usize>,
    offset: Vec<usize>,
    size: Vec<usize>,
    other: Vec<usize>,
    /// Sums of each line `[line][other group][part]` and of each group `[group][other group][width]`.
    lines: Vec<f32>,
    part: usize,
    sums: Vec<f32>,
    width: usize,
    /// What the groups of each line of groups are worth.
    worth: Vec<f32>,
    /// Threshold of a group as wide as one line `[other group]`.
    floor: Vec<f32>,
    norm: Norm,
    scale: f64,
    /// What the layer has gained since before anything moved, as exchanges of this view change it.
    gained: f64,
}

impl View {
    /// `None` if the layer's norm is no function of sums, or if channels have several lines: such layers are judged as a
    /// whole, after exchanges that others want.
    pub(crate) fn new(matrix: &Matrix, axis: usize, lines: &[Vec<usize>]) -> Option<View> {
        if matrix.norm == Norm::TwoOfFour || lines.iter().any(|l| l.len() != 1) {
            return None;
        }
        let line: Vec<usize> = lines.iter().flatten().copied().collect();
        let widths = |of: &[usize]| of.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>();
        let groups = |of: &[usize]| -> Vec<usize> {
            widths(of).into_iter().enumerate().flat_map(|(g, n)| vec![g; n]).collect()
        };
        let (size, other) = (widths(&matrix.groups[axis]), widths(&matrix.groups[1 - axis]));
        let (group, of_other) = (groups(&matrix.groups[axis]), groups(&matrix.groups[1 - axis]));
        let row_group = if axis == 0 { &group } else { &of_other };
        let row_offset: Vec<usize> =
            row_group.iter().enumerate().map(|(row, g)| matrix.offset(row, matrix.groups[0][*g])).collect();
        let (taps, width, m) = (matrix.taps, matrix.width(), other.len());
        // a row belongs to one part of its group, a column to all
        let part = if axis == 0 { taps } else { width };
        let mut lines = vec![0f32; group.len() * m * part];
        let mut sums = vec![0f32; size.len() * m * width];
        for (i, cell) in matrix.magnitude.chunks(taps).enumerate() {
            let at = [i / matrix.columns(), i % matrix.columns()];
            let (own, other) = (at[axis], of_other[at[1 - axis]]);
            let offset = row_offset[at[0]];
            let inside = if axis == 0 { 0 } else { offset };
            for (tap, v) in cell.iter().enumerate() {
                lines[(own * m + other) * part + inside + tap] += v;
                sums[(group[own] * m + other) * width + offset + tap] += v;
            }
        }
        let offset = if axis == 0 { row_offset } else { vec![0; group.len()] };
        let mut view = View {
            line,
            group,
            offset,
            size,
            other,
            lines,
            part,
            sums,
            width,
            worth: vec![],
            norm: matrix.norm,
            floor: vec![],
            scale: 1.0 / matrix.total,
            gained: matrix.gained(),
        };
        let threshold = matrix.threshold();
        view.floor = view.other.iter().map(|n| threshold * *n as f32).collect();
        view.worth = (0..view.size.len()).map(|group| view.worth(group)).collect();
        Some(view)
    }

    /// What the groups of a line of groups are worth.
    fn worth(&self, group: usize) -> f32 {
        let (m, width, size) = (self.other.len(), self.width, self.size[group] as f32);
        let sums = self.sums[group * m * width..][..m * width].chunks_exact(width);
        sums.zip(&self.floor).map(|(sums, floor)| (self.norm.of(sums) - size * floor).max(0.0)).sum()
    }

    /// What the layer has gained since before anything moved.
    pub(crate) fn gained(&self) -> f64 {
        self.gained
    }

    /// Share that the layer gains by exchanging the members `p` and `q` of the class.
    pub(crate) fn gain(&self, p: usize, q: usize) -> f64 {
        let (p, q) = (self.line[p], self.line[q]);
        let (a, b) = (self.group[p], self.group[q]);
        let (at_p, at_q) = (self.offset[p], self.offset[q]);
        if a == b && at_p == at_q {
            return 0.0;
        }
        let (m, d, width) = (self.other.len(), self.part, self.width);
        let of_line = |line: usize| line * m * d..(line + 1) * m * d;
        let of_group = |group: usize| group * m * width..(group + 1) * m * width;
        let (part_p, part_q) = (&self.lines[of_line(p)], &self.lines[of_line(q)]);
        let (sum_a, sum_b) = (&self.sums[of_group(a)], &self.sums[of_group(b)]);
        let (size_a, size_b) = (self.size[a] as f32, self.size[b] as f32);
        if self.norm == Norm::Sum {
            let new = exchanged([sum_a, sum_b], [part_p, part_q], [size_a, size_b], &self.floor);
            return f64::from(new - self.worth[a] - self.worth[b]) * self.scale;
        }
        let mut gain = 0f32;
        let (mut new_a, mut new_b) = ([0f32; MOST], [0f32; MOST]);
        for o in 0..m {
            let (new_a, new_b) = (&mut new_a[..width], &mut new_b[..width]);
            new_a.copy_from_slice(&sum_a[o * width..][..width]);
            new_b.copy_from_slice(&sum_b[o * width..][..width]);
            for i in 0..d {
                let change = part_q[o * d + i] - part_p[o * d + i];
                new_a[at_p + i] += change;
                if a == b {
                    new_a[at_q + i] -= change;
                } else {
                    new_b[at_q + i] -= change;
                }
            }
            gain += (self.norm.of(new_a) - size_a * self.floor[o]).max(0.0);
            if a != b {
                gain += (self.norm.of(new_b) - size_b * self.floor[o]).max(0.0);
            }
        }
        let old = if a == b { self.worth[a] } else { self.worth[a] + self.worth[b] };
        f64::from(gain - old) * self.scale
    }

    pub(crate) fn exchange(&mut self, p: usize, q: usize) {
        self.gained += self.gain(p, q);
        let (p, q) = (self.line[p], self.line[q]);
        let (a, b) = (self.group[p], self.group[q]);
        let (m, d, width) = (self.other.len(), self.part, self.width);
        for o in 0..m {
            for i in 0..d {
                let (at_p, at_q) = ((p * m + o) * d + i, (q * m + o) * d + i);
                let change = self.lines[at_q] - self.lines[at_p];
                self.sums[(a * m + o) * width + self.offset[p] + i] += change;
                self.sums[(b * m + o) * width + self.offset[q] + i] -= change;
                self.lines.swap(at_p, at_q);
            }
        }
        for group in [a, b] {
            self.worth[group] = self.worth(group);
        }
    }

    /// Share of the layer's norm that every member of the class has.
    pub(crate) fn shares(&self) -> impl Iterator<Item = f64> {
        let n = self.other.len() * self.part;
        self.line.iter().map(move |line| {
            self.lines[line * n..][..n].iter().map(|v| f64::from(*v)).sum::<f64>() * self.scale
        })
    }
}

/// Sums of a group: nine taps for each of up to four rows.
const MOST: usize = 36;

/// Vector lanes that the inner loop of the search is written for.
const LANES: usize = 8;

/// What two lines of groups are worth with `part[1]` in place of `part[0]` in the first and the other way round in the
/// second. The loop that all time goes into: sums are kept in lanes, since rounding forbids the compiler to do so.
fn exchanged(sum: [&[f32]; 2], part: [&[f32]; 2], size: [f32; 2], floor: &[f32]) -> f32 {
    let one = |a: f32, b: f32, p: f32, q: f32, floor: f32| {
        (a + (q - p) - size[0] * floor).max(0.0) + (b - (q - p) - size[1] * floor).max(0.0)
    };
    let whole = floor.len() - floor.len() % LANES;
    let mut lanes = [0f32; LANES];
    let parts = part[0][..whole].chunks_exact(LANES).zip(part[1][..whole].chunks_exact(LANES));
    let sums = sum[0][..whole].chunks_exact(LANES).zip(sum[1][..whole].chunks_exact(LANES));
    for (((p, q), (a, b)), floor) in parts.zip(sums).zip(floor[..whole].chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] += one(a[lane], b[lane], p[lane], q[lane], floor[lane]);
        }
    }
    let rest = (whole..floor.len()).map(|o| one(sum[0][o], sum[1][o], part[0][o], part[1][o], floor[o]));
    lanes.iter().sum::<f32>() + rest.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(norm: Norm, oc: usize, ic: usize, group: (usize, usize), kept: usize) -> Matrix {
        let taps = if norm == Norm::Sum { 1 } else { 9 };
        let magnitude: Vec<f32> =
            (0..oc * ic * taps).map(|i| ((i * i * 7919 + i * 31) % 1009) as f32 / 1009.0).collect();
        let starts = |n: usize, size: usize| (0..n).step_by(size).chain([n]).collect::<Vec<_>>();
        let labels = |n: usize, first: usize| -> Vec<Option<Label>> {
            (0..n).map(|i| Some(Label { atom: (first + i) as u32, tag: 0 })).collect()
        };
        let mut matrix = Matrix {
            norm,
            taps,
            total: magnitude.iter().map(|v| f64::from(*v)).sum(),
            magnitude,
            groups: [starts(oc, group.0), starts(ic, group.1)],
            axes: [labels(oc, 0), labels(ic, oc)],
            kept,
            base: 0.0,
            share: Cell::new(None),
        };
        matrix.base = matrix.share();
        matrix
    }

    /// What a view says an exchange gains is what the layer then has, where no group is removed (else the threshold moves);
    /// and what it says after many exchanges is what it would say if it were made anew.
    #[test]
    fn views_predict_what_exchanges_gain() {
        let structures = [
            (Norm::FourOfNine { share: 4 }, (4, 4)),
            (Norm::FourOfNine { share: 2 }, (4, 4)),
            (Norm::FourOfNine { share: 1 }, (4, 4)),
            (Norm::SixOfNine { full_ones: 0.0 }, (8, 1)),
            (Norm::Sum, (4, 4)),
        ];
        for (norm, group) in structures {
            let ic: usize = if matches!(norm, Norm::SixOfNine { .. }) { 1 } else { 22 };
            let groups = 42usize.div_ceil(group.0) * ic.div_ceil(group.1);
            for (kept, exact) in [(groups, true), (groups / 2, false)] {
                for axis in 0..2 {
                    let mut matrix = matrix(norm, 42, ic, group, kept);
                    let class: Vec<u32> = matrix.axes[axis].iter().flatten().map(|l| l.atom).collect();
                    let lines = matrix.lines(axis, &class).unwrap();
                    let mut view = View::new(&matrix, axis, &lines).unwrap();
                    let n = class.len();
                    for i in 0..40 {
                        let (p, q) = (i * 7 % n, (i * 11 + 3) % n);
                        if p == q {
                            continue;
                        }
                        let gain = view.gain(p, q);
                        view.exchange(p, q);
                        let before = matrix.share();
                        let mut order: Vec<usize> = (0..n).collect();
                        order.swap(p, q);
                        matrix.reorder(axis, &lines, &order);
                        if exact {
                            let got = matrix.share() - before;
                            assert!((got - gain).abs() < 1e-6, "{norm:?} axis {axis}: {gain} of {got}");
                        }
                    }
                    let anew = View::new(&matrix, axis, &lines).unwrap();
                    let off = anew.sums.iter().zip(&view.sums).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                    assert!(off < 1e-3 && anew.lines == view.lines, "{norm:?} axis {axis}: {off}");
                }
            }
        }
    }

    /// Two of every four columns stay, and columns beyond the last four all.
    #[test]
    fn two_of_four_is_counted_exactly() {
        let mut matrix = matrix(Norm::TwoOfFour, 1, 6, (1, 4), 0);
        matrix.taps = 1;
        matrix.magnitude = vec![1.0, 4.0, 2.0, 3.0, 5.0, 6.0];
        assert_eq!(matrix.kept_norm(), 4.0 + 3.0 + 5.0 + 6.0);
        let lines: Vec<Vec<usize>> = (0..6).map(|i| vec![i]).collect();
        assert!(View::new(&matrix, 1, &lines).is_none());
    }
}
