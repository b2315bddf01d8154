//! What stands between layers, on pairs: values are widened in registers, computed in f32, and rounded once.
//!
//! Loops are over arrays of sixteen lanes, which compilers make vectors of. The last of them ends with the row and
//! overlaps the one before, so that rows of 49 pixels are four vectors and no loop over single ones.

use super::{Numbers, Rounding, Rows, WIDTH, rounding};
use crate::epilogue::Activation;
use crate::error::KernelError;

/// Arithmetic of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// The sum.
    Add,
    /// The first less the second.
    Sub,
    /// The product.
    Mul,
    /// The larger one; of a number and a NaN, the number.
    Max,
    /// The smaller one, likewise.
    Min,
}

/// The second operand of [`arithmetic`].
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// One for each channel of a pair, as they are for all pixels.
    Channels([f32; 2]),
    /// A lane for each pixel.
    Lanes(&'a [u32]),
}

/// `y = x op b` for every lane of a pair of channels; without a second channel the upper halves of `y` are zero.
///
/// # Errors
/// Slices of different lengths.
pub fn arithmetic(
    numbers: impl Into<Numbers>,
    op: Arithmetic,
    x: &[u32],
    b: Operand,
    both: bool,
    y: &mut [u32],
) -> Result<(), KernelError> {
    equal("output", x.len(), y.len())?;
    if let Operand::Lanes(b) = b {
        equal("second operand", x.len(), b.len())?;
    }
    rounding(numbers, Row { function: Binary { op, b }, x, both, y });
    Ok(())
}

/// `y = function(x)` for every lane of a pair of channels; without a second channel the upper halves of `y` are zero.
///
/// # Errors
/// Slices of different lengths.
pub fn unary(
    numbers: impl Into<Numbers>,
    function: Activation,
    x: &[u32],
    both: bool,
    y: &mut [u32],
) -> Result<(), KernelError> {
    equal("output", x.len(), y.len())?;
    rounding(numbers, Row { function, x, both, y });
    Ok(())
}

/// The sums of both channels of a pair over all lanes, in f32.
pub fn sums(numbers: impl Into<Numbers>, x: &[u32]) -> [f32; 2] {
    let mut sums = [0.0; 2];
    rounding(numbers, Sums { x, sums: &mut sums });
    sums
}

fn equal(what: &'static str, expected: usize, got: usize) -> Result<(), KernelError> {
    if expected == got { Ok(()) } else { Err(KernelError::Length { what, expected, got }) }
}

/// The vectors of a row: where each begins, and how many of its first lanes the one before had. Of a row that is
/// shorter than one, none.
#[inline(always)]
fn vectors(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = if len < WIDTH { 0 } else { len };
    (0..end).step_by(WIDTH).map(move |at| {
        let start = at.min(len - WIDTH);
        (start, at - start)
    })
}

#[inline(always)]
fn load(lanes: &[u32], at: usize) -> [u32; WIDTH] {
    let mut vector = [0; WIDTH];
    if let Some(lanes) = lanes[at..].first_chunk::<WIDTH>() {
        vector = *lanes;
    } else {
        vector.iter_mut().zip(&lanes[at..]).for_each(|(to, lane)| *to = *lane);
    }
    vector
}

/// A function of values. Closures would not do: what is not inlined is not compiled for the target.
trait Function {
    /// Computes a vector of both channels, whose first pixel is `at`, in place.
    fn of(&self, rows: &impl Rows, at: usize, values: &mut [[f32; WIDTH]; 2]);
}

/// Computes a row vector by vector.
struct Row<'a, F> {
    function: F,
    x: &'a [u32],
    both: bool,
    y: &'a mut [u32],
}

impl<F: Function> Rounding for Row<'_, F> {
    #[inline(always)]
    fn run(self, rows: &impl Rows) {
        let Row { function, x, both, y } = self;
        if y.len() < WIDTH {
            let mut lanes = [0; WIDTH];
            vector(rows, &function, x, 0, both, &mut lanes);
            y.iter_mut().zip(lanes).for_each(|(y, lane)| *y = lane);
            return;
        }
        for (at, _) in vectors(y.len()) {
            if let Some(y) = y[at..].first_chunk_mut::<WIDTH>() {
                vector(rows, &function, x, at, both, y);
            }
        }
    }
}

#[inline(always)]
fn vector(
    rows: &impl Rows,
    function: &impl Function,
    x: &[u32],
    at: usize,
    both: bool,
    y: &mut [u32; WIDTH],
) {
    let mut values = rows.widen(&load(x, at));
    function.of(rows, at, &mut values);
    if !both {
        values[1] = [0.0; WIDTH];
    }
    rows.pack(&values[0], &values[1], y);
}

struct Binary<'a> {
    op: Arithmetic,
    b: Operand<'a>,
}

