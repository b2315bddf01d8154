//! Kinds of layers: kernels of every shape, channel groups, transposed convolutions, weights behind other
//! nodes.

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use std::cell::Cell;
use tests::graph::{Graph, pruned};
use tests::layer::{ConvLayer, Pads};
use tests::{
    agree, assert_same, count, noise, op_names, run, run_optimized, sparse_nodes, values, with_knobs,
};
use tract_sparse::Report;
use tract_sparse::prelude::*;
use zoo::proto::{int, ints};

use crate::case;

/// Loads a layer under the default policy, compares its answer with stock tract's, and fails unless it runs
/// sparse in the structure of its zeros.
fn runs_sparse(layer: &ConvLayer, structure: &str) -> Result<()> {
    let name = format!("{layer:?}");
    let model = layer.model(5);
    let sparse = agree(&model, &[layer.noise(7)]).with_context(|| name.clone())?;
    ensure!(count(&sparse, "OptSparseConv") == 1, "{name}: {:?}", op_names(&sparse));
    let report = Report::of(&onnx().model_for_proto_model(&model)?.into_typed()?)?;
    let [layer] = &*report.layers else { anyhow::bail!("{name}: {} layers", report.layers.len()) };
    ensure!(layer.chosen.is_some(), "{name}: {:?}", layer.reason);
    ensure!(layer.structure.as_deref() == Some(structure), "{name}: {:?}", layer.structure);
    let density = layer.density.context("no density")?;
    ensure!((density - 0.15).abs() < 0.05, "{name}: density {density}");
    Ok(())
}

/// The structures that kernels larger than 1x1 know.
const SPATIAL: [((usize, usize), &str); 3] = [((1, 1), "unstructured"), ((2, 1), "2x1"), ((4, 1), "4x1")];

#[test]
fn kernels_of_every_shape_run_sparse() -> Result<()> {
    let on_map = |kernel: [usize; 2]| ConvLayer::new(64, 48, &[15, 18], &kernel);
    let on_line = |k: usize| ConvLayer::new(64, 48, &[150], &[k]);
    let explicit = |pads: &[usize]| Pads::Explicit(pads.to_vec());
    let layers = [
        ConvLayer { pads: explicit(&[0, 1, 0, 1]), ..on_map([1, 3]) },
        ConvLayer { pads: explicit(&[1, 0, 1, 0]), ..on_map([3, 1]) },
        ConvLayer { pads: Pads::SameUpper, ..on_map([3, 3]) },
        ConvLayer { pads: explicit(&[2, 2, 2, 2]), ..on_map([5, 5]) },
        ConvLayer { pads: Pads::SameLower, stride: vec![2, 2], ..on_map([5, 5]) },
        ConvLayer { pads: Pads::SameUpper, stride: vec![2, 1], ..on_map([7, 7]) },
        ConvLayer { pads: explicit(&[3, 0, 2, 1]), dilation: vec![2, 3], ..on_map([3, 2]) },
        ConvLayer { pads: explicit(&[3, 3]), ..on_line(7) },
        ConvLayer { pads: Pads::SameUpper, stride: vec![2], ..on_line(5) },
        ConvLayer { pads: Pads::SameLower, dilation: vec![4], ..on_line(3) },
        ConvLayer { pads: explicit(&[8, 0]), dilation: vec![4], ..on_line(3) },
    ];
    for layer in layers {
        for (block, structure) in SPATIAL {
            runs_sparse(&ConvLayer { block, density: 0.15, ..layer.clone() }, structure)?;
        }
    }
    Ok(())
}

#[test]
fn depthwise_kernels_of_every_size_run_sparse() -> Result<()> {
    let depthwise = |input: &[usize], kernel: &[usize]| ConvLayer {
        group: 96,
        pads: Pads::SameUpper,
        density: 0.15,
        ..ConvLayer::new(96, 96, input, kernel)
    };
    for layer in [
        depthwise(&[15, 18], &[7, 7]),
        depthwise(&[15, 18], &[1, 5]),
        ConvLayer { stride: vec![2, 1], ..depthwise(&[15, 18], &[5, 1]) },
        ConvLayer { dilation: vec![2, 2], ..depthwise(&[15, 18], &[3, 2]) },
        ConvLayer { stride: vec![3, 3], ..depthwise(&[45, 48], &[5, 5]) },
        depthwise(&[300], &[5]),
        ConvLayer { dilation: vec![4], ..depthwise(&[300], &[9]) },
    ] {
        runs_sparse(&layer, "unstructured")?;
    }
    Ok(())
}

