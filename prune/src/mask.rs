//! Which weights stay: the masks that keep most of a saliency. Kernel-group pruning (SparseByteNN, arXiv
//! 2310.19509, section 3.2): a group of kernels is kept or removed as a whole (**connectivity**), and the
//! kernels kept in a group share one mask (**pattern**).
//!
//! Saliency is a nonnegative number per weight: the magnitude for l1 pruning, magnitude times input norm for
//! Wanda. A structure first chooses a pattern for every group of kernels (where it has patterns), then offers
//! groups of kernels that can be removed as a whole. Equal sums are decided by index, so that the same
//! saliency always gives the same mask.

use anyhow::{Result, ensure};
use sparsity::patterns::{FIVE_OF_NINE, Mask, THREE_OF_NINE, channel_groups, keeps};
use sparsity::{FiveOfNine, Structure, ThreeOfNine, check_fraction};
use std::ops::Range;

/// Shape of a weight tensor `[oc][ic][taps]`; `ic` are the input channels of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Output channels.
    pub oc: usize,
    /// Input channels that each output channel sees.
    pub ic: usize,
    /// Weights of a kernel.
    pub taps: usize,
    /// Equal runs of output channels that no group straddles: groups of channels, gates. At least 1.
    pub parts: usize,
}

impl Shape {
    /// A shape of one part.
    pub fn new(oc: usize, ic: usize, taps: usize) -> Shape {
        Shape { oc, ic, taps, parts: 1 }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.oc * self.ic * self.taps
    }

    /// Whether there is no weight at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As groups of a structure divide it: the columns of `Nx1` blocks are single taps.
    pub(crate) fn seen_by(self, structure: Structure) -> Shape {
        match structure {
            Structure::Blocks(block) if block.c() == 1 => Shape { ic: self.ic * self.taps, taps: 1, ..self },
            _ => self,
        }
    }
}

/// Refuses a shape that a structure is not for.
fn check(structure: Structure, shape: Shape) -> Result<()> {
    match structure {
        Structure::ThreeOfNine(_) => {
            ensure!(shape.taps == 9 && shape.ic == 1, "3:9 is for depthwise 3x3 kernels");
        }
        Structure::FiveOfNine(_) => ensure!(shape.taps == 9, "5:9 is for 3x3 kernels"),
        Structure::Blocks(_) | Structure::TwoOfFour => {}
    }
    Ok(())
}

/// The patterns have been chosen; groups are still to be removed.
#[derive(Debug, Clone)]
pub struct Masker {
    structure: Structure,
    /// As the structure sees it.
    shape: Shape,
    keep: Vec<bool>,
    scores: Vec<f64>,
}

impl Masker {
    /// Chooses patterns and scores groups for the saliency of every weight.
    ///
    /// # Errors
    /// An empty shape, a slice of another length, a saliency that is negative or not finite, a structure that
    /// does not fit the shape.
    pub fn new(structure: Structure, shape: Shape, saliency: &[f64]) -> Result<Masker> {
        let Shape { oc, ic, taps, parts } = shape;
        ensure!(parts > 0 && oc % parts == 0, "{oc} output channels are not {parts} equal parts");
        let len = oc.checked_mul(ic).and_then(|n| n.checked_mul(taps));
        ensure!(len != Some(0), "shape {oc}x{ic}x{taps} is empty");
        ensure!(
            len == Some(saliency.len()),
            "shape {oc}x{ic}x{taps} does not fit {} weights",
            saliency.len()
        );
        let wrong = saliency.iter().position(|s| !s.is_finite() || *s < 0.0);
        ensure!(wrong.is_none(), "weight {} is not finite", wrong.unwrap_or(0));
        check(structure, shape)?;
        let shape = shape.seen_by(structure);
        let mut masker = Masker { structure, shape, keep: vec![true; saliency.len()], scores: vec![] };
        match structure {
            Structure::Blocks(_) => {}
            Structure::TwoOfFour => masker.two_of_four(saliency),
            Structure::ThreeOfNine(patterns) => masker.three_of_nine(saliency, patterns),
            Structure::FiveOfNine(patterns) => masker.five_of_nine(saliency, patterns),
        }
        if structure.removes_groups() {
            masker.scores = match structure {
                Structure::Blocks(_) => masker.whole_scores(saliency),
                _ => (0..masker.group_count()).map(|g| masker.score(saliency, g)).collect(),
            };
        }
        Ok(masker)
    }

    /// Groups of rows in a part, and of columns.
    fn grid(&self) -> (usize, usize) {
        let (r, c) = self.structure.group();
        ((self.shape.oc / self.shape.parts).div_ceil(r), self.shape.ic.div_ceil(c))
    }

