//! What an exchange of two channels gains for a layer.

use super::matrix::Matrix;
use super::norm::Norm;

/// One axis of a layer, prepared for exchanges of its lines.
pub(super) struct View {
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
    /// `None` if the layer's norm is no function of sums, or if channels have several lines: such layers are
    /// judged as a whole, after exchanges that others want.
    pub(super) fn new(matrix: &Matrix, axis: usize, lines: &[Vec<usize>]) -> Option<View> {
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
    pub(super) fn gained(&self) -> f64 {
        self.gained
    }

    /// Share that the layer gains by exchanging the members `p` and `q` of the class.
    pub(super) fn gain(&self, p: usize, q: usize) -> f64 {
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

    pub(super) fn exchange(&mut self, p: usize, q: usize) {
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
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> {
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

/// What two lines of groups are worth with `part[1]` in place of `part[0]` in the first and the other way
/// round in the second. The loop that all time goes into: sums are kept in lanes, since rounding forbids the
/// compiler to do so.
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
    use crate::rearrange::labels::Label;

    fn starts(n: usize, size: usize) -> Vec<usize> {
        (0..n).step_by(size).chain([n]).collect()
    }

    fn labels(n: usize, first: usize) -> Vec<Option<Label>> {
        (0..n).map(|i| Some(Label { atom: (first + i) as u32, tag: 0 })).collect()
    }

    fn matrix(norm: Norm, oc: usize, ic: usize, group: (usize, usize), kept: usize) -> Matrix {
        let taps = if norm == Norm::Sum { 1 } else { 9 };
        let magnitude: Vec<f32> =
            (0..oc * ic * taps).map(|i| ((i * i * 7919 + i * 31) % 1009) as f32 / 1009.0).collect();
        let groups = [starts(oc, group.0), starts(ic, group.1)];
        Matrix::of_parts(norm, taps, magnitude, groups, [labels(oc, 0), labels(ic, oc)], kept)
    }

    /// What a view says an exchange gains is what the layer then has, where no group is removed (else the
    /// threshold moves); and what it says after many exchanges is what it would say if it were made anew.
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
                    let (first, n) = if axis == 0 { (0, 42) } else { (42, ic) };
                    let class: Vec<u32> = (first..first + n).map(|atom| atom as u32).collect();
                    let lines = matrix.lines(axis, &class).unwrap();
                    let mut view = View::new(&matrix, axis, &lines).unwrap();
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
        let magnitude = vec![1.0, 4.0, 2.0, 3.0, 5.0, 6.0];
        let groups = [starts(1, 1), starts(6, 4)];
        let matrix = Matrix::of_parts(Norm::TwoOfFour, 1, magnitude, groups, [labels(1, 0), labels(6, 1)], 0);
        assert_eq!(matrix.share() * 21.0, 4.0 + 3.0 + 5.0 + 6.0);
        let lines: Vec<Vec<usize>> = (0..6).map(|i| vec![i]).collect();
        assert!(View::new(&matrix, 1, &lines).is_none());
    }
}
