//! Resizing of bytes in quads of channels. Outputs of one input pixel each, those of nearest neighbours, are moved as they
//! are; others are computed as those of floats are, plane by plane.

use super::{Resize, Taps};
use crate::error::KernelError;
use crate::planar::planes;
use crate::quads::{Affine, CHANNELS, dequantize, lookup, quantize};
use crate::scratch;
use crate::target::Target;

impl Taps {
    /// The input pixel of every output, if each is one.
    fn moved(&self) -> Option<&[u32]> {
        let single = self.weights.iter().all(|weight| *weight == 1.0);
        let each = (0..self.output()).all(|output| self.of(output).len() == 1);
        (single && each).then_some(&*self.indices)
    }
}

impl Resize {
    /// Resizes `x`, any number of planes of quads, into `y`, as many; bytes stand for what `of_x` and `of_y` say. A byte is that of
    /// the value that [`Resize::run`] makes of the values of the others, to the bit.
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
        if y.is_empty() || x.is_empty() {
            return Ok(());
        }
        let moved = |taps: &Option<Taps>| taps.as_ref().is_none_or(|taps| taps.moved().is_some());
        if moved(&self.down) && moved(&self.along) {
            self.move_lanes(x, y);
            if of_x != of_y {
                lookup(&of_x.bytes_in(of_y), y);
            }
            return Ok(());
        }
        let [wide_x, wide_y] = [self.x_plane(), self.y_plane()].map(|pixels| CHANNELS * pixels);
        scratch::with(wide_x + wide_y, |wide: &mut [f32]| {
            let (wide_x, wide_y) = wide.split_at_mut(wide_x);
            for (x, y) in x.chunks_exact(self.x_plane()).zip(y.chunks_exact_mut(self.y_plane())) {
                dequantize(target, [1, CHANNELS, x.len()], x, of_x, wide_x)?;
                self.run(target, wide_x, wide_y)?;
                quantize(target, [1, CHANNELS, y.len()], wide_y, of_y, y)?;
            }
            Ok(())
        })
    }

    /// Every output is the pixel that its only tap is.
    fn move_lanes(&self, x: &[u32], y: &mut [u32]) {
        let ([_, width], [rows, columns]) = (self.input, self.output);
        let down = self.down.as_ref().and_then(Taps::moved);
        let along = self.along.as_ref().and_then(Taps::moved);
        for (x, y) in x.chunks_exact(self.x_plane()).zip(y.chunks_exact_mut(rows * columns)) {
            let mut before = None;
            for row in 0..rows {
                let line = down.map_or(row, |down| down[row] as usize);
                let (done, rest) = y.split_at_mut(row * columns);
                let out = &mut rest[..columns];
                let x = &x[line * width..][..width];
                match along {
                    // of neighbouring rows many are the same
                    _ if before == Some(line) => out.copy_from_slice(&done[(row - 1) * columns..]),
                    None => out.copy_from_slice(x),
                    Some(along) => out.iter_mut().zip(along).for_each(|(y, at)| *y = x[*at as usize]),
                }
                before = Some(line);
            }
        }
    }
}
