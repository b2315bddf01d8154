//! Which networks a report is about.

use crate::report::Kind;
use crate::report::networks::Source::{BuiltIn, File};
use anyhow::{Context, Result};
use sparsity::{Layers, Zeros};
use std::path::{Path, PathBuf};
use zoo::{Network, Spec};

/// What a network without zeros is called.
const DENSE: &str = "dense";

/// A network of the report.
#[derive(Debug, Clone)]
pub struct Case {
    name: String,
    source: Source,
    int8: bool,
}

#[derive(Debug, Clone)]
enum Source {
    BuiltIn(Network, Box<Spec>),
    File(PathBuf),
}

impl Case {
    /// The built-in networks of `shapes/networks.txt`.
    ///
    /// # Errors
    /// A line of that file that says something else.
    pub fn built_in() -> Result<Vec<Case>> {
        let lines = include_str!("../../shapes/networks.txt").lines();
        let lines = lines.filter(|line| !line.starts_with('#'));
        lines.map(|line| Case::parse(line).with_context(|| format!("networks.txt: {line:?}"))).collect()
    }

    /// The `.onnx` files of a folder, by name.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Vec<Case>> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.retain(|file| file.extension().is_some_and(|e| e == "onnx"));
        files.sort();
        let name = |file: &Path| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(files.into_iter().map(|file| Case { name: name(&file), source: File(file), int8: true }).collect())
    }

    fn parse(line: &str) -> Result<Case> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (words, int8) = match &words[..] {
            [words @ .., "int8"] => (words, true),
            words => (words, false),
        };
        let [network, conv1x1, dwconv3x3, conv3x3] = words[..] else {
            anyhow::bail!("expected a network, three kinds of zeros and perhaps int8");
        };
        let spec = Spec {
            conv1x1: zeros(Layers::Others, conv1x1)?,
            dwconv3x3: zeros(Layers::Depthwise3x3, dwconv3x3)?,
            conv3x3: zeros(Layers::Conv3x3, conv3x3)?,
            ..Spec::default()
        };
        let network = Network::by_name(network)?;
        let name = format!("{network} {}", words_of(&spec));
        Ok(Case { name, source: BuiltIn(network, Box::new(spec)), int8 })
    }

    /// As it is called in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is shown with.
    pub fn kind(&self) -> Kind {
        match &self.source {
            File(_) => Kind::File,
            BuiltIn(_, spec) if words_of(spec) == DENSE => Kind::Dense,
            BuiltIn(..) => Kind::Pruned,
        }
    }

    /// Whether it is quantised, too: the files, and those built-in ones that say so.
    pub fn in_int8(&self) -> bool {
        self.int8
    }

    /// How many neighbouring output channels share their zeros: what MNN's converter wants to be told.
    pub fn shared_rows(&self) -> usize {
        match &self.source {
            BuiltIn(_, spec) if spec.conv3x3.is_some() => 4,
            BuiltIn(_, spec) => spec.conv1x1.map_or(1, |zeros| zeros.structure().group().0),
            File(_) => 1,
        }
    }

    /// The network as a file; a built-in one is built, and written to `folder`.
    ///
    /// # Errors
    /// A network that cannot be built or written.
    pub fn file(&self, folder: &Path) -> Result<PathBuf> {
        match &self.source {
            File(file) => Ok(file.clone()),
            BuiltIn(network, spec) => {
                let file = folder.join("network.onnx");
                zoo::write(&zoo::build(*network, spec)?, &file)?;
                Ok(file)
            }
        }
    }
}

fn zeros(layers: Layers, text: &str) -> Result<Option<Zeros>> {
    if text == "-" { Ok(None) } else { Ok(layers.parse(text, true)?.zeros()) }
}

/// The zeros of a network as a table has room for them.
fn words_of(spec: &Spec) -> String {
    let mut words = vec![];
    if let Some(zeros) = spec.conv1x1 {
        let percent = zeros.ratio().map_or_else(String::new, |ratio| format!(" {:.0} %", 100.0 * ratio));
        words.push(format!("{}{percent}", zeros.structure()));
    }
    if let Some(zeros) = spec.dwconv3x3 {
        words.push(zeros.to_string());
    }
    if let Some(zeros) = spec.conv3x3 {
        words.push(zeros.structure().to_string());
        if let Some(ratio) = zeros.ratio() {
            words.push(format!("{:.0} % connectivity", 100.0 * ratio));
        }
    }
    if words.is_empty() { DENSE.into() } else { words.join(" + ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_network_dense_and_sparse() {
        let cases = Case::built_in().unwrap();
        for network in Network::ALL {
            let of = |case: &&Case| case.name.starts_with(&format!("{network} "));
            assert!(cases.iter().any(|case| case.name == format!("{network} dense")), "{network}");
            assert!(cases.iter().filter(of).count() >= 2, "{network}");
        }
        let named = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
        assert_eq!(named("mobilenet-v1 4x4 30 % + 3:9").shared_rows(), 4);
        assert_eq!(named("mobilenet-v1 unstructured 90 %").shared_rows(), 1);
        assert_eq!(named("mobilenet-v1 unstructured 90 %").kind(), Kind::Pruned);
        assert_eq!(named("resnet-18 dense").kind(), Kind::Dense);
        assert_eq!(named("resnet-18 5:9 + 50 % connectivity").shared_rows(), 4);
        assert!(named("mobilenet-v1 2x4 80 %").in_int8() && !named("mobilenet-v1 2x1 80 %").in_int8());
        assert!(Case::parse("resnet-18 - 5:9").is_err() && Case::parse("resnet-18 - - 5:9 int9").is_err());
        assert!(Case::parse("resnet-18 - 5:9 int8").is_err() && Case::parse("resnet-18 - - 5:8").is_err());
    }
}
