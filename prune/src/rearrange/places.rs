//! Where the channels of a class stand, and how they change places.

use super::gain::View;
use super::matrix::Matrix;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;
use std::collections::HashMap;

/// Where the members of a class stand: layer, axis, lines of each member.
pub(super) type Places = Vec<(usize, usize, Vec<Vec<usize>>)>;

/// The channel that each channel's place holds.
pub(super) type Held = HashMap<u32, u32>;

/// The axes along which the class stands, of layers to which the arrangement matters.
pub(super) fn places(layers: &[Matrix], class: &[u32]) -> Places {
    let axes = (0..layers.len()).filter(|l| layers[*l].matters()).flat_map(|l| [(l, 0), (l, 1)]);
    axes.filter_map(|(layer, axis)| Some((layer, axis, layers[layer].lines(axis, class)?))).collect()
}

pub(super) fn views(layers: &[Matrix], places: &Places) -> Vec<View> {
    places.iter().filter_map(|(layer, axis, lines)| View::new(&layers[*layer], *axis, lines)).collect()
}

/// Moves the members of a class: `order[p]` is the member that comes to the place of member `p`.
pub(super) fn reorder(layers: &mut [Matrix], places: &Places, order: &[usize]) {
    for (layer, axis, lines) in places {
        layers[*layer].reorder(*axis, lines, order);
    }
}

/// Notes that the members of a class have moved.
pub(super) fn hold(to: &mut Held, class: &[u32], order: &[usize]) {
    let held: Vec<u32> = order.iter().map(|member| to[&class[*member]]).collect();
    to.extend(class.iter().copied().zip(held));
}

/// Members in the order of their total share of norms.
pub(super) fn by_norm(views: &[View]) -> Vec<usize> {
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
pub(super) fn shaken(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<(usize, usize)> {
    let mut pick = || rng.next_u64() as usize % n;
    let pairs: Vec<(usize, usize)> = (0..n.div_ceil(8)).map(|_| (pick(), pick())).collect();
    pairs.into_iter().filter(|(p, q)| p != q).collect()
}

pub(super) fn swap_all(order: &mut [usize], exchanges: &[(usize, usize)]) {
    exchanges.iter().for_each(|(p, q)| order.swap(*p, *q));
}

pub(super) fn shuffled(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.next_u64() as usize % (i + 1));
    }
    order
}
