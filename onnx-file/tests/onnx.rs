//! Files in and out: what is not edited comes out as it went in; sparse tensors become dense, or a clear
//! error.

use onnx_file::{Document, Saved, densify, outputs_are_there, sparsify_initializers, tensor};
use prost::Message;
use std::path::{Path, PathBuf};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, StringStringEntryProto,
    TensorProto, ValueInfoProto,
};

fn model(graph: GraphProto) -> ModelProto {
    ModelProto { ir_version: 8, graph: Some(graph), producer_name: "test".into(), ..Default::default() }
}

fn sparse(name: &str, dims: &[i64], indices: (&[usize], &[i64]), values: &[f32]) -> SparseTensorProto {
    SparseTensorProto {
        values: Some(tensor::of_floats(name, &[values.len()], values)),
        indices: Some(tensor::of_ints("", indices.0, indices.1)),
        dims: dims.to_vec(),
    }
}

fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("prune-onnx-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A field of a length that no version of the format has.
fn unknown(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut out);
    out
}

fn field(number: u32, content: &[u8]) -> Vec<u8> {
    unknown(number, content)
}

#[test]
fn unknown_fields_survive_an_edit() {
    let mut weight = tensor::of_floats("w", &[2], &[1.0, 2.0]).encode_to_vec();
    weight.extend(unknown(16, b"kept in the tensor"));
    let other = tensor::of_floats("v", &[1], &[3.0]).encode_to_vec();
    let mut node = NodeProto { op_type: "Relu".into(), ..Default::default() }.encode_to_vec();
    node.extend(unknown(9, b"kept in the node"));
    let graph = [
        field(5, &weight),
        field(1, &node),
        field(5, &other),
        unknown(16, b"kept in the graph"),
        field(2, b"name"),
    ]
    .concat();
    let bytes = [vec![8, 8], unknown(26, b"kept in the model"), field(7, &graph)].concat();
    let mut document = Document::read(bytes.clone(), None).unwrap();
    assert_eq!(document.encode().unwrap(), bytes);

    tensor::set_floats(&mut document.model.graph.as_mut().unwrap().initializer[0], &[0.0, 5.0]).unwrap();
    document.set_metadata("recipe", "x");
    let edited = document.encode().unwrap();
    for kept in ["tensor", "node", "graph", "model"] {
        let kept = format!("kept in the {kept}");
        assert!(edited.windows(kept.len()).any(|w| w == kept.as_bytes()), "{kept}");
    }
    let again = Document::read(edited, None).unwrap();
    assert_eq!(again.model, document.model);
    assert_eq!(again.metadata("recipe"), Some("x"));
    let graph = again.model.graph.unwrap();
    assert_eq!(tensor::floats(&graph.initializer[0]).unwrap(), [0.0, 5.0]);
    assert_eq!(tensor::floats(&graph.initializer[1]).unwrap(), [3.0]);
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// The fields of a message that was read, with one that decoding loses behind them.
fn marked(message: &impl Message, mark: &str) -> Vec<u8> {
    [message.encode_to_vec(), unknown(90, mark.as_bytes())].concat()
}

/// What decoding loses of a tensor stays with that tensor, whatever comes and goes before it; so it is with
/// nodes, their attributes and subgraphs, value infos, functions and metadata.
#[test]
fn unknown_fields_stay_where_they_were() {
    let tensors: Vec<Vec<u8>> = ["a", "b", "c", "d"]
        .map(|name| field(5, &marked(&tensor::of_floats(name, &[1], &[1.0]), &format!("mark of {name}"))))
        .to_vec();
    let inner =
        [field(5, &marked(&tensor::of_floats("i", &[1], &[1.0]), "mark of i")), unknown(90, b"mark of body")]
            .concat();
    let value = field(5, &marked(&tensor::of_floats("", &[1], &[1.0]), "mark of value"));
    let attribute = |name: &str, content: &[u8]| {
        field(
            5,
            &[field(1, name.as_bytes()), content.to_vec(), unknown(90, format!("mark of {name}").as_bytes())]
                .concat(),
        )
    };
    let node = |name: &str, attributes: &[u8]| {
        let output = field(2, name.as_bytes());
        [
            output,
            field(4, b"Constant"),
            attributes.to_vec(),
            unknown(90, format!("mark of {name}").as_bytes()),
        ]
        .concat()
    };
    let nodes = [
        node("gone1", &[]),
        node("gone2", &[]),
        node("k", &attribute("value", &value)),
        node("if", &attribute("then_branch", &field(6, &inner))),
    ];
    let info = |name: &str| {
        [field(1, name.as_bytes()), unknown(90, format!("mark of info {name}").as_bytes())].concat()
    };
    let graph = [
        tensors.concat(),
        nodes.map(|node| field(1, &node)).concat(),
        ["s", "t", "u"].map(|name| field(13, &info(name))).concat(),
    ]
    .concat();
    let function =
        [field(1, b"f"), field(7, &node("inside", &attribute("value", &value))), unknown(90, b"mark of f")]
            .concat();
    let entry = |key: &str| {
        [field(1, key.as_bytes()), field(2, b"x"), unknown(90, format!("mark of key {key}").as_bytes())]
            .concat()
    };
    let bytes = [
        vec![8, 8],
        field(7, &graph),
        field(25, &function),
        ["one", "two", "three"].map(|key| field(14, &entry(key))).concat(),
    ]
    .concat();
    let document = Document::read(bytes.clone(), None).unwrap();
    assert_eq!(document.encode().unwrap(), bytes);
    let again = |document: &Document| {
        let bytes = document.encode().unwrap();
        assert_eq!(Document::read(bytes.clone(), None).unwrap().model, document.model);
        bytes
    };

    // several tensors become sparse: each keeps its own field, as does the one behind them
    let mut edited = document.clone();
    let zeros = |name: &str| tensor::of_floats(name, &[4], &[0.0, 0.0, 0.0, 1.0]);
    let graph = edited.model.graph.as_mut().unwrap();
    for (at, name) in ["a", "b", "c"].iter().enumerate() {
        graph.initializer[at] = zeros(name);
    }
    assert_eq!(sparsify_initializers(&mut edited.model, &["a", "b", "c"].map(String::from)).unwrap(), 3);
    let bytes = again(&edited);
    let model = field_of(&bytes, 7);
    assert_eq!(fields_of(&model, 5).len(), 1);
    assert!(holds(&fields_of(&model, 5)[0], "mark of d"));
    for (name, sparse) in ["a", "b", "c"].iter().zip(fields_of(&model, 15)) {
        for other in ["a", "b", "c", "d"] {
            assert_eq!(
                holds(&fields_of(&sparse, 1)[0], &format!("mark of {other}")),
                other == *name,
                "{name}"
            );
        }
    }
    // and dense again
    let mut back = Document::read(bytes, None).unwrap();
    densify(&mut back.model).unwrap();
    let graph = field_of(&again(&back), 7);
    for tensor in fields_of(&graph, 5) {
        let name = TensorProto::decode(&*tensor).unwrap().name;
        for other in ["a", "b", "c", "d"] {
            assert_eq!(holds(&tensor, &format!("mark of {other}")), other == name, "{name}");
        }
    }

    // everything else: two removed at the front, the last edited
    let mut edited = document.clone();
    let graph = edited.model.graph.as_mut().unwrap();
    graph.node.drain(..2);
    tensor::set_floats(graph.node[0].attribute[0].t.as_mut().unwrap(), &[5.0]).unwrap();
    let body = graph.node[1].attribute[0].g.as_mut().unwrap();
    tensor::set_floats(&mut body.initializer[0], &[5.0]).unwrap();
    graph.value_info.drain(..2);
    graph.value_info[0].doc_string = "edited".into();
    edited.model.metadata_props.drain(..2);
    edited.model.metadata_props[0].value = "edited".into();
    let inside = &mut edited.model.functions[0].node[0].attribute[0];
    tensor::set_floats(inside.t.as_mut().unwrap(), &[5.0]).unwrap();
    let bytes = again(&edited);
    for kept in
        ["a", "d", "value", "k", "then_branch", "if", "i", "body", "info u", "f", "inside", "key three"]
    {
        assert!(holds(&bytes, &format!("mark of {kept}")), "{kept}");
    }
    for gone in ["gone1", "gone2", "info s", "info t", "key one", "key two"] {
        assert!(!holds(&bytes, &format!("mark of {gone}")), "{gone}");
    }
    // in another order
    let mut edited = document;
    edited.model.graph.as_mut().unwrap().initializer.reverse();
    for tensor in fields_of(&field_of(&again(&edited), 7), 5) {
        let name = TensorProto::decode(&*tensor).unwrap().name;
        assert!(holds(&tensor, &format!("mark of {name}")));
    }
}

/// Four weights of a file become sparse at once: each takes along the field that only it has (16 of a tensor,
/// "I am ..."), and the tensors behind them keep theirs, as do the nodes.
#[test]
fn every_tensor_of_a_file_keeps_its_unknown_fields() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/unknown_fields.onnx");
    let mut document = Document::open(&path).unwrap();
    let names = ["w0", "w1", "w2", "w3"].map(String::from);
    for weights in &mut document.model.graph.as_mut().unwrap().initializer {
        if names.contains(&weights.name) {
            let values = tensor::floats(weights).unwrap();
            let kept = values.iter().enumerate().map(|(i, v)| if i % 10 == 0 { *v } else { 0.0 });
            tensor::set_floats(weights, &kept.collect::<Vec<f32>>()).unwrap();
        }
    }
    assert_eq!(sparsify_initializers(&mut document.model, &names).unwrap(), 4);
    let graph = field_of(&document.encode().unwrap(), 7);
    let sparse = fields_of(&graph, 15);
    let values = sparse.iter().map(|sparse| field_of(sparse, 1));
    let mut seen: Vec<String> = vec![];
    for tensor in fields_of(&graph, 5).into_iter().chain(values) {
        let name = TensorProto::decode(&*tensor).unwrap().name;
        let own = fields_of(&tensor, 16);
        assert!(own.len() == 1 && own[0].ends_with(format!("I am {name}").as_bytes()), "{name}: {own:?}");
        seen.push(name);
    }
    seen.sort();
    assert_eq!(seen, ["tail", "tail2", "w0", "w1", "w2", "w3"]);
    assert_eq!(SparseTensorProto::decode(&*sparse[0]).unwrap().dims, [32, 32, 1, 1]);
    for (at, node) in fields_of(&graph, 1).iter().take(4).enumerate() {
        assert!(field_of(node, 9).ends_with(format!("I am c{at}").as_bytes()), "node {at}");
    }
}

