//! The search for an arrangement of all classes of channels.

use super::channels::Channels;
use super::gain::View;
use super::matrix::Matrix;
use super::rounds::{Rounds, shaken, swap_all};
use super::{Progress, Search};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::collections::HashMap;
use std::time::Instant;

/// Rounds of a search that minds every layer, for each of its aims.
const ROUNDS: usize = 4;
/// Times that the search begins again from a shaken arrangement.
const RESTARTS: usize = 16;
/// Share of its norm that every layer is to gain, if it can, before the sum of all counts.
pub(super) const RISE: f64 = 1e-4;
/// What sums of a layer's norm in another order may differ by.
pub(super) const ROUNDING: f64 = 1e-9;

/// What an arrangement is worth, the first difference deciding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth {
    /// What layers keep less than before anything had moved.
    fallen: f64,
    /// What layers lack of having gained [`RISE`].
    pub(super) lag: f64,
    /// The sum of the shares kept.
    pub(super) sum: f64,
}

impl Worth {
    pub(super) fn of<'a>(layers: impl IntoIterator<Item = &'a Matrix>) -> Worth {
        let mut worth = Worth { fallen: 0.0, lag: 0.0, sum: 0.0 };
        for layer in layers {
            let gained = layer.gained();
            worth.fallen += (-gained - ROUNDING).max(0.0);
            worth.lag += (RISE - gained).max(0.0);
            worth.sum += gained;
        }
        worth
    }

    pub(super) fn beats(&self, other: &Worth, guarded: bool) -> bool {
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
pub(super) fn concerned(layers: &[Matrix]) -> impl Iterator<Item = &Matrix> {
    layers.iter().filter(|layer| layer.matters() && layer.movable())
}

/// Where the members of a class stand: layer, axis, lines of each member.
pub(super) type Places = Vec<(usize, usize, Vec<Vec<usize>>)>;

/// Moves the members of a class: `order[p]` is the member that comes to the place of member `p`.
pub(super) fn reorder(layers: &mut [Matrix], places: &Places, order: &[usize]) {
    for (layer, axis, lines) in places {
        layers[*layer].reorder(*axis, lines, order);
    }
}

/// Mean share of the norm that the layers keep.
pub(super) fn mean(layers: &[Matrix]) -> f64 {
    layers.iter().map(Matrix::share).sum::<f64>() / layers.len().max(1) as f64
}

/// The channel that each channel's place holds.
pub(super) type Held = HashMap<u32, u32>;

/// Searches an arrangement in which no layer keeps less than it does now; returns which channel each channel's place then
/// holds.
///
/// Rows and columns are searched in turn, which can end where only a change of both would gain: so, while there is time,
/// the search begins again from the best arrangement with every class shaken.
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

/// Notes that the members of a class have moved.
pub(super) fn hold(to: &mut Held, class: &[u32], order: &[usize]) {
    let held: Vec<u32> = order.iter().map(|member| to[&class[*member]]).collect();
    to.extend(class.iter().copied().zip(held));
}

/// The axes along which the class stands, of layers to which the arrangement matters.
pub(super) fn places(layers: &[Matrix], class: &[u32]) -> Places {
    let axes = (0..layers.len()).filter(|l| layers[*l].matters()).flat_map(|l| [(l, 0), (l, 1)]);
    axes.filter_map(|(layer, axis)| Some((layer, axis, layers[layer].lines(axis, class)?))).collect()
}

pub(super) fn views(layers: &[Matrix], places: &Places) -> Vec<View> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rearrange::labels::Label;
    use crate::rearrange::norm::Norm;
    use std::time::Duration;

    /// One layer of rows in groups of four, one group of columns, half of the groups kept; the rows may be exchanged.
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

    /// The first difference decides: who falls, then who lags, then the sum; the sum alone where nobody is guarded.
    #[test]
    fn worth_is_compared_in_order() {
        let worth = |fallen, lag, sum| Worth { fallen, lag, sum };
        let order = [worth(0.0, 0.0, 1.0), worth(0.0, 0.1, 2.0), worth(0.1, 0.0, 3.0)];
        for pair in order.windows(2) {
            assert!(pair[0].beats(&pair[1], true) && !pair[1].beats(&pair[0], true));
            assert!(!pair[0].beats(&pair[1], false) && pair[1].beats(&pair[0], false));
        }
        assert!(!order[0].beats(&order[0], true) && !order[0].beats(&order[0], false));
    }
}
