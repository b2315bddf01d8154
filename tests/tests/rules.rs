//! Rewrite rules in pairs: a graph they change, a graph they must leave alone. The answers agree in any case.

use anyhow::Result;
use tests::graph::{Graph, pruned};
use tests::{
    agree, assert_same, count, noise, op_names, run, run_optimized, sparse_nodes, values, with_knobs,
};
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::DatumType;
use zoo::proto::{float, int, ints};

const BLOCKS: (usize, usize) = (4, 4);

/// A graph of one convolution `64 -> 128` (1x1 unless said otherwise) on a 14x14 map.
struct OneConv {
    graph: Graph,
    y: String,
}

fn one_conv(density: f64) -> OneConv {
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let w = graph.constant(&[128, 64, 1, 1], &pruned(128, 64, BLOCKS, density, 1));
    let b = graph.constant(&[128], &values(128, 2));
    let y = graph.op("Conv", &[&x, &w, &b], vec![]);
    OneConv { graph, y }
}

impl OneConv {
    fn then(mut self, op: &str, operand: Option<(&[usize], Vec<f32>)>) -> OneConv {
        self.y = match operand {
            Some((shape, values)) => {
                let c = self.graph.constant(shape, &values);
                self.graph.op(op, &[&self.y, &c], vec![])
            }
            None => self.graph.op(op, &[&self.y], vec![]),
        };
        self
    }

    fn model(self) -> ModelProto {
        self.graph.model(&[&self.y])
    }
}

fn input() -> Vec<Tensor> {
    vec![noise(&[1, 64, 14, 14], 3)]
}

#[test]
fn a_pruned_pointwise_convolution_is_swapped_and_a_dense_one_is_not() -> Result<()> {
    let sparse = agree(&one_conv(0.3).model(), &input())?;
    assert_eq!(count(&sparse, "OptSparseConv"), 1, "{:?}", op_names(&sparse));
    let dense = agree(&one_conv(1.0).model(), &input())?;
    assert_eq!(sparse_nodes(&dense), 0);
    Ok(())
}

#[test]
fn a_model_without_a_layer_worth_it_is_stock_bit_for_bit() -> Result<()> {
    let model = one_conv(0.97).then("Relu", None).model();
    let (ours, sparse) = run_optimized(&onnx(), &model, &input())?;
    let (theirs, stock) = run_optimized(&tract_onnx::onnx(), &model, &input())?;
    assert_eq!(ours, theirs);
    assert_eq!(op_names(&sparse), op_names(&stock));
    Ok(())
}

#[test]
fn dense_neighbours_run_here_only_beside_a_sparse_layer() -> Result<()> {
    let net = |density| {
        let mut net = one_conv(density);
        let w = net.graph.constant(&[128, 1, 3, 3], &values(128 * 9, 4));
        let attributes = vec![int("group", 128), ints("pads", &[1; 4])];
        net.y = net.graph.op("Conv", &[&net.y, &w], attributes);
        net.model()
    };
    assert_eq!(sparse_nodes(&agree(&net(0.3), &input())?), 2);
    assert_eq!(sparse_nodes(&agree(&net(1.0), &input())?), 0);
    Ok(())
}

#[test]
fn batch_normalisation_and_its_remains_are_folded() -> Result<()> {
    let per_channel =
        |seed| (vec![1, 128, 1, 1], values(128, seed).iter().map(|v| v + 2.0).collect::<Vec<_>>());
    for op in ["Mul", "Add", "Sub", "Div"] {
        let (shape, operand) = per_channel(5);
        let model = one_conv(0.3).then(op, Some((&shape, operand))).then("Relu", None).model();
        let sparse = agree(&model, &input())?;
        assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"], "{op}");
    }
    let mut net = one_conv(0.3);
    let parameters: Vec<String> = (0..4)
        .map(|i| {
            let positive: Vec<f32> = values(128, 10 + i).iter().map(|v| v.abs() + 0.5).collect();
            net.graph.constant(&[128], &positive)
        })
        .collect();
    let inputs: Vec<&str> = std::iter::once(&net.y).chain(&parameters).map(String::as_str).collect();
    net.y = net.graph.op("BatchNormalization", &inputs, vec![]);
    let sparse = agree(&net.then("Relu", None).model(), &input())?;
    assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"]);
    Ok(())
}

