//! Every real model: our answer = stock tract's answer = the golden answer.

use anyhow::Result;
use tests::models::names_of_real_models;
use tests::{TOLERANCE, distance, models_dir, npy, skipped, sparse_nodes};
use tract_sparse::prelude::*;

#[test]
fn every_model_agrees_with_its_golden_output_and_with_stock() -> Result<()> {
    let Some(dir) = models_dir() else {
        skipped("goldens", "the folder of real models is not there");
        return Ok(());
    };
    let models = names_of_real_models(&dir)?;
    assert!(!models.is_empty(), "no models in {}", dir.display());
    for name in models {
        let path = dir.join(format!("{name}.onnx"));
        let golden = |what: &str| dir.join("golden").join(format!("{name}.{what}.npy"));
        let input = npy(&golden("input"))?;
        let load = |onnx: tract_onnx::Onnx| -> Result<TypedModel> {
            let fact = f32::fact(input.shape()).into();
            onnx.model_for_path(&path)?.with_input_fact(0, fact)?.into_optimized()
        };
        let (sparse, stock) = (load(onnx())?, load(tract_onnx::onnx())?);
        let layers = sparse_nodes(&sparse);
        let run = |model: TypedModel| model.into_runnable()?.run(tvec!(input.clone().into_tvalue()));
        let (sparse, stock) = (run(sparse)?, run(stock)?);
        let mut worst = (0f64, 0f64);
        for (ix, (ours, theirs)) in sparse.iter().zip(&stock).enumerate() {
            worst.1 = worst.1.max(distance(ours, theirs)?);
            if let Ok(expected) = npy(&golden(&format!("output{ix}"))) {
                worst.0 = worst.0.max(distance(ours, &expected)?);
            }
            if layers == 0 {
                assert_eq!(ours, theirs, "{name} has no sparse layer and must be stock bit for bit");
            }
        }
        println!("{name}: {layers} sparse layers, golden {:.1e}, stock {:.1e}", worst.0, worst.1);
        assert!(worst.0 <= TOLERANCE && worst.1 <= TOLERANCE, "{name} differs: {worst:?}");
        if name.contains("sparse") {
            assert!(layers >= 30, "{name} is pruned, but only {layers} layers run sparse");
        }
    }
    Ok(())
}
