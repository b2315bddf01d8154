//! `sparse_initializer` and `Constant.sparse_value`: to dense tensors and back.

use super::{tensor, walk};
use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

/// Bytes that all dense tensors of a model may take together: what a protobuf file can hold.
const LARGEST: usize = i32::MAX as usize;
/// Dense bytes that tensors may take for every byte stored, beyond [`SMALL`]: one weight of a hundred kept
/// takes 100.
const EXPANSION: usize = 1024;
/// What all tensors of a model may take together without a byte stored.
const SMALL: usize = 64 << 20;

/// What may still be made dense.
struct Room {
    /// Bytes that the values so far justify.
    justified: usize,
    /// Bytes that the model may still take.
    left: usize,
}

/// Makes every sparse tensor of a model dense: `sparse_initializer` becomes `initializer`,
/// `Constant.sparse_value` becomes `Constant.value`, in the graph, its subgraphs and functions. Returns how
/// many there were.
///
/// Stock tract 0.23.9 refuses such models.
///
/// # Errors
/// Names the tensor: indices out of bounds, not growing, not 1-D or 2-D; another number of values than of
/// indices; a shape that is negative, overflows or is larger than its few values can justify; values in
/// another file (a model opened by path has read those). The model is unchanged then.
pub fn densify(model: &mut ModelProto) -> Result<usize> {
    let mut dense = model.clone_if_sparse();
    let Some(target) = dense.as_mut() else { return Ok(0) };
    let (mut count, mut room) = (0, Room { justified: SMALL, left: LARGEST });
    walk::graphs(target, &mut |graph| {
        for sparse in std::mem::take(&mut graph.sparse_initializer) {
            let name = sparse.values.as_ref().map_or("", |v| &v.name).to_string();
            let dense =
                to_dense(&sparse, &mut room).with_context(|| format!("sparse initializer {name:?}"))?;
            graph.initializer.push(dense);
            count += 1;
        }
        Ok(())
    })?;
    walk::nodes(target, &mut |node| {
        if node.op_type != "Constant" {
            return Ok(());
        }
        for attribute in &mut node.attribute {
            if let Some(sparse) = attribute.sparse_tensor.take() {
                let output = node.output.first().map_or("", |o| o);
                let dense = to_dense(&sparse, &mut room)
                    .with_context(|| format!("sparse value of constant {output:?}"))?;
                attribute.name = "value".into();
                attribute.r#type = AttributeType::Tensor as i32;
                attribute.t = Some(dense);
                count += 1;
            }
        }
        Ok(())
    })?;
    *model = dense.context("it was there a moment ago")?;
    Ok(count)
}

trait CloneIfSparse {
    fn clone_if_sparse(&self) -> Option<ModelProto>;
}

impl CloneIfSparse for ModelProto {
    fn clone_if_sparse(&self) -> Option<ModelProto> {
        fn node(node: &NodeProto) -> bool {
            let attributes = || node.attribute.iter();
            (node.op_type == "Constant" && attributes().any(|a| a.sparse_tensor.is_some()))
                || attributes().any(|a| a.g.iter().chain(&a.graphs).any(graph))
        }
        fn graph(g: &GraphProto) -> bool {
            !g.sparse_initializer.is_empty() || g.node.iter().any(node)
        }
        let functions = || self.functions.iter().flat_map(|f| &f.node);
        (self.graph.iter().any(graph) || functions().any(node)).then(|| self.clone())
    }
}

/// The dense tensor; what it takes is subtracted from `room`.
fn to_dense(sparse: &SparseTensorProto, room: &mut Room) -> Result<TensorProto> {
    let values = sparse.values.as_ref().context("it has no values")?;
    let indices = sparse.indices.as_ref().context("it has no indices")?;
    let shape = tensor::shape(&sparse.dims)?;
    let elements = tensor::elements(&shape)?;
    ensure!(values.dims.len() == 1, "its values have shape {:?}, not 1-D", values.dims);
    let (stored, size) = tensor::bytes(values).context("its values")?;
    let nnz = stored.len() / size;
    ensure!(tensor::data_type(indices)? == DataType::Int64, "its indices are not i64");
    let linear = positions(indices, &shape, nnz)?;
    let bytes = elements.checked_mul(size).context("its shape is too large")?;
    room.justified = room.justified.saturating_add(stored.len().saturating_mul(EXPANSION));
    let allowed = room.justified.min(room.left);
    ensure!(bytes <= allowed, "shape {shape:?} takes {bytes} bytes, more than {nnz} values justify");
    (room.justified, room.left) = (room.justified - bytes, room.left - bytes);
    let mut dense = vec![0u8; bytes];
    for (position, value) in linear.into_iter().zip(stored.chunks_exact(size)) {
        dense[position * size..][..size].copy_from_slice(value);
    }
    Ok(TensorProto {
        name: values.name.clone(),
        doc_string: values.doc_string.clone(),
        dims: sparse.dims.clone(),
        data_type: values.data_type,
        raw_data: dense,
        ..Default::default()
    })
}

