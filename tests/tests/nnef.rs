//! Models in NNEF files: compact weights come back as they were, in every network, and the same kernels run
//! them.

use anyhow::Result;
use rewriter::{Halved, Values, halve};
use tests::f16::{cast, in_f16};
use tests::graph::{Graph, pruned};
use tests::models::{real_models, zoo_models};
use tests::{TOLERANCE, distance, noise, run};
use tract_nnef::internal::Nnef;
use tract_onnx::WithOnnx;
use tract_onnx::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::ops::einsum::EinSum;
use tract_sparse::tract_core::ops::konst::Const;
use tract_sparse::{Policy, Report, sparsify, unsparsify};
use zoo::proto::{ints, string};
use zoo::{Network, Spec};

fn plain() -> Nnef {
    tract_nnef::nnef().with_onnx()
}

/// The model as stock tract simplifies it.
fn decluttered(model: &ModelProto, shape: &[usize]) -> Result<TypedModel> {
    let model = tract_onnx::onnx().model_for_proto_model(model)?;
    model.with_input_fact(0, f32::fact(shape).into())?.into_typed()?.into_decluttered()
}

fn tar(nnef: &Nnef, model: &TypedModel) -> Result<Vec<u8>> {
    nnef.write_to_tar_with_config(model, vec![], false, true)
}

fn read(nnef: &Nnef, bytes: &[u8]) -> Result<TypedModel> {
    nnef.model_for_read(&mut &*bytes)?.into_decluttered()
}

/// Zeros of the f32 constants of rank 2 and more, which are weights.
fn zeros(model: &TypedModel) -> Result<usize> {
    let mut zeros = 0;
    for konst in model.nodes().iter().filter_map(|node| node.op_as::<Const>()) {
        if konst.val().datum_type() == f32::datum_type() && konst.val().rank() > 1 {
            zeros += konst.val().to_plain_array_view::<f32>()?.iter().filter(|v| **v == 0.0).count();
        }
    }
    Ok(zeros)
}

/// Shape, zeros and kernel of every layer.
fn layers(model: &TypedModel) -> Result<Vec<String>> {
    let layers = Report::of(model)?.layers.into_iter();
    Ok(layers.map(|l| format!("{}>{} {} {:?} {:?}", l.ic, l.oc, l.kernel, l.density, l.chosen)).collect())
}