/// The contents of the fields of a number, all of a length.
fn fields_of(message: &[u8], number: u32) -> Vec<Vec<u8>> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
    let (mut rest, mut found) = (message, vec![]);
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).unwrap();
        if wire != WireType::LengthDelimited {
            skip_field(wire, tag, &mut rest, DecodeContext::default()).unwrap();
            continue;
        }
        let length = decode_varint(&mut rest).unwrap() as usize;
        if tag == number {
            found.push(rest[..length].to_vec());
        }
        rest = &rest[length..];
    }
    found
}

fn field_of(message: &[u8], number: u32) -> Vec<u8> {
    fields_of(message, number).concat()
}

#[test]
fn removed_and_added_initializers_are_written() {
    let tensors = |names: &[&str]| names.iter().map(|n| tensor::of_floats(n, &[1], &[1.0])).collect();
    let graph = GraphProto { initializer: tensors(&["a", "b", "c"]), ..Default::default() };
    let mut document = Document::read(model(graph).encode_to_vec(), None).unwrap();
    for names in
        [vec!["a", "c"], vec!["c"], vec![], vec!["a", "b", "c", "d"], vec!["x", "b"], vec!["b", "c", "e"]]
    {
        document.model.graph.as_mut().unwrap().initializer = tensors(&names);
        let again = Document::read(document.encode().unwrap(), None).unwrap();
        assert_eq!(again.model, document.model, "{names:?}");
    }
}

