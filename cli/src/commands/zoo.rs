//! `zoo`: writes a built-in network.

use crate::files;
use crate::options::Options;
use crate::out;
use crate::table::wrap;
use crate::zeros::Zeros;
use anyhow::{Result, ensure};
use clap::Args;
use figures::Progress;
use sparsity::Setting;
use std::path::PathBuf;

/// What the help says at its end.
pub(super) const HELP: &str = "\
Example:
  tract-sparse zoo mobilenet-v1 --conv1x1 4x4:0.5 --dwconv3x3 3:9 -o m.onnx";

/// Arguments of `zoo`.
#[derive(Debug, Args)]
pub(crate) struct Zoo {
    /// mobilenet-v1, -v2, -v3-large, efficientnet-lite0, resnet-18 or -20
    network: zoo::Network,
    #[command(flatten)]
    pub(crate) zeros: Zeros,
    /// Seed of the weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Images at a time, or a symbol such as N
    #[arg(long, default_value_t = zoo::Batch::Fixed(1))]
    batch: zoo::Batch,
    /// Height and width of the input [default: the network's]
    #[arg(long)]
    hw: Option<usize>,
    /// Channel multiplier
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Builds and writes the network, and says what it wrote.
pub(super) fn run(args: &Zoo, options: &Options) -> Result<()> {
    ensure!(
        options.facts.is_empty() && options.set.is_empty() && options.pass.is_none() && !options.optimize,
        "zoo takes none of -i, --set, --pass and -O; see --batch, --hw and --width"
    );
    let spec = zoo::Spec {
        conv1x1: args.zeros.conv1x1.and_then(Setting::zeros),
        dwconv3x3: args.zeros.dwconv3x3.and_then(Setting::zeros),
        conv3x3: args.zeros.conv3x3.and_then(Setting::zeros),
        fc: args.zeros.fc.and_then(Setting::zeros),
        seed: args.seed,
        batch: args.batch.clone(),
        hw: args.hw,
        width: args.width,
    };
    let progress = Progress::new();
    progress.say(&format!("building {}", args.network));
    let model = zoo::build(args.network, &spec)?;
    let bytes = zoo::encode(&model);
    files::write(&args.output, &bytes)?;
    drop(progress);
    let bytes = bytes.len();
    let nodes = model.graph.map_or(0, |graph| graph.node.len());
    if options.json {
        return out::json(&serde_json::json!({
            "file": args.output,
            "network": args.network.name(),
            "spec": spec.to_string(),
            "nodes": nodes,
            "bytes": bytes,
        }));
    }
    let (file, network) = (args.output.display(), args.network);
    out::print(&wrap(&format!("{file}: {network}, {spec}, {nodes} nodes, {bytes} bytes"), 4))
}
