//! Half precision: clusters on pairs of channels, with conversions at their borders and nowhere else.

use anyhow::Result;
use figures::{Agreement, HALF_TOLERANCE, top_1};
use sparse_kernels::table::Element;
use sparse_ops::layers;
use tests::graph::{Graph, pruned};
use tests::models::real_models;
use tests::{count, models_dir, noise, npy, op_names, run, skipped, values, with_knobs};
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::{RunOptions, multithread::Executor};
use tract_sparse::tract_core::ops::konst::Const;
use tract_sparse::tract_core::runtime::runtime_for_name;
use tract_sparse::tract_core::transform::get_transform;
use tract_sparse::{Onnx, OptSparseConv, Precision, Report, Target};
use zoo::proto::{int, ints};
use zoo::{Network, Spec};

/// Runs everything that has kernels in half precision, whatever the times.
fn always<R>(target: &str, f: impl FnOnce() -> R) -> R {
    let knobs =
        [("TRACT_SPARSE", "always"), ("TRACT_SPARSE_TARGET", target), ("TRACT_SPARSE_PRECISION", "half")];
    with_knobs(&knobs, f)
}

/// Names of the targets that compute in half precision here.
fn targets() -> Vec<&'static str> {
    Target::available().into_iter().filter(|target| target.half().is_some()).map(Target::name).collect()
}

/// Fails if pairs come from f32 that came from pairs.
fn assert_borders(model: &TypedModel) {
    for node in model.nodes() {
        if &*node.op.name() == "ToPairs" {
            let before = model.node(node.inputs[0].node);
            assert_ne!(&*before.op.name(), "FromPairs", "{node}, behind {before}");
        }
    }
}

/// Layers on pairs, each of which has a kernel for pairs.
fn in_pairs(model: &TypedModel) -> usize {
    let layers = model.nodes().iter().filter_map(layers).flatten();
    let half = layers.filter(|layer| layer.half().is_some());
    half.inspect(|layer| {
        assert_eq!(layer.packed().unwrap().kernel().element, Element::Bf16, "{}", layer.layer())
    })
    .count()
}

/// The optimised model in half precision, after it has been compared with stock tract.
fn compared(model: &ModelProto, x: &Tensor) -> Result<TypedModel> {
    let stock = run(tract_onnx_model(model)?, std::slice::from_ref(x))?;
    let half = onnx().model_for_proto_model(model)?.into_optimized()?;
    let got = run(half.clone(), std::slice::from_ref(x))?;
    for (got, expected) in got.iter().zip(&stock) {
        let agreement = Agreement::of(expected, got, HALF_TOLERANCE)?;
        assert!(agreement.agrees, "differs by {} in {:?}", agreement.relative, op_names(&half));
    }
    assert_borders(&half);
    Ok(half)
}

fn tract_onnx_model(model: &ModelProto) -> Result<TypedModel> {
    tract_onnx::onnx().model_for_proto_model(model)?.into_optimized()
}

