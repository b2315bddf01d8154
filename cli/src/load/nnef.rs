//! A model from an NNEF archive, compact weights included.

use super::Flavour;
use super::facts::symbols;
use crate::options::Options;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use tract_hir::prelude::*;

/// Whether a file is an NNEF archive, by its name.
pub fn is_nnef(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| [".tgz", ".tar.gz", ".tar"].iter().any(|end| name.ends_with(end)))
}

/// Reads the model, simplified; its layers become sparse for this machine if that is wanted.
pub(super) fn load(path: &Path, flavour: Flavour, options: &Options) -> Result<TypedModel> {
    let meta = std::fs::metadata(path)?;
    ensure!(!meta.is_dir(), "is a folder, not an NNEF archive");
    let mut model = tract_sparse::nnef()
        .into_inner()
        .model_for_path(path)
        .context("not an NNEF archive, or cut short")?;
    let symbols = symbols(&model.symbols, options)?;
    if !symbols.is_empty() {
        model = model.set_symbols(&symbols)?;
    }
    for (position, spec) in options.facts.iter().enumerate() {
        check_fact(&model, position, spec).with_context(|| format!("-i {spec}"))?;
    }
    let mut model = model.into_decluttered()?;
    if flavour == Flavour::Sparse {
        tract_sparse::sparsify(&mut model, &tract_sparse::Policy::from_knobs()?)?;
    }
    Ok(model)
}

/// The shapes of such a model are those of its file: others are refused.
fn check_fact(model: &TypedModel, position: usize, spec: &str) -> Result<()> {
    let (name, fact) = tract_libcli::tensor::for_string(&model.symbols, spec)?;
    let inputs = model.input_outlets()?;
    let position = match &name {
        Some(name) => inputs.iter().position(|input| model.node(input.node).name == *name),
        None => Some(position).filter(|position| *position < inputs.len()),
    };
    let own = model.outlet_fact(inputs[position.context("the model has no such input")?])?;
    let same = fact.compatible_with(&InferenceFact::from(own));
    ensure!(same, "the input is {own:?}, and an NNEF model keeps the shapes it was written with (see --set)");
    Ok(())
}
