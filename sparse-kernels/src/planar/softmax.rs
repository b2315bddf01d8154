//! `exp(x) / sum(exp(x))` along an axis.
//!
//! Every pass runs along memory, whatever the axis: the exponentials, which are nearly all of the work, are taken of all values
//! in one sweep.

use super::{Work, on};
use crate::error::KernelError;
use crate::scratch;
use crate::target::Target;

/// Softmax in place over the middle axis of `data`, `[outer][len][inner]`. An axis with a NaN, or of nothing but negative infinities,
/// becomes NaN.
///
/// # Errors
/// A length that is no multiple of `len * inner`.
pub fn softmax(target: Target, len: usize, inner: usize, data: &mut [f32]) -> Result<(), KernelError> {
    let block =
        len.checked_mul(inner).ok_or_else(|| KernelError::Geometry("a softmax is too large".into()))?;
    if block == 0 || !data.len().is_multiple_of(block) {
        if data.is_empty() {
            return Ok(());
        }
        let expected = data.len().next_multiple_of(block.max(1));
        return Err(KernelError::Length { what: "softmax", expected, got: data.len() });
    }
    scratch::with(inner, |line| on(target, Job { len, inner, data, line }));
    Ok(())
}

struct Job<'a> {
    len: usize,
    inner: usize,
    data: &'a mut [f32],
    /// A value for every position of the inner axis.
    line: &'a mut [f32],
}

/// Values of blocks that are gone through together, so that they stay in the first-level cache.
const TOGETHER: usize = 4096;

impl Work for Job<'_> {
    #[inline(always)]
    fn run(self) {
        let Job { len, inner, data, line } = self;
        if inner > 1 {
            for block in data.chunks_exact_mut(len * inner) {
                line.fill(f32::NEG_INFINITY);
                for row in block.chunks_exact(inner) {
                    for (most, x) in line.iter_mut().zip(row) {
                        *most = if *most < *x { *x } else { *most };
                    }
                }
                for row in block.chunks_exact_mut(inner) {
                    for (x, most) in row.iter_mut().zip(&*line) {
                        *x = exp(*x - most);
                    }
                }
                line.fill(0.0);
                for row in block.chunks_exact(inner) {
                    for (sum, x) in line.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
                for sum in line.iter_mut() {
                    *sum = sum.recip();
                }
                for row in block.chunks_exact_mut(inner) {
                    for (x, scale) in row.iter_mut().zip(&*line) {
                        *x *= scale;
                    }
                }
            }
            return;
        }
        for blocks in data.chunks_mut(len * (TOGETHER / len).max(1)) {
            for block in blocks.chunks_exact_mut(len) {
                let most = block.iter().fold(f32::NEG_INFINITY, |most, x| if most < *x { *x } else { most });
                for x in block {
                    *x -= most;
                }
            }
            for x in blocks.iter_mut() {
                *x = exp(*x);
            }
            for block in blocks.chunks_exact_mut(len) {
                let scale = block.iter().sum::<f32>().recip();
                for x in block {
                    *x *= scale;
                }
            }
        }
    }
}

/// `e^x` for `x <= 0`, to 2 units in the last place; 0 where the result would be below the smallest normal number; NaN of NaN.
///
/// `x` is taken apart into a multiple `n` of ln 2 and a rest of at most half of that; ln 2 comes in two parts, of which the first has so few
/// bits that its product with `n` is exact. The polynomial for the rest is that of the Cephes library's `expf`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const SMALLEST: f32 = -87.336_54; // ln of the smallest normal number
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: what is added to it is rounded to a whole number
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let rest = x - n * (355.0 / 512.0) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * rest + coefficient;
    }
    let p = p * rest * rest + rest + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    let power = f32::from_bits((exponent as u32) << 23);
    if x < SMALLEST { 0.0 } else { p * power }
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    #[cfg_attr(miri, ignore = "too many values for an interpreter")]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in 0..=873_000 {
            let x = -(i as f32) * 1e-4;
            let (got, expected) = (exp(x) as f64, (x as f64).exp());
            worst = worst.max((got - expected).abs() / expected);
        }
        assert!(worst < 2.0 * f32::EPSILON as f64, "{worst:e}");
        assert_eq!([exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY)], [1.0, 0.0, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }
}