    fn group_count(&self) -> usize {
        let (rows, columns) = self.grid();
        self.shape.parts * rows * columns
    }

    /// Output and input channels of a removable group; of `Nx1` blocks input channels by taps.
    pub fn group(&self, group: usize) -> (Range<usize>, Range<usize>) {
        let (r, c) = self.structure.group();
        let (rows, columns) = self.grid();
        let (line, height) = (group / columns, self.shape.oc / self.shape.parts);
        let (part, within) = (line / rows * height, span(line % rows, r, height));
        (part + within.start..part + within.end, span(group % columns, c, self.shape.ic))
    }

    /// Weights that a column of [`Masker::group`] has in a row.
    pub fn taps(&self) -> usize {
        self.shape.taps
    }

    /// Number of weights in a group.
    pub fn size(&self, group: usize) -> usize {
        let (rows, cols) = self.group(group);
        rows.len() * cols.len() * self.shape.taps
    }

    /// Number of weights in every group, if that is the same.
    pub(crate) fn equal_size(&self) -> Option<usize> {
        let (r, c) = self.structure.group();
        let even = (self.shape.oc / self.shape.parts).is_multiple_of(r) && self.shape.ic.is_multiple_of(c);
        even.then(|| r * c * self.shape.taps)
    }

    /// Kernels of a group, as indices into the weights divided by the number of taps.
    pub fn kernels(&self, group: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let (rows, cols) = self.group(group);
        let ic = self.shape.ic;
        rows.flat_map(move |row| cols.clone().map(move |col| row * ic + col))
    }

    /// What a group keeps, per kernel: smaller groups at the ragged edge compare fairly.
    fn score(&self, saliency: &[f64], group: usize) -> f64 {
        let (mut sum, mut n) = (0.0, 0);
        for kernel in self.kernels(group) {
            let cells = kernel * self.shape.taps..(kernel + 1) * self.shape.taps;
            sum += cells.filter(|i| self.keep[*i]).map(|i| saliency[i]).sum::<f64>();
            n += 1;
        }
        sum / n as f64
    }

    /// [`Masker::score`] of all groups that keep every weight, read in the order of the weights.
    fn whole_scores(&self, saliency: &[f64]) -> Vec<f64> {
        let Shape { ic, taps, .. } = self.shape;
        let (_, width) = self.structure.group();
        let (_, columns) = self.grid();
        let mut scores = vec![0.0; self.group_count()];
        for (line, scores) in scores.chunks_exact_mut(columns).enumerate() {
            let (rows, _) = self.group(line * columns);
            for row in rows.clone() {
                let values = &saliency[row * ic * taps..][..ic * taps];
                if width * taps == 1 {
                    scores.iter_mut().zip(values).for_each(|(score, value)| *score += value);
                    continue;
                }
                for (score, kernels) in scores.iter_mut().zip(values.chunks(width * taps)) {
                    kernels.chunks_exact(taps).for_each(|kernel| *score += kernel.iter().sum::<f64>());
                }
            }
            for (column, score) in scores.iter_mut().enumerate() {
                *score /= (rows.len() * span(column, width, ic).len()) as f64;
            }
        }
        scores
    }

    /// A pattern that was chosen otherwise, and scores of the groups by another measure.
    pub(crate) fn with(structure: Structure, shape: Shape, keep: Vec<bool>, scores: Vec<f64>) -> Masker {
        Masker { structure, shape: shape.seen_by(structure), keep, scores }
    }

    /// The patterns chosen: true for every weight that stays if no group is removed.
    pub fn patterns(&self) -> &[bool] {
        &self.keep
    }

    /// Mean saliency per kernel of what each removable group keeps; empty if the structure removes none.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }

    /// The `ratio` fraction (rounded to whole groups) of lowest score, of equal ones those of lowest index;
    /// in no order.
    pub fn lowest(&self, ratio: f64) -> Vec<usize> {
        lowest(&self.scores, ratio)
    }

    /// Removes groups; true for every weight that stays.
    pub fn remove(mut self, groups: &[usize]) -> Vec<bool> {
        for group in groups {
            for kernel in self.kernels(*group) {
                self.keep[kernel * self.shape.taps..(kernel + 1) * self.shape.taps].fill(false);
            }
        }
        self.keep
    }

