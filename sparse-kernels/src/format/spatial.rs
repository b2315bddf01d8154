//! What can be left out of a kxk layer: kernel patterns, absent kernels, shared zeros of output channels.

use super::stats::Diagonal;
use super::{FormatKind, Nonzeros, Stats, check_groups, fill_of};
use crate::error::FormatError;
use crate::table::Element;

/// Sparsity of dense weights `[oc][ic][kh][kw]`, without compressing anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatternStats {
    /// Nonzero weights over all weights.
    pub density: f64,
    /// Kernels (one per output and input channel) without any nonzero weight, over all kernels: connectivity
    /// pruning.
    pub absent: f64,
    /// 4, 2 or 1 if this is a 3x3 layer pruned 5:9 with patterns that this many neighbouring filters share,
    /// the most of them: every kernel is absent or has at most four nonzero weights, the centre among
    /// them.
    pub shared: Option<usize>,
    /// For every number of output channels in [`PatternStats::ROWS`], the share of `(ic, ky, kx)` columns
    /// that have a nonzero weight in such a group: work of a kernel that takes that number of rows, over that
    /// of a dense one.
    pub densities: [f64; 4],
    /// Output channels without any nonzero weight.
    pub dead_rows: usize,
    /// Input channels without any nonzero weight.
    pub dead_channels: usize,
}

impl PatternStats {
    /// Group sizes of [`PatternStats::densities`].
    pub const ROWS: [usize; 4] = [1, 2, 4, 8];
}

impl Nonzeros {
    /// Statistics of the weights `[oc][ic][kh][kw]` whose matrix of `oc` rows this is; `taps` is `[kh, kw]`.
    ///
    /// # Errors
    /// Taps that do not divide the columns.
    pub fn pattern_stats(&self, taps: [usize; 2]) -> Result<PatternStats, FormatError> {
        let [oc, cols] = self.size();
        let window = taps[0].checked_mul(taps[1]).ok_or(FormatError::TooLarge("matrix"))?;
        check_groups(cols, window)?;
        let (ic, mut five_of_nine, mut absent) = (cols / window, taps == [3, 3], 0);
        let mut live_channels = vec![false; ic];
        for row in self.row_bits() {
            let is_set = |column: usize| row[column / 64] >> (column % 64) & 1 == 1;
            for (channel, live) in live_channels.iter_mut().enumerate() {
                let first = channel * window;
                let kept = (first..first + window).filter(|column| is_set(*column)).count();
                absent += usize::from(kept == 0);
                *live |= kept > 0;
                five_of_nine &= kept == 0 || (kept <= 4 && is_set(first + window / 2));
            }
        }
        // Filters share their patterns if every filter of a group has a weight wherever one has.
        let rows: Vec<&[u64]> = self.row_bits().collect();
        let shares = |r: &usize| rows.chunks(*r).all(|rows| rows.iter().all(|row| row == &rows[0]));
        let stats = PatternStats::ROWS.map(|r| self.stats(FormatKind::new(r, 1)));
        Ok(PatternStats {
            density: stats[0].density,
            absent: absent as f64 / (oc * ic) as f64,
            shared: five_of_nine.then(|| [4, 2, 1].into_iter().find(shares)).flatten(),
            densities: stats.map(|stats| stats.block_density),
            dead_rows: stats[0].dead_rows,
            dead_channels: live_channels.iter().filter(|live| !**live).count(),
        })
    }
}

/// Most parts of a lane of any element.
const MOST_PARTS: usize = Element::Int8.per_lane();

/// A lane of each output channel of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TapLane {
    /// `(lane of input channels) * kh * kw + ky * kw + kx`.
    pub column: u32,
    /// Which columns of the group its parts are, counted from the first; a part that is none is zero.
    pub parts: [Option<usize>; MOST_PARTS],
}

/// How the columns `(ic, ky, kx)` of a group of output channels are put into lanes; in f16 each is one by itself.
///
/// A lane is a tap of neighbouring input channels. An input channel that is alone in its lane, such as the last of the
/// three of a picture, leaves room for its neighbours in place of other channels: there a lane is several taps, one
/// below the other. A tap may be a part of two lanes, of one of them as zero: an infinity there becomes NaN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TapLanes {
    ic: usize,
    taps: [usize; 2],
    element: Element,
}

impl TapLanes {
    /// Of kernels of `taps` (height, width) over `ic` input channels.
    pub fn new(ic: usize, taps: [usize; 2], element: Element) -> TapLanes {
        TapLanes { ic, taps, element }
    }

    /// The lane of input channels that holds one channel, at several rows; none if there is no such lane.
    pub fn alone(&self) -> Option<usize> {
        let per_lane = self.element.per_product();
        (per_lane > 1 && self.ic % per_lane == 1 && self.taps[0] > 1).then_some(self.ic / per_lane)
    }

