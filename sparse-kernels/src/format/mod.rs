//! How zeros are left out.
//!
//! A format owns its data, checks every invariant once in its constructor and cannot be changed afterwards:
//! kernels rely on that and check no bounds.

mod block;
mod pattern;
mod spatial;
mod stats;

pub use block::{Blocks, Rows};
pub use pattern::{DepthwiseGroup, DepthwisePattern, DepthwisePatterns};
pub(crate) use spatial::TapLanes;
pub use spatial::{PatternStats, pattern_stats};
pub use stats::{Nonzeros, Stats, fill_of, stats};

use crate::error::FormatError;
use std::fmt;

/// Which groups of weights are stored together: `r` output channels by `c` input channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FormatKind {
    r: u8,
    c: u8,
}

impl FormatKind {
    /// Single weights: unstructured sparsity.
    pub const ROWS_1: FormatKind = FormatKind { r: 1, c: 1 };
    /// Two output channels share their zeros.
    pub const ROWS_2: FormatKind = FormatKind { r: 2, c: 1 };
    /// Four output channels share their zeros (MNN, XNNPACK).
    pub const ROWS_4: FormatKind = FormatKind { r: 4, c: 1 };
    /// Eight output channels share their zeros.
    pub const ROWS_8: FormatKind = FormatKind { r: 8, c: 1 };
    /// Blocks of 4 output by 4 input channels (SparseByteNN).
    pub const BLOCKS_4X4: FormatKind = FormatKind { r: 4, c: 4 };

    /// Pairs of input channels that four output channels share, as kernels of half precision read rows of
    /// four.
    pub const BLOCKS_4X2: FormatKind = FormatKind { r: 4, c: 2 };
    /// Pairs of input channels. No kernel of single precision reads these four as they are: their weights run as
    /// rows of one or two output channels.
    pub const BLOCKS_1X2: FormatKind = FormatKind { r: 1, c: 2 };
    /// Pairs of input channels that two output channels share.
    pub const BLOCKS_2X2: FormatKind = FormatKind { r: 2, c: 2 };
    /// Four input channels.
    pub const BLOCKS_1X4: FormatKind = FormatKind { r: 1, c: 4 };
    /// Four input channels that two output channels share.
    pub const BLOCKS_2X4: FormatKind = FormatKind { r: 2, c: 4 };

    pub(crate) const fn new(r: usize, c: usize) -> FormatKind {
        assert!(r > 0 && r <= u8::MAX as usize && c > 0 && c <= u8::MAX as usize);
        FormatKind { r: r as u8, c: c as u8 }
    }

    /// Every format that pointwise kernels read.
    pub const POINTWISE: [FormatKind; 5] = [
        FormatKind::ROWS_1,
        FormatKind::ROWS_2,
        FormatKind::ROWS_4,
        FormatKind::ROWS_8,
        FormatKind::BLOCKS_4X4,
    ];

    /// Every format that spatial kernels read.
    pub const SPATIAL: [FormatKind; 3] = [FormatKind::ROWS_1, FormatKind::ROWS_2, FormatKind::ROWS_4];

    /// Output channels of a group.
    pub fn r(self) -> usize {
        self.r as usize
    }

    /// Input channels of a group.
    pub fn c(self) -> usize {
        self.c as usize
    }
}

impl fmt::Display for FormatKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if *self == FormatKind::ROWS_1 {
            f.write_str("unstructured")
        } else {
            write!(f, "{}x{}", self.r, self.c)
        }
    }
}

/// Refuses weights that are NaN or infinite.
pub(crate) fn check_finite(values: &[f32]) -> Result<(), FormatError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(FormatError::NotFinite { index }),
        None => Ok(()),
    }
}

/// Refuses a dense matrix whose shape is empty, overflows, or disagrees with its length.
pub(crate) fn check_matrix(rows: usize, cols: usize, len: usize) -> Result<(), FormatError> {
    if rows == 0 {
        return Err(FormatError::ZeroDim("rows"));
    }
    if cols == 0 {
        return Err(FormatError::ZeroDim("cols"));
    }
    let expected = rows.checked_mul(cols).ok_or(FormatError::TooLarge("matrix"))?;
    if expected != len {
        return Err(FormatError::Length { what: "dense matrix", expected, got: len });
    }
    Ok(())
}

/// Refuses groups that do not divide the rows or columns of a block-diagonal matrix.
pub(crate) fn check_groups(len: usize, groups: usize) -> Result<(), FormatError> {
    if groups == 0 {
        return Err(FormatError::ZeroDim("groups"));
    }
    if !len.is_multiple_of(groups) {
        let expected = len.next_multiple_of(groups);
        return Err(FormatError::Length { what: "rows or columns of whole groups", expected, got: len });
    }
    Ok(())
}
