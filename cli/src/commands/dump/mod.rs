//! `dump`: tract's own listing, of the sparse model.

mod colours;
mod nnef;

use crate::assertions::{self, Assertions};
use crate::errors::Differs;
use crate::inputs::{Input, inputs};
use crate::limits::{Limits, MAX_TIME};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use anyhow::{Context, Result, ensure};
use clap::Args;
use figures::{Progress, keep_freed_memory};
use nnef::Nnef;
use std::collections::BTreeMap;
use std::sync::Arc;
use tract_core::internal::*;
use tract_libcli::annotations::{Annotations, NodeTags};
use tract_libcli::display_params::{DisplayParams, Io};
use tract_libcli::export::{GraphPerfInfo, audit_json};
use tract_libcli::model::Model;
use tract_libcli::profile::{extract_costs, profile};
use tract_libcli::tensor::RunTensors;
use tract_libcli::terminal;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse m.onnx -O dump --profile --cost
  tract-sparse m.onnx dump --info --op-name Sparse
  tract-sparse m.onnx dump --quiet --nnef-tar m.nnef.tar

FMA(F32) counts multiplications by weights that are not zero, so F/s are real
ones; DenseFMA is what the same layer would count if it were dense.";

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// Time every node
    #[arg(long)]
    profile: bool,
    /// Count multiplications, nonzero ones for sparse layers
    #[arg(long)]
    cost: bool,
    /// Show what the operators say about themselves
    #[arg(long)]
    info: bool,
    /// Show constants too
    #[arg(long = "const")]
    konst: bool,
    /// Show inputs, outputs and counts of operators only
    #[arg(short, long)]
    summary: bool,
    /// Print the whole graph as JSON, as tract does
    #[arg(long)]
    audit_json: bool,
    /// Print no nodes
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    nnef: Nnef,
    #[command(flatten)]
    assertions: Assertions,
    /// Fail unless this is the cost: "FMA(F32)=2060448 Div(F32)=24576"
    #[arg(long, value_name = "COST", requires = "cost")]
    assert_cost: Option<String>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    pub(super) input: Input,
}

/// Which nodes, in which order, and what of them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
struct Nodes {
    /// Only nodes whose name begins so
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Only nodes whose operator begins so
    #[arg(long, value_name = "OP")]
    op_name: Option<String>,
    /// Only this node
    #[arg(long, value_name = "ID")]
    node_id: Vec<usize>,
    /// By number, not in the order of evaluation
    #[arg(long)]
    natural_order: bool,
    /// In the order that needs least memory
    #[arg(long)]
    opt_ram_order: bool,
    /// Inputs and outputs in full
    #[arg(long, conflicts_with = "io_none")]
    io_long: bool,
    /// No inputs and outputs
    #[arg(long)]
    io_none: bool,
    /// Labels of the outputs of nodes
    #[arg(long)]
    outlet_labels: bool,
    /// Memory between the nodes
    #[arg(long)]
    tmp_mem_usage: bool,
    /// Where axes come from
    #[arg(long)]
    axes: bool,
    /// Which axes operators leave alone
    #[arg(long)]
    invariants: bool,
    /// Operators in Rust's debug form
    #[arg(long)]
    debug_op: bool,
    /// Not what is inside of loops
    #[arg(long)]
    folded: bool,
}

/// Prints the nodes of the model.
pub(super) fn run(source: &Source, args: &Dump, options: &Options) -> Result<()> {
    let listing = !options.json && !args.audit_json;
    if listing && colours::unwanted() {
        return colours::without();
    }
    let stage = options.stage(Pass::BeforeOptimize);
    if stage < Pass::Type {
        return untyped(source, args, options, stage);
    }
    let progress = Progress::new();
    progress.say(&format!("{source}: loading"));
    let model = Arc::new(source.load(Flavour::Sparse, options, stage)?);
    let view: &dyn Model = &*model;
    let mut annotations = Annotations::from_model(view)?;
    if args.cost || args.profile || args.summary || args.audit_json {
        extract_costs(&mut annotations, view, &SymbolValues::default())?;
    }
    if args.profile && !args.summary {
        progress.say(&format!("{source}: profiling"));
        let plan = TypedRunnableModel::new(model.clone())?;
        let runnable: Arc<dyn Runnable> = Arc::new(plan);
        let sources = vec![inputs(&model, &args.input)?];
        let inputs = RunTensors { sources, streaming_input_len: None };
        let limits = args.limits.bench(MAX_TIME);
        ensure!(limits.max_loops > 0, "--max-loops 0 measures nothing");
        keep_freed_memory();
        profile(&runnable, &limits, &mut annotations, &inputs, None, args.nodes.folded)?;
    }
    if args.nodes.axes {
        annotations.track_axes(view, &HashMap::new())?;
    }
    if args.nodes.tmp_mem_usage {
        annotations.track_tmp_memory_usage(view, |n| !n.op_is::<tract_core::ops::konst::Const>(), true)?;
    }
    let unfolded = || {
        let asked = options.pass.is_some() || options.optimize || !options.transform.is_empty();
        let options = Options { pass: Some(Pass::Type), ..options.clone() };
        (!asked).then(|| source.load(Flavour::Stock, &options, Pass::Type)).transpose()
    };
    nnef::write(&model, unfolded, &args.nnef)?;
    drop(progress);
    if options.json {
        out::json(&GraphPerfInfo::from(view, &annotations))?;
    } else {
        show(view, &annotations, args)?;
    }
    if let Some(spec) = &args.assert_cost {
        check_cost(source, &annotations, spec)?;
    }
    assertions::check(source, &model, &args.assertions)
}

