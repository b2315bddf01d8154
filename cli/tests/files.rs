//! Files through the binary: nothing that anything reads is lost, nothing is left half-written.

mod common;

use common::{folder, run_in};
use ndarray_npy::write_npy;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tract_core::ndarray::Array4;

fn program() -> PathBuf {
    assert_cmd::cargo::cargo_bin("tract-sparse")
}

/// An empty folder of this test.
fn dir(name: &str) -> PathBuf {
    let dir = folder().join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn skipped(test: &str, why: &str) {
    eprintln!("NOT RUN: {test}: {why}");
}

/// `r.onnx` with its values in `DATA`, as exporters of large models write it.
fn with_external_data(dir: &Path, names: &[&str], data: &str) {
    use prost::Message;
    use prune::onnx::{Document, tensor, walk};
    use tract_onnx::pb::StringStringEntryProto;
    use tract_onnx::pb::tensor_proto::DataLocation;
    let mut model = Document::open(&folder().join("r.onnx")).unwrap().model;
    let mut values = vec![];
    walk::tensors(&mut model, &mut |tensor| {
        if tensor::is_external(tensor) || tensor.name.is_empty() || tensor.raw_data.is_empty() {
            return Ok(());
        }
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            entry("location", data.into()),
            entry("offset", values.len().to_string()),
            entry("length", tensor.raw_data.len().to_string()),
        ];
        values.append(&mut tensor.raw_data);
        tensor.data_location = Some(DataLocation::External as i32);
        Ok(())
    })
    .unwrap();
    std::fs::write(dir.join(data), values).unwrap();
    for name in names {
        std::fs::write(dir.join(name), model.encode_to_vec()).unwrap();
    }
}

fn succeeds(dir: &Path, line: &str) -> String {
    let output = run_in(dir, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with one line that holds `words`, and changes nothing in the folder.
fn refuses(dir: &Path, line: &str, words: &[&str]) {
    let state = || names(dir).into_iter().map(|name| std::fs::read(dir.join(name)).ok()).collect::<Vec<_>>();
    let before = (names(dir), state());
    let output = run_in(dir, line);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.lines().count() == 1, "{line}: {error}");
    for word in words {
        assert!(error.contains(word), "{line}: no {word:?} in {error}");
    }
    assert!(before == (names(dir), state()), "{line} changed something");
}

/// A copy of a model that reads the values of the model which is written over keeps them.
#[test]
fn prune_keeps_values_that_a_copy_reads() {
    let dir = dir("backup");
    with_external_data(&dir, &["model.onnx", "backup.onnx"], "model.onnx.data");
    let before = std::fs::read(dir.join("model.onnx.data")).unwrap();
    let dense = succeeds(&dir, "backup.onnx run");
    let made = succeeds(&dir, "backup.onnx prune --ratio 0.5 -o model.onnx --json");
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["data"], &made["unread"]), (&"model.onnx.1.data".into(), &serde_json::json!([])));
    assert_eq!(names(&dir), ["backup.onnx", "model.onnx", "model.onnx.1.data", "model.onnx.data"]);
    assert!(std::fs::read(dir.join("model.onnx.data")).unwrap() == before);
    assert_eq!(succeeds(&dir, "backup.onnx run"), dense);
    assert_ne!(succeeds(&dir, "model.onnx run"), dense);
}

/// Real inputs and recipes are inputs, too, one of a folder as well.
#[test]
fn prune_keeps_what_it_reads() {
    let dir = dir("prune-inputs");
    std::fs::copy(folder().join("r.onnx"), dir.join("m.onnx")).unwrap();
    std::fs::write(dir.join("r.toml"), "ratio = 0.5\n").unwrap();
    std::fs::create_dir(dir.join("all")).unwrap();
    for name in ["x.npy", "all/y.npy"] {
        write_npy(dir.join(name), &Array4::<f32>::zeros((1, 3, 32, 32))).unwrap();
    }
    refuses(&dir, "m.onnx prune --ratio 0.5 --calibrate x.npy -o x.npy", &["x.npy", "input"]);
    refuses(&dir, "m.onnx prune --ratio 0.5 --calibrate all -o all/y.npy", &["y.npy", "input"]);
    refuses(&dir, "m.onnx prune --recipe r.toml -o r.toml", &["r.toml", "input"]);
}

