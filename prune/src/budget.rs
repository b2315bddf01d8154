//! Ratios that meet a time at the least loss of saliency.
//!
//! A network whose layers are all dense runs on the stock engine: so one layer at least must be pruned so far
//! that it is worth running sparse ([`Time::wakes`]), unless the network has such a layer before.
//!
//! Every layer offers a few ratios, each with a predicted time and a loss. For a price `p` of time, the best
//! choice of each layer is the one of least `loss + p * time`, on its own; the least price at which the sum
//! of times meets the budget is found by bisection (a Lagrangian relaxation: exact up to one step of one
//! layer). Time left over is then given back where it saves most loss.

use crate::apply::{Method, Plan};
use crate::layer::Layer;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tract_onnx::pb::ModelProto;

/// One way to prune a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// Fraction of the groups removed; `None` for the dense layer.
    pub ratio: Option<f64>,
    /// Predicted time.
    pub time: f64,
    /// Loss of saliency.
    pub loss: f64,
    /// As [`Time::wakes`].
    pub wakes: bool,
}

/// What is known of a layer's speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Time {
    /// Predicted milliseconds in a network that runs sparse.
    pub ms: f64,
    /// Whether this layer is reason enough for the network to do so.
    pub wakes: bool,
}

/// Chooses one offer per layer so that the times sum to at most `budget`.
///
/// # Errors
/// The fastest offers together take longer; the message says how long.
pub fn choose(layers: &[Vec<Offer>], budget: f64) -> Result<Vec<usize>> {
    ensure!(layers.iter().all(|offers| !offers.is_empty()), "a layer has no offer");
    let pick = |price: f64| -> Vec<usize> {
        let cost = |o: &Offer| o.loss + price * o.time;
        let best = |offers: &Vec<Offer>| {
            (1..offers.len()).fold(0, |best, i| if cost(&offers[i]) < cost(&offers[best]) { i } else { best })
        };
        layers.iter().map(best).collect()
    };
    let time = |picks: &[usize]| layers.iter().zip(picks).map(|(o, i)| o[*i].time).sum::<f64>();
    let fastest: f64 = layers.iter().map(|o| o.iter().map(|o| o.time).fold(f64::INFINITY, f64::min)).sum();
    ensure!(
        fastest <= budget,
        "the fastest that pruning can make these layers is {fastest:.3}, the budget is {budget:.3}"
    );
    let (mut low, mut high) = (0.0, 1e-6);
    let mut picks = pick(low);
    if time(&picks) > budget {
        while time(&pick(high)) > budget {
            low = high;
            high *= 4.0;
            // at such a price only time counts; ties in time may remain above the budget by rounding
            if high > 1e30 {
                break;
            }
        }
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if time(&pick(middle)) > budget { low = middle } else { high = middle }
        }
        picks = pick(high);
    }
    // give back what is left
    loop {
        let left = budget - time(&picks);
        let better = layers.iter().enumerate().flat_map(|(l, offers)| {
            let now = offers[picks[l]];
            let fits = move |o: &Offer| o.loss < now.loss && o.time - now.time <= left;
            offers
                .iter()
                .enumerate()
                .filter(move |(_, o)| fits(o))
                .map(move |(i, o)| (now.loss - o.loss, l, i))
        });
        match better.max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((_, layer, offer)) => picks[layer] = offer,
            None => return Ok(picks),
        }
    }
}

/// What a budget has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spent {
    /// Predicted milliseconds of the pruned network.
    pub predicted_ms: f64,
    /// The budget.
    pub budget_ms: f64,
    /// Milliseconds that pruning does not touch.
    pub fixed_ms: f64,
}

/// A time to meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Milliseconds of the whole network.
    pub ms: f64,
    /// Milliseconds that pruning does not touch.
    pub fixed_ms: f64,
    /// Whether the network runs sparse as it is.
    pub awake: bool,
}

/// Ratios that are tried.
const RATIOS: [f64; 12] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95];

