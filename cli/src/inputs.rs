//! Input tensors: from .npy, .pb and .npz files, otherwise seeded random.

use crate::files;
use crate::table::names;
use crate::tensors::{Npz, load_pb};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueHint};
use rand_distr::{Distribution, StandardNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::path::{Path, PathBuf};
use tract_core::internal::*;

/// Where inputs come from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Input {
    /// .npy or .pb file for each input, or one .npz [default: seeded random]
    #[arg(
        long,
        value_name = "FILE",
        alias = "input-from-npz",
        alias = "input-from-bundle",
        value_hint = ValueHint::FilePath
    )]
    pub(crate) input: Vec<PathBuf>,
    /// Seed of random inputs
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Random inputs, as tract has to be told; they are the default here
    #[arg(short = 'R', long, conflicts_with = "input", hide_short_help = true)]
    pub(crate) allow_random_input: bool,
}

/// One tensor for every input of `model`.
pub(crate) fn inputs(model: &TypedModel, args: &Input) -> Result<TVec<TValue>> {
    let facts: Vec<(String, TypedFact)> = model
        .input_outlets()?
        .iter()
        .map(|outlet| Ok((model.node(outlet.node).name.clone(), model.outlet_fact(*outlet)?.clone())))
        .collect::<Result<_>>()?;
    args.input.iter().for_each(|path| files::protect(path));
    let tensors: Vec<Tensor> = if args.input.is_empty() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(args.seed);
        facts
            .iter()
            .map(|(name, fact)| random(fact, &mut rng).with_context(|| format!("input {name}")))
            .collect::<Result<_>>()?
    } else if let [path] = &args.input[..]
        && path.extension().is_some_and(|e| e == "npz")
    {
        let mut npz = Npz::open(path)?;
        facts
            .iter()
            .map(|(name, fact)| {
                check(npz.of_type(name, fact.datum_type)?, fact)
                    .with_context(|| format!("{}: input {name}", path.display()))
            })
            .collect::<Result<_>>()?
    } else {
        ensure!(
            args.input.len() == facts.len(),
            "{} file(s) given with --input, the model has {} input(s): {}",
            args.input.len(),
            facts.len(),
            names(&facts.iter().map(|(name, _)| name).collect::<Vec<_>>(), false)
        );
        args.input
            .iter()
            .zip(&facts)
            .map(|(path, (name, fact))| {
                from_file(path, fact).with_context(|| format!("{}: input {name}", path.display()))
            })
            .collect::<Result<_>>()?
    };
    Ok(tensors.into_iter().map(|t| t.into_tvalue()).collect())
}

fn random(fact: &TypedFact, rng: &mut Xoshiro256PlusPlus) -> Result<Tensor> {
    let shape = fact.shape.as_concrete().with_context(|| {
        let symbols = fact.shape.iter().flat_map(TDim::symbols).collect::<std::collections::BTreeSet<_>>();
        let set = symbols.iter().map(|symbol| format!(" --set {symbol}=1")).collect::<String>();
        format!(
            "shape {:?} has symbols: give them a value, as in{set}, or the input a shape with -i",
            fact.shape
        )
    })?;
    let dt = fact.datum_type;
    let sample = |_| {
        let v: f32 = StandardNormal.sample(rng);
        // integers are often indices: zero and small numbers
        if dt.is_float() { v } else { v.abs().floor() }
    };
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(sample).collect();
    Ok(Tensor::from_shape(shape, &values)?.cast_to_dt(dt)?.into_owned())
}

fn from_file(path: &Path, fact: &TypedFact) -> Result<Tensor> {
    if path.extension().is_some_and(|e| e == "pb") {
        let tensor = load_pb(path)?;
        let (got, wanted) = (tensor.datum_type(), fact.datum_type);
        ensure!(got == wanted, "the tensor is {got:?}, the model wants {wanted:?}");
        return check(tensor, fact);
    }
    check(arrays::npy_of_type(&std::fs::read(path)?, fact.datum_type)?, fact)
}

/// Refuses a tensor that does not fit the shape of the input; symbols fit every size.
fn check(tensor: Tensor, fact: &TypedFact) -> Result<Tensor> {
    let fits = tensor.rank() == fact.rank()
        && tensor
            .shape()
            .iter()
            .zip(fact.shape.iter())
            .all(|(got, wanted)| wanted.to_usize().map_or(*got > 0, |wanted| wanted == *got));
    ensure!(fits, "the array is {:?}, the model wants {:?}", tensor.shape(), fact.shape);
    Ok(tensor)
}
