//! The measurement of one network.

use crate::report::networks::Case;
use crate::report::rivals::{Engine, Network, Rivals, Worker};
use crate::report::{Answer, InHalf, InInt8, Outcome, Quantised, Rounds};
use anyhow::{Context, Result, ensure};
use figures::{Agreement, HALF_TOLERANCE, Progress, Ratio, TOLERANCE, Timing, in_turn, quantile};
use noise::Noise;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tract_core::internal::*;
use tract_libcli::profile::BenchLimits;
use tract_onnx::prelude::*;
use tract_sparse::{Policy, Precision, Report, WithTractSparse};

/// How long, and against whom.
#[derive(Debug)]
pub struct Settings {
    /// Time of the pairs of stock tract and ours.
    pub max_time: Duration,
    /// Rounds in which all engines are asked in turn.
    pub rounds: usize,
    /// Runs of an engine in a round that count; one more comes before them.
    pub runs: usize,
    /// The engines.
    pub rivals: Rivals,
    /// Inputs that quantised files are calibrated on; if there are none, those of the measurement.
    pub calibrate: Vec<PathBuf>,
    /// A file that is locked from network to network: what loads and converts disturbs others, too.
    pub lock: Option<PathBuf>,
}

type Plan = Arc<TypedRunnableModel>;

/// A network on stock tract and on ours.
struct Loaded {
    stock: Plan,
    sparse: Plan,
    /// Ours in half precision, and how many layers run in it.
    half: Option<(Plan, usize)>,
    layers: usize,
    layers_sparse: usize,
    inputs: Vec<(String, TValue)>,
    outputs: Vec<String>,
}

/// Loads a network, compares the answers and takes the times; `folder` is for files in between.
///
/// # Errors
/// A network that does not load; other answers than stock tract's.
pub fn measure(case: &Case, settings: &Settings, folder: &Path, progress: &Progress) -> Result<Outcome> {
    let say = |what: &str| progress.say(&format!("{}: {what}", case.name()));
    let lock = settings.lock.as_ref().map(|path| {
        say("waiting for the lock");
        lock(path).with_context(|| format!("--lock {}", path.display()))
    });
    let lock = lock.transpose()?;
    say("building");
    let file = case.file(folder)?;
    say("loading");
    let pair = load(&file)?;
    let inputs: TVec<TValue> = pair.inputs.iter().map(|(_, value)| value.clone()).collect();
    let (expected, got) = (pair.stock.run(inputs.clone())?, pair.sparse.run(inputs.clone())?);
    let agreement = Agreement::of_all(&expected, &got, TOLERANCE)?;
    ensure!(agreement.agrees, "an output differs by {:.1e} from stock tract's", agreement.max_abs_diff);
    let in_half = pair.half.as_ref().map(|(plan, _)| -> Result<f64> {
        let agreement = Agreement::of_all(&expected, &plan.run(inputs.clone())?, HALF_TOLERANCE)?;
        let far = agreement.max_abs_diff;
        ensure!(agreement.agrees, "an output in half precision differs by {far:.1e} from stock tract's");
        Ok(far)
    });
    let in_half = in_half.transpose()?;
    let network = Network::new(
        folder,
        &file,
        case.shared_rows(),
        &pair.inputs,
        pair.outputs.clone(),
        expected.into_iter().collect(),
    )?;
    let workers = start(&settings.rivals, settings.rivals.engines(), &network, &say);
    let limits = BenchLimits {
        warmup_loops: 2,
        warmup_time: Duration::ZERO,
        max_loops: usize::MAX,
        max_time: settings.max_time,
    };
    let share = if workers.iter().any(Result::is_ok) { 0.4 } else { 1.0 };
    let part = |done: f64| progress.part(case.name(), share * done);
    let times = in_turn(&pair.plans(), &inputs, &limits, &part)?;
    let rounds = match workers.iter().any(Result::is_ok) {
        true => {
            let part = |done: f64| progress.part(case.name(), share + (1.0 - share) * done);
            let (own, engines) = in_rounds(&pair.plans(), &inputs, workers, settings, &part)?;
            Some(Rounds {
                runs: own[0].len(),
                stock_ms: quantile(&own[0], 0.5),
                sparse_ms: quantile(&own[1], 0.5),
                half_ms: own.get(2).map(|times| quantile(times, 0.5)),
                engines,
            })
        }
        false => None,
    };
    let int8 = (case.in_int8() && settings.rivals.quantiser().version.is_some()).then(|| {
        let quantised = in_int8(network, &pair, &inputs, settings, folder, &say);
        quantised.map_or_else(|error| Quantised::Refused(format!("{error:#}")), Quantised::Ran)
    });
    drop(lock);
    Ok(Outcome {
        name: case.name().into(),
        kind: case.kind(),
        layers: pair.layers,
        layers_sparse: pair.layers_sparse,
        runs: times[0].len(),
        stock: Timing::of(&times[0]),
        sparse: Timing::of(&times[1]),
        ratio: Ratio::of_pairs(&times[0], &times[1]),
        max_abs_diff: agreement.max_abs_diff,
        half: pair.half.as_ref().zip(in_half).map(|((_, layers), max_abs_diff)| InHalf {
            layers: *layers,
            timing: Timing::of(&times[2]),
            ratio: Ratio::of_pairs(&times[1], &times[2]),
            max_abs_diff,
        }),
        rounds,
        int8,
    })
}

