//! `-i` and `--set`: shapes and types of inputs, and values of symbols.

use crate::options::Options;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use tract_core::internal::*;
use tract_hir::infer::Factoid;
use tract_hir::prelude::*;

/// Elements of a tensor beyond which a shape is taken for a mistake: 16 GiB of f32.
const MAX_ELEMENTS: i64 = 1 << 32;

/// Types that inputs may have.
const TYPES: &str = "f32, f16, f64, i8, i16, i32, i64, u8, u16, u32, u64, bool";

/// Gives an input a shape and a type. Symbols that the file has in their place take these values in the whole
/// model.
pub(super) fn set_fact(
    model: &mut InferenceModel,
    position: usize,
    spec: &str,
    values: &mut HashMap<Symbol, TDim>,
) -> Result<()> {
    let (name, fact) = tract_libcli::tensor::for_string(&model.symbols, spec)
        .map_err(|_| format_err!("not a shape and a type, as in 1,3,224,224,f32 or input:1,3,224,224,f32"))?;
    let inputs: Vec<String> =
        model.input_outlets()?.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let position = match &name {
        Some(name) => inputs
            .iter()
            .position(|input| input == name)
            .with_context(|| format!("no input is called {name:?}; the model has {}", inputs.join(", ")))?,
        None => position,
    };
    ensure!(position < inputs.len(), "the model has {} input(s)", inputs.len());
    ensure!(!fact.shape.is_open(), "a shape is needed, as in 1,3,224,224,f32");
    // tract takes every word that is no type for a symbol
    let last = spec.rsplit(',').next().unwrap_or_default();
    let letters = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let like_a_type = letters.len() < last.len() && letters.chars().all(|c| c.is_ascii_lowercase());
    if fact.datum_type.concretize().is_none() && like_a_type && !letters.is_empty() {
        bail!("{last} is not a type; there are {TYPES}");
    }
    if let Some(rank) = model.input_fact(position)?.shape.rank().concretize() {
        let got = fact.shape.dims().count() as i64;
        ensure!(got == rank, "the shape has {got} dimension(s), the input has {rank}");
    }
    for dim in fact.shape.dims() {
        if let Some(dim) = dim.concretize().and_then(|dim| dim.to_i64().ok()) {
            ensure!(dim >= 0, "dimension {dim} is negative");
            ensure!(dim <= MAX_ELEMENTS, "dimension {dim} is absurd");
        }
    }
    let own = model.input_fact(position)?.shape.dims().cloned().collect::<Vec<_>>();
    for (own, given) in own.iter().zip(fact.shape.dims()) {
        if let (Some(TDim::Sym(symbol)), Some(given)) = (own.concretize(), given.concretize())
            && !given.symbols().contains(&symbol)
        {
            values.entry(symbol).or_insert(given);
        }
    }
    model.set_input_fact(position, fact)?;
    Ok(())
}

/// The symbols that `--set` gives a value.
pub(super) fn symbols(scope: &SymbolScope, options: &Options) -> Result<HashMap<Symbol, TDim>> {
    let value = |spec: &String| symbol(scope, spec).with_context(|| format!("--set {spec}"));
    options.set.iter().map(value).collect()
}

pub(super) fn known_symbol(scope: &SymbolScope, name: &str) -> Result<Symbol> {
    scope.get(name).with_context(|| {
        let known = scope.all_symbols();
        if known.is_empty() {
            "the model has no symbols".to_string()
        } else {
            format!("the model has {}", known.iter().map(|s| s.to_string()).collect::<Vec<_>>().join(", "))
        }
    })
}

fn symbol(scope: &SymbolScope, spec: &str) -> Result<(Symbol, TDim)> {
    let (name, value) = spec.split_once('=').context("expected SYMBOL=VALUE, such as N=1")?;
    let symbol = known_symbol(scope, name)?;
    let value: i64 = value.parse().with_context(|| format!("{value:?} is not a number"))?;
    ensure!((0..=MAX_ELEMENTS).contains(&value), "{value} is not a size");
    Ok((symbol, value.to_dim()))
}

/// Fails if a shape that is known is of no size that makes sense.
pub(super) fn check_shape(fact: &TypedFact) -> Result<()> {
    let mut elements = 1i64;
    for dim in fact.shape.iter() {
        if let Ok(dim) = dim.to_i64() {
            ensure!(dim >= 0, "shape {:?} has a negative dimension", fact.shape);
            elements = elements.saturating_mul(dim);
        }
    }
    if elements > MAX_ELEMENTS {
        bail!("shape {:?} is absurd", fact.shape);
    }
    Ok(())
}
