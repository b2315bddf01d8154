//! A sparse layer ready to run: packed weights, geometry, epilogue.

use crate::choice::{Choice, Dense, Packed, Packing};
use crate::epilogue::{Follow, push_activation, recognise};
use crate::executor::{of_layer, with_threads};
use crate::form::Form;
use crate::half::HalfChoice;
use crate::int8::{self, Int8Choice, Whole};
use crate::konst::dense_fma;
use crate::opt_sparse_chain::{OptSparseChain, layers};
use crate::pairs::{Lanes, clusters};
use crate::quads::Steps;
use crate::{around, planar, quads};
use sparse_kernels::chain::Stage;
use sparse_kernels::prelude::*;
use sparse_kernels::quads::Quantised;
use std::sync::OnceLock;
use tract_core::internal::*;

/// A sparse convolution or matrix product in the optimised graph.
///
/// Inputs: the activation and, once a residual addition has been taken in, the other operand of that
/// addition. The geometry is worked out from the shape of the activation at every call, so that symbolic
/// batch, height and width need nothing special.
#[derive(Debug, Clone)]
pub struct OptSparseConv {
    /// Name of the layer; that of the node is the last of what has been taken in.
    layer: Arc<str>,
    form: Form,
    packed: Arc<Weights>,
    precision: Precision,
    integer: Integer,
    /// Weights of the dense layer.
    dense: usize,
    epilogue: Epilogue,
    residual: bool,
    choice: Choice,
}

/// Packed weights. Those in f32 of a layer that is likely to run in int8 are packed once they are asked for, so that they take
/// no memory beside the others.
#[derive(Debug)]
struct Weights {
    packed: OnceLock<Packed>,
    later: Option<Later>,
}

/// How weights will be packed in f32.
#[derive(Debug)]
struct Later {
    numbers: Arc<Numbers>,
    packing: Packing,
    target: Target,
}

impl Weights {
    fn get(&self) -> TractResult<&Packed> {
        if let (None, Some(later)) = (self.packed.get(), &self.later) {
            let weights: Vec<f32> = later.numbers.whole.weights().collect();
            let packed = later.packing.pack(later.target, &later.numbers.dense(&weights))?;
            return Ok(self.packed.get_or_init(|| packed));
        }
        self.packed.get().context("weights that were never packed")
    }
}

impl From<Packed> for Weights {
    fn from(packed: Packed) -> Weights {
        Weights { packed: packed.into(), later: None }
    }
}

/// The numbers that a layer computes in.
#[derive(Debug, Clone)]
enum Precision {
    /// f32; why not half, if that was wanted.
    Full(Option<&'static str>),
    /// f32 until it is known which layers run in pairs; the weights for pairs.
    Open(Arc<Weights>),
    /// Pairs of channels: the packed weights are for those.
    Half,
    /// Quads of channels: the packed weights are for those, and what is taken in behind the layer is in them.
    Int8,
}

/// Whether a layer runs in int8.
#[derive(Debug, Clone)]
enum Integer {
    /// Its input is not quantised, or it does already.
    Settled,
    /// It is not known yet what stands around it; its weights as whole numbers, and its bias.
    Open(Arc<Numbers>),
    /// It cannot, for this reason.
    Never(Arc<str>),
}

/// A dense layer of whole numbers.
#[derive(Debug)]
struct Numbers {
    whole: Whole,
    bias: Vec<f32>,
    oc: usize,
    ic: usize,
    group: usize,
    kernel: [usize; 2],
    pixels: Option<usize>,
}

impl Integer {
    fn of(weights: &Dense, choice: &Choice) -> Integer {
        let Dense { oc, ic, group, kernel, pixels, weights, bias } = *weights;
        let Some(choice) = choice.int8 else { return Integer::Settled };
        match choice.and_then(|_| Whole::of(weights, oc)) {
            Ok(whole) => {
                Integer::Open(Arc::new(Numbers { whole, bias: bias.into(), oc, ic, group, kernel, pixels }))
            }
            Err(why) => Integer::Never(why.into()),
        }
    }
}

impl Numbers {
    /// The same for kernels, between an input and an output of such steps; outputs within these bounds.
    ///
    /// # Errors
    /// In words, why that is impossible.
    fn pack(
        &self,
        choice: Int8Choice,
        [x, y]: [Steps; 2],
        [lo, hi]: [f32; 2],
        table: Option<[u8; 256]>,
    ) -> TractResult<Packed> {
        let (x, y) = (x.affine(), y.affine());
        let (mut bias, mut scales) = (Vec::with_capacity(self.oc), Vec::with_capacity(self.oc));
        let mut numbers = Vec::with_capacity(self.whole.numbers().len());
        for (channel, value) in self.bias.iter().enumerate() {
            let (row, scale, steps) = self
                .whole
                .with_bias(channel, *value, x.scale())
                .map_err(|why| format_err!("the bias of output channel {channel} {why}"))?;
            numbers.extend(row.into_iter().map(f32::from));
            bias.push(steps);
            scales.push(x.scale() * scale / y.scale());
        }
        let mut quantised = Quantised::new(bias, scales, x.zero(), y.zero())?;
        quantised = quantised.with_bounds(y.byte(lo), y.byte(hi))?;
        if let Some(table) = table {
            quantised = quantised.with_table(table);
        }
        choice.packing.pack_int8(choice.int8, &self.dense(&numbers), &quantised)
    }

