//! Runs a network on one thread and on several, and times both.
//!
//! ```sh
//! cargo run --release -p tract-sparse --features multithread-mm --example threads -- pruned.onnx 4
//! ```

use std::time::{Duration, Instant};
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::{DimLike, RunOptions, multithread::Executor};

const RUNS: usize = 21;

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, threads] = &*args else {
        eprintln!("usage: threads MODEL.onnx THREADS");
        std::process::exit(2);
    };
    let threads: usize = threads.parse()?;
    let model = onnx().model_for_path(path)?.into_optimized()?;
    let input = model.input_fact(0)?;
    let shape: Vec<usize> = input.shape.iter().map(DimLike::to_usize).collect::<Result<_, _>>()?;
    let x = Tensor::zero::<f32>(&shape)?.into_tvalue();

    let mut answers = vec![];
    for (what, executor) in [
        ("1 thread".to_string(), Executor::SingleThread),
        (format!("{threads} threads"), Executor::multithread(threads)),
    ] {
        let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
        let plan = model.clone().into_runnable_with_options(&options)?;
        let mut times: Vec<Duration> = vec![];
        for _ in 0..RUNS {
            let start = Instant::now();
            let y = plan.run(tvec!(x.clone()))?;
            times.push(start.elapsed());
            answers.push(y);
        }
        times.sort();
        println!("{what}: {:.2} ms", times[RUNS / 2].as_secs_f64() * 1e3);
    }
    let same = answers.iter().all(|answer| *answer == answers[0]);
    println!("the answers are {}", if same { "the same, bit for bit" } else { "not the same" });
    Ok(())
}
