//! Every built-in network at every kind and degree of sparsity: ours = stock, and pruned layers run sparse.

use anyhow::Result;
use tests::{agree, noise, sparse_nodes};
use zoo::{Network, Spec};

#[test]
fn every_network_at_every_sparsity_agrees_with_stock() -> Result<()> {
    for network in Network::ALL {
        // Small images keep the test short; every layer and every stride is there.
        let hw = if network == Network::Resnet20 { 32 } else { 64 };
        let x = noise(&[1, 3, hw, hw], 7);
        let mut specs = vec![];
        for conv1x1 in ["4x4", "4x1", "2x1", "8x1", "unstructured"] {
            for ratio in ["0", "0.3", "0.5", "0.9", "1"] {
                specs.push(Spec { conv1x1: Some(format!("{conv1x1}:{ratio}").parse()?), ..Spec::default() });
            }
        }
        for conv3x3 in ["5:9", "5:9:0.5", "5:9:0.9"] {
            specs.push(Spec {
                conv1x1: Some("4x4:0.6".parse()?),
                dwconv3x3: Some("3:9".parse()?),
                conv3x3: Some(conv3x3.parse()?),
                ..Spec::default()
            });
        }
        for spec in specs {
            // Narrow networks have ragged channel counts, and are quick to build.
            let width = if network == Network::Resnet20 { 1.0 } else { 0.4 };
            let spec = Spec { hw: Some(hw), width, ..spec };
            let model = zoo::build(network, &spec)?;
            let sparse = agree(&model, std::slice::from_ref(&x))
                .map_err(|e| e.context(format!("{} {spec:?}", network.name())))?;
            if spec.dwconv3x3.is_some() {
                let layers = sparse_nodes(&sparse);
                assert!(layers >= 10, "{} {spec:?}: only {layers} sparse layers", network.name());
            }
        }
    }
    Ok(())
}
