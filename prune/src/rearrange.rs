//! Whole-network rearrangement (SparseByteNN, section 3.4): channels change places, all over the network at once, so that
//! weights of like importance fall into one group and pruning keeps more of the norm. The network's output stays
//! what it was.
//!
//! Search: bounded regression in the manner of Pool & Yu (2021). For one class of exchangeable channels at a time (rows of
//! some layers, columns of others, kernels of depthwise layers) the exchange of two channels that gains most is made until
//! none gains; then, a bounded number of times, some random exchanges that lose are made and the search goes on from
//! there, and the best arrangement is kept. Exchanges within a group change nothing, so that only canonical permutations
//! (groups, not orders within groups) are told apart.
//!
//! A layer keeps its `n` groups of highest norm: with the norm `t` of the last one kept as threshold, that is the sum of
//! `max(norm - t, 0)` over groups plus a constant. With `t` held during a pass, the gain of an exchange is a sum over the
//! groups of the two rows (or columns) concerned; `t` is found anew before the next pass, and a pass that has lost is undone.
//!
//! No layer pays for another. The first rounds look at the sum over layers alone; those that follow are guarded: what
//! layers lack of what they kept unarranged comes first, what they lack of a small rise second, the sum third, and
//! no exchange takes a layer below what it kept unarranged. Where a layer is still short when the time for that is over,
//! classes of channels that stand in it go back to where they came from.

use crate::apply::Plan;
use crate::arrangement::{Matrix, View};
use crate::channels::Channels;
use crate::proof::prove;
use crate::runtime::Runtime;
use anyhow::{Context, Result};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::Tensor;

/// How long and from where to search.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// Seed of every random choice: the same seed gives the same arrangement, unless the time runs out.
    pub seed: u64,
    /// When to stop.
    pub budget: Duration,
}

impl Default for Search {
    fn default() -> Search {
        Search { seed: 1, budget: Duration::from_secs(30) }
    }
}

/// Where the search is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Rounds over all classes of channels so far.
    pub round: usize,
    /// Class of channels done in this round.
    pub class: usize,
    /// Number of classes.
    pub classes: usize,
    /// Mean share of the l1 norm that the layers keep.
    pub kept: f64,
}

/// What rearranging has brought.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rearranged {
    /// Every layer that is going to be pruned, and the shares of its l1 norm that it keeps without and with rearrangement.
    pub layers: Vec<Kept>,
    /// Sets of channels that may be exchanged with each other.
    pub classes: usize,
    /// Channels in them.
    pub channels: usize,
    /// Largest difference between outputs of the dense model before and after, relative to their scale.
    pub proof: f64,
}

/// Kept norm of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// Name of the layer.
    pub name: String,
    /// Share of the l1 norm kept without rearrangement.
    pub before: f64,
    /// And with it.
    pub after: f64,
    /// Whether any of its channels may move.
    pub movable: bool,
}

const ROUNDS: usize = 4;
const PASSES: usize = 6;
const ESCAPES: usize = 2;
const RESTARTS: usize = 16;
/// Share of its norm that every layer is to gain, if it can, before the sum of all counts.
const RISE: f64 = 1e-4;
/// What a layer gains on its way to [`RISE`] counts this many times in guarded rounds.
const URGENT: f64 = 1000.0;
/// What sums of a layer's norm in another order may differ by.
const ROUNDING: f64 = 1e-9;
/// How often a guarded pass that fails is tried again with half of its exchanges.
const HALVINGS: usize = 5;
/// Partners that are tried for a channel; more are sampled.
const PARTNERS: usize = 256;

/// Rearranges the channels of `model` for the pruning that `plan` has in mind, and proves on `inputs` (graph inputs of
/// one or more runs, see [`crate::proof`]) that its outputs are what they were.
///
/// # Errors
/// The model cannot be run, its outputs have changed or prove nothing: then `model` is as it was.
pub fn rearrange(
    model: &mut ModelProto,
    plan: &Plan,
    runtime: &dyn Runtime,
    inputs: &[Vec<Tensor>],
    search: Search,
    progress: &mut dyn FnMut(Progress),
) -> Result<Rearranged> {
    let first = inputs.first().context("rearrangement needs inputs to prove itself on")?;
    let channels = Channels::of(model, runtime, first)?;
    let before = plan.kept_l1(model)?;
    let mut layers: Vec<Matrix> =
        plan.planned().map(|p| Matrix::new(model, &channels, p)).collect::<Result<Vec<_>>>()?;
    let to = arrange(&mut layers, &channels, search, progress);
    let mut moved = model.clone();
    channels.permute(&mut moved, &to)?;
    let proof = prove(model, &moved, runtime, inputs)?;
    *model = moved;
    let after = plan.kept_l1(model)?;
    let movable = layers.iter().map(Matrix::movable);
    let layers = before.into_iter().zip(after).zip(movable);
    Ok(Rearranged {
        layers: layers
            .map(|(((name, before), (_, after)), movable)| Kept { name, before, after, movable })
            .collect(),
        classes: channels.classes.len(),
        channels: channels.classes.iter().map(Vec::len).sum(),
        proof,
    })
}

