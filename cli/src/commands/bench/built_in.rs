//! `bench` without a model: the built-in network at several sparsities, in one table.

use super::Bench;
use super::against::{in_fewer_bits, outcome};
use crate::load::Source;
use crate::options::Options;
use crate::out;
use crate::table::{Table, ms};
use anyhow::{Context, Result};
use figures::Progress;
use sparsity::{Setting, Structure, Zeros};
use std::sync::Arc;
use zoo::{Network, Spec};

/// Milliseconds of a row.
const MAX_TIME: u64 = 2000;

/// Zeros of the built-in network.
const SPARSITIES: [u32; 5] = [0, 30, 50, 80, 90];

/// Times and prints the table.
pub(super) fn run(args: &Bench, options: &Options) -> Result<()> {
    let network = args.network.unwrap_or(Network::MobilenetV1);
    let format: Structure = args.format.as_deref().unwrap_or("4x4").parse().context("--format")?;
    let dwconv3x3 = args.dwconv3x3.and_then(Setting::zeros);
    let progress = Progress::new();
    let mut outcomes = vec![];
    for sparsity in SPARSITIES {
        let ratio = f64::from(sparsity) / 100.0;
        let conv1x1 = Zeros::new(format, ratio).context("--format")?;
        let spec = Spec { conv1x1: (sparsity > 0).then_some(conv1x1), dwconv3x3, ..Spec::default() };
        let name = format!("{network} {format} {sparsity} %");
        progress.say(&format!("{name}: building"));
        let proto = zoo::build(network, &spec)?;
        let source = Source::BuiltIn(name.clone(), Arc::new(proto));
        outcomes.push((sparsity, outcome(&source, args, options, &progress, MAX_TIME)?));
    }
    drop(progress);
    if options.json {
        let rows: Vec<serde_json::Value> = outcomes
            .iter()
            .map(|(sparsity, outcome)| {
                let mut value = serde_json::to_value(outcome)?;
                value["sparsity"] = (f64::from(*sparsity) / 100.0).into();
                Ok(value)
            })
            .collect::<Result<_>>()?;
        return out::json(&serde_json::json!({
            "network": network.name(),
            "format": format.to_string(),
            "dwconv3x3": dwconv3x3.map(|p| p.to_string()),
            "rows": rows,
        }));
    }
    let mut table =
        Table::new(&["zeros", "stock ms", "sparse ms", "ratio", "quartiles", "layers sparse", "max diff"]);
    for (sparsity, o) in &outcomes {
        table.row(vec![
            format!("{sparsity} %"),
            ms(o.stock_ms),
            ms(o.sparse_ms),
            format!("{:.2}", o.ratio),
            format!("{:.2} - {:.2}", o.ratio_q1, o.ratio_q3),
            format!("{} of {}", o.layers_sparse, o.layers),
            format!("{:.1e}", o.max_abs_diff),
        ]);
    }
    let patterns = dwconv3x3.map_or_else(String::new, |p| format!(", depthwise {p}"));
    out::print(&format!(
        "{network}, 1x1 convolutions {format}{patterns}, {} thread(s), {}\n{}",
        options.thread_count(),
        outcomes.first().map_or_else(String::new, |(_, o)| {
            o.target.clone() + &in_fewer_bits(o.precision, [o.layers_half, o.layers_int8])
        }),
        table.text()
    ))
}
