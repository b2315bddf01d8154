//! Single layers exported by PyTorch, from the test data of the `onnx` Python package: they load, and agree
//! with the outputs that come with them, whatever share of their weights is zero.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tests::{agree, distance, run_optimized, skipped, with_knobs};
use tract_sparse::pb::{ModelProto, TensorProto};
use tract_sparse::prelude::*;

/// A tolerance for these cases: PyTorch summed in another order, in f32; the layers are small.
const TOLERANCE: f64 = 1e-5;

fn cases() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("TRACT_SPARSE_ONNX_CASES")?).join("pytorch-converted");
    dir.is_dir().then_some(dir)
}

fn tensor(path: &Path) -> Result<Tensor> {
    use prost::Message;
    let proto = TensorProto::decode(&*std::fs::read(path)?)?;
    tract_sparse::tensor::load_tensor(&*default_resolver(), &proto, None)
}

fn default_resolver() -> Box<dyn tract_sparse::data_resolver::ModelDataResolver> {
    Box::new(tract_sparse::data_resolver::MmapDataResolver)
}

#[test]
fn convolutions_and_linear_layers_load_and_agree() -> Result<()> {
    let Some(dir) = cases() else {
        skipped("wheel", "TRACT_SPARSE_ONNX_CASES does not name the onnx package's backend/test/data");
        return Ok(());
    };
    let mut names: Vec<String> = std::fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().to_string()))
        .filter(|name| ["test_Conv1d", "test_Conv2d", "test_Linear"].iter().any(|p| name.starts_with(p)))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "only {names:?} in {}", dir.display());
    let mut pruned_layers = 0;
    for name in &names {
        let case = dir.join(name);
        let load = |onnx: &tract_sparse::Onnx| onnx.proto_model_for_path(case.join("model.onnx"));
        let model = load(&onnx())?;
        let data = case.join("test_data_set_0");
        let x = tensor(&data.join("input_0.pb")).with_context(|| name.clone())?;
        let expected = tensor(&data.join("output_0.pb"))?;
        let (y, _) =
            run_optimized(&onnx(), &model, std::slice::from_ref(&x)).with_context(|| name.clone())?;
        let d = distance(&y[0], &expected).with_context(|| name.clone())?;
        assert!(d <= TOLERANCE, "{name} differs by {d}");
        // The same layer with most of its weights gone, forced onto our kernels.
        let pruned = prune(model);
        pruned_layers += with_knobs(&[("TRACT_SPARSE", "always")], || agree(&pruned, &[x]))
            .map(|model| tests::sparse_nodes(&model))
            .with_context(|| format!("{name}, pruned"))?;
    }
    // Grouped, dilated and 3-D layers stay stock; most are taken.
    assert!(pruned_layers * 2 > names.len(), "{pruned_layers} of {} ran sparse", names.len());
    Ok(())
}

/// Sets most weights of every initialiser of rank 2 and more to zero.
fn prune(mut model: ModelProto) -> ModelProto {
    let graph = model.graph.as_mut().unwrap();
    for tensor in graph.initializer.iter_mut().filter(|t| t.dims.len() >= 2) {
        for (i, bytes) in tensor.raw_data.chunks_exact_mut(4).enumerate() {
            if i % 7 != 0 {
                bytes.fill(0);
            }
        }
        for (i, value) in tensor.float_data.iter_mut().enumerate() {
            if i % 7 != 0 {
                *value = 0.0;
            }
        }
    }
    model
}
