//! int8: clusters on quads of bytes, with conversions at their borders and nowhere else.

mod by_channel;
mod files;
mod onnxruntime;

use anyhow::{Context, Result};
use figures::top_1;
use sparse_ops::{QuadsWide, layers};
use tests::graph::{Graph, pruned};
use tests::{count, noise, npy, op_names, ort_python, run, skipped, values, with_knobs};
use tract_sparse::pb::tensor_proto::DataType;
use tract_sparse::pb::{ModelProto, NodeProto, TensorProto};
use tract_sparse::prelude::*;
use tract_sparse::tract_core::transform::get_transform;
use tract_sparse::{Onnx, Report, Target};
use zoo::proto::{int, ints, string};
use zoo::{Network, Spec};

/// What bytes stand for.
#[derive(Debug, Clone, Copy)]
struct Steps {
    scale: f32,
    zero: i32,
    signed: bool,
}

impl Steps {
    const U8: Steps = Steps { scale: 0.0173, zero: 121, signed: false };
    const I8: Steps = Steps { scale: 0.0191, zero: -9, signed: true };

    fn range(self) -> [i64; 2] {
        if self.signed { [-128, 127] } else { [0, 255] }
    }

    fn quantise(self, v: f32) -> i64 {
        let [lo, hi] = self.range();
        ((v / self.scale).round_ties_even() as i64 + i64::from(self.zero)).clamp(lo, hi)
    }

    fn float(self, q: i64) -> f32 {
        (q - i64::from(self.zero)) as f32 * self.scale
    }
}

/// A graph of quantised values. Every method returns the name of the tensor it adds.
#[derive(Default)]
struct Quantised {
    graph: Graph,
    tensors: usize,
}

impl Quantised {
    fn tensor(&mut self, data_type: DataType, shape: &[usize], raw_data: Vec<u8>) -> String {
        self.tensors += 1;
        let name = format!("q{}", self.tensors);
        self.graph.initializer(TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|extent| *extent as i64).collect(),
            data_type: data_type as i32,
            raw_data,
            ..TensorProto::default()
        });
        name
    }

    fn bytes(&mut self, shape: &[usize], values: &[i8]) -> String {
        self.tensor(DataType::Int8, shape, values.iter().map(|v| *v as u8).collect())
    }

    fn steps(&mut self, steps: Steps) -> [String; 2] {
        let scale = self.graph.constant(&[], &[steps.scale]);
        let data_type = if steps.signed { DataType::Int8 } else { DataType::Uint8 };
        [scale, self.tensor(data_type, &[], vec![steps.zero as u8])]
    }

    fn quantize(&mut self, x: &str, steps: Steps) -> String {
        let [scale, zero] = self.steps(steps);
        self.graph.op("QuantizeLinear", &[x, &scale, &zero], vec![])
    }

    fn dequantize(&mut self, x: &str, steps: Steps) -> String {
        let [scale, zero] = self.steps(steps);
        self.graph.op("DequantizeLinear", &[x, &scale, &zero], vec![])
    }

    /// A value, quantised and dequantised.
    fn both(&mut self, x: &str, steps: Steps) -> String {
        let bytes = self.quantize(x, steps);
        self.dequantize(&bytes, steps)
    }

    /// Dequantised weights with a scale for each output channel.
    fn weights(&mut self, shape: &[usize], values: &[i8], scales: &[f32]) -> String {
        let bytes = self.bytes(shape, values);
        let scale = self.graph.constant(&[scales.len()], scales);
        let zero = self.bytes(&[scales.len()], &vec![0; scales.len()]);
        self.graph.op("DequantizeLinear", &[&bytes, &scale, &zero], vec![int("axis", 0)])
    }

    /// Dequantised biases.
    fn bias(&mut self, values: &[i32], scales: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes = self.tensor(DataType::Int32, &[values.len()], raw);
        let scale = self.graph.constant(&[scales.len()], scales);
        self.graph.op("DequantizeLinear", &[&bytes, &scale], vec![int("axis", 0)])
    }

    /// A pruned pointwise layer between quantised values.
    fn pointwise(&mut self, x: &str, oc: usize, ic: usize, y: Steps, seed: u64) -> String {
        let (numbers, scales) = quantised(oc, &pruned(oc, ic, (4, 4), 0.5, seed));
        let w = self.weights(&[oc, ic, 1, 1], &numbers, &scales);
        let conv = self.graph.op("Conv", &[x, &w], vec![]);
        self.both(&conv, y)
    }
}