/// Networks of the zoo are one cluster each: one conversion into it and one out of it.
#[test]
fn networks_are_one_cluster() -> Result<()> {
    for (network, conversions) in [
        (Network::MobilenetV1, Some([1, 1])),
        (Network::MobilenetV2, Some([1, 1])),
        (Network::Resnet18, Some([1, 1])),
        (Network::Resnet20, Some([1, 1])),
        (Network::MobilenetV3Large, None),
        (Network::EfficientnetLite0, None),
    ] {
        let spec = Spec {
            hw: Some(64),
            width: 0.5,
            conv1x1: Some("4x4:0.5".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            conv3x3: Some("5:9".parse()?),
            ..Spec::default()
        };
        let proto = zoo::build(network, &spec)?;
        for target in targets() {
            let model = always(target, || compared(&proto, &noise(&[1, 3, 64, 64], 3)))?;
            assert!(in_pairs(&model) >= 15, "{network} on {target}: {:?}", op_names(&model));
            if let Some(expected) = conversions {
                let found = [count(&model, "ToPairs"), count(&model, "FromPairs")];
                assert_eq!(found, expected, "{network} on {target}: {:?}", op_names(&model));
            }
        }
    }
    Ok(())
}

/// Kernels over all channels: a picture of three, whose third shares lanes row by row, channel groups of odd size, dilation,
/// a function that kernels do not fuse, and a residual.
#[test]
fn spatial_layers_run_on_pairs() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("N,3,33,30");
    let w = graph.constant(&[13, 3, 7, 7], &pruned(13, 3 * 49, (1, 1), 0.5, 1));
    let a = graph.op("Conv", &[&x, &w], vec![ints("strides", &[2; 2]), ints("pads", &[3; 4])]);
    let a = graph.op("HardSwish", &[&a], vec![]);
    let w = graph.constant(&[10, 13, 3, 3], &pruned(10, 13 * 9, (2, 1), 0.5, 2));
    let b = graph.op("Conv", &[&a, &w], vec![ints("pads", &[1; 4])]);
    let b = graph.op("Relu", &[&b], vec![]);
    let w = graph.constant(&[10, 5, 3, 3], &pruned(10, 5 * 9, (1, 1), 0.5, 3));
    let c = graph.op("Conv", &[&b, &w], vec![ints("pads", &[1; 4]), int("group", 2)]);
    let c = graph.op("Add", &[&c, &b], vec![]);
    let c = graph.op("Sigmoid", &[&c], vec![]);
    let w = graph.constant(&[7, 10, 3, 3], &pruned(7, 10 * 9, (1, 1), 0.5, 4));
    let y = graph.op("Conv", &[&c, &w], vec![ints("dilations", &[2, 1])]);
    let model = graph.model(&[&y]);
    for target in targets() {
        for images in [1, 2] {
            let half = always(target, || compared(&model, &noise(&[images, 3, 33, 30], 5)))?;
            assert_eq!(in_pairs(&half), 4, "{target}: {:?}", op_names(&half));
            assert_eq!([count(&half, "ToPairs"), count(&half, "FromPairs")], [1, 1]);
        }
    }
    Ok(())
}

/// A layer, and what may stand between layers, with channels of odd number.
fn between(op: &str) -> ModelProto {
    let mut graph = Graph::default();
    let x = graph.input("N,16,10,10");
    let conv = |graph: &mut Graph, x: &str, oc: usize, ic: usize, seed| {
        let w = graph.constant(&[oc, ic, 1, 1], &pruned(oc, ic, (1, 1), 0.5, seed));
        graph.op("Conv", &[x, &w], vec![])
    };
    let a = conv(&mut graph, &x, 13, 16, 1);
    let b = conv(&mut graph, &x, if op == "Concat" { 12 } else { 13 }, 16, 2);
    let (y, channels) = match op {
        "Concat" => (graph.op("Concat", &[&b, &a], vec![int("axis", 1)]), 25),
        "MaxPool" => {
            let [kernel, strides] = ["kernel_shape", "strides"].map(|name| ints(name, &[2, 2]));
            (graph.op("MaxPool", &[&a], vec![kernel, strides]), 13)
        }
        "AveragePool" => (graph.op("AveragePool", &[&a], vec![ints("kernel_shape", &[3, 3])]), 13),
        "Gate" => {
            let mean = graph.op("GlobalAveragePool", &[&a], vec![]);
            let gate = conv(&mut graph, &mean, 13, 13, 3);
            let gate = graph.op("Sigmoid", &[&gate], vec![]);
            (graph.op("Mul", &[&a, &gate], vec![]), 13)
        }
        "Sigmoid" => {
            let sum = graph.op("Mul", &[&a, &b], vec![]);
            (graph.op("Sigmoid", &[&sum], vec![]), 13)
        }
        op => (graph.op(op, &[&a, &b], vec![]), 13),
    };
    let y = conv(&mut graph, &y, 5, channels, 4);
    graph.model(&[&y])
}

