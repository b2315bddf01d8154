//! Quantised files: pruning them, and the ways to write them that opsets and exporters have.

use super::*;

/// Two layers in the two ways in which files hold weights: as bytes, and as floats that are quantised and dequantised.
fn dense_layers() -> ModelProto {
    let mut q = Quantised::default();
    let x = q.graph.input("1,32,9,9");
    let x = q.both(&x, Steps::U8);
    let (numbers, scales) = quantised(48, &pruned(48, 32, (1, 1), 2.0, 5));
    let w = q.weights(&[48, 32, 1, 1], &numbers, &scales);
    let y = q.graph.op("Conv", &[&x, &w], vec![]);
    let y = q.both(&y, Steps::I8);
    let floats = pruned(64, 48, (1, 1), 2.0, 6);
    let scales: Vec<f32> = quantised(64, &floats).1;
    let w = q.graph.constant(&[64, 48, 1, 1], &floats);
    let scale = q.graph.constant(&[64], &scales);
    let zero = q.bytes(&[64], &[0; 64]);
    let w = q.graph.op("QuantizeLinear", &[&w, &scale, &zero], vec![int("axis", 0)]);
    let w = q.graph.op("DequantizeLinear", &[&w, &scale, &zero], vec![int("axis", 0)]);
    let y = q.graph.op("Conv", &[&y, &w], vec![]);
    // zeros of u8 weights are their zero point
    let y = q.both(&y, Steps::U8);
    let bytes: Vec<u8> = values(16 * 64, 7).iter().map(|v| (v * 100.0 + 128.0) as u8).collect();
    let w = q.tensor(DataType::Uint8, &[16, 64, 1, 1], bytes);
    let (scale, zero) = (q.graph.constant(&[], &[0.004]), q.tensor(DataType::Uint8, &[], vec![128]));
    let w = q.graph.op("DequantizeLinear", &[&w, &scale, &zero], vec![]);
    let y = q.graph.op("Conv", &[&y, &w], vec![]);
    let y = q.both(&y, Steps::U8);
    q.graph.model(&[&y])
}

