//! Writes the nodes of a network and computes them at the same time, to choose weights that keep activations
//! alive.

use crate::forward::{self, Planes, Window};
use crate::proto;
use crate::spec::{Batch, Spec};
use anyhow::Result;
use prune::mask::{Shape, l1};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use sparsity::Zeros;
use std::rc::Rc;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto,
};

/// A tensor of the graph: its name, and its value for the calibration image.
#[derive(Clone)]
pub(crate) struct Var {
    name: String,
    value: Rc<Planes>,
}

impl Var {
    pub(crate) fn channels(&self) -> usize {
        self.value.channels
    }

    #[cfg(test)]
    pub(crate) fn planes(&self) -> &Planes {
        &self.value
    }
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    None,
    Relu,
    Relu6,
    HardSwish,
}

/// A convolution or pooling window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) k: usize,
    pub(crate) stride: usize,
    /// `auto_pad = SAME_UPPER` instead of `k / 2` zeros on every side.
    pub(crate) same: bool,
}

impl Kernel {
    pub(crate) fn new(k: usize, stride: usize) -> Kernel {
        Kernel { k, stride, same: false }
    }

    pub(crate) fn same(k: usize, stride: usize) -> Kernel {
        Kernel { k, stride, same: true }
    }

    fn window(&self, h: usize, w: usize) -> Window {
        let Kernel { k, stride, same } = *self;
        let axis = |size: usize| {
            if same {
                let out = size.div_ceil(stride);
                (((out - 1) * stride + k).saturating_sub(size) / 2, out)
            } else {
                (k / 2, (size + 2 * (k / 2) - k) / stride + 1)
            }
        };
        let ((top, oh), (left, ow)) = (axis(h), axis(w));
        Window { k, stride, before: (top, left), out: (oh, ow) }
    }

    fn attributes(&self) -> Vec<AttributeProto> {
        let Kernel { k, stride, same } = *self;
        let pads =
            if same { proto::string("auto_pad", "SAME_UPPER") } else { proto::ints("pads", &[k / 2; 4]) };
        vec![proto::ints("kernel_shape", &[k, k]), proto::ints("strides", &[stride, stride]), pads]
    }
}