/// A model at a stage where not every type is known.
fn untyped(source: &Source, args: &Dump, options: &Options, stage: Pass) -> Result<()> {
    let needs_types =
        args.profile || args.cost || args.summary || args.nodes.axes || args.nodes.tmp_mem_usage;
    ensure!(
        !needs_types && !args.nnef.wanted() && !args.assertions.wanted(),
        "--pass {stage}: the model has no types there; only its nodes can be shown"
    );
    let model = source.inference(Flavour::Sparse, options, stage)?;
    let annotations = Annotations::from_model(&model)?;
    if options.json {
        return out::json(&GraphPerfInfo::from(&model, &annotations));
    }
    show(&model, &annotations, args)
}

fn show(view: &dyn Model, annotations: &Annotations, args: &Dump) -> Result<()> {
    if args.audit_json {
        let mut text = vec![];
        audit_json(view, annotations, &mut text)?;
        text.push(b'\n');
        return out::print(std::str::from_utf8(&text)?);
    }
    if args.summary {
        return terminal::render_summary(view, annotations);
    }
    let params = display(args);
    terminal::render(view, annotations, &params)?;
    terminal::render_summaries(view, annotations, &params)
}

fn display(args: &Dump) -> DisplayParams {
    let Nodes { node_name, op_name, .. } = &args.nodes;
    let ids = || args.nodes.node_id.iter().map(|id| tvec!((*id, String::new()))).collect();
    DisplayParams {
        konst: args.konst,
        cost: args.cost,
        profile: args.profile,
        info: args.info,
        quiet: args.quiet,
        node_ids: (!args.nodes.node_id.is_empty()).then(ids),
        node_name: node_name.clone(),
        op_name: op_name.clone(),
        natural_order: args.nodes.natural_order,
        opt_ram_order: args.nodes.opt_ram_order,
        io: match (args.nodes.io_long, args.nodes.io_none) {
            (true, _) => Io::Long,
            (_, true) => Io::None,
            _ => Io::Short,
        },
        outlet_labels: args.nodes.outlet_labels,
        tmp_mem_usage: args.nodes.tmp_mem_usage,
        invariants: args.nodes.invariants,
        debug_op: args.nodes.debug_op,
        folded: args.nodes.folded,
        ..DisplayParams::default()
    }
}

/// Fails with [`Differs`] unless the whole model costs what `spec` says. What the layers would cost if they
/// were dense need not be said.
fn check_cost(source: &Source, annotations: &Annotations, spec: &str) -> Result<()> {
    let wanted: BTreeMap<&str, usize> = spec
        .split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (kind, count) = part.split_once('=')?;
            Some((kind, count.parse().ok()?))
        })
        .collect::<Option<_>>()
        .with_context(|| format!("--assert-cost {spec}: expected KIND=NUMBER, such as FMA(F32)=2060448"))?;
    let total = annotations.tags.values().sum::<NodeTags>();
    let got: BTreeMap<String, &TDim> =
        total.cost.iter().map(|(kind, count)| (format!("{kind:?}"), count)).collect();
    let unsaid = got.keys().find(|kind| *kind != "DenseFMA" && !wanted.contains_key(kind.as_str()));
    let wrong = wanted.iter().find(|(kind, count)| got.get(**kind) != Some(&&count.to_dim()));
    if unsaid.is_some() || wrong.is_some() {
        let got: Vec<String> = got.iter().map(|(kind, count)| format!("{kind}={count}")).collect();
        return Err(Differs(format!("{source}: costs {}, not {spec}", got.join(" "))).into());
    }
    Ok(())
}
