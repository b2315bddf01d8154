//! int8: layers between quantised activations whose weights are whole numbers times a scale.
//!
//! A quantised model comes as one of floats: an activation is dequantised, a layer computes in f32, what it puts out
//! is quantised again, and the weights are constants of f32 by the time a layer sees them. That they are whole numbers
//! of one byte times a scale of their output channel shows in their values ([`Whole`]), whatever wrote the file.

use crate::choice::Packing;
use sparse_kernels::table::KernelInfo;
pub use sparse_kernels::target::Int8;
use std::ops::RangeInclusive;

/// What the numbers of such layers are called.
pub const NAME: &str = "int8";

/// How a layer would run on quads of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Int8Choice {
    /// Where.
    pub int8: Int8,
    /// Format of the weights.
    pub packing: Packing,
    /// Predicted time in nanoseconds, input and output in quads.
    pub ns: u64,
}

impl Int8Choice {
    /// The kernel.
    pub fn kernel(&self) -> &'static KernelInfo {
        self.packing.int8_kernel(self.int8)
    }
}

/// Weights as whole numbers from -128 to 127, times a scale for each output channel.
///
/// Invariants: as many rows as scales; scales are finite and above zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    numbers: Vec<i8>,
    /// None of a channel without weights: any scale would do.
    scales: Vec<Option<f32>>,
}

const IN_A_BYTE: RangeInclusive<f32> = i8::MIN as f32..=i8::MAX as f32;

const NOT_WHOLE: &str = "its weights are no whole numbers of one byte times a scale of each output channel";
const WIDE: &str = "weights less their zero point are no numbers of i8";

/// How far a weight may be off its multiple of the scale, relative to itself. It and the largest of its row are products of
/// floats by up to three factors: its scale, and those of the channels around it. Six roundings are three `EPSILON`.
const NEAR: f64 = 3.0 * f32::EPSILON as f64;

