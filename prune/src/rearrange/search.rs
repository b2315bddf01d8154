//! The search for an arrangement of all classes of channels.

use super::channels::Channels;
use super::matrix::Matrix;
use super::places::{Held, hold, places, reorder, shaken, swap_all};
use super::rounds::Rounds;
use super::worth::{RISE, ROUNDING, Worth, concerned};
use super::{Progress, Search};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::collections::HashMap;
use std::time::Instant;

/// Rounds of a search that minds every layer, for each of its aims.
const ROUNDS: usize = 4;
/// Times that the search begins again from a shaken arrangement.
const RESTARTS: usize = 16;

/// Searches an arrangement in which no layer keeps less than it does now; returns which channel each
/// channel's place then holds.
///
/// Rows and columns are searched in turn, which can end where only a change of both would gain: so, while
/// there is time, the search begins again from the best arrangement with every class shaken.
pub(super) fn arrange(
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

/// Whether a class stands in a layer that has gained less than `least`.
fn stands_below(layers: &[Matrix], class: &[u32], least: f64) -> bool {
    places(layers, class).iter().any(|(layer, ..)| layers[*layer].gained() < least)
}

/// Puts classes back to where they came from, one by one and the best choice first, until no layer keeps less
/// than it did: at the latest when all are back.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rearrange::labels::Label;
    use crate::rearrange::norm::Norm;
    use std::time::Duration;

    /// One layer of rows in groups of four, one group of columns, half of the groups kept; the rows may be
    /// exchanged.
    fn layer(rows: &[f32]) -> (Matrix, Channels) {
        let n = rows.len();
        let labels = (0..n as u32).map(|atom| Some(Label { atom, tag: 0 })).collect();
        let groups = [(0..=n).step_by(4).collect(), vec![0, 1]];
        let matrix = Matrix::of_parts(Norm::Sum, 1, rows.to_vec(), groups, [labels, vec![None]], n / 8);
        (matrix, Channels { lists: vec![], classes: vec![(0..n as u32).collect()] })
    }

    fn found(rows: &[f32], search: Search) -> (Vec<Matrix>, Held) {
        let (matrix, channels) = layer(rows);
        let mut layers = vec![matrix];
        let to = arrange(&mut layers, &channels, search, &mut |_| ());
        (layers, to)
    }

    /// Heavy rows are scattered over all groups and end up in the groups that are kept.
    #[test]
    fn heavy_rows_come_together() {
        let rows: Vec<f32> = (0..16).map(|i| if i % 2 == 0 { 1.0 } else { 0.125 }).collect();
        let (layers, to) = found(&rows, Search::default());
        let total: f64 = rows.iter().map(|v| f64::from(*v)).sum();
        assert!((layers[0].share() - 8.0 / total).abs() < 1e-9, "{}", layers[0].share());
        // every channel stands somewhere, and the groups that are kept hold the heavy ones
        let mut held: Vec<u32> = (0..16).map(|place| to[&place]).collect();
        let heavy = |group: &[u32]| group.iter().all(|c| c % 2 == 0);
        assert_eq!(held.chunks(4).filter(|group| heavy(group)).count(), 2, "{held:?}");
        held.sort_unstable();
        assert!(held.into_iter().eq(0..16));
    }

    #[test]
    fn a_seed_gives_one_arrangement() {
        let rows: Vec<f32> = (0..48).map(|i| ((i * 7919 + 31) % 101) as f32 / 101.0).collect();
        let search = Search { seed: 3, ..Search::default() };
        let (once, again) = (found(&rows, search), found(&rows, search));
        assert_eq!(once.1, again.1);
        let before = layer(&rows).0.share();
        assert!(once.0[0].share() > before, "{} after {before}", once.0[0].share());
    }

    #[test]
    fn without_time_nothing_moves() {
        let rows: Vec<f32> = (0..16).map(|i| (i % 3) as f32).collect();
        let (layers, to) = found(&rows, Search { seed: 1, budget: Duration::ZERO });
        assert_eq!(layers[0].share(), layer(&rows).0.share());
        assert!(to.iter().all(|(place, channel)| place == channel));
    }
}
