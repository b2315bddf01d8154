//! Recurrent layers as ONNX, pruned.

use crate::graph::{Graph, pruned};
use crate::{noise, values};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{ModelProto, TensorProto};
use tract_sparse::prelude::Tensor;
use zoo::proto;

/// One recurrent layer, alone in a network or on top of others.
#[derive(Debug, Clone, Copy)]
pub struct Recurrent {
    /// `GRU`, `LSTM` or `RNN`.
    pub op: &'static str,
    /// Channels of the input.
    pub input: usize,
    /// Size of the state.
    pub hidden: usize,
    /// Steps of the sequence.
    pub steps: usize,
    /// Sequences at a time.
    pub batch: usize,
    /// Rows and columns of the blocks of weights that are pruned together.
    pub block: (usize, usize),
    /// Share of the blocks that is kept.
    pub density: f64,
    /// Layers on top of each other.
    pub layers: usize,
    /// What ONNX allows besides.
    pub options: Options,
}

/// Attributes and optional inputs and outputs of a recurrent layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Forwards and backwards.
    pub bidirectional: bool,
    /// Backwards only.
    pub reverse: bool,
    /// The batch comes first (`layout = 1`).
    pub batch_first: bool,
    /// `linear_before_reset` of a GRU: what PyTorch writes.
    pub linear_before_reset: bool,
    /// No biases.
    pub unbiased: bool,
    /// Initial states are inputs of the network.
    pub initial: bool,
    /// The lengths of the sequences are given.
    pub lengths: bool,
    /// Only the last state is an output.
    pub last_only: bool,
    /// Peepholes of an LSTM.
    pub peepholes: bool,
}

impl Recurrent {
    /// A GRU as PyTorch writes it, as wide as its input.
    pub fn gru(hidden: usize, steps: usize, block: (usize, usize), density: f64) -> Recurrent {
        let options = Options { linear_before_reset: true, ..Options::default() };
        Recurrent { op: "GRU", input: hidden, hidden, steps, batch: 1, block, density, layers: 1, options }
    }

    fn directions(&self) -> usize {
        1 + self.options.bidirectional as usize
    }

    /// Weight matrices of all layers.
    pub fn matrices(&self) -> usize {
        2 * self.directions() * self.layers
    }

    fn shape(&self) -> [usize; 3] {
        let Recurrent { batch, steps, input, .. } = *self;
        if self.options.batch_first { [batch, steps, input] } else { [steps, batch, input] }
    }

    /// The network.
    pub fn model(&self) -> ModelProto {
        let Recurrent { hidden, batch, steps, options, .. } = *self;
        let by = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let directions = self.directions();
        let gates = match self.op {
            "GRU" => 3,
            "LSTM" => 4,
            _ => 1,
        };
        let mut graph = Graph::default();
        let mut x = graph.input(&by(&self.shape()));
        let mut outputs = vec![];
        let mut width = self.input;
        for layer in 0..self.layers {
            let seed = 100 * layer as u64;
            let mut matrix = |cols: usize, seed: u64| {
                let weights = pruned(directions * gates * hidden, cols, self.block, self.density, seed);
                graph.constant(&[directions, gates * hidden, cols], &weights)
            };
            let (w, r) = (matrix(width, seed + 1), matrix(hidden, seed + 2));
            let biases = 2 * gates * hidden;
            let b = match options.unbiased {
                true => String::new(),
                false => graph.constant(&[directions, biases], &values(directions * biases, seed + 3)),
            };
            let lengths = match options.lengths {
                true => {
                    let name = format!("lengths{layer}");
                    graph.initializer(TensorProto {
                        name: name.clone(),
                        dims: vec![batch as i64],
                        data_type: DataType::Int32 as i32,
                        int32_data: vec![steps as i32; batch],
                        ..Default::default()
                    });
                    name
                }
                false => String::new(),
            };
            let state = match options.batch_first {
                true => [batch, directions, hidden],
                false => [directions, batch, hidden],
            };
            let mut inputs = vec![x.clone(), w, r, b, lengths];
            let states = if self.op == "LSTM" { 2 } else { 1 };
            for _ in 0..states {
                inputs.push(if options.initial { graph.input(&by(&state)) } else { String::new() });
            }
            if options.peepholes {
                let p = values(directions * 3 * hidden, seed + 4);
                inputs.push(graph.constant(&[directions, 3 * hidden], &p));
            }
            while inputs.last().is_some_and(String::is_empty) {
                inputs.pop();
            }
            let mut attributes = vec![proto::int("hidden_size", hidden)];
            if options.bidirectional {
                attributes.push(proto::string("direction", "bidirectional"));
            } else if options.reverse {
                attributes.push(proto::string("direction", "reverse"));
            }
            if options.batch_first {
                attributes.push(proto::int("layout", 1));
            }
            if options.linear_before_reset {
                attributes.push(proto::int("linear_before_reset", 1));
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let made = graph.ops(self.op, &inputs, 1 + states, attributes);
            outputs = if options.last_only { made[1..].to_vec() } else { made.clone() };
            if layer + 1 < self.layers {
                assert_eq!((directions, options.batch_first), (1, false), "one layer only, written so");
                let shape = graph.ints(&[steps, batch, hidden]);
                x = graph.op("Reshape", &[&made[0], &shape], vec![]);
                width = hidden;
            }
        }
        graph.model(&outputs.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Inputs of the network.
    pub fn inputs(&self, seed: u64) -> Vec<Tensor> {
        let mut inputs = vec![noise(&self.shape(), seed)];
        if self.options.initial {
            let state = match self.options.batch_first {
                true => [self.batch, self.directions(), self.hidden],
                false => [self.directions(), self.batch, self.hidden],
            };
            let states = self.layers * if self.op == "LSTM" { 2 } else { 1 };
            inputs.extend((0..states).map(|at| noise(&state, seed + 1 + at as u64)));
        }
        inputs
    }
}
