//! Means and second moments of what a layer reads.

use super::bias::Bias;
use super::linear::Cholesky;
use crate::layer::{Layer, Role};
use anyhow::Result;
use tract_onnx::pb::GraphProto;

/// Inputs of an output channel beyond which there is no covariance (2304: 256 channels of 3x3), only norms.
const WIDEST: usize = 2304;
/// Added to the diagonal of a covariance, relative to its mean; more where it was estimated from few
/// positions.
pub(super) const DAMPING: f64 = 0.01;

/// Second moments of the inputs of one layer: one matrix, or one per channel of a depthwise layer.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Inputs of an output channel: input channels by taps.
    pub(super) n: usize,
    /// Positions that have been seen.
    pub(super) count: f64,
    mean: Vec<Vec<f64>>,
    /// Sums of products, or of squares alone for the widest layers.
    gram: Vec<Vec<f64>>,
    squares_only: bool,
    /// Whether there is a bias that can make up for a shift of the outputs' mean.
    pub(super) centred: bool,
    dense: Option<Dense>,
}

/// What the layer reads in the dense model: sums of products with its inputs here (rows), and sums.
#[derive(Debug, Clone)]
struct Dense {
    cross: Vec<Vec<f64>>,
    mean: Vec<Vec<f64>>,
}

impl Moments {
    /// Nothing seen yet; with `pair`, what is read is going to be set against what the dense model reads.
    pub(super) fn new(graph: &GraphProto, layer: &Layer, pair: bool) -> Moments {
        let (n, matrices) = if layer.role == Role::Depthwise {
            (layer.shape.taps, layer.shape.oc)
        } else {
            (layer.shape.ic * layer.shape.taps, 1)
        };
        let squares_only = n > WIDEST;
        let size = if squares_only { n } else { n * n };
        let pair = pair && !squares_only;
        Moments {
            n,
            count: 0.0,
            mean: vec![vec![0.0; n]; matrices],
            gram: vec![vec![0.0; size]; matrices],
            squares_only,
            centred: Bias::of(graph, layer).is_some(),
            dense: pair.then(|| Dense {
                cross: vec![vec![0.0; size]; matrices],
                mean: vec![vec![0.0; n]; matrices],
            }),
        }
    }

    /// Adds what the layer reads here, and what it reads in the dense model in the same place.
    pub(super) fn add_pair(&mut self, matrix: usize, x: &[f32], dense: Option<&[f32]>) {
        self.add(matrix, x);
        if let (Some(Dense { cross, mean }), Some(dense)) = (&mut self.dense, dense) {
            mean[matrix].iter_mut().zip(dense).for_each(|(m, v)| *m += f64::from(*v));
            for (row, a) in cross[matrix].chunks_mut(self.n).zip(x).filter(|(_, a)| **a != 0.0) {
                let a = f64::from(*a);
                row.iter_mut().zip(dense).for_each(|(c, b)| *c += a * f64::from(*b));
            }
        }
    }

    /// The row whose outputs here come closest to those of `w` in the dense model, and those outputs' mean.
    pub(super) fn target(&self, matrix: usize, h: &Covariance, w: &[f64]) -> (Vec<f64>, f64) {
        let (n, mean) = (self.n, self.means(matrix));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let Some(Dense { cross, mean: dense }) = &self.dense else { return (w.to_vec(), dot(w, &mean)) };
        let dense: Vec<f64> = dense[matrix].iter().map(|m| m / self.count.max(1.0)).collect();
        if self.count < n as f64 {
            // too few positions to learn anything but means from
            return (w.to_vec(), dot(&dense, w));
        }
        let shift = if self.centred { dot(&dense, w) } else { 0.0 };
        let right: Vec<f64> = (0..n)
            .map(|i| {
                dot(&cross[matrix][i * n..][..n], w) / self.count.max(1.0) - mean[i] * shift
                    + h.damping * w[i]
            })
            .collect();
        ((0..n).map(|i| dot(&h.inverse[i * n..][..n], &right)).collect(), dot(&dense, w))
    }

    fn add(&mut self, matrix: usize, x: &[f32]) {
        let gram = &mut self.gram[matrix];
        for (i, a) in x.iter().enumerate() {
            let a = f64::from(*a);
            self.mean[matrix][i] += a;
            if self.squares_only {
                gram[i] += a * a;
            } else if a != 0.0 {
                // the lower triangle
                let row = &mut gram[i * self.n..i * self.n + i + 1];
                row.iter_mut().zip(x).for_each(|(g, b)| *g += a * f64::from(*b));
            }
        }
    }

    /// Matrices of weights that have moments of their own.
    pub(super) fn matrices(&self) -> usize {
        self.gram.len()
    }

    /// Whether products were summed up, not squares alone.
    pub(super) fn has_covariance(&self) -> bool {
        !self.squares_only
    }

    /// Root mean square of every input.
    pub(super) fn norms(&self, matrix: usize) -> Vec<f64> {
        let step = if self.squares_only { 1 } else { self.n + 1 };
        (0..self.n).map(|i| (self.gram[matrix][i * step] / self.count.max(1.0)).sqrt()).collect()
    }

    /// Mean of every input.
    pub(super) fn means(&self, matrix: usize) -> Vec<f64> {
        self.mean[matrix].iter().map(|m| m / self.count.max(1.0)).collect()
    }

    /// The damped covariance (or, without a bias to set right, the damped second moment).
    pub(super) fn covariance(&self, matrix: usize) -> (Vec<f64>, f64) {
        let (n, mean) = (self.n, self.means(matrix));
        let mut h = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let shift = if self.centred { mean[i] * mean[j] } else { 0.0 };
                let v = self.gram[matrix][i * n + j] / self.count.max(1.0) - shift;
                (h[i * n + j], h[j * n + i]) = (v, v);
            }
        }
        let mean = (0..n).map(|i| h[i * n + i].max(0.0)).sum::<f64>() / n as f64;
        let damping = DAMPING * (1.0 + n as f64 / self.count.max(1.0)) * mean + 1e-12;
        (0..n).for_each(|i| h[i * n + i] = h[i * n + i].max(0.0) + damping);
        (h, damping)
    }
}

/// A damped covariance of `n` inputs and its inverse, both `n` x `n`.
pub(super) struct Covariance {
    pub(super) n: usize,
    pub(super) h: Vec<f64>,
    pub(super) inverse: Vec<f64>,
    damping: f64,
}

impl Covariance {
    /// The covariance of the inputs that a matrix of a layer reads.
    ///
    /// # Errors
    /// It cannot be inverted.
    pub(super) fn of(moments: &Moments, matrix: usize) -> Result<Covariance> {
        let (n, (h, damping)) = (moments.n, moments.covariance(matrix));
        let inverse = Cholesky::new(n, h.clone())?.inverse();
        Ok(Covariance { n, h, inverse, damping })
    }
}
