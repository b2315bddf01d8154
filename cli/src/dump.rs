//! `dump`: tract's own listing, of the sparse model.

use crate::args::{Dump, Options, Pass};
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::out;
use anyhow::Result;
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

/// Prints the nodes of the model.
pub(crate) fn run(source: &Source, args: &Dump, options: &Options) -> Result<()> {
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
            max_time: Duration::from_millis(args.limits.max_time.max(1)),
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