    /// The layer with these weights.
    fn dense<'a>(&'a self, weights: &'a [f32]) -> Dense<'a> {
        let Numbers { oc, ic, group, kernel, pixels, .. } = *self;
        Dense { oc, ic, group, kernel, pixels, weights, bias: &self.bias }
    }
}

const TOO_LARGE: &str = "a weight is too large for the numbers of half precision";

impl PartialEq for OptSparseConv {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.packed, &other.packed)
            && std::mem::discriminant(&self.precision) == std::mem::discriminant(&other.precision)
            && std::mem::discriminant(&self.integer) == std::mem::discriminant(&other.integer)
            && self.form == other.form
            && self.epilogue == other.epilogue
            && self.residual == other.residual
    }
}

impl Eq for OptSparseConv {}

impl OptSparseConv {
    /// The layer of this name, without an epilogue.
    ///
    /// # Errors
    /// Weights that cannot be packed as was chosen.
    pub fn new(layer: &str, form: Form, weights: &Dense, choice: Choice) -> TractResult<OptSparseConv> {
        let why = || format!("packing the weights of {layer}");
        let integer = Integer::of(weights, &choice);
        let packed = match &integer {
            Integer::Open(numbers) if numbers.whole.weights().eq(weights.weights.iter().copied()) => {
                let (packing, target) = (choice.packing, choice.target);
                Weights {
                    packed: OnceLock::new(),
                    later: Some(Later { numbers: numbers.clone(), packing, target }),
                }
            }
            _ => choice.packing.pack(choice.target, weights).with_context(why)?.into(),
        };
        let precision = match choice.half {
            Some(half) => match half.packing.pack_half(half.half, weights) {
                Ok(packed) => Precision::Open(Arc::new(packed.into())),
                // what f32 can pack, half precision cannot if a weight is out of its range
                Err(_) => Precision::Full(Some(TOO_LARGE)),
            },
            None => Precision::Full(None),
        };
        Ok(OptSparseConv {
            layer: layer.into(),
            form,
            packed: Arc::new(packed),
            precision,
            integer,
            dense: weights.weights.len(),
            epilogue: Epilogue::default(),
            residual: false,
            choice,
        })
    }

