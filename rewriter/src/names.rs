//! Names of outputs, which simplifying a model can lose: where two nodes that cancel out vanish behind an output, tract calls it by
//! the name of the second.

use std::fmt::{Debug, Display};
use tract_core::internal::*;

/// What the outputs of a model are called, in their order: by their labels, or by the nodes that give them.
///
/// # Errors
/// A model without outputs.
pub fn output_names<F, O>(model: &Graph<F, O>) -> TractResult<Vec<String>>
where
    F: Fact + Clone + 'static,
    O: Debug + Display + AsRef<dyn Op> + AsMut<dyn Op> + Clone + 'static,
{
    let name = |outlet: &OutletId| model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name);
    Ok(model.output_outlets()?.iter().map(|outlet| name(outlet).to_string()).collect())
}

/// What `take` makes of a model, with the names that its outputs have in `model`; if it has another number of outputs, with those that
/// `take` leaves. An outlet that is several outputs has the last of their names.
///
/// # Errors
/// Those of `take`; a model without outputs.
pub fn keeping_names<F, O>(
    model: Graph<F, O>,
    take: impl FnOnce(Graph<F, O>) -> TractResult<TypedModel>,
) -> TractResult<TypedModel>
where
    F: Fact + Clone + 'static,
    O: Debug + Display + AsRef<dyn Op> + AsMut<dyn Op> + Clone + 'static,
{
    let names = output_names(&model)?;
    let mut model = take(model)?;
    let outlets = model.output_outlets()?.to_vec();
    if outlets.len() == names.len() {
        for (outlet, name) in outlets.into_iter().zip(names) {
            model.set_outlet_label(outlet, name)?;
        }
    }
    Ok(model)
}
