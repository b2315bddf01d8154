//! `zoo`: writes a built-in network.

use crate::args::{Options, Zoo};
use crate::out;
use crate::table::wrap;
use anyhow::Result;
use figures::Progress;
use sparsity::Setting;

/// Builds and writes the network, and says what it wrote.
pub(crate) fn run(args: &Zoo, options: &Options) -> Result<()> {
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
    out::file(&args.output, &bytes)?;
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