#[test]
fn arithmetic_that_is_not_per_channel_is_not_folded() -> Result<()> {
    // One factor per column of pixels.
    let model = one_conv(0.3).then("Mul", Some((&[1, 1, 1, 14], values(14, 6)))).model();
    let sparse = agree(&model, &input())?;
    assert_eq!(count(&sparse, "OptSparseConv"), 1);
    assert!(op_names(&sparse).len() > 2, "{:?}", op_names(&sparse));
    // A second consumer needs the value before the factor.
    let mut net = one_conv(0.3);
    let c = net.graph.constant(&[1, 128, 1, 1], &values(128, 7));
    let product = net.graph.op("Mul", &[&net.y, &c], vec![]);
    let y = net.y.clone();
    agree(&net.graph.model(&[&product, &y]), &input())?;
    Ok(())
}

#[test]
fn activations_are_fused() -> Result<()> {
    let clip = |net: OneConv| {
        let mut net = net;
        let (lo, hi) = (net.graph.constant(&[], &[0.0]), net.graph.constant(&[], &[0.5]));
        net.y = net.graph.op("Clip", &[&net.y, &lo, &hi], vec![]);
        net
    };
    let leaky = |mut net: OneConv| {
        net.y = net.graph.op("LeakyRelu", &[&net.y], vec![float("alpha", 0.2)]);
        net
    };
    let nets = [
        one_conv(0.3).then("Relu", None),
        clip(one_conv(0.3)),
        leaky(one_conv(0.3)),
        one_conv(0.3).then("Sigmoid", None),
        clip(one_conv(0.3).then("Relu", None)),
    ];
    for net in nets {
        let sparse = agree(&net.model(), &input())?;
        assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"]);
    }
    let other = agree(&one_conv(0.3).then("Tanh", None).model(), &input())?;
    assert_eq!(op_names(&other), ["Source", "OptSparseConv", "Tanh"]);
    Ok(())
}

#[test]
fn hard_swish_and_silu_are_fused_however_they_are_written() -> Result<()> {
    let gated = |gate: &dyn Fn(&mut OneConv) -> String, divide: Option<f32>| {
        let mut net = one_conv(0.3);
        // Larger values, so that both bounds are met.
        let ten = net.graph.constant(&[], &[10.0]);
        net.y = net.graph.op("Mul", &[&net.y, &ten], vec![]);
        let g = gate(&mut net);
        net.y = net.graph.op("Mul", &[&net.y, &g], vec![]);
        if let Some(by) = divide {
            let by = net.graph.constant(&[], &[by]);
            net.y = net.graph.op("Div", &[&net.y, &by], vec![]);
        }
        net.model()
    };
    let sigmoid = |net: &mut OneConv| net.graph.op("Sigmoid", &[&net.y], vec![]);
    let hard_sigmoid = |net: &mut OneConv| {
        net.graph.op("HardSigmoid", &[&net.y], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)])
    };
    let relu6 = |net: &mut OneConv| {
        let [three, lo, hi] = [3.0, 0.0, 6.0].map(|v| net.graph.constant(&[], &[v]));
        let sum = net.graph.op("Add", &[&net.y, &three], vec![]);
        net.graph.op("Clip", &[&sum, &lo, &hi], vec![])
    };
    let fused = ["Source", "OptSparseConv"];
    assert_eq!(op_names(&agree(&gated(&sigmoid, None), &input())?), fused);
    assert_eq!(op_names(&agree(&gated(&hard_sigmoid, None), &input())?), fused);
    assert_eq!(op_names(&agree(&gated(&relu6, Some(6.0)), &input())?), fused);
    // Not hard-swish: another slope, another divisor.
    let steep = |net: &mut OneConv| net.graph.op("HardSigmoid", &[&net.y], vec![float("alpha", 0.2)]);
    assert!(op_names(&agree(&gated(&steep, None), &input())?).len() > 2);
    assert!(op_names(&agree(&gated(&relu6, Some(5.0)), &input())?).len() > 2);
    Ok(())
}

