//! NNEF with the extension `tract_sparse`: the graph is the stock one, weights with enough zeros are stored
//! compactly.
//!
//! ```text
//! extension tract_registry tract_sparse;
//! ...
//! w_compact = variable<scalar>(label = "w.compact", shape = [18052]);
//! w = tract_sparse_blocks(w_compact, shape = [128, 64, 1, 1], group = [4, 4], taps = 1);
//! y = conv(x, w, bias, ...);
//! ```
//!
//! Values that are stored as bf16, f16 or i8 (see [`compact`](crate::compact)) say so in a last argument, `values = "bf16"`.
//! A reader without the extension refuses the file by that name. When it is read the weights become dense
//! again: layers are made sparse afterwards, for the machine that reads.

use crate::compact::{Grouping, Scheme, Values, decode, encode};
use crate::nnef_quantised;
use crate::{
    OptSparseChain, OptSparseConv, OptSparseGru, OptSparseIf, SparseConv, SparseDeconv, SparseGruSeq,
    SparseIf, SparseMatMul,
};
use tract_core::ops::konst::Const;
use tract_core::ops::scan::{InputMapping, Scan};
use tract_core::ops::source::TypedSource;
use tract_nnef::ast::Literal;
use tract_nnef::internal::*;
use tract_nnef::ser::ints;

/// Name of the extension.
pub const REGISTRY: &str = "tract_sparse";

/// What a file must save by one tensor to make up for the longer text of the graph.
const LEAST_GAIN: usize = 512;

/// The extension, which writes weights compactly or as they are. It must come before tract's own registries to see
/// constants first: see [`enable`].
fn registry(compact: bool) -> Registry {
    let mut registry = Registry::new(REGISTRY)
        .with_doc("Weights without their zeros: a bitmap of blocks or the numbers of patterns, and values.");
    for grouping in [Grouping::Blocks, Grouping::Patterns] {
        let load: ToTract = match grouping {
            Grouping::Blocks => |builder, invocation| load(builder, invocation, Grouping::Blocks),
            Grouping::Patterns => |builder, invocation| load(builder, invocation, Grouping::Patterns),
        };
        registry.register_primitive(
            primitive(grouping),
            &[
                TypeName::Scalar.tensor().named("data"),
                TypeName::Integer.array().named("shape"),
                TypeName::Integer.array().named("group"),
                TypeName::Integer.named("taps"),
                TypeName::String.named("values").default(Literal::String(Values::F32.name().into())),
            ],
            &[("output", TypeName::Scalar.tensor())],
            load,
        );
    }
    nnef_quantised::register(&mut registry);
    if compact {
        registry.register_dumper(dump_const);
        registry.register_dumper(dump_scan);
    }
    registry.register_dumper::<SparseConv>(|_, node, _| refuse(node));
    registry.register_dumper::<SparseDeconv>(|_, node, _| refuse(node));
    registry.register_dumper::<SparseMatMul>(|_, node, _| refuse(node));
    registry.register_dumper::<OptSparseConv>(|_, node, _| refuse_optimised(node));
    registry.register_dumper::<OptSparseChain>(|_, node, _| refuse_optimised(node));
    registry.register_dumper::<SparseGruSeq>(|_, node, _| refuse(node));
    registry.register_dumper::<OptSparseGru>(|_, node, _| refuse_optimised(node));
    registry.register_dumper::<SparseIf>(|_, node, _| refuse(node));
    registry.register_dumper::<OptSparseIf>(|_, node, _| refuse_optimised(node));
    registry
}

/// Teaches a reader and writer the extension. Calling it twice is harmless.
pub fn enable(nnef: &mut Nnef) {
    if nnef.registries.iter().all(|registry| registry.id.0 != REGISTRY) {
        nnef.registries.insert(0, registry(true));
    }
}

/// As [`enable`], but weights are written as they are, whatever was enabled before.
pub fn enable_plain(nnef: &mut Nnef) {
    nnef.registries.retain(|registry| registry.id.0 != REGISTRY);
    nnef.registries.insert(0, registry(false));
}

fn primitive(grouping: Grouping) -> &'static str {
    match grouping {
        Grouping::Blocks => "tract_sparse_blocks",
        Grouping::Patterns => "tract_sparse_patterns",
    }
}

