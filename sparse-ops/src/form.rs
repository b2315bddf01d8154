//! How a tract operator maps onto a convolution geometry: axes, layouts, paddings.

use crate::choice::Packing;
use sparse_kernels::prelude::*;
use std::collections::HashMap;
use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, PaddingSpec, PoolSpec};
use tract_core::ops::einsum::EinSum;

/// Images of one pixel that are run one by one; of more, all together are faster in f32.
const FEW_IMAGES: usize = 4;

/// The geometry of a layer, up to the shape of its input.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Form {
    /// A convolution of rank 1 or 2.
    Conv(Conv),
    /// A matrix product with a constant matrix.
    Linear(Linear),
}

impl Form {
    /// The geometry for a concrete input, as the kernels of a packing see it, and the shape of the output
    /// tensor.
    ///
    /// # Errors
    /// A shape that the layer cannot take.
    pub fn resolve(&self, packing: Packing, x: &[usize]) -> TractResult<(ConvGeometry, TVec<usize>)> {
        match self {
            Form::Conv(conv) => resolve_conv(conv, packing.kernel_groups(conv.group), x),
            Form::Linear(linear) => linear.resolve(x),
        }
    }

    /// The axis of an input of this rank that holds the input channels, if one does and nothing else.
    pub fn x_channel(&self, rank: usize) -> Option<usize> {
        match self {
            Form::Conv(conv) => {
                let format = conv.pool_spec.data_format;
                Some(if format.c_is_last() { rank.checked_sub(1)? } else { format.has_n() as usize })
            }
            Form::Linear(linear) => match *linear.x_channels {
                [axis] => Some(axis),
                _ => None,
            },
        }
    }

    /// The axis of an output of this rank that holds the output channels, if one does.
    pub(crate) fn y_channel(&self, rank: usize) -> Option<usize> {
        match self {
            Form::Conv(_) => self.x_channel(rank),
            Form::Linear(linear) => linear.y_channel(),
        }
    }

    /// Input and output channels.
    pub(crate) fn channels(&self) -> [usize; 2] {
        match self {
            Form::Conv(conv) => [conv.input_channels(), conv.output_channels()],
            Form::Linear(linear) => [linear.ic, linear.oc],
        }
    }

    /// Whether images of an input of this shape are one pixel, the first axis, of not more than [`FEW_IMAGES`] where that
    /// is known, apart: then all layouts are the same.
    pub(crate) fn is_single_pixel(&self, x: &[TDim]) -> bool {
        matches!(self, Form::Linear(linear) if linear.is_single_pixel(x))
    }

    /// The first axes of the input that count images.
    pub(crate) fn batch_axes(&self) -> usize {
        match self {
            Form::Conv(conv) => conv.pool_spec.data_format.has_n() as usize,
            Form::Linear(linear) => linear.batch.len(),
        }
    }

    /// Whether input and output have a plane of pixels for every channel.
    pub(crate) fn is_planar(&self) -> bool {
        match self {
            Form::Conv(conv) => !conv.pool_spec.data_format.c_is_last(),
            Form::Linear(linear) => linear.is_planar(),
        }
    }

    /// The output fact, symbols included.
    ///
    /// # Errors
    /// A shape that the layer cannot take.
    pub fn output_fact(&self, x: &TypedFact) -> TractResult<TypedFact> {
        match self {
            Form::Conv(conv) => Ok(conv.pool_spec.output_facts(&[x])?.remove(0)),
            Form::Linear(linear) => Ok(f32::fact(linear.output_shape(&x.shape)?)),
        }
    }
}

/// Whether a convolution is a product of every pixel's channels with one matrix, whatever the size and the
/// number of the other axes.
pub(crate) fn is_matmul(conv: &Conv, shape: &[TDim]) -> TractResult<bool> {
    let spec = &conv.pool_spec;
    let shape = spec.data_format.shape(shape)?;
    let zero = |pad: &TDim| *pad == 0.to_dim();
    Ok(conv.group == 1
        && spec.kernel_shape.iter().product::<usize>() == 1
        && spec.strides().iter().all(|s| *s == 1)
        && spec.dilations().iter().all(|d| *d == 1)
        && spec
            .computed_padding(shape.hw_dims())
            .iter()
            .all(|pad| zero(&pad.pad_after) && zero(&pad.pad_before)))
}