#[test]
fn channel_groups_run_sparse() -> Result<()> {
    let same = Pads::SameUpper;
    let groups = |oc: usize, ic: usize, group: usize, input: &[usize], kernel: &[usize]| ConvLayer {
        group,
        ..ConvLayer::new(oc, ic, input, kernel)
    };
    let layers = [
        groups(128, 128, 4, &[14, 14], &[1, 1]),
        groups(96, 192, 3, &[100], &[1]),
        ConvLayer { pads: same.clone(), ..groups(128, 128, 4, &[14, 14], &[3, 3]) },
        ConvLayer { pads: same.clone(), stride: vec![2, 2], ..groups(128, 64, 2, &[15, 14], &[5, 3]) },
        ConvLayer { pads: same.clone(), dilation: vec![2], ..groups(64, 128, 2, &[200], &[3]) },
        ConvLayer { stride: vec![2, 2], ..groups(128, 128, 4, &[14, 14], &[1, 1]) },
        // several filters for each channel
        ConvLayer { pads: same, ..groups(512, 64, 64, &[14, 14], &[3, 3]) },
    ];
    for layer in layers {
        let pointwise = layer.kernel.iter().all(|k| *k == 1);
        let blocks = [((4, 4), "4x4")];
        let structures = SPATIAL.iter().chain(blocks.iter().filter(|_| pointwise));
        for (block, structure) in structures {
            runs_sparse(&ConvLayer { block: *block, density: 0.15, ..layer.clone() }, structure)?;
        }
    }
    Ok(())
}

#[test]
fn groups_of_odd_sizes_keep_their_figures() -> Result<()> {
    // Three filters a group: groups of four output channels reach across.
    let layer = ConvLayer { group: 10, pads: Pads::SameUpper, ..ConvLayer::new(30, 50, &[14, 14], &[3, 3]) };
    let layer = ConvLayer { density: 0.2, ..layer };
    let model = layer.model(5);
    with_knobs(&[("TRACT_SPARSE", "always")], || {
        let sparse = agree(&model, &[layer.noise(7)])?;
        assert_eq!(count(&sparse, "OptSparseConv"), 1);
        let report = Report::of(&onnx().model_for_proto_model(&model)?.into_typed()?)?;
        let layer = &report.layers[0];
        let weights = pruned(30, 45, (1, 1), 0.2, 5);
        let nnz = weights.iter().filter(|w| **w != 0.0).count();
        let dead = weights.chunks(45).filter(|row| row.iter().all(|w| *w == 0.0)).count();
        assert_eq!(layer.density, Some(nnz as f64 / weights.len() as f64));
        assert_eq!(layer.dead_oc, Some(dead));
        let packed = sparse.nodes().iter().find_map(|n| n.op_as::<tract_sparse::OptSparseConv>()).unwrap();
        assert_eq!((packed.packed()?.nnz(), packed.dense()), (nnz, weights.len()));
        assert_eq!(layer.structure.as_deref(), Some("unstructured"));
        Ok(())
    })
}

#[test]
fn products_of_any_rank_run_sparse_and_other_kernels_say_why_not() -> Result<()> {
    // convolutions over three axes: the second, 1x1x1 and pruned, is a product with a matrix
    let model = onnx().model_for_path(case("conv3d.onnx"))?;
    let typed = Report::of(&model.clone().into_typed()?)?;
    let decluttered = Report::of(&model.clone().into_typed()?.into_decluttered()?)?;
    let optimized = model.into_optimized()?;
    assert_eq!(count(&optimized, "OptSparseConv"), 1, "{:?}", op_names(&optimized));
    for report in [typed, decluttered] {
        assert_eq!((report.layers.len(), report.sparse_layers()), (4, 1));
        for layer in report.layers {
            let expected = (layer.name != "conv5_node").then_some("neither 1-D nor 2-D");
            assert_eq!(layer.reason.as_deref(), expected, "{}", layer.name);
        }
    }
    let x = noise(&[1, 16, 4, 9, 9], 3);
    let stock = tract_onnx::onnx().model_for_path(case("conv3d.onnx"))?.into_optimized()?;
    assert_same(&run(optimized, std::slice::from_ref(&x))?, &run(stock, &[x])?)
}

