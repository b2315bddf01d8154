//! Pruning that looks at activations: what real inputs send into each layer.
//!
//! For a layer `y = W x + b` with inputs of mean `m` and covariance `H`, leaving weights out of a row `w` costs, in mean
//! squared output and with the bias set right, `d^T H d` where `d` is the change of the row. Wanda scores a weight by
//! `|w| * sqrt(E x^2)`. The optimal brain compression of Frantar & Alistarh asks for more: among all changes that make the
//! weights of the set `P` zero, the cheapest is `d = -H^-1[:,P] (H^-1[P,P])^-1 w_P`, and it costs `w_P^T (H^-1[P,P])^-1 w_P`.
//! A group is scored by that cost, summed over its rows, with all others in place; when the groups have been chosen,
//! the weights that stay move by the joint change of the whole set, which is the least squares solution.

use crate::apply::{Method, Plan, Report, zero};
use crate::layer::{Constants, Layer, Place, Role, Skip, attribute, int};
use crate::linear::{Cholesky, submatrix};
use crate::mask::{Masker, apply};
use crate::onnx::tensor;
use crate::runtime::{Array, Runtime, outputs};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use sparsity::patterns::{THREE_OF_NINE, channel_groups, keeps};
use sparsity::{Structure, ThreeOfNine};
use std::collections::HashMap;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

/// Output positions of a layer that are looked at per run.
const SAMPLES: usize = 256;
/// Inputs of an output channel beyond which there is no covariance (2304: 256 channels of 3x3), only norms.
const WIDEST: usize = 2304;
/// Added to the diagonal of a covariance, relative to its mean; more where it was estimated from few positions.
const DAMPING: f64 = 0.01;

/// Second moments of the inputs of one layer: one matrix, or one per channel of a depthwise layer.
#[derive(Debug, Clone)]
struct Moments {
    /// Inputs of an output channel: input channels by taps.
    n: usize,
    count: f64,
    mean: Vec<Vec<f64>>,
    /// Sums of products, or of squares alone for the widest layers.
    gram: Vec<Vec<f64>>,
    squares_only: bool,
    /// Whether there is a bias that can make up for a shift of the outputs' mean.
    centred: bool,
    dense: Option<Dense>,
}

/// What the layer reads in the dense model: sums of products with its inputs here (rows), and sums.
#[derive(Debug, Clone)]
struct Dense {
    cross: Vec<Vec<f64>>,
    mean: Vec<Vec<f64>>,
}

