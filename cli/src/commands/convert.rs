//! `convert`: a model as an NNEF archive, compact or for any tract.

use crate::archive::{Archive, check};
use crate::files::{self, Draft};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::table::wrap;
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use figures::Progress;
use flate2::Compression;
use rewriter::{Halved, Values, for_files, halve, pad_in_numbers};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tract_core::internal::*;
use tract_core::knobs::KnobScope;
use tract_onnx::WithOnnx;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse pruned.onnx convert -o pruned.nnef.tgz
  tract-sparse pruned.onnx convert --weights bf16 -o half.nnef.tgz
  tract-sparse pruned.onnx convert --plain -o pruned.nnef.tar
  tract-sparse int8.onnx convert -o int8.nnef.tgz

Every command reads such a file. A tract without the extension tract_sparse
refuses it by that name; --plain writes what any tract reads. Where compact
weights would save nothing, that is written anyway.

--weights bf16 (or f16) rounds the weights of layers to the nearest numbers of
16 bits: the file is about half as large, and those of f32 are gone. A model
that is read from it runs in f32 as ever, or with --precision half. Quantised
layers keep their bytes, and run in int8 again.";

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// File to write: .nnef.tgz, .nnef.tar.gz or .nnef.tar
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write what any tract reads, zeros and all
    #[arg(long)]
    plain: bool,
    /// What weights of layers are stored as: f32 (the default); bf16 or f16,
    /// to which they are rounded, for half of the bytes
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "f32",
        hide_default_value = true,
        hide_possible_values = true,
        conflicts_with = "plain",
        verbatim_doc_comment
    )]
    weights: Weights,
}

/// What weights of layers are stored as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// As they are.
    #[default]
    F32,
    /// The upper halves of f32: eight significant bits and all of its range.
    Bf16,
    /// Eleven significant bits, and numbers up to 65504.
    F16,
}

impl Weights {
    /// What a word of the option means.
    ///
    /// # Errors
    /// Another word than `f32`, `bf16` and `f16`.
    pub fn named(word: &str) -> Result<Weights> {
        Weights::from_str(word, true).map_err(|_| anyhow!("{word:?}: expected f32, bf16 or f16"))
    }

    /// The numbers that they are rounded to, if they are.
    fn values(self) -> Option<Values> {
        match self {
            Weights::F32 => None,
            Weights::Bf16 => Some(Values::Bf16),
            Weights::F16 => Some(Values::F16),
        }
    }
}

impl Convert {
    pub(crate) fn new(output: &Path, plain: bool, weights: Weights) -> Convert {
        Convert { output: output.to_path_buf(), plain, weights }
    }
}

/// A file that has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    bytes: u64,
    plain_bytes: u64,
    compact: bool,
    halved: Halved,
}

impl Written {
    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What it would be with all of its weights written out.
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Whether it needs tract-sparse to be read.
    pub fn is_compact(&self) -> bool {
        self.compact
    }

    /// Names of the layers whose weights have been rounded to 16 bits.
    pub fn rounded(&self) -> &[String] {
        &self.halved.rounded
    }

    /// Names of the layers that keep weights of f32 where 16 bits were asked for: one of them is too large.
    pub fn kept(&self) -> &[String] {
        &self.halved.kept
    }

    /// What has been rounded, in words; empty if nothing was to be.
    fn loss(&self, to: Weights) -> String {
        let Some(to) = to.values().map(Values::name) else { return String::new() };
        let Halved { rounded, kept } = &self.halved;
        let mut words = match rounded.len() {
            0 => format!("; no layer has weights of f32 to round to {to}"),
            n => format!("; the weights of {n} layer(s) are rounded to {to}, those of f32 are not in it"),
        };
        if !kept.is_empty() {
            words += &format!("; too large for {to}, and f32 as before: {}", names(kept));
        }
        words
    }
}

/// Writes the model and says what it wrote.
pub(super) fn run(source: &Source, args: &Convert, options: &Options) -> Result<()> {
    let written = convert(source, args, options)?;
    let (bytes, plain_bytes) = (written.bytes, written.plain_bytes);
    if options.json {
        return out::json(&serde_json::json!({
            "file": args.output,
            "bytes": bytes,
            "plain_bytes": plain_bytes,
            "compact": written.is_compact(),
            "weights": args.weights.to_possible_value().map(|word| word.get_name().to_string()),
            "rounded": written.rounded(),
            "kept": written.kept(),
        }));
    }
    let how = match (written.is_compact(), args.plain) {
        (true, _) => format!(
            "{:.1} % less than with all weights written out ({plain_bytes}); needs tract-sparse to be read",
            100.0 * (1.0 - bytes as f64 / plain_bytes as f64)
        ),
        (false, true) => "for any tract".into(),
        (false, false) => "compact weights would save nothing: for any tract".into(),
    };
    let loss = written.loss(args.weights);
    out::print(&wrap(&format!("{}: {bytes} bytes, {how}{loss}", args.output.display()), 4))
}

