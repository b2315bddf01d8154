//! numpy's files as tensors: `.npy` and `.npz`, from sources that nobody vouches for.
//!
//! A header may claim any shape. What is asked for stays within a small multiple of the bytes that are there:
//! those of the file, for compressed archives those that come out of it (at most 1032 times as many, by the
//! nature of deflate).

use anyhow::{Context, Result, bail, ensure};
use ndarray_npy::{ReadNpyError, ReadNpyExt};
use std::io::{Cursor, Read};
use tract_core::internal::*;
use tract_core::ndarray::ArrayD;
use zip::ZipArchive;

/// The types that numpy has and tract has, too: calls `$with!` with pairs of tract's name and Rust's type.
#[macro_export]
macro_rules! each_type {
    ($with:ident) => {
        $with!(F32 => f32, F64 => f64, I8 => i8, I16 => i16, I32 => i32, I64 => i64, U8 => u8, U16 => u16, U32 => u32,
            U64 => u64, Bool => bool)
    };
}

/// The array of an `.npy` file, whatever its type.
///
/// # Errors
/// Bytes that are no such file, a shape of more elements than there are bytes, or a type that tract has not.
pub fn npy(bytes: &[u8]) -> Result<Tensor> {
    check_shape(bytes).context("not an .npy array")?;
    if let Some(bits) = bits_of_halves(bytes) {
        let bits = npy(&bits)?.into_plain_array::<u16>()?;
        return Ok(bits.mapv(f16::from_bits).into());
    }
    macro_rules! read {
        ($($dt:ident => $t:ty),*) => {{
            $(match ArrayD::<$t>::read_npy(bytes) {
                Ok(array) => return Ok(array.into()),
                // it may be one of the others
                Err(ReadNpyError::WrongDescriptor(_)) => {}
                Err(e) => bail!("not an .npy array: {e}"),
            })*
            bail!("an .npy array of a type that tract has not")
        }};
    }
    each_type!(read)
}

/// The same file as one of u16, if it is of f16, for which Rust's reader of such files has no type.
fn bits_of_halves(bytes: &[u8]) -> Option<Vec<u8>> {
    const MOST: usize = 1 << 10;
    let key = b"'descr':";
    let header = &bytes[..bytes.len().min(MOST)];
    let at = header.windows(key.len()).position(|window| window == key)? + key.len();
    let (space, word) = header[at..].split_at(header[at..].iter().position(|b| *b != b' ')?);
    let halves = matches!(word, [b'\'', b'<' | b'>' | b'=', b'f', b'2', b'\'', ..]);
    halves.then(|| {
        let mut bits = bytes.to_vec();
        bits[at + space.len() + 2] = b'u';
        bits
    })
}

/// The array of an `.npy` file, which has to be of type `dt`.
///
/// # Errors
/// As [`npy`], or it has another type.
pub fn npy_of_type(bytes: &[u8], dt: DatumType) -> Result<Tensor> {
    let tensor = npy(bytes).with_context(|| format!("not an .npy array of {dt:?}"))?;
    let got = tensor.datum_type();
    ensure!(got == dt, "not an .npy array of {dt:?}, but of {got:?}; in numpy x.astype('{}')", in_numpy(dt));
    Ok(tensor)
}

/// What numpy calls a type.
fn in_numpy(dt: DatumType) -> String {
    let name = format!("{dt:?}").to_lowercase();
    let (letter, bits) = name.split_at(1);
    match letter {
        "f" => format!("float{bits}"),
        "i" => format!("int{bits}"),
        "u" => format!("uint{bits}"),
        _ => name,
    }
}

/// Refuses a header that claims more elements than there are bytes behind it, which is when memory would be
/// asked for before anything is missed.
fn check_shape(bytes: &[u8]) -> Result<()> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").context("it does not begin with \\x93NUMPY")?;
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (u32::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]), rest),
        _ => bail!("an unknown version, or no header"),
    };
    let (header, data) =
        rest.split_at_checked(usize::try_from(length)?).context("it ends within its header")?;
    let header = std::str::from_utf8(header).context("the header is no text")?;
    // A dictionary whose only tuple is the shape. (Records have a list of tuples for a type; they are not
    // read.)
    let mut parts = header.split('(');
    let (Some(_), Some(tuple), None) = (parts.next(), parts.next(), parts.next()) else {
        bail!("the header has not exactly one tuple");
    };
    let (shape, _) = tuple.split_once(')').context("the shape does not end")?;
    let dims = shape.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    let dims: Vec<usize> =
        dims.map(|dim| dim.parse().with_context(|| format!("dimension {dim:?}"))).collect::<Result<_>>()?;
    let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    ensure!(
        elements.is_some_and(|n| n <= data.len()),
        "its shape ({shape}) has more elements than there are bytes ({})",
        data.len()
    );
    Ok(())
}

/// An archive of arrays: an `.npz` file.
pub struct Npz {
    archive: ZipArchive<Cursor<Vec<u8>>>,
}

impl Npz {
    /// Takes an archive that has been read.
    ///
    /// # Errors
    /// It is none, or claims more entries than it has room for.
    pub fn new(bytes: Vec<u8>) -> Result<Npz> {
        check_entries(&bytes).context("not an .npz file")?;
        Ok(Npz { archive: ZipArchive::new(Cursor::new(bytes)).context("not an .npz file")? })
    }

