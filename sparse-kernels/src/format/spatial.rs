//! What can be left out of a kxk layer: kernel patterns, absent kernels, shared zeros of output channels.

use super::{FormatKind, Nonzeros, check_groups};
use crate::error::FormatError;

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
