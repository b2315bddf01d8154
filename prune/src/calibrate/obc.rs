//! Optimal brain compression.

use super::bias::Bias;
use super::collect::Calibration;
use super::linear::{Cholesky, submatrix};
use super::moments::{Covariance, Moments};
use super::wanda::Wanda;
use crate::apply::{Method, zero};
use crate::layer::Layer;
use crate::mask::{Masker, apply};
use anyhow::Result;
use sparsity::patterns::{THREE_OF_NINE, channel_groups, keeps};
use sparsity::{Structure, ThreeOfNine};
use tract_onnx::pb::GraphProto;

/// Optimal brain compression: scores by exact cost, weights that stay and biases moved to make up for those
/// that went. Layers whose inputs have not been seen, or that are too wide for a covariance, are pruned after
/// Wanda.
#[derive(Debug, Clone, Copy)]
pub struct Obc<'a>(pub &'a Calibration);

impl Obc<'_> {
    fn moments(&self, layer: &Layer) -> Option<&Moments> {
        self.0.moments.get(&layer.node).filter(|m| m.has_covariance())
    }
}

impl Method for Obc<'_> {
    fn masker(&self, layer: &Layer, structure: Structure, weights: &[f32]) -> Result<Masker> {
        let masker = Wanda(self.0).masker(layer, structure, weights)?;
        let Some(moments) = self.moments(layer) else { return Ok(masker) };
        let shape = layer.shape;
        if let Structure::ThreeOfNine(patterns) = structure {
            let keep = depthwise_patterns(moments, weights, shape.oc, patterns)?;
            return Ok(Masker::with(structure, shape, keep, vec![]));
        }
        if masker.scores().is_empty() {
            return Ok(masker);
        }
        let n = moments.n;
        let inverse = Cholesky::new(n, moments.covariance(0).0)?.inverse();
        let mut scores = vec![];
        for group in 0..masker.scores().len() {
            let (rows, cols) = masker.group(group);
            let mut cost = 0.0;
            for row in rows.clone() {
                let cells: Vec<usize> = (cols.start * masker.taps()..cols.end * masker.taps())
                    .filter(|i| masker.patterns()[row * n + i])
                    .collect();
                cost += removal_cost(&inverse, n, &cells, &weights[row * n..][..n])?;
            }
            scores.push(cost / (rows.len() * cols.len()) as f64);
        }
        Ok(Masker::with(structure, shape, masker.patterns().to_vec(), scores))
    }

    fn prune(&self, graph: &mut GraphProto, layer: &Layer, weights: &mut [f32], keep: &[bool]) -> Result<()> {
        let Some(moments) = self.moments(layer) else {
            zero(weights, keep);
            return Ok(());
        };
        let n = moments.n;
        let bias = Bias::of(graph, layer).filter(|_| moments.centred);
        let mut shift = vec![0f64; layer.shape.oc];
        let mut refits: Option<(Vec<bool>, Refit)> = None;
        let mut covariance: Option<(usize, Covariance)> = None;
        for row in 0..layer.shape.oc {
            let matrix = if moments.matrices() == 1 { 0 } else { row };
            if covariance.as_ref().is_none_or(|(m, _)| *m != matrix) {
                covariance = Some((matrix, Covariance::of(moments, matrix)?));
                refits = None;
            }
            let Some((_, h)) = &covariance else { continue };
            let cells = row * n..(row + 1) * n;
            let mask = &keep[cells.clone()];
            if refits.as_ref().is_none_or(|(k, _)| k != mask) {
                refits = Some((mask.to_vec(), Refit::new(h, mask)?));
            }
            let Some((_, refit)) = &refits else { continue };
            let old: Vec<f64> = weights[cells.clone()].iter().map(|w| f64::from(*w)).collect();
            let (wanted, mean) = moments.target(matrix, h, &old);
            let new = refit.apply(&wanted);
            for (w, v) in weights[cells].iter_mut().zip(&new) {
                *w = *v as f32;
            }
            let now: f64 = new.iter().zip(moments.means(matrix)).map(|(w, m)| w * m).sum();
            shift[row] = mean - now;
        }
        match bias {
            Some(bias) => bias.add(graph, layer, &shift),
            None => Ok(()),
        }
    }
}

