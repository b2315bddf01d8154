//! What would make a model faster: every layer's other possibilities, priced by the cost table.

use crate::analyse::{Layer, LayerKind, PACKED, Seen};
use crate::choose::Decision;
use crate::estimate::Way;
use crate::nested::{neighbours_of, places};
use crate::policy::{Mode, Policy};
use crate::report::decided;
use crate::zeros::zeros;
use sparse_kernels::format::FormatKind;
use sparse_ops::Packing;
use sparsity::{Structure, Zeros};
use std::collections::HashMap;
use tract_core::internal::*;

/// What could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Prune a dense 1x1 or fully connected layer: half of its 4x4 blocks.
    Prune,
    /// Keep as many weights of an unstructured layer, but in 4x4 blocks.
    Regroup,
    /// Remove 80 % of the 4x4 blocks of a layer that has fewer zeros.
    Deepen,
    /// Prune a dense depthwise 3x3 layer to 3:9 patterns.
    Patterns3Of9,
    /// Prune a dense 3x3 layer to 5:9 patterns.
    Patterns5Of9,
    /// Nothing but the mode [`Mode::Dense`], or one pruned layer: these dense layers then run here, where
    /// they are faster.
    Neighbours,
    /// Make an operator readable that no kernel takes as it is.
    Unread,
}

/// One thing that would help, over all layers for which it would.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Advice {
    /// What to do.
    pub action: Action,
    /// The same in words.
    pub text: String,
    /// Options of `prune` that do it, but for the names of the layers; none where pruning is not what helps.
    pub command: Option<String>,
    /// The layers, those that gain most first.
    pub layers: Vec<String>,
    /// Predicted milliseconds saved; none where nothing can be predicted.
    pub saved_ms: Option<f64>,
}

impl Action {
    /// Options of `prune`, for layers of this share of zeros.
    fn command(self, zeros: f64) -> Option<String> {
        match self {
            Action::Prune => Some("--ratio 0.5".into()),
            Action::Regroup => Some(format!("--ratio {zeros:.2}")),
            Action::Deepen => Some("--ratio 0.8".into()),
            Action::Patterns3Of9 => Some("--dwconv3x3 3:9".into()),
            Action::Patterns5Of9 => Some("--conv3x3 5:9".into()),
            Action::Neighbours | Action::Unread => None,
        }
    }

    fn text(self, policy: &Policy) -> String {
        match self {
            Action::Prune => "prune to 4x4 blocks, half of them zero".into(),
            Action::Regroup => "prune in 4x4 blocks instead of single weights, as many zeros".into(),
            Action::Deepen => "prune further, to 80 % zeros in 4x4 blocks".into(),
            Action::Patterns3Of9 => "prune depthwise 3x3 kernels to 3:9 patterns".into(),
            Action::Patterns5Of9 => "prune 3x3 kernels to 5:9 patterns".into(),
            Action::Neighbours => {
                format!("run these dense layers on {} kernels too (--sparse dense)", policy.target)
            }
            Action::Unread => "not readable as they are".into(),
        }
    }
}

