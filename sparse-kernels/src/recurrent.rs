//! What stands between the products of recurrent layers.
//!
//! A step of a pruned recurrent layer is so short that sums, sigmoids and hyperbolic tangents of its gates,
//! as passes of their own, take half as long as the product. Here they are one pass, value by value.

use crate::error::KernelError;
use crate::exp::exp_m1;
use crate::target::Target;
use crate::work::{Work, on};

/// A step of a gated recurrent unit (GRU) whose reset gate scales the finished recurrent product
/// (`linear_before_reset` in ONNX):
///
/// ```text
/// z = sigmoid(input_z + recurrent_z)
/// r = sigmoid(input_r + recurrent_r)
/// h = tanh(input_h + r * recurrent_h)
/// state = h + z * (state - h)
/// ```
///
/// `input` and `recurrent` are the two products, biases included, each `[3, hidden]` with gates in the order
/// z, r, h; `state` is `[hidden]` and is replaced. Gates are right to a few units in the last place; a NaN
/// stays where it is.
///
/// # Errors
/// Products that do not hold three values for each of the state's.
pub fn gru_cell(
    target: Target,
    input: &[f32],
    recurrent: &[f32],
    state: &mut [f32],
) -> Result<(), KernelError> {
    let expected = state.len().saturating_mul(3);
    for (what, got) in [("input-side product", input.len()), ("recurrent product", recurrent.len())] {
        if got != expected {
            return Err(KernelError::Length { what, expected, got });
        }
    }
    on(target, GruCell { input, recurrent, state });
    Ok(())
}

struct GruCell<'a> {
    input: &'a [f32],
    recurrent: &'a [f32],
    state: &'a mut [f32],
}

impl Work for GruCell<'_> {
    /// A division takes as long as ten other operations. Three gates would need three; the update gate and
    /// the new values share theirs. With `u = e^-a` for the update gate's sum `a`, and `m = e^-2b - 1`
    /// for the sum `b` of the new value, `z = 1 / (1 + u)` and `h = -m / (2 + m)`, so that `h + z * (s -
    /// h) = (s * (2 + m) - m * u) / ((1 + u) * (2 + m))`.
    #[inline(always)]
    fn run(self) {
        let hidden = self.state.len();
        let ([xz, xr, xh], [rz, rr, rh]) = (gates(self.input, hidden), gates(self.recurrent, hidden));
        for i in 0..hidden {
            let u = exp_m1(within(-(xz[i] + rz[i]), GATE)) + 1.0;
            let r = 1.0 / (exp_m1(within(-(xr[i] + rr[i]), GATE)) + 2.0);
            let m = exp_m1(within(-2.0 * (xh[i] + r * rh[i]), VALUE));
            let s = self.state[i];
            self.state[i] = (s * (m + 2.0) - m * u) / ((u + 1.0) * (m + 2.0));
        }
    }
}

/// The three gates of a product.
#[inline(always)]
fn gates(product: &[f32], hidden: usize) -> [&[f32]; 3] {
    std::array::from_fn(|gate| &product[gate * hidden..][..hidden])
}

/// Where a sigmoid is less than 1e-13 from its end: no difference beside the state.
const GATE: f32 = 30.0;

/// Where the hyperbolic tangent of half of it is 1.
const VALUE: f32 = 20.0;

/// `x` between `-end` and `end`; NaN of NaN.
#[inline(always)]
fn within(x: f32, end: f32) -> f32 {
    let x = if x < -end { -end } else { x };
    if x > end { end } else { x }
}
