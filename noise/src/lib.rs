//! Repeatable random numbers for tests and measurements: the same for the same seed on every machine; good
//! ones are not needed.

/// A linear congruential generator.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// The generator of a seed; neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn step(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0
    }

    /// Uniform in -1..1.
    pub fn value(&mut self) -> f32 {
        (self.step() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `len` values, uniform in -1..1.
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    /// Uniform in 0..1.
    pub fn share(&mut self) -> f32 {
        (self.value() + 1.0) / 2.0
    }

    /// True with probability `p`.
    pub fn coin(&mut self, p: f64) -> bool {
        f64::from(self.share()) < p
    }

    /// Roughly normal, of mean zero and variance one.
    pub fn normal(&mut self) -> f32 {
        // twelve uniforms have variance one
        (0..12).map(|_| self.share()).sum::<f32>() - 6.0
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.step() >> 33) as usize % end
    }

    /// One of several.
    ///
    /// # Panics
    /// There is none.
    pub fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A row-major matrix of values in -1..1, of which about a share `density` of the blocks of `r` rows by
    /// `c` columns is kept and the rest is zero.
    pub fn blocks(&mut self, rows: usize, cols: usize, (r, c): (usize, usize), density: f64) -> Vec<f32> {
        let mut matrix = self.values(rows * cols);
        for row in (0..rows).step_by(r) {
            for col in (0..cols).step_by(c) {
                if f64::from(self.share()) >= density {
                    for row in row..rows.min(row + r) {
                        matrix[row * cols..][col..cols.min(col + c)].fill(0.0);
                    }
                }
            }
        }
        matrix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_repeat_and_differ() {
        assert_eq!(Noise::new(7).values(5), Noise::new(7).values(5));
        assert_ne!(Noise::new(7).values(5), Noise::new(8).values(5));
    }

    #[test]
    fn numbers_are_spread_as_they_say() {
        let mut noise = Noise::new(1);
        let n = 10_000;
        let moments = |values: Vec<f32>| {
            let mean = values.iter().sum::<f32>() / n as f32;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n as f32)
        };
        let values = noise.values(n);
        assert!(values.iter().all(|v| (-1.0..1.0).contains(v)));
        // standard errors are a hundredth of these deviations, and less
        let (mean, variance) = moments(values);
        assert!(mean.abs() < 0.03 && (variance - 1.0 / 3.0).abs() < 0.02, "{mean} {variance}");
        let (mean, variance) = moments((0..n).map(|_| noise.normal()).collect());
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.07, "{mean} {variance}");
        let mut counts = [0; 6];
        (0..n).for_each(|_| counts[noise.below(6)] += 1);
        assert!(counts.iter().all(|count| (1500..1850).contains(count)), "{counts:?}");
    }

    #[test]
    fn blocks_are_whole_or_zero() {
        let (rows, cols) = (10, 9);
        let matrix = Noise::new(3).blocks(rows, cols, (4, 2), 0.5);
        let mut kept = 0;
        for row in (0..rows).step_by(4) {
            for col in (0..cols).step_by(2) {
                let cells =
                    (row..rows.min(row + 4)).flat_map(|r| (col..cols.min(col + 2)).map(move |c| (r, c)));
                let zeros: Vec<bool> = cells.map(|(r, c)| matrix[r * cols + c] == 0.0).collect();
                assert!(zeros.iter().all(|zero| *zero == zeros[0]), "{row} {col}");
                kept += usize::from(!zeros[0]);
            }
        }
        assert!((2..14).contains(&kept), "{kept} of 15");
    }
}
