//! A layer as the search sees it: the magnitudes of its weights, and what its groups keep.

use super::channels::Channels;
use super::labels::Label;
use super::norm::Norm;
use crate::apply::{L1, Method, Planned};
use anyhow::{Context, Result};
use sparsity::patterns::channel_groups;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use tract_onnx::pb::ModelProto;

#[derive(Clone)]
pub(super) struct Matrix {
    pub(super) norm: Norm,
    /// Taps that matter: 1 for sums.
    pub(super) taps: usize,
    /// `[row][column][taps]`.
    pub(super) magnitude: Vec<f32>,
    /// First line of each group of rows and of columns, and the end.
    pub(super) groups: [Vec<usize>; 2],
    /// The channel that may move at each row and column.
    axes: [Vec<Option<Label>>; 2],
    /// Groups kept; all if none is removed.
    kept: usize,
    pub(super) total: f64,
    /// Share kept before anything has moved.
    base: f64,
    /// Share kept now, once it has been asked for.
    share: Cell<Option<f64>>,
}

impl Matrix {
    pub(super) fn new(model: &ModelProto, channels: &Channels, p: &Planned) -> Result<Matrix> {
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
        let groups = [rows, starts(shape.ic, c)];
        let mut axes = [axis(0, shape.oc), cols];
        if norm == Norm::TwoOfFour {
            // each row chooses for itself
            axes[0].fill(None);
        }
        Ok(Matrix::of_parts(norm, taps, magnitude, groups, axes, kept))
    }

    /// Magnitudes `[row][column][taps]` as they stand before anything moves, with the first line of each
    /// group and the end.
    pub(super) fn of_parts(
        norm: Norm,
        taps: usize,
        magnitude: Vec<f32>,
        groups: [Vec<usize>; 2],
        axes: [Vec<Option<Label>>; 2],
        kept: usize,
    ) -> Matrix {
        let total = magnitude.iter().map(|v| f64::from(*v)).sum::<f64>().max(1e-30);
        let share = Cell::new(None);
        let mut matrix = Matrix { norm, taps, magnitude, groups, axes, kept, total, base: 0.0, share };
        matrix.base = matrix.share();
        matrix
    }

    pub(super) fn columns(&self) -> usize {
        self.axes[1].len()
    }

    /// Values of a group's sums.
    pub(super) fn width(&self) -> usize {
        self.taps * self.norm.parts()
    }

    /// Where the taps of a row are among the sums of its group.
    pub(super) fn offset(&self, row: usize, first: usize) -> usize {
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
    pub(super) fn threshold(&self) -> f32 {
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
    pub(super) fn share(&self) -> f64 {
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
    pub(super) fn gained(&self) -> f64 {
        self.share() - self.base
    }

    /// Whether an arrangement makes a difference.
    pub(super) fn matters(&self) -> bool {
        self.norm != Norm::Sum || self.removes()
    }

    /// Whether any of its channels may move.
    pub(super) fn movable(&self) -> bool {
        self.axes.iter().flatten().any(Option::is_some)
    }

    /// The lines of every channel of `class` along an axis, in the order of its values; `None` if they do not
    /// stand there.
    pub(super) fn lines(&self, axis: usize, class: &[u32]) -> Option<Vec<Vec<usize>>> {
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

    /// Gives every member of a class the place of another: `order[p]` is the member that comes to the lines
    /// of member `p`.
    pub(super) fn reorder(&mut self, axis: usize, lines: &[Vec<usize>], order: &[usize]) {
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
