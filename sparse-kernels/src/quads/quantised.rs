//! What becomes of the sums of a layer.

use super::{CHANNELS, lane, lookup, repeated};
use crate::error::{FormatError, KernelError};
use crate::pairs::as_lanes_mut;
use crate::table::Element;
use crate::vector::Vector;

/// The numbers of a quantised layer beside its weights, which are whole numbers of one byte.
///
/// With weights `w`, inputs `x` and the zero point of these, an output is
/// `table[clamp(round((bias + sum(w * (x - x_zero))) as f32 * scale) + y_zero, lo, hi)]`: the sum is exact, is rounded
/// to the nearest float and multiplied by the scale in f32; all rounding is to the nearest, ties to even.
///
/// Invariants: a bias and a scale for every output channel, of which there are some; scales are finite and above zero;
/// `lo <= hi`.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    bias: Vec<i32>,
    scales: Vec<f32>,
    x_zero: u8,
    y_zero: u8,
    lo: u8,
    hi: u8,
    table: Option<Box<[u8; 256]>>,
}

impl Quantised {
    /// A bias, in units of the sums and without any zero point in it, and a scale (that of the input, times that of the
    /// weights, over that of the output) for each output channel; the zero points of input and output. Outputs are all
    /// bytes, and nothing is looked up.
    ///
    /// # Errors
    /// No channels, as many scales as there are no biases, or a scale that is zero, negative, NaN or infinite.
    pub fn new(bias: Vec<i32>, scales: Vec<f32>, x_zero: u8, y_zero: u8) -> Result<Quantised, FormatError> {
        if bias.is_empty() {
            return Err(FormatError::ZeroDim("output channels"));
        }
        if bias.len() != scales.len() {
            return Err(FormatError::Length { what: "scales", expected: bias.len(), got: scales.len() });
        }
        if let Some(channel) = scales.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(FormatError::Scale { channel });
        }
        Ok(Quantised { bias, scales, x_zero, y_zero, lo: 0, hi: u8::MAX, table: None })
    }

    /// The same with outputs from `lo` to `hi` only: a ReLU has the zero point as `lo`.
    ///
    /// # Errors
    /// `lo` above `hi`.
    pub fn with_bounds(self, lo: u8, hi: u8) -> Result<Quantised, FormatError> {
        if lo > hi { Err(FormatError::Bounds { lo, hi }) } else { Ok(Quantised { lo, hi, ..self }) }
    }

    /// The same with outputs looked up in a table, after the bounds: a function of the output, such as HardSwish.
    #[must_use]
    pub fn with_table(self, table: [u8; 256]) -> Quantised {
        Quantised { table: Some(Box::new(table)), ..self }
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// A bias for each output channel.
    pub fn bias(&self) -> &[i32] {
        &self.bias
    }

    /// A scale for each output channel.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Zero points of input and output.
    pub fn zeros(&self) -> [u8; 2] {
        [self.x_zero, self.y_zero]
    }

    /// Lowest and highest output, before the table.
    pub fn bounds(&self) -> [u8; 2] {
        [self.lo, self.hi]
    }

    /// What outputs are looked up in.
    pub fn table(&self) -> Option<&[u8; 256]> {
        self.table.as_deref()
    }

    /// What kernels do with sums, and what these begin with, for dense `weights` of whole numbers, a row for each output
    /// channel; both have whole quads of channels. If `signed`, loops take 128 from every input.
    ///
    /// # Errors
    /// Another number of rows; a channel whose sums an i32 might not hold, or half of it what they are scaled to.
    pub(crate) fn prepare(
        &self,
        weights: &[f32],
        signed: bool,
    ) -> Result<(Vec<f32>, Requantise), KernelError> {
        let channels = self.channels();
        let columns = weights.len() / channels;
        if columns * channels != weights.len() {
            let (expected, got) = (weights.len() / columns.max(1), channels);
            return Err(FormatError::Length { what: "biases and scales", expected, got }.into());
        }
        let less = if signed { 128 } else { 0 };
        let padded = channels.next_multiple_of(CHANNELS);
        let mut bias = vec![0f32; padded];
        for (channel, row) in weights.chunks_exact(columns.max(1)).enumerate() {
            let total = |w: fn(i64) -> i64| row.iter().map(|v| w(*v as i64)).sum::<i64>();
            let most = i64::from(self.bias[channel]).abs() + i64::from(u8::MAX) * total(i64::abs);
            if i32::try_from(most).is_err() {
                return Err(FormatError::Sum { channel }.into());
            }
            if most as f64 * f64::from(self.scales[channel]) >= f64::from(i32::MAX / 2) {
                return Err(FormatError::Sum { channel }.into());
            }
            let begin = i64::from(self.bias[channel]) - (i64::from(self.x_zero) - less) * total(|w| w);
            bias[channel] = f32::from_bits(begin as i32 as u32);
        }
        let mut scales = self.scales.clone();
        scales.resize(padded, 1.0);
        let requantise = Requantise {
            scales,
            zero: self.y_zero,
            lo: self.lo,
            hi: self.hi,
            x_zeros: repeated(self.x_zero),
            table: self.table.clone(),
        };
        Ok((bias, requantise))
    }
}

