//! The exponential in plain arithmetic, without a table or a branch, so that loops over it become vectors.
//!
//! `x` is taken apart into a multiple `n` of ln 2 and a rest of at most half of that; ln 2 comes in two
//! parts, of which the first has so few bits that its product with `n` is exact. The polynomial for the rest
//! is that of the Cephes library's `expf`.

/// `a * b + c`, rounded once if `FUSED`: where no instruction does that it would be a call.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` for `x <= 0`, to 2 units in the last place; 0 where the result would be below the smallest normal
/// number; NaN of NaN.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const SMALLEST: f32 = -87.336_54; // ln of the smallest normal number
    let (power, more) = parts::<FUSED>(x);
    if x < SMALLEST { 0.0 } else { (more + 1.0) * power }
}

/// `e^x - 1` for `x` from -87 to 88, to 2 units in the last place of the larger of it and 1, or of itself
/// around 0; NaN of NaN.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let (power, more) = parts::<false>(x);
    more * power + (power - 1.0)
}

/// A power of two `2^n` and `e^rest - 1`, so that `e^x` is the former times one more than the latter.
#[inline(always)]
fn parts<const FUSED: bool>(x: f32) -> (f32, f32) {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: what is added to it is rounded to a whole number
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let rest = multiply_add::<FUSED>(n, 2.121_944_4e-4, multiply_add::<FUSED>(n, -355.0 / 512.0, x));
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = multiply_add::<FUSED>(p, rest, coefficient);
    }
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(127);
    (f32::from_bits((exponent as u32) << 23), multiply_add::<FUSED>(p * rest, rest, rest))
}

#[cfg(test)]
mod tests {
    use super::{exp, exp_m1};

    /// Checks values from 0 down to where the result is 0.
    fn is_right<const FUSED: bool>() {
        let mut worst = 0f64;
        for i in 0..=873_000 {
            let x = -(i as f32) * 1e-4;
            let (got, expected) = (exp::<FUSED>(x) as f64, (x as f64).exp());
            worst = worst.max((got - expected).abs() / expected);
        }
        assert!(worst < 2.0 * f32::EPSILON as f64, "{worst:e}");
        assert_eq!([0.0, -100.0, f32::NEG_INFINITY].map(exp::<FUSED>), [1.0, 0.0, 0.0]);
        assert!(exp::<FUSED>(f32::NAN).is_nan());
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many values for an interpreter")]
    fn the_exponential_is_right_to_two_units_in_the_last_place() {
        is_right::<false>();
        is_right::<true>();
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many values for an interpreter")]
    fn the_difference_to_one_is_right_around_zero_too() {
        for i in -400_000..=400_000 {
            let x = i as f32 * 1e-4;
            let small = x * 1e-6;
            for x in [x, small] {
                let (got, expected) = (exp_m1(x) as f64, (x as f64).exp_m1());
                // beyond ln 2 / 2 it is a difference of two numbers of which the larger is at most 1 or the
                // result itself
                let unit = if x.abs() < 0.34 { expected.abs() } else { expected.abs().max(1.0) };
                assert!(
                    (got - expected).abs() <= 2.0 * f32::EPSILON as f64 * unit,
                    "{x}: {got} instead of {expected}"
                );
            }
        }
        assert!(exp_m1(f32::NAN).is_nan());
    }
}
