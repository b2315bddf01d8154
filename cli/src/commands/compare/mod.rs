//! `compare`: the sparse model and stock tract, or whatever else is asked for, on the same input.

mod difference;
mod reference;

use crate::errors::Differs;
use crate::inputs::{Input, inputs};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use crate::out;
use crate::table::{Table, names, wrap};
use anyhow::{Result, ensure};
use clap::{Args, ValueHint};
use difference::Difference;
use figures::{Agreement, HALF_TOLERANCE, Progress, TOLERANCE};
use reference::{Reference, tensors};
use std::borrow::Cow;
use std::path::PathBuf;
use tract_core::internal::*;
use tract_sparse::{Report, output_names};

/// What the help says at its end.
pub(super) const HELP: &str = "\
Examples:
  tract-sparse m.onnx compare
  tract-sparse m.onnx compare --input x.npy --tolerance 1e-3 --cumulative
  tract-sparse m.onnx compare --stage declutter --cumulative
  tract-sparse m.onnx --precision half compare

Floats agree if they differ by at most T times their size and that of the values
in their row, column or channel; all else must be equal. The default of 1e-4
leaves room for what another order of f32 additions does over a hundred layers,
and none for a wrong weight; half precision rounds to 8 bits in every layer, and
0.3 allows for that. So it does where layers run in int8: they round where stock
tract does, but may round a tie the other way, which later layers spread, and
outputs of 8 bits are then compared as floats are. top-1 is the share of rows
along the last axis whose largest value is at the same place. Where stock and
sparse differ, a plain run of the file without tract's optimisations says which
of them is right. Exit code 3 if they differ.";

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(super) input: Input,
    /// T of the rule below [default: 1e-4; 0.3 with half precision or int8]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// Compare every node, not only the outputs
    #[arg(long)]
    cumulative: bool,
    /// With this stage of the sparse model [default: with stock tract]
    #[arg(long, value_name = "STAGE", hide_possible_values = true, group = "reference")]
    stage: Option<Pass>,
    /// With the arrays of an .npz file, by the names of nodes or outputs
    #[arg(long, value_name = "FILE", group = "reference", value_hint = ValueHint::FilePath)]
    npz: Option<PathBuf>,
    /// With a second run of the same model
    #[arg(long, group = "reference")]
    twice: bool,
}

/// Compares, prints, and fails with [`Differs`] if a tensor is beyond the tolerance.
pub(super) fn run(source: &Source, args: &Compare, options: &Options) -> Result<()> {
    args.check()?;
    let found = compare(source, args, options)?;
    let first = found.first_difference();
    if options.json {
        out::json(&found.value(source, args)?)?;
    } else {
        out::print(&found.table(args.cumulative))?;
    }
    match first {
        Some(node) => Err(Differs(format!(
            "{source}: {}",
            node.blame(found.plain_side(), args.tolerance(&found.report))
        ))
        .into()),
        None if options.json => Ok(()),
        None => out::print(&found.agreement(args)),
    }
}

impl Compare {
    fn check(&self) -> Result<()> {
        let tolerance = self.tolerance.unwrap_or(TOLERANCE);
        ensure!(tolerance >= 0.0 && tolerance.is_finite(), "--tolerance {tolerance} is not a distance");
        if let Some(stage) = self.stage {
            ensure!(
                stage >= Pass::Type,
                "--stage {stage}: a model without types does not run; from {} on it does",
                Pass::Type
            );
        }
        Ok(())
    }

    /// The tolerance asked for, or that of the precision that layers have.
    fn tolerance(&self, report: &Report) -> f64 {
        self.tolerance.unwrap_or(if report.has_fewer_bits() { HALF_TOLERANCE } else { TOLERANCE })
    }

    /// Whether the sparse model is compared with stock tract.
    fn with_stock(&self) -> bool {
        self.stage.is_none() && self.npz.is_none() && !self.twice
    }
}

/// What comparing has come to.
struct Found {
    report: Report,
    /// What is compared with, as a column title.
    title: &'static str,
    outputs: Vec<Difference>,
    /// Inner values, where they were asked for or an output differs.
    nodes: Vec<Difference>,
}

fn compare(source: &Source, args: &Compare, options: &Options) -> Result<Found> {
    let progress = Progress::new();
    progress.say(&format!("{source}: loading"));
    let sparse = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let report = Report::of(sparse.model())?;
    let tolerance = args.tolerance(&report);
    let inputs = inputs(sparse.model(), &args.input)?;
    let stage = options.stage(Pass::Optimize);
    progress.say(&format!("{source}: running"));
    let refer = |nodes: bool| match (args.stage, &args.npz) {
        (Some(stage), _) => Reference::own(source, options, &inputs, stage),
        (None, Some(path)) => Reference::file(path, sparse.model()),
        (None, None) if args.twice => Reference::own(source, options, &inputs, stage),
        (None, None) => Reference::stock(source, options, &inputs, nodes),
    };
    let mut reference = refer(args.cumulative)?;
    let got = sparse.run(inputs.clone())?;
    let expected = reference.outputs();
    ensure!(
        got.len() == expected.len(),
        "{source}: {} output(s), the reference has {}",
        got.len(),
        expected.len()
    );
    let mut differences = vec![];
    for ((name, expected), got) in output_names(sparse.model())?.iter().zip(expected).zip(&got) {
        let bytes = report.int8_layers() > 0 && is_byte(expected.datum_type());
        let [expected, got] = [expected, &**got].map(|value| match bytes {
            true => value.cast_to::<f32>(),
            false => Ok(Cow::Borrowed(value)),
        });
        differences.push(Difference::of(name, &*expected?, &*got?, tolerance)?);
    }
    let differ = differences.iter().any(|output| !output.agrees);
    if args.with_stock() && differ {
        ask_plain(source, options, &inputs, tolerance, expected, &got, &mut differences)?;
    }
    let mut nodes = vec![];
    if differ || args.cumulative {
        progress.say(&format!("{source}: comparing nodes"));
        if !args.cumulative {
            reference = refer(true)?;
        }
        nodes = reference.compare(&sparse, &inputs, tolerance)?;
    }
    Ok(Found { report, title: reference.title(), outputs: differences, nodes })
}

