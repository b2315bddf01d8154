//! A sparse matrix of `R` x `C` blocks; `C == 1` is the row format of unstructured and Nx1 sparsity.

use super::stats::Diagonal;
use super::{FormatKind, Nonzeros, check_finite, check_groups, check_matrix};
use crate::error::FormatError;

/// Weights that are looked through at once before they are compressed: 32 KB, which the first cache holds.
const STRIP: usize = 8192;

/// A sparse `oc` x `ic` matrix in blocks of `R` rows (output channels) by `C` columns (input channels).
///
/// Blocks are aligned to multiples of `R` and `C`. Where `oc` or `ic` is no multiple, the last block row or
/// column is filled up with zeros. A block is stored if any of its weights is nonzero; its values stand
/// column by column (`values[block * R * C + column * R + row]`), the order in which kernels broadcast them.
///
/// Invariants: `starts` has one entry more than there are block rows, begins with 0, never decreases and ends
/// with the number of blocks; the block columns of a row grow strictly and stay below `ic.div_ceil(C)`; every
/// value is finite; values outside `oc` x `ic` are zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks<const R: usize, const C: usize> {
    rows: usize,
    cols: usize,
    starts: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// Rows of single columns: `Rows<1>` is unstructured (CSR), `Rows<4>` is 4x1.
pub type Rows<const N: usize> = Blocks<N, 1>;

impl<const R: usize, const C: usize> Blocks<R, C> {
    /// This format.
    pub const KIND: FormatKind = {
        assert!(R > 0 && R < 256 && C > 0 && C < 256);
        FormatKind { r: R as u8, c: C as u8 }
    };

    /// Compresses a dense row-major `rows` x `cols` matrix. Zero means exactly 0.0 or -0.0.
    ///
    /// # Errors
    /// An empty shape, a slice of another length, a weight that is not finite, or more than `u32::MAX`
    /// blocks.
    pub fn from_dense(rows: usize, cols: usize, dense: &[f32]) -> Result<Self, FormatError> {
        Self::from_groups(rows, cols, 1, dense)
    }

    /// Compresses a block-diagonal `rows` x `cols` matrix of `groups` equal blocks, of which `dense` holds
    /// the blocks alone, row-major: `[rows][cols / groups]`. What lies outside of the blocks is never
    /// there, but where a stored group of weights reaches across their borders.
    ///
    /// # Errors
    /// As [`Blocks::from_dense`] of the whole matrix; groups that do not divide rows and columns.
    pub fn from_groups(rows: usize, cols: usize, groups: usize, dense: &[f32]) -> Result<Self, FormatError> {
        let elements = rows.checked_mul(cols).ok_or(FormatError::TooLarge("matrix"))?;
        check_matrix(rows, cols, elements)?;
        u32::try_from(elements).map_err(|_| FormatError::TooLarge("matrix"))?;
        check_groups(rows, groups)?;
        check_groups(cols, groups)?;
        let (height, width) = (rows / groups, cols / groups);
        check_matrix(rows, width, dense.len())?;
        let mut starts = Vec::with_capacity(rows.div_ceil(R) + 1);
        starts.push(0);
        let (mut columns, mut values) = (vec![], vec![]);
        // Weights are looked through strip by strip and compressed while they are in the cache.
        let strip = R * (STRIP / width / R).max(1);
        for first in (0..rows).step_by(strip) {
            let here = strip.min(rows - first);
            let nonzeros = Nonzeros::of(here, width, &dense[first * width..][..here * width])?;
            if !nonzeros.all_finite() {
                check_finite(dense)?;
            }
            for row0 in (0..here).step_by(R) {
                let from = columns.len();
                let diagonal = Diagonal { height, first };
                nonzeros.for_each_block_of(row0..here.min(row0 + R), C, diagonal, |column| {
                    columns.push(column as u32);
                });
                let found = &columns[from..];
                values.try_reserve(found.len() * R * C).map_err(|_| FormatError::TooLarge("matrix"))?;
                // a row and the column that it begins at
                let lines: [(&[f32], usize); R] = std::array::from_fn(|r| {
                    let row = first + row0 + r;
                    let line = dense.get(row * width..).and_then(|d| d.get(..width)).unwrap_or(&[]);
                    (line, row / height * width)
                });
                for column in found {
                    let block: [[f32; R]; C] = std::array::from_fn(|c| {
                        lines.map(|(line, first)| {
                            let at = (*column as usize * C + c).checked_sub(first);
                            at.and_then(|at| line.get(at)).copied().unwrap_or(0.0)
                        })
                    });
                    values.extend_from_slice(block.as_flattened());
                }
                starts.push(columns.len() as u32);
            }
        }
        Ok(Blocks { rows, cols, starts, columns, values })
    }

