//! `convert`: a model as an NNEF archive, compact or for any tract.

use crate::args::{Options, Pass};
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::wrap;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use figures::Progress;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::path::{Path, PathBuf};
use tract_onnx::WithOnnx;

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

/// Writes the model; compact if that makes the file smaller.
pub(crate) fn run(source: &Source, args: &Convert, options: &Options) -> Result<()> {
    ensure!(
        options.pass.is_none() && !options.optimize,
        "convert writes the simplified model: no --pass or -O"
    );
    let archive = Archive::of(&args.output)?;
    let progress = Progress::new();
    progress.say("reading");
    let model = source.load(Flavour::Stock, options, Pass::Declutter)?;
    let write = |nnef: tract_nnef::internal::Nnef| -> Result<Vec<u8>> {
        let tar = nnef.write_to_tar_with_config(&model, vec![], false, true);
        archive.pack(tar.with_context(|| format!("{source} cannot be written as NNEF"))?)
    };
    progress.say("writing");
    let plain = write(tract_nnef::nnef().with_onnx())?;
    let (plain_bytes, mut bytes) = (plain.len(), plain);
    if !args.plain {
        let compact = write(tract_sparse::nnef())?;
        if compact.len() < bytes.len() {
            bytes = compact;
        }
    }
    let compact = bytes.len() < plain_bytes;
    prune::file::write(&args.output, &bytes)?;
    drop(progress);
    if options.json {
        return out::json(&serde_json::json!({
            "file": args.output,
            "bytes": bytes.len(),
            "plain_bytes": plain_bytes,
            "compact": compact,
        }));
    }
    let how = match (compact, args.plain) {
        (true, _) => format!(
            "{:.1} % less than with the zeros of its weights written out ({plain_bytes}); needs tract-sparse to be read",
            100.0 * (1.0 - bytes.len() as f64 / plain_bytes as f64)
        ),
        (false, true) => "for any tract".into(),
        (false, false) => "compact weights would save nothing: for any tract".into(),
    };
    out::print(&wrap(&format!("{}: {} bytes, {how}", args.output.display(), bytes.len()), 4))
}

/// How the files of a model are put into one.
enum Archive {
    Tar,
    Gzip,
}

impl Archive {
    fn of(path: &Path) -> Result<Archive> {
        let name = path.to_string_lossy().to_ascii_lowercase();
        match name.as_str() {
            name if name.ends_with(".nnef.tgz") || name.ends_with(".nnef.tar.gz") => Ok(Archive::Gzip),
            name if name.ends_with(".nnef.tar") => Ok(Archive::Tar),
            _ => bail!("-o {}: the name must end in .nnef.tgz, .nnef.tar.gz or .nnef.tar", path.display()),
        }
    }

    fn pack(&self, tar: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Archive::Tar => Ok(tar),
            Archive::Gzip => {
                let mut encoder = GzEncoder::new(vec![], Compression::best());
                encoder.write_all(&tar)?;
                Ok(encoder.finish()?)
            }
        }
    }
}
