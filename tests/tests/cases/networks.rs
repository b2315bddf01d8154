//! Networks of several layers, which the optimiser sees together.

use crate::answers::{always, answer, answer_of, answer_of_stock, plainly, sparse_answer};
use anyhow::{Context, Result};
use noise::Noise;
use sparse_kernels::prelude::Target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tests::graph::{Graph, pruned};
use tests::{assert_same, noise, run, sparse_nodes, values};
use tract_sparse::prelude::*;
use zoo::proto::{int, ints};

/// Random networks with sizes that may be zero, biases that may be infinite, and arithmetic, against stock
/// tract node by node.
#[test]
fn random_networks_are_those_of_stock() -> Result<()> {
    let mut compared = 0;
    for seed in 0..150 {
        let mut dice = Noise::new(seed);
        for _ in 0..4 {
            dice.below(2);
        }
        let mut graph = Graph::default();
        let shape = [dice.one_of(&[0, 1, 1, 2]), 8, dice.one_of(&[0, 1, 4, 7]), dice.one_of(&[0, 3, 5, 8])];
        let [n, mut c, h, w] = shape;
        let mut reversed = false;
        let mut y = if dice.below(2) == 0 {
            graph.input("N,8,H,W")
        } else {
            graph.input(&format!("{n},{c},{h},{w}"))
        };
        for layer in 0..1 + dice.below(4) {
            let seed = seed * 10 + layer as u64;
            let kernel = dice.one_of(&[1, 1, 3]);
            let depthwise = dice.below(3) == 0;
            let oc = if depthwise { c } else { dice.one_of(&[4, 8, 13]) };
            let group = if depthwise { c } else { 1 };
            let density = dice.one_of(&[0.2, 0.5, 1.0]);
            let weights =
                pruned(oc, c / group * kernel * kernel, dice.one_of(&[(1, 1), (4, 4)]), density, seed);
            let weights = graph.constant(&[oc, c / group, kernel, kernel], &weights);
            let mut bias = values(oc, seed);
            let odd = dice.below(4) == 0;
            if odd {
                bias[dice.below(oc)] = dice.one_of(&[f32::INFINITY, f32::NEG_INFINITY]);
            }
            let bias = graph.constant(&[oc], &bias);
            let stride = dice.one_of(&[1, 1, 2]);
            let attributes = vec![
                ints("kernel_shape", &[kernel; 2]),
                ints("pads", &[kernel / 2 * dice.below(2); 4]),
                ints("strides", &[stride; 2]),
                int("group", group),
            ];
            y = graph.op("Conv", &[&y, &weights, &bias], attributes);
            c = oc;
            for step in 0..dice.below(3) {
                let op = dice.one_of(&["Add", "Sub", "Mul", "Div"]);
                let shape = dice.one_of(&[[1, 1, 1, 1], [1, oc, 1, 1]]);
                let operand = values(shape.iter().product(), seed * 3 + step as u64);
                let operand: Vec<f32> = operand.iter().map(|v| v + v.signum() * 0.5).collect();
                let operand = graph.constant(&shape, &operand);
                // `c / y` is left to a test of its own: a layer's rounding errors grow without bounds where y
                // is near zero
                let swapped = op != "Div" && dice.below(2) == 0;
                reversed |= swapped && op == "Sub";
                let inputs = if swapped { [&operand, &y] } else { [&y, &operand] };
                y = graph.op(op, &inputs.map(String::as_str), vec![]);
            }
            // An infinite activation meets the zeros of the next layer, where NaN is a documented difference.
            y = match dice.below(3) {
                _ if odd => {
                    let bounds = [-4.0, 4.0].map(|bound| graph.constant(&[], &[bound]));
                    graph.op("Clip", &[&y, &bounds[0], &bounds[1]], vec![])
                }
                0 => graph.op("Relu", &[&y], vec![]),
                1 => graph.op("Sigmoid", &[&y], vec![]),
                _ => y,
            };
            if dice.below(4) == 0 {
                y = graph.op("MaxPool", &[&y], vec![ints("kernel_shape", &[2, 2]), ints("pads", &[1; 4])]);
            }
        }
        let model = graph.model(&[&y]);
        let x = [noise(&shape, seed)];
        let stock = catch_unwind(AssertUnwindSafe(|| plainly(&model, &x)));
        let Ok(Ok(stock)) = stock else { continue };
        for target in Target::available() {
            let what = || format!("{seed} on {target}");
            let (sparse, told) = always(target, || sparse_answer(&model, &x, true)).with_context(what)?;
            // stock tract 0.23.9 folds `c - y` wrongly into a layer of its own
            if sparse || !reversed {
                assert_same(&told.with_context(what)?, &stock).with_context(what)?;
            }
            compared += 1;
            // a layer without zeros is stock tract's, which can neither optimise nor run some symbolic ones
            let symbolic = || always(target, || sparse_answer(&model, &x, false));
            match catch_unwind(AssertUnwindSafe(symbolic)) {
                Ok(Ok((true, symbolic))) => {
                    assert_same(&symbolic.with_context(what)?, &stock).with_context(what)?
                }
                Ok(Ok((false, _))) => {}
                Ok(Err(error)) => {
                    let stock = tract_onnx::onnx().model_for_proto_model(&model)?.into_optimized();
                    assert!(stock.is_err(), "{}: {error:#}", what());
                }
                // an operator of tract's own on a size below zero
                Err(_) => {
                    let stock = || answer(&tract_onnx::onnx(), &model, &x);
                    let stock = catch_unwind(AssertUnwindSafe(stock));
                    assert!(!matches!(stock, Ok(Ok(_))), "{}: panics, and stock tract does not", what());
                }
            }
        }
    }
    assert!(compared > 200, "{compared} comparisons");
    Ok(())
}

