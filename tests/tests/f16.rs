//! Graphs of f16: sparse layers stay sparse, in f32 or in half precision, with conversions at the borders of the parts that
//! they make up and nowhere else.

use anyhow::Result;
use figures::{Agreement, HALF_TOLERANCE, TOLERANCE};
use tests::f16::{cast, in_f16, rounded};
use tests::graph::{Graph, pruned};
use tests::{count, noise, op_names, run, skipped, sparse_nodes, values, with_knobs};
use tract_sparse::pb::tensor_proto::DataType;
use tract_sparse::pb::{AttributeProto, ModelProto};
use tract_sparse::prelude::*;
use tract_sparse::tract_core::floats::FloatPrecisionTranslator;
use tract_sparse::tract_core::runtime::runtime_for_name;
use tract_sparse::tract_core::transform::{ModelTransform, get_transform};
use tract_sparse::{Report, Target};
use zoo::proto::{int, ints};
use zoo::{Network, Spec};

/// What an answer in f16 may differ from that of f32 on the same weights: inputs and outputs are rounded once, by at most
/// 2^-11 of them each, and what rounds the input moves the output as all layers together move it: by less than ten times as
/// much in the networks and graphs of these tests.
const ROUNDED: f64 = 11.0 / 2048.0;

fn always<R>(f: impl FnOnce() -> R) -> R {
    with_knobs(&[("TRACT_SPARSE", "always")], f)
}

fn stock(model: &ModelProto) -> Result<TypedModel> {
    tract_onnx::onnx().model_for_proto_model(model)?.into_optimized()
}

/// Fails unless the answers of `ours` to `x`, all in f16, are those of f32 on the weights that f16 has, and those of stock
/// tract in f16 as far as that is right.
fn assert_answers(name: &str, ours: &TypedModel, f32_model: &ModelProto, x: &Tensor) -> Result<()> {
    let narrow = cast(x, DatumType::F16)?;
    let got = run(ours.clone(), std::slice::from_ref(&narrow))?;
    let exact = run(stock(&rounded(f32_model)?)?, &[cast(&narrow, DatumType::F32)?])?;
    let theirs = run(stock(&in_f16(f32_model)?)?, &[narrow])?;
    for ((got, exact), theirs) in got.iter().zip(&exact).zip(&theirs) {
        assert_eq!((got.datum_type(), got.shape()), (DatumType::F16, exact.shape()), "{name}");
        let wide = cast(got, DatumType::F32)?;
        let ours = Agreement::of(exact, &wide, ROUNDED)?;
        assert!(ours.agrees, "{name}: {} from f32", ours.relative);
        let theirs = Agreement::of(&wide, &cast(theirs, DatumType::F32)?, HALF_TOLERANCE)?;
        assert!(theirs.agrees, "{name}: {} from stock tract", theirs.relative);
        println!("{name}: {:.5} from f32, {:.5} from stock tract", ours.relative, theirs.relative);
    }
    Ok(())
}

fn network(network: Network) -> Result<ModelProto> {
    let spec = Spec {
        hw: Some(64),
        width: 0.5,
        conv1x1: Some("4x4:0.5".parse()?),
        dwconv3x3: Some("3:9".parse()?),
        conv3x3: Some("5:9".parse()?),
        ..Spec::default()
    };
    zoo::build(network, &spec)
}

/// Every way in: a file of f16; tract's transform before ours, and behind it; the runtime.
fn loaded(f32_model: &ModelProto) -> Result<Vec<(&'static str, TypedModel)>> {
    let to_f16 = |mut model: TypedModel| -> Result<TypedModel> {
        get_transform("f32_to_f16")?.unwrap().transform(&mut model)?;
        Ok(model)
    };
    let file = in_f16(f32_model)?;
    let stock = || tract_onnx::onnx().model_for_proto_model(f32_model)?.into_typed()?.into_decluttered();
    let mut before = to_f16(stock()?)?;
    tract_sparse::sparsify(&mut before, &tract_sparse::Policy::from_knobs()?)?;
    let mut decluttered = to_f16(stock()?)?.into_decluttered()?;
    tract_sparse::sparsify(&mut decluttered, &tract_sparse::Policy::from_knobs()?)?;
    let behind = onnx().model_for_proto_model(f32_model)?.into_typed()?;
    let late = tract_onnx::onnx().model_for_proto_model(&file)?.into_typed()?;
    let runnable = runtime_for_name("cpu-sparse")?.unwrap().prepare(late)?;
    Ok(vec![
        ("file", onnx().model_for_proto_model(&file)?.into_optimized()?),
        ("transform, then ours", before.into_optimized()?),
        ("transform, simplified, then ours", decluttered.into_optimized()?),
        ("ours, then transform", to_f16(behind.clone())?.into_optimized()?),
        ("ours, simplified, then transform", to_f16(behind.into_decluttered()?)?.into_optimized()?),
        ("runtime", runnable.typed_model().unwrap().as_ref().clone()),
    ])
}

