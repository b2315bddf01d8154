//! How near two tensors are.

use anyhow::{Result, ensure};
use std::borrow::Borrow;
use tract_core::internal::*;

/// How one tensor compares with another.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Largest absolute difference; infinite where one value is NaN or infinite and the other is not the same.
    pub max_abs_diff: f64,
    /// Largest finite magnitude of what was expected.
    pub max_abs_expected: f64,
    /// Whether all values are within the tolerance.
    pub agrees: bool,
}

impl Agreement {
    /// Compares two tensors of the same shape. Rounding errors of a sum follow the size of its terms, not that of the result:
    /// values agree if they differ by at most `tolerance` times the largest finite value of the expected tensor, plus a
    /// hundredth, for tensors of tiny values such as the feet of sigmoids.
    ///
    /// # Errors
    /// Different shapes, or values that are no numbers.
    pub fn of(expected: &Tensor, got: &Tensor, tolerance: f64) -> Result<Agreement> {
        ensure!(expected.shape() == got.shape(), "shape {:?}, expected {:?}", got.shape(), expected.shape());
        let (a, b) = (expected.cast_to::<f64>()?, got.cast_to::<f64>()?);
        let (a, b) = (a.to_plain_array_view::<f64>()?, b.to_plain_array_view::<f64>()?);
        let (mut worst, mut agrees) = (0f64, true);
        let largest = a.iter().filter(|a| a.is_finite()).fold(0f64, |m, a| m.max(a.abs()));
        let allowed = tolerance * (largest + 1e-2);
        for (a, b) in a.iter().zip(&b) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let diff = match (a - b).abs() {
                _ if same => 0.0,
                diff if diff.is_nan() => f64::INFINITY,
                diff => diff,
            };
            agrees &= diff <= allowed;
            worst = worst.max(diff);
        }
        Ok(Agreement { max_abs_diff: worst, max_abs_expected: largest, agrees })
    }

    /// Of several pairs of tensors as if they were one: the largest difference, and whether all agree.
    ///
    /// # Errors
    /// As [`Agreement::of`]; another number of tensors.
    pub fn of_all(
        expected: &[impl Borrow<Tensor>],
        got: &[impl Borrow<Tensor>],
        tolerance: f64,
    ) -> Result<Agreement> {
        ensure!(expected.len() == got.len(), "{} outputs, expected {}", got.len(), expected.len());
        let mut all = Agreement { max_abs_diff: 0.0, max_abs_expected: 0.0, agrees: true };
        for (expected, got) in expected.iter().zip(got) {
            let one = Agreement::of(expected.borrow(), got.borrow(), tolerance)?;
            all.max_abs_diff = all.max_abs_diff.max(one.max_abs_diff);
            all.max_abs_expected = all.max_abs_expected.max(one.max_abs_expected);
            all.agrees &= one.agrees;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_follow_the_rule() {
        let compare =
            |a: &[f32], b: &[f32], tolerance| Agreement::of(&tensor1(a), &tensor1(b), tolerance).unwrap();
        assert!(compare(&[100.0, 0.0], &[100.0, 0.0099], 1e-4).agrees);
        assert!(!compare(&[100.0, 0.0], &[100.0, 0.02], 1e-4).agrees);
        assert!(compare(&[1.0], &[1.0], 0.0).agrees && !compare(&[1.0], &[1.0 + 1e-6], 0.0).agrees);
        assert!(compare(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY], 0.0).agrees);
        for (a, b) in
            [(f32::NAN, 0.0), (0.0, f32::NAN), (f32::INFINITY, 1.0), (f32::INFINITY, f32::NEG_INFINITY)]
        {
            let d = compare(&[a], &[b], 1.0);
            assert!(!d.agrees && d.max_abs_diff == f64::INFINITY, "{a} {b}");
        }
        assert_eq!(compare(&[1.0, -2.0], &[1.5, -2.0], 0.0).max_abs_diff, 0.5);
        assert!(Agreement::of(&tensor1(&[1f32]), &tensor1(&[1f32, 2.0]), 0.0).is_err());
    }

    #[test]
    fn several_tensors_are_as_far_as_the_farthest() {
        let (a, b) = (tensor1(&[1f32, 2.0]), tensor1(&[1f32, 2.5]));
        let far = Agreement::of_all(&[&a, &a], &[&a, &b], 0.1).unwrap();
        assert_eq!((far.max_abs_diff, far.max_abs_expected, far.agrees), (0.5, 2.0, false));
        assert!(Agreement::of_all(&[&a, &a], &[&a], 0.0).is_err());
    }
}
