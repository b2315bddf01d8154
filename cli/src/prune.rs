//! `prune`: makes the weights of a model sparse and writes it as plain ONNX.

use crate::args::{Options, Pass, Settings};
use crate::load::{Flavour, Source};
use crate::out;
use crate::prune_budget::{Goal, fit};
use crate::prune_engine::Tract;
use crate::table::{Table, names, wrap};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use figures::Progress;
use prune::calibrate::{Calibration, Error, Obc, Wanda, compare, output_error, sequential};
use prune::{Array, Document, L1, Method, Plan, Recipe, Rule, Scope, Search, rearrange};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tract_core::internal::*;
use tract_onnx::pb::tensor_proto::DataType;

/// How weights are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Judge {
    /// By magnitude
    L1,
    /// By magnitude times the norm of their inputs
    Wanda,
    /// By exact cost, with the weights that stay refitted
    Obc,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    pub(crate) zeros: Settings,
    /// One threshold over all layers instead of the same ratio in each
    #[arg(long)]
    global: bool,
    /// Prune only layers whose name matches
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Leave layers alone whose name matches
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Ratio of the layers whose name matches, or zeros, as in 'dw*=none'
    #[arg(long, value_name = "GLOB=R")]
    layer: Vec<String>,
    /// The same as a file; what is given besides replaces its entries
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Permute channels first, so that more of the norm is kept
    #[arg(long)]
    rearrange: bool,
    /// Seconds that --rearrange may search
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    search_seconds: f64,
    /// Seed of --rearrange and of the inputs that prove it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Real inputs: an .npz, an .npy or a folder of .npy
    #[arg(long, value_name = "PATH")]
    calibrate: Option<PathBuf>,
    /// l1, wanda or obc [default: obc with --calibrate, else l1]
    #[arg(long, value_name = "METHOD", hide_possible_values = true)]
    method: Option<Judge>,
    /// Choose the ratios for this gain over the unpruned model on stock tract
    #[arg(long, value_name = "X", allow_hyphen_values = true, conflicts_with_all = ["latency_ms", "global"])]
    speedup: Option<f64>,
    /// Choose the ratios for this time of the whole model on this machine
    #[arg(long, value_name = "MS", allow_hyphen_values = true, conflicts_with = "global")]
    latency_ms: Option<f64>,
    /// Write weights as sparse_initializer where that is smaller
    #[arg(long)]
    sparse_initializer: bool,
}

impl Prune {
    fn wanted(&self) -> Result<Recipe> {
        let recipe = match &self.recipe {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                text.parse::<Recipe>().with_context(|| path.display().to_string())?
            }
            None => Recipe::default(),
        };
        let mut recipe = self.zeros.recipe(recipe)?;
        if self.global {
            recipe.scope = Scope::Global;
        }
        recipe.include.extend(self.include.iter().cloned());
        recipe.exclude.extend(self.exclude.iter().cloned());
        for spec in &self.layer {
            let (name, what) = spec.rsplit_once('=').with_context(|| format!("--layer {spec}: no ratio"))?;
            let (ratio, structure) = match what.parse() {
                Ok(ratio) => (Some(ratio), None),
                Err(_) => (None, Some(what.parse().with_context(|| format!("--layer {spec}"))?)),
            };
            recipe.layer.push(Rule { name: name.into(), ratio, structure });
        }
        recipe.check()?;
        Ok(recipe)
    }
}

