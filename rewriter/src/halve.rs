//! Weights of layers in 16 bits: what files can hold in half of the room.

use crate::analyse::{Seen, see};
use crate::nested::{Around, edit_bodies};
pub use sparse_ops::compact::Values;
use sparse_ops::compact::rounded;
use sparse_ops::konst_of;
use tract_core::internal::*;

/// The layers whose weights have been rounded, and those that keep f32 because a weight is too large.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Halved {
    /// Names of layers with rounded weights.
    pub rounded: Vec<String>,
    /// Names of layers that keep theirs: a weight is beyond the largest number of the type.
    pub kept: Vec<String>,
}

/// Rounds the weights of all layers of a stock model and its bodies to the nearest numbers of a type of 16 bits, in which
/// [`compact`](sparse_ops::compact) stores them. They stay tensors of f32; biases stay what they are.
///
/// # Errors
/// Weights that cannot be read.
pub fn halve(model: &mut TypedModel, to: Values) -> TractResult<Halved> {
    halve_part(model, to, "")
}

fn halve_part(model: &mut TypedModel, to: Values, prefix: &str) -> TractResult<Halved> {
    let mut halved = Halved::default();
    for id in model.eval_order()? {
        let node = model.node(id);
        let Some(Seen::Layer(layer)) = see(model, node)? else { continue };
        // those of quantised layers are narrower already, and run in integers as they are
        if layer.of_f16 || layer.quantised {
            continue;
        }
        let Some((slot, weights)) = weights_of(model, node, layer.shape.weights())? else { continue };
        let name = format!("{prefix}{}", node.name);
        let Some(weights) = rounded(&weights, to)? else {
            halved.kept.push(name);
            continue;
        };
        let weights = model.add_const(model.unique_name(format!("{}.{}", node.name, to.name())), weights)?;
        model.add_edge(weights, InletId::new(id, slot))?;
        halved.rounded.push(name);
    }
    edit_bodies(
        model,
        &Around::nothing(),
        |branches| Box::new(branches),
        |body, _, node| {
            let Halved { rounded, kept } = halve_part(body, to, &format!("{prefix}{node}."))?;
            let changed = rounded.len();
            halved.rounded.extend(rounded);
            halved.kept.extend(kept);
            Ok(changed)
        },
    )?;
    model.compact()?;
    Ok(halved)
}

/// Which input of a layer has its weights, and these.
fn weights_of(
    model: &TypedModel,
    node: &TypedNode,
    count: usize,
) -> TractResult<Option<(usize, Arc<Tensor>)>> {
    for slot in [1, 0] {
        let weights = konst_of(model, node.inputs[slot])?;
        let is_it = |konst: &Arc<Tensor>| konst.len() == count && konst.datum_type() == f32::datum_type();
        if let Some(weights) = weights.filter(is_it) {
            return Ok(Some((slot, weights)));
        }
    }
    Ok(None)
}