/// What an arrangement is worth, the first difference deciding.
#[derive(Debug, Clone, Copy)]
struct Worth {
    /// What layers keep less than before anything had moved.
    fallen: f64,
    /// What layers lack of having gained [`RISE`].
    lag: f64,
    /// The sum of the shares kept.
    sum: f64,
}

impl Worth {
    fn of<'a>(layers: impl IntoIterator<Item = &'a Matrix>) -> Worth {
        let mut worth = Worth { fallen: 0.0, lag: 0.0, sum: 0.0 };
        for layer in layers {
            let gained = layer.gained();
            worth.fallen += (-gained - ROUNDING).max(0.0);
            worth.lag += (RISE - gained).max(0.0);
            worth.sum += gained;
        }
        worth
    }

    fn beats(&self, other: &Worth, guarded: bool) -> bool {
        let keys = [(other.fallen, self.fallen), (other.lag, self.lag)];
        for (theirs, ours) in keys.into_iter().filter(|_| guarded) {
            if (ours - theirs).abs() > ROUNDING || (ours > 0.0) != (theirs > 0.0) {
                return ours < theirs;
            }
        }
        self.sum > other.sum + ROUNDING
    }
}

/// Layers to which the arrangement matters.
fn concerned(layers: &[Matrix]) -> impl Iterator<Item = &Matrix> {
    layers.iter().filter(|layer| layer.matters() && layer.movable())
}

/// Where the members of a class stand: layer, axis, lines of each member.
type Places = Vec<(usize, usize, Vec<Vec<usize>>)>;

/// Moves the members of a class: `order[p]` is the member that comes to the place of member `p`.
fn reorder(layers: &mut [Matrix], places: &Places, order: &[usize]) {
    for (layer, axis, lines) in places {
        layers[*layer].reorder(*axis, lines, order);
    }
}

/// Mean share of the norm that the layers keep.
fn mean(layers: &[Matrix]) -> f64 {
    layers.iter().map(Matrix::share).sum::<f64>() / layers.len().max(1) as f64
}

/// The channel that each channel's place holds.
type Held = HashMap<u32, u32>;

/// Searches an arrangement in which no layer keeps less than it does now; returns which channel each channel's place then
/// holds.
///
/// Rows and columns are searched in turn, which can end where only a change of both would gain: so, while there is time,
/// the search begins again from the best arrangement with every class shaken.
fn arrange(
    layers: &mut Vec<Matrix>,
    channels: &Channels,
    search: Search,
    progress: &mut dyn FnMut(Progress),
) -> Held {
    let start = Instant::now();
    let at = |share: f64| start + search.budget.mul_f64(share);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(search.seed);
    let mut to: Held = channels.classes.iter().flatten().map(|c| (*c, *c)).collect();
    let all: Vec<usize> = (0..channels.classes.len()).collect();
    let mut round = Rounds { channels, rng: &mut rng, end: at(0.4), guarded: false, progress };
    round.run(layers, &mut to, &all);
    (round.end, round.guarded) = (at(0.7), true);
    // few layers have fallen or lag, and few classes stand in them
    for least in [-ROUNDING, RISE] {
        for _ in 0..ROUNDS {
            let classes: Vec<usize> =
                all.iter().copied().filter(|c| stands_below(layers, &channels.classes[*c], least)).collect();
            if classes.is_empty() {
                break;
            }
            round.run(layers, &mut to, &classes);
        }
    }
    put_back(layers, channels, &mut to);
    round.end = at(0.9);
    round.run(layers, &mut to, &all);
    round.end = at(1.0);
    let mut best = (Worth::of(concerned(layers)), to.clone());
    for _ in 0..RESTARTS {
        if Instant::now() >= round.end {
            break;
        }
        let mut tried = layers.clone();
        for class in &channels.classes {
            let places = places(&tried, class);
            let mut order: Vec<usize> = (0..class.len()).collect();
            swap_all(&mut order, &shaken(class.len(), round.rng));
            reorder(&mut tried, &places, &order);
            hold(&mut to, class, &order);
        }
        round.run(&mut tried, &mut to, &all);
        let worth = Worth::of(concerned(&tried));
        if worth.beats(&best.0, true) {
            best = (worth, to.clone());
            layers.clone_from(&tried);
        } else {
            to.clone_from(&best.1);
        }
    }
    best.1
}