/// What a run is held against is read before anything is written, and two files are two.
#[test]
fn run_keeps_what_it_is_held_against() {
    let dir = dir("run-bundle");
    std::fs::copy(folder().join("r.onnx"), dir.join("m.onnx")).unwrap();
    succeeds(&dir, "m.onnx run --save-outputs y.npz");
    for option in ["--save-outputs", "--save-steps"] {
        let line = format!("m.onnx run --seed 2 --assert-output-bundle y.npz {option} y.npz");
        refuses(&dir, &line, &["y.npz", "input"]);
    }
    refuses(
        &dir,
        "m.onnx run --save-outputs a.npz --save-steps ./a.npz",
        &["--save-outputs and --save-steps"],
    );
    refuses(&dir, "m.onnx dump --nnef-tar a.tar --nnef a.tar", &["--nnef-tar and --nnef"]);
}

/// In place: values that nothing reads any more are left there and named.
#[test]
fn prune_in_place_names_the_values_it_leaves() {
    let dir = dir("in-place");
    with_external_data(&dir, &["model.onnx"], "weights.bin");
    let before = std::fs::read(dir.join("weights.bin")).unwrap();
    let text = succeeds(&dir, "model.onnx prune --ratio 0.5 -o ./model.onnx");
    assert!(
        text.contains("weights.bin: left there") && text.contains("its values: ./model.onnx.data"),
        "{text}"
    );
    assert_eq!(names(&dir), ["model.onnx", "model.onnx.data", "weights.bin"]);
    assert!(std::fs::read(dir.join("weights.bin")).unwrap() == before);
    succeeds(&dir, "model.onnx compare");
}

#[test]
fn no_command_writes_over_what_is_read() {
    let dir = dir("read");
    for (model, data) in [("model.onnx", "w.nnef.tar"), ("other.onnx", "o.data")] {
        with_external_data(&dir, &[model], data);
    }
    let values = "reads its values from this file";
    for line in [
        "model.onnx prune --ratio 0.5 -o w.nnef.tar",
        "model.onnx prune --ratio 0.5 -o o.data",
        "model.onnx convert -o w.nnef.tar",
        "other.onnx convert -o w.nnef.tar",
        "model.onnx dump -q --nnef-tar o.data",
        "model.onnx dump -q --nnef w.nnef.tar",
        "model.onnx dump -q --nnef-graph o.data",
        "model.onnx run --save-outputs w.nnef.tar",
        "model.onnx run --save-steps ./o.data",
        "model.onnx inspect --html o.data",
        "model.onnx whatif --sweep --svg o.data",
        "zoo resnet-20 --width 0.25 -o o.data",
    ] {
        refuses(&dir, line, &["cannot write", values]);
    }
    refuses(&dir, "model.onnx inspect --html ../read/model.onnx", &["cannot write", "model.onnx", "input"]);
    succeeds(&dir, "model.onnx run --save-outputs x.npz --seed 2");
    refuses(&dir, "model.onnx run --input x.npz --save-outputs x.npz", &["input"]);
    // a file of the same kind in its place is no loss
    succeeds(&dir, "model.onnx run --save-outputs x.npz");
    succeeds(&dir, "other.onnx convert -o m.nnef.tgz");
    succeeds(&dir, "m.nnef.tgz convert -o m.nnef.tgz");
}

