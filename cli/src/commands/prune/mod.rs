//! `prune`: makes the weights of a model sparse and writes it as plain ONNX.

mod budget;
mod method;
mod pictures;
mod samples;
mod words;

use crate::files;
use crate::load::Source;
use crate::options::Options;
use crate::out;
use crate::zeros::Settings;
use anyhow::{Context, Result, bail, ensure};
use budget::{Goal, Spent};
use clap::{Args, ValueEnum};
use figures::Progress;
use pictures::Pictures;
use prune::calibrate::{Error, output_error};
use prune::checkpoint::{Checkpoint, Key, Reader, Record, Steps};
use prune::onnx::Saved;
use prune::sensitivity::{self, Change, Within};
use prune::{Array, Document, L1, Plan, Rearranged, Recipe, Report, Rule, Scope, Search, Tract, rearrange};
use rewriter::Policy;
use samples::{Samples, input_facts};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The ratio where an error decides which layers are pruned and nothing says how far.
const WITHIN: f64 = 0.5;

/// What is kept under these names: a plan and what its times are; a model and what its rearrangement brought.
const TIMES: &str = "times";
const REARRANGED: &str = "rearranged";

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse m.onnx prune --ratio 0.5 -o pruned.onnx
  tract-sparse m.onnx prune --conv1x1 4x4:0.5 --dwconv3x3 3:9 -o pruned.onnx
  tract-sparse m.onnx prune --ratio 0.3 --rearrange --calibrate x/ -o p.onnx
  tract-sparse m.onnx prune --speedup 1.5 -o pruned.onnx
  tract-sparse m.onnx prune --max-error 0.05 --calibrate photos/ -o p.onnx
  tract-sparse int8.onnx prune --conv1x1 2x4:0.8 -o pruned-int8.onnx

Zeros are written as inspect prints them: 4x4:0.5, unstructured:0.8, 2:4; 3:9,
3:9/8, 3:9+0.1 for depthwise 3x3 layers; 5:9, 5:9:0.5, 5:9/2 for 3x3 layers. A
ratio behind a structure goes before --ratio. To train with (docs/training.md),
2x1:0.8 keeps most answers for its time, 2x2:0.8 if layers run in half
precision; 4x4 does to about 0.5. In quantised files weights become zero points,
and scales stay (docs/quantisation.md). The recipe is kept in the metadata of
the file. A call that is interrupted is taken up by the same call: what it has
worked out is in FILE.resume beside the output, until the output is there.";

/// How weights are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Judge {
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
    /// Real inputs: an .npz, an .npy, a picture, or a folder of such files
    #[arg(long, value_name = "PATH")]
    calibrate: Option<PathBuf>,
    #[command(flatten)]
    pictures: Pictures,
    /// l1, wanda or obc [default: obc with --calibrate, else l1]
    #[arg(long, value_name = "METHOD", hide_possible_values = true)]
    method: Option<Judge>,
    /// Choose the ratios for this gain over the unpruned model on stock tract
    #[arg(long, value_name = "X", allow_hyphen_values = true, conflicts_with_all = ["latency_ms", "global"])]
    speedup: Option<f64>,
    /// Choose the ratios for this time of the whole model on this machine
    #[arg(long, value_name = "MS", allow_hyphen_values = true, conflicts_with = "global")]
    latency_ms: Option<f64>,
    /// Prune only as many layers as change the outputs by this share at most
    #[arg(long, value_name = "E", allow_hyphen_values = true, conflicts_with_all = ["speedup", "latency_ms", "global"])]
    max_error: Option<f64>,
    /// Prune only as many as move the top class of this share of the inputs
    #[arg(long, value_name = "S", allow_hyphen_values = true, requires = "calibrate",
          conflicts_with_all = ["max_error", "speedup", "latency_ms", "global"])]
    max_top_changes: Option<f64>,
    /// Write weights as sparse_initializer where that is smaller
    #[arg(long)]
    sparse_initializer: bool,
}

impl Prune {
    /// The recipe, with what is given besides in the place of its entries.
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

    /// What `recipe` wants of every layer; where a time decides, its ratios come later.
    fn plan(&self, document: &Document, recipe: &Recipe) -> Result<Plan> {
        match (self.goal(), self.limit()) {
            (Some(_), _) => Plan::without_ratios(&document.model, recipe),
            (None, Some(_)) => {
                let ratio = recipe.ratio.or(Some(WITHIN));
                Plan::new(&document.model, &Recipe { ratio, ..recipe.clone() })
            }
            (None, None) => Plan::new(&document.model, recipe),
        }
    }

