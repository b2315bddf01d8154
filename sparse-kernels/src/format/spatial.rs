//! What can be left out of a kxk layer: kernel patterns, absent kernels, shared zeros of output channels.

use super::check_matrix;
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

    /// The stored share of the weights for groups of `r` output channels, if `r` is in
    /// [`PatternStats::ROWS`].
    pub fn density_of(&self, r: usize) -> Option<f64> {
        PatternStats::ROWS.iter().position(|rows| *rows == r).map(|i| self.densities[i])
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
    let too_large = FormatError::TooLarge("matrix");
    let window = taps[0].checked_mul(taps[1]).ok_or(too_large.clone())?;
    let row = ic.checked_mul(window).ok_or(too_large)?;
    check_matrix(oc, row, weights.len())?;
    let densities = PatternStats::ROWS.map(|r| {
        let live = |rows: &[f32], column: usize| rows[column..].iter().step_by(row).any(|w| *w != 0.0);
        let columns: usize =
            weights.chunks(r * row).map(|rows| (0..row).filter(|column| live(rows, *column)).count()).sum();
        columns as f64 / (oc.div_ceil(r) * row) as f64
    });
    let (mut absent, mut five_of_nine) = (0, taps == [3, 3]);
    let mut live_channels = vec![false; ic];
    for (kernel, values) in weights.chunks_exact(window).enumerate() {
        let kept = values.iter().filter(|w| **w != 0.0).count();
        absent += usize::from(kept == 0);
        live_channels[kernel % ic] |= kept > 0;
        five_of_nine &= kept == 0 || (kept <= 4 && values[window / 2] != 0.0);
    }
    let nnz = weights.iter().filter(|w| **w != 0.0).count();
    // Filters share their patterns if every filter of a group has a weight wherever one has.
    let shares = |r: usize| {
        let same = |rows: &[f32], column: usize| {
            let mut zeros = rows[column..].iter().step_by(row).map(|w| *w == 0.0);
            let first = zeros.next();
            zeros.all(|zero| Some(zero) == first)
        };
        weights.chunks(r * row).all(|rows| (0..row).all(|column| same(rows, column)))
    };
    let shared = five_of_nine.then(|| [4, 2, 1].into_iter().find(|r| shares(*r))).flatten();
    let live_rows = weights.chunks_exact(row).filter(|row| row.iter().any(|w| *w != 0.0)).count();
    Ok(PatternStats {
        density: nnz as f64 / weights.len() as f64,
        absent: absent as f64 / (oc * ic) as f64,
        shared,
        densities,
        dead_rows: oc - live_rows,
        dead_channels: live_channels.iter().filter(|l| !**l).count(),
    })
}