#[test]
#[cfg(unix)]
fn modes_of_files_that_are_replaced_stay() {
    use std::os::unix::fs::PermissionsExt;
    let dir = dir("modes");
    std::fs::copy(folder().join("r.onnx"), dir.join("m.onnx")).unwrap();
    for line in [
        "m.onnx prune --ratio 0.5 -o m.onnx",
        "m.onnx convert -o m.nnef.tgz",
        "m.onnx dump -q --nnef-tar m.nnef.tar",
        "m.onnx run --save-outputs m.npz",
        "m.onnx inspect --html m.html",
        "m.onnx whatif --sweep --svg m.svg",
        "zoo resnet-20 --width 0.25 -o z.onnx",
    ] {
        let file = dir.join(line.split(' ').next_back().unwrap());
        if !file.exists() {
            succeeds(&dir, line);
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        succeeds(&dir, line);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{line}");
    }
}

/// Every command that writes a file, with the name of the file.
const WRITERS: [(&str, &str); 7] = [
    ("../r.onnx prune --ratio 0.5 -o out.onnx", "out.onnx"),
    ("../r.onnx convert -o out.nnef.tgz", "out.nnef.tgz"),
    ("../r.onnx dump -q --nnef-tar out.nnef.tar", "out.nnef.tar"),
    ("../r.onnx run --save-steps out.npz", "out.npz"),
    ("../r.onnx inspect --html out.html", "out.html"),
    ("../r.onnx whatif --sweep --svg out.svg", "out.svg"),
    ("zoo resnet-20 --width 0.5 -o out.onnx", "out.onnx"),
];

/// Runs a command line where the folder `dir` has been mounted as `mount` says, with a file `name` in it.
/// Prints what is there afterwards. None if nothing can be mounted here.
fn mounted(dir: &Path, mount: &str, line: &str, name: &str) -> Option<Output> {
    let script = format!(
        "set -e; {mount}; cd {}; set +e; \"$0\" {line}; code=$?; ls -A; cat {name}; exit $code",
        dir.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(program()).output().ok()?;
    let error = String::from_utf8_lossy(&output.stderr);
    let able = !error.contains("unshare:") && !error.contains("mount:");
    able.then_some(output)
}

#[test]
fn a_full_or_read_only_disk_keeps_the_old_file() {
    let dir = dir("mounted");
    let path = dir.display();
    let full = format!("mount -t tmpfs -o size=8k none {path}; echo old > {path}/");
    let read_only =
        format!("mount --bind {path} {path}; echo old > {path}/@; mount -o remount,ro,bind {path}");
    for (what, words) in [("full", "No space left"), ("read-only", "Read-only")] {
        for (line, name) in WRITERS {
            let mount = match what {
                "full" => format!("{full}{name}"),
                _ => read_only.replace('@', name),
            };
            let Some(output) = mounted(&dir, &mount, line, name) else {
                skipped("a_full_or_read_only_disk_keeps_the_old_file", "nothing can be mounted (no root?)");
                return;
            };
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}: {error}");
            assert!(
                error.contains(words) && error.contains(name) && error.lines().count() == 1,
                "{line}: {error}"
            );
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{name}\nold\n"), "{line}, {what}");
            let _ = std::fs::remove_file(dir.join(name));
        }
    }
}

/// Commands that are stopped at moments all over their run, and once more at its end, where they write.
#[cfg(unix)]
fn stopped(test: &str, signal: &str, mut after: impl FnMut(&Path, &str, &[String])) {
    use std::os::unix::process::ExitStatusExt;
    let dir = dir(test);
    with_external_data(&dir, &["source.onnx"], "source.data");
    for (line, name) in [
        ("zoo resnet-20 -o out.onnx", "out.onnx"),
        ("source.onnx prune --ratio 0.5 -o out.onnx", "out.onnx"),
        ("source.onnx convert -o out.nnef.tgz", "out.nnef.tgz"),
        ("source.onnx run --save-steps out.npz", "out.npz"),
    ] {
        let begun = Instant::now();
        succeeds(&dir, line);
        let time = begun.elapsed();
        let whole = std::fs::read(dir.join(name)).unwrap();
        let mut interrupted = 0;
        for turn in 0..12u32 {
            for file in names(&dir).iter().filter(|file| !file.starts_with("source")) {
                std::fs::remove_file(dir.join(file)).unwrap();
            }
            std::fs::write(dir.join(name), "old").unwrap();
            let mut child = Command::new(program())
                .current_dir(&dir)
                .args(line.split(' '))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // half of the moments in the last fifth
            let share = if turn % 2 == 0 { 0.8 + f64::from(turn) / 60.0 } else { f64::from(turn) / 12.0 };
            std::thread::sleep(time.mul_f64(share).min(Duration::from_secs(20)));
            let sent =
                Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).output().unwrap();
            let status = child.wait().unwrap();
            if sent.status.success() && status.signal().is_some() {
                interrupted += 1;
            } else {
                assert!(status.success(), "{line}: {status}");
            }
            let now = std::fs::read(dir.join(name)).unwrap();
            let new = now == whole;
            assert!(new || now == b"old", "{line}: neither the old file nor the new one");
            assert!(new || !status.success(), "{line}: done, and the file is the old one");
            after(&dir, line, &names(&dir));
        }
        eprintln!("{line}: {interrupted} of 12 interrupted");
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_leaves_nothing_half_written() {
    stopped("interrupted", "INT", |_, line, left| {
        assert!(left.iter().all(|file| !file.ends_with(".part")), "{line} left {left:?}");
        // values without a model that reads them would be half of a model
        let pair = left.iter().any(|file| file == "out.onnx.data");
        assert!(!pair || line.contains("prune"), "{line} left {left:?}");
    });
}

/// What a killed process leaves aside does not stop the next one.
#[test]
#[cfg(unix)]
fn a_killed_command_can_be_run_again() {
    let mut again = 0;
    stopped("killed", "KILL", |dir, line, left| {
        if left.iter().any(|file| file.ends_with(".part")) {
            again += 1;
            succeeds(dir, line);
        }
    });
    eprintln!("{again} times with a file left aside");
}

/// A process that was started to go on after an interrupt does.
#[test]
#[cfg(target_os = "linux")]
fn signals_that_are_ignored_stay_ignored() {
    let dir = dir("ignored");
    let script = "trap '' INT HUP; \"$0\" zoo resnet-20 -o out.onnx & pid=$!; \
                  for i in 1 2 3 4 5; do kill -INT $pid; kill -HUP $pid; sleep 0.05; done 2>/dev/null; wait $pid";
    let output = Command::new("sh").current_dir(&dir).args(["-c", script]).arg(program()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&dir), ["out.onnx"]);
}

/// What goes to standard output goes where it stands, behind what is there.
#[test]
#[cfg(unix)]
fn standard_output_is_written_in_place() {
    let dir = dir("stdout");
    let script = "(echo before; \"$0\" ../r.onnx inspect --html /dev/stdout --json; echo after) > out";
    let output = Command::new("sh").current_dir(&dir).args(["-c", script]).arg(program()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(dir.join("out")).unwrap();
    // the page holds the report, too: what follows it is found from the end
    let first = ["before\n", "<html", "</html>"].map(|part| text.find(part));
    let last = ["\"layers_sparse\"", "after\n"].map(|part| text.rfind(part));
    let places = [first.as_slice(), &last].concat();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    let piped = Command::new("sh")
        .current_dir(&dir)
        .args([
            "-c",
            "\"$0\" ../r.onnx prune --ratio 0.5 --json -o /dev/fd/3 3>&1 >/dev/null | cat > piped.onnx",
        ])
        .arg(program())
        .output()
        .unwrap();
    assert!(piped.status.success() && piped.stderr.is_empty(), "{}", String::from_utf8_lossy(&piped.stderr));
    succeeds(&dir, "piped.onnx compare");
}
