//! Streaming: sparse layers of a pulsed model.
//!
//! A convolution along the streaming axis is pulsed as stock tract pulses its own, with the same delays and
//! paddings, and stays sparse. A matrix product needs nothing of its own: tract follows the streaming axis
//! through its axes.

use crate::SparseConv;
use std::sync::OnceLock;
use tract_core::internal::*;
use tract_core::ops::cnn::Conv;
use tract_pulse::internal::{OpPulsifier, PulsedFact, PulsedModel, PulsedOp};

type Pulsifier = fn(
    &TypedModel,
    &TypedNode,
    &mut PulsedModel,
    &HashMap<OutletId, OutletId>,
    &Symbol,
    &TDim,
) -> TractResult<Option<TVec<OutletId>>>;

/// What pulses stock convolutions.
static STOCK: OnceLock<Pulsifier> = OnceLock::new();

/// Teaches `tract_pulse` the operators of this crate, once for the process. Loaders and transforms that make
/// sparse layers call it.
///
/// # Errors
/// A table of tract's operators that another thread has left locked, or that has no convolution.
pub fn register() -> TractResult<()> {
    if STOCK.get().is_some() {
        return Ok(());
    }
    let stock = {
        let inventory = OpPulsifier::inventory();
        let inventory = inventory.read().map_err(|e| format_err!("tract's table of pulsifiers: {e}"))?;
        inventory.get(&std::any::TypeId::of::<Conv>()).context("tract does not pulse convolutions")?.func
    };
    OpPulsifier::register::<SparseConv>(pulsify)?;
    let _ = STOCK.set(stock); // another thread may have been faster, with the same function
    Ok(())
}

fn pulsify(
    source: &TypedModel,
    node: &TypedNode,
    target: &mut PulsedModel,
    mapping: &HashMap<OutletId, OutletId>,
    symbol: &Symbol,
    pulse: &TDim,
) -> TractResult<Option<TVec<OutletId>>> {
    rule_if_some!(sparse = node.op_as::<SparseConv>());
    let stock = STOCK.get().context("the pulsifier of sparse convolutions was not registered")?;
    let dense = TypedNode { op: Box::new(sparse.conv().clone()), ..node.clone() };
    let first = target.nodes().len();
    rule_if_some!(outputs = stock(source, &dense, target, mapping, symbol, pulse)?);
    for node in &mut target.nodes[first..] {
        if let Some(conv) = node.op_as::<Conv>() {
            node.op = Box::new(SparseConv::new(conv.clone(), *sparse.choice()));
        }
    }
    Ok(Some(outputs))
}

impl PulsedOp for SparseConv {
    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }

    fn to_typed(&self) -> Box<dyn TypedOp> {
        Box::new(self.clone())
    }

    fn pulsed_output_facts(&self, inputs: &[&PulsedFact]) -> TractResult<TVec<PulsedFact>> {
        self.conv().pulsed_output_facts(inputs)
    }
}
