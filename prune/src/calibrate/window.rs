//! Which pixels a position of a map reads.

use crate::layer::attribute;
use anyhow::{Context, Result, ensure};
use tract_onnx::pb::NodeProto;

/// The windows of a two-dimensional convolution.
pub(super) struct Window {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
    input: [usize; 2],
    pub(super) out: [usize; 2],
}

impl Window {
    /// Those of `node`, whose map has `input` rows and columns.
    ///
    /// # Errors
    /// Attributes that make no sense, or a kernel larger than its padded input.
    pub(super) fn of(node: &NodeProto, kernel: &[usize], input: [usize; 2]) -> Result<Window> {
        let [kh, kw] = kernel[..] else { anyhow::bail!("a kernel of {} axes", kernel.len()) };
        let pair = |name: &str| -> Result<[usize; 2]> {
            let Some(attribute) = attribute(node, name) else { return Ok([1, 1]) };
            match attribute.ints[..] {
                [a, b] if a > 0 && b > 0 => Ok([a as usize, b as usize]),
                _ => anyhow::bail!("{name} {:?} make no sense", attribute.ints),
            }
        };
        let (stride, dilation) = (pair("strides")?, pair("dilations")?);
        let auto = attribute(node, "auto_pad")
            .map_or("NOTSET".into(), |a| String::from_utf8_lossy(&a.s).to_string());
        let pads: Vec<i64> = attribute(node, "pads").map_or(vec![0; 4], |a| a.ints.clone());
        ensure!(pads.len() == 4 && pads.iter().all(|p| *p >= 0), "pads {pads:?} make no sense");
        let (mut before, mut out) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let reach = [kh, kw][axis]
                .checked_sub(1)
                .and_then(|gaps| gaps.checked_mul(dilation[axis])?.checked_add(1));
            let reach = reach.context("the kernel makes no sense")?;
            let total = match &*auto {
                "SAME_UPPER" | "SAME_LOWER" => {
                    let out = input[axis].div_ceil(stride[axis]);
                    let total = (out.saturating_sub(1).saturating_mul(stride[axis]).saturating_add(reach))
                        .saturating_sub(input[axis]);
                    before[axis] = if auto == "SAME_UPPER" { total / 2 } else { total.div_ceil(2) };
                    total
                }
                "VALID" => 0,
                _ => {
                    before[axis] = pads[axis] as usize;
                    before[axis].saturating_add(pads[axis + 2] as usize)
                }
            };
            let padded = input[axis].saturating_add(total);
            let room = padded.checked_sub(reach).context("the kernel is larger than its input")?;
            out[axis] = room / stride[axis] + 1;
        }
        Ok(Window { kernel: [kh, kw], stride, dilation, before, input, out })
    }

    /// The input pixel that a tap of an output pixel reads; `None` in the padding.
    pub(super) fn index(&self, pixel: usize, tap: usize) -> Option<usize> {
        let at = |axis: usize, out: usize, tap: usize| {
            let i = (out * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.before[axis])?;
            (i < self.input[axis]).then_some(i)
        };
        let y = at(0, pixel / self.out[1], tap / self.kernel[1])?;
        let x = at(1, pixel % self.out[1], tap % self.kernel[1])?;
        Some(y * self.input[1] + x)
    }
}