/// Notes that the members of a class have moved.
fn hold(to: &mut Held, class: &[u32], order: &[usize]) {
    let held: Vec<u32> = order.iter().map(|member| to[&class[*member]]).collect();
    to.extend(class.iter().copied().zip(held));
}

/// The axes along which the class stands, of layers to which the arrangement matters.
fn places(layers: &[Matrix], class: &[u32]) -> Places {
    let axes = (0..layers.len()).filter(|l| layers[*l].matters()).flat_map(|l| [(l, 0), (l, 1)]);
    axes.filter_map(|(layer, axis)| Some((layer, axis, layers[layer].lines(axis, class)?))).collect()
}

fn views(layers: &[Matrix], places: &Places) -> Vec<View> {
    places.iter().filter_map(|(layer, axis, lines)| View::new(&layers[*layer], *axis, lines)).collect()
}

/// Whether a class stands in a layer that has gained less than `least`.
fn stands_below(layers: &[Matrix], class: &[u32], least: f64) -> bool {
    places(layers, class).iter().any(|(layer, ..)| layers[*layer].gained() < least)
}

/// Puts classes back to where they came from, one by one and the best choice first, until no layer keeps less than it did:
/// at the latest when all are back.
fn put_back(layers: &mut Vec<Matrix>, channels: &Channels, to: &mut Held) {
    loop {
        let moved = channels.classes.iter().filter(|class| class.iter().any(|c| to[c] != *c));
        let hurting = moved.filter(|class| stands_below(layers, class, -ROUNDING));
        let tried = hurting.map(|class| {
            let at: HashMap<u32, usize> = class.iter().enumerate().map(|(p, c)| (to[c], p)).collect();
            let order: Vec<usize> = class.iter().map(|c| at[c]).collect();
            let mut without = layers.clone();
            reorder(&mut without, &places(layers, class), &order);
            (Worth::of(concerned(&without)), without, class, order)
        });
        let best = tried.reduce(|best, tried| if tried.0.beats(&best.0, true) { tried } else { best });
        let Some((_, without, class, order)) = best else { return };
        *layers = without;
        hold(to, class, &order);
    }
}

/// Goes over classes of channels, time and again.
struct Rounds<'a> {
    channels: &'a Channels,
    rng: &'a mut Xoshiro256PlusPlus,
    end: Instant,
    /// Whether no layer may fall, and those that lag come first.
    guarded: bool,
    progress: &'a mut dyn FnMut(Progress),
}

