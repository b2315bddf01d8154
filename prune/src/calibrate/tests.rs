//! What calibration computes, against definitions and plain least squares.

use super::*;
use crate::Recipe;
use crate::apply::L1;
use crate::layer::layers;
use crate::onnx::tensor::of_floats;
use crate::runtime::Session;
use tract_onnx::pb::{AttributeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::Tensor;

/// Sums of hundreds of products in f64, through systems of some ten unknowns of good condition; weights are kept in f32.
const EXACT: f64 = 1e-9;
const SINGLE: f64 = 1e-5;

const IC: usize = 6;
const OC: usize = 3;

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * scale, "{a} instead of {b}");
    }
}

/// Correlated rows with a mean, so that the bias matters.
fn rows(n: usize, width: usize, seed: u64) -> Vec<Vec<f64>> {
    let noise = Array::noise(&[n, width + 1], seed).data;
    let row =
        |row: &[f32]| (0..width).map(|i| f64::from(row[i] + 0.7 * row[width] + 0.3 * i as f32)).collect();
    // as the layer sees them
    noise
        .chunks(width + 1)
        .map(row)
        .map(|row: Vec<f64>| row.iter().map(|v| f64::from(*v as f32)).collect())
        .collect()
}

/// Gauss-Jordan with pivots, sharing nothing with [`Cholesky`].
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|p, q| a[*p][i].abs().total_cmp(&a[*q][i].abs())).unwrap();
        a.swap(i, pivot);
        b.swap(i, pivot);
        for j in (0..n).filter(|j| *j != i) {
            let factor = a[j][i] / a[i][i];
            for k in 0..n {
                a[j][k] -= factor * a[i][k];
            }
            b[j] -= factor * b[i];
        }
    }
    (0..n).map(|i| b[i] / a[i][i]).collect()
}

/// The weights `v` of `kept` inputs, and the bias if there may be one, for which `x v + bias` comes closest to `wanted` in mean
/// squares, with `damping * (v - pull)^2` added, over all inputs. Returns weights (all inputs) and bias.
fn least_squares(
    x: &[Vec<f64>],
    wanted: &[f64],
    kept: &[usize],
    bias: bool,
    damping: f64,
    pull: &[f64],
) -> (Vec<f64>, f64) {
    let size = kept.len() + usize::from(bias);
    let value = |row: &[f64], i: usize| if i < kept.len() { row[kept[i]] } else { 1.0 };
    let mean = |f: &dyn Fn(usize) -> f64| (0..x.len()).map(f).sum::<f64>() / x.len() as f64;
    let a = (0..size)
        .map(|i| {
            let damped = |j| if i == j && i < kept.len() { damping } else { 0.0 };
            (0..size).map(|j| mean(&|r| value(&x[r], i) * value(&x[r], j)) + damped(j)).collect()
        })
        .collect();
    let b = (0..size)
        .map(|i| {
            mean(&|r| value(&x[r], i) * wanted[r])
                + if i < kept.len() { damping * pull[kept[i]] } else { 0.0 }
        })
        .collect();
    let solution = solve(a, b);
    let mut weights = vec![0.0; x[0].len()];
    kept.iter().zip(&solution).for_each(|(i, v)| weights[*i] = *v);
    (weights, if bias { solution[kept.len()] } else { 0.0 })
}

fn product(x: &[Vec<f64>], w: &[f64]) -> Vec<f64> {
    x.iter().map(|row| row.iter().zip(w).map(|(a, b)| a * b).sum()).collect()
}

fn value_info(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..Default::default() }
}

fn factor(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: value, r#type: 1, ..Default::default() }
}

/// `y = alpha * x w^T + beta * c`.
#[derive(Clone, Copy)]
struct Factors {
    alpha: f32,
    beta: f32,
}

const PLAIN: Factors = Factors { alpha: 1.0, beta: 1.0 };

