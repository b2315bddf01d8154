//! Masks by magnitude: which groups go, which patterns stay, and what is refused.

use anyhow::Result;
use prune::mask::{self, Shape};
use sparsity::patterns::{CHANNEL_GROUPS, FIVE_OF_NINE, Mask, THREE_OF_NINE, channel_groups, keeps};
use sparsity::{FiveOfNine, Structure};

/// Zeroes what l1 pruning does not keep; returns how many groups were removed.
fn zero(w: &mut [f32], structure: Structure, shape: Shape, ratio: f64) -> Result<usize> {
    let keep = mask::l1(structure, shape, w, ratio)?;
    prune::zero(w, &keep);
    let (r, c) = structure.group();
    let groups = if structure.removes_groups() { shape.oc.div_ceil(r) * shape.ic.div_ceil(c) } else { 0 };
    Ok((ratio * groups as f64).round() as usize)
}

fn blocks(w: &mut [f32], oc: usize, ic: usize, r: usize, c: usize, ratio: f64) -> Result<usize> {
    zero(w, Structure::blocks(r, c)?, Shape::new(oc, ic, 1), ratio)
}

fn depthwise(w: &mut [f32], channels: usize, group: usize) -> Result<usize> {
    zero(w, Structure::three_of_nine(group, 0.0)?, Shape::new(channels, 1, 9), 0.0)
}

fn conv3x3(w: &mut [f32], oc: usize, ic: usize, filters: usize, connectivity: f64) -> Result<usize> {
    zero(w, Structure::five_of_nine(filters)?, Shape::new(oc, ic, 9), connectivity)
}

fn l1(w: f32) -> f64 {
    f64::from(w.abs())
}

fn mask_of(kernel: &[f32]) -> Mask {
    kernel.iter().enumerate().map(|(tap, w)| Mask::from(*w != 0.0) << tap).sum()
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
    depthwise(&mut w, 1, 16).unwrap();
    assert_eq!(mask_of(&w), THREE_OF_NINE[0]);
}

#[test]
fn depthwise_keeps_the_best_pattern_of_each_group() {
    let dense = ramp(29 * 9);
    for largest in CHANNEL_GROUPS {
        let mut w = dense.clone();
        depthwise(&mut w, 29, largest).unwrap();
        for group in channel_groups(29, largest) {
            let mask = mask_of(&w[group.start * 9..][..9]);
            let kept = |mask: Mask| {
                let cells = group.clone().flat_map(|ch| (0..9).map(move |tap| (ch * 9 + tap, tap)));
                cells.filter(|(_, tap)| keeps(mask, *tap)).map(|(i, _)| l1(dense[i])).sum::<f64>()
            };
            assert!(THREE_OF_NINE.iter().all(|m| kept(*m) <= kept(mask) + 1e-9));
            for i in group.start * 9..group.end * 9 {
                let expected = if keeps(mask, i % 9) { dense[i] } else { 0.0 };
                assert_eq!(w[i], expected);
            }
        }
    }
}

#[test]
fn conv3x3_keeps_one_pattern_per_group_and_drops_the_weakest_groups() {
    let all = FiveOfNine::FILTERS.map(|filters| (8, 8, filters));
    for (oc, ic, share) in all.into_iter().chain([(10, 7, 4), (3, 5, 2)]) {
        for connectivity in [0.0, 0.5] {
            let mut w = ramp(oc * ic * 9);
            let removed = conv3x3(&mut w, oc, ic, share, connectivity).unwrap();
            let groups = oc.div_ceil(4) * ic.div_ceil(4);
            assert_eq!(removed, (connectivity * groups as f64).round() as usize);
            let mut absent = 0;
            for row in (0..oc).step_by(4) {
                for col in (0..ic).step_by(4) {
                    let mut union: Mask = 0;
                    for first in (row..oc.min(row + 4)).step_by(share) {
                        let mut mask: Mask = 0;
                        for r in first..oc.min(row + 4).min(first + share) {
                            for c in col..ic.min(col + 4) {
                                for tap in 0..9 {
                                    mask |= Mask::from(w[(r * ic + c) * 9 + tap] != 0.0) << tap;
                                }
                            }
                        }
                        assert!(mask == 0 || FIVE_OF_NINE.contains(&mask), "{mask:#011b}");
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
    assert!(blocks(&mut [1.0; 16], usize::MAX, 4, 4, 4, 0.5).is_err());
    assert!(blocks(&mut [1.0, f32::NAN], 1, 2, 1, 1, 0.5).is_err());
    assert!(depthwise(&mut [1.0; 10], 1, 16).is_err());
    let mut w = [1.0; 9];
    assert!(conv3x3(&mut w, 1, 1, 4, 2.0).is_err());
    assert_eq!(w, [1.0; 9]);
}
