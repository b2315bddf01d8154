//! The architectures, layer by layer.

use crate::builder::{Act, Builder, Kernel, Var, divisible};
use crate::{Network, Spec};
use anyhow::Result;
use tract_onnx::pb::ModelProto;

/// A network with the image that it was calibrated on, and what it answered.
pub(crate) struct Built {
    pub(crate) model: ModelProto,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests run the model on it"))]
    pub(crate) image: Var,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests expect it"))]
    pub(crate) logits: Var,
}

pub(crate) fn build(network: Network, spec: &Spec) -> Result<Built> {
    let hw = spec.hw.unwrap_or(network.hw());
    let (mut b, input) = Builder::new(spec, hw.min(network.hw()));
    let trunk = match network {
        Network::MobilenetV1 => mobilenet_v1(&mut b, &input)?,
        Network::MobilenetV2 => mobilenet_v2(&mut b, &input)?,
        Network::MobilenetV3Large => mobilenet_v3_large(&mut b, &input)?,
        Network::EfficientnetLite0 => efficientnet_lite0(&mut b, &input)?,
        Network::Resnet18 => resnet_18(&mut b, &input)?,
        Network::Resnet20 => resnet_20(&mut b, &input)?,
    };
    let pooled = b.global_average_pool("pool", &trunk);
    let mut flat = b.flatten("flatten", &pooled);
    if network == Network::MobilenetV3Large {
        let hidden = b.wide(1280);
        let y = b.gemm("fc1", &flat, hidden)?;
        flat = b.hard_swish(&y);
    }
    let logits = b.gemm("fc", &flat, network.classes())?;
    Ok(Built { model: b.finish(network.name(), hw, &logits), image: input, logits })
}

fn mobilenet_v1(b: &mut Builder, input: &Var) -> Result<Var> {
    let mut x = b.conv("conv1", input, b.wide(32), Kernel::new(3, 2), 1, Act::Relu6)?;
    let layers = [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
        (512, 1),
        (512, 1),
        (512, 1),
        (512, 1),
        (1024, 2),
        (1024, 1),
    ];
    for (i, (oc, stride)) in layers.into_iter().enumerate() {
        let n = i + 2;
        let ic = x.channels();
        x = b.conv(&format!("dw{n}"), &x, ic, Kernel::new(3, stride), ic, Act::Relu6)?;
        x = b.conv(&format!("pw{n}"), &x, b.wide(oc), Kernel::new(1, 1), 1, Act::Relu6)?;
    }
    Ok(x)
}

/// One inverted residual: expansion (unless 1), depthwise, squeeze-and-excitation, projection, shortcut.
struct Inverted {
    kernel: Kernel,
    expanded: usize,
    oc: usize,
    squeeze: bool,
    act: Act,
}

impl Inverted {
    fn add(&self, b: &mut Builder, n: usize, input: &Var) -> Result<Var> {
        let mut x = input.clone();
        if self.expanded != input.channels() {
            x = b.conv(&format!("exp{n}"), &x, self.expanded, Kernel::new(1, 1), 1, self.act)?;
        }
        x = b.conv(&format!("dw{n}"), &x, self.expanded, self.kernel, self.expanded, self.act)?;
        if self.squeeze {
            let squeezed = divisible(self.expanded as f64 / 4.0);
            let gate = b.global_average_pool(&format!("se{n}_pool"), &x);
            let gate = b.conv(&format!("se{n}_fc1"), &gate, squeezed, Kernel::new(1, 1), 1, Act::Relu)?;
            let gate =
                b.conv(&format!("se{n}_fc2"), &gate, self.expanded, Kernel::new(1, 1), 1, Act::None)?;
            let gate = b.hard_sigmoid(&format!("se{n}_hsigmoid"), &gate);
            x = b.mul(&format!("se{n}_mul"), &x, &gate);
        }
        x = b.conv(&format!("pw{n}"), &x, self.oc, Kernel::new(1, 1), 1, Act::None)?;
        if self.kernel.stride == 1 && self.oc == input.channels() {
            x = b.add(&format!("add{n}"), input, &x);
        }
        Ok(x)
    }
}

fn mobilenet_v2(b: &mut Builder, input: &Var) -> Result<Var> {
    let mut x = b.conv("conv1", input, b.wide(32), Kernel::new(3, 2), 1, Act::Relu6)?;
    let mut n = 1;
    let stages = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    for (expansion, oc, repeats, first_stride) in stages {
        for repeat in 0..repeats {
            n += 1;
            let kernel = Kernel::new(3, if repeat == 0 { first_stride } else { 1 });
            let (expanded, oc) = (x.channels() * expansion, b.wide(oc));
            x = Inverted { kernel, expanded, oc, squeeze: false, act: Act::Relu6 }.add(b, n, &x)?;
        }
    }
    b.conv("conv_last", &x, b.wide(1280).max(1280), Kernel::new(1, 1), 1, Act::Relu6)
}