fn dump_const(ast: &mut IntoAst, node: &TypedNode, op: &Const) -> TractResult<Option<Arc<RValue>>> {
    compact(ast, &node.name, op.val())
}

/// Compact weights, if that saves anything.
fn compact(ast: &mut IntoAst, name: &str, value: &Arc<Tensor>) -> TractResult<Option<Arc<RValue>>> {
    rule_if_some!((scheme, bytes) = encode(value)?);
    rule_if!(bytes.len() + LEAST_GAIN < value.len() * value.datum_type().size_of());
    let data = ast.konst_variable(format!("{name}.compact"), &tensor1(&bytes).into_arc_tensor())?;
    let mut arguments =
        vec![("shape", ints(value.shape())), ("group", ints(&scheme.group)), ("taps", numeric(scheme.taps))];
    // files of f32 are what they have always been
    if scheme.values != Values::F32 {
        arguments.push(("values", string(scheme.values.name())));
    }
    Ok(Some(invocation(primitive(scheme.grouping), &[data], &arguments)))
}

/// Weights of a loop become inputs of its body, so that they can be stored compactly outside; the rest is
/// stock.
fn dump_scan(ast: &mut IntoAst, node: &TypedNode, op: &Scan) -> TractResult<Option<Arc<RValue>>> {
    let (mut node, mut op) = (node.clone(), op.clone());
    let mut moved = 0;
    for id in 0..op.body.nodes().len() {
        let inner = op.body.node(id);
        let Some(konst) = inner.op_as::<Const>().map(|konst| konst.val().clone()) else { continue };
        if op.body.output_outlets()?.contains(&id.into()) {
            continue;
        }
        let name = format!("{}.{}", node.name, inner.name);
        let Some(weights) = compact(ast, &name, &konst)? else { continue };
        let weights = ast.force_variable(&name, &weights);
        // a wire that no node of the model around makes
        let wire = OutletId::new(usize::MAX - moved, 0);
        ast.mapping.insert(wire, weights);
        node.inputs.push(wire);
        let fact = TypedFact::try_from(konst)?.without_value();
        op.body.nodes_mut()[id].op = Box::new(TypedSource::new(fact.clone()));
        op.body.set_outlet_fact(id.into(), fact)?;
        let mut inputs = op.body.input_outlets()?.to_vec();
        inputs.push(id.into());
        op.body.set_input_outlets(&inputs)?;
        op.input_mapping.push(InputMapping::Full);
        moved += 1;
    }
    rule_if!(moved > 0);
    node.op = Box::new(op);
    let framework = ast.framework;
    for registry in &framework.registries {
        if let Some(value) = registry.serialize(ast, &node)? {
            if !ast.registries.contains(&registry.id) {
                ast.registries.push(registry.id.clone());
            }
            return Ok(Some(value));
        }
    }
    bail!("no registry of the framework writes loops")
}

fn refuse(node: &TypedNode) -> TractResult<Option<Arc<RValue>>> {
    bail!("{node} is a sparse layer: files hold stock ones, see the transform unsparsify")
}

fn refuse_optimised(node: &TypedNode) -> TractResult<Option<Arc<RValue>>> {
    bail!("{node} is a sparse layer of an optimised model: write the model before it is optimised")
}

fn load(
    builder: &mut ModelBuilder,
    invocation: &ResolvedInvocation,
    grouping: Grouping,
) -> TractResult<Value> {
    let data: Arc<Tensor> = invocation.named_arg_as(builder, "data")?;
    let shape: TVec<usize> = invocation.named_arg_as(builder, "shape")?;
    let group: TVec<usize> = invocation.named_arg_as(builder, "group")?;
    let [r, c] = *group else { bail!("a group of {group:?}") };
    let values: String = invocation.named_arg_as(builder, "values")?;
    let (taps, values) = (invocation.named_arg_as(builder, "taps")?, Values::named(&values)?);
    let scheme = Scheme { grouping, group: [r, c], taps, values };
    let bytes = data.try_as_plain_ram()?;
    let tensor = decode(&shape, &scheme, bytes.as_slice::<u8>()?)
        .with_context(|| format!("compact weights of shape {shape:?}"))?;
    builder.wire(Const::new(tensor.into_arc_tensor())?, &[])
}
