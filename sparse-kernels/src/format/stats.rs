//! The numbers that a chooser needs, without compressing anything.

use super::{FormatKind, check_matrix};
use crate::error::FormatError;

/// What a dense matrix would look like in one format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// The format.
    pub kind: FormatKind,
    /// Nonzero weights over all weights.
    pub density: f64,
    /// Blocks with a nonzero weight.
    pub blocks: usize,
    /// Stored blocks over all blocks: what a kernel's work is proportional to.
    pub block_density: f64,
    /// Nonzero weights over stored weights; 1 if nothing is stored.
    pub fill: f64,
    /// Memory of the compressed matrix.
    pub bytes: usize,
    /// Rows (output channels) without any nonzero weight.
    pub dead_rows: usize,
    /// Columns (input channels) without any nonzero weight.
    pub dead_cols: usize,
}

/// Block statistics of a row-major `rows` x `cols` matrix.
///
/// # Errors
/// An empty shape or a slice of another length.
pub fn stats(kind: FormatKind, rows: usize, cols: usize, dense: &[f32]) -> Result<Stats, FormatError> {
    check_matrix(rows, cols, dense.len())?;
    let (r, c) = (kind.r(), kind.c());
    let mut nnz = 0;
    let mut blocks = 0;
    let mut live_cols = vec![false; cols];
    let mut dead_rows = 0;
    let mut live = vec![false; cols.div_ceil(c)];
    for rows in dense.chunks(cols * r) {
        live.fill(false);
        for row in rows.chunks(cols) {
            let mut row_nnz = 0;
            for (column, _) in row.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                row_nnz += 1;
                live[column / c] = true;
                live_cols[column] = true;
            }
            nnz += row_nnz;
            dead_rows += usize::from(row_nnz == 0);
        }
        blocks += live.iter().filter(|l| **l).count();
    }
    let block_rows = rows.div_ceil(r);
    Ok(Stats {
        kind,
        density: nnz as f64 / dense.len() as f64,
        blocks,
        block_density: blocks as f64 / (block_rows * live.len()) as f64,
        fill: fill_of(nnz, blocks * r * c),
        bytes: 4 * (block_rows + 1 + blocks + blocks * r * c),
        dead_rows,
        dead_cols: live_cols.iter().filter(|l| !**l).count(),
    })
}

/// Share of stored weights that are nonzero; 1 if nothing is stored.
pub fn fill_of(nnz: usize, stored: usize) -> f64 {
    if stored == 0 { 1.0 } else { nnz as f64 / stored as f64 }
}
