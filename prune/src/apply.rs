//! Prunes the layers of a model after a recipe.

use crate::layer::{Layer, Role, Skip, layers};
use crate::mask::{Masker, ranked};
use crate::rearrange::Rearranged;
use crate::recipe::{Recipe, Scope, Wish};
use anyhow::{Context, Result, ensure};
use onnx_file::sparsify_initializers;
use serde::Serialize;
use sparsity::Structure;
use std::collections::{BTreeMap, HashMap};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto};

/// Share of a layer's groups that a threshold over layers may remove: a layer without weights cuts the
/// network in two.
const MOST: f64 = 0.95;

/// Bits of the number of a group of a layer: more groups than memory has room for.
const GROUP_BITS: u32 = 40;

/// What one layer has become.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// Name of the node, or of its first output.
    pub name: String,
    /// Operator.
    pub op: String,
    /// What it computes, if its weights can be read.
    pub role: Option<Role>,
    /// Output by input channels (of one channel group) by taps.
    pub shape: Option<[usize; 3]>,
    /// Structure, if it was pruned.
    pub structure: Option<String>,
    /// Fraction of the groups that was to be removed, for structures that remove groups.
    pub ratio: Option<f64>,
    /// Fraction of the groups that was removed.
    pub removed: Option<f64>,
    /// Share of weights that are not zero now.
    pub density: Option<f64>,
    /// Sum of the magnitudes of the original weights that stay, over that of all.
    pub kept_l1: Option<f64>,
    /// The same without rearrangement, if there was one.
    pub kept_l1_before: Option<f64>,
    /// Why it was left alone, if it was.
    pub skipped: Option<String>,
}

/// What a model has become.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Every convolution and matrix product in the order of the nodes.
    pub layers: Vec<LayerReport>,
    /// Share of nonzero weights over all layers that were pruned.
    pub density: f64,
}

impl Report {
    /// Layers that were pruned.
    pub fn pruned(&self) -> impl Iterator<Item = &LayerReport> {
        self.layers.iter().filter(|layer| layer.skipped.is_none())
    }

    /// Notes of every layer what it would have kept without rearrangement.
    pub fn note_rearranged(&mut self, rearranged: &Rearranged) {
        let before: HashMap<&str, f64> = rearranged.layers.iter().map(|l| (&*l.name, l.before)).collect();
        for layer in &mut self.layers {
            layer.kept_l1_before = before.get(&*layer.name).copied();
        }
    }
}

/// How weights are judged, and what becomes of those that stay.
pub trait Method {
    /// Patterns and scores of the groups of a layer with weights `[oc][ic][taps]`.
    ///
    /// # Errors
    /// The structure does not fit the layer.
    fn masker(&self, layer: &Layer, structure: Structure, weights: &[f32]) -> Result<Masker>;

    /// Sets what is not kept to zero; may change what is kept, and what the graph adds to the layer's output.
    ///
    /// # Errors
    /// The layer cannot be edited.
    fn prune(&self, graph: &mut GraphProto, layer: &Layer, weights: &mut [f32], keep: &[bool]) -> Result<()>;
}

/// Weights of least magnitude go, the others stay as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct L1;

impl Method for L1 {
    fn masker(&self, layer: &Layer, structure: Structure, weights: &[f32]) -> Result<Masker> {
        let saliency: Vec<f64> = weights.iter().map(|w| f64::from(w.abs())).collect();
        Masker::new(structure, layer.shape, &saliency)
    }

    fn prune(&self, _: &mut GraphProto, _: &Layer, weights: &mut [f32], keep: &[bool]) -> Result<()> {
        zero(weights, keep);
        Ok(())
    }
}

/// Sets what is not kept to zero.
pub fn zero(weights: &mut [f32], keep: &[bool]) {
    weights.iter_mut().zip(keep).filter(|(_, keep)| !**keep).for_each(|(w, _)| *w = 0.0);
}

/// What is going to happen to each layer of a model.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In the order of the nodes.
    pub layers: Vec<Result<Planned, Skip>>,
}

/// A layer that is going to be pruned.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The layer.
    pub layer: Layer,
    /// What the recipe, a threshold or a budget wants.
    pub wish: Wish,
}

/// What pruning a layer has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// Fraction of the groups that went, if it removes groups.
    pub(crate) removed: Option<f64>,
    /// Share of the weights that are not zero now.
    pub(crate) density: f64,
    /// Sum of the magnitudes that stay over that of all.
    pub(crate) kept_l1: f64,
}

