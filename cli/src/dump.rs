//! `dump`: tract's own listing, of the sparse model.

use crate::args::{Dump, Options, Pass};
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::out;
use anyhow::Result;
use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tract_core::internal::*;
use tract_libcli::annotations::Annotations;
use tract_libcli::display_params::DisplayParams;
use tract_libcli::export::GraphPerfInfo;
use tract_libcli::model::Model;
use tract_libcli::profile::{BenchLimits, extract_costs, profile};
use tract_libcli::tensor::RunTensors;
use tract_libcli::terminal;

/// Set for the copy of this process whose coloured output is being made plain.
const PLAIN: &str = "TRACT_SPARSE_PLAIN_DUMP";

/// Prints the nodes of the model.
pub(crate) fn run(source: &Source, args: &Dump, options: &Options) -> Result<()> {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if !colours && !options.json && std::env::var_os(PLAIN).is_none() {
        return plain();
    }
    let model = Arc::new(source.load(Flavour::Sparse, options, Pass::Declutter)?);
    let view: &dyn Model = &*model;
    let mut annotations = Annotations::from_model(view)?;
    if args.cost || args.profile || args.summary {
        extract_costs(&mut annotations, view, &SymbolValues::default())?;
    }
    if args.profile {
        let progress = out::Progress::new();
        progress.say("profiling");
        let plan = TypedRunnableModel::new(model.clone())?;
        let runnable: Arc<dyn Runnable> = Arc::new(plan);
        let limits = BenchLimits {
            warmup_loops: args.limits.warmup_loops,
            warmup_time: Duration::from_millis(args.limits.warmup_time),
            max_loops: args.limits.max_loops.max(1),
            max_time: Duration::from_millis(args.limits.max_time.unwrap_or(5000).max(1)),
        };
        let sources = vec![inputs(&model, &args.input)?];
        let inputs = RunTensors { sources, streaming_input_len: None };
        profile(&runnable, &limits, &mut annotations, &inputs, None, false)?;
    }
    if options.json {
        return out::json(&GraphPerfInfo::from(view, &annotations));
    }
    let params = DisplayParams {
        konst: args.konst,
        cost: args.cost,
        profile: args.profile,
        info: args.info,
        summary: args.summary,
        node_name: args.node_name.clone(),
        op_name: args.op_name.clone(),
        left_column_width: 0,
        ..DisplayParams::default()
    };
    if args.summary {
        terminal::render_summary(view, &annotations)?;
    } else {
        terminal::render(view, &annotations, &params)?;
        terminal::render_summaries(view, &annotations, &params)?;
    }
    Ok(())
}

/// tract's listing knows no output without colours: runs this command line once more, and prints what it prints without
/// them.
fn plain() -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(PLAIN, "1")
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("{}", error.trim().trim_start_matches("error: "));
    }
    out::print(&without_colours(&String::from_utf8_lossy(&output.stdout)))
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
