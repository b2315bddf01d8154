//! What was decided, layer by layer: a value, not a log.

mod text;

use crate::analyse::{Layer, LayerKind, LayerShape, Seen};
use crate::choose::{Decision, Neighbours, choose};
use crate::estimate::{Stored, Way, break_even, stock_ns};
use crate::measure::measured;
use crate::nested::{Place, neighbours_of, places};
use crate::policy::{Mode, Policy, Precision};
use crate::record::noted;
use crate::table::by;
use crate::zeros::zeros;
use sparse_kernels::format::{DepthwisePatterns, FormatKind, fill_of};
use sparse_ops::{Choice, OptSparseChain, OptSparseConv, OptSparseGru, Packing, plain_name};
use std::ops::Add;
use tract_core::internal::*;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::quant::{QuantizeLinearI8, QuantizeLinearU8};

/// The layers of a model in the order in which they run, those of its bodies among them.
///
/// It prints as the table of `tract-sparse inspect`: a line for each layer, then which kernel runs which of
/// them, and why the others stay on stock tract. `{:#}` writes long lists of names out.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// Instruction set of the sparse kernels, and the class of cores that they are for, if there is one.
    pub target: String,
    /// Where the cost table is from that predictions are made with, and of which machine.
    pub costs: String,
    /// Numbers that were asked for: `f32` or `half`.
    pub precision: Precision,
    /// Why no layer can have half precision though it was asked for, if that is so.
    pub precision_note: Option<String>,
    /// One entry for every convolution and every product with constant weights.
    pub layers: Vec<LayerReport>,
    /// Whether the model has been optimised: until then, what is said of half precision and int8 depends on what stands around
    /// a layer.
    pub optimised: bool,
    /// Whether the model rounds floats to bytes.
    #[serde(skip)]
    pub quantises: bool,
    /// Mode of the policy. With [`Mode::Measure`], times that are called predicted have been measured.
    #[serde(skip)]
    pub mode: Mode,
}

/// One layer.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct LayerReport {
    /// Name of the node, behind those of the operators around it if it is in a body.
    pub name: String,
    /// Name of the operator as it is in this model.
    pub op: String,
    /// What it computes, if it could be read.
    pub kind: Option<LayerKind>,
    /// Output channels.
    pub oc: usize,
    /// Input channels.
    pub ic: usize,
    /// Kernel, as in `3x3`; empty for a matrix product.
    pub kernel: String,
    /// Step of the output, as in `2x2`; empty for a matrix product.
    pub stride: String,
    /// Size of the output map, as in `14x14`; `?` where it is symbolic.
    pub output: String,
    /// Share of weights that are not zero.
    pub density: Option<f64>,
    /// Structure of the zeros in the words of [`sparsity`], as in `4x4`, `unstructured`, `3:9`; or `dense`.
    pub structure: Option<String>,
    /// The structure with the share of its groups that is zero, as `prune` takes it: `4x4:0.5`, `5:9:0.25`;
    /// or `dense`.
    pub zeros: Option<String>,
    /// Format with the least predicted time.
    pub format: Option<String>,
    /// Share of stored weights that are not zero, in that format.
    pub fill: Option<f64>,
    /// Output channels all of whose weights are zero.
    pub dead_oc: Option<usize>,
    /// Input channels all of whose weights are zero.
    pub dead_ic: Option<usize>,
    /// Share of stored weights, in that format, below which the layer runs sparse; null if no share is small
    /// enough.
    pub break_even: Option<f64>,
    /// The kernel that runs it, if it runs here.
    pub chosen: Option<String>,
    /// Numbers that the model has it in, if these are f16, which is not what it computes in if it runs here.
    pub model_type: Option<String>,
    /// Numbers that it computes in, if it runs here: `f32`, `bf16`, `f16` or `int8`. Until the model is optimised `half` where
    /// half precision is predicted to gain, and `int8` where input and weights are quantised: only then is it
    /// known which layers stand side by side.
    pub precision: Option<String>,
    /// Why it runs in f32 though its input is quantised or half precision was asked for, if it does.
    pub why_f32: Option<String>,
    /// Name of the node that runs it and its neighbours band by band, if it does not run alone.
    pub chain: Option<String>,
    /// Why it stays on the stock operator, if it does.
    pub reason: Option<String>,
    /// Predicted milliseconds of the stock operator, at all steps of the loops around.
    pub stock_ms: Option<f64>,
    /// Predicted milliseconds of the sparse operator, at all steps of the loops around.
    pub sparse_ms: Option<f64>,
    /// Measured milliseconds of the stock operator.
    pub measured_stock_ms: Option<f64>,
    /// Measured milliseconds of the sparse operator.
    pub measured_sparse_ms: Option<f64>,
    /// Share of the time of all layers of the model, as it is: measured, else predicted.
    pub share: Option<f64>,
}