/// Writes the model; compact if that makes the file smaller. What is written has been read again and
/// compared.
pub(crate) fn convert(source: &Source, args: &Convert, options: &Options) -> Result<Written> {
    ensure!(
        options.pass.is_none() && !options.optimize,
        "convert writes the simplified model: no --pass or -O"
    );
    let archive = archive_of(&args.output)?;
    if let Source::File(path) = source {
        files::refuse_values(path, &args.output)?;
    }
    let progress = Progress::new();
    progress.say("reading");
    let load = |options: &Options, pass| -> Result<(TypedModel, Halved)> {
        // layers stay stock, and a softmax of quantised values one
        let transform =
            options.transform.iter().filter(|spec| !spec.starts_with("sparsify")).cloned().collect();
        let options = Options { transform, ..options.clone() };
        let knobs = KnobScope::new([("TRACT_SPARSE", "never")])?;
        let mut model = knobs.enter(|| source.load(Flavour::Sparse, &options, Pass::Type))?;
        pad_in_numbers(&mut model)?;
        if pass == Pass::Declutter {
            model = knobs.enter(|| model.into_decluttered())?;
        }
        let halved = args.weights.values().map(|to| halve(&mut model, to)).transpose()?;
        Ok((for_files(&model)?, halved.unwrap_or_default()))
    };
    let (model, halved) = load(options, Pass::Declutter)?;
    progress.say("writing");
    let made = Made::new(&model, archive, args).map(|made| (made, halved)).or_else(|error| {
        // what has been folded and moved may be what NNEF cannot hold
        log::info!("the simplified model: {error:#}");
        let options = Options { pass: Some(Pass::Type), ..options.clone() };
        let (model, halved) = load(&options, Pass::Type)?;
        Made::new(&model, archive, args).map(|made| (made, halved)).map_err(|_| error)
    });
    let (Made { draft, bytes, plain_bytes, compact }, halved) =
        made.with_context(|| format!("{source} cannot be written as NNEF"))?;
    draft.commit()?;
    Ok(Written { bytes, plain_bytes, compact, halved })
}

/// A file that has been compared with the model.
struct Made {
    draft: Draft,
    bytes: u64,
    plain_bytes: u64,
    /// Whether it needs tract-sparse to be read.
    compact: bool,
}

impl Made {
    fn new(model: &TypedModel, archive: Archive, args: &Convert) -> Result<Made> {
        let write = |framework: &tract_nnef::internal::Nnef| -> Result<(Draft, u64)> {
            let mut draft = files::draft(&args.output)?;
            archive
                .write(framework, model, true, &mut draft)
                .with_context(|| format!("cannot write {}", args.output.display()))?;
            let bytes = draft.seek(SeekFrom::End(0))?;
            Ok((draft, bytes))
        };
        let stock = tract_nnef::nnef().with_onnx();
        let ours = tract_sparse::nnef().into_inner();
        let (draft, plain_bytes, needed) = match write(&stock) {
            Ok((draft, bytes)) => (draft, bytes, false),
            Err(error) if args.plain => {
                return Err(error.context(
                    "--plain writes what NNEF files of stock tract can hold; without it, quantised values can be, too",
                ));
            }
            // quantised values are in no file of stock tract
            Err(error) => {
                let plain = write(&tract_sparse::nnef().with_plain_weights().into_inner());
                plain.map(|(draft, bytes)| (draft, bytes, true)).map_err(|_| error)?
            }
        };
        let compact = if args.plain { None } else { Some(write(&ours)?) };
        let compact = compact.filter(|(_, bytes)| needed || *bytes < plain_bytes);
        let is_compact = compact.is_some();
        let (mut draft, bytes) = compact.unwrap_or((draft, plain_bytes));
        check(if is_compact { &ours } else { &stock }, model, draft.content()?)?;
        Ok(Made { draft, bytes, plain_bytes, compact: is_compact })
    }
}

/// Names, the first few of many.
fn names(names: &[String]) -> String {
    const MOST: usize = 5;
    let more = names.len().saturating_sub(MOST);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn archive_of(path: &Path) -> Result<Archive> {
    let name = path.to_string_lossy().to_ascii_lowercase();
    match name.as_str() {
        name if name.ends_with(".nnef.tgz") || name.ends_with(".nnef.tar.gz") => {
            Ok(Archive::Gzip(Compression::best()))
        }
        name if name.ends_with(".nnef.tar") => Ok(Archive::Tar),
        _ => bail!("-o {}: the name must end in .nnef.tgz, .nnef.tar.gz or .nnef.tar", path.display()),
    }
}
