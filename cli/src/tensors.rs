//! Files of tensors: .npz archives of arrays, and .pb files as ONNX has them.

use crate::files;
use anyhow::{Context, Result};
use arrays::each_type;
use ndarray_npy::NpzWriter;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use tract_core::internal::*;
use tract_hir::infer::Factoid;

/// A file that is being read; errors name it.
pub(crate) struct Npz {
    path: PathBuf,
    reader: arrays::Npz,
}

impl Npz {
    /// Opens a file.
    ///
    /// # Errors
    /// It is missing or not an archive.
    pub(crate) fn open(path: &Path) -> Result<Npz> {
        let reader = std::fs::read(path).map_err(anyhow::Error::from).and_then(arrays::Npz::new);
        let reader = reader.with_context(|| path.display().to_string())?;
        Ok(Npz { path: path.to_path_buf(), reader })
    }

    /// Names of the arrays, as numpy shows them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.reader.names()
    }

    /// The array `name` as it is in the file.
    ///
    /// # Errors
    /// There is none, or its type is none of tract's.
    pub(crate) fn any(&mut self, name: &str) -> Result<Tensor> {
        self.reader.any(name).with_context(|| self.path.display().to_string())
    }

    /// The array `name`, which has to be of type `dt`.
    ///
    /// # Errors
    /// There is none, or it has another type.
    pub(crate) fn of_type(&mut self, name: &str, dt: DatumType) -> Result<Tensor> {
        self.reader.of_type(name, dt).with_context(|| self.path.display().to_string())
    }
}

/// Writes tensors to a file, whole or not at all. What .npz files have no type for, such as f16, is written
/// as f32.
///
/// # Errors
/// A tensor of text, or a file that cannot be written; the message names it.
pub(crate) fn save_npz<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<()> {
    // the writer of archives prints what it cannot write, where nobody asked for it
    let mut bytes = Cursor::new(vec![]);
    let mut npz = NpzWriter::new(&mut bytes);
    for (name, value) in tensors {
        macro_rules! add {
            ($($dt:ident => $t:ty),*) => {
                match value.datum_type() {
                    $(DatumType::$dt => npz.add_array(name, &value.to_plain_array_view::<$t>()?),)*
                    _ => npz.add_array(name, &value.cast_to::<f32>()?.to_plain_array_view::<f32>()?),
                }
            };
        }
        each_type!(add).map_err(|e| format_err!("{}: array {name}: {e}", path.display()))?;
    }
    npz.finish().map_err(|e| format_err!("{}: {e}", path.display()))?;
    files::write(path, bytes.get_ref())
}

/// The tensor of a `.pb` file.
///
/// # Errors
/// The file cannot be read or is none; the message does not name it.
pub(crate) fn load_pb(path: &Path) -> Result<Tensor> {
    let (_, fact) = tract_libcli::tensor::for_data(&SymbolScope::default(), "tensor.pb", File::open(path)?)
        .context("not an ONNX tensor")?;
    Ok(fact.value.concretize().context("a tensor without values")?.into_tensor())
}
