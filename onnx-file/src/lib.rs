//! ONNX files, edited in place: what a program does not change comes out as it went in. Knows the messages of
//! the format and where their values are; knows neither layers nor runtimes.

mod external;
pub mod file;
mod sparse;
pub mod tensor;
pub mod walk;
mod wire;

pub use external::reads;
pub use sparse::{densify, sparsify_initializers};

use anyhow::{Context, Result, ensure};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, StringStringEntryProto};

/// What [`Document::save`] wrote besides the model, and what it left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The file of the values, if they have one of their own.
    pub data: Option<PathBuf>,
    /// Files that the model read which has been replaced, and that no model beside them reads any more.
    pub unread: Vec<PathBuf>,
}

/// The files among `data` that are there and that no model beside them reads.
fn unread(data: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    data.into_iter().filter(|file| file.exists() && external::reader_of(file).is_none()).collect()
}

/// Fails if an output of a model is neither computed nor given, which tract 0.23.9 panics about.
///
/// # Errors
/// Names the outputs that nothing computes. Tensors of a model with sparse ones count once they are [dense](densify).
pub fn outputs_are_there(model: &ModelProto) -> Result<()> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let computed = graph.node.iter().flat_map(|node| &node.output);
    let given = graph.input.iter().map(|input| &input.name);
    let names: BTreeSet<&str> = computed
        .chain(given)
        .chain(graph.initializer.iter().map(|tensor| &tensor.name))
        .map(String::as_str)
        .collect();
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    let missing: Vec<&str> = outputs.filter(|name| !names.contains(name)).collect();
    ensure!(missing.is_empty(), "nothing computes the output {}", missing.join(", "));
    Ok(())
}

/// A model and the file that it came from.
///
/// Tensors whose values are in other files have them in `raw_data` while the document is open; they are
/// written to another file again.
#[derive(Debug, Clone)]
pub struct Document {
    /// The model, free to be edited: nodes, initializers, value infos, metadata and the IR version are
    /// written back.
    pub model: ModelProto,
    original: Vec<u8>,
    /// Names of the tensors whose values were in other files, and those files.
    external: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

impl Document {
    /// Reads a model, and the values that it keeps in other files of the same folder.
    ///
    /// # Errors
    /// A file that cannot be read or is no ONNX model; external data outside the model's folder or past the
    /// end of its file. The message names the file and the tensor.
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
                external::load(tensor, folder, &mut taken)
                    .with_context(|| format!("external data of {name:?}"))?;
                external.insert(name);
            }
            Ok(())
        })?;
        Ok(Document { model, original: bytes, external, files: taken.into_keys().collect() })
    }

    /// The model as a file. Fields and messages that have not been edited are those of the original, byte by
    /// byte.
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

    /// Writes the model whole or not at all. If values of the original were in other files, initializers
    /// among them go to a new file beside it, `<path>.data`, or `<path>.<n>.data` if there is such a
    /// file.
    ///
    /// Files that the model at `path`, or any other, read before are neither changed nor removed: until the
    /// model gets its name, last, the old one and its values stay as they were. To a device or a pipe,
    /// all values go with the model.
    ///
    /// # Errors
    /// As [`file::write`] and [`Document::encode`]. Nothing has changed then.
    pub fn save(&self, path: &Path) -> Result<Saved> {
        let cannot = || format!("cannot write {}", path.display());
        for data in &self.files {
            let same = same_file::is_same_file(data, path).unwrap_or(false);
            ensure!(!same, "{}: the model that it is made of reads its values from this file", cannot());
        }
        let to_file = path.metadata().map_or(true, |meta| meta.is_file());
        if self.external.is_empty() || !to_file {
            let bytes = self.encode()?;
            let before = external::data_files(path);
            file::write(path, &bytes)?;
            return Ok(Saved { data: None, unread: unread(before) });
        }
        if let Ok(to) = std::fs::read_link(path) {
            let here = file::folder_of(path).canonicalize().with_context(cannot)?;
            ensure!(
                path.canonicalize().is_ok_and(|real| real.parent() == Some(&here)),
                "{}: it is a link to {}; values in a file of their own would be found by one of the two names only",
                cannot(),
                to.display()
            );
        }
        let location = external::names(path)
            .with_context(cannot)?
            .find(|name| std::fs::symlink_metadata(path.with_file_name(name)).is_err());
        let location = location.context("no name is free for its values").with_context(cannot)?;
        let before = external::data_files(path);
        let mut values = file::Draft::new(&path.with_file_name(&location))?;
        let (mut model, mut at) = (self.model.clone(), 0usize);
        let initializers = model.graph.iter_mut().flat_map(|g| &mut g.initializer);
        for tensor in initializers.filter(|t| self.external.contains(&t.name) && !t.raw_data.is_empty()) {
            // aligned as exporters do, for readers that map the file
            let offset = at.next_multiple_of(64);
            let bytes = std::mem::take(&mut tensor.raw_data);
            let written = values.write_all(&[0; 64][..offset - at]).and_then(|()| values.write_all(&bytes));
            written.with_context(|| format!("cannot write {}", path.with_file_name(&location).display()))?;
            at = offset + bytes.len();
            let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
            tensor.external_data = vec![
                entry("location", location.clone()),
                entry("offset", offset.to_string()),
                entry("length", bytes.len().to_string()),
            ];
            tensor.data_location = Some(DataLocation::External as i32);
        }
        let mut draft = file::Draft::new(path)?;
        draft.write_all(&self.encode_as(&model)?).with_context(cannot)?;
        draft.commit_after(values)?;
        Ok(Saved { data: Some(path.with_file_name(location)), unread: unread(before) })
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
