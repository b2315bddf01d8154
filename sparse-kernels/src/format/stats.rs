//! The numbers that a chooser needs, without compressing anything.

use super::{FormatKind, check_matrix};
use crate::error::FormatError;
use std::ops::Range;

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

/// Where a matrix is not zero: one bit per weight, one pass over the weights, any number of formats.
///
/// Invariants: `bits` has `rows` rows of `words` words; bits beyond the last column are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonzeros {
    rows: usize,
    cols: usize,
    words: usize,
    bits: Vec<u64>,
    nnz: usize,
    finite: bool,
}

/// Where rows stand in a block-diagonal matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Diagonal {
    /// Rows of each block of the diagonal.
    pub(crate) height: usize,
    /// Which row of the whole matrix is the first of these.
    pub(crate) first: usize,
}

impl Nonzeros {
    /// Reads a dense row-major `rows` x `cols` matrix. Zero means exactly 0.0 or -0.0.
    ///
    /// # Errors
    /// An empty shape or a slice of another length.
    pub fn of(rows: usize, cols: usize, dense: &[f32]) -> Result<Nonzeros, FormatError> {
        check_matrix(rows, cols, dense.len())?;
        let words = cols.div_ceil(64);
        let mut bits = Vec::with_capacity(rows * words);
        let mut zeros = [0f32; 16];
        for row in dense.chunks_exact(cols) {
            let (whole, rest) = row.as_chunks::<64>();
            bits.extend(whole.iter().map(|weights| nonzero_bits(weights, &mut zeros)));
            if !rest.is_empty() {
                let mut last = [0f32; 64];
                last[..rest.len()].copy_from_slice(rest);
                bits.push(nonzero_bits(&last, &mut zeros));
            }
        }
        let finite = zeros.iter().all(|zero| *zero == 0.0);
        let nnz = bits.iter().map(|word| word.count_ones() as usize).sum();
        Ok(Nonzeros { rows, cols, words, bits, nnz, finite })
    }

    /// Nonzero weights.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Whether no weight is NaN or infinite.
    pub fn all_finite(&self) -> bool {
        self.finite
    }

    /// Whether of every four neighbouring columns, the first of them at a multiple of four, no row has more
    /// than two.
    pub fn two_of_four(&self) -> bool {
        self.bits.iter().all(|word| {
            let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
            let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
            // three and four have the third bit once one is added
            (fours + 0x1111_1111_1111_1111) & 0x4444_4444_4444_4444 == 0
        })
    }

