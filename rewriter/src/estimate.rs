//! How the predicted time of a layer depends on how sparse it is: break-even points, and times of weights
//! that nobody has pruned yet.

use crate::analyse::{Layer, LayerKind, LayerShape};
use crate::choose::{Neighbours, PRUNED_SHARE};
use crate::costs::{Costs, Key, Work};
use crate::policy::Policy;
use sparse_kernels::format::{DepthwisePatterns, FormatKind, Stats};
use sparse_kernels::prelude::{ConvShape, Target, table};
use sparse_kernels::{depthwise, spatial};
use sparse_ops::{Half, Int8, Packing};
use tract_core::internal::*;

/// Every packing in which our kernels can run a layer of this shape.
///
/// # Errors
/// The reason why there is none.
pub(crate) fn packings(shape: &LayerShape, target: Target) -> Result<Vec<Packing>, &'static str> {
    if shape.transposed && shape.group > 1 {
        return Err("transposed with channel groups");
    }
    let conv = shape.conv_shape();
    let ungrouped = ConvShape { group: 1, ..conv };
    if u32::try_from(shape.oc * shape.ic * shape.taps()).is_err() {
        return Err("too many channels for their weights to be numbered");
    }
    let pointwise = || Ok(FormatKind::POINTWISE.map(Packing::Pointwise).to_vec());
    match shape.kind() {
        // Of a transposed convolution, the product that it begins with.
        LayerKind::Pointwise | LayerKind::Transposed => pointwise(),
        LayerKind::Grouped if shape.taps() == 1 => pointwise(),
        // Depthwise kernels that are made for no size add tap after tap to rows of outputs, which is slower
        // than single weights of the ungrouped layer.
        LayerKind::Depthwise => {
            let made_for = table::depthwise(target, conv.kernel).is_some_and(|k| k.kernel().is_some());
            let single = Packing::Spatial(FormatKind::ROWS_1);
            if !made_for || depthwise::supports(&conv).is_err() {
                spatial::supports(&ungrouped)?;
                return Ok(vec![single]);
            }
            // All taps of a large kernel are many: where few are not zero, single weights leave out the others.
            let large = shape.taps() > 25 && spatial::supports(&ungrouped).is_ok();
            Ok([Packing::Depthwise(conv.kernel)].into_iter().chain(large.then_some(single)).collect())
        }
        LayerKind::Spatial | LayerKind::Grouped => {
            spatial::supports(&ungrouped)?;
            Ok(FormatKind::SPATIAL.map(Packing::Spatial).to_vec())
        }
    }
}

/// Every packing in which our kernels for quads of channels can run a layer of this shape.
pub(crate) fn int8_packings(shape: &LayerShape) -> Vec<Packing> {
    let conv = shape.conv_shape();
    let spatial = spatial::supports(&ConvShape { group: 1, ..conv }).is_ok();
    match shape.kind() {
        LayerKind::Depthwise if depthwise::supports(&conv).is_ok() => vec![Packing::Depthwise(conv.kernel)],
        LayerKind::Depthwise if spatial => vec![Packing::Spatial(FormatKind::ROWS_1)],
        LayerKind::Pointwise => FormatKind::POINTWISE.map(Packing::Pointwise).to_vec(),
        LayerKind::Grouped if shape.taps() == 1 => FormatKind::POINTWISE.map(Packing::Pointwise).to_vec(),
        LayerKind::Spatial | LayerKind::Grouped if spatial => {
            FormatKind::SPATIAL.map(Packing::Spatial).to_vec()
        }
        _ => vec![],
    }
}

/// What a packing stores of a layer's weights.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// Blocks of a matrix.
    Blocks(Stats),
    /// Taps over all channels of a depthwise layer.
    Taps(usize),
}

impl Stored {
    /// Of these weights.
    pub(crate) fn of(layer: &Layer, packing: Packing) -> TractResult<Stored> {
        Ok(match packing {
            Packing::Pointwise(format) | Packing::Spatial(format) => Stored::Blocks(layer.stats(format)),
            Packing::Depthwise(taps) => {
                Stored::Taps(DepthwisePatterns::from_dense(layer.shape.oc, taps, layer.values()?)?.stored())
            }
        })
    }