#[test]
fn what_stands_between_runs_on_pairs() -> Result<()> {
    for op in ["Add", "Sub", "Mul", "Concat", "MaxPool", "AveragePool", "Gate", "Sigmoid"] {
        for target in targets() {
            for images in [1, 2] {
                let model = always(target, || compared(&between(op), &noise(&[images, 16, 10, 10], 5)))?;
                let found = [count(&model, "ToPairs"), count(&model, "FromPairs")];
                assert_eq!(found, [1, 1], "{op} on {target}: {:?}", op_names(&model));
                assert!(in_pairs(&model) >= 2, "{op}");
            }
        }
    }
    Ok(())
}

/// Layers with large maps of pairs between them are one operator, which runs them band by band.
#[test]
fn large_maps_of_pairs_are_never_written_as_a_whole() -> Result<()> {
    let Some(map) = sparse_kernels::chain::large_map() else {
        skipped("half", "no second-level cache is known here");
        return Ok(());
    };
    // the map between has 31 channels, two in each lane
    let large = (1..).find(|side| 31 * side * side >= 2 * map).unwrap();
    for target in targets().into_iter().filter(|target| *target != "scalar") {
        for (side, chains) in [(large, 1), (large / 2, 0)] {
            let mut graph = Graph::default();
            let x = graph.input(&format!("N,16,{side},{side}"));
            let w = graph.constant(&[31, 16, 1, 1], &pruned(31, 16, (1, 1), 0.5, 1));
            let wide = graph.op("Conv", &[&x, &w], vec![]);
            let wide = graph.op("Relu", &[&wide], vec![]);
            let w = graph.constant(&[31, 1, 3, 3], &values(31 * 9, 3));
            let deep = graph.op("Conv", &[&wide, &w], vec![int("group", 31), ints("pads", &[1; 4])]);
            let w = graph.constant(&[16, 31, 1, 1], &pruned(16, 31, (1, 1), 0.5, 4));
            let y = graph.op("Conv", &[&deep, &w], vec![]);
            let y = graph.op("Add", &[&y, &x], vec![]);
            let proto = graph.model(&[&y]);
            for images in [1, 2] {
                let model = always(target, || compared(&proto, &noise(&[images, 16, side, side], 5)))?;
                assert_eq!(in_pairs(&model), 3, "{:?}", op_names(&model));
                assert_eq!(count(&model, "OptSparseChain"), chains, "{:?}", op_names(&model));
            }
        }
    }
    Ok(())
}

#[test]
fn without_the_word_nothing_changes() -> Result<()> {
    let proto = between("Add");
    let model =
        with_knobs(&[("TRACT_SPARSE", "always")], || onnx().model_for_proto_model(&proto)?.into_optimized())?;
    assert_eq!((in_pairs(&model), count(&model, "ToPairs")), (0, 0), "{:?}", op_names(&model));
    Ok(())
}

/// The loader, the transform and the runtime take the word without a knob.
#[test]
fn the_word_comes_in_everywhere() -> Result<()> {
    let proto = between("Add");
    with_knobs(&[("TRACT_SPARSE", "always"), ("TRACT_SPARSE_TARGET", "scalar")], || -> Result<()> {
        let loaded = |onnx: Onnx| Ok(in_pairs(&onnx.model_for_proto_model(&proto)?.into_optimized()?));
        let of = |half| onnx().with_precision(half);
        let found: Result<Vec<usize>> =
            [of(Precision::Half), of(Precision::Half).with_precision(Precision::F32), onnx()]
                .map(loaded)
                .into_iter()
                .collect();
        assert_eq!(found?, [3, 0, 0]);
        let knob = [("TRACT_SPARSE_PRECISION", "half")];
        assert_eq!(with_knobs(&knob, || loaded(of(Precision::F32)))?, 0, "the loader has the last word");

        let mut model = tract_onnx::onnx().model_for_proto_model(&proto)?.into_typed()?.into_decluttered()?;
        get_transform("sparsify_half")?.unwrap().transform(&mut model)?;
        assert_eq!(in_pairs(&model.into_optimized()?), 3);

        let model = tract_onnx::onnx().model_for_proto_model(&proto)?.into_typed()?;
        let runnable = runtime_for_name("cpu-sparse-half")?.unwrap().prepare(model)?;
        assert_eq!(in_pairs(runnable.typed_model().unwrap()), 3);
        Ok(())
    })
}