    /// The numbers that activations are: `f32`, or those of half precision, in pairs of channels.
    pub fn precision(&self) -> &'static str {
        match (self.half(), self.int8()) {
            (Some(half), _) => half.name(),
            (None, Some(_)) => int8::NAME,
            (None, None) => Element::F32.name(),
        }
    }

    /// How it runs in half precision, if it does.
    pub fn half(&self) -> Option<HalfChoice> {
        self.choice.half.filter(|_| matches!(self.precision, Precision::Half))
    }

    /// How it runs in int8, if it does.
    pub fn int8(&self) -> Option<Int8Choice> {
        self.choice.int8.and_then(Result::ok).filter(|_| matches!(self.precision, Precision::Int8))
    }

    /// Why it runs in f32 where int8 or half precision was wanted.
    pub fn why_full(&self) -> Option<&str> {
        match (&self.precision, &self.integer) {
            (Precision::Full(_), Integer::Never(why)) => Some(why),
            (Precision::Full(why), _) => *why,
            (Precision::Open(_) | Precision::Half | Precision::Int8, _) => None,
        }
    }

    /// Whether it is still to be decided if it runs in pairs.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.precision, Precision::Open(_))
    }

    /// Whether it is still to be decided if it runs in int8.
    pub(crate) fn may_be_int8(&self) -> bool {
        matches!(self.integer, Integer::Open(_))
    }

    /// Whether activations are lanes of several channels.
    fn in_lanes(&self) -> bool {
        self.element().is_some()
    }

    /// The layer in f32, or half precision, for this reason.
    pub(crate) fn without_int8(&self, why: &str) -> OptSparseConv {
        OptSparseConv { integer: Integer::Never(why.into()), ..self.clone() }
    }

    /// The layer in int8, between an input and an output of such steps, with a table for what it puts out.
    ///
    /// # Errors
    /// In words, why that is impossible.
    pub(crate) fn in_int8(&self, steps: [Steps; 2], table: Option<[u8; 256]>) -> TractResult<OptSparseConv> {
        let (Integer::Open(numbers), Some(Ok(choice))) = (&self.integer, self.choice.int8) else {
            bail!("its weights are no whole numbers");
        };
        ensure!(!self.residual, "what is added to its sums is not quantised before");
        let bounds = |activation: Activation| match activation {
            Activation::Identity => Some([f32::NEG_INFINITY, f32::INFINITY]),
            Activation::Clamp { lo, hi } => Some([lo, hi]),
            _ => None,
        };
        let all = [self.epilogue.before, self.epilogue.after].map(bounds);
        let [Some(before), Some(after)] = all else {
            bail!("what it puts out goes through a function before it is quantised")
        };
        let bounds = before.map(|bound| bound.max(after[0]).min(after[1]));
        Ok(OptSparseConv {
            packed: Arc::new(numbers.pack(choice, steps, bounds, table)?.into()),
            precision: Precision::Int8,
            integer: Integer::Settled,
            epilogue: Epilogue::default(),
            ..self.clone()
        })
    }

    /// The layer in f32, for this reason.
    pub(crate) fn in_full(&self, why: &'static str) -> OptSparseConv {
        OptSparseConv { precision: Precision::Full(Some(why)), ..self.clone() }
    }

    /// The layer in pairs, if it is still open.
    pub(crate) fn in_pairs(&self) -> Option<OptSparseConv> {
        let Precision::Open(packed) = &self.precision else { return None };
        Some(OptSparseConv { packed: packed.clone(), precision: Precision::Half, ..self.clone() })
    }

    /// The channels of input and output in lanes of such elements, as axes of tensors of such ranks; none if kernels for
    /// lanes do not take them as they are.
    pub(crate) fn lanes(&self, element: Element, x: &TypedFact) -> TractResult<Option<[Lanes; 2]>> {
        rule_if!(self.form.is_planar() || self.is_single_pixel(&x.shape));
        let y = self.form.output_fact(x)?;
        rule_if_some!(x_axis = self.form.x_channel(x.rank()));
        rule_if_some!(y_axis = self.form.y_channel(y.rank()));
        let [x_channels, y_channels] = self.form.channels();
        Ok(Some([Lanes::of(element, x_axis, x_channels), Lanes::of(element, y_axis, y_channels)]))
    }

    /// What lanes hold of a layer that runs in such.
    fn element(&self) -> Option<Element> {
        match self.precision {
            Precision::Half => Some(Element::Bf16),
            Precision::Int8 => Some(Element::Int8),
            Precision::Full(_) | Precision::Open(_) => None,
        }
    }

    /// The channels of an output of this rank, for a layer in lanes.
    pub(crate) fn output_lanes(&self, rank: usize) -> Option<Lanes> {
        let axis = self.form.y_channel(rank)?;
        Some(Lanes::of(self.element()?, axis, self.form.channels()[1]))
    }

    /// The channels of an input of this rank, for a layer in lanes.
    fn x_lanes(&self, rank: usize) -> TractResult<Lanes> {
        let axis = self.form.x_channel(rank).context("lanes of channels without an axis")?;
        let element = self.element().context("lanes of a layer in f32")?;
        Ok(Lanes::of(element, axis, self.form.channels()[0]))
    }

    /// As [`OptSparseConv::x_lanes`], of an output.
    fn y_lanes(&self, rank: usize) -> TractResult<Lanes> {
        self.output_lanes(rank).context("lanes of channels without an axis")
    }

    /// The fact of channels for an input of this layer: of its lanes, if it runs in such.
    ///
    /// # Errors
    /// A layer in lanes and an input that is no tensor of such.
    pub fn wide(&self, x: &TypedFact) -> TractResult<TypedFact> {
        if !self.in_lanes() {
            return Ok(x.clone());
        }
        self.x_lanes(x.rank())?.unpack_fact(x)
    }

    /// Whether images are one pixel, and few.
    pub(crate) fn is_single_pixel(&self, x: &[TDim]) -> bool {
        self.form.is_single_pixel(x)
    }

    fn run_lanes(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (stage, shape) = self.stage(&self.wide_shape(inputs[0].shape())?)?;
        let geometry = planar(stage.geometry)?;
        run(&[stage], inputs, &self.pairs_shape(&shape)?, |x, y, residual, parallel| match self.precision {
            Precision::Int8 => Ok(self.packed()?.run_quads(&geometry, x, y, parallel)?),
            _ => Ok(self.packed()?.run_pairs(&geometry, x, y, residual, &self.epilogue, parallel)?),
        })
    }

    /// The shape of channels for an input of this shape: of its lanes, if the layer runs in such.
    pub(crate) fn wide_shape(&self, x: &[usize]) -> TractResult<TVec<usize>> {
        if !self.in_lanes() {
            return Ok(x.into());
        }
        self.x_lanes(x.len())?.unpack_shape(x)
    }

    /// The shape of lanes for an output of channels of this shape.
    pub(crate) fn pairs_shape(&self, y: &[usize]) -> TractResult<TVec<usize>> {
        self.y_lanes(y.len())?.pack_shape(y)
    }

    /// The fact of the output for an input like `x`: both of lanes, if the layer runs in such.
    ///
    /// # Errors
    /// An input that the layer cannot take.
    pub fn y_fact(&self, x: &TypedFact) -> TractResult<TypedFact> {
        let y = self.form.output_fact(&self.wide(x)?)?;
        if !self.in_lanes() {
            return Ok(y);
        }
        self.y_lanes(y.rank())?.pack_fact(&y)
    }

    /// Name that the layer had before it took in what follows.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// The decision that made this layer sparse.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The packed weights.
    ///
    /// # Errors
    /// Weights that cannot be packed.
    pub fn packed(&self) -> TractResult<&Packed> {
        self.packed.get().with_context(|| format!("packing the weights of {}", self.layer))
    }

    /// Weights of the dense layer, zeros included.
    pub fn dense(&self) -> usize {
        self.dense
    }

    /// What has been taken in behind the layer, and whether that includes a residual addition.
    pub fn epilogue(&self) -> (Epilogue, bool) {
        (self.epilogue, self.residual)
    }

    /// The mapping onto a convolution geometry.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Leaves out the output channels that the next layer, the only one that sees them, has no weight for.
    fn leave_out_unread(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        rule_if!(!self.in_lanes() && !self.may_be_int8());
        // no other kernels leave channels out
        rule_if!(matches!(self.choice.packing, Packing::Depthwise(_)));
        rule_if!(!model.output_outlets()?.contains(&node.id.into()));
        rule_if_let!(&[reader] = &*node.outputs[0].successors);
        rule_if!(reader.slot == 0);
        rule_if_some!(next = layers(model.node(reader.node)).and_then(<[_]>::first));
        let rank = node.outputs[0].fact.rank();
        // the layouts of a convolution's input and output are the same
        rule_if_some!(channels = self.form.x_channel(rank));
        rule_if!(next.form.x_channel(rank) == Some(channels) && !next.may_be_int8());
        let read = next.packed()?.reads();
        rule_if_some!(packed = self.packed()?.with_only(&read));
        let precision = match &self.precision {
            Precision::Open(pairs) => Precision::Open(match pairs.get()?.with_only(&read) {
                Some(pairs) => Arc::new(pairs.into()),
                None => pairs.clone(),
            }),
            precision => precision.clone(),
        };
        let op = OptSparseConv { packed: Arc::new(packed.into()), precision, ..self.clone() };
        let mut patch = TypedModelPatch::replace_single_op(model, node, &node.inputs, op)?;
        patch.push_context("leave out channels that nothing reads");
        Ok(Some(patch))
    }

    /// Multiply-adds are proportional to the weights: `weights` times the uses of each.
    fn fma(&self, x: &TypedFact, weights: usize) -> TractResult<TDim> {
        let y = self.form.output_fact(x)?.shape.volume();
        let oc = match &self.form {
            Form::Conv(conv) => conv.output_channels(),
            Form::Linear(linear) => linear.oc(),
        };
        Ok(y * weights / oc)
    }

    /// The layer for an input of channels of this shape, and the shape of the output's channels.
    pub(crate) fn stage(&self, x: &[usize]) -> TractResult<(Stage<'_>, TVec<usize>)> {
        let half = self.half().map(|half| half.packing);
        let int8 = self.int8().map(|int8| int8.packing);
        let packing = half.or(int8).unwrap_or(self.choice.packing);
        let (geometry, shape) = self.form.resolve(packing, x)?;
        Ok((Stage { layer: self.packed()?.layer(), geometry, epilogue: self.epilogue }, shape))
    }

    /// What a run for an input of channels like `x` costs.
    pub(crate) fn cost_of(&self, x: &TypedFact) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec!(
            (Cost::FMA(f32::datum_type()), self.fma(x, self.packed()?.nnz())?),
            (dense_fma(), self.fma(x, self.dense)?),
            (Cost::Params(f32::datum_type()), self.packed()?.nnz().to_dim())
        ))
    }

    /// Whether it has taken in all that it can, and left out what nothing reads.
    pub(crate) fn settled(&self, model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
        let unread = self.leave_out_unread(model, node)?;
        Ok(unread.is_none() && self.fuse_next(model, node)?.is_none())
    }

    /// Whether input and output are planes.
    pub(crate) fn is_planar(&self) -> bool {
        self.form.is_planar()
    }

    /// Takes in what follows the layer.
    fn fuse_next(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        rule_if!(!self.in_lanes());
        rule_if!(!model.output_outlets()?.contains(&node.id.into()));
        rule_if_some!(succ = model.single_succ(node.id)?);
        rule_if_some!(follow = recognise(model, node, succ)?);
        let mut op = self.clone();
        let mut patch = TypedModelPatch::new(format!("fuse {succ}"));
        let mut inputs = patch.taps(model, &node.inputs)?;
        match follow {
            Follow::Activation(activation) => {
                rule_if_some!(epilogue = push_activation(self.epilogue, self.residual, activation));
                op.epilogue = epilogue;
            }
            Follow::Residual(other) => {
                rule_if!(!self.residual && self.epilogue.after == Activation::Identity);
                op.residual = true;
                inputs.push(patch.tap_model(model, other)?);
            }
        }
        let y = patch.wire_node(&succ.name, op, &inputs)?;
        patch.shunt_outside(model, succ.id.into(), y[0])?;
        Ok(Some(patch))
    }
}