/// Starts engines on a network.
fn start(
    rivals: &Rivals,
    engines: &[Engine],
    network: &Network,
    say: &dyn Fn(&str),
) -> Vec<Result<Worker, Answer>> {
    let start = |engine: &Engine| {
        say(&format!("loading in {}", engine.title));
        match engine.version {
            None => Err(Answer::NotInstalled),
            Some(_) => {
                let started = rivals.start(engine, network);
                started.map_err(|error| Answer::Refused(format!("{error:#}")))
            }
        }
    };
    engines.iter().map(start).collect()
}

/// Quantises a network, and takes the times of the file beside those of ours on the network as it was.
fn in_int8(
    network: Network,
    pair: &Loaded,
    inputs: &TVec<TValue>,
    settings: &Settings,
    folder: &Path,
    say: &dyn Fn(&str),
) -> Result<InInt8> {
    say("quantising");
    let folder = folder.join("int8");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("network.onnx");
    settings.rivals.quantise(&network, &file, &settings.calibrate)?;
    say("loading in int8");
    let stock = onnx().model_for_path(&file)?.into_optimized()?.into_runnable().context("stock tract")?;
    let expected: Vec<TValue> = stock.run(inputs.clone())?.into_iter().collect();
    let ours = tract_sparse::onnx().model_for_path(&file)?.into_optimized()?;
    let report = Report::of(&ours)?;
    let ours = ours.into_runnable()?;
    let network = network.quantised(&folder, &file, expected.clone())?;
    // stock tract 0.23.9 makes a table of a softmax between quantised values, which onnxruntime does not
    let (expected, whose) = match settings.rivals.int8_answer(&network)? {
        Some(answer) => (answer, "onnxruntime's"),
        None => (expected, "stock tract's"),
    };
    let agreement = Agreement::of_all(&expected, &ours.run(inputs.clone())?, HALF_TOLERANCE)?;
    let far = agreement.max_abs_diff;
    ensure!(agreement.agrees, "an output differs by {far:.1e} from {whose} on the same file");
    let network = network.expecting(expected);
    let workers = start(&settings.rivals, settings.rivals.int8_engines(), &network, say);
    say("timing int8");
    let (own, engines) = in_rounds(&[&pair.sparse, &ours], inputs, workers, settings, &|_| ())?;
    Ok(InInt8 {
        layers: report.layers.len(),
        layers_int8: report.int8_layers(),
        runs: own[0].len(),
        sparse_ms: quantile(&own[0], 0.5),
        int8_ms: quantile(&own[1], 0.5),
        max_abs_diff: far,
        engines,
    })
}

impl Loaded {
    /// Stock tract, ours, and ours in half precision if there is that.
    fn plans(&self) -> Vec<&Plan> {
        [&self.stock, &self.sparse].into_iter().chain(self.half.iter().map(|(plan, _)| plan)).collect()
    }
}

