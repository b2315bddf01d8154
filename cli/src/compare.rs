//! `compare`: the sparse model and stock tract, or whatever else is asked for, on the same input.

use crate::args::{Compare, Options, Pass};
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::npz::Npz;
use crate::out::{self, Differs};
use crate::run::{entry, output_names};
use crate::table::{Table, by, names, wrap};
use anyhow::{Context, Result, ensure};
use figures::{Agreement, Progress};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tract_core::internal::*;
use tract_sparse::Report;

/// How one tensor compares.
#[derive(Debug, Clone, serde::Serialize)]
struct Difference {
    name: String,
    shape: Vec<usize>,
    max_abs_diff: f64,
    max_abs_stock: f64,
    /// Largest difference relative to its value and scale, as the tolerance is; null if it is infinite.
    relative: Option<f64>,
    agrees: bool,
    /// Nothing in the stock tensor is finite.
    #[serde(skip)]
    hollow: bool,
    /// Where stock and sparse differ: with which of them a plain run of the stock model agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_agrees_with: Option<&'static str>,
}

fn difference(name: &str, stock: &Tensor, sparse: &Tensor, tolerance: f64) -> Result<Difference> {
    let found = Agreement::of(stock, sparse, tolerance).with_context(|| name.to_string())?;
    Ok(Difference {
        name: name.into(),
        shape: stock.shape().to_vec(),
        max_abs_diff: found.max_abs_diff,
        max_abs_stock: found.max_abs_expected,
        relative: Some(found.relative).filter(|relative| relative.is_finite()),
        agrees: found.agrees,
        hollow: stock.datum_type().is_float() && stock.len() > 0 && !any_finite(stock)?,
        plain_agrees_with: None,
    })
}

fn any_finite(tensor: &Tensor) -> Result<bool> {
    let values = tensor.cast_to::<f64>()?;
    Ok(values.to_plain_array_view::<f64>()?.iter().any(|value| value.is_finite()))
}

/// Runs a plan and hands the first output of every node to `seen`, in order of evaluation. Packed tensors, which only the
/// operator behind them can read, are left out.
fn trace(
    plan: &Arc<TypedRunnableModel>,
    inputs: &TVec<TValue>,
    mut seen: impl FnMut(&TypedNode, &Tensor) -> Result<()>,
) -> Result<()> {
    let mut state = plan.spawn()?;
    state.run_plan_with_eval(inputs.clone(), |turn, node_state, node, input| {
        let outputs = tract_core::plan::eval(turn, node_state, node, input)?;
        if let Some(first) = outputs.first().filter(|value| value.is_plain_ram()) {
            seen(node, first)?;
        }
        TractResult::Ok(outputs)
    })?;
    Ok(())
}

/// A value as the network means it: floats, quantised numbers as what they stand for. Other integers mean different
/// things at different stages, codes of a quantised tensor for one, and are compared at the outputs alone.
fn meaning(value: &Tensor) -> Result<Option<Tensor>> {
    let dt = value.datum_type();
    if dt.is_float() {
        return Ok(Some(value.clone()));
    }
    dt.is_quantized().then(|| Ok(value.cast_to::<f32>()?.into_owned())).transpose()
}

/// Whether tensors of these shapes hold their elements in the same order: one is the other with axes split, merged,
/// added or removed. Moved axes give other products.
fn same_order(a: &[usize], b: &[usize]) -> bool {
    fn products(shape: &[usize]) -> Vec<usize> {
        let mut products = vec![1];
        shape.iter().for_each(|dim| products.push(products[products.len() - 1] * dim));
        products
    }
    let (a, b) = (products(a), products(b));
    a.last() == b.last() && (a.iter().all(|p| b.contains(p)) || b.iter().all(|p| a.contains(p)))
}

/// What every node of the sparse model is compared with: all values that are known by a name, and its outputs.
struct Reference {
    /// In words, as a column title.
    title: &'static str,
    outputs: Vec<Tensor>,
    nodes: HashMap<String, Vec<Tensor>>,
}

impl Reference {
    /// Adds the values of one run of `plan`.
    fn add(&mut self, plan: &Arc<TypedRunnableModel>, inputs: &TVec<TValue>) -> Result<()> {
        trace(plan, inputs, |node, value| {
            let known = self.nodes.entry(node.name.clone()).or_default();
            if let Some(value) = meaning(value)?
                && !known.contains(&value)
            {
                known.push(value);
            }
            Ok(())
        })
    }

    /// Stock tract. A name can stand for a value before or after something was folded into its operator: the stock model
    /// is asked at every stage.
    fn stock(source: &Source, options: &Options, inputs: &TVec<TValue>, nodes: bool) -> Result<Reference> {
        let load = |options: &Options| source.load(Flavour::Stock, options, Pass::Optimize)?.into_runnable();
        let outputs = tensors(load(options)?.run(inputs.clone())?);
        let mut reference = Reference { title: "max stock", outputs, nodes: HashMap::new() };
        if nodes {
            // before the transforms it may have other types
            let first = if options.transform.is_empty() { Pass::Type } else { Pass::BeforeOptimize };
            for pass in [Pass::Type, Pass::BeforeOptimize, Pass::Optimize] {
                if pass < first {
                    continue;
                }
                let options = Options { pass: Some(pass), optimize: false, ..options.clone() };
                reference.add(&load(&options)?, inputs)?;
            }
        }
        Ok(reference)
    }