#[test]
fn every_network_comes_back_as_it_was() -> Result<()> {
    for (name, dense, shape) in real_models()?.into_iter().chain(zoo_models()?) {
        let mut pruned = dense.clone();
        prune::prune(&mut pruned, &tests::recipe(0.3))?;
        let before = tar(&plain(), &decluttered(&dense, &shape)?)?.len();
        for (what, model) in [("dense", &dense), ("pruned", &pruned)] {
            let stock = decluttered(model, &shape)?;
            let (small, large) = (tar(&tract_sparse::nnef(), &stock)?, tar(&plain(), &stock)?);
            assert!(small.len() <= large.len(), "{name}, {what}: {} of {}", small.len(), large.len());
            if what == "pruned" {
                let (saved, zeros) = (large.len() - small.len(), zeros(&stock)? * size_of::<f32>());
                let share = small.len() as f64 / before as f64;
                println!(
                    "{name}: {before} bytes dense, {share:.3} compact, {saved} saved of {zeros} in zeros"
                );
                // the bitmaps, and rounding of every file in the archive to blocks of 512 bytes, cost the
                // rest
                assert!(saved as f64 >= 0.85 * zeros as f64, "{name}: {saved} bytes saved of {zeros}");
                // in small networks the text of the graph, headers and layers that are not pruned count
                assert!(share <= 0.75 || before < 2_000_000, "{name}: {share} of the dense file");
            }
            // stock tract gives the same, bit for bit, whether the weights were compact or not
            let x = noise(&shape, 3);
            let (ours, theirs) = (read(&tract_sparse::nnef(), &small)?, read(&plain(), &large)?);
            let (mut back, mut plain_back) = (ours.clone(), theirs.clone());
            let run_stock = |model: TypedModel| run(model.into_optimized()?, std::slice::from_ref(&x));
            assert_eq!(run_stock(ours)?, run_stock(theirs)?, "{name}, {what}");
            // and the same kernels run it
            let policy = Policy::from_knobs()?;
            sparsify(&mut back, &policy)?;
            sparsify(&mut plain_back, &policy)?;
            assert_eq!(layers(&back)?, layers(&plain_back)?, "{name}, {what}");
            // The ONNX file itself is another way to them: tract simplifies stock layers more than sparse
            // ones.
            let direct = onnx().model_for_proto_model(model)?;
            let direct =
                direct.with_input_fact(0, f32::fact(&shape).into())?.into_typed()?.into_decluttered()?;
            for (got, expected) in run_stock(back.into_decluttered()?)?.iter().zip(&run_stock(direct)?) {
                let far = distance(got, expected)?;
                // activations may be fused in another order: rounding, and networks pruned without training
                // amplify it
                assert!(far <= 10.0 * TOLERANCE, "{name}, {what}: {far}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_stock_reader_says_what_it_misses() -> Result<()> {
    let spec = Spec { conv1x1: Some("4x4:0.5".parse()?), hw: Some(32), ..Spec::default() };
    let model = decluttered(&zoo::build(Network::MobilenetV1, &spec)?, &[1, 3, 32, 32])?;
    let compact = tar(&tract_sparse::nnef(), &model)?;
    let error = format!("{:#}", read(&plain(), &compact).unwrap_err());
    assert!(error.contains("Registry not found") && error.contains("tract_sparse"), "{error}");
    Ok(())
}

#[test]
fn sparse_layers_are_written_as_stock_ones() -> Result<()> {
    let spec = Spec { conv1x1: Some("4x4:0.5".parse()?), hw: Some(32), ..Spec::default() };
    let model = zoo::build(Network::MobilenetV2, &spec)?;
    let mut model = onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
    let sparse_layers = Report::of(&model)?.sparse_layers();
    assert!(sparse_layers > 0);
    let nnef = tract_sparse::nnef();
    let written = nnef.write_to_tar_with_config(&model, vec![], false, true)?;
    // tract's own writer, with the extension and without
    let error = format!("{:#}", tar(&nnef, &model).unwrap_err());
    assert!(error.contains("unsparsify"), "{error}");
    let error = format!("{:#}", tar(&plain(), &model).unwrap_err());
    assert!(error.contains("No serializer found for node"), "{error}");
    assert!(error.contains("SparseConv (see unsparsify)"), "{error}");
    let optimised = model.clone().into_optimized()?;
    let error = format!("{:#}", nnef.write(&optimised, vec![]).unwrap_err());
    assert!(error.contains("before it is optimised"), "{error}");
    let expected = run(optimised, &[noise(&[1, 3, 32, 32], 1)])?;
    assert!(unsparsify(&mut model)? > 0);
    assert_eq!(tar(&nnef, &model)?, written);
    // what was written runs sparse again without a further call
    let back = nnef.model_for_read(&mut &*written)?;
    assert_eq!(Report::of(&back)?.sparse_layers(), sparse_layers);
    let got = run(back.into_optimized()?, &[noise(&[1, 3, 32, 32], 1)])?;
    tests::assert_same(&got, &expected)
}

/// Archives and folders are read by the one reader, and sparse.
#[test]
fn every_kind_of_file_is_read_sparse() -> Result<()> {
    let spec = Spec { conv1x1: Some("4x4:0.5".parse()?), hw: Some(32), ..Spec::default() };
    let model = zoo::build(Network::MobilenetV2, &spec)?;
    let model = onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
    let sparse_layers = Report::of(&model)?.sparse_layers();
    let (nnef, folder) =
        (tract_sparse::nnef(), std::env::temp_dir().join(format!("nnef-{}", std::process::id())));
    std::fs::create_dir_all(&folder)?;
    let (archive, unpacked) = (folder.join("m.nnef.tar"), folder.join("m.nnef"));
    std::fs::write(&archive, nnef.write_to_tar(&model, vec![])?)?;
    nnef.write_to_dir(&model, &unpacked)?;
    let read = [archive, unpacked].map(|path| nnef.model_for_path(path).and_then(|model| Report::of(&model)));
    std::fs::remove_dir_all(&folder)?;
    for report in read {
        assert_eq!(report?.sparse_layers(), sparse_layers);
    }
    Ok(())
}

/// Batch size and picture size stay symbols.
#[test]
fn symbols_survive() -> Result<()> {
    let spec = Spec {
        conv1x1: Some("4x4:0.5".parse()?),
        batch: zoo::Batch::Symbol("N".into()),
        hw: Some(32),
        ..Spec::default()
    };
    let model = zoo::build(Network::MobilenetV1, &spec)?;
    let model = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?.into_decluttered()?;
    let mut back = read(&tract_sparse::nnef(), &tar(&tract_sparse::nnef(), &model)?)?;
    sparsify(&mut back, &Policy::from_knobs()?)?;
    let x = [noise(&[2, 3, 32, 32], 1)];
    tests::assert_same(&run(back.into_optimized()?, &x)?, &run(model.into_optimized()?, &x)?)
}

/// Every byte of the archive in turn is damaged: an error or the same graph with other numbers, never a
/// panic.
#[test]
fn damaged_archives_do_not_panic() -> Result<()> {
    let spec = Spec { conv1x1: Some("4x4:0.9".parse()?), hw: Some(32), width: 0.25, ..Spec::default() };
    let model = decluttered(&zoo::build(Network::MobilenetV1, &spec)?, &[1, 3, 32, 32])?;
    let bytes = tar(&tract_sparse::nnef(), &model)?;
    let graph = bytes.windows(20).position(|w| w == b"tract_sparse_blocks(").unwrap();
    for at in (graph..graph + 160).chain((0..bytes.len()).step_by(bytes.len() / 60)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        let _ = read(&tract_sparse::nnef(), &damaged);
    }
    Ok(())
}

/// Files of weights in f32 are what they were before there were others; what is rounded comes back as it was rounded, takes half
/// of the room, and is run by the same kernels.
#[test]
fn rounded_weights_take_half_of_the_room() -> Result<()> {
    let spec = Spec {
        conv1x1: Some("4x4:0.5".parse()?),
        dwconv3x3: Some("3:9".parse()?),
        conv3x3: Some("5:9".parse()?),
        hw: Some(64),
        ..Spec::default()
    };
    for network in [Network::MobilenetV2, Network::Resnet18] {
        let proto = zoo::build(network, &spec)?;
        let shape = [1, 3, 64, 64];
        let stock = decluttered(&proto, &shape)?;
        let whole = tar(&tract_sparse::nnef(), &stock)?;
        let says = |tar: &[u8]| String::from_utf8_lossy(tar).contains("values = ");
        assert!(!says(&whole), "{network}");
        for to in [Values::Bf16, Values::F16] {
            let mut model = stock.clone();
            let Halved { rounded, kept } = halve(&mut model, to)?;
            assert!(rounded.len() > 15 && kept.is_empty(), "{network}: {kept:?}");
            let small = tar(&tract_sparse::nnef(), &model)?;
            assert!(says(&small), "{network}");
            let share = small.len() as f64 / whole.len() as f64;
            println!("{network}: {share:.3} of the file in {}", to.name());
            assert!(share < 0.6, "{network}, {}: {share}", to.name());
            let x = noise(&shape, 3);
            let back = read(&tract_sparse::nnef(), &small)?;
            let run_stock = |model: TypedModel| run(model.into_optimized()?, std::slice::from_ref(&x));
            assert_eq!(run_stock(back.clone())?, run_stock(model.into_decluttered()?)?, "{network}");
            let policy = Policy::from_knobs()?;
            let [mut small, mut whole] = [back, read(&tract_sparse::nnef(), &whole)?];
            sparsify(&mut small, &policy)?;
            sparsify(&mut whole, &policy)?;
            let kernels = |model: &TypedModel| -> Result<Vec<Option<String>>> {
                Ok(Report::of(model)?.layers.into_iter().map(|layer| layer.chosen).collect())
            };
            assert_eq!(kernels(&small)?, kernels(&whole)?, "{network}");
        }
    }
    Ok(())
}

/// Weights beyond the largest number of the type keep their layer in f32, which is said.
#[test]
fn weights_that_are_too_large_stay() -> Result<()> {
    let mut model = TypedModel::default();
    let mut wire = model.add_source("x", f32::fact([1, 8]))?;
    for (name, largest) in [("small", 1f32), ("large", 1e5)] {
        let weights: Vec<f32> = (0..64).map(|i| if i % 3 == 0 { largest } else { 0.3 }).collect();
        let w = model.add_const(format!("{name}.w"), Tensor::from_shape(&[8, 8], &weights)?)?;
        let axes = "mk,kn->mn".parse()?;
        wire = model.wire_node(name, EinSum::new(axes, f32::datum_type()), &[wire, w])?[0];
    }
    model.select_output_outlets(&[wire])?;
    let of = |to| halve(&mut model.clone(), to);
    assert_eq!(of(Values::F16)?, Halved { rounded: vec!["small".into()], kept: vec!["large".into()] });
    assert_eq!(of(Values::Bf16)?.rounded, ["small", "large"]);
    Ok(())
}

/// A model of f16 is stored without its zeros, too, and comes back in f16.
#[test]
fn models_of_f16_are_compact() -> Result<()> {
    let spec = Spec { conv1x1: Some("4x4:0.5".parse()?), hw: Some(64), ..Spec::default() };
    let proto = in_f16(&zoo::build(Network::MobilenetV2, &spec)?)?;
    let stock = tract_onnx::onnx().model_for_proto_model(&proto)?.into_typed()?.into_decluttered()?;
    let (small, large) = (tar(&tract_sparse::nnef(), &stock)?, tar(&plain(), &stock)?);
    // half of the weights of 1x1 convolutions, which are six tenths of all
    assert!((small.len() as f64) < 0.75 * large.len() as f64, "{} of {}", small.len(), large.len());
    let x = cast(&noise(&[1, 3, 64, 64], 3), DatumType::F16)?;
    let run_stock = |model: TypedModel| run(model.into_optimized()?, std::slice::from_ref(&x));
    let back = run_stock(read(&tract_sparse::nnef(), &small)?)?;
    assert_eq!(back, run_stock(stock)?);
    assert_eq!(back[0].datum_type(), DatumType::F16);
    Ok(())
}

/// A padded layer of stride 2, and one of 1x1 and stride 2 behind it, which stock tract makes one of stride 4 before it knows
/// how much the first one pads: what is written says it in numbers.
#[test]
fn same_paddings_are_written_in_numbers() -> Result<()> {
    for auto_pad in ["SAME_UPPER", "SAME_LOWER"] {
        let mut graph = Graph::default();
        let x = graph.input("1,8,15,16");
        let w = graph.constant(&[16, 8, 3, 3], &pruned(16, 8 * 9, (1, 1), 2.0, 3));
        let y = graph.op("Conv", &[&x, &w], vec![string("auto_pad", auto_pad), ints("strides", &[2; 2])]);
        let w = graph.constant(&[16, 16, 1, 1], &pruned(16, 16, (4, 4), 0.4, 4));
        let y = graph.op("Conv", &[&y, &w], vec![ints("strides", &[2; 2])]);
        let (model, x) = (graph.model(&[&y]), noise(&[1, 8, 15, 16], 5));
        // node by node, nothing simplified
        let expected = tract_onnx::onnx().model_for_proto_model(&model)?.into_typed()?;
        let expected = run(expected, std::slice::from_ref(&x))?;
        let typed = onnx().model_for_proto_model(&model)?.into_typed()?;
        for written in [typed.clone(), typed.into_decluttered()?] {
            let bytes = tract_sparse::nnef().write_to_tar_with_config(&written, vec![], false, true)?;
            for nnef in [tract_sparse::nnef().into_inner(), plain()] {
                // compact weights are for our reader
                let Ok(back) = nnef.model_for_read(&mut &*bytes) else { continue };
                let y = run(back.into_optimized()?, std::slice::from_ref(&x))?;
                assert!(distance(&y[0], &expected[0])? <= TOLERANCE, "{auto_pad}");
            }
            let back = tract_sparse::nnef().model_for_read(&mut &*bytes)?.into_optimized()?;
            assert!(
                distance(&run(back, std::slice::from_ref(&x))?[0], &expected[0])? <= TOLERANCE,
                "{auto_pad}"
            );
        }
    }
    Ok(())
}

/// Layers of 1x1 over batches stay layers, on the kernels that they had.
#[test]
fn batches_of_images_come_back_as_such() -> Result<()> {
    for batch in ["2", "N"] {
        let mut graph = Graph::default();
        let mut y = graph.input(&format!("{batch},16,9,9"));
        for seed in 1..4 {
            let w = graph.constant(&[16, 16, 1, 1], &pruned(16, 16, (4, 4), 0.4, seed));
            let conv = graph.op("Conv", &[&y, &w], vec![]);
            y = graph.op("Relu", &[&conv], vec![]);
        }
        let model = onnx().model_for_proto_model(&graph.model(&[&y]))?.into_typed()?;
        let model = model.into_decluttered()?;
        let bytes = tract_sparse::nnef().write_to_tar_with_config(&model, vec![], false, true)?;
        let back = tract_sparse::nnef().model_for_read(&mut &*bytes)?.into_decluttered()?;
        let operators = |model: &TypedModel| -> Vec<String> {
            let names = model.nodes().iter().map(|node| node.op.name().to_string());
            names.filter(|name| !["Const", "Source"].contains(&&**name)).collect()
        };
        assert_eq!(operators(&back), operators(&model), "{batch}");
        assert_eq!(layers(&back)?, layers(&model)?, "{batch}");
        let x = noise(&[2, 16, 9, 9], 5);
        let [y, expected] = [back, model].map(|model| run(model.into_optimized()?, std::slice::from_ref(&x)));
        assert!(distance(&y?[0], &expected?[0])? <= TOLERANCE, "{batch}");
    }
    Ok(())
}
