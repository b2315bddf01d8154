//! Small networks of every kind of layer that is pruned, beside 1x1, depthwise and 3x3 convolutions.

use crate::graph::Graph;
use crate::values;
use prune::onnx::tensor;
use tract_sparse::pb::{AttributeProto, ModelProto};

/// A network and the shape of its input.
pub struct Kind {
    /// In a word.
    pub name: &'static str,
    /// The network, dense.
    pub model: ModelProto,
    /// Of its one input.
    pub shape: Vec<usize>,
}

fn of_int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: 2, ..Default::default() }
}

fn of_ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Default::default() }
}

fn of_text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: text.as_bytes().to_vec(), r#type: 3, ..Default::default() }
}

/// Seeded weights that keep the size of activations.
fn weights(graph: &mut Graph, dims: &[usize]) -> String {
    let fan: usize = dims[1..].iter().product();
    let scale = (3.0 / fan as f32).sqrt();
    let values: Vec<f32> =
        values(dims.iter().product(), dims.len() as u64).iter().map(|v| v * scale).collect();
    graph.constant(dims, &values)
}

/// The networks.
pub fn kinds() -> Vec<Kind> {
    vec![images(), signals(), recurrent()]
}

/// Kernels of 1x3, 3x1, 5x5 and 7x7, grouped and transposed convolutions.
fn images() -> Kind {
    let mut graph = Graph::default();
    let mut last = graph.input("1,8,12,12");
    for (dims, pads, group) in [
        ([16, 8, 1, 3], [0, 1, 0, 1], 1),
        ([16, 16, 3, 1], [1, 0, 1, 0], 1),
        ([12, 16, 5, 5], [2, 2, 2, 2], 1),
        ([10, 12, 7, 7], [3, 3, 3, 3], 1),
        ([12, 5, 3, 3], [1, 1, 1, 1], 2),
    ] {
        let w = weights(&mut graph, &dims);
        last = graph.op("Conv", &[&last, &w], vec![of_ints("pads", &pads), of_int("group", group)]);
        last = graph.op("Relu", &[&last], vec![]);
    }
    for (dims, stride, group) in [([12, 8, 2, 2], 2, 1), ([8, 6, 3, 3], 1, 2)] {
        let w = weights(&mut graph, &dims);
        let attributes = vec![of_ints("strides", &[stride, stride]), of_int("group", group)];
        last = graph.op("ConvTranspose", &[&last, &w], attributes);
    }
    Kind { name: "images", model: graph.model(&[&last]), shape: vec![1, 8, 12, 12] }
}

/// The same along one axis.
fn signals() -> Kind {
    let mut graph = Graph::default();
    let mut last = graph.input("1,8,40");
    for (dims, dilation) in [([16, 8, 5], 1), ([12, 16, 3], 2)] {
        let w = weights(&mut graph, &dims);
        last = graph.op("Conv", &[&last, &w], vec![of_ints("dilations", &[dilation])]);
        last = graph.op("Relu", &[&last], vec![]);
    }
    let w = weights(&mut graph, &[12, 9, 4]);
    last = graph.op("ConvTranspose", &[&last, &w], vec![of_ints("strides", &[2])]);
    Kind { name: "signals", model: graph.model(&[&last]), shape: vec![1, 8, 40] }
}

/// A GRU of both directions, an LSTM and an RNN, whose gates are no multiples of a block.
fn recurrent() -> Kind {
    let mut graph = Graph::default();
    let mut last = graph.input("5,1,12");
    for (op, directions, gates, hidden, inputs) in
        [("GRU", 2, 3, 10, 12), ("LSTM", 1, 4, 6, 20), ("RNN", 1, 1, 9, 6)]
    {
        let w = weights(&mut graph, &[directions, gates * hidden, inputs]);
        let r = weights(&mut graph, &[directions, gates * hidden, hidden]);
        let mut attributes = vec![of_int("hidden_size", hidden as i64)];
        if directions == 2 {
            attributes.push(of_text("direction", "bidirectional"));
        }
        if op == "GRU" {
            attributes.push(of_int("linear_before_reset", 1));
        }
        last = graph.op(op, &[&last, &w, &r], attributes);
        // [steps, directions, batch, hidden] to [steps, batch, directions by hidden]
        last = graph.op("Transpose", &[&last], vec![of_ints("perm", &[0, 2, 1, 3])]);
        let shape = format!("shape_{op}");
        graph.initializer(tensor::of_ints(&shape, &[3], &[5, 1, (directions * hidden) as i64]));
        last = graph.op("Reshape", &[&last, &shape], vec![]);
    }
    Kind { name: "recurrent", model: graph.model(&[&last]), shape: vec![5, 1, 12] }
}
