//! Every network loads in stock tract, runs, stays alive, and has the zeros that were asked for.

use noise::Noise;
use prost::Message;
use tract_onnx::pb::TensorProto;
use tract_onnx::prelude::*;
use zoo::{Batch, Network, Spec, build};

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn deviation(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn image(seed: u64, shape: &[usize]) -> Tensor {
    let mut noise = Noise::new(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| noise.normal()).collect();
    Tensor::from_shape(shape, &data).unwrap()
}

fn specs() -> Vec<Spec> {
    let dense = Spec::default();
    vec![
        dense.clone(),
        Spec {
            conv1x1: Some("4x4:0.9".parse().unwrap()),
            dwconv3x3: Some("3:9".parse().unwrap()),
            conv3x3: Some("5:9:0.5".parse().unwrap()),
            ..dense.clone()
        },
        Spec { conv1x1: Some("unstructured:0.8".parse().unwrap()), ..dense },
    ]
}

/// Activations of every node on another image than the one the network was calibrated on: standard deviations
/// stay within a factor of ten of one, nothing is NaN, infinite or denormal, and the answer depends on the
/// image.
#[test]
fn activations_stay_alive_through_the_depth() {
    for network in Network::ALL {
        for spec in specs() {
            let hw = if network == Network::Resnet20 { 32 } else { 96 };
            let spec = Spec { hw: Some(hw), ..spec };
            let model = build(network, &spec).unwrap();
            // the exporter's nodes, not those that tract takes them apart into
            let names: Vec<&str> = model.graph.as_ref().unwrap().node.iter().map(|n| &*n.name).collect();
            let loaded = onnx().model_for_proto_model(&model).unwrap().with_outputs_by_name(&names).unwrap();
            let plan = loaded.into_typed().unwrap().into_runnable().unwrap();
            let values = plan.run(tvec!(image(1, &[1, 3, hw, hw]).into())).unwrap();
            for (name, value) in names.iter().zip(&values) {
                let value = value.to_plain_array_view::<f32>().unwrap();
                let value: Vec<f32> = value.iter().copied().collect();
                assert!(value.iter().all(|v| *v == 0.0 || v.is_normal()), "{network} {spec} {name}");
                // gates live in 0..1, and pooled noise is flat
                let gate = name.starts_with("se")
                    || name.ends_with("hsigmoid")
                    || ["pool", "flatten"].contains(name);
                let (low, high) = if gate { (1e-3, 10.0) } else { (0.1, 10.0) };
                let deviation = deviation(&value);
                assert!((low..high).contains(&deviation), "{network} {spec} {name}: {deviation}");
            }
            let other = plan.run(tvec!(image(2, &[1, 3, hw, hw]).into())).unwrap();
            let logits = |v: &[TValue]| -> Vec<f32> {
                v[v.len() - 1].to_plain_array_view::<f32>().unwrap().iter().copied().collect()
            };
            let moved: Vec<f32> = logits(&values).iter().zip(logits(&other)).map(|(a, b)| a - b).collect();
            let moved = deviation(&moved);
            assert!(moved > 0.05, "{network} {spec}: the image hardly matters, {moved}");
        }
    }
}

#[test]
fn layers_have_the_zeros_that_were_asked_for() {
    let spec = Spec {
        conv1x1: Some("4x4:0.3".parse().unwrap()),
        dwconv3x3: Some("3:9".parse().unwrap()),
        conv3x3: Some("5:9:0.5".parse().unwrap()),
        fc: Some("4x1:0.6".parse().unwrap()),
        hw: Some(32),
        ..Spec::default()
    };
    // groups of r x c kernels without any weight, and all groups
    let absent = |w: &[f32], [oc, ic, taps]: [usize; 3], (r, c): (usize, usize)| {
        let (mut groups, mut absent) = (0, 0);
        for row in (0..oc).step_by(r) {
            for col in (0..ic).step_by(c) {
                let zero = (row..oc.min(row + r)).all(|row| {
                    w[(row * ic + col) * taps..][..(ic - col).min(c) * taps].iter().all(|v| *v == 0.0)
                });
                groups += 1;
                absent += usize::from(zero);
            }
        }
        (absent as f64, groups as f64)
    };
    for network in Network::ALL {
        let graph = build(network, &spec).unwrap().graph.unwrap();
        let mut seen = 0;
        for node in graph.node.iter().filter(|n| n.op_type == "Conv" || n.op_type == "Gemm") {
            let tensor = graph.initializer.iter().find(|t| t.name == node.input[1]).unwrap();
            let w = floats(tensor);
            let zeros = w.iter().filter(|v| **v == 0.0).count() * 9;
            let dims: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
            let (ratio, (absent, groups)) = match dims[..] {
                [oc, ic] => (0.6, absent(&w, [oc, ic, 1], (4, 1))),
                [oc, ic, 1, 1] => (0.3, absent(&w, [oc, ic, 1], (4, 4))),
                [_, 3, 3, 3] | [_, 3, 7, 7] | [_, 1, 5, 5] => (0.0, (zeros as f64, 1.0)),
                [channels, 1, 3, 3] => {
                    assert_eq!(zeros, channels * 3 * 9, "{network} {}", node.name);
                    (0.0, (0.0, 1.0))
                }
                [oc, ic, 3, 3] => {
                    let (absent, groups) = absent(&w, [oc, ic, 9], (4, 4));
                    let kept = oc * ic * 9 * 9 - zeros;
                    assert_eq!(
                        kept as f64,
                        (1.0 - absent / groups) * (oc * ic * 4 * 9) as f64,
                        "{}",
                        node.name
                    );
                    (0.5, (absent, groups))
                }
                _ => panic!("{network} {}: {dims:?}", node.name),
            };
            assert!((absent - ratio * groups).abs() <= 0.5, "{network} {}: {absent} of {groups}", node.name);
            seen += 1;
        }
        let expected = [28, 53, 64, 50, 21, 22][Network::ALL.iter().position(|n| *n == network).unwrap()];
        assert_eq!(seen, expected, "{network}");
    }
}

#[test]
fn fully_connected_layers_stay_dense_unless_asked() {
    let spec = Spec { conv1x1: Some("4x4:0.9".parse().unwrap()), hw: Some(32), ..Spec::default() };
    let graph = build(Network::MobilenetV1, &spec).unwrap().graph.unwrap();
    let fc = graph.initializer.iter().find(|t| t.name == "fc.weight").unwrap();
    assert!(floats(fc).iter().all(|v| *v != 0.0));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let spec = |seed| Spec { seed, hw: Some(32), width: 0.25, ..Spec::default() };
    let bytes = |seed| build(Network::MobilenetV2, &spec(seed)).unwrap().encode_to_vec();
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn batch_width_and_image_size_are_as_asked() {
    let spec = Spec { batch: Batch::Symbol("N".into()), hw: Some(48), width: 0.5, ..Spec::default() };
    let proto = build(Network::MobilenetV1, &spec).unwrap();
    let model = onnx().model_for_proto_model(&proto).unwrap().into_typed().unwrap();
    assert_eq!(format!("{:?}", model.input_fact(0).unwrap().shape), "N,3,48,48");
    assert_eq!(format!("{:?}", model.output_fact(0).unwrap().shape), "N,1000");
    let y = model.into_runnable().unwrap().run(tvec!(image(3, &[2, 3, 48, 48]).into())).unwrap();
    assert_eq!(y[0].shape(), [2, 1000]);
    let graph = proto.graph.unwrap();
    assert_eq!(graph.initializer.iter().find(|t| t.name == "pw14.weight").unwrap().dims, [512, 512, 1, 1]);
}

#[test]
fn nonsense_is_refused() {
    let refused = |spec: Spec| build(Network::MobilenetV1, &spec).unwrap_err().to_string();
    assert!(refused(Spec { hw: Some(0), ..Spec::default() }).contains("0x0"));
    assert!(refused(Spec { hw: Some(usize::MAX), ..Spec::default() }).contains("4096"));
    assert!(refused(Spec { width: f64::NAN, ..Spec::default() }).contains("NaN"));
    assert!(refused(Spec { batch: Batch::Fixed(0), ..Spec::default() }).contains("batch"));
    let error = Network::by_name("mobilenet-v9").unwrap_err().to_string();
    assert!(error.contains("mobilenet-v9") && error.contains("resnet-20"), "{error}");
    assert_eq!(Network::by_name("MobileNet_V1").unwrap(), Network::MobilenetV1);
}