/// Two convolutions whose results are added, then ReLU.
fn residual(shape_of_other: &str) -> ModelProto {
    let mut net = one_conv(0.3);
    let other = net.graph.input(shape_of_other);
    let sum = net.graph.op("Add", &[&net.y, &other], vec![]);
    let y = net.graph.op("Relu", &[&sum], vec![]);
    net.graph.model(&[&y])
}

#[test]
fn a_residual_of_the_same_shape_is_fused_and_a_broadcast_one_is_not() -> Result<()> {
    let mut inputs = input();
    inputs.push(noise(&[1, 128, 14, 14], 8));
    let sparse = agree(&residual("1,128,14,14"), &inputs)?;
    assert_eq!(op_names(&sparse), ["Source", "Source", "OptSparseConv"]);
    inputs[1] = noise(&[1, 128, 1, 1], 8);
    let sparse = agree(&residual("1,128,1,1"), &inputs)?;
    assert_eq!(count(&sparse, "OptSparseConv"), 1);
    assert!(op_names(&sparse).len() > 3, "{:?}", op_names(&sparse));
    Ok(())
}

#[test]
fn an_intermediate_output_is_not_fused_away() -> Result<()> {
    let mut net = one_conv(0.3);
    let conv = net.y.clone();
    let relu = net.graph.op("Relu", &[&conv], vec![]);
    agree(&net.graph.model(&[&relu, &conv]), &input())?;
    Ok(())
}

/// A convolution with weights `[oc][ic / group][k..]` on one input, with attributes.
fn conv(
    input: &str,
    weights: &[usize],
    density: f64,
    attributes: Vec<tract_sparse::pb::AttributeProto>,
) -> ModelProto {
    let mut graph = Graph::default();
    let x = graph.input(input);
    let cols = weights[1..].iter().product();
    let w = graph.constant(weights, &pruned(weights[0], cols, (4, 1), density, 11));
    let y = graph.op("Conv", &[&x, &w], attributes);
    graph.model(&[&y])
}

#[test]
fn strided_padded_and_one_dimensional_pointwise_convolutions_are_swapped() -> Result<()> {
    let pointwise = [128, 64, 1, 1];
    for attributes in [
        vec![ints("strides", &[2, 2])],
        vec![ints("strides", &[2, 1]), ints("pads", &[1, 0, 2, 1])],
        vec![ints("pads", &[1, 1, 1, 1])],
    ] {
        let sparse = agree(&conv("1,64,14,14", &pointwise, 0.2, attributes), &input())?;
        assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"]);
    }
    for attributes in [vec![], vec![ints("strides", &[2]), ints("pads", &[1, 0])]] {
        let sparse = agree(&conv("1,64,200", &[128, 64, 1], 0.2, attributes), &[noise(&[1, 64, 200], 3)])?;
        assert_eq!(count(&sparse, "OptSparseConv"), 1, "{:?}", op_names(&sparse));
    }
    Ok(())
}

#[test]
fn spatial_and_depthwise_convolutions_are_swapped() -> Result<()> {
    let same = || vec![ints("pads", &[1; 4])];
    let sparse = agree(&conv("1,64,14,14", &[64, 64, 3, 3], 0.2, same()), &input())?;
    assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"]);
    // Every row of every kernel loses its first tap: one of the eight patterns.
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let mut weights = values(64 * 9, 12);
    weights.iter_mut().step_by(3).for_each(|w| *w = 0.0);
    let w = graph.constant(&[64, 1, 3, 3], &weights);
    let y = graph.op("Conv", &[&x, &w], vec![int("group", 64), ints("pads", &[1; 4])]);
    let sparse = agree(&graph.model(&[&y]), &input())?;
    assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"]);
    Ok(())
}

#[test]
fn grouped_convolutions_are_swapped() -> Result<()> {
    let sparse = agree(&conv("1,64,14,14", &[128, 16, 1, 1], 0.2, vec![int("group", 4)]), &input())?;
    assert_eq!(op_names(&sparse), ["Source", "OptSparseConv"]);
    Ok(())
}

