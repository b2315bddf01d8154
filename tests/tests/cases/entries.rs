//! The same layers run sparse through every entry, whatever the layout; and reports say what runs.

use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tests::models::{real_models, zoo_models};
use tests::{TOLERANCE, distance, noise, run, sparse_nodes, with_knobs};
use tract_onnx::WithOnnx;
use tract_onnx::pb::{ModelProto, NodeProto};
use tract_sparse::prelude::*;
use tract_sparse::tract_core::runtime::runtime_for_name;
use tract_sparse::{LayerReport, Policy, Report, sparsify, unsparsify};
use zoo::proto::ints;
use zoo::{Network, Spec};

use crate::case;

fn proto(name: &str) -> Result<ModelProto> {
    Ok(prune::Document::open(&case(name))?.model)
}

/// A model with its input's channels last: a transposition stands before it, as exporters of TensorFlow write
/// it.
fn channels_last(mut model: ModelProto, shape: &[usize]) -> Result<(ModelProto, Vec<usize>)> {
    let graph = model.graph.as_mut().context("no graph")?;
    let (n, c, h, w) = (shape[0], shape[1], shape[2], shape[3]);
    let name = graph.input[0].name.clone();
    let last = format!("{name}_last");
    graph.input[0] = zoo::proto::value(&last, tests::graph::dims(&format!("{n},{h},{w},{c}")));
    let transpose = NodeProto {
        name: format!("{name}_transposed"),
        op_type: "Transpose".into(),
        input: vec![last],
        output: vec![name],
        attribute: vec![ints("perm", &[0, 3, 1, 2])],
        ..Default::default()
    };
    graph.node.insert(0, transpose);
    Ok((model, vec![n, h, w, c]))
}

fn typed(onnx: tract_sparse::Onnx, model: &ModelProto) -> Result<TypedModel> {
    onnx.model_for_proto_model(model)?.into_typed()
}

fn late(mut model: TypedModel) -> Result<TypedModel> {
    sparsify(&mut model, &Policy::from_knobs()?)?;
    model.into_decluttered()
}

fn through_nnef(nnef: &tract_nnef::internal::Nnef, model: &TypedModel) -> Result<TypedModel> {
    let tar = nnef.write_to_tar_with_config(model, vec![], false, true)?;
    late(nnef.model_for_read(&mut &*tar)?.into_decluttered()?)
}

/// What `convert` deploys, read as applications read it.
fn deployed(model: &TypedModel) -> Result<TypedModel> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = (std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let file = std::env::temp_dir().join(format!("tract-sparse-entries-{}-{}.nnef.tar", number.0, number.1));
    std::fs::write(&file, tract_sparse::nnef().write_to_tar_with_config(model, vec![], false, true)?)?;
    let read = tract_sparse::nnef_model_for_path(&file).and_then(TypedModel::into_decluttered);
    std::fs::remove_file(file)?;
    read
}

/// How many layers run sparse through tract's facade.
fn through_facade(model: &ModelProto, shape: &[usize]) -> Result<usize> {
    use prost::Message;
    use tract::prelude::*;
    let mut model = tract_sparse::facade::onnx()?.load_buffer(&model.encode_to_vec())?;
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    model.set_input_fact(0, format!("{},f32", shape.join(",")).as_str())?;
    model.analyse()?;
    let runnable = format!("{:?}", model.into_model()?.into_runnable()?);
    Ok(runnable.matches("OptSparseConv {").count())
}

/// The model through every entry, simplified: those that a file of that kind cannot hold are left out and
/// named.
fn entries(model: &ModelProto) -> Result<Vec<(&'static str, TypedModel)>> {
    let stock = typed(tract_onnx::onnx(), model)?;
    let simple = stock.clone().into_decluttered()?;
    let ours = typed(onnx(), model)?.into_decluttered()?;
    let mut again = ours.clone();
    unsparsify(&mut again)?;
    let mut all = vec![
        ("onnx()", ours),
        ("sparsify, early", late(stock)?),
        ("sparsify, late", late(simple.clone())?),
        ("unsparsify, sparsify", late(again)?),
    ];
    // NNEF has no word for some operators of real networks
    match through_nnef(&tract_nnef::nnef().with_onnx(), &simple) {
        Ok(plain) => {
            all.push(("plain NNEF", plain));
            all.push(("compact NNEF", through_nnef(&tract_sparse::nnef(), &simple)?));
            all.push(("deployment file", deployed(&simple)?));
        }
        Err(error) => eprintln!("SKIPPED NNEF: {error:#}"),
    }
    let mut bytes = vec![];
    match tract_tflite::tflite().write(&simple, &mut bytes) {
        Ok(()) => {
            let read = tract_tflite::tflite().model_for_read(&mut &*bytes)?;
            all.push(("TFLite", late(read.into_decluttered()?)?));
        }
        Err(error) => eprintln!("SKIPPED TFLite: {error:#}"),
    }
    Ok(all)
}