impl Whole {
    /// The weights, a row for each of `oc` output channels, as whole numbers. Of all scales that explain a row the
    /// finest is taken: it can say most of the bias.
    ///
    /// # Errors
    /// In words, why they are not such.
    pub fn of(weights: &[f32], oc: usize) -> Result<Whole, &'static str> {
        let columns = weights.len().checked_div(oc).filter(|columns| columns * oc == weights.len());
        let columns = columns.filter(|columns| *columns > 0).ok_or(NOT_WHOLE)?;
        let mut whole = Whole { numbers: Vec::with_capacity(weights.len()), scales: Vec::with_capacity(oc) };
        for row in weights.chunks_exact(columns) {
            let largest = row.iter().fold(0f32, |largest, w| largest.max(w.abs()));
            if row.iter().all(|w| *w == 0.0) {
                whole.numbers.extend(row.iter().map(|_| 0));
                whole.scales.push(None);
                continue;
            }
            // where a rounded product would not be within two roundings
            if !(f32::MIN_POSITIVE * f32::from(u8::MAX)..f32::INFINITY).contains(&largest) {
                return Err(NOT_WHOLE);
            }
            let in_a_byte =
                |steps: &u32| row.iter().all(|w| IN_A_BYTE.contains(&number(*w, largest, *steps)));
            let grids = (1..=u32::from(u8::MAX)).rev().filter(|steps| on_grid(row, largest, *steps));
            let mut why = NOT_WHOLE;
            let steps = grids.inspect(|_| why = WIDE).find(in_a_byte);
            let Some(steps) = steps else { return Err(why) };
            let before = whole.numbers.len();
            whole.numbers.extend(row.iter().map(|w| number(*w, largest, steps) as i8));
            let scale = (f64::from(largest) / f64::from(steps)) as f32;
            let explains = |scale: &f32| {
                whole.numbers[before..].iter().zip(row).all(|(number, w)| f32::from(*number) * scale == *w)
            };
            // the largest is a product that was rounded
            let exact = [scale, scale.next_up(), scale.next_down()].into_iter().find(explains);
            whole.scales.push(Some(exact.unwrap_or(scale)));
        }
        Ok(whole)
    }

    /// The whole numbers, a row for each output channel.
    pub fn numbers(&self) -> &[i8] {
        &self.numbers
    }

    /// What they are multiplied by, by output channel; none of a channel whose weights are all zero.
    pub fn scales(&self) -> &[Option<f32>] {
        &self.scales
    }

    /// The weights again: those that it was made of, to the last bit, where these were products of numbers and a scale, as a
    /// loader makes them.
    pub(crate) fn weights(&self) -> impl Iterator<Item = f32> {
        let columns = (self.numbers.len() / self.scales.len().max(1)).max(1);
        let rows = self.numbers.chunks(columns).zip(&self.scales);
        rows.flat_map(|(row, scale)| row.iter().map(|number| f32::from(*number) * scale.unwrap_or(0.0)))
    }

    /// The numbers of an output channel, their scale, and the bias in units of it and of `x_scale`, the scale of the input.
    ///
    /// Numbers that have a divisor in common lie on several grids. A file says the bias in units of the one it was written
    /// with, so the finest is taken in which the bias is whole as well: to the last bit if there is such a grid, else but for
    /// rounding. A bias that is whole in none is rounded in the finest. Of a channel without weights the unit says the bias to
    /// twenty bits.
    ///
    /// # Errors
    /// In words, what is wrong with the bias.
    pub(crate) fn with_bias(
        &self,
        channel: usize,
        bias: f32,
        x_scale: f32,
    ) -> Result<(Vec<i8>, f32, i32), &'static str> {
        if !bias.is_finite() {
            return Err("is no finite number");
        }
        let columns = self.numbers.len() / self.scales.len();
        let row = &self.numbers[channel * columns..][..columns];
        let Some(finest) = self.scales[channel] else {
            let scale = if bias == 0.0 { 1.0 } else { bias.abs() / (1 << 20) as f32 / x_scale };
            let unit = f64::from(x_scale) * f64::from(scale);
            return Ok((row.to_vec(), scale, (f64::from(bias) / unit).round_ties_even() as i32));
        };
        let divisor = row.iter().fold(0, |divisor, w| common_divisor(divisor, u32::from(w.unsigned_abs())));
        let primitive = f64::from(finest) * f64::from(divisor);
        let largest = row.iter().fold(0, |largest, w| largest.max(u32::from(w.unsigned_abs())));
        let most = 128 / (largest / divisor);
        let multiples = || {
            let fits =
                move |times: &u32| row.iter().all(|w| i8::try_from(multiple(*w, divisor, *times)).is_ok());
            (1..=most).rev().filter(fits)
        };
        // Of each grid, scales that the weights do not tell apart.
        let grids = multiples().flat_map(|times| {
            let scale = (primitive / f64::from(times)) as f32;
            [scale, scale.next_up(), scale.next_down()].map(|scale| (times, scale))
        });
        let exact = grids.clone().find(|(_, scale)| {
            let unit = x_scale * scale;
            (bias / unit).round_ties_even() * unit == bias
        });
        let near = || {
            multiples().map(|times| (times, (primitive / f64::from(times)) as f32)).find(|(_, scale)| {
                let steps = f64::from(bias) / (f64::from(x_scale) * f64::from(*scale));
                (steps - steps.round_ties_even()).abs() <= 2.0 * NEAR * steps.abs().min(1e5)
            })
        };
        let (times, scale) = exact.or_else(near).unwrap_or((divisor, finest));
        let unit = f64::from(x_scale) * f64::from(scale);
        let steps = (f64::from(bias) / unit).round_ties_even();
        if f64::from(steps as i32) != steps {
            return Err("is too large for its weights: 32 bits do not hold it");
        }
        Ok((row.iter().map(|w| multiple(*w, divisor, times) as i8).collect(), scale, steps as i32))
    }
}