#[test]
fn dilated_depthwise_convolutions_are_swapped() -> Result<()> {
    let attributes = vec![int("group", 64), ints("dilations", &[2, 2]), ints("pads", &[2; 4])];
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let mut weights = values(64 * 9, 12);
    weights.iter_mut().step_by(3).for_each(|w| *w = 0.0);
    let w = graph.constant(&[64, 1, 3, 3], &weights);
    let y = graph.op("Conv", &[&x, &w], attributes);
    assert_eq!(op_names(&agree(&graph.model(&[&y]), &input())?), ["Source", "OptSparseConv"]);
    Ok(())
}

#[test]
fn weights_that_are_inputs_stay_stock() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let w = graph.input("128,64,1,1");
    let y = graph.op("Conv", &[&x, &w], vec![]);
    let weights = Tensor::from_shape(&[128, 64, 1, 1], &pruned(128, 64, BLOCKS, 0.2, 1))?;
    let sparse = agree(&graph.model(&[&y]), &[noise(&[1, 64, 14, 14], 3), weights])?;
    assert_eq!(sparse_nodes(&sparse), 0);
    Ok(())
}

#[test]
fn weights_behind_other_nodes_are_found() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let w = graph.constant(&[128, 64, 1, 1], &pruned(128, 64, BLOCKS, 0.2, 1));
    let w = graph.op("Identity", &[&w], vec![]);
    let y = graph.op("Conv", &[&x, &w], vec![]);
    assert_eq!(sparse_nodes(&agree(&graph.model(&[&y]), &input())?), 1);
    Ok(())
}

#[test]
fn an_initialiser_shared_by_two_layers_serves_both() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let w = graph.constant(&[64, 64, 1, 1], &pruned(64, 64, BLOCKS, 0.2, 1));
    let scale = graph.constant(&[1, 64, 1, 1], &values(64, 9));
    let a = graph.op("Conv", &[&x, &w], vec![]);
    // Folding the scale into one of them must not touch the other.
    let a = graph.op("Mul", &[&a, &scale], vec![]);
    let b = graph.op("Conv", &[&a, &w], vec![]);
    let sparse = agree(&graph.model(&[&b]), &input())?;
    assert_eq!(op_names(&sparse), ["Source", "OptSparseConv", "OptSparseConv"]);
    Ok(())
}

#[test]
fn matrix_products_are_swapped_in_every_orientation() -> Result<()> {
    let sparse_matrix = |rows, cols| pruned(rows, cols, (4, 1), 0.1, 13);
    for (trans_a, trans_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut graph = Graph::default();
        let x = graph.input(if trans_a == 1 { "256,40" } else { "40,256" });
        // The zeros follow the output channels, wherever they stand.
        let (shape, values) = if trans_b == 1 {
            ([512, 256], sparse_matrix(512, 256))
        } else {
            let rows = sparse_matrix(512, 256);
            ([256, 512], (0..256 * 512).map(|i| rows[i % 512 * 256 + i / 512]).collect())
        };
        let w = graph.constant(&shape, &values);
        let b = graph.constant(&[512], &tests::values(512, 14));
        let attributes =
            vec![int("transA", trans_a), int("transB", trans_b), float("alpha", 0.5), float("beta", 2.0)];
        let y = graph.op("Gemm", &[&x, &w, &b], attributes);
        let y = graph.op("Relu", &[&y], vec![]);
        let shape = if trans_a == 1 { [256, 40] } else { [40, 256] };
        let sparse = agree(&graph.model(&[&y]), &[noise(&shape, 3)])?;
        assert_eq!(count(&sparse, "OptSparseConv"), 1, "{trans_a} {trans_b}: {:?}", op_names(&sparse));
        assert_eq!(count(&sparse, "OptMatMul"), 0);
    }
    for (x, w, weights_first) in [
        ("7,40,256", vec![256, 512], false),
        ("40,256", vec![256, 512], false),
        ("256,40", vec![512, 256], true),
        ("3,256,40", vec![512, 256], true),
        ("3,256,40", vec![1, 512, 256], true),
        ("256", vec![256, 512], false),
    ] {
        let mut graph = Graph::default();
        let input = graph.input(x);
        let rows = sparse_matrix(512, 256);
        let values: Vec<f32> = if weights_first {
            rows
        } else {
            (0..256 * 512).map(|i| rows[i % 512 * 256 + i / 512]).collect()
        };
        let w = graph.constant(&w, &values);
        let operands = if weights_first { [&*w, &*input] } else { [&*input, &*w] };
        let y = graph.op("MatMul", &operands, vec![]);
        let shape: Vec<usize> = x.split(',').map(|d| d.parse().unwrap()).collect();
        let sparse = agree(&graph.model(&[&y]), &[noise(&shape, 3)])?;
        assert_eq!(count(&sparse, "OptSparseConv"), 1, "{x}: {:?}", op_names(&sparse));
    }
    Ok(())
}

