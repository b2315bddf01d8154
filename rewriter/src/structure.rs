//! In which structure the zeros of a layer lie, whatever kernel is going to run it.

use crate::analyse::{Layer, LayerKind};
use crate::choose::PRUNED_SHARE;
use sparse_kernels::format::{DepthwisePattern, DepthwisePatterns, FormatKind, pattern_stats};
use std::fmt;
use tract_core::internal::*;

/// A few weights of a kept block may happen to be zero: a block structure is one whose kept blocks are this full.
const FULL: f64 = 0.95;

/// Of every four neighbouring weights two are left: about half of all. Of many more zeros any arrangement looks like that.
const HALF: f64 = 0.4;

/// How zeros are arranged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Structure {
    /// Fewer than a tenth of the weights are zero.
    Dense,
    /// Single weights.
    Unstructured,
    /// At most two of every four neighbouring input channels.
    TwoOfFour,
    /// Whole groups of output by input channels (or columns of the matrix `[oc][ic * taps]`).
    Blocks(FormatKind),
    /// Depthwise 3x3: six of nine weights, in patterns shared by groups of channels; `dense` is the share of channels that
    /// keep all nine.
    ThreeOfNine {
        /// Share of the channels.
        dense: f64,
    },
    /// 3x3: at most four of nine weights with the centre among them.
    FiveOfNine {
        /// Neighbouring filters that have the same zeros.
        shared: usize,
        /// Share of the kernels that are zero altogether.
        absent: f64,
    },
}

impl Structure {
    /// Finds the structure of a layer's weights: the coarsest that fits.
    ///
    /// # Errors
    /// Weights that are not plain f32.
    pub fn of(layer: &Layer) -> TractResult<Structure> {
        let shape = &layer.shape;
        let taps = shape.conv_shape().kernel;
        match shape.kind() {
            LayerKind::Depthwise if taps == [3, 3] => {
                let patterns = DepthwisePatterns::from_dense(shape.oc, taps, layer.values()?)?;
                let all = patterns.groups().iter().filter(|g| g.pattern() == DepthwisePattern::ALL_ONES);
                let dense = all.map(|g| g.channels().len()).sum::<usize>() as f64 / shape.oc as f64;
                if dense < 1.0 {
                    return Ok(Structure::ThreeOfNine { dense });
                }
            }
            LayerKind::Spatial | LayerKind::Grouped if taps == [3, 3] => {
                let stats = pattern_stats(shape.oc, shape.ic / shape.group, taps, layer.values()?)?;
                if let Some(shared) = stats.shared {
                    return Ok(Structure::FiveOfNine { shared, absent: stats.absent });
                }
            }
            _ => {}
        }
        if layer.density() > PRUNED_SHARE {
            return Ok(Structure::Dense);
        }
        let kind = shape.kind();
        let pointwise = matches!(kind, LayerKind::Pointwise | LayerKind::Transposed)
            || (kind == LayerKind::Grouped && shape.taps() == 1);
        let formats: &[FormatKind] = if pointwise {
            &[FormatKind::BLOCKS_4X4, FormatKind::ROWS_8, FormatKind::ROWS_4, FormatKind::ROWS_2]
        } else if kind == LayerKind::Depthwise {
            &[]
        } else {
            &[FormatKind::ROWS_4, FormatKind::ROWS_2]
        };
        let found = formats.iter().find(|format| layer.stats(**format).fill >= FULL);
        Ok(match found {
            Some(format) => Structure::Blocks(*format),
            None if kind == LayerKind::Pointwise && two_of_four(layer)? => Structure::TwoOfFour,
            None => Structure::Unstructured,
        })
    }
}

fn two_of_four(layer: &Layer) -> TractResult<bool> {
    let at_most_two = |four: &[f32]| four.iter().filter(|w| **w != 0.0).count() <= 2;
    let mut rows = layer.values()?.chunks(layer.shape.ic);
    Ok(layer.density() >= HALF && rows.all(|row| row.chunks(4).all(at_most_two)))
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Structure::Dense => f.write_str("dense"),
            Structure::Unstructured => f.write_str("unstructured"),
            Structure::TwoOfFour => f.write_str("2:4"),
            Structure::Blocks(format) => format.fmt(f),
            Structure::ThreeOfNine { dense } if *dense == 0.0 => f.write_str("3:9"),
            Structure::ThreeOfNine { dense } => write!(f, "3:9+{dense:.2}"),
            Structure::FiveOfNine { shared, absent } => {
                f.write_str("5:9")?;
                if *shared != 4 {
                    write!(f, "/{shared}")?;
                }
                if *absent > 0.0 { write!(f, ":{absent:.2}") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(oc: usize, ic: usize, group: usize, k: usize, weights: &[f32]) -> String {
        Structure::of(&Layer::sample(oc, ic, group, k, weights)).unwrap().to_string()
    }

    fn matrix(oc: usize, ic: usize, keep: impl Fn(usize, usize) -> bool) -> Vec<f32> {
        (0..oc * ic).map(|i| f32::from(keep(i / ic, i % ic))).collect()
    }

    #[test]
    fn the_coarsest_block_that_fits() {
        let of = |keep: fn(usize, usize) -> bool| structure(16, 32, 1, 1, &matrix(16, 32, keep));
        assert_eq!(of(|_, _| true), "dense");
        assert_eq!(of(|r, c| (r / 4 + c / 4) % 3 == 0), "4x4");
        assert_eq!(of(|r, c| (r / 8 + c) % 3 == 0), "8x1");
        assert_eq!(of(|r, c| (r / 4 + c) % 3 == 0), "4x1");
        assert_eq!(of(|r, c| (r / 2 + c) % 3 == 0), "2x1");
        assert_eq!(of(|r, c| (r * 5 + c * 3) % 4 == 0), "unstructured");
        assert_eq!(of(|r, c| (r + c) % 4 < 2), "2:4");
        assert_eq!(of(|r, c| (r + c) % 6 < 3), "unstructured");
    }

    #[test]
    fn patterns_are_found() {
        let mut weights = vec![1f32; 32 * 9];
        let mut pruned = weights.clone();
        prune_patterns(&mut pruned);
        assert_eq!(structure(32, 32, 32, 3, &weights), "dense");
        assert_eq!(structure(32, 32, 32, 3, &pruned), "3:9");
        weights[..16 * 9].copy_from_slice(&pruned[..16 * 9]);
        assert_eq!(structure(32, 32, 32, 3, &weights), "3:9+0.50");
        let four = |i: usize| [1, 3, 4, 5].contains(&(i % 9));
        let spatial: Vec<f32> = (0..8 * 8 * 9).map(|i| f32::from(four(i))).collect();
        assert_eq!(structure(8, 8, 1, 3, &spatial), "5:9");
        let half: Vec<f32> = (0..8 * 8 * 9).map(|i| f32::from(four(i) && i / 9 % 8 < 4)).collect();
        assert_eq!(structure(8, 8, 1, 3, &half), "5:9:0.50");
    }

    /// The first of the eight patterns everywhere.
    fn prune_patterns(weights: &mut [f32]) {
        let pattern = DepthwisePattern::three_of_nine().next().unwrap();
        weights.iter_mut().enumerate().filter(|(i, _)| !pattern.keeps(i % 9)).for_each(|(_, w)| *w = 0.0);
    }
}
