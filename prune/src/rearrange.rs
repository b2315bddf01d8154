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

use crate::apply::{L1, Method, Plan, Planned};
use crate::channels::Channels;
use crate::groups::channel_groups;
use crate::mask::Structure;
use crate::runtime::{Array, Runtime, distance, outputs};
use anyhow::{Context, Result, ensure};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tract_onnx::pb::ModelProto;

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
    /// Largest difference between outputs of the dense model before and after, relative to the largest output.
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

/// What the outputs of a network and of its rearrangement may differ by, relative to the largest output: each layer
/// adds the same products in another order, and errors of a few units in the last place (6e-8) grow through some fifty
/// layers. A channel in the wrong place shows at 1e-2 and more.
pub const PROOF: f64 = 1e-4;

const ROUNDS: usize = 4;
const PASSES: usize = 6;
const ESCAPES: usize = 2;
const RESTARTS: usize = 16;
/// Share of its norm that every layer is to gain, if it can, before the sum of all counts.
const RISE: f64 = 1e-4;
/// Partners that are tried for a channel; more are sampled.
const PARTNERS: usize = 256;

/// Rearranges the channels of `model` for the pruning that `plan` has in mind, and proves on `inputs` (graph inputs of
/// one or more runs) that its outputs are what they were.
///
/// # Errors
/// The model cannot be run, or its outputs have changed: then `model` is as it was.
pub fn rearrange(
    model: &mut ModelProto,
    plan: &Plan,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
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

/// Runs two models that should compute the same; returns their largest relative difference.
///
/// Where the original itself moves by more than a quarter of [`PROOF`] when its inputs change by one part in a million
/// (outputs that are nearly zero, for one), four times that movement is allowed, and never more than ten times [`PROOF`].
///
/// # Errors
/// The difference is larger, or one of them cannot be run.
pub fn prove(
    original: &ModelProto,
    changed: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Vec<Array>],
) -> Result<f64> {
    let names = outputs(original);
    let mut worst = 0f64;
    for inputs in inputs {
        let expected = runtime.run(original, inputs, &names).context("running the original")?;
        ensure!(expected.iter().any(Option::is_some), "no output is f32: nothing can be proven");
        let got = runtime.run(changed, inputs, &names).context("running the rearranged model")?;
        let difference = distance(&got, &expected)?;
        if difference > PROOF {
            let nudged: Vec<Array> = inputs.iter().map(nudge).collect();
            let moved = distance(&runtime.run(original, &nudged, &names)?, &expected)?;
            let allowed = (4.0 * moved).clamp(PROOF, 10.0 * PROOF);
            ensure!(
                difference <= allowed,
                "the rearranged model differs from the original by {difference:.1e}, more than {allowed:.0e}"
            );
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}

/// The same values, every other one a millionth larger.
fn nudge(array: &Array) -> Array {
    let data = array.data.iter().enumerate().map(|(i, v)| if i % 2 == 0 { v * (1.0 + 1e-6) } else { *v });
    Array { shape: array.shape.clone(), data: data.collect() }
}

/// How the norm of a group follows from the sums of its nine taps (or its single one).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Norm {
    Sum,
    /// The centre and the best three of the others: the 56 patterns are all choices of three.
    FourOfNine,
    /// The middle column, and the better end of each row.
    SixOfNine,
}

impl Norm {
    fn of(self, taps: &[f32]) -> f32 {
        match self {
            Norm::Sum => taps.iter().sum(),
            Norm::FourOfNine => {
                let mut top = [0f32; 3];
                for (tap, v) in taps.iter().enumerate().filter(|(tap, _)| *tap != 4) {
                    debug_assert!(tap < 9);
                    if *v > top[0] {
                        top = [*v, top[0], top[1]];
                    } else if *v > top[1] {
                        top = [top[0], *v, top[1]];
                    } else if *v > top[2] {
                        top[2] = *v;
                    }
                }
                taps[4] + top.iter().sum::<f32>()
            }
            Norm::SixOfNine => taps.chunks(3).map(|row| row[1] + row[0].max(row[2])).sum(),
        }
    }
}

/// The magnitudes of a layer's weights in the present arrangement.
#[derive(Clone)]
struct Matrix {
    norm: Norm,
    /// Taps that matter: 1 for sums, else 9.
    taps: usize,
    /// `[row][column][taps]`.
    magnitude: Vec<f32>,
    /// First line of each group of rows and of columns, and the end.
    groups: [Vec<usize>; 2],
    /// The channel that may move at each row and column.
    axes: [Vec<Option<u32>>; 2],
    /// Groups kept; all if none is removed.
    kept: usize,
    total: f64,
    base: f64,
    weight: f64,
}

impl Matrix {
    fn new(model: &ModelProto, channels: &Channels, p: &Planned) -> Result<Matrix> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let weights = p.layer.weights(graph)?;
        let shape = p.layer.shape;
        let (r, c) = p.wish.structure.group();
        let (norm, taps) = match p.wish.structure {
            Structure::FiveOfNine { .. } => (Norm::FourOfNine, 9),
            Structure::ThreeOfNine { .. } => (Norm::SixOfNine, 9),
            _ => (Norm::Sum, 1),
        };
        let magnitude: Vec<f32> = if taps == 9 {
            weights.iter().map(|w| w.abs()).collect()
        } else {
            weights.chunks(shape.taps).map(|kernel| kernel.iter().map(|w| w.abs()).sum()).collect()
        };
        let starts = |n: usize, size: usize| (0..n).step_by(size).chain([n]).collect::<Vec<_>>();
        let rows = match p.wish.structure {
            Structure::ThreeOfNine { .. } => {
                channel_groups(shape.oc).map(|g| g.start).chain([shape.oc]).collect()
            }
            _ => starts(shape.oc, r),
        };
        let masker = L1.masker(&p.layer, p.wish.structure, &weights)?;
        let kept = masker.scores().len() - masker.lowest(p.wish.ratio).len();
        let movable: HashMap<u32, ()> = channels.classes.iter().flatten().map(|c| (*c, ())).collect();
        let axis = |axis: usize, n: usize| -> Vec<Option<u32>> {
            let axis = if p.layer.transposed { 1 - axis } else { axis };
            let list = channels.list(p.layer.place, axis).unwrap_or(&[]);
            let mut count: HashMap<u32, usize> = HashMap::new();
            list.iter().for_each(|l| *count.entry(l.atom).or_default() += 1);
            // a channel that comes several times is moved as it must, but not counted on
            let once = |atom: u32| (movable.contains_key(&atom) && count[&atom] == 1).then_some(atom);
            (0..n).map(|i| list.get(i).and_then(|l| once(l.atom))).collect()
        };
        // depthwise kernels have no input channels of their own
        let cols = if shape.ic == 1 { vec![None] } else { axis(1, shape.ic) };
        let mut matrix = Matrix {
            norm,
            taps,
            total: magnitude.iter().map(|v| f64::from(*v)).sum::<f64>().max(1e-30),
            magnitude,
            groups: [rows, starts(shape.ic, c)],
            axes: [axis(0, shape.oc), cols],
            kept,
            base: 0.0,
            weight: 1.0,
        };
        if p.wish.structure == Structure::TwoOfFour {
            // its norm is not a function of sums; it takes the arrangement that others like
            matrix.axes.iter_mut().for_each(|axis| axis.fill(None));
        }
        matrix.base = matrix.share();
        Ok(matrix)
    }

    fn columns(&self) -> usize {
        self.axes[1].len()
    }

    /// Sums of taps of every group, `[row group][column group][taps]`.
    fn sums(&self) -> Vec<f32> {
        let (rows, cols) = (&self.groups[0], &self.groups[1]);
        let m = cols.len() - 1;
        let mut sums = vec![0f32; (rows.len() - 1) * m * self.taps];
        for (rg, rows) in rows.windows(2).enumerate() {
            for row in rows[0]..rows[1] {
                for (cg, cols) in cols.windows(2).enumerate() {
                    let sum = &mut sums[(rg * m + cg) * self.taps..][..self.taps];
                    for cell in self.magnitude[(row * self.columns() + cols[0]) * self.taps..]
                        [..(cols[1] - cols[0]) * self.taps]
                        .chunks(self.taps)
                    {
                        sum.iter_mut().zip(cell).for_each(|(s, v)| *s += v);
                    }
                }
            }
        }
        sums
    }

    /// Norm and kernels of every group.
    fn norms(&self) -> Vec<(f32, usize)> {
        let (rows, cols) = (&self.groups[0], &self.groups[1]);
        let size = |g: usize, of: &[usize]| of[g + 1] - of[g];
        let m = cols.len() - 1;
        let sums = self.sums();
        let norms = sums.chunks(self.taps).enumerate();
        norms.map(|(g, s)| (self.norm.of(s), size(g / m, rows) * size(g % m, cols))).collect()
    }

    /// Norm per kernel below which groups go, or 0 if none goes.
    fn threshold(&self) -> f32 {
        let norms = self.norms();
        if self.kept == 0 || self.kept >= norms.len() {
            return 0.0;
        }
        let mut means: Vec<f32> = norms.iter().map(|(s, n)| s / *n as f32).collect();
        let at = means.len() - self.kept;
        *means.select_nth_unstable_by(at, f32::total_cmp).1
    }

    /// Share of the norm that is kept.
    fn share(&self) -> f64 {
        let mut norms = self.norms();
        if self.kept > 0 && self.kept < norms.len() {
            norms.sort_by(|a, b| (b.0 / b.1 as f32).total_cmp(&(a.0 / a.1 as f32)));
            norms.truncate(self.kept);
        }
        norms.iter().map(|(s, _)| f64::from(*s)).sum::<f64>() / self.total
    }

    /// Whether an arrangement makes a difference.
    fn matters(&self) -> bool {
        let groups = (self.groups[0].len() - 1) * (self.groups[1].len() - 1);
        self.norm != Norm::Sum || (self.kept > 0 && self.kept < groups)
    }

    /// Whether any of its channels may move.
    fn movable(&self) -> bool {
        self.axes.iter().flatten().any(Option::is_some)
    }

    /// Whether it could keep more than without rearrangement, and does not.
    fn lags(&self) -> bool {
        self.movable() && self.matters() && self.share() < self.base + RISE
    }

    /// Puts line `from[p]` at place `p` of an axis.
    fn reorder(&mut self, axis: usize, from: &[usize]) {
        let (rows, cols, taps) = (self.axes[0].len(), self.columns(), self.taps);
        let mut moved = Vec::with_capacity(self.magnitude.len());
        for row in 0..rows {
            for col in 0..cols {
                let at = if axis == 0 { from[row] * cols + col } else { row * cols + from[col] };
                moved.extend_from_slice(&self.magnitude[at * taps..][..taps]);
            }
        }
        self.magnitude = moved;
    }
}

