//! Reads a layer off a node: its shape, its weights, and how sparse they are.

use crate::costs::ASSUMED_PIXELS;
use crate::table::by;
use sparse_kernels::format::{FormatKind, Nonzeros, PatternStats, Stats};
use sparse_kernels::prelude::{ConvShape, Layout};
use sparse_kernels::spatial::SpatialKernel;
use sparse_ops::{
    Linear, OptSparseConv, OptSparseGru, SparseConv, SparseDeconv, SparseGruSeq, SparseMatMul,
    conv_obstacle_for, deconv_matrix, is_dequantised, is_dequantised_by_channel, konst_of, oihw, widened,
};
use std::fmt;
use tract_core::internal::*;
use tract_core::ops::change_axes::perm_to_ops;
use tract_core::ops::cnn::{Conv, Deconv};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::gru_seq::GruSeq;

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerKind {
    /// 1x1 convolution or matrix product: every output channel sees every input channel of the same pixel.
    Pointwise,
    /// One kernel per channel.
    Depthwise,
    /// Any kernel larger than 1x1 over all channels.
    Spatial,
    /// Channel groups that are neither one nor one channel each.
    Grouped,
    /// Transposed convolution, whatever the kernel.
    Transposed,
}

/// Shape of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LayerShape {
    /// Output channels.
    pub oc: usize,
    /// Input channels, of all groups.
    pub ic: usize,
    /// Channel groups.
    pub group: usize,
    /// Taps per axis; empty for a matrix product.
    pub kernel: TVec<usize>,
    /// Step of the output per axis.
    pub stride: TVec<usize>,
    /// Distance of neighbouring taps per axis; empty for a matrix product.
    pub dilation: TVec<usize>,
    /// Input pixels along each spatial axis, if known.
    pub input: Option<TVec<usize>>,
    /// True for a transposed convolution: its strides are those of the input, so to say, and the output is
    /// the larger map.
    pub transposed: bool,
    /// Output pixels of all images together, if known.
    pub pixels: Option<usize>,
    /// Output pixels along each spatial axis, if known.
    pub output: Option<TVec<usize>>,
    /// How often it runs in one run of the model: once, or at every step of a sequence.
    pub calls: usize,
}

impl LayerShape {
    /// A 1x1 convolution of one map.
    #[cfg(test)]
    pub(crate) fn pointwise(oc: usize, ic: usize, input: [usize; 2]) -> LayerShape {
        LayerShape {
            oc,
            ic,
            group: 1,
            kernel: tvec!(1, 1),
            stride: tvec!(1, 1),
            dilation: tvec!(1, 1),
            input: Some(tvec!(input[0], input[1])),
            transposed: false,
            pixels: Some(input.iter().product()),
            output: Some(tvec!(input[0], input[1])),
            calls: 1,
        }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.oc * self.ic.checked_div(self.group).unwrap_or(0) * self.taps()
    }

    /// Pixels of one input plane; taken from the output and the stride where they are symbolic.
    pub fn input_pixels(&self, output_pixels: usize) -> usize {
        match &self.input {
            Some(input) if self.pixels.is_some() => input.iter().product(),
            _ => output_pixels * self.stride.iter().product::<usize>(),
        }
    }

    /// Rows of the matrix of weights: output channels, times taps if transposed.
    pub fn rows(&self) -> usize {
        if self.transposed { self.oc * self.taps() } else { self.oc }
    }

    /// The product that a transposed convolution begins with: all taps of all output channels for each input
    /// pixel. What puts the results in place is not a part of it.
    pub fn product(&self) -> Option<LayerShape> {
        let pixels = |dims: &TVec<usize>| dims.iter().product::<usize>();
        let images = self.pixels.zip(self.output.as_ref()).map(|(all, one)| all / pixels(one).max(1));
        self.transposed.then(|| LayerShape {
            oc: self.rows(),
            ic: self.ic,
            group: self.group,
            kernel: tvec!(),
            stride: tvec!(),
            dilation: tvec!(),
            input: self.input.clone(),
            transposed: false,
            pixels: images.zip(self.input.as_ref()).map(|(images, one)| images * pixels(one)),
            output: self.input.clone(),
            calls: self.calls,
        })
    }

