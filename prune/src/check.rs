//! What every node has to have before anything looks at it.

use crate::layer::name_of;
use anyhow::{Context, Result, ensure};
use tract_onnx::pb::{GraphProto, NodeProto};

/// Operators that may have no input.
const SOURCES: [&str; 5] = ["Constant", "RandomNormal", "RandomUniform", "SequenceEmpty", "Optional"];
/// Operators of two inputs, the second of which may be weights.
const PRODUCTS: [&str; 4] = ["Conv", "Gemm", "MatMul", "ConvTranspose"];

/// Checks that the nodes of a graph have the inputs and outputs without which they are none.
///
/// # Errors
/// Names the node.
pub(crate) fn nodes(graph: &GraphProto) -> Result<()> {
    graph.node.iter().enumerate().try_for_each(|(at, node)| {
        check(node).with_context(|| match &*name_of(node) {
            "" => format!("node {at}, {}", node.op_type),
            name => format!("node {name:?}, {}", node.op_type),
        })
    })
}

fn check(node: &NodeProto) -> Result<()> {
    ensure!(node.output.iter().any(|name| !name.is_empty()), "it has no output");
    // operators of others may do as they like
    if !node.domain.is_empty() && node.domain != "ai.onnx" {
        return Ok(());
    }
    let needed = match &*node.op_type {
        op if SOURCES.contains(&op) => 0,
        op if PRODUCTS.contains(&op) => 2,
        _ => 1,
    };
    let missing = (0..needed).find(|slot| node.input.get(*slot).is_none_or(|name| name.is_empty()));
    // the first inputs of loops, and of what resizes, may be left out one by one
    let optional = needed == 1 && node.input.len() > 1;
    ensure!(missing.is_none() || optional, "it has no input {}", missing.unwrap_or(0));
    Ok(())
}
