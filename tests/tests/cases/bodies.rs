//! Layers in the bodies of If, Loop and Scan, recurrent layers among them.

use crate::case;
use anyhow::{Context, Result, ensure};
use tests::recurrent::{Options, Recurrent};
use tests::{assert_same, sparse_nodes, with_knobs};
use tract_nnef::internal::{Framework, Nnef};
use tract_sparse::prelude::*;
use tract_sparse::{LayerReport, Onnx, Policy, Report, nnef, sparsify, unsparsify};

/// Every variant that stock tract runs, small.
fn variants() -> Vec<Recurrent> {
    let plain = Options::default();
    let options = [
        plain,
        Options { bidirectional: true, ..plain },
        Options { reverse: true, ..plain },
        Options { batch_first: true, ..plain },
        Options { unbiased: true, ..plain },
        Options { initial: true, ..plain },
        Options { lengths: true, ..plain },
        Options { last_only: true, ..plain },
        Options { bidirectional: true, initial: true, ..plain },
    ];
    let blocks = [(4, 4), (4, 1), (2, 1), (1, 1)];
    let mut all = vec![];
    for op in ["GRU", "LSTM", "RNN"] {
        for (at, options) in options.into_iter().enumerate() {
            for (batch, steps) in [(1, 7), (3, 5), (1, 1), (2, 2)] {
                let block = blocks[(at + steps) % 4];
                let layer = Recurrent {
                    op,
                    input: 24,
                    hidden: 72,
                    steps,
                    batch,
                    block,
                    density: 0.2,
                    layers: 1,
                    options,
                };
                all.push(layer);
                if op == "GRU" {
                    let options = Options { linear_before_reset: true, ..options };
                    all.push(Recurrent { options, ..layer });
                }
                if op == "LSTM" {
                    let options = Options { peepholes: true, ..options };
                    all.push(Recurrent { options, ..layer });
                }
            }
        }
    }
    // tract 0.23.9 runs these up to the second of the sequences and fails
    all.retain(|layer| {
        let Options { initial, bidirectional, batch_first, peepholes, .. } = layer.options;
        layer.op != "LSTM" || layer.batch == 1 || initial || bidirectional || batch_first || peepholes
    });
    all
}

/// The outputs of two turns of one state: recurrent layers go on from the state of the turn before.
fn turns(onnx: &Onnx, layer: &Recurrent) -> Result<(Vec<TValue>, Arc<TypedRunnableModel>)> {
    let plan = onnx.model_for_proto_model(&layer.model())?.into_optimized()?.into_runnable()?;
    let mut state = plan.spawn()?;
    let mut outputs = vec![];
    for seed in [1, 2] {
        outputs.extend(state.run(layer.inputs(seed).into_iter().map(Tensor::into_tvalue).collect())?);
    }
    Ok((outputs, plan))
}

#[test]
fn recurrent_layers_run_sparse_in_every_variant() -> Result<()> {
    for layer in variants() {
        (|| {
            let (theirs, _) = turns(&tract_onnx::onnx(), &layer).context("stock")?;
            let (ours, plan) = with_knobs(&[("TRACT_SPARSE", "always")], || turns(&onnx(), &layer))?;
            assert_same(&ours, &theirs)?;
            // tract cuts some matrices into those of the gates
            let replaced =
                |layer: &&LayerReport| layer.reason.as_ref().is_some_and(|r| r.contains("in its place"));
            let layers = Report::of(plan.model())?.layers;
            let all = layers.len() - layers.iter().filter(replaced).count();
            let sparse = sparse_nodes(plan.model());
            // A loop of one step is unrolled, and the product with an initial state of zeros is a constant.
            let least = match layer.steps == 1 && !layer.options.initial {
                true => layer.matrices() / 2,
                false => layer.matrices(),
            };
            ensure!(sparse == all && all >= least, "{sparse} of {all} layers sparse\n{}", plan.model());
            ensure!(tests::count(plan.model(), "OptMatMul") == 0, "a product is left\n{}", plan.model());
            Ok(())
        })()
        .with_context(|| format!("{layer:?}"))?;
    }
    Ok(())
}

#[test]
fn dense_recurrent_layers_are_stock_bit_for_bit() -> Result<()> {
    for layer in variants().into_iter().filter(|layer| layer.batch == 1) {
        let dense = Recurrent { density: 1.0, ..layer };
        let (theirs, _) = turns(&tract_onnx::onnx(), &dense)?;
        let (ours, plan) = turns(&onnx(), &dense)?;
        ensure!(ours == theirs && sparse_nodes(plan.model()) == 0, "{dense:?}");
    }
    Ok(())
}

/// A model before code generation, and as it runs.
fn stages(path: &std::path::Path) -> Result<(TypedModel, TypedModel)> {
    let typed = onnx().model_for_path(path)?.into_typed()?.into_decluttered()?;
    Ok((typed.clone(), typed.into_optimized()?))
}

fn names(model: &TypedModel) -> Result<Vec<String>> {
    let layers = Report::of(model)?.layers;
    Ok(layers.into_iter().filter(|l| l.chosen.is_some()).map(|l| l.name).collect())
}

