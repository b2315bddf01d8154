//! `inspect`, `whatif`, `doctor` and `fit`, through the binary.

mod common;

use common::{fails_with, fits, folder, json, keys, run, run_in};
use serde_json::Value;
use std::collections::HashSet;

/// A dense network and one whose 1x1 layers have single zeros.
fn models() {
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        for (spec, file) in [("", "v1.onnx"), ("--conv1x1 unstructured:0.3", "v1-30.onnx")] {
            let line = format!("zoo mobilenet-v1 --width 0.25 --hw 64 {spec} -o {file}");
            assert!(run_in(folder(), &line).status.success());
        }
    });
}

fn layers(report: &Value) -> &Vec<Value> {
    report["layers"].as_array().unwrap()
}

#[test]
fn inspect_finds_structures_break_even_and_advice() {
    models();
    let report = json("r.onnx --sparse always inspect --json");
    let skips = layers(&report).iter().filter(|layer| layer["name"].as_str().unwrap().contains("skip"));
    assert!(skips.clone().count() == 2 && skips.clone().all(|layer| layer["structure"] == "4x4"), "{report}");
    let shares: f64 = layers(&report).iter().filter_map(|layer| layer["share"].as_f64()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    let dense = json("v1.onnx inspect --json");
    assert!(layers(&dense).iter().all(|layer| layer["structure"] == "dense"), "{dense}");
    let even = layers(&dense).iter().filter_map(|layer| layer["break_even"].as_f64());
    assert!(even.clone().count() > 20 && even.clone().all(|even| even > 0.0 && even <= 0.9), "{dense}");
    let advice = dense["advice"].as_array().unwrap();
    assert!(advice.iter().any(|a| a["action"] == "prune"), "{dense}");
    let saved: Vec<f64> = advice.iter().map(|a| a["saved_ms"].as_f64().unwrap_or(0.0)).collect();
    assert!(saved.is_sorted_by(|a, b| a >= b), "{saved:?}");
    let text = run("v1.onnx inspect");
    fits(&text);
    assert!(text.contains("What would help most") && text.contains("dw"), "{text}");
}

#[test]
fn a_layer_that_stays_dense_is_told_its_break_even() {
    models();
    let report = json("v1-30.onnx --min-gain 50 inspect --json");
    let reasons = layers(&report).iter().filter_map(|layer| layer["reason"].as_str());
    let target = report["target"].as_str().unwrap();
    let told = reasons.filter(|r| r.starts_with("density 0.7") && r.contains(target)).count();
    assert!(told > 5, "{report}");
    fits(&run("v1-30.onnx --min-gain 50 inspect"));
}

#[test]
fn inspect_measures() {
    let report = json("r.onnx --sparse always inspect --measure --json");
    assert!(
        layers(&report).iter().all(|layer| layer["measured_sparse_ms"].as_f64().unwrap() > 0.0),
        "{report}"
    );
    let text = run("r.onnx inspect --measure");
    fits(&text);
    assert!(text.contains("times as fast"), "{text}");
}

#[test]
fn whatif_prunes_a_copy() {
    models();
    let before = std::fs::read(folder().join("v1.onnx")).unwrap();
    let report = json("v1.onnx whatif --conv1x1 4x4:0.8 --dwconv3x3 3:9 --json");
    assert!(before == std::fs::read(folder().join("v1.onnx")).unwrap(), "the file has changed");
    let of = |structure: &str| layers(&report).iter().filter(|l| l["structure"] == structure).count();
    assert_eq!((of("4x4"), of("3:9")), (13, 13), "{report}");
    let time = |key: &str| report[key].as_f64().unwrap();
    assert!(time("then_ms") < time("now_ms") && time("gain") > 1.0, "{report}");
    fits(&run("v1.onnx whatif --conv1x1 4x4:0.8 --fc 4x4:0.5"));
    assert_eq!(json("r.onnx whatif --conv3x3 5:9 --measure --json")["measured"], true);
}

/// What one command prints of the zeros, every other takes, and it comes to the same.
#[test]
fn one_vocabulary_of_zeros() {
    models();
    let zeros = |report: &Value, kind: &str| {
        // fewer channels are one group, whatever was asked for
        let wide = |layer: &Value| layer["oc"].as_u64() >= Some(16);
        let of = |layer: &&Value| layer["kind"] == kind && layer["zeros"] != "dense" && wide(layer);
        let mut found: Vec<String> =
            layers(report).iter().filter(of).map(|layer| layer["zeros"].as_str().unwrap().into()).collect();
        found.dedup();
        found
    };
    for (network, option, kind, words) in [
        ("v1.onnx", "--conv1x1", "pointwise", &["4x4:0.5", "8x1:0.75", "unstructured:0.5", "2:4"][..]),
        ("v1.onnx", "--dwconv3x3", "depthwise", &["3:9", "3:9/8"]),
        ("r.onnx", "--conv3x3", "spatial", &["5:9", "5:9:0.5", "5:9/1:0.5", "4x1:0.5"]),
    ] {
        for word in words {
            assert!(run_in(folder(), &format!("{network} prune {option} {word} -o w.onnx")).status.success());
            let pruned = json("w.onnx inspect --json");
            assert_eq!(zeros(&pruned, kind), [*word], "{network} {option}");
            let shown = run("w.onnx inspect");
            fits(&shown);
            assert!(shown.contains(&word.replace("unstructured", "1x1")), "{shown}");
            let imagined = json(&format!("{network} whatif {option} {word} --json"));
            let same = |report: &Value| -> Vec<Value> {
                layers(report).iter().map(|layer| layer["zeros"].clone()).collect()
            };
            assert_eq!(same(&imagined), same(&pruned), "{word}");
        }
    }
    let spec = "--conv3x3 5:9/2:0.5 --conv1x1 2x1:0.5";
    assert!(run_in(folder(), &format!("zoo resnet-20 {spec} -o z.onnx")).status.success());
    let report = json("z.onnx inspect --json");
    assert_eq!(zeros(&report, "spatial"), ["5:9/2:0.5"]);
    assert_eq!(zeros(&report, "pointwise"), ["2x1:0.5"]);
    fails_with("zoo resnet-20 --dwconv3x3 5:9 -o z.onnx", 2, &["--dwconv3x3", "3:9+F"]);
    fails_with("r.onnx prune --conv1x1 5:9 -o w.onnx", 2, &["--conv1x1", "4x4:0.5"]);
}

/// The curves of a picture: name, zeros in per cent, gain.
fn points(svg: &str) -> Vec<(String, f64)> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let titles = document.descendants().filter(|n| n.has_tag_name("title")).filter_map(|n| n.text());
    let point = |title: &str| {
        let (name, gain) = title.rsplit_once(' ').unwrap();
        (name.to_string(), gain.parse().unwrap())
    };
    titles.map(point).collect()
}

