//! Kernel-group pruning (SparseByteNN, arXiv 2310.19509, section 3.2): a group of kernels is kept or removed as a whole
//! (**connectivity**), and the kernels kept in a group share one mask (**pattern**). Groups of lowest l1 norm go first;
//! a pattern is the one that keeps most of the l1 norm of its group. Equal norms are decided by index, so that the same
//! weights always give the same zeros.
//!
//! Weights are row-major slices in ONNX order: `oc x ic` for 1x1 convolutions, `oc x ic x 3 x 3` for 3x3, `channels x 1
//! x 3 x 3` for depthwise.

use crate::mask::{self, Shape, Structure};
use anyhow::Result;
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
    zero(w, Structure::Blocks { r, c }, Shape::new(oc, ic, 1), ratio)
}

/// Prunes the 3x3 kernels of a depthwise convolution to 6 of 9 weights (the paper's 3:9): the best of
/// [`DEPTHWISE_3OF9`] for every group of [`channel_groups`].
///
/// # Errors
/// No channels, a slice of another length than `channels * 9`, a weight that is not finite.
pub fn depthwise_3of9(w: &mut [f32], channels: usize) -> Result<()> {
    let shape = Shape::new(channels, 1, 9);
    zero(w, Structure::ThreeOfNine { full_ones: 0.0 }, shape, 0.0).map(|_| ())
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
    zero(w, Structure::FiveOfNine { share }, Shape::new(oc, ic, 9), connectivity)
}

/// Zeroes what l1 pruning does not keep; returns how many groups were removed.
fn zero(w: &mut [f32], structure: Structure, shape: Shape, ratio: f64) -> Result<usize> {
    let keep = mask::l1(structure, shape, w, ratio)?;
    w.iter_mut().zip(&keep).filter(|(_, keep)| !**keep).for_each(|(w, _)| *w = 0.0);
    let (r, c) = structure.group();
    let groups = if structure.removes_groups() { shape.oc.div_ceil(r) * shape.ic.div_ceil(c) } else { 0 };
    Ok((ratio * groups as f64).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn l1(w: f32) -> f64 {
        f64::from(w.abs())
    }

    fn mask_of(kernel: &[f32]) -> u16 {
        kernel.iter().enumerate().map(|(tap, w)| u16::from(*w != 0.0) << tap).sum()
    }

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
        depthwise_3of9(&mut w, 1).unwrap();
        assert_eq!(mask_of(&w), DEPTHWISE_3OF9[0]);
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
        depthwise_3of9(&mut w, 29).unwrap();
        for group in channel_groups(29) {
            let mask = mask_of(&w[group.start * 9..][..9]);
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
