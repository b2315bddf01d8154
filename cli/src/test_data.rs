//! `--onnx-test-data-set`: inputs and outputs as ONNX's own tests keep them, `input_0.pb` and so on in a
//! folder.

use crate::errors::Differs;
use crate::inputs::Input;
use crate::options::Options;
use crate::outputs::Approx;
use crate::tensors::load_pb;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use tract_core::internal::*;

/// Has the command read its inputs from the folder, if one is given. `input` says where the command takes
/// them from, if it takes any.
///
/// # Errors
/// The folder has no `input_0.pb`, the command takes no inputs, or they are given twice.
pub(crate) fn inputs(model: Option<&Path>, options: &Options, input: Option<&mut Input>) -> Result<()> {
    let Some(folder) = folder(model, options) else { return Ok(()) };
    let option = format!("--onnx-test-data-set {}", folder.display());
    let files = files(&folder, "input");
    ensure!(!files.is_empty(), "{option}: there is no input_0.pb");
    let input = input.with_context(|| format!("{option}: this command takes no inputs"))?;
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

/// Fails with [`Differs`] unless the outputs are near those of the folder, where it has some.
pub(crate) fn check(model: &Path, options: &Options, approx: Approx, outputs: &[TValue]) -> Result<()> {
    let Some(folder) = folder(Some(model), options) else { return Ok(()) };
    for (got, path) in outputs.iter().zip(files(&folder, "output")) {
        let wanted = load_pb(&path).with_context(|| path.display().to_string())?;
        wanted.close_enough(got, Approximation::from(approx)).map_err(|e| {
            Differs(format!("{}: the output is not that of {}: {e}", model.display(), path.display()))
        })?;
    }
    Ok(())
}