    /// Of these weights as the kernel for pairs stores them; none if there is no such kernel.
    pub(crate) fn of_half(layer: &Layer, packing: Packing, half: Half) -> TractResult<Option<Stored>> {
        match packing {
            Packing::Pointwise(format) => {
                Ok(Some(Stored::Blocks(layer.stats(table::pointwise_half(half, format).format()))))
            }
            Packing::Spatial(format) => {
                rule_if_some!(kernel = table::spatial_half(half, format));
                Ok(Some(Stored::Blocks(layer.spatial_stats(kernel)?)))
            }
            Packing::Depthwise(_) => Stored::of(layer, packing).map(Some),
        }
    }

    /// Of a layer of which a share of the groups is stored, spread evenly.
    fn share(shape: &LayerShape, packing: Packing, share: f64) -> Stored {
        match packing {
            Packing::Pointwise(format) | Packing::Spatial(format) => {
                let (block_rows, cols) = (shape.rows().div_ceil(format.r()), shape.weights() / shape.rows());
                let blocks = (share * (block_rows * cols.div_ceil(format.c())) as f64).round() as usize;
                Stored::Blocks(Stats {
                    kind: format,
                    density: share,
                    blocks,
                    block_density: share,
                    fill: 1.0,
                    bytes: 4 * (block_rows + 1 + blocks + blocks * format.r() * format.c()),
                    dead_rows: 0,
                    dead_cols: 0,
                })
            }
            Packing::Depthwise(_) => Stored::Taps((share * shape.weights() as f64).round() as usize),
        }
    }

    /// Stored weights.
    pub(crate) fn weights(&self) -> usize {
        match self {
            Stored::Blocks(stats) => stats.blocks * stats.kind.r() * stats.kind.c(),
            Stored::Taps(taps) => *taps,
        }
    }
}

/// Predicted nanoseconds of our kernel for weights stored in this way; of a transposed convolution, those of
/// its product.
pub(crate) fn sparse_ns(shape: &LayerShape, packing: Packing, costs: Costs, stored: &Stored) -> f64 {
    let (key, work) = work(shape, packing, costs.target(), stored);
    costs.predict(key, &work)
}

/// As [`sparse_ns`], in half precision, input and output in pairs of channels.
pub(crate) fn half_ns(
    shape: &LayerShape,
    packing: Packing,
    half: Half,
    costs: Costs,
    stored: &Stored,
) -> f64 {
    let (f32, work) = work(shape, packing, costs.target(), stored);
    let product = shape.product();
    let shape = product.as_ref().unwrap_or(shape);
    match (packing, stored) {
        (Packing::Pointwise(format), Stored::Blocks(stats)) => {
            let kernel = table::pointwise_half(half, format);
            let work = Work::pointwise(kernel.info(), kernel.vector(), shape, stats);
            let key = Key::HalfPointwise(kernel.format(), shape.pixels == Some(1));
            costs.predict_half(key, f32, &work)
        }
        (Packing::Spatial(format), Stored::Blocks(stats)) => {
            let Some(kernel) = table::spatial_half(half, format) else { return costs.predict(f32, &work) };
            let work = Work::spatial(kernel.info(), kernel.vector(), shape, stats);
            costs.predict_half(Key::HalfSpatial(kernel.format()), f32, &work)
        }
        _ => costs.predict_half(Key::HalfDepthwise(stride_class(shape)), f32, &work),
    }
}

/// Predicted nanoseconds in int8, input and output in quads of channels.
pub(crate) fn int8_ns(layer: &Layer, packing: Packing, int8: Int8, costs: Costs) -> TractResult<f64> {
    let shape = &layer.shape;
    Ok(match packing {
        Packing::Pointwise(format) => {
            let (kernel, one) = (table::pointwise_int8(int8, format), shape.pixels == Some(1));
            let format = kernel.format();
            let work = Work::pointwise(kernel.info(), kernel.vector(), shape, &layer.stats(format));
            // kernels of floats read rows where weights are neighbours along inputs only
            let of_floats = match format {
                FormatKind::BLOCKS_2X4 => FormatKind::ROWS_2,
                FormatKind::BLOCKS_1X4 => FormatKind::ROWS_1,
                other => other,
            };
            costs.predict_int8(Key::Int8Pointwise(format, one), Key::Pointwise(of_floats, one), &work)
        }
        Packing::Depthwise(taps) => {
            let vector = table::depthwise_int8(int8, taps).map_or(1, |kernel| kernel.vector());
            let stride = stride_class(shape);
            // its kernels go through all taps
            let work = Work::depthwise(vector, shape, shape.weights());
            costs.predict_int8(Key::Int8Depthwise(stride), Key::Depthwise(stride), &work)
        }
        Packing::Spatial(format) => {
            let kernel = table::spatial_int8(int8, format);
            let work = Work::spatial(kernel.info(), kernel.vector(), shape, &layer.spatial_stats(kernel)?);
            costs.predict_int8(Key::Int8Spatial(kernel.format()), Key::Spatial(kernel.format()), &work)
        }
    })
}