    /// Calls `f` with every lane, in order, that has one of `columns`, which are in order.
    pub fn for_each(&self, columns: &[u32], mut f: impl FnMut(TapLane)) {
        let ([height, width], per_lane) = (self.taps, self.element.per_product());
        let window = height * width;
        let mut taps = vec![[None; MOST_PARTS]; window];
        let mut first = 0;
        let lane_of = |column: u32| column as usize / window / per_lane;
        for columns in columns.chunk_by(|a, b| lane_of(*a) == lane_of(*b)) {
            let lane = lane_of(columns[0]);
            for (i, column) in columns.iter().enumerate() {
                let (channel, tap) = (*column as usize / window, *column as usize % window);
                let (mut start, mut part) = (tap, channel % per_lane);
                if self.alone() == Some(lane) {
                    // The lane that a tap above has begun, else a new one, which does not reach below the kernel.
                    let (row, column) = (tap / width, tap % width);
                    let begun = (row.saturating_sub(per_lane - 1)..=row)
                        .find(|row| taps[row * width + column] != [None; MOST_PARTS]);
                    let above = begun.unwrap_or(row.min(height.saturating_sub(per_lane)));
                    (start, part) = (above * width + column, row - above);
                }
                taps[start][part] = Some(first + i);
            }
            for (tap, parts) in taps.iter_mut().enumerate().filter(|(_, parts)| **parts != [None; MOST_PARTS])
            {
                f(TapLane { column: (lane * window + tap) as u32, parts: std::mem::take(parts) });
            }
            first += columns.len();
        }
    }
}

impl Nonzeros {
    /// Statistics of the weights `[oc][ic / groups][kh][kw]` whose matrix of `oc` rows this is, as spatial kernels of
    /// `element` store groups of as many output channels as `kind` has; `taps` is `[kh, kw]`. Blocks are lanes
    /// of these output channels.
    ///
    /// # Errors
    /// Taps that do not divide the columns; groups that do not divide the rows.
    pub fn spatial_stats(
        &self,
        kind: FormatKind,
        groups: usize,
        taps: [usize; 2],
        element: Element,
    ) -> Result<Stats, FormatError> {
        let [oc, cols] = self.size();
        let window = taps[0].checked_mul(taps[1]).ok_or(FormatError::TooLarge("matrix"))?;
        check_groups(cols, window)?;
        check_groups(oc, groups)?;
        let (r, c) = (kind.r(), element.per_product());
        let lanes = TapLanes::new(cols / window * groups, taps, element);
        let (mut blocks, mut columns) = (0, vec![]);
        for row in (0..oc).step_by(r) {
            columns.clear();
            let diagonal = Diagonal { height: oc / groups, first: 0 };
            self.for_each_block_of(row..oc.min(row + r), 1, diagonal, |column| columns.push(column as u32));
            lanes.for_each(&columns, |_| blocks += 1);
        }
        let rows = oc.div_ceil(r);
        Ok(Stats {
            kind: FormatKind::new(r, c),
            blocks,
            block_density: blocks as f64 / (rows * (cols / window).div_ceil(c) * window) as f64,
            fill: fill_of(self.nnz(), blocks * r * c),
            bytes: 4 * (rows + 1 + blocks) + element.product_bytes() * blocks * r,
            ..self.group_stats(kind, groups)
        })
    }
}

/// Statistics of dense weights `[oc][ic][kh][kw]`; `taps` is `[kh, kw]`.
///
/// # Errors
/// An empty shape or a slice of another length.
pub fn pattern_stats(
    oc: usize,
    ic: usize,
    taps: [usize; 2],
    weights: &[f32],
) -> Result<PatternStats, FormatError> {
    let cols = taps.into_iter().try_fold(ic, usize::checked_mul).ok_or(FormatError::TooLarge("matrix"))?;
    Nonzeros::of(oc, cols, weights)?.pattern_stats(taps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(
        ic: usize,
        taps: [usize; 2],
        element: Element,
        columns: &[u32],
    ) -> Vec<(u32, Vec<Option<usize>>)> {
        let mut found = vec![];
        TapLanes::new(ic, taps, element)
            .for_each(columns, |lane| found.push((lane.column, lane.parts[..element.per_lane()].to_vec())));
        found
    }

    #[test]
    fn floats_are_lanes_of_their_own() {
        let columns = [0, 5, 9, 17];
        let expected: Vec<_> = columns.iter().enumerate().map(|(i, c)| (*c, vec![Some(i)])).collect();
        assert_eq!(lanes(2, [3, 3], Element::F32, &columns), expected);
    }

    #[test]
    fn channels_share_lanes_tap_by_tap() {
        // taps 1 and 3 of channel 0, 3 and 4 of channel 1, 0 of channel 3
        let found = lanes(4, [2, 3], Element::Bf16, &[1, 3, 9, 10, 18]);
        let expected =
            [(1, [Some(0), None]), (3, [Some(1), Some(2)]), (4, [None, Some(3)]), (6, [None, Some(4)])];
        assert_eq!(found, expected.map(|(column, parts)| (column, parts.to_vec())));
    }

    #[test]
    fn a_channel_alone_shares_lanes_row_by_row() {
        let all: Vec<u32> = (0..9).collect();
        let found = lanes(1, [3, 3], Element::Bf16, &all);
        // rows 0 and 1, and row 2 below a part that is not there
        let expected = [0, 1, 2].map(|x| (x, vec![Some(x as usize), Some(3 + x as usize)]));
        let last = [0, 1, 2].map(|x| (3 + x, vec![None, Some(6 + x as usize)]));
        assert_eq!(found, [expected, last].concat());
        let lone = TapLanes::new(3, [1, 7], Element::Bf16);
        assert_eq!((lone.alone(), TapLanes::new(3, [7, 7], Element::Bf16).alone()), (None, Some(1)));
        assert_eq!(TapLanes::new(4, [7, 7], Element::Bf16).alone(), None);
    }
}