impl LayerReport {
    /// Milliseconds of the operator that runs the layer: measured, else predicted.
    pub fn ms(&self) -> Option<f64> {
        match self.chosen {
            Some(_) => self.measured_sparse_ms.or(self.sparse_ms),
            None => self.measured_stock_ms.or(self.stock_ms),
        }
    }

    /// Milliseconds of the stock operator: measured, else predicted.
    pub fn dense_ms(&self) -> Option<f64> {
        self.measured_stock_ms.or(self.stock_ms)
    }

    /// Whether it runs in half precision, or is predicted to gain by that.
    pub fn is_half(&self) -> bool {
        let others = [Precision::F32.name(), sparse_ops::INT8];
        self.precision.as_deref().is_some_and(|precision| !others.contains(&precision))
    }

    /// Whether it runs in int8, or will if what stands around it is quantised, too.
    pub fn is_int8(&self) -> bool {
        self.precision.as_deref() == Some(sparse_ops::INT8)
    }

    /// Name of the layer that this is, or is a part of: that of the node without what tract adds to it when
    /// it writes a layer in another way or splits it. The same layer has the same name whether it runs
    /// here or on stock tract.
    pub fn layer(&self) -> &str {
        const ADDED: [&str; 5] = [".einsum", ".product", ".planar", ".ab", ".f32"];
        let mut own = self.name.find(".concat-einsum-").map_or(&*self.name, |part| &self.name[..part]);
        while let Some(shorter) = ADDED.iter().find_map(|added| own.strip_suffix(added)) {
            own = shorter;
        }
        if own.is_empty() { &self.name } else { own }
    }

    /// A layer of an optimised model, with what was found out about it before its weights were packed.
    fn with_note(self, note: &LayerReport) -> LayerReport {
        LayerReport {
            structure: self.structure.or_else(|| note.structure.clone()),
            zeros: self.zeros.or_else(|| note.zeros.clone()),
            dead_oc: self.dead_oc.or(note.dead_oc),
            dead_ic: self.dead_ic.or(note.dead_ic),
            break_even: self.break_even.or(note.break_even),
            model_type: self.model_type.or_else(|| note.model_type.clone()),
            ..self
        }
    }

    /// A layer of which an optimised model shows nothing: it runs on stock tract whatever was decided for it,
    /// or was a constant.
    fn stock_by_now(mut self) -> LayerReport {
        if let Some(kernel) = self.chosen.take() {
            self.reason = Some(format!(
                "it was to run on {kernel}, but tract has put something else in its place since"
            ));
            let stock = match &*self.op {
                "SparseConv" => "Conv",
                "SparseDeconv" => "Deconv",
                "SparseMatMul" => "EinSum",
                "SparseGruSeq" => "GruSeq",
                other => other,
            };
            self.op = stock.to_string();
        }
        self
    }

    /// Output by input channels, kernel and stride unless they are one, and output map: `512x512@14x14`.
    pub fn shape(&self) -> String {
        let mut shape = format!("{}x{}", self.oc, self.ic);
        if self.kind.is_some_and(|kind| kind != LayerKind::Pointwise) {
            shape += &format!(" {}", self.kernel);
        }
        if let Some(step) = self.stride.split('x').filter_map(|s| s.parse::<usize>().ok()).max()
            && step > 1
        {
            shape += &format!("/{step}");
        }
        if self.output.is_empty() { shape } else { format!("{shape}@{}", self.output) }
    }
}