    /// Where what takes long is kept, with what an interrupted call has left there.
    fn checkpoint(
        &self,
        document: &Document,
        recipe: &Recipe,
        samples: &Samples,
        options: &Options,
    ) -> Checkpoint {
        if self.output.metadata().is_ok_and(|meta| !meta.is_file()) {
            return Checkpoint::default();
        }
        let mut path = self.output.clone().into_os_string();
        path.push(".resume");
        let (ours, tract) = (env!("CARGO_PKG_VERSION"), tract_sparse::TRACT_VERSION);
        let policy = Policy::from_knobs().ok();
        let how = format!("{ours} {tract} {recipe} {self:?} {options:?} {policy:?}");
        Checkpoint::open(path.as_ref(), Key::of(&document.model, samples.all(), &how))
    }

    /// How weights are judged.
    fn judge(&self) -> Result<Judge> {
        Ok(match (self.method, &self.calibrate) {
            (Some(Judge::L1), _) | (None, None) => Judge::L1,
            (Some(judge), Some(_)) => judge,
            (None, Some(_)) => Judge::Obc,
            (Some(_), None) => bail!("--method: wanda and obc need --calibrate"),
        })
    }

    /// The change that answers may show, if there is a limit.
    fn limit(&self) -> Option<(Change, f64)> {
        let outputs = self.max_error.map(|limit| (Change::Outputs, limit));
        outputs.or(self.max_top_changes.map(|limit| (Change::TopClass, limit)))
    }

    /// The time to be met, if there is one.
    fn goal(&self) -> Option<Goal> {
        self.speedup.map(Goal::Speedup).or(self.latency_ms.map(Goal::Milliseconds))
    }
}

/// What pruning has come to.
struct Outcome<'a> {
    args: &'a Prune,
    made: Made,
    held_out: usize,
    converted: Vec<String>,
    kept: Checkpoint,
    saved: Saved,
}

/// What has become of the model, and what was found on the way.
struct Made {
    report: Report,
    rearranged: Option<Rearranged>,
    spent: Option<Spent>,
    within: Option<Within>,
    /// What pruning does to the outputs of made-up inputs, where there are no real ones.
    made_up: Option<f64>,
    /// What every method does to the outputs of inputs that were held out.
    errors: Option<Vec<Error>>,
}

/// Prunes a model and says what became of each layer.
pub(super) fn run(path: &Path, args: &Prune, options: &Options) -> Result<()> {
    let outcome = prune(path, args, options)?;
    match options.json {
        true => out::json(&outcome.value()),
        false => out::print(&outcome.text(options.verbose > 0)),
    }
}

fn prune<'a>(path: &Path, args: &'a Prune, options: &Options) -> Result<Outcome<'a>> {
    args.calibrate.iter().chain(&args.recipe).for_each(|path| files::protect(path));
    files::refuse_inputs(&args.output)?;
    let recipe = args.wanted()?;
    ensure!(
        args.search_seconds >= 0.0 && args.search_seconds <= 1e6,
        "--search-seconds {}: not a time",
        args.search_seconds
    );
    let mut document = Document::open(path)?;
    prune::densify(&mut document.model).with_context(|| path.display().to_string())?;
    let source = Source::BuiltIn(path.display().to_string(), Arc::new(document.model.clone()));
    let plan = args.plan(&document, &recipe)?;
    let judge = args.judge()?;
    let samples = match &args.calibrate {
        Some(path) => Samples::read(path, &source, &args.pictures, options)?,
        None => Samples::default(),
    };
    let mut kept = args.checkpoint(&document, &recipe, &samples, options);
    let work = Work { args, recipe, options, source, judge, samples, progress: Progress::new() };
    let made = match work.make(plan, &mut document, &mut kept) {
        Ok(made) => made,
        Err(error) => {
            // the same call would fail again
            let _ = kept.remove();
            return Err(error);
        }
    };
    let saved = document.save(&args.output)?;
    // the model is there: what cannot be removed does no harm
    let _ = kept.remove();
    let Samples { held_out, converted, .. } = work.samples;
    Ok(Outcome { args, made, held_out: held_out.len(), converted, kept, saved })
}

/// What a model is pruned with.
struct Work<'a> {
    args: &'a Prune,
    recipe: Recipe,
    options: &'a Options,
    source: Source,
    judge: Judge,
    samples: Samples,
    progress: Progress,
}

