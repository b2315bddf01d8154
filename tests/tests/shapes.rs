//! Batches, symbolic shapes, threads: the same answers as stock, and as each other.

use anyhow::Result;
use tests::{assert_same, count, noise, op_names, run};
use tract_sparse::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::RunOptions;
use zoo::{Batch, Network, Spec};

fn pruned(name: &str, batch: Batch) -> Result<ModelProto> {
    let spec = Spec {
        conv1x1: Some("4x4:0.7".parse()?),
        dwconv3x3: Some("3:9".parse()?),
        conv3x3: Some("5:9:0.5".parse()?),
        fc: Some("4x1:0.8".parse()?),
        hw: Some(32),
        batch,
        ..Spec::default()
    };
    zoo::build(Network::by_name(name)?, &spec)
}

/// Stock tract on a fixed shape. (With symbolic height and width, stock 0.23.9 fails to optimise strided 1x1
/// convolutions, so that it cannot serve as the reference there.)
fn stock(model: &ModelProto, x: &Tensor) -> Result<TVec<TValue>> {
    let fact = f32::fact(x.shape()).into();
    let model = tract_onnx::onnx().model_for_proto_model(model)?.with_input_fact(0, fact)?;
    run(model.into_optimized()?, std::slice::from_ref(x))
}

#[test]
fn batches_of_any_size() -> Result<()> {
    for name in ["mobilenet-v2", "resnet-20"] {
        let model = pruned(name, Batch::Fixed(1))?;
        for batch in [2, 5] {
            let x = noise(&[batch, 3, 32, 32], 1);
            let loaded = onnx().model_for_proto_model(&model)?;
            let sparse = loaded.with_input_fact(0, f32::fact(x.shape()).into())?.into_optimized()?;
            assert!(count(&sparse, "OptSparseConv") > 15, "{name}: {:?}", op_names(&sparse));
            assert_same(&run(sparse, std::slice::from_ref(&x))?, &stock(&model, &x)?)?;
        }
    }
    Ok(())
}

#[test]
fn one_plan_with_symbols_serves_every_shape() -> Result<()> {
    for name in ["mobilenet-v1", "mobilenet-v2", "mobilenet-v3-large", "resnet-20"] {
        let model = pruned(name, Batch::Fixed(1))?;
        let loaded = onnx().model_for_proto_model(&model)?;
        let (n, h, w) = (loaded.sym("N"), loaded.sym("H"), loaded.sym("W"));
        let shape = [n.to_dim(), 3.to_dim(), h.to_dim(), w.to_dim()];
        let sparse = loaded.with_input_fact(0, f32::fact(shape).into())?.into_optimized()?;
        assert!(count(&sparse, "OptSparseConv") > 15, "{name}: {:?}", op_names(&sparse));
        for shape in [[1, 3, 32, 32], [3, 3, 32, 32], [1, 3, 64, 32], [2, 3, 47, 61]] {
            let x = noise(&shape, 1);
            let y = run(sparse.clone(), std::slice::from_ref(&x))?;
            assert_same(&y, &stock(&model, &x)?).map_err(|e| e.context(format!("{name} {shape:?}")))?;
        }
    }
    Ok(())
}

#[test]
fn a_symbol_can_be_set_before_optimising() -> Result<()> {
    let model = pruned("mobilenet-v2", Batch::Fixed(1))?;
    let loaded = onnx().model_for_proto_model(&model)?;
    let n = loaded.sym("N");
    let fact = f32::fact([n.to_dim(), 3.to_dim(), 32.to_dim(), 32.to_dim()]);
    let typed = loaded.with_input_fact(0, fact.into())?.into_typed()?.into_decluttered()?;
    let concrete = typed.set_symbols(&[(n, 2.to_dim())].into_iter().collect())?.into_optimized()?;
    let x = noise(&[2, 3, 32, 32], 1);
    assert_same(&run(concrete, std::slice::from_ref(&x))?, &stock(&model, &x)?)
}

#[test]
fn two_threads_are_bitwise_one() -> Result<()> {
    use tract_linalg::multithread::Executor;
    for name in ["mobilenet-v1", "mobilenet-v3-large", "resnet-18"] {
        let spec = Spec {
            conv1x1: Some("unstructured:0.7".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            conv3x3: Some("5:9".parse()?),
            hw: Some(96),
            ..Spec::default()
        };
        let model =
            onnx().model_for_proto_model(&zoo::build(Network::by_name(name)?, &spec)?)?.into_optimized()?;
        let x: TValue = noise(&[1, 3, 96, 96], 1).into_tvalue();
        let with = |executor: Executor| -> Result<TVec<TValue>> {
            let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
            model.clone().into_runnable_with_options(&options)?.run(tvec!(x.clone()))
        };
        let one = with(Executor::SingleThread)?;
        let two = with(Executor::multithread(2))?;
        assert_eq!(one, two, "{name}");
    }
    Ok(())
}