/// One axis of a layer, prepared for exchanges of its lines.
struct View {
    layer: usize,
    axis: usize,
    /// Line of every member of the class.
    line: Vec<usize>,
    /// Group of every line, and its size.
    group: Vec<usize>,
    size: Vec<usize>,
    other: Vec<usize>,
    /// Sums of each line `[line][other group][taps]` and of each group `[group][other group][taps]`.
    part: Vec<f32>,
    sums: Vec<f32>,
    /// What each group is worth `[group][other group]`.
    worth: Vec<f32>,
    norm: Norm,
    taps: usize,
    threshold: f32,
    scale: f64,
}

impl View {
    fn new(layers: &[Matrix], layer: usize, axis: usize, class: &[u32]) -> Option<View> {
        let matrix = &layers[layer];
        let at: HashMap<u32, usize> =
            matrix.axes[axis].iter().enumerate().filter_map(|(i, c)| Some(((*c)?, i))).collect();
        let line: Vec<usize> = class.iter().map(|c| at.get(c).copied()).collect::<Option<_>>()?;
        let widths = |of: &[usize]| of.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>();
        let (size, other) = (widths(&matrix.groups[axis]), widths(&matrix.groups[1 - axis]));
        let group: Vec<usize> = size.iter().enumerate().flat_map(|(g, n)| vec![g; *n]).collect();
        let (taps, m) = (matrix.taps, other.len());
        let of_other: Vec<usize> = other.iter().enumerate().flat_map(|(g, n)| vec![g; *n]).collect();
        let mut part = vec![0f32; group.len() * m * taps];
        let mut sums = vec![0f32; size.len() * m * taps];
        for (i, cell) in matrix.magnitude.chunks(taps).enumerate() {
            let at = [i / matrix.columns(), i % matrix.columns()];
            let (own, other) = (at[axis], of_other[at[1 - axis]]);
            for (tap, v) in cell.iter().enumerate() {
                part[(own * m + other) * taps + tap] += v;
                sums[(group[own] * m + other) * taps + tap] += v;
            }
        }
        let mut view = View {
            layer,
            axis,
            line,
            group,
            size,
            other,
            part,
            sums,
            worth: vec![],
            norm: matrix.norm,
            taps,
            threshold: matrix.threshold(),
            scale: matrix.weight / matrix.total,
        };
        view.worth = (0..view.size.len() * m)
            .map(|g| view.value(&view.sums[g * taps..][..taps], view.size[g / m] * view.other[g % m]))
            .collect();
        Some(view)
    }