impl Work<'_> {
    /// Prunes the model of `document`; what takes long is kept, or taken from what was kept before.
    fn make(&self, mut plan: Plan, document: &mut Document, kept: &mut Checkpoint) -> Result<Made> {
        let Work { args, recipe, options, source, samples, progress, .. } = self;
        // ratios first, so that the rearrangement knows what is to go
        if recipe.scope == Scope::Global {
            plan.spread(&document.model, &L1, recipe.ratio.unwrap_or(0.0))?;
        }
        let spent = args.goal().map(|goal| self.spend(&mut plan, document, goal, kept)).transpose()?;
        let made_up = match &args.calibrate {
            Some(_) => Ok(vec![]),
            None => samples::made_up(source, options, args.seed),
        };
        let mut within = None;
        if let Some(limit) = args.limit() {
            // magnitudes are not fitted to inputs: all of them may say what the error is
            let real: Vec<Vec<Array>> = samples.all().cloned().collect();
            let inputs = match &made_up {
                Err(error) => bail!("{error:#}: an error can only be measured with inputs"),
                Ok(made_up) if args.calibrate.is_none() => made_up,
                Ok(_) => &real,
            };
            let mut say = |layer, all| progress.say(&format!("measuring layer {} of {all}", layer + 1));
            let mut steps = Steps { say: &mut say, kept };
            within = Some(sensitivity::within(
                &mut plan,
                &document.model,
                &L1,
                &Tract,
                inputs,
                limit,
                &mut steps,
            )?);
        }
        let mut rearranged = None;
        if args.rearrange && plan.planned().next().is_some() {
            rearranged = Some(self.rearrange(&plan, document, kept)?);
        }
        progress.say("pruning");
        let dense =
            made_up.ok().filter(|inputs| !inputs.is_empty()).map(|inputs| (document.model.clone(), inputs));
        let (mut report, errors) =
            method::apply(self.judge, &mut document.model, &plan, samples, progress, kept)?;
        // a model that stock tract cannot run is pruned all the same
        let made_up = dense
            .and_then(|(dense, inputs)| Some(output_error(&dense, &document.model, &Tract, &inputs).ok()?.0));
        if let Some(rearranged) = &rearranged {
            report.note_rearranged(rearranged);
        }
        if args.sparse_initializer {
            plan.store_sparse(&mut document.model)?;
        }
        document.set_metadata(prune::RECIPE_KEY, &recipe.to_string());
        Ok(Made { report, rearranged, spent, within, made_up, errors })
    }

    /// Sets the ratios of `plan` for a time.
    fn spend(
        &self,
        plan: &mut Plan,
        document: &Document,
        goal: Goal,
        kept: &mut Checkpoint,
    ) -> Result<Spent> {
        let read = |mut reader: Reader| Some((reader.plan(plan)?, Spent::read(&mut reader)?));
        if let Some((found, spent)) = kept.get(TIMES).and_then(read) {
            kept.resume("ratios for the time".into());
            *plan = found;
            return Ok(spent);
        }
        self.progress.say("measuring and predicting times");
        let spent = budget::fit(plan, &self.source, &document.model, goal, self.options)?;
        kept.put(TIMES, || {
            let mut record = Record::default();
            record.plan(plan);
            spent.record(&mut record);
            record
        });
        Ok(spent)
    }

    /// Rearranges the model for `plan`.
    fn rearrange(&self, plan: &Plan, document: &mut Document, kept: &mut Checkpoint) -> Result<Rearranged> {
        let read = |mut reader: Reader| Some((reader.model()?, Rearranged::read(&mut reader)?));
        if let Some((model, rearranged)) = kept.get(REARRANGED).and_then(read) {
            kept.resume("the rearrangement".into());
            document.model = model;
            return Ok(rearranged);
        }
        let Work { args, samples, progress, .. } = self;
        let facts = input_facts(&self.source, self.options)?;
        let inputs = prune::proof::inputs_with(&facts, args.seed, &samples.seen)?;
        let search = Search { seed: args.seed, budget: Duration::from_secs_f64(args.search_seconds) };
        let mut say = |p: prune::Progress| {
            let (round, class) = (p.round + 1, p.class + 1);
            progress
                .say(&format!("rearranging: round {round}, {class} of {}, kept {:.4}", p.classes, p.kept));
        };
        let rearranged = rearrange(&mut document.model, plan, &Tract, &inputs, search, &mut say)?;
        kept.put(REARRANGED, || {
            let mut record = Record::default();
            record.model(&document.model);
            rearranged.record(&mut record);
            record
        });
        Ok(rearranged)
    }
}