    fn two_of_four(&mut self, saliency: &[f64]) {
        let Shape { oc, ic, taps, .. } = self.shape;
        for row in 0..oc {
            for first in (0..ic - ic % 4).step_by(4) {
                for tap in 0..taps {
                    let at = |i: usize| (row * ic + first + i) * taps + tap;
                    let scores: Vec<f64> = (0..4).map(|i| saliency[at(i)]).collect();
                    lowest(&scores, 0.5).into_iter().for_each(|i| self.keep[at(i)] = false);
                }
            }
        }
    }

    fn three_of_nine(&mut self, saliency: &[f64], patterns: ThreeOfNine) {
        let groups: Vec<(Range<usize>, Mask, f64)> = channel_groups(self.shape.oc, patterns.channels())
            .map(|channels| {
                let mut taps = [0.0; 9];
                saliency[channels.start * 9..channels.end * 9].chunks(9).for_each(|k| add(&mut taps, k));
                let (mask, kept) = best(&THREE_OF_NINE, &taps);
                let lost = taps.iter().sum::<f64>() - kept;
                (channels.clone(), mask, lost / channels.len() as f64)
            })
            .collect();
        // those that would lose most are last
        let losses: Vec<f64> = groups.iter().map(|g| g.2).collect();
        for group in lowest(&losses, 1.0 - patterns.full_ones()) {
            let (channels, mask, _) = &groups[group];
            self.keep[channels.start * 9..channels.end * 9].chunks_mut(9).for_each(|k| apply(k, *mask));
        }
    }

    fn five_of_nine(&mut self, saliency: &[f64], patterns: FiveOfNine) {
        let (ic, filters) = (self.shape.ic, patterns.filters());
        for group in 0..self.group_count() {
            let (rows, cols) = self.group(group);
            for first in rows.clone().step_by(filters) {
                let kernels = (first..rows.end.min(first + filters))
                    .flat_map(|row| cols.clone().map(move |col| (row * ic + col) * 9));
                let mut taps = [0.0; 9];
                kernels.clone().for_each(|at| add(&mut taps, &saliency[at..at + 9]));
                let (mask, _) = best(&FIVE_OF_NINE, &taps);
                kernels.for_each(|at| apply(&mut self.keep[at..at + 9], mask));
            }
        }
    }
}

/// The mask that l1 pruning keeps at a ratio; true for every weight that stays.
///
/// # Errors
/// As [`Masker::new`]; a ratio outside 0..=1.
pub fn l1(structure: Structure, shape: Shape, weights: &[f32], ratio: f64) -> Result<Vec<bool>> {
    check_fraction("ratio", ratio)?;
    let saliency: Vec<f64> = weights.iter().map(|w| f64::from(w.abs())).collect();
    let masker = Masker::new(structure, shape, &saliency)?;
    let removed = masker.lowest(ratio);
    Ok(masker.remove(&removed))
}

/// The group'th range of `size` below `end`.
fn span(group: usize, size: usize, end: usize) -> Range<usize> {
    group * size..end.min((group + 1) * size)
}

fn add(taps: &mut [f64; 9], kernel: &[f64]) {
    taps.iter_mut().zip(kernel).for_each(|(tap, s)| *tap += s);
}

pub(crate) fn apply(kernel: &mut [bool], mask: Mask) {
    kernel.iter_mut().enumerate().for_each(|(tap, keep)| *keep = keeps(mask, tap));
}

/// The first mask that keeps most, and what it keeps.
fn best(masks: &[Mask], taps: &[f64; 9]) -> (Mask, f64) {
    let kept = |mask: Mask| (0..9).filter(|tap| keeps(mask, *tap)).map(|tap| taps[tap]).sum::<f64>();
    let first = (masks[0], kept(masks[0]));
    masks[1..].iter().fold(first, |best, mask| {
        let norm = kept(*mask);
        if norm > best.1 { (*mask, norm) } else { best }
    })
}

/// Indices of the `ratio` fraction of lowest scores, of equal ones those of lowest index; in no order.
fn lowest(scores: &[f64], ratio: f64) -> Vec<usize> {
    let wanted = (ratio * scores.len() as f64).round() as usize;
    if wanted >= scores.len() {
        return (0..scores.len()).collect();
    }
    let keys = scores.iter().enumerate().map(|(at, score)| ranked(*score, at as u64));
    let mut keys: Vec<u128> = keys.collect();
    keys.select_nth_unstable(wanted);
    keys[..wanted].iter().map(|key| *key as u64 as usize).collect()
}

/// A number that is in the order of `score`, and of `place` where scores are equal: choosing among such
/// numbers reads nothing else.
pub(crate) fn ranked(score: f64, place: u64) -> u128 {
    let bits = score.to_bits();
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    u128::from(ordered) << 64 | u128::from(place)
}
