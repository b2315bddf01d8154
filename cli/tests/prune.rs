//! `tract-sparse MODEL prune` through the binary.

use assert_cmd::Command;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("tract-sparse-prune-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs the binary in a folder; exit code, standard output, standard error.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("tract-sparse").unwrap().current_dir(dir).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_string();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn zoo(dir: &Path) {
    let (code, _, error) =
        run(dir, &["zoo", "mobilenet-v1", "--width", "0.25", "--hw", "64", "-o", "dense.onnx"]);
    assert_eq!(code, 0, "{error}");
}

#[test]
fn a_pruned_model_loads_sparse_and_keeps_its_recipe() {
    let dir = folder("whole");
    zoo(&dir);
    std::fs::write(dir.join("r.toml"), "ratio = 0.5\nexclude = [\"fc\"]\n").unwrap();
    let args =
        ["dense.onnx", "--json", "prune", "--recipe", "r.toml", "--rearrange", "--search-seconds", "1"];
    let (code, out, error) = run(&dir, &[&args[..], &["-o", "pruned.onnx"]].concat());
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(value["rearranged"]["proof"].as_f64().unwrap() < 1e-3);
    let layers = value["report"]["layers"].as_array().unwrap();
    let pruned: Vec<_> = layers.iter().filter(|l| l["skipped"].is_null()).collect();
    assert_eq!((layers.len(), pruned.len()), (28, 26));
    assert!(pruned.iter().all(|l| l["kept_l1"].as_f64() > Some(0.3)));

    // a layer with 4x4 blocks is found as such, at the density that prune reported
    let (code, out, error) = run(&dir, &["pruned.onnx", "--sparse", "always", "--json", "inspect"]);
    assert_eq!(code, 0, "{error}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    for layer in &pruned {
        let name = layer["name"].as_str().unwrap();
        let seen = report["layers"].as_array().unwrap().iter().find(|l| l["name"] == name).unwrap();
        let (want, got) = (layer["density"].as_f64().unwrap(), seen["density"].as_f64().unwrap());
        assert!((want - got).abs() < 1e-6, "{name}: {want} {got}");
    }
    let (code, out, error) = run(&dir, &["pruned.onnx", "compare"]);
    assert_eq!(code, 0, "{out}{error}");
    let bytes = std::fs::read(dir.join("pruned.onnx")).unwrap();
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
    assert!(holds(b"tract-sparse.recipe") && holds(b"exclude = [\"fc\"]"));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3, "nothing is left aside");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn budgets_are_met_or_refused_with_the_reason() {
    let dir = folder("budget");
    zoo(&dir);
    let (code, out, error) =
        run(&dir, &["dense.onnx", "--json", "prune", "--speedup", "1.5", "-o", "p.onnx"]);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let (predicted, budget) = (&value["budget"]["predicted_ms"], &value["budget"]["budget_ms"]);
    assert!(predicted.as_f64().unwrap() <= budget.as_f64().unwrap());
    let (code, _, error) = run(&dir, &["dense.onnx", "prune", "--latency-ms", "0.0001", "-o", "q.onnx"]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot be met") && error.contains("is the least"), "{error}");
    assert!(!dir.join("q.onnx").exists());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn calibration_reports_errors_on_held_out_inputs() {
    let dir = folder("calibrate");
    zoo(&dir);
    let inputs = ndarray::Array4::<f32>::from_shape_fn((4, 3, 64, 64), |(n, c, y, x)| {
        (((n * 7 + c * 5 + y) * (x + 3)) as f32 * 0.37).sin()
    });
    ndarray_npy::write_npy(dir.join("x.npy"), &inputs).unwrap();
    let args = ["dense.onnx", "--json", "prune", "--ratio", "0.3", "--calibrate", "x.npy", "-o", "p.onnx"];
    let (code, out, error) = run(&dir, &args);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let errors = value["held_out_errors"].as_array().unwrap();
    let names: Vec<_> = errors.iter().map(|e| e["method"].as_str().unwrap()).collect();
    assert_eq!(names, ["l1", "wanda", "obc", "obc, layer by layer"]);
    let (code, out, error) = run(&dir, &["p.onnx", "compare"]);
    assert_eq!(code, 0, "{out}{error}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn wrong_arguments_are_named() {
    let dir = folder("wrong");
    zoo(&dir);
    std::fs::write(dir.join("bad.toml"), "ratios = 1").unwrap();
    std::fs::write(dir.join("bad.onnx"), "no model").unwrap();
    for (args, what) in [
        (vec!["--ratio", "1.5"], "1.5"),
        (vec!["--ratio", "-0.5"], "-0.5"),
        (vec!["--ratio", "nan"], "NaN"),
        (vec!["--include", "absent*"], "absent*"),
        (vec!["--layer", "pw2=2"], "pw2"),
        (vec!["--layer", "pw2"], "no ratio"),
        (vec!["--full-ones", "3"], "full-ones"),
        (vec!["--recipe", "bad.toml"], "ratios"),
        (vec!["--recipe", "absent.toml"], "absent.toml"),
        (vec!["--method", "obc"], "--calibrate"),
        (vec!["--calibrate", "absent"], "absent"),
        (vec!["--speedup", "0"], "--speedup"),
        (vec!["--search-seconds", "nan", "--rearrange"], "search-seconds"),
    ] {
        let (code, _, error) = run(&dir, &[&["dense.onnx", "prune", "-o", "p.onnx"][..], &args].concat());
        assert_eq!(code, 1, "{args:?}: {error}");
        assert!(error.contains(what) && error.lines().count() == 1, "{args:?}: {error}");
    }
    for args in [["--conv1x1", "5:8"], ["--dwconv3x3", "x"], ["--method", "guess"]] {
        let (code, _, error) = run(&dir, &[&["dense.onnx", "prune", "-o", "p.onnx"][..], &args].concat());
        assert!(code == 2 && error.contains(args[1]), "{args:?}: {error}");
    }
    for model in ["bad.onnx", "absent.onnx"] {
        let (code, _, error) = run(&dir, &[model, "prune", "-o", "p.onnx"]);
        assert!(code == 1 && error.contains(model), "{error}");
    }
    assert!(!dir.join("p.onnx").exists());
    std::fs::remove_dir_all(dir).unwrap();
}
