//! What rewriting costs at load: each network is loaded, optimised and made runnable on stock tract and on
//! tract-sparse, in turn, and the median of the paired ratios is printed.
//!
//! ```sh
//! taskset -c 1 cargo bench --workspace --bench loading
//! taskset -c 1 cargo bench --workspace --bench loading -- resnet-18   # the networks whose name has this in it
//! ```
//! Built-in networks come with pruned and with dense weights; real ones from `TRACT_SPARSE_MODELS`, or from
//! `shared/models` beside the checkout.

use anyhow::{Context, Result};
use std::time::Instant;
use tract_onnx::prelude::*;
use zoo::{ModelProto, Network, Spec};

/// Pairs of loads of a network.
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    println!("| network | stock ms | sparse ms | ratio | quartiles |\n|---|---|---|---|---|");
    for network in Network::ALL {
        let pruned = Spec {
            conv1x1: Some("4x4:0.5".parse()?),
            dwconv3x3: Some("3:9".parse()?),
            conv3x3: Some("5:9".parse()?),
            ..Spec::default()
        };
        for (weights, spec) in [("pruned", pruned), ("dense", Spec::default())] {
            let name = format!("{}, {weights}", network.name());
            if name.contains(&wanted) {
                row(&name, &zoo::build(network, &spec)?)?;
            }
        }
    }
    let Some(dir) = tests::models_dir() else {
        tests::skipped("loading", "the folder of real models is not there");
        return Ok(());
    };
    let mut files: Vec<_> = std::fs::read_dir(&dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    for path in files {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().to_string();
        if name.contains(&wanted) {
            let model = onnx().proto_model_for_path(&path).with_context(|| name.clone())?;
            row(&name, &model).context(name)?;
        }
    }
    Ok(())
}

/// Loads `model` with both loaders in turn and prints a line of the table.
fn row(name: &str, model: &ModelProto) -> Result<()> {
    let load = |onnx: tract_onnx::Onnx| -> Result<f64> {
        let start = Instant::now();
        let runnable = onnx.model_for_proto_model(model)?.into_optimized()?.into_runnable()?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        drop(runnable);
        Ok(ms)
    };
    let (mut stock, mut sparse, mut ratios) = (vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let (theirs, ours) = (load(onnx())?, load(tract_sparse::onnx())?);
        // The first pair pays for page faults and caches of the process.
        if round > 0 {
            stock.push(theirs);
            sparse.push(ours);
            ratios.push(ours / theirs);
        }
    }
    for times in [&mut stock, &mut sparse, &mut ratios] {
        times.sort_by(f64::total_cmp);
    }
    let [q1, median, q3] = [1, 2, 3].map(|quarter| ratios[ROUNDS * quarter / 4]);
    let (stock, sparse) = (stock[ROUNDS / 2], sparse[ROUNDS / 2]);
    println!("| {name} | {stock:.1} | {sparse:.1} | {median:.2} | {q1:.2} - {q3:.2} |");
    Ok(())
}
