//! Says what runs each layer of a network that is ready to run, how sparse it is, and why the others stay on
//! stock tract.
//!
//! ```sh
//! cargo run --release -p tract-sparse --example report -- pruned.onnx
//! ```

use tract_sparse::Report;
use tract_sparse::prelude::*;

fn main() -> TractResult<()> {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: report MODEL.onnx");
        std::process::exit(2);
    };
    let model = onnx().model_for_path(path)?.into_optimized()?.into_runnable()?;
    let report = Report::of(model.model())?;
    println!("{report}");

    let (stock_ms, ms) = report.total_ms();
    println!("All layers: {stock_ms:.2} ms on stock tract, {ms:.2} ms as they run, as predicted.");
    for layer in report.layers.iter().filter(|layer| layer.chosen.is_none()) {
        println!("{} runs on stock tract: {}", layer.name, layer.reason.as_deref().unwrap_or("?"));
    }
    Ok(())
}