fn gemm(
    x: &str,
    y: &str,
    w: &[f32],
    c: Option<&[f32]>,
    Factors { alpha, beta }: Factors,
) -> (NodeProto, Vec<TensorProto>) {
    let mut tensors = vec![of_floats(&format!("{y}.w"), &[w.len() / IC, IC], w)];
    tensors.extend(c.map(|c| of_floats(&format!("{y}.c"), &[c.len()], c)));
    let node = NodeProto {
        name: y.into(),
        op_type: "Gemm".into(),
        input: [x.to_string()].into_iter().chain(tensors.iter().map(|t| t.name.clone())).collect(),
        output: vec![y.into()],
        attribute: vec![
            AttributeProto { name: "transB".into(), i: 1, r#type: 2, ..Default::default() },
            factor("alpha", alpha),
            factor("beta", beta),
        ],
        ..Default::default()
    };
    (node, tensors)
}

fn chain(parts: Vec<(NodeProto, Vec<TensorProto>)>) -> ModelProto {
    let last = parts.last().unwrap().0.output[0].clone();
    let (node, tensors): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let graph = GraphProto {
        node,
        initializer: tensors.concat(),
        input: vec![value_info("x")],
        output: vec![value_info(&last)],
        ..Default::default()
    };
    ModelProto { graph: Some(graph), ..Default::default() }
}

fn weights(count: usize, seed: u64) -> Vec<f32> {
    Array::noise(&[count], seed).data
}

fn plan(model: &ModelProto, ratio: f64) -> Plan {
    let fc = Structure::UNSTRUCTURED.into();
    Plan::new(model, &Recipe { ratio: Some(ratio), fc, ..Recipe::default() }).unwrap()
}

/// Runs chains of `Gemm`.
struct Chains;

struct Chain(ModelProto, Vec<String>);

impl Runtime for Chains {
    fn open(&self, model: &ModelProto, names: &[String]) -> Result<Box<dyn Session>> {
        Ok(Box::new(Chain(model.clone(), names.to_vec())))
    }
}

impl Session for Chain {
    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let inputs: Vec<Array> = inputs.iter().map(Array::of).collect::<Option<_>>().context("not f32")?;
        let outputs = self.run(&inputs)?;
        outputs.iter().map(|output| output.as_ref().context("no such output")?.tensor()).collect()
    }

    fn run(&mut self, inputs: &[Array]) -> Result<Vec<Option<Array>>> {
        let graph = self.0.graph.as_ref().context("no graph")?;
        let values = |name: &str| -> Result<Vec<f32>> {
            tensor::floats(graph.initializer.iter().find(|t| t.name == name).context("no such tensor")?)
        };
        let mut known = HashMap::from([("x".to_string(), inputs[0].clone())]);
        for node in &graph.node {
            let (x, w) = (&known[&node.input[0]], values(&node.input[1])?);
            let of = |name: &str| attribute(node, name).map_or(1.0, |a| f64::from(a.f));
            let oc = w.len() / IC;
            let c = node.input.get(2).map_or(Ok(vec![0.0; oc]), |name| values(name))?;
            let data = x.data.chunks(IC).flat_map(|x| {
                w.chunks(IC)
                    .zip(&c)
                    .map(|(w, c)| {
                        let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                        (of("alpha") * sum + of("beta") * f64::from(*c)) as f32
                    })
                    .collect::<Vec<_>>()
            });
            let y = Array { shape: vec![x.shape[0], oc], data: data.collect() };
            known.insert(node.output[0].clone(), y);
        }
        Ok(self.1.iter().map(|name| known.get(name).cloned()).collect())
    }
}

fn input(x: &[Vec<f64>]) -> Vec<Array> {
    vec![Array { shape: vec![x.len(), x[0].len()], data: x.concat().iter().map(|v| *v as f32).collect() }]
}

fn output(model: &ModelProto, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let y = Chains.run(model, &input(x), &outputs(model)).unwrap()[0].clone().unwrap();
    y.data.chunks(y.shape[1]).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect()
}

