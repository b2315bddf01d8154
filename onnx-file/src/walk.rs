//! Visits every graph, node and tensor of a model, subgraphs and functions included.

use anyhow::Result;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Calls `f` for the graph and every subgraph.
pub fn graphs(model: &mut ModelProto, f: &mut dyn FnMut(&mut GraphProto) -> Result<()>) -> Result<()> {
    fn inside(node: &mut NodeProto, f: &mut dyn FnMut(&mut GraphProto) -> Result<()>) -> Result<()> {
        node.attribute
            .iter_mut()
            .flat_map(|a| a.g.iter_mut().chain(&mut a.graphs))
            .try_for_each(|g| visit(g, f))
    }
    fn visit(graph: &mut GraphProto, f: &mut dyn FnMut(&mut GraphProto) -> Result<()>) -> Result<()> {
        f(graph)?;
        graph.node.iter_mut().try_for_each(|node| inside(node, f))
    }
    model.graph.iter_mut().try_for_each(|graph| visit(graph, f))?;
    model.functions.iter_mut().flat_map(|function| &mut function.node).try_for_each(|node| inside(node, f))
}

/// Calls `f` for every node.
pub fn nodes(model: &mut ModelProto, f: &mut dyn FnMut(&mut NodeProto) -> Result<()>) -> Result<()> {
    model.functions.iter_mut().flat_map(|function| &mut function.node).try_for_each(&mut *f)?;
    graphs(model, &mut |graph| graph.node.iter_mut().try_for_each(&mut *f))
}

/// Calls `f` for every tensor: initializers, attributes, and the parts of sparse ones.
pub fn tensors(model: &mut ModelProto, f: &mut dyn FnMut(&mut TensorProto) -> Result<()>) -> Result<()> {
    graphs(model, &mut |graph| {
        graph.initializer.iter_mut().try_for_each(&mut *f)?;
        let sparse = graph.sparse_initializer.iter_mut();
        sparse.flat_map(|s| s.values.iter_mut().chain(&mut s.indices)).try_for_each(&mut *f)
    })?;
    nodes(model, &mut |node| {
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().chain(&mut attribute.tensors).try_for_each(&mut *f)?;
            let sparse = attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors);
            sparse.flat_map(|s| s.values.iter_mut().chain(&mut s.indices)).try_for_each(&mut *f)?;
        }
        Ok(())
    })
}