/// Weights as whole numbers, and a scale for each output channel.
fn quantised(oc: usize, weights: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let rows = weights.chunks_exact(weights.len() / oc);
    let scale = |row: &[f32]| row.iter().fold(1e-3f32, |most, w| most.max(w.abs())) / 127.0;
    let scales: Vec<f32> = rows.clone().map(scale).collect();
    let numbers =
        rows.zip(&scales).flat_map(|(row, scale)| row.iter().map(move |w| (w / scale).round() as i8));
    (numbers.collect(), scales)
}

/// Runs everything that has kernels, whatever the times.
fn always<R>(target: Target, f: impl FnOnce() -> R) -> R {
    with_mode("always", target, f)
}

fn with_mode<R>(mode: &str, target: Target, f: impl FnOnce() -> R) -> R {
    with_knobs(&[("TRACT_SPARSE", mode), ("TRACT_SPARSE_TARGET", target.name())], f)
}

fn load(onnx: &Onnx, model: &ModelProto) -> Result<TypedModel> {
    onnx.model_for_proto_model(model)?.into_optimized()
}

fn in_quads(model: &TypedModel) -> usize {
    let layers = model.nodes().iter().filter_map(layers).flatten();
    layers.filter(|layer| layer.int8().is_some()).count()
}

/// Fails unless there are so many layers on quads, and so many conversions to and from them.
fn assert_cluster(model: &TypedModel, expected: [usize; 3], what: &str) {
    let found = [in_quads(model), count(model, "ToQuads"), count(model, "FromQuads")];
    assert_eq!(found, expected, "{what}: {:?}\n{}", op_names(model), Report::of(model).unwrap());
    let left = ["QuantizeLinearU8", "QuantizeLinearI8", "DequantizeLinearF32", "LookupTable"];
    assert_eq!(left.map(|op| count(model, op)), [0; 4], "{what}: {:?}", op_names(model));
}

/// Operators inside of clusters that make floats of what they are given.
fn through_floats(model: &TypedModel) -> usize {
    model.nodes().iter().filter(|node| node.op_is::<QuadsWide>()).count()
}

/// One layer.
#[derive(Debug, Clone, Copy)]
struct Case {
    oc: usize,
    ic: usize,
    group: usize,
    kernel: usize,
    stride: usize,
    relu6: bool,
    x: Steps,
    y: Steps,
    density: f64,
}

impl Case {
    const HW: usize = 7;

    fn output(self) -> usize {
        (Case::HW + 2 * (self.kernel / 2) - self.kernel) / self.stride + 1
    }

    fn numbers(self) -> (Vec<i8>, Vec<f32>, Vec<i32>) {
        let cols = self.ic / self.group * self.kernel * self.kernel;
        let weights = match self.kernel {
            1 => pruned(self.oc, cols, (4, 4), self.density, 5),
            _ => pruned(self.oc, cols, (1, 1), self.density, 5),
        };
        let (numbers, scales) = quantised(self.oc, &weights);
        let bias = values(self.oc, 8).into_iter().map(|v| (v * 4000.0) as i32).collect();
        (numbers, scales, bias)
    }

    fn model(self) -> ModelProto {
        let (numbers, scales, bias) = self.numbers();
        let mut q = Quantised::default();
        let x = q.graph.input(&format!("1,{},{},{}", self.ic, Case::HW, Case::HW));
        let x = q.both(&x, self.x);
        let w = q.weights(&[self.oc, self.ic / self.group, self.kernel, self.kernel], &numbers, &scales);
        let products: Vec<f32> = scales.iter().map(|scale| scale * self.x.scale).collect();
        let b = q.bias(&bias, &products);
        let attributes = vec![
            ints("pads", &[self.kernel / 2; 4]),
            ints("strides", &[self.stride; 2]),
            ints("kernel_shape", &[self.kernel; 2]),
            int("group", self.group),
        ];
        let mut y = q.graph.op("Conv", &[&x, &w, &b], attributes);
        if self.relu6 {
            let [lo, hi] = [0.0, 6.0].map(|bound| q.graph.constant(&[], &[bound]));
            y = q.graph.op("Clip", &[&y, &lo, &hi], vec![]);
        }
        let y = q.both(&y, self.y);
        q.graph.model(&[&y])
    }

