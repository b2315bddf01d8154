//! What follows a convolution in the same pass: activation, residual add, activation.

use crate::exp::exp;
use crate::pairs::{self, Numbers, Rounding, Rows, f16, rounding, unpack_rows};
use crate::target::Target;
use crate::work::{Work, on};

/// Pixels whose residual is widened at a time.
const PIXELS: usize = 256;

/// An element-wise function of one value. NaN stays NaN.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `min(max(v, lo), hi)`: ReLU is `0, inf`, ReLU6 is `0, 6`.
    Clamp {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// `v < 0 ? alpha * v : v`.
    LeakyRelu(f32),
    /// `v * clamp(v / 6 + 1/2, 0, 1)` (ONNX HardSwish).
    HardSwish,
    /// `1 / (1 + exp(-v))`.
    Sigmoid,
    /// `v * sigmoid(v)`.
    Silu,
}

impl Activation {
    /// ReLU.
    pub const RELU: Activation = Activation::Clamp { lo: 0.0, hi: f32::INFINITY };
    /// ReLU6.
    pub const RELU6: Activation = Activation::Clamp { lo: 0.0, hi: 6.0 };

    /// The function, for one value.
    pub fn apply(self, v: f32) -> f32 {
        match self {
            Activation::Identity => v,
            Activation::Clamp { lo, hi } => clamp(v, lo, hi),
            Activation::LeakyRelu(alpha) => {
                if v < 0.0 {
                    alpha * v
                } else {
                    v
                }
            }
            Activation::HardSwish => v * clamp(v * (1.0 / 6.0) + 0.5, 0.0, 1.0),
            Activation::Sigmoid => sigmoid(v),
            Activation::Silu => v * sigmoid(v),
        }
    }

    /// The function, in place over a slice: within 4 units in the last place of [`Activation::apply`], or within 88
    /// times the smallest normal number, below which the exponential is 0. With `FUSED` the exponential multiplies and adds
    /// in one.
    #[inline(always)]
    pub(crate) fn apply_slice<const FUSED: bool>(self, values: &mut [f32]) {
        match self {
            Activation::Identity => {}
            // One loop per function, so that the compiler can vectorise each; and a loop, not a call of `for_each`, which
            // might be compiled by itself, without the instructions that fuse.
            Activation::Clamp { lo, hi } => {
                for v in values {
                    *v = clamp(*v, lo, hi);
                }
            }
            Activation::HardSwish => {
                for v in values {
                    *v *= clamp(*v * (1.0 / 6.0) + 0.5, 0.0, 1.0);
                }
            }
            // Not a choice between the product and the value that is there, which would be a store under a mask.
            Activation::LeakyRelu(alpha) => {
                for v in values {
                    *v *= if *v < 0.0 { alpha } else { 1.0 };
                }
            }
            Activation::Sigmoid => {
                for v in values {
                    *v = plain_sigmoid::<FUSED>(*v);
                }
            }
            Activation::Silu => {
                for v in values {
                    *v *= plain_sigmoid::<FUSED>(*v);
                }
            }
        }
    }

    /// The bounds if this is a clamp (or nothing): what kernels fuse in registers.
    pub fn as_clamp(self) -> Option<(f32, f32)> {
        match self {
            Activation::Identity => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Clamp { lo, hi } => Some((lo, hi)),
            _ => None,
        }
    }
}

/// NaN stays NaN, and `lo > hi` gives `hi`, as ONNX Clip does (`f32::clamp` panics there).
#[inline(always)]
fn clamp(v: f32, lo: f32, hi: f32) -> f32 {
    let v = if v < lo { lo } else { v };
    if v > hi { hi } else { v }
}

fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + (-v).exp())
}

/// [`sigmoid`] without a call or a branch.
#[inline(always)]
fn plain_sigmoid<const FUSED: bool>(v: f32) -> f32 {
    let e = exp::<FUSED>(-v.abs());
    (if v < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// `after(before(conv + bias) + residual)`; without a residual, `after(before(conv + bias))`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Epilogue {
    /// Applied first.
    pub before: Activation,
    /// Applied after the residual has been added.
    pub after: Activation,
}

impl Epilogue {
    /// A single activation.
    pub fn activation(before: Activation) -> Epilogue {
        Epilogue { before, after: Activation::Identity }
    }

    /// The part that kernels do in registers, and what is left for [`Finish::apply`].
    pub(crate) fn split(&self, residual: bool) -> (Clamps, Option<Finish>) {
        let identity = (f32::NEG_INFINITY, f32::INFINITY);
        match (self.before.as_clamp(), self.after.as_clamp()) {
            (Some((lo, hi)), Some((l, h))) if !residual => {
                let both = (clamp(lo, l, h), clamp(hi, l, h));
                (Clamps { before: both, after: identity, residual }, None)
            }
            (Some(before), Some(after)) => (Clamps { before, after, residual }, None),
            (Some(before), None) => {
                let clamps = Clamps { before, after: identity, residual };
                (clamps, Some(Finish { before: Activation::Identity, residual: false, after: self.after }))
            }
            (None, _) => {
                let clamps = Clamps { before: identity, after: identity, residual: false };
                (clamps, Some(Finish { before: self.before, residual, after: self.after }))
            }
        }
    }
}

/// The epilogue as kernels see it: `clamp(clamp(v, before) + residual, after)`; without a residual just
/// `clamp(v, before)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clamps {
    /// Bounds before the residual.
    pub before: (f32, f32),
    /// Bounds after the residual.
    pub after: (f32, f32),
    /// Whether the kernel adds the residual.
    pub residual: bool,
}

