//! Pruning by weights and the norms of their inputs.

use super::collect::Calibration;
use crate::apply::{Method, zero};
use crate::layer::Layer;
use crate::mask::Masker;
use anyhow::Result;
use sparsity::Structure;
use tract_onnx::pb::GraphProto;

/// Weights times the norms of their inputs (Sun et al. 2023); what stays is not changed.
#[derive(Debug, Clone, Copy)]
pub struct Wanda<'a>(pub &'a Calibration);

impl Method for Wanda<'_> {
    fn masker(&self, layer: &Layer, structure: Structure, weights: &[f32]) -> Result<Masker> {
        let row = layer.shape.ic * layer.shape.taps;
        let saliency: Vec<f64> = match self.0.moments.get(&layer.node) {
            Some(moments) => {
                let norms: Vec<Vec<f64>> = (0..moments.matrices()).map(|m| moments.norms(m)).collect();
                let norm = |i: usize| norms[if norms.len() > 1 { i / row } else { 0 }][i % row];
                weights.iter().enumerate().map(|(i, w)| f64::from(w.abs()) * norm(i)).collect()
            }
            None => weights.iter().map(|w| f64::from(w.abs())).collect(),
        };
        Masker::new(structure, layer.shape, &saliency)
    }

    fn prune(&self, _: &mut GraphProto, _: &Layer, weights: &mut [f32], keep: &[bool]) -> Result<()> {
        zero(weights, keep);
        Ok(())
    }
}