impl Report {
    /// Reports on a typed model, stock or sparse, decluttered or optimised, under the policy of the knobs.
    ///
    /// What is said to run here is what has an operator of ours in this very model. Of the other layers, the
    /// reason says why, or that the transform `sparsify` would take them. Stock tract packs the weights
    /// of its own layers away while it optimises a model: what is said of them, and the zeros of ours,
    /// was found when the model was loaded by `tract_sparse` or went through `sparsify`. A model that was
    /// optimised without either has no layers to report on.
    ///
    /// # Errors
    /// A knob with an impossible value.
    pub fn of(model: &TypedModel) -> TractResult<Report> {
        Report::with_policy(model, &Policy::from_knobs()?)
    }

    /// As [`Report::of`], under a given policy.
    ///
    /// # Errors
    /// Layers whose shapes contradict each other.
    pub fn with_policy(model: &TypedModel, policy: &Policy) -> TractResult<Report> {
        Report::new(model, policy, None)
    }

    /// As [`Report::with_policy`], with every layer run for some milliseconds on either operator; `progress`
    /// is told the number of layers that are done, and of all.
    ///
    /// # Errors
    /// As [`Report::with_policy`]; a layer that cannot be run alone.
    pub fn measured(
        model: &TypedModel,
        policy: &Policy,
        progress: &mut dyn FnMut(usize, usize),
    ) -> TractResult<Report> {
        Report::new(model, policy, Some(progress))
    }

    fn new(
        model: &TypedModel,
        policy: &Policy,
        mut measure: Option<&mut dyn FnMut(usize, usize)>,
    ) -> TractResult<Report> {
        let places = places(model)?;
        let neighbours = neighbours_of(&places, policy)?;
        let mut layers = vec![];
        for (at, (place, neighbours)) in places.iter().zip(neighbours).enumerate() {
            if let Some(progress) = &mut measure {
                progress(at, places.len());
            }
            let decision = decided(place, policy, neighbours)?;
            layers.push(layer_report(place, decision, policy, neighbours, measure.is_some())?);
        }
        let optimised = stage_is_optimized(&model.properties);
        if optimised {
            layers = recalled(noted(model)?, layers);
        }
        let total: f64 = layers.iter().filter_map(LayerReport::ms).sum();
        for layer in &mut layers {
            layer.share = layer.ms().map(|ms| ms / total);
        }
        let (target, costs) = (policy.target.to_string(), policy.costs().to_string());
        let (precision, precision_note) = (policy.precision, policy.why_not_half());
        let quantises = model.nodes().iter().any(|node| {
            let op = node.op_as::<ElementWiseOp>();
            op.is_some_and(|op| op.0.is::<QuantizeLinearU8>() || op.0.is::<QuantizeLinearI8>())
        });
        Ok(Report {
            target,
            costs,
            precision,
            precision_note,
            layers,
            optimised,
            quantises,
            mode: policy.mode,
        })
    }

    /// Milliseconds of all layers that have a time: on stock tract, and as they run.
    pub fn total_ms(&self) -> (f64, f64) {
        let sum = |ms: fn(&LayerReport) -> Option<f64>| self.layers.iter().filter_map(ms).fold(0.0, f64::add);
        (sum(LayerReport::dense_ms), sum(LayerReport::ms))
    }

    /// Layers that run on our kernels.
    pub fn sparse_layers(&self) -> usize {
        self.layers.iter().filter(|layer| layer.chosen.is_some()).count()
    }

    /// Those of them that run in int8.
    pub fn int8_layers(&self) -> usize {
        self.layers.iter().filter(|layer| layer.chosen.is_some() && layer.is_int8()).count()
    }

    /// Whether something has fewer bits than f32, in the model or where it runs here. Two ways to run such a model agree
    /// to the digits of these.
    pub fn has_fewer_bits(&self) -> bool {
        let in_16_bits = |layer: &LayerReport| layer.model_type.is_some();
        self.quantises || self.half_layers() + self.int8_layers() > 0 || self.layers.iter().any(in_16_bits)
    }

    /// Those of them that run in half precision.
    pub fn half_layers(&self) -> usize {
        self.layers.iter().filter(|layer| layer.chosen.is_some() && layer.is_half()).count()
    }
}

