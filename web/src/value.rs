//! What goes into a model, and what comes out of it.

use crate::array;
use anyhow::{Context, Result, ensure};
use js_sys::Array;
use tract_core::internal::*;
use wasm_bindgen::{JsCast, JsValue};

/// An input or an output of a model.
pub(crate) struct Value {
    /// Its name in the file.
    name: String,
    dt: DatumType,
    dims: TVec<TDim>,
}

impl Value {
    pub(crate) fn new(name: &str, fact: &TypedFact) -> Value {
        Value { name: name.into(), dt: fact.datum_type, dims: fact.shape.iter().cloned().collect() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `name`, `type` and `dims`: numbers, or text where a symbol stands for any size.
    pub(crate) fn json(&self) -> serde_json::Value {
        let dims: Vec<serde_json::Value> = self
            .dims
            .iter()
            .map(|dim| match dim.to_usize() {
                Ok(size) => size.into(),
                Err(_) => dim.to_string().into(),
            })
            .collect();
        let name = array::name(self.dt).map_or_else(|| format!("{:?}", self.dt), String::from);
        serde_json::json!({ "name": self.name, "type": name, "dims": dims })
    }

    /// A copy of an array that is given for this input, with its sizes.
    ///
    /// # Errors
    /// Another type or shape than that of the input.
    pub(crate) fn tensor(&self, data: &JsValue, dims: &JsValue) -> Result<Tensor> {
        let sizes = dims.dyn_ref::<Array>().context("dims: expected an array of sizes")?;
        let sizes: Vec<usize> = sizes.iter().map(|size| whole(&size)).collect::<Result<_>>()?;
        let fits = sizes.len() == self.dims.len()
            && self.dims.iter().zip(&sizes).all(|(wanted, got)| match wanted.to_usize() {
                Ok(wanted) => wanted == *got,
                Err(_) => *got > 0,
            });
        let wanted: Vec<String> = self.dims.iter().map(TDim::to_string).collect();
        ensure!(fits, "dims {sizes:?}, expected [{}]", wanted.join(", "));
        array::tensor(data, self.dt, &sizes)
    }
}

/// A size.
///
/// # Errors
/// What is no whole number, or beyond what memory holds.
pub(crate) fn whole(value: &JsValue) -> Result<usize> {
    let size =
        value.as_f64().filter(|size| size.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(size));
    Ok(size.with_context(|| format!("{value:?} is no size"))? as usize)
}
