//! Runs a model on inputs and gathers the moments of what its layers read.

use super::moments::Moments;
use super::window::Window;
use crate::apply::Plan;
use crate::layer::{Layer, Role, int};
use crate::runtime::{Array, Runtime};
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

/// Output positions of a layer that are looked at per run.
const SAMPLES: usize = 256;

/// What real inputs send into the layers of a model.
#[derive(Debug, Clone)]
pub struct Calibration {
    pub(super) moments: HashMap<usize, Moments>,
}

impl Calibration {
    /// Runs `model` on every entry of `inputs` (the graph inputs of one run) and looks at what reaches the
    /// layers of `plan`.
    ///
    /// # Errors
    /// No inputs, a model that cannot be run, activations that are not finite.
    pub fn collect(
        model: &ModelProto,
        plan: &Plan,
        runtime: &dyn Runtime,
        inputs: &[Vec<Array>],
    ) -> Result<Calibration> {
        Calibration::collect_against(model, None, plan, runtime, inputs)
    }

    /// As [`Calibration::collect`] for a `model` whose first layers have been pruned already: what its layers
    /// read is set against what they read in `dense`, so that the update also makes up for what was lost
    /// before.
    pub(super) fn collect_against(
        model: &ModelProto,
        dense: Option<&ModelProto>,
        plan: &Plan,
        runtime: &dyn Runtime,
        inputs: &[Vec<Array>],
    ) -> Result<Calibration> {
        ensure!(!inputs.is_empty(), "calibration needs at least one input");
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let layers: Vec<&Layer> = plan.planned().map(|p| &p.layer).filter(|l| readable(graph, l)).collect();
        let fed: Vec<&str> = graph
            .input
            .iter()
            .map(|i| &*i.name)
            .filter(|name| !graph.initializer.iter().any(|t| t.name == **name))
            .collect();
        let mut names: Vec<String> = layers.iter().map(|l| l.input.clone()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| !fed.contains(&&**name));
        let mut moments: HashMap<usize, Moments> =
            layers.iter().map(|l| (l.node, Moments::new(graph, l, dense.is_some()))).collect();
        let mut session = runtime.open(model, &names)?;
        let mut dense = dense.map(|dense| runtime.open(dense, &names)).transpose()?;
        for run in inputs {
            let values = session.run(run).context("running the model for calibration")?;
            let dense = dense.as_mut().map(|dense| dense.run(run)).transpose()?;
            for layer in &layers {
                let of = |values: &[Option<Array>]| match names.iter().position(|n| *n == layer.input) {
                    Some(at) => values[at].clone(),
                    None => fed.iter().position(|n| *n == layer.input).map(|at| run[at].clone()),
                };
                let Some(x) = of(&values) else { continue };
                let dense = dense.as_ref().and_then(|dense| of(dense));
                ensure!(x.data.iter().all(|v| v.is_finite()), "the input of {} is not finite", layer.name);
                if let Some(moments) = moments.get_mut(&layer.node) {
                    let added = look(&graph.node[layer.node], layer, &x, dense.as_ref(), moments);
                    added.with_context(|| format!("layer {}", layer.name))?;
                }
            }
        }
        moments.retain(|_, m| m.count > 0.0);
        Ok(Calibration { moments })
    }

    /// Whether inputs of this layer have been seen.
    pub fn covers(&self, layer: &Layer) -> bool {
        self.moments.contains_key(&layer.node)
    }
}

/// Whether an output channel of the layer reads one row of values per output position.
fn readable(graph: &GraphProto, layer: &Layer) -> bool {
    let node = &graph.node[layer.node];
    match layer.role {
        Role::Depthwise | Role::Pointwise | Role::Conv3x3 => layer.kernel.len() == 2,
        Role::FullyConnected => int(node, "transA", 0) == 0 && node.input[0] == layer.input,
        Role::Transposed | Role::Recurrent | Role::Other => false,
    }
}

/// Adds what the layer reads in one run, at up to [`SAMPLES`] positions.
fn look(
    node: &NodeProto,
    layer: &Layer,
    x: &Array,
    dense: Option<&Array>,
    moments: &mut Moments,
) -> Result<()> {
    ensure!(dense.is_none_or(|d| d.shape == x.shape), "the dense model has another shape here");
    if layer.role == Role::FullyConnected {
        let k = layer.shape.ic;
        ensure!(x.shape.last() == Some(&k), "input of shape {:?} for {k} weights", x.shape);
        let rows = x.data.len() / k;
        for row in sampled(rows) {
            moments.add_pair(0, &x.data[row * k..][..k], dense.map(|d| &d.data[row * k..][..k]));
            moments.count += 1.0;
        }
        return Ok(());
    }
    let [n, c, h, w] = x.shape[..] else { anyhow::bail!("input of shape {:?} is not N, C, H, W", x.shape) };
    let window = Window::of(node, &layer.kernel, [h, w])?;
    let (taps, [oh, ow]) = (layer.shape.taps, window.out);
    let fill = |x: &Array, position: usize, row: &mut [f32]| {
        let (image, pixel) = (position / (oh * ow), position % (oh * ow));
        for (channel, cells) in row.chunks_mut(taps).enumerate() {
            let plane = &x.data[(image * c + channel) * h * w..][..h * w];
            for (tap, cell) in cells.iter_mut().enumerate() {
                *cell = window.index(pixel, tap).map_or(0.0, |i| plane[i]);
            }
        }
    };
    let (mut row, mut dense_row) = (vec![0f32; c * taps], vec![0f32; c * taps]);
    for position in sampled(n * oh * ow) {
        fill(x, position, &mut row);
        if let Some(dense) = dense {
            fill(dense, position, &mut dense_row);
        }
        let width = if layer.role == Role::Depthwise { taps } else { c * taps };
        for (matrix, (cells, dense_cells)) in row.chunks(width).zip(dense_row.chunks(width)).enumerate() {
            moments.add_pair(matrix, cells, dense.map(|_| dense_cells));
        }
        moments.count += 1.0;
    }
    Ok(())
}

/// At most [`SAMPLES`] positions, spread evenly but not in step with rows of a map.
pub(super) fn sampled(n: usize) -> impl Iterator<Item = usize> {
    let picked = n.min(SAMPLES);
    (0..picked)
        .map(move |i| if n <= SAMPLES { i } else { (i * n / picked + (i * 7919) % (n / picked)).min(n - 1) })
}
