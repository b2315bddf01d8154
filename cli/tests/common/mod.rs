//! What every test of the command line needs: a folder with models, and ways to run the program.
#![allow(dead_code)]

use assert_cmd::Command;
use prost::Message;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto};

/// A folder of this test run, with `r.onnx` (resnet-20, half as wide, 1x1 layers half zero) in it.
pub fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let spec = "zoo resnet-20 --width 0.5 --conv1x1 4x4:0.75 -o r.onnx";
        assert!(run_in(&folder, spec).status.success());
        let spec = "zoo resnet-20 --width 0.5 --conv1x1 4x4:0.75 --batch N -o symbolic.onnx";
        assert!(run_in(&folder, spec).status.success());
        folder
    })
}

/// Runs a command line in a folder, without what the caller's environment asks for.
pub fn run_in(folder: &Path, line: &str) -> Output {
    let mut command = Command::cargo_bin("tract-sparse").unwrap();
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TRACT_SPARSE")) {
        command.env_remove(name);
    }
    // not the tables that the caller has fitted
    command.env("XDG_CACHE_HOME", folder.join("cache"));
    command.current_dir(folder).args(line.split_whitespace()).output().unwrap()
}

/// Runs a command line, expects success, and returns what it printed.
pub fn run(line: &str) -> String {
    let output = run_in(folder(), line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    assert!(stderr.is_empty(), "{line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// As [`run`], for what prints JSON.
pub fn json(line: &str) -> Value {
    serde_json::from_str(&run(line)).unwrap()
}

/// Runs a command line, expects this exit code and one line on stderr, and returns that line.
pub fn fail(line: &str, code: i32) -> String {
    let output = run_in(folder(), line);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
    assert!(stderr.starts_with("error: "), "{line}: {stderr}");
    stderr
}

/// As [`fail`]; the line must hold every one of `words`.
pub fn fails_with(line: &str, code: i32, words: &[&str]) {
    let error = fail(line, code);
    for word in words {
        assert!(error.contains(word), "{line}: no {word:?} in {error}");
    }
}

/// Fails if a line is longer than a terminal is wide.
pub fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
    }
}

/// Every key of the objects in `value`.
pub fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            found.push(key.clone());
            keys(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

/// A node with one output, after which it is called.
pub fn node(op: &str, output: &str, inputs: &[&str]) -> NodeProto {
    NodeProto {
        name: output.into(),
        op_type: op.into(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// The file of a model of this graph.
pub fn written(file: &str, mut graph: GraphProto, outputs: &[&str]) -> PathBuf {
    let output = |name: &&str| ValueInfoProto { name: name.to_string(), ..Default::default() };
    graph.output = outputs.iter().map(output).collect();
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..Default::default()
    };
    let path = folder().join(file);
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}
