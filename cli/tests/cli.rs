//! Every command and every error, through the binary.

mod common;

use common::{fail, fails_with, fits, folder, json, keys, run};
use ndarray_npy::{NpzReader, write_npy};
use serde_json::Value;
use std::process::Stdio;
use tract_core::ndarray::{Array1, Array4, ArrayD, IxDyn, OwnedRepr};

#[test]
fn zoo_writes_what_it_says() {
    let said = json("zoo mobilenet-v2 --width 0.25 --hw 32 --dwconv3x3 3:9 --seed 3 -o z.onnx --json");
    assert_eq!(said["network"], "mobilenet-v2");
    assert_eq!(said["bytes"], std::fs::metadata(folder().join("z.onnx")).unwrap().len());
    assert!(said["spec"].as_str().unwrap().contains("dwconv3x3=3:9"));
    let first = std::fs::read(folder().join("z.onnx")).unwrap();
    fits(&run("zoo mobilenet-v2 --width 0.25 --hw 32 --dwconv3x3 3:9 --seed 3 -o z2.onnx"));
    assert!(first == std::fs::read(folder().join("z2.onnx")).unwrap(), "the same seed, other bytes");
}

#[test]
fn zoo_refuses_nonsense_and_leaves_nothing_behind() {
    fails_with("zoo resnet-19 -o x.onnx", 2, &["resnet-19", "resnet-20", "mobilenet-v3-large"]);
    for spec in ["4x4", "4x4:1.5", "4x4:x", "0x4:0.5", "dense:0.5"] {
        fails_with(&format!("zoo resnet-20 --conv1x1 {spec} -o x.onnx"), 2, &["--conv1x1", spec]);
    }
    fails_with("zoo resnet-20 --conv3x3 5:8 -o x.onnx", 2, &["--conv3x3", "5:8", "5:9"]);
    fails_with("zoo resnet-20 --dwconv3x3 2:9 -o x.onnx", 2, &["--dwconv3x3", "2:9", "3:9"]);
    fails_with("zoo resnet-20 --hw 0 -o x.onnx", 1, &["0x0"]);
    fails_with("zoo resnet-20 --width nan -o x.onnx", 1, &["NaN"]);
    fails_with("zoo resnet-20 --batch 0 -o x.onnx", 2, &["--batch"]);
    fails_with("zoo resnet-20", 2, &["--output"]);
    fails_with("zoo", 2, &["<NETWORK>"]);
    fails_with("r.onnx zoo resnet-20 -o x.onnx", 1, &["r.onnx"]);
    fails_with("zoo resnet-20 -i 1,3,32,32,f32 -o x.onnx", 1, &["-i", "--hw"]);
    fails_with("zoo resnet-20 -o missing/x.onnx", 1, &["missing/x.onnx"]);
    fails_with("zoo resnet-20 -o .", 1, &["folder"]);
    assert!(!folder().join("x.onnx").exists() && !folder().join("missing").exists());
    let left = std::fs::read_dir(folder()).unwrap().filter_map(Result::ok);
    let left: Vec<String> = left.map(|e| e.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.contains("x.onnx")), "{left:?}");
}