/// Prunes a model and says what became of each layer.
pub(crate) fn run(path: &Path, args: &Prune, options: &Options) -> Result<()> {
    let recipe = args.wanted()?;
    ensure!(
        args.search_seconds >= 0.0 && args.search_seconds <= 1e6,
        "--search-seconds {}: not a time",
        args.search_seconds
    );
    let progress = Progress::new();
    let mut document = Document::open(path)?;
    prune::densify(&mut document.model).with_context(|| path.display().to_string())?;
    let budget = args.speedup.is_some() || args.latency_ms.is_some();
    let of = if budget { Plan::without_ratios } else { Plan::new };
    let mut plan = of(&document.model, &recipe)?;
    let source = Source::BuiltIn(path.display().to_string(), Arc::new(document.model.clone()));

    let method_name = match (args.method, &args.calibrate) {
        (Some(Judge::L1), _) | (None, None) => Judge::L1,
        (Some(judge), Some(_)) => judge,
        (None, Some(_)) => Judge::Obc,
        (Some(_), None) => bail!("--method: wanda and obc need --calibrate"),
    };
    let shapes = || input_shapes(&source, options);
    let (seen, held_out) = match &args.calibrate {
        Some(path) => {
            let inputs = samples(path, &shapes()?).with_context(|| path.display().to_string())?;
            split(inputs)
        }
        None => (vec![], vec![]),
    };

    // ratios first, so that the rearrangement knows what is to go
    if recipe.scope == Scope::Global {
        plan.spread(&document.model, &L1, recipe.ratio.unwrap_or(0.0))?;
    }
    let mut spent = None;
    if budget {
        progress.say("measuring and predicting times");
        let goal = match (args.speedup, args.latency_ms) {
            (Some(speedup), _) => Goal::Speedup(speedup),
            (None, ms) => Goal::Milliseconds(ms.context("no budget")?),
        };
        spent = Some(fit(&mut plan, &source, &document.model, goal, options)?);
    }
    let mut rearranged = None;
    if args.rearrange && plan.planned().next().is_some() {
        let mut inputs = prune::proof::inputs(&input_facts(&source, options)?, args.seed)?;
        for run in seen.iter().take(PROVEN_ON) {
            inputs.push(run.iter().map(Array::tensor).collect::<Result<_>>()?);
        }
        let search = Search { seed: args.seed, budget: Duration::from_secs_f64(args.search_seconds) };
        let mut say = |p: prune::Progress| {
            let (round, class) = (p.round + 1, p.class + 1);
            progress
                .say(&format!("rearranging: round {round}, {class} of {}, kept {:.4}", p.classes, p.kept));
        };
        rearranged = Some(rearrange(&mut document.model, &plan, &Tract, &inputs, search, &mut say)?);
    }
    progress.say("pruning");
    let calibration = match seen.is_empty() {
        true => None,
        false => Some(Calibration::collect(&document.model, &plan, &Tract, &seen)?),
    };
    let mut errors = match &calibration {
        Some(calibration) if !held_out.is_empty() => {
            let (wanda, obc) = (Wanda(calibration), Obc(calibration));
            let methods: [(&str, &dyn Method); 3] = [("l1", &L1), ("wanda", &wanda), ("obc", &obc)];
            Some(compare(&document.model, &plan, &methods, &Tract, &held_out)?)
        }
        _ => None,
    };
    let dense = errors.is_some().then(|| document.model.clone());
    let mut report = match (method_name, &calibration) {
        (Judge::Wanda, Some(c)) => plan.apply(&mut document.model, &Wanda(c))?,
        // a plan that was compared is applied layer by layer, which loses least
        (Judge::Obc, Some(_)) => {
            let mut say = |layer, all| progress.say(&format!("pruning layer {layer} of {all}"));
            sequential(&mut document.model, &plan, &Tract, &seen, &mut say)?
        }
        _ => plan.apply(&mut document.model, &L1)?,
    };
    if let (Some(errors), Some(dense)) = (&mut errors, dense)
        && method_name == Judge::Obc
    {
        let (error, agreement) = output_error(&dense, &document.model, &Tract, &held_out)?;
        errors.push(Error { method: "obc, layer by layer".into(), error, agreement });
    }
    if let Some(rearranged) = &rearranged {
        let before: HashMap<&str, f64> = rearranged.layers.iter().map(|l| (&*l.name, l.before)).collect();
        for layer in &mut report.layers {
            layer.kept_l1_before = before.get(&*layer.name).copied();
        }
    }
    if args.sparse_initializer {
        let graph = document.model.graph.as_ref().context("the model has no graph")?;
        let weights = plan.planned().filter_map(|p| p.layer.place.get(graph));
        let weights = weights.filter(|t| !t.name.is_empty() && t.data_type == DataType::Float as i32);
        let names: Vec<String> = weights.map(|t| t.name.clone()).collect();
        prune::onnx::sparsify_initializers(&mut document.model, &names)?;
    }
    document.set_metadata(prune::RECIPE_KEY, &recipe.to_string());
    let saved = document.save(&args.output)?;
    drop(progress);

    if options.json {
        return out::json(&serde_json::json!({
            "file": args.output,
            "data": saved.data,
            "unread": saved.unread,
            "report": report,
            "rearranged": rearranged,
            "budget": spent,
            "held_out_errors": errors,
        }));
    }
    let mut table = Table::new(&["layer", "<structure", "ratio", "removed", "density", "kept l1", "before"]);
    for layer in report.pruned() {
        let share = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.3}"));
        table.row(vec![
            layer.name.clone(),
            layer.structure.clone().unwrap_or_default(),
            share(layer.ratio),
            share(layer.removed),
            share(layer.density),
            share(layer.kept_l1),
            share(layer.kept_l1_before),
        ]);
    }
    let mut text = table.text();
    let mut skipped: Vec<(&str, Vec<&str>)> = vec![];
    for layer in &report.layers {
        let Some(reason) = &layer.skipped else { continue };
        match skipped.iter_mut().find(|(r, _)| r == reason) {
            Some((_, layers)) => layers.push(&layer.name),
            None => skipped.push((reason, vec![&layer.name])),
        }
    }
    for (reason, layers) in skipped {
        text += &wrap(&format!("skipped, {reason}: {}", names(&layers, options.verbose > 0)), 4);
    }
    if let Some(r) = &rearranged {
        let mean =
            |f: &dyn Fn(&prune::Kept) -> f64| r.layers.iter().map(f).sum::<f64>() / r.layers.len() as f64;
        text += &wrap(
            &format!(
                "rearranged {} channels in {} classes: kept l1 {:.4} -> {:.4} on average; outputs as before to {:.1e}",
                r.channels,
                r.classes,
                mean(&|l| l.before),
                mean(&|l| l.after),
                r.proof
            ),
            4,
        );
    }
    if let Some(s) = &spent {
        text += &wrap(&s.to_string(), 4);
    }
    for error in errors.iter().flatten() {
        text += &format!(
            "{:<20} output error {:.4}, same top class {:.2} ({} held-out inputs)\n",
            error.method,
            error.error,
            error.agreement,
            held_out.len()
        );
    }
    if args.calibrate.is_some() && errors.is_none() {
        text += "only one input: nothing is held out to measure errors on\n";
    }
    text += &wrap(&format!("{}: density {:.3}", args.output.display(), report.density), 4);
    if let Some(data) = &saved.data {
        text += &wrap(&format!("its values: {}", data.display()), 4);
    }
    for file in &saved.unread {
        text += &wrap(&format!("{}: left there, though no model beside it reads it now", file.display()), 4);
    }
    out::print(&text)
}

