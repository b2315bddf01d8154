//! How much of the l1 norm of its layers MobileNet v2 keeps when 4x4 groups, 3:9 and 5:9 patterns are pruned
//! by magnitude, with and without rearrangement. Prints a Markdown table; fails if a layer whose channels may
//! move keeps less with it.
//!
//! `cargo run --release --example prune_kept -- SECONDS`, where SECONDS is the search time of each ratio.

use anyhow::{Context, Result, ensure};
use prune::{Document, Plan, Search, Tract, rearrange};
use std::time::Duration;
use tract_onnx::prelude::*;

const RATIOS: [f64; 3] = [0.1, 0.2, 0.3];

fn main() -> Result<()> {
    let seconds: f64 = std::env::args().nth(1).context("SECONDS")?.parse()?;
    let dir = tests::models_dir().context("the folder of real models is not there")?;
    let dense = Document::open(&dir.join("mobilenet_v2_1.0_224.onnx"))?.model;
    let mut tables = vec![];
    for ratio in RATIOS {
        let plan = Plan::new(&dense, &tests::recipe(ratio))?;
        let search = Search { seed: 1, budget: Duration::from_secs_f64(seconds) };
        let inputs = prune::proof::inputs(&[(f32::datum_type(), vec![1, 3, 224, 224])], 1)?;
        let done = rearrange(&mut dense.clone(), &plan, &Tract, &inputs, search, &mut |_| ())?;
        eprintln!(
            "ratio {ratio}: {} channels in {} classes, outputs as before to {:.1e}",
            done.channels, done.classes, done.proof
        );
        tables.push(done.layers);
    }
    println!("| layer | {} |", RATIOS.map(|r| format!("{:.0} %", 100.0 * r)).join(" | "));
    println!("|---|{}", "---|".repeat(RATIOS.len()));
    let mut fallen = vec![];
    for (at, layer) in tables[0].iter().enumerate() {
        let cells: Vec<String> =
            tables.iter().map(|t| format!("{:.4} -> {:.4}", t[at].before, t[at].after)).collect();
        let pinned = if layer.movable { "" } else { " (pinned)" };
        println!("| {}{pinned} | {} |", layer.name, cells.join(" | "));
        let fell = |t: &&Vec<prune::Kept>| t[at].movable && t[at].after <= t[at].before;
        fallen.extend(tables.iter().find(fell).map(|_| layer.name.clone()));
    }
    let means: Vec<String> = tables
        .iter()
        .map(|t| {
            let mean = |f: &dyn Fn(&prune::Kept) -> f64| t.iter().map(f).sum::<f64>() / t.len() as f64;
            format!("{:.4} -> {:.4}", mean(&|l| l.before), mean(&|l| l.after))
        })
        .collect();
    println!("| mean | {} |", means.join(" | "));
    ensure!(fallen.is_empty(), "these layers keep no more than before: {}", fallen.join(", "));
    Ok(())
}