#[test]
fn products_of_two_activations_and_batches_of_matrices_stay_stock() -> Result<()> {
    let mut graph = Graph::default();
    let (a, b) = (graph.input("40,256"), graph.input("256,64"));
    let y = graph.op("MatMul", &[&a, &b], vec![]);
    let inputs = [noise(&[40, 256], 1), noise(&[256, 64], 2)];
    assert_eq!(sparse_nodes(&agree(&graph.model(&[&y]), &inputs)?), 0);
    let mut graph = Graph::default();
    let a = graph.input("3,40,256");
    let w = graph.constant(&[3, 256, 64], &pruned(3 * 256, 64, (4, 4), 0.1, 1));
    let y = graph.op("MatMul", &[&a, &w], vec![]);
    assert_eq!(sparse_nodes(&agree(&graph.model(&[&y]), &[noise(&[3, 40, 256], 1)])?), 0);
    Ok(())
}

#[test]
fn weights_that_are_not_finite_stay_stock() -> Result<()> {
    for special in [f32::NAN, f32::INFINITY] {
        let mut graph = Graph::default();
        let x = graph.input("1,64,14,14");
        let mut weights = pruned(128, 64, BLOCKS, 0.2, 1);
        weights[17] = special;
        let w = graph.constant(&[128, 64, 1, 1], &weights);
        let y = graph.op("Conv", &[&x, &w], vec![]);
        let model = graph.model(&[&y]);
        let ours = run_optimized(&onnx(), &model, &input())?;
        let theirs = run_optimized(&tract_onnx::onnx(), &model, &input())?;
        assert_eq!(sparse_nodes(&ours.1), 0);
        let bits = |t: &TValue| -> Vec<u32> {
            t.to_plain_array_view::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
        };
        assert_eq!(bits(&ours.0[0]), bits(&theirs.0[0]));
        let decluttered = onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
        let report = tract_sparse::Report::of(&decluttered)?;
        assert_eq!(report.layers[0].reason.as_deref(), Some("a weight is NaN or infinite"));
    }
    Ok(())
}

#[test]
fn a_layer_that_is_cast_to_f16_stays_sparse() -> Result<()> {
    let model = one_conv(0.2).then("Relu", None).model();
    let half = |onnx: tract_sparse::Onnx| -> Result<TypedModel> {
        let mut model = onnx.model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
        let transform = tract_sparse::tract_core::transform::get_transform("f32_to_f16")?.unwrap();
        transform.transform(&mut model)?;
        model.into_optimized()
    };
    let (ours, theirs) = (half(onnx())?, half(tract_onnx::onnx())?);
    assert_eq!(sparse_nodes(&ours), 1);
    let x = input()[0].cast_to_dt(DatumType::F16)?.into_owned();
    let ours = run(ours, std::slice::from_ref(&x))?;
    let theirs = run(theirs, std::slice::from_ref(&x))?;
    let f32s = |v: TVec<TValue>| -> TVec<TValue> {
        v.into_iter().map(|t| t.cast_to_dt(DatumType::F32).unwrap().into_owned().into_tvalue()).collect()
    };
    // f16 has 11 bits: stock tract rounds at each of a few operations, ours once.
    let distance = tests::distance(&f32s(ours)[0], &f32s(theirs)[0])?;
    assert!(distance < 4e-3, "{distance}");
    Ok(())
}