    fn value(&self, sums: &[f32], kernels: usize) -> f32 {
        (self.norm.of(sums) - self.threshold * kernels as f32).max(0.0)
    }

    /// Gain of exchanging the members `p` and `q` of the class.
    fn gain(&self, p: usize, q: usize) -> f64 {
        let (p, q) = (self.line[p], self.line[q]);
        let (a, b) = (self.group[p], self.group[q]);
        if a == b {
            return 0.0;
        }
        let (m, d) = (self.other.len(), self.taps);
        let row = |of: usize| of * m * d..(of + 1) * m * d;
        let (part_p, part_q) = (&self.part[row(p)], &self.part[row(q)]);
        let (sum_a, sum_b) = (&self.sums[row(a)], &self.sums[row(b)]);
        let (size_a, size_b) = (self.size[a] as f32 * self.threshold, self.size[b] as f32 * self.threshold);
        let mut gain = 0f32;
        if self.norm == Norm::Sum {
            for o in 0..m {
                let change = part_q[o] - part_p[o];
                let width = self.other[o] as f32;
                gain += (sum_a[o] + change - size_a * width).max(0.0)
                    + (sum_b[o] - change - size_b * width).max(0.0);
            }
        } else {
            let (mut new_a, mut new_b) = ([0f32; 9], [0f32; 9]);
            for o in 0..m {
                for tap in 0..9 {
                    let at = o * 9 + tap;
                    let change = part_q[at] - part_p[at];
                    new_a[tap] = sum_a[at] + change;
                    new_b[tap] = sum_b[at] - change;
                }
                let width = self.other[o] as f32;
                gain += (self.norm.of(&new_a) - size_a * width).max(0.0)
                    + (self.norm.of(&new_b) - size_b * width).max(0.0);
            }
        }
        let old: f32 =
            self.worth[a * m..][..m].iter().sum::<f32>() + self.worth[b * m..][..m].iter().sum::<f32>();
        f64::from(gain - old) * self.scale
    }

