//! Kernels and whole models, timed: what the benches of the kernels share, and the report of whole networks.

pub mod report;

use sparse_kernels::prelude::*;
use sparse_kernels::reference;

/// The lines of a file of shapes, `N` numbers each; `#` begins a comment.
///
/// # Panics
/// A line that is something else.
pub fn shapes<const N: usize>(text: &str) -> Vec<[usize; N]> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let numbers = |line: &str| -> Option<[usize; N]> {
        let numbers: Result<Vec<usize>, _> = line.split_whitespace().map(str::parse).collect();
        numbers.ok()?.try_into().ok()
    };
    lines.map(|line| numbers(line).unwrap_or_else(|| panic!("{line:?} is not {N} numbers"))).collect()
}

/// Fails unless `y` is what the oracle says, to the rounding of sums in another order.
///
/// # Panics
/// A wrong answer.
pub fn assert_answers(geometry: &ConvGeometry, weights: &[f32], x: &[f32], y: &[f32], epilogue: &Epilogue) {
    let expected = reference::conv(geometry, weights, None, None, x, None, epilogue);
    for (i, (got, expected)) in y.iter().zip(&expected).enumerate() {
        let close = (got - expected).abs() <= 1e-4 * expected.abs().max(1.0);
        assert!(close, "output {i} of {:?} is {got} and not {expected}", geometry.shape());
    }
}

/// Repeatable numbers; good ones are not needed.
pub struct Noise(u64);

impl Noise {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    /// Uniform in -1..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Uniform in 0..1.
    pub fn share(&mut self) -> f32 {
        (self.next() + 1.0) / 2.0
    }

    /// So many numbers in -1..1.
    pub fn vec(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }

    /// A matrix of which about a share `density` of the blocks of `format` is kept.
    pub fn blocks(&mut self, rows: usize, cols: usize, format: FormatKind, density: f64) -> Vec<f32> {
        let mut matrix = self.vec(rows * cols);
        for row in (0..rows).step_by(format.r()) {
            for col in (0..cols).step_by(format.c()) {
                if self.share() as f64 >= density {
                    for r in row..rows.min(row + format.r()) {
                        matrix[r * cols..][col..cols.min(col + format.c())].fill(0.0);
                    }
                }
            }
        }
        matrix
    }
}
