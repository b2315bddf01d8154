//! `convert` and the NNEF files it writes, through the binary.

mod common;

use common::{fails_with, fits, folder, json, node, run, run_in, written};
use tract_onnx::pb::tensor_shape_proto::dimension::Value::{DimParam, DimValue};
use tract_onnx::pb::{GraphProto, NodeProto};
use zoo::proto;

#[test]
fn a_compact_file_is_smaller_and_runs_as_the_onnx_file_does() {
    let made = json("r.onnx convert -o compact.nnef.tar --json");
    assert!(made["compact"] == true && made["bytes"].as_u64() < made["plain_bytes"].as_u64(), "{made}");
    let bytes = std::fs::metadata(folder().join("compact.nnef.tar")).unwrap().len();
    assert_eq!(made["bytes"], bytes, "{made}");
    let kernels = |file: &str| {
        let report = json(&format!("{file} --sparse always inspect --json"));
        let chosen = report["layers"].as_array().unwrap().iter().map(|layer| layer["chosen"].to_string());
        chosen.collect::<Vec<_>>()
    };
    assert_eq!(kernels("compact.nnef.tar"), kernels("r.onnx"));
    let compared = json("compact.nnef.tar compare --json");
    assert_eq!(compared["agrees"], true, "{compared}");
    let text = run("r.onnx convert -o compact.nnef.tgz");
    fits(&text);
}

/// The file of a network pruned to 30 % is at least a quarter smaller than that of the same network before it
/// was pruned, compressed or not, and never larger than with its zeros.
#[test]
fn pruned_networks_take_a_quarter_less_than_dense_ones() {
    run("zoo mobilenet-v1 --width 0.5 --hw 64 -o dense.onnx");
    run("dense.onnx prune --ratio 0.3 -o thirty.onnx");
    for end in ["nnef.tar", "nnef.tgz"] {
        let before = json(&format!("dense.onnx convert --plain -o dense.{end} --json"));
        let made = json(&format!("thirty.onnx convert -o thirty.{end} --json"));
        let (before, bytes) = (before["bytes"].as_u64().unwrap(), made["bytes"].as_u64().unwrap());
        assert!(bytes <= made["plain_bytes"].as_u64().unwrap(), "{made}");
        assert!(4 * bytes <= 3 * before, "{end}: {bytes} of {before}");
        // nothing to leave out: never larger
        let dense = json(&format!("dense.onnx convert -o same.{end} --json"));
        assert!(dense["bytes"].as_u64().unwrap() <= before, "{dense}");
    }
}

#[test]
fn a_plain_file_keeps_its_zeros() {
    let made = json("r.onnx convert --plain -o plain.nnef.tgz --json");
    assert!(made["compact"] == false && made["bytes"] == made["plain_bytes"], "{made}");
    assert_eq!(json("plain.nnef.tgz compare --json")["agrees"], true);
}

#[test]
fn wrong_names_and_files_are_refused() {
    fails_with("r.onnx convert -o m.onnx", 1, &["m.onnx", ".nnef.tgz"]);
    fails_with("r.onnx -O convert -o m.nnef.tar", 1, &["-O"]);
    fails_with("r.onnx convert -o /nowhere/m.nnef.tar", 1, &["/nowhere/m.nnef.tar"]);
    std::fs::write(folder().join("cut.nnef.tar"), [1u8; 700]).unwrap();
    fails_with("cut.nnef.tar inspect", 1, &["cut.nnef.tar"]);
    assert!(run_in(folder(), "r.onnx convert -o kept.nnef.tar").status.success());
    fails_with("kept.nnef.tar -i 1,3,64,64,f32 inspect", 1, &["-i 1,3,64,64,f32", "NNEF"]);
}

/// A file of the folder of cases.
fn case(name: &str) -> String {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name).display().to_string()
}