/// What counts images for a product of matrices are the channels of the convolution behind it.
#[test]
fn products_of_several_matrices_stand_before_convolutions() -> Result<()> {
    for (batch, group) in [(1, 1), (2, 1), (2, 8)] {
        let mut graph = Graph::default();
        let x = graph.input(&format!("{batch},8,9,13"));
        let w = graph.constant(&[16, 9], &pruned(16, 9, (1, 1), 0.3, 1));
        let product = graph.op("MatMul", &[&w, &x], vec![]);
        let w = graph.constant(&[8, 8 / group, 3, 3], &pruned(8, 72 / group, (1, 1), 0.4, 2));
        let y = graph.op("Conv", &[&product, &w], vec![int("group", group), ints("pads", &[1; 4])]);
        let (model, x) = (graph.model(&[&y]), [noise(&[batch, 8, 9, 13], 3)]);
        let stock = answer_of_stock(&model, &x)?;
        for target in Target::available() {
            let ours = always(target, || onnx().model_for_proto_model(&model)?.into_optimized())?;
            assert_eq!(sparse_nodes(&ours), 2, "{batch} images, {group} groups on {target}");
            assert_same(&run(ours, &x)?, &stock).with_context(|| format!("{batch} images on {target}"))?;
        }
    }
    Ok(())
}

/// An axis of one pixel is not taken away where a padded layer in between makes more of it, as stock tract 0.23.9 does: it
/// loses the pixels. One of the last two layers is sparse.
#[test]
fn pixels_that_padding_adds_stay() -> Result<()> {
    for (batch, zeros) in (1..=2).flat_map(|batch| (2..8).map(move |zeros| (batch, zeros))) {
        let density = |layer: usize| if zeros >> layer & 1 == 1 { 0.4 } else { 1.0 };
        let mut graph = Graph::default();
        let x = graph.input(&format!("{batch},16,2,9"));
        let pooled = graph.op("GlobalAveragePool", &[&x], vec![]);
        let w = graph.constant(&[4, 16, 1, 1], &pruned(4, 16, (1, 1), density(0), 1));
        let narrow = graph.op("Conv", &[&pooled, &w], vec![]);
        let w = graph.constant(&[12, 4, 1, 1], &pruned(12, 4, (1, 1), density(1), 2));
        let padded = graph.op("Conv", &[&narrow, &w], vec![ints("pads", &[1, 0, 0, 2])]);
        let w = graph.constant(&[3, 10], &pruned(3, 10, (1, 1), density(2), 3));
        let y = graph.op("MatMul", &[&padded, &w], vec![]);
        let (model, x) = (graph.model(&[&y]), [noise(&[batch, 16, 2, 9], 4)]);
        let plain = plainly(&model, &x)?;
        assert_eq!(plain[0].shape(), [batch, 12, 2, 10]);
        for target in Target::available() {
            let ours = always(target, || answer_of(&onnx(), &model, &x));
            let what = || format!("{batch} images, zeros in {zeros:03b} on {target}");
            assert_same(&ours.with_context(what)?, &plain).with_context(what)?;
        }
    }
    Ok(())
}
