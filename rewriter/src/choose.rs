//! Stock or sparse, and which kernel: the one with the least predicted time.

use crate::analyse::{Layer, Seen, see};
use crate::estimate::{Stored, break_even, packings, sparse_ns, stock_ns};
use crate::measure::measured;
use crate::policy::{Mode, Policy};
use sparse_ops::Choice;
use tract_core::internal::*;

/// A layer is pruned if its kernel leaves out at least one weight in ten. Fewer zeros are found in networks that
/// nobody pruned (rounded weights, dead channels): those are dense.
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

/// Decides for the layer at `node`; `None` if the node is no layer.
pub fn decide(
    model: &TypedModel,
    node: &TypedNode,
    policy: &Policy,
    neighbours: Neighbours,
) -> TractResult<Option<Decision>> {
    Ok(match see(model, node)? {
        None => None,
        Some(Seen::Opaque(_, reason)) => Some(Decision::Stock(reason.to_string(), None)),
        Some(Seen::Layer(layer)) => Some(choose(&layer, policy, neighbours)?),
    })
}

/// Whether the layer at `node` is worth running sparse on its own account.
pub fn is_worth_it(model: &TypedModel, node: &TypedNode, policy: &Policy) -> TractResult<bool> {
    let decision = decide(model, node, policy, Neighbours::Dense)?;
    Ok(decision.is_some_and(|decision| decision.choice().is_some()))
}

/// Decides for a layer whose weights can be read.
pub fn choose(layer: &Layer, policy: &Policy, neighbours: Neighbours) -> TractResult<Decision> {
    let stay = |reason: String, best| Ok(Decision::Stock(reason, best));
    if policy.mode == Mode::Never {
        return stay("TRACT_SPARSE=never".into(), None);
    }
    let best = match candidates(layer, policy)? {
        Ok(candidates) => candidates.into_iter().min_by_key(|choice| choice.sparse_ns),
        Err(reason) => return stay(reason.into(), None),
    };
    let Some(best) = best else { return stay("no kernel of ours computes this".into(), None) };
    if !best.sparse && neighbours == Neighbours::Dense {
        let density = layer.density();
        return stay(
            format!("not pruned: {:.1} % of the weights are zero", 100.0 * (1.0 - density)),
            Some(best),
        );
    }
    let gain = best.stock_ns as f64 / best.sparse_ns.max(1) as f64;
    if gain >= policy.min_gain || (best.sparse && policy.mode == Mode::Always) {
        return Ok(Decision::Sparse(best));
    }
    stay(not_enough(layer, &best, policy, neighbours)?, Some(best))
}

/// Why the best candidate does not gain enough, in words.
fn not_enough(layer: &Layer, best: &Choice, policy: &Policy, neighbours: Neighbours) -> TractResult<String> {
    let gain = best.stock_ns as f64 / best.sparse_ns.max(1) as f64;
    let how = if policy.mode == Mode::Measure { "measured" } else { "predicted" };
    let how = format!("{how} gain {gain:.2} is below {:.2}", policy.min_gain);
    let density = layer.density();
    let stored = Stored::of(layer, best.packing)?.weights() as f64 / layer.shape.weights() as f64;
    let mut words = format!("density {density:.2}");
    if stored > density + 0.005 {
        words += &format!(", {stored:.2} stored as {}", best.packing);
    }
    let (shape, target) = (&layer.shape, policy.target);
    Ok(match break_even(shape, best.packing, policy, neighbours) {
        Some(even) => format!("{words}: break-even for {shape} on {target} is {even:.2}; {how}"),
        None => format!("{words}: no density breaks even for {shape} on {target}; {how}"),
    })
}

/// Every way to run the layer here, or the reason why there is none.
fn candidates(layer: &Layer, policy: &Policy) -> TractResult<Result<Vec<Choice>, &'static str>> {
    let (shape, target) = (&layer.shape, policy.target);
    let packings = match packings(shape, target) {
        Ok(packings) => packings,
        Err(reason) => return Ok(Err(reason)),
    };
    let stock_ns = stock_ns(shape, target) as u64;
    let candidate = |packing| {
        let stored = Stored::of(layer, packing)?;
        let choice = Choice {
            packing,
            target,
            stock_ns,
            sparse_ns: sparse_ns(shape, packing, target, &stored) as u64,
            sparse: stored.weights() as f64 <= PRUNED_SHARE * shape.weights() as f64,
        };
        if policy.mode == Mode::Measure { measured(layer, choice, stored.weights()) } else { Ok(choice) }
    };
    packings.into_iter().map(candidate).collect::<TractResult<_>>().map(Ok)
}
