//! What calibration computes, against definitions and plain least squares.

mod compare;
mod moments;
mod obc;
mod sequential;
mod wanda;
mod window;

use super::{Calibration, Obc, Wanda, output_error};
use crate::apply::{L1, Method, Plan};
use crate::layer::{attribute, layers};
use crate::onnx::tensor::{self, of_floats};
use crate::runtime::{Array, Runtime, Session, outputs};
use crate::{Recipe, Structure};
use anyhow::{Context, Result};
use std::collections::HashMap;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::Tensor;

/// Sums of hundreds of products in f64, through systems of some ten unknowns of good condition; weights are
/// kept in f32.
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

/// The weights `v` of `kept` inputs, and the bias if there may be one, for which `x v + bias` comes closest
/// to `wanted` in mean squares, with `damping * (v - pull)^2` added, over all inputs. Returns weights (all
/// inputs) and bias.
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
