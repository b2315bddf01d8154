//! Pruned models: they load and run in stock tract, the sparse loader finds the structure, and rearranged networks compute
//! what they computed before.

#[path = "../../cli/src/prune_engine.rs"]
mod prune_engine;

use anyhow::Result;
use prost::Message;
use prune::{Array, Document, Plan, Recipe, Search, rearrange};
use prune_engine::Tract;
use std::time::Duration;
use tests::{models_dir, npy, skipped};
use tract_onnx::pb::ModelProto;
use zoo::{Network, Spec};

/// A model under test: name, model, shape of its input.
fn real_models() -> Result<Vec<(String, ModelProto, Vec<usize>)>> {
    let Some(dir) = models_dir() else {
        skipped("prune", "the folder of real models is not there");
        return Ok(vec![]);
    };
    let mut models = vec![];
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "onnx") {
            let name = path.file_stem().unwrap().to_string_lossy().to_string();
            let input = npy(&dir.join("golden").join(format!("{name}.input.npy")))?;
            models.push((name, Document::open(&path)?.model, input.shape().to_vec()));
        }
    }
    models.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(models.len() >= 8, "{} models in {}", models.len(), dir.display());
    Ok(models)
}

fn zoo_models() -> Result<Vec<(String, ModelProto, Vec<usize>)>> {
    Network::ALL
        .into_iter()
        .map(|network| {
            let hw = 32;
            let spec = Spec { hw: Some(hw), width: 0.5, ..Spec::default() };
            Ok((network.to_string(), zoo::build(network, &spec)?, vec![1, 3, hw, hw]))
        })
        .collect()
}

fn recipe(ratio: f64) -> Recipe {
    Recipe { ratio, connectivity: ratio, ..Recipe::default() }
}

fn search() -> Search {
    Search { seed: 7, budget: Duration::from_secs(3) }
}

#[test]
fn rearranged_networks_compute_what_they_did_and_keep_more() -> Result<()> {
    for (name, mut model, shape) in real_models()?.into_iter().chain(zoo_models()?) {
        let plan = Plan::new(&model, &recipe(0.3))?;
        let inputs: Vec<Vec<Array>> = (1..3).map(|seed| vec![Array::noise(&shape, seed)]).collect();
        let before = model.encode_to_vec();
        // proves itself or fails
        let done = rearrange(&mut model, &plan, &Tract, &inputs, search(), &mut |_| ())?;
        let movable: Vec<_> = done.layers.iter().filter(|l| l.movable).collect();
        let mean = |f: &dyn Fn(&prune::Kept) -> f64| {
            movable.iter().map(|l| f(l)).sum::<f64>() / movable.len().max(1) as f64
        };
        println!(
            "{name}: {} classes of {} channels, {} of {} layers movable, kept {:.4} -> {:.4}, {} fell, proof {:.1e}",
            done.classes,
            done.channels,
            movable.len(),
            done.layers.len(),
            mean(&|l| l.before),
            mean(&|l| l.after),
            movable.iter().filter(|l| l.after < l.before).count(),
            done.proof,
        );
        assert!(!movable.is_empty(), "{name}: no layer can be rearranged");
        assert_ne!(before, model.encode_to_vec(), "{name}: nothing has moved");
        assert!(mean(&|l| l.after) > mean(&|l| l.before), "{name}: rearranging lost");
    }
    Ok(())
}
