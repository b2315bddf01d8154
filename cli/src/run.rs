//! `run`: one run of the sparse model.

use crate::args::{Approx, Options, Pass, Run};
use crate::assertions;
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::npz::{self, Npz};
use crate::out::{self, Differs};
use crate::table::{Table, by};
use crate::test_data;
use anyhow::Result;
use figures::Progress;
use std::path::Path;
use std::sync::Arc;
use tract_core::internal::*;

/// Names of the outputs, as ONNX has them.
pub(crate) fn output_names(model: &TypedModel) -> Result<Vec<String>> {
    Ok(model
        .output_outlets()?
        .iter()
        .map(|o| model.outlet_label(*o).unwrap_or(&model.node(o.node).name).to_string())
        .collect())
}

impl From<Approx> for Approximation {
    fn from(approx: Approx) -> Approximation {
        match approx {
            Approx::Exact => Approximation::Exact,
            Approx::Close => Approximation::Close,
            Approx::Approximate => Approximation::Approximate,
            Approx::Very => Approximation::VeryApproximate,
            Approx::Super => Approximation::SuperApproximate,
            Approx::Ultra => Approximation::UltraApproximate,
        }
    }
}

/// Where the array of an output stands in a file: under its name, or under that of the node that gives it.
pub(crate) fn entry<'a>(model: &'a TypedModel, outlet: OutletId, names: &[String]) -> Option<&'a str> {
    let node = &model.node(outlet.node).name;
    let labels = model.outlet_label(outlet).into_iter().chain([node.as_str()]);
    labels.into_iter().find(|label| names.iter().any(|name| name == label))
}

/// Runs the model and prints a line for each output, or saves them.
pub(crate) fn run(source: &Source, args: &Run, options: &Options) -> Result<()> {
    let progress = Progress::new();
    progress.say(&format!("{source}: loading"));
    let plan = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let model = plan.model();
    let names = output_names(model)?;
    let inputs = inputs(model, &args.input)?;
    progress.say(&format!("{source}: running"));
    let mut steps: Vec<(String, Tensor)> = vec![];
    let outputs = if args.steps || args.save_steps.is_some() || args.assert_sane_floats {
        step_by_step(&plan, inputs, args, &mut steps)?
    } else {
        plan.run(inputs)?
    };
    drop(progress);
    if let Some(path) = &args.save_outputs {
        npz::save(path, names.iter().map(String::as_str).zip(outputs.iter().map(|value| &**value)))?;
    }
    if let Some(path) = &args.save_steps {
        npz::save(path, steps.iter().map(|(name, value)| (name.as_str(), value)))?;
    }
    print(source, options, args, &names, &outputs)?;
    if let Some(count) = args.assert_output_count
        && count != outputs.len()
    {
        return Err(
            Differs(format!("{source}: {count} output(s) wanted, there are {}", outputs.len())).into()
        );
    }
    if let Some(path) = &args.assert_output_bundle {
        check_bundle(source, path, args.approx, model, &outputs)?;
    }
    if let Source::File(path) = source {
        test_data::check(path, options, args.approx, &outputs)?;
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
    outputs: &TVec<TValue>,
) -> Result<()> {
    let mut file = Npz::open(path)?;
    let names = file.names();
    for ((outlet, output), name) in model.output_outlets()?.iter().zip(outputs).zip(output_names(model)?) {
        let name = entry(model, *outlet, &names).unwrap_or(&name);
        let wanted = file.of_type(name, output.datum_type())?;
        wanted.close_enough(output, Approximation::from(approx)).map_err(|e| {
            Differs(format!("{source}: output {name:?} is not that of {}: {e}", path.display()))
        })?;
    }
    Ok(())
}