#[test]
fn transposed_convolutions_run_sparse() -> Result<()> {
    let up = |kernel: &[usize], stride: &[usize], pads: Pads| ConvLayer {
        transposed: true,
        stride: stride.to_vec(),
        pads,
        density: 0.15,
        ..ConvLayer::new(48, 64, &vec![12; kernel.len()], kernel)
    };
    let explicit = |pads: &[usize]| Pads::Explicit(pads.to_vec());
    let layers = [
        // taps never overlap
        up(&[2, 2], &[2, 2], explicit(&[0; 4])),
        up(&[4, 4], &[2, 2], explicit(&[1; 4])),
        up(&[3, 3], &[2, 2], explicit(&[1, 1, 0, 0])),
        ConvLayer { dilation: vec![2, 1], ..up(&[3, 2], &[1, 2], explicit(&[0; 4])) },
        ConvLayer { input: vec![100], ..up(&[8], &[4], explicit(&[2, 2])) },
        ConvLayer { input: vec![5; 3], ..up(&[2, 2, 2], &[2, 2, 2], explicit(&[0; 6])) },
    ];
    for layer in layers {
        let what = format!("{layer:?}");
        let model = layer.model(5);
        let sparse = agree(&model, &[layer.noise(7)]).context(what.clone())?;
        ensure!(count(&sparse, "OptSparseConv") == 1, "{what}: {:?}", op_names(&sparse));
        // sums of taps that meet are ours, for maps of one or two axes
        let meets = layer.kernel != layer.stride && layer.input.len() < 3;
        ensure!(count(&sparse, "PlanarCol2im") == usize::from(meets), "{what}: {:?}", op_names(&sparse));
        let mut typed = onnx().model_for_proto_model(&model)?.into_typed()?;
        let report = Report::of(&typed)?;
        let [found] = &*report.layers else { anyhow::bail!("{what}: {} layers", report.layers.len()) };
        ensure!(
            found.kind == Some(tract_sparse::LayerKind::Transposed) && found.chosen.is_some(),
            "{found:?}"
        );
        ensure!(found.density.is_some_and(|d| (d - 0.15).abs() < 0.05), "{what}: {:?}", found.density);
        ensure!(found.structure.as_deref() == Some("unstructured"), "{what}: {:?}", found.structure);
        // not optimised, and with the stock operator back in place
        let x = layer.noise(7);
        let (stock, _) = run_optimized(&tract_onnx::onnx(), &model, std::slice::from_ref(&x))?;
        assert_same(&run(typed.clone(), std::slice::from_ref(&x))?, &stock).context(what.clone())?;
        ensure!(tract_sparse::unsparsify(&mut typed)? == 1 && sparse_nodes(&typed) == 0, "{what}");
        assert_same(&run(typed, &[x])?, &stock).context(what)?;
    }
    Ok(())
}

#[test]
fn transposed_convolutions_with_groups_are_named() -> Result<()> {
    let layer = ConvLayer {
        group: 4,
        transposed: true,
        density: 0.15,
        stride: vec![2, 2],
        ..ConvLayer::new(48, 64, &[12, 12], &[2, 2])
    };
    let model = layer.model(5);
    assert_eq!(sparse_nodes(&agree(&model, &[layer.noise(7)])?), 0);
    let report = Report::of(&onnx().model_for_proto_model(&model)?.into_typed()?)?;
    assert_eq!(report.layers[0].reason.as_deref(), Some("transposed with channel groups"));
    assert!(report.layers[0].density.is_some_and(|density| density < 0.2));
    assert_eq!(report.layers[0].structure.as_deref(), Some("unstructured"));
    Ok(())
}