/// The picture of the README is the one that the command beside it draws, as far as cost tables have not been
/// fitted anew: then it is made again when a curve is a fifth away.
#[test]
fn the_readme_shows_what_whatif_draws() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let lines = [
        "zoo mobilenet-v2 -o mobilenet-v2.onnx",
        "whatif mobilenet-v2.onnx --target avx512 --costs built-in --svg ",
    ];
    for line in lines {
        assert!(readme.contains(&format!("tract-sparse {line}")), "the README has no {line}");
    }
    assert!(readme.contains("(docs/sweep.svg)") && readme.contains("--svg docs/sweep.svg"));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vl") {
        run(lines[0]);
        run(&format!("{}sweep.svg", lines[1]));
        let here = points(&std::fs::read_to_string(folder().join("sweep.svg")).unwrap());
        let there = points(&std::fs::read_to_string(root.join("docs/sweep.svg")).unwrap());
        assert_eq!((here.len(), there.len()), (36, 36));
        for ((name, gain), (shown, shown_gain)) in here.iter().zip(&there) {
            assert_eq!(name, shown);
            assert!((gain / shown_gain - 1.0).abs() < 0.2, "{name}: {gain}, the README shows {shown_gain}");
        }
        return;
    }
    eprintln!("NOT RUN: the picture of the README is for avx512, which this machine has not");
}