/// What there is to do for weights stored in this way, and the line of a cost table that says how long it takes.
fn work(shape: &LayerShape, packing: Packing, target: Target, stored: &Stored) -> (Key, Work) {
    let product = shape.product();
    let shape = product.as_ref().unwrap_or(shape);
    match (packing, stored) {
        (Packing::Pointwise(format), Stored::Blocks(stats)) => {
            let kernel = table::pointwise(target, format);
            let mut work = Work::pointwise(kernel.info(), kernel.vector(), shape, stats);
            if shape.group > 1 {
                let rows = shape.oc.div_ceil(format.r());
                // A row has weights in one chunk of channels, but is gone through for each.
                work.rows *= kernel.chunks(shape.ic - stats.dead_cols, stats.blocks, rows) as f64;
            }
            (Key::pointwise(format, shape), work)
        }
        (Packing::Spatial(format), Stored::Blocks(stats)) => {
            let kernel = table::spatial(target, format);
            (Key::Spatial(format), Work::spatial(kernel.info(), kernel.vector(), shape, stats))
        }
        (Packing::Depthwise(taps), Stored::Taps(stored)) => {
            let vector = table::depthwise(target, taps).map_or(1, |kernel| kernel.vector());
            (Key::Depthwise(stride_class(shape)), Work::depthwise(vector, shape, *stored))
        }
        _ => unreachable!("blocks and taps are stored by different packings"),
    }
}

/// Predicted nanoseconds of stock tract; of a transposed convolution, those of its product.
pub fn stock_ns(shape: &LayerShape, costs: Costs) -> f64 {
    let product = shape.product();
    let shape = product.as_ref().unwrap_or(shape);
    let key = match shape.kind() {
        LayerKind::Pointwise => Key::StockPointwise(shape.pixels == Some(1)),
        // Stock tract multiplies the groups one after the other. That of as many multiplications without
        // groups is less than their time by a tenth at least, and by much more if groups are small.
        LayerKind::Grouped if shape.taps() == 1 => Key::StockPointwise(shape.pixels == Some(1)),
        LayerKind::Depthwise => Key::StockDepthwise(stride_class(shape)),
        LayerKind::Spatial | LayerKind::Grouped | LayerKind::Transposed => Key::StockSpatial,
    };
    costs.predict(key, &Work::stock(shape))
}

/// Strides that cost tables tell apart: 1, and more.
fn stride_class(shape: &LayerShape) -> usize {
    shape.stride.iter().copied().max().unwrap_or(1).min(2)
}

/// One way to run a layer of a shape here, and its predicted time at every density.
///
/// Predictions are sums of parts of which some grow in proportion to the stored weights: the time is a
/// straight line in the share of the weights that is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Way {
    packing: Packing,
    stock_ns: f64,
    empty_ns: f64,
    dense_ns: f64,
}

impl Way {
    /// Every way to run a layer of this shape on the kernels of the target of `costs`.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn all(shape: &LayerShape, costs: Costs) -> Result<Vec<Way>, &'static str> {
        let stock_ns = stock_ns(shape, costs);
        let at = |packing, share| sparse_ns(shape, packing, costs, &Stored::share(shape, packing, share));
        let way = |packing| Way { packing, stock_ns, empty_ns: at(packing, 0.0), dense_ns: at(packing, 1.0) };
        Ok(packings(shape, costs.target())?.into_iter().map(way).collect())
    }

    /// How the weights are stored.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Predicted nanoseconds of stock tract on the same layer.
    pub fn stock_ns(&self) -> f64 {
        self.stock_ns
    }

    /// Predicted nanoseconds with this share of the weights stored, zeros inside of stored groups included.
    pub fn ns(&self, stored: f64) -> f64 {
        self.empty_ns + stored * (self.dense_ns - self.empty_ns)
    }

    /// The largest stored share at which the layer is `min_gain` times as fast as stock tract, at most 1;
    /// `None` if no number of zeros is enough.
    pub fn break_even(&self, min_gain: f64) -> Option<f64> {
        let allowed = self.stock_ns / min_gain;
        if self.ns(1.0) <= allowed {
            return Some(1.0);
        }
        let share = (allowed - self.empty_ns) / (self.dense_ns - self.empty_ns);
        (share > 0.0).then_some(share)
    }
}