/// Zeros of the pruner are zeros of the integers; scales stay, and so does every weight that stays.
#[test]
fn quantised_files_are_pruned() -> Result<()> {
    let dense = dense_layers();
    let mut sparse = dense.clone();
    let report = prune::prune(&mut sparse, &"conv1x1 = \"4x4:0.5\"".parse()?)?;
    let skipped: Vec<_> = report.layers.iter().filter_map(|layer| layer.skipped.as_ref()).collect();
    assert!(skipped.is_empty() && report.layers.len() == 3, "{report:?}");
    let (before, after) = (dense.graph.as_ref().unwrap(), sparse.graph.as_ref().unwrap());
    let mut changed = vec![];
    for (old, new) in before.initializer.iter().zip(&after.initializer) {
        assert_eq!((&old.name, &old.dims, old.data_type), (&new.name, &new.dims, new.data_type));
        if old.raw_data != new.raw_data || old.float_data != new.float_data {
            changed.push(new);
        }
    }
    let sizes: Vec<i64> = changed.iter().map(|tensor| tensor.dims.iter().product()).collect();
    assert_eq!(
        sizes,
        [48 * 32, 64 * 48, 16 * 64],
        "{:?}",
        changed.iter().map(|t| &t.name).collect::<Vec<_>>()
    );
    let zeros = |tensor: &TensorProto, zero: u8| tensor.raw_data.iter().filter(|byte| **byte == zero).count();
    assert!(zeros(changed[0], 0) >= 48 * 32 / 2 && zeros(changed[2], 128) >= 16 * 64 / 2);
    let x = noise(&[1, 32, 9, 9], 3);
    let stock = run(load(&tract_onnx::onnx(), &sparse)?, std::slice::from_ref(&x))?;
    let optimised = always(Target::detect(), || load(&onnx(), &sparse))?;
    assert_cluster(&optimised, [3, 1, 1], "pruned");
    let found: Vec<_> =
        Report::of(&optimised)?.layers.into_iter().map(|layer| layer.zeros.unwrap()).collect();
    assert_eq!(found, ["4x4:0.5"; 3]);
    let distance = largest_difference(&run(optimised, std::slice::from_ref(&x))?[0], &stock[0])?;
    assert!(distance <= 3.01 * Steps::U8.scale, "{distance}");
    if let Some(python) = ort_python("pruned int8 in onnxruntime") {
        let folder = std::env::temp_dir().join(format!("tract-sparse-int8-pruned-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        zoo::write(&sparse, &folder.join("m.onnx"))?;
        let x_values =
            ndarray::ArrayD::from_shape_vec(x.shape(), x.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())?;
        ndarray_npy::write_npy(folder.join("x.npy"), &x_values)?;
        let script = "import numpy, onnxruntime\n\
                      options = onnxruntime.SessionOptions()\n\
                      options.add_session_config_entry('session.x64quantprecision', '1')\n\
                      s = onnxruntime.InferenceSession('m.onnx', options)\n\
                      y = s.run(None, {s.get_inputs()[0].name: numpy.load('x.npy')})[0]\n\
                      numpy.save('y.npy', y)";
        let ran = std::process::Command::new(python).current_dir(&folder).args(["-c", script]).output()?;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let theirs = npy(&folder.join("y.npy"))?;
        let ours = run(always(Target::detect(), || load(&onnx(), &sparse))?, std::slice::from_ref(&x))?;
        let distance = largest_difference(&ours[0], &theirs)?;
        assert!(distance <= 1.01 * Steps::U8.scale, "{distance}");
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

#[test]
fn integer_operators_are_not_pruned_and_say_so() -> Result<()> {
    let found = prune::layer::layers(&SAMPLE.integer_model())?;
    let reasons: Vec<&str> = found.iter().filter_map(|layer| Some(&*layer.as_ref().err()?.reason)).collect();
    assert!(reasons.len() == 1 && reasons[0].contains("QDQ"), "{reasons:?}");
    Ok(())
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy)]
enum Becomes {
    /// The layer runs in int8, and computes what it is defined to.
    Int8,
    /// It runs in f32, for this reason.
    Float(&'static str),
    /// It does not load, and the error holds these words.
    Error(&'static str),
}

/// Nodes of an operator.
fn nodes<'a>(model: &'a mut ModelProto, op: &str) -> Vec<&'a mut NodeProto> {
    model.graph.as_mut().unwrap().node.iter_mut().filter(|node| node.op_type == op).collect()
}

/// The node that dequantises the weights.
fn of_weights(model: &mut ModelProto) -> &mut NodeProto {
    nodes(model, "DequantizeLinear").into_iter().find(|node| node.input[0] == "q3").unwrap()
}

/// Every way to write a quantised layer that opsets 10 to 21 have, and mistakes: right, or a clear error.
#[test]
fn files_of_every_opset_and_wrong_ones() -> Result<()> {
    use Becomes::{Error, Float, Int8};
    type Edit = fn(&mut ModelProto);
    let per_tensor: Edit = |model| {
        // one scale for all: attribute and vectors came with opset 13
        of_weights(model).attribute.clear();
        let shape = |tensor: &mut TensorProto, bytes: usize| {
            tensor.dims.clear();
            tensor.raw_data.truncate(bytes);
            tensor.float_data.truncate(1);
        };
        let (scale, zero) = (of_weights(model).input[1].clone(), of_weights(model).input[2].clone());
        shape(tensor(model, &scale), 4);
        shape(tensor(model, &zero), 1);
        nodes(model, "Conv")[0].input.truncate(2);
    };
    let cases: &[(&str, i64, Edit, Becomes)] = &[
        ("as it is", 13, |_| (), Int8),
        ("axis from behind", 13, |model| of_weights(model).attribute[0].i = -4, Int8),
        ("axis that is not there", 13, |model| of_weights(model).attribute[0].i = 4, Error("axis")),
        (
            "another axis of as many",
            13,
            |model| of_weights(model).attribute[0].i = 1,
            Float("no whole numbers"),
        ),
        ("axis of another extent", 13, |model| of_weights(model).attribute[0].i = 2, Error("")),
        (
            "a scale too few",
            13,
            |model| {
                let scale = of_weights(model).input[1].clone();
                let scale = tensor(model, &scale);
                scale.dims[0] -= 1;
                scale.raw_data.truncate(4 * 63);
                scale.float_data.truncate(63);
            },
            Error(""),
        ),
        (
            "no scales",
            13,
            |model| {
                let scale = of_weights(model).input[1].clone();
                let scale = tensor(model, &scale);
                scale.dims[0] = 0;
                scale.raw_data.clear();
                scale.float_data.clear();
            },
            Error(""),
        ),
        (
            "no scale of the input",
            13,
            |model| {
                let scale = scale(model, 0);
                scale.dims = vec![0];
                scale.raw_data.clear();
                scale.float_data.clear();
            },
            Error(""),
        ),
        (
            "a scale that is computed",
            13,
            |model| {
                let shape = zoo::proto::value("scale", vec![]);
                model.graph.as_mut().unwrap().input.push(shape);
                nodes(model, "QuantizeLinear")[0].input[1] = "scale".into();
            },
            Error("const"),
        ),
        (
            "a zero point of another type",
            13,
            |model| {
                let zero = nodes(model, "DequantizeLinear")[0].input[2].clone();
                tensor(model, &zero).data_type = DataType::Int8 as i32;
            },
            Error(""),
        ),
        (
            "scales of doubles",
            19,
            |model| {
                let scale = scale(model, 0);
                scale.data_type = DataType::Double as i32;
                scale.raw_data = 0.1f64.to_le_bytes().to_vec();
                scale.float_data.clear();
            },
            Error(""),
        ),
        (
            "a type that says what the zero point does",
            21,
            |model| {
                nodes(model, "QuantizeLinear")[0]
                    .attribute
                    .push(int("output_dtype", DataType::Uint8 as usize));
            },
            Int8,
        ),
        (
            "a type without a zero point",
            21,
            |model| {
                let node = &mut nodes(model, "QuantizeLinear")[0];
                node.input.truncate(2);
                node.attribute.push(int("output_dtype", DataType::Int8 as usize));
            },
            Error("output_dtype"),
        ),
        (
            "16 bits",
            21,
            |model| {
                let node = &mut nodes(model, "QuantizeLinear")[0];
                node.input.truncate(2);
                node.attribute.push(int("output_dtype", DataType::Int16 as usize));
            },
            Error("output_dtype"),
        ),
        (
            "scales of blocks",
            21,
            |model| of_weights(model).attribute.push(int("block_size", 2)),
            Error("block"),
        ),
    ];
    let x = noise(&[1, SAMPLE.ic, Case::HW, Case::HW], 3);
    let check = |what: &str, model: &ModelProto, expected: Option<&[f32]>, becomes: Becomes| -> Result<()> {
        let loaded = always(Target::detect(), || load(&onnx(), model));
        match (becomes, loaded) {
            (Int8, Ok(optimised)) => {
                assert_cluster(&optimised, [1, 1, 1], what);
                let y = run(optimised, std::slice::from_ref(&x))?;
                let stock;
                let expected = match expected {
                    Some(expected) => expected,
                    None => {
                        stock = run(load(&tract_onnx::onnx(), model)?, std::slice::from_ref(&x))?;
                        stock[0].try_as_plain_ram()?.as_slice::<f32>()?
                    }
                };
                let y = y[0].try_as_plain_ram()?.as_slice::<f32>()?;
                let apart = y.iter().zip(expected).map(|(y, e)| ((y - e) / SAMPLE.y.scale).abs());
                assert!(apart.clone().all(|steps| steps < 1.01), "{what}");
                let halfway = apart.filter(|steps| *steps > 0.01).count();
                assert!(halfway * 100 <= y.len(), "{what}: {halfway} of {} bytes", y.len());
            }
            (Float(words), Ok(optimised)) => {
                let report = Report::of(&optimised)?;
                let why = report.layers[0].why_f32.clone().unwrap_or_default();
                assert!(in_quads(&optimised) == 0 && why.contains(words), "{what}: {report}");
                let stock = run(load(&tract_onnx::onnx(), model)?, std::slice::from_ref(&x))?;
                let y = run(optimised, std::slice::from_ref(&x))?;
                assert!(largest_difference(&y[0], &stock[0])? <= 1.01 * SAMPLE.y.scale, "{what}");
            }
            (Error(words), Err(error)) => {
                let error = format!("{error:#}");
                let named = ["inear", "conv"].iter().any(|node| error.contains(node));
                assert!(error.contains(words) && named, "{what}: {error}");
                println!("{what}: {error}");
            }
            (_, loaded) => panic!("{what}: {becomes:?}, but {:?}", loaded.map(|model| op_names(&model))),
        }
        Ok(())
    };
    let expected = SAMPLE.expected(&values(SAMPLE.ic * Case::HW * Case::HW, 3));
    for opset in 10..=21 {
        let mut model = SAMPLE.model();
        model.opset_import[0].version = opset;
        let tensor_wide = opset < 13;
        if tensor_wide {
            per_tensor(&mut model);
        }
        let expected = (!tensor_wide).then_some(&*expected);
        check(&format!("opset {opset}"), &model, expected, Int8)?;
        // without a zero point, types of opset 10 are u8
        let mut model = SAMPLE.model();
        model.opset_import[0].version = opset;
        if tensor_wide {
            per_tensor(&mut model);
        }
        nodes(&mut model, "QuantizeLinear").into_iter().for_each(|node| node.input.truncate(2));
        let bytes = |node: &&mut NodeProto| node.input.len() == 3 && !["q3", "q5"].contains(&&*node.input[0]);
        nodes(&mut model, "DequantizeLinear")
            .into_iter()
            .filter(bytes)
            .for_each(|node| node.input.truncate(2));
        check(&format!("opset {opset} without zero points"), &model, None, Int8)?;
    }
    for (what, opset, edit, becomes) in cases {
        let mut model = SAMPLE.model();
        model.opset_import[0].version = *opset;
        edit(&mut model);
        let same =
            ["as it is", "axis from behind", "a type that says what the zero point does"].contains(what);
        check(what, &model, same.then_some(&*expected), *becomes)?;
    }
    Ok(())
}