/// What one layer could save: milliseconds by action. Times are those of the table, whatever was measured.
fn savings(layer: &Layer, decision: &Decision, policy: &Policy) -> TractResult<Vec<(Action, f64)>> {
    let Ok(ways) = Way::all(&layer.shape, policy.costs()) else { return Ok(vec![]) };
    let Some(first) = ways.first() else { return Ok(vec![]) };
    let now = match decision {
        Decision::Sparse(choice) => choice.sparse_ns as f64,
        Decision::Stock(..) => first.stock_ns(),
    };
    let calls = layer.shape.calls as f64;
    let at = |packing: Packing, stored: f64| {
        let way = ways.iter().find(|way| way.packing() == packing)?;
        let ns = way.ns(stored);
        // a gain that the policy would not take is none
        (way.stock_ns() / ns >= policy.min_gain).then_some(calls * (now - ns) / 1e6)
    };
    let blocks = Packing::Pointwise(FormatKind::BLOCKS_4X4);
    let structure = zeros(layer)?.map(Zeros::structure);
    let density = layer.density();
    let wanted = match (layer.shape.kind(), structure) {
        (LayerKind::Pointwise, None) => vec![(Action::Prune, at(blocks, 0.5))],
        (LayerKind::Pointwise, Some(Structure::UNSTRUCTURED | Structure::TwoOfFour)) => {
            let deeper = at(blocks, 0.2).filter(|_| density > 0.25);
            vec![(Action::Regroup, at(blocks, density)), (Action::Deepen, deeper)]
        }
        (LayerKind::Pointwise, _) => vec![(Action::Deepen, at(blocks, 0.2).filter(|_| density > 0.25))],
        (LayerKind::Depthwise, None) if layer.shape.conv_shape().kernel == [3, 3] => {
            vec![(Action::Patterns3Of9, at(Packing::Depthwise([3, 3]), 6.0 / 9.0))]
        }
        (LayerKind::Spatial, None) if layer.shape.conv_shape().kernel == [3, 3] && layer.shape.ic >= 4 => {
            vec![(Action::Patterns5Of9, at(Packing::Spatial(FormatKind::ROWS_4), 4.0 / 9.0))]
        }
        _ => vec![],
    };
    let mut found: Vec<_> = wanted.into_iter().filter_map(|(action, saved)| Some((action, saved?))).collect();
    if let Decision::Stock(_, Some(best)) = decision
        && !best.sparse
        && best.stock_ns as f64 >= policy.asked_gain(&layer.shape, true) * best.sparse_ns as f64
    {
        found.push((Action::Neighbours, calls * (best.stock_ns - best.sparse_ns) as f64 / 1e6));
    }
    Ok(found)
}

/// What would help a model most, in the order of what it saves. A layer can be named by several: they are
/// possibilities, not a sum. Only what `possible` says can be done to a layer of this name is advised.
///
/// # Errors
/// Layers whose shapes contradict each other.
pub fn advise(
    model: &TypedModel,
    policy: &Policy,
    possible: &dyn Fn(Action, &str) -> bool,
) -> TractResult<Vec<Advice>> {
    let mut by_action: HashMap<Action, Vec<(String, f64, f64)>> = HashMap::new();
    let mut unread: HashMap<&str, Vec<String>> = HashMap::new();
    if policy.mode == Mode::Never {
        return Ok(vec![]);
    }
    let places = places(model)?;
    let neighbours = neighbours_of(&places, policy)?;
    for (place, neighbours) in places.iter().zip(neighbours) {
        match &place.seen {
            Seen::Layer(layer) => {
                let decision = decided(place, policy, neighbours)?;
                for (action, saved) in savings(layer, &decision, policy)? {
                    if saved > 0.0 && possible(action, &place.name) {
                        let zeros = 1.0 - layer.density();
                        by_action.entry(action).or_default().push((place.name.clone(), saved, zeros));
                    }
                }
            }
            // packed layers have been decided on already
            Seen::Opaque(_, reason) if *reason == PACKED => {}
            Seen::Opaque(_, reason) => unread.entry(reason).or_default().push(place.name.clone()),
        }
    }
    let mut all: Vec<Advice> = by_action
        .into_iter()
        .map(|(action, mut layers)| {
            layers.sort_by(|a, b| b.1.total_cmp(&a.1));
            let zeros = layers.iter().map(|l| l.2).sum::<f64>() / layers.len() as f64;
            let command = action.command(zeros);
            let how = command.as_ref().map_or_else(String::new, |command| format!(" (prune {command})"));
            Advice {
                action,
                text: action.text(policy) + &how,
                command,
                saved_ms: Some(layers.iter().map(|l| l.1).sum()),
                layers: layers.into_iter().map(|l| l.0).collect(),
            }
        })
        .collect();
    all.extend(unread.into_iter().map(|(reason, layers)| Advice {
        action: Action::Unread,
        text: format!("{}: {reason}", Action::Unread.text(policy)),
        command: None,
        layers,
        saved_ms: None,
    }));
    let key = |a: &Advice| (a.saved_ms.unwrap_or(0.0), a.action);
    all.sort_by(|a, b| {
        key(b).0.total_cmp(&key(a).0).then_with(|| (a.action, &a.text).cmp(&(b.action, &b.text)))
    });
    Ok(all)
}
