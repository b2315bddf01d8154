//! Runs a network on a stream, a few steps at a time, with the memory of a few steps.
//!
//! ```sh
//! cargo run --release -p tract-sparse --example pulse -- streaming.onnx T 4
//! ```
//!
//! The sequence is the axis of the input whose size is the symbol `T`. What comes out is late by as many
//! steps as the network looks ahead.

use tract_pulse::model::{PulsedModel, PulsedModelExt};
use tract_sparse::Report;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::DimLike;

const PULSES: usize = 8;

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, symbol, pulse] = &*args else {
        eprintln!("usage: pulse MODEL.onnx SYMBOL STEPS");
        std::process::exit(2);
    };
    let pulse: usize = pulse.parse()?;
    let model = onnx().model_for_path(path)?.into_typed()?.into_decluttered()?;
    let symbol = model.symbols.sym(symbol);
    let pulsed = PulsedModel::new(&model, symbol, &pulse.to_dim())?.into_typed()?;
    let delay = pulsed.properties["pulse.delay"].cast_to_scalar::<i64>()?;
    let plan = pulsed.into_optimized()?.into_runnable()?;

    let report = Report::of(plan.model())?;
    println!("{} of {} layers run sparse on {}", report.sparse_layers(), report.layers.len(), report.target);
    println!("{pulse} steps at a time, late by {delay}");

    // the state holds what the network remembers of the pulses before
    let mut state = plan.spawn()?;
    let fact = plan.model().input_fact(0)?;
    let shape: Vec<usize> = fact.shape.iter().map(DimLike::to_usize).collect::<Result<_, _>>()?;
    for at in 0..PULSES {
        let x = Tensor::zero::<f32>(&shape)?;
        let y = state.run(tvec!(x.into_tvalue()))?;
        println!("pulse {at}: {:?} in, {:?} out", shape, y[0].shape());
    }
    Ok(())
}