#[test]
fn pruned_integer_convolutions_run_in_int8_and_others_stay_stock() -> Result<()> {
    let integer = |density| -> Result<[(TVec<TValue>, TypedModel); 2]> {
        let model = integer_conv(density);
        Ok([run_optimized(&onnx(), &model, &input())?, run_optimized(&tract_onnx::onnx(), &model, &input())?])
    };
    let [(ours, sparse), (theirs, _)] = integer(0.2)?;
    assert_eq!(sparse_nodes(&sparse), 1, "{:?}", op_names(&sparse));
    let floats = |y: &TVec<TValue>| -> Result<Vec<f32>> {
        Ok(y[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    };
    let (ours, theirs) = (floats(&ours)?, floats(&theirs)?);
    // a step of the output: stock tract rounds with a multiplier of 31 bits
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| (ours - theirs).abs() <= 1.01 * INTEGER_SCALE));
    for (density, mode) in [(1.0, "auto"), (0.2, "never")] {
        let [(ours, sparse), (theirs, _)] = with_knobs(&[("TRACT_SPARSE", mode)], || integer(density))?;
        assert_eq!(ours, theirs, "{mode}");
        assert_eq!(sparse_nodes(&sparse), 0, "{mode}");
    }
    Ok(())
}

/// What a byte of the integer convolution is worth.
const INTEGER_SCALE: f32 = 0.01;

/// A `QLinearConv` between floats, of whose blocks a share is kept.
fn integer_conv(density: f64) -> ModelProto {
    let mut graph = Graph::default();
    let x = graph.input("1,64,14,14");
    let u8s = |name: &str, dims: &[i64], data: Vec<u8>| tract_sparse::pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 2,
        raw_data: data,
        ..Default::default()
    };
    let weights = pruned(128, 64, BLOCKS, density, 1).iter().map(|w| (*w != 0.0) as u8).collect();
    graph.initializer(u8s("w", &[128, 64, 1, 1], weights));
    graph.initializer(u8s("zero", &[], vec![0]));
    let scale = graph.constant(&[], &[INTEGER_SCALE]);
    let quantised = graph.op("QuantizeLinear", &[&x, &scale, "zero"], vec![]);
    let y =
        graph.op("QLinearConv", &[&quantised, &scale, "zero", "w", &scale, "zero", &scale, "zero"], vec![]);
    let y = graph.op("DequantizeLinear", &[&y, &scale, "zero"], vec![]);
    graph.model(&[&y])
}

#[test]
fn every_stage_of_the_graph_computes_the_same() -> Result<()> {
    let (shape, operand) = ([1, 128, 1, 1], values(128, 5));
    let model = one_conv(0.3).then("Mul", Some((&shape, operand))).then("Relu", None).model();
    let (expected, _) = run_optimized(&tract_onnx::onnx(), &model, &input())?;
    let typed = onnx().model_for_proto_model(&model)?.into_typed()?;
    assert_eq!(count(&typed, "SparseConv (see unsparsify)"), 1, "{:?}", op_names(&typed));
    assert_same(&run(typed.clone(), &input())?, &expected)?;
    let decluttered = typed.into_decluttered()?;
    assert_eq!(count(&decluttered, "SparseMatMul (see unsparsify)"), 1, "{:?}", op_names(&decluttered));
    assert_same(&run(decluttered, &input())?, &expected)?;
    Ok(())
}

/// Applies one of tract's transforms by name.
fn transform(name: &str, model: &mut TypedModel) -> Result<()> {
    tract_sparse::tract_core::transform::get_transform(name)?.unwrap().transform(model)
}

#[test]
fn the_transforms_swap_and_unswap() -> Result<()> {
    let model = zoo_model("mobilenet-v2")?;
    let x = [noise(&[1, 3, 32, 32], 1)];
    let mut typed = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
    let expected = run(typed.clone().into_optimized()?, &x)?;
    transform("sparsify", &mut typed)?;
    let swapped = sparse_nodes(&typed);
    assert!(swapped > 10, "{swapped}");
    assert_same(&run(typed.clone(), &x)?, &expected)?;
    let optimized = typed.clone().into_optimized()?;
    assert_eq!(count(&optimized, "OptSparseConv"), swapped);
    assert_same(&run(optimized, &x)?, &expected)?;
    transform("unsparsify", &mut typed)?;
    assert_eq!(sparse_nodes(&typed), 0);
    assert_same(&run(typed.into_optimized()?, &x)?, &expected)
}