/// The density below which weights pruned in this packing run sparse under a policy; `None` if there is none.
/// A layer among dense ones must leave out a tenth of its weights, whatever the gain.
pub fn break_even(
    shape: &LayerShape,
    packing: Packing,
    policy: &Policy,
    neighbours: Neighbours,
) -> Option<f64> {
    let ways = Way::all(shape, policy.costs()).ok()?;
    let way = ways.iter().find(|way| way.packing == packing)?;
    let takes_dense = policy.takes_dense(neighbours);
    if takes_dense && way.break_even(policy.asked_gain(shape, true)) == Some(1.0) {
        return Some(1.0);
    }
    let share = way.break_even(policy.min_gain)?;
    Some(if takes_dense { share } else { share.min(PRUNED_SHARE) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::{Decision, choose};
    use crate::policy::Mode;

    fn pointwise(oc: usize, ic: usize, hw: usize) -> LayerShape {
        LayerShape::pointwise(oc, ic, [hw, hw])
    }

    /// A matrix of whole 4x4 blocks of which a share is kept.
    fn blocks(oc: usize, ic: usize, share: f64) -> Vec<f32> {
        let columns = ic / 4;
        let keep = |block: usize| ((block * 7919) % 1000) as f64 / 1000.0 < share;
        (0..oc * ic).map(|i| f32::from(keep(i / ic / 4 * columns + i % ic / 4))).collect()
    }

    #[test]
    fn the_line_is_what_the_chooser_predicts() {
        let policy = Policy { mode: Mode::Always, min_gain: 1.0, ..Policy::default() };
        let shape = pointwise(64, 128, 14);
        for share in [0.1, 0.4, 0.7] {
            let weights = Tensor::from_shape(&[64, 128], &blocks(64, 128, share)).unwrap();
            let layer = Layer::new(shape.clone(), weights.into_arc_tensor()).unwrap().unwrap();
            let Decision::Sparse(choice) = choose(&layer, &policy, Neighbours::Dense).unwrap() else {
                panic!("not chosen")
            };
            let way = Way::all(&shape, policy.costs()).unwrap();
            let way = way.iter().find(|way| way.packing() == choice.packing).unwrap();
            let stored = layer.stats(choice.packing.format().unwrap()).block_density;
            let predicted = way.ns(stored);
            // The chooser rounds to nanoseconds. It also knows the input channels that no weight is left of,
            // which the line takes for used: of few blocks, some columns have none.
            let unused = if share < 0.4 { 0.02 * predicted } else { 0.0 };
            let below = predicted - choice.sparse_ns as f64;
            assert!((-2.0..=2.0 + unused).contains(&below), "{predicted} {choice:?}");
        }
    }

    #[test]
    fn gains_end_at_the_break_even() {
        for target in Target::available() {
            for shape in [pointwise(512, 512, 14), pointwise(64, 384, 14), pointwise(1000, 1024, 1)] {
                for way in Way::all(&shape, Costs::built_in(target)).unwrap() {
                    let Some(even) = way.break_even(1.1) else { continue };
                    assert!((0.0..=1.0).contains(&even));
                    assert!(way.stock_ns() / way.ns(0.99 * even) >= 1.1, "{target} {way:?}");
                    if even < 1.0 {
                        assert!(way.stock_ns() / way.ns(1.01 * even) < 1.1, "{target} {way:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_pruned_layer_brings_its_dense_neighbours_along() {
        let policy = Policy::default();
        let shape = LayerShape { group: 64, ..pointwise(64, 64, 56) };
        let shape = LayerShape { kernel: tvec!(3, 3), ..shape };
        let dense = Tensor::from_shape(&[64, 1, 9], &[1f32; 64 * 9]).unwrap().into_arc_tensor();
        let depthwise = Layer::new(shape, dense).unwrap().unwrap();
        let pruned = Tensor::from_shape(&[64, 64], &blocks(64, 64, 0.1)).unwrap().into_arc_tensor();
        let pruned = Layer::new(pointwise(64, 64, 56), pruned).unwrap().unwrap();
        let runs_here =
            |layer: &Layer, neighbours| choose(layer, &policy, neighbours).unwrap().choice().is_some();
        assert!(!runs_here(&depthwise, Neighbours::Dense) && runs_here(&depthwise, Neighbours::Sparse));
        assert!(runs_here(&pruned, Neighbours::Dense));
    }
}
