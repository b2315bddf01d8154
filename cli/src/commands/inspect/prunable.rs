//! What `prune` could do to the layers of a model.

use crate::load::Source;
use prune::{Document, Plan, Planned, Recipe, Role};
use rewriter::advice::Action;
use std::sync::Arc;
use tract_onnx::pb::ModelProto;

/// Which layers `prune` can do what to: names of layers of the ONNX file.
pub(super) struct Prunable {
    blocks: Vec<String>,
    three_of_nine: Vec<String>,
    five_of_nine: Vec<String>,
}

impl Prunable {
    /// Of other files than ONNX none.
    pub(super) fn of(source: &Source) -> Prunable {
        let document = match source {
            Source::File(path) => Document::open(path).map(|d| Arc::new(d.model)).ok(),
            Source::BuiltIn(_, model) => Some(model.clone()),
        };
        let planned = |structures: &str, roles: &[Role]| -> Vec<String> {
            let plan = document.as_ref().and_then(|document| {
                let mut model = ModelProto::clone(document);
                prune::densify(&mut model).ok()?;
                Plan::without_ratios(&model, &structures.parse::<Recipe>().ok()?).ok()
            });
            let of_role = |p: &&Planned| roles.contains(&p.layer.role);
            plan.iter().flat_map(Plan::planned).filter(of_role).map(|p| p.layer.name.clone()).collect()
        };
        Prunable {
            blocks: planned("", &[Role::Pointwise, Role::FullyConnected, Role::Recurrent]),
            three_of_nine: planned("dwconv3x3 = \"3:9\"", &[Role::Depthwise]),
            five_of_nine: planned("conv3x3 = \"5:9\"", &[Role::Conv3x3]),
        }
    }

    /// Whether an action can be taken on the layer of a node of this name.
    pub(super) fn can(&self, action: Action, name: &str) -> bool {
        let names = match action {
            Action::Prune | Action::Regroup | Action::Deepen => &self.blocks,
            Action::Patterns3Of9 => &self.three_of_nine,
            Action::Patterns5Of9 => &self.five_of_nine,
            Action::Neighbours | Action::Unread => return true,
        };
        // a layer's node has its name, or begins with it; a recurrent node has two matrices
        let own = |layer: &String| {
            let base = layer.strip_suffix(".W").or(layer.strip_suffix(".R")).unwrap_or(layer);
            name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        names.iter().any(own)
    }
}
