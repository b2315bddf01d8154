//! What newcomers type, and what they are told.

mod common;

use common::{fail, fails_with, fits, folder, json, node, run, run_in, written};
use ndarray_npy::write_npy;
use prost::Message;
use std::path::{Path, PathBuf};
use tract_core::ndarray::Array4;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
use zoo::proto;

/// A file of the cases that the whole workspace shares.
fn case(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name);
    path.canonicalize().unwrap().display().to_string()
}

/// Runs a command line with one more environment variable and returns what it said on stderr.
fn stderr_with(name: &str, value: &str, line: &str) -> String {
    let mut command = assert_cmd::Command::cargo_bin("tract-sparse").unwrap();
    let output =
        command.current_dir(folder()).env(name, value).args(line.split_whitespace()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{name}={value} {line}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_model_stands_before_or_behind_the_command() {
    for command in ["inspect", "compare", "run", "dump", "whatif --conv1x1 4x4:0.5"] {
        assert_eq!(run(&format!("r.onnx {command}")), run(&format!("{command} r.onnx")), "{command}");
    }
    assert_eq!(json("bench r.onnx --max-loops 1 --json")["model"], "r.onnx");
    run("prune r.onnx --ratio 0.5 -o behind.onnx");
    run("convert r.onnx -o behind.nnef.tgz");
    fails_with("r.onnx inspect symbolic.onnx", 2, &["two models", "r.onnx", "symbolic.onnx"]);
    for line in ["r.onnx", "", "r.onnx info", "inpect r.onnx", "r.onnx benchmark", "doctor r.onnx"] {
        fails_with(line, 2, &["tract-sparse m.onnx inspect", "compare"]);
    }
    assert!(run("help inspect").contains("Say what runs each layer"));
    assert!(run("inspect --help").contains("[MODEL]"));
}

#[test]
fn a_folder_stands_for_the_model_in_it() {
    std::fs::create_dir_all(folder().join("net")).unwrap();
    std::fs::copy(folder().join("r.onnx"), folder().join("net/model.onnx")).unwrap();
    assert!(run("net inspect").contains("net/model.onnx: "));
}

#[test]
fn wrong_knobs_are_named_with_their_choices() {
    for (name, option, value, choice) in [
        ("TRACT_SPARSE", "--sparse", "foo", "measure"),
        ("TRACT_SPARSE_TARGET", "--target", "avx1024", "avx512"),
        ("TRACT_SPARSE_MIN_GAIN", "--min-gain", "x", "at least 1"),
        ("TRACT_SPARSE_PRECISION", "--precision", "bf16", "f32 or half"),
    ] {
        let assignment = format!("{name}={value:?}");
        for command in ["r.onnx inspect", "r.onnx run", "bench", "doctor"] {
            let error = stderr_with(name, value, command);
            assert!(error.contains(&assignment) && error.contains(choice), "{command}: {error}");
            assert!(!error.contains(option), "{error}");
        }
        fails_with(&format!("r.onnx {option} {value} inspect"), 1, &[option, value, name, choice]);
    }
    let help = run("inspect --help");
    for word in
        ["auto", "measure", "always", "dense", "never", "predicted", "scalar", "avx512", "[default: 1.1]"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn shapes_and_types_that_do_not_fit_say_what_does() {
    fails_with("r.onnx -i 1x3x32x32 run", 1, &["-i 1x3x32x32", "1,3,224,224,f32"]);
    fails_with("r.onnx -i 1,3,32,32,float32 run", 1, &["float32", "f32, f16"]);
    fails_with("r.onnx -i 1,3,32,32,i8 run", 1, &["-i 1,3,32,32,i8", "loads without"]);
    fails_with("symbolic.onnx run", 1, &["as in --set N=1"]);
    write_npy(folder().join("f64.npy"), &Array4::<f64>::zeros((1, 3, 32, 32))).unwrap();
    fails_with("r.onnx run --input f64.npy", 1, &["F64", "astype('float32')"]);
    std::fs::write(folder().join("cat.bmp"), "BM and so on").unwrap();
    fails_with("r.onnx run --input cat.bmp", 1, &["cat.bmp", "not an .npy array"]);
}

#[test]
fn symbols_of_the_file_take_the_sizes_that_an_input_is_given() {
    // value_info of this file gives inner values the symbols N, H and W
    let model = case("paddle_dim_param.onnx");
    assert!(run(&format!("{model} -i 1,3,64,64,f32 inspect")).contains("layers run sparse"));
    let shape = |line: &str| json(&format!("{model} {line} run --json"))["outputs"][0]["shape"].clone();
    let set = shape("--set N=1 --set H=64 --set W=64");
    assert_eq!(shape("-i 1,3,64,64,f32"), set);
    assert_eq!(shape("-i 1,3,64,64,f32 --onnx-ignore-value-info --onnx-ignore-output-shapes"), set);
    assert_eq!(shape("-i 1,3,64,64,f32 --onnx-ignore-output-types"), set);
    assert!(run(&format!("{model} -i 2,3,32,48,f32 compare")).contains("agrees"));
}

#[test]
fn inner_shapes_that_contradict_an_input_can_be_ignored() {
    let mut model = ModelProto::decode(&std::fs::read(folder().join("r.onnx")).unwrap()[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let inner = graph.node[0].output[0].clone();
    let dims = [1, 8, 32, 32].map(DimValue);
    graph.value_info = vec![proto::value(&inner, dims.to_vec())];
    graph.output.iter_mut().for_each(|output| output.r#type = None);
    std::fs::write(folder().join("inner.onnx"), model.encode_to_vec()).unwrap();
    fails_with("inner.onnx -i 2,3,32,32,f32 run", 1, &["loads with --onnx-ignore-value-info"]);
    let text = run("inner.onnx -i 2,3,32,32,f32 --onnx-ignore-value-info run");
    assert!(text.contains("2x10"), "{text}");
}

#[test]
fn test_data_of_onnx_is_read_and_checked() {
    let data = folder().join("test_data_set_7");
    std::fs::create_dir_all(&data).unwrap();
    let x: Vec<f32> = (0..3 * 32 * 32).map(|i| (i % 7) as f32 - 3.0).collect();
    write_npy(folder().join("same.npy"), &Array4::from_shape_vec((1, 3, 32, 32), x.clone()).unwrap())
        .unwrap();
    let input = proto::tensor("input", &[1, 3, 32, 32], &x);
    std::fs::write(data.join("input_0.pb"), input.encode_to_vec()).unwrap();
    let line = "--onnx-test-data-set test_data_set_7 r.onnx run";
    assert_eq!(json(&format!("{line} --json")), json("r.onnx run --input same.npy --json"));
    assert_eq!(json("r.onnx run --input test_data_set_7/input_0.pb --json"), json(&format!("{line} --json")));
    let wrong = proto::tensor("output", &[1, 10], &[100.0; 10]);
    std::fs::write(data.join("output_0.pb"), wrong.encode_to_vec()).unwrap();
    fails_with(line, 3, &["r.onnx", "output_0.pb"]);
    std::fs::remove_file(data.join("output_0.pb")).unwrap();
    fails_with("--onnx-test-data-set nowhere r.onnx run", 1, &["--onnx-test-data-set", "input_0.pb"]);
    fails_with("--onnx-test-data-set test_data_set_7 r.onnx inspect", 1, &["takes no inputs"]);
}

#[test]
fn compare_says_which_side_is_wrong() {
    let line = format!("{} compare", case("sub_reversed_pruned.onnx"));
    let error = fail(&line, 3);
    assert!(error.contains("output y") && error.contains("agrees with the sparse model"), "{error}");
    assert!(error.contains("stock tract is wrong"), "{error}");
    let output = run_in(folder(), &format!("{line} --json"));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["outputs"][0]["plain_agrees_with"], "sparse");
    assert_eq!(said["agrees"], false);
    // rounding is a difference here, and the plain run of stock tract has one of its own
    let error = fail("r.onnx --sparse always compare --tolerance 0", 3);
    assert!(error.contains("a plain run of the file"), "{error}");
    assert!(run("r.onnx --sparse never compare").contains("compared with itself"));
    fails_with("r.onnx compare --stage load", 1, &["--stage load", "type"]);
}

#[test]
fn outputs_of_several_types_are_compared_each_in_its_way() {
    let said = json(&format!("{} --sparse always compare --json", case("maxpool_indices.onnx")));
    assert_eq!(said["agrees"], true);
    assert!(said["outputs"].as_array().unwrap().len() > 1, "{said}");
}

/// Whole numbers of 8 bits.
fn bytes(name: &str, dims: &[i64], values: Vec<i32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Int8 as i32,
        int32_data: values,
        ..Default::default()
    }
}

/// 64 x 64 weights of which nine of ten blocks are zero.
fn few_bytes() -> Vec<i32> {
    let weight = |i| {
        let (row, column) = (i / 64 / 4, i % 64 / 4);
        if (row * 7 + column * 3) % 10 == 0 { i * 37 % 201 - 100 } else { 0 }
    };
    (0..64 * 64).map(weight).collect()
}

/// Two 1x1 layers with 8-bit weights and activations, as exporters write them: behind DequantizeLinear.
fn qdq() -> PathBuf {
    let mut graph = GraphProto { name: "qdq".into(), ..Default::default() };
    graph.initializer = vec![
        bytes("w", &[64, 64, 1, 1], few_bytes()),
        bytes("zero", &[], vec![0]),
        proto::tensor("s", &[], &[0.02]),
        proto::tensor("ws", &[], &[0.01]),
    ];
    graph.input = vec![proto::value("x", [1, 64, 14, 14].map(DimValue).to_vec())];
    graph.node = vec![
        node("QuantizeLinear", "xq", &["x", "s", "zero"]),
        node("DequantizeLinear", "xd", &["xq", "s", "zero"]),
        node("DequantizeLinear", "wd", &["w", "ws", "zero"]),
        node("Conv", "a", &["xd", "wd"]),
        node("Relu", "b", &["a"]),
        node("QuantizeLinear", "bq", &["b", "s", "zero"]),
        node("DequantizeLinear", "bd", &["bq", "s", "zero"]),
        node("Conv", "y", &["bd", "wd"]),
    ];
    written("qdq.onnx", graph, &["y"])
}

#[test]
fn weights_behind_dequantize_run_sparse_and_compare_as_what_they_stand_for() {
    qdq();
    let report = json("qdq.onnx inspect --json");
    assert_eq!(report["layers_sparse"], 2, "{report}");
    let said = json("qdq.onnx compare --cumulative --json");
    assert_eq!(said["agrees"], true);
    let nodes = said["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["agrees"] == true) && !nodes.is_empty(), "{said}");
}

/// Files of quantised networks need this to be read, and say so; their weights are bytes.
#[test]
fn quantised_files_become_nnef() {
    qdq();
    let said = json("qdq.onnx convert -o qdq.nnef.tar --json");
    let bytes = |key: &str| said[key].as_u64().unwrap();
    assert!(said["compact"] == true && bytes("bytes") + 8 * 1024 < bytes("plain_bytes"), "{said}");
    assert_eq!(json("qdq.nnef.tar inspect --json")["layers_sparse"], 2);
    assert_eq!(json("qdq.nnef.tar compare --json")["agrees"], true);
    let precisions = |model: &str| -> Vec<serde_json::Value> {
        let report = json(&format!("{model} -O inspect --json"));
        report["layers"].as_array().unwrap().iter().map(|layer| layer["precision"].clone()).collect()
    };
    assert_eq!(precisions("qdq.nnef.tar"), precisions("qdq.onnx"));
    fails_with("qdq.onnx convert --plain -o plain.nnef.tar", 1, &["QuantizeLinear"]);
}

/// Products of whole numbers: those of a vector run in int8, and outputs of 8 bits may be rounded otherwise than stock tract's;
/// those of a matrix, for which there are no such kernels, stay stock, for floats would round otherwise.
#[test]
fn quantised_products_run_in_int8_or_stay_stock() {
    for (rows, int8) in [(1, 2), (64, 0)] {
        let mut graph = GraphProto { name: "products".into(), ..Default::default() };
        graph.initializer = vec![
            bytes("w", &[64, 64], few_bytes()),
            bytes("zero", &[], vec![0]),
            proto::tensor("s", &[], &[0.02]),
        ];
        graph.input = vec![proto::value("x", [rows, 64].map(DimValue).to_vec())];
        graph.node = vec![
            node("QuantizeLinear", "xq", &["x", "s", "zero"]),
            node("QLinearMatMul", "a", &["xq", "s", "zero", "w", "s", "zero", "s", "zero"]),
            node("DequantizeLinear", "b", &["a", "s", "zero"]),
            node("Relu", "c", &["b"]),
            node("QuantizeLinear", "cq", &["c", "s", "zero"]),
            node("QLinearMatMul", "y", &["cq", "s", "zero", "w", "s", "zero", "s", "zero"]),
        ];
        written("products.onnx", graph, &["a", "b", "y"]);
        let said = json("products.onnx --sparse always compare --cumulative --json");
        assert_eq!((&said["agrees"], &said["layers_int8"]), (&true.into(), &int8.into()), "{said}");
        assert!(said["nodes"].as_array().unwrap().iter().any(|node| node["name"] == "b"), "{said}");
        let report = json("products.onnx --sparse always -O inspect --json");
        assert_eq!(report["layers_sparse"], int8, "{report}");
    }
}

#[test]
fn long_lists_of_layers_are_folded() {
    assert!(run_in(folder(), "zoo mobilenet-v1 --width 0.25 --hw 32 -o many.onnx").status.success());
    let folded = run("many.onnx inspect");
    fits(&folded);
    assert!(folded.contains(" more"), "{folded}");
    let whole = run_in(folder(), "many.onnx -v inspect");
    let whole = String::from_utf8(whole.stdout).unwrap();
    assert!(whole.lines().count() > folded.lines().count(), "{whole}");
}

#[test]
fn no_kernel_is_faster_than_the_peak_of_its_vectors() {
    let report = json("doctor --json");
    for kernel in report["kernels"].as_array().unwrap() {
        assert!(kernel["peak_share"].as_f64().unwrap() <= 1.0, "{kernel}");
    }
    let peaks_of = |element: &str| -> Vec<&serde_json::Value> {
        report["peaks"].as_array().unwrap().iter().filter(|peak| peak["type"] == element).collect()
    };
    // classes of cores, which have a hyphen, share the vectors of their instruction set
    let sets = |key: &str| {
        report[key].as_array().unwrap().iter().filter(|t| !t.as_str().unwrap().contains('-')).count()
    };
    let peaks = peaks_of("f32");
    assert_eq!(peaks.len(), sets("targets"));
    assert_eq!(peaks_of("bf16").len(), sets("half_precision"));
    let widest = peaks.iter().map(|peak| peak["gmacs"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(report["peak_gmacs"].as_f64().unwrap(), widest);
}