    /// The same layer as an integer operator of ONNX.
    fn integer_model(self) -> ModelProto {
        let (numbers, scales, bias) = self.numbers();
        let mut q = Quantised::default();
        let x = q.graph.input(&format!("1,{},{},{}", self.ic, Case::HW, Case::HW));
        let x = q.quantize(&x, self.x);
        let w = q.bytes(&[self.oc, self.ic / self.group, self.kernel, self.kernel], &numbers);
        let w_scale = q.graph.constant(&[self.oc], &scales);
        let w_zero = q.bytes(&[self.oc], &vec![0; self.oc]);
        let raw = bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let b = q.tensor(DataType::Int32, &[self.oc], raw);
        let [x_scale, x_zero] = q.steps(self.x);
        let [y_scale, y_zero] = q.steps(self.y);
        let attributes = vec![
            ints("pads", &[self.kernel / 2; 4]),
            ints("strides", &[self.stride; 2]),
            ints("kernel_shape", &[self.kernel; 2]),
            int("group", self.group),
        ];
        let inputs = [&x, &x_scale, &x_zero, &w, &w_scale, &w_zero, &y_scale, &y_zero, &b];
        let y = q.graph.op("QLinearConv", &inputs.map(String::as_str), attributes);
        let y = q.dequantize(&y, self.y);
        q.graph.model(&[&y])
    }

    /// What the layer is defined to compute, in whole numbers.
    fn expected(self, x: &[f32]) -> Vec<f32> {
        let (numbers, scales, bias) = self.numbers();
        let (k, hw, out, ic) = (self.kernel, Case::HW, self.output(), self.ic / self.group);
        let x: Vec<i64> = x.iter().map(|v| self.x.quantise(*v) - i64::from(self.x.zero)).collect();
        let mut y = vec![];
        for o in 0..self.oc {
            let first = o / (self.oc / self.group) * ic;
            for at in 0..out * out {
                let mut sum = i64::from(bias[o]);
                for (tap, w) in numbers[o * ic * k * k..][..ic * k * k].iter().enumerate() {
                    let (channel, ky, kx) = (tap / (k * k), tap / k % k, tap % k);
                    let pixel = |out: usize, tap: usize| (out * self.stride + tap).checked_sub(k / 2);
                    let (Some(iy), Some(ix)) = (pixel(at / out, ky), pixel(at % out, kx)) else { continue };
                    if iy < hw && ix < hw {
                        sum += i64::from(*w) * x[((first + channel) * hw + iy) * hw + ix];
                    }
                }
                let steps = (sum as f32 * (self.x.scale * scales[o] / self.y.scale)).round_ties_even();
                let [lo, hi] = self.y.range();
                let q = (steps as i64 + i64::from(self.y.zero)).clamp(lo, hi);
                let q = match self.relu6 {
                    true => q.clamp(self.y.quantise(0.0), self.y.quantise(6.0)),
                    false => q,
                };
                y.push(self.y.float(q));
            }
        }
        y
    }
}

/// Layers compute what they are defined to compute. Their scale is worked out from rounded weights, and so may be off by two
/// roundings: where a sum ends up halfway between two bytes, that is the other one.
#[test]
fn layers_are_exact() -> Result<()> {
    let pointwise = |oc, ic| Case { oc, ic, ..SAMPLE };
    let depthwise = |c, kernel, stride| Case { oc: c, ic: c, group: c, kernel, stride, ..pointwise(c, c) };
    let mut cases = vec![pointwise(8, 8), pointwise(13, 22), pointwise(64, 48), pointwise(5, 9)];
    cases.extend([depthwise(8, 3, 1), depthwise(13, 3, 2), depthwise(6, 5, 1), depthwise(5, 5, 2)]);
    let spatial = |oc, ic, kernel, stride| Case { kernel, stride, ..pointwise(oc, ic) };
    cases.extend([spatial(8, 8, 3, 1), spatial(6, 3, 3, 2), spatial(5, 9, 7, 2)]);
    cases.push(Case { group: 2, ..spatial(8, 12, 3, 1) });
    for case in cases.clone() {
        cases.push(Case { relu6: true, ..case });
        cases.push(Case { x: Steps::I8, y: Steps::I8, ..case });
        cases.push(Case { y: Steps::I8, relu6: true, ..case });
    }
    for case in cases {
        assert_exact(case, &case.model())?;
    }
    Ok(())
}