/// The layers that run sparse, by size and weights: files name values, not nodes.
fn sparse(model: &TypedModel) -> Result<Vec<String>> {
    let layers = Report::of(model)?.layers.into_iter().filter(|layer| layer.chosen.is_some());
    let mut all: Vec<String> =
        layers.map(|l| format!("{}x{} {:?} {:?}", l.oc, l.ic, l.kind, l.density)).collect();
    all.sort();
    Ok(all)
}

/// Fails unless the same layers run sparse through every entry, the optimised graph has as many, and all
/// answers are those of stock tract; returns how many layers.
fn the_same_everywhere(what: &str, model: &ModelProto, shape: &[usize]) -> Result<usize> {
    let x = noise(shape, 3);
    let expected = run(typed(tract_onnx::onnx(), model)?.into_optimized()?, std::slice::from_ref(&x))?;
    let all = entries(model)?;
    let wanted = sparse(&all[0].1)?;
    let mut wrong = vec![];
    for (entry, model) in &all {
        let found = sparse(model)?;
        if found != wanted {
            let missing: Vec<_> = wanted.iter().filter(|layer| !found.contains(layer)).collect();
            wrong.push(format!("{entry}: {} of {} layers, not {missing:?}", found.len(), wanted.len()));
        }
        let optimised = model.clone().into_optimized()?;
        let nodes = sparse_nodes(&optimised);
        if nodes != found.len() {
            wrong.push(format!("{entry}: {} layers said to run, {nodes} do", found.len()));
        }
        let got = run(optimised, std::slice::from_ref(&x))?;
        let far = distance(&got[0], &expected[0])?;
        // other layouts fuse activations in another order, and networks pruned without training amplify
        // rounding
        if far > 10.0 * TOLERANCE {
            wrong.push(format!("{entry}: differs by {far}"));
        }
    }
    let runtime = runtime_for_name("cpu-sparse")?.context("no runtime cpu-sparse")?;
    let prepared = runtime.prepare(typed(tract_onnx::onnx(), model)?)?;
    let nodes = sparse_nodes(prepared.typed_model().context("no model")?);
    if nodes != wanted.len() {
        wrong.push(format!("cpu-sparse: {nodes} of {} layers", wanted.len()));
    }
    let layers = through_facade(model, shape)?;
    if layers != wanted.len() {
        wrong.push(format!("facade: {layers} of {} layers", wanted.len()));
    }
    ensure!(wrong.is_empty(), "{what}: {}", wrong.join("; "));
    Ok(wanted.len())
}

/// Really pruned networks, and dense ones.
#[test]
fn real_networks_run_through_every_entry() -> Result<()> {
    for (name, model, shape) in real_models()? {
        let layers =
            with_knobs(&[("TRACT_SPARSE", "always")], || the_same_everywhere(&name, &model, &shape))?;
        println!("{name}: {layers} layers");
    }
    Ok(())
}