impl Rounds<'_> {
    /// Until a round gains nothing.
    fn run(&mut self, layers: &mut [Matrix], to: &mut Held, wanted: &[usize]) {
        let classes: Vec<&Vec<u32>> = wanted.iter().map(|c| &self.channels.classes[*c]).collect();
        let mut last = Worth::of(concerned(layers));
        for round in 0..ROUNDS {
            for (at, class) in classes.iter().enumerate() {
                let now = Instant::now();
                if now >= self.end {
                    return;
                }
                // exchanges are pairs: what is left of the time is shared by the squares of what is left of the classes
                let pairs = |of: &[&Vec<u32>]| of.iter().map(|c| (c.len() as f64).powi(2)).sum::<f64>();
                let share = pairs(&classes[at..=at]) / pairs(&classes[at..]);
                let order = self.best_order(layers, class, now + (self.end - now).mul_f64(share));
                hold(to, class, &order);
                (self.progress)(Progress { round, class: at, classes: classes.len(), kept: mean(layers) });
            }
            let now = Worth::of(concerned(layers));
            let enough = now.sum - last.sum >= 1e-4 * layers.len() as f64;
            if !(enough || self.guarded && last.lag - now.lag > ROUNDING) {
                break;
            }
            last = now;
        }
    }

    /// Reorders a class of channels in all layers; returns which member now stands in each member's place.
    fn best_order(&mut self, layers: &mut [Matrix], class: &[u32], end: Instant) -> Vec<usize> {
        let identity: Vec<usize> = (0..class.len()).collect();
        let places = places(layers, class);
        if views(layers, &places).is_empty() {
            return identity;
        }
        let value = |layers: &[Matrix]| {
            let mut of: Vec<usize> = places.iter().map(|p| p.0).collect();
            of.dedup();
            Worth::of(of.iter().map(|l| &layers[*l]))
        };
        let undo = |layers: &mut [Matrix], order: &[usize]| {
            let mut inverse = vec![0; order.len()];
            order.iter().enumerate().for_each(|(p, member)| inverse[*member] = p);
            reorder(layers, &places, &inverse);
        };
        let compose = |first: &[usize], then: &[usize]| then.iter().map(|p| first[*p]).collect::<Vec<_>>();

        let mut best = value(layers);
        let mut order = identity.clone();
        // channels of like norm side by side: often a better start than what training left
        let start = by_norm(&views(layers, &places));
        reorder(layers, &places, &start);
        let sorted = value(layers);
        if sorted.beats(&best, self.guarded) {
            (best, order) = (sorted, start);
        } else {
            undo(layers, &start);
        }
        let mut escapes = 0;
        for pass in 0..PASSES * (1 + ESCAPES) {
            if Instant::now() >= end {
                break;
            }
            let mut views = views(layers, &places);
            let mut exchanges = vec![];
            if pass > 0 && escapes > 0 {
                exchanges = shaken(class.len(), self.rng);
                for view in &mut views {
                    exchanges.iter().for_each(|(p, q)| view.exchange(*p, *q));
                }
            }
            // after an escape, two passes bring it home
            for _ in 0..if escapes > 0 { 2 } else { 1 } {
                self.greedy(&mut views, class.len(), &mut exchanges, end);
            }
            let before = best;
            let tries = if self.guarded { HALVINGS } else { 1 };
            for _ in 0..tries {
                let mut step = identity.clone();
                swap_all(&mut step, &exchanges);
                reorder(layers, &places, &step);
                let now = value(layers);
                if now.beats(&best, self.guarded) {
                    best = now;
                    order = compose(&order, &step);
                    break;
                }
                undo(layers, &step);
                // gains were those of a threshold held still: the first of the exchanges are the surest
                exchanges.truncate(exchanges.len() / 2);
            }
            let improved = best.beats(&before, self.guarded);
            if !improved || best.sum - before.sum < 1e-5 {
                escapes += 1;
                if escapes > ESCAPES {
                    break;
                }
            }
        }
        order
    }

    /// One pass: every one of `n` members is exchanged with the partner that gains most.
    fn greedy(&mut self, views: &mut [View], n: usize, exchanges: &mut Vec<(usize, usize)>, end: Instant) {
        for p in shuffled(n, self.rng) {
            if Instant::now() >= end {
                break;
            }
            let offset = self.rng.next_u64() as usize % n;
            let (mut best, mut partner) = (1e-9, None);
            for i in 0..n.min(PARTNERS) {
                let q = (offset + i * n.div_ceil(PARTNERS)) % n;
                if q == p {
                    continue;
                }
                if let Some(gain) = self.gain(views, p, q)
                    && gain > best
                {
                    (best, partner) = (gain, Some(q));
                }
            }
            if let Some(q) = partner {
                views.iter_mut().for_each(|view| view.exchange(p, q));
                exchanges.push((p, q));
            }
        }
    }

    /// What an exchange gains over all views; `None` if it is forbidden.
    fn gain(&self, views: &[View], p: usize, q: usize) -> Option<f64> {
        let mut sum = 0.0;
        for view in views {
            let gain = view.gain(p, q);
            sum += gain;
            if self.guarded {
                let (before, after) = (view.gained(), view.gained() + gain);
                if gain < 0.0 && before >= 0.0 && after < 0.0 {
                    return None;
                }
                sum += URGENT * ((RISE - before).max(0.0) - (RISE - after).max(0.0));
            }
        }
        Some(sum)
    }
}

/// Members in the order of their total share of norms.
fn by_norm(views: &[View]) -> Vec<usize> {
    let mut norms: Vec<f64> = vec![];
    for view in views {
        norms.resize(view.shares().count(), 0.0);
        norms.iter_mut().zip(view.shares()).for_each(|(norm, share)| *norm += share);
    }
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|a, b| norms[*a].total_cmp(&norms[*b]).then(a.cmp(b)));
    order
}

/// Random exchanges of an eighth of `n` members.
fn shaken(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<(usize, usize)> {
    let mut pick = || rng.next_u64() as usize % n;
    let pairs: Vec<(usize, usize)> = (0..n.div_ceil(8)).map(|_| (pick(), pick())).collect();
    pairs.into_iter().filter(|(p, q)| p != q).collect()
}

fn swap_all(order: &mut [usize], exchanges: &[(usize, usize)]) {
    exchanges.iter().for_each(|(p, q)| order.swap(*p, *q));
}

fn shuffled(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.next_u64() as usize % (i + 1));
    }
    order
}