#[test]
fn the_runtime_is_found_by_name() -> Result<()> {
    let model = zoo_model("resnet-20")?;
    let x = [noise(&[1, 3, 32, 32], 1)];
    let typed = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
    let expected = run(typed.clone().into_optimized()?, &x)?;
    let runtime = runtime_for_name("cpu-sparse")?.unwrap();
    let runnable = runtime.prepare(typed)?;
    assert!(sparse_nodes(runnable.typed_model().unwrap()) > 10);
    let y = runnable.run(x.iter().map(|t| t.clone().into_tvalue()).collect())?;
    assert_same(&y, &expected)
}

/// Networks without a zero run on our kernels where somebody asks for it, and only there.
#[test]
fn dense_networks_run_here_on_request() -> Result<()> {
    let spec = zoo::Spec { hw: Some(64), width: 0.5, ..zoo::Spec::default() };
    let model = zoo::build(zoo::Network::by_name("mobilenet-v1")?, &spec)?;
    let x = [noise(&[1, 3, 64, 64], 1)];
    let stock = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
    let expected = run(stock.clone().into_optimized()?, &x)?;
    let here = |model: &TypedModel| count(model, "OptSparseConv");

    let load = || onnx().model_for_proto_model(&model)?.into_optimized();
    assert_eq!(here(&load()?), 0);
    let dense = with_knobs(&[("TRACT_SPARSE", "dense")], load)?;
    // depthwise layers at least are faster on every target
    assert!(here(&dense) >= 13, "{}", here(&dense));
    assert_same(&run(dense.clone(), &x)?, &expected)?;

    let mut planar = stock.clone();
    transform("planar", &mut planar)?;
    let planar = planar.into_optimized()?;
    assert_eq!(here(&planar), here(&dense));
    assert_same(&run(planar, &x)?, &expected)?;

    let runnable = runtime_for_name("cpu-planar")?.unwrap().prepare(stock.clone())?;
    assert_eq!(here(runnable.typed_model().unwrap()), here(&dense));
    let runnable = runtime_for_name("cpu-sparse")?.unwrap().prepare(stock)?;
    assert_eq!(here(runnable.typed_model().unwrap()), 0);
    Ok(())
}

fn zoo_model(name: &str) -> Result<ModelProto> {
    let spec = zoo::Spec {
        conv1x1: Some("4x4:0.8".parse()?),
        dwconv3x3: Some("3:9".parse()?),
        conv3x3: Some("5:9".parse()?),
        hw: Some(32),
        ..zoo::Spec::default()
    };
    zoo::build(zoo::Network::by_name(name)?, &spec)
}

#[test]
fn knobs_steer_the_choice() -> Result<()> {
    let model = one_conv(0.3).model();
    let load = || onnx().model_for_proto_model(&model)?.into_optimized();
    let with = |knobs: &[(&str, &str)]| with_knobs(knobs, load);
    assert_eq!(sparse_nodes(&with(&[("TRACT_SPARSE", "never")])?), 0);
    let (always, gain) = (("TRACT_SPARSE", "always"), ("TRACT_SPARSE_MIN_GAIN", "1000"));
    assert_eq!(sparse_nodes(&with(&[gain])?), 0);
    assert_eq!(sparse_nodes(&with(&[gain, always])?), 1);
    let measured = with(&[("TRACT_SPARSE", "measure")])?;
    assert_eq!(sparse_nodes(&measured), 1, "30 % of a 64 -> 128 layer is faster on any machine");
    assert_eq!(sparse_nodes(&with(&[("TRACT_SPARSE", "measure"), gain])?), 0);
    let error = with(&[("TRACT_SPARSE_TARGET", "mmx")]).unwrap_err();
    assert!(format!("{error:#}").contains("TRACT_SPARSE_TARGET"), "{error:#}");
    let scalar = with(&[("TRACT_SPARSE_TARGET", "scalar"), always])?;
    let report = tract_sparse::Report::of(&scalar)?;
    assert!(report.layers[0].chosen.as_deref().is_some_and(|k| k.ends_with("scalar")), "{report:?}");
    Ok(())
}
