//! Kernel-group pruning (SparseByteNN, arXiv 2310.19509, section 3.2): a group of kernels is kept or removed as a whole
//! (**connectivity**), and the kernels kept in a group share one mask (**pattern**). Groups of lowest l1 norm go first;
//! a pattern is the one that keeps most of the l1 norm of its group. Equal norms are decided by index, so that the same
//! weights always give the same zeros.
//!
//! Weights are row-major slices in ONNX order: `oc x ic` for 1x1 convolutions, `oc x ic x 3 x 3` for 3x3, `channels x 1
//! x 3 x 3` for depthwise.

use anyhow::{Result, ensure};
use std::ops::Range;

/// The eight 3:9 masks of a depthwise 3x3 kernel: each row loses its first or its third weight, the middle column
/// stays. Bit `3 * row + column` says that a weight is kept.
pub const DEPTHWISE_3OF9: [u16; 8] = {
    let mut masks = [0; 8];
    let mut m = 0;
    while m < 8 {
        let mut row = 0;
        while row < 3 {
            let lost = if m >> (2 - row) & 1 == 0 { 0 } else { 2 };
            masks[m] |= (0b111 & !(1 << lost)) << (3 * row);
            row += 1;
        }
        m += 1;
    }
    masks
};

/// The 56 four-of-nine masks of a 3x3 kernel that keep the centre (PatDNN), in increasing order; bits as in
/// [`DEPTHWISE_3OF9`].
pub const CONV3X3_5OF9: [u16; 56] = {
    let mut masks = [0; 56];
    let (mut mask, mut n) = (0u16, 0);
    while mask < 1 << 9 {
        if mask.count_ones() == 4 && mask >> 4 & 1 == 1 {
            masks[n] = mask;
            n += 1;
        }
        mask += 1;
    }
    masks
};

/// Sets the `ratio` fraction (rounded to whole groups) of the `r` x `c` groups of an `oc` x `ic` matrix to zero, those of
/// lowest l1 norm. Groups are aligned to multiples of `r` and `c`; smaller groups at the ragged edge are compared by their
/// mean. `1 x 1` is unstructured pruning, `N x 1` prunes columns of N output channels. Returns how many groups were removed.
///
/// # Errors
/// A zero dimension, a slice of another length, a weight that is not finite, a ratio outside 0..=1.
pub fn blocks(w: &mut [f32], oc: usize, ic: usize, r: usize, c: usize, ratio: f64) -> Result<usize> {
    ensure!(r > 0 && c > 0, "a group of {r}x{c} is empty");
    check(w, &[oc, ic])?;
    check_ratio(ratio)?;
    let columns = ic.div_ceil(c);
    let cells = |group: usize| {
        let (rows, cols) = (span(group / columns, r, oc), span(group % columns, c, ic));
        rows.flat_map(move |row| cols.clone().map(move |col| row * ic + col))
    };
    let scores: Vec<f64> = (0..oc.div_ceil(r) * columns)
        .map(|group| {
            let (sum, n) = cells(group).fold((0.0, 0), |(sum, n), i| (sum + l1(w[i]), n + 1));
            sum / n as f64
        })
        .collect();
    let removed = lowest(&scores, ratio);
    for group in &removed {
        cells(*group).for_each(|i| w[i] = 0.0);
    }
    Ok(removed.len())
}

/// Prunes the 3x3 kernels of a depthwise convolution to 6 of 9 weights (the paper's 3:9): the best of
/// [`DEPTHWISE_3OF9`] for every group of [`channel_groups`]. Returns the mask of each group.
///
/// # Errors
/// No channels, a slice of another length than `channels * 9`, a weight that is not finite.
pub fn depthwise_3of9(w: &mut [f32], channels: usize) -> Result<Vec<u16>> {
    check(w, &[channels, 9])?;
    Ok(channel_groups(channels)
        .map(|group| {
            let kernels = &mut w[group.start * 9..group.end * 9];
            let mut taps = [0.0; 9];
            kernels.chunks(9).for_each(|kernel| add_taps(&mut taps, kernel));
            let (mask, _) = best(&DEPTHWISE_3OF9, &taps);
            kernels.chunks_mut(9).for_each(|kernel| apply(kernel, mask));
            mask
        })
        .collect())
}

/// How depthwise channels are grouped: by 16, the rest by 8, by 4, then one by one.
pub fn channel_groups(channels: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let size = [16, 8, 4, 1].into_iter().find(|size| start + size <= channels)?;
        start += size;
        Some(start - size..start)
    })
}