impl Function for Binary<'_> {
    #[inline(always)]
    fn of(&self, rows: &impl Rows, at: usize, values: &mut [[f32; WIDTH]; 2]) {
        let other = match self.b {
            Operand::Channels([first, second]) => [[first; WIDTH], [second; WIDTH]],
            Operand::Lanes(b) => rows.widen(&load(b, at)),
        };
        for (values, other) in values.iter_mut().zip(&other) {
            // one loop for each, so that the compiler can vectorise it
            match self.op {
                Arithmetic::Add => {
                    for i in 0..WIDTH {
                        values[i] += other[i];
                    }
                }
                Arithmetic::Sub => {
                    for i in 0..WIDTH {
                        values[i] -= other[i];
                    }
                }
                Arithmetic::Mul => {
                    for i in 0..WIDTH {
                        values[i] *= other[i];
                    }
                }
                Arithmetic::Max => {
                    for i in 0..WIDTH {
                        values[i] = values[i].max(other[i]);
                    }
                }
                Arithmetic::Min => {
                    for i in 0..WIDTH {
                        values[i] = values[i].min(other[i]);
                    }
                }
            }
        }
    }
}

impl Function for Activation {
    #[inline(always)]
    fn of(&self, _: &impl Rows, _: usize, values: &mut [[f32; WIDTH]; 2]) {
        values.iter_mut().for_each(|half| self.apply_slice::<false>(half));
    }
}

struct Sums<'a> {
    x: &'a [u32],
    sums: &'a mut [f32; 2],
}

impl Rounding for Sums<'_> {
    #[inline(always)]
    fn run(self, rows: &impl Rows) {
        let mut sums = [[0f32; WIDTH]; 2];
        if self.x.len() < WIDTH {
            add(rows, &mut sums, &load(self.x, 0));
        }
        for (at, counted) in vectors(self.x.len()) {
            let mut lanes = load(self.x, at);
            for (i, lane) in lanes.iter_mut().enumerate() {
                *lane = if i < counted { 0 } else { *lane };
            }
            add(rows, &mut sums, &lanes);
        }
        *self.sums = [sums[0].iter().sum(), sums[1].iter().sum()];
    }
}

#[inline(always)]
fn add(rows: &impl Rows, sums: &mut [[f32; WIDTH]; 2], lanes: &[u32; WIDTH]) {
    let values = rows.widen(lanes);
    for (sums, values) in sums.iter_mut().zip(&values) {
        for i in 0..WIDTH {
            sums[i] += values[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Half, Target};
    use noise::Noise;

    /// Lanes of two rows of noise, and the rows as they are after rounding.
    fn lanes(numbers: Numbers, noise: &mut Noise, len: usize) -> (Vec<u32>, [Vec<f32>; 2]) {
        let rounded = |v: &f32| numbers.float(numbers.round(*v));
        let rows = [0; 2].map(|_| noise.values(len).iter().map(rounded).collect::<Vec<f32>>());
        ((0..len).map(|i| numbers.pair(rows[0][i], rows[1][i])).collect(), rows)
    }

    const LENGTHS: [usize; 9] = [0, 1, 3, 15, 16, 17, 32, 49, 100];

    #[test]
    fn values_are_computed_in_f32_and_rounded_once() {
        let mut noise = Noise::new(5);
        type Plain = fn(f32, f32) -> f32;
        let all: [(Arithmetic, Plain); 5] = [
            (Arithmetic::Add, |a, b| a + b),
            (Arithmetic::Sub, |a, b| a - b),
            (Arithmetic::Mul, |a, b| a * b),
            (Arithmetic::Max, f32::max),
            (Arithmetic::Min, f32::min),
        ];
        let targets = Target::available().into_iter().map(Numbers::from);
        for numbers in targets.chain(Half::available().into_iter().map(Numbers::from)) {
            let pair = |first, second| numbers.pair(first, second);
            for len in LENGTHS {
                let [(x, a), (lanes_b, b)] = [0; 2].map(|_| lanes(numbers, &mut noise, len));
                for both in [false, true] {
                    let second = |v: f32| if both { v } else { 0.0 };
                    for (op, f) in all {
                        let mut y = vec![1; len];
                        arithmetic(numbers, op, &x, Operand::Lanes(&lanes_b), both, &mut y).unwrap();
                        for (i, y) in y.iter().enumerate() {
                            assert_eq!(*y, pair(f(a[0][i], b[0][i]), second(f(a[1][i], b[1][i]))), "{op:?}");
                        }
                        arithmetic(numbers, op, &x, Operand::Channels([0.3, -2.0]), both, &mut y).unwrap();
                        for (i, y) in y.iter().enumerate() {
                            assert_eq!(*y, pair(f(a[0][i], 0.3), second(f(a[1][i], -2.0))), "{op:?}");
                        }
                    }
                    let mut y = vec![1; len];
                    unary(numbers, Activation::HardSwish, &x, both, &mut y).unwrap();
                    for (i, y) in y.iter().enumerate() {
                        let [first, other] = [a[0][i], a[1][i]].map(|v| Activation::HardSwish.apply(v));
                        assert_eq!(*y, pair(first, second(other)));
                    }
                }
                // of at most a hundred values below one, in another order
                let expected = a.map(|row| row.iter().sum::<f32>());
                let got = sums(numbers, &x);
                assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?} {expected:?}");
            }
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        let (target, mut y) = (Target::SCALAR, [0; 3]);
        assert!(unary(target, Activation::RELU, &[0; 2], true, &mut y).is_err());
        let add = |x: &[u32], b, y: &mut [u32]| arithmetic(target, Arithmetic::Add, x, b, true, y);
        assert!(add(&[0; 2], Operand::Channels([0.0; 2]), &mut y).is_err());
        assert!(add(&[0; 3], Operand::Lanes(&[0; 2]), &mut y).is_err());
    }
}
