//! `tract-sparse MODEL prune` through the binary.

use assert_cmd::Command;
use prune::Document;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto};

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
    std::fs::write(
        dir.join("r.toml"),
        "ratio = 0.5\ndwconv3x3 = \"3:9\"\nconv3x3 = \"5:9\"\nexclude = [\"fc\"]\n",
    )
    .unwrap();
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
    let args = ["zoo", "mobilenet-v1", "--width", "0.5", "--hw", "128", "-o", "dense.onnx"];
    assert_eq!(run(&dir, &args).0, 0);
    let (code, out, error) =
        run(&dir, &["dense.onnx", "--json", "prune", "--speedup", "1.2", "-o", "p.onnx"]);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let (predicted, budget) = (&value["budget"]["predicted_ms"], &value["budget"]["budget_ms"]);
    assert!(predicted.as_f64().unwrap() <= budget.as_f64().unwrap());
    // what it came to was measured, beside stock tract; on a busy machine that says little
    for measured in ["measured_ms", "stock_ms"] {
        assert!(value["budget"][measured].as_f64() > Some(0.0), "{value}");
    }
    // a network that is fast enough already is pruned just enough to run sparse
    let (code, out, error) = run(&dir, &["dense.onnx", "prune", "--latency-ms", "1000", "-o", "q.onnx"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("measured") && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let (code, out, error) = run(&dir, &["q.onnx", "--json", "inspect"]);
    assert_eq!(code, 0, "{error}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(report["layers_sparse"].as_u64() > Some(0), "{report}");
    std::fs::remove_file(dir.join("q.onnx")).unwrap();
    let (code, _, error) = run(&dir, &["dense.onnx", "prune", "--latency-ms", "0.0001", "-o", "q.onnx"]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot be met") && error.contains("is the least"), "{error}");
    assert!(!dir.join("q.onnx").exists());
    std::fs::remove_dir_all(dir).unwrap();
}

/// What a limit on the change of the answers leaves is within it, as measured again here.
#[test]
fn errors_stay_within_their_limit() {
    use prune::calibrate::output_error;
    use prune::{Array, Tract};
    let dir = folder("limit");
    zoo(&dir);
    let limited = |args: &[&str]| {
        let line = [&["dense.onnx", "prune", "--ratio", "0.3", "-o", "p.onnx"][..], args].concat();
        run(&dir, &line)
    };
    let (code, out, error) = limited(&["--max-error", "0.5", "--json"]);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let within = value["within"]["error"].as_f64().unwrap();
    let layers = value["within"]["layers"].as_array().unwrap();
    let pruned = layers.iter().filter(|layer| layer["pruned"] == true);
    let names: BTreeSet<&str> = pruned.filter_map(|layer| layer["layer"].as_str()).collect();
    let report = value["report"]["layers"].as_array().unwrap().iter();
    let done = report.filter(|layer| layer["skipped"].is_null()).filter_map(|layer| layer["name"].as_str());
    assert_eq!(names, done.collect());
    assert!(!names.is_empty() && names.len() < layers.len(), "{names:?}");
    assert!(layers.iter().all(|l| l["error"].as_f64() > Some(0.0) && l["saved"].as_f64() > Some(0.0)));
    let open = |file: &str| Document::open(&dir.join(file)).unwrap().model;
    let inputs: Vec<_> = (0..4).map(|run| vec![Array::noise(&[1, 3, 64, 64], 1 + 1000 * run)]).collect();
    let (again, _) = output_error(&open("dense.onnx"), &open("p.onnx"), &Tract, &inputs).unwrap();
    assert!(within <= 0.5 && (again - within).abs() < 1e-6, "{within} {again}");
    assert!((value["made_up_inputs_error"].as_f64().unwrap() - again).abs() < 1e-6);

    let (code, out, error) = limited(&["--max-error", "0.5"]);
    assert_eq!(code, 0, "{error}");
    assert!(
        out.contains("layers pruned: the outputs change by") && out.contains("without real inputs"),
        "{out}"
    );
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    std::fs::remove_file(dir.join("p.onnx")).unwrap();
    let (code, _, error) = limited(&["--max-error", "1e-9"]);
    assert!(code == 1 && error.contains("no layer can be pruned with an error of at most"), "{error}");
    let (code, _, error) = limited(&["--max-error", "-1"]);
    assert!(code == 1 && error.contains("makes no sense"), "{error}");
    assert_eq!(limited(&["--max-top-changes", "0.1"]).0, 2, "real inputs are wanted");
    assert!(!dir.join("p.onnx").exists());

    let inputs = ndarray::Array4::<f32>::from_shape_fn((8, 3, 64, 64), |(n, c, y, x)| {
        (((n * 7 + c * 5 + y) * (x + 3)) as f32 * 0.37).sin()
    });
    ndarray_npy::write_npy(dir.join("x.npy"), &inputs).unwrap();
    let top = ["--max-top-changes", "0.5", "--calibrate", "x.npy", "--method", "l1", "--json"];
    let (code, out, error) = limited(&top);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["within"]["change"], "top_class");
    let inputs: Vec<_> = inputs
        .outer_iter()
        .map(|input| vec![Array { shape: vec![1, 3, 64, 64], data: input.iter().copied().collect() }])
        .collect();
    let (_, agreement) = output_error(&open("dense.onnx"), &open("p.onnx"), &Tract, &inputs).unwrap();
    assert!(agreement >= 0.5, "{agreement}");
    assert!((value["within"]["error"].as_f64().unwrap() - (1.0 - agreement)).abs() < 1e-9, "{value}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn calibration_takes_pictures_and_other_numbers() {
    let dir = folder("pictures");
    zoo(&dir);
    std::fs::create_dir(dir.join("photos")).unwrap();
    for at in 0..5u8 {
        let picture =
            image::RgbImage::from_fn(80, 48, |x, y| image::Rgb([x as u8 * at, y as u8 * 5, 40 * at + 3]));
        picture.save(dir.join("photos").join(format!("{at}.png"))).unwrap();
    }
    let prune = |args: &[&str]| {
        run(
            &dir,
            &[&["dense.onnx", "prune", "--ratio", "0.3", "--method", "l1", "-o", "p.onnx"][..], args]
                .concat(),
        )
    };
    let photos = ["--calibrate", "photos", "--mean", "0.5,0.4,0.3", "--std", "0.25"];
    let (code, out, error) = prune(&photos);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("1 held-out inputs") && !out.contains("without real inputs"), "{out}");
    let (code, out, error) = prune(&[&photos[..], &["--max-error", "5"]].concat());
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("layers pruned: the outputs change by"), "{out}");
    let (code, _, error) = prune(&["--calibrate", "photos", "--mean", "1,2"]);
    assert!(code == 1 && error.contains("--mean: 2 numbers for 3 channels"), "{error}");
    std::fs::write(dir.join("photos").join("broken.jpg"), b"no picture").unwrap();
    let (code, _, error) = prune(&photos);
    assert!(code == 1 && error.contains("broken.jpg"), "{error}");

    let bytes =
        ndarray::Array4::<u8>::from_shape_fn((3, 3, 64, 64), |(n, c, y, x)| (n * 50 + c + y * x) as u8);
    ndarray_npy::write_npy(dir.join("bytes.npy"), &bytes).unwrap();
    let (code, out, error) = prune(&["--calibrate", "bytes.npy"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("bytes.npy: U8 taken for f32"), "{out}");
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

/// Runs a command that writes `p.onnx` and kills it as soon as it has kept something aside; the bytes of that
/// file. More inputs than 64 are made where that is not long before the end.
fn killed(dir: &Path, args: &[&str]) -> Vec<u8> {
    let kept = dir.join("p.onnx.resume");
    for count in [64, 256, 1024] {
        let inputs = ndarray::Array4::<f32>::from_shape_fn((count, 3, 64, 64), |(n, c, y, x)| {
            (((n * 7 + c * 5 + y) * (x + 3)) as f32 * 0.37).sin()
        });
        ndarray_npy::write_npy(dir.join("x.npy"), &inputs).unwrap();
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("tract-sparse"))
            .current_dir(dir)
            .args(args)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none() && !kept.exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if !dir.join("p.onnx").exists() {
            return std::fs::read(kept).unwrap();
        }
        std::fs::remove_file(dir.join("p.onnx")).unwrap();
    }
    panic!("{args:?} ended before it was killed");
}

/// Killed in the middle and called again, `prune` goes on, and writes what it would have written at once.
#[test]
fn a_killed_call_is_taken_up() {
    let dir = folder("killed");
    zoo(&dir);
    let prune = |args: &[&str]| -> serde_json::Value {
        let (code, out, error) = run(&dir, args);
        assert_eq!(code, 0, "{error}");
        assert!(!dir.join("p.onnx.resume").exists());
        serde_json::from_str(&out).unwrap()
    };
    let bytes = |file: &str| std::fs::read(dir.join(file)).unwrap();
    let args = "dense.onnx --json prune --ratio 0.3 --max-error 2 --calibrate x.npy -o";
    let args = |output| args.split(' ').chain([output]).collect::<Vec<_>>();
    let kept = killed(&dir, &args("p.onnx"));
    let (mut resumed, mut whole) = (prune(&args("p.onnx")), prune(&args("q.onnx")));
    assert!(bytes("p.onnx") == bytes("q.onnx"));
    let steps = |value: &mut serde_json::Value| value["resumed"].take().as_array().unwrap().len();
    assert_eq!((steps(&mut resumed) > 0, steps(&mut whole)), (true, 0), "{resumed}");
    whole["file"] = "p.onnx".into();
    assert_eq!(resumed, whole);

    // another call does without, and says so
    std::fs::write(dir.join("p.onnx.resume"), kept).unwrap();
    let (code, out, error) = run(&dir, &["dense.onnx", "prune", "--ratio", "0.3", "-o", "p.onnx"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("note: p.onnx.resume is of another call: not used"), "{out}");

    // a search that the clock ends and times that are measured are taken from the file
    for more in [&["--rearrange", "--search-seconds", "0.2", "--ratio", "0.3"][..], &["--speedup", "1.2"]] {
        let args = ["dense.onnx", "--json", "prune", "--calibrate", "x.npy", "-o", "p.onnx"];
        let args = [&args[..], more].concat();
        std::fs::remove_file(dir.join("p.onnx")).unwrap();
        let kept = killed(&dir, &args);
        let first = prune(&args);
        let made = bytes("p.onnx");
        std::fs::write(dir.join("p.onnx.resume"), kept).unwrap();
        assert_eq!(prune(&args), first);
        assert!(made == bytes("p.onnx"), "{more:?}");
        assert!(!first["resumed"].as_array().unwrap().is_empty(), "{first}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// Moves the sparse initializers into constants.
fn as_constants(model: &mut ModelProto) {
    let graph = model.graph.as_mut().unwrap();
    for sparse in std::mem::take(&mut graph.sparse_initializer) {
        let value = AttributeProto {
            name: "sparse_value".into(),
            r#type: AttributeType::SparseTensor as i32,
            sparse_tensor: Some(sparse.clone()),
            ..Default::default()
        };
        let output = vec![sparse.values.unwrap().name];
        let node =
            NodeProto { op_type: "Constant".into(), output, attribute: vec![value], ..Default::default() };
        graph.node.insert(0, node);
    }
}

#[test]
fn every_command_reads_sparse_tensors() {
    let dir = folder("sparse");
    zoo(&dir);
    let prune = ["dense.onnx", "prune", "--ratio", "0.9"];
    assert_eq!(run(&dir, &[&prune[..], &["-o", "zeros.onnx"]].concat()).0, 0);
    assert_eq!(run(&dir, &[&prune[..], &["--sparse-initializer", "-o", "sparse.onnx"]].concat()).0, 0);
    let model = Document::open(&dir.join("sparse.onnx")).unwrap().model;
    assert!(model.graph.as_ref().unwrap().sparse_initializer.len() > 5);
    let mut constants = model.clone();
    as_constants(&mut constants);
    zoo::write(&constants, &dir.join("constants.onnx")).unwrap();
    let size = |name: &str| std::fs::metadata(dir.join(name)).unwrap().len();
    assert!(size("sparse.onnx") * 2 < size("zeros.onnx"));
    let (code, _, error) = run(&dir, &["zeros.onnx", "run", "--save-outputs", "y.npz"]);
    assert_eq!(code, 0, "{error}");
    for file in ["sparse.onnx", "constants.onnx"] {
        for line in [
            "--json inspect",
            "run --assert-output-bundle y.npz",
            "bench --max-loops 2",
            "bench --against stock --max-loops 2",
            "compare",
            "dump",
            "whatif --conv1x1 4x4:0.95",
            "prune --ratio 0.95 -o again.onnx",
            "prune --ratio 0.95 --rearrange --search-seconds 0.2 -o again.onnx",
            "convert -o m.nnef.tar",
        ] {
            let args: Vec<&str> = [file].into_iter().chain(line.split_whitespace()).collect();
            let (code, out, error) = run(&dir, &args);
            assert_eq!(code, 0, "{args:?}: {error}");
            if line.contains("inspect") {
                let report: serde_json::Value = serde_json::from_str(&out).unwrap();
                assert!(report["layers_sparse"].as_u64() > Some(5), "{report}");
            }
        }
        let (code, _, error) = run(&dir, &["m.nnef.tar", "run", "--assert-output-bundle", "y.npz"]);
        assert_eq!(code, 0, "{file}: {error}");
    }

    // an index outside the tensor is one line that names it
    let mut wrong = model;
    let sparse = &mut wrong.graph.as_mut().unwrap().sparse_initializer[0];
    let name = sparse.values.as_ref().unwrap().name.clone();
    sparse.dims[0] = 1;
    zoo::write(&wrong, &dir.join("wrong.onnx")).unwrap();
    for line in ["inspect", "run", "bench", "compare", "prune -o p.onnx", "convert -o m.nnef.tar"] {
        let args: Vec<&str> = ["wrong.onnx"].into_iter().chain(line.split_whitespace()).collect();
        let (code, _, error) = run(&dir, &args);
        assert_eq!(code, 1, "{line}: {error}");
        assert!(
            error.lines().count() == 1 && error.contains(&name) && error.contains("wrong.onnx"),
            "{error}"
        );
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn layers_that_cannot_be_pruned_are_named() {
    let dir = folder("named");
    zoo(&dir);
    let mut model = Document::open(&dir.join("dense.onnx")).unwrap().model;
    let graph = model.graph.as_mut().unwrap();
    let depthwise =
        graph.node.iter().find(|n| n.attribute.iter().any(|a| a.name == "group" && a.i > 1)).unwrap();
    let (activation, shared) = (depthwise.input[0].clone(), depthwise.input[1].clone());
    let conv = |name: &str, weights: &str| NodeProto {
        op_type: "Conv".into(),
        name: name.into(),
        input: vec![activation.clone(), weights.into()],
        output: vec![format!("{name}.y")],
        ..Default::default()
    };
    let mut branch = conv("branch", "");
    (branch.op_type, branch.input) = ("If".into(), vec![activation.clone()]);
    let inner = GraphProto { node: vec![conv("inner", &shared)], ..Default::default() };
    branch.attribute.push(AttributeProto {
        name: "then_branch".into(),
        g: Some(inner),
        ..Default::default()
    });
    graph.node.extend([conv("dynamic", &activation), conv("twin", &shared), branch]);
    zoo::write(&model, &dir.join("odd.onnx")).unwrap();
    let (code, out, error) = run(&dir, &["odd.onnx", "--json", "prune", "--ratio", "0.5", "-o", "p.onnx"]);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let layers = value["report"]["layers"].as_array().unwrap();
    for (name, reason) in [
        ("dynamic", "computed at run time"),
        ("twin", "read by a subgraph"),
        ("inner", "control flow of If branch"),
    ] {
        let layer = layers.iter().find(|l| l["name"] == name).unwrap();
        assert!(layer["skipped"].as_str().unwrap().contains(reason), "{layer}");
    }
    let (code, out, error) = run(&dir, &["odd.onnx", "prune", "--ratio", "0.5", "-o", "p.onnx"]);
    assert!(code == 0 && out.contains("computed at run time: dynamic"), "{out}{error}");
    std::fs::remove_dir_all(dir).unwrap();
}

/// Where nothing can be compared, nothing is moved.
#[test]
fn a_rearrangement_that_cannot_be_proven_is_refused() {
    let dir = folder("unproven");
    zoo(&dir);
    let mut model = Document::open(&dir.join("dense.onnx")).unwrap().model;
    let graph = model.graph.as_mut().unwrap();
    let last = std::mem::take(&mut graph.output[0].name);
    graph.output[0].name = "never".into();
    graph.output[0].r#type = None;
    graph.initializer.push(prune::onnx::tensor::of_floats("bound", &[1], &[1e30]));
    graph.node.push(NodeProto {
        op_type: "Greater".into(),
        name: "never".into(),
        input: vec![last, "bound".into()],
        output: vec!["never".into()],
        ..Default::default()
    });
    zoo::write(&model, &dir.join("never.onnx")).unwrap();
    let args =
        ["never.onnx", "prune", "--ratio", "0.5", "-o", "p.onnx", "--rearrange", "--search-seconds", "0.1"];
    let (code, _, error) = run(&dir, &args);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("nothing can be proven") && error.lines().count() == 1, "{error}");
    assert!(!dir.join("p.onnx").exists());
    // without it the model is pruned as any other
    assert_eq!(run(&dir, &args[..6]).0, 0);
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
        (vec!["--connectivity", "1.01"], "connectivity"),
        (vec!["--connectivity", "0.5"], "conv3x3"),
        (vec![], "--latency-ms"),
        (vec!["--conv1x1", "4x1"], "--ratio"),
        (vec!["--ratio", "0.5", "--exclude", "absent*"], "absent*"),
        (vec!["--layer", "absent=0.5"], "absent"),
        (vec!["--ratio", "0.5", "--exclude", "*"], "no layer can be pruned"),
        (vec!["--latency-ms", "-1"], "--latency-ms"),
        (vec!["--ratio", "0.5", "--include", "absent*"], "absent*"),
        (vec!["--layer", "pw2=2"], "pw2"),
        (vec!["--layer", "pw2"], "no ratio"),
        (vec!["--layer", "pw2=half"], "4x4:0.5"),
        (vec!["--layer", "pw2=3:9"], "pw2"),
        (vec!["--conv3x3", "5:9:0.5", "--connectivity", "0.5"], "both say"),
        (vec!["--full-ones", "3"], "full-ones"),
        (vec!["--recipe", "bad.toml"], "ratios"),
        (vec!["--recipe", "absent.toml"], "absent.toml"),
        (vec!["--ratio", "0.5", "--method", "obc"], "--calibrate"),
        (vec!["--ratio", "0.5", "--calibrate", "absent"], "absent"),
        (vec!["--speedup", "0"], "--speedup"),
        (vec!["--ratio", "0.5", "--search-seconds", "nan", "--rearrange"], "search-seconds"),
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

/// What `inspect` advises for pruning is what `prune` does: the command works, and changes every layer that
/// is named.
#[test]
fn advice_can_be_taken() {
    let dir = folder("advice");
    zoo(&dir);
    let args = ["zoo", "resnet-20", "--width", "2", "-o", "r.onnx"];
    assert_eq!(run(&dir, &args).0, 0);
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(cases).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "onnx"));
    files.extend([dir.join("dense.onnx"), dir.join("r.onnx")]);
    files.sort();
    let (mut taken, mut actions) = (0, BTreeSet::new());
    for file in files {
        let name = file.to_str().unwrap();
        // some cannot be loaded as they are
        let (code, out, _) = run(&dir, &[name, "--json", "inspect"]);
        if code != 0 {
            continue;
        }
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        for advice in report["advice"].as_array().unwrap() {
            let Some(command) = advice["command"].as_str() else { continue };
            let args = [name, "--json", "prune", "-o", "p.onnx"].into_iter().chain(command.split(' '));
            let (code, out, error) = run(&dir, &args.collect::<Vec<_>>());
            assert_eq!(code, 0, "{name} {command}: {error}");
            let made: serde_json::Value = serde_json::from_str(&out).unwrap();
            let pruned =
                made["report"]["layers"].as_array().unwrap().iter().filter(|l| l["skipped"].is_null());
            let changed: Vec<&str> = pruned
                .filter(|l| l["density"].as_f64() < Some(1.0))
                .map(|l| l["name"].as_str().unwrap().trim_end_matches(".W").trim_end_matches(".R"))
                .collect();
            for layer in advice["layers"].as_array().unwrap() {
                let layer = layer.as_str().unwrap();
                let own = |c: &&str| layer == *c || layer.starts_with(&format!("{c}."));
                assert!(changed.iter().any(own), "{name} {command}: {layer} stays as it is");
                taken += 1;
            }
            actions.insert(advice["action"].as_str().unwrap().to_string());
        }
    }
    assert!(taken > 20 && actions.len() >= 3, "{taken} layers, {actions:?}");
    std::fs::remove_dir_all(dir).unwrap();
}
