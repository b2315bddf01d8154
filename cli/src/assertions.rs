//! What has to be true of a graph: `--assert-op-count` and its like.

use crate::errors::Differs;
use crate::load::Source;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use tract_core::internal::*;
use tract_libcli::model::Model;

/// What has to be true of the graph.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Assertions")]
pub(crate) struct Assertions {
    /// Fail unless the operator occurs that often
    #[arg(long, num_args = 2, value_names = ["OP", "N"])]
    pub(crate) assert_op_count: Vec<String>,
    /// Fail unless all operators are of this list; Opt* is a beginning
    #[arg(long, value_name = "OP,OP", value_delimiter = ',')]
    pub(crate) assert_op_only: Vec<String>,
    /// Fail unless the outputs have this type and shape: 1,1000,f32
    #[arg(long, value_name = "FACT")]
    pub(crate) assert_output_fact: Vec<String>,
}

impl Assertions {
    /// Whether anything has to be true.
    pub(crate) fn wanted(&self) -> bool {
        !self.assert_op_count.is_empty()
            || !self.assert_op_only.is_empty()
            || !self.assert_output_fact.is_empty()
    }
}

/// Operators of a model and of the models inside of it.
fn op_names(model: &dyn Model) -> Result<Vec<String>> {
    let mut names = vec![];
    for id in model.eval_order()? {
        names.push(model.node_op_name(id).to_string());
        for (_, inner) in model.nested_models(id) {
            names.extend(op_names(inner)?);
        }
    }
    Ok(names)
}

/// Whether a name is one that is asked for. What may stand behind it in brackets need not be.
fn matches(op: &str, pattern: &str) -> bool {
    let plain = op.split_once(" (").map_or(op, |(plain, _)| plain);
    pattern.strip_suffix('*').map_or(op == pattern || plain == pattern, |start| op.starts_with(start))
}

/// Checks a model.
///
/// # Errors
/// [`Differs`] if something is not as asserted; another error if the assertion makes no sense.
pub(crate) fn check(source: &Source, model: &TypedModel, wanted: &Assertions) -> Result<()> {
    let ops = op_names(model)?;
    for pair in wanted.assert_op_count.chunks(2) {
        let [op, count] = pair else { bail!("--assert-op-count takes an operator and a number") };
        let count: usize = count.parse().with_context(|| format!("--assert-op-count {op} {count}"))?;
        let found = ops.iter().filter(|name| matches(name, op)).count();
        if found != count {
            let text = format!("{source}: {count} operator(s) {op} wanted, there are {found}");
            return Err(Differs(text).into());
        }
    }
    if !wanted.assert_op_only.is_empty() {
        let allowed = |op: &String| wanted.assert_op_only.iter().any(|pattern| matches(op, pattern.trim()));
        if let Some(other) = ops.iter().find(|op| !allowed(op)) {
            let only = wanted.assert_op_only.join(", ");
            return Err(Differs(format!("{source}: operator {other} is none of {only}")).into());
        }
    }
    if !wanted.assert_output_fact.is_empty() {
        let outputs = model.output_outlets()?;
        let facts = &wanted.assert_output_fact;
        ensure!(
            facts.len() == outputs.len(),
            "{} time(s) --assert-output-fact, the model has {} output(s)",
            facts.len(),
            outputs.len()
        );
        for (outlet, spec) in outputs.iter().zip(facts) {
            let (_, fact) = tract_libcli::tensor::for_string(&model.symbols, spec)
                .with_context(|| format!("--assert-output-fact {spec}"))?;
            let got = model.outlet_fact(*outlet)?;
            let wanted = TypedFact::try_from(&fact)
                .with_context(|| format!("--assert-output-fact {spec}: a shape and a type are needed"))?;
            if got.datum_type != wanted.datum_type || got.shape != wanted.shape {
                let name = &model.node(outlet.node).name;
                let text = format!("{source}: output {name} is {:?}, not {spec}", got.without_value());
                return Err(Differs(text).into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("OptSparseConv", "Opt*") && matches("Conv", "Conv") && matches("Conv", "*"));
        assert!(matches("SparseConv (see unsparsify)", "SparseConv") && !matches("SparseConv (x)", "Sparse"));
        assert!(!matches("OptSparseConv", "Sparse*") && !matches("Conv2", "Conv"));
    }
}
