//! Stock or sparse, and which kernel: the one with the least predicted time.

use crate::analyse::{Layer, LayerShape, Seen, see};
use crate::estimate::{Stored, break_even, half_ns, int8_ns, int8_packings, packings, sparse_ns, stock_ns};
use crate::measure::measured;
use crate::policy::{Mode, Policy};
use sparse_ops::{Choice, Half, HalfChoice, Int8Choice, Packing, Whole, stock_keeps_f16};
use tract_core::internal::*;

/// A layer is pruned if its kernel leaves out at least one weight in ten. Fewer zeros are found in networks
/// that nobody pruned (rounded weights, dead channels): those are dense.
pub(crate) const PRUNED_SHARE: f64 = 0.9;

/// What becomes of a layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It runs on one of our kernels.
    Sparse(Choice),
    /// It stays as it is, for this reason; the best candidate if there was one.
    Stock(String, Option<Choice>),
}

impl Decision {
    /// The choice, if the layer runs on one of our kernels.
    pub fn choice(&self) -> Option<Choice> {
        match self {
            Decision::Sparse(choice) => Some(*choice),
            Decision::Stock(..) => None,
        }
    }
}

/// The layers around the one to be decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// No layer of the model is worth running sparse: dense layers stay stock.
    Dense,
    /// Some layer is: dense layers may run on our kernels, too, where they are faster.
    Sparse,
}

/// What is known of a layer before its neighbours are: all that takes reading its weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Assessment {
    /// It stays as it is whatever its neighbours do, for this reason.
    Stock(String),
    /// The fastest of our kernels for it.
    Best {
        /// That kernel, with times.
        choice: Choice,
        /// Share of weights that are not zero.
        density: f64,
        /// Share of weights that its format stores.
        stored: f64,
        /// The fastest of those that leave out a tenth of the weights, and the share that its format stores,
        /// if that is another.
        pruned: Option<Box<(Choice, f64)>>,
        /// Shape of the layer.
        shape: Box<LayerShape>,
    },
}

/// A layer that has been looked at. Its weights are read here and by nobody after: the swap and the report
/// know what was found.
#[derive(Debug, Clone)]
pub struct Assessed {
    pub(crate) seen: Seen,
    pub(crate) assessment: Assessment,
}

impl Assessed {
    /// The layer at `node`; `None` if the node is no layer.
    ///
    /// # Errors
    /// Weights that cannot be read, or a layer that fails while it is measured.
    pub fn of(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<Option<Assessed>> {
        rule_if_some!(seen = see(model, node)?);
        let assessment = Assessment::of_seen(&seen, policy)
            .with_context(|| format!("deciding whether {node} runs sparse"))?;
        Ok(Some(Assessed { seen, assessment }))
    }
}

impl Assessment {
    /// Of what a node has been seen to be.
    pub(crate) fn of_seen(seen: &Seen, policy: &Policy) -> TractResult<Assessment> {
        match seen {
            Seen::Opaque(_, reason) => Ok(Assessment::Stock(reason.to_string())),
            Seen::Layer(layer) => Assessment::of_layer(layer, policy),
        }
    }

    /// Of a layer whose weights can be read.
    fn of_layer(layer: &Layer, policy: &Policy) -> TractResult<Assessment> {
        if policy.mode == Mode::Never {
            return Ok(Assessment::Stock("TRACT_SPARSE=never".into()));
        }
        if layer.shape.pixels == Some(0) {
            return Ok(Assessment::Stock("its output is empty".into()));
        }
        Ok(match candidates(layer, policy)? {
            Ok(mut candidates) => {
                candidates.sort_by_key(|choice| (choice.ns(), choice.sparse_ns));
                let Some(choice) = candidates.first().copied() else {
                    return Ok(Assessment::Stock("no kernel of ours computes this".into()));
                };
                let (density, shape) = (layer.density(), layer.shape.clone());
                let stored = |choice: Choice| -> TractResult<f64> {
                    Ok(Stored::of(layer, choice.packing)?.weights() as f64 / shape.weights() as f64)
                };
                let pruned =
                    candidates.into_iter().find(|choice| choice.sparse).filter(|other| *other != choice);
                let pruned = match pruned {
                    Some(other) => Some(Box::new((other, stored(other)?))),
                    None => None,
                };
                Assessment::Best { choice, density, stored: stored(choice)?, pruned, shape: Box::new(shape) }
            }
            Err(reason) => Assessment::Stock(reason.into()),
        })
    }

    /// Whether the layer is worth running sparse on its own account.
    pub fn is_worth_it(&self, policy: &Policy) -> bool {
        matches!(self.decide(policy, Neighbours::Dense), Decision::Sparse(_))
    }

