//! Every model that whole-model tests go through.

use crate::{models_dir, npy, skipped};
use anyhow::Result;
use prune::Document;
use std::path::Path;
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
    for name in names_of_real_models(&dir)? {
        let input = npy(&dir.join("golden").join(format!("{name}.input.npy")))?;
        let model = Document::open(&dir.join(format!("{name}.onnx")))?.model;
        models.push((name, model, input.shape().to_vec()));
    }
    assert!(models.len() >= 8, "{} models in {}", models.len(), dir.display());
    Ok(models)
}

/// Names of the models in a folder, in order: those that there is a golden input for. Other files may lie there, too.
///
/// # Errors
/// The folder of golden inputs cannot be read.
pub fn names_of_real_models(dir: &Path) -> Result<Vec<String>> {
    let mut names = vec![];
    for entry in std::fs::read_dir(dir.join("golden"))? {
        let name = entry?.file_name();
        names.extend(name.to_string_lossy().strip_suffix(".input.npy").map(str::to_string));
    }
    names.sort();
    Ok(names)
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