    /// Another run of the sparse model, at this stage.
    fn own(source: &Source, options: &Options, inputs: &TVec<TValue>, stage: Pass) -> Result<Reference> {
        let options = Options { pass: Some(stage), optimize: false, ..options.clone() };
        let plan = source.load(Flavour::Sparse, &options, stage)?.into_runnable()?;
        let outputs = tensors(plan.run(inputs.clone())?);
        let mut reference = Reference { title: "max there", outputs, nodes: HashMap::new() };
        reference.add(&plan, inputs)?;
        Ok(reference)
    }

    /// The arrays of a file.
    fn file(path: &Path, model: &TypedModel) -> Result<Reference> {
        let mut nodes = HashMap::new();
        let mut file = Npz::open(path)?;
        let names = file.names();
        for name in &names {
            nodes.insert(name.clone(), vec![file.any(name)?]);
        }
        let outputs = model
            .output_outlets()?
            .iter()
            .zip(output_names(model)?)
            .map(|(outlet, name)| file.any(entry(model, *outlet, &names).unwrap_or(&name)))
            .collect::<Result<_>>()?;
        Ok(Reference { title: "max there", outputs, nodes })
    }

    /// Compares every node of the sparse model whose name is known, where tract has not moved its axes. Where no
    /// value of that name agrees one of another name may, since names move when operators are folded. A wrong value
    /// agrees with none.
    fn compare(
        &self,
        plan: &Arc<TypedRunnableModel>,
        inputs: &TVec<TValue>,
        tolerance: f64,
    ) -> Result<Vec<Difference>> {
        let mut differences = vec![];
        trace(plan, inputs, |node, value| {
            let Some(named) = self.nodes.get(&node.name) else { return Ok(()) };
            let Some(value) = meaning(value)? else { return Ok(()) };
            let others = self.nodes.values().filter(|values| !std::ptr::eq(*values, named));
            let mut best: Option<Difference> = None;
            for known in named.iter().chain(others.flatten()) {
                if !same_order(known.shape(), value.shape()) {
                    continue;
                }
                let value = value.clone().into_shape(known.shape())?;
                let difference = difference(&node.name, known, &value, tolerance)?;
                if best.as_ref().is_none_or(|best| difference.max_abs_diff < best.max_abs_diff) {
                    best = Some(difference);
                }
                if best.as_ref().is_some_and(|best| best.agrees) {
                    break;
                }
            }
            differences.extend(best);
            Ok(())
        })?;
        Ok(differences)
    }
}

fn tensors(values: TVec<TValue>) -> Vec<Tensor> {
    values.into_iter().map(TValue::into_tensor).collect()
}