/// Files that once were written and could not be read: stock tract reads what is for any tract, every command
/// here the rest, and both compute what the ONNX file does.
#[test]
fn what_is_written_can_be_read() {
    use tract_nnef::internal::*;
    use tract_onnx::WithOnnx;
    for (name, options) in [
        ("metadata_apostrophe.onnx", ""),
        ("strided_after_1x1.onnx", ""),
        ("keras_conv1d_lstm.onnx", "--set N=1"),
        ("scan.onnx", ""),
    ] {
        let model = case(name);
        let archive = |kind: &str| format!("{name}.{kind}.nnef.tar");
        run(&format!("{model} {options} convert -o {}", archive("compact")));
        run(&format!("{model} {options} convert --plain -o {}", archive("plain")));
        run(&format!("{model} {options} dump -q --nnef-tar {}", archive("dumped")));
        let directory = folder().join(archive("dir"));
        let _ = std::fs::remove_dir_all(&directory);
        run(&format!("{model} {options} dump -q --nnef-dir {}", archive("dir")));
        let results = |line: &str| json(line)["outputs"].clone();
        let expected = results(&format!("{model} {options} run --json"));
        for kind in ["compact", "plain", "dumped"] {
            let got = results(&format!("{} run --json", archive(kind)));
            for (got, expected) in got.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
                for key in ["min", "max", "mean"] {
                    let (got, expected) = (got[key].as_f64().unwrap(), expected[key].as_f64().unwrap());
                    // as far as the order of additions may move them
                    assert!((got - expected).abs() < 1e-4 * expected.abs().max(1.0), "{name} {kind}: {key}");
                }
            }
        }
        for kind in ["plain", "dumped", "dir"] {
            let stock = tract_nnef::nnef().with_onnx().model_for_path(folder().join(archive(kind))).unwrap();
            stock.into_decluttered().unwrap().into_optimized().unwrap().into_runnable().unwrap();
        }
    }
    let apostrophe = folder().join("metadata_apostrophe.onnx.plain.nnef.tar");
    let model = tract_nnef::nnef().with_onnx().model_for_path(apostrophe).unwrap();
    let text = model.properties["onnx.metadata_props.character"].cast_to::<String>().unwrap().into_owned();
    assert_eq!(text.try_as_plain_ram().unwrap().as_slice::<String>().unwrap()[0], "{0: 'person', 1: 'dog'}");
}

/// Rounded weights take half of the bytes, in both types, and the command says what is gone. Every command reads the file, in f32 and in
/// half precision.
#[test]
fn weights_of_half_the_size() {
    run("zoo mobilenet-v1 --width 0.5 --hw 64 --conv1x1 4x4:0.5 --dwconv3x3 3:9 -o whole.onnx");
    let whole = json("whole.onnx convert -o whole.nnef.tar --json");
    assert_eq!((&whole["weights"], &whole["rounded"]), (&"f32".into(), &serde_json::json!([])));
    let bytes = |made: &serde_json::Value| made["bytes"].as_f64().unwrap();
    for of in ["bf16", "f16"] {
        let made = json(&format!("whole.onnx convert --weights {of} -o {of}.nnef.tar --json"));
        // the text of the graph, biases and where weights are take what they took
        assert!(bytes(&made) < 0.6 * bytes(&whole), "{made}");
        assert!(made["compact"] == true && made["weights"] == of, "{made}");
        // 13 pairs of layers, the first and the last
        assert_eq!(made["rounded"].as_array().unwrap().len(), 28, "{made}");
        assert_eq!(made["kept"], serde_json::json!([]));
        for options in ["", "--target scalar --precision half"] {
            let compared = json(&format!("{of}.nnef.tar --sparse always {options} compare --json"));
            assert_eq!(compared["agrees"], true, "{compared}");
        }
        // a machine without such kernels says so
        let here = run_in(folder(), &format!("{of}.nnef.tar --sparse always --precision half compare"));
        assert!(here.status.success(), "{}", String::from_utf8_lossy(&here.stderr));
        let text = run(&format!("whole.onnx convert --weights {of} -o {of}.nnef.tgz"));
        fits(&text);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(&format!("28 layer(s) are rounded to {of}, those of f32 are not in it")),
            "{text}"
        );
    }
    // a network without zeros
    run("zoo mobilenet-v1 --width 0.5 --hw 64 -o full.onnx");
    let plain = json("full.onnx convert --plain -o full.nnef.tar --json");
    let made = json("full.onnx convert --weights bf16 -o fullhalf.nnef.tar --json");
    assert!(bytes(&made) < 0.6 * bytes(&plain), "{made}");
    fails_with("whole.onnx convert --weights int8 -o no.nnef.tar", 2, &["--weights", "int8"]);
    fails_with("whole.onnx convert --plain --weights bf16 -o no.nnef.tar", 2, &["--plain", "--weights"]);
}

