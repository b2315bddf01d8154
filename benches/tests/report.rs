//! The report of whole networks, through its program.

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Runs the program; on whatever processor, since a test need not time well.
fn report(args: &[&str]) -> std::process::Output {
    let mut command = Command::cargo_bin("report").unwrap();
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).arg("none").args(args).output().unwrap()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Whether ours has half precision here.
fn has_half() -> bool {
    tract_sparse::Target::detect().half().is_some()
}

/// A Python in which no engine can be, made once for all tests, which run side by side.
fn bare_python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = file("bare-venv");
        let mut command = std::process::Command::new("python3");
        let made = command.args(["-m", "venv", "--without-pip"]).arg(&folder).status().unwrap();
        assert!(made.success());
        folder.join("bin/python")
    })
}

/// Reports on some networks with the engines of a Python: the page, the names and numbers of the picture, the
/// JSON.
fn written(name: &str, only: &[&str], python: &Path) -> (String, Vec<String>, Value) {
    let [md, svg, json] = ["md", "svg", "json"].map(|end| file(&format!("{name}.{end}")));
    let mut args = vec!["--quick", "-o", md.to_str().unwrap(), "--json", json.to_str().unwrap()];
    args.extend(["--rivals", python.to_str().unwrap()]);
    only.iter().for_each(|text| args.extend(["--only", text]));
    let output = report(&args);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80 || line.contains(name)), "{stdout}");
    let picture = std::fs::read_to_string(svg).unwrap();
    for outside in ["href", "url(", "<script", "<image"] {
        assert!(!picture.contains(outside), "{outside}");
    }
    let document = roxmltree::Document::parse(&picture).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let titles = document.descendants().filter(|node| node.has_tag_name("title"));
    let titles = titles.map(|title| title.text().unwrap().to_string()).collect();
    let value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    (std::fs::read_to_string(md).unwrap(), titles, value)
}

#[test]
fn a_report_has_a_table_and_a_picture() {
    let (page, titles, json) = written("own", &["resnet-20 5:9"], bare_python());
    let networks = json["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 2);
    let mut bars = titles.iter();
    for network in networks {
        let name = network["name"].as_str().unwrap();
        let number = |path: &str| network.pointer(path).unwrap().as_f64().unwrap();
        let own = format!("{name}, tract-sparse: {:.2}", number("/ratio/median"));
        assert_eq!(bars.next(), Some(&own));
        let row = format!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} - {:.2} | 22 of 22 |",
            number("/stock/median_ms"),
            number("/sparse/median_ms"),
            number("/ratio/median"),
            number("/ratio/q1"),
            number("/ratio/q3")
        );
        assert!(page.contains(&row), "no {row} in {page}");
        assert!(number("/ratio/q1") <= number("/ratio/q3") && number("/max_abs_diff") < 1e-4, "{network}");
        assert!(network["rounds"].is_null(), "{network}");
        if has_half() {
            let gain = number("/stock/median_ms") / number("/half/timing/median_ms");
            assert_eq!(bars.next(), Some(&format!("{name}, tract-sparse half: {gain:.2}")));
            let columns = format!(
                " {:.2} | {:.2} | {} | ",
                number("/half/timing/median_ms"),
                number("/half/ratio/median"),
                network["half"]["layers"]
            );
            assert!(page.contains(&columns), "no {columns} in {page}");
        } else {
            assert!(network["half"].is_null() && !page.contains("half ms"), "{network}");
        }
    }
    assert_eq!(bars.next(), None);
    for key in ["cpu", "target", "date", "commit", "version", "tract"] {
        let said = json[key].as_str().unwrap();
        assert!(!said.is_empty() && page.contains(said), "{key}: {said} is not in {page}");
    }
    assert!(page.contains("report -- none --only 'resnet-20 5:9' --quick"), "{page}");
    assert!(page.contains("(own.svg)"), "{page}");
    let picture = std::fs::read_to_string(file("own.svg")).unwrap();
    assert!(
        picture.contains(">Pruned (random weights)<") && !picture.contains(">Dense (random"),
        "{picture}"
    );
    for engine in ["onnxruntime", "OpenVINO f32", "OpenVINO default", "MNN", "onnxruntime's quantiser"] {
        assert!(page.contains(&format!("NOT RUN: {engine} is not installed: `")), "{page}");
    }
    assert!(page.contains("-m pip install numpy onnxruntime"), "{page}");
}

