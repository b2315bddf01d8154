//! Nothing lost: files that are replaced, files that others name.
//!
//! What `convert` makes of `metadata_apostrophe.onnx`, `strided_after_1x1.onnx` and `keras_conv1d_lstm.onnx`
//! is tested with the command line, in `cli/tests/convert.rs`; that the tensors of `unknown_fields.onnx` keep
//! such fields, in `onnx-file/tests/onnx.rs`.

use super::case;
use anyhow::Result;
use prost::Message;
use prune::calibrate::{Calibration, Obc, compare};
use prune::{Array, Document, L1, Method, Plan, Recipe, Structure, Tract};
use tract_onnx::pb::{GraphProto, ModelProto};

fn plan_error(model: &ModelProto) -> Option<String> {
    Plan::new(model, &Recipe { ratio: Some(0.5), ..Recipe::default() })
        .err()
        .map(|error| format!("{error:#}"))
}

#[test]
fn nodes_without_their_inputs_are_named() -> Result<()> {
    let model = Document::open(&case("plan_panic.onnx"))?.model;
    let error = plan_error(&model).unwrap();
    assert!(error.contains("n_MatMul_39") && error.contains("no input 1"), "{error}");
    Ok(())
}

/// Whatever is taken out of a model, or made of its shapes, planning and pruning end with a result or an
/// error.
#[test]
fn damaged_models_are_refused_or_pruned() -> Result<()> {
    let whole = Document::open(&case("unknown_fields.onnx"))?.model;
    let panics = Document::open(&case("plan_panic.onnx"))?.model;
    let graph =
        |model: &mut ModelProto, edit: &dyn Fn(&mut GraphProto)| model.graph.iter_mut().for_each(edit);
    let mut damaged: Vec<(String, ModelProto)> = vec![];
    for model in [&whole, &panics] {
        let nodes = model.graph.iter().flat_map(|g| &g.node).count();
        let tensors = model.graph.iter().flat_map(|g| &g.initializer).count();
        let mut add = |what: String, edit: &dyn Fn(&mut GraphProto)| {
            let mut model = model.clone();
            graph(&mut model, edit);
            damaged.push((what, model));
        };
        for at in 0..nodes {
            for keep in 0..2 {
                add(format!("node {at}: {keep} inputs"), &|g| g.node[at].input.truncate(keep));
                add(format!("node {at}: empty input {keep}"), &|g| {
                    if let Some(name) = g.node[at].input.get_mut(keep) {
                        name.clear();
                    }
                });
            }
            add(format!("node {at}: no outputs"), &|g| g.node[at].output.clear());
            add(format!("node {at}: no attributes"), &|g| g.node[at].attribute.clear());
            add(format!("node {at}: itself"), &|g| g.node[at].input[0] = g.node[at].output[0].clone());
            for (name, value) in
                [("group", 0), ("group", -1), ("group", i64::MIN), ("group", 7), ("transB", 5)]
            {
                add(format!("node {at}: {name} {value}"), &|g| {
                    let attribute = tract_onnx::pb::AttributeProto {
                        name: name.into(),
                        i: value,
                        r#type: 2,
                        ..Default::default()
                    };
                    g.node[at].attribute.push(attribute);
                });
            }
        }
        for at in 0..tensors {
            for dims in [
                vec![],
                vec![0],
                vec![-1],
                vec![i64::MAX, 2],
                vec![1 << 32, 1 << 32],
                vec![0, 8],
                vec![8, 0, 1, 1],
                vec![32, 32, 0, 3],
            ] {
                add(format!("tensor {at}: {dims:?}"), &|g| g.initializer[at].dims = dims.clone());
                add(format!("tensor {at}: {dims:?}, no values"), &|g| {
                    g.initializer[at].dims = dims.clone();
                    g.initializer[at].raw_data.clear();
                });
            }
            add(format!("tensor {at}: short"), &|g| g.initializer[at].raw_data.truncate(5));
            add(format!("tensor {at}: gone"), &|g| drop(g.initializer.remove(at)));
            add(format!("tensor {at}: twice"), &|g| {
                let tensor = g.initializer[at].clone();
                g.initializer.push(tensor);
            });
            add(format!("tensor {at}: another type"), &|g| g.initializer[at].data_type = 7);
        }
    }
    let mut refused = 0;
    for (what, mut model) in damaged {
        let bytes = model.encode_to_vec();
        let done = std::panic::catch_unwind(move || {
            let result = prune::prune(&mut model, &Recipe { ratio: Some(0.5), ..Recipe::default() });
            let mut document = Document::read(bytes, None).unwrap();
            document.model = model;
            // names twice, and the like, must not confuse the editor
            let again = Document::read(document.encode().unwrap(), None).unwrap();
            assert_eq!(again.model, document.model);
            result.is_err()
        });
        refused += usize::from(done.unwrap_or_else(|_| panic!("{what}: panicked")));
    }
    assert!(refused > 0);
    Ok(())
}

/// `alpha` before a product and no bias: what the refit adds to the outputs' mean has to be multiplied by it,
/// too.
#[test]
fn obc_is_no_worse_than_magnitudes_with_alpha() -> Result<()> {
    let model = Document::open(&case("gemm_alpha.onnx"))?.model;
    let samples = tests::npy(&case("gemm_alpha.x.npy"))?;
    let width = samples.shape()[1];
    let values = samples.to_plain_array_view::<f32>()?;
    let all = values.as_slice().unwrap();
    let batch = |part: &[f32]| vec![Array { shape: vec![1, width], data: part.to_vec() }];
    let (seen, held_out): (Vec<_>, Vec<_>) = all.chunks(width).enumerate().partition(|(i, _)| i % 4 != 3);
    let inputs = |rows: Vec<(usize, &[f32])>| rows.into_iter().map(|(_, row)| batch(row)).collect::<Vec<_>>();
    let fc = Structure::UNSTRUCTURED.into();
    let plan = Plan::new(&model, &Recipe { ratio: Some(0.5), fc, ..Recipe::default() })?;
    let calibration = Calibration::collect(&model, &plan, &Tract, &inputs(seen))?;
    let methods: [(&str, &dyn Method); 2] = [("l1", &L1), ("obc", &Obc(&calibration))];
    let errors = compare(&model, &plan, &methods, &Tract, &inputs(held_out))?;
    assert!(errors[1].error <= errors[0].error, "{errors:?}");
    Ok(())
}