/// [`Quantised`] as kernels use it.
///
/// Invariants: as many scales as whole quads of output channels have; no product of a scale and a sum of its channel is
/// beyond what 31 bits hold.
#[derive(Debug, Clone)]
pub(crate) struct Requantise {
    /// Of every output channel, and ones for those that fill up the last quad.
    pub scales: Vec<f32>,
    /// The zero point of the output.
    pub zero: u8,
    /// Bounds of the output.
    pub lo: u8,
    pub hi: u8,
    /// The zero point of the input in each byte of a lane, as the float with these bits.
    pub x_zeros: f32,
    pub table: Option<Box<[u8; 256]>>,
}

/// Zero point and bounds of outputs, in vectors.
#[derive(Clone, Copy)]
#[cfg_attr(
    all(target_arch = "wasm32", not(target_feature = "simd128")),
    expect(dead_code, reason = "plain Rust has no vectors")
)]
pub(crate) struct Bounds<V> {
    /// In each half of a lane.
    pub zero: V,
    /// In each byte of a lane.
    pub lo: V,
    pub hi: V,
}

impl Requantise {
    /// The output of a sum, before the table.
    #[inline(always)]
    pub fn byte(&self, scale: f32, sum: i32) -> u8 {
        // beyond what bytes are apart
        let product = (sum as f32 * scale).clamp(-512.0, 512.0);
        (round(product) + i32::from(self.zero)).clamp(i32::from(self.lo), i32::from(self.hi)) as u8
    }

    /// Zero point and bounds.
    ///
    /// # Safety
    /// As [`Vector::on`].
    #[inline(always)]
    pub unsafe fn bounds<V: Vector>(&self) -> Bounds<V> {
        let zero = u32::from(self.zero);
        // SAFETY: passed on from the caller.
        unsafe {
            Bounds {
                zero: V::splat(f32::from_bits(zero | zero << 16)),
                lo: V::splat(repeated(self.lo)),
                hi: V::splat(repeated(self.hi)),
            }
        }
    }

    /// The lane of four sums, the bits of i32, of the channels from `first` on.
    #[inline(always)]
    pub fn quad(&self, first: usize, sums: [f32; CHANNELS]) -> f32 {
        let byte = |c: usize| self.byte(self.scales[first + c], sums[c].to_bits() as i32);
        f32::from_bits(lane(std::array::from_fn(byte)))
    }

    /// Looks up finished lanes, if there is a table.
    pub fn look_up(&self, lanes: &mut [f32]) {
        if let Some(table) = &self.table {
            lookup(table, as_lanes_mut(lanes));
        }
    }

    /// Memory, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.scales.as_slice()) + self.table.as_ref().map_or(0, |table| table.len())
    }

    /// Channels, in whole quads.
    pub fn channels(&self) -> usize {
        debug_assert!(self.scales.len().is_multiple_of(Element::Int8.per_lane()));
        self.scales.len()
    }
}

/// The nearest whole number, ties to even, of a float between -2^22 and 2^22. (Beyond 2^23 there are no others, so that
/// the sum with such a float rounds; its lowest bits are the number.)
#[inline(always)]
pub(super) fn round(v: f32) -> i32 {
    const BEYOND: f32 = 1.5 * (1 << 23) as f32;
    ((v + BEYOND).to_bits() as i32).wrapping_sub(BEYOND.to_bits() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_and_even() {
        for i in -1100..=1100 {
            let v = i as f32 / 4.0;
            assert_eq!(round(v), v.round_ties_even() as i32, "{v}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let new = |scale: f32| Quantised::new(vec![0], vec![scale], 0, 0);
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(new(scale), Err(FormatError::Scale { channel: 0 }));
        }
        assert_eq!(Quantised::new(vec![], vec![], 0, 0), Err(FormatError::ZeroDim("output channels")));
        assert!(matches!(Quantised::new(vec![0; 2], vec![1.0], 0, 0), Err(FormatError::Length { .. })));
        assert_eq!(new(1.0).unwrap().with_bounds(3, 2), Err(FormatError::Bounds { lo: 3, hi: 2 }));
        let large = Quantised::new(vec![0, i32::MAX - 254], vec![0.25; 2], 0, 0).unwrap();
        assert!(large.prepare(&[127.0, 0.0, 0.0, 0.0], false).is_ok());
        let error = large.prepare(&[127.0, 0.0, 1.0, 0.0], false).unwrap_err();
        assert_eq!(error, FormatError::Sum { channel: 1 }.into());
        let steep = Quantised::new(vec![0; 2], vec![1.0, 1e8], 0, 0).unwrap();
        assert_eq!(steep.prepare(&[1.0; 4], false).unwrap_err(), FormatError::Sum { channel: 1 }.into());
        assert!(matches!(
            large.prepare(&[0.0; 3], false),
            Err(KernelError::Format(FormatError::Length { .. }))
        ));
    }
}