fn integer_cases() -> impl Iterator<Item = Case> {
    let depthwise = Case { oc: 12, ic: 12, group: 12, kernel: 3, ..SAMPLE };
    let spatial = Case { oc: 9, ic: 6, kernel: 3, ..SAMPLE };
    let cases = [SAMPLE, Case { oc: 13, ic: 22, ..SAMPLE }, depthwise, spatial];
    cases.into_iter().flat_map(|case| [case, Case { x: Steps::I8, y: Steps::I8, ..case }])
}

#[test]
fn integer_operators_are_exact() -> Result<()> {
    for case in integer_cases() {
        assert_exact(case, &case.integer_model())?;
    }
    let never = with_mode("never", Target::detect(), || load(&onnx(), &SAMPLE.integer_model()))?;
    let stock = load(&tract_onnx::onnx(), &SAMPLE.integer_model())?;
    assert_eq!(op_names(&never), op_names(&stock));
    Ok(())
}

fn assert_exact(case: Case, model: &ModelProto) -> Result<()> {
    let x = noise(&[1, case.ic, Case::HW, Case::HW], 3);
    let expected = case.expected(&values(case.ic * Case::HW * Case::HW, 3));
    for target in Target::available() {
        // kernels of 5x5 leave no single weights out, but where those of no size are made of such
        let all_taps = case.group > 1 && case.kernel == 5 && target != Target::SCALAR;
        let mode = if all_taps { "dense" } else { "always" };
        let optimised = with_mode(mode, target, || load(&onnx(), model))?;
        assert_cluster(&optimised, [1, 1, 1], &format!("{case:?} on {target}"));
        let y = run(optimised, std::slice::from_ref(&x))?;
        let y = y[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        let apart = y.iter().zip(&expected).map(|(y, e)| ((y - e) / case.y.scale).abs());
        assert_eq!(y.len(), expected.len());
        assert!(apart.clone().all(|steps| steps < 1.01), "{case:?} on {target}");
        let halfway = apart.filter(|steps| *steps > 0.01).count();
        assert!(halfway * 500 <= y.len(), "{case:?} on {target}: {halfway} of {} bytes", y.len());
    }
    Ok(())
}

/// Two layers, and what may stand between layers, with channels of odd number.
fn between(op: &str) -> ModelProto {
    let mut q = Quantised::default();
    let x = q.graph.input("1,16,10,10");
    let x = q.both(&x, Steps::U8);
    let y_steps = Steps { scale: 0.011, zero: 117, signed: false };
    let [a, b] = [1, 2].map(|seed| {
        let oc = if op == "Concat" && seed == 2 { 12 } else { 13 };
        q.pointwise(&x, oc, 16, y_steps, seed)
    });
    let two = |name| ints(name, &[2, 2]);
    let (y, channels) = match op {
        "Concat" => (q.graph.op("Concat", &[&b, &a], vec![int("axis", 1)]), 25),
        "MaxPool" => (q.graph.op("MaxPool", &[&a], vec![two("kernel_shape"), two("strides")]), 13),
        "AveragePool" => (q.graph.op("AveragePool", &[&a], vec![ints("kernel_shape", &[3, 3])]), 13),
        "PaddedPool" => {
            let attributes = vec![ints("kernel_shape", &[3, 3]), two("strides"), ints("pads", &[1; 4])];
            (q.graph.op("AveragePool", &[&a], attributes), 13)
        }
        "Nearest" | "Linear" => {
            let scales = q.graph.constant(&[4], &[1.0, 1.0, 2.0, 2.0]);
            let mode = string("mode", &op.to_lowercase());
            (q.graph.op("Resize", &[&a, "", &scales], vec![mode]), 13)
        }
        "Add" | "Mul" => (q.graph.op(op, &[&a, &b], vec![]), 13),
        "Gate" => {
            let mean = q.graph.op("GlobalAveragePool", &[&a], vec![]);
            let mean = q.both(&mean, y_steps);
            let gate = q.pointwise(&mean, 13, 13, y_steps, 3);
            let gate = q.graph.op("Sigmoid", &[&gate], vec![]);
            let gate = q.both(&gate, Steps { scale: 1.0 / 256.0, zero: 0, signed: false });
            (q.graph.op("Mul", &[&a, &gate], vec![]), 13)
        }
        "Swish" => {
            let sigmoid = q.graph.op("Sigmoid", &[&a], vec![]);
            let sigmoid = q.both(&sigmoid, Steps { scale: 1.0 / 256.0, zero: 0, signed: false });
            (q.graph.op("Mul", &[&a, &sigmoid], vec![]), 13)
        }
        op => (q.graph.op(op, &[&a], vec![]), 13),
    };
    let y = q.both(&y, Steps { scale: 0.013, ..y_steps });
    let y = q.pointwise(&y, 5, channels, y_steps, 4);
    q.graph.model(&[&y])
}

#[test]
fn what_stands_between_runs_on_quads() -> Result<()> {
    let pools = ["MaxPool", "AveragePool", "PaddedPool", "Nearest", "Linear"];
    let ops = ["Add", "Mul", "Concat", "Gate", "Swish"].into_iter().chain(pools);
    for op in ops.chain(["Relu", "HardSwish", "Sigmoid", "GlobalAveragePool"]) {
        let (mut model, x) = (between(op), noise(&[1, 16, 10, 10], 9));
        if op == "HardSwish" {
            model.opset_import[0].version = 14;
        }
        let stock = run(load(&tract_onnx::onnx(), &model)?, std::slice::from_ref(&x))?;
        for target in Target::available() {
            let optimised = always(target, || load(&onnx(), &model))?;
            let layers = match op {
                "Add" | "Mul" | "Concat" => 3,
                "Gate" => 3,
                _ => 2,
            };
            // a branch that nothing reads is not there
            assert_cluster(&optimised, [layers, 1, 1], &format!("{op} on {target}"));
            assert_eq!(through_floats(&optimised), 0, "{op} on {target}: {:?}", op_names(&optimised));
            let y = run(optimised, std::slice::from_ref(&x))?;
            // one step of each of the layers that follow each other, and of what is between
            let distance = largest_difference(&y[0], &stock[0])?;
            assert!(distance <= 3.01 * 0.011, "{op} on {target}: {distance}");
        }
    }
    Ok(())
}

/// A residual network, from the picture to the classifier: with layers of strides, a shortcut that is a layer, too, and
/// odd channels.
fn residual() -> ModelProto {
    /// A layer of `[oc, ic, kernel, stride]` between quantised values.
    fn layer(q: &mut Quantised, x: &str, [oc, ic, k, stride]: [usize; 4], relu: bool) -> String {
        let (numbers, scales) = quantised(oc, &pruned(oc, ic * k * k, (1, 1), 0.4, (ic + k) as u64));
        let w = q.weights(&[oc, ic, k, k], &numbers, &scales);
        let attributes = vec![ints("pads", &[k / 2; 4]), ints("strides", &[stride; 2])];
        let mut y = q.graph.op("Conv", &[x, &w], attributes);
        if relu {
            y = q.graph.op("Relu", &[&y], vec![]);
        }
        q.both(&y, RESIDUAL)
    }
    let mut q = Quantised::default();
    let x = q.graph.input("1,3,31,30");
    let x = q.both(&x, Steps::U8);
    let mut y = layer(&mut q, &x, [10, 3, 7, 2], true);
    for (oc, ic, stride) in [(10, 10, 1), (13, 10, 2)] {
        let a = layer(&mut q, &y, [oc, ic, 3, stride], true);
        let a = layer(&mut q, &a, [oc, oc, 3, 1], false);
        let shortcut = if stride == 1 { y } else { layer(&mut q, &y, [oc, ic, 1, stride], false) };
        let sum = q.graph.op("Add", &[&a, &shortcut], vec![]);
        let sum = q.both(&sum, RESIDUAL);
        let relu = q.graph.op("Relu", &[&sum], vec![]);
        y = q.both(&relu, RESIDUAL);
    }
    let mean = q.graph.op("GlobalAveragePool", &[&y], vec![]);
    let mean = q.both(&mean, RESIDUAL);
    let y = layer(&mut q, &mean, [6, 13, 1, 1], false);
    q.graph.model(&[&y])
}

const RESIDUAL: Steps = Steps { scale: 0.021, zero: 103, signed: false };

#[test]
fn residual_networks_are_one_cluster() -> Result<()> {
    let (model, x) = (residual(), noise(&[1, 3, 31, 30], 6));
    let stock = run(load(&tract_onnx::onnx(), &model)?, std::slice::from_ref(&x))?;
    for target in Target::available() {
        let optimised = always(target, || load(&onnx(), &model))?;
        assert_cluster(&optimised, [7, 1, 1], &format!("{target}"));
        let y = run(optimised, std::slice::from_ref(&x))?;
        // a step where a sum is in the middle of two bytes, of a layer in a row of six
        let distance = largest_difference(&y[0], &stock[0])?;
        assert!(distance <= 3.01 * RESIDUAL.scale, "{target}: {distance}");
    }
    Ok(())
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.shape(), b.shape());
    let (a, b) = (a.try_as_plain_ram()?, b.try_as_plain_ram()?);
    let pairs = a.as_slice::<f32>()?.iter().zip(b.as_slice::<f32>()?);
    Ok(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}

/// A softmax between quantised values is none of single values, as stock tract 0.23.9 has it.
#[test]
fn a_softmax_is_no_table() -> Result<()> {
    for (op, axes) in [("Softmax", 1), ("LogSoftmax", 1), ("Softmax", 2)] {
        let mut q = Quantised::default();
        let x = q.graph.input("1,16,10,10");
        let x = q.both(&x, Steps::U8);
        let y = q.pointwise(&x, 12, 16, Steps { scale: 0.02, ..Steps::U8 }, 1);
        let y = match axes {
            1 => q.graph.op("Flatten", &[&y], vec![]),
            _ => y,
        };
        let softmax = q.graph.op(op, &[&y], vec![int("axis", axes)]);
        let steps = match op {
            "Softmax" => Steps { scale: 1.0 / 255.0, zero: 0, signed: false },
            _ => Steps { scale: 0.1, zero: 255, signed: false },
        };
        let z = q.both(&softmax, steps);
        let model = q.graph.model(&[&z, &y]);
        let x = noise(&[1, 16, 10, 10], 3);
        for mode in ["always", "never"] {
            let outputs =
                with_mode(mode, Target::detect(), || run(load(&onnx(), &model)?, std::slice::from_ref(&x)))?;
            let [z, y] = [0, 1].map(|at| outputs[at].to_plain_array_view::<f32>().unwrap().to_owned());
            let exp = y.mapv(f32::exp);
            let sums = exp.sum_axis(tract_ndarray::Axis(axes)).insert_axis(tract_ndarray::Axis(axes));
            let expected = match op {
                "Softmax" => &exp / &sums,
                _ => y - sums.mapv(f32::ln),
            };
            let float = |v: f32| steps.float(steps.quantise(v));
            let far = z.iter().zip(&expected).map(|(z, v)| (z - float(*v)).abs()).fold(0.0, f32::max);
            // tract's softmax is of an approximate exponential
            assert!(far <= 1.01 * steps.scale, "{op} {mode}: {far}");
        }
    }
    Ok(())
}

/// The first layer of a report, in a model made by `edit` of one that runs in int8.
fn first_layer(case: Case, knobs: &[(&str, &str)], edit: impl FnOnce(&mut ModelProto)) -> Result<Layer> {
    let mut model = case.model();
    edit(&mut model);
    with_knobs(knobs, || {
        let model = load(&onnx(), &model)?;
        let layer = Report::of(&model)?.layers.remove(0);
        Ok(Layer {
            precision: layer.precision,
            why: layer.why_f32.or(layer.reason),
            layers: in_quads(&model),
        })
    })
}

#[derive(Debug)]
struct Layer {
    precision: Option<String>,
    why: Option<String>,
    layers: usize,
}

const SAMPLE: Case = Case {
    oc: 64,
    ic: 64,
    group: 1,
    kernel: 1,
    stride: 1,
    relu6: false,
    x: Steps::U8,
    y: Steps::U8,
    density: 0.6,
};

const ALWAYS: &[(&str, &str)] = &[("TRACT_SPARSE", "always")];

fn tensors(model: &mut ModelProto) -> &mut Vec<TensorProto> {
    &mut model.graph.as_mut().unwrap().initializer
}

/// The scales of single values in the order of [`Case::model`]: of the input, twice, then of the output, twice.
fn scale(model: &mut ModelProto, at: usize) -> &mut TensorProto {
    let scalars = tensors(model).iter_mut();
    let mut scales = scalars.filter(|t| t.dims.is_empty() && t.data_type == DataType::Float as i32);
    scales.nth(at).unwrap()
}

fn tensor<'a>(model: &'a mut ModelProto, name: &str) -> &'a mut TensorProto {
    tensors(model).iter_mut().find(|tensor| tensor.name == name).unwrap()
}

