//! Models as NNEF, written so that they can be read again, and read again before the file counts as written.

use crate::inputs::{Input, inputs};
use crate::out;
use anyhow::{Context, Result, ensure};
use figures::{Agreement, TOLERANCE};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use tract_core::internal::*;
use tract_nnef::internal::Nnef;
use tract_sparse::{Policy, Report};

/// What symbols are set to for a run, one after the other until the model takes it: small numbers, then what
/// strides and windows go into.
const SIZES: [i64; 4] = [2, 7, 16, 64];
/// Bytes of a block of a tar file.
const BLOCK: usize = 512;

/// How the files of a model are put into one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Archive {
    Tar,
    Gzip(Compression),
}

impl Archive {
    /// Writes a model.
    ///
    /// # Errors
    /// An operator that NNEF has not, or a disk that is full.
    pub(crate) fn write(
        self,
        framework: &Nnef,
        model: &TypedModel,
        deterministic: bool,
        to: &mut impl Write,
    ) -> Result<()> {
        let tar = |to: &mut dyn Write| -> Result<()> {
            framework.write_to_tar_with_config(model, Mended::new(to), false, deterministic)?.finish()?;
            Ok(())
        };
        match self {
            Archive::Tar => tar(to),
            Archive::Gzip(level) => {
                let mut encoder = GzEncoder::new(to, level);
                tar(&mut encoder)?;
                encoder.finish()?;
                Ok(())
            }
        }
    }
}

/// A tar file on its way to `to`. The graph, which comes first, gets the text of [`mended`].
struct Mended<'a> {
    to: &'a mut dyn Write,
    /// The beginning, until all of the graph is there.
    head: Option<Vec<u8>>,
}

impl<'a> Mended<'a> {
    fn new(to: &'a mut dyn Write) -> Mended<'a> {
        Mended { to, head: Some(vec![]) }
    }

    fn finish(self) -> io::Result<()> {
        match self.head {
            Some(_) => Err(io::Error::new(ErrorKind::InvalidData, "the archive ends within its graph")),
            None => self.to.flush(),
        }
    }
}

impl Write for Mended<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(head) = &mut self.head else { return self.to.write(bytes) };
        head.extend_from_slice(bytes);
        let Some(header) = head.get(..BLOCK) else { return Ok(bytes.len()) };
        let mut header = tar::Header::from_byte_slice(header).clone();
        let size = header.entry_size()? as usize;
        if head.len() < BLOCK + size.next_multiple_of(BLOCK) {
            return Ok(bytes.len());
        }
        let text = std::str::from_utf8(&head[BLOCK..BLOCK + size]).map_err(io::Error::other)?;
        let mut text = mended(text).into_bytes();
        header.set_size(text.len() as u64);
        header.set_cksum();
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(&text)?;
        self.to.write_all(&head[BLOCK + size.next_multiple_of(BLOCK)..])?;
        self.head = None;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The text of a graph with its strings as tract reads them: a character behind a backslash stands for
/// itself, and quotes of both kinds need one. What tract 0.23.9 writes are strings of Rust.
pub(crate) fn mended(text: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        out.push(c);
        if c != '"' {
            continue;
        }
        while let Some(c) = chars.next() {
            let c = match c {
                '"' => break,
                '\\' => escaped(&mut chars),
                c => c,
            };
            if matches!(c, '\\' | '"' | '\'') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out
}

/// The character that an escape of Rust stands for, the backslash read already.
fn escaped(chars: &mut std::str::Chars) -> char {
    match chars.next() {
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('0') => '\0',
        Some('u') => {
            let digits: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
            u32::from_str_radix(&digits, 16)
                .ok()
                .and_then(char::from_u32)
                .unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        other => other.unwrap_or('\\'),
    }
}

/// Reads a model back from a file or folder and compares it with what was to be written: its properties,
/// inputs and outputs, how many layers run sparse, and what it gives for a seeded input.
///
/// # Errors
/// It cannot be read, or it is not the same; the message says what differs.
pub(crate) fn check(framework: &Nnef, model: &TypedModel, path: &Path) -> Result<()> {
    let again = framework.model_for_path(path).context("what was written cannot be read again")?;
    for (key, value) in &model.properties {
        let same = again.properties.get(key).is_some_and(|got| got == value);
        ensure!(same, "property {key:?} does not come back as it was");
    }
    let again =
        again.into_decluttered().context("what was written cannot be simplified when it is read again")?;
    let facts = |model: &TypedModel| -> Result<Vec<String>> {
        let outlets = model.input_outlets()?.iter().chain(model.output_outlets()?);
        outlets.map(|outlet| Ok(format!("{:?}", model.outlet_fact(*outlet)?.without_value()))).collect()
    };
    let (was, is) = (facts(model)?, facts(&again)?);
    ensure!(was == is, "inputs and outputs come back as {}, not {}", is.join(" "), was.join(" "));
    let policy = Policy::from_knobs()?;
    let sparse = |model: &TypedModel| -> Result<Vec<String>> {
        let mut model = model.clone().into_decluttered()?;
        tract_sparse::sparsify(&mut model, &policy)?;
        let report = Report::with_policy(&model, &policy)?;
        Ok(report.layers.iter().filter(|l| l.reason.is_none()).map(|l| l.name.clone()).collect())
    };
    let (was, is) = (sparse(model)?, sparse(&again)?);
    ensure!(
        is.len() >= was.len(),
        "{} layer(s) run sparse when it is read again, not {}: of {}, there are [{}]",
        is.len(),
        was.len(),
        was.join(", "),
        is.join(", ")
    );
    let Some(expected) = outputs(model) else {
        log::warn!("the model does not run on random inputs: what was written has not been run");
        return Ok(());
    };
    let got = outputs(&again).context("what was written does not run when it is read again")?;
    for ((expected, got), outlet) in expected.iter().zip(&got).zip(model.output_outlets()?) {
        let name = model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name);
        let same = match expected.datum_type().is_number() {
            true => Agreement::of(expected, got, TOLERANCE).with_context(|| name.to_string())?.agrees,
            false => expected == got,
        };
        ensure!(same, "output {name} is another one when the model is read again");
    }
    Ok(())
}

/// What a model gives for a seeded input, with small numbers for its symbols; none if it takes no such input, which operators of
/// tract may say in a panic.
fn outputs(model: &TypedModel) -> Option<TVec<TValue>> {
    let symbols = model.symbols.all_symbols();
    let sizes = if symbols.is_empty() { &SIZES[..1] } else { &SIZES };
    let run = |size: i64| -> Result<TVec<TValue>> {
        let values: HashMap<Symbol, TDim> = symbols.iter().map(|s| (s.clone(), size.to_dim())).collect();
        let model = if values.is_empty() { model.clone() } else { model.set_symbols(&values)? };
        let given = inputs(&model, &Input { seed: 1, ..Input::default() })?;
        model.into_optimized()?.into_runnable()?.run(given)
    };
    sizes.iter().find_map(|size| {
        let done = out::caught(|| run(*size));
        done.inspect_err(|e| log::debug!("with sizes of {size}: {e:#}")).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_rust_become_strings_of_nnef() {
        for (string, nnef) in [
            ("plain", r#""plain""#),
            ("{0: 'person'}", r#""{0: \'person\'}""#),
            ("say \"hi\"", r#""say \"hi\"""#),
            (r"C:\new", r#""C:\\new""#),
            ("a\nb\u{200d}\t\0", "\"a\nb\u{200d}\t\0\""),
        ] {
            assert_eq!(mended(&format!("x = {string:?}; y = {string:?}")), format!("x = {nnef}; y = {nnef}"));
        }
    }
}