#[test]
fn pruned_layers_run_through_every_entry_in_either_layout() -> Result<()> {
    let layers = the_same_everywhere("nhwc_pruned", &proto("nhwc_pruned.onnx")?, &[1, 64, 64, 3])?;
    assert_eq!(layers, 3);
    for network in [Network::MobilenetV1, Network::MobilenetV2, Network::Resnet18] {
        let spec = Spec {
            conv1x1: Some("4x4:0.6".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            conv3x3: Some("5:9:0.5".parse()?),
            hw: Some(64),
            width: 0.5,
            ..Spec::default()
        };
        let (model, shape) = (zoo::build(network, &spec)?, [1, 3, 64, 64]);
        let planar = the_same_everywhere(&format!("{network}, planar"), &model, &shape)?;
        let (model, shape) = channels_last(model, &shape)?;
        let last = the_same_everywhere(&format!("{network}, channels last"), &model, &shape)?;
        assert!(planar == last && planar >= 10, "{network}: {planar} layers planar, {last} channels last");
    }
    Ok(())
}

/// Layers that stock tract writes with the flattening before it are read, too.
#[test]
fn flattened_layers_are_read_late() -> Result<()> {
    let mut model = proto("flatten_gemm.onnx")?;
    prune::prune(&mut model, &prune::Recipe { ratio: Some(0.9), ..prune::Recipe::default() })?;
    assert!(the_same_everywhere("flatten_gemm", &model, &[1, 1, 28, 28])? >= 1);
    Ok(())
}

/// What a report says to run here is what the optimised graph has, by kernel.
#[test]
fn reports_say_what_runs() -> Result<()> {
    let kernels = |report: &Report| -> Vec<String> {
        let mut kernels: Vec<String> = report.layers.iter().filter_map(|l| l.chosen.clone()).collect();
        kernels.sort();
        kernels
    };
    let mut models: Vec<(String, ModelProto)> =
        zoo_models()?.into_iter().chain(real_models()?).map(|(name, model, _)| (name, model)).collect();
    for (name, mut model) in models.clone() {
        prune::prune(&mut model, &prune::Recipe { ratio: Some(0.6), ..prune::Recipe::default() })?;
        models.push((format!("{name}, pruned"), model));
    }
    for name in ["conv3d", "gru_report", "nchw_dense", "nhwc_dense", "nhwc_pruned", "flatten_gemm"] {
        models.push((name.into(), proto(&format!("{name}.onnx"))?));
    }
    for (name, model) in models {
        let simple = typed(onnx(), &model)?.into_decluttered()?;
        let said = Report::of(&simple)?;
        let optimised = simple.into_optimized()?;
        let runs = Report::of(&optimised)?;
        assert_eq!(kernels(&said), kernels(&runs), "{name}");
        assert_eq!(runs.sparse_layers(), sparse_nodes(&optimised), "{name}");
        remembers(&said, &runs).with_context(|| name.clone())?;
        for layer in &said.layers {
            let times = [layer.stock_ms, layer.sparse_ms].into_iter().flatten();
            assert!(times.into_iter().all(|ms| ms > 0.0), "{name} {}: {layer:?}", layer.name);
            assert!(layer.chosen.is_some() || layer.reason.is_some(), "{name} {}: no reason", layer.name);
        }
    }
    Ok(())
}

/// Fails unless the report on an optimised model says of every layer what the one before said: its name, its
/// zeros, the kernel that runs it, or why none does. Stock layers are those of the file, of which stock tract
/// may have made several, or others.
fn remembers(said: &Report, runs: &Report) -> Result<()> {
    for layer in &said.layers {
        let mut same = runs.layers.iter().filter(|other| other.layer() == layer.layer());
        let found = same.any(|other| match layer.chosen {
            Some(_) => (&other.chosen, &other.zeros, other.oc) == (&layer.chosen, &layer.zeros, layer.oc),
            None => other.chosen.is_none() && other.reason.is_some(),
        });
        ensure!(found, "{layer:#?} is not in\n{runs:#}");
    }
    let known: Vec<&str> = said.layers.iter().map(LayerReport::layer).collect();
    let made_up = runs.layers.iter().find(|layer| !known.contains(&layer.layer()));
    ensure!(made_up.is_none(), "{made_up:#?} is not in\n{said:#}");
    Ok(())
}

/// Layers cost the same in either layout.
#[test]
fn either_layout_has_the_same_prices() -> Result<()> {
    let prices = |name: &str| -> Result<Vec<Option<f64>>> {
        let report = Report::of(&typed(onnx(), &proto(name)?)?.into_decluttered()?)?;
        Ok(report.layers.iter().map(|layer| layer.stock_ms).collect())
    };
    let (planar, last) = (prices("nchw_dense.onnx")?, prices("nhwc_dense.onnx")?);
    assert!(planar.len() == 3 && planar.iter().all(|ms| ms.is_some_and(|ms| ms > 0.0)), "{planar:?}");
    assert_eq!(planar, last);
    Ok(())
}

/// A stock layer is never said to run here.
#[test]
fn stock_layers_are_stock() -> Result<()> {
    let stock = typed(tract_onnx::onnx(), &proto("nhwc_pruned.onnx")?)?.into_decluttered()?;
    let report = Report::of(&stock)?;
    assert_eq!((report.layers.len(), report.sparse_layers()), (3, 0));
    for layer in &report.layers {
        assert!(layer.reason.as_ref().is_some_and(|reason| reason.contains("sparsify")), "{layer:?}");
        assert!(layer.stock_ms.is_some_and(|ms| ms > 0.0), "{layer:?}");
    }
    Ok(())
}
