//! Pruned models run elsewhere: onnxruntime gives the answers that tract-sparse gives.

use anyhow::{Context, Result, ensure};
use prune::{Array, Document, L1, Plan, Search, Tract, rearrange};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::models::{real_models, zoo_models};
use tests::{distance, npy, ort_python, run};
use tract_sparse::prelude::*;

/// Two engines add up the same products in different orders, over fifty layers; pruned without training,
/// networks amplify that more than trained ones do. A wrong weight shows at 1e-2 and more.
const TOLERANCE: f64 = 1e-3;

const SCRIPT: &str = "\
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for model in sys.argv[1:]:
    session = onnxruntime.InferenceSession(model + '.onnx', options, providers=['CPUExecutionProvider'])
    x = numpy.load(model + '.x.npy')
    for i, y in enumerate(session.run(None, {session.get_inputs()[0].name: x})):
        numpy.save(f'{model}.y{i}.npy', y)
";

/// Prunes a model, written to `<folder>/<name>.onnx` with an input beside it.
fn prepare(folder: &Path, name: &str, path: &Path, shape: &[usize], sparse: bool) -> Result<PathBuf> {
    let mut document = Document::open(path)?;
    let recipe = tests::recipe(0.7);
    let plan = Plan::new(&document.model, &recipe)?;
    let x = [Array::noise(shape, 5)];
    let search = Search { seed: 1, budget: Duration::from_millis(500) };
    // two, since an output of one value proves something only if it changes
    let inputs = vec![vec![x[0].tensor()?], vec![Array::noise(shape, 6).tensor()?]];
    rearrange(&mut document.model, &plan, &Tract, &inputs, search, &mut |_| ())?;
    plan.apply(&mut document.model, &L1)?;
    if sparse {
        let names: Vec<String> =
            document.model.graph.iter().flat_map(|g| &g.initializer).map(|t| t.name.clone()).collect();
        let floats = names.into_iter().filter(|n| n.contains('w')).collect::<Vec<_>>();
        ensure!(prune::onnx::sparsify_initializers(&mut document.model, &floats)? > 0, "nothing was moved");
    }
    document.set_metadata(prune::RECIPE_KEY, &recipe.to_string());
    let out = folder.join(name);
    document.save(&out.with_extension("onnx"))?;
    let x = ndarray::ArrayD::from_shape_vec(shape.to_vec(), x[0].data.clone())?;
    ndarray_npy::write_npy(folder.join(format!("{name}.x.npy")), &x)?;
    Ok(out)
}

/// The same for a small network of other kinds of layers.
fn prepare_kind(folder: &Path, kind: tests::kinds::Kind) -> Result<PathBuf> {
    let text = "ratio = 0.7\nconv = \"4x1\"\nconvtranspose = \"4x1\"\nrecurrent = \"4x4\"";
    let mut model = kind.model;
    prune::prune(&mut model, &text.parse()?)?;
    let name = format!("kind-{}", kind.name);
    zoo::write(&model, &folder.join(format!("{name}.onnx")))?;
    let x = Array::noise(&kind.shape, 5);
    let x = ndarray::ArrayD::from_shape_vec(x.shape, x.data)?;
    ndarray_npy::write_npy(folder.join(format!("{name}.x.npy")), &x)?;
    Ok(folder.join(name))
}

#[test]
fn pruned_models_run_in_onnxruntime() -> Result<()> {
    let Some(python) = ort_python("onnxruntime") else { return Ok(()) };
    let folder = std::env::temp_dir().join(format!("tract-sparse-ort-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut models = vec![];
    for (name, model, shape) in zoo_models()?.into_iter().chain(real_models()?) {
        let source = folder.join("source.onnx");
        zoo::write(&model, &source)?;
        let name = name.replace('.', "_");
        models.push(prepare(&folder, &name, &source, &shape, false)?);
        if name == "resnet-20" {
            // the zoo's are all f32: weights as sparse initializers
            models.push(prepare(&folder, "sparse-initializers", &source, &shape, true)?);
        }
    }
    agree(&python, &models, true)?;
    println!("{} models agree with onnxruntime", models.len());
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

#[test]
fn other_kinds_of_layers_run_in_onnxruntime() -> Result<()> {
    let Some(python) = ort_python("onnxruntime") else { return Ok(()) };
    let folder = std::env::temp_dir().join(format!("tract-sparse-ort-kinds-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let kinds = tests::kinds::kinds().into_iter().map(|kind| prepare_kind(&folder, kind));
    agree(&python, &kinds.collect::<Result<Vec<_>>>()?, false)?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Fails unless onnxruntime and tract-sparse agree on models that have an input beside them, and, if
/// `sparse`, some layer of each runs sparse.
fn agree(python: &OsStr, models: &[PathBuf], sparse: bool) -> Result<()> {
    let ran = Command::new(python).arg("-c").arg(SCRIPT).args(models).output();
    let ran = ran.with_context(|| format!("running {}", python.display()))?;
    ensure!(ran.status.success(), "onnxruntime: {}", String::from_utf8_lossy(&ran.stderr));
    for model in models {
        let beside = |end: &str| PathBuf::from(format!("{}{end}", model.display()));
        let x = npy(&beside(".x.npy"))?;
        let ours = tract_sparse::model_for_path(beside(".onnx"))?
            .with_input_fact(0, f32::fact(x.shape()).into())?
            .into_optimized()?;
        assert!(!sparse || tests::sparse_nodes(&ours) > 0, "{}", model.display());
        for (i, y) in run(ours, &[x])?.iter().enumerate() {
            let far = distance(y, &npy(&beside(&format!(".y{i}.npy")))?)?;
            println!("{}: output {i} differs by {far:.1e}", model.display());
            // networks pruned without training amplify rounding
            assert!(far <= 10.0 * TOLERANCE, "{}: output {i} differs by {far}", model.display());
        }
    }
    Ok(())
}
