//! Files that commands write: whole or not at all, and never over what they read.

use anyhow::{Context, Result, ensure};
use prune::file::folder_of;
pub(crate) use prune::file::{Draft, abandon, folder};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files that the command line names as inputs.
static INPUTS: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);

/// Keeps the command from writing over a file that it reads, or that a model reads which is in it; of a folder, over any file in
/// it.
pub(crate) fn protect(input: &Path) {
    INPUTS.lock().unwrap_or_else(PoisonError::into_inner).push(input.to_path_buf());
}

/// Fails if a file at `path` is one that the command reads.
pub(crate) fn refuse_inputs(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    for input in INPUTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let same = |input: &Path| same_file::is_same_file(input, path).unwrap_or(false);
        let inside = std::fs::read_dir(input).into_iter().flatten().flatten().any(|file| same(&file.path()));
        ensure!(!same(input) && !inside, "cannot write {}: it is an input", path.display());
        refuse_values(input, path)?;
    }
    Ok(())
}

/// Fails if two options, each with its name, want the same file.
pub(crate) fn distinct(outputs: &[(&str, &Option<PathBuf>)]) -> Result<()> {
    let mut known: Vec<(&str, PathBuf)> = vec![];
    for (name, path) in outputs {
        let Some(path) = path else { continue };
        // the name of a file that is not there yet, in a folder that is
        let folder = folder_of(path).canonicalize();
        let real = match (folder, path.file_name()) {
            (Ok(folder), Some(file)) => folder.join(file),
            _ => path.clone(),
        };
        if let Some((other, _)) = known.iter().find(|(_, other)| *other == real) {
            anyhow::bail!("{other} and {name} both name {}", path.display());
        }
        known.push((name, real));
    }
    Ok(())
}

/// Fails if the file at `path` holds values of the model at `model`.
pub(crate) fn refuse_values(model: &Path, path: &Path) -> Result<()> {
    ensure!(
        !prune::onnx::reads(model, path),
        "cannot write {}: {} reads its values from this file",
        path.display(),
        model.display()
    );
    Ok(())
}

/// Begins a file.
///
/// # Errors
/// As [`Draft::new`], and if it would replace an input of the command.
pub(crate) fn draft(path: &Path) -> Result<Draft> {
    refuse_inputs(path)?;
    Draft::new(path)
}

/// Writes a file, whole or not at all.
///
/// # Errors
/// As [`draft`], and a full disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut draft = draft(path)?;
    draft.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    draft.commit()
}