    /// The decision, now that the neighbours are known.
    pub fn decide(&self, policy: &Policy, neighbours: Neighbours) -> Decision {
        let (best, density, stored, pruned, shape) = match self {
            Assessment::Stock(reason) => return Decision::Stock(reason.clone(), None),
            Assessment::Best { choice, density, stored, pruned, shape } => {
                (*choice, *density, *stored, pruned.as_deref().copied(), shape)
            }
        };
        let takes_dense = policy.takes_dense(neighbours);
        if density > PRUNED_SHARE && !best.sparse && !takes_dense {
            let zeros = 100.0 * (1.0 - density);
            return Decision::Stock(format!("not pruned: {zeros:.1} % of the weights are zero"), Some(best));
        }
        let gain = |choice: Choice| choice.stock_ns as f64 / choice.ns().max(1) as f64;
        let runs = |choice: &Choice| {
            (choice.sparse || takes_dense)
                && (gain(*choice) >= policy.asked_gain(shape, !choice.sparse)
                    || (choice.sparse && policy.mode == Mode::Always))
        };
        if let Some(choice) = [Some(best), pruned.map(|(choice, _)| choice)].into_iter().flatten().find(runs)
        {
            return Decision::Sparse(choice);
        }
        // the reason is that of the one which could have been taken
        let (best, stored) = pruned.filter(|_| !best.sparse && !takes_dense).unwrap_or((best, stored));
        let (gain, unpruned) = (gain(best), !best.sparse && !takes_dense);
        let how = if policy.mode == Mode::Measure { "measured" } else { "predicted" };
        let how = match unpruned {
            true => "the zeros are too scattered to leave a tenth of the weights out".into(),
            false => format!("{how} gain {gain:.2} is below {:.2}", policy.asked_gain(shape, !best.sparse)),
        };
        let mut words = format!("density {density:.2}");
        if stored > density + 0.005 {
            words += &format!(", {stored:.2} stored as {}", best.packing);
        }
        let target = policy.target;
        words += &match break_even(shape, best.packing, policy, neighbours) {
            Some(even) => format!(": break-even for {shape} on {target} is {even:.2}; {how}"),
            None => format!(": no density breaks even for {shape} on {target}; {how}"),
        };
        Decision::Stock(words, Some(best))
    }
}

/// Decides for a layer whose weights can be read.
pub fn choose(layer: &Layer, policy: &Policy, neighbours: Neighbours) -> TractResult<Decision> {
    Ok(Assessment::of_layer(layer, policy)?.decide(policy, neighbours))
}

/// Every way to run the layer here, or the reason why there is none.
fn candidates(layer: &Layer, policy: &Policy) -> TractResult<Result<Vec<Choice>, &'static str>> {
    let (shape, target) = (&layer.shape, policy.target);
    let packings = match packings(shape, target) {
        Ok(packings) => packings,
        Err(reason) => return Ok(Err(reason)),
    };
    let stock_ns = (stock_ns(shape, policy.costs()) * stock_share(layer)) as u64;
    let half = match policy.half() {
        Some(half) => best_half(layer, half, &packings, policy)?,
        None => None,
    };
    let int8 = match (layer.quantised || policy.if_quantised) && !shape.transposed {
        true => Some(best_int8(layer, policy)?),
        false => None,
    };
    let candidate = |packing| {
        let stored = Stored::of(layer, packing)?;
        let choice = Choice {
            packing,
            target,
            stock_ns,
            sparse_ns: sparse_ns(shape, packing, policy.costs(), &stored) as u64,
            sparse: stored.weights() as f64 <= PRUNED_SHARE * shape.weights() as f64,
            half,
            of_f16: layer.of_f16,
            int8,
        };
        if policy.mode == Mode::Measure { measured(layer, choice, stored.weights()) } else { Ok(choice) }
    };
    packings.into_iter().map(candidate).collect::<TractResult<_>>().map(Ok)
}

/// How long stock tract takes for a layer in its own type, as a share of what it takes in f32. Without instructions for
/// f16 it computes by way of f32, and takes longer than that: how much longer no table says, and no decision needs.
fn stock_share(layer: &Layer) -> f64 {
    if layer.of_f16 && stock_keeps_f16() { 0.5 } else { 1.0 }
}

/// The packing with the least predicted time in half precision, which need not be that of f32: pairs of input channels
/// are stored together; none if no kernel runs any of them.
fn best_half(
    layer: &Layer,
    half: Half,
    packings: &[Packing],
    policy: &Policy,
) -> TractResult<Option<HalfChoice>> {
    let costs = policy.costs();
    let choice = |packing: &Packing| -> TractResult<Option<HalfChoice>> {
        rule_if_some!(stored = Stored::of_half(layer, *packing, half)?);
        Ok(Some(HalfChoice {
            half,
            packing: *packing,
            ns: half_ns(&layer.shape, *packing, half, costs, &stored) as u64,
            convert_ps: (1e3 * costs.convert_ns()) as u64,
            always: policy.mode == Mode::Always,
        }))
    };
    let choices: Vec<Option<HalfChoice>> = packings.iter().map(choice).collect::<TractResult<_>>()?;
    Ok(choices.into_iter().flatten().min_by_key(|choice| choice.ns))
}

/// The packing with the least predicted time in int8, or why there is none.
fn best_int8(layer: &Layer, policy: &Policy) -> TractResult<Result<Int8Choice, &'static str>> {
    if layer.quantised
        && let Err(why) = Whole::of(layer.values()?, layer.shape.rows())
    {
        return Ok(Err(why));
    }
    let int8 = policy.target.int8();
    let choice = |packing| -> TractResult<Int8Choice> {
        Ok(Int8Choice { int8, packing, ns: int8_ns(layer, packing, int8, policy.costs())? as u64 })
    };
    let choices = int8_packings(&layer.shape).into_iter().map(choice);
    let choices: Vec<Int8Choice> = choices.collect::<TractResult<_>>()?;
    Ok(choices.into_iter().min_by_key(|choice| choice.ns).ok_or("there are no kernels of int8 for its shape"))
}