/// A pruned matrix or kernel behind other nodes.
fn behind(detour: &str, shape: &[usize], weights: &[f32], graph: &mut Graph) -> String {
    let transposed = |axes: &[usize]| {
        let tensor = Tensor::from_shape(shape, weights).unwrap().permute_axes(axes).unwrap();
        let values = tensor.to_plain_array_view::<f32>().unwrap().iter().copied().collect::<Vec<f32>>();
        (tensor.shape().to_vec(), values)
    };
    match detour {
        "Identity" => {
            let w = graph.constant(shape, weights);
            graph.op("Identity", &[&w], vec![])
        }
        "Transpose" => {
            let axes: Vec<usize> = (0..shape.len()).rev().collect();
            let (shape, values) = transposed(&axes);
            let w = graph.constant(&shape, &values);
            graph.op("Transpose", &[&w], vec![ints("perm", &axes)])
        }
        "Reshape" => {
            let w = graph.constant(&[weights.len()], weights);
            let to = tract_sparse::pb::TensorProto {
                name: "shape".into(),
                data_type: 7,
                dims: vec![shape.len() as i64],
                int64_data: shape.iter().map(|d| *d as i64).collect(),
                ..Default::default()
            };
            graph.initializer(to);
            graph.op("Reshape", &[&w, "shape"], vec![])
        }
        "Cast" => {
            // f64, which holds every f32
            let doubles = tract_sparse::pb::TensorProto {
                name: "doubles".into(),
                data_type: 11,
                dims: shape.iter().map(|d| *d as i64).collect(),
                double_data: weights.iter().map(|w| f64::from(*w)).collect(),
                ..Default::default()
            };
            graph.initializer(doubles);
            graph.op("Cast", &["doubles"], vec![int("to", 1)])
        }
        "DequantizeLinear" | "DequantizeLinear per channel" => {
            let integers = |name: &str, dims: Vec<i64>, values: Vec<u8>| tract_sparse::pb::TensorProto {
                name: name.into(),
                data_type: 3,
                dims,
                raw_data: values,
                ..Default::default()
            };
            let quantised = weights.iter().map(|w| (w * 127.0).round() as i8 as u8).collect();
            graph.initializer(integers("quantised", shape.iter().map(|d| *d as i64).collect(), quantised));
            if detour == "DequantizeLinear" {
                let scale = graph.constant(&[], &[1.0 / 127.0]);
                graph.initializer(integers("zero", vec![], vec![0]));
                graph.op("DequantizeLinear", &["quantised", &scale, "zero"], vec![])
            } else {
                let scales: Vec<f32> = values(shape[0], 3).iter().map(|v| (v + 2.0) / 127.0).collect();
                let scale = graph.constant(&[shape[0]], &scales);
                graph.initializer(integers("zero", vec![shape[0] as i64], vec![0; shape[0]]));
                graph.op("DequantizeLinear", &["quantised", &scale, "zero"], vec![int("axis", 0)])
            }
        }
        other => unreachable!("{other}"),
    }
}

const DETOURS: [&str; 6] =
    ["Identity", "Transpose", "Reshape", "Cast", "DequantizeLinear", "DequantizeLinear per channel"];