#[test]
fn what_cannot_be_integer_says_why() -> Result<()> {
    let layer = first_layer(SAMPLE, ALWAYS, |_| ())?;
    assert_eq!((layer.precision.as_deref(), &layer.why, layer.layers), (Some("int8"), &None, 1));
    let why = |layer: Layer, words: &str, what: &str| {
        assert_eq!(layer.layers, 0, "{what}: {layer:?}");
        assert!(layer.why.as_deref().is_some_and(|why| why.contains(words)), "{what}: {layer:?}");
    };
    for (at, whose) in [(1, "of its input, a scale"), (2, "of its output, a scale")] {
        for value in [0.0, f32::INFINITY, f32::NAN, -1.0] {
            let edit = |model: &mut ModelProto| scale(model, at).raw_data = value.to_le_bytes().to_vec();
            why(first_layer(SAMPLE, ALWAYS, edit)?, whose, &format!("{value}"));
        }
    }
    let large = first_layer(SAMPLE, ALWAYS, |model| {
        // q3 are the weights, q4 their zero points, q5 the bias
        tensor(model, "q5").raw_data[..4].copy_from_slice(&(i32::MAX - 255).to_le_bytes());
    })?;
    why(large, "may be too large for 32 bits", "bias");
    let wide = first_layer(SAMPLE, ALWAYS, |model| {
        for name in ["q3", "q4"] {
            tensor(model, name).data_type = DataType::Uint8 as i32;
        }
    })?;
    why(wide, "no numbers of i8", "u8 weights");
    let float = first_layer(SAMPLE, ALWAYS, |model| {
        let graph = model.graph.as_mut().unwrap();
        let weights = pruned(SAMPLE.oc, SAMPLE.ic, (4, 4), SAMPLE.density, 5);
        let conv = graph.node.iter_mut().find(|node| node.op_type == "Conv").unwrap();
        conv.input[1] = "floats".into();
        graph.initializer.push(zoo::proto::tensor("floats", &[SAMPLE.oc, SAMPLE.ic, 1, 1], &weights));
    })?;
    why(float, "no whole numbers", "weights of f32");
    Ok(())
}