/// Whether a node is a sparse layer, as most are where every layer looks at all of the model: it need not be asked what else it
/// could be.
pub(crate) fn is_layer(node: &TypedNode) -> bool {
    node.op_is::<OptSparseConv>()
}

/// A geometry of interleaved pixels as one of that many images, of one pixel, in planes, which is the same; others
/// as they are.
fn planar(geometry: ConvGeometry) -> TractResult<ConvGeometry> {
    let shape = *geometry.shape();
    if [shape.x_layout, shape.y_layout] == [Layout::Planar; 2] {
        return Ok(geometry);
    }
    let batch = shape.batch * geometry.output_pixels();
    let planar = Layout::Planar;
    Ok(ConvGeometry::new(ConvShape { batch, input: [1, 1], x_layout: planar, y_layout: planar, ..shape })?)
}

/// Makes the output of a layer or a chain, which `run` computes on tract's threads: activations are floats, or pairs of
/// channels.
pub(crate) fn run<T: Datum>(
    stages: &[Stage],
    inputs: &[TValue],
    shape: &[usize],
    run: impl FnOnce(&[T], &mut [T], Option<&[T]>, &dyn Parallel) -> TractResult<()>,
) -> TractResult<TVec<TValue>> {
    // SAFETY: `Stage::run`, `Chain::run`, `Packed::run_pairs` and `Packed::run_quads` write every element of the output or fail, and an
    // output of a failed run is dropped; neither an f32 nor a u32 has an invalid bit pattern.
    let mut y = unsafe { Tensor::uninitialized::<T>(shape)? };
    let x = inputs[0].try_as_plain_ram()?.as_slice::<T>()?;
    let residual = inputs.get(1).map(|r| r.try_as_plain_ram()?.as_slice::<T>()).transpose()?;
    let work: usize = stages.iter().map(|stage| of_layer(stage.products(), stage.stored())).sum();
    with_threads(y.len().max(work), |parallel| {
        let mut y = y.try_as_plain_ram_mut()?;
        run(x, y.as_slice_mut::<T>()?, residual, parallel)
    })?;
    Ok(tvec!(y.into_tvalue()))
}

