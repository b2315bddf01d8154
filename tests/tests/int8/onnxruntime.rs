//! The same files on onnxruntime, which quantises them as users do.

use super::*;

/// Quantises models as users do, and runs them, with onnxruntime's optimisations and without. Its products of
/// u8 and i8 saturate on processors without VNNI if it is not told to be precise.
const SCRIPT: &str = "\
import sys, numpy, onnx, onnxruntime
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
class Reader(CalibrationDataReader):
    def __init__(self, name, x): self.inputs = iter([{name: x}, {name: -0.7 * x}])
    def get_next(self): return next(self.inputs, None)
exact, plain = SessionOptions(), SessionOptions()
exact.add_session_config_entry('session.x64quantprecision', '1')
plain.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
for model in sys.argv[2:]:
    x = numpy.load(model + '.x.npy')
    proto = onnx.load(model + '.onnx')
    if max(opset.version for opset in proto.opset_import) < 13:
        onnx.save(onnx.version_converter.convert_version(proto, 13), model + '.onnx')
    name = InferenceSession(model + '.onnx').get_inputs()[0].name
    for activations in sys.argv[1].split(','):
        path = f'{model}.{activations}'
        quantize_static(model + '.onnx', path + '.onnx', Reader(name, x), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType[activations], weight_type=QuantType.QInt8)
        for options, end in [(exact, 'y'), (plain, 'plain')]:
            for at, y in enumerate(InferenceSession(path + '.onnx', options).run(None, {name: x})):
                numpy.save(f'{path}.{end}{at}.npy', y)
";

