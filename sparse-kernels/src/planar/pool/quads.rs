//! Pooling of bytes in quads of channels: down the columns of each output row, then along it, as for floats.
//!
//! The largest byte is found among bytes. Sums are exact: the even and the odd bytes of a lane are added up apart, two in
//! 32 bits, as long as 16 bits hold the sum of a window, and each on its own beyond that. What comes of a window is
//! rounded once, to its byte.

use super::{Pool, PoolAxis, Pooling};
use crate::error::KernelError;
use crate::geometry::inside;
use crate::planar::planes;
use crate::quads::{Affine, CHANNELS, bytes, lane, lookup};
use crate::target::Target;
use crate::work::{Work, on};

/// The largest window whose sums 16 bits hold.
const NARROW: usize = (u16::MAX / u8::MAX as u16) as usize;

impl Pool {
    /// Pools `x`, any number of planes of quads, into `y`, as many; bytes stand for what `of_x` and `of_y` say. The largest
    /// byte is that of the largest value, the lowest of none. A sum or mean is
    /// `round(steps / count * (x_scale / y_scale)) + y_zero`, saturated: `steps` are those of the values of the window from their
    /// zero point, added up exactly; all else is f32, and ties are rounded to even.
    ///
    /// # Errors
    /// Slices of another length.
    pub fn run_quads(
        &self,
        target: Target,
        (x, of_x): (&[u32], Affine),
        (y, of_y): (&mut [u32], Affine),
    ) -> Result<(), KernelError> {
        planes(x, self.x_plane(), y, self.y_plane())?;
        if y.is_empty() {
            return Ok(());
        }
        let [down, along] = &self.axes;
        let job = Job { pool: self, x, of_x, y, of_y };
        match self.pooling {
            Pooling::Max => on(target, Bytes(job, Max(of_x.bytes_in(of_y)))),
            _ if down.kernel * along.kernel <= NARROW => on(target, Bytes(job, Narrow)),
            _ => on(target, Bytes(job, Wide)),
        }
        Ok(())
    }
}

struct Job<'a> {
    pool: &'a Pool,
    x: &'a [u32],
    of_x: Affine,
    y: &'a mut [u32],
    of_y: Affine,
}

/// How the lanes of a window become one.
trait Fold: Sized {
    /// What is known of some lanes.
    type Sum: Copy + Default;

    fn add(sum: Self::Sum, lane: u32) -> Self::Sum;

    fn join(a: Self::Sum, b: Self::Sum) -> Self::Sum;

    /// The lane of the output, of a window of so many pixels, of which so many count.
    fn end(&self, ends: &Ends, sum: Self::Sum, pixels: usize, count: usize) -> u32;
}

/// What bytes stand for.
struct Ends {
    of_x: Affine,
    of_y: Affine,
    /// Of a step of the input in steps of the output.
    ratio: f32,
}

impl Ends {
    /// The bytes of sums.
    #[inline(always)]
    fn mean(&self, sums: [u64; CHANNELS], pixels: usize, count: usize) -> u32 {
        let zeros = pixels as i64 * i64::from(self.of_x.zero());
        let (count, ratio) = (count as f32, self.ratio);
        lane(sums.map(|sum| self.of_y.saturated((sum as i64 - zeros) as f32 / count * ratio)))
    }
}

/// Bytes of the input, as bytes of the output.
struct Max([u8; 256]);

impl Fold for Max {
    type Sum = u32;

    #[inline(always)]
    fn add(sum: u32, x: u32) -> u32 {
        let (a, b) = (bytes(sum), bytes(x));
        lane(std::array::from_fn(|c| a[c].max(b[c])))
    }

    #[inline(always)]
    fn join(a: u32, b: u32) -> u32 {
        Max::add(a, b)
    }

    #[inline(always)]
    fn end(&self, ends: &Ends, sum: u32, pixels: usize, _: usize) -> u32 {
        let mut y = [sum];
        match pixels {
            0 => y = [0],
            _ if ends.of_x == ends.of_y => {}
            _ => lookup(&self.0, &mut y),
        }
        y[0]
    }
}