impl Clamps {
    /// Nothing at all.
    pub const NONE: Clamps = {
        let all = (f32::NEG_INFINITY, f32::INFINITY);
        Clamps { before: all, after: all, residual: false }
    };

    /// The sums of one or two channels, finished and rounded to a lane; `residual` is one if it is wanted.
    pub fn pair(&self, sums: &[f32], residual: u32) -> u32 {
        let mut values = [0.0; 2];
        for ((value, sum), residual) in values.iter_mut().zip(sums).zip(pairs::widen(residual)) {
            *value = within(*sum, self.before);
            if self.residual {
                *value = within(*value + residual, self.after);
            }
        }
        pairs::pair(values[0], values[1])
    }

    /// The sum of a channel in f16, finished in the same; `residual` is one if it is wanted.
    pub fn half(&self, sum: u16, residual: u16) -> u16 {
        let clamp = |v: u16, (lo, hi): (f32, f32)| {
            let [lo, hi] = [lo, hi].map(|bound| f16::float(f16::round(bound)));
            f16::round(within(f16::float(v), (lo, hi)))
        };
        let value = clamp(sum, self.before);
        if self.residual { clamp(f16::add(value, residual), self.after) } else { value }
    }
}

/// What is done to rows after a kernel has stored them, while they are in cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish {
    before: Activation,
    /// Whether [`Finish::apply`] wants the residual row.
    pub residual: bool,
    after: Activation,
}

/// What is done to two rows of bare sums (the second perhaps empty), which are rounded to one of pairs: clamps, then
/// [`Finish::apply`]. The residual is a row of pairs.
pub(crate) struct FinishPairs<'a> {
    pub finish: Option<&'a Finish>,
    pub clamps: &'a Clamps,
    pub sums: [&'a mut [f32]; 2],
    pub residual: Option<&'a [u32]>,
    pub y: &'a mut [u32],
}

impl FinishPairs<'_> {
    /// Does it with the instructions for such numbers.
    pub fn on(self, numbers: Numbers) {
        rounding(numbers, self);
    }
}

impl Rounding for FinishPairs<'_> {
    #[inline(always)]
    fn run(self, rows: &impl Rows) {
        let FinishPairs { finish, clamps, sums: [first, second], residual, y } = self;
        for (channel, row) in [&mut *first, &mut *second].into_iter().enumerate() {
            let mut floats = [0f32; PIXELS];
            for (i, row) in row.chunks_mut(PIXELS).enumerate() {
                let floats = &mut floats[..row.len()];
                if let Some(residual) = residual {
                    let lanes = &residual[i * PIXELS..][..floats.len()];
                    match channel {
                        0 => unpack_rows(rows, lanes, floats, &mut []),
                        _ => unpack_rows(rows, lanes, &mut [], floats),
                    }
                }
                row.iter_mut().for_each(|v| *v = within(*v, clamps.before));
                if clamps.residual {
                    row.iter_mut().zip(&*floats).for_each(|(v, r)| *v = within(*v + r, clamps.after));
                }
                if let Some(finish) = finish {
                    finish.apply::<false>(row, residual.map(|_| &*floats));
                }
            }
        }
        rows.pack(first, second, y);
    }
}

#[inline(always)]
fn within(v: f32, (lo, hi): (f32, f32)) -> f32 {
    clamp(v, lo, hi)
}

/// [`FinishPairs`] for neighbouring channels of a single pixel.
pub(crate) struct FinishPixel<'a> {
    pub finish: &'a Finish,
    pub clamps: &'a Clamps,
    pub sums: &'a mut [f32],
    pub residual: Option<&'a [u32]>,
    pub y: &'a mut [u32],
}

impl FinishPixel<'_> {
    /// Does it with the instructions for such numbers.
    pub fn on(self, numbers: Numbers) {
        rounding(numbers, self);
    }
}

impl Rounding for FinishPixel<'_> {
    #[inline(always)]
    fn run(self, rows: &impl Rows) {
        let FinishPixel { finish, clamps, sums, residual, y } = self;
        for (i, sums) in sums.chunks_mut(PIXELS).enumerate() {
            let from = i * PIXELS / 2;
            let mut floats = [0f32; PIXELS];
            let floats = &mut floats[..sums.len()];
            if let Some(residual) = residual {
                for (both, lane) in floats.chunks_mut(2).zip(&residual[from..]) {
                    both.iter_mut().zip(rows.floats(*lane)).for_each(|(v, residual)| *v = residual);
                }
            }
            sums.iter_mut().for_each(|v| *v = within(*v, clamps.before));
            if clamps.residual {
                sums.iter_mut().zip(&*floats).for_each(|(v, r)| *v = within(*v + r, clamps.after));
            }
            finish.apply::<false>(sums, residual.map(|_| &*floats));
            for (both, lane) in sums.chunks(2).zip(&mut y[from..]) {
                *lane = rows.pair(both[0], both.get(1).copied().unwrap_or(0.0));
            }
        }
    }
}

