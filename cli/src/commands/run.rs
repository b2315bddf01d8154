//! `run`: one run of the sparse model.

use crate::assertions::{self, Assertions};
use crate::errors::Differs;
use crate::files;
use crate::inputs::{Input, inputs};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::outputs::{Approx, entry};
use crate::table::{Table, by};
use crate::tensors::{Npz, save_npz};
use crate::test_data;
use anyhow::Result;
use clap::{Args, ValueHint};
use figures::Progress;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_core::internal::*;
use tract_sparse::output_names;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse m.onnx run --input x.npy --save-outputs y.npz
  tract-sparse m.onnx run --input x.npy --assert-output-bundle y.npz
  tract-sparse m.onnx --precision half run --input x.npy --save-outputs y.npz";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(super) input: Input,
    /// .npz file for the outputs
    #[arg(long, value_name = "FILE", alias = "save-outputs-npz", value_hint = ValueHint::FilePath)]
    save_outputs: Option<PathBuf>,
    /// .npz file for the values of all nodes
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    save_steps: Option<PathBuf>,
    /// Show the values of the outputs
    #[arg(long)]
    dump: bool,
    /// Show what every node gives, on stderr
    #[arg(long)]
    steps: bool,
    /// Fail at the first node that gives a NaN or an infinity
    #[arg(long)]
    assert_sane_floats: bool,
    /// Fail unless the outputs are those of this .npz file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    assert_output_bundle: Option<PathBuf>,
    /// exact, close, approximate, very, super, ultra
    #[arg(long, value_name = "HOW", default_value = "approximate", hide_possible_values = true)]
    approx: Approx,
    /// Fail unless the model has that many outputs
    #[arg(long, value_name = "N")]
    assert_output_count: Option<usize>,
    #[command(flatten)]
    assertions: Assertions,
}

/// Runs the model and prints a line for each output, or saves them.
pub(super) fn run(source: &Source, args: &Run, options: &Options) -> Result<()> {
    files::distinct(&[("--save-outputs", &args.save_outputs), ("--save-steps", &args.save_steps)])?;
    args.assert_output_bundle.iter().for_each(|path| files::protect(path));
    let progress = Progress::new();
    progress.say(&format!("{source}: loading"));
    let plan = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let model = plan.model();
    let names = output_names(model)?;
    let inputs = inputs(model, &args.input)?;
    progress.say(&format!("{source}: running"));
    let mut steps: Vec<(String, Tensor)> = vec![];
    let values = if args.steps || args.save_steps.is_some() || args.assert_sane_floats {
        step_by_step(&plan, inputs, args, &mut steps)?
    } else {
        plan.run(inputs)?
    };
    drop(progress);
    if let Some(path) = &args.save_outputs {
        save_npz(path, names.iter().map(String::as_str).zip(values.iter().map(|value| &**value)))?;
    }
    if let Some(path) = &args.save_steps {
        save_npz(path, steps.iter().map(|(name, value)| (name.as_str(), value)))?;
    }
    print(source, options, args, &names, &values)?;
    if let Some(count) = args.assert_output_count
        && count != values.len()
    {
        return Err(Differs(format!("{source}: {count} output(s) wanted, there are {}", values.len())).into());
    }
    if let Some(path) = &args.assert_output_bundle {
        check_bundle(source, path, args.approx, model, &values)?;
    }
    if let Source::File(path) = source {
        test_data::check(path, options, args.approx, &values)?;
    }
    assertions::check(source, model, &args.assertions)
}

/// Runs the plan, says what every node gives, and keeps it if it is to be saved.
fn step_by_step(
    plan: &Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    args: &Run,
    steps: &mut Vec<(String, Tensor)>,
) -> Result<TVec<TValue>> {
    let mut state = plan.spawn()?;
    let outputs = state.run_plan_with_eval(inputs, |turn, node_state, node, input| {
        let values = tract_core::plan::eval(turn, node_state, node, input)?;
        for (slot, value) in values.iter().enumerate() {
            if args.steps {
                eprintln!("{node} >> {value:?}");
            }
            // packed tensors can be read by the operator behind them only
            if !value.is_plain_ram() {
                continue;
            }
            if args.assert_sane_floats && value.datum_type().is_float() {
                let floats = value.cast_to::<f64>()?;
                let view = floats.to_plain_array_view::<f64>()?;
                if let Some(bad) = view.iter().find(|v| !v.is_finite()) {
                    return Err(Differs(format!("{node} gives {bad}")).into());
                }
            }
            if args.save_steps.is_some() && value.datum_type().is_number() {
                let name = if slot == 0 { node.name.clone() } else { format!("{}:{slot}", node.name) };
                // the name that ONNX has for it, which the node may have lost
                let label = plan.model().outlet_label(OutletId::new(node.id, slot));
                let labels = label.filter(|label| *label != name).map(String::from);
                for name in labels.into_iter().chain([name]) {
                    steps.push((name, value.clone().into_tensor()));
                }
            }
        }
        TractResult::Ok(values)
    })?;
    Ok(outputs)
}

fn print(
    source: &Source,
    options: &Options,
    args: &Run,
    names: &[String],
    outputs: &TVec<TValue>,
) -> Result<()> {
    let mut table = Table::new(&["<output", "<shape", "min", "max", "mean", "largest at"]);
    let mut values = vec![];
    for (name, output) in names.iter().zip(outputs) {
        let floats = output.cast_to::<f64>()?;
        let floats: Vec<f64> = floats.to_plain_array_view::<f64>()?.iter().copied().collect();
        let min = floats.iter().copied().fold(f64::INFINITY, f64::min);
        let max = floats.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = floats.iter().sum::<f64>() / floats.len().max(1) as f64;
        let at = floats.iter().position(|v| *v == max);
        values.push(serde_json::json!({
            "name": name, "shape": output.shape(), "min": min, "max": max, "mean": mean, "largest_at": at,
        }));
        let number = |v: f64| if floats.is_empty() { "-".to_string() } else { format!("{v:.4}") };
        table.row(vec![
            name.clone(),
            by(output.shape()),
            number(min),
            number(max),
            number(mean),
            at.map_or_else(String::new, |at| at.to_string()),
        ]);
    }
    if options.json {
        return out::json(&serde_json::json!({ "model": source.to_string(), "outputs": values }));
    }
    out::print(&table.text())?;
    if args.dump {
        for (position, output) in outputs.iter().enumerate() {
            out::print(&format!("output #{position}\n{}\n", output.dump(true)?))?;
        }
    }
    Ok(())
}

/// Fails with [`Differs`] unless every output is near the array of its name in the file.
fn check_bundle(
    source: &Source,
    path: &Path,
    approx: Approx,
    model: &TypedModel,
    values: &TVec<TValue>,
) -> Result<()> {
    let mut file = Npz::open(path)?;
    let names = file.names();
    for ((outlet, output), name) in model.output_outlets()?.iter().zip(values).zip(output_names(model)?) {
        let name = entry(model, *outlet, &names).unwrap_or(&name);
        let wanted = file.of_type(name, output.datum_type())?;
        wanted.close_enough(output, Approximation::from(approx)).map_err(|e| {
            Differs(format!("{source}: output {name:?} is not that of {}: {e}", path.display()))
        })?;
    }
    Ok(())
}