#[test]
fn other_engines_are_asked_in_turn() {
    let Some(python) = std::env::var_os("TRACT_SPARSE_ORT_PYTHON") else {
        println!(
            "NOT RUN: other engines: TRACT_SPARSE_ORT_PYTHON names no Python with onnxruntime and numpy"
        );
        return;
    };
    let (page, titles, json) = written("rivals", &["resnet-20 dense"], Path::new(&python));
    let rounds = &json["networks"][0]["rounds"];
    let took = &rounds["engines"][0]["took"];
    let (stock, theirs) = (rounds["stock_ms"].as_f64().unwrap(), took["ms"].as_f64().unwrap());
    assert!(stock > 0.0 && theirs > 0.0 && took["max_abs_diff"].as_f64().unwrap() < 1e-4, "{rounds}");
    assert_eq!(rounds["runs"], 2);
    let bar = format!("resnet-20 dense, onnxruntime: {:.2}", stock / theirs);
    assert!(titles.contains(&bar), "no {bar} in {titles:?}");
    let version = json["engines"][0]["version"].as_str().unwrap();
    assert!(page.contains(&format!("onnxruntime {version}")), "{page}");
    let half = if has_half() { " ours half |" } else { "" };
    let header = format!("| network | stock | ours |{half} onnxruntime |");
    let header = page.lines().find(|line| line.starts_with(&header));
    assert!(header.is_some() && page.contains(&format!(" ({:.2}) |", stock / theirs)), "{page}");
    for (at, engine) in json["engines"].as_array().unwrap().iter().enumerate() {
        let answer = &rounds["engines"][at];
        assert_eq!(engine["version"].is_null(), answer == "not_installed", "{engine}: {answer}");
        let title = engine["title"].as_str().unwrap();
        let missing = page.contains(&format!("NOT RUN: {title} is not installed"));
        assert_eq!(engine["version"].is_null(), missing, "{page}");
    }
}

/// Files are quantised on the spot, and run beside the engines that are installed.
#[test]
fn networks_are_quantised() {
    let Some(python) = std::env::var_os("TRACT_SPARSE_ORT_PYTHON") else {
        println!(
            "NOT RUN: quantised networks: TRACT_SPARSE_ORT_PYTHON names no Python with onnxruntime and onnx"
        );
        return;
    };
    let models = file("quantised");
    std::fs::create_dir_all(&models).unwrap();
    let spec = zoo::Spec {
        hw: Some(32),
        width: 0.5,
        conv1x1: Some("4x4:0.5".parse().unwrap()),
        ..zoo::Spec::default()
    };
    let network = zoo::build(zoo::Network::MobilenetV1, &spec).unwrap();
    zoo::write(&network, &models.join("small net.onnx")).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::cargo_bin("report").unwrap();
        command.current_dir(env!("CARGO_TARGET_TMPDIR")).env("TRACT_SPARSE_MODELS", &models);
        command.args(["none", "--quick", "--only", "small net", "-o", "int8.md", "--json", "int8.json"]);
        command.arg("--rivals").arg(&python).args(more).output().unwrap()
    };
    let output = run(&[]);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && stdout.contains("      int8: "), "{stdout}{stderr}");
    let page = std::fs::read_to_string(file("int8.md")).unwrap();
    let json: Value = serde_json::from_str(&std::fs::read_to_string(file("int8.json")).unwrap()).unwrap();
    let int8 = &json["networks"][0]["int8"]["ran"];
    assert!(int8["layers_int8"].as_u64() >= Some(26) && int8["layers"] == 28, "{page}");
    let number = |key: &str| int8[key].as_f64().unwrap();
    let theirs = int8["engines"][0]["took"]["ms"].as_f64().unwrap();
    assert!(number("sparse_ms") > 0.0 && number("int8_ms") > 0.0 && theirs > 0.0, "{int8}");
    assert!(
        page.contains("| network | ours f32 | ours int8 | layers in int8 | onnxruntime int8 |"),
        "{page}"
    );
    assert!(page.contains(&format!(" ({:.2}) |", theirs / number("int8_ms"))), "{page}");
    // what calibrates must be inputs of the network
    std::fs::write(file("odd.npz"), "none").unwrap();
    let output = run(&["--calibrate", "odd.npz"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("int8: NOT RUN: error: "), "{stdout}");
    assert!(
        std::fs::read_to_string(file("int8.md")).unwrap().contains("NOT RUN: small net in int8: error: ")
    );
}

