//! Values of ONNX tensors, wherever the message keeps them.

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

/// The dimensions, none negative, their product representable.
///
/// # Errors
/// A negative dimension, or more elements than can be addressed.
pub fn shape(dims: &[i64]) -> Result<Vec<usize>> {
    let shape: Option<Vec<usize>> = dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let shape = shape.with_context(|| format!("shape {dims:?} has a negative dimension"))?;
    elements(&shape)?;
    Ok(shape)
}

/// The number of elements of a shape.
///
/// # Errors
/// More elements than can be addressed.
pub fn elements(shape: &[usize]) -> Result<usize> {
    let product = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    product
        .filter(|n| *n <= isize::MAX as usize / 8)
        .with_context(|| format!("shape {shape:?} is too large to address"))
}

/// Whether the values are in another file.
pub fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// The element type.
///
/// # Errors
/// A type that ONNX does not know.
pub fn data_type(tensor: &TensorProto) -> Result<DataType> {
    DataType::try_from(tensor.data_type).with_context(|| format!("unknown element type {}", tensor.data_type))
}

/// Bytes of one element of a fixed-size type of at least a byte.
fn size(data_type: DataType) -> Option<usize> {
    use DataType::*;
    match data_type {
        Uint8 | Int8 | Bool => Some(1),
        Uint16 | Int16 | Float16 | Bfloat16 => Some(2),
        Float | Int32 | Uint32 => Some(4),
        Double | Int64 | Uint64 | Complex64 => Some(8),
        Complex128 => Some(16),
        _ => None,
    }
}

/// The elements as little-endian bytes, and the bytes of one element.
///
/// # Errors
/// Strings and types below a byte, values in another file, or another number of values than the shape says.
pub fn bytes(tensor: &TensorProto) -> Result<(Vec<u8>, usize)> {
    let data_type = data_type(tensor)?;
    ensure!(!is_external(tensor), "its values are in another file");
    let size = size(data_type).with_context(|| format!("elements of type {}", data_type.as_str_name()))?;
    let bytes: Vec<u8> = if !tensor.raw_data.is_empty() {
        tensor.raw_data.clone()
    } else if !tensor.float_data.is_empty() {
        tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()
    } else if !tensor.double_data.is_empty() {
        tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
    } else if !tensor.int64_data.is_empty() {
        tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect()
    } else if !tensor.uint64_data.is_empty() {
        tensor.uint64_data.iter().flat_map(|v| v.to_le_bytes()[..size.min(8)].to_vec()).collect()
    } else {
        tensor.int32_data.iter().flat_map(|v| v.to_le_bytes()[..size.min(4)].to_vec()).collect()
    };
    let expected = elements(&shape(&tensor.dims)?)?.checked_mul(size);
    ensure!(
        expected == Some(bytes.len()),
        "shape {:?} does not fit {} bytes of values",
        tensor.dims,
        bytes.len()
    );
    Ok((bytes, size))
}

/// The values of an f32 tensor.
///
/// # Errors
/// Another type, values in another file, or another number of values than the shape says.
pub fn floats(tensor: &TensorProto) -> Result<Vec<f32>> {
    let data_type = data_type(tensor)?;
    ensure!(data_type == DataType::Float, "elements are {}, not f32", data_type.as_str_name().to_lowercase());
    let (bytes, _) = bytes(tensor)?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The values of an i64 or i32 tensor.
///
/// # Errors
/// As [`floats`].
pub fn ints(tensor: &TensorProto) -> Result<Vec<i64>> {
    let data_type = data_type(tensor)?;
    let (bytes, size) = bytes(tensor)?;
    match data_type {
        DataType::Int64 => Ok(bytes
            .chunks_exact(size)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect()),
        DataType::Int32 => Ok(bytes
            .chunks_exact(size)
            .map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]).into())
            .collect()),
        other => bail!("elements are {}, not integers", other.as_str_name().to_lowercase()),
    }
}

/// Puts other values into an f32 tensor; name, shape and everything else stay.
///
/// # Errors
/// Another type, or another number of values.
pub fn set_floats(tensor: &mut TensorProto, values: &[f32]) -> Result<()> {
    ensure!(data_type(tensor)? == DataType::Float, "elements are not f32");
    let expected = elements(&shape(&tensor.dims)?)?;
    ensure!(expected == values.len(), "{} values for shape {:?}", values.len(), tensor.dims);
    if tensor.float_data.is_empty() {
        set_bytes(tensor, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    } else {
        tensor.float_data = values.to_vec();
    }
    Ok(())
}

/// Puts other raw values in: little-endian, as many as the shape says.
pub fn set_bytes(tensor: &mut TensorProto, bytes: Vec<u8>) {
    tensor.raw_data = bytes;
    tensor.float_data.clear();
    tensor.int32_data.clear();
    tensor.int64_data.clear();
    tensor.double_data.clear();
    tensor.uint64_data.clear();
    tensor.external_data.clear();
    tensor.data_location = None;
}

/// A new f32 tensor.
pub fn of_floats(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// A new i64 tensor.
pub fn of_ints(name: &str, dims: &[usize], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}