pub(crate) struct Builder<'a> {
    spec: &'a Spec,
    rng: Xoshiro256PlusPlus,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl<'a> Builder<'a> {
    /// A graph whose input `input` has three channels of `hw` x `hw`; calibrated on an image of `calibration`
    /// pixels a side.
    pub(crate) fn new(spec: &'a Spec, calibration: usize) -> (Builder<'a>, Var) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(spec.seed);
        let mut image = Planes::zeros(3, calibration, calibration);
        image.data.iter_mut().for_each(|v| *v = StandardNormal.sample(&mut rng));
        let input = Var { name: "input".into(), value: Rc::new(image) };
        (Builder { spec, rng, nodes: vec![], initializers: vec![] }, input)
    }

    /// `channels` times the width multiplier, rounded to a multiple of 8, never below 8 nor 10 % too small.
    pub(crate) fn wide(&self, channels: usize) -> usize {
        if self.spec.width == 1.0 { channels } else { divisible(channels as f64 * self.spec.width) }
    }

    /// A dense or depthwise (`groups == channels`) convolution with bias, then its activation.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        x: &Var,
        oc: usize,
        kernel: Kernel,
        groups: usize,
        act: Act,
    ) -> Result<Var> {
        let k = kernel.k;
        let ic = x.channels() / groups;
        let mut w = self.normal(oc * ic * k * k, (2.0 / (ic * k * k) as f32).sqrt());
        let zeros = match (k, groups) {
            (1, 1) => self.spec.conv1x1,
            (3, 1) if x.name != "input" => self.spec.conv3x3,
            (3, _) if ic == 1 => self.spec.dwconv3x3,
            _ => None,
        };
        remove(&mut w, zeros, Shape::new(oc, ic, k * k))?;
        let mut y = forward::conv(&x.value, &w, oc, groups, kernel.window(x.value.h, x.value.w));
        let bias = self.calibrate(&mut w, &mut y);
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        self.initializers.push(proto::tensor(&weight_name, &[oc, ic, k, k], &w));
        self.initializers.push(proto::tensor(&bias_name, &[oc], &bias));
        let mut attributes = kernel.attributes();
        attributes.push(proto::int("group", groups));
        let y = self.node("Conv", name, &[&x.name, &weight_name, &bias_name], attributes, y);
        Ok(self.activate(&y, act))
    }

    /// A fully connected layer on a flattened input.
    pub(crate) fn gemm(&mut self, name: &str, x: &Var, oc: usize) -> Result<Var> {
        let ic = x.channels();
        let mut w = self.normal(oc * ic, (1.0 / ic as f32).sqrt());
        remove(&mut w, self.spec.fc, Shape::new(oc, ic, 1))?;
        let window = Kernel::new(1, 1).window(1, 1);
        let mut y = forward::conv(&x.value, &w, oc, 1, window);
        let bias = self.calibrate(&mut w, &mut y);
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        self.initializers.push(proto::tensor(&weight_name, &[oc, ic], &w));
        self.initializers.push(proto::tensor(&bias_name, &[oc], &bias));
        Ok(self.node("Gemm", name, &[&x.name, &weight_name, &bias_name], vec![proto::int("transB", 1)], y))
    }

    /// Shifts and scales every output channel, as a folded batch normalisation does: rescales the rows of `w`
    /// and the values of `y`, returns the bias.
    ///
    /// Mean and variance of a channel count as much as it has pixels, and half at most; the rest comes from
    /// the whole tensor, so that neither noise nor rounding errors are blown up from layer to layer. Maps
    /// of one pixel (squeeze-and-excitation, fully connected layers) and channels without weights keep
    /// what they have and get the random part of the bias alone.
    fn calibrate(&mut self, w: &mut [f32], y: &mut Planes) -> Vec<f32> {
        let shift = self.normal(y.channels, 0.2);
        let (mean, variance) = forward::moments(&y.data);
        let (pixels, row) = (y.pixels(), w.len() / y.channels);
        let trust = 0.5 * pixels as f64 / (pixels + 64) as f64;
        if pixels == 1 {
            y.data.iter_mut().zip(&shift).for_each(|(v, b)| *v += b);
            return shift;
        }
        let mut bias = vec![0.0; y.channels];
        for (o, plane) in y.data.chunks_mut(pixels).enumerate() {
            let row = &mut w[o * row..(o + 1) * row];
            let (mut a, mut b) = (0.0, shift[o]);
            if row.iter().any(|v| *v != 0.0) {
                let (m, v) = forward::moments(plane);
                let m = trust * m + (1.0 - trust) * mean;
                let v = trust * v + (1.0 - trust) * variance;
                let scale = if v > 1e-12 { 1.0 / v.sqrt() } else { 1.0 };
                (a, b) = (scale as f32, shift[o] - (m * scale) as f32);
            }
            row.iter_mut().for_each(|v| *v *= a);
            plane.iter_mut().for_each(|v| *v = *v * a + b);
            bias[o] = b;
        }
        bias
    }

    fn activate(&mut self, x: &Var, act: Act) -> Var {
        let name = &x.name;
        match act {
            Act::None => x.clone(),
            Act::Relu => self.relu(&format!("{name}_relu"), x),
            Act::Relu6 => {
                for (bound, value) in [("relu6.min", 0.0), ("relu6.max", 6.0)] {
                    if !self.initializers.iter().any(|t| t.name == bound) {
                        self.initializers.push(proto::tensor(bound, &[], &[value]));
                    }
                }
                let y = (*x.value).clone().map(|v| v.clamp(0.0, 6.0));
                self.node("Clip", &format!("{name}_relu6"), &[name, "relu6.min", "relu6.max"], vec![], y)
            }
            Act::HardSwish => {
                let gate = self.hard_sigmoid(&format!("{name}_hsigmoid"), x);
                self.mul(&format!("{name}_hswish"), x, &gate)
            }
        }
    }

    pub(crate) fn relu(&mut self, name: &str, x: &Var) -> Var {
        let y = (*x.value).clone().map(|v| v.max(0.0));
        self.node("Relu", name, &[&x.name], vec![], y)
    }

    pub(crate) fn hard_sigmoid(&mut self, name: &str, x: &Var) -> Var {
        let y = (*x.value).clone().map(|v| (v * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0));
        let attributes = vec![proto::float("alpha", 1.0 / 6.0), proto::float("beta", 0.5)];
        self.node("HardSigmoid", name, &[&x.name], attributes, y)
    }

    pub(crate) fn hard_swish(&mut self, x: &Var) -> Var {
        self.activate(x, Act::HardSwish)
    }

    pub(crate) fn mul(&mut self, name: &str, a: &Var, b: &Var) -> Var {
        let y = forward::zip(&a.value, &b.value, |a, b| a * b);
        self.node("Mul", name, &[&a.name, &b.name], vec![], y)
    }

    pub(crate) fn add(&mut self, name: &str, a: &Var, b: &Var) -> Var {
        let y = forward::zip(&a.value, &b.value, |a, b| a + b);
        self.node("Add", name, &[&a.name, &b.name], vec![], y)
    }

    pub(crate) fn max_pool(&mut self, name: &str, x: &Var, kernel: Kernel) -> Var {
        let y = forward::max_pool(&x.value, kernel.window(x.value.h, x.value.w));
        self.node("MaxPool", name, &[&x.name], kernel.attributes(), y)
    }

    pub(crate) fn global_average_pool(&mut self, name: &str, x: &Var) -> Var {
        let y = forward::mean_pool(&x.value);
        self.node("GlobalAveragePool", name, &[&x.name], vec![], y)
    }

    pub(crate) fn flatten(&mut self, name: &str, x: &Var) -> Var {
        let y = (*x.value).clone();
        self.node("Flatten", name, &[&x.name], vec![proto::int("axis", 1)], y)
    }

    /// Adds a node whose only output has its name.
    fn node(
        &mut self,
        op_type: &str,
        name: &str,
        input: &[&str],
        attribute: Vec<AttributeProto>,
        value: Planes,
    ) -> Var {
        self.nodes.push(NodeProto {
            op_type: op_type.into(),
            name: name.into(),
            input: input.iter().map(|s| s.to_string()).collect(),
            output: vec![name.into()],
            attribute,
            ..Default::default()
        });
        Var { name: name.into(), value: Rc::new(value) }
    }

    fn normal(&mut self, n: usize, deviation: f32) -> Vec<f32> {
        let rng = &mut self.rng;
        (0..n)
            .map(|_| {
                let v: f32 = StandardNormal.sample(rng);
                v * deviation
            })
            .collect()
    }

    /// The model, with the value of `last` as its output `output`.
    pub(crate) fn finish(mut self, name: &str, hw: usize, last: &Var) -> ModelProto {
        for node in &mut self.nodes {
            node.output.iter_mut().filter(|o| **o == last.name).for_each(|o| *o = "output".into());
        }
        let batch = || match &self.spec.batch {
            Batch::Fixed(n) => Dim::DimValue(*n as i64),
            Batch::Symbol(symbol) => Dim::DimParam(symbol.clone()),
        };
        let hw = Dim::DimValue(hw as i64);
        let input = vec![batch(), Dim::DimValue(3), hw.clone(), hw];
        let output = vec![batch(), Dim::DimValue(last.channels() as i64)];
        let graph = GraphProto {
            name: name.into(),
            input: vec![proto::value("input", input)],
            output: vec![proto::value("output", output)],
            node: self.nodes,
            initializer: self.initializers,
            ..Default::default()
        };
        let spec = StringStringEntryProto { key: "zoo".into(), value: format!("{name} {}", self.spec) };
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            producer_name: "tract-sparse zoo".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(graph),
            metadata_props: vec![spec],
            ..Default::default()
        }
    }
}

/// Sets the weights of least magnitude to zero.
fn remove(w: &mut [f32], zeros: Option<Zeros>, shape: Shape) -> Result<()> {
    if let Some(zeros) = zeros {
        let keep = l1(zeros.structure(), shape, w, zeros.ratio().unwrap_or(0.0))?;
        prune::zero(w, &keep);
    }
    Ok(())
}

/// The nearest multiple of 8, at least 8, raised where rounding down loses more than 10 %.
pub(crate) fn divisible(channels: f64) -> usize {
    let rounded = (((channels + 4.0) / 8.0) as usize * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}
