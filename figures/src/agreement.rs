//! How near two tensors are.

use anyhow::{Result, ensure};
use std::borrow::Borrow;
use tract_core::internal::*;

/// A slice of fewer finite values does not tell how large its values are: the largest of eight that are
/// spread like rounding errors or activations is below a quarter of their standard deviation once in 400,000
/// times.
const FEWEST: usize = 8;
/// Scales below this share of the tensor's largest value: a difference of 1e-4 of it is one unit in the last
/// place of that value in f32, which a sum over the whole tensor leaves anywhere.
const SMALLEST: f64 = 1e-3;
/// Added to every scale, but never more than the tensor's largest value: the feet of sigmoids and of softmax,
/// whose relative error is the absolute one of what they were computed from.
const FEET: f64 = 1e-2;
/// Times that a value may differ by what it moves when the inputs do by a millionth.
const MOVEMENTS: f64 = 4.0;
/// Tolerances of its scale, beyond which no movement excuses a difference.
const MOST: f64 = 100.0;

/// What two ways of computing a whole network in f32 may differ by, relative to a value and its scale
/// ([`Agreement::of`]).
///
/// Each layer sums up to some thousand products in another order; errors of a few units in the last place
/// (6e-8) grow through some fifty layers. Stock tract and onnxruntime differ by up to 2.4e-5 on the real
/// models; a lost or doubled weight shows at 1e-2 and more.
pub const TOLERANCE: f64 = 1e-4;

/// As [`TOLERANCE`], for models that run in half precision (bf16, sums in f32). Every layer rounds its weights and
/// what it puts out by at most 2^-8 of them, 2^-9 in the root mean square. Such errors are as good as independent: over
/// `n` layers they add up to `2^-9 * sqrt(2 n)`, 0.028 of the scale for a hundred. The largest of a million such errors is
/// five times as large; values that are left over where sums cancel out lose more, and twice as much is allowed.
/// Models in f16, which rounds to an eighth of that, need no more: sums of a thousand products in f16, as stock tract has
/// them, lose some five bits.
pub const HALF_TOLERANCE: f64 = 0.3;

/// The share of rows along the last axis whose largest value is at the same place in both: of a classifier, how often
/// it names the same class. None where there is nothing to choose from.
///
/// # Errors
/// Tensors of numbers that cannot be read as floats, or of different shapes.
pub fn top_1(expected: &Tensor, got: &Tensor) -> Result<Option<f64>> {
    ensure!(expected.shape() == got.shape(), "shapes {:?} and {:?}", expected.shape(), got.shape());
    let Some(choices) = expected.shape().last().copied().filter(|choices| *choices > 1) else {
        return Ok(None);
    };
    if expected.len() == 0 {
        return Ok(None);
    }
    let rows = |tensor: &Tensor| -> Result<Vec<usize>> {
        let tensor = tensor.cast_to::<f64>()?;
        let values = tensor.try_as_plain_ram()?.as_slice::<f64>()?;
        let largest =
            |row: &[f64]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        Ok(values.chunks(choices).map(largest).collect())
    };
    let (expected, got) = (rows(expected)?, rows(got)?);
    let same = expected.iter().zip(&got).filter(|(a, b)| a == b).count();
    Ok(Some(same as f64 / expected.len() as f64))
}

/// How one tensor compares with another.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// Largest absolute difference; infinite where one value is NaN or infinite and the other is not the
    /// same.
    pub max_abs_diff: f64,
    /// Largest finite magnitude of what was expected.
    pub max_abs_expected: f64,
    /// Largest difference relative to its value and scale, as the tolerance is; infinite where what must be
    /// equal is not.
    pub relative: f64,
    /// Whether all values are within the tolerance.
    pub agrees: bool,
}

impl Agreement {
    const SAME: Agreement =
        Agreement { max_abs_diff: 0.0, max_abs_expected: 0.0, relative: 0.0, agrees: true };

