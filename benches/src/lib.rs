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

/// Whether an answer is that of the oracle, to the rounding of sums in another order.
pub fn is_close(got: f32, expected: f32) -> bool {
    (got - expected).abs() <= 1e-4 * expected.abs().max(1.0)
}

/// Fails unless `y` is what the oracle says ([`is_close`]).
///
/// # Panics
/// A wrong answer.
pub fn assert_answers(geometry: &ConvGeometry, weights: &[f32], x: &[f32], y: &[f32], epilogue: &Epilogue) {
    let expected = reference::conv(geometry, weights, None, None, x, None, epilogue);
    for (i, (got, expected)) in y.iter().zip(&expected).enumerate() {
        assert!(
            is_close(*got, *expected),
            "output {i} of {:?} is {got} and not {expected}",
            geometry.shape()
        );
    }
}
