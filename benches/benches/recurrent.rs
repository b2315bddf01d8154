//! Recurrent layers like those of DeepFilterNet3 (GRU, 256 to 768 wide) and LSTMs, 80 % of the weights
//! pruned: stock tract and tract-sparse in turn in one process, medians and the median of the paired ratios.
//!
//! ```sh
//! taskset -c 1 cargo bench --workspace --bench recurrent
//! taskset -c 1 cargo bench --workspace --bench recurrent -- "GRU 512"   # the rows that have this in their name
//! ```

use anyhow::{Context, Result};
use figures::{in_turn, quantile};
use std::time::Duration;
use tests::recurrent::{Options, Recurrent};
use tract_libcli::profile::BenchLimits;
use tract_onnx::prelude::*;

/// Steps of a sequence: one second of sound in frames of 10 ms.
const STEPS: usize = 100;

/// Share of the blocks that is kept.
const DENSITY: f64 = 0.2;

fn main() -> Result<()> {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    println!("| layer | zeros | batch | steps | stock ms | sparse ms | ratio | quartiles |");
    println!("|---|---|---|---|---|---|---|---|");
    for op in ["GRU", "LSTM", "RNN"] {
        for hidden in [256, 512, 768] {
            for (block, zeros) in [((4, 4), "4x4"), ((4, 1), "4x1"), ((1, 1), "unstructured")] {
                for (batch, steps) in [(1, STEPS), (1, 1), (4, STEPS)] {
                    // what tract 0.23.9 cannot run
                    if op == "LSTM" && batch > 1 {
                        continue;
                    }
                    let name = format!("{op} {hidden} | {zeros} | {batch} | {steps}");
                    if name.contains(&wanted) {
                        let options = Options { linear_before_reset: op == "GRU", ..Options::default() };
                        let layer =
                            Recurrent { op, batch, options, ..Recurrent::gru(hidden, steps, block, DENSITY) };
                        row(&name, &layer).with_context(|| name.clone())?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Times a layer on both engines and prints a line of the table.
fn row(name: &str, layer: &Recurrent) -> Result<()> {
    let model = layer.model();
    let load = |onnx: tract_onnx::Onnx| onnx.model_for_proto_model(&model)?.into_optimized()?.into_runnable();
    let (stock, ours) = (load(onnx())?, load(tract_sparse::onnx())?);
    let inputs: TVec<TValue> = layer.inputs(1).into_iter().map(Tensor::into_tvalue).collect();
    tests::assert_same(&ours.run(inputs.clone())?, &stock.run(inputs.clone())?)?;
    let limits = BenchLimits {
        warmup_loops: 4,
        warmup_time: Duration::ZERO,
        max_loops: 400,
        max_time: Duration::from_millis(1500),
    };
    let times = in_turn(&[&stock, &ours], &inputs, &limits, &|_| ())?;
    let ratios: Vec<f64> = times[0].iter().zip(&times[1]).map(|(stock, ours)| stock / ours).collect();
    let [stock, ours] = [&times[0], &times[1]].map(|times| quantile(times, 0.5));
    let [low, ratio, high] = [0.25, 0.5, 0.75].map(|q| quantile(&ratios, q));
    println!("| {name} | {stock:.3} | {ours:.3} | {ratio:.2} | {low:.2} to {high:.2} |");
    Ok(())
}
