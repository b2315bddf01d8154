//! Stock tract as the engine that pruning asks for values.

use crate::runtime::{Runtime, Session};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use tract_onnx::pb::{ModelProto, ValueInfoProto};
use tract_onnx::prelude::*;

/// Stock tract, which optimises a model for the shapes of its inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tract;

impl Runtime for Tract {
    fn open(&self, model: &ModelProto, names: &[String]) -> Result<Box<dyn Session>> {
        let mut model = model.clone();
        let graph = model.graph.as_mut().context("the model has no graph")?;
        graph.output =
            names.iter().map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
        Ok(Box::new(Loaded { model: onnx().model_for_proto_model(&model)?, optimised: None }))
    }
}

/// A model, optimised for the shapes that it ran with last.
struct Loaded {
    model: InferenceModel,
    optimised: Option<(Vec<Vec<usize>>, Arc<TypedRunnableModel>)>,
}

impl Session for Loaded {
    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
        let ready = self.optimised.take().filter(|(of, _)| *of == shapes);
        let ready = match ready {
            Some(ready) => ready,
            None => {
                let mut model = self.model.clone();
                let outlets = model.input_outlets()?.len();
                ensure!(
                    outlets == inputs.len(),
                    "the model has {outlets} inputs, {} are given",
                    inputs.len()
                );
                for (position, input) in inputs.iter().enumerate() {
                    model.set_input_fact(position, input.datum_type().fact(input.shape()).into())?;
                }
                (shapes, model.into_optimized()?.into_runnable()?)
            }
        };
        let outputs = ready.1.run(inputs.iter().map(|input| input.clone().into_tvalue()).collect())?;
        self.optimised = Some(ready);
        Ok(outputs.into_iter().map(TValue::into_tensor).collect())
    }
}
