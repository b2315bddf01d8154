//! `compare`: stock and sparse on the same input.

use crate::args::{Compare, Options, Pass};
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::Table;
use anyhow::{Result, ensure};
use std::collections::HashMap;
use std::sync::Arc;
use tract_core::internal::*;
use tract_sparse::Report;

/// The outputs differ: an error with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Differs(String);

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Differs {}

/// How one tensor compares.
#[derive(Debug, Clone, serde::Serialize)]
struct Difference {
    name: String,
    shape: Vec<usize>,
    max_abs_diff: f64,
    max_abs_stock: f64,
    agrees: bool,
}

/// Largest absolute difference; infinite where one value is NaN or infinite and the other is not the same.
pub(crate) fn max_abs_diff(stock: &Tensor, sparse: &Tensor) -> Result<f64> {
    Ok(difference("", stock, sparse, 0.0)?.max_abs_diff)
}

/// Rounding errors of a sum follow the size of its terms, not that of the result: values agree if they differ by at most
/// `tolerance` times the largest finite value of the stock tensor, plus a hundredth, for tensors of tiny values such as the feet of sigmoids.
fn difference(name: &str, stock: &Tensor, sparse: &Tensor, tolerance: f64) -> Result<Difference> {
    ensure!(
        stock.shape() == sparse.shape(),
        "{name}: stock gives {:?}, sparse {:?}",
        stock.shape(),
        sparse.shape()
    );
    let (a, b) = (stock.cast_to::<f64>()?, sparse.cast_to::<f64>()?);
    let (a, b) = (a.to_plain_array_view::<f64>()?, b.to_plain_array_view::<f64>()?);
    let (mut worst, mut agrees) = (0f64, true);
    let largest = a.iter().filter(|a| a.is_finite()).fold(0f64, |m, a| m.max(a.abs()));
    let allowed = tolerance * (largest + 1e-2);
    for (a, b) in a.iter().zip(&b) {
        let same = a == b || (a.is_nan() && b.is_nan());
        let diff = match (a - b).abs() {
            _ if same => 0.0,
            diff if diff.is_nan() => f64::INFINITY,
            diff => diff,
        };
        agrees &= diff <= allowed;
        worst = worst.max(diff);
    }
    Ok(Difference {
        name: name.into(),
        shape: stock.shape().to_vec(),
        max_abs_diff: worst,
        max_abs_stock: largest,
        agrees,
    })
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

/// Compares every node of the sparse model that the stock model has too, where tract has not moved its axes. A name can
/// stand for a value before or after something was folded into its operator: the stock model is asked at every stage, and
/// where no node of that name agrees another one may. A wrong value agrees with none.
fn nodes(
    source: &Source,
    options: &Options,
    inputs: &TVec<TValue>,
    tolerance: f64,
) -> Result<Vec<Difference>> {
    let mut reference: HashMap<String, Vec<Tensor>> = HashMap::new();
    for pass in [Pass::Type, Pass::Declutter, Pass::Optimize] {
        let options = Options { pass: Some(pass), optimize: false, ..options.clone() };
        let stock = source.load(Flavour::Stock, &options, pass)?.into_runnable()?;
        trace(&stock, inputs, |node, value| {
            let known = reference.entry(node.name.clone()).or_default();
            if value.datum_type().is_float() && !known.contains(value) {
                known.push(value.clone());
            }
            Ok(())
        })?;
    }
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let mut differences = vec![];
    trace(&sparse, inputs, |node, value| {
        let Some(named) = reference.get(&node.name) else { return Ok(()) };
        let others = reference.values().filter(|values| !std::ptr::eq(*values, named));
        let mut best: Option<Difference> = None;
        for stock in named.iter().chain(others.flatten()) {
            if !same_order(stock.shape(), value.shape()) {
                continue;
            }
            let value = value.clone().into_shape(stock.shape())?;
            let difference = difference(&node.name, stock, &value, tolerance)?;
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

/// Compares, prints, and fails with [`Differs`] if a tensor is beyond the tolerance.
pub(crate) fn run(source: &Source, args: &Compare, options: &Options) -> Result<()> {
    let tolerance = args.tolerance;
    ensure!(tolerance >= 0.0 && tolerance.is_finite(), "--tolerance {tolerance} is not a distance");
    let stock = source.load(Flavour::Stock, options, Pass::Optimize)?.into_runnable()?;
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let report = Report::of(sparse.model())?;
    let inputs = inputs(sparse.model(), &args.input)?;
    let (expected, got) = (stock.run(inputs.clone())?, sparse.run(inputs.clone())?);
    let mut outputs = vec![];
    for ((outlet, expected), got) in sparse.model().output_outlets()?.iter().zip(&expected).zip(&got) {
        let model = sparse.model();
        let name = model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name);
        outputs.push(difference(name, expected, got, tolerance)?);
    }
    let wrong = outputs.iter().find(|output| !output.agrees);
    let nodes =
        if wrong.is_some() || args.cumulative { nodes(source, options, &inputs, tolerance)? } else { vec![] };
    let first = nodes.iter().find(|node| !node.agrees).or(wrong);
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
        let mut table = Table::new(&["<node", "<shape", "max diff", "max stock", "<"]);
        let listed = if args.cumulative { nodes.iter().chain(&[]) } else { [].iter().chain(&outputs) };
        for d in listed {
            table.row(vec![
                d.name.clone(),
                d.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
                format!("{:.1e}", d.max_abs_diff),
                format!("{:.1e}", d.max_abs_stock),
                if d.agrees { "ok" } else { "differs" }.into(),
            ]);
        }
        out::print(&table.text())?;
    }
    match first {
        Some(node) => Err(Differs(format!(
            "{source}: node {} differs by {:.1e} where stock values reach {:.1e}, tolerance {tolerance:e}",
            node.name, node.max_abs_diff, node.max_abs_stock
        ))
        .into()),
        None if options.json => Ok(()),
        None => out::print(&format!(
            "agrees within {tolerance:e}; {} layer(s) sparse on {}\n",
            report.sparse_layers(),
            report.target
        )),
    }
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

    #[test]
    fn differences_follow_the_rule() {
        let compare =
            |a: &[f32], b: &[f32], tolerance| difference("x", &tensor1(a), &tensor1(b), tolerance).unwrap();
        assert!(compare(&[100.0, 0.0], &[100.0, 0.0099], 1e-4).agrees);
        assert!(!compare(&[100.0, 0.0], &[100.0, 0.02], 1e-4).agrees);
        assert!(compare(&[1.0], &[1.0], 0.0).agrees && !compare(&[1.0], &[1.0 + 1e-6], 0.0).agrees);
        assert!(compare(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY], 0.0).agrees);
        for (a, b) in
            [(f32::NAN, 0.0), (0.0, f32::NAN), (f32::INFINITY, 1.0), (f32::INFINITY, f32::NEG_INFINITY)]
        {
            let d = compare(&[a], &[b], 1.0);
            assert!(!d.agrees && d.max_abs_diff == f64::INFINITY, "{a} {b}");
        }
        assert_eq!(compare(&[1.0, -2.0], &[1.5, -2.0], 0.0).max_abs_diff, 0.5);
        assert!(difference("x", &tensor1(&[1f32]), &tensor1(&[1f32, 2.0]), 0.0).is_err());
    }
}
