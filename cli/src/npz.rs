//! Archives of arrays: .npz files.

use anyhow::{Context, Result, bail, ensure};
use ndarray_npy::{NpzReader, NpzWriter, ReadNpyError, ReadNpzError};
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use tract_core::internal::*;
use tract_core::ndarray::{IxDyn, OwnedRepr};

/// The types that .npz files have and tract has, too.
macro_rules! each_type {
    ($with:ident) => {
        $with!(F32 => f32, F64 => f64, I8 => i8, I16 => i16, I32 => i32, I64 => i64, U8 => u8, U16 => u16, U32 => u32,
            U64 => u64, Bool => bool)
    };
}

/// A file that is being read.
pub(crate) struct Npz {
    path: PathBuf,
    reader: NpzReader<File>,
}

impl Npz {
    /// Opens a file.
    ///
    /// # Errors
    /// It is missing or not an archive; the message names it.
    pub(crate) fn open(path: &Path) -> Result<Npz> {
        let reader = File::open(path)
            .map_err(anyhow::Error::from)
            .and_then(|file| NpzReader::new(file).map_err(|e| format_err!("not an .npz file: {e}")))
            .with_context(|| path.display().to_string())?;
        Ok(Npz { path: path.to_path_buf(), reader })
    }

    /// Names of the arrays, as numpy shows them.
    pub(crate) fn names(&mut self) -> Result<Vec<String>> {
        let names = self.reader.names().map_err(|e| format_err!("{}: {e}", self.path.display()))?;
        Ok(names.into_iter().map(|name| name.trim_end_matches(".npy").to_string()).collect())
    }

    /// The array `name` as it is in the file.
    ///
    /// # Errors
    /// There is none, or its type is none of tract's.
    pub(crate) fn any(&mut self, name: &str) -> Result<Tensor> {
        let entry = self.entry(name)?;
        macro_rules! read {
            ($($dt:ident => $t:ty),*) => {{
                $(match self.reader.by_name::<OwnedRepr<$t>, IxDyn>(&entry) {
                    Ok(array) => return Ok(array.into()),
                    // it may be one of the others
                    Err(ReadNpzError::Npy(ReadNpyError::WrongDescriptor(_))) => {}
                    Err(e) => bail!("{}: array {name}: {e}", self.path.display()),
                })*
                bail!("{}: array {name} has a type that tract has not", self.path.display())
            }};
        }
        each_type!(read)
    }

    /// The array `name`, which has to be of type `dt`.
    ///
    /// # Errors
    /// There is none, or it has another type.
    pub(crate) fn of_type(&mut self, name: &str, dt: DatumType) -> Result<Tensor> {
        let tensor = self.any(name)?;
        let got = tensor.datum_type();
        ensure!(got == dt, "{}: array {name} is {got:?}, not an array of {dt:?}", self.path.display());
        Ok(tensor)
    }

    fn entry(&mut self, name: &str) -> Result<String> {
        let names = self.reader.names().map_err(|e| format_err!("{}: {e}", self.path.display()))?;
        let entry = [name.to_string(), format!("{name}.npy")].into_iter().find(|n| names.contains(n));
        entry.with_context(|| {
            format!("{}: no array {name}; the file has {}", self.path.display(), names.join(", "))
        })
    }
}

/// Writes tensors to a file, whole or not at all. What .npz files have no type for, such as f16, is written as f32.
///
/// # Errors
/// A tensor of text, or a file that cannot be written; the message names it.
pub(crate) fn save<'a>(path: &Path, tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
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
    prune::file::write(path, bytes.get_ref())
}
