//! Stock tract as the engine that pruning asks for values.

use anyhow::{Context, Result, ensure};
use prune::{Array, Runtime};
use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::prelude::*;

/// Stock tract, one model at a time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tract;

impl Runtime for Tract {
    fn run(&self, model: &ModelProto, inputs: &[Array], names: &[String]) -> Result<Vec<Option<Array>>> {
        let mut model = model.clone();
        let graph = model.graph.as_mut().context("the model has no graph")?;
        graph.output =
            names.iter().map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
        let mut model = onnx().model_for_proto_model(&model)?;
        let outlets = model.input_outlets()?.len();
        ensure!(outlets == inputs.len(), "the model has {outlets} inputs, {} are given", inputs.len());
        let mut values = tvec!();
        for (position, input) in inputs.iter().enumerate() {
            model.set_input_fact(position, f32::fact(&input.shape).into())?;
            values.push(Tensor::from_shape(&input.shape, &input.data)?.into_tvalue());
        }
        let outputs = model.into_optimized()?.into_runnable()?.run(values)?;
        Ok(outputs.iter().map(|value| array(value)).collect())
    }
}

fn array(value: &Tensor) -> Option<Array> {
    let view = value.to_plain_array_view::<f32>().ok()?;
    Some(Array { shape: value.shape().to_vec(), data: view.iter().copied().collect() })
}