/// Why a convolution of an input of this shape cannot become sparse, or `None` if it can. A product with a
/// matrix can have any rank: it becomes one before it is packed.
///
/// # Errors
/// A shape that the convolution cannot take.
pub fn conv_obstacle_for(conv: &Conv, shape: &[TDim]) -> TractResult<Option<&'static str>> {
    let obstacle = conv_obstacle(conv);
    rule_if!(obstacle != Some(RANK) || !is_matmul(conv, shape)?);
    Ok(obstacle)
}

const RANK: &str = "neither 1-D nor 2-D";

/// Why a convolution has no geometry here, or `None` if it has.
pub(crate) fn conv_obstacle(conv: &Conv) -> Option<&'static str> {
    if conv.q_params.is_some() {
        Some("quantised")
    } else if !matches!(conv.pool_spec.rank(), 1 | 2) {
        Some(RANK)
    } else if matches!(conv.pool_spec.padding, PaddingSpec::ExplicitOnnxPool(_, _, true)) {
        Some("output size rounded up")
    } else {
        None
    }
}

fn resolve_conv(conv: &Conv, group: usize, x: &[usize]) -> TractResult<(ConvGeometry, TVec<usize>)> {
    let spec = &conv.pool_spec;
    let rank = spec.rank();
    ensure!(x.len() == rank + 1 + spec.data_format.has_n() as usize, "input has rank {}", x.len());
    let shape = spec.data_format.shape(x)?;
    ensure!(*shape.c() == conv.input_channels(), "input has {} channels", shape.c());
    let dims = padding(spec, shape.hw_dims());
    // A 1-D convolution is one row high.
    let pair = |one: usize, of: &dyn Fn(usize) -> usize| {
        if rank == 1 { [one, of(0)] } else { [of(0), of(1)] }
    };
    let layout = if spec.data_format.c_is_last() { Layout::Interleaved } else { Layout::Planar };
    let geometry = ConvGeometry::new(ConvShape {
        batch: shape.n().copied().unwrap_or(1),
        ic: conv.input_channels(),
        oc: conv.output_channels(),
        group,
        input: pair(1, &|a| shape.hw_dims()[a]),
        kernel: pair(1, &|a| spec.kernel_shape[a]),
        stride: pair(1, &|a| spec.stride(a)),
        dilation: pair(1, &|a| spec.dilation(a)),
        pad_before: pair(0, &|a| dims[a].pad_before),
        pad_after: pair(0, &|a| dims[a].pad_after),
        x_layout: layout,
        y_layout: layout,
    })?;
    let output: TVec<usize> = dims.iter().map(|d| d.convoluted).collect();
    ensure!(pair(1, &|a| output[a]) == geometry.output(), "output would be {output:?}");
    let y = spec.data_format.from_n_c_hw(shape.n().copied().unwrap_or(1), conv.output_channels(), output)?;
    Ok((geometry, y.shape))
}

/// An axis of a convolution or a pooling.
pub(crate) struct PaddedAxis {
    /// Zeros before the first pixel.
    pub pad_before: usize,
    /// Zeros behind the last pixel.
    pub pad_after: usize,
    /// Outputs.
    pub convoluted: usize,
}

/// The padding and the outputs along each axis, as stock tract has them.
pub(crate) fn padding(spec: &PoolSpec, input: &[usize]) -> TVec<PaddedAxis> {
    let dims = spec.padding.compute(input, &spec.kernel_shape, &spec.dilations(), &spec.strides());
    let axis = |(axis, input): (usize, &usize)| {
        let dim = &dims[axis];
        let (convoluted, pad_before) = (dim.convoluted, dim.pad_before);
        let Some(last) = convoluted.checked_sub(1) else {
            // Without outputs, padding is whatever has overflowed.
            return PaddedAxis { pad_before: 0, pad_after: 0, convoluted };
        };
        // There may be an output whose kernel leaves the padding: stock tract takes what is beyond for
        // padding, too.
        let reach = last * spec.stride(axis) + (spec.kernel_shape[axis] - 1) * spec.dilation(axis) + 1;
        let beyond = reach.saturating_sub(input + pad_before + dim.pad_after);
        PaddedAxis { pad_before, pad_after: dim.pad_after + beyond, convoluted }
    };
    input.iter().enumerate().map(axis).collect()
}

