//! ONNX files, edited in place: what a program does not change comes out as it went in. Knows the messages of the format
//! and where their values are; knows neither layers nor runtimes.

pub mod file;
mod sparse;
pub mod tensor;
pub mod walk;
mod wire;

pub use sparse::{densify, sparsify_initializers};

use anyhow::{Context, Result, ensure};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, StringStringEntryProto, TensorProto};

/// A model and the file that it came from.
///
/// Tensors whose values are in other files have them in `raw_data` while the document is open; they are written to
/// another file again.
#[derive(Debug, Clone)]
pub struct Document {
    /// The model, free to be edited: nodes, initializers, value infos, metadata and the IR version are written back.
    pub model: ModelProto,
    original: Vec<u8>,
    external: BTreeSet<String>,
}

impl Document {
    /// Reads a model, and the values that it keeps in other files of the same folder.
    ///
    /// # Errors
    /// A file that cannot be read or is no ONNX model; external data outside the model's folder or past the end of
    /// its file. The message names the file and the tensor.
    pub fn open(path: &Path) -> Result<Document> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Document::read(bytes, Some(folder)).with_context(|| format!("cannot open {}", path.display()))
    }

    /// Reads a model from memory; `folder` is where its external data is, if it may have any.
    ///
    /// # Errors
    /// As [`Document::open`].
    pub fn read(bytes: Vec<u8>, folder: Option<&Path>) -> Result<Document> {
        let mut model = ModelProto::decode(&*bytes).context("not an ONNX model")?;
        ensure!(model.graph.is_some(), "not an ONNX model: it has no graph");
        let (mut external, mut taken) = (BTreeSet::new(), BTreeMap::new());
        walk::tensors(&mut model, &mut |tensor| {
            if tensor::is_external(tensor) {
                let name = tensor.name.clone();
                load_external(tensor, folder, &mut taken)
                    .with_context(|| format!("external data of {name:?}"))?;
                external.insert(name);
            }
            Ok(())
        })?;
        Ok(Document { model, original: bytes, external })
    }

    /// The model as a file. Fields and messages that have not been edited are those of the original, byte by byte.
    ///
    /// # Errors
    /// Parts of the model were edited that cannot be written back.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.encode_as(&self.model)
    }

    fn encode_as(&self, model: &ModelProto) -> Result<Vec<u8>> {
        let was = ModelProto::decode(&*self.original).context("the original has changed")?;
        let bytes = wire::model(&self.original, &was, model)?;
        ensure!(
            bytes.len() <= i32::MAX as usize,
            "the model takes {} bytes, more than a protobuf file can hold",
            bytes.len()
        );
        Ok(bytes)
    }

    /// Writes the model whole or not at all. If values of the original were in other files, initializers among them go
    /// to `<path>.data`, or to `<path>.<n>.data` if there is such a file.
    ///
    /// The two files change together: values are written under a name that nothing has, and only the renaming of the
    /// model, last, makes anything read them. Whatever goes wrong before leaves the old model with its old values;
    /// afterwards the old values are removed if they are in a file of such a name.
    ///
    /// # Errors
    /// As [`file::write`] and [`Document::encode`].
    pub fn save(&self, path: &Path) -> Result<()> {
        if self.external.is_empty() {
            return self.replace(path, &self.encode()?);
        }
        let location =
            data_names(path)?.find(|name| std::fs::symlink_metadata(path.with_file_name(name)).is_err());
        let location = location.context("no name is free")?;
        let (mut model, mut data) = (self.model.clone(), vec![]);
        let initializers = model.graph.iter_mut().flat_map(|g| &mut g.initializer);
        for tensor in initializers.filter(|t| self.external.contains(&t.name) && !t.raw_data.is_empty()) {
            // aligned as exporters do, for readers that map the file
            data.resize(data.len().next_multiple_of(64), 0);
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            tensor.external_data = vec![
                entry("location", location.clone()),
                entry("offset", data.len().to_string()),
                entry("length", tensor.raw_data.len().to_string()),
            ];
            data.append(&mut tensor.raw_data);
            tensor.data_location = Some(DataLocation::External as i32);
        }
        let bytes = self.encode_as(&model)?;
        let values = path.with_file_name(location);
        file::write(&values, &data)?;
        let replaced = self.replace(path, &bytes);
        if replaced.is_err() {
            // the model could not be written, and that is the better reason
            let _ = std::fs::remove_file(values);
        }
        replaced
    }

    /// Writes the model and removes the values that the one before it had written for itself.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let before = own_data(path);
        file::write(path, bytes)?;
        let now = locations(bytes);
        for name in before.into_iter().filter(|name| !now.contains(name)) {
            // a file too many does no harm
            let _ = std::fs::remove_file(path.with_file_name(name));
        }
        Ok(())
    }

    /// Sets an entry of `metadata_props`.
    pub fn set_metadata(&mut self, key: &str, value: &str) {
        let props = &mut self.model.metadata_props;
        match props.iter_mut().find(|p| p.key == key) {
            Some(prop) => prop.value = value.into(),
            None => props.push(StringStringEntryProto { key: key.into(), value: value.into() }),
        }
    }

    /// An entry of `metadata_props`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.model.metadata_props.iter().find(|p| p.key == key).map(|p| &*p.value)
    }
}

/// Names of files for the values of the model at `path`, in the order of preference.
fn data_names(path: &Path) -> Result<impl Iterator<Item = String>> {
    let name = path.file_name().context("the path has no file name")?;
    let name = name.to_str().context("the file name is not UTF-8")?.to_string();
    let second = name.clone();
    Ok(std::iter::once(format!("{name}.data")).chain((1..1000).map(move |n| format!("{second}.{n}.data"))))
}

/// Files that the model at `path` reads and that have a name of [`data_names`].
fn own_data(path: &Path) -> BTreeSet<String> {
    let Ok(names) = data_names(path) else { return BTreeSet::new() };
    let read = std::fs::read(path).map(|bytes| locations(&bytes)).unwrap_or_default();
    names.filter(|name| read.contains(name)).collect()
}

/// Files that a model reads; none if it is no model.
fn locations(bytes: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(mut model) = ModelProto::decode(bytes) else { return found };
    let seen = walk::tensors(&mut model, &mut |tensor| {
        let entries = tensor.external_data.iter().filter(|e| e.key == "location");
        found.extend(entries.map(|e| e.value.clone()));
        Ok(())
    });
    if seen.is_ok() { found } else { BTreeSet::new() }
}

/// How often the tensors of a model may share the bytes of a file, on average: without a limit, a small model could ask for
/// any multiple of a large file.
const SHARED: u64 = 64;

/// Reads the values of a tensor; `taken` counts the bytes taken of every file.
fn load_external(
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
