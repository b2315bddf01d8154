//! `dump --nnef-tar` and its like: the model as NNEF, for any tract.

use crate::args::Nnef;
use crate::out;
use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::path::Path;
use tract_core::internal::*;
use tract_nnef::ast::dump::Dumper;
use tract_onnx::WithOnnx;

/// Writes what is asked for. Sparse layers are written as the dense ones that they stand for, with their zeros, so that
/// stock tract can read the file, too.
///
/// # Errors
/// An optimised model, an operator that NNEF has not, or a file that cannot be written.
pub(crate) fn write(model: &TypedModel, args: &Nnef) -> Result<()> {
    if !args.wanted() {
        return Ok(());
    }
    let mut model = model.clone();
    rewriter::unsparsify(&mut model)?;
    // an optimised model has operators of this machine only, which no file can hold
    let lowered = model.nodes().iter().find(|node| node.op.name().starts_with("Opt"));
    if let Some(node) = lowered {
        anyhow::bail!("{node} is made for this machine: NNEF needs a model without -O");
    }
    let framework = tract_nnef::nnef().with_onnx();
    let tar = |into: Vec<u8>| {
        framework
            .write_to_tar_with_config(&model, into, false, args.nnef_deterministic)
            .context("cannot be written as NNEF")
    };
    if let Some(path) = &args.nnef_tar {
        prune::file::write(path, &tar(vec![])?)?;
    }
    if let Some(path) = &args.nnef_tgz {
        let mut encoder = GzEncoder::new(vec![], Compression::default());
        std::io::Write::write_all(&mut encoder, &tar(vec![])?)?;
        prune::file::write(path, &encoder.finish()?)?;
    }
    if let Some(path) = &args.nnef_dir {
        folder(path, |aside| framework.write_to_dir(&model, aside))?;
    }
    if let Some(path) = &args.nnef_graph {
        let proto = tract_nnef::ser::to_proto_model(&framework, &model)?;
        let mut text = vec![];
        Dumper::new(&framework, &mut text).document(&proto.doc)?;
        match path.to_str() {
            Some("-") => out::print(std::str::from_utf8(&text)?)?,
            _ => prune::file::write(path, &text)?,
        }
    }
    Ok(())
}

/// Makes a folder with `fill`, under another name until it is complete.
fn folder(path: &Path, fill: impl FnOnce(&Path) -> TractResult<()>) -> Result<()> {
    ensure!(!path.exists(), "{}: there is something already", path.display());
    let name = path.file_name().with_context(|| format!("{}: no name of a folder", path.display()))?;
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(format!(".{}.part", std::process::id()));
    let aside = path.with_file_name(aside);
    let made = fill(&aside).and_then(|()| Ok(std::fs::rename(&aside, path)?));
    if made.is_err() && aside.exists() {
        // the write has failed already, and for a better reason than this could give
        let _ = std::fs::remove_dir_all(&aside);
    }
    made.with_context(|| format!("cannot write {}", path.display()))
}
