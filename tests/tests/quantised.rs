//! The cases of quantised operators that the `onnx` Python package generates: each is right, or the error says what is not
//! read. As in the package, and with all inputs but the first as constants, which is how exporters write them.

use anyhow::{Context, Result};
use prost::Message;
use std::path::Path;
use tests::{ort_python, run, with_knobs};
use tract_sparse::pb::TensorProto;
use tract_sparse::prelude::*;

/// Writes the cases: a folder of each, with a model, the inputs that it still has, and the output.
const SCRIPT: &str = "\
import os, sys, numpy, onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
numpy.seterr(all='ignore')
wanted = ('QuantizeLinear', 'DequantizeLinear', 'ConvInteger', 'MatMulInteger')
def proto(value, name):
    if isinstance(value, onnx.TensorProto):
        value.name = name
        return value
    return numpy_helper.from_array(numpy.asarray(value), name)
for case in collect_testcases(None):
    if not any(n.op_type in wanted or n.op_type.startswith('QLinear') for n in case.model.graph.node):
        continue
    inputs, outputs = case.data_sets[0]
    for constant in [False, True]:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        graph = model.graph
        names = [value.name for value in graph.input]
        protos = [proto(value, name) for value, name in zip(inputs, names)]
        if constant:
            graph.initializer.extend(protos[1:])
            del graph.input[1:]
            del protos[1:]
        folder = os.path.join(sys.argv[1], case.name + ('.constant' if constant else ''))
        os.makedirs(folder)
        onnx.save(model, os.path.join(folder, 'model.onnx'))
        for at, value in enumerate(protos):
            onnx.save_tensor(value, os.path.join(folder, f'input_{at}.pb'))
        onnx.save_tensor(proto(outputs[0], 'y'), os.path.join(folder, 'output.pb'))
";

/// Parts of the names of cases that are not read whatever is constant: types and scales that neither tract nor we have.
const UNREAD: [&str; 9] =
    ["blocked", "e4m3fn", "e5m2", "float4", "int16", "int4", "int2", "float16", "dynamicquantizelinear"];
/// What errors say: the type, or what must be constant, or what is not supported.
const WORDS: [&str; 7] = ["DatumType", "DataType", "must be a const", "not supported", "F16", "I16", "U16"];

fn tensor(path: &Path) -> Result<Tensor> {
    let proto = TensorProto::decode(&*std::fs::read(path)?)?;
    let resolver: Box<dyn tract_sparse::data_resolver::ModelDataResolver> =
        Box::new(tract_sparse::data_resolver::MmapDataResolver);
    tract_sparse::tensor::load_tensor(&*resolver, &proto, None)
}

/// What a loader makes of a case.
fn outcome(onnx: &tract_sparse::Onnx, case: &Path) -> Result<Tensor> {
    let model = onnx.model_for_path(case.join("model.onnx"))?.into_optimized()?;
    let inputs = (0..model.inputs.len()).map(|at| tensor(&case.join(format!("input_{at}.pb"))));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    Ok(run(model, &inputs)?.remove(0).into_tensor())
}

#[test]
fn cases_of_the_onnx_package_are_right_or_refused() -> Result<()> {
    let Some(python) = ort_python("quantised cases") else { return Ok(()) };
    let folder = std::env::temp_dir().join(format!("tract-sparse-quantised-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let ran = std::process::Command::new(python).arg("-c").arg(SCRIPT).arg(&folder).output()?;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut names = std::fs::read_dir(&folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<String>>>()?;
    names.sort();
    assert!(names.len() >= 40, "{names:?}");
    let (mut right, mut refused) = (vec![], vec![]);
    for name in &names {
        let case = folder.join(name);
        let got = with_knobs(&[("TRACT_SPARSE", "always")], || outcome(&onnx(), &case));
        match got {
            Ok(got) => {
                let expected = tensor(&case.join("output.pb")).with_context(|| name.clone())?;
                assert_eq!(
                    (got.shape(), got.datum_type()),
                    (expected.shape(), expected.datum_type()),
                    "{name}"
                );
                got.close_enough(&expected, false).with_context(|| name.clone())?;
                right.push(name);
            }
            Err(error) => {
                let error = format!("{error:#}");
                let computed = name.contains("quantizelinear") && !name.ends_with(".constant");
                assert!(computed || UNREAD.iter().any(|word| name.contains(word)), "{name}: {error}");
                assert!(WORDS.iter().any(|word| error.contains(word)), "{name}: {error}");
                refused.push(name);
            }
        }
    }
    // ConvInteger, MatMulInteger and QLinear in both ways, those that (de)quantise with constants
    assert!(right.len() >= 20 && !refused.is_empty(), "right: {right:?}\nrefused: {refused:?}");
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
