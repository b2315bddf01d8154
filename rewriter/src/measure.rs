//! Times from a stopwatch instead of a table: `TRACT_SPARSE=measure`.
//!
//! A layer's candidates and the stock operator run a few times each on made-up activations while the model
//! loads. It costs some milliseconds a layer; times are kept for the life of the process, so that a layer
//! that occurs again is not measured again.

use crate::analyse::{Layer, LayerKind, LayerShape};
use sparse_kernels::prelude::*;
use sparse_ops::{Choice, Dense, HalfChoice, Packing};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::nn::DataFormat;

/// What has been measured: a layer with its number of stored weights on a kernel, or (no kernel) on stock
/// tract.
type Key = (LayerShape, Option<(&'static str, usize)>);

static MEASURED: LazyLock<Mutex<HashMap<Key, u64>>> = LazyLock::new(Mutex::default);

/// The choice with measured times in place of predicted ones; as it was where the shape is not known.
pub(crate) fn measured(layer: &Layer, choice: Choice, stored: usize) -> TractResult<Choice> {
    if let Some(product) = layer.product() {
        return measured(&product, choice, stored);
    }
    let Some(geometry) = geometry(&layer.shape, choice.packing) else { return Ok(choice) };
    let ours = (layer.shape.clone(), Some((choice.kernel().name, stored)));
    let sparse_ns = remember(ours, || time_ours(layer, &geometry, &choice))?;
    let stock_ns = remember((layer.shape.clone(), None), || {
        let plan = stock_plan(&layer.shape, &geometry, layer.values()?)?;
        let shape = [1, layer.shape.ic, geometry.shape().input[0], geometry.shape().input[1]];
        let x = activations(&geometry);
        let x = Tensor::from_shape(&shape, &x[..shape.iter().product()])?.into_tvalue();
        let mut state = plan.spawn()?;
        Ok(time(|| state.run(tvec!(x.clone())))?.as_nanos() as u64)
    })?;
    let half = match choice.half {
        Some(half) => {
            let key = (layer.shape.clone(), Some((half.kernel().name, stored)));
            // weights out of the range of half precision cannot be packed: the layer says so when it is made
            let ns = remember(key, || time_half(layer, &geometry, &half)).unwrap_or(half.ns);
            Some(HalfChoice { ns, ..half })
        }
        None => None,
    };
    Ok(Choice { stock_ns, sparse_ns, half, ..choice })
}

fn remember(key: Key, measure: impl FnOnce() -> TractResult<u64>) -> TractResult<u64> {
    let known = MEASURED.lock().map_err(|_| format_err!("a measurement panicked"))?.get(&key).copied();
    if let Some(ns) = known {
        return Ok(ns);
    }
    let ns = measure()?;
    MEASURED.lock().map_err(|_| format_err!("a measurement panicked"))?.insert(key, ns);
    Ok(ns)
}

/// A geometry of the layer's size for the kernels of a packing, one image, planar; padding is whatever makes
/// the output come out right.
fn geometry(shape: &LayerShape, packing: Packing) -> Option<ConvGeometry> {
    let pixels = shape.pixels?;
    let mut conv = shape.conv_shape();
    conv.group = packing.kernel_groups(shape.group);
    conv.x_layout = Layout::Planar;
    conv.y_layout = Layout::Planar;
    if shape.kind() == LayerKind::Pointwise && shape.kernel.is_empty() {
        conv.input = [1, pixels];
        return ConvGeometry::new(conv).ok();
    }
    let (input, output) = (shape.input.as_ref()?, shape.output.as_ref()?);
    // 1-D layers are one row high; of more than two axes, only products with a matrix have kernels.
    let pair = |dims: &TVec<usize>| match **dims {
        [w] => [1, w],
        [h, w] => [h, w],
        _ => [1, dims.iter().product()],
    };
    let (input, output) = (pair(input), pair(output));
    for axis in 0..2 {
        let reach = (conv.kernel[axis] - 1) * conv.dilation[axis] + 1;
        let last = output[axis].checked_sub(1)?;
        let pad = (last * conv.stride[axis] + reach).saturating_sub(input[axis]);
        conv.input[axis] = input[axis];
        conv.pad_before[axis] = pad / 2;
        conv.pad_after[axis] = pad - pad / 2;
    }
    ConvGeometry::new(conv).ok()
}

fn activations(geometry: &ConvGeometry) -> Vec<f32> {
    (0..geometry.x_len()).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect()
}

/// The weights of a layer; `bias` is zeros.
fn dense<'a>(layer: &'a Layer, geometry: &ConvGeometry, bias: &'a [f32]) -> TractResult<Dense<'a>> {
    Ok(Dense {
        oc: layer.shape.oc,
        ic: layer.shape.ic,
        group: layer.shape.group,
        kernel: geometry.shape().kernel,
        pixels: Some(geometry.output_pixels()),
        weights: layer.values()?,
        bias,
    })
}

fn time_half(layer: &Layer, geometry: &ConvGeometry, half: &HalfChoice) -> TractResult<u64> {
    let bias = vec![0.0; layer.shape.oc];
    let packed = half.packing.pack_half(half.half, &dense(layer, geometry, &bias)?)?;
    let shape = geometry.shape();
    let lanes = |channels: usize, pixels: usize| shape.batch * channels.div_ceil(2) * pixels;
    let mut x = vec![0; lanes(shape.ic, geometry.input_pixels())];
    let planes = [shape.batch, shape.ic, geometry.input_pixels()];
    sparse_kernels::pairs::pack(half.half.target(), planes, &activations(geometry), &mut x)?;
    let mut y = vec![0; lanes(shape.oc, geometry.output_pixels())];
    let epilogue = Epilogue::activation(Activation::RELU6);
    let took = time(|| packed.run_pairs(geometry, &x, &mut y, None, &epilogue, &Serial))?;
    Ok(took.as_nanos() as u64)
}

fn time_ours(layer: &Layer, geometry: &ConvGeometry, choice: &Choice) -> TractResult<u64> {
    let bias = vec![0.0; layer.shape.oc];
    let packed = choice.packing.pack(choice.target, &dense(layer, geometry, &bias)?)?;
    let (x, mut y) = (activations(geometry), vec![0f32; geometry.y_len()]);
    let epilogue = Epilogue::activation(Activation::RELU6);
    let took = time(|| packed.run(geometry, &x, &mut y, None, &epilogue, &Serial))?;
    Ok(took.as_nanos() as u64)
}

/// Stock tract's plan for a layer of this shape, followed by a clip to 0..6 as in a network.
///
/// # Errors
/// A shape that tract refuses.
pub fn stock_plan(
    shape: &LayerShape,
    geometry: &ConvGeometry,
    weights: &[f32],
) -> TractResult<Arc<TypedRunnableModel>> {
    let conv = geometry.shape();
    let mut model = TypedModel::default();
    let x = model.add_source("x", f32::fact([1, conv.ic, conv.input[0], conv.input[1]]))?;
    let kernel = [conv.oc, conv.ic / shape.group, conv.kernel[0], conv.kernel[1]];
    let w = model.add_const("w", Tensor::from_shape(&kernel, weights)?)?;
    let b = model.add_const("b", Tensor::zero::<f32>(&[shape.oc])?)?;
    let pool_spec = PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: conv.kernel.as_slice().into(),
        padding: PaddingSpec::Explicit(conv.pad_before.as_slice().into(), conv.pad_after.as_slice().into()),
        dilations: Some(conv.dilation.as_slice().into()),
        strides: Some(conv.stride.as_slice().into()),
        input_channels: conv.ic,
        output_channels: conv.oc,
    };
    let op = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: shape.group, q_params: None };
    let mut wire = model.wire_node("conv", op, &[x, w, b])?[0];
    let bounds = [("lo", tract_core::ops::math::max(), 0f32), ("hi", tract_core::ops::math::min(), 6f32)];
    for (name, op, bound) in bounds {
        let bound = model.add_const(format!("{name}.bound"), tensor4(&[[[[bound]]]]))?;
        wire = model.wire_node(name, op, &[wire, bound])?[0];
    }
    model.select_output_outlets(&[wire])?;
    model.into_optimized()?.into_runnable()
}

/// The lower quartile of at least five calls, two milliseconds in all. (What disturbs a call only ever makes
/// it longer.)
fn time<T, E>(mut run: impl FnMut() -> Result<T, E>) -> Result<Duration, E> {
    black_box(run()?);
    let begin = Instant::now();
    let mut all = vec![];
    while all.len() < 5 || (begin.elapsed() < Duration::from_millis(2) && all.len() < 100) {
        let start = Instant::now();
        black_box(run()?);
        all.push(start.elapsed());
    }
    all.sort();
    Ok(all[all.len() / 4])
}
