//! `dump --nnef-tar` and its like: the model as NNEF, for any tract.

use crate::archive::{Archive, check, mended};
use crate::files;
use crate::out;
use anyhow::{Context, Result};
use clap::{Args, ValueHint};
use flate2::Compression;
use std::path::PathBuf;
use tract_core::internal::*;
use tract_nnef::ast::dump::Dumper;
use tract_onnx::WithOnnx;

/// The model as NNEF, for any tract: the layers are dense ones again.
#[derive(Debug, Args)]
#[command(next_help_heading = "NNEF")]
pub(super) struct Nnef {
    /// Write an NNEF archive
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    nnef_tar: Option<PathBuf>,
    /// Write a compressed NNEF archive (.tgz)
    #[arg(long = "nnef", value_name = "FILE", value_hint = ValueHint::FilePath)]
    nnef_tgz: Option<PathBuf>,
    /// Write NNEF into a new folder
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    nnef_dir: Option<PathBuf>,
    /// Write the graph alone; - is stdout
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    nnef_graph: Option<PathBuf>,
    /// The same archive at any time of day
    #[arg(long)]
    nnef_deterministic: bool,
}

impl Nnef {
    /// Whether anything is to be written.
    pub(super) fn wanted(&self) -> bool {
        self.nnef_tar.is_some()
            || self.nnef_tgz.is_some()
            || self.nnef_dir.is_some()
            || self.nnef_graph.is_some()
    }
}

/// Writes what is asked for. Sparse layers are written as the dense ones that they stand for, with their
/// zeros, so that stock tract can read the file, too. What is written has been read again and compared; if it
/// is not the same, `other`, the model at another stage, is written.
///
/// # Errors
/// An optimised model, one that NNEF cannot hold, or a file that cannot be written.
pub(super) fn write(
    model: &TypedModel,
    other: impl FnOnce() -> Result<Option<TypedModel>>,
    args: &Nnef,
) -> Result<()> {
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
    let Err(error) = write_model(&model, args) else { return Ok(()) };
    let written = match other()? {
        Some(other) => write_model(&other, args).map_err(|_| error),
        None => Err(error),
    };
    written.context("cannot be written as NNEF")
}

fn write_model(model: &TypedModel, args: &Nnef) -> Result<()> {
    files::distinct(&[
        ("--nnef-tar", &args.nnef_tar),
        ("--nnef", &args.nnef_tgz),
        ("--nnef-dir", &args.nnef_dir),
        ("--nnef-graph", &args.nnef_graph),
    ])?;
    let framework = tract_nnef::nnef().with_onnx();
    let archives = [(&args.nnef_tar, Archive::Tar), (&args.nnef_tgz, Archive::Gzip(Compression::default()))];
    for (path, archive) in archives {
        let Some(path) = path else { continue };
        let mut draft = files::draft(path)?;
        archive
            .write(&framework, model, args.nnef_deterministic, &mut draft)
            .with_context(|| format!("cannot write {}", path.display()))?;
        check(&framework, model, draft.content()?)?;
        draft.commit()?;
    }
    if let Some(path) = &args.nnef_dir {
        files::folder(path, |aside| {
            framework.write_to_dir(model, aside)?;
            let graph = aside.join("graph.nnef");
            let text = std::fs::read_to_string(&graph)?;
            std::fs::write(graph, mended(&text))?;
            check(&framework, model, aside)
        })?;
    }
    if let Some(path) = &args.nnef_graph {
        let proto = tract_nnef::ser::to_proto_model(&framework, model)?;
        let mut text = vec![];
        Dumper::new(&framework, &mut text).document(&proto.doc)?;
        let text = mended(std::str::from_utf8(&text)?);
        match path.to_str() {
            Some("-") => out::print(&text)?,
            _ => files::write(path, text.as_bytes())?,
        }
    }
    Ok(())
}