/// Sums of the even and of the odd bytes, each two in 32 bits.
struct Narrow;

impl Fold for Narrow {
    type Sum = [u32; 2];

    #[inline(always)]
    fn add([even, odd]: [u32; 2], x: u32) -> [u32; 2] {
        [even + (x & 0x00ff_00ff), odd + (x >> 8 & 0x00ff_00ff)]
    }

    #[inline(always)]
    fn join(a: [u32; 2], b: [u32; 2]) -> [u32; 2] {
        [a[0] + b[0], a[1] + b[1]]
    }

    #[inline(always)]
    fn end(&self, ends: &Ends, [even, odd]: [u32; 2], pixels: usize, count: usize) -> u32 {
        let sums = [even & 0xffff, odd & 0xffff, even >> 16, odd >> 16];
        ends.mean(sums.map(u64::from), pixels, count)
    }
}

/// Sums of every byte on its own.
struct Wide;

impl Fold for Wide {
    type Sum = [u64; CHANNELS];

    #[inline(always)]
    fn add(sum: [u64; CHANNELS], x: u32) -> [u64; CHANNELS] {
        Wide::join(sum, bytes(x).map(u64::from))
    }

    #[inline(always)]
    fn join(a: [u64; CHANNELS], b: [u64; CHANNELS]) -> [u64; CHANNELS] {
        std::array::from_fn(|c| a[c] + b[c])
    }

    #[inline(always)]
    fn end(&self, ends: &Ends, sum: [u64; CHANNELS], pixels: usize, count: usize) -> u32 {
        ends.mean(sum, pixels, count)
    }
}

struct Bytes<'a, F>(Job<'a>, F);

impl<F: Fold> Work for Bytes<'_, F> {
    #[inline(always)]
    fn run(self) {
        let (Job { pool, x, of_x, y, of_y }, fold) = (self.0, self.1);
        let [down, along] = &pool.axes;
        let ends = Ends { of_x, of_y, ratio: of_x.scale() / of_y.scale() };
        let counted = |axis: &PoolAxis, window| match pool.pooling {
            Pooling::Mean => axis.count(window),
            Pooling::Max | Pooling::Sum => 1,
        };
        let pixels: Vec<[usize; 2]> =
            (0..along.output).map(|window| [along.taps(window).len(), counted(along, window)]).collect();
        let mut columns = vec![F::Sum::default(); along.input];
        let mut row = vec![F::Sum::default(); along.output];
        for (plane, y) in y.chunks_exact_mut(pool.y_plane()).enumerate() {
            let x = &x[plane * pool.x_plane()..][..pool.x_plane()];
            for (window, y) in y.chunks_exact_mut(along.output).enumerate() {
                columns.fill(F::Sum::default());
                let taps = down.taps(window);
                let rows = [taps.len(), counted(down, window)];
                for tap in taps {
                    let line = window * down.stride + tap * down.dilation - down.pad_before;
                    for (sum, x) in columns.iter_mut().zip(&x[line * along.input..][..along.input]) {
                        *sum = F::add(*sum, *x);
                    }
                }
                row.fill(F::Sum::default());
                for tap in 0..along.kernel {
                    let first = tap * along.dilation;
                    let inside = inside(along.pad_before, along.input, first, along.stride, along.output);
                    if inside.is_empty() {
                        continue;
                    }
                    let from = &columns[inside.start * along.stride + first - along.pad_before..];
                    if along.stride == 1 {
                        row[inside].iter_mut().zip(from).for_each(|(sum, x)| *sum = F::join(*sum, *x));
                    } else {
                        let from = from.iter().step_by(along.stride);
                        row[inside].iter_mut().zip(from).for_each(|(sum, x)| *sum = F::join(*sum, *x));
                    }
                }
                for ((y, sum), [taps, count]) in y.iter_mut().zip(&row).zip(&pixels) {
                    *y = fold.end(&ends, *sum, rows[0] * taps, rows[1] * count);
                }
            }
        }
    }
}
