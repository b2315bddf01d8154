//! Quantised values in NNEF files, which tract's own registries have no words for: what becomes of floats, of bytes, and of
//! bytes by a table.

use std::any::TypeId;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::quant::{
    DequantizeLinearF32, LookupTable, QuantizeLinearI8, QuantizeLinearU8, lookup_table, quantize_linear_i8,
    quantize_linear_u8,
};
use tract_nnef::internal::*;
use tract_nnef::ser::logical;

const DEQUANTIZE: &str = "tract_sparse_dequantize";
const QUANTIZE: &str = "tract_sparse_quantize";
const LOOKUP: &str = "tract_sparse_lookup";

/// Adds the primitives to a registry.
pub(crate) fn register(registry: &mut Registry) {
    let x = || TypeName::Scalar.tensor().named("input");
    let steps = || [TypeName::Scalar.named("scale"), TypeName::Integer.named("zero")];
    let [scale, zero] = steps();
    registry.register_primitive(
        DEQUANTIZE,
        &[x(), scale, zero],
        &[("output", TypeName::Scalar.tensor())],
        load_dequantize,
    );
    registry.register_dumper(dump_dequantize);
    let [scale, zero] = steps();
    let signed = TypeName::Logical.named("signed");
    registry.register_primitive(
        QUANTIZE,
        &[x(), scale, zero, signed],
        &[("output", TypeName::Scalar.tensor())],
        load_quantize,
    );
    let table = TypeName::Scalar.tensor().named("table");
    registry.register_primitive(LOOKUP, &[x(), table], &[("output", TypeName::Scalar.tensor())], load_lookup);
    for (id, kind) in [
        (QUANTIZE, TypeId::of::<QuantizeLinearU8>()),
        (QUANTIZE, TypeId::of::<QuantizeLinearI8>()),
        (LOOKUP, TypeId::of::<LookupTable>()),
    ] {
        registry.register_element_wise(id, kind, Box::new(dump_function), vec![], no_loader);
    }
}

/// Functions are read by the primitives of the same names, which come first.
fn no_loader(_builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    bail!("{} is read as a primitive", invocation.invocation.id.0)
}

fn dump_dequantize(
    ast: &mut IntoAst,
    node: &TypedNode,
    op: &DequantizeLinearF32,
) -> TractResult<Option<Arc<RValue>>> {
    let x = ast.mapping[&node.inputs[0]].clone();
    let steps = [("scale", numeric(op.scale)), ("zero", numeric(op.zero_point))];
    Ok(Some(invocation(DEQUANTIZE, &[x], &steps)))
}

fn dump_function(ast: &mut IntoAst, node: &TypedNode) -> TractResult<Option<Arc<RValue>>> {
    rule_if_some!(op = node.op_as::<ElementWiseOp>());
    let x = ast.mapping[&node.inputs[0]].clone();
    let quantize = |scale: f32, zero: i32, signed| {
        let steps = [("scale", numeric(scale)), ("zero", numeric(zero)), ("signed", logical(signed))];
        Ok(Some(invocation(QUANTIZE, std::slice::from_ref(&x), &steps)))
    };
    if let Some(op) = op.0.downcast_ref::<QuantizeLinearU8>() {
        return quantize(op.scale, i32::from(op.zero_point), false);
    }
    if let Some(op) = op.0.downcast_ref::<QuantizeLinearI8>() {
        return quantize(op.scale, i32::from(op.zero_point), true);
    }
    rule_if_some!(op = op.0.downcast_ref::<LookupTable>());
    let table = tensor1(op.table.table()).into_arc_tensor();
    let table = ast.konst_variable(format!("{}.table", node.name), &table)?;
    Ok(Some(invocation(LOOKUP, &[x.clone(), table], &[])))
}

fn load_dequantize(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let x = invocation.named_arg_as(builder, "input")?;
    let (scale, zero): (f32, i64) =
        (invocation.named_arg_as(builder, "scale")?, invocation.named_arg_as(builder, "zero")?);
    let zero = i32::try_from(zero).with_context(|| format!("{DEQUANTIZE}: a zero point of {zero}"))?;
    builder.wire(DequantizeLinearF32::new(scale, zero), &[x])
}

fn load_quantize(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let x = invocation.named_arg_as(builder, "input")?;
    let scale = invocation.named_arg_as(builder, "scale")?;
    let zero: i64 = invocation.named_arg_as(builder, "zero")?;
    let what = || format!("{QUANTIZE}: a zero point of {zero}");
    let op = match invocation.named_arg_as(builder, "signed")? {
        true => quantize_linear_i8(scale, i8::try_from(zero).with_context(what)?),
        false => quantize_linear_u8(scale, u8::try_from(zero).with_context(what)?),
    };
    builder.wire(op, &[x])
}

fn load_lookup(builder: &mut ModelBuilder, invocation: &ResolvedInvocation) -> TractResult<Value> {
    let x = invocation.named_arg_as(builder, "input")?;
    let table: Arc<Tensor> = invocation.named_arg_as(builder, "table")?;
    let table = table.try_as_plain_ram()?;
    let table = table.as_slice::<u8>()?;
    ensure!(table.len() == 256, "{LOOKUP}: a table of {} bytes", table.len());
    builder.wire(lookup_table(tract_linalg::routines::lut_u8(table)?), &[x])
}
