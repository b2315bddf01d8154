//! Networks that PyTorch has trained: our scores are its scores, and as many pictures get their class.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ndarray::ArrayD;
use tests::{TOLERANCE, distance, npy, sparse_nodes};
use tract_sparse::prelude::*;

/// `networks.json` names the networks; beside each `NAME.onnx` are its scores in `NAME.scores.npy`. All are for
/// the same pictures, bytes of [n, 1, 32, 32], whose classes are in `classes.npy`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/networks")
}

fn bytes(file: &str) -> Result<ArrayD<u8>> {
    ndarray_npy::read_npy(folder().join(file)).with_context(|| format!("reading {file}"))
}

/// Position of the largest value.
fn class(scores: &[f32]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap()
}

#[test]
fn trained_networks_score_as_in_pytorch() -> Result<()> {
    let said: serde_json::Value =
        serde_json::from_reader(std::fs::File::open(folder().join("networks.json"))?)?;
    let (pictures, classes) = (bytes("pictures.npy")?, bytes("classes.npy")?);
    let networks = said["networks"].as_array().context("networks.json has no networks")?;
    assert!(!networks.is_empty());
    for network in networks {
        let name = network["name"].as_str().context("a network has no name")?;
        let model = onnx().model_for_path(folder().join(format!("{name}.onnx")))?.into_optimized()?;
        let layers = sparse_nodes(&model);
        let model = model.into_runnable()?;
        let mut scores = vec![];
        let mut right = 0;
        for (picture, &wanted) in pictures.outer_iter().zip(&classes) {
            let values: Vec<f32> = picture.iter().map(|&byte| f32::from(byte) / 255.0).collect();
            let input = Tensor::from_shape(&[1, 1, 32, 32], &values)?;
            let output = model.run(tvec!(input.into_tvalue()))?;
            let own: Vec<f32> = output[0].to_plain_array_view::<f32>()?.iter().copied().collect();
            right += usize::from(class(&own) == usize::from(wanted));
            scores.extend(own);
        }
        let expected = npy(&folder().join(format!("{name}.scores.npy")))?;
        let off = distance(&Tensor::from_shape(expected.shape(), &scores)?, &expected)?;
        println!("{name}: {right} of {} right, {layers} sparse layers, off by {off:.1e}", classes.len());
        assert!(off <= TOLERANCE, "{name}: scores are off by {off:.1e}");
        assert_eq!(Some(right as u64), network["right"].as_u64(), "{name}: pictures that get their class");
        assert!(name == "dense" || layers > 0, "{name} has zeros, but no layer runs sparse");
    }
    Ok(())
}