#[test]
fn weights_behind_other_nodes_run_sparse() -> Result<()> {
    // below and above the four megabytes up to which tract folds constants
    for (oc, ic) in [(128, 256), (1280, 1024)] {
        for detour in DETOURS {
            for op in ["Conv", "Gemm", "MatMul"] {
                let mut graph = Graph::default();
                let pixels = if op == "Conv" { vec![1, ic, 4, 4] } else { vec![3, ic] };
                let shape: Vec<String> = pixels.iter().map(usize::to_string).collect();
                let x = graph.input(&shape.join(","));
                // weights in the order of the operator
                let (shape, block) = match op {
                    "Conv" => (vec![oc, ic, 1, 1], (4, 4)),
                    "Gemm" => (vec![oc, ic], (4, 4)),
                    _ => (vec![ic, oc], (4, 4)),
                };
                let weights = pruned(shape[0], shape[1], block, 0.1, 1);
                let w = behind(detour, &shape, &weights, &mut graph);
                let attributes = if op == "Gemm" { vec![int("transB", 1)] } else { vec![] };
                let y = graph.op(op, &[&x, &w], attributes);
                let what = format!("{op} {oc}x{ic} behind {detour}");
                let model = graph.model(&[&y]);
                let x = noise(&pixels, 3);
                let sparse = agree(&model, std::slice::from_ref(&x)).context(what.clone())?;
                ensure!(count(&sparse, "OptSparseConv") == 1, "{what}: {:?}", op_names(&sparse));
                // through the late entry point, too
                let mut late = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?;
                let swapped = tract_sparse::sparsify(&mut late, &tract_sparse::Policy::from_knobs()?)?;
                ensure!(swapped == 1, "{what}: late, {swapped} layers");
                let late = late.into_optimized()?;
                ensure!(count(&late, "OptSparseConv") == 1, "{what}: late, {:?}", op_names(&late));
                let (stock, _) = run_optimized(&tract_onnx::onnx(), &model, std::slice::from_ref(&x))?;
                assert_same(&run(late, &[x])?, &stock).context(what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn dense_weights_behind_other_nodes_are_seen() -> Result<()> {
    let report = Report::of(&onnx().model_for_path(case("indirect_weights.onnx"))?.into_typed()?)?;
    assert_eq!(report.layers.len(), 3);
    for layer in report.layers {
        assert!(layer.density.is_some() && layer.reason.is_some_and(|r| r.starts_with("not pruned")));
    }
    Ok(())
}

/// Of one spatial axis: taps, stride, dilation, padding before and behind, input beyond the reach of the
/// kernel.
type Axis = (usize, usize, usize, usize, usize, usize);

/// A layer of few channels: what kernels do with ragged tiles, groups and edges matters, not what they gain.
fn any_layer() -> impl Strategy<Value = ConvLayer> {
    let axis = (1usize..6, 1usize..4, 1usize..4, 0usize..4, 0usize..4, 1usize..14);
    let structure = prop_oneof![Just((1, 1)), Just((2, 1)), Just((4, 1)), Just((8, 1)), Just((4, 4))];
    (
        prop::collection::vec(axis, 1..3),
        (1usize..5, 1usize..8, 1usize..8, 0..4),
        structure,
        0usize..3,
        0.0f64..0.6,
        prop::bool::ANY,
    )
        .prop_map(|(axes, (group, oc, ic, kind), block, pads, density, channels_last)| {
            let all = |f: fn(&Axis) -> usize| axes.iter().map(f).collect::<Vec<usize>>();
            let (kernel, dilation) = (all(|a| a.0), all(|a| a.2));
            // large enough for one output at least
            let input = axes.iter().map(|a| a.5 + (a.0 - 1) * a.2).collect();
            let pads = match pads {
                // as much as leaves an output of any input
                _ if kind == 0 => {
                    let half = axes.iter().map(|a| (a.3).min((a.0 - 1) * a.2 / 2)).collect::<Vec<_>>();
                    Pads::Explicit([&*half, &*half].concat())
                }
                0 => Pads::SameUpper,
                1 => Pads::SameLower,
                _ => Pads::Explicit([all(|a| a.3), all(|a| a.4)].concat()),
            };
            let (group, oc, ic) =
                if kind == 1 { (oc * ic, oc * ic, oc * ic) } else { (group, oc * group, ic * group) };
            ConvLayer {
                oc,
                ic,
                group,
                input,
                kernel,
                stride: all(|a| a.1),
                dilation,
                pads,
                block,
                density,
                channels_last,
                transposed: kind == 0,
            }
        })
}

#[test]
fn random_layers_answer_as_stock_on_every_target() -> Result<()> {
    let targets: Vec<String> = tract_sparse::Target::available().iter().map(|t| t.to_string()).collect();
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let (mut sparse, mut layers) = (Cell::new(0), Cell::new(0));
    let outcome = runner.run(&any_layer(), |layer| {
        let (model, x) = (layer.model(11), layer.noise(13));
        let Ok((stock, _)) = run_optimized(&tract_onnx::onnx(), &model, std::slice::from_ref(&x)) else {
            return Err(TestCaseError::reject("stock tract refuses it"));
        };
        layers.set(layers.get() + targets.len());
        for target in &targets {
            let ours = with_knobs(&[("TRACT_SPARSE", "always"), ("TRACT_SPARSE_TARGET", target)], || {
                let (ours, model) = run_optimized(&onnx(), &model, std::slice::from_ref(&x))?;
                assert_same(&ours, &stock)?;
                anyhow::Ok(sparse_nodes(&model))
            });
            let ours = ours.map_err(|error| TestCaseError::fail(format!("{target}: {error:#}")))?;
            sparse.set(sparse.get() + ours);
        }
        Ok(())
    });
    outcome.map_err(|error| anyhow::format_err!("{error}"))?;
    // many of them have enough zeros to run sparse: the comparison is not one of stock with itself
    let (sparse, layers) = (sparse.get_mut(), layers.get_mut());
    ensure!(*sparse * 3 > *layers, "{sparse} of {layers} layers ran sparse");
    Ok(())
}
