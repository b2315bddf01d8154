//! Small ONNX graphs, written node by node.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};
use zoo::proto;

/// A graph under construction. Every method returns the name of the tensor it adds.
#[derive(Clone, Default)]
pub struct Graph {
    graph: GraphProto,
    count: usize,
}

/// An axis of an input: a size or a symbol.
pub fn dims(text: &str) -> Vec<Value> {
    text.split(',')
        .map(|d| d.parse().map_or_else(|_| Value::DimParam(d.to_string()), Value::DimValue))
        .collect()
}

impl Graph {
    /// An f32 input; `shape` as in `N,3,32,32`.
    pub fn input(&mut self, shape: &str) -> String {
        let name = format!("input{}", self.graph.input.len());
        self.graph.input.push(proto::value(&name, dims(shape)));
        name
    }

    /// An initialiser.
    pub fn constant(&mut self, shape: &[usize], values: &[f32]) -> String {
        self.count += 1;
        let name = format!("c{}", self.count);
        self.initializer(proto::tensor(&name, shape, values));
        name
    }

    /// Any initialiser.
    pub fn initializer(&mut self, tensor: TensorProto) {
        self.graph.initializer.push(tensor);
    }

    /// An initialiser of integers, a vector.
    pub fn ints(&mut self, values: &[usize]) -> String {
        self.count += 1;
        let name = format!("c{}", self.count);
        self.initializer(TensorProto {
            name: name.clone(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values.iter().map(|v| *v as i64).collect(),
            ..Default::default()
        });
        name
    }

    /// A node with one output, called after its operator and its position.
    pub fn op(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.ops(op, inputs, 1, attribute).remove(0)
    }

    /// As [`Graph::op`] with a number of outputs; the second is called after the node and `.1`.
    pub fn ops(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: usize,
        attribute: Vec<AttributeProto>,
    ) -> Vec<String> {
        self.count += 1;
        let name = format!("{}{}", op.to_lowercase(), self.count);
        let output = |at| if at == 0 { name.clone() } else { format!("{name}.{at}") };
        let output: Vec<String> = (0..outputs).map(output).collect();
        self.graph.node.push(NodeProto {
            name,
            op_type: op.into(),
            input: inputs.iter().map(|i| i.to_string()).collect(),
            output: output.clone(),
            attribute,
            ..Default::default()
        });
        output
    }

    /// The finished model (opset 13).
    pub fn model(mut self, outputs: &[&str]) -> ModelProto {
        self.graph.name = "test".into();
        self.graph.output = outputs
            .iter()
            .map(|name| ValueInfoProto { name: name.to_string(), ..Default::default() })
            .collect();
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
            graph: Some(self.graph),
            ..Default::default()
        }
    }
}

/// Seeded weights in -1..1 scaled by `1 / sqrt(fan)`, where only a share of blocks of `r` rows by `c` columns
/// is kept.
pub fn pruned(rows: usize, cols: usize, (r, c): (usize, usize), density: f64, seed: u64) -> Vec<f32> {
    let mut weights = crate::values(rows * cols, seed);
    let scale = 1.0 / (cols as f32).sqrt();
    weights.iter_mut().for_each(|w| *w *= scale);
    let coins = crate::values(rows.div_ceil(r) * cols.div_ceil(c), seed ^ 0xABCD);
    for (block, coin) in coins.iter().enumerate() {
        if (*coin as f64 + 1.0) / 2.0 >= density {
            let (row, col) = (block / cols.div_ceil(c) * r, block % cols.div_ceil(c) * c);
            for row in row..rows.min(row + r) {
                weights[row * cols..][col..cols.min(col + c)].fill(0.0);
            }
        }
    }
    weights
}