/// Networks of which all layers are quantised: the same bytes as onnxruntime's, but where
/// scales that are worked out from rounded weights decide, which may make a step in a few places.
#[test]
fn networks_agree_with_onnxruntime() -> Result<()> {
    let Some(python) = ort_python("int8") else { return Ok(()) };
    let folder = std::env::temp_dir().join(format!("tract-sparse-int8-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let x = noise(&[1, 3, 64, 64], 3);
    let mut models = vec![];
    for network in [Network::MobilenetV1, Network::MobilenetV2, Network::Resnet18] {
        let spec = Spec {
            hw: Some(64),
            width: 0.5,
            conv1x1: Some("4x4:0.5".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            conv3x3: Some("5:9:0.5".parse()?),
            fc: Some("4x4:0.5".parse()?),
            ..Spec::default()
        };
        let model = folder.join(network.name());
        zoo::write(&zoo::build(network, &spec)?, &model.with_extension("onnx"))?;
        let values =
            ndarray::ArrayD::from_shape_vec(x.shape(), x.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())?;
        ndarray_npy::write_npy(folder.join(format!("{}.x.npy", network.name())), &values)?;
        models.push(model);
    }
    let run_python =
        std::process::Command::new(python).args(["-c", SCRIPT, "QUInt8,QInt8"]).args(&models).output()?;
    assert!(run_python.status.success(), "{}", String::from_utf8_lossy(&run_python.stderr));
    for model in &models {
        for activations in ["QUInt8", "QInt8"] {
            let path =
                |end: &str| std::path::PathBuf::from(format!("{}.{activations}.{end}", model.display()));
            let expected = npy(&path("y0.npy"))?;
            let optimised = onnx().model_for_path(path("onnx"))?.into_optimized()?;
            // one conversion for the picture, one behind the last layer
            assert_cluster(
                &optimised,
                [Report::of(&optimised)?.layers.len(), 1, 1],
                &model.display().to_string(),
            );
            assert_eq!(through_floats(&optimised), 0, "{:?}", op_names(&optimised));
            let y = run(optimised, std::slice::from_ref(&x))?;
            let mut values = expected.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
            values.sort_by(f32::total_cmp);
            let steps = values.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 1e-6);
            let step = steps.fold(f32::INFINITY, f32::min);
            assert!(largest_difference(&y[0], &expected)? <= 1.01 * step, "{}", model.display());
            assert_eq!(top_1(&expected, &y[0])?, Some(1.0));
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// How far outputs are from each other, as a share of the largest value of each.
fn distance(got: &[Tensor], expected: &[Tensor]) -> Result<f32> {
    assert_eq!(got.len(), expected.len());
    let mut furthest = 0f32;
    for (y, expected) in got.iter().zip(expected) {
        let y = y.clone().into_shape(expected.shape())?;
        let largest =
            expected.try_as_plain_ram()?.as_slice::<f32>()?.iter().fold(0f32, |most, v| most.max(v.abs()));
        furthest = furthest.max(largest_difference(&y, expected)? / largest.max(f32::MIN_POSITIVE));
    }
    Ok(furthest)
}

/// Real networks and others of the zoo, quantised: nothing inside of a cluster computes in floats, and what comes out is what
/// onnxruntime computes.
#[test]
fn real_networks_agree_with_onnxruntime() -> Result<()> {
    let Some(python) = ort_python("int8") else { return Ok(()) };
    let folder = std::env::temp_dir().join(format!("tract-sparse-int8-real-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    // layers in int8 at least, of all: what quantize_static leaves in floats are entry layers, outputs, and gates
    let real = [
        ("hand_landmark_sparse", 47),
        ("mobilenet_v2_1.0_224", 52),
        ("FastestDet", 1),
        ("ds_cnn_kws", 1),
        ("face_detection_full_range_sparse", 1),
        ("resnet8_large_cifar10", 1),
        ("version-RFB-320", 1),
        ("yunet_n_320_320", 1),
    ];
    let mut cases = vec![];
    match figures::models_dir() {
        None => skipped("int8", "TRACT_SPARSE_MODELS names no folder"),
        Some(models) => {
            for (name, layers) in real {
                let input = models.join(format!("golden/{name}.input.npy"));
                if !input.exists() {
                    skipped("int8", &format!("there is no {}", input.display()));
                    continue;
                }
                std::fs::copy(models.join(format!("{name}.onnx")), folder.join(format!("{name}.onnx")))?;
                std::fs::copy(&input, folder.join(format!("{name}.x.npy")))?;
                cases.push((name.to_string(), layers));
            }
        }
    }
    for network in [Network::MobilenetV3Large, Network::EfficientnetLite0, Network::Resnet20] {
        let spec = Spec { hw: Some(64), conv1x1: Some("4x4:0.5".parse()?), ..Spec::default() };
        let spec = if network == Network::Resnet20 { Spec { hw: None, ..Spec::default() } } else { spec };
        let model = zoo::build(network, &spec)?;
        let shape = onnx()
            .model_for_proto_model(&model)?
            .into_typed()?
            .input_fact(0)?
            .shape
            .as_concrete()
            .unwrap()
            .to_vec();
        let x = ndarray::ArrayD::from_shape_vec(&*shape, values(shape.iter().product(), 3))?;
        zoo::write(&model, &folder.join(format!("{}.onnx", network.name())))?;
        ndarray_npy::write_npy(folder.join(format!("{}.x.npy", network.name())), &x)?;
        cases.push((network.name().to_string(), 1));
    }
    for (name, layers) in cases {
        let model = folder.join(&name);
        let path = |end: &str| std::path::PathBuf::from(format!("{}.{end}", model.display()));
        let types = if layers > 1 { "QUInt8,QInt8" } else { "QUInt8" };
        let ran = std::process::Command::new(&python).args(["-c", SCRIPT, types]).arg(&model).output()?;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let x = npy(&path("x.npy"))?;
        for activations in types.split(',') {
            let optimised = with_mode("dense", Target::detect(), || -> Result<_> {
                onnx().model_for_path(path(&format!("{activations}.onnx")))?.into_optimized()
            })?;
            assert!(in_quads(&optimised) >= layers, "{}", Report::of(&optimised)?);
            if layers > 1 {
                assert_eq!(through_floats(&optimised), 0, "{:?}", op_names(&optimised));
                assert!(count(&optimised, "ToQuads") <= 2, "{:?}", op_names(&optimised));
            }
            let y: Vec<Tensor> =
                run(optimised, std::slice::from_ref(&x))?.into_iter().map(|y| y.into_tensor()).collect();
            let outputs = |end: &str| -> Result<Vec<Tensor>> {
                (0..y.len()).map(|at| npy(&path(&format!("{activations}.{end}{at}.npy")))).collect()
            };
            let (expected, plain) = (outputs("y")?, outputs("plain")?);
            // as near as onnxruntime is to itself, or two steps of an output
            let (ours, own) = (distance(&y, &expected)?, distance(&plain, &expected)?);
            assert!(ours <= own.max(0.01), "{name} {activations}: {ours}, onnxruntime itself {own}");
            if layers > 1 {
                assert_eq!(top_1(&expected[0], &y[0])?, Some(1.0), "{name} {activations}");
            }
        }
    }
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
