//! Short ways to write ONNX messages.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{AttributeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

/// A list of integers.
pub fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|v| *v as i64).collect();
    AttributeProto { name: name.into(), r#type: AttributeType::Ints as i32, ints, ..Default::default() }
}

/// An integer.
pub fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i: value as i64,
        ..Default::default()
    }
}

/// A float.
pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f, ..Default::default() }
}

/// A string.
pub fn string(name: &str, value: &str) -> AttributeProto {
    let s = value.as_bytes().to_vec();
    AttributeProto { name: name.into(), r#type: AttributeType::String as i32, s, ..Default::default() }
}

/// A plain f32 tensor, row-major.
pub fn tensor(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: shape.iter().map(|d| *d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// A named f32 input or output; every axis is a number or a symbol.
pub fn value(name: &str, dims: Vec<dimension::Value>) -> ValueInfoProto {
    let dim = dims.into_iter().map(|v| Dimension { value: Some(v), ..Default::default() }).collect();
    let tensor =
        type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: name.into(), r#type: Some(r#type), ..Default::default() }
}