/// Sets the ratios of the layers of `plan` so that their times, as `time` predicts them for a layer's weights
/// `[oc][ic][taps]`, and `budget.fixed_ms` together take at most `budget.ms`. Layers that bring no time stay
/// dense. Layers with a ratio of their own keep it.
///
/// # Errors
/// The budget cannot be met; the message says by what, and what could be. No layer can be pruned so far that
/// the network runs sparse.
pub fn fit(
    plan: &mut Plan,
    model: &ModelProto,
    method: &dyn Method,
    time: &mut dyn FnMut(&Layer, &[f32]) -> Result<Time>,
    budget: Budget,
) -> Result<Spent> {
    let Budget { ms: budget_ms, fixed_ms, awake } = budget;
    ensure!(budget_ms > 0.0 && budget_ms.is_finite(), "a budget of {budget_ms} ms makes no sense");
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let mut offers = vec![];
    for p in plan.planned() {
        let weights = p.layer.weights(graph)?;
        let masker = method.masker(&p.layer, p.wish.structure, &weights)?;
        let total: f64 = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>().max(1e-30);
        let mut of = vec![];
        let mut offer = |ratio, weights: &[f32], loss| {
            let Time { ms, wakes } = time(&p.layer, weights)?;
            of.push(Offer { ratio, time: ms, loss, wakes });
            anyhow::Ok(())
        };
        if !p.wish.fixed {
            offer(None, &weights, 0.0)?;
        }
        let ratios = if p.wish.fixed || !p.wish.structure.removes_groups() {
            vec![p.wish.ratio]
        } else {
            RATIOS.to_vec()
        };
        for ratio in ratios {
            let keep = masker.clone().remove(&masker.lowest(ratio));
            let mut pruned = weights.clone();
            crate::apply::zero(&mut pruned, &keep);
            let lost =
                weights.iter().zip(&keep).filter(|(_, k)| !**k).map(|(w, _)| f64::from(w.abs())).sum::<f64>();
            offer(Some(ratio), &pruned, lost / total)?;
        }
        offers.push(of);
    }
    let fastest: f64 = offers.iter().map(|o| o.iter().map(|o| o.time).fold(f64::INFINITY, f64::min)).sum();
    let dense: f64 = offers.iter().map(|o| o[0].time).sum();
    ensure!(
        fixed_ms + fastest <= budget_ms,
        "{budget_ms:.2} ms cannot be met: pruning makes {} layers take {fastest:.2} ms at best (now {dense:.2}), and \
         {fixed_ms:.2} ms are in what it does not touch; {:.2} ms is the least",
        offers.len(),
        fixed_ms + fastest
    );
    let mut picks = choose(&offers, budget_ms - fixed_ms)?;
    if !awake && !offers.iter().zip(&picks).any(|(o, i)| o[*i].wakes) {
        wake(&offers, &mut picks)?;
    }
    let spent: f64 = offers.iter().zip(&picks).map(|(o, i)| o[*i].time).sum();
    let mut picked = offers.iter().zip(picks).map(|(o, i)| o[i].ratio);
    for entry in &mut plan.layers {
        let Ok(p) = entry else { continue };
        match picked.next().context("a layer without a choice")? {
            Some(ratio) => p.wish.ratio = ratio,
            None => *entry = Err(p.left("pruning it is not needed for the budget, or brings no time")),
        }
    }
    Ok(Spent { predicted_ms: fixed_ms + spent, budget_ms, fixed_ms })
}

/// Prunes the layer further that loses least by it, so that the network runs sparse.
fn wake(offers: &[Vec<Offer>], picks: &mut [usize]) -> Result<()> {
    let all =
        offers.iter().enumerate().flat_map(|(l, offers)| offers.iter().enumerate().map(move |o| (l, o)));
    let waking = all.filter(|(_, (_, offer))| offer.wakes);
    let least = waking.min_by(|a, b| a.1.1.loss.total_cmp(&b.1.1.loss));
    let (layer, (offer, _)) = least.context("no layer is faster sparse, however far it is pruned")?;
    picks[layer] = offer;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use noise::Noise;

    fn offers(seed: u64) -> Vec<Vec<Offer>> {
        let mut noise = Noise::new(seed);
        let mut uniform = || f64::from(noise.share());
        (0..5)
            .map(|_| {
                let (time, loss) = (0.5 + uniform(), 0.2 + uniform());
                (0..5)
                    .map(|i| {
                        let r = f64::from(i) / 5.0;
                        Offer {
                            ratio: Some(r),
                            time: time * (1.0 - 0.9 * r),
                            loss: loss * r * r,
                            wakes: i > 2,
                        }
                    })
                    .collect()
            })
            .collect()
    }

    /// The relaxation is exact on the convex hull; within the budget it may miss the optimum by one step of
    /// one layer.
    #[test]
    fn budgets_are_met_at_nearly_the_least_loss() {
        for seed in 0..20 {
            let layers = offers(seed);
            let dense: f64 = layers.iter().map(|o| o[0].time).sum();
            for budget in [0.4, 0.5, 0.7, 0.9, 1.0].map(|f| f * dense) {
                let picks = choose(&layers, budget).unwrap();
                let sum = |f: &dyn Fn(&Offer) -> f64| {
                    layers.iter().zip(&picks).map(|(o, i)| f(&o[*i])).sum::<f64>()
                };
                assert!(sum(&|o| o.time) <= budget + 1e-12);
                let mut best = f64::INFINITY;
                for code in 0..5usize.pow(5) {
                    let pick = |l: usize| &layers[l][code / 5usize.pow(l as u32) % 5];
                    let time: f64 = (0..5).map(|l| pick(l).time).sum();
                    if time <= budget {
                        best = best.min((0..5).map(|l| pick(l).loss).sum());
                    }
                }
                let step = 0.3;
                assert!(sum(&|o| o.loss) <= best + step, "{} against {best}", sum(&|o| o.loss));
            }
            let least: f64 = layers.iter().map(|o| o[4].time).sum();
            assert!(choose(&layers, least * 0.99).is_err());
        }
    }

    /// A network of dense layers that is fast enough already must still be made to run sparse, at the least
    /// loss.
    #[test]
    fn one_layer_wakes_the_network() {
        let layers = offers(3);
        let mut picks = vec![0; layers.len()];
        wake(&layers, &mut picks).unwrap();
        let woken: Vec<usize> = (0..layers.len()).filter(|l| picks[*l] != 0).collect();
        let least = layers.iter().flatten().filter(|o| o.wakes).map(|o| o.loss).fold(f64::INFINITY, f64::min);
        assert_eq!(woken.len(), 1);
        assert_eq!(layers[woken[0]][picks[woken[0]]].loss, least);
        let asleep: Vec<Vec<Offer>> =
            layers.iter().map(|o| o.iter().map(|o| Offer { wakes: false, ..*o }).collect()).collect();
        assert!(wake(&asleep, &mut picks).is_err());
    }
}
