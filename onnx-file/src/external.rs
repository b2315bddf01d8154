//! External data: values of a model that are in files beside it.

use crate::file::folder_of;
use crate::{tensor, walk};
use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use same_file::Handle;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use tract_onnx::pb::{ModelProto, TensorProto};

/// Names of files for the values of the model at `path`, in the order of preference.
pub(crate) fn names(path: &Path) -> Result<impl Iterator<Item = String>> {
    let name = path.file_name().context("the path has no file name")?;
    let name = name.to_str().context("the file name is not UTF-8")?.to_string();
    let second = name.clone();
    Ok(std::iter::once(format!("{name}.data")).chain((1..1000).map(move |n| format!("{second}.{n}.data"))))
}

/// The files that the ONNX model at `path` reads values from; none if it is no model.
pub fn data_files(path: &Path) -> BTreeSet<PathBuf> {
    // of a pipe, nothing would ever come
    if !path.metadata().is_ok_and(|meta| meta.is_file()) {
        return BTreeSet::new();
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    let Ok(mut model) = ModelProto::decode(&*bytes) else { return BTreeSet::new() };
    locations(&mut model).iter().map(|name| folder_of(path).join(name)).collect()
}

/// Names of the files that a model reads values from.
pub(crate) fn locations(model: &mut ModelProto) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let seen = walk::tensors(model, &mut |tensor| {
        let entries = tensor.external_data.iter().filter(|e| e.key == "location");
        found.extend(entries.map(|e| e.value.clone()));
        Ok(())
    });
    // the visitor knows no errors
    if seen.is_ok() { found } else { BTreeSet::new() }
}

/// Whether the model at `model` reads values from the file at `path`, by whatever name.
pub fn reads(model: &Path, path: &Path) -> bool {
    let Ok(file) = Handle::from_path(path) else { return false };
    data_files(model).iter().any(|data| Handle::from_path(data).is_ok_and(|data| data == file))
}

/// The model of the folder of `path`, or of one above, that reads values from the file there.
pub(crate) fn reader_of(path: &Path) -> Option<PathBuf> {
    let folder = folder_of(path).canonicalize().ok()?;
    let models = folder.ancestors().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let models = models.map(|entry| entry.path());
    let mut models =
        models.filter(|model| model.extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx")));
    models.find(|model| reads(model, path))
}

/// Fails if a model reads values from the file at `path`. Files that say themselves what they are hold no
/// values.
///
/// # Errors
/// There is one; the message names it.
pub(crate) fn refuse_data(path: &Path) -> Result<()> {
    if is_known(path)? {
        return Ok(());
    }
    match reader_of(path) {
        Some(model) => bail!("{} reads its values from this file", model.display()),
        None => Ok(()),
    }
}

/// Whether a file is text, an archive or an ONNX model.
fn is_known(path: &Path) -> Result<bool> {
    let (mut file, mut head) = (File::open(path)?, vec![]);
    file.by_ref().take(512).read_to_end(&mut head)?;
    let text = head.utf8_chunks().next().is_none_or(|chunk| chunk.valid().len() + 4 > head.len())
        && !head.contains(&0);
    let archive = head.starts_with(b"PK\x03\x04")
        || head.starts_with(b"\x1f\x8b")
        || head.get(257..262) == Some(b"ustar");
    if text || archive {
        return Ok(true);
    }
    file.read_to_end(&mut head)?;
    Ok(ModelProto::decode(&*head).is_ok_and(|model| model.graph.is_some()))
}

/// How often the tensors of a model may share the bytes of a file, on average: without a limit, a small model
/// could ask for any multiple of a large file.
const SHARED: u64 = 64;

/// Puts the values of an external tensor into it; `folder` is that of its model, `taken` counts the bytes
/// taken of every file.
pub(crate) fn load(
    tensor: &mut TensorProto,
    folder: Option<&Path>,
    taken: &mut BTreeMap<PathBuf, u64>,
) -> Result<()> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| &*e.value);
    let location = entry("location").context("no location")?;
    let number = |key: &str| {
        let value = entry(key).map(|v| v.parse::<u64>().with_context(|| format!("{key} {v:?} is no number")));
        value.transpose()
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    let folder = folder.context("the model was not opened by path")?;
    let path = inside(folder, location)?;
    let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let size = file.metadata()?.len();
    let length = length.unwrap_or(size.saturating_sub(offset));
    let fits = offset.checked_add(length).is_some_and(|end| end <= size);
    ensure!(fits, "{length} bytes at {offset} are past the end of {} ({size} bytes)", path.display());
    let taken = taken.entry(path).or_default();
    *taken = taken.saturating_add(length);
    ensure!(*taken <= size.saturating_mul(SHARED), "tensors take {taken} bytes of a file of {size}");
    let mut bytes = vec![0; usize::try_from(length)?];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    tensor::set_bytes(tensor, bytes);
    tensor::bytes(tensor).map(|_| ())
}

/// `location` within `folder`, links followed.
fn inside(folder: &Path, location: &str) -> Result<PathBuf> {
    let relative = Path::new(location);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    ensure!(plain, "location {location:?} is not a plain path inside the model's folder");
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.canonicalize().with_context(|| format!("no folder {}", folder.display()))?;
    let path = folder.join(relative);
    let path = path.canonicalize().with_context(|| format!("no file {}", path.display()))?;
    ensure!(path.starts_with(&folder), "location {location:?} leads outside the model's folder");
    Ok(path)
}
