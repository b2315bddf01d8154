//! Every model that whole-model tests go through.

use crate::{models_dir, npy, skipped};
use anyhow::Result;
use prune::Document;
use tract_sparse::pb::ModelProto;
use zoo::{Network, Spec};

/// The real models, if their folder is there: name, model, shape of the input.
///
/// # Errors
/// A model or its golden input cannot be read.
pub fn real_models() -> Result<Vec<(String, ModelProto, Vec<usize>)>> {
    let Some(dir) = models_dir() else {
        skipped("real models", "the folder of real models is not there");
        return Ok(vec![]);
    };
    let mut models = vec![];
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "onnx") {
            let name = path.file_stem().unwrap().to_string_lossy().to_string();
            let input = npy(&dir.join("golden").join(format!("{name}.input.npy")))?;
            models.push((name, Document::open(&path)?.model, input.shape().to_vec()));
        }
    }
    models.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(models.len() >= 8, "{} models in {}", models.len(), dir.display());
    Ok(models)
}

/// Every network of the zoo, half as wide, for small pictures.
///
/// # Errors
/// A network that cannot be built.
pub fn zoo_models() -> Result<Vec<(String, ModelProto, Vec<usize>)>> {
    Network::ALL
        .into_iter()
        .map(|network| {
            let hw = 32;
            let spec = Spec { hw: Some(hw), width: 0.5, ..Spec::default() };
            Ok((network.to_string(), zoo::build(network, &spec)?, vec![1, 3, hw, hw]))
        })
        .collect()
}