/// Real inputs that a rearrangement is proven on, besides those that are made up.
const PROVEN_ON: usize = 4;

/// Type and shape of every input.
fn input_facts(source: &Source, options: &Options) -> Result<Vec<(DatumType, Vec<usize>)>> {
    let model = source.load(Flavour::Stock, options, Pass::Type)?;
    let mut facts = vec![];
    for outlet in model.input_outlets()? {
        let (fact, name) = (model.outlet_fact(*outlet)?, &model.node(outlet.node).name);
        let shape = fact
            .shape
            .as_concrete()
            .with_context(|| format!("input {name}: shape {:?} has symbols: see --set and -i", fact.shape))?;
        facts.push((fact.datum_type, shape.to_vec()));
    }
    Ok(facts)
}

/// The shape of every input, which must be f32.
fn input_shapes(source: &Source, options: &Options) -> Result<Vec<Vec<usize>>> {
    let facts = input_facts(source, options)?;
    let other = facts.iter().find(|(dt, _)| *dt != f32::datum_type());
    ensure!(other.is_none(), "calibration is for models of f32 inputs, this has {other:?}");
    Ok(facts.into_iter().map(|(_, shape)| shape).collect())
}

/// Real inputs, one run each. A file whose first dimension is larger than the input's holds several.
fn samples(path: &Path, shapes: &[Vec<usize>]) -> Result<Vec<Vec<Array>>> {
    let [shape] = shapes else { bail!("calibration is for models of one input, this has {}", shapes.len()) };
    let mut arrays: Vec<(String, Tensor)> = vec![];
    if path.extension().is_some_and(|e| e == "npz") {
        let mut npz = arrays::Npz::new(std::fs::read(path)?)?;
        let mut names = npz.names();
        names.sort();
        for name in names {
            let array = npz.of_type(&name, f32::datum_type())?;
            arrays.push((name, array));
        }
    } else {
        let mut files = vec![path.to_path_buf()];
        if path.is_dir() {
            files = std::fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
            files.retain(|f| f.extension().is_some_and(|e| e == "npy"));
            files.sort();
        }
        for file in files {
            let name = file.display().to_string();
            let bytes = std::fs::read(&file).with_context(|| name.clone())?;
            let array = arrays::npy_of_type(&bytes, f32::datum_type()).with_context(|| name.clone())?;
            arrays.push((name, array));
        }
    }
    ensure!(!arrays.is_empty(), "no inputs: expected an .npz, an .npy or a folder of .npy files");
    let mut runs = vec![];
    for (name, array) in arrays {
        let (own, size) = (array.shape().to_vec(), shape.iter().product::<usize>());
        let fits = own.len() == shape.len() && own[1..] == shape[1..] && own[0] > 0 && own[0] % shape[0] == 0;
        ensure!(fits, "{name}: shape {own:?}, the input has {shape:?}");
        let data = array.try_as_plain_ram()?.as_slice::<f32>()?;
        ensure!(data.iter().all(|v| v.is_finite()), "{name}: a value is NaN or infinite");
        runs.extend(data.chunks(size).map(|d| vec![Array { shape: shape.clone(), data: d.to_vec() }]));
    }
    Ok(runs)
}

/// Every fourth input is held out, at least one if there are two.
fn split(inputs: Vec<Vec<Array>>) -> (Vec<Vec<Array>>, Vec<Vec<Array>>) {
    let n = inputs.len();
    let step = 4.min(n.max(2));
    let (held, seen): (Vec<_>, Vec<_>) =
        inputs.into_iter().enumerate().partition(|(i, _)| n > 1 && i % step == step - 1);
    let strip = |v: Vec<(usize, Vec<Array>)>| v.into_iter().map(|(_, x)| x).collect();
    (strip(seen), strip(held))
}