impl Planned {
    /// The layer once it has been pruned.
    pub(crate) fn report(&self, done: Done) -> LayerReport {
        let Planned { layer, wish } = self;
        LayerReport {
            name: layer.name.clone(),
            op: layer.op.clone(),
            role: Some(layer.role),
            shape: Some([layer.shape.oc, layer.shape.ic, layer.shape.taps]),
            structure: Some(wish.structure.to_string()),
            ratio: wish.structure.removes_groups().then_some(wish.ratio),
            removed: done.removed,
            density: Some(done.density),
            kept_l1: Some(done.kept_l1),
            kept_l1_before: None,
            skipped: None,
        }
    }

    /// The layer as one that is left alone after all.
    pub(crate) fn left(&self, reason: &str) -> Skip {
        let (name, op) = (self.layer.name.clone(), self.layer.op.clone());
        Skip { name, op, reason: reason.into() }
    }
}

impl Plan {
    /// What `recipe` says about every layer of `model`.
    ///
    /// # Errors
    /// As [`Recipe::wishes`]; the recipe asks for nothing; no layer is left to be pruned.
    pub fn new(model: &ModelProto, recipe: &Recipe) -> Result<Plan> {
        let plan = Plan::of(model, recipe)?;
        ensure!(
            recipe.asks() || plan.planned().next().is_some(),
            "nothing says how much to prune: give a ratio (--ratio, --conv1x1 4x4:0.5, --layer GLOB=R), a budget (--speedup, \
             --latency-ms, --max-error) or patterns (--dwconv3x3 3:9, --conv3x3 5:9, --conv1x1 2:4)"
        );
        plan.ready()
    }

    /// What `recipe` says about every layer of `model` if it has a ratio; those that have none get 0, for
    /// [`crate::budget::fit`] or the caller to replace.
    ///
    /// # Errors
    /// As [`Recipe::wishes`]; no layer is left to be pruned.
    pub fn without_ratios(model: &ModelProto, recipe: &Recipe) -> Result<Plan> {
        Plan::of(model, &Recipe { ratio: recipe.ratio.or(Some(0.0)), ..recipe.clone() })?.ready()
    }

    fn of(model: &ModelProto, recipe: &Recipe) -> Result<Plan> {
        let found = layers(model)?;
        let wishes = recipe.wishes(&found)?;
        let planned: Vec<Result<Planned, Skip>> = found
            .into_iter()
            .zip(wishes)
            .map(|(found, wish)| match (found, wish) {
                (Ok(layer), Ok(wish)) => Ok(Planned { layer, wish }),
                (Ok(Layer { name, op, .. }), Err(reason)) => Err(Skip { name, op, reason }),
                (Err(skip), _) => Err(skip),
            })
            .collect();
        ensure!(!planned.is_empty(), "the model has neither convolutions nor matrix products");
        Ok(Plan { layers: planned })
    }