/// Prunes the kernels of an `oc` x `ic` x 3 x 3 convolution to 4 of 9 weights (5:9): the best of [`CONV3X3_5OF9`] for every
/// `share` output by 4 input channels; then removes the `connectivity` fraction of the groups of 4x4 kernels, those that
/// keep least. Smaller groups at the ragged edge are compared by their mean. Returns how many groups were removed.
///
/// # Errors
/// As [`blocks`]; `share` is not 1, 2 or 4.
pub fn conv3x3_5of9(w: &mut [f32], oc: usize, ic: usize, share: usize, connectivity: f64) -> Result<usize> {
    ensure!([1, 2, 4].contains(&share), "a pattern is shared by 1, 2 or 4 filters, not {share}");
    check(w, &[oc, ic, 9])?;
    check_ratio(connectivity)?;
    let columns = ic.div_ceil(4);
    let mut scores = vec![];
    for group in 0..oc.div_ceil(4) * columns {
        let (rows, cols) = (span(group / columns, 4, oc), span(group % columns, 4, ic));
        let mut kept = 0.0;
        for first in rows.clone().step_by(share) {
            let kernels = (first..rows.end.min(first + share))
                .flat_map(|row| cols.clone().map(move |col| (row * ic + col) * 9));
            let mut taps = [0.0; 9];
            kernels.clone().for_each(|at| add_taps(&mut taps, &w[at..at + 9]));
            let (mask, norm) = best(&CONV3X3_5OF9, &taps);
            kept += norm;
            kernels.for_each(|at| apply(&mut w[at..at + 9], mask));
        }
        scores.push(kept / (rows.len() * cols.len()) as f64);
    }
    let removed = lowest(&scores, connectivity);
    for group in &removed {
        for row in span(group / columns, 4, oc) {
            let cols = span(group % columns, 4, ic);
            w[(row * ic + cols.start) * 9..(row * ic + cols.end) * 9].fill(0.0);
        }
    }
    Ok(removed.len())
}

/// The group'th range of `size` below `end`.
fn span(group: usize, size: usize, end: usize) -> Range<usize> {
    group * size..end.min((group + 1) * size)
}

fn l1(w: f32) -> f64 {
    f64::from(w.abs())
}

fn add_taps(taps: &mut [f64; 9], kernel: &[f32]) {
    taps.iter_mut().zip(kernel).for_each(|(tap, w)| *tap += l1(*w));
}

fn apply(kernel: &mut [f32], mask: u16) {
    kernel.iter_mut().enumerate().filter(|(tap, _)| mask >> tap & 1 == 0).for_each(|(_, w)| *w = 0.0);
}

/// The first mask that keeps most, and what it keeps.
fn best(masks: &[u16], taps: &[f64; 9]) -> (u16, f64) {
    let kept = |mask: u16| (0..9).filter(|tap| mask >> tap & 1 == 1).map(|tap| taps[tap]).sum::<f64>();
    let first = (masks[0], kept(masks[0]));
    masks[1..].iter().fold(first, |best, mask| {
        let norm = kept(*mask);
        if norm > best.1 { (*mask, norm) } else { best }
    })
}

/// Indices of the `ratio` fraction of lowest scores, in order of score and then index.
fn lowest(scores: &[f64], ratio: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
    order.truncate((ratio * scores.len() as f64).round() as usize);
    order
}

fn check_ratio(ratio: f64) -> Result<()> {
    ensure!((0.0..=1.0).contains(&ratio), "ratio {ratio} is not between 0 and 1");
    Ok(())
}

