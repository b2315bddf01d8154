//! ONNX models cast to f16.

use anyhow::Result;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::f16;

/// The same model with initializers, constants, inputs and outputs of f16 where they are of f32. A `Gemm` becomes a product
/// and a sum: with a bias, stock tract 0.23.9 refuses it in f16.
///
/// # Errors
/// Tensors whose values cannot be read.
pub fn in_f16(model: &ModelProto) -> Result<ModelProto> {
    let mut model = model.clone();
    if let Some(graph) = &mut model.graph {
        cast_graph(graph)?;
    }
    Ok(model)
}

fn cast_graph(graph: &mut GraphProto) -> Result<()> {
    graph.initializer.iter_mut().try_for_each(cast_tensor)?;
    graph.node = std::mem::take(&mut graph.node).into_iter().flat_map(without_gemm).collect();
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            attribute.t.as_mut().map_or(Ok(()), cast_tensor)?;
            if attribute.name == "to" && attribute.i == DataType::Float as i64 {
                attribute.i = DataType::Float16 as i64;
            }
        }
    }
    let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
    values.for_each(cast_value);
    Ok(())
}

/// A node, or what computes the same as a `Gemm` of a matrix that is transposed and a bias.
fn without_gemm(node: NodeProto) -> Vec<NodeProto> {
    let set = |name: &str| node.attribute.iter().any(|attribute| attribute.name == name && attribute.i == 1);
    if node.op_type != "Gemm" || node.input.len() < 3 {
        return vec![node];
    }
    let op = |op_type: &str, input: &[&str], output: &str| NodeProto {
        name: output.into(),
        op_type: op_type.into(),
        input: input.iter().map(|name| name.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let [x, w, b] = [0, 1, 2].map(|at| &*node.input[at]);
    let (product, turned) = (format!("{}.product", node.name), format!("{}.turned", node.name));
    let mut nodes = vec![];
    if set("transB") {
        nodes.push(op("Transpose", &[w], &turned));
    }
    let w = if set("transB") { &turned } else { w };
    nodes.extend([op("MatMul", &[x, w], &product), op("Add", &[&product, b], &node.output[0])]);
    nodes
}

fn cast_value(value: &mut ValueInfoProto) {
    if let Some(type_proto::Value::TensorType(tensor)) =
        value.r#type.as_mut().and_then(|of| of.value.as_mut())
        && tensor.elem_type == DataType::Float as i32
    {
        tensor.elem_type = DataType::Float16 as i32;
    }
}

fn cast_tensor(tensor: &mut TensorProto) -> Result<()> {
    if tensor.data_type != DataType::Float as i32 {
        return Ok(());
    }
    let raw = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let values = raw.chain(tensor.float_data.iter().copied());
    let bytes = values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect();
    tensor.raw_data = bytes;
    tensor.float_data.clear();
    tensor.data_type = DataType::Float16 as i32;
    Ok(())
}

/// A tensor cast to another type.
///
/// # Errors
/// Types that do not convert.
pub fn cast(tensor: &Tensor, to: DatumType) -> Result<Tensor> {
    tensor.cast_to_dt(to).map(|cast| cast.into_owned())
}

/// The same model with every weight as f16 has it, in f32.
///
/// # Errors
/// Tensors whose values cannot be read.
pub fn rounded(model: &ModelProto) -> Result<ModelProto> {
    let mut model = model.clone();
    let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    for tensor in tensors.filter(|tensor| tensor.data_type == DataType::Float as i32) {
        cast_tensor(tensor)?;
        let wide = tensor.raw_data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
        tensor.raw_data = wide.flat_map(|value| value.to_le_bytes()).collect();
        tensor.data_type = DataType::Float as i32;
    }
    Ok(model)
}