    /// Taps of one kernel.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// The shape as the kernels see it, apart from the sizes of the maps: those that are unknown are taken
    /// for large enough. Channels stand first, whatever the layout of the model: kernels that want planes
    /// get them. 1-D convolutions are one row high, products with a matrix of any rank a pixel large.
    pub fn conv_shape(&self) -> ConvShape {
        let pair = |of: &TVec<usize>| match **of {
            [] => [1, 1],
            [w] => [1, w],
            [h, w] => [h, w],
            // of a rank without kernels, a layer is a product with a matrix
            _ => [1, 1],
        };
        let kernel = pair(&self.kernel);
        let dilation = pair(&self.dilation);
        ConvShape {
            batch: 1,
            ic: self.ic,
            oc: self.oc,
            group: self.group,
            input: [0, 1].map(|a| (kernel[a] - 1) * dilation[a] + 1),
            kernel,
            stride: pair(&self.stride),
            dilation,
            pad_before: [0; 2],
            pad_after: [0; 2],
            x_layout: Layout::Planar,
            y_layout: Layout::Planar,
        }
    }

    /// What the layer computes.
    pub fn kind(&self) -> LayerKind {
        if self.transposed {
            LayerKind::Transposed
        } else if self.group > 1 && self.group == self.ic && self.group == self.oc {
            LayerKind::Depthwise
        } else if self.group > 1 {
            LayerKind::Grouped
        } else if self.taps() == 1 {
            LayerKind::Pointwise
        } else {
            LayerKind::Spatial
        }
    }
}

/// Output by input channels, kernel and stride unless they are one, and output map: `512x512@14x14`,
/// `64x64 3x3/2@56x56`.
impl fmt::Display for LayerShape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}", self.oc, self.ic)?;
        if self.taps() > 1 {
            write!(f, " {}", by(&self.kernel))?;
        }
        if let Some(step) = self.stride.iter().max().filter(|step| **step > 1) {
            write!(f, "/{step}")?;
        }
        match &self.output {
            Some(output) if !output.is_empty() => write!(f, "@{}", by(output)),
            Some(_) => Ok(()),
            None => f.write_str("@?"),
        }
    }
}

/// A convolution or a matrix product with constant weights. Clones share them, and what was found in them.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Shape.
    pub shape: LayerShape,
    /// Plain f32 weights, `[oc][ic / group][taps]`; `[oc][taps][ic / group]` if transposed.
    pub weights: Arc<Tensor>,
    /// Whether the model has weights and activations in f16.
    pub of_f16: bool,
    /// Where they are not zero, as a matrix of [`LayerShape::rows`].
    nonzeros: Arc<Nonzeros>,
    /// Whether its input is dequantised.
    pub(crate) quantised: bool,
}

/// A node that multiplies by weights, seen from outside.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Readable.
    Layer(Layer),
    /// Not readable: its shape as far as known, and why.
    Opaque(Option<LayerShape>, &'static str),
}

impl Seen {
    /// Its shape, as far as known.
    pub fn shape(&self) -> Option<&LayerShape> {
        match self {
            Seen::Layer(layer) => Some(&layer.shape),
            Seen::Opaque(shape, _) => shape.as_ref(),
        }
    }

    pub(crate) fn shape_mut(&mut self) -> Option<&mut LayerShape> {
        match self {
            Seen::Layer(layer) => Some(&mut layer.shape),
            Seen::Opaque(shape, _) => shape.as_mut(),
        }
    }
}