/// Where an axis of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum OutAxis {
    /// The same axis of the input.
    Input(usize),
    /// The output channels.
    Channels,
    /// An axis of extent one.
    One,
}

/// An `EinSum` of an activation and a constant matrix, seen as a pointwise convolution.
///
/// Apart from the channels, input and output must have the same axes in the same order. The axes before the
/// first of the two channel positions are the batch, the others are the pixels. Several axes of the input
/// that are summed over count as one axis of channels if they are neighbours: what is left of a `Flatten`
/// before a fully connected layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Linear {
    oc: usize,
    ic: usize,
    x_rank: usize,
    /// Axes of the input that hold the input channels, in their order there.
    x_channels: TVec<usize>,
    batch: TVec<usize>,
    pixels: TVec<usize>,
    x_layout: Layout,
    y_layout: Layout,
    out: TVec<OutAxis>,
    /// Axis of the weights that holds the output channels, and those that hold the input channels, in the
    /// order of the input.
    w_axes: (Option<usize>, TVec<usize>),
}

impl Linear {
    /// Recognises the product of input `x_slot` (shape `x`) and constant weights (shape `w`) in the other
    /// slot.
    ///
    /// # Errors
    /// In words, why it is not a pointwise convolution.
    pub fn of(op: &EinSum, x_slot: usize, x: &[TDim], w: &[usize]) -> Result<Linear, &'static str> {
        if op.q_params.is_some() {
            return Err("quantised");
        }
        if op.axes.input_count() != 2 || op.axes.output_count() != 1 {
            return Err("not a product of two operands");
        }
        let w_slot = 1 - x_slot;
        let one = |at: &[usize]| match at {
            [] => Ok(None),
            [axis] => Ok(Some(*axis)),
            _ => Err("an axis occurs twice"),
        };
        let mut o_axis: Option<char> = None;
        let mut w_out = None;
        // position in the input, in the weights, and name of every axis of input channels
        let mut summed: TVec<(usize, usize, char)> = tvec!();
        for axis in op.axes.iter_all_axes() {
            let in_x = one(&axis.inputs[x_slot])?;
            let in_w = one(&axis.inputs[w_slot])?;
            let in_y = one(&axis.outputs[0])?;
            let w_extent = in_w.map_or(1, |a| w[a]);
            match (in_x, in_w, in_y) {
                // An axis of the weights of extent one multiplies nothing.
                (Some(a), Some(_), None) if w_extent == 1 && !x[a].is_one() => {
                    return Err("an axis is summed over without weights");
                }
                (_, Some(_), _) if w_extent == 1 && !matches!((in_x, in_y), (Some(_), Some(_))) => {}
                (Some(a), None, None) if !x[a].is_one() => {
                    return Err("an axis is summed over without weights");
                }
                (Some(_), Some(_), Some(_)) if w_extent != 1 => return Err("weights vary along the batch"),
                (None, Some(a), Some(_)) if o_axis.is_none() => (o_axis, w_out) = (Some(axis.repr), Some(a)),
                (Some(in_x), Some(in_w), None) => summed.push((in_x, in_w, axis.repr)),
                (None, Some(_), _) => return Err("weights are not a matrix"),
                _ => {}
            }
        }
        if summed.iter().any(|(in_x, in_w, _)| x[*in_x].to_usize().is_ok_and(|extent| extent != w[*in_w])) {
            return Err("the input is repeated for the weights");
        }
        summed.sort_unstable();
        let oc = w_out.map_or(1, |a| w[a]);
        let ic = summed.iter().map(|(_, in_w, _)| w[*in_w]).product();
        let is_summed = |c: &char| summed.iter().any(|(_, _, axis)| axis == c);
        let i_axis = summed.first().map(|(_, _, axis)| *axis);
        let (inputs, outputs) = op.axes.to_strs();
        let x_axes: Vec<char> = inputs[x_slot].chars().collect();
        let y_axes: Vec<char> = outputs[0].chars().collect();
        let position: HashMap<char, usize> = x_axes.iter().enumerate().map(|(p, c)| (*c, p)).collect();
        // Axes of extent one can stand anywhere: they are left out of the comparison.
        let unit =
            |c: &char| !is_summed(c) && Some(*c) != o_axis && position.get(c).is_none_or(|p| x[*p].is_one());
        let mut x_seq: Vec<char> = x_axes.iter().copied().filter(|c| !unit(c)).collect();
        if let Some(first) = x_seq.iter().position(is_summed) {
            if !x_seq[first..].iter().take(summed.len()).all(is_summed) {
                return Err("axes that are summed over are apart");
            }
            x_seq.drain(first + 1..first + summed.len());
        }
        let y_seq: Vec<char> = y_axes.iter().copied().filter(|c| !unit(c)).collect();
        let shared: Vec<char> = x_seq.iter().copied().filter(|c| Some(*c) != i_axis).collect();
        let shared_y: Vec<char> = y_seq.iter().copied().filter(|c| Some(*c) != o_axis).collect();
        if shared != shared_y {
            return Err("the product also transposes");
        }
        // Channel positions among the shared axes. A missing channel axis has extent one and may stand last.
        let at = |seq: &[char], axis: Option<char>| seq.iter().position(|c| Some(*c) == axis);
        let x_at = at(&x_seq, i_axis);
        let y_at = at(&y_seq, o_axis);
        let (x_at, y_at) = match (x_at, y_at) {
            (Some(x), Some(y)) => (x, y),
            (Some(x), None) => (x, x),
            (None, Some(y)) => (y, y),
            (None, None) => (shared.len(), shared.len()),
        };
        let (lo, hi) = (x_at.min(y_at), x_at.max(y_at));
        if lo != hi && hi != shared.len() {
            return Err("channels move between pixel axes");
        }
        let axes = |range: &[char]| range.iter().map(|c| position[c]).collect::<TVec<usize>>();
        let (batch, pixels, x_layout, y_layout) = if lo == shared.len() {
            // Channels last on both sides: every other axis is a pixel.
            (tvec!(), axes(&shared), Layout::Interleaved, Layout::Interleaved)
        } else {
            let layout = |at| if at == lo { Layout::Planar } else { Layout::Interleaved };
            (axes(&shared[..lo]), axes(&shared[lo..]), layout(x_at), layout(y_at))
        };
        let out = y_axes
            .iter()
            .map(|c| match position.get(c) {
                _ if Some(*c) == o_axis => OutAxis::Channels,
                Some(p) => OutAxis::Input(*p),
                None => OutAxis::One,
            })
            .collect();
        Ok(Linear {
            oc,
            ic,
            x_rank: x_axes.len(),
            x_channels: summed.iter().map(|(in_x, ..)| *in_x).collect(),
            batch,
            pixels,
            x_layout,
            y_layout,
            out,
            w_axes: (w_out, summed.iter().map(|(_, in_w, _)| *in_w).collect()),
        })
    }

    /// Output channels.
    pub fn oc(&self) -> usize {
        self.oc
    }

    /// Input channels.
    pub fn ic(&self) -> usize {
        self.ic
    }

    /// Position of the channels in the output, if they have an axis.
    pub fn y_channel(&self) -> Option<usize> {
        self.out.iter().position(|a| *a == OutAxis::Channels)
    }

    /// Output pixels per image, if known.
    pub fn pixel_count(&self, x: &[TDim]) -> Option<usize> {
        self.pixels.iter().map(|a| x[*a].to_usize().ok()).product()
    }

    /// Extent of every pixel axis, if known.
    pub fn pixel_dims(&self, x: &[TDim]) -> Option<TVec<usize>> {
        self.pixels.iter().map(|a| x[*a].to_usize().ok()).collect()
    }

    /// Images, if known.
    pub fn batch_count(&self, x: &[TDim]) -> Option<usize> {
        self.batch.iter().map(|a| x[*a].to_usize().ok()).product()
    }

    /// The weights as a row-major `oc` x `ic` matrix.
    ///
    /// # Errors
    /// Weights that are not plain f32.
    pub fn matrix(&self, weights: &Tensor) -> TractResult<Tensor> {
        let ordered = weights.clone();
        let ordered = match self.is_in_order() {
            true => ordered,
            false => ordered.permute_axes(&self.order(weights.rank()))?,
        };
        ordered.into_shape(&[self.oc, self.ic])
    }

    /// Weights whose values are in the order of [`Linear::matrix`], whatever their shape: these, where they are.
    ///
    /// # Errors
    /// As [`Linear::matrix`].
    pub fn in_order(&self, weights: Arc<Tensor>) -> TractResult<Arc<Tensor>> {
        if self.is_in_order() { Ok(weights) } else { Ok(self.matrix(&weights)?.into_arc_tensor()) }
    }

    /// As [`Form::is_planar`].
    fn is_planar(&self) -> bool {
        [self.x_layout, self.y_layout] == [Layout::Planar; 2]
    }

    /// As [`Form::is_single_pixel`].
    fn is_single_pixel(&self, x: &[TDim]) -> bool {
        let mut axes = self.batch.iter().chain(&self.pixels);
        axes.all(|axis| {
            x[*axis].is_one() || (*axis == 0 && x[0].to_usize().map_or(true, |n| n <= FEW_IMAGES))
        })
    }

    /// Whether kernels for lanes of several channels take the layout of this product for an input of this shape.
    pub fn takes_lanes(&self, x: &[TDim]) -> bool {
        self.is_planar() || self.is_single_pixel(x)
    }

    /// Whether weights have output channels outside of input channels; all other axes have extent one.
    fn is_in_order(&self) -> bool {
        let (o, i) = &self.w_axes;
        o.iter().chain(i).is_sorted()
    }

    /// The axes of weights, those of output channels first, then those of input channels.
    fn order(&self, rank: usize) -> TVec<usize> {
        let (o, i) = &self.w_axes;
        let mut order: TVec<usize> = o.iter().chain(i).copied().collect();
        order.extend((0..rank).filter(|axis| !order.contains(axis)).collect::<TVec<_>>());
        order
    }

    /// Shape of a per-output-channel vector that broadcasts over the weights.
    pub fn channel_shape_for_weights(&self, rank: usize) -> TVec<usize> {
        let mut shape = tvec!(1; rank);
        if let Some(o) = self.w_axes.0 {
            shape[o] = self.oc;
        }
        shape
    }

    fn output_shape<D: DimLike>(&self, x: &[D]) -> TractResult<TVec<D>> {
        ensure!(x.len() == self.x_rank, "input has rank {}, expected {}", x.len(), self.x_rank);
        Ok(self
            .out
            .iter()
            .map(|axis| match axis {
                OutAxis::Input(axis) => x[*axis].clone(),
                OutAxis::Channels => self.oc.into(),
                OutAxis::One => 1.into(),
            })
            .collect())
    }

    fn resolve(&self, x: &[usize]) -> TractResult<(ConvGeometry, TVec<usize>)> {
        let shape = self.output_shape(x)?;
        let product = |axes: &[usize]| axes.iter().map(|a| x[*a]).product::<usize>();
        let channels = product(&self.x_channels);
        ensure!(channels == self.ic, "input has {channels} channels, expected {}", self.ic);
        let input = match self.pixels.split_last() {
            Some((along, down)) => [product(down), x[*along]],
            None => [1, 1],
        };
        let geometry = ConvGeometry::new(ConvShape {
            batch: product(&self.batch),
            input,
            x_layout: self.x_layout,
            y_layout: self.y_layout,
            ..ConvShape::square(self.ic, self.oc, 1, 1, 1, 0)
        })?;
        Ok((geometry, shape))
    }
}