/// A pool over windows of 3 pixels a side, two apart, whose number is rounded up.
fn rounded_up(op: &str, output: &str, input: &str, count_padding: usize) -> NodeProto {
    let mut pool = node(op, output, &[input]);
    pool.attribute = vec![
        proto::ints("kernel_shape", &[3, 3]),
        proto::ints("strides", &[2, 2]),
        proto::ints("pads", &[1, 0, 0, 0]),
        proto::int("ceil_mode", 1),
    ];
    if op == "AveragePool" {
        pool.attribute.push(proto::int("count_include_pad", count_padding));
    }
    pool
}

/// NNEF has no word for rounding up: where sizes are known it is so much padding, unless padding is counted, which what rounding
/// up adds is not.
#[test]
fn pools_that_round_up_come_back() {
    for size in [13, 14, 15] {
        let mut graph = GraphProto { name: "pools".into(), ..Default::default() };
        graph.input = vec![proto::value("x", [1, 4, size, size].map(DimValue).to_vec())];
        graph.node = vec![rounded_up("MaxPool", "a", "x", 0), rounded_up("AveragePool", "b", "x", 0)];
        written("pools.onnx", graph, &["a", "b"]);
        run("pools.onnx convert -o pools.nnef.tar");
        run("pools.onnx run --seed 3 --save-outputs pools.npz");
        run("pools.nnef.tar run --seed 3 --assert-output-bundle pools.npz --approx exact");
        let mut graph = GraphProto { name: "counted".into(), ..Default::default() };
        graph.input = vec![proto::value("x", [1, 4, size, size].map(DimValue).to_vec())];
        graph.node = vec![rounded_up("AveragePool", "a", "x", 1)];
        written("counted.onnx", graph, &["a"]);
        fails_with("counted.onnx convert -o counted.nnef.tar", 1, &["cannot be written as NNEF"]);
    }
}

/// What is written is run with several sizes for symbols: one that a network cannot take, which tract may say in a panic, is passed
/// over.
#[test]
fn networks_that_need_larger_pictures_are_written() {
    let mut graph = GraphProto { name: "deep".into(), ..Default::default() };
    let sizes = [DimParam("N".into()), DimValue(1), DimParam("H".into()), DimParam("W".into())];
    graph.input = vec![proto::value("x", sizes.to_vec())];
    graph.initializer = vec![proto::tensor("w", &[8, 1, 3, 3], &[0.5; 72])];
    let mut conv = node("Conv", "conv", &["x", "w"]);
    conv.attribute = vec![proto::ints("pads", &[1; 4])];
    graph.node = vec![conv];
    for (at, input) in ["conv", "0", "1"].iter().enumerate() {
        let mut pool = node("MaxPool", &at.to_string(), &[input]);
        pool.attribute = vec![proto::ints("kernel_shape", &[2, 2]), proto::ints("strides", &[2, 2])];
        graph.node.push(pool);
    }
    let mut resize = node("Resize", "y", &["2", "", "scales"]);
    resize.attribute = vec![proto::string("mode", "nearest")];
    graph.initializer.push(proto::tensor("scales", &[4], &[1.0, 1.0, 2.0, 2.0]));
    graph.node.push(resize);
    written("deep.onnx", graph, &["y"]);
    run("deep.onnx convert -o deep.nnef.tar");
    assert_eq!(json("deep.nnef.tar compare --set N=1 --set H=32 --set W=32 --json")["agrees"], true);
}

#[test]
fn networks_without_values_are_written() {
    let mut graph = GraphProto { name: "empty".into(), ..Default::default() };
    graph.input = vec![proto::value("x", [2, 0, 16].map(DimValue).to_vec())];
    graph.initializer = vec![proto::tensor("w", &[16, 8], &[0.5; 128]), proto::tensor("none", &[0, 8], &[])];
    graph.node = vec![node("MatMul", "a", &["x", "w"]), node("Mul", "y", &["a", "none"])];
    written("empty.onnx", graph, &["y"]);
    run("empty.onnx convert -o empty.nnef.tar");
    assert!(run("empty.nnef.tar run").contains("2x0x8"));
}
