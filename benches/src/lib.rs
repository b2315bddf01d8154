//! Kernels and whole models, timed: what the benches of the kernels share, and the report of whole networks.

pub mod report;

use sparse_kernels::pairs;
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

/// [`is_close`] for an answer that was rounded to bf16.
pub fn is_close_rounded(got: f32, expected: f32) -> bool {
    (got - expected).abs() <= 1e-4 * expected.abs().max(1.0) + expected.abs() / 256.0
}

/// Fails unless `y` is `close` to what the oracle says.
///
/// # Panics
/// A wrong answer.
pub fn assert_answers(
    geometry: &ConvGeometry,
    weights: &[f32],
    x: &[f32],
    y: &[f32],
    epilogue: &Epilogue,
    close: fn(f32, f32) -> bool,
) {
    let expected = reference::conv(geometry, weights, None, None, x, None, epilogue);
    for (i, (got, expected)) in y.iter().zip(&expected).enumerate() {
        assert!(close(*got, *expected), "output {i} of {:?} is {got} and not {expected}", geometry.shape());
    }
}

/// Numbers rounded to bf16.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|v| pairs::float(pairs::round(*v))).collect()
}

/// Activations of one image in pairs of channels.
#[derive(Debug)]
pub struct OnPairs {
    /// `[ceil(ic / 2)][pixel]`.
    pub x: Vec<u32>,
    /// `[ceil(oc / 2)][pixel]`.
    pub y: Vec<u32>,
    target: Target,
    planes: [usize; 3],
}

impl OnPairs {
    /// These inputs, and room for the outputs.
    ///
    /// # Panics
    /// Inputs of another length than that of the geometry.
    pub fn new(half: Half, geometry: &ConvGeometry, x: &[f32]) -> OnPairs {
        let (s, target) = (geometry.shape(), half.target());
        let lanes = |channels: usize, pixels: usize| vec![0; channels.div_ceil(2) * pixels];
        let mut all = OnPairs {
            x: lanes(s.ic, geometry.input_pixels()),
            y: lanes(s.oc, geometry.output_pixels()),
            target,
            planes: [1, s.oc, geometry.output_pixels()],
        };
        pairs::pack(target, [1, s.ic, geometry.input_pixels()], x, &mut all.x)
            .expect("the lengths are those of the geometry");
        all
    }

    /// The outputs as floats.
    pub fn outputs(&self) -> Vec<f32> {
        let mut y = vec![0.0; self.planes.iter().product()];
        pairs::unpack(self.target, self.planes, &self.y, &mut y)
            .expect("the lengths are those of the geometry");
        y
    }
}
