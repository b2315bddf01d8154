//! Which zeros a layer has, whatever kernel is going to run it: the words of [`sparsity`].

use crate::analyse::{Layer, LayerKind};
use crate::choose::PRUNED_SHARE;
use sparse_kernels::format::{DepthwisePattern, DepthwisePatterns, FormatKind};
use sparsity::patterns::{CHANNEL_GROUPS, channel_groups};
use sparsity::{Error, Structure, Zeros};
use tract_core::internal::*;

/// A few weights of a kept block may happen to be zero: a block structure is one whose kept blocks are this
/// full.
const FULL: f64 = 0.95;

/// Of every four neighbouring weights two are left: about half of all. Of many more zeros any arrangement
/// looks like that.
const HALF: f64 = 0.4;

/// Finds the zeros of a layer's weights: the coarsest structure that fits, and to a hundredth, how much of it
/// is removed. A layer of which fewer than a tenth of the weights are zero has none.
///
/// # Errors
/// Weights that are not plain f32.
pub fn zeros(layer: &Layer) -> TractResult<Option<Zeros>> {
    let shape = &layer.shape;
    let kernel = shape.conv_shape().kernel;
    let kind = shape.kind();
    match kind {
        LayerKind::Depthwise if kernel == [3, 3] => {
            let patterns = DepthwisePatterns::from_dense(shape.oc, kernel, layer.values()?)?;
            if let Some(structure) = three_of_nine(&patterns)? {
                return Ok(Some(structure.into()));
            }
        }
        LayerKind::Spatial | LayerKind::Grouped if kernel == [3, 3] => {
            let stats = layer.pattern_stats()?;
            if let Some(filters) = stats.shared {
                let structure = Structure::five_of_nine(filters)?;
                let absent = hundredths(stats.absent);
                return Ok(Some(if absent > 0.0 {
                    Zeros::new(structure, absent)?
                } else {
                    structure.into()
                }));
            }
        }
        _ => {}
    }
    if layer.density() > PRUNED_SHARE {
        return Ok(None);
    }
    let pointwise = matches!(kind, LayerKind::Pointwise | LayerKind::Transposed)
        || (kind == LayerKind::Grouped && shape.taps() == 1);
    let formats: &[FormatKind] = if pointwise {
        &[
            FormatKind::BLOCKS_4X4,
            FormatKind::BLOCKS_2X4,
            FormatKind::ROWS_8,
            FormatKind::BLOCKS_1X4,
            FormatKind::BLOCKS_2X2,
            FormatKind::ROWS_4,
            FormatKind::BLOCKS_1X2,
            FormatKind::ROWS_2,
        ]
    } else if kind == LayerKind::Depthwise {
        &[]
    } else {
        &[FormatKind::ROWS_4, FormatKind::ROWS_2]
    };
    for format in formats {
        let stats = layer.stats(*format);
        if stats.fill >= FULL {
            let blocks = Structure::blocks(format.r(), format.c())?;
            return Ok(Some(Zeros::new(blocks, hundredths(1.0 - stats.block_density))?));
        }
    }
    Ok(Some(if kind == LayerKind::Pointwise && layer.density() >= HALF && layer.is_two_of_four() {
        Structure::TwoOfFour.into()
    } else {
        Zeros::new(Structure::UNSTRUCTURED, hundredths(1.0 - layer.density()))?
    }))
}

/// The patterns of a depthwise layer, shared by groups as large as can be, unless all of its channels are
/// dense.
fn three_of_nine(patterns: &DepthwisePatterns) -> Result<Option<Structure>, Error> {
    let dense = patterns.groups().iter().filter(|g| g.pattern() == DepthwisePattern::ALL_ONES);
    let dense = dense.map(|g| g.channels().len()).sum::<usize>();
    if dense == patterns.channels() {
        return Ok(None);
    }
    // a group that shares a pattern has not been cut
    let starts: Vec<usize> = patterns.groups().iter().map(|g| g.channels().start).collect();
    let whole = |largest: &usize| {
        channel_groups(patterns.channels(), *largest).all(|g| {
            let cut = starts.partition_point(|start| *start <= g.start);
            starts.get(cut).is_none_or(|next| *next >= g.end)
        })
    };
    let largest = CHANNEL_GROUPS.into_iter().find(whole).unwrap_or(1);
    Structure::three_of_nine(largest, hundredths(dense as f64 / patterns.channels() as f64)).map(Some)
}

