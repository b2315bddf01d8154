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

#[test]
fn the_hand_model_is_one_planar_cluster() -> Result<()> {
    let Some(dir) = models_dir() else {
        skipped("clusters", "the folder of real models is not there");
        return Ok(());
    };
    let found = ops(onnx().model_for_path(dir.join("hand_landmark_sparse.onnx"))?)?;
    let foreign: Vec<&String> = found
        .iter()
        .filter(|op| {
            let moves = ["MoveAxis", "Pad", "Im2col", "LazyIm2col", "DepthWiseConv", "OptAddUnicast"];
            moves.contains(&op.as_str()) || op.starts_with("OptBinChain")
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?} of {found:?}");
    Ok(())
}