    fn exchange(&mut self, p: usize, q: usize) {
        let (p, q) = (self.line[p], self.line[q]);
        let (a, b) = (self.group[p], self.group[q]);
        let n = self.other.len() * self.taps;
        for i in 0..n {
            let change = self.part[q * n + i] - self.part[p * n + i];
            if a != b {
                self.sums[a * n + i] += change;
                self.sums[b * n + i] -= change;
            }
            self.part.swap(p * n + i, q * n + i);
        }
        let m = self.other.len();
        for g in [a, b] {
            for o in 0..m {
                let at = g * m + o;
                self.worth[at] =
                    self.value(&self.sums[at * self.taps..][..self.taps], self.size[g] * self.other[o]);
            }
        }
    }
}

/// Where the members of a class stand: layer, axis, line of each member.
type Places = Vec<(usize, usize, Vec<usize>)>;

/// Moves the members of a class: `order[p]` is the member that comes to the place of member `p`.
fn reorder(layers: &mut [Matrix], places: &Places, order: &[usize]) {
    for (layer, axis, line) in places {
        let mut from: Vec<usize> = (0..layers[*layer].axes[*axis].len()).collect();
        order.iter().enumerate().for_each(|(p, member)| from[line[p]] = line[*member]);
        layers[*layer].reorder(*axis, &from);
    }
}

