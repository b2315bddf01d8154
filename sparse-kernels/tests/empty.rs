//! Batches, maps and outputs without elements, and biases that are not finite, on every kernel of the table.

mod common;

use common::{Noise, TwoThreads};
use sparse_kernels::depthwise::PackedDepthwise;
use sparse_kernels::prelude::*;
use sparse_kernels::reference;

/// A layer packed for one kernel.
enum Packed {
    Pointwise(PackedPointwise),
    Depthwise(PackedDepthwise),
    Spatial(PackedSpatial),
}

impl Packed {
    fn run(
        &self,
        geometry: &ConvGeometry,
        x: &[f32],
        residual: Option<&[f32]>,
        epilogue: &Epilogue,
    ) -> Vec<f32> {
        let parallels: [&dyn Parallel; 2] = [&Serial, &TwoThreads];
        let [one, two] = parallels.map(|parallel| {
            let mut y = vec![0.5f32; geometry.y_len()];
            match self {
                Packed::Pointwise(p) => p.run(geometry, x, &mut y, residual, epilogue, parallel),
                Packed::Depthwise(p) => p.run(geometry, x, &mut y, residual, epilogue, parallel),
                Packed::Spatial(p) => p.run(geometry, x, &mut y, residual, epilogue, parallel),
            }
            .unwrap();
            y
        });
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&one), bits(&two), "threads");
        one
    }
}

/// Packs the layer for every kernel of this machine that computes it.
fn packings(shape: &ConvShape, weights: &[f32], bias: &[f32]) -> Vec<(&'static str, Packed)> {
    let (oc, ic, bias) = (shape.oc, shape.ic, Some(bias));
    if shape.group > 1 {
        let kernels = common::depthwise().filter(|kernel| kernel.accepts(shape.kernel));
        let packed = |kernel| PackedDepthwise::from_dense(oc, shape.kernel, weights, bias, kernel).unwrap();
        return kernels.map(|kernel| (kernel.info().name, Packed::Depthwise(packed(kernel)))).collect();
    }
    let mut all = vec![];
    if shape.kernel == [1, 1] {
        all.extend(common::pointwise().map(|kernel| {
            let packed = PackedPointwise::from_dense(oc, ic, weights, bias, kernel).unwrap();
            (kernel.info().name, Packed::Pointwise(packed))
        }));
    }
    if shape.x_layout == Layout::Planar && shape.y_layout == Layout::Planar {
        all.extend(common::spatial().map(|kernel| {
            let packed = PackedSpatial::from_dense(oc, ic, shape.kernel, weights, bias, kernel).unwrap();
            (kernel.info().name, Packed::Spatial(packed))
        }));
    }
    all
}

fn check(shape: ConvShape, bias: &[f32], epilogue: Epilogue, with_residual: bool) {
    let geometry = ConvGeometry::new(shape).unwrap();
    let mut noise = Noise::new(7);
    let mut weights = noise.values(shape.oc * shape.ic / shape.group * shape.kernel[0] * shape.kernel[1]);
    weights.iter_mut().step_by(3).for_each(|w| *w = 0.0);
    let x = noise.values(geometry.x_len());
    let residual = with_residual.then(|| noise.values(geometry.y_len()));
    let expected = reference::conv(&geometry, &weights, None, Some(bias), &x, residual.as_deref(), &epilogue);
    let terms = shape.ic / shape.group * shape.kernel[0] * shape.kernel[1];
    for (name, packed) in packings(&shape, &weights, bias) {
        let got = packed.run(&geometry, &x, residual.as_deref(), &epilogue);
        common::assert_close(&format!("{name} {shape:?} {epilogue:?}"), &got, &expected, terms);
    }
}

const EPILOGUES: [Epilogue; 3] = [
    Epilogue { before: Activation::RELU6, after: Activation::Identity },
    Epilogue { before: Activation::Identity, after: Activation::RELU },
    Epilogue { before: Activation::HardSwish, after: Activation::Sigmoid },
];

/// Every combination of empty and small sizes, with and without padding.
#[test]
fn empty_tensors_are_computed() {
    let bias = Noise::new(3).values(9);
    for (ic, oc, group) in [(5, 9, 1), (9, 9, 9)] {
        for kernel in [[1, 1], [3, 3], [1, 3], [5, 5]] {
            for sizes in 0..3 * 3 * 3 {
                let (batch, input) = (sizes % 3, [sizes / 3 % 3, sizes / 9 * 4]);
                for pad in [0, 1, 2] {
                    for stride in [1, 2] {
                        let shape = ConvShape {
                            batch,
                            input,
                            kernel,
                            group,
                            stride: [stride; 2],
                            pad_before: [pad, pad / 2],
                            pad_after: [pad; 2],
                            ..ConvShape::square(ic, oc, 1, 1, 1, 0)
                        };
                        for epilogue in EPILOGUES {
                            check(shape, &bias, epilogue, pad == 1);
                        }
                        if kernel == [1, 1] && group == 1 {
                            let (x_layout, y_layout) = (Layout::Interleaved, Layout::Interleaved);
                            check(ConvShape { x_layout, y_layout, ..shape }, &bias, EPILOGUES[0], false);
                        }
                    }
                }
            }
        }
    }
}

/// Infinities and NaN go through sums, clamps and functions as they do in the oracle.
#[test]
fn biases_that_are_not_finite_are_added() {
    let mut bias = Noise::new(4).values(19);
    (bias[0], bias[3], bias[9], bias[18]) = (f32::INFINITY, f32::NAN, f32::NEG_INFINITY, f32::NAN);
    for (ic, group, k) in [(13, 1, 1), (13, 1, 3), (19, 19, 3), (19, 19, 5)] {
        for hw in [1, 7] {
            let shape = ConvShape { group, batch: 2, ..ConvShape::square(ic, 19, hw, k, 1, k / 2) };
            for epilogue in EPILOGUES {
                check(shape, &bias, epilogue, false);
                check(shape, &bias, epilogue, true);
            }
            if k == 1 {
                let (x_layout, y_layout) = (Layout::Interleaved, Layout::Interleaved);
                check(ConvShape { x_layout, y_layout, ..shape }, &bias, EPILOGUES[0], false);
            }
        }
    }
}

/// Found by the fuzz target of the kernels: the oracle went through all images.
#[test]
fn any_number_of_images_without_pixels_is_nothing_to_do() {
    let shape = ConvShape { batch: usize::MAX >> 8, input: [0, 5], ..ConvShape::square(4, 4, 1, 1, 1, 0) };
    let geometry = ConvGeometry::new(shape).unwrap();
    assert_eq!((geometry.x_len(), geometry.y_len()), (0, 0));
    let (weights, epilogue) = ([1.0; 16], Epilogue::default());
    assert!(reference::conv(&geometry, &weights, None, None, &[], None, &epilogue).is_empty());
    for kernel in common::pointwise() {
        let packed = PackedPointwise::from_dense(4, 4, &weights, None, kernel).unwrap();
        packed.run(&geometry, &[], &mut [], None, &epilogue, &Serial).unwrap();
    }
}