fn mobilenet_v3_large(b: &mut Builder, input: &Var) -> Result<Var> {
    const RE: Act = Act::Relu;
    const HS: Act = Act::HardSwish;
    let mut x = b.conv("conv1", input, b.wide(16), Kernel::new(3, 2), 1, HS)?;
    let blocks = [
        (3, 16, 16, false, RE, 1),
        (3, 64, 24, false, RE, 2),
        (3, 72, 24, false, RE, 1),
        (5, 72, 40, true, RE, 2),
        (5, 120, 40, true, RE, 1),
        (5, 120, 40, true, RE, 1),
        (3, 240, 80, false, HS, 2),
        (3, 200, 80, false, HS, 1),
        (3, 184, 80, false, HS, 1),
        (3, 184, 80, false, HS, 1),
        (3, 480, 112, true, HS, 1),
        (3, 672, 112, true, HS, 1),
        (5, 672, 160, true, HS, 2),
        (5, 960, 160, true, HS, 1),
        (5, 960, 160, true, HS, 1),
    ];
    for (i, (k, expanded, oc, squeeze, act, stride)) in blocks.into_iter().enumerate() {
        let kernel = Kernel::new(k, stride);
        let (expanded, oc) = (b.wide(expanded), b.wide(oc));
        x = Inverted { kernel, expanded, oc, squeeze, act }.add(b, i + 2, &x)?;
    }
    b.conv("conv_last", &x, b.wide(960), Kernel::new(1, 1), 1, HS)
}

fn efficientnet_lite0(b: &mut Builder, input: &Var) -> Result<Var> {
    let mut x = b.conv("conv1", input, b.wide(32), Kernel::same(3, 2), 1, Act::Relu6)?;
    let mut n = 1;
    let stages = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ];
    for (expansion, k, first_stride, oc, repeats) in stages {
        for repeat in 0..repeats {
            n += 1;
            let kernel = Kernel::same(k, if repeat == 0 { first_stride } else { 1 });
            let (expanded, oc) = (x.channels() * expansion, b.wide(oc));
            x = Inverted { kernel, expanded, oc, squeeze: false, act: Act::Relu6 }.add(b, n, &x)?;
        }
    }
    b.conv("conv_last", &x, b.wide(1280), Kernel::new(1, 1), 1, Act::Relu6)
}

/// Two 3x3 convolutions and a shortcut, by 1x1 convolution where the shape changes.
fn basic_block(b: &mut Builder, n: usize, input: &Var, oc: usize, stride: usize) -> Result<Var> {
    let x = b.conv(&format!("block{n}_conv1"), input, oc, Kernel::new(3, stride), 1, Act::Relu)?;
    let x = b.conv(&format!("block{n}_conv2"), &x, oc, Kernel::new(3, 1), 1, Act::None)?;
    let shortcut = if stride != 1 || oc != input.channels() {
        b.conv(&format!("block{n}_skip"), input, oc, Kernel::new(1, stride), 1, Act::None)?
    } else {
        input.clone()
    };
    let sum = b.add(&format!("block{n}_add"), &x, &shortcut);
    Ok(b.relu(&format!("block{n}_relu"), &sum))
}

fn resnet_18(b: &mut Builder, input: &Var) -> Result<Var> {
    let x = b.conv("conv1", input, b.wide(64), Kernel::new(7, 2), 1, Act::Relu)?;
    let mut x = b.max_pool("maxpool", &x, Kernel::new(3, 2));
    let blocks = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)];
    for (i, (oc, stride)) in blocks.into_iter().enumerate() {
        x = basic_block(b, i + 2, &x, b.wide(oc), stride)?;
    }
    Ok(x)
}

fn resnet_20(b: &mut Builder, input: &Var) -> Result<Var> {
    let mut x = b.conv("conv1", input, b.wide(16), Kernel::new(3, 1), 1, Act::Relu)?;
    for stage in 0..3 {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = basic_block(b, 2 + stage * 3 + block, &x, b.wide(16 << stage), stride)?;
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::prelude::*;

    /// Two plain implementations of the same network, ours in f32 without FMA and tract's un-optimised one,
    /// differ by rounding alone. Over 20 to 60 layers of normalised activations that stays below 1e-3 of
    /// the largest logit; a wrong pad, stride or attribute gives differences of the order of the logits
    /// themselves.
    #[test]
    fn tract_computes_what_the_calibration_computed() {
        for network in Network::ALL {
            let hw = if network == Network::Resnet20 { 32 } else { 64 };
            for hw in [hw, hw + 5] {
                let spec = Spec {
                    hw: Some(hw.min(network.hw())),
                    width: 0.5,
                    conv1x1: Some("4x4:0.5".parse().unwrap()),
                    ..Spec::default()
                };
                let built = build(network, &spec).unwrap();
                let image = built.image.planes();
                let x = Tensor::from_shape(&[1, 3, image.h, image.w], &image.data).unwrap();
                let model = onnx().model_for_proto_model(&built.model).unwrap();
                let model = model.into_typed().unwrap().into_runnable().unwrap();
                let y = model.run(tvec!(x.into())).unwrap();
                let y = y[0].to_plain_array_view::<f32>().unwrap();
                let expected = &built.logits.planes().data;
                assert_eq!(y.len(), network.classes());
                let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
                let worst = y.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(worst <= 1e-3 * largest, "{network} {hw}: {worst} of {largest}");
            }
        }
    }
}