    /// The bits of each row, a word for 64 columns.
    pub(super) fn row_bits(&self) -> impl Iterator<Item = &[u64]> {
        self.bits.chunks_exact(self.words)
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Calls `f` with every block column, in order, that has a nonzero weight in one of `rows`.
    pub(crate) fn for_each_block(&self, rows: Range<usize>, c: usize, mut f: impl FnMut(usize)) {
        let mut last = None;
        for word in 0..self.words {
            let mut bits = rows.clone().fold(0, |bits, row| bits | self.bits[row * self.words + word]);
            while bits != 0 {
                let column = (word * 64 + bits.trailing_zeros() as usize) / c;
                if last.replace(column) != Some(column) {
                    f(column);
                }
                bits &= bits - 1;
            }
        }
    }

    /// Calls `f` with every block column, in order, that has a nonzero weight in one of `rows`, of the
    /// block-diagonal matrix that these rows are a part of.
    pub(crate) fn for_each_block_of(
        &self,
        rows: Range<usize>,
        c: usize,
        Diagonal { height, first }: Diagonal,
        mut f: impl FnMut(usize),
    ) {
        let group_of = |row: usize| (first + row) / height;
        if group_of(rows.end - 1) == 0 {
            return self.for_each_block(rows, c, f);
        }
        let (mut row, mut last) = (rows.start, None);
        while row < rows.end {
            let group = group_of(row);
            let end = rows.end.min((group + 1) * height - first);
            self.for_each_block(row..end, 1, |column| {
                let column = (group * self.cols + column) / c;
                if last.replace(column) != Some(column) {
                    f(column);
                }
            });
            row = end;
        }
    }

    /// Statistics of the block-diagonal matrix of `groups` blocks whose rows these are: density, fill and
    /// dead rows and columns are shares and numbers of weights inside of the blocks, stored blocks may
    /// reach beyond. `groups` divides the rows.
    pub fn group_stats(&self, kind: FormatKind, groups: usize) -> Stats {
        if groups == 1 {
            return self.stats(kind);
        }
        let (r, c) = (kind.r(), kind.c());
        let mut blocks = 0;
        let height = self.rows / groups;
        for row in (0..self.rows).step_by(r) {
            let diagonal = Diagonal { height, first: 0 };
            self.for_each_block_of(row..self.rows.min(row + r), c, diagonal, |_| blocks += 1);
        }
        let mut live = 0;
        for group in 0..groups {
            self.for_each_block(group * height..(group + 1) * height, 1, |_| live += 1);
        }
        let block_rows = self.rows.div_ceil(r);
        Stats {
            blocks,
            block_density: blocks as f64 / (block_rows * self.cols.div_ceil(c)) as f64,
            fill: fill_of(self.nnz, blocks * r * c),
            bytes: 4 * (block_rows + 1 + blocks + blocks * r * c),
            dead_cols: groups * self.cols - live,
            ..self.stats(kind)
        }
    }

    /// Statistics of the matrix in one format.
    pub fn stats(&self, kind: FormatKind) -> Stats {
        let (r, c) = (kind.r(), kind.c());
        let mut blocks = 0;
        let mut group = vec![0u64; self.words];
        let mut any = vec![0u64; self.words];
        let mut dead_rows = 0;
        for rows in self.bits.chunks(r * self.words) {
            group.fill(0);
            for row in rows.chunks_exact(self.words) {
                let mut live = 0;
                for (group, word) in group.iter_mut().zip(row) {
                    *group |= word;
                    live |= word;
                }
                dead_rows += usize::from(live == 0);
            }
            any.iter_mut().zip(&group).for_each(|(any, group)| *any |= group);
            blocks += blocks_of(&group, self.cols, c);
        }
        let block_rows = self.rows.div_ceil(r);
        Stats {
            kind,
            density: self.nnz as f64 / (self.rows * self.cols) as f64,
            blocks,
            block_density: blocks as f64 / (block_rows * self.cols.div_ceil(c)) as f64,
            fill: fill_of(self.nnz, blocks * r * c),
            bytes: 4 * (block_rows + 1 + blocks + blocks * r * c),
            dead_rows,
            dead_cols: self.cols - any.iter().map(|word| word.count_ones() as usize).sum::<usize>(),
        }
    }
}

/// A bit for each of 64 weights; what is not finite makes one of `zeros` NaN.
///
/// All weights of a model come by here while it loads: every step is the same for eight neighbours, so that
/// it vectorises (a comparison, the place of the weight as a mask, a disjunction), and 0.0 times a weight is 0.0
/// only if it is finite.
fn nonzero_bits(weights: &[f32; 64], zeros: &mut [f32; 16]) -> u64 {
    const PLACES: [u32; 32] = {
        let mut places = [1; 32];
        let mut i = 1;
        while i < 32 {
            places[i] = places[i - 1] << 1;
            i += 1;
        }
        places
    };
    let mut word = 0;
    for (half, weights) in weights.as_chunks::<32>().0.iter().enumerate() {
        let mut bits = [0u32; 8];
        for (weights, places) in weights.as_chunks::<8>().0.iter().zip(PLACES.as_chunks::<8>().0) {
            for ((bits, w), place) in bits.iter_mut().zip(weights).zip(places) {
                // By its bits: to a comparison of floats, a process that flushes denormal numbers, as PyTorch can be told
                // to, has only zeros in lanes of pairs whose second weight is one.
                *bits |= if w.to_bits() << 1 != 0 { *place } else { 0 };
            }
        }
        word |= u64::from(bits.iter().fold(0, |all, bits| all | bits)) << (32 * half);
    }
    for weights in weights.as_chunks::<16>().0 {
        zeros.iter_mut().zip(weights).for_each(|(zero, w)| *zero += w * 0.0);
    }
    word
}

/// Blocks of `c` columns that have a bit set.
fn blocks_of(bits: &[u64], cols: usize, c: usize) -> usize {
    // Of blocks that fill words, each block's bits are gathered into its lowest one.
    let pairs = |word: u64| word | word >> 1;
    let count = |lowest: &dyn Fn(u64) -> u64| bits.iter().map(|w| lowest(*w).count_ones() as usize).sum();
    match c {
        1 => count(&|word| word),
        2 => count(&|word| pairs(word) & 0x5555_5555_5555_5555),
        4 => count(&|word| (pairs(word) | pairs(word >> 2)) & 0x1111_1111_1111_1111),
        _ => {
            let set = |col: usize| bits[col / 64] >> (col % 64) & 1 == 1;
            (0..cols).step_by(c).filter(|col| (*col..cols.min(col + c)).any(set)).count()
        }
    }
}

/// Block statistics of a row-major `rows` x `cols` matrix in one format.
///
/// # Errors
/// An empty shape or a slice of another length.
pub fn stats(kind: FormatKind, rows: usize, cols: usize, dense: &[f32]) -> Result<Stats, FormatError> {
    Ok(Nonzeros::of(rows, cols, dense)?.stats(kind))
}

/// Share of stored weights that are nonzero; 1 if nothing is stored.
pub fn fill_of(nnz: usize, stored: usize) -> f64 {
    if stored == 0 { 1.0 } else { nnz as f64 / stored as f64 }
}