#[test]
fn moments_are_means_and_covariances() {
    let x = rows(40, IC, 1);
    for c in [None, Some(&[0.5f32; OC][..])] {
        let mut model = chain(vec![gemm("x", "y", &weights(OC * IC, 2), c, PLAIN)]);
        if c.is_none() {
            // a MatMul has no bias that could be set right
            let node = &mut model.graph.as_mut().unwrap().node[0];
            node.op_type = "MatMul".into();
            node.attribute.clear();
            let w = &mut model.graph.as_mut().unwrap().initializer[0];
            w.dims = vec![IC as i64, OC as i64];
        }
        let plan = plan(&model, 0.5);
        let seen = Calibration::collect(&model, &plan, &Chains, &[input(&x[..15]), input(&x[15..])]);
        // the stand-in for a runtime knows only Gemm, but what the first layer reads is the input
        let moments = &seen.unwrap().moments[&0];
        assert_eq!((moments.count, moments.centred), (40.0, c.is_some()));
        let mean = |f: &dyn Fn(&[f64]) -> f64| x.iter().map(|row| f(row)).sum::<f64>() / 40.0;
        let means: Vec<f64> = (0..IC).map(|i| mean(&|row| row[i])).collect();
        close(&moments.means(0), &means, EXACT);
        close(
            &moments.norms(0),
            &(0..IC).map(|i| mean(&|row| row[i] * row[i]).sqrt()).collect::<Vec<_>>(),
            EXACT,
        );
        let (h, damping) = moments.covariance(0);
        assert!(damping > 0.0);
        for i in 0..IC {
            for j in 0..IC {
                let shift = if c.is_some() { means[i] * means[j] } else { 0.0 };
                let wanted = mean(&|row| row[i] * row[j]) - shift + if i == j { damping } else { 0.0 };
                close(&[h[i * IC + j]], &[wanted], EXACT);
            }
        }
    }
}