/// Whether values of this type may be what a layer in int8 rounds.
fn is_byte(dt: DatumType) -> bool {
    [u8::datum_type(), i8::datum_type()].contains(&dt)
}

impl Found {
    fn wrong_output(&self) -> Option<&Difference> {
        self.outputs.iter().find(|output| !output.agrees)
    }

    /// Which side a plain run takes on the first output that differs.
    fn plain_side(&self) -> Option<&'static str> {
        self.wrong_output().and_then(|output| output.plain_agrees_with)
    }

    fn first_difference(&self) -> Option<&Difference> {
        match self.wrong_output().filter(|output| output.plain_agrees_with == Some("sparse")) {
            // no node of the sparse model is to blame
            Some(output) => Some(output),
            None => self.nodes.iter().find(|node| !node.agrees).or(self.wrong_output()),
        }
    }

    /// What `--json` prints.
    fn value(&self, source: &Source, args: &Compare) -> Result<serde_json::Value> {
        let first = self.first_difference();
        let mut value = serde_json::json!({
            "model": source.to_string(),
            "tolerance": args.tolerance(&self.report),
            "target": self.report.target,
            "precision": self.report.precision,
            "layers_sparse": self.report.sparse_layers(),
            "layers_half": self.report.half_layers(),
            "layers_int8": self.report.int8_layers(),
            "agrees": first.is_none(),
            "first_difference": first.map(|node| &node.name),
            "outputs": self.outputs,
        });
        if args.cumulative {
            value["nodes"] = serde_json::to_value(&self.nodes)?;
        }
        Ok(value)
    }

    /// A row for every output, or for every node.
    fn table(&self, nodes: bool) -> String {
        let mut table = Table::new(&["<node", "<shape", "max diff", self.title, "<"]);
        for difference in if nodes { &self.nodes } else { &self.outputs } {
            table.row(difference.row());
        }
        table.text()
    }

    /// What is said where nothing differs.
    fn agreement(&self, args: &Compare) -> String {
        let (layers, target) = (self.report.sparse_layers(), &self.report.target);
        let tolerance = args.tolerance(&self.report);
        let mut text = format!("agrees within {tolerance:e}; {layers} layer(s) sparse on {target}\n");
        let (half, int8) = (self.report.half_layers(), self.report.int8_layers());
        for (layers, what) in [(half, "half precision"), (int8, "int8")] {
            if layers > 0 {
                text += &format!("{layers} of them in {what}\n");
            }
        }
        if half + int8 > 0 {
            for output in &self.outputs {
                let relative = output.relative.map_or_else(|| "infinite".into(), |far| format!("{far:.1e}"));
                let top =
                    output.top_1.map_or_else(String::new, |same| format!(", top-1 {:.1} %", 100.0 * same));
                text += &wrap(&format!("{}: relative difference {relative}{top}", output.name), 4);
            }
        }
        if layers == 0 && args.with_stock() {
            text += "stock tract was compared with itself, inspect says why\n";
        }
        let hollow: Vec<&str> = self.outputs.iter().filter(|o| o.hollow).map(|o| o.name.as_str()).collect();
        if !hollow.is_empty() {
            text += &wrap(&format!("no value is finite, which shows nothing: {}", names(&hollow, false)), 4);
        }
        text
    }
}

/// Says of every output that differs which side a plain run of the stock model takes: the nodes of the file
/// one by one, before tract simplifies anything. After transforms, which change what is computed, there is no
/// such run.
fn ask_plain(
    source: &Source,
    options: &Options,
    inputs: &TVec<TValue>,
    tolerance: f64,
    stock: &[Tensor],
    sparse: &[TValue],
    outputs: &mut [Difference],
) -> Result<()> {
    if !options.transform.is_empty() {
        return Ok(());
    }
    let options = Options { pass: Some(Pass::Type), optimize: false, ..options.clone() };
    let plan = source.load(Flavour::Stock, &options, Pass::Type)?.into_runnable()?;
    let plain = tensors(plan.run(inputs.clone())?);
    for (i, output) in outputs.iter_mut().enumerate().filter(|(_, output)| !output.agrees) {
        let agrees = |other: &Tensor| Agreement::of(&plain[i], other, tolerance).is_ok_and(|a| a.agrees);
        output.plain_agrees_with = Some(match (agrees(&stock[i]), agrees(&sparse[i])) {
            (true, false) => "stock",
            (false, true) => "sparse",
            (true, true) => "both",
            (false, false) => "neither",
        });
    }
    Ok(())
}