#[test]
fn only_pruned_networks_run_in_int8_unless_asked_for() -> Result<()> {
    let dense = Case { density: 1.0, ..SAMPLE };
    let layers =
        |case, mode| -> Result<usize> { Ok(first_layer(case, &[("TRACT_SPARSE", mode)], |_| ())?.layers) };
    assert_eq!(layers(SAMPLE, "never")?, 0);
    assert_eq!(layers(dense, "auto")?, 0);
    assert_eq!(layers(SAMPLE, "auto")?, 1);
    assert_eq!(layers(dense, "dense")?, 1);
    Ok(())
}

/// A layer whose weights are not quantised in the middle, and at the borders: it is given floats and gives such, and what is around
/// it stays in quads.
#[test]
fn layers_of_floats_have_conversions_around_them() -> Result<()> {
    let mut q = Quantised::default();
    let x = q.graph.input("1,8,9,9");
    let mut y = q.both(&x, Steps::U8);
    for seed in 1..4 {
        let w = q.graph.constant(&[8, 8, 3, 3], &pruned(8, 8 * 9, (1, 1), 0.4, seed));
        let conv = q.graph.op("Conv", &[&y, &w], vec![ints("pads", &[1; 4])]);
        y = q.both(&conv, Steps::U8);
        if seed < 3 {
            let relu = q.graph.op("Relu", &[&y], vec![]);
            let relu = q.both(&relu, Steps::U8);
            y = q.pointwise(&relu, 8, 8, Steps::U8, 7 * seed);
        }
    }
    let (model, x) = (q.graph.model(&[&y]), noise(&[1, 8, 9, 9], 4));
    let stock = run(load(&tract_onnx::onnx(), &model)?, std::slice::from_ref(&x))?;
    let optimised = always(Target::detect(), || load(&onnx(), &model))?;
    let found = [in_quads(&optimised), count(&optimised, "ToQuads"), count(&optimised, "FromQuads")];
    assert_eq!(found, [2, 4, 4], "{:?}", op_names(&optimised));
    assert_eq!(count(&optimised, "QuadsLookup"), 2, "{:?}", op_names(&optimised));
    let distance = largest_difference(&run(optimised, std::slice::from_ref(&x))?[0], &stock[0])?;
    // a step of each of the five layers, which the next ones may make larger by their gain, here below one
    assert!(distance <= 5.01 * Steps::U8.scale, "{distance}");
    Ok(())
}

