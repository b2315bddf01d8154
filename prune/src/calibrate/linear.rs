//! The little linear algebra that calibration needs, in f64, row-major.

use anyhow::{Result, ensure};

/// A symmetric positive definite matrix, factored as `L * L^T`.
pub(crate) struct Cholesky {
    n: usize,
    l: Vec<f64>,
}

impl Cholesky {
    /// Factors the `n` x `n` matrix `a`, of which the lower triangle is read.
    pub(crate) fn new(n: usize, mut a: Vec<f64>) -> Result<Cholesky> {
        for i in 0..n {
            let (above, rest) = a.split_at_mut(i * n);
            let row = &mut rest[..n];
            for j in 0..i {
                let other = &above[j * n..j * n + n];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let pivot = row[i] - dot(&row[..i], &row[..i]);
            ensure!(pivot > 0.0 && pivot.is_finite(), "the Gram matrix is not positive definite");
            row[i] = pivot.sqrt();
        }
        Ok(Cholesky { n, l: a })
    }

    /// Solves `A x = b` in place.
    pub(crate) fn solve(&self, b: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            b[i] = (b[i] - dot(&self.l[i * n..i * n + i], &b[..i])) / self.l[i * n + i];
        }
        for i in (0..n).rev() {
            b[i] /= self.l[i * n + i];
            let (x, row) = (b[i], &self.l[i * n..i * n + i]);
            b[..i].iter_mut().zip(row).for_each(|(b, l)| *b -= l * x);
        }
    }

    /// The inverse of the matrix.
    pub(crate) fn inverse(&self) -> Vec<f64> {
        let n = self.n;
        let mut inverse = vec![0.0; n * n];
        for (i, row) in inverse.chunks_mut(n).enumerate() {
            row[i] = 1.0;
            self.solve(row);
        }
        inverse
    }
}

/// Eight partial sums, so that the additions need not wait for each other.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0f64; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        (0..8).for_each(|i| sums[i] += a[i] * b[i]);
    }
    sums.iter().sum::<f64>() + tail
}

/// The rows and columns `pick` of an `n` x `n` matrix.
pub(crate) fn submatrix(a: &[f64], n: usize, pick: &[usize]) -> Vec<f64> {
    pick.iter().flat_map(|i| pick.iter().map(move |j| a[i * n + j])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_and_inverts() {
        let n = 19;
        let b: Vec<f64> = (0..n * n).map(|i| ((i * 7919 + 3) % 101) as f64 / 50.0 - 1.0).collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                a[i * n + j] = (0..n).map(|k| b[i * n + k] * b[j * n + k]).sum::<f64>() + f64::from(i == j);
            }
        }
        let cholesky = Cholesky::new(n, a.clone()).unwrap();
        let inverse = cholesky.inverse();
        for i in 0..n {
            for j in 0..n {
                let product: f64 = (0..n).map(|k| a[i * n + k] * inverse[k * n + j]).sum();
                assert!((product - f64::from(i == j)).abs() < 1e-9);
            }
        }
        assert!(Cholesky::new(2, vec![1.0, 0.0, 2.0, 1.0]).is_err());
    }
}