/// Networks of the zoo in f16 have as many sparse layers as in f32, and convert their input and their output alone.
#[test]
fn networks_stay_sparse() -> Result<()> {
    if tract_linalg::has_fp16() {
        skipped("f16", "where stock tract computes in f16, its layers stay in it");
        return Ok(());
    }
    for of in [
        Network::MobilenetV1,
        Network::MobilenetV2,
        Network::Resnet18,
        Network::MobilenetV3Large,
        Network::EfficientnetLite0,
    ] {
        let proto = network(of)?;
        always(|| -> Result<()> {
            let expected = sparse_nodes(&onnx().model_for_proto_model(&proto)?.into_optimized()?);
            for (way, model) in loaded(&proto)? {
                let name = format!("{of}, {way}");
                assert_eq!(sparse_nodes(&model), expected, "{name}: {:?}", op_names(&model));
                assert_eq!(count(&model, "Cast"), 2, "{name}: {:?}", op_names(&model));
                assert_answers(&name, &model, &proto, &noise(&[1, 3, 64, 64], 3))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// In half precision the layers of a model in f16 are those that run in half precision of the model in f32.
#[test]
fn half_precision_takes_layers_of_f16() -> Result<()> {
    let proto = network(Network::MobilenetV2)?;
    let x = noise(&[1, 3, 64, 64], 3);
    for target in Target::available().into_iter().filter(|target| target.half().is_some()) {
        let knobs = [
            ("TRACT_SPARSE", "always"),
            ("TRACT_SPARSE_TARGET", target.name()),
            ("TRACT_SPARSE_PRECISION", "half"),
        ];
        with_knobs(&knobs, || -> Result<()> {
            let half = |model: &TypedModel| Report::of(model).map(|report| report.half_layers());
            let expected = half(&onnx().model_for_proto_model(&proto)?.into_optimized()?)?;
            assert!(expected > 15);
            for (way, model) in loaded(&proto)? {
                let name = format!("{target}, {way}");
                assert_eq!(half(&model)?, expected, "{name}");
                let got = run(model, &[cast(&x, DatumType::F16)?])?;
                let exact = run(stock(&proto)?, std::slice::from_ref(&x))?;
                assert_eq!(got[0].datum_type(), DatumType::F16, "{name}");
                let agreement = Agreement::of(&exact[0], &cast(&got[0], DatumType::F32)?, HALF_TOLERANCE)?;
                assert!(agreement.agrees, "{name}: {}", agreement.relative);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The report says what the model has and what is computed, at every stage.
#[test]
fn the_report_says_which() -> Result<()> {
    let proto = network(Network::MobilenetV1)?;
    always(|| -> Result<()> {
        for (way, model) in loaded(&proto)? {
            let report = Report::of(&model)?;
            let here: Vec<_> = report.layers.iter().filter(|layer| layer.chosen.is_some()).collect();
            assert!(here.len() > 20, "{way}: {report}");
            for layer in here {
                assert_eq!(layer.model_type.as_deref(), Some("f16"), "{way}: {report}");
                assert_eq!(layer.precision.as_deref(), Some("f32"), "{way}: {report}");
            }
            assert!(report.to_string().contains("f16 in the model, computed in f32"), "{way}: {report}");
        }
        let model = onnx().model_for_proto_model(&in_f16(&proto)?)?.into_typed()?;
        assert!(Report::of(&model)?.to_string().contains("f16 in the model, computed in f32"));
        let model = onnx().model_for_proto_model(&proto)?.into_optimized()?;
        assert!(Report::of(&model)?.layers.iter().all(|layer| layer.model_type.is_none()));
        Ok(())
    })
}

/// Without a layer worth running sparse, a model in f16 is stock tract's to the last bit.
#[test]
fn dense_models_are_left_alone() -> Result<()> {
    let proto = in_f16(&zoo::build(Network::Resnet20, &Spec { width: 0.5, ..Spec::default() })?)?;
    let x = cast(&noise(&[1, 3, 32, 32], 3), DatumType::F16)?;
    let model = onnx().model_for_proto_model(&proto)?.into_optimized()?;
    assert_eq!((sparse_nodes(&model), count(&model, "Cast")), (0, 0));
    assert_eq!(run(model, std::slice::from_ref(&x))?, run(stock(&proto)?, &[x])?);
    Ok(())
}

fn to(data_type: DataType) -> Vec<AttributeProto> {
    vec![int("to", data_type as usize)]
}

/// A layer of f16 between layers of f32, and the other way round, with what stands between of either type.
fn mixed(outer: DataType) -> ModelProto {
    let inner = if outer == DataType::Float { DataType::Float16 } else { DataType::Float };
    let mut graph = Graph::default();
    let x = graph.input("N,16,10,10");
    let layer = |graph: &mut Graph, x: &str, seed: u64, of: DataType| {
        let w = graph.constant(&[16, 16, 1, 1], &pruned(16, 16, (4, 4), 0.5, seed));
        let w = graph.op("Cast", &[&w], to(of));
        graph.op("Conv", &[x, &w], vec![])
    };
    let x = graph.op("Cast", &[&x], to(outer));
    let a = layer(&mut graph, &x, 1, outer);
    let a = graph.op("Relu", &[&a], vec![]);
    let b = graph.op("Cast", &[&a], to(inner));
    let b = layer(&mut graph, &b, 2, inner);
    let b = graph.op("Sigmoid", &[&b], vec![]);
    let b = graph.op("Cast", &[&b], to(outer));
    let y = graph.op("Add", &[&a, &b], vec![]);
    let y = layer(&mut graph, &y, 3, outer);
    // counted in f16, and an output of its own
    let size = graph.op("Shape", &[&y], vec![]);
    let size = graph.op("Cast", &[&size], to(DataType::Float16));
    let y = graph.op("Cast", &[&y], to(DataType::Float16));
    graph.model(&[&y, &size])
}

#[test]
fn mixed_graphs_convert_once() -> Result<()> {
    let x = noise(&[2, 16, 10, 10], 7);
    for outer in [DataType::Float, DataType::Float16] {
        let proto = mixed(outer);
        let expected = run(stock(&proto)?, std::slice::from_ref(&x))?;
        let model = always(|| onnx().model_for_proto_model(&proto)?.into_optimized())?;
        assert_eq!(sparse_nodes(&model), 3, "{outer:?}: {:?}", op_names(&model));
        let got = run(model.clone(), std::slice::from_ref(&x))?;
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got.datum_type(), expected.datum_type());
            let agreement =
                Agreement::of(&cast(expected, DatumType::F32)?, &cast(got, DatumType::F32)?, HALF_TOLERANCE)?;
            assert!(agreement.agrees, "{outer:?}: {}", agreement.relative);
        }
        if !tract_linalg::has_fp16() {
            // the result, and the count
            assert!(count(&model, "Cast") <= 3, "{outer:?}: {:?}", op_names(&model));
        }
    }
    Ok(())
}

/// Transposed convolutions, strided layers, products and dense layers between, in every order of transforms.
#[test]
fn layers_of_every_kind_stay_sparse() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,16,12,12");
    let w = graph.constant(&[16, 16, 1, 1], &pruned(16, 16, (4, 4), 0.5, 1));
    let y = graph.op("Conv", &[&x, &w], vec![ints("strides", &[2, 2])]);
    let scale = graph.constant(&[1, 16, 1, 1], &values(16, 5));
    let y = graph.op("Mul", &[&y, &scale], vec![]);
    let w = graph.constant(&[16, 16, 2, 2], &pruned(16, 64, (1, 4), 0.4, 2));
    let y = graph.op("ConvTranspose", &[&y, &w], vec![ints("strides", &[2, 2])]);
    let w =
        graph.constant(&[16, 16, 3, 3], &values(16 * 144, 3).iter().map(|w| w / 12.0).collect::<Vec<_>>());
    let y = graph.op("Conv", &[&y, &w], vec![ints("pads", &[1; 4])]);
    let y = graph.op("Relu", &[&y], vec![]);
    let y = graph.op("MaxPool", &[&y], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
    let y = graph.op("Flatten", &[&y], vec![]);
    let w = graph.constant(&[576, 24], &pruned(576, 24, (4, 4), 0.5, 4));
    let y = graph.op("MatMul", &[&y, &w], vec![]);
    let y = graph.op("Softmax", &[&y], vec![]);
    let proto = graph.model(&[&y]);
    always(|| -> Result<()> {
        for (way, model) in loaded(&proto)? {
            assert!(sparse_nodes(&model) >= 3, "{way}: {:?}", op_names(&model));
            assert_answers(way, &model, &proto, &noise(&[1, 16, 12, 12], 9))?;
        }
        Ok(())
    })
}

/// Names of inputs and outputs stay with their values, which stay in f16, inner values that are outputs, too.
#[test]
fn the_interface_stays_in_f16() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("N,16,9,9");
    let w = graph.constant(&[16, 16, 1, 1], &pruned(16, 16, (4, 4), 0.5, 1));
    let a = graph.op("Conv", &[&x, &w], vec![]);
    let b = graph.op("Relu", &[&a], vec![]);
    let c = graph.op("Conv", &[&b, &w], vec![]);
    let proto = graph.model(&[&a, &b, &c]);
    always(|| -> Result<()> {
        let in_f32 = onnx().model_for_proto_model(&proto)?.into_optimized()?;
        for (way, model) in loaded(&proto)? {
            for outlet in model.input_outlets()?.iter().chain(model.output_outlets()?) {
                assert_eq!(model.outlet_fact(*outlet)?.datum_type, DatumType::F16, "{way}");
            }
            let names = |model: &TypedModel| -> Result<Vec<String>> {
                Ok(model.output_outlets()?.iter().map(|y| model.node(y.node).name.clone()).collect())
            };
            assert_eq!(names(&model)?, names(&in_f32)?, "{way}");
            assert_eq!(sparse_nodes(&model), 2, "{way}: {:?}", op_names(&model));
            assert_answers(way, &model, &proto, &noise(&[2, 16, 9, 9], 3))?;
        }
        Ok(())
    })
}

/// Weights that f16 has no number for are infinite in it: the layer is stock tract's, and nothing fails.
#[test]
fn weights_out_of_range_stay_stock() -> Result<()> {
    let mut weights = pruned(16, 16, (4, 4), 0.5, 1);
    let some = weights.iter().position(|w| *w != 0.0).unwrap();
    weights[some] = 1e5;
    let mut graph = Graph::default();
    let x = graph.input("1,16,9,9");
    let w = graph.constant(&[16, 16, 1, 1], &weights);
    let y = graph.op("Conv", &[&x, &w], vec![]);
    let w = graph.constant(&[16, 16, 1, 1], &pruned(16, 16, (4, 4), 0.5, 2));
    let z = graph.op("Conv", &[&x, &w], vec![]);
    let proto = graph.model(&[&y, &z]);
    always(|| -> Result<()> {
        for (way, model) in loaded(&proto)? {
            assert_eq!(sparse_nodes(&model), 1, "{way}: {:?}", op_names(&model));
            let y = run(model, &[cast(&noise(&[1, 16, 9, 9], 3), DatumType::F16)?])?;
            assert!(y.iter().all(|y| y.datum_type() == DatumType::F16), "{way}");
        }
        Ok(())
    })
}

/// A transform that leaves some nodes in f32 makes a mixed graph of ours.
#[test]
fn a_filtered_transform_keeps_layers_sparse() -> Result<()> {
    let proto = network(Network::MobilenetV1)?;
    let x = noise(&[1, 3, 64, 64], 3);
    always(|| -> Result<()> {
        let sparse = onnx().model_for_proto_model(&proto)?.into_typed()?.into_decluttered()?;
        let expected = sparse_nodes(&sparse.clone().into_optimized()?);
        let mut model = sparse;
        let filter = |node: &TypedNode| !node.id.is_multiple_of(3);
        FloatPrecisionTranslator::with_filter(DatumType::F32, DatumType::F16, filter)
            .transform(&mut model)?;
        let model = model.into_optimized()?;
        assert_eq!(sparse_nodes(&model), expected, "{:?}", op_names(&model));
        let got = run(model, &[cast(&x, DatumType::F16)?])?;
        let exact = run(stock(&proto)?, std::slice::from_ref(&x))?;
        let agreement = Agreement::of(&exact[0], &cast(&got[0], DatumType::F32)?, ROUNDED + TOLERANCE)?;
        assert!(agreement.agrees, "{}", agreement.relative);
        Ok(())
    })
}

/// A fully connected layer with a bias, which stock tract 0.23.9 refuses in f16, is loaded, pruned or not.
#[test]
fn products_with_a_bias_are_loaded() -> Result<()> {
    for density in [0.4, 1.0] {
        let mut graph = Graph::default();
        let x = graph.input("3,32");
        let w = graph.constant(&[24, 32], &pruned(24, 32, (4, 4), density, 1));
        let b = graph.constant(&[24], &values(24, 2));
        let y = graph.op("Gemm", &[&x, &w, &b], vec![int("transB", 1)]);
        let y = graph.op("Relu", &[&y], vec![]);
        let proto = graph.model(&[&y]);
        // the copy that has no `Gemm` is for stock tract
        let mut f16_model = in_f16(&proto)?;
        f16_model.graph.as_mut().unwrap().node = proto.graph.as_ref().unwrap().node.clone();
        assert!(stock(&f16_model).is_err(), "stock tract loads it by now: this is to go");
        let model = always(|| onnx().model_for_proto_model(&f16_model)?.into_optimized())?;
        assert_eq!(sparse_nodes(&model), (density < 1.0) as usize);
        assert_answers("Gemm", &model, &proto, &noise(&[3, 32], 3))?;
    }
    Ok(())
}