/// A machine or a target without kernels runs f32, and the report says so.
#[test]
fn a_target_without_kernels_runs_f32() -> Result<()> {
    let Some(target) = Target::available().into_iter().find(|target| target.half().is_none()) else {
        skipped("half", "all targets of this machine have half precision");
        return Ok(());
    };
    always(target.name(), || -> Result<()> {
        let model = onnx().model_for_proto_model(&between("Add"))?.into_optimized()?;
        assert_eq!(in_pairs(&model), 0);
        let report = Report::of(&model)?;
        let note = report.precision_note.clone().unwrap_or_default();
        assert!(note.contains(target.name()) && note.contains("f32"), "{note}");
        let why =
            report.layers.iter().filter(|layer| layer.chosen.is_some()).map(|layer| layer.why_f32.as_deref());
        assert!(why.clone().count() > 0 && why.clone().all(|why| why == Some(&*note)), "{report}");
        assert!(report.to_string().contains("half precision: no kernels"), "{report}");
        Ok(())
    })
}

#[test]
fn the_report_says_what_runs_in_which_type() -> Result<()> {
    for target in targets() {
        always(target, || -> Result<()> {
            let model = onnx().model_for_proto_model(&between("Gate"))?.into_optimized()?;
            let report = Report::of(&model)?;
            for layer in &report.layers {
                assert_eq!(layer.precision.as_deref(), Some("bf16"), "{report}");
                assert_eq!(layer.why_f32, None);
            }
            assert!(report.to_string().contains("half precision: 3 of the 3 layers"), "{report}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A picture as a bitmap of 24 bits has it, brought to 224 by 224 pixels by leaving some out: values in -1..1, in the
/// order of the input of this shape.
fn picture(path: &std::path::Path, shape: &[usize]) -> Result<Tensor> {
    let bytes = std::fs::read(path)?;
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (start, width, height) = (number(10), number(18), number(22));
    let stride = (3 * width).next_multiple_of(4);
    let last = shape[3] == 3;
    let side = if last { shape[1] } else { shape[2] };
    let mut values = vec![0f32; 3 * side * side];
    for y in 0..side {
        for x in 0..side {
            let row = height - 1 - y * height / side;
            let pixel = start + row * stride + 3 * (x * width / side);
            for channel in 0..3 {
                let at = if last { (y * side + x) * 3 + channel } else { (channel * side + y) * side + x };
                values[at] = bytes[pixel + 2 - channel] as f32 / 127.5 - 1.0;
            }
        }
    }
    Tensor::from_shape(shape, &values)
}

/// Photographs are of the same class.
#[test]
fn photographs_keep_their_class() -> Result<()> {
    let Some(dir) = models_dir() else {
        skipped("half", "the folder of real models is not there");
        return Ok(());
    };
    let (_, proto, shape) =
        real_models()?.into_iter().find(|(name, ..)| name.starts_with("mobilenet_v2")).unwrap();
    for photo in ["cat.bmp", "grace_hopper.bmp"] {
        let x = picture(&dir.join("inputs").join(photo), &shape)?;
        let stock = run(tract_onnx_model(&proto)?, std::slice::from_ref(&x))?;
        for target in targets() {
            let knobs = [
                ("TRACT_SPARSE", "dense"),
                ("TRACT_SPARSE_TARGET", target),
                ("TRACT_SPARSE_PRECISION", "half"),
            ];
            let model = with_knobs(&knobs, || onnx().model_for_proto_model(&proto)?.into_optimized())?;
            let got = run(model, std::slice::from_ref(&x))?;
            assert_eq!(top_1(&stock[0], &got[0])?, Some(1.0), "{photo} on {target}");
        }
    }
    Ok(())
}

/// Bytes of the packed weights of a model without its classifier, which keeps f32, and of its constants.
fn weights(model: &TypedModel) -> [usize; 2] {
    let packed = model.nodes().iter().filter_map(layers).flatten();
    let packed =
        packed.filter(|layer| !layer.layer().starts_with("fc")).map(|layer| layer.packed().unwrap().bytes());
    let konst = |node: &TypedNode| node.op_as::<Const>().map(|konst| konst.val().len() * 4);
    [packed.sum(), model.nodes().iter().filter_map(konst).sum()]
}

/// A model that is ready to run holds weights of one type alone: of layers in half precision half as many bytes, and no
/// copy in f32.
#[test]
fn weights_take_half_of_the_memory() -> Result<()> {
    let spec = Spec {
        hw: Some(64),
        conv1x1: Some("4x4:0.5".parse()?),
        dwconv3x3: Some("3:9".parse()?),
        ..Spec::default()
    };
    let proto = zoo::build(Network::MobilenetV1, &spec)?;
    for target in targets() {
        let model = |precision: &str| {
            let knobs = [
                ("TRACT_SPARSE", "always"),
                ("TRACT_SPARSE_TARGET", target),
                ("TRACT_SPARSE_PRECISION", precision),
            ];
            with_knobs(&knobs, || onnx().model_for_proto_model(&proto)?.into_optimized())
        };
        let (full, half) = (model("f32")?, model("half")?);
        assert!(in_pairs(&half) > 20, "{target}");
        let ([full_bytes, _], [half_bytes, constants]) = (weights(&full), weights(&half));
        println!("{target}: {full_bytes} bytes of weights in f32, {half_bytes} in half precision");
        // indices, one for every block, take what they took
        assert!(half_bytes as f64 <= 0.6 * full_bytes as f64, "{target}: {half_bytes} of {full_bytes}");
        assert!(constants < full_bytes / 100, "{target}: {constants} bytes of constants");
    }
    Ok(())
}

/// Threads share planes and parts, and change no bit.
#[test]
fn threads_do_not_change_the_answers() -> Result<()> {
    let spec = Spec {
        hw: Some(96),
        conv1x1: Some("4x4:0.5".parse()?),
        dwconv3x3: Some("3:9".parse()?),
        ..Spec::default()
    };
    let proto = zoo::build(Network::MobilenetV2, &spec)?;
    let x = noise(&[1, 3, 96, 96], 3).into_tvalue();
    for target in targets() {
        let model = always(target, || onnx().model_for_proto_model(&proto)?.into_optimized())?;
        assert!(in_pairs(&model) > 30);
        let answer = |threads: usize| -> Result<TValue> {
            let options =
                RunOptions { executor: Some(Executor::multithread(threads)), ..RunOptions::default() };
            let plan = model.clone().into_runnable_with_options(&options)?;
            Ok(plan.run(tvec!(x.clone()))?.remove(0))
        };
        assert_eq!(answer(1)?, answer(3)?, "{target}");
    }
    Ok(())
}

/// The root of the mean square of the differences, over that of the values.
fn rms(expected: &Tensor, got: &Tensor) -> Result<f64> {
    let [expected, got] = [expected, got].map(|tensor| tensor.cast_to::<f64>());
    let (expected, got) = (expected?, got?);
    let (expected, got) =
        (expected.try_as_plain_ram()?.as_slice::<f64>()?, got.try_as_plain_ram()?.as_slice::<f64>()?);
    let squares: f64 = expected.iter().map(|v| v * v).sum();
    let differences: f64 = expected.iter().zip(got).map(|(a, b)| (a - b) * (a - b)).sum();
    Ok((differences / squares.max(f64::MIN_POSITIVE)).sqrt())
}

/// What the mean error of an output may be: [`HALF_TOLERANCE`] without the factor of five for the largest error of many,
/// and again twice what independent errors of fifty layers add up to.
const MEAN_ERROR: f64 = HALF_TOLERANCE / 5.0 * 2.0;

/// Real networks, pruned or not, with and without zeros on our kernels: the same classes, and errors of rounding alone.
#[test]
fn real_networks_keep_their_answers() -> Result<()> {
    for (name, proto, shape) in real_models()? {
        let x = npy(&models_dir().unwrap().join("golden").join(format!("{name}.input.npy")))?;
        assert_eq!(x.shape(), &*shape, "{name}");
        let stock = run(tract_onnx_model(&proto)?, std::slice::from_ref(&x))?;
        for target in targets() {
            let knobs = [
                ("TRACT_SPARSE", "dense"),
                ("TRACT_SPARSE_TARGET", target),
                ("TRACT_SPARSE_PRECISION", "half"),
            ];
            let (model, got) = with_knobs(&knobs, || -> Result<_> {
                let model = onnx().model_for_proto_model(&proto)?.into_optimized()?;
                Ok((model.clone(), run(model, std::slice::from_ref(&x))?))
            })?;
            assert_borders(&model);
            for (at, (got, expected)) in got.iter().zip(&stock).enumerate() {
                let agreement = Agreement::of(expected, got, HALF_TOLERANCE)?;
                println!(
                    "{name} on {target}, output {at}: {} layers in pairs, rms {:.4}, largest {:.4}, top-1 {:?}",
                    in_pairs(&model),
                    rms(expected, got)?,
                    agreement.relative,
                    top_1(expected, got)?
                );
                assert!(
                    agreement.agrees,
                    "{name} on {target}: output {at} differs by {}",
                    agreement.relative
                );
                // one number has no mean; the relative error of a small score, behind a sigmoid, is the absolute error of
                // what the sigmoid was given, which the bound for single values above has
                if expected.len() > 1 {
                    assert!(rms(expected, got)? <= MEAN_ERROR, "{name} on {target}, output {at}");
                }
                // one answer for the whole picture
                if expected.len() >= 10 && expected.shape().last() == Some(&expected.len()) {
                    assert_eq!(top_1(expected, got)?, Some(1.0), "{name} on {target}");
                }
            }
        }
    }
    Ok(())
}

/// Finite numbers that are infinite in bf16.
#[test]
fn weights_out_of_range_run_in_f32() -> Result<()> {
    let pointwise = pruned(16, 16, (4, 4), 0.5, 1);
    let left_is_zero = |(i, w): (usize, f32)| if i % 3 == 0 { 0.0 } else { w };
    let depthwise = values(16 * 9, 1).into_iter().enumerate().map(left_is_zero).collect();
    for (mut weights, group, side) in [(pointwise, 1, 1), (depthwise, 16, 3)] {
        let mut graph = Graph::default();
        let x = graph.input("1,16,9,9");
        let some = weights.iter().position(|w| *w != 0.0).unwrap();
        weights[some] = 3.4e38;
        let w = graph.constant(&[16, 16 / group, side, side], &weights);
        let y = graph.op("Conv", &[&x, &w], vec![int("group", group)]);
        let model = graph.model(&[&y]);
        for target in targets() {
            let half = always(target, || onnx().model_for_proto_model(&model)?.into_optimized())?;
            assert_eq!((in_pairs(&half), count(&half, "OptSparseConv")), (0, 1), "{target}, {group} groups");
            let report = Report::of(&half)?;
            let why = format!("{report:?}");
            assert!(why.contains("too large for the numbers of half precision"), "{why}");
        }
    }
    Ok(())
}

/// Two classifiers whose product is the result.
#[test]
fn what_becomes_a_result_keeps_the_digits_of_f32() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,16,6,6");
    let layer = |graph: &mut Graph, x: &str, oc: usize, ic: usize, seed: u64| {
        let w = graph.constant(&[oc, ic, 1, 1], &pruned(oc, ic, (4, 4), 0.5, seed));
        graph.op("Conv", &[x, &w], vec![])
    };
    let deep = layer(&mut graph, &x, 32, 16, 1);
    let deep = graph.op("Relu", &[&deep], vec![]);
    let pixel = graph.op("GlobalAveragePool", &[&deep], vec![]);
    let (a, b) = (layer(&mut graph, &pixel, 24, 32, 2), layer(&mut graph, &pixel, 24, 32, 3));
    let y = graph.op("Mul", &[&a, &b], vec![]);
    let model = graph.model(&[&y]);
    for target in targets() {
        let half = always(target, || compared(&model, &noise(&[1, 16, 6, 6], 1)))?;
        let layers = half.nodes().iter().filter_map(|node| node.op_as::<OptSparseConv>());
        let full = layers.filter(|layer| layer.half().is_none()).count();
        assert_eq!(full, 2, "{target}: {:?}", op_names(&half));
    }
    Ok(())
}