/// Linear positions, strictly growing and below the number of elements.
fn positions(indices: &TensorProto, shape: &[usize], nnz: usize) -> Result<Vec<usize>> {
    let values = tensor::ints(indices).context("its indices")?;
    let dims = tensor::shape(&indices.dims)?;
    let elements = tensor::elements(shape)?;
    let linear: Vec<usize> = match dims[..] {
        [n] => {
            ensure!(n == nnz, "{n} indices for {nnz} values");
            let inside = |i: &i64| usize::try_from(*i).ok().filter(|i| *i < elements);
            let wrong = values.iter().find(|i| inside(i).is_none());
            ensure!(wrong.is_none(), "index {} is outside shape {shape:?}", wrong.unwrap_or(&0));
            values.iter().filter_map(inside).collect()
        }
        [n, rank] => {
            ensure!(n == nnz, "{n} indices for {nnz} values");
            ensure!(rank == shape.len(), "indices of {rank} axes for shape {shape:?}");
            let mut linear = vec![];
            for index in values.chunks_exact(rank.max(1)) {
                let mut position = 0;
                for (i, dim) in index.iter().zip(shape) {
                    let i = usize::try_from(*i).ok().filter(|i| i < dim);
                    let i = i.with_context(|| format!("index {index:?} is outside shape {shape:?}"))?;
                    position = position * dim + i;
                }
                linear.push(position);
            }
            linear
        }
        _ => bail!("its indices have shape {dims:?}, neither 1-D nor 2-D"),
    };
    ensure!(linear.len() == nnz, "{} indices for {nnz} values", linear.len());
    if let Some(i) = linear.windows(2).position(|w| w[0] >= w[1]) {
        bail!("its indices do not grow: entry {} is not after entry {i}", i + 1);
    }
    Ok(linear)
}

/// Moves those of the named f32 initializers that take less room so to `sparse_initializer`, with linear
/// indices. Returns how many were moved: a value and its index take 12 bytes, so that fewer than a third of
/// the weights may be left.
///
/// Raises the IR version to 6, the first that has them. Graph inputs of the same name (a default value that
/// callers may replace) keep their initializer dense.
///
/// # Errors
/// An initializer whose values cannot be read.
pub fn sparsify_initializers(model: &mut ModelProto, names: &[String]) -> Result<usize> {
    let Some(graph) = model.graph.as_mut() else { return Ok(0) };
    let mut moved = vec![];
    for (at, initializer) in graph.initializer.iter().enumerate() {
        let input = graph.input.iter().any(|i| i.name == initializer.name);
        if input || !names.contains(&initializer.name) {
            continue;
        }
        let values =
            tensor::floats(initializer).with_context(|| format!("initializer {:?}", initializer.name))?;
        // a bit pattern other than +0 is kept, so that the dense tensor comes back as it was
        let kept: Vec<usize> = (0..values.len()).filter(|i| values[*i].to_bits() != 0).collect();
        if kept.len() * 12 >= values.len() * 4 {
            continue;
        }
        let picked: Vec<f32> = kept.iter().map(|i| values[*i]).collect();
        let indices: Vec<i64> = kept.iter().map(|i| *i as i64).collect();
        let mut of_values = tensor::of_floats(&initializer.name, &[picked.len()], &picked);
        of_values.doc_string = initializer.doc_string.clone();
        moved.push(at);
        graph.sparse_initializer.push(SparseTensorProto {
            values: Some(of_values),
            indices: Some(tensor::of_ints("", &[indices.len()], &indices)),
            dims: initializer.dims.clone(),
        });
    }
    for at in moved.iter().rev() {
        graph.initializer.remove(*at);
    }
    if !moved.is_empty() {
        model.ir_version = model.ir_version.max(6);
    }
    Ok(moved.len())
}
