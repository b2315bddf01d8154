//! Resizing, pooling and softmax on our loops against stock tract, over their attributes.

use anyhow::Result;
use sparse_kernels::prelude::Target;
use tests::{distance, noise};
use tract_sparse::Planar;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::ops::cnn::{MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_sparse::tract_core::ops::nn::{
    CoordTransformer, DataFormat, Interpolator, Nearest, Resize, Softmax, SoftmaxKind,
};

/// What the results of two orders of summing a few values below 1, or two exponential functions, may differ
/// by.
const TOLERANCE: f64 = 2e-6;

/// One operator on an input of this shape; `symbolic` ones have symbols for all axes but the first two.
fn model(
    op: impl Into<Box<dyn TypedOp>>,
    shape: &[usize],
    symbolic: bool,
    aux: Option<Tensor>,
) -> Result<TypedModel> {
    let mut model = TypedModel::default();
    let fact = match symbolic {
        false => f32::fact(shape),
        true => {
            let dims = shape.iter().enumerate().map(|(axis, dim)| match axis {
                0 | 1 => dim.to_dim(),
                _ => model.symbols.sym(&format!("d{axis}")).to_dim(),
            });
            f32::fact(dims.collect::<TVec<TDim>>())
        }
    };
    let mut inputs = tvec!(model.add_source("x", fact)?);
    if let Some(aux) = aux {
        inputs.push(model.add_const("aux", aux)?);
    }
    let y = model.wire_node("y", op, &inputs)?;
    model.select_output_outlets(&y)?;
    Ok(model)
}

/// Runs a model as it is, and with our operator in its place on every target.
fn check(what: &str, stock: TypedModel, shape: &[usize], tolerance: f64) -> Result<()> {
    let x = noise(shape, shape.iter().sum::<usize>() as u64).into_tvalue();
    let expected = stock.clone().into_optimized()?.into_runnable()?.run(tvec!(x.clone()))?;
    for target in Target::available() {
        let mut ours = stock.clone().into_optimized()?;
        assert_eq!(Planar::swap_all(&mut ours, target)?, 1, "{what}: {ours}");
        let got = ours.into_runnable()?.run(tvec!(x.clone()))?;
        assert_eq!(got[0].shape(), expected[0].shape(), "{what}");
        let far = distance(&got[0], &expected[0])?;
        assert!(far <= tolerance, "{what} on {target}: differs by {far}");
    }
    Ok(())
}

/// Every interpolation, coordinates and sizes: the very same numbers.
#[test]
fn resizes_are_those_of_stock() -> Result<()> {
    use CoordTransformer::*;
    for coordinates in
        [HalfPixel, AlignCorners, Asymmetric, PytorchHalfPixel, HalfPixelSymmetric, TfHalfPixelForNn]
    {
        for interpolator in [Interpolator::Linear, Interpolator::Cubic, Interpolator::Nearest] {
            for nearest in [Nearest::Floor, Nearest::RoundPreferCeil] {
                for (shape, scales) in [
                    (vec![1, 3, 7, 5], vec![1.0, 1.0, 2.0, 2.0]),
                    (vec![2, 2, 4, 16], vec![1.0, 1.0, 2.0, 2.0]),
                    (vec![1, 2, 6, 9], vec![1.0, 1.0, 1.7, 0.6]),
                    (vec![3, 8, 12], vec![1.0, 0.5, 3.0]),
                    (vec![5, 6], vec![1.0, 2.0]),
                    (vec![1, 2, 1, 1], vec![1.0, 1.0, 4.0, 4.0]),
                ] {
                    let op = |scales| Resize {
                        coord_transformer: coordinates.clone(),
                        interpolator: interpolator.clone(),
                        nearest,
                        optional_scales_input: Some(1).filter(|_| scales),
                        optional_sizes_input: Some(1).filter(|_| !scales),
                    };
                    let what = format!("{coordinates:?} {interpolator:?} {nearest:?} {shape:?} {scales:?}");
                    let sizes: Vec<i64> =
                        shape.iter().zip(&scales).map(|(dim, scale)| (*dim as f32 * scale) as i64).collect();
                    let stock = model(op(true), &shape, false, Some(tensor1(&scales)))?;
                    // stock tract has an operator of its own for nearest pixels that are copies
                    if stock.clone().into_optimized()?.nodes().iter().any(|node| node.op_is::<Resize>()) {
                        check(&what, stock, &shape, 0.0)?;
                    }
                    check(&what, model(op(false), &shape, false, Some(tensor1(&sizes)))?, &shape, 0.0)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn pools_are_those_of_stock() -> Result<()> {
    let explicit = |before: &[usize], after: &[usize]| PaddingSpec::Explicit(before.into(), after.into());
    let rounded =
        |before: &[usize], after: &[usize]| PaddingSpec::ExplicitOnnxPool(before.into(), after.into(), true);
    for (format, shape, kernel) in [
        (DataFormat::NCHW, vec![2, 3, 9, 14], vec![2, 2]),
        (DataFormat::NCHW, vec![1, 3, 11, 8], vec![3, 3]),
        (DataFormat::NCHW, vec![1, 2, 9, 9], vec![5, 3]),
        (DataFormat::CHW, vec![3, 10, 7], vec![3, 2]),
        (DataFormat::NCHW, vec![1, 4, 33], vec![3]),
    ] {
        let rank = kernel.len();
        let (zeros, ones) = (vec![0; rank], vec![1; rank]);
        for padding in [
            PaddingSpec::Valid,
            PaddingSpec::SameUpper,
            PaddingSpec::SameLower,
            explicit(&ones, &zeros),
            explicit(&ones, &ones),
            rounded(&ones, &zeros),
            rounded(&zeros, &ones),
        ] {
            for (stride, dilation) in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)] {
                let channels = shape[shape.len() - rank - 1];
                let spec = PoolSpec {
                    data_format: format,
                    kernel_shape: kernel.clone().into(),
                    padding: padding.clone(),
                    dilations: Some(tvec!(dilation; rank)),
                    strides: Some(tvec!(stride; rank)),
                    input_channels: channels,
                    output_channels: channels,
                };
                for symbolic in [false, true] {
                    let what = format!("{spec:?} {shape:?}, symbolic {symbolic}");
                    let max = MaxPool { pool_spec: spec.clone(), with_index_outputs: None };
                    check(&what, model(max, &shape, symbolic, None)?, &shape, 0.0)?;
                    for (count_include_pad, normalize) in [(true, true), (false, true), (false, false)] {
                        let sum = SumPool { pool_spec: spec.clone(), count_include_pad, normalize };
                        let tolerance = if normalize { TOLERANCE } else { 10.0 * TOLERANCE };
                        check(&what, model(sum, &shape, symbolic, None)?, &shape, tolerance)?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn softmaxes_are_those_of_stock() -> Result<()> {
    for shape in [vec![2, 3, 5, 7], vec![1, 80, 22, 22], vec![4, 2], vec![1, 1001], vec![3, 64]] {
        for axes in (0..shape.len()).flat_map(|first| (first + 1..=shape.len()).map(move |end| first..end)) {
            let op =
                Softmax { axes: axes.clone().collect(), quant_output_dt: None, kind: SoftmaxKind::Softmax };
            for symbolic in [false, true] {
                let what = format!("softmax of {shape:?} over {axes:?}");
                check(&what, model(op.clone(), &shape, symbolic, None)?, &shape, TOLERANCE)?;
            }
        }
    }
    Ok(())
}

/// What has no loop stays stock.
#[test]
fn others_stay_stock() -> Result<()> {
    let spec = |format| PoolSpec {
        data_format: format,
        kernel_shape: tvec!(2, 2),
        padding: PaddingSpec::Valid,
        dilations: None,
        strides: None,
        input_channels: 4,
        output_channels: 4,
    };
    let log = Softmax { axes: tvec!(1), quant_output_dt: None, kind: SoftmaxKind::LogSoftmax };
    let apart = Softmax { axes: tvec!(1, 3), quant_output_dt: None, kind: SoftmaxKind::Softmax };
    let indices = MaxPool { pool_spec: spec(DataFormat::NCHW), with_index_outputs: Some(i64::datum_type()) };
    let last = MaxPool { pool_spec: spec(DataFormat::NHWC), with_index_outputs: None };
    let ops: [Box<dyn TypedOp>; 4] = [Box::new(log), Box::new(apart), Box::new(indices), Box::new(last)];
    for op in ops {
        let mut stock = model(op, &[1, 4, 4, 4], false, None)?;
        assert_eq!(Planar::swap_all(&mut stock, Target::detect())?, 0, "{stock}");
    }
    Ok(())
}