impl Layer {
    /// Reads the weights; the reason why not if there are none, or one of them is NaN or infinite.
    pub(crate) fn new(shape: LayerShape, weights: Arc<Tensor>) -> TractResult<Result<Layer, &'static str>> {
        let of_f16 = weights.datum_type() == DatumType::F16;
        let weights = widened(&weights)?;
        if shape.weights() == 0 {
            return Ok(Err("it has no weights"));
        }
        let cols = shape.weights() / shape.rows();
        let nonzeros = Nonzeros::of(shape.rows(), cols, weights.try_as_plain_ram()?.as_slice::<f32>()?)?;
        if !nonzeros.all_finite() {
            return Ok(Err("a weight is NaN or infinite"));
        }
        Ok(Ok(Layer { shape, weights, of_f16, nonzeros: Arc::new(nonzeros), quantised: false }))
    }

    /// The same layer with other weights, `[oc][ic / group][taps]`: what it would be if it were pruned so.
    ///
    /// # Errors
    /// Another number of weights, or one that is NaN or infinite.
    pub fn with_weights(&self, weights: &[f32]) -> TractResult<Layer> {
        let weights = Tensor::from_shape(self.weights.shape(), weights)?.into_arc_tensor();
        let layer = Layer::new(self.shape.clone(), weights)?.map_err(|reason| format_err!("{reason}"))?;
        Ok(Layer { of_f16: self.of_f16, quantised: self.quantised, ..layer })
    }

    /// The weights.
    pub fn values(&self) -> TractResult<&[f32]> {
        self.weights.try_as_plain_ram()?.as_slice::<f32>()
    }

    /// Weights that are not zero.
    pub fn nnz(&self) -> usize {
        self.nonzeros.nnz()
    }

    /// Share of weights that are not zero.
    pub fn density(&self) -> f64 {
        self.nnz() as f64 / self.shape.weights() as f64
    }

    /// The product that a transposed convolution begins with, as a layer.
    pub(crate) fn product(&self) -> Option<Layer> {
        self.shape.product().map(|shape| Layer { shape, ..self.clone() })
    }

    /// Block statistics of the weights as a matrix of [`LayerShape::rows`].
    ///
    /// Channel groups are stored as the ungrouped layer that they are a part of; density, fill and dead
    /// channels are those of the weights that there are.
    pub fn stats(&self, kind: FormatKind) -> Stats {
        self.nonzeros.group_stats(kind, self.shape.group)
    }

    /// As [`Layer::stats`], of lanes as this spatial kernel stores them.
    pub(crate) fn spatial_stats(&self, kernel: &SpatialKernel) -> TractResult<Stats> {
        let taps = self.shape.conv_shape().kernel;
        Ok(self.nonzeros.spatial_stats(kernel.format(), self.shape.group, taps, kernel.element())?)
    }

    /// Kernel patterns and connectivity of the weights of a convolution.
    pub(crate) fn pattern_stats(&self) -> TractResult<PatternStats> {
        Ok(self.nonzeros.pattern_stats(self.shape.conv_shape().kernel)?)
    }

    /// Whether at most two of every four neighbouring weights of a filter are not zero.
    pub(crate) fn is_two_of_four(&self) -> bool {
        self.nonzeros.two_of_four()
    }
}

#[cfg(test)]
impl Layer {
    /// A layer of square kernels with these weights, on maps of any size.
    pub(crate) fn sample(oc: usize, ic: usize, group: usize, k: usize, weights: &[f32]) -> Layer {
        let shape = LayerShape {
            oc,
            ic,
            group,
            kernel: tvec!(k, k),
            stride: tvec!(1, 1),
            dilation: tvec!(1, 1),
            input: None,
            transposed: false,
            pixels: None,
            output: None,
            calls: 1,
        };
        let weights = Tensor::from_shape(&[oc, ic / group, k * k], weights).unwrap().into_arc_tensor();
        Layer::new(shape, weights).unwrap().unwrap()
    }
}

/// Why the weights of an optimised layer of ours cannot be read.
pub(crate) const PACKED: &str = "packed";

