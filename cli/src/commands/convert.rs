//! `convert`: a model as an NNEF archive, compact or for any tract.

use crate::archive::{Archive, check};
use crate::files::{self, Draft};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::table::wrap;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use figures::Progress;
use flate2::Compression;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tract_core::internal::*;
use tract_onnx::WithOnnx;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse pruned.onnx convert -o pruned.nnef.tgz
  tract-sparse pruned.onnx convert --plain -o pruned.nnef.tar

Every command reads such a file. A tract without the extension tract_sparse
refuses it by that name; --plain writes what any tract reads. Where compact
weights would save nothing, that is written anyway.";

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// File to write: .nnef.tgz, .nnef.tar.gz or .nnef.tar
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write what any tract reads, zeros and all
    #[arg(long)]
    plain: bool,
}

impl Convert {
    pub(crate) fn new(output: &Path, plain: bool) -> Convert {
        Convert { output: output.to_path_buf(), plain }
    }
}

/// A file that has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    bytes: u64,
    plain_bytes: u64,
}

impl Written {
    /// Size of the file.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// What it would be with the zeros of its weights written out.
    pub fn plain_bytes(self) -> u64 {
        self.plain_bytes
    }

    /// Whether it needs tract-sparse to be read.
    pub fn is_compact(self) -> bool {
        self.bytes < self.plain_bytes
    }
}

/// Writes the model and says what it wrote.
pub(super) fn run(source: &Source, args: &Convert, options: &Options) -> Result<()> {
    let written = convert(source, args, options)?;
    let Written { bytes, plain_bytes } = written;
    if options.json {
        return out::json(&serde_json::json!({
            "file": args.output,
            "bytes": bytes,
            "plain_bytes": plain_bytes,
            "compact": written.is_compact(),
        }));
    }
    let how = match (written.is_compact(), args.plain) {
        (true, _) => format!(
            "{:.1} % less than with the zeros of its weights written out ({plain_bytes}); needs tract-sparse to be read",
            100.0 * (1.0 - bytes as f64 / plain_bytes as f64)
        ),
        (false, true) => "for any tract".into(),
        (false, false) => "compact weights would save nothing: for any tract".into(),
    };
    out::print(&wrap(&format!("{}: {bytes} bytes, {how}", args.output.display()), 4))
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
    let model = source.load(Flavour::Stock, options, Pass::Declutter)?;
    progress.say("writing");
    let made = Made::new(&model, archive, args).or_else(|error| {
        // what has been folded and moved may be what NNEF cannot hold
        log::info!("the simplified model: {error:#}");
        let options = Options { pass: Some(Pass::Type), ..options.clone() };
        let model = source.load(Flavour::Stock, &options, Pass::Type)?;
        Made::new(&model, archive, args).map_err(|_| error)
    });
    let Made { draft, bytes, plain_bytes } =
        made.with_context(|| format!("{source} cannot be written as NNEF"))?;
    draft.commit()?;
    Ok(Written { bytes, plain_bytes })
}

/// A file that has been compared with the model.
struct Made {
    draft: Draft,
    bytes: u64,
    plain_bytes: u64,
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
        let mut framework = tract_nnef::nnef().with_onnx();
        let (mut draft, plain_bytes) = write(&framework)?;
        let mut bytes = plain_bytes;
        if !args.plain {
            let ours = tract_sparse::nnef().into_inner();
            let (compact, compact_bytes) = write(&ours)?;
            if compact_bytes < bytes {
                (draft, bytes, framework) = (compact, compact_bytes, ours);
            }
        }
        check(&framework, model, draft.content()?)?;
        Ok(Made { draft, bytes, plain_bytes })
    }
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