/// Mean share of the norm that the layers keep.
fn mean(layers: &[Matrix]) -> f64 {
    layers.iter().map(Matrix::share).sum::<f64>() / layers.len().max(1) as f64
}

/// Searches an arrangement; returns which channel each channel's place now holds.
///
/// Rows and columns are searched in turn, which can end where only a change of both would gain: so, while there is time,
/// the search begins again from the best arrangement with every class shaken.
fn arrange(
    layers: &mut [Matrix],
    channels: &Channels,
    search: Search,
    progress: &mut dyn FnMut(Progress),
) -> HashMap<u32, u32> {
    let end = Instant::now() + search.budget;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(search.seed);
    let mut to: HashMap<u32, u32> = channels.classes.iter().flatten().map(|c| (*c, *c)).collect();
    rounds(layers, channels, &mut to, &mut rng, end, progress);
    let lag = |layers: &[Matrix]| layers.iter().filter(|l| l.lags()).count();
    let mut best = (lag(layers), mean(layers), to.clone());
    for _ in 0..RESTARTS {
        if Instant::now() >= end {
            break;
        }
        let mut tried = layers.to_vec();
        for class in &channels.classes {
            let places: Places =
                views(&tried, class).into_iter().map(|v| (v.layer, v.axis, v.line)).collect();
            let mut order: Vec<usize> = (0..class.len()).collect();
            shake(&mut [], &mut order, &mut rng);
            reorder(&mut tried, &places, &order);
            let held: Vec<u32> = order.iter().map(|member| to[&class[*member]]).collect();
            to.extend(class.iter().copied().zip(held));
        }
        rounds(&mut tried, channels, &mut to, &mut rng, end, progress);
        let kept = mean(&tried);
        let lagging = lag(&tried);
        if lagging < best.0 || (lagging == best.0 && kept > best.1 + 1e-9) {
            best = (lagging, kept, to.clone());
            layers.clone_from_slice(&tried);
        } else {
            to = best.2.clone();
        }
    }
    best.2
}

/// Goes over all classes until a round gains nothing.
fn rounds(
    layers: &mut [Matrix],
    channels: &Channels,
    to: &mut HashMap<u32, u32>,
    rng: &mut Xoshiro256PlusPlus,
    end: Instant,
    progress: &mut dyn FnMut(Progress),
) {
    let mut last = mean(layers);
    for round in 0..ROUNDS {
        for (at, class) in channels.classes.iter().enumerate() {
            let now = Instant::now();
            if now >= end {
                return;
            }
            // exchanges are pairs: what is left of the time is shared by the squares of what is left of the classes
            let pairs = |classes: &[Vec<u32>]| classes.iter().map(|c| (c.len() as f64).powi(2)).sum::<f64>();
            let share = pairs(&channels.classes[at..=at]) / pairs(&channels.classes[at..]);
            let order = best_order(layers, class, rng, now + (end - now).mul_f64(share));
            let held: Vec<u32> = order.iter().map(|member| to[&class[*member]]).collect();
            to.extend(class.iter().copied().zip(held));
            progress(Progress { round, class: at, classes: channels.classes.len(), kept: mean(layers) });
        }
        let kept = mean(layers);
        let mut lagging = false;
        for layer in layers.iter_mut().filter(|l| l.lags()) {
            // a layer that pays for the others counts more from now on
            layer.weight *= 4.0;
            lagging = true;
        }
        if kept - last < 1e-4 && !lagging {
            break;
        }
        last = kept;
    }
}

/// The axes along which the whole class stands, of layers to which the arrangement matters.
fn views(layers: &[Matrix], class: &[u32]) -> Vec<View> {
    let axes = (0..layers.len()).filter(|l| layers[*l].matters()).flat_map(|l| [(l, 0), (l, 1)]);
    axes.filter_map(|(layer, axis)| View::new(layers, layer, axis, class)).collect()
}

