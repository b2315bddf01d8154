//! One inference of MobileNet-v1 between two marks, for tools that count the instructions of an aarch64
//! program.
//!
//! The network has 4x4 blocks left out of its 1x1 convolutions and 3:9 patterns in its depthwise ones;
//! `scripts/neon-cost.sh network` models stock tract and this extension with it.

use anyhow::Result;
use clap::{Parser, ValueEnum};
use sparse_kernels::doctor::marks;
use sparsity::{Structure, Zeros};
use tract_onnx::prelude::*;

/// Run MobileNet-v1 twice, the second time between marks that a counting tool looks for.
#[derive(Parser)]
#[command(after_help = "Example: neon-network sparse --conv1x1 4x4:0.3")]
struct Args {
    /// Stock tract, or this extension.
    engine: Engine,
    /// Zeros of the 1x1 convolutions.
    #[arg(long, default_value = "4x4:0.3")]
    conv1x1: Zeros,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Engine {
    Stock,
    Sparse,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dwconv3x3 = Some(Structure::THREE_OF_NINE.into());
    let spec = zoo::Spec { conv1x1: Some(args.conv1x1), dwconv3x3, ..zoo::Spec::default() };
    let model = zoo::build(zoo::Network::MobilenetV1, &spec)?;
    let onnx = match args.engine {
        Engine::Stock => onnx(),
        Engine::Sparse => tract_sparse::onnx(),
    };
    let shape = [1, 3, zoo::Network::MobilenetV1.hw(), zoo::Network::MobilenetV1.hw()];
    let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let input = Tensor::from_shape(&shape, &values)?.into_tvalue();
    let model = onnx.model_for_proto_model(&model)?.into_optimized()?;
    if args.engine == Engine::Sparse {
        let report = tract_sparse::Report::of(&model)?;
        println!(
            "{} of {} layers run on kernels for {}",
            report.sparse_layers(),
            report.layers.len(),
            report.target
        );
    }
    let mut state = model.into_runnable()?.spawn()?;
    state.run(tvec!(input.clone()))?;
    marks::begin();
    let output = state.run(tvec!(input))?;
    marks::end();
    println!("{:?}", output[0].shape());
    Ok(())
}
