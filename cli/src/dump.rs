//! `dump`: tract's own listing, of the sparse model.

use crate::args::{Dump, Nodes, Options, Pass};
use crate::assertions;
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::nnef;
use crate::out::{self, Differs, Told};
use anyhow::{Context, Result, ensure};
use figures::{Progress, keep_freed_memory};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tract_core::internal::*;
use tract_libcli::annotations::{Annotations, NodeTags};
use tract_libcli::display_params::{DisplayParams, Io};
use tract_libcli::export::{GraphPerfInfo, audit_json};
use tract_libcli::model::Model;
use tract_libcli::profile::{extract_costs, profile};
use tract_libcli::tensor::RunTensors;
use tract_libcli::terminal;

/// Set for the copy of this process whose coloured output is being made plain.
const PLAIN: &str = "TRACT_SPARSE_PLAIN_DUMP";

/// Prints the nodes of the model.
pub(crate) fn run(source: &Source, args: &Dump, options: &Options) -> Result<()> {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let listing = !options.json && !args.audit_json;
    if !colours && listing && std::env::var_os(PLAIN).is_none() {
        return plain();
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
        let limits = args.limits.bench(crate::bench::MAX_TIME);
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

/// Fails with [`Differs`] unless the whole model costs what `spec` says. What the layers would cost if they were dense need
/// not be said.
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

/// tract's listing knows no output without colours: runs this command line once more, and prints what it prints without
/// them. What the copy says on stderr goes there at once.
fn plain() -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(PLAIN, "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    out::print(&without_colours(&String::from_utf8_lossy(&output.stdout)))?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Told(code as u8).into()),
        None => anyhow::bail!("{}", output.status),
    }
}

/// `text` without escape sequences of the form `ESC [ parameters letter`.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split("\x1b[");
    plain.extend(parts.next());
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_and_text_stays() {
        assert_eq!(without_colours("a\x1b[1;38;2;0;104;55m 0.0%\x1b[0m b[1] ┃"), "a 0.0% b[1] ┃");
        assert_eq!(without_colours(""), "");
        assert_eq!(without_colours("cut \x1b[1;3"), "cut ");
    }
}