/// `w_P^T (H^-1[P,P])^-1 w_P`.
fn removal_cost(inverse: &[f64], n: usize, cells: &[usize], row: &[f32]) -> Result<f64> {
    if cells.iter().all(|i| row[*i] == 0.0) {
        return Ok(0.0);
    }
    let mut x: Vec<f64> = cells.iter().map(|i| f64::from(row[*i])).collect();
    Cholesky::new(cells.len(), submatrix(inverse, n, cells))?.solve(&mut x);
    Ok(x.iter().zip(cells).map(|(x, i)| x * f64::from(row[*i])).sum())
}

/// For every channel group the one of the eight patterns whose error after the refit is least.
fn depthwise_patterns(
    moments: &Moments,
    weights: &[f32],
    channels: usize,
    patterns: ThreeOfNine,
) -> Result<Vec<bool>> {
    let mut keep = vec![true; weights.len()];
    let mut chosen = vec![];
    for group in channel_groups(channels, patterns.channels()) {
        let mut costs = [0f64; 8];
        for channel in group.clone() {
            let inverse = Cholesky::new(9, moments.covariance(channel).0)?.inverse();
            for (cost, mask) in costs.iter_mut().zip(THREE_OF_NINE) {
                let gone: Vec<usize> = (0..9).filter(|tap| !keeps(mask, *tap)).collect();
                *cost += removal_cost(&inverse, 9, &gone, &weights[channel * 9..][..9])?;
            }
        }
        let best = (0..8).fold(0, |best, i| if costs[i] < costs[best] { i } else { best });
        chosen.push((costs[best] / group.len() as f64, group, THREE_OF_NINE[best]));
    }
    chosen.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.start.cmp(&b.1.start)));
    let pruned = ((1.0 - patterns.full_ones()) * chosen.len() as f64).round() as usize;
    for (_, group, mask) in &chosen[..pruned] {
        for kernel in keep[group.start * 9..group.end * 9].chunks_mut(9) {
            apply(kernel, *mask);
        }
    }
    Ok(keep)
}

/// The least squares solution for rows that share a mask, through the smaller of the two systems: that of the
/// weights that go (in the inverse) or that of those that stay.
struct Refit {
    stay: Vec<usize>,
    gone: Vec<usize>,
    system: Option<Cholesky>,
    /// Rows of the inverse at `gone`, or of the covariance at `stay`.
    rows: Vec<Vec<f64>>,
    by_gone: bool,
}

impl Refit {
    fn new(h: &Covariance, keep: &[bool]) -> Result<Refit> {
        let (stay, gone): (Vec<usize>, Vec<usize>) = (0..h.n).partition(|i| keep[*i]);
        let by_gone = gone.len() <= stay.len();
        let (matrix, pick) = if by_gone { (&h.inverse, &gone) } else { (&h.h, &stay) };
        let system = match pick.len() {
            0 => None,
            k => Some(Cholesky::new(k, submatrix(matrix, h.n, pick))?),
        };
        let rows = pick.iter().map(|i| matrix[i * h.n..(i + 1) * h.n].to_vec()).collect();
        Ok(Refit { stay, gone, system, rows, by_gone })
    }

    fn apply(&self, old: &[f64]) -> Vec<f64> {
        let mut new = vec![0.0; old.len()];
        let Some(system) = &self.system else {
            self.stay.iter().for_each(|i| new[*i] = old[*i]);
            return new;
        };
        if self.by_gone {
            let mut x: Vec<f64> = self.gone.iter().map(|i| old[*i]).collect();
            system.solve(&mut x);
            new.copy_from_slice(old);
            for (x, row) in x.iter().zip(&self.rows) {
                new.iter_mut().zip(row).for_each(|(w, r)| *w -= x * r);
            }
            self.gone.iter().for_each(|i| new[*i] = 0.0);
        } else {
            let mut x: Vec<f64> =
                self.rows.iter().map(|row| row.iter().zip(old).map(|(h, w)| h * w).sum()).collect();
            system.solve(&mut x);
            self.stay.iter().zip(x).for_each(|(i, x)| new[*i] = x);
        }
        new
    }
}