#[test]
fn models_that_are_none_and_no_models_are_named_in_the_report() {
    let models = file("models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::write(models.join("resnet-20 broken.onnx"), "no model").unwrap();
    let python = bare_python();
    let run = |models: &Path, knob: &str| {
        let mut command = Command::cargo_bin("report").unwrap();
        command.current_dir(env!("CARGO_TARGET_TMPDIR")).env("TRACT_SPARSE_MODELS", models);
        command
            .env("TRACT_SPARSE", knob)
            .args(["none", "--quick", "-o", "broken.md", "--rivals"])
            .arg(python);
        command.args(["--only", "resnet-20 broken", "--only", "resnet-20 dense"]).output().unwrap()
    };
    let output = run(&models, "never");
    let (stderr, page) =
        (String::from_utf8(output.stderr).unwrap(), std::fs::read_to_string(file("broken.md")).unwrap());
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("NOT RUN: resnet-20 broken: "), "{stderr}");
    assert!(page.contains("NOT RUN: resnet-20 broken: ") && page.contains("| resnet-20 dense |"), "{page}");
    assert!(page.contains("`TRACT_SPARSE=never cargo run"), "{page}");
    let picture = std::fs::read_to_string(file("broken.svg")).unwrap();
    assert!(picture.contains(">Dense (random weights)<") && !picture.contains(">Your models<"), "{picture}");
    let output = run(Path::new("nowhere"), "auto");
    assert!(output.status.success());
    assert!(std::fs::read_to_string(file("broken.md")).unwrap().contains("NOT RUN: real models: "));
    let output = run(Path::new("nowhere"), "sometimes");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: ") && stderr.contains("sometimes"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("report"))
        .arg("--list")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn mistakes_are_named_before_anything_runs() {
    for (args, words) in [
        (&["--only", "resnet-19"][..], &["--only resnet-19", "--list"][..]),
        (&["--rounds", "0"], &["--rounds", "0"]),
        (&["--max-time", "long"], &["--max-time", "long"]),
        (&["--frobnicate"], &["--frobnicate"]),
        (&["--quick", "--runs", "3"], &["--quick", "--runs"]),
        (&["-o", "missing/x.md"], &["missing/x.md", "no folder"]),
        (&["-o", "."], &["folder"]),
        (&["-o", "x.svg"], &["x.svg", "-o"]),
        (&["-o", "x.md", "--json", "missing/x.json"], &["missing/x.json"]),
        (&["-o", "x.md", "--rivals", "missing-python"], &["missing-python"]),
        (&["--calibrate", "missing.npz"], &["--calibrate missing.npz"]),
    ] {
        let output = report(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{args:?}: {stderr}");
    }
    let mut wrong = Command::cargo_bin("report").unwrap();
    wrong.current_dir(env!("CARGO_TARGET_TMPDIR")).args(["fast", "--only", "resnet-20", "-o", "x.md"]);
    let output = wrong.output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("\"fast\" is not the number of a processor"));
}

#[test]
fn help_has_an_example_and_the_list_has_the_networks() {
    let help = String::from_utf8(report(&["--help"]).stdout).unwrap();
    assert!(help.contains("Examples:") && help.contains("--bin report"), "{help}");
    let list = String::from_utf8(report(&["--list", "--only", "resnet-20"]).stdout).unwrap();
    assert_eq!(list, "resnet-20 dense\nresnet-20 5:9\nresnet-20 5:9 + 50 % connectivity\n");
}

#[test]
fn the_readme_says_what_was_measured() {
    let (readme, results) = (include_str!("../../README.md"), include_str!("../results/epyc-zen4-avx512.md"));
    let measured = |name: &str, column: usize| -> f64 {
        let row = results.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        row.split('|').nth(column).unwrap().trim().parse().unwrap()
    };
    let each = |format: &str, all: &[u32]| all.iter().map(|n| format.replace('#', &n.to_string())).collect();
    let rows: [(&str, Vec<String>); 7] = [
        ("MobileNet-v1, 30 / 50", each("mobilenet-v1 4x4 # % + 3:9", &[30, 50, 80, 90])),
        ("MobileNet-v1, 80 / 90 % of 2x1", each("mobilenet-v1 2x1 # %", &[80, 90])),
        ("MobileNet-v1, 80 / 90 % of single", each("mobilenet-v1 unstructured # %", &[80, 90])),
        ("MobileNet-v2, 30 / 50", each("mobilenet-v2 4x4 # % + 3:9", &[30, 50, 80])),
        ("ResNet-18", vec!["resnet-18 5:9".into(), "resnet-18 5:9 + 50 % connectivity".into()]),
        ("hand landmarks", vec!["hand_landmark_sparse".into()]),
        ("face detection", vec!["face_detection_full_range_sparse".into()]),
    ];
    for (label, names) in rows {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {label}"))).unwrap();
        let cell = |column| {
            let numbers = names.iter().map(|name| format!("{:.1}", measured(name, column)));
            numbers.collect::<Vec<_>>().join(" / ")
        };
        let numbers = format!("| {} | {} | {} |", cell(2), cell(3), cell(4));
        assert!(row.ends_with(&numbers), "{row} does not end in {numbers}");
    }
}