/// The lock of a file, which is made if need be; given back when the file is dropped.
fn lock(path: &Path) -> Result<File> {
    let file = File::options().append(true).create(true).open(path)?;
    file.lock()?;
    Ok(file)
}

fn load(file: &Path) -> Result<Loaded> {
    let proto = onnx().proto_model_for_path(file).with_context(|| file.display().to_string())?;
    let graph = proto.graph.as_ref().context("no graph in the file")?;
    let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
    let typed = |onnx: tract_onnx::Onnx| onnx.model_for_path(file)?.into_typed()?.into_decluttered();
    let plan = |model: TypedModel| model.into_optimized()?.into_runnable();
    let stock = typed(onnx()).context("stock tract")?;
    let mut noise = Noise::new(1);
    let mut inputs = vec![];
    for outlet in stock.input_outlets()? {
        let (name, fact) = (&stock.node(outlet.node).name, stock.outlet_fact(*outlet)?);
        let shape = fact.shape.as_concrete().filter(|_| fact.datum_type == f32::datum_type());
        let shape =
            shape.with_context(|| format!("input {name} is {fact:?}: a fixed shape of f32 is needed"))?;
        let values = noise.values(shape.iter().product());
        inputs.push((name.clone(), Tensor::from_shape(shape, &values)?.into_tvalue()));
    }
    let ours = |precision| -> TractResult<TypedModel> {
        let onnx = tract_sparse::onnx().with_precision(precision);
        onnx.model_for_path(file)?.into_typed()?.into_decluttered()
    };
    let sparse = ours(Precision::F32)?;
    let half = match Policy::from_knobs()?.target.half() {
        Some(_) => {
            let model = ours(Precision::Half)?.into_optimized()?;
            let layers = Report::of(&model)?.half_layers();
            Some((model.into_runnable()?, layers))
        }
        None => None,
    };
    let report = Report::of(&sparse)?;
    Ok(Loaded {
        stock: plan(stock).context("stock tract")?,
        sparse: plan(sparse)?,
        half,
        layers: report.layers.len(),
        layers_sparse: report.sparse_layers(),
        inputs,
        outputs,
    })
}

/// All engines are alive together; every round asks each in turn, and drops the first run of each, which
/// finds its caches taken by another engine. The times of our `plans`, and what the engines say.
fn in_rounds(
    plans: &[&Plan],
    inputs: &TVec<TValue>,
    mut workers: Vec<Result<Worker, Answer>>,
    settings: &Settings,
    progress: &dyn Fn(f64),
) -> Result<(Vec<Vec<f64>>, Vec<Answer>)> {
    let mut states = plans.iter().map(|plan| plan.spawn()).collect::<TractResult<Vec<_>>>()?;
    let mut own: Vec<Vec<f64>> = vec![vec![]; states.len()];
    let mut theirs: Vec<Vec<f64>> = vec![vec![]; workers.len()];
    for round in 0..settings.rounds {
        progress(round as f64 / settings.rounds as f64);
        for (state, times) in states.iter_mut().zip(&mut own) {
            for run in 0..=settings.runs {
                let inputs = inputs.clone();
                let start = Instant::now();
                let outputs = state.run(inputs)?;
                let took = start.elapsed().as_secs_f64() * 1e3;
                drop(outputs);
                times.extend((run > 0).then_some(took));
            }
        }
        for (worker, times) in workers.iter_mut().zip(&mut theirs) {
            let Ok(running) = worker else { continue };
            match running.run(settings.runs + 1) {
                Ok(took) => times.extend_from_slice(took.get(1..).unwrap_or_default()),
                Err(error) => *worker = Err(Answer::Refused(format!("{error:#}"))),
            }
        }
    }
    let answer = |(worker, times): (Result<Worker, Answer>, &Vec<f64>)| match worker {
        Ok(worker) => Answer::Took {
            ms: quantile(times, 0.5),
            max_abs_diff: worker.max_abs_diff(),
            precision: worker.precision().into(),
        },
        Err(answer) => answer,
    };
    let answers = workers.into_iter().zip(&theirs).map(answer).collect();
    Ok((own, answers))
}
