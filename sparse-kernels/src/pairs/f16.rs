//! IEEE half precision, in plain Rust: what instructions of Arm cores compute, for every target.

/// The largest number.
pub const MAX: f32 = 65504.0;

/// The f16 nearest to a float: ties to even; what is beyond [`MAX`] by half a unit in its last place or more
/// becomes infinite, and NaN a quiet one.
#[inline(always)]
pub fn round(v: f32) -> u16 {
    const INFINITE: u32 = 0x7f80_0000;
    const LEAST_NORMAL: u32 = 113 << 23;
    let bits = v.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    // the exponent has another bias; a carry out of the ten bits counts it up, at last to that of infinity
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // the float sum rounds to the last place of denormals, which is the last of this number
    const LAST_PLACE: f32 = f32::from_bits(126 << 23);
    let denormal = (f32::from_bits(magnitude) + LAST_PLACE).to_bits().wrapping_sub(LAST_PLACE.to_bits());
    let rounded = if magnitude < LEAST_NORMAL { denormal } else { normal.min(0x7c00) };
    let rounded = if magnitude > INFINITE { 0x7e00 | magnitude >> 13 & 0x3ff } else { rounded };
    sign | rounded as u16
}

/// The float that an f16 stands for.
#[inline(always)]
pub fn float(v: u16) -> f32 {
    let sign = u32::from(v & 0x8000) << 16;
    let magnitude = u32::from(v & 0x7fff);
    let normal = (magnitude << 13) + (112 << 23);
    // 2^-24 is one in the last place of denormals
    let denormal = (magnitude as f32 * f32::from_bits(103 << 23)).to_bits();
    let bits = if magnitude < 0x400 { denormal } else { normal };
    let bits = if magnitude >= 0x7c00 { magnitude << 13 | 0x7f80_0000 } else { bits };
    f32::from_bits(sign | bits)
}

/// Two floats, rounded, as a lane.
#[inline(always)]
pub fn pair(first: f32, second: f32) -> u32 {
    u32::from(round(first)) | u32::from(round(second)) << 16
}

/// The two floats of a lane.
#[inline(always)]
pub fn widen(lane: u32) -> [f32; 2] {
    [float(lane as u16), float((lane >> 16) as u16)]
}

/// `a * b + c`, rounded once. In double precision the product is exact, and so is its sum with `c` but where
/// one of them is far too small to decide how the other one is rounded.
#[inline(always)]
pub(crate) fn mul_add(a: u16, b: u16, c: u16) -> u16 {
    let exact = f64::from(float(a)) * f64::from(float(b)) + f64::from(float(c));
    // to odd, so that rounding twice is rounding once
    let nearest = exact as f32;
    let wide = f64::from(nearest);
    let odd = match wide == exact || nearest.is_nan() || nearest.is_infinite() || nearest.to_bits() & 1 == 1 {
        true => nearest,
        false if (wide < exact) == (exact > 0.0) => f32::from_bits(nearest.to_bits() + 1),
        false => f32::from_bits(nearest.to_bits() - 1),
    };
    round(odd)
}

/// `a + b`, rounded.
#[inline(always)]
pub(crate) fn add(a: u16, b: u16) -> u16 {
    round(float(a) + float(b))
}

/// Most products that are added one after the other: 32 blocks of 4x4. (`sparse_kernels::pointwise` says why.)
pub(crate) const MOST_PRODUCTS: usize = 128;

/// A sum of products: of every [`MOST_PRODUCTS`] of them one by itself, and these added up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    total: Option<u16>,
    sum: u16,
    products: usize,
}

impl Sum {
    /// What sums begin with.
    #[inline(always)]
    pub fn new(first: u16) -> Sum {
        Sum { total: None, sum: first, products: 0 }
    }

    #[inline(always)]
    pub fn add(&mut self, a: u16, b: u16) {
        if self.products == MOST_PRODUCTS {
            *self = Sum { total: Some(self.value()), ..Sum::new(0) };
        }
        self.sum = mul_add(a, b, self.sum);
        self.products += 1;
    }

    #[inline(always)]
    pub fn value(self) -> u16 {
        self.total.map_or(self.sum, |total| add(total, self.sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for v in 0..=u16::MAX {
            let wide = float(v);
            if wide.is_nan() {
                assert!(float(round(wide)).is_nan());
            } else {
                assert_eq!(round(wide), v, "{wide}");
            }
        }
        assert_eq!(
            [0x3c00, 0xc000, 0x7bff, 1, 0x400].map(float),
            [1.0, -2.0, MAX, 2f32.powi(-24), 2f32.powi(-14)]
        );
    }

    /// Between two neighbours the nearer one, in the middle the even one.
    #[test]
    fn rounding_is_to_the_nearest_and_even() {
        for v in (0..0x7bff).step_by(if cfg!(miri) { 997 } else { 1 }) {
            let (low, high) = (float(v), float(v + 1));
            let middle = (low + high) / 2.0; // exact in f32
            assert_eq!(round(middle), v + (v & 1), "{middle}");
            assert_eq!(round(-middle), 0x8000 | (v + (v & 1)));
            assert_eq!(round(f32::from_bits(middle.to_bits() - 1)), v);
            assert_eq!(round(f32::from_bits(middle.to_bits() + 1)), v + 1);
        }
        assert_eq!(round(65519.996), 0x7bff);
        assert_eq!([65520.0, f32::MAX, f32::INFINITY].map(round), [0x7c00; 3]);
        assert_eq!(round(f32::NEG_INFINITY), 0xfc00);
        assert!(float(round(f32::from_bits(0x7f80_0001))).is_nan());
        assert_eq!([1e-40, 2f32.powi(-25), -1e-40].map(round), [0, 0, 0x8000]);
    }

    #[test]
    fn sums_are_rounded_once() {
        let one = round(1.0);
        // 1 + 2^-10 is the next number
        assert_eq!(mul_add(one, one, round(2f32.powi(-10))), one + 1);
        assert_eq!(mul_add(one, one, round(2f32.powi(-11))), one);
        // the square is 1 + 2^-9 + 2^-20: just above the middle once 2^-11 is added
        assert_eq!(mul_add(one + 1, one + 1, round(2f32.powi(-11))), one + 3);
        assert_eq!(mul_add(one, one, round(MAX)), 0x7bff);
        assert_eq!(mul_add(round(256.0), round(256.0), one), 0x7c00);
        assert_eq!(mul_add(round(f32::INFINITY), 0, one) & 0x7e00, 0x7e00);
        assert_eq!(add(round(2f32.powi(-24)), round(2f32.powi(-24))), 2);
    }
}