#[test]
fn whatif_sweeps_and_draws() {
    models();
    let report = json("v1.onnx whatif --sweep --svg curve.svg --json");
    let curves = report["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 3);
    for curve in curves {
        let times: Vec<f64> =
            curve["points"].as_array().unwrap().iter().map(|p| p["ms"].as_f64().unwrap()).collect();
        assert!(times.len() == 12 && times.is_sorted_by(|a, b| *b <= a * 1.001), "{curve}");
    }
    let svg = std::fs::read_to_string(folder().join("curve.svg")).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let titles: Vec<&str> =
        document.descendants().filter(|n| n.has_tag_name("title")).filter_map(|n| n.text()).collect();
    for curve in curves {
        for point in curve["points"].as_array().unwrap() {
            let number = |key: &str| point[key].as_f64().unwrap();
            let (zeros, gain) = (100.0 * number("zeros"), number("gain"));
            let point = format!("{}: {zeros} {gain:.2}", curve["structure"].as_str().unwrap());
            assert!(titles.contains(&&*point), "no {point} in {titles:?}");
        }
    }
    let text = run("v1.onnx whatif --sweep");
    fits(&text);
    assert!(text.contains("break-even of the pruned layers, 4x4"), "{text}");
}

#[test]
fn int8_is_predicted_of_networks_of_floats() {
    models();
    let int8 = json("v1.onnx whatif --conv1x1 4x4:0.8 --dwconv3x3 3:9 --int8 --json");
    let f32 = json("v1.onnx whatif --conv1x1 4x4:0.8 --dwconv3x3 3:9 --json");
    assert_eq!((&int8["int8"], &f32["int8"]), (&Value::Bool(true), &Value::Bool(false)));
    assert!(int8["layers_int8"].as_u64() >= Some(26) && f32["layers_int8"] == 0, "{int8}");
    assert_eq!((&int8["now_ms"], &int8["stock_ms"]), (&f32["now_ms"], &f32["stock_ms"]));
    let of_int8 = layers(&int8).iter().filter(|layer| layer["precision"] == "int8");
    assert!(of_int8.clone().all(|layer| layer["chosen"].is_string() && layer["then_ms"].is_f64()), "{int8}");
    assert_eq!(of_int8.count() as u64, int8["layers_int8"].as_u64().unwrap());
    let text = run("v1.onnx whatif --conv1x1 4x4:0.8 --int8");
    fits(&text);
    let words = text.replace('\n', " ");
    assert!(words.contains("pruned so and quantised") && words.contains("int8: "), "{text}");

    assert!(run_in(folder(), "v1.onnx prune --conv1x1 4x4:0.8 -o v1-pruned.onnx").status.success());
    let inspected = json("v1-pruned.onnx inspect --int8 --json");
    let quantised = &inspected["if_quantised"];
    assert!(quantised["layers_int8"].as_u64() >= Some(13), "{quantised}");
    // what is predicted of the pruned file is what is predicted before it is pruned
    let imagined = json("v1.onnx whatif --conv1x1 4x4:0.8 --int8 --json");
    let (ms, then_ms) = (quantised["ms"].as_f64().unwrap(), imagined["then_ms"].as_f64().unwrap());
    assert!((ms / then_ms - 1.0).abs() < 1e-6, "{ms} {then_ms}");
    assert!(json("v1-pruned.onnx inspect --json")["if_quantised"].is_null());
    assert!(layers(&inspected).iter().all(|layer| layer["precision"] != "int8"), "{inspected}");
    for line in ["v1-pruned.onnx inspect --int8", "v1-pruned.onnx -O inspect --int8"] {
        let text = run(line);
        fits(&text);
        assert!(text.replace('\n', " ").contains("If it were quantised: all layers"), "{text}");
    }
    let swept = json("v1.onnx whatif --int8 --json");
    assert!(swept["int8"] == true && swept["curves"][0]["structure"] == "2x4", "{swept}");
    fits(&run("v1.onnx whatif --int8"));
    fails_with("v1.onnx whatif --conv1x1 4x4:0.5 --int8 --measure", 2, &["--int8", "--measure"]);
}

#[test]
fn whatif_names_what_is_wrong() {
    models();
    fails_with("v1.onnx whatif --measure", 1, &["--measure", "--conv1x1"]);
    fails_with("whatif --sweep", 1, &["MODEL"]);
    fails_with("missing.onnx whatif --sweep", 1, &["missing.onnx"]);
    fails_with("v1.onnx whatif --conv1x1 4x4", 1, &["--conv1x1 4x4", "--ratio"]);
    fails_with("v1.onnx whatif --conv1x1 3:9", 2, &["--conv1x1", "4x4:0.5"]);
    fails_with("v1.onnx whatif --sweep --conv1x1 4x4:0.5", 2, &["--sweep"]);
    fails_with("v1.onnx whatif --conv1x1 4x4:0.5 --svg x.svg", 1, &["--sweep"]);
    fails_with("v1.onnx whatif --sweep --svg missing/x.svg", 1, &["missing/x.svg"]);
    fails_with("r.onnx whatif --dwconv3x3 3:9", 1, &["no layer can be pruned"]);
}

#[test]
fn fit_makes_the_table_that_predicts() {
    models();
    // a folder with a cache of its own: tables that others find would be theirs, too
    let alone = folder().join("fit");
    std::fs::create_dir_all(&alone).unwrap();
    let json = |line: &str| -> Value {
        let output = run_in(&alone, line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let costs = |options: &str| {
        json(&format!("{options} ../v1.onnx inspect --json"))["costs"].as_str().unwrap().to_string()
    };
    assert!(costs("").starts_with("built in, fitted on "));
    let report = json("fit --json");
    assert!(report["found"] == true && report["layers"].as_u64().unwrap() > 500, "{report}");
    let file = report["file"].as_str().unwrap();
    assert!(file.ends_with(&format!("costs-{}.txt", report["target"].as_str().unwrap())), "{report}");
    assert!(costs("").starts_with(file), "{}", costs(""));
    assert!(costs(&format!("--costs {file}")).starts_with(file));
    for built_in in ["--costs built-in", "--target scalar"] {
        assert!(costs(built_in).starts_with("built in"), "{built_in}: {}", costs(built_in));
    }
    let text = std::fs::read_to_string(file).unwrap();
    for (name, text, word) in [
        ("other.txt", text.replacen("# Machine: ", "# Machine: not ", 1), "another machine"),
        ("old.txt", text.replacen("Stock: tract 0", "Stock: tract 9", 1), "another version"),
        ("short.txt", text.replacen("stock/spatial", "#", 1), "stock/spatial"),
    ] {
        std::fs::write(folder().join(name), text).unwrap();
        fails_with(&format!("--costs {name} v1.onnx inspect"), 1, &["--costs", name, word]);
    }
    // what cannot be used where it was found is no error
    std::fs::write(file, "nonsense").unwrap();
    assert!(costs("").starts_with("built in"));
    fails_with("r.onnx fit", 1, &["r.onnx", "no model"]);
}

#[test]
fn doctor_checks_every_kernel() {
    let report = json("doctor --json");
    assert_eq!(report["healthy"], true);
    let kernels = report["kernels"].as_array().unwrap();
    assert!(kernels.iter().all(|k| k["right"] == true && k["gmacs"].as_f64().unwrap() > 0.0), "{report}");
    assert!(kernels.iter().any(|k| k["chosen"] == true), "{report}");
    // plain loops have every type everywhere
    let types: HashSet<&str> = kernels.iter().filter_map(|kernel| kernel["type"].as_str()).collect();
    assert_eq!(types, HashSet::from(["f32", "bf16", "f16", "int8"]), "{report}");
    let peaks = report["peaks"].as_array().unwrap();
    assert!(
        peaks.iter().any(|peak| peak["type"] == "bf16" && peak["gmacs"].as_f64() > Some(0.0)),
        "{report}"
    );
    fits(&run("doctor"));
    fails_with("r.onnx doctor", 1, &["r.onnx", "no model"]);
}

#[test]
fn json_is_documented() {
    models();
    let documentation = include_str!("../../docs/cli.md");
    for line in ["v1.onnx inspect", "v1.onnx whatif --conv1x1 4x4:0.5", "v1.onnx whatif --sweep", "doctor"] {
        let mut found = vec![];
        keys(&json(&format!("{line} --json")), &mut found);
        for key in found {
            assert!(documentation.contains(&format!("`{key}`")), "{line}: `{key}` is not in docs/cli.md");
        }
    }
}