/// [`Finish::apply`] with the instructions of a target.
struct FinishRows<'a, I, const FUSED: bool> {
    finish: &'a Finish,
    rows: I,
}

impl<'a, I: Iterator<Item = Row<'a>>, const FUSED: bool> Work for FinishRows<'_, I, FUSED> {
    #[inline(always)]
    fn run(self) {
        for (row, residual) in self.rows {
            self.finish.apply::<FUSED>(row, residual);
        }
    }
}

/// A row of output, and that of the residual if there is one.
type Row<'a> = (&'a mut [f32], Option<&'a [f32]>);

impl Finish {
    /// Completes rows of output with the instructions of `target`. Those of the residual are as long if [`Finish::residual`]
    /// is set.
    pub fn on<'a>(&self, target: Target, rows: impl Iterator<Item = Row<'a>>) {
        if target.fuses() {
            on(target, FinishRows::<_, true> { finish: self, rows });
        } else {
            on(target, FinishRows::<_, false> { finish: self, rows });
        }
    }

    /// Completes one row of output. `residual` has the length of `row` if [`Finish::residual`] is set.
    #[inline(always)]
    fn apply<const FUSED: bool>(&self, row: &mut [f32], residual: Option<&[f32]>) {
        self.before.apply_slice::<FUSED>(row);
        if let Some(residual) = residual.filter(|_| self.residual) {
            row.iter_mut().zip(residual).for_each(|(v, r)| *v += r);
        }
        self.after.apply_slice::<FUSED>(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 7] = [
        Activation::Identity,
        Activation::RELU,
        Activation::RELU6,
        Activation::LeakyRelu(0.1),
        Activation::HardSwish,
        Activation::Sigmoid,
        Activation::Silu,
    ];

    #[test]
    fn known_values() {
        assert_eq!(Activation::RELU6.apply(7.0), 6.0);
        assert_eq!(Activation::LeakyRelu(0.5).apply(-2.0), -1.0);
        assert_eq!(Activation::HardSwish.apply(3.0), 3.0);
        assert_eq!(Activation::HardSwish.apply(-4.0), 0.0);
        assert_eq!(Activation::Sigmoid.apply(0.0), 0.5);
        assert!(ALL.iter().all(|a| a.apply(f32::NAN).is_nan()));
    }

    #[test]
    fn slices_agree_with_single_values() {
        let mut values: Vec<f32> = (-9500..9500).map(|i| i as f32 * 0.01).collect();
        values.extend([0.0, -0.0, 1e-30, -1e-30, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY]);
        for activation in ALL {
            for apply_slice in [Activation::apply_slice::<false>, Activation::apply_slice::<true>] {
                let mut slice = values.clone();
                apply_slice(activation, &mut slice);
                for (v, got) in values.iter().zip(&slice) {
                    let single = activation.apply(*v);
                    // 88 times what the exponential leaves out, the smallest normal number
                    let most = (4.0 * f32::EPSILON * single.abs()).max(88.0 * f32::MIN_POSITIVE);
                    assert!(
                        *got == single || (got - single).abs() <= most,
                        "{activation:?} of {v}: {got}, {single}"
                    );
                }
                let mut nan = [f32::NAN];
                apply_slice(activation, &mut nan);
                assert!(nan[0].is_nan(), "{activation:?}");
            }
        }
    }

    #[test]
    fn splitting_does_not_change_the_function() {
        for before in ALL {
            for after in ALL {
                for residual in [None, Some(0.75f32)] {
                    let whole = |v: f32| after.apply(before.apply(v) + residual.unwrap_or(0.0));
                    let (clamps, finish) = Epilogue { before, after }.split(residual.is_some());
                    for v in [-5.0f32, -0.1, 0.0, 0.3, 9.0] {
                        let mut row = [clamp(v, clamps.before.0, clamps.before.1)];
                        if clamps.residual {
                            row[0] += residual.unwrap();
                        }
                        row[0] = clamp(row[0], clamps.after.0, clamps.after.1);
                        if let Some(finish) = finish {
                            finish.apply::<false>(&mut row, residual.as_ref().map(std::slice::from_ref));
                        }
                        // two functions, each within 4 units in the last place, none steeper than 1.1
                        let (expected, most) = (whole(v), 9.0 * f32::EPSILON);
                        let apart = (row[0] - expected).abs() / expected.abs().max(1.0);
                        assert!(
                            apart <= most,
                            "{before:?} {after:?} {residual:?} {v}: {}, {expected}",
                            row[0]
                        );
                    }
                }
            }
        }
    }
}
