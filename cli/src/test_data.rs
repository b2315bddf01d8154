//! `--onnx-test-data-set`: inputs and outputs as ONNX's own tests keep them, `input_0.pb` and so on in a folder.

use crate::args::{Approx, Cli, Options};
use crate::out::Differs;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::path::{Path, PathBuf};
use tract_core::internal::*;
use tract_hir::infer::Factoid;

/// Has the command read its inputs from the folder, if one is given.
///
/// # Errors
/// The folder has no `input_0.pb`, the command takes no inputs, or they are given twice.
pub(crate) fn inputs(cli: &mut Cli) -> Result<()> {
    let Some(folder) = folder(cli.model.as_deref(), &cli.options) else { return Ok(()) };
    let option = format!("--onnx-test-data-set {}", folder.display());
    let files = files(&folder, "input");
    ensure!(!files.is_empty(), "{option}: there is no input_0.pb");
    let input = cli.command.input_mut().with_context(|| format!("{option}: this command takes no inputs"))?;
    ensure!(input.input.is_empty(), "{option}: there is --input, too");
    input.input = files;
    Ok(())
}

/// The folder, beside the model or where its path says.
fn folder(model: Option<&Path>, options: &Options) -> Option<PathBuf> {
    let folder = options.onnx_test_data_set.as_ref()?;
    let beside = model.and_then(Path::parent).map(|parent| parent.join(folder));
    Some(beside.filter(|beside| beside.is_dir()).unwrap_or_else(|| folder.clone()))
}

/// `input_0.pb`, `input_1.pb` and so on.
fn files(folder: &Path, what: &str) -> Vec<PathBuf> {
    (0..).map(|i| folder.join(format!("{what}_{i}.pb"))).take_while(|path| path.is_file()).collect()
}

/// The tensor of a `.pb` file.
///
/// # Errors
/// The file cannot be read or is none; the message does not name it.
pub(crate) fn tensor(path: &Path) -> Result<Tensor> {
    let (_, fact) = tract_libcli::tensor::for_data(&SymbolScope::default(), "tensor.pb", File::open(path)?)
        .context("not an ONNX tensor")?;
    Ok(fact.value.concretize().context("a tensor without values")?.into_tensor())
}

/// Fails with [`Differs`] unless the outputs are near those of the folder, where it has some.
pub(crate) fn check(model: &Path, options: &Options, approx: Approx, outputs: &[TValue]) -> Result<()> {
    let Some(folder) = folder(Some(model), options) else { return Ok(()) };
    for (got, path) in outputs.iter().zip(files(&folder, "output")) {
        let wanted = tensor(&path).with_context(|| path.display().to_string())?;
        wanted.close_enough(got, Approximation::from(approx)).map_err(|e| {
            Differs(format!("{}: the output is not that of {}: {e}", model.display(), path.display()))
        })?;
    }
    Ok(())
}