/// The layers of an optimised model: those that were `noted` when it was made, with the operators that run
/// them now.
fn recalled(noted: Vec<LayerReport>, running: Vec<LayerReport>) -> Vec<LayerReport> {
    let mut running: Vec<Option<LayerReport>> = running.into_iter().map(Some).collect();
    let mut layers = vec![];
    for note in noted {
        let mut take = |same: &dyn Fn(&LayerReport) -> bool| -> Vec<LayerReport> {
            running.iter_mut().filter_map(|layer| layer.take_if(|layer| same(layer))).collect()
        };
        let mut parts = take(&|layer| layer.name == note.name);
        if parts.is_empty() {
            parts = take(&|layer| layer.layer() == note.layer());
        }
        match parts.is_empty() {
            true => layers.push(note.stock_by_now()),
            false => layers.extend(parts.into_iter().map(|part| part.with_note(&note))),
        }
    }
    layers.extend(running.into_iter().flatten());
    layers
}

/// What is said of a layer about which this has been decided; with `measure`, it runs for some milliseconds
/// on either operator.
pub(crate) fn layer_report(
    place: &Place,
    decision: Decision,
    policy: &Policy,
    neighbours: Neighbours,
    measure: bool,
) -> TractResult<LayerReport> {
    let Place { node, seen, .. } = place;
    let (choice, reason) = match decision {
        Decision::Sparse(choice) if place.made().is_some() => (Some(choice), None),
        // a layer is not taken for sparse before it is
        Decision::Sparse(choice) => {
            let reason =
                format!("the transform sparsify has not seen it; it would choose {}", choice.kernel().name);
            (Some(choice), Some(reason))
        }
        Decision::Stock(reason, best) => (best, Some(reason)),
    };
    let shape = seen.shape();
    let ms = |ns: u64| (ns * shape.map_or(1, |shape| shape.calls as u64)) as f64 / 1e6;
    let mut report = LayerReport {
        name: place.name.clone(),
        op: plain_name(&node.op.name()).to_string(),
        chain: node.op_is::<OptSparseChain>().then(|| node.name.clone()),
        kind: shape.map(LayerShape::kind),
        oc: shape.map_or(0, |s| s.oc),
        ic: shape.map_or(0, |s| s.ic),
        kernel: shape.map_or_else(String::new, |s| by(&s.kernel)),
        stride: shape.map_or_else(String::new, |s| by(&s.stride)),
        output: match shape.and_then(|s| s.output.as_ref()) {
            Some(output) => by(output),
            None => "?".into(),
        },
        model_type: of_f16(seen, choice).then(|| "f16".to_string()),
        format: choice.map(|c| c.packing.to_string()),
        chosen: choice.filter(|_| reason.is_none()).map(|c| c.kernel().name.to_string()),
        reason,
        stock_ms: choice.map(|c| ms(c.stock_ns)),
        sparse_ms: choice.map(|c| ms(c.sparse_ns)),
        ..LayerReport::default()
    };
    if let Some(choice) = choice.filter(|_| report.chosen.is_some()) {
        note_precision(&mut report, place, choice, policy);
    }
    let half_ns = |choice: &Choice| choice.half.map(|half| half.ns);
    if let Some(ns) = choice.as_ref().and_then(half_ns).filter(|_| report.is_half()) {
        report.sparse_ms = Some(ms(ns));
    }
    if let Some(Ok(int8)) = choice.and_then(|choice| choice.int8).filter(|_| report.is_int8()) {
        report.sparse_ms = Some(ms(int8.ns));
    }
    if let Seen::Layer(layer) = seen {
        weigh(&mut report, layer, choice)?;
        report.stock_ms.get_or_insert(stock_ns(&layer.shape, policy.costs()) / 1e6);
        report.break_even = even(layer, choice, policy, neighbours);
        if let Some(choice) = choice.filter(|_| measure) {
            let stored = Stored::of(layer, choice.packing)?.weights();
            // without a shape there is nothing to run, and the times stay those of the table
            if layer.shape.pixels.is_some() {
                let times = measured(layer, choice, stored)?;
                report.measured_stock_ms = Some(ms(times.stock_ns));
                let half = half_ns(&times).filter(|_| report.is_half());
                report.measured_sparse_ms = Some(ms(half.unwrap_or(times.sparse_ns)));
            }
        }
    } else {
        let packed = place.packed.map(OptSparseConv::packed).transpose()?;
        if let Some(packed) = packed.or_else(|| node.op_as::<OptSparseGru>().map(OptSparseGru::packed)) {
            report.chosen = Some(packed.kernel().name.to_string());
            report.density = shape.map(|shape| packed.nnz() as f64 / shape.weights() as f64);
            report.fill = Some(fill_of(packed.nnz(), packed.stored()));
        }
    }
    Ok(report)
}