impl Moments {
    fn new(graph: &GraphProto, layer: &Layer, pair: bool) -> Moments {
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
            centred: bias_of(graph, layer).is_some(),
            dense: pair.then(|| Dense {
                cross: vec![vec![0.0; size]; matrices],
                mean: vec![vec![0.0; n]; matrices],
            }),
        }
    }

    /// Adds what the layer reads here, and what it reads in the dense model in the same place.
    fn add_pair(&mut self, matrix: usize, x: &[f32], dense: Option<&[f32]>) {
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
    fn target(&self, matrix: usize, h: &Covariance, w: &[f64]) -> (Vec<f64>, f64) {
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

    /// Root mean square of every input.
    fn norms(&self, matrix: usize) -> Vec<f64> {
        let step = if self.squares_only { 1 } else { self.n + 1 };
        (0..self.n).map(|i| (self.gram[matrix][i * step] / self.count.max(1.0)).sqrt()).collect()
    }

    /// Mean of every input.
    fn means(&self, matrix: usize) -> Vec<f64> {
        self.mean[matrix].iter().map(|m| m / self.count.max(1.0)).collect()
    }

    /// The damped covariance (or, without a bias to set right, the damped second moment).
    fn covariance(&self, matrix: usize) -> (Vec<f64>, f64) {
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

/// What real inputs send into the layers of a model.
#[derive(Debug, Clone)]
pub struct Calibration {
    moments: HashMap<usize, Moments>,
}

impl Calibration {
    /// Runs `model` on every entry of `inputs` (the graph inputs of one run) and looks at what reaches the layers of `plan`.
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

    /// As [`Calibration::collect`] for a `model` whose first layers have been pruned already: what its layers read is
    /// set against what they read in `dense`, so that the update also makes up for what was lost before.
    fn collect_against(
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
fn sampled(n: usize) -> impl Iterator<Item = usize> {
    let picked = n.min(SAMPLES);
    (0..picked)
        .map(move |i| if n <= SAMPLES { i } else { (i * n / picked + (i * 7919) % (n / picked)).min(n - 1) })
}

struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
    input: [usize; 2],
    out: [usize; 2],
}

impl Window {
    fn of(node: &NodeProto, kernel: &[usize], input: [usize; 2]) -> Result<Window> {
        let [kh, kw] = kernel[..] else { anyhow::bail!("a kernel of {} axes", kernel.len()) };
        let pair = |name: &str| -> Result<[usize; 2]> {
            let Some(attribute) = attribute(node, name) else { return Ok([1, 1]) };
            match attribute.ints[..] {
                [a, b] if a > 0 && b > 0 => Ok([a as usize, b as usize]),
                _ => anyhow::bail!("{name} {:?} make no sense", attribute.ints),
            }
        };
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let auto = attribute(node, "auto_pad")
            .map_or("NOTSET".into(), |a| String::from_utf8_lossy(&a.s).to_string());
        let pads: Vec<i64> = attribute(node, "pads").map_or(vec![0; 4], |a| a.ints.clone());
        ensure!(pads.len() == 4 && pads.iter().all(|p| *p >= 0), "pads {pads:?} make no sense");
        let (mut before, mut out) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let reach = [kh, kw][axis]
                .checked_sub(1)
                .and_then(|gaps| gaps.checked_mul(dilation[axis])?.checked_add(1));
            let reach = reach.context("the kernel makes no sense")?;
            let total = match &*auto {
                "SAME_UPPER" | "SAME_LOWER" => {
                    let out = input[axis].div_ceil(stride[axis]);
                    let total = (out.saturating_sub(1).saturating_mul(stride[axis]).saturating_add(reach))
                        .saturating_sub(input[axis]);
                    before[axis] = if auto == "SAME_UPPER" { total / 2 } else { total.div_ceil(2) };
                    total
                }
                "VALID" => 0,
                _ => {
                    before[axis] = pads[axis] as usize;
                    before[axis].saturating_add(pads[axis + 2] as usize)
                }
            };
            let padded = input[axis].saturating_add(total);
            let room = padded.checked_sub(reach).context("the kernel is larger than its input")?;
            out[axis] = room / stride[axis] + 1;
        }
        Ok(Window { kernel: [kh, kw], stride, dilation, before, input, out })
    }

    /// The input pixel that a tap of an output pixel reads; `None` in the padding.
    fn index(&self, pixel: usize, tap: usize) -> Option<usize> {
        let at = |axis: usize, out: usize, tap: usize| {
            let i = (out * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.before[axis])?;
            (i < self.input[axis]).then_some(i)
        };
        let y = at(0, pixel / self.out[1], tap / self.kernel[1])?;
        let x = at(1, pixel % self.out[1], tap % self.kernel[1])?;
        Some(y * self.input[1] + x)
    }
}

/// Weights times the norms of their inputs (Sun et al. 2023); what stays is not changed.
#[derive(Debug, Clone, Copy)]
pub struct Wanda<'a>(pub &'a Calibration);

impl Method for Wanda<'_> {
    fn masker(&self, layer: &Layer, structure: Structure, weights: &[f32]) -> Result<Masker> {
        let row = layer.shape.ic * layer.shape.taps;
        let saliency: Vec<f64> = match self.0.moments.get(&layer.node) {
            Some(moments) => {
                let norms: Vec<Vec<f64>> = (0..moments.gram.len()).map(|m| moments.norms(m)).collect();
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

/// Optimal brain compression: scores by exact cost, weights that stay and biases moved to make up for those that went.
/// Layers whose inputs have not been seen, or that are too wide for a covariance, are pruned after Wanda.
#[derive(Debug, Clone, Copy)]
pub struct Obc<'a>(pub &'a Calibration);

impl Obc<'_> {
    fn moments(&self, layer: &Layer) -> Option<&Moments> {
        self.0.moments.get(&layer.node).filter(|m| !m.squares_only)
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
        let bias = bias_of(graph, layer).filter(|_| moments.centred);
        let mut shift = vec![0f64; layer.shape.oc];
        let mut refits: Option<(Vec<bool>, Refit)> = None;
        let mut covariance: Option<(usize, Covariance)> = None;
        for row in 0..layer.shape.oc {
            let matrix = if moments.gram.len() == 1 { 0 } else { row };
            if covariance.as_ref().is_none_or(|(m, _)| *m != matrix) {
                covariance = Some((matrix, Covariance::new(n, moments.covariance(matrix))?));
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

struct Covariance {
    n: usize,
    h: Vec<f64>,
    inverse: Vec<f64>,
    damping: f64,
}

impl Covariance {
    fn new(n: usize, (h, damping): (Vec<f64>, f64)) -> Result<Covariance> {
        let inverse = Cholesky::new(n, h.clone())?.inverse();
        Ok(Covariance { n, h, inverse, damping })
    }
}

/// The least squares solution for rows that share a mask, through the smaller of the two systems: that of the weights
/// that go (in the inverse) or that of those that stay.
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

/// A layer's bias, which moves its outputs.
struct Bias {
    /// Where it is; none if it can be added.
    place: Option<Place>,
    /// What moves an output by as much as one more for the products of weights and inputs does.
    scale: f64,
}

fn bias_of(graph: &GraphProto, layer: &Layer) -> Option<Bias> {
    let node = &graph.node[layer.node];
    if layer.op != "Conv" && layer.op != "Gemm" {
        return None;
    }
    // Gemm: alpha * A * B + beta * C
    let factor = |name: &str| attribute(node, name).map_or(1.0, |a| f64::from(a.f));
    let scale = if layer.op == "Gemm" { factor("alpha") / factor("beta") } else { 1.0 };
    if !scale.is_finite() {
        return None;
    }
    let Some(name) = node.input.get(2).filter(|b| !b.is_empty()) else {
        return Some(Bias { place: None, scale });
    };
    let constants = Constants::of(graph);
    let place = constants.place(name)?;
    let alone = constants.uses(place).len() == 1 && !constants.is_captured(place);
    let tensor = place.get(graph)?;
    let plain = tensor.dims == [layer.shape.oc as i64] && tensor::floats(tensor).is_ok();
    (alone && plain).then_some(Bias { place: Some(place), scale })
}

impl Bias {
    fn add(self, graph: &mut GraphProto, layer: &Layer, shift: &[f64]) -> Result<()> {
        match self.place {
            Some(place) => {
                let tensor = place.get_mut(graph).context("the bias is gone")?;
                let values = tensor::floats(tensor)?;
                let moved: Vec<f32> =
                    values.iter().zip(shift).map(|(b, s)| (f64::from(*b) + self.scale * s) as f32).collect();
                tensor::set_floats(tensor, &moved)
            }
            None => {
                let mut name = format!("{}.corrected_bias", layer.name);
                while graph.initializer.iter().any(|t| t.name == name) {
                    name.push('_');
                }
                let values: Vec<f32> = shift.iter().map(|s| (self.scale * s) as f32).collect();
                graph.initializer.push(tensor::of_floats(&name, &[values.len()], &values));
                let inputs = &mut graph.node[layer.node].input;
                inputs.truncate(2);
                inputs.push(name);
                Ok(())
            }
        }
    }
}

/// Optimal brain compression from the first layer to the last: each is pruned and updated after what reaches it through
/// those that have been pruned already, towards what it would compute in the dense model. Errors do not add up as they do
/// when every layer is calibrated on the dense model. One layer at a time: two that make up for the same loss overdo
/// it. Runs the dense and the pruned model on every input for every layer.
///
/// # Errors
/// As [`Calibration::collect`] and [`Plan::apply`].
pub fn sequential(
    model: &mut ModelProto,
    plan: &Plan,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report> {
    let dense = model.clone();
    let total = plan.planned().count();
    let mut reports = HashMap::new();
    for turn in 0..total {
        progress(turn, total);
        let mut at = 0;
        let mut stage = plan.clone();
        for entry in &mut stage.layers {
            if let Ok(p) = entry {
                if at != turn {
                    let (name, op) = (p.layer.name.clone(), p.layer.op.clone());
                    *entry = Err(Skip { name, op, reason: "not its turn".into() });
                }
                at += 1;
            }
        }
        let before = model.clone();
        let calibration = Calibration::collect_against(&before, Some(&dense), &stage, runtime, inputs)?;
        let report = stage.apply(model, &Obc(&calibration))?;
        let nodes: Vec<(usize, usize)> = stage.planned().map(|p| p.layer.key()).collect();
        let done = report.layers.into_iter().filter(|l| l.skipped.is_none());
        reports.extend(nodes.into_iter().zip(done));
    }
    plan.gather(reports)
}

/// What a way of pruning does to the outputs on inputs that it has not seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Error {
    /// Name of the method.
    pub method: String,
    /// Norm of the difference of all outputs over the norm of the dense model's outputs.
    pub error: f64,
    /// Share of inputs for which the largest value of the first output is at the same place.
    pub agreement: f64,
}

/// Prunes copies of `model` in several ways and compares their outputs with those of the dense model.
///
/// # Errors
/// No inputs, or a model that cannot be run.
pub fn compare(
    model: &ModelProto,
    plan: &Plan,
    methods: &[(&str, &dyn Method)],
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
) -> Result<Vec<Error>> {
    let mut errors = vec![];
    for (name, method) in methods {
        let mut pruned = model.clone();
        let _: Report = plan.apply(&mut pruned, *method)?;
        let (error, agreement) = output_error(model, &pruned, runtime, inputs)?;
        errors.push(Error { method: name.to_string(), error, agreement });
    }
    Ok(errors)
}

/// Relative difference of the outputs of two models, and how often their first output is largest at the same place.
///
/// # Errors
/// No inputs, or a model that cannot be run.
pub fn output_error(
    dense: &ModelProto,
    pruned: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
) -> Result<(f64, f64)> {
    ensure!(!inputs.is_empty(), "there are no inputs to compare on");
    let names = outputs(dense);
    let (mut difference, mut norm, mut agreed) = (0.0, 0.0, 0usize);
    let (mut dense, mut pruned) = (runtime.open(dense, &names)?, runtime.open(pruned, &names)?);
    for run in inputs {
        let (expected, got) = (dense.run(run)?, pruned.run(run)?);
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            for (g, e) in got.data.iter().zip(&expected.data) {
                difference += f64::from(g - e).powi(2);
                norm += f64::from(*e).powi(2);
            }
        }
        let top = |outputs: &[Option<Array>]| {
            let first = outputs.iter().flatten().next()?;
            first.data.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)
        };
        agreed += usize::from(top(&got) == top(&expected));
    }
    Ok(((difference / norm.max(1e-30)).sqrt(), agreed as f64 / inputs.len() as f64))
}

#[cfg(test)]
mod tests;