    /// Names of the arrays, as numpy shows them, in the order of the file.
    pub fn names(&self) -> Vec<String> {
        let shown = |name: &str| name.strip_suffix(".npy").unwrap_or(name).to_string();
        self.archive.file_names().map(shown).collect()
    }

    /// The array `name`, whatever its type.
    ///
    /// # Errors
    /// There is none, or it cannot be read: see [`npy`].
    pub fn any(&mut self, name: &str) -> Result<Tensor> {
        npy(&self.bytes(name)?).with_context(|| format!("array {name}"))
    }

    /// The array `name`, which has to be of type `dt`.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it has another type.
    pub fn of_type(&mut self, name: &str, dt: DatumType) -> Result<Tensor> {
        let tensor = self.any(name)?;
        let got = tensor.datum_type();
        ensure!(got == dt, "array {name} is {got:?}, not an array of {dt:?}");
        Ok(tensor)
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let entries = [name.to_string(), format!("{name}.npy")];
        let index = entries.iter().find_map(|entry| self.archive.index_for_name(entry));
        let index =
            index.with_context(|| format!("no array {name}; the file has {}", self.names().join(", ")))?;
        let mut bytes = vec![];
        // grows with what comes out, whatever length the archive claims
        let read = self.archive.by_index(index)?.read_to_end(&mut bytes);
        read.with_context(|| format!("array {name}"))?;
        Ok(bytes)
    }
}

/// Refuses the count of a large archive (zip64), for which memory is asked before an entry is read, if there
/// is no room for that number of entries. Other archives count in 16 bits.
fn check_entries(bytes: &[u8]) -> Result<()> {
    /// Bytes of the shortest entry of the directory, and of the end of an archive with the longest comment.
    const ENTRY: u64 = 46;
    const END: usize = 22 + 65535 + 20;
    let tail = &bytes[bytes.len().saturating_sub(END)..];
    if !tail.windows(4).any(|w| w == b"PK\x06\x07") {
        return Ok(());
    }
    for end in bytes.windows(40).filter(|w| w.starts_with(b"PK\x06\x06")) {
        let count = end[32..].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        ensure!(count <= bytes.len() as u64 / ENTRY, "it claims {count} entries");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::{NpzWriter, WriteNpyExt};

    fn file(array: &ArrayD<f32>) -> Vec<u8> {
        let mut bytes = vec![];
        array.write_npy(&mut bytes).unwrap();
        bytes
    }

    fn header(text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn arrays_come_back() {
        for shape in [&[2usize, 3][..], &[], &[5], &[0, 4]] {
            let len = shape.iter().product::<usize>();
            let array = ArrayD::from_shape_vec(shape, (0..len).map(|i| i as f32).collect()).unwrap();
            assert_eq!(npy(&file(&array)).unwrap(), array.clone().into(), "{shape:?}");
            let mut bytes = Cursor::new(vec![]);
            let mut npz = NpzWriter::new_compressed(&mut bytes);
            npz.add_array("x", &array).unwrap();
            npz.finish().unwrap();
            let mut npz = Npz::new(bytes.into_inner()).unwrap();
            assert_eq!(npz.names(), ["x"]);
            assert_eq!(npz.of_type("x", f32::datum_type()).unwrap(), array.into());
            let error = format!("{:#}", npz.of_type("x", i64::datum_type()).unwrap_err());
            assert!(error.contains("array x is F32"), "{error}");
            assert!(npz.any("y").unwrap_err().to_string().contains("the file has x"));
        }
    }

    #[test]
    fn arrays_of_f16_are_read() {
        for (order, bytes) in [('<', [0x00, 0x3c, 0x00, 0xc1]), ('>', [0x3c, 0x00, 0xc1, 0x00])] {
            let text = format!("{{'descr': '{order}f2', 'fortran_order': False, 'shape': (2,), }}\n");
            let file = [header(&text), bytes.to_vec()].concat();
            assert_eq!(npy(&file).unwrap(), tensor1(&[f16::from_f32(1.0), f16::from_f32(-2.5)]), "{order}");
            assert!(npy(&file[..file.len() - 1]).is_err());
            assert!(npy_of_type(&file, DatumType::F16).is_ok());
        }
        let complex = "{'descr': '<c8', 'fortran_order': False, 'shape': (0,), }\n";
        assert!(npy(&header(complex)).unwrap_err().to_string().contains("tract has not"));
    }

    #[test]
    fn shapes_without_values_ask_for_no_memory() {
        for shape in [
            "(1000000000000000,)",
            "(1000000, 1000000)",
            "(18446744073709551615, 2)",
            "(2, -1)",
            "(0x10,)",
            "(5",
        ] {
            let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
            assert!(npy(&header(&text)).is_err(), "{shape}");
        }
        // the last of two shapes would count
        let twice = "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), 'shape': (1000000000000000,)}\n";
        assert!(npy(&header(twice)).is_err());
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend(u32::MAX.to_le_bytes());
        assert!(format!("{:#}", npy(&long).unwrap_err()).contains("within its header"));
    }

    #[test]
    fn directories_without_entries_ask_for_no_memory() {
        // the end of a large archive, where to find it, and the end of any
        let mut bytes = b"PK\x06\x06".to_vec();
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for count in [1u64 << 40, 1 << 40, 1 << 40, 1 << 40] {
            bytes.extend(count.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(0u64.to_le_bytes());
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
        let error = format!("{:#}", Npz::new(bytes).err().unwrap());
        assert!(error.contains("claims 1099511627776 entries"), "{error}");
    }
}