/// A share to a hundredth; only all is 1.
fn hundredths(share: f64) -> f64 {
    let rounded = (100.0 * share).round() / 100.0;
    if share < 1.0 { rounded.min(0.99) } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(oc: usize, ic: usize, group: usize, k: usize, weights: &[f32]) -> String {
        let zeros = zeros(&Layer::sample(oc, ic, group, k, weights)).unwrap();
        zeros.map_or_else(|| "dense".into(), |zeros| zeros.to_string())
    }

    fn matrix(oc: usize, ic: usize, keep: impl Fn(usize, usize) -> bool) -> Vec<f32> {
        (0..oc * ic).map(|i| f32::from(keep(i / ic, i % ic))).collect()
    }

    #[test]
    fn the_coarsest_block_that_fits() {
        let of = |keep: fn(usize, usize) -> bool| found(16, 32, 1, 1, &matrix(16, 32, keep));
        assert_eq!(of(|_, _| true), "dense");
        assert_eq!(of(|r, c| (r / 4 + c / 4) % 3 == 0), "4x4:0.66");
        assert_eq!(of(|r, c| (r / 8 + c) % 3 == 0), "8x1:0.67");
        assert_eq!(of(|r, c| (r / 4 + c) % 3 == 0), "4x1:0.66");
        assert_eq!(of(|r, c| (r / 2 + c) % 3 == 0), "2x1:0.67");
        assert_eq!(of(|r, c| (r / 2 + c / 4) % 4 == 0), "2x4:0.75");
        assert_eq!(of(|r, c| (r + c / 4) % 4 == 0), "1x4:0.75");
        assert_eq!(of(|r, c| (r / 2 + c / 2) % 4 == 0), "2x2:0.75");
        assert_eq!(of(|r, c| (r + c / 2) % 4 == 0), "1x2:0.75");
        assert_eq!(of(|r, c| (r * 5 + c * 3) % 4 == 0), "unstructured:0.75");
        assert_eq!(of(|r, c| (r + c) % 4 < 2), "2:4");
        assert_eq!(of(|r, c| (r + c) % 6 < 3), "unstructured:0.5");
    }

    #[test]
    fn patterns_are_found() {
        let mut weights = vec![1f32; 32 * 9];
        let mut pruned = weights.clone();
        prune_patterns(&mut pruned, 0);
        assert_eq!(found(32, 32, 32, 3, &weights), "dense");
        assert_eq!(found(32, 32, 32, 3, &pruned), "3:9");
        weights[..16 * 9].copy_from_slice(&pruned[..16 * 9]);
        assert_eq!(found(32, 32, 32, 3, &weights), "3:9+0.5");
        prune_patterns(&mut weights[..8 * 9], 3);
        assert_eq!(found(32, 32, 32, 3, &weights), "3:9/8+0.5");
        let four = |i: usize| [1, 3, 4, 5].contains(&(i % 9));
        let spatial: Vec<f32> = (0..8 * 8 * 9).map(|i| f32::from(four(i))).collect();
        assert_eq!(found(8, 8, 1, 3, &spatial), "5:9");
        let half: Vec<f32> = (0..8 * 8 * 9).map(|i| f32::from(four(i) && i / 9 % 8 < 4)).collect();
        assert_eq!(found(8, 8, 1, 3, &half), "5:9:0.5");
    }

    /// One of the eight patterns everywhere.
    fn prune_patterns(weights: &mut [f32], id: usize) {
        let pattern = DepthwisePattern::from_id(id).unwrap();
        for (i, w) in weights.iter_mut().enumerate() {
            *w = f32::from(pattern.keeps(i % 9));
        }
    }

    #[test]
    fn only_all_of_it_is_1() {
        assert_eq!([0.0, 0.004, 0.506, 0.999, 1.0].map(hundredths), [0.0, 0.0, 0.51, 0.99, 1.0]);
    }
}