/// What `node` is, if it is a layer at all: a stock or sparse convolution, a matrix product with one constant
/// operand, or the recurrent product of a whole-sequence GRU.
pub fn see(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Seen>> {
    let mut seen = see_layer(model, node)?;
    if let Some(Seen::Layer(layer)) = &mut seen {
        let depthwise = layer.shape.group > 1 && layer.shape.group == layer.shape.ic;
        for input in &node.inputs {
            let dequantised =
                is_dequantised(model, *input) || (depthwise && is_dequantised_by_channel(model, *input)?);
            layer.quantised |= dequantised && konst_of(model, *input)?.is_none();
        }
    }
    Ok(seen)
}

fn see_layer(model: &TypedModel, node: &TypedNode) -> TractResult<Option<Seen>> {
    if let Some(conv) = node.op_as::<Conv>() {
        see_conv(model, node, conv).map(Some)
    } else if let Some(sparse) = node.op_as::<SparseConv>() {
        see_conv(model, node, sparse.conv()).map(Some)
    } else if let Some(deconv) = node.op_as::<Deconv>() {
        see_deconv(model, node, deconv).map(Some)
    } else if let Some(sparse) = node.op_as::<SparseDeconv>() {
        see_deconv(model, node, sparse.deconv()).map(Some)
    } else if let Some(einsum) = node.op_as::<EinSum>() {
        if einsum.q_params.is_some() {
            let weights = konst_of(model, node.inputs[1])?.is_some();
            return Ok(weights.then_some(Seen::Opaque(None, "a product of whole numbers")));
        }
        rule_if!(node.inputs.len() == 2);
        // An operand is a weight if it is constant; a product of two activations is no layer.
        for w_slot in [1, 0] {
            if konst_of(model, node.inputs[w_slot])?.is_some() {
                return see_einsum(model, node, einsum, 1 - w_slot).map(Some);
            }
        }
        Ok(None)
    } else if let Some(sparse) = node.op_as::<SparseMatMul>() {
        see_einsum(model, node, sparse.einsum(), sparse.x_slot()).map(Some)
    } else if let Some(opt) = node.op_as::<OptSparseConv>() {
        Ok(Some(see_packed(opt, model.outlet_fact(node.inputs[0])?)?))
    } else if let Some(seq) = node.op_as::<GruSeq>() {
        see_gru(model, node, seq).map(Some)
    } else if let Some(sparse) = node.op_as::<SparseGruSeq>() {
        see_gru(model, node, sparse.seq()).map(Some)
    } else if let Some(opt) = node.op_as::<OptSparseGru>() {
        let product = model.outlet_fact(node.inputs[0])?;
        Ok(Some(Seen::Opaque(Some(recurrent_shape(opt.hidden(), product)), PACKED)))
    } else {
        Ok(None)
    }
}

/// A layer whose weights have been packed, for an input like `x`, which may be pairs of channels.
pub(crate) fn see_packed(op: &OptSparseConv, x: &TypedFact) -> TractResult<Seen> {
    let x = &op.wide(x)?;
    let shape = match op.form() {
        sparse_ops::Form::Conv(conv) => conv_shape(conv, x)?,
        sparse_ops::Form::Linear(linear) => linear_shape(linear, x),
    };
    Ok(Seen::Opaque(Some(shape), PACKED))
}

fn conv_shape(conv: &Conv, x: &TypedFact) -> TractResult<LayerShape> {
    let spec = &conv.pool_spec;
    let shape = spec.data_format.shape(&x.shape)?;
    let dims: Option<TVec<usize>> = shape.hw_dims().iter().map(|d| d.to_usize().ok()).collect();
    let output: Option<TVec<usize>> = dims.as_ref().map(|dims| {
        let computed = spec.padding.compute(dims, &spec.kernel_shape, &spec.dilations(), &spec.strides());
        computed.iter().map(|d| d.convoluted).collect()
    });
    let batch = shape.n().map_or(Some(1), |n| n.to_usize().ok());
    Ok(LayerShape {
        oc: conv.output_channels(),
        ic: conv.input_channels(),
        group: conv.group,
        kernel: spec.kernel_shape.clone(),
        stride: (0..spec.rank()).map(|axis| spec.stride(axis)).collect(),
        dilation: (0..spec.rank()).map(|axis| spec.dilation(axis)).collect(),
        input: dims,
        transposed: false,
        pixels: output.as_ref().and_then(|o| Some(batch? * o.iter().product::<usize>())),
        output,
        calls: 1,
    })
}

fn linear_shape(linear: &Linear, x: &TypedFact) -> LayerShape {
    let pixels = linear.pixel_count(&x.shape).zip(linear.batch_count(&x.shape)).map(|(p, b)| p * b);
    LayerShape {
        oc: linear.oc(),
        ic: linear.ic(),
        group: 1,
        kernel: tvec!(),
        stride: tvec!(),
        dilation: tvec!(),
        input: linear.pixel_dims(&x.shape),
        transposed: false,
        pixels,
        output: linear.pixel_dims(&x.shape),
        calls: 1,
    }
}

/// Why weights cannot be read, or the weights, of f32 or f16 as the activations are.
fn plain_weights(
    model: &TypedModel,
    outlet: OutletId,
    x: &TypedFact,
) -> TractResult<Result<Arc<Tensor>, &'static str>> {
    let Some(weights) = konst_of(model, outlet)? else { return Ok(Err("weights are not constant")) };
    if !weights.is_plain_ram() {
        return Ok(Err("weights are compressed"));
    }
    if weights.datum_type() != x.datum_type || !matches!(x.datum_type, DatumType::F32 | DatumType::F16) {
        return Ok(Err("neither f32 nor f16"));
    }
    Ok(Ok(weights))
}

