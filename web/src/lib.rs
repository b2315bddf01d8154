//! The WebAssembly half of the npm package `tract-sparse`: arrays of JavaScript and errors over the other
//! crates.
//!
//! `load` reads models, `value` says what goes into them and comes out, `array` exchanges JavaScript's typed
//! arrays for tensors. The half in JavaScript is in `js`; it gives every model a module of its own, so that a
//! panic, which ends a module, ends one model.

mod array;
mod load;
mod value;

use crate::value::Value;
use anyhow::{Context, Error, Result};
use js_sys::{Array, Function};
use std::cell::Cell;
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::knobs::KnobScope;
use tract_sparse::{Report, keeping_names, output_names};
use wasm_bindgen::prelude::*;

/// A model that is ready to run.
#[wasm_bindgen]
pub struct Session {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    report: Report,
}

#[wasm_bindgen]
impl Session {
    /// Loads a model.
    ///
    /// bytes: an ONNX file, or an NNEF archive, compressed or not. sparse, precision: `TRACT_SPARSE` and
    /// `TRACT_SPARSE_PRECISION` by other names.
    /// shapes: names of inputs, each followed by an array of its sizes and symbols.
    ///
    /// # Errors
    /// Bytes that are no model, operators that there are not, shapes that do not suit it.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>, sparse: &str, precision: &str, shapes: Array) -> Result<Session, JsError> {
        Session::open(bytes, [sparse, precision], &shapes).map_err(raised)
    }

    /// What it is, in JSON: `inputs` and `outputs` (`name`, `type`, `dims`), and `report`.
    ///
    /// # Errors
    /// None that is known.
    pub fn describe(&self) -> Result<String, JsError> {
        let values = |values: &[Value]| values.iter().map(Value::json).collect::<Vec<_>>();
        let layers = &self.report.layers;
        let described = serde_json::json!({
            "inputs": values(&self.inputs),
            "outputs": values(&self.outputs),
            "report": {
                "target": self.report.target,
                "precision_note": self.report.precision_note,
                "layers_sparse": self.report.sparse_layers(),
                "layers": layers.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?,
                "text": self.report.to_string(),
            },
        });
        Ok(described.to_string())
    }

    /// Runs it: `data` has a typed array for every input, `dims` an array of its sizes. Returns both for the
    /// outputs, in turn.
    ///
    /// # Errors
    /// Arrays that are not those of the inputs; the message names the input. A model that cannot run.
    pub fn run(&self, data: Array, dims: Array) -> Result<Array, JsError> {
        self.outputs_of(&data, &dims).map_err(raised)
    }
}

impl Session {
    fn open(bytes: Vec<u8>, [sparse, precision]: [&str; 2], shapes: &Array) -> Result<Session> {
        let knobs = KnobScope::new([("TRACT_SPARSE", sparse), ("TRACT_SPARSE_PRECISION", precision)])?;
        let (plan, report) = knobs.enter(|| -> Result<_> {
            let model = keeping_names(load::typed(bytes, shapes)?, |model| model.into_optimized())?;
            let plan = model.into_runnable()?;
            let report = Report::of(plan.model())?;
            Ok((plan, report))
        })?;
        let model = plan.model();
        let named = |name: &str, outlet: &OutletId| Ok(Value::new(name, model.outlet_fact(*outlet)?));
        let inputs = model.input_outlets()?.iter().map(|o| named(&model.node(o.node).name, o));
        let inputs = inputs.collect::<Result<_>>()?;
        let names = output_names(model)?;
        let outputs = model.output_outlets()?.iter().zip(&names).map(|(o, name)| named(name, o));
        let outputs = outputs.collect::<Result<_>>()?;
        Ok(Session { plan, inputs, outputs, report })
    }

    fn outputs_of(&self, data: &Array, dims: &Array) -> Result<Array> {
        let inputs = self.inputs.iter().zip(data.iter()).zip(dims.iter());
        let inputs = inputs.map(|((input, data), dims)| {
            Ok(input.tensor(&data, &dims).with_context(|| format!("input {:?}", input.name()))?.into_tvalue())
        });
        let outputs = self.plan.run(inputs.collect::<Result<_>>()?)?;
        let mut array = Array::new();
        for (output, tensor) in self.outputs.iter().zip(outputs) {
            let tensor = array::array(&tensor).with_context(|| format!("output {:?}", output.name()))?;
            array.extend(tensor);
        }
        Ok(array)
    }
}

/// Has the text of a panic, which ends this module, given to a function first.
#[wasm_bindgen]
pub fn start(on_panic: Function) {
    thread_local! {
        static ON_PANIC: Cell<Option<Function>> = const { Cell::new(None) };
    }
    ON_PANIC.set(Some(on_panic));
    std::panic::set_hook(Box::new(|panic| {
        if let Some(say) = ON_PANIC.take() {
            // whatever the function makes of it, the module ends
            let _ = say.call1(&JsValue::NULL, &panic.to_string().into());
        }
    }));
}

/// Makes zeros in the weights of an ONNX model, which stays dense otherwise. Returns the file.
///
/// recipe: what to prune, as the command line has it in a file.
///
/// # Errors
/// Bytes that are no ONNX model, a recipe that is none.
#[wasm_bindgen]
pub fn prune(bytes: Vec<u8>, recipe: &str) -> Result<Vec<u8>, JsError> {
    load::pruned(bytes, recipe).map_err(raised)
}

/// Where the weights of an ONNX file or NNEF archive are not zero: for every layer that can be drawn its name, the
/// rows and columns of its picture, and a byte for each cell of it: the share of weights that are not zero, of 255.
///
/// # Errors
/// As for a session.
#[wasm_bindgen]
pub fn maps(bytes: Vec<u8>) -> Result<Array, JsError> {
    load::maps(bytes).map_err(raised)
}

fn raised(error: Error) -> JsError {
    JsError::new(&format!("{error:#}"))
}
