//! What the command line says, asked of the library; the command line itself is asked in
//! `cli/tests/words.rs`.

use crate::case;
use anyhow::Result;
use tests::graph::{Graph, pruned};
use tests::{assert_same, noise, run, run_optimized, sparse_nodes, with_knobs};
use tract_sparse::prelude::*;
use zoo::proto;

/// The optimised sparse model of a file, its answers and those of stock tract, optimised and plain.
fn answers(file: &str, input: &Tensor) -> Result<[TVec<TValue>; 3]> {
    let path = case(file);
    let inputs = std::slice::from_ref(input);
    let sparse = run(onnx().model_for_path(&path)?.into_optimized()?, inputs)?;
    let stock = run(tract_onnx::onnx().model_for_path(&path)?.into_optimized()?, inputs)?;
    let plain = run(tract_onnx::onnx().model_for_path(&path)?.into_typed()?, inputs)?;
    Ok([sparse, stock, plain])
}

#[test]
fn a_plain_run_of_stock_tract_agrees_with_the_sparse_model_where_stock_folds_wrongly() -> Result<()> {
    let [sparse, stock, plain] = answers("sub_reversed_pruned.onnx", &noise(&[1, 32, 6, 7], 1))?;
    assert_same(&sparse, &plain)?;
    // stock tract 0.23.9 folds the bias into `c - conv(x)` with the wrong sign
    assert!(assert_same(&stock, &plain).is_err());
    Ok(())
}

/// `c - f(x)`, `f(x) - c`, `c / f(x)` and `f(x) / c` of sparse layers, which stock tract 0.23.9 partly folds
/// wrongly.
#[test]
fn reversed_operators_behind_sparse_layers_are_right() -> Result<()> {
    for operator in ["Sub", "Div"] {
        for reversed in [false, true] {
            for layer in ["conv1x1", "conv3x3", "gemm", "matmul"] {
                let (model, input) = reversed_model(layer, operator, reversed);
                let inputs = std::slice::from_ref(&input);
                let onnx = onnx();
                let (sparse, optimised) =
                    with_knobs(&[("TRACT_SPARSE", "always")], || run_optimized(&onnx, &model, inputs))?;
                assert!(sparse_nodes(&optimised) > 0, "{layer} {operator}");
                let plain = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?;
                assert_same(&sparse, &run(plain, inputs)?)
                    .map_err(|e| e.context(format!("{layer}, {operator}, reversed {reversed}")))?;
            }
        }
    }
    Ok(())
}

/// A sparse layer with a bias, well away from zero, and an operator with a constant before or behind it.
fn reversed_model(layer: &str, operator: &str, reversed: bool) -> (tract_sparse::pb::ModelProto, Tensor) {
    let mut graph = Graph::default();
    let (shape, constant): (&[usize], &[usize]) = match layer {
        "gemm" | "matmul" => (&[4, 32], &[16]),
        _ => (&[1, 32, 6, 7], &[16, 1, 1]),
    };
    let x = graph.input(&shape.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
    let side = if layer == "conv3x3" { 3 } else { 1 };
    let weights = pruned(16, 32 * side * side, (4, 4), 0.3, 3);
    let bias = graph.constant(&[16], &[8.0; 16]);
    let y = match layer {
        "gemm" => {
            let w = graph.constant(&[16, 32], &weights);
            graph.op("Gemm", &[&x, &w, &bias], vec![proto::int("transB", 1)])
        }
        "matmul" => {
            let w = graph.constant(&[32, 16], &pruned(32, 16, (4, 4), 0.3, 3));
            let product = graph.op("MatMul", &[&x, &w], vec![]);
            graph.op("Add", &[&product, &bias], vec![])
        }
        _ => {
            let w = graph.constant(&[16, 32, side, side], &weights);
            graph.op("Conv", &[&x, &w, &bias], vec![])
        }
    };
    let values: Vec<f32> = (0..16).map(|i| 1.0 + i as f32 / 4.0).collect();
    let c = graph.constant(constant, &values);
    let y =
        if reversed { graph.op(operator, &[&c, &y], vec![]) } else { graph.op(operator, &[&y, &c], vec![]) };
    (graph.model(&[&y]), noise(shape, 5))
}

#[test]
fn inner_shapes_of_a_file_can_be_ignored_as_in_stock_tract() -> Result<()> {
    let input = noise(&[1, 3, 64, 64], 1);
    let of = |onnx: tract_sparse::Onnx| {
        let model = onnx.with_ignore_value_info(true).model_for_path(case("paddle_dim_param.onnx"))?;
        run(
            model.with_input_fact(0, f32::fact([1, 3, 64, 64]).into())?.into_optimized()?,
            std::slice::from_ref(&input),
        )
    };
    assert_same(&of(onnx())?, &of(tract_onnx::onnx())?)
}

#[test]
fn a_wrong_knob_is_the_cause_that_loading_names() {
    for (knob, value, choice) in [
        ("TRACT_SPARSE", "foo", "never"),
        ("TRACT_SPARSE_TARGET", "avx1024", "avx512"),
        ("TRACT_SPARSE_MIN_GAIN", "x", "at least 1"),
        ("TRACT_SPARSE_PRECISION", "quarter", "half"),
    ] {
        let load = || onnx().model_for_path(case("nchw_dense.onnx"))?.into_optimized();
        let error = with_knobs(&[(knob, value)], || load().map(|_| ())).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(&format!("{knob}={value:?}")) && text.contains(choice), "{text}");
    }
}