    /// Compares two tensors of the same shape.
    ///
    /// Integers, booleans and everything else that is not a float must be equal. Floats (and numbers of two
    /// types) agree if `|got - expected| <= tolerance * (|expected| + scale + foot)`. Rounding errors of
    /// a sum follow the size of its terms, not that of the result; results that are computed alike, such
    /// as those of one channel, have terms of one size. Which axis holds channels is not known: the
    /// `scale` of an element is the smallest, over all axes, of the largest finite values of the slices
    /// that it is in, among slices of at least eight values and the whole tensor; at least a thousandth
    /// of the tensor's largest value. So scores beside coordinates of 1000 are measured as scores, if
    /// they fill rows, columns or channels. `foot` is a hundredth, or the tensor's largest value if that is
    /// less. Half floats may differ by their own rounding besides. NaN agrees with NaN.
    ///
    /// # Errors
    /// Different shapes, or different types of which one is no number.
    pub fn of(expected: &Tensor, got: &Tensor, tolerance: f64) -> Result<Agreement> {
        Agreement::of_run(expected, got, None, tolerance, 0.0)
    }

    /// As [`Agreement::of`], with what is known of the run of a network that gave `expected`.
    ///
    /// `moved` is what `expected` became when every other input grew by a millionth ([`nudged`]): a value
    /// that is beyond the tolerance also agrees if it differs by at most four times the largest movement
    /// in its slice, and by at most a hundred tolerances of its scale: where a network amplifies rounding
    /// errors it amplifies such a nudge as much. `largest` is the largest value of this output in several
    /// runs: `foot` is bounded by that. Scores that are tiny for one input are still scores.
    ///
    /// # Errors
    /// As [`Agreement::of`].
    pub fn of_run(
        expected: &Tensor,
        got: &Tensor,
        moved: Option<&Tensor>,
        tolerance: f64,
        largest: f64,
    ) -> Result<Agreement> {
        for other in [Some(got), moved].into_iter().flatten() {
            let shape = other.shape();
            ensure!(expected.shape() == shape, "shape {shape:?}, expected {:?}", expected.shape());
        }
        let types = [expected.datum_type(), got.datum_type()];
        if types[0] == types[1] && !types[0].is_float() {
            return Agreement::exact(expected, got);
        }
        let unit = if types.contains(&DatumType::F16) { f64::from(f16::EPSILON) } else { 0.0 };
        let (a, b) = (values(expected)?, values(got)?);
        let scales = Slices::new(expected.shape(), &a);
        let movements = match moved {
            Some(moved) => {
                let movements = values(moved)?.iter().zip(&a).map(|(m, a)| (m - a).abs()).collect::<Vec<_>>();
                Some(Slices::new(expected.shape(), &movements))
            }
            None => None,
        };
        let foot = FEET.min(scales.all.max(largest));
        let mut all = Agreement { max_abs_expected: scales.all, ..Agreement::SAME };
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            if a == b || (a.is_nan() && b.is_nan()) {
                continue;
            }
            let diff = (a - b).abs();
            let diff = if diff.is_nan() { f64::INFINITY } else { diff };
            let (axis, least) = scales.smallest(i);
            let scale = least.max(SMALLEST * scales.all) + foot;
            let relative = if diff == f64::INFINITY {
                diff
            } else {
                (diff - unit * a.abs()).max(0.0) / (a.abs() + scale)
            };
            let excused = || {
                let Some(movements) = &movements else { return false };
                diff <= (MOVEMENTS * movements.along(axis, i)).min(MOST * tolerance * scale)
            };
            all.agrees &= relative <= tolerance || excused();
            all.max_abs_diff = all.max_abs_diff.max(diff);
            all.relative = all.relative.max(relative);
        }
        Ok(all)
    }

    fn exact(expected: &Tensor, got: &Tensor) -> Result<Agreement> {
        let mut all = Agreement::SAME;
        if let (Ok(a), Ok(b)) = (values(expected), values(got)) {
            all.max_abs_expected = a.iter().fold(0.0, |m, a| m.max(a.abs()));
            all.max_abs_diff = a.iter().zip(&b).fold(0.0, |m, (a, b)| m.max((a - b).abs()));
        }
        if expected != got {
            (all.relative, all.agrees) = (f64::INFINITY, false);
        }
        Ok(all)
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
        let mut all = Agreement::SAME;
        for (expected, got) in expected.iter().zip(got) {
            let one = Agreement::of(expected.borrow(), got.borrow(), tolerance)?;
            all.max_abs_diff = all.max_abs_diff.max(one.max_abs_diff);
            all.max_abs_expected = all.max_abs_expected.max(one.max_abs_expected);
            all.relative = all.relative.max(one.relative);
            all.agrees &= one.agrees;
        }
        Ok(all)
    }
}