/// Reorders a class of channels in all layers; returns which member now stands in each member's place.
fn best_order(
    layers: &mut [Matrix],
    class: &[u32],
    rng: &mut Xoshiro256PlusPlus,
    end: Instant,
) -> Vec<usize> {
    let identity: Vec<usize> = (0..class.len()).collect();
    let concerned: Places = views(layers, class).into_iter().map(|v| (v.layer, v.axis, v.line)).collect();
    if concerned.is_empty() {
        return identity;
    }
    let value = |layers: &[Matrix]| -> f64 {
        let mut of: Vec<usize> = concerned.iter().map(|c| c.0).collect();
        of.dedup();
        of.iter().map(|l| layers[*l].share() * layers[*l].weight).sum()
    };
    let apply = |layers: &mut [Matrix], order: &[usize]| reorder(layers, &concerned, order);
    let undo = |layers: &mut [Matrix], order: &[usize]| {
        let mut inverse = vec![0; order.len()];
        order.iter().enumerate().for_each(|(p, member)| inverse[*member] = p);
        apply(layers, &inverse);
    };
    let compose = |first: &[usize], then: &[usize]| then.iter().map(|p| first[*p]).collect::<Vec<_>>();

    let mut best = value(layers);
    let mut order = identity.clone();
    // channels of like norm side by side: often a better start than what training left
    let start = by_norm(&views(layers, class));
    apply(layers, &start);
    let sorted = value(layers);
    if sorted > best {
        (best, order) = (sorted, start);
    } else {
        undo(layers, &start);
    }
    let mut escapes = 0;
    for pass in 0..PASSES * (1 + ESCAPES) {
        if Instant::now() >= end {
            break;
        }
        let mut views = views(layers, class);
        let mut step = identity.clone();
        if pass > 0 && escapes > 0 {
            shake(&mut views, &mut step, rng);
        }
        // after an escape, two passes bring it home
        let passes = if escapes > 0 { 2 } else { 1 };
        let gained = (0..passes).map(|_| greedy(&mut views, &mut step, rng, end)).sum::<f64>();
        apply(layers, &step);
        let now = value(layers);
        let improved = now > best + 1e-9;
        if improved {
            best = now;
            order = compose(&order, &step);
        } else {
            undo(layers, &step);
        }
        if !improved || gained < 1e-5 {
            escapes += 1;
            if escapes > ESCAPES {
                break;
            }
        }
    }
    order
}

/// Members in the order of their total share of norms.
fn by_norm(views: &[View]) -> Vec<usize> {
    let members = views.first().map_or(0, |v| v.line.len());
    let mut norms = vec![0f64; members];
    for view in views {
        let n = view.other.len() * view.taps;
        for (norm, line) in norms.iter_mut().zip(&view.line) {
            *norm += view.part[line * n..][..n].iter().map(|v| f64::from(*v)).sum::<f64>() * view.scale;
        }
    }
    let mut order: Vec<usize> = (0..members).collect();
    order.sort_by(|a, b| norms[*a].total_cmp(&norms[*b]).then(a.cmp(b)));
    order
}

/// One pass: every member is exchanged with the partner that gains most. Returns the gain.
fn greedy(views: &mut [View], step: &mut [usize], rng: &mut Xoshiro256PlusPlus, end: Instant) -> f64 {
    let n = step.len();
    let mut total = 0.0;
    for p in shuffled(n, rng) {
        if Instant::now() >= end {
            break;
        }
        let offset = rng.next_u64() as usize % n;
        let (mut best, mut partner) = (1e-9, None);
        for i in 0..n.min(PARTNERS) {
            let q = (offset + i * n.div_ceil(PARTNERS)) % n;
            if q == p {
                continue;
            }
            let gain = views.iter().map(|view| view.gain(p, q)).sum();
            if gain > best {
                (best, partner) = (gain, Some(q));
            }
        }
        if let Some(q) = partner {
            views.iter_mut().for_each(|view| view.exchange(p, q));
            step.swap(p, q);
            total += best;
        }
    }
    total
}

/// Random exchanges of an eighth of the members.
fn shake(views: &mut [View], step: &mut [usize], rng: &mut Xoshiro256PlusPlus) {
    let n = step.len();
    for _ in 0..n.div_ceil(8) {
        let (p, q) = (rng.next_u64() as usize % n, rng.next_u64() as usize % n);
        if p != q {
            views.iter_mut().for_each(|view| view.exchange(p, q));
            step.swap(p, q);
        }
    }
}

fn shuffled(n: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.next_u64() as usize % (i + 1));
    }
    order
}