    /// Fails if there is nothing to do.
    fn ready(self) -> Result<Plan> {
        let reasons: BTreeMap<&str, usize> =
            self.layers.iter().filter_map(|p| p.as_ref().err()).fold(BTreeMap::new(), |mut all, skip| {
                *all.entry(&skip.reason).or_default() += 1;
                all
            });
        let reasons: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n}: {reason}")).collect();
        ensure!(self.layers.iter().any(Result::is_ok), "no layer can be pruned ({})", reasons.join("; "));
        Ok(self)
    }

    /// The plan for those of its layers whose number, counted among the planned ones, is `wanted`; the others
    /// are left alone for `reason`.
    pub(crate) fn only(&self, wanted: impl Fn(usize) -> bool, reason: &str) -> Plan {
        let mut plan = self.clone();
        for (at, entry) in plan.layers.iter_mut().filter(|entry| entry.is_ok()).enumerate() {
            if let Ok(p) = entry
                && !wanted(at)
            {
                *entry = Err(p.left(reason));
            }
        }
        plan
    }

    /// The layers that are going to be pruned.
    pub fn planned(&self) -> impl Iterator<Item = &Planned> {
        self.layers.iter().flatten()
    }

    /// Replaces the ratios of layers without a ratio of their own by one threshold on the groups' scores, each
    /// relative to the mean of its layer, so that the `ratio` fraction of all their weights goes. No
    /// layer loses more than 95 % of its groups. Returns the maskers of those layers, by their number.
    ///
    /// # Errors
    /// As [`Method::masker`].
    pub fn spread(
        &mut self,
        model: &ModelProto,
        method: &dyn Method,
        ratio: f64,
    ) -> Result<HashMap<usize, Masker>> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        // of each group its score, then its layer and its number there
        let mut candidates: Vec<u128> = vec![];
        let mut layers: Vec<(usize, Masker, usize)> = vec![];
        let roles = [Role::Pointwise, Role::FullyConnected, Role::Recurrent, Role::Transposed, Role::Other];
        let free =
            |p: &Planned| !p.wish.fixed && p.wish.structure.removes_groups() && roles.contains(&p.layer.role);
        for (at, planned) in self.layers.iter().enumerate() {
            let Ok(p) = planned else { continue };
            if !free(p) {
                continue;
            }
            let masker = method.masker(&p.layer, p.wish.structure, &p.layer.weights(graph)?)?;
            let scores = masker.scores();
            let mean = scores.iter().sum::<f64>() / scores.len() as f64;
            let scale = if mean > 0.0 { 1.0 / mean } else { 0.0 };
            let first = candidates.len();
            candidates.extend(scores.iter().enumerate().map(|(group, score)| {
                ranked(score * scale, (layers.len() as u64) << GROUP_BITS | group as u64)
            }));
            let most = (MOST.max(ratio) * scores.len() as f64) as usize;
            if most < scores.len() {
                candidates[first..].select_nth_unstable(most);
                candidates.truncate(first + most);
            }
            layers.push((at, masker, 0));
        }
        let equal: Vec<Option<usize>> = layers.iter().map(|(_, masker, _)| masker.equal_size()).collect();
        let all: f64 = layers.iter().map(|(_, masker, _)| masker.patterns().len() as f64).sum();
        let place = |candidate: u128| {
            let place = candidate as u64;
            ((place >> GROUP_BITS) as usize, (place & ((1 << GROUP_BITS) - 1)) as usize)
        };
        let size = |candidate: u128| {
            let (layer, group) = place(candidate);
            equal[layer].unwrap_or_else(|| layers[layer].1.size(group)) as f64
        };
        let gone = going(&mut candidates, ratio * all, size);
        for candidate in &candidates[..gone] {
            layers[place(*candidate).0].2 += 1;
        }
        for (at, masker, removed) in &layers {
            if let Ok(p) = &mut self.layers[*at] {
                p.wish.ratio = *removed as f64 / masker.scores().len() as f64;
            }
        }
        Ok(layers.into_iter().map(|(at, masker, _)| (at, masker)).collect())
    }

    /// Prunes the layers of `model`, which must be the one that the plan was made for, or that model
    /// rearranged.
    ///
    /// # Errors
    /// A layer has changed since the plan was made.
    pub fn apply(&self, model: &mut ModelProto, method: &dyn Method) -> Result<Report> {
        let graph = model.graph.as_mut().context("the model has no graph")?;
        let mut reports = HashMap::new();
        for p in self.planned() {
            let report = prune_one(graph, p, method).with_context(|| format!("layer {}", p.layer.name))?;
            reports.insert(p.layer.key(), report);
        }
        self.gather(reports)
    }

    /// Has the weights of the planned layers of `model` written without their zeros, where that is smaller.
    ///
    /// # Errors
    /// A model without a graph; weights that cannot be read.
    pub fn store_sparse(&self, model: &mut ModelProto) -> Result<()> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let weights = self.planned().filter_map(|p| p.layer.place.get(graph));
        let weights = weights.filter(|t| !t.name.is_empty() && t.data_type == DataType::Float as i32);
        let names: Vec<String> = weights.map(|t| t.name.clone()).collect();
        sparsify_initializers(model, &names)?;
        Ok(())
    }

    /// Puts the reports of layers, by node, in the order of the nodes.
    pub(crate) fn gather(&self, mut reports: HashMap<(usize, usize), LayerReport>) -> Result<Report> {
        let (mut nonzero, mut all) = (0.0, 0.0);
        let mut layers = vec![];
        for planned in &self.layers {
            layers.push(match planned {
                Ok(p) => {
                    let report = reports.remove(&p.layer.key()).context("a layer has not been pruned")?;
                    all += p.layer.shape.len() as f64;
                    nonzero += report.density.unwrap_or(1.0) * p.layer.shape.len() as f64;
                    report
                }
                Err(skip) => skipped(skip),
            });
        }
        Ok(Report { layers, density: if all > 0.0 { nonzero / all } else { 1.0 } })
    }

    /// Kept l1 norm of every layer that is going to be pruned, by name, if it were pruned by magnitude now.
    ///
    /// # Errors
    /// A layer has changed since the plan was made.
    pub fn kept_l1(&self, model: &ModelProto) -> Result<Vec<(String, f64)>> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let kept = |p: &Planned| {
            let weights = p.layer.weights(graph)?;
            let masker = L1.masker(&p.layer, p.wish.structure, &weights)?;
            let removed = masker.lowest(p.wish.ratio);
            Ok((p.layer.name.clone(), kept_share(&weights, &masker.remove(&removed))))
        };
        self.planned().map(kept).collect()
    }
}

