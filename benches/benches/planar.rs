//! Resizing, pooling and softmax as they stand between the layers of real networks: stock tract's operators
//! and ours on one thread.
//!
//! ```sh
//! taskset -c 1 cargo bench --workspace --bench planar
//! taskset -c 1 cargo bench --workspace --bench planar -- resize
//! ```
//! Throughput is in values of the output. The answers are compared first.

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sparse_kernels::prelude::Target;
use std::time::Duration;
use tests::{distance, noise};
use tract_sparse::Planar;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_sparse::tract_core::ops::nn::{
    CoordTransformer, DataFormat, Interpolator, Nearest, Resize, Softmax, SoftmaxKind,
};

/// What two orders of summing, or two exponential functions, may differ by, for values below 1.
const TOLERANCE: f64 = 2e-6;

struct Case {
    name: &'static str,
    op: Box<dyn TypedOp>,
    shape: Vec<usize>,
    /// A constant as second input.
    constant: Option<Tensor>,
}

fn resize(name: &'static str, interpolator: Interpolator, shape: &[usize], scale: f32) -> Case {
    let op = Resize {
        coord_transformer: CoordTransformer::HalfPixel,
        interpolator,
        nearest: Nearest::Floor,
        optional_scales_input: None,
        optional_sizes_input: Some(1),
    };
    let sizes: Vec<i64> = shape
        .iter()
        .enumerate()
        .map(|(axis, dim)| if axis < 2 { *dim as i64 } else { (*dim as f32 * scale) as i64 })
        .collect();
    Case { name, op: Box::new(op), shape: shape.to_vec(), constant: Some(tensor1(&sizes)) }
}

/// Windows of `kernel` pixels, `stride` apart, over `shape` = `[batch, channels, height, width]`.
fn spec(shape: &[usize], kernel: usize, stride: usize, padding: PaddingSpec) -> PoolSpec {
    PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: tvec!(kernel; 2),
        padding,
        dilations: None,
        strides: Some(tvec!(stride; 2)),
        input_channels: shape[1],
        output_channels: shape[1],
    }
}

fn max_pool(name: &'static str, shape: &[usize], kernel: usize, stride: usize, pad: usize) -> Case {
    let padding = PaddingSpec::Explicit(tvec!(pad; 2), tvec!(pad; 2));
    let op = MaxPool { pool_spec: spec(shape, kernel, stride, padding), with_index_outputs: None };
    Case { name, op: Box::new(op), shape: shape.to_vec(), constant: None }
}

fn average_pool(name: &'static str, shape: &[usize], kernel: usize, stride: usize) -> Case {
    let op = SumPool {
        pool_spec: spec(shape, kernel, stride, PaddingSpec::Valid),
        count_include_pad: false,
        normalize: true,
    };
    Case { name, op: Box::new(op), shape: shape.to_vec(), constant: None }
}

fn softmax(name: &'static str, shape: &[usize], axis: usize) -> Case {
    let op = Softmax { axes: tvec!(axis), quant_output_dt: None, kind: SoftmaxKind::Softmax };
    Case { name, op: Box::new(op), shape: shape.to_vec(), constant: None }
}

fn cases() -> Vec<Case> {
    vec![
        resize("resize linear x2 of 48x24x24, face detection", Interpolator::Linear, &[1, 48, 24, 24], 2.0),
        resize("resize linear x2 of 192x14x14", Interpolator::Linear, &[1, 192, 14, 14], 2.0),
        resize("resize cubic x2 of 48x24x24", Interpolator::Cubic, &[1, 48, 24, 24], 2.0),
        resize("resize nearest x1.5 of 96x20x20", Interpolator::Nearest, &[1, 96, 20, 20], 1.5),
        max_pool("max 2x2/2 of 64x80x80, yunet", &[1, 64, 80, 80], 2, 2, 0),
        max_pool("max 3x3/2 of 24x176x176, FastestDet", &[1, 24, 176, 176], 3, 2, 1),
        average_pool("average 3x3/2 of 96x22x22", &[1, 96, 22, 22], 3, 2),
        average_pool("average 7x7 of 1024x7x7", &[1, 1024, 7, 7], 7, 1),
        softmax("softmax of 484 rows of 80, FastestDet", &[1, 484, 80], 2),
        softmax("softmax over 80 channels of 22x22", &[1, 80, 22, 22], 1),
    ]
}

/// A model of the operator alone.
fn model(case: &Case) -> Result<TypedModel> {
    let mut model = TypedModel::default();
    let mut inputs = tvec!(model.add_source("x", f32::fact(&case.shape))?);
    if let Some(constant) = &case.constant {
        inputs.push(model.add_const("constant", constant.clone())?);
    }
    let y = model.wire_node("y", case.op.clone(), &inputs)?;
    model.select_output_outlets(&y)?;
    model.into_optimized()
}

fn planar(c: &mut Criterion) {
    for case in cases() {
        bench(c, &case).unwrap_or_else(|e| panic!("{}: {e:?}", case.name));
    }
}

fn bench(c: &mut Criterion, case: &Case) -> Result<()> {
    let stock = model(case)?;
    let mut ours = stock.clone();
    anyhow::ensure!(Planar::swap_all(&mut ours, Target::detect())? == 1, "no loop of ours: {ours}");
    let [stock, ours] = [stock, ours].map(|model| model.into_runnable());
    let (stock, ours) = (stock?, ours?);
    let x = noise(&case.shape, 1).into_tvalue();
    let (expected, got) = (stock.run(tvec!(x.clone()))?, ours.run(tvec!(x.clone()))?);
    let far = distance(&got[0], &expected[0])?;
    anyhow::ensure!(far <= TOLERANCE, "differs by {far}");
    let mut group = c.benchmark_group(case.name);
    group.throughput(Throughput::Elements(expected[0].len() as u64));
    for (name, engine) in [("stock", &stock), ("ours", &ours)] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| engine.run(tvec!(x.clone()))));
    }
    Ok(())
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .sample_size(20);
    targets = planar
}
criterion_main!(benches);