/// A number in units of another grid.
fn multiple(number: i8, divisor: u32, times: u32) -> i32 {
    i32::from(number) / divisor as i32 * times as i32
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// A scale of which all values are whole numbers of i8 times it, to the last bit: as a loader makes values of such numbers.
/// Zero if all values are zero; none if there is no such scale.
pub(crate) fn exact_scale(values: &[f32]) -> Option<f32> {
    let largest = values.iter().fold(0f32, |largest, w| largest.max(w.abs()));
    if values.iter().all(|w| *w == 0.0) {
        return Some(0.0);
    }
    if !(f32::MIN_POSITIVE * 256.0..f32::INFINITY).contains(&largest) {
        return None;
    }
    let is_exact = |scale: &f32| {
        values.iter().all(|w| {
            let number = (w / scale).round_ties_even();
            IN_A_BYTE.contains(&number) && number * scale == *w
        })
    };
    // the largest is a product that was rounded: the scale is within an ulp of the quotient
    let around = |scale: f32| [scale, scale.next_up(), scale.next_down()];
    (1..=128u8).rev().flat_map(|steps| around(largest / f32::from(steps))).find(is_exact)
}

/// The whole number nearest to a weight if the largest is `steps`.
fn number(weight: f32, largest: f32, steps: u32) -> f32 {
    (f64::from(weight) * f64::from(steps) / f64::from(largest)).round() as f32
}

/// Whether all weights of a row are whole numbers if the largest is `steps`.
fn on_grid(row: &[f32], largest: f32, steps: u32) -> bool {
    let per_unit = f64::from(steps) / f64::from(largest);
    row.iter().all(|w| {
        let exact = f64::from(*w) * per_unit;
        (exact - exact.round()).abs() <= NEAR * exact.abs()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights as a loader makes them: every product is rounded to f32.
    fn dequantised(numbers: &[i8], scales: &[f32]) -> Vec<f32> {
        let columns = numbers.len() / scales.len();
        numbers.iter().enumerate().map(|(i, n)| f32::from(*n) * scales[i / columns]).collect()
    }

    #[test]
    fn whole_numbers_come_back() {
        let numbers = [127, -3, 0, 55, -128, 1, 99, 64, 0, 0, 0, 0];
        let scales = [0.003_921_569, 7.123_456e-4, 1.0];
        let whole = Whole::of(&dequantised(&numbers, &scales), 3).unwrap();
        assert_eq!(whole.numbers(), numbers);
        for (found, scale) in whole.scales().iter().zip(scales).take(2) {
            // the scale is known from a rounded product
            let off = (found.unwrap() / scale - 1.0).abs();
            assert!(off <= f32::EPSILON, "{found:?} for {scale}");
        }
        assert_eq!(whole.scales()[2], None);
    }

    #[test]
    fn every_scale_is_found_again() {
        for seed in 1..200u32 {
            let scale = (seed as f32 * 0.618_034).fract() * 1e-2 + 1e-6;
            let mut state = seed;
            let mut number = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 as i8
            };
            let numbers: Vec<i8> = (0..40).map(|_| number()).collect();
            let weights = dequantised(&numbers, &[scale]);
            let whole = Whole::of(&weights, 1).unwrap_or_else(|why| panic!("scale {scale}: {why}"));
            for (weight, number) in weights.iter().zip(whole.numbers()) {
                let again = f32::from(*number) * whole.scales()[0].unwrap();
                // two roundings away from each other at most
                assert!((again - weight).abs() <= weight.abs() * 2.0 * f32::EPSILON, "{again} for {weight}");
            }
        }
    }

    #[test]
    fn scales_are_exact_or_there_is_none() {
        for seed in 1..500u32 {
            let scale = (seed as f32 * 0.618_034).fract() * 1e-2 + 1e-6;
            let numbers: Vec<i8> = (0..30).map(|i| (i * 37 + seed * 11) as u8 as i8).collect();
            let weights = dequantised(&numbers, &[scale]);
            let found = exact_scale(&weights).unwrap_or_else(|| panic!("scale {scale}"));
            assert!(weights.iter().all(|w| (w / found).round_ties_even() * found == *w), "{scale}");
        }
        assert_eq!(exact_scale(&[0.0, -0.0]), Some(0.0));
        for odd in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            assert_eq!(exact_scale(&[1.0, odd, 0.5]), None, "{odd}");
        }
        assert_eq!(exact_scale(&[0.1, 0.2, 0.7 + 1e-4]), None);
    }

    /// Biases are whole numbers in the unit of the file, which weights with a divisor in common do not show.
    #[test]
    fn biases_stay_whole() {
        for seed in 1..200u32 {
            let random = |i: u32| (((seed * 977 + i) as f32) * 0.618_034).fract();
            let (scale, x_scale) = (random(1) * 1e-2 + 1e-6, random(2) + 1e-3);
            let bias = ((random(3) - 0.5) * 10f32.powi(seed as i32 % 6)).round() as i32;
            for numbers in
                [&[100, 50, 0, -25][..], &[-84, 24, 45, -27], &[127, 3], &[-128, 64], &[2, 1], &[7], &[0, 0]]
            {
                let numbers: Vec<i8> = numbers.iter().map(|n: &i32| *n as i8).collect();
                let whole = Whole::of(&dequantised(&numbers, &[scale]), 1).unwrap();
                let value = bias as f32 * (x_scale * scale);
                let (found, unit, steps) = whole.with_bias(0, value, x_scale).unwrap();
                let close = |a: f64, b: f64| (a - b).abs() <= 3e-7 * b.abs();
                let what =
                    format!("{numbers:?} times {scale}, bias {bias}: {found:?} times {unit}, bias {steps}");
                // the ratio of the bias to every weight stays, but for what rounds a product and a scale of f32
                for (found, number) in found.iter().zip(&numbers) {
                    let ratios = [f64::from(*found) * f64::from(bias), f64::from(*number) * f64::from(steps)];
                    assert!(close(ratios[0], ratios[1]), "{what}");
                }
                if numbers.iter().any(|n| *n != 0) {
                    let first = numbers.iter().position(|n| *n != 0).unwrap();
                    let ratio = f64::from(found[first]) * f64::from(unit) / f64::from(numbers[first]);
                    assert!(close(ratio, f64::from(scale)), "{what}");
                }
            }
        }
        let whole = Whole::of(&[0.5, 0.25], 1).unwrap();
        assert!(whole.with_bias(0, f32::NAN, 1.0).is_err() && whole.with_bias(0, 1e30, 1.0).is_err());
        // a bias of floats is rounded
        let (_, unit, steps) = whole.with_bias(0, 0.123_456, 1.0).unwrap();
        assert!((f64::from(steps) * f64::from(unit) - 0.123_456).abs() <= 0.5 * f64::from(unit));
    }

    #[test]
    fn few_weights_are_explained_by_numbers_of_a_byte() {
        let whole = Whole::of(&[0.0, 0.3, 0.0, 0.0, -0.3, 0.0], 2).unwrap();
        assert_eq!(whole.numbers(), [0, 127, 0, 0, -128, 0]);
    }

    #[test]
    fn other_weights_are_not_taken_for_quantised() {
        let ordinary: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7311).sin()).collect();
        assert_eq!(Whole::of(&ordinary, 4), Err(NOT_WHOLE));
        let wide: Vec<f32> = (0..256).map(|i| i as f32 * 0.01).collect();
        assert_eq!(Whole::of(&wide, 1), Err(WIDE));
        assert_eq!(Whole::of(&[-127.0, 128.0, 1.0, 127.0], 1), Err(WIDE));
        for odd in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE] {
            assert_eq!(Whole::of(&[1.0, odd, 0.5], 3), Err(NOT_WHOLE), "{odd}");
        }
        assert_eq!(Whole::of(&[], 0), Err(NOT_WHOLE));
        assert_eq!(Whole::of(&[1.0; 5], 2), Err(NOT_WHOLE));
    }
}