/// Whether the model has a layer in f16, or had before it was widened.
fn of_f16(seen: &Seen, choice: Option<Choice>) -> bool {
    choice.is_some_and(|choice| choice.of_f16) || matches!(seen, Seen::Layer(layer) if layer.of_f16)
}

/// Says what a layer that runs here computes in, and why not in half precision if that was asked for.
fn note_precision(report: &mut LayerReport, place: &Place, choice: Choice, policy: &Policy) {
    let gains = choice.half.is_some_and(|half| half.always || half.ns < choice.sparse_ns);
    let (int8, not_int8) = (choice.int8.and_then(Result::ok), choice.int8.and_then(Result::err));
    let (precision, why) = match place.packed {
        Some(packed) => (packed.precision(), packed.why_full().map(str::to_string)),
        None if int8.is_some() => {
            report.chosen = int8.map(|int8| int8.kernel().name.to_string());
            (sparse_ops::INT8, None)
        }
        None if gains => {
            report.chosen = choice.half.map(|half| half.kernel().name.to_string());
            ("half", None)
        }
        None => {
            let no_gain = choice.half.map(|_| "no gain is predicted");
            ("f32", not_int8.or(no_gain).map(str::to_string))
        }
    };
    report.precision = Some(precision.into());
    report.why_f32 = why;
    if precision == "f32" && report.why_f32.is_none() && policy.precision == Precision::Half {
        report.why_f32 = Some(match policy.why_not_half() {
            Some(why) => why,
            None => "it was not made for half precision".into(),
        });
    }
}

/// What has been decided for a node, or would be now.
pub(crate) fn decided(place: &Place, policy: &Policy, neighbours: Neighbours) -> TractResult<Decision> {
    match (place.made().copied(), &place.seen) {
        (Some(choice), _) => Ok(Decision::Sparse(choice)),
        (None, Seen::Layer(layer)) => choose(layer, policy, neighbours),
        (None, Seen::Opaque(_, reason)) => Ok(Decision::Stock(reason.to_string(), None)),
    }
}

/// The break-even density in the packing of the best candidate; for dense weights, that of the packing that
/// breaks even first.
fn even(layer: &Layer, choice: Option<Choice>, policy: &Policy, neighbours: Neighbours) -> Option<f64> {
    let of = |packing| break_even(&layer.shape, packing, policy, neighbours);
    match choice {
        Some(choice) if choice.sparse => of(choice.packing),
        _ => {
            let ways = Way::all(&layer.shape, policy.costs()).ok()?;
            ways.iter().filter_map(|way| of(way.packing())).max_by(f64::total_cmp)
        }
    }
}

fn weigh(report: &mut LayerReport, layer: &Layer, choice: Option<Choice>) -> TractResult<()> {
    let single = layer.stats(FormatKind::ROWS_1);
    report.density = Some(single.density);
    let zeros = zeros(layer)?;
    report.structure = Some(zeros.map_or_else(|| "dense".into(), |zeros| zeros.structure().to_string()));
    report.zeros = Some(zeros.map_or_else(|| "dense".into(), |zeros| zeros.to_string()));
    report.dead_oc = Some(single.dead_rows);
    if layer.shape.taps() == 1 && layer.shape.kind() != LayerKind::Depthwise {
        report.dead_ic = Some(single.dead_cols);
    }
    report.fill = match choice.map(|c| c.packing) {
        Some(Packing::Depthwise(taps)) => {
            let patterns = DepthwisePatterns::from_dense(layer.shape.oc, taps, layer.values()?)?;
            Some(fill_of(patterns.nnz(), patterns.stored()))
        }
        Some(Packing::Pointwise(format) | Packing::Spatial(format)) => Some(layer.stats(format).fill),
        None => None,
    };
    Ok(())
}