fn see_conv(model: &TypedModel, node: &TypedNode, conv: &Conv) -> TractResult<Seen> {
    let x = model.outlet_fact(node.inputs[0])?;
    let shape = conv_shape(conv, x)?;
    if let Some(reason) = conv_obstacle_for(conv, &x.shape)? {
        return Ok(Seen::Opaque(Some(shape), reason));
    }
    if konst_of(model, node.inputs[2])?.is_none() {
        return Ok(Seen::Opaque(Some(shape), "bias is not constant"));
    }
    Ok(match plain_weights(model, node.inputs[1], x)? {
        Ok(weights) if weights.len() == shape.weights() => {
            match Layer::new(shape.clone(), oihw(weights, conv)?)? {
                Ok(layer) => Seen::Layer(layer),
                Err(reason) => Seen::Opaque(Some(shape), reason),
            }
        }
        Ok(_) => Seen::Opaque(Some(shape), "weights are of another size than the convolution says"),
        Err(reason) => Seen::Opaque(Some(shape), reason),
    })
}

fn see_deconv(model: &TypedModel, node: &TypedNode, deconv: &Deconv) -> TractResult<Seen> {
    let x = model.outlet_fact(node.inputs[0])?;
    let (spec, format) = (&deconv.pool_spec, &deconv.pool_spec.data_format);
    let (before, after) = (format.shape(&x.shape)?, format.shape(&node.outputs[0].fact.shape)?);
    let sizes = |dims: &[TDim]| dims.iter().map(|d| d.to_usize().ok()).collect::<Option<TVec<usize>>>();
    let output = sizes(after.hw_dims());
    let batch = before.n().map_or(Some(1), |n| n.to_usize().ok());
    let shape = LayerShape {
        oc: spec.output_channels,
        ic: spec.input_channels,
        group: deconv.group,
        kernel: spec.kernel_shape.clone(),
        stride: spec.strides().iter().copied().collect(),
        dilation: spec.dilations().iter().copied().collect(),
        input: sizes(before.hw_dims()),
        transposed: true,
        pixels: output.as_ref().and_then(|o| Some(batch? * o.iter().product::<usize>())),
        output,
        calls: 1,
    };
    let weights = match plain_weights(model, node.inputs[1], x)? {
        Ok(weights) => deconv_matrix(deconv, &weights)?.into_arc_tensor(),
        Err(reason) => return Ok(Seen::Opaque(Some(shape), reason)),
    };
    if weights.len() != shape.weights() {
        return Ok(Seen::Opaque(Some(shape), "weights are of another size than the convolution says"));
    }
    Ok(match Layer::new(shape.clone(), weights)? {
        Ok(layer) => Seen::Layer(layer),
        Err(reason) => Seen::Opaque(Some(shape), reason),
    })
}