/// Models that stock tract has loaded: what it makes of integer operators is found by the transform, too, and stays as it is
/// where nothing is swapped.
#[test]
fn integer_operators_are_found_late() -> Result<()> {
    for case in integer_cases() {
        let model = case.integer_model();
        let decluttered =
            tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
        let x = noise(&[1, case.ic, Case::HW, Case::HW], 3);
        let late = |mode| {
            with_mode(mode, Target::detect(), || -> Result<_> {
                let mut model = decluttered.clone();
                get_transform("sparsify")?.context("a transform")?.transform(&mut model)?;
                Ok((op_names(&model), model.into_optimized()?))
            })
        };
        let (_, optimised) = late("always")?;
        assert_cluster(&optimised, [1, 1, 1], &format!("{case:?}"));
        let direct = always(Target::detect(), || load(&onnx(), &model))?;
        let [y, expected] = [optimised, direct].map(|model| run(model, std::slice::from_ref(&x)));
        assert_eq!(largest_difference(&y?[0], &expected?[0])?, 0.0, "{case:?}");
        assert_eq!(late("never")?.0, op_names(&decluttered));
    }
    Ok(())
}

/// Files of the extension hold quantised values, which tract's own do not: what is read computes the same bytes.
#[test]
fn models_come_back_from_nnef_files() -> Result<()> {
    let signed = Case { x: Steps::I8, y: Steps::I8, relu6: true, ..SAMPLE };
    let tables = between("Sigmoid");
    let mut models = vec![SAMPLE.model(), signed.model(), tables];
    models.extend(integer_cases().map(Case::integer_model));
    for model in models {
        let decluttered =
            tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
        let x = noise(decluttered.input_fact(0)?.shape.as_concrete().unwrap(), 5);
        let bytes = tract_sparse::nnef().write_to_tar_with_config(&decluttered, vec![], false, true)?;
        let (direct, back) = always(Target::detect(), || -> Result<_> {
            let back = tract_sparse::nnef().model_for_read(&mut &*bytes)?.into_optimized()?;
            Ok((load(&onnx(), &model)?, back))
        })?;
        assert_ne!(in_quads(&direct), 0);
        assert_eq!(in_quads(&back), in_quads(&direct), "{:?}", op_names(&back));
        let [y, expected] = [back, direct].map(|model| run(model, std::slice::from_ref(&x)));
        assert_eq!(largest_difference(&y?[0], &expected?[0])?, 0.0);
    }
    Ok(())
}