/// The same values, every other one a millionth larger; what is not f32 stays. See [`Agreement::of_run`].
///
/// # Errors
/// The tensor cannot be read.
pub fn nudged(input: &Tensor) -> Result<Tensor> {
    let mut nudged = input.clone();
    if input.datum_type() == DatumType::F32 {
        let mut view = nudged.to_plain_array_view_mut::<f32>()?;
        view.iter_mut().step_by(2).for_each(|v| *v *= 1.0 + 1e-6);
    }
    Ok(nudged)
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let cast = tensor.cast_to::<f64>()?;
    Ok(cast.to_plain_array_view::<f64>()?.iter().copied().collect())
}

/// The largest finite magnitude in every slice of a tensor along every axis.
struct Slices {
    /// Of the whole tensor.
    all: f64,
    /// Elements between neighbours, number of slices, and their largest values; of axes whose slices are not
    /// too small.
    axes: Vec<(usize, usize, Vec<f64>)>,
}

impl Slices {
    fn new(shape: &[usize], values: &[f64]) -> Slices {
        let finite = |v: &f64| if v.is_finite() { v.abs() } else { 0.0 };
        let all = values.iter().map(finite).fold(0.0, f64::max);
        let mut axes = vec![];
        let mut step = 1;
        for dim in shape.iter().rev() {
            if *dim > 1 && values.len() / dim >= FEWEST {
                let (mut largest, mut known) = (vec![0f64; *dim], vec![0usize; *dim]);
                for (i, v) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                    let slice = i / step % dim;
                    largest[slice] = largest[slice].max(v.abs());
                    known[slice] += 1;
                }
                let enough = largest.iter().zip(known).map(|(l, n)| if n < FEWEST { all } else { *l });
                axes.push((step, *dim, enough.collect()));
            }
            step *= dim;
        }
        Slices { all, axes }
    }

    /// The largest value of the slice of an element along one of `axes`, or of all.
    fn along(&self, axis: Option<usize>, i: usize) -> f64 {
        axis.and_then(|axis| self.axes.get(axis)).map_or(self.all, |(step, dim, l)| l[i / step % dim])
    }

    /// The smallest of the largest values of the slices of an element, and along which axis.
    fn smallest(&self, i: usize) -> (Option<usize>, f64) {
        let slices = (0..self.axes.len()).map(|axis| (Some(axis), self.along(Some(axis), i)));
        slices.fold((None, self.all), |least, slice| if slice.1 < least.1 { slice } else { least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(a: &[f32], b: &[f32], tolerance: f64) -> Agreement {
        Agreement::of(&tensor1(a), &tensor1(b), tolerance).unwrap()
    }

    #[test]
    fn differences_follow_the_rule() {
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
        assert!(Agreement::of(&tensor1(&[1f32]), &tensor1(&["one".to_string()]), 0.0).is_err());
        assert!(Agreement::of(&tensor1(&[1f32]), &tensor1(&[1i64]), 0.0).unwrap().agrees);
    }

    /// Rows of four coordinates of up to 1000 and two scores, and the same with the axes exchanged.
    #[test]
    fn scores_beside_coordinates_are_measured_as_scores() {
        let cell = |row: usize, col: usize| match (col, (row * 37 + col * 11) % 29) {
            (0..4, noise) => noise as f32 * 35.0,
            (_, noise) => noise as f32 / 29.0,
        };
        let rows: Vec<f32> = (0..50 * 6).map(|i| cell(i / 6, i % 6)).collect();
        let columns: Vec<f32> = (0..50 * 6).map(|i| cell(i % 50, i / 50)).collect();
        for (values, shape, at) in [(rows, [1, 50, 6], 3 * 6 + 4), (columns, [1, 6, 50], 4 * 50 + 3)] {
            let by = |at: usize, change: f32| {
                let mut changed = values.clone();
                changed[at] += change;
                let tensor = |v: &[f32]| Tensor::from_shape(&shape, v).unwrap();
                Agreement::of(&tensor(&values), &tensor(&changed), 1e-4).unwrap().agrees
            };
            assert!(by(at, 1e-4) && !by(at, 1e-3), "a score");
            let coordinate = if shape[2] == 6 { 3 * 6 } else { 3 };
            assert!(by(coordinate, 0.05) && !by(coordinate, 0.5), "a coordinate");
        }
    }

    #[test]
    fn tiny_tensors_are_not_all_alike() {
        assert!(!compare(&[1e-7, 2e-7], &[1.1e-7, 2e-7], 1e-4).agrees);
        assert!(compare(&[1e-7, 2e-7], &[1.0001e-7, 2e-7], 1e-4).agrees);
        assert!(compare(&[0.0], &[0.0], 0.0).agrees && !compare(&[0.0], &[1e-9], 1e-4).agrees);
    }

    #[test]
    fn what_is_no_float_is_equal_or_not() {
        let of = |a: Tensor, b: Tensor| Agreement::of(&a, &b, 1e-4).unwrap();
        // i64 beyond what f64 tells apart
        let large = 1i64 << 60;
        assert!(of(tensor1(&[large]), tensor1(&[large])).agrees);
        assert!(!of(tensor1(&[large]), tensor1(&[large + 1])).agrees);
        let off = of(tensor1(&[5i64, 1_000_000]), tensor1(&[6i64, 1_000_000]));
        assert!(!off.agrees && off.max_abs_diff == 1.0);
        assert!(!of(tensor1(&[true, false]), tensor1(&[true, true])).agrees);
        let half = |v: f32| tensor1(&[f16::from_f32(v)]);
        assert!(of(half(1.0), half(1.0 + 1.0 / 1024.0)).agrees && !of(half(1.0), half(1.01)).agrees);
    }

    #[test]
    fn a_value_that_moves_with_the_input_may_differ_as_much() {
        let (a, b) = (tensor1(&[1.0f32, 2.0]), tensor1(&[1.0f32, 2.004]));
        let of =
            |moved: f32| Agreement::of_run(&a, &b, Some(&tensor1(&[1.0, 2.0 + moved])), 1e-4, 0.0).unwrap();
        assert!(of(0.0015).agrees && !of(0.0005).agrees);
        let far = Agreement::of_run(&a, &tensor1(&[1.0f32, 2.1]), Some(&tensor1(&[9.0f32, 9.0])), 1e-4, 0.0)
            .unwrap();
        assert!(!far.agrees, "no movement excuses a wrong value");
        let input = nudged(&tensor1(&[1.0f32, 1.0])).unwrap();
        assert!(input.to_plain_array_view::<f32>().unwrap()[0] > 1.0);
        assert_eq!(nudged(&tensor1(&[3i64])).unwrap(), tensor1(&[3i64]));
    }

    #[test]
    fn several_tensors_are_as_far_as_the_farthest() {
        let (a, b) = (tensor1(&[1f32, 2.0]), tensor1(&[1f32, 2.5]));
        let far = Agreement::of_all(&[&a, &a], &[&a, &b], 0.1).unwrap();
        assert_eq!((far.max_abs_diff, far.max_abs_expected, far.agrees), (0.5, 2.0, false));
        assert!(Agreement::of_all(&[&a, &a], &[&a], 0.0).is_err());
    }
}
