//! Where the zeros of a layer are: a picture of its weight matrix, made small enough to look at.

use crate::analyse::{Layer, LayerKind, Seen};
use crate::nested::places;
use tract_core::internal::*;

/// Cells of a map at most.
const MOST: usize = 128 * 128;

/// Shares of nonzero weights of an `oc` x `ic / group * taps` matrix (`oc * taps` x `ic / group` if
/// transposed), cell by cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    matrix: [usize; 2],
    cell: [usize; 2],
    size: [usize; 2],
    shares: Vec<f32>,
}

impl Map {
    /// Makes the map of a layer. Cells are single weights while at most 128 x 128 are needed. Beyond that the
    /// longer side is halved until they are enough: cells are 2, 4, 8 ... weights wide or high, so that
    /// blocks of a power of two are not cut; those of a k x k convolution are as wide as a whole kernel
    /// first. The map of a depthwise layer keeps the taps of its kernels apart.
    ///
    /// # Errors
    /// Weights that are not plain f32.
    pub fn of(layer: &Layer) -> TractResult<Map> {
        let shape = &layer.shape;
        let matrix = [shape.rows(), shape.weights() / shape.rows()];
        let taps = if shape.transposed { 1 } else { shape.taps() };
        let size_of = |cell: [usize; 2]| [0, 1].map(|axis| matrix[axis].div_ceil(cell[axis]));
        let mut cell = [1, 1];
        while size_of(cell).iter().product::<usize>() > MOST {
            let [rows, cols] = size_of(cell);
            if shape.kind() == LayerKind::Depthwise || rows > cols {
                cell[0] *= 2;
            } else if cell[1] < taps {
                cell[1] = taps;
            } else {
                cell[1] *= 2;
            }
        }
        let size = size_of(cell);
        let mut nonzero = vec![0u32; size[0] * size[1]];
        for (row, weights) in layer.values()?.chunks(matrix[1].max(1)).enumerate() {
            for (col, weight) in weights.iter().enumerate() {
                nonzero[row / cell[0] * size[1] + col / cell[1]] += u32::from(*weight != 0.0);
            }
        }
        // the last row and column of cells may reach beyond the matrix
        let within = |at: usize, axis: usize| cell[axis].min(matrix[axis] - at * cell[axis]);
        let shares = nonzero.iter().enumerate().map(|(at, count)| {
            let weights = within(at / size[1], 0) * within(at % size[1], 1);
            *count as f32 / weights as f32
        });
        Ok(Map { matrix, cell, size, shares: shares.collect() })
    }

    /// Rows and columns of the matrix.
    pub fn matrix(&self) -> [usize; 2] {
        self.matrix
    }

    /// Height and width of a cell in weights.
    pub fn cell(&self) -> [usize; 2] {
        self.cell
    }

    /// Rows and columns of cells.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Share of nonzero weights in each cell, row by row.
    pub fn shares(&self) -> &[f32] {
        &self.shares
    }
}

/// Maps of the layers of a model, in the order of a [`Report`](crate::Report); none where the weights cannot
/// be read. Of an optimised model, where all of them are packed, the list is empty.
///
/// # Errors
/// Layers whose shapes contradict each other.
pub fn maps(model: &TypedModel) -> TractResult<Vec<Option<Map>>> {
    let mut maps = vec![];
    if stage_is_optimized(&model.properties) {
        return Ok(maps);
    }
    for place in places(model)? {
        maps.push(match &place.seen {
            Seen::Layer(layer) => Some(Map::of(layer)?),
            Seen::Opaque(..) => None,
        });
    }
    Ok(maps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(oc: usize, ic: usize, group: usize, k: usize, keep: impl Fn(usize, usize) -> bool) -> Map {
        let cols = ic / group * k * k;
        let weights: Vec<f32> = (0..oc * cols).map(|i| f32::from(keep(i / cols, i % cols))).collect();
        Map::of(&Layer::sample(oc, ic, group, k, &weights)).unwrap()
    }

    #[test]
    fn small_matrices_are_shown_weight_by_weight() {
        let map = map(3, 5, 1, 1, |row, col| row == 1 && col != 2);
        assert_eq!((map.matrix(), map.cell(), map.size()), ([3, 5], [1, 1], [3, 5]));
        assert_eq!(map.shares(), [0., 0., 0., 0., 0., 1., 1., 0., 1., 1., 0., 0., 0., 0., 0.]);
    }

    #[test]
    fn cells_are_shares_and_blocks_stay_whole() {
        let blocks = map(512, 512, 1, 1, |row, col| (row / 4 + col / 4) % 3 == 0);
        assert_eq!((blocks.cell(), blocks.size()), ([4, 4], [128, 128]));
        for (at, share) in blocks.shares().iter().enumerate() {
            assert_eq!(*share, f32::from((at / 128 + at % 128).is_multiple_of(3)));
        }
        // 131 rows, 510 columns: the last cells have as many as are left, and are shares of these
        let ragged = map(131, 510, 1, 1, |row, col| row == 130 && col % 4 == 0);
        assert_eq!((ragged.cell(), ragged.size()), ([2, 4], [66, 128]));
        assert_eq!(ragged.shares()[65 * 128..], [0.25; 127].into_iter().chain([0.5]).collect::<Vec<_>>());
        assert!(ragged.shares()[..65 * 128].iter().all(|share| *share == 0.0));
    }

    #[test]
    fn kernels_stay_whole() {
        let spatial = map(64, 64, 1, 3, |row, col| row != 5 && [1, 3, 4, 5].contains(&(col % 9)));
        assert_eq!((spatial.cell(), spatial.size()), ([1, 9], [64, 64]));
        let want = |at: usize| if at / 64 == 5 { 0.0 } else { 4.0 / 9.0 };
        assert!(spatial.shares().iter().enumerate().all(|(at, share)| *share == want(at)));
        let depthwise = map(2048, 2048, 2048, 3, |_, col| col < 6);
        assert_eq!((depthwise.cell(), depthwise.size()), ([2, 1], [1024, 9]));
        assert_eq!(depthwise.shares()[..9], [1., 1., 1., 1., 1., 1., 0., 0., 0.]);
    }
}