#[test]
fn inspect_says_what_runs_and_why_not() {
    let text = run("r.onnx --sparse always inspect");
    fits(&text);
    assert!(text.contains("block5_skip") && text.contains("kernel pointwise_"), "{text}");
    let report = json("r.onnx --sparse always inspect --json");
    let layers = report["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 22);
    let sparse: Vec<&Value> = layers.iter().filter(|layer| !layer["chosen"].is_null()).collect();
    assert_eq!(report["layers_sparse"], sparse.len());
    let skips = sparse.iter().filter(|layer| layer["name"].as_str().unwrap().contains("skip"));
    assert_eq!(skips.filter(|layer| layer["density"] == 0.25).count(), 2, "{report}");
    assert!(layers.iter().all(|layer| layer["chosen"].is_null() != layer["reason"].is_null()));
    assert_eq!(json("r.onnx --sparse never inspect --json")["layers_sparse"], 0);
    let text = run("r.onnx --sparse never inspect");
    fits(&text);
    assert!(
        text.contains("0 of 22 layers run sparse") && text.contains("stock, TRACT_SPARSE=never"),
        "{text}"
    );
    assert!(run("r.onnx inspect").contains("predicted ms"));
    assert!(run("r.onnx --sparse measure inspect").contains("measured ms"));
    assert!(run("r.onnx -O inspect").contains("layers run sparse"));
}

#[test]
fn bench_against_stock_interleaves_and_compares() {
    let line = "r.onnx -O bench --against stock --max-loops 5";
    let outcome = json(&format!("{line} --json"));
    for key in ["stock_ms", "sparse_ms", "ratio"] {
        assert!(outcome[key].as_f64().unwrap() > 0.0, "{outcome}");
    }
    assert!(outcome["ratio_q1"].as_f64() <= outcome["ratio_q3"].as_f64(), "{outcome}");
    assert_eq!(outcome["runs"], 5);
    assert_eq!(outcome["threads"], 1);
    assert!(outcome["layers_sparse"].is_u64() && outcome["target"].is_string(), "{outcome}");
    assert!(outcome["max_abs_diff"].as_f64().unwrap() < 1e-4, "{outcome}");
    let text = run(line);
    fits(&text);
    assert!(text.contains("ratio") && text.contains("5 runs of each"), "{text}");
    assert_eq!(json("r.onnx --threads 2 bench --against stock --max-loops 1 --json")["threads"], 2);
}

#[test]
fn bench_of_one_model_speaks_like_tract() {
    assert!(run("r.onnx bench --max-loops 3").starts_with("Bench ran 3 times, "));
    assert_eq!(json("r.onnx bench --max-loops 3 --json")["runs"], 3);
    assert_eq!(json("symbolic.onnx bench --set N=2 --max-loops 1 --json")["runs"], 1);
    fails_with("r.onnx bench --max-loops 0", 1, &["--max-loops"]);
    fails_with("r.onnx bench --against dense", 2, &["--against", "dense"]);
    fails_with("r.onnx bench --network resnet-20", 1, &["--network", "r.onnx"]);
}

#[test]
fn bench_without_a_model_prints_one_table() {
    let text = run("bench --network resnet-20 --max-loops 1");
    fits(&text);
    for zeros in ["0 %", "30 %", "50 %", "80 %", "90 %"] {
        assert!(text.lines().any(|line| line.starts_with(zeros)), "{text}");
    }
    let all = json("bench --network resnet-20 --format 4x1 --max-loops 1 --json");
    assert_eq!(all["rows"].as_array().unwrap().len(), 5);
    assert_eq!(all["rows"][4]["sparsity"], 0.9);
    assert_eq!(all["rows"][0]["layers_sparse"], 0);
    fails_with("bench --format 9", 1, &["--format", "9"]);
}

#[test]
fn compare_agrees_and_names_the_node_that_does_not() {
    let text = run("r.onnx --sparse always compare");
    fits(&text);
    assert!(text.contains("agrees within 1e-4"), "{text}");
    let nodes = json("r.onnx --sparse always compare --cumulative --json");
    assert_eq!(nodes["agrees"], true);
    assert!(nodes["nodes"].as_array().unwrap().len() > 20, "{nodes}");
    assert_eq!(nodes["outputs"][0]["shape"], serde_json::json!([1, 10]));
    fits(&run("r.onnx compare --cumulative"));
    // without any tolerance, rounding is a difference
    let error = fail("r.onnx --sparse always compare --tolerance 0", 3);
    assert!(error.contains("r.onnx: node ") && error.contains("differs by"), "{error}");
    fails_with("r.onnx compare --tolerance -1", 1, &["--tolerance", "-1"]);
    fails_with("r.onnx compare --tolerance=nan", 1, &["--tolerance"]);
    assert!(run("symbolic.onnx --set N=3 compare").contains("3x10"));
    assert!(run("symbolic.onnx -i 2,3,32,32,f32 compare").contains("2x10"));
}

#[test]
fn run_reads_and_writes_arrays() {
    let x = Array4::from_shape_fn((1, 3, 32, 32), |(_, c, y, x)| ((c + y * x) % 7) as f32 - 3.0);
    write_npy(folder().join("x.npy"), &x).unwrap();
    fits(&run("r.onnx run --input x.npy --save-outputs y.npz"));
    let mut npz = NpzReader::new(std::fs::File::open(folder().join("y.npz")).unwrap()).unwrap();
    let y: ArrayD<f32> =
        npz.by_name::<OwnedRepr<f32>, IxDyn>("output").or_else(|_| npz.by_name("output.npy")).unwrap();
    assert_eq!(y.shape(), [1, 10]);
    assert!(y.iter().all(|v| v.is_finite()));
    let said = json("r.onnx run --input x.npy --json");
    let max = y.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    assert_eq!(said["outputs"][0]["max"].as_f64().unwrap(), f64::from(max));
    assert_eq!(
        json("symbolic.onnx run --input x.npy --json")["outputs"][0]["shape"],
        serde_json::json!([1, 10])
    );
}

#[test]
fn wrong_inputs_are_named() {
    write_npy(folder().join("double.npy"), &Array4::<f64>::zeros((1, 3, 32, 32))).unwrap();
    write_npy(folder().join("flat.npy"), &Array1::<f32>::zeros(10)).unwrap();
    std::fs::write(folder().join("text.npy"), "not an array").unwrap();
    std::fs::write(folder().join("text.npz"), "not an archive").unwrap();
    fails_with("r.onnx run --input double.npy", 1, &["double.npy", "F32"]);
    fails_with("r.onnx run --input flat.npy", 1, &["flat.npy", "[10]", "1,3,32,32"]);
    fails_with("r.onnx run --input text.npy", 1, &["text.npy"]);
    fails_with("r.onnx run --input text.npz", 1, &["text.npz"]);
    fails_with("r.onnx run --input missing.npy", 1, &["missing.npy"]);
    fails_with("r.onnx run --input flat.npy --input flat.npy", 1, &["2 file(s)", "1 input(s)"]);
    fails_with("r.onnx run --save-outputs missing/y.npz", 1, &["missing/y.npz"]);
    fails_with("symbolic.onnx run", 1, &["N,3,32,32", "--set"]);
}

#[test]
fn dump_is_tracts_own() {
    let text = run("r.onnx -O dump --profile --cost --max-loops 2");
    assert!(text.contains("FMA(F32)") && text.contains("Entire network performance"), "{text}");
    assert!(!text.contains('\x1b'), "colours in a pipe");
    assert!(run("r.onnx --sparse never dump --info --op-name Conv").contains("block2_conv1"));
    assert!(run("r.onnx dump --summary").contains("# Operators"));
    let info = json("r.onnx -O dump --profile --cost --max-loops 2 --json");
    assert!(info["nodes"].as_array().unwrap().len() > 20 && info["profiling_info"].is_object());
    fails_with("missing.onnx dump", 1, &["missing.onnx"]);
}

#[test]
fn models_that_are_none_are_named() {
    let bytes = std::fs::read(folder().join("r.onnx")).unwrap();
    std::fs::write(folder().join("empty.onnx"), "").unwrap();
    std::fs::write(folder().join("text.onnx"), "hello, this is no model").unwrap();
    std::fs::write(folder().join("zeros.onnx"), [0; 64]).unwrap();
    for (part, name) in [(1, "byte.onnx"), (bytes.len() / 2, "half.onnx"), (bytes.len() - 1, "last.onnx")] {
        std::fs::write(folder().join(name), &bytes[..part]).unwrap();
    }
    for name in ["empty", "text", "zeros", "byte", "half", "last", "missing"] {
        for command in ["inspect", "bench --against stock", "compare", "run", "dump"] {
            fails_with(&format!("{name}.onnx {command}"), 1, &[&format!("{name}.onnx")]);
        }
    }
    fails_with(". inspect", 1, &["folder"]);
    for command in ["inspect", "compare", "run", "dump"] {
        fails_with(command, 1, &["MODEL", "--help"]);
    }
}

#[test]
fn wrong_shapes_and_symbols_are_named() {
    fails_with("r.onnx -i 1,-3,32,32,f32 run", 1, &["1,-3,32,32,f32", "-3"]);
    fails_with("r.onnx -i 1,-3,32,32,f32 run", 1, &["dimension -3"]);
    fails_with("r.onnx -i 9999999999999,3,32,32,f32 run", 1, &["9999999999999", "absurd"]);
    fails_with("r.onnx -i 99999999,3,32,32,f32 run", 1, &["absurd"]);
    fails_with("r.onnx -i 1,3,32,f32 run", 1, &["1,3,32,f32", "3 dimension(s)"]);
    fails_with("r.onnx -i nobody:1,3,32,32,f32 run", 1, &["nobody", "input"]);
    fails_with("r.onnx -i 1,3,32,32,f32 -i 1,f32 run", 1, &["1 input(s)"]);
    fails_with("r.onnx -i 1,3,32,32,f99 run", 1, &["f99"]);
    fails_with("symbolic.onnx --set M=1 run", 1, &["M=1", "N"]);
    fails_with("symbolic.onnx --set N=-1 run", 1, &["N=-1"]);
    fails_with("symbolic.onnx --set N=two run", 1, &["two"]);
    fails_with("symbolic.onnx --set N run", 1, &["--set N"]);
    fails_with("r.onnx --set N=1 run", 1, &["no symbols"]);
}

#[test]
fn options_are_checked() {
    fails_with("r.onnx --frobnicate inspect", 2, &["--frobnicate"]);
    fails_with("r.onnx inspect --frobnicate", 2, &["--frobnicate"]);
    fails_with("r.onnx frobnicate", 2, &["frobnicate"]);
    fails_with("r.onnx", 2, &["no command", "inspect"]);
    fails_with("", 2, &["no command", "--help"]);
    fails_with("r.onnx --pass codegen inspect", 2, &["codegen", "declutter"]);
    fails_with("r.onnx -O --pass type inspect", 2, &["--pass"]);
    fails_with("r.onnx --threads many inspect", 2, &["--threads", "many"]);
    fails_with("r.onnx --threads 99999 inspect", 1, &["99999"]);
    fails_with("r.onnx --sparse sometimes inspect", 1, &["TRACT_SPARSE", "sometimes", "always"]);
    fails_with("r.onnx --target mmx inspect", 1, &["mmx", "scalar"]);
    fails_with("bench --target mmx", 1, &["mmx"]);
    fails_with("r.onnx --min-gain 0.5 inspect", 1, &["0.5"]);
    assert_eq!(json("r.onnx --target scalar inspect --json")["target"], "scalar");
}

#[test]
fn help_has_an_example_for_every_command() {
    let help = run("--help");
    assert!(help.contains("Exit codes") && help.contains("tract-sparse bench"), "{help}");
    for command in [
        "zoo",
        "inspect",
        "whatif",
        "doctor",
        "fit",
        "bench",
        "compare",
        "run",
        "dump",
        "prune",
        "convert",
        "completions",
        "man",
    ] {
        let help = run(&format!("{command} --help"));
        assert!(help.contains("Example") && help.contains(&format!(" {command}")), "{help}");
        fits(&help);
        fits(&run(&format!("{command} -h")));
    }
    assert!(run("--version").starts_with("tract-sparse "));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for line in [
        "r.onnx inspect",
        "r.onnx inspect --json",
        "r.onnx dump",
        "r.onnx dump --audit-json",
        "r.onnx bench --max-loops 1",
        "r.onnx run --dump",
        "r.onnx compare --cumulative",
        "r.onnx whatif --conv1x1 4x4:0.5",
        "r.onnx whatif --sweep --json",
        "doctor",
        "bench --network resnet-20 --max-loops 1",
        "completions bash",
        "man",
        "man bench",
        "--help",
    ] {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("tract-sparse"))
            .current_dir(folder())
            .args(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{line}: {stderr}");
    }
}

#[test]
fn json_is_documented() {
    let documentation = include_str!("../../docs/cli.md");
    for line in [
        "zoo resnet-20 --width 0.25 -o documented.onnx",
        "r.onnx inspect",
        "r.onnx bench --max-loops 1",
        "r.onnx bench --max-loops 1 --streams 2",
        "r.onnx bench --max-loops 1 --turn-period 20",
        "r.onnx bench --against stock --max-loops 1",
        "bench --network resnet-20 --max-loops 1 --max-time 1",
        "r.onnx compare --cumulative",
        "r.onnx run",
        "r.onnx --sparse always dump --profile --cost --max-loops 1",
        "r.onnx dump --audit-json",
        "r.onnx convert -o documented.nnef.tgz",
        "r.onnx prune --speedup 1.2 --rearrange --search-seconds 1 -o documented-pruned.onnx",
    ] {
        let mut found = vec![];
        keys(&json(&format!("{line} --json")), &mut found);
        assert!(found.len() >= 4, "{line}");
        for key in found {
            assert!(documentation.contains(&format!("`{key}`")), "{line}: `{key}` is not in docs/cli.md");
        }
    }
}

/// Half precision is a word of every command; `compare` allows for its rounding and says how large it was.
#[test]
fn half_precision_is_a_word() {
    let line = "r.onnx --sparse always --target scalar --precision half";
    let report = json(&format!("{line} -O inspect --json"));
    assert_eq!(report["precision"], "half");
    let types: Vec<&str> =
        report["layers"].as_array().unwrap().iter().filter_map(|layer| layer["precision"].as_str()).collect();
    assert!(types.contains(&"bf16"), "{types:?}");
    let text = run(&format!("{line} compare"));
    assert!(text.contains("in half precision") && text.contains("relative difference"), "{text}");
    let value = json(&format!("{line} compare --json"));
    assert!(value["layers_half"].as_u64().unwrap() > 0 && value["agrees"] == true, "{value}");
    assert_eq!(json("r.onnx --sparse always compare --json")["layers_half"], 0);
    for command in ["bench --max-loops 2", "bench --against stock --max-loops 2"] {
        let value = json(&format!("{line} {command} --json"));
        assert!(value["precision"] == "half" && value["layers_half"].as_u64().unwrap() > 0, "{value}");
        let text = run(&format!("{line} {command}"));
        assert!(text.contains("layer(s) in half precision"), "{text}");
        let full = json(&format!("r.onnx --sparse always --target scalar {command} --json"));
        assert!(full["precision"] == "f32" && full["layers_half"] == 0, "{full}");
    }
    let measured = run(&format!("{line} inspect --measure"));
    assert!(measured.lines().any(|line| line.ends_with("half")), "{measured}");
    let pruned = json(&format!("{line} whatif --conv1x1 4x4:0.5 --json"));
    assert!(pruned["precision"] == "half" && pruned["layers_half"].is_u64(), "{pruned}");
    fails_with("r.onnx --precision bf16 inspect", 1, &["--precision", "f32 or half"]);
}