#[test]
fn every_storage_of_floats_is_read() {
    let raw = tensor::of_floats("t", &[3], &[1.0, -0.0, 2.5]);
    let typed = TensorProto { raw_data: vec![], float_data: vec![1.0, -0.0, 2.5], ..raw.clone() };
    assert_eq!(tensor::floats(&raw).unwrap(), tensor::floats(&typed).unwrap());
    for mut t in [raw.clone(), typed] {
        tensor::set_floats(&mut t, &[4.0, 5.0, 6.0]).unwrap();
        assert_eq!(tensor::floats(&t).unwrap(), [4.0, 5.0, 6.0]);
        assert!(tensor::set_floats(&mut t, &[4.0]).is_err());
    }
    for wrong in [
        TensorProto { dims: vec![4], ..raw.clone() },
        TensorProto { dims: vec![-3], ..raw.clone() },
        TensorProto { dims: vec![i64::MAX, 4], ..raw.clone() },
        TensorProto { data_type: DataType::Double as i32, ..raw.clone() },
        TensorProto { data_type: 999, ..raw.clone() },
    ] {
        assert!(tensor::floats(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn sparse_initializers_become_dense() {
    let linear = sparse("linear", &[2, 3], (&[3], &[0, 2, 4]), &[1.0, 2.0, 3.0]);
    let coo = sparse("coo", &[2, 3], (&[3, 2], &[0, 0, 0, 2, 1, 1]), &[1.0, 2.0, 3.0]);
    let empty = sparse("empty", &[2, 3], (&[0], &[]), &[]);
    let constant = NodeProto {
        op_type: "Constant".into(),
        output: vec!["k".into()],
        attribute: vec![AttributeProto {
            name: "sparse_value".into(),
            r#type: AttributeType::SparseTensor as i32,
            sparse_tensor: Some(linear.clone()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut m = model(GraphProto {
        sparse_initializer: vec![linear, coo, empty],
        node: vec![constant],
        ..Default::default()
    });
    assert_eq!(densify(&mut m).unwrap(), 4);
    assert_eq!(densify(&mut m).unwrap(), 0);
    let graph = m.graph.unwrap();
    assert!(graph.sparse_initializer.is_empty());
    let value = graph.node[0].attribute[0].t.as_ref().unwrap();
    assert_eq!(graph.node[0].attribute[0].name, "value");
    for t in [&graph.initializer[0], &graph.initializer[1], value] {
        assert_eq!(tensor::floats(t).unwrap(), [1.0, 0.0, 2.0, 0.0, 3.0, 0.0]);
        assert_eq!(t.dims, [2, 3]);
    }
    assert_eq!(tensor::floats(&graph.initializer[2]).unwrap(), [0.0; 6]);
}

#[test]
fn hostile_sparse_tensors_are_refused_by_name() {
    let one = |dims: &[i64], indices: (&[usize], &[i64])| {
        sparse("w", dims, indices, &vec![1.0; indices.0.first().copied().unwrap_or(0)])
    };
    let mut missing = one(&[4], (&[1], &[0]));
    missing.indices = None;
    let mut nameless = one(&[4], (&[1], &[0]));
    nameless.values = None;
    let mut external = one(&[4], (&[1], &[0]));
    external.values.as_mut().unwrap().data_location = Some(DataLocation::External as i32);
    let mut short = one(&[4], (&[2], &[0, 1]));
    short.values.as_mut().unwrap().raw_data.truncate(4);
    let mut fewer = one(&[4], (&[2], &[0, 1]));
    fewer.values = Some(tensor::of_floats("w", &[1], &[1.0]));
    let mut strings = one(&[4], (&[1], &[0]));
    strings.values.as_mut().unwrap().data_type = DataType::String as i32;
    for (what, hostile) in [
        ("outside", one(&[2, 3], (&[1], &[6]))),
        ("outside", one(&[2, 3], (&[1], &[-1]))),
        ("outside", one(&[2, 3], (&[1, 2], &[1, 3]))),
        ("outside", one(&[2, 3], (&[1, 2], &[-1, 0]))),
        ("outside", one(&[0, 3], (&[1], &[0]))),
        ("do not grow", one(&[2, 3], (&[2], &[1, 1]))),
        ("do not grow", one(&[2, 3], (&[2], &[2, 1]))),
        ("axes", one(&[2, 3], (&[1, 3], &[0, 0, 0]))),
        ("neither 1-D nor 2-D", one(&[2, 3], (&[1, 1, 2], &[0, 0]))),
        ("negative", one(&[-2, 3], (&[1], &[0]))),
        ("too large", one(&[i64::MAX, i64::MAX], (&[1], &[0]))),
        ("justify", one(&[1 << 30], (&[1], &[0]))),
        ("justify", one(&[1 << 20, 1 << 20], (&[1], &[0]))),
        ("no indices", missing),
        ("no values", nameless),
        ("another file", external),
        ("does not fit", short),
        ("2 indices for 1 values", fewer),
        ("STRING", strings),
    ] {
        let mut m = model(GraphProto { sparse_initializer: vec![hostile], ..Default::default() });
        let before = m.clone();
        let error = format!("{:#}", densify(&mut m).unwrap_err());
        assert!(error.contains(what), "{what}: {error}");
        assert_eq!(m, before, "a refused model stays as it was");
    }
}

#[test]
fn all_sparse_tensors_share_one_allowance() {
    // 16 MiB each, of no value: four are allowed
    let empty = |name: &str| sparse(name, &[1 << 22], (&[0], &[]), &[]);
    let of = |n: usize| {
        let sparse_initializer = (0..n).map(|i| empty(&format!("w{i}"))).collect();
        model(GraphProto { sparse_initializer, ..Default::default() })
    };
    assert_eq!(densify(&mut of(4)).unwrap(), 4);
    let error = format!("{:#}", densify(&mut of(5)).unwrap_err());
    assert!(error.contains("w4") && error.contains("justify"), "{error}");
}

#[test]
fn a_graph_in_pieces_is_not_edited() {
    let piece = |name: &str| {
        let initializer = vec![tensor::of_floats(name, &[1], &[1.0])];
        model(GraphProto { initializer, ..Default::default() }).encode_to_vec()
    };
    // readers put the pieces of a message together
    let document = Document::read([piece("a"), piece("b")].concat(), None).unwrap();
    assert_eq!(document.model.graph.as_ref().unwrap().initializer.len(), 2);
    assert!(format!("{:#}", document.encode().unwrap_err()).contains("2 pieces"));
}

#[test]
fn a_graph_that_stays_is_copied_byte_by_byte() {
    // field 7 of length 0, its number written in a byte more than it needs
    let bytes = vec![0xba, 0, 0];
    assert_eq!(Document::read(bytes.clone(), None).unwrap().encode().unwrap(), bytes);
}

#[test]
fn a_small_model_cannot_multiply_a_large_file() {
    let dir = folder("multiply");
    std::fs::write(dir.join("x.data"), [0u8; 4]).unwrap();
    let open = |n: usize| {
        let external = |i: usize| {
            let mut t = tensor::of_floats(&format!("t{i}"), &[1], &[]);
            t.data_location = Some(DataLocation::External as i32);
            t.external_data = vec![StringStringEntryProto { key: "location".into(), value: "x.data".into() }];
            t
        };
        let initializer = (0..n).map(external).collect();
        let bytes = model(GraphProto { initializer, ..Default::default() }).encode_to_vec();
        Document::read(bytes, Some(&dir))
    };
    assert!(open(64).is_ok());
    let error = format!("{:#}", open(65).unwrap_err());
    assert!(error.contains("t64") && error.contains("260 bytes of a file of 4"), "{error}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn sparse_initializers_are_written_where_they_pay() {
    let dense = |name: &str, kept: usize| {
        let values: Vec<f32> = (0..90).map(|i| if i < kept { 1.0 + i as f32 } else { 0.0 }).collect();
        tensor::of_floats(name, &[9, 10], &values)
    };
    let initializer = vec![dense("a", 29), dense("b", 30), dense("c", 0), dense("other", 1)];
    let mut m = model(GraphProto { initializer, ..Default::default() });
    m.ir_version = 4;
    let before = m.clone();
    let names = ["a", "b", "c"].map(String::from);
    let mut document = Document::read(m.encode_to_vec(), None).unwrap();
    assert_eq!(sparsify_initializers(&mut document.model, &names).unwrap(), 2);
    let bytes = document.encode().unwrap();
    assert!(bytes.len() < m.encoded_len());
    let mut again = Document::read(bytes, None).unwrap().model;
    assert_eq!(again.ir_version, 6);
    assert_eq!(again.graph.as_ref().unwrap().sparse_initializer.len(), 2);
    densify(&mut again).unwrap();
    let by_name = |m: &ModelProto| {
        let mut tensors: Vec<_> = m.graph.as_ref().unwrap().initializer.clone();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    };
    assert_eq!(by_name(&again), by_name(&before));
}

#[test]
fn external_data_is_read_and_written_again() {
    let dir = folder("external");
    let mut data = vec![0u8; 12];
    data[4..].copy_from_slice(&[1.5f32.to_le_bytes(), 2.5f32.to_le_bytes()].concat());
    std::fs::write(dir.join("weights.bin"), &data).unwrap();
    let outside = |entries: &[(&str, &str)]| {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: key.to_string(),
            value: value.to_string(),
        };
        let mut t = tensor::of_floats("w", &[2], &[]);
        t.dims = vec![2];
        t.external_data = entries.iter().map(entry).collect();
        t.data_location = Some(DataLocation::External as i32);
        let inline = tensor::of_floats("v", &[1], &[7.0]);
        model(GraphProto { initializer: vec![t, inline], ..Default::default() }).encode_to_vec()
    };
    let good = [("location", "weights.bin"), ("offset", "4"), ("length", "8")];
    std::fs::write(dir.join("m.onnx"), outside(&good)).unwrap();
    let document = Document::open(&dir.join("m.onnx")).unwrap();
    let out = dir.join("pruned.onnx");
    document.save(&out).unwrap();
    let raw = ModelProto::decode(&*std::fs::read(&out).unwrap()).unwrap().graph.unwrap();
    assert!(tensor::is_external(&raw.initializer[0]) && !tensor::is_external(&raw.initializer[1]));
    std::fs::remove_file(dir.join("weights.bin")).unwrap();
    let again = Document::open(&out).unwrap();
    assert_eq!(again.model, document.model);
    assert_eq!(tensor::floats(&again.model.graph.unwrap().initializer[0]).unwrap(), [1.5, 2.5]);

    std::fs::write(dir.join("weights.bin"), &data).unwrap();
    for (what, entries) in [
        ("no location", vec![]),
        ("past the end", vec![("location", "weights.bin"), ("offset", "8"), ("length", "8")]),
        (
            "past the end",
            vec![("location", "weights.bin"), ("offset", "1"), ("length", "18446744073709551615")],
        ),
        ("does not fit", vec![("location", "weights.bin"), ("offset", "8")]),
        ("is no number", vec![("location", "weights.bin"), ("offset", "-4")]),
        ("plain path", vec![("location", "../weights.bin")]),
        ("plain path", vec![("location", "/etc/passwd")]),
        ("no file", vec![("location", "absent.bin")]),
    ] {
        std::fs::write(dir.join("m.onnx"), outside(&entries)).unwrap();
        let error = format!("{:#}", Document::open(&dir.join("m.onnx")).unwrap_err());
        assert!(
            error.contains(what) && error.contains("\"w\"") && error.contains("m.onnx"),
            "{what}: {error}"
        );
    }
    assert!(Document::read(outside(&good), None).is_err());
    std::fs::remove_dir_all(dir).unwrap();
}

fn external_model(location: &str) -> Vec<u8> {
    let mut t = tensor::of_floats("w", &[2], &[]);
    t.external_data = vec![StringStringEntryProto { key: "location".into(), value: location.into() }];
    t.data_location = Some(DataLocation::External as i32);
    model(GraphProto { initializer: vec![t], ..Default::default() }).encode_to_vec()
}

fn two_floats(values: [f32; 2]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn values_of(path: &Path) -> Vec<f32> {
    tensor::floats(&Document::open(path).unwrap().model.graph.unwrap().initializer[0]).unwrap()
}

/// The model with other values.
fn with_values(document: &Document, values: [f32; 2]) -> Document {
    let mut document = document.clone();
    tensor::set_floats(&mut document.model.graph.as_mut().unwrap().initializer[0], &values).unwrap();
    document
}

/// A model and its values change together: where the model cannot be written, the old pair stays readable;
/// where it can, the old values stay where they are.
#[test]
fn a_failed_write_leaves_the_old_model_and_its_values() {
    let dir = folder("pair");
    let path = dir.join("m.onnx");
    std::fs::write(dir.join("weights.bin"), two_floats([1.5, 2.5])).unwrap();
    std::fs::write(dir.join("source.onnx"), external_model("weights.bin")).unwrap();
    let source = Document::open(&dir.join("source.onnx")).unwrap();
    let saved = with_values(&source, [3.0, 4.0]).save(&path).unwrap();
    assert_eq!(saved, Saved { data: Some(dir.join("m.onnx.data")), unread: vec![] });
    assert_eq!(names(&dir), ["m.onnx", "m.onnx.data", "source.onnx", "weights.bin"]);

    let read_only = |yes: bool| {
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(yes);
        std::fs::set_permissions(&path, permissions).unwrap();
    };
    read_only(true);
    let error = format!("{:#}", with_values(&source, [5.0, 6.0]).save(&path).unwrap_err());
    assert!(error.contains("m.onnx") && error.contains("read-only"), "{error}");
    assert_eq!(values_of(&path), [3.0, 4.0]);
    assert_eq!(names(&dir), ["m.onnx", "m.onnx.data", "source.onnx", "weights.bin"]);
    read_only(false);

    // over a model: the values that it had stay, and are named where no other model reads them
    let saved = with_values(&source, [5.0, 6.0]).save(&path).unwrap();
    let (new, old) = (dir.join("m.onnx.1.data"), dir.join("m.onnx.data"));
    assert_eq!(saved, Saved { data: Some(new), unread: vec![old] });
    assert_eq!(values_of(&path), [5.0, 6.0]);
    assert_eq!(std::fs::read(dir.join("m.onnx.data")).unwrap(), two_floats([3.0, 4.0]));

    // in place
    let saved = with_values(&source, [9.0, 9.5]).save(&dir.join("source.onnx")).unwrap();
    assert_eq!(saved.unread, [dir.join("weights.bin")]);
    assert_eq!(values_of(&dir.join("source.onnx")), [9.0, 9.5]);
    assert_eq!(std::fs::read(dir.join("weights.bin")).unwrap(), two_floats([1.5, 2.5]));
    std::fs::remove_dir_all(dir).unwrap();
}

/// A copy of a model reads the same values: writing over the model must not take them away.
#[test]
fn values_that_another_model_reads_stay() {
    let dir = folder("shared");
    std::fs::write(dir.join("model.onnx.data"), two_floats([1.5, 2.5])).unwrap();
    for name in ["model.onnx", "backup.onnx"] {
        std::fs::write(dir.join(name), external_model("model.onnx.data")).unwrap();
    }
    let backup = Document::open(&dir.join("backup.onnx")).unwrap();
    let saved = with_values(&backup, [0.0, 2.5]).save(&dir.join("model.onnx")).unwrap();
    // the backup needs the old values: they are not called unread
    assert_eq!(saved, Saved { data: Some(dir.join("model.onnx.1.data")), unread: vec![] });
    assert_eq!(values_of(&dir.join("backup.onnx")), [1.5, 2.5]);
    assert_eq!(values_of(&dir.join("model.onnx")), [0.0, 2.5]);

    // values themselves are not written over, whatever they are called: neither own ones nor those of others
    let inline = Document::read(
        model(GraphProto { initializer: vec![tensor::of_floats("w", &[1], &[1.0])], ..Default::default() })
            .encode_to_vec(),
        None,
    );
    let inline = inline.unwrap();
    std::fs::create_dir(dir.join("sub")).unwrap();
    std::fs::write(dir.join("sub").join("deep.bin"), two_floats([1.5, 2.5])).unwrap();
    std::fs::write(dir.join("above.onnx"), external_model("sub/deep.bin")).unwrap();
    std::fs::hard_link(dir.join("model.onnx.data"), dir.join("sub").join("hard")).unwrap();
    let mut refused =
        vec![dir.join("model.onnx.data"), dir.join("sub").join("deep.bin"), dir.join("sub").join("hard")];
    if cfg!(unix) {
        refused.push(dir.join("sub").join("link"));
        #[cfg(unix)]
        std::os::unix::fs::symlink("../model.onnx.data", dir.join("sub").join("link")).unwrap();
    }
    for path in refused {
        let error = format!("{:#}", inline.save(&path).unwrap_err());
        assert!(error.contains("reads its values from this file"), "{error}");
        let error = format!("{:#}", backup.save(&path).unwrap_err());
        assert!(error.contains("from this file") || error.contains("is a link"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), two_floats([1.5, 2.5]));
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// Values of their own beside a link would be found by one of its two names only.
#[test]
#[cfg(unix)]
fn links_to_models_with_external_data_stay_whole() {
    let dir = folder("links");
    std::fs::create_dir(dir.join("real")).unwrap();
    std::fs::write(dir.join("real").join("w.bin"), two_floats([1.5, 2.5])).unwrap();
    std::fs::write(dir.join("real").join("m.onnx"), external_model("w.bin")).unwrap();
    let document = Document::open(&dir.join("real").join("m.onnx")).unwrap();
    for (link, to) in
        [("far.onnx", "real/m.onnx"), ("dangling.onnx", "real/new.onnx"), ("near.onnx", "there.onnx")]
    {
        std::os::unix::fs::symlink(to, dir.join(link)).unwrap();
        let error = format!("{:#}", document.save(&dir.join(link)).unwrap_err());
        assert!(error.contains(link) && error.contains(to), "{error}");
    }
    assert_eq!(names(&dir.join("real")), ["m.onnx", "w.bin"]);
    std::fs::write(dir.join("there.onnx"), "").unwrap();
    document.save(&dir.join("near.onnx")).unwrap();
    assert_eq!(values_of(&dir.join("there.onnx")), [1.5, 2.5]);
    assert_eq!(values_of(&dir.join("near.onnx")), [1.5, 2.5]);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn damaged_files_are_refused() {
    let graph =
        GraphProto { initializer: vec![tensor::of_floats("w", &[2], &[1.0, 2.0])], ..Default::default() };
    let bytes = model(graph).encode_to_vec();
    assert!(Document::read(vec![], None).is_err());
    assert!(Document::read(b"not a model".to_vec(), None).is_err());
    for end in 0..bytes.len() {
        // shorter files may decode by chance; none may panic
        let _ = Document::read(bytes[..end].to_vec(), None).map(|d| d.encode());
    }
}

#[test]
fn outputs_that_nothing_computes_are_named() {
    let value = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
    let of = |outputs: &[&str]| {
        model(GraphProto {
            input: vec![value("x")],
            initializer: vec![tensor::of_floats("w", &[1], &[1.0])],
            node: vec![NodeProto { output: vec!["y".into(), "z".into()], ..Default::default() }],
            output: outputs.iter().map(|name| value(name)).collect(),
            ..Default::default()
        })
    };
    assert!(outputs_are_there(&of(&["z", "y", "x", "w"])).is_ok());
    assert!(outputs_are_there(&ModelProto::default()).is_ok());
    let error = outputs_are_there(&of(&["y", "a", "b"])).unwrap_err().to_string();
    assert_eq!(error, "nothing computes the output a, b");
}