/// Weights are bytes in NNEF files, too: a quarter of those of the same layer in f32.
#[test]
fn weights_of_nnef_files_are_bytes() -> Result<()> {
    let case = Case { oc: 256, ic: 256, ..SAMPLE };
    let mut floats = case.model();
    let weights = pruned(case.oc, case.ic, (4, 4), case.density, 5);
    let graph = floats.graph.as_mut().unwrap();
    graph.node.retain(|node| node.op_type == "Conv");
    (graph.node[0].input[0], graph.node[0].input[1]) = (graph.input[0].name.clone(), "floats".into());
    graph.node[0].input.truncate(2);
    graph.output[0].name = graph.node[0].output[0].clone();
    graph.initializer = vec![zoo::proto::tensor("floats", &[case.oc, case.ic, 1, 1], &weights)];
    let decluttered = |model: &ModelProto| -> Result<TypedModel> {
        tract_onnx::onnx().model_for_proto_model(model)?.into_typed()?.into_decluttered()
    };
    let file = |model: &ModelProto| -> Result<Vec<u8>> {
        tract_sparse::nnef().write_to_tar_with_config(&decluttered(model)?, vec![], false, true)
    };
    let (int8, f32) = (file(&case.model())?, file(&floats)?);
    // what else there is: names, the graph, a scale and a bias for each channel
    assert!(int8.len() * 4 < f32.len() + 4 * (10 << 10), "{} of {}", int8.len(), f32.len());
    assert!(int8.len() > case.oc * case.ic / 2);
    let back = tract_sparse::nnef().model_for_read(&mut &*int8)?.into_decluttered()?;
    let constants = |model: &TypedModel| -> Vec<Arc<Tensor>> {
        let of = |node: &TypedNode| node.outputs[0].fact.konst.clone();
        model.nodes().iter().filter_map(of).filter(|konst| konst.len() == case.oc * case.ic).collect()
    };
    // to the last bit
    let stock = constants(&decluttered(&case.model())?);
    assert_eq!(stock.len(), 1);
    let of_file = with_mode("never", Target::detect(), || -> Result<_> {
        tract_sparse::nnef().model_for_read(&mut &*int8)?.into_decluttered()
    })?;
    assert_eq!(constants(&of_file), stock);
    assert!(Report::of(&back)?.layers.len() == 1);
    Ok(())
}