/// Compares, prints, and fails with [`Differs`] if a tensor is beyond the tolerance.
pub(crate) fn run(source: &Source, args: &Compare, options: &Options) -> Result<()> {
    let tolerance = args.tolerance;
    ensure!(tolerance >= 0.0 && tolerance.is_finite(), "--tolerance {tolerance} is not a distance");
    if let Some(stage) = args.stage {
        ensure!(
            stage >= Pass::Type,
            "--stage {stage}: a model without types does not run; from {} on it does",
            Pass::Type
        );
    }
    let progress = Progress::new();
    progress.say(&format!("{source}: loading"));
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let report = Report::of(sparse.model())?;
    let inputs = inputs(sparse.model(), &args.input)?;
    let stage = options.stage(Pass::Optimize);
    progress.say(&format!("{source}: running"));
    let refer = |nodes: bool| match (args.stage, &args.npz) {
        (Some(stage), _) => Reference::own(source, options, &inputs, stage),
        (None, Some(path)) => Reference::file(path, sparse.model()),
        (None, None) if args.twice => Reference::own(source, options, &inputs, stage),
        (None, None) => Reference::stock(source, options, &inputs, nodes),
    };
    let mut reference = refer(args.cumulative)?;
    let got = sparse.run(inputs.clone())?;
    ensure!(
        got.len() == reference.outputs.len(),
        "{source}: {} output(s), the reference has {}",
        got.len(),
        reference.outputs.len()
    );
    let mut outputs = vec![];
    for ((name, expected), got) in output_names(sparse.model())?.iter().zip(&reference.outputs).zip(&got) {
        outputs.push(difference(name, expected, got, tolerance)?);
    }
    let with_stock = args.stage.is_none() && args.npz.is_none() && !args.twice;
    if with_stock && outputs.iter().any(|output| !output.agrees) {
        ask_plain(source, options, &inputs, tolerance, &reference.outputs, &got, &mut outputs)?;
    }
    let wrong = outputs.iter().find(|output| !output.agrees);
    let mut nodes = vec![];
    if wrong.is_some() || args.cumulative {
        progress.say(&format!("{source}: comparing nodes"));
        if !args.cumulative {
            reference = refer(true)?;
        }
        nodes = reference.compare(&sparse, &inputs, tolerance)?;
    }
    drop(progress);
    let side = wrong.and_then(|output| output.plain_agrees_with);
    let first = match wrong.filter(|output| output.plain_agrees_with == Some("sparse")) {
        // no node of the sparse model is to blame
        Some(output) => Some(output),
        None => nodes.iter().find(|node| !node.agrees).or(wrong),
    };
    if options.json {
        let mut value = serde_json::json!({
            "model": source.to_string(),
            "tolerance": tolerance,
            "target": report.target,
            "layers_sparse": report.sparse_layers(),
            "agrees": first.is_none(),
            "first_difference": first.map(|node| &node.name),
            "outputs": outputs,
        });
        if args.cumulative {
            value["nodes"] = serde_json::to_value(&nodes)?;
        }
        out::json(&value)?;
    } else {
        let mut table = Table::new(&["<node", "<shape", "max diff", reference.title, "<"]);
        for d in if args.cumulative { &nodes } else { &outputs } {
            table.row(vec![
                d.name.clone(),
                by(&d.shape),
                short(d.max_abs_diff),
                short(d.max_abs_stock),
                if d.agrees { "ok" } else { "differs" }.into(),
            ]);
        }
        out::print(&table.text())?;
    }
    match first {
        Some(node) => Err(Differs(format!("{source}: {}", blame(node, side, tolerance))).into()),
        None if options.json => Ok(()),
        None => {
            let mut text = format!(
                "agrees within {tolerance:e}; {} layer(s) sparse on {}\n",
                report.sparse_layers(),
                report.target
            );
            if report.sparse_layers() == 0 && with_stock {
                text += "stock tract was compared with itself, inspect says why\n";
            }
            let hollow: Vec<&str> = outputs.iter().filter(|o| o.hollow).map(|o| o.name.as_str()).collect();
            if !hollow.is_empty() {
                text +=
                    &wrap(&format!("no value is finite, which shows nothing: {}", names(&hollow, false)), 4);
            }
            out::print(&text)
        }
    }
}

/// Says of every output that differs which side a plain run of the stock model takes: the nodes of the file one by one,
/// before tract simplifies anything. After transforms, which change what is computed, there is no such run.
fn ask_plain(
    source: &Source,
    options: &Options,
    inputs: &TVec<TValue>,
    tolerance: f64,
    stock: &[Tensor],
    sparse: &[TValue],
    outputs: &mut [Difference],
) -> Result<()> {
    if !options.transform.is_empty() {
        return Ok(());
    }
    let options = Options { pass: Some(Pass::Type), optimize: false, ..options.clone() };
    let plan = source.load(Flavour::Stock, &options, Pass::Type)?.into_runnable()?;
    let plain = tensors(plan.run(inputs.clone())?);
    for (i, output) in outputs.iter_mut().enumerate().filter(|(_, output)| !output.agrees) {
        let agrees = |other: &Tensor| Agreement::of(&plain[i], other, tolerance).is_ok_and(|a| a.agrees);
        output.plain_agrees_with = Some(match (agrees(&stock[i]), agrees(&sparse[i])) {
            (true, false) => "stock",
            (false, true) => "sparse",
            (true, true) => "both",
            (false, false) => "neither",
        });
    }
    Ok(())
}

/// A difference in words, and which side a plain run takes.
fn blame(node: &Difference, side: Option<&str>, tolerance: f64) -> String {
    let Difference { name, max_abs_diff, max_abs_stock, .. } = node;
    let relative = node.relative.map_or_else(String::new, |relative| format!(", relative {relative:.1e}"));
    let by = format!(
        "differs by {max_abs_diff:.1e} where the values compared with reach {max_abs_stock:.1e}{relative}, \
         tolerance {tolerance:e}"
    );
    let plain = "a plain run of the file, nothing of it simplified by tract,";
    match side {
        Some("sparse") => {
            format!("output {name} {by}: {plain} agrees with the sparse model, so stock tract is wrong here")
        }
        Some(side) => format!("node {name} {by}; {plain} agrees with {side}"),
        None => format!("node {name} {by}"),
    }
}

/// A number in a few characters.
fn short(number: f64) -> String {
    if number == 0.0 { "0".into() } else { format!("{number:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshaped_tensors_compare_and_transposed_ones_do_not() {
        assert!(same_order(&[1, 64, 14, 14], &[64, 196]));
        assert!(same_order(&[64, 196], &[1, 64, 14, 14]));
        assert!(same_order(&[2, 3], &[2, 3, 1]));
        assert!(!same_order(&[1, 64, 14, 14], &[196, 64]));
        assert!(!same_order(&[1, 64, 14, 14], &[1, 14, 14, 64]));
        assert!(!same_order(&[2, 3], &[2, 2]));
    }
}