#[test]
fn wanda_scores_are_magnitudes_times_norms() {
    let (x, w) = (rows(40, IC, 3), weights(OC * IC, 4));
    let mut model = chain(vec![gemm("x", "y", &w, None, PLAIN)]);
    let plan = plan(&model, 0.5);
    let seen = Calibration::collect(&model, &plan, &Chains, &[input(&x)]).unwrap();
    let norm = |i: usize| (x.iter().map(|row| row[i] * row[i]).sum::<f64>() / 40.0).sqrt();
    let wanted: Vec<f64> = w.iter().enumerate().map(|(i, w)| f64::from(w.abs()) * norm(i % IC)).collect();
    let layer = layers(&model).unwrap().remove(0).unwrap();
    let masker = Wanda(&seen).masker(&layer, Structure::UNSTRUCTURED, &w).unwrap();
    close(masker.scores(), &wanted, EXACT);
    plan.apply(&mut model, &Wanda(&seen)).unwrap();
    let mut order: Vec<usize> = (0..w.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let pruned = layer.weights(model.graph.as_ref().unwrap()).unwrap();
    for (place, i) in order.into_iter().enumerate() {
        assert_eq!(pruned[i], if place < w.len() / 2 { 0.0 } else { w[i] });
    }
}

/// A group is scored by what its removal costs when all others are refitted.
#[test]
fn obc_scores_are_costs_of_removal() {
    let (x, w) = (rows(60, IC, 5), weights(OC * IC, 6));
    let model = chain(vec![gemm("x", "y", &w, None, PLAIN)]);
    let plan = plan(&model, 0.5);
    let seen = Calibration::collect(&model, &plan, &Chains, &[input(&x)]).unwrap();
    let layer = layers(&model).unwrap().remove(0).unwrap();
    let (_, damping) = seen.moments[&0].covariance(0);
    for (r, c) in [(1, 1), (1, 2), (3, 2)] {
        let masker = Obc(&seen).masker(&layer, Structure::blocks(r, c).unwrap(), &w).unwrap();
        for group in 0..masker.scores().len() {
            let (outs, ins) = masker.group(group);
            let cost = outs.clone().map(|row| {
                let w: Vec<f64> = w[row * IC..][..IC].iter().map(|w| f64::from(*w)).collect();
                let kept: Vec<usize> = (0..IC).filter(|i| !ins.contains(i)).collect();
                let wanted = product(&x, &w);
                let (v, bias) = least_squares(&x, &wanted, &kept, true, damping, &w);
                let errors =
                    product(&x, &v).iter().zip(&wanted).map(|(got, y)| (got + bias - y).powi(2)).sum::<f64>();
                errors / x.len() as f64
                    + damping * v.iter().zip(&w).map(|(v, w)| (v - w).powi(2)).sum::<f64>()
            });
            let size = (outs.len() * ins.len()) as f64;
            close(&[masker.scores()[group]], &[cost.sum::<f64>() / size], EXACT);
        }
    }
}

/// Weights that stay, and the bias, are the least squares solution, whatever factors stand before products and bias; few
/// that stay go through another system than many.
#[test]
fn obc_refits_by_least_squares() {
    let (x, w, c) = (rows(80, IC, 7), weights(OC * IC, 8), weights(OC, 9));
    for ratio in [0.2, 0.5, 0.8] {
        for (alpha, beta) in [(1.0, 1.0), (0.1, 1.0), (0.1, -4.0), (3.0, 0.5), (2.0, 0.0)] {
            for c in [None, Some(&c[..])] {
                let dense = chain(vec![gemm("x", "y", &w, c, Factors { alpha, beta })]);
                let plan = plan(&dense, ratio);
                let seen = Calibration::collect(&dense, &plan, &Chains, &[input(&x)]).unwrap();
                // what is multiplied by zero can make up for nothing
                let bias = beta != 0.0;
                assert_eq!(seen.moments[&0].centred, bias);
                let (_, damping) = seen.moments[&0].covariance(0);
                let mut model = dense.clone();
                plan.apply(&mut model, &Obc(&seen)).unwrap();
                let graph = model.graph.as_ref().unwrap();
                let layer = layers(&model).unwrap().remove(0).unwrap();
                let pruned = layer.weights(graph).unwrap();
                let (expected, got) = (output(&dense, &x), output(&model, &x));
                for row in 0..OC {
                    let old: Vec<f64> = w[row * IC..][..IC].iter().map(|w| f64::from(*w)).collect();
                    let new: Vec<f64> = pruned[row * IC..][..IC].iter().map(|w| f64::from(*w)).collect();
                    let kept: Vec<usize> = (0..IC).filter(|i| new[*i] != 0.0).collect();
                    let wanted = product(&x, &old);
                    let (v, shift) = least_squares(&x, &wanted, &kept, bias, damping, &old);
                    close(&new, &v, SINGLE);
                    let wanted: Vec<f64> = product(&x, &v)
                        .iter()
                        .map(|y| {
                            let c = c.map_or(0.0, |c| f64::from(c[row]));
                            f64::from(alpha) * (y + shift) + f64::from(beta) * c
                        })
                        .collect();
                    close(&got.iter().map(|y| y[row]).collect::<Vec<_>>(), &wanted, SINGLE);
                    if bias {
                        let sum = |y: &[Vec<f64>]| y.iter().map(|y| y[row]).sum::<f64>();
                        assert!((sum(&got) - sum(&expected)).abs() < 1e-3, "the mean stays");
                    }
                }
            }
        }
    }
}

/// A bias that others read, too, is not moved, and the weights make up for it as well as they can.
#[test]
fn a_shared_bias_stays() {
    let (x, w, c) = (rows(80, IC, 7), weights(IC * IC, 8), weights(IC, 9));
    let mut dense = chain(vec![
        gemm("x", "h", &w, Some(&c), PLAIN),
        gemm("h", "y", &weights(IC * IC, 10), Some(&c), PLAIN),
    ]);
    dense.graph.as_mut().unwrap().node[1].input[2] = "h.c".into();
    let plan = plan(&dense, 0.5);
    let seen = Calibration::collect(&dense, &plan, &Chains, &[input(&x)]).unwrap();
    assert!(!seen.moments[&0].centred);
    let mut model = dense.clone();
    plan.apply(&mut model, &Obc(&seen)).unwrap();
    let bias = |model: &ModelProto| tensor::floats(&model.graph.as_ref().unwrap().initializer[1]).unwrap();
    assert_eq!(bias(&model), bias(&dense));
}

/// Layer by layer, each is fitted to what it reads now and to what it gave in the dense model.
#[test]
fn sequential_fits_every_layer_to_the_dense_outputs() {
    let x = rows(120, IC, 11);
    let dense = chain(vec![
        gemm("x", "h", &weights(IC * IC, 12), Some(&weights(IC, 13)), PLAIN),
        gemm("h", "y", &weights(OC * IC, 14), Some(&weights(OC, 15)), Factors { alpha: 0.5, beta: 2.0 }),
    ]);
    let plan = plan(&dense, 0.5);
    let mut model = dense.clone();
    let mut turns = vec![];
    sequential(&mut model, &plan, &Chains, &[input(&x)], &mut |at, of| turns.push((at, of))).unwrap();
    assert_eq!(turns, [(0, 2), (1, 2)]);
    // what the second layer reads is what the first one gives now
    let read = |model: &ModelProto| -> Vec<Vec<f64>> {
        let h = Chains.run(model, &input(&x), &["h".into()]).unwrap()[0].clone().unwrap();
        h.data.chunks(IC).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect()
    };
    let (here, there) = (read(&model), read(&dense));
    let second = |model: &ModelProto| {
        let layer = layers(model).unwrap().remove(1).unwrap();
        layer.weights(model.graph.as_ref().unwrap()).unwrap()
    };
    let variance = |i: usize| {
        let mean = here.iter().map(|row| row[i]).sum::<f64>() / 120.0;
        here.iter().map(|row| (row[i] - mean).powi(2)).sum::<f64>() / 120.0
    };
    let damping =
        DAMPING * (1.0 + IC as f64 / 120.0) * (0..IC).map(variance).sum::<f64>() / IC as f64 + 1e-12;
    for (old, new) in second(&dense).chunks(IC).zip(second(&model).chunks(IC)) {
        let old: Vec<f64> = old.iter().map(|w| f64::from(*w)).collect();
        let new: Vec<f64> = new.iter().map(|w| f64::from(*w)).collect();
        let kept: Vec<usize> = (0..IC).filter(|i| new[*i] != 0.0).collect();
        let (v, _) = least_squares(&here, &product(&there, &old), &kept, true, damping, &old);
        close(&new, &v, SINGLE);
    }
    let error = |model: &ModelProto| output_error(&dense, model, &Chains, &[input(&x)]).unwrap().0;
    let apply = |method: &dyn Method| {
        let mut model = dense.clone();
        plan.apply(&mut model, method).unwrap();
        error(&model)
    };
    let seen = Calibration::collect(&dense, &plan, &Chains, &[input(&x)]).unwrap();
    let (l1, obc) = (apply(&L1), apply(&Obc(&seen)));
    assert!(error(&model) < obc && obc < l1, "{} {obc} {l1}", error(&model));
}

#[test]
fn output_errors_are_relative_and_count_agreement() {
    let x = rows(1, IC, 16);
    let (w, mut other) = (weights(OC * IC, 17), weights(OC * IC, 17));
    other[..IC].iter_mut().for_each(|w| *w = 0.0);
    let (dense, pruned) =
        (chain(vec![gemm("x", "y", &w, None, PLAIN)]), chain(vec![gemm("x", "y", &other, None, PLAIN)]));
    let y = output(&dense, &x);
    let norm = y[0].iter().map(|v| v * v).sum::<f64>();
    let (error, agreement) = output_error(&dense, &pruned, &Chains, &[input(&x)]).unwrap();
    close(&[error], &[(y[0][0].powi(2) / norm).sqrt()], SINGLE);
    let top = |y: &[f64]| (0..OC).max_by(|a, b| y[*a].total_cmp(&y[*b]));
    assert_eq!(agreement, f64::from(u8::from(top(&y[0]) == top(&[0.0, y[0][1], y[0][2]]))));
    assert_eq!(output_error(&dense, &dense, &Chains, &[input(&x)]).unwrap(), (0.0, 1.0));
    assert!(output_error(&dense, &dense, &Chains, &[]).is_err());
}