#[test]
fn both_branches_of_an_if_run_sparse() -> Result<()> {
    let path = case("if_sparse.onnx");
    with_knobs(&[("TRACT_SPARSE", "always")], || {
        let (typed, optimized) = stages(&path)?;
        let want = ["If.then.gemm1_node.ab", "If.else.gemm1_node.ab"];
        assert_eq!(names(&typed)?, want);
        assert_eq!(names(&optimized)?.len(), 2);
        assert_eq!(tests::count(&optimized, "OptSparseIf"), 1);
        let stock = tract_onnx::onnx().model_for_path(&path)?.into_optimized()?;
        // one branch for a large maximum, the other for a small one
        for shift in [-10f32, 10.0] {
            let x = tests::noise(&[1, 64], 3).to_plain_array_view::<f32>()?.mapv(|v| v + shift);
            let x = [Tensor::from(x)];
            assert_same(&tests::run(optimized.clone(), &x)?, &tests::run(stock.clone(), &x)?)?;
            assert_same(&tests::run(typed.clone(), &x)?, &tests::run(stock.clone(), &x)?)?;
        }
        late(&path, &typed)
    })
}

#[test]
fn the_body_of_a_scan_runs_sparse() -> Result<()> {
    let path = case("scan.onnx");
    with_knobs(&[("TRACT_SPARSE", "always")], || {
        let (typed, optimized) = stages(&path)?;
        assert_eq!(names(&typed)?.len(), 2);
        assert_eq!(names(&optimized)?.len(), 2);
        let stock = tract_onnx::onnx().model_for_path(&path)?.into_optimized()?;
        let shape = stock.input_fact(0)?.shape.as_concrete().context("a symbolic shape")?.to_vec();
        let x = [tests::noise(&shape, 3)];
        assert_same(&tests::run(optimized, &x)?, &tests::run(stock, &x)?)?;
        late(&path, &typed)
    })
}

/// The same layers run sparse through the other entries; and back: without them the model is stock, bit for
/// bit.
fn late(path: &std::path::Path, early: &TypedModel) -> Result<()> {
    let stock = tract_onnx::onnx().model_for_path(path)?.into_typed()?.into_decluttered()?;
    let mut swapped = stock.clone();
    sparsify(&mut swapped, &Policy::from_knobs()?)?;
    assert_eq!(names(&swapped.into_decluttered()?)?, names(early)?);
    let mut back = early.clone();
    ensure!(unsparsify(&mut back)? > 0, "nothing was swapped");
    ensure!(sparse_nodes(&back) == 0, "a sparse layer is left");
    let shape = stock.input_fact(0)?.shape.as_concrete().context("a symbolic shape")?.to_vec();
    let x = [tests::noise(&shape, 5)];
    assert_same(&tests::run(back.into_optimized()?, &x)?, &tests::run(stock.into_optimized()?, &x)?)
}

#[test]
fn what_is_said_of_a_gru_is_what_runs() -> Result<()> {
    let path = case("gru_report.onnx");
    for mode in ["auto", "always"] {
        with_knobs(&[("TRACT_SPARSE", mode)], || {
            let (typed, optimized) = stages(&path)?;
            assert_eq!(names(&typed)?.len(), sparse_nodes(&optimized));
            assert_eq!(names(&optimized)?.len(), sparse_nodes(&optimized));
            late(&path, &typed)
        })?;
    }
    Ok(())
}

/// Files hold stock layers; what was pruned is stored compactly, in bodies, too, and runs sparse after it was
/// read.
#[test]
fn recurrent_models_go_through_files() -> Result<()> {
    let lstm = Recurrent { op: "LSTM", ..Recurrent::gru(96, 6, (4, 4), 0.2) };
    for layer in [lstm, Recurrent::gru(96, 6, (4, 4), 0.2), Recurrent { op: "RNN", ..lstm }] {
        let stock = tract_onnx::onnx().model_for_proto_model(&layer.model())?;
        let stock = stock.into_typed()?.into_decluttered()?;
        let write = |nnef: &Nnef| nnef.write_to_tar_with_config(&stock, vec![], false, true);
        let (compact, plain) = (write(&nnef())?, write(&tract_nnef::nnef())?);
        let zeros = (0.8 * 4.0 * 0.9 * (plain.len() as f64 / 4.0)) as usize;
        ensure!(
            compact.len() + zeros < plain.len(),
            "{layer:?}: {} bytes compact, {} plain",
            compact.len(),
            plain.len()
        );
        let x = layer.inputs(3);
        let want = tests::run(stock.clone().into_optimized()?, &x)?;
        let mut sparse = vec![];
        for (nnef, bytes) in [(nnef().into_inner(), compact), (tract_nnef::nnef(), plain)] {
            let mut back = nnef.model_for_read(&mut &*bytes)?;
            assert_eq!(tests::run(back.clone().into_optimized()?, &x)?, want, "{layer:?}");
            sparsify(&mut back, &Policy::from_knobs()?)?;
            sparse.push(names(&back)?.len());
            assert_same(&tests::run(back.into_optimized()?, &x)?, &want)?;
        }
        let direct = onnx().model_for_proto_model(&layer.model())?.into_typed()?.into_decluttered()?;
        assert_eq!(sparse, [names(&direct)?.len(); 2], "{layer:?}");
        // dense or pruned, the same layers are seen
        assert_eq!(Report::of(&stock)?.layers.len(), Report::of(&direct)?.layers.len(), "{layer:?}");
        ensure!(sparse[0] >= layer.matrices(), "{layer:?}: {sparse:?}");
    }
    Ok(())
}
