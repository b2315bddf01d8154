//! A patch that puts a cluster into a graph.

use crate::pairs::Lanes;
use tract_core::internal::*;

/// A patch, and which of its wires have the values of the model: as they are there, or in lanes of several channels.
#[derive(Default)]
pub(crate) struct Wiring {
    pub patch: TypedModelPatch,
    lanes: HashMap<(OutletId, Lanes), OutletId>,
    whole: HashMap<OutletId, OutletId>,
}

impl Wiring {
    pub fn new(context: &str) -> Wiring {
        Wiring { patch: TypedModelPatch::new(context), ..Wiring::default() }
    }

    /// The wire of a value as it is in the model.
    pub fn whole(&mut self, model: &TypedModel, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(wire) = self.whole.get(&outlet) {
            return Ok(*wire);
        }
        let wire = self.patch.tap_model(model, outlet)?;
        self.whole.insert(outlet, wire);
        Ok(wire)
    }

    /// Says which wire has a value in lanes.
    pub fn put_lanes(&mut self, outlet: OutletId, lanes: Lanes, wire: OutletId) {
        self.lanes.insert((outlet, lanes), wire);
    }

    /// The wire of a value in lanes; where it comes into a cluster, `op` makes it of `from`, once.
    pub fn enter<T: Into<Box<dyn TypedOp>>>(
        &mut self,
        model: &TypedModel,
        [outlet, from]: [OutletId; 2],
        lanes: Lanes,
        name: String,
        op: impl FnOnce() -> T,
    ) -> TractResult<OutletId> {
        if let Some(wire) = self.lanes.get(&(outlet, lanes)) {
            return Ok(*wire);
        }
        let whole = self.whole(model, from)?;
        let wire = self.patch.wire_node(name, op(), &[whole])?[0];
        self.put_lanes(outlet, lanes, wire);
        Ok(wire)
    }

    /// Puts what `op` makes of these wires in place of a value of the model.
    pub fn leave(
        &mut self,
        model: &TypedModel,
        outlet: OutletId,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        wires: &[OutletId],
    ) -> TractResult<()> {
        let y = self.patch.wire_node(name, op, wires)?[0];
        self.whole.insert(outlet, y);
        self.patch.shunt_outside(model, outlet, y)
    }

    pub fn into_patch(self) -> TypedModelPatch {
        self.patch
    }
}
