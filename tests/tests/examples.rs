//! The examples that people copy run, and say what they should.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{models_dir, skipped};
use zoo::{Network, Spec};

/// A folder of its own for each test, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Result<Folder> {
        let folder =
            std::env::temp_dir().join(format!("tract-sparse-examples-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Folder(folder))
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A small network with half of its blocks pruned.
    fn pruned(&self) -> Result<String> {
        use prost::Message;
        let spec = Spec { conv1x1: Some("4x4:0.5".parse()?), hw: Some(64), ..Spec::default() };
        let file = self.file("pruned.onnx");
        std::fs::write(&file, zoo::build(Network::MobilenetV2, &spec)?.encode_to_vec())?;
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What an example prints; none if it has not been built, which `cargo test` without names of tests does.
fn output(example: &str, args: &[&str]) -> Result<Option<String>> {
    let here = std::env::current_exe()?;
    let release = here.parent().and_then(Path::parent).context("a test outside of a target folder")?;
    let program = release.join("examples").join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        skipped(
            example,
            &format!(
                "{} has not been built: cargo build --release --workspace --examples",
                program.display()
            ),
        );
        return Ok(None);
    }
    let output = Command::new(program).args(args).output()?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{example} {args:?}: {out}{err}");
    Ok(Some(out))
}

/// A file of the folder of real models.
fn real(example: &str, name: &str) -> Option<String> {
    let file = models_dir().map(|folder| folder.join(name)).filter(|file| file.is_file());
    if file.is_none() {
        skipped(example, &format!("there is no {name} in the folder of TRACT_SPARSE_MODELS"));
    }
    file.map(|file| file.display().to_string())
}

#[test]
fn report() -> Result<()> {
    let folder = Folder::new("report")?;
    let Some(said) = output("report", &[&folder.pruned()?])? else { return Ok(()) };
    ensure!(said.contains("layers run sparse on") && said.contains("4x4:0.5"), "{said}");
    ensure!(said.contains("as they run, as predicted"), "{said}");
    Ok(())
}

#[test]
fn threads() -> Result<()> {
    let folder = Folder::new("threads")?;
    let Some(said) = output("threads", &[&folder.pruned()?, "2"])? else { return Ok(()) };
    ensure!(said.contains("2 threads: ") && said.contains("the same, bit for bit"), "{said}");
    Ok(())
}

#[test]
fn nnef() -> Result<()> {
    let folder = Folder::new("nnef")?;
    let (from, to) = (folder.pruned()?, folder.file("pruned.nnef.tar"));
    let Some(said) = output("nnef", &[&from, &to])? else { return Ok(()) };
    ensure!(said.contains("layers run sparse on") && said.contains("both answer alike"), "{said}");
    ensure!(std::fs::metadata(&to)?.len() < std::fs::metadata(&from)?.len(), "{said}");
    Ok(())
}

#[test]
fn pulse() -> Result<()> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/pulse_conv.onnx").display().to_string();
    let Some(said) = output("pulse", &[&model, "T", "4"])? else { return Ok(()) };
    ensure!(said.contains("4 steps at a time") && said.contains("pulse 7: [1, 32, 4] in"), "{said}");
    Ok(())
}

#[test]
fn classify() -> Result<()> {
    let names = ["mobilenet_v2_1.0_224.onnx", "inputs/parrot.jpg", "inputs/imagenet_labels.txt"];
    let files: Vec<String> = names.into_iter().filter_map(|name| real("classify", name)).collect();
    let [model, photo, labels] = &*files else { return Ok(()) };
    let Some(said) = output("classify", &[model, photo, labels])? else { return Ok(()) };
    ensure!(said.matches("macaw").count() >= 2, "{said}");
    Ok(())
}

#[test]
fn hand_landmarks() -> Result<()> {
    let Some(model) = real("hand_landmarks", "hand_landmark_sparse.onnx") else { return Ok(()) };
    let Some(photo) = real("hand_landmarks", "inputs/grace_hopper.bmp") else { return Ok(()) };
    let folder = Folder::new("hand")?;
    let drawn = folder.file("drawn.png");
    let Some(said) = output("hand_landmarks", &[&model, &photo, &drawn])? else { return Ok(()) };
    ensure!(said.contains("of 50 layers run sparse") && said.contains("21 landmarks"), "{said}");
    let drawn = image::open(&drawn)?.to_rgb8();
    ensure!(drawn.dimensions() == (224, 224), "{:?}", drawn.dimensions());
    let bones = drawn.pixels().filter(|pixel| pixel.0 == [0, 200, 0]).count();
    ensure!(bones > 100, "{bones} pixels are bones");
    Ok(())
}
