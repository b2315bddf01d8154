//! What the sparse model is compared with.

use super::difference::Difference;
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::outputs::entry;
use crate::tensors::Npz;
use anyhow::Result;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tract_core::internal::*;
use tract_sparse::{Target, lanes_of, output_names};

/// What every node of the sparse model is compared with: all values that are known by a name, and its
/// outputs.
pub(super) struct Reference {
    /// In words, as a column title.
    title: &'static str,
    outputs: Vec<Tensor>,
    nodes: HashMap<String, Vec<Tensor>>,
}

impl Reference {
    /// In words, as a column title.
    pub(super) fn title(&self) -> &'static str {
        self.title
    }

    /// The outputs of the model.
    pub(super) fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

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

    /// Stock tract. A name can stand for a value before or after something was folded into its operator: the
    /// stock model is asked at every stage.
    pub(super) fn stock(
        source: &Source,
        options: &Options,
        inputs: &TVec<TValue>,
        nodes: bool,
    ) -> Result<Reference> {
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
    pub(super) fn own(
        source: &Source,
        options: &Options,
        inputs: &TVec<TValue>,
        stage: Pass,
    ) -> Result<Reference> {
        let options = Options { pass: Some(stage), optimize: false, ..options.clone() };
        let plan = source.load(Flavour::Sparse, &options, stage)?.into_runnable()?;
        let outputs = tensors(plan.run(inputs.clone())?);
        let mut reference = Reference { title: "max there", outputs, nodes: HashMap::new() };
        reference.add(&plan, inputs)?;
        Ok(reference)
    }

    /// The arrays of a file.
    pub(super) fn file(path: &Path, model: &TypedModel) -> Result<Reference> {
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

    /// Compares every node of the sparse model whose name is known, where tract has not moved its axes. Where
    /// no value of that name agrees one of another name may, since names move when operators are folded.
    /// A wrong value agrees with none.
    pub(super) fn compare(
        &self,
        plan: &Arc<TypedRunnableModel>,
        inputs: &TVec<TValue>,
        tolerance: f64,
    ) -> Result<Vec<Difference>> {
        let mut differences = vec![];
        trace(plan, inputs, |node, value| {
            let Some(named) = self.nodes.get(&node.name) else { return Ok(()) };
            let widened = lanes_of(node).map(|lanes| lanes.unpack(Target::detect(), value)).transpose()?;
            let Some(value) = meaning(widened.as_ref().unwrap_or(value))? else { return Ok(()) };
            let others = self.nodes.values().filter(|values| !std::ptr::eq(*values, named));
            let mut best: Option<Difference> = None;
            for known in named.iter().chain(others.flatten()) {
                if !same_order(known.shape(), value.shape()) {
                    continue;
                }
                let value = value.clone().into_shape(known.shape())?;
                let difference = Difference::of(&node.name, known, &value, tolerance)?;
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

/// Runs a plan and hands the first output of every node to `seen`, in order of evaluation. Packed tensors,
/// which only the operator behind them can read, are left out.
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

/// A value as the network means it: floats, quantised numbers as what they stand for. Other integers mean
/// different things at different stages, codes of a quantised tensor for one, and are compared at the outputs
/// alone.
fn meaning(value: &Tensor) -> Result<Option<Tensor>> {
    let dt = value.datum_type();
    if dt.is_float() {
        return Ok(Some(value.clone()));
    }
    dt.is_quantized().then(|| Ok(value.cast_to::<f32>()?.into_owned())).transpose()
}

/// Whether tensors of these shapes hold their elements in the same order: one is the other with axes split,
/// merged, added or removed. Moved axes give other products.
fn same_order(a: &[usize], b: &[usize]) -> bool {
    fn products(shape: &[usize]) -> Vec<usize> {
        let mut products = vec![1];
        shape.iter().for_each(|dim| products.push(products[products.len() - 1] * dim));
        products
    }
    let (a, b) = (products(a), products(b));
    a.last() == b.last() && (a.iter().all(|p| b.contains(p)) || b.iter().all(|p| a.contains(p)))
}

/// The tensors behind values.
pub(super) fn tensors(values: TVec<TValue>) -> Vec<Tensor> {
    values.into_iter().map(TValue::into_tensor).collect()
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
