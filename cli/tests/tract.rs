//! tract's habits: its flags give what its users expect, on the sparse model; and what a shell needs.

mod common;

use common::{fail, fails_with, fits, folder, json, node, run, run_in, written};
use figures::Agreement;
use ndarray_npy::{NpzReader, write_npy};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use tract_core::ndarray::{Array4, ArrayD, IxDyn, OwnedRepr};
use tract_core::prelude::*;
use tract_onnx::pb::GraphProto;
use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use zoo::proto;

/// The program itself.
fn program() -> std::path::PathBuf {
    assert_cmd::cargo::cargo_bin("tract-sparse")
}

/// Says that something was not tested here, and why.
fn skipped(test: &str, why: &str) {
    eprintln!("NOT RUN: {test}: {why}");
}

fn has(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Writes an input that does not depend on a generator.
fn input(name: &str) {
    let x = Array4::from_shape_fn((1, 3, 32, 32), |(_, c, y, x)| ((c + y * x) % 7) as f32 - 3.0);
    write_npy(folder().join(name), &x).unwrap();
}

/// The array `name` of an .npz file.
fn array(file: &str, name: &str) -> ArrayD<f32> {
    let mut npz = NpzReader::new(std::fs::File::open(folder().join(file)).unwrap()).unwrap();
    npz.by_name::<OwnedRepr<f32>, IxDyn>(name).or_else(|_| npz.by_name(&format!("{name}.npy"))).unwrap()
}

/// Sums of a cost over the nodes whose operator begins so, as `dump --json` has them.
fn cost(dump: &Value, op: &str, kind: &str) -> i64 {
    let nodes = dump["nodes"].as_array().unwrap().iter();
    let nodes = nodes.filter(|node| node["op_name"].as_str().unwrap().starts_with(op));
    nodes.filter_map(|node| node["cost"][kind].as_str()).map(|cost| cost.parse::<i64>().unwrap()).sum()
}

#[test]
fn sparse_layers_count_the_weights_that_are_not_zero() {
    // two 1x1 layers a quarter full, each computed once for every pixel of its output
    let (multiplications, dense) = (128 / 4 * 256 + 512 / 4 * 64, 128 * 256 + 512 * 64);
    let decluttered = json("r.onnx --sparse always --target scalar dump --cost --json");
    assert_eq!(cost(&decluttered, "SparseConv", "FMA(F32)"), multiplications);
    assert_eq!(cost(&decluttered, "SparseConv", "DenseFMA"), dense);
    let fc = cost(&decluttered, "SparseMatMul", "FMA(F32)");
    let fc_dense = cost(&decluttered, "SparseMatMul", "DenseFMA");
    let optimised =
        json("r.onnx --sparse always --target scalar -O dump --profile --cost --max-loops 1 --json");
    assert_eq!(cost(&optimised, "OptSparseConv", "FMA(F32)"), multiplications + fc);
    assert_eq!(cost(&optimised, "OptSparseConv", "DenseFMA"), dense + fc_dense);
    let stock = json("r.onnx --sparse never dump --cost --json");
    let all = |dump: &Value| cost(dump, "", "FMA(F32)");
    assert_eq!(all(&stock) - all(&decluttered), dense - multiplications);
    assert_eq!(cost(&stock, "", "DenseFMA"), 0);
    let text = run("r.onnx --sparse always -O dump --profile --cost --max-loops 2 --op-name OptSparse");
    assert!(text.contains("F/s") && text.contains("DenseFMA"), "{text}");
}

#[test]
fn dump_stops_at_every_stage() {
    for (stage, op) in [
        ("load", "ConvHir"),
        ("analyse", "ConvHir"),
        ("incorporate", "ConvHir"),
        ("type", "SparseConv"),
        ("declutter", "SparseConv"),
        ("before-optimize", "SparseConv"),
        ("optimize", "OptSparseConv"),
    ] {
        let text = run(&format!("--pass {stage} r.onnx --sparse always dump"));
        assert!(text.contains(op), "{stage}: {text}");
        assert!(!text.contains('\x1b'), "colours in a pipe");
    }
    fails_with("--pass load r.onnx dump --cost", 1, &["--pass load", "no types"]);
    fails_with("--pass analyse r.onnx run", 1, &["--pass analyse", "dump"]);
    fails_with("--pass incorporate r.onnx dump --nnef-tar x.nnef.tar", 1, &["--pass incorporate"]);
}

#[test]
fn dump_shows_what_is_asked_for() {
    let whole = run("r.onnx --sparse never dump");
    let one = run("r.onnx --sparse never dump --node-id 0 --io-none");
    assert!(one.contains("Source input") && one.lines().count() < whole.lines().count(), "{one}");
    assert!(run("r.onnx --sparse never dump --natural-order --node-name conv1").contains("Conv conv1"));
    assert!(run("r.onnx --sparse never dump --opt-ram-order --op-name Conv").contains("Conv conv1"));
    assert!(run("r.onnx --sparse never dump --const --op-name Const").contains("Const conv1.weight"));
    assert!(run("r.onnx --sparse never dump --io-long --node-name conv1").contains("output fact #0"));
    assert!(run("r.onnx --sparse never dump --invariants --node-name conv1").contains("->"));
    assert!(run("r.onnx --sparse never dump --debug-op --node-name conv1").contains("PoolSpec"));
    assert!(run("r.onnx --sparse never dump --axes --io-long --node-name conv1").contains("x0"));
    assert!(run("r.onnx --sparse never dump --tmp-mem-usage").contains("Peak flushable memory"));
    assert!(
        run("r.onnx --sparse never dump --outlet-labels --io-long --folded --node-name fc")
            .contains("output")
    );
    assert!(run("r.onnx --sparse always dump --info --op-name SparseConv").contains("Weights "));
    assert_eq!(run("r.onnx --sparse never dump -q"), "");
    let audit: Value = serde_json::from_str(&run("r.onnx --sparse never dump --audit-json")).unwrap();
    assert_eq!(audit["inputs"][0]["name"], "input");
    assert!(audit["nodes"].as_array().unwrap().iter().any(|node| node["name"] == "conv1"));
    fails_with("r.onnx --sparse never dump --io-long --io-none", 2, &["--io-long", "--io-none"]);
    fails_with("r.onnx --sparse never dump --profile --max-loops 0", 1, &["--max-loops"]);
}

#[test]
fn assertions_hold_or_have_an_exit_code_of_their_own() {
    let dump = json("r.onnx --sparse never dump --cost --json");
    let fma = cost(&dump, "", "FMA(F32)");
    let params = cost(&dump, "", "Params(F32)");
    let never = "r.onnx --sparse never dump -q";
    run(&format!("{never} --cost --assert-cost FMA(F32)={fma},Params(F32)={params}"));
    fails(&format!("{never} --cost --assert-cost FMA(F32)=1"), &["r.onnx", "FMA(F32)="]);
    fails_with(&format!("{never} --cost --assert-cost FMA"), 1, &["--assert-cost FMA"]);
    run(&format!("{never} --assert-op-count Source 1 --assert-output-fact 1,10,f32"));
    fails(&format!("{never} --assert-op-count Source 2"), &["2 operator(s) Source", "1"]);
    fails_with(&format!("{never} --assert-op-count Source many"), 1, &["Source many"]);
    fails(&format!("{never} --assert-output-fact 1,11,f32"), &["1,11,f32", "1,10,F32"]);
    fails_with(&format!("{never} --assert-output-fact 1,10"), 1, &["1,10"]);
    fails(&format!("{never} --assert-op-only Conv*,Source"), &["operator"]);
    run("r.onnx --sparse never --pass optimize run --assert-op-only Opt*,Const,Source,*");
}

/// Expects exit code 3 and one line on stderr that has all of `words`, whatever was printed before.
fn fails(line: &str, words: &[&str]) {
    fails_with(line, 3, words);
}

#[test]
fn nnef_archives_are_read_by_stock_tract() {
    input("nnef.npy");
    run("r.onnx run --input nnef.npy --save-outputs nnef.npz");
    let expected = Tensor::from(array("nnef.npz", "output"));
    run("r.onnx --sparse always dump -q --nnef-tar r.nnef.tar --nnef r.nnef.tgz --nnef-dir r.nnef.dir");
    for name in ["r.nnef.tar", "r.nnef.tgz", "r.nnef.dir"] {
        let plan = tract_nnef::nnef().model_for_path(folder().join(name)).unwrap().into_optimized().unwrap();
        let plan = plan.into_runnable().unwrap();
        let x = Array4::from_shape_fn((1, 3, 32, 32), |(_, c, y, x)| ((c + y * x) % 7) as f32 - 3.0);
        let got = plan.run(tvec!(Tensor::from(x).into_tvalue())).unwrap();
        // sums of a few hundred terms of size 1 in another order
        let found = Agreement::of(&expected, &got[0], 1e-4).unwrap();
        assert!(found.agrees, "{name}: {found:?}");
    }
    let graph = run("r.onnx dump -q --nnef-graph -");
    assert!(graph.starts_with("version 1.0;") && graph.contains("graph "), "{graph}");
    let twice: Vec<Vec<u8>> = (0..2)
        .map(|i| {
            run(&format!("r.onnx dump -q --nnef-deterministic --nnef-tar same{i}.nnef.tar"));
            std::fs::read(folder().join(format!("same{i}.nnef.tar"))).unwrap()
        })
        .collect();
    assert!(twice[0] == twice[1], "two archives of one model differ");
    fails_with("r.onnx --sparse always -O dump -q --nnef-tar x.nnef.tar", 1, &["-O"]);
    fails_with("r.onnx dump -q --nnef-dir r.nnef.dir", 1, &["r.nnef.dir", "already"]);
    fails_with("r.onnx dump -q --nnef-tar missing/x.nnef.tar", 1, &["missing/x.nnef.tar"]);
    assert!(!folder().join("x.nnef.tar").exists());
    std::fs::remove_dir_all(folder().join("r.nnef.dir")).unwrap();
}

#[test]
fn inputs_and_outputs_are_chosen_by_name() {
    let cut = json("--input-node block2_relu --output-node block3_relu r.onnx run --json");
    assert_eq!(cut["outputs"][0]["shape"], serde_json::json!([1, 8, 32, 32]));
    let text = run("--output-node block3_add --output-node block5_add r.onnx dump -s");
    assert!(text.contains("1,8,32,32,F32") && text.contains("1,16,16,16,F32"), "{text}");
    fails_with("--input-node nobody r.onnx run", 1, &["--input-node", "nobody"]);
    fails_with("--output-node nobody r.onnx run", 1, &["--output-node", "nobody"]);
    // before the command --input is a fact, as in tract; behind it, a file
    let before = run("--input 2,3,32,32,f32 r.onnx dump -s");
    assert!(before.contains("2,10,F32"), "{before}");
    assert!(run("-i input:2,3,32,32,f32 r.onnx dump -s").contains("2,10,F32"));
}

#[test]
fn transforms_are_applied() {
    let text = run("-t unsparsify r.onnx --sparse always dump -s");
    assert!(!text.contains("Sparse"), "{text}");
    assert!(run("-t sparsify r.onnx --sparse always dump -s").contains("SparseConv"));
    // layers of ours compute in f32, and so does what lies between, with conversions at both ends
    let text = run("-t f32_to_f16 r.onnx --sparse always dump -s --cost");
    assert!(text.contains("Sparse") && text.contains("FMA(F32)") && text.contains("2 Cast"), "{text}");
    let same = run(r#"-t float_precision({"from":"f32","to":"f16"}) r.onnx --sparse always dump -s --cost"#);
    assert_eq!(text, same);
    assert!(run("-t f32_to_f16 r.onnx --sparse always compare --cumulative").contains("agrees"));
    fails_with("-t frobnicate r.onnx dump", 1, &["-t frobnicate", "f32_to_f16"]);
    fails_with("-t float_precision(from) r.onnx dump", 1, &["-t float_precision(from)"]);
    // stock tract stays stock
    assert!(run("-t sparsify r.onnx compare").contains("agrees"));
}

/// A file of the cases of the tests.
fn case(name: &str) -> String {
    format!("{}/../tests/cases/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn models_are_pulsed() {
    let model = case("pulse_conv.onnx");
    let text = run(&format!("{model} --sparse always --pulse T=4 -O dump -s"));
    assert!(text.contains("2 OptSparseConv") && text.contains("2 Delay"), "{text}");
    assert!(run(&format!("{model} --sparse always --pulse T=4 compare")).contains("agrees"));
    fails_with(&format!("{model} --pulse 4 dump"), 1, &["--pulse 4", "the model has", "T"]);
    fails_with(&format!("{model} --pulse T=0 dump"), 1, &["--pulse T=0", "at least one"]);
}

#[test]
fn sizes_may_be_zero() {
    let rows = [
        ("empty_map_1d", "1x16x0"),
        ("st_small3", "1x16x0x0"),
        ("w_oc0", "1x0x4x4"),
        ("empty_map_2d", "1x16x0x7"),
    ];
    for (name, shape) in rows {
        let text = run(&format!("{} --sparse always run", case(&format!("{name}.onnx"))));
        assert!(text.contains(shape), "{text}");
    }
    let model = case("small_in.onnx");
    for fact in ["1,8,2,9,f32", "0,8,7,9,f32", "1,8,7,0,f32"] {
        assert!(run(&format!("{model} --sparse always -i {fact} compare")).contains("agrees"), "{fact}");
        run(&format!("{model} --sparse always -i {fact} inspect"));
    }
    run(&format!("{model} --sparse always --set N=0 --set H=7 --set W=9 run"));
}

#[test]
fn bench_prints_what_tract_prints() {
    let line = "r.onnx bench --max-loops 3";
    let text = run(line);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with("Bench ran 3 times, ") && first.ends_with(" ms/i."), "{text}");
    fits(&text);
    let seconds = run(&format!("--machine-friendly {line}"));
    assert!(seconds.strip_prefix("real: ").unwrap().trim().parse::<f64>().unwrap() > 0.0, "{seconds}");
    let metric: Value = serde_json::from_str(&run(&format!("--emit-jsonl {line}"))).unwrap();
    assert_eq!(metric["metric"], "evaltime");
    assert!(metric["value"].as_f64().unwrap() > 0.0);
    assert!(run("r.onnx bench --max-iters 2 --warmup-loops 1 --warmup-time 1").contains("ran 2 times"));
    let text = run("r.onnx bench --streams 2 --max-loops 2");
    assert!(text.contains("turns/sec") && text.contains("p95 latency"), "{text}");
    let text = run("r.onnx bench --turn-period 20 --deadline 1000 --max-loops 3");
    assert!(text.contains("0.0% of the turns completed past the deadline"), "{text}");
    let lines = run("--emit-jsonl r.onnx bench --streams 2 --max-loops 2");
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
    fails_with("r.onnx bench --streams 0", 1, &["--streams 0"]);
    fails_with("r.onnx bench --turn-period -1", 2, &["-1"]);
    fails_with("r.onnx bench --turn-period 0", 1, &["--turn-period 0"]);
    fails_with("r.onnx bench --deadline 5", 2, &["--turn-period"]);
    fails_with("r.onnx bench --streams 2 --against stock", 2, &["--streams", "--against"]);
    fails_with("r.onnx --json --machine-friendly bench", 2, &["--json", "--machine-friendly"]);
}

#[test]
fn run_saves_and_checks() {
    input("run.npy");
    let line = "r.onnx run --input run.npy";
    run(&format!("{line} --save-outputs-npz run.npz --save-steps steps.npz"));
    assert_eq!(array("steps.npz", "block2_relu").shape(), [1, 8, 32, 32]);
    run(&format!("{line} --assert-output-bundle run.npz --approx exact --assert-output-count 1"));
    run(&format!("{line} --assert-output-bundle steps.npz"));
    run("r.onnx run -R --assert-sane-floats");
    fails("r.onnx run -R --assert-output-bundle run.npz", &["r.onnx", "output", "run.npz"]);
    fails(&format!("{line} --assert-output-count 2"), &["2 output(s)"]);
    fails_with(&format!("{line} --assert-output-bundle missing.npz"), 1, &["missing.npz"]);
    fails_with(&format!("{line} --assert-output-bundle run.npy"), 1, &["run.npy", "not an .npz file"]);
    fails_with(&format!("{line} --approx nearly"), 2, &["nearly", "close"]);
    fails_with(&format!("{line} -R"), 2, &["--input", "--allow-random-input"]);
    let infinite = Array4::from_elem((1, 3, 32, 32), f32::INFINITY);
    write_npy(folder().join("infinite.npy"), &infinite).unwrap();
    fails("r.onnx run --input infinite.npy --assert-sane-floats", &["input", "gives inf"]);
    let text = run(&format!("{line} --dump"));
    assert!(text.contains("output #0\n1,10,F32 "), "{text}");
    let steps = run_in(folder(), &format!("{line} --steps"));
    assert!(String::from_utf8(steps.stderr).unwrap().contains(" >> 1,10,F32"));
}

#[test]
fn compare_takes_other_references() {
    for stage in ["type", "declutter", "optimize"] {
        let text = run(&format!("r.onnx --sparse always compare --stage {stage} --cumulative"));
        assert!(text.contains("agrees within"), "{text}");
    }
    assert!(run("r.onnx compare --twice --tolerance 0").contains("agrees within"));
    input("compare.npy");
    run("r.onnx --sparse never run --input compare.npy --save-steps compare.npz");
    let line = "r.onnx --sparse always compare --input compare.npy --npz compare.npz";
    fits(&run(line));
    assert!(json(&format!("{line} --cumulative --json"))["nodes"].as_array().unwrap().len() > 10);
    fails("r.onnx compare --npz compare.npz", &["r.onnx: node", "differs"]);
    fails_with("r.onnx compare --npz missing.npz", 1, &["missing.npz"]);
    fails_with("r.onnx compare --twice --stage type", 2, &["--twice", "--stage"]);
    fails_with("r.onnx compare --stage load", 1, &["load"]);
}

#[test]
fn npz_arrays_of_another_type_are_named() {
    let file = std::fs::File::create(folder().join("double.npz")).unwrap();
    let mut npz = ndarray_npy::NpzWriter::new_compressed(file);
    npz.add_array("input", &ArrayD::<f64>::zeros(vec![1, 3, 32, 32])).unwrap();
    npz.finish().unwrap();
    fails_with("r.onnx run --input double.npz", 1, &["double.npz", "F64", "F32"]);
    let file = std::fs::File::create(folder().join("other.npz")).unwrap();
    let mut npz = ndarray_npy::NpzWriter::new_compressed(file);
    npz.add_array("other", &ArrayD::<f32>::zeros(vec![1, 3, 32, 32])).unwrap();
    npz.finish().unwrap();
    fails_with("r.onnx run --input other.npz", 1, &["other.npz", "no array input", "other"]);
    let file = std::fs::File::create(folder().join("small.npz")).unwrap();
    let mut npz = ndarray_npy::NpzWriter::new_compressed(file);
    npz.add_array("input", &ArrayD::<f32>::zeros(vec![1, 3, 8, 8])).unwrap();
    npz.finish().unwrap();
    fails_with("r.onnx run --input-from-npz small.npz", 1, &["small.npz", "[1, 3, 8, 8]", "1,3,32,32"]);
}

#[test]
fn a_model_that_tract_cannot_load_is_said_in_one_line() {
    let spec = zoo::Spec { width: 0.25, ..zoo::Spec::default() };
    let mut model = zoo::build(zoo::Network::by_name("resnet-20").unwrap(), &spec).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let node = graph.node.iter_mut().find(|node| node.op_type == "Add").unwrap();
    let name = node.name.clone();
    node.op_type = "Frobnicate".into();
    zoo::write(&model, &folder().join("unknown.onnx")).unwrap();
    for command in ["inspect", "dump", "bench", "compare", "run"] {
        fails_with(&format!("unknown.onnx {command}"), 1, &["unknown.onnx", &name, "Frobnicate"]);
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    if Path::new("/dev/full").exists() {
        for line in [
            "r.onnx run --save-outputs /dev/full",
            "r.onnx dump -q --nnef-tar /dev/full",
            "zoo resnet-20 --width 0.25 -o /dev/full",
            "r.onnx inspect --html /dev/full",
            "r.onnx whatif --sweep --svg /dev/full",
        ] {
            fails_with(line, 1, &["/dev/full", "No space left"]);
        }
        let commands = ["r.onnx inspect", "r.onnx dump", "r.onnx dump --json", "r.onnx run", "man", "--help"];
        for line in commands {
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = Command::new(program())
                .current_dir(folder())
                .args(line.split_whitespace())
                .stdout(full)
                .output()
                .unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
            assert!(stderr.contains("No space left") && stderr.lines().count() == 1, "{line}: {stderr}");
        }
    } else {
        skipped("a_full_disk_leaves_nothing_behind", "there is no /dev/full");
    }
    if cfg!(unix) {
        // a limit of 8 KiB on the size of files stands for a disk of that size
        let dir = folder().join("full");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("old.npz"), "old").unwrap();
        for line in [
            "zoo resnet-20 --width 0.5 -o new.onnx",
            "../r.onnx run --save-steps old.npz",
            "../r.onnx dump -q --nnef-tar new.nnef.tar",
            "../r.onnx dump -q --nnef new.nnef.tgz",
            "../r.onnx dump -q --nnef-dir new",
            "../r.onnx prune --ratio 0.5 -o new.onnx",
            "../r.onnx convert -o new.nnef.tar",
            "../r.onnx inspect --html new.html",
        ] {
            let script = format!("trap '' XFSZ; ulimit -f 16; exec \"$0\" {line}");
            let output =
                Command::new("sh").current_dir(&dir).args(["-c", &script]).arg(program()).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
            assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{line}: {stderr}");
            let left = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
            assert!(left == ["old.npz"], "{line} left {left:?}");
            assert_eq!(std::fs::read(dir.join("old.npz")).unwrap(), b"old", "{line}");
        }
    }
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["elvish", "powershell"] {
        assert!(run(&format!("completions {shell}")).contains("audit-json"), "{shell}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&format!("completions {shell}"));
        for word in ["inspect", "audit-json", "assert-output-bundle", "input-node"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        let file = folder().join(format!("completions.{shell}"));
        std::fs::write(&file, script).unwrap();
        if !has(shell) {
            skipped("completions_know_commands_and_options", &format!("there is no {shell} to check with"));
            continue;
        }
        let checked = Command::new(shell).arg("-n").arg(&file).output().unwrap();
        assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    if has("bash") {
        let complete = |words: &str| {
            let all: Vec<&str> = words.split(' ').collect();
            let (count, last, previous) = (all.len(), all[all.len() - 1], all[all.len() - 2]);
            let script = format!(
                "source completions.bash; COMP_WORDS=(tract-sparse {words}); COMP_CWORD={count}; \
                 _tract__sparse tract-sparse '{last}' '{previous}'; echo \"${{COMPREPLY[*]}}\""
            );
            let output = Command::new("bash").current_dir(folder()).args(["-c", &script]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(complete("m.onnx ins").contains("inspect"));
        assert!(complete("m.onnx dump --pro").contains("--profile"));
        assert!(complete("m.onnx --pass de").contains("declutter"));
    }
    fails_with("completions tcsh", 2, &["tcsh", "bash"]);
    fails_with("r.onnx completions bash", 1, &["no model"]);
}

#[test]
fn the_manual_page_has_commands_options_and_exit_codes() {
    let page = run("man");
    assert!(page.contains(".TH tract-sparse 1"), "{page}");
    for word in ["inspect", "Exit codes", "input\\-node"] {
        assert!(page.contains(word), "no {word}");
    }
    for command in [
        "bench",
        "compare",
        "completions",
        "convert",
        "doctor",
        "dump",
        "fit",
        "inspect",
        "man",
        "prune",
        "run",
        "whatif",
        "zoo",
    ] {
        let page = run(&format!("man {command}"));
        assert!(page.contains(&format!("tract\\-sparse {command}")), "{command}: {page}");
        assert!(page.contains("Example"), "{command}: {page}");
        if has("man") {
            let mut child = Command::new("man")
                .args(["--warnings", "-l", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), page.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {stderr}");
        }
    }
    if !has("man") {
        skipped("the_manual_page_has_commands_options_and_exit_codes", "there is no man to format it with");
    }
    fails_with("man frobnicate", 1, &["frobnicate", "inspect"]);
}

#[test]
fn progress_is_for_terminals_and_vanishes() {
    if !has("script") {
        return skipped("progress_is_for_terminals_and_vanishes", "there is no script(1) to make a terminal");
    }
    let line = format!("{} r.onnx bench --against stock --max-time 300", program().display());
    let output = Command::new("script")
        .current_dir(folder())
        .env("TERM", "xterm")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("r.onnx: loading") && text.contains(" %"), "{text:?}");
    assert!(text.contains("ratio"), "{text:?}");
    // in a pipe the same command says nothing of the kind
    assert!(!run("r.onnx bench --against stock --max-time 300").contains("loading"));
}

#[test]
fn logs_are_there_when_asked_for() {
    let quiet = run_in(folder(), "r.onnx run");
    assert!(quiet.stderr.is_empty());
    let loud = run_in(folder(), "-vvv r.onnx --sparse always run");
    let stderr = String::from_utf8(loud.stderr).unwrap();
    assert!(loud.status.success() && stderr.contains("[DEBUG rewriter"), "{stderr:.2000}");
}

#[test]
fn exit_codes_are_documented() {
    let documentation = include_str!("../../docs/cli.md");
    let help = run("--help");
    for code in 0..=3 {
        assert!(documentation.contains(&format!("| {code} |")), "{code}");
        assert!(help.contains(&format!("\n  {code}  ")), "{code}");
    }
    run("r.onnx run");
    fail("missing.onnx run", 1);
    fail("r.onnx run --frobnicate", 2);
    fail("r.onnx --sparse always compare --tolerance 0", 3);
}

/// Two nodes that cancel out vanish behind an output, which keeps its name.
#[test]
fn outputs_keep_their_names() {
    let mut graph = GraphProto { name: "names".into(), ..Default::default() };
    graph.input = vec![proto::value("x", [1, 8, 6, 6].map(DimValue).to_vec())];
    let transpose = |output: &str, input: &str, order: [usize; 4]| {
        let mut node = node("Transpose", output, &[input]);
        node.attribute = vec![proto::ints("perm", &order)];
        node
    };
    graph.node = vec![
        node("Relu", "a", &["x"]),
        transpose("t", "a", [0, 2, 3, 1]),
        transpose("b", "t", [0, 3, 1, 2]),
        node("GlobalAveragePool", "g", &["b"]),
    ];
    written("names.onnx", graph, &["a", "g"]);
    for sparse in ["auto", "never"] {
        run(&format!("names.onnx --sparse {sparse} run --save-outputs names.npz"));
        let saved = NpzReader::new(std::fs::File::open(folder().join("names.npz")).unwrap());
        let mut names = saved.unwrap().names().unwrap();
        names.sort();
        assert_eq!(names, ["a", "g"], "{sparse}");
    }
}
