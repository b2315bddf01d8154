//! Rounds over classes of channels: exchanges of two channels, as long as any gains.

use super::Progress;
use super::channels::Channels;
use super::gain::View;
use super::matrix::Matrix;
use super::places::{Held, by_norm, hold, places, reorder, shaken, shuffled, swap_all, views};
use super::worth::{RISE, ROUNDING, Worth, concerned, mean};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;
use std::time::Instant;

/// Rounds over all classes at most.
const ROUNDS: usize = 4;
/// Passes over a class at most, for the first time and after every escape.
const PASSES: usize = 6;
/// Random exchanges that a class may go on from when no exchange gains.
const ESCAPES: usize = 2;
/// What a layer gains on its way to [`RISE`] counts this many times in guarded rounds.
const URGENT: f64 = 1000.0;
/// How often a guarded pass that fails is tried again with half of its exchanges.
const HALVINGS: usize = 5;
/// Partners that are tried for a channel; more are sampled.
const PARTNERS: usize = 256;

/// Goes over classes of channels, time and again.
pub(super) struct Rounds<'a> {
    pub(super) channels: &'a Channels,
    pub(super) rng: &'a mut Xoshiro256PlusPlus,
    pub(super) end: Instant,
    /// Whether no layer may fall, and those that lag come first.
    pub(super) guarded: bool,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl Rounds<'_> {
    /// Until a round gains nothing.
    pub(super) fn run(&mut self, layers: &mut [Matrix], to: &mut Held, wanted: &[usize]) {
        let classes: Vec<&Vec<u32>> = wanted.iter().map(|c| &self.channels.classes[*c]).collect();
        let mut last = Worth::of(concerned(layers));
        for round in 0..ROUNDS {
            for (at, class) in classes.iter().enumerate() {
                let now = Instant::now();
                if now >= self.end {
                    return;
                }
                // exchanges are pairs: what is left of the time is shared by the squares of what is left of
                // the classes
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