fn check(w: &[f32], shape: &[usize]) -> Result<()> {
    ensure!(!shape.contains(&0), "shape {shape:?} is empty");
    let expected = shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
    ensure!(expected == Some(w.len()), "shape {shape:?} does not fit {} weights", w.len());
    if let Some(index) = w.iter().position(|w| !w.is_finite()) {
        anyhow::bail!("weight {index} is {}", w[index]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0007).collect()
    }

    #[test]
    fn the_blocks_of_lowest_norm_go_and_the_others_stay_untouched() {
        let dense = ramp(16 * 12);
        for (r, c) in [(4, 4), (4, 1), (2, 1), (8, 1), (1, 1), (5, 7)] {
            for ratio in [0.0, 0.3, 0.5, 0.9, 1.0] {
                let mut w = dense.clone();
                let removed = blocks(&mut w, 16, 12, r, c, ratio).unwrap();
                let groups = 16usize.div_ceil(r) * 12usize.div_ceil(c);
                assert_eq!(removed, (ratio * groups as f64).round() as usize);
                let (mut gone, mut kept) = (vec![], vec![]);
                for row in (0..16).step_by(r) {
                    for col in (0..12).step_by(c) {
                        let cells: Vec<usize> = (row..16.min(row + r))
                            .flat_map(|row| (col..12.min(col + c)).map(move |col| row * 12 + col))
                            .collect();
                        let mean = cells.iter().map(|i| l1(dense[*i])).sum::<f64>() / cells.len() as f64;
                        if cells.iter().all(|i| w[*i] == 0.0) {
                            gone.push(mean);
                        } else {
                            assert!(cells.iter().all(|i| w[*i] == dense[*i]));
                            kept.push(mean);
                        }
                    }
                }
                assert_eq!(gone.len(), removed, "{r}x{c} {ratio}");
                let largest_gone = gone.into_iter().fold(0.0, f64::max);
                assert!(kept.into_iter().all(|mean| mean >= largest_gone), "{r}x{c} {ratio}");
            }
        }
    }

    #[test]
    fn ties_are_decided_by_index() {
        let mut w = vec![1.0; 8];
        blocks(&mut w, 2, 4, 1, 1, 0.25).unwrap();
        assert_eq!(w, [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let mut w = vec![1.0; 9];
        assert_eq!(depthwise_3of9(&mut w, 1).unwrap(), [DEPTHWISE_3OF9[0]]);
    }

    #[test]
    fn the_masks_are_the_papers() {
        for mask in DEPTHWISE_3OF9 {
            assert_eq!(mask.count_ones(), 6);
            for row in 0..3 {
                assert!([0b110, 0b011].contains(&(mask >> (3 * row) & 0b111)), "{mask:#011b}");
            }
        }
        for mask in CONV3X3_5OF9 {
            assert!(mask.count_ones() == 4 && mask & 0b10000 != 0);
        }
        for masks in [&DEPTHWISE_3OF9[..], &CONV3X3_5OF9[..]] {
            let distinct: std::collections::BTreeSet<_> = masks.iter().collect();
            assert_eq!(distinct.len(), masks.len());
        }
    }

    #[test]
    fn depthwise_channels_fall_into_groups_of_16_8_4_and_1() {
        let sizes = |n| channel_groups(n).map(|g| g.len()).collect::<Vec<_>>();
        assert_eq!(sizes(32), [16, 16]);
        assert_eq!(sizes(31), [16, 8, 4, 1, 1, 1]);
        assert_eq!(sizes(3), [1, 1, 1]);
        assert_eq!(channel_groups(29).last(), Some(28..29));
    }

    #[test]
    fn depthwise_keeps_the_best_pattern_of_each_group() {
        let dense = ramp(29 * 9);
        let mut w = dense.clone();
        let masks = depthwise_3of9(&mut w, 29).unwrap();
        for (group, mask) in channel_groups(29).zip(masks) {
            let kept = |mask: u16| {
                let cells = group.clone().flat_map(|ch| (0..9).map(move |tap| (ch * 9 + tap, tap)));
                cells.filter(|(_, tap)| mask >> tap & 1 == 1).map(|(i, _)| l1(dense[i])).sum::<f64>()
            };
            assert!(DEPTHWISE_3OF9.iter().all(|m| kept(*m) <= kept(mask) + 1e-9));
            for i in group.start * 9..group.end * 9 {
                let expected = if mask >> (i % 9) & 1 == 1 { dense[i] } else { 0.0 };
                assert_eq!(w[i], expected);
            }
        }
    }

    #[test]
    fn conv3x3_keeps_one_pattern_per_group_and_drops_the_weakest_groups() {
        for (oc, ic, share) in [(8, 8, 4), (8, 8, 2), (8, 8, 1), (10, 7, 4), (3, 5, 2)] {
            for connectivity in [0.0, 0.5] {
                let mut w = ramp(oc * ic * 9);
                let removed = conv3x3_5of9(&mut w, oc, ic, share, connectivity).unwrap();
                let groups = oc.div_ceil(4) * ic.div_ceil(4);
                assert_eq!(removed, (connectivity * groups as f64).round() as usize);
                let mut absent = 0;
                for row in (0..oc).step_by(4) {
                    for col in (0..ic).step_by(4) {
                        let mut union = 0u16;
                        for first in (row..oc.min(row + 4)).step_by(share) {
                            let mut mask = 0u16;
                            for r in first..oc.min(row + 4).min(first + share) {
                                for c in col..ic.min(col + 4) {
                                    for tap in 0..9 {
                                        mask |= u16::from(w[(r * ic + c) * 9 + tap] != 0.0) << tap;
                                    }
                                }
                            }
                            assert!(mask == 0 || CONV3X3_5OF9.contains(&mask), "{mask:#011b}");
                            union |= mask;
                        }
                        absent += usize::from(union == 0);
                    }
                }
                assert_eq!(absent, removed);
            }
        }
    }

    #[test]
    fn bad_input_is_refused_and_changes_nothing() {
        let dense = ramp(16);
        for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let mut w = dense.clone();
            let error = blocks(&mut w, 4, 4, 4, 4, ratio).unwrap_err().to_string();
            assert!(error.contains("ratio"), "{error}");
            assert_eq!(w, dense);
        }
        assert!(blocks(&mut [1.0; 16], 4, 5, 4, 4, 0.5).is_err());
        assert!(blocks(&mut [], 0, 4, 4, 4, 0.5).is_err());
        assert!(blocks(&mut [1.0; 16], 4, 4, 0, 4, 0.5).is_err());
        assert!(blocks(&mut [1.0; 16], usize::MAX, 4, 4, 4, 0.5).is_err());
        assert!(blocks(&mut [1.0, f32::NAN], 1, 2, 1, 1, 0.5).is_err());
        assert!(depthwise_3of9(&mut [1.0; 10], 1).is_err());
        assert!(conv3x3_5of9(&mut [1.0; 9], 1, 1, 3, 0.0).is_err());
        let mut w = [1.0; 9];
        assert!(conv3x3_5of9(&mut w, 1, 1, 4, 2.0).is_err());
        assert_eq!(w, [1.0; 9]);
    }
}