impl Op for OptSparseConv {
    fn name(&self) -> StaticName {
        "OptSparseConv".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let (stored, nnz) = (self.packed()?.stored(), self.packed()?.nnz());
        let mut info = vec![
            match (self.half(), self.int8()) {
                (Some(half), _) => format!(
                    "{} on pairs of {}, predicted {:.0} us",
                    self.packed()?.kernel().name,
                    half.name(),
                    half.ns as f64 / 1e3
                ),
                (None, Some(int8)) => format!(
                    "{} on quads of {}, predicted {:.0} us",
                    self.packed()?.kernel().name,
                    int8::NAME,
                    int8.ns as f64 / 1e3
                ),
                (None, None) => self.choice.to_string(),
            },
            format!(
                "{nnz} of {} weights are not zero ({:.1} %), {stored} stored",
                self.dense,
                100.0 * nnz as f64 / self.dense as f64,
            ),
        ];
        let unread = self.packed()?.reads().iter().filter(|read| !**read).count();
        if unread > 0 {
            info.push(match self.packed()? {
                Packed::Depthwise(_) => {
                    format!("{unread} channels that nothing reads are left out")
                }
                Packed::Pointwise(_) | Packed::Spatial(_) => {
                    format!("{unread} input channels have no weight")
                }
            });
        }
        if let Some(why) = self.why_full() {
            info.push(format!("in f32: {why}"));
        }
        if self.epilogue != Epilogue::default() || self.residual {
            let residual = if self.residual { ", residual" } else { "" };
            info.push(format!("then {:?}{residual}, {:?}", self.epilogue.before, self.epilogue.after));
        }
        Ok(info)
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for OptSparseConv {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let kernel = self.packed()?.kernel().name;
        let within = || format!("in {kernel}");
        if self.in_lanes() {
            return self.run_lanes(&inputs).with_context(within);
        }
        let (stage, shape) = self.stage(inputs[0].shape())?;
        let compute = |x: &[f32], y: &mut [f32], residual: Option<&[f32]>, parallel: &dyn Parallel| {
            Ok(stage.run(x, y, residual, parallel)?)
        };
        run(std::slice::from_ref(&stage), &inputs, &shape, compute).with_context(within)
    }
}

impl TypedOp for OptSparseConv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 1 + self.residual as usize, "got {} inputs", inputs.len());
        Ok(tvec!(self.y_fact(inputs[0])?))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        self.cost_of(&self.wide(inputs[0])?)
    }

    fn fuse(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if let Some(patch) = self.fuse_next(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = self.leave_out_unread(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = OptSparseChain::join(model, node)? {
            return Ok(Some(patch));
        }
        if let Some(patch) = planar::swap_next(model, self.choice.target)? {
            return Ok(Some(patch));
        }
        if self.may_be_int8() {
            return quads::clusters::settle(model);
        }
        if self.is_open() {
            return clusters::settle(model);
        }
        around::swap_next(model, self.choice.target)
    }

    as_op!();
}
