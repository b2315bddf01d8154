//! Writes a pruned ONNX network as an NNEF archive, in which zeros take no room, and reads it as an
//! application would.
//!
//! ```sh
//! cargo run --release -p tract-sparse --example nnef -- pruned.onnx pruned.nnef.tar
//! ```

use std::fs::File;
use tract_sparse::Report;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::DimLike;

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = &*args else {
        eprintln!("usage: nnef MODEL.onnx MODEL.nnef.tar");
        std::process::exit(2);
    };

    // once, where the network is made: before it is optimised, since a file is for every machine
    let model = onnx().model_for_path(from)?.into_typed()?.into_decluttered()?;
    tract_sparse::nnef().write(&model, File::create(to)?)?;
    println!(
        "{from}: {} bytes; {to}: {} bytes",
        std::fs::metadata(from)?.len(),
        std::fs::metadata(to)?.len()
    );

    // every time, where it runs
    let deployed = tract_sparse::nnef().model_for_path(to)?.into_optimized()?.into_runnable()?;
    let report = Report::of(deployed.model())?;
    println!("{} of {} layers run sparse on {}", report.sparse_layers(), report.layers.len(), report.target);

    let input = model.input_fact(0)?;
    let shape: Vec<usize> = input.shape.iter().map(DimLike::to_usize).collect::<Result<_, _>>()?;
    let x = Tensor::zero::<f32>(&shape)?.into_tvalue();
    let expected = model.into_optimized()?.into_runnable()?.run(tvec!(x.clone()))?;
    let got = deployed.run(tvec!(x))?;
    expected[0].close_enough(&got[0], true)?;
    println!("both answer alike");
    Ok(())
}