    /// Takes the compressed parts apart from a file, checking every invariant of the type.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn from_parts(
        rows: usize,
        cols: usize,
        starts: Vec<u32>,
        columns: Vec<u32>,
        values: Vec<f32>,
    ) -> Result<Self, FormatError> {
        let _: FormatKind = Self::KIND; // a block is not empty
        let elements = rows.checked_mul(cols).ok_or(FormatError::TooLarge("matrix"))?;
        check_matrix(rows, cols, elements)?;
        u32::try_from(elements).map_err(|_| FormatError::TooLarge("matrix"))?;
        let length = |what, expected: Option<usize>, got| match expected {
            Some(expected) if expected == got => Ok(()),
            Some(expected) => Err(FormatError::Length { what, expected, got }),
            None => Err(FormatError::TooLarge(what)),
        };
        let block_rows = rows.div_ceil(R);
        length("row starts", block_rows.checked_add(1), starts.len())?;
        length("values", columns.len().checked_mul(R * C), values.len())?;
        check_finite(&values)?;
        if starts[0] != 0 {
            return Err(FormatError::RowStarts { row: 0 });
        }
        if let Some(row) = starts.windows(2).position(|w| w[0] > w[1]) {
            return Err(FormatError::RowStarts { row });
        }
        if starts[block_rows] as usize != columns.len() {
            return Err(FormatError::RowStarts { row: block_rows });
        }
        let block_cols = cols.div_ceil(C) as u32;
        let matrix = Blocks { rows, cols, starts, columns, values };
        for row in 0..block_rows {
            let mut previous = None;
            for block in matrix.range(row) {
                let column = matrix.columns[block];
                if column >= block_cols || previous.is_some_and(|p| p >= column) {
                    return Err(FormatError::Column { row, block });
                }
                previous = Some(column);
                for (i, v) in matrix.block(block).iter().enumerate() {
                    let inside = row * R + i % R < rows && column as usize * C + i / R < cols;
                    if !inside && *v != 0.0 {
                        return Err(FormatError::Column { row, block });
                    }
                }
            }
        }
        Ok(matrix)
    }

    /// Starts, columns and values, to be packed without a copy.
    pub(crate) fn into_parts(self) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
        (self.starts, self.columns, self.values)
    }

    /// The dense row-major matrix.
    pub fn to_dense(&self) -> Vec<f32> {
        let mut dense = vec![0f32; self.rows * self.cols];
        for row in 0..self.block_rows() {
            for block in self.range(row) {
                let col0 = self.columns[block] as usize * C;
                for (i, v) in self.block(block).iter().enumerate() {
                    let (r, c) = (row * R + i % R, col0 + i / R);
                    if r < self.rows && c < self.cols {
                        dense[r * self.cols + c] = *v;
                    }
                }
            }
        }
        dense
    }

    /// Rows of the matrix: output channels.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix: input channels.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows of blocks: `rows.div_ceil(R)`.
    pub fn block_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Stored blocks.
    pub fn blocks(&self) -> usize {
        self.columns.len()
    }

    /// The positions of the blocks of block row `row`.
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.starts[row] as usize..self.starts[row + 1] as usize
    }

    /// First block of every block row, and the number of blocks at the end.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Block column of every block.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// `R * C` values per block, column by column.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of one block, column by column.
    pub fn block(&self, block: usize) -> &[f32] {
        &self.values[block * R * C..][..R * C]
    }

    /// Weights that are stored and not zero.
    pub fn nnz(&self) -> usize {
        self.values.iter().filter(|v| **v != 0.0).count()
    }

    /// Memory of starts, columns and values.
    pub fn bytes(&self) -> usize {
        4 * (self.starts.len() + self.columns.len() + self.values.len())
    }
}