/// Brings the lowest candidates to the front and says how many they are: one after the other goes as long as
/// `left` is at least half of its size, and takes its size from that.
fn going(candidates: &mut [u128], mut left: f64, size: impl Fn(u128) -> f64) -> usize {
    let (mut low, mut high) = (0, candidates.len());
    while low < high {
        let middle = low + (high - low) / 2;
        candidates[low..high].select_nth_unstable(middle - low);
        let before: f64 = candidates[low..middle].iter().map(|candidate| size(*candidate)).sum();
        let own = size(candidates[middle]);
        if left - before < own / 2.0 {
            high = middle;
        } else {
            left -= before + own;
            low = middle + 1;
        }
    }
    low
}

fn prune_one(graph: &mut GraphProto, p: &Planned, method: &dyn Method) -> Result<LayerReport> {
    let Planned { layer, wish } = p;
    let mut weights = layer.weights(graph)?;
    let masker = method.masker(layer, wish.structure, &weights)?;
    let removed = masker.lowest(wish.ratio);
    let groups = masker.scores().len();
    let share = (groups > 0).then(|| removed.len() as f64 / groups as f64);
    let keep = masker.remove(&removed);
    let kept_l1 = kept_share(&weights, &keep);
    method.prune(graph, layer, &mut weights, &keep)?;
    layer.set_weights(graph, &weights)?;
    let nonzero = weights.iter().filter(|w| **w != 0.0).count();
    let density = nonzero as f64 / weights.len() as f64;
    Ok(p.report(Done { removed: share, density, kept_l1 }))
}

fn skipped(skip: &Skip) -> LayerReport {
    LayerReport {
        name: skip.name.clone(),
        op: skip.op.clone(),
        role: None,
        shape: None,
        structure: None,
        ratio: None,
        removed: None,
        density: None,
        kept_l1: None,
        kept_l1_before: None,
        skipped: Some(skip.reason.clone()),
    }
}

/// Sum of the magnitudes that stay over that of all; 1 if there is nothing to lose.
fn kept_share(weights: &[f32], keep: &[bool]) -> f64 {
    let sum = |kept: bool| -> f64 {
        weights.iter().zip(keep).filter(|(_, k)| **k || !kept).map(|(w, _)| f64::from(w.abs())).sum()
    };
    let all = sum(false);
    if all == 0.0 { 1.0 } else { sum(true) / all }
}

/// Key of the recipe in `metadata_props`.
pub const RECIPE_KEY: &str = "tract-sparse.recipe";

/// Prunes a model by magnitude as `recipe` says.
///
/// # Errors
/// As [`Plan::new`].
pub fn prune(model: &mut ModelProto, recipe: &Recipe) -> Result<Report> {
    let mut plan = Plan::new(model, recipe)?;
    if recipe.scope == Scope::Global {
        plan.spread(model, &L1, recipe.ratio.unwrap_or(0.0))?;
    }
    plan.apply(model, &L1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_in_the_order_of_numbers_then_places() {
        let numbers = [f64::NEG_INFINITY, -1.0, -1e-300, -0.0, 0.0, 1e-300, 0.5, 1.0, f64::INFINITY];
        for pair in numbers.windows(2) {
            assert!(ranked(pair[0], 7) < ranked(pair[1], 3), "{pair:?}");
            assert!(ranked(pair[0], 3) < ranked(pair[0], 7), "{pair:?}");
        }
    }

    #[test]
    fn those_that_go_are_those_of_one_by_one() {
        let mut state = 1u64;
        let mut draw = |n: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for _ in 0..200 {
            let sizes: Vec<f64> = (0..1 + draw(40)).map(|_| (1 + draw(9)) as f64).collect();
            let mut candidates: Vec<u128> =
                (0..sizes.len()).map(|at| ranked(draw(12) as f64, at as u64)).collect();
            let size = |candidate: u128| sizes[candidate as u64 as usize];
            let all = draw(101) as f64 / 100.0 * sizes.iter().sum::<f64>();
            let mut sorted = candidates.clone();
            sorted.sort_unstable();
            let mut left = all;
            let stays = sorted.iter().position(|candidate| {
                let stays = left < size(*candidate) / 2.0;
                left -= if stays { 0.0 } else { size(*candidate) };
                stays
            });
            let expected = &sorted[..stays.unwrap_or(sorted.len())];
            let gone = going(&mut candidates, all, size);
            candidates[..gone].sort_unstable();
            assert_eq!(&candidates[..gone], expected, "{sizes:?}, {all}");
        }
    }
}