/// A product that also transposes, as one that does not and the changes of axes to be made behind it; none if
/// that is not all that it does.
pub(crate) fn straight(op: &EinSum, x_slot: usize) -> Option<(EinSum, TVec<AxisOp>)> {
    let (inputs, outputs) = op.axes.to_strs();
    let axes_of = |text: &str| text.chars().collect::<Vec<char>>();
    let (x, w, y) = (axes_of(&inputs[x_slot]), axes_of(&inputs[1 - x_slot]), axes_of(&outputs[0]));
    let one = |among: &[char], without: &[char]| -> Option<char> {
        let mut left = among.iter().filter(|axis| w.contains(axis) && !without.contains(axis));
        left.next().copied().filter(|_| left.next().is_none())
    };
    let (i, o) = (one(&x, &y)?, one(&y, &x)?);
    let in_order: Vec<char> =
        x.iter().map(|axis| if *axis == i { o } else { *axis }).filter(|axis| y.contains(axis)).collect();
    let is_new = |axis: &char| !in_order.contains(axis);
    let kept = y.iter().filter(|axis| !is_new(axis));
    let permutation: Option<Vec<usize>> =
        kept.map(|axis| in_order.iter().position(|other| other == axis)).collect();
    let mut changes = perm_to_ops(&permutation?);
    changes.extend(y.iter().enumerate().filter(|(_, axis)| is_new(axis)).map(|(at, _)| AxisOp::Add(at)));
    let axes = AxesMapping::from_strs(&inputs, &[in_order.iter().collect::<String>()]).ok()?;
    Some((EinSum { axes, ..op.clone() }, changes))
}

fn see_einsum(model: &TypedModel, node: &TypedNode, op: &EinSum, x_slot: usize) -> TractResult<Seen> {
    let x = model.outlet_fact(node.inputs[x_slot])?;
    let weights = match plain_weights(model, node.inputs[1 - x_slot], x)? {
        Ok(weights) => weights,
        Err(reason) => return Ok(Seen::Opaque(None, reason)),
    };
    let linear = Linear::of(op, x_slot, &x.shape, weights.shape());
    let straight = || Linear::of(&straight(op, x_slot)?.0, x_slot, &x.shape, weights.shape()).ok();
    Ok(match linear.or_else(|reason| straight().ok_or(reason)) {
        Ok(linear) => {
            let weights = linear.in_order(weights)?;
            let shape = linear_shape(&linear, x);
            match Layer::new(shape.clone(), weights)? {
                Ok(layer) => Seen::Layer(layer),
                Err(reason) => Seen::Opaque(Some(shape), reason),
            }
        }
        Err(reason) => Seen::Opaque(None, reason),
    })
}

/// The recurrent product of a GRU over an input of shape `[batch, steps, ..]`: each step waits for the one
/// before, and its pixels are the sequences of the batch. Where their number is unknown, as many steps are
/// assumed as pixels elsewhere.
fn recurrent_shape(hidden: usize, x: &TypedFact) -> LayerShape {
    let batch = x.shape[0].to_usize().ok();
    LayerShape {
        oc: 3 * hidden,
        ic: hidden,
        group: 1,
        kernel: tvec!(),
        stride: tvec!(),
        dilation: tvec!(),
        input: batch.map(|batch| tvec!(batch)),
        transposed: false,
        pixels: batch,
        output: batch.map(|batch| tvec!(batch)),
        calls: x.shape[1].to_usize().unwrap_or(ASSUMED_PIXELS),
    }
}

fn see_gru(model: &TypedModel, node: &TypedNode, op: &GruSeq) -> TractResult<Seen> {
    let x = model.outlet_fact(node.inputs[0])?;
    let shape = recurrent_shape(op.hidden, x);
    let opaque = |reason| Ok(Seen::Opaque(Some(shape.clone()), reason));
    if op.packed_r.is_some() {
        return opaque("packed by tract");
    }
    if !op.projected {
        return opaque("a GRU this narrow is one operator with its input-side product");
    }
    if op.has_bias && konst_of(model, node.inputs[2])?.is_none() {
        return opaque("bias is not constant");
    }
    match plain_weights(model, node.inputs[1], x)? {
        Ok(weights) if weights.datum_type() == DatumType::F16 => {
            opaque("there are no recurrent kernels in f16")
        }
        Ok(weights) if weights.len() == shape.weights() => Ok(match Layer::new(shape.clone(), weights)? {
            Ok(layer) => Seen::Layer(layer),
            Err(reason) => Seen::Opaque(Some(shape), reason),
        }),
        Ok(_) => opaque("weights are of another size than the hidden state says"),
        Err(reason) => opaque(reason),
    }
}
