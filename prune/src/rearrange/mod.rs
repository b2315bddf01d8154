//! Whole-network rearrangement (SparseByteNN, section 3.4): channels change places, all over the network at
//! once, so that weights of like importance fall into one group and pruning keeps more of the norm. The
//! network's output stays what it was.
//!
//! Search: bounded regression in the manner of Pool & Yu (2021). For one class of exchangeable channels at a
//! time (rows of some layers, columns of others, kernels of depthwise layers) the exchange of two channels
//! that gains most is made until none gains; then, a bounded number of times, some random exchanges that lose
//! are made and the search goes on from there, and the best arrangement is kept. Exchanges within a group
//! change nothing, so that only canonical permutations (groups, not orders within groups) are told apart.
//!
//! A layer keeps its `n` groups of highest norm: with the norm `t` of the last one kept as threshold, that is
//! the sum of `max(norm - t, 0)` over groups plus a constant. With `t` held during a pass, the gain of an
//! exchange is a sum over the groups of the two rows (or columns) concerned; `t` is found anew before the
//! next pass, and a pass that has lost is undone.
//!
//! No layer pays for another. The first rounds look at the sum over layers alone; those that follow are
//! guarded: what layers lack of what they kept unarranged comes first, what they lack of a small rise second,
//! the sum third, and no exchange takes a layer below what it kept unarranged. Where a layer is still short
//! when the time for that is over, classes of channels that stand in it go back to where they came from.

mod channels;
mod gain;
mod labels;
mod matrix;
mod norm;
mod places;
mod rounds;
mod search;
mod worth;

use crate::apply::Plan;
use crate::checkpoint::{Reader, Record};
use crate::proof::prove;
use crate::runtime::Runtime;
use anyhow::{Context, Result};
use channels::Channels;
use matrix::Matrix;
use search::arrange;
use serde::Serialize;
use std::time::Duration;
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
    /// Every layer that is going to be pruned, and the shares of its l1 norm that it keeps without and with
    /// rearrangement.
    pub layers: Vec<Kept>,
    /// Sets of channels that may be exchanged with each other.
    pub classes: usize,
    /// Channels in them.
    pub channels: usize,
    /// Largest difference between outputs of the dense model before and after, relative to their scale.
    pub proof: f64,
    /// What has changed in the constants of the model; not kept in records.
    #[serde(skip)]
    pub moves: Vec<Move>,
}

/// Positions along an axis of a constant that have changed places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Name of the tensor.
    pub tensor: String,
    /// The axis.
    pub axis: usize,
    /// Where what stands at each position was before; moves of one tensor along several axes commute.
    pub order: Vec<usize>,
}

impl Rearranged {
    /// Adds this to a record.
    pub fn record(&self, record: &mut Record) {
        record.count(self.layers.len());
        for layer in &self.layers {
            record.text(&layer.name);
            record.number(layer.before);
            record.number(layer.after);
            record.count(usize::from(layer.movable));
        }
        record.count(self.classes);
        record.count(self.channels);
        record.number(self.proof);
    }

    /// What [`Rearranged::record`] has added.
    pub fn read(reader: &mut Reader) -> Option<Rearranged> {
        let mut layers = vec![];
        for _ in 0..reader.count()? {
            let (name, before, after) = (reader.text()?, reader.number()?, reader.number()?);
            layers.push(Kept { name, before, after, movable: reader.count()? == 1 });
        }
        let (classes, channels, proof) = (reader.count()?, reader.count()?, reader.number()?);
        Some(Rearranged { layers, classes, channels, proof, moves: vec![] })
    }
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

/// Rearranges the channels of `model` for the pruning that `plan` has in mind, and proves on `inputs` (graph
/// inputs of one or more runs, see [`crate::proof`]) that its outputs are what they were.
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
    let moves = channels.permute(&mut moved, &to)?;
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
        moves,
    })
}
