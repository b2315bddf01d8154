//! Between layers on our kernels nothing is packed, padded or moved.

use anyhow::Result;
use std::collections::BTreeSet;
use tests::{models_dir, op_names, skipped};
use tract_sparse::prelude::*;

/// Operators of an optimised model, constants apart.
fn ops(model: InferenceModel) -> Result<BTreeSet<String>> {
    Ok(op_names(&model.into_optimized()?).into_iter().filter(|op| op != "Const").collect())
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| n.to_string()).collect()
}

#[test]
fn mobilenets_are_one_planar_cluster() -> Result<()> {
    // The classifier is dense and stays stock: a global average pool, a packing of one vector, a matrix product.
    let head = ["Source", "OptSparseConv", "Reduce<Sum>", "OptMulByScalar", "OptMatMulPack", "OptMatMul"];
    for name in ["mobilenet-v1", "mobilenet-v2"] {
        let spec = zoo::Spec {
            conv1x1: Some("4x4:0.5".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            ..zoo::Spec::default()
        };
        let model = zoo::build(zoo::Network::by_name(name)?, &spec)?;
        assert_eq!(ops(onnx().model_for_proto_model(&model)?)?, set(&head), "{name}");
    }
    Ok(())
}

/// Fails if an operator moves, pads, packs or convolves between the layers on our kernels.
fn assert_nothing_between(name: &str, found: &BTreeSet<String>) {
    let foreign: Vec<&String> = found
        .iter()
        .filter(|op| {
            let moves = ["MoveAxis", "Pad", "Im2col", "LazyIm2col", "DepthWiseConv", "OptAddUnicast"];
            moves.contains(&op.as_str())
        })
        .collect();
    assert!(foreign.is_empty(), "{name}: {foreign:?} of {found:?}");
}

#[test]
fn squeeze_and_excite_does_not_break_the_cluster() -> Result<()> {
    for name in ["mobilenet-v3-large", "efficientnet-lite0", "resnet-18", "resnet-20"] {
        let spec = zoo::Spec {
            conv1x1: Some("4x4:0.5".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            conv3x3: Some("5:9".parse()?),
            ..zoo::Spec::default()
        };
        let model = zoo::build(zoo::Network::by_name(name)?, &spec)?;
        assert_nothing_between(name, &ops(onnx().model_for_proto_model(&model)?)?);
    }
    Ok(())
}

#[test]
fn the_hand_model_is_one_planar_cluster() -> Result<()> {
    let Some(dir) = models_dir() else {
        skipped("clusters", "the folder of real models is not there");
        return Ok(());
    };
    let found = ops(onnx().model_for_path(dir.join("hand_landmark_sparse.onnx"))?)?;
    assert_nothing_between("hand_landmark_sparse", &found);
    let chains: Vec<&String> = found.iter().filter(|op| op.starts_with("OptBinChain")).collect();
    assert!(chains.is_empty(), "{chains:?} of {found:?}");
    Ok(())
}
