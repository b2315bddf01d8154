//! The oracle: dense convolution in f64, plain loops, never clever.

use crate::epilogue::Epilogue;
use crate::geometry::{ConvGeometry, Layout};

/// Convolution of any geometry with dense weights `[oc][ic / group][kh][kw]`, accumulated in f64.
///
/// `stored` says which weights take part: a weight that is not stored is skipped even if it meets a NaN or an
/// infinite activation, as in a sparse kernel; `None` stands for all. Slices must have the lengths of the
/// geometry.
pub fn conv(
    geometry: &ConvGeometry,
    weights: &[f32],
    stored: Option<&[bool]>,
    bias: Option<&[f32]>,
    x: &[f32],
    residual: Option<&[f32]>,
    epilogue: &Epilogue,
) -> Vec<f32> {
    let s = geometry.shape();
    let [kh, kw] = s.kernel;
    let [oh, ow] = geometry.output();
    let (icg, ocg) = (s.ic / s.group, s.oc / s.group);
    assert_eq!((weights.len(), x.len()), (s.oc * icg * kh * kw, geometry.x_len()));
    let at = |layout, n: usize, channels: usize, channel: usize, pixels: usize, pixel: usize| match layout {
        Layout::Planar => (n * channels + channel) * pixels + pixel,
        Layout::Interleaved => (n * pixels + pixel) * channels + channel,
    };
    let mut y = vec![0f32; geometry.y_len()];
    if y.is_empty() {
        return y; // of images without pixels there may be any number
    }
    for n in 0..s.batch {
        for o in 0..s.oc {
            for oy in 0..oh {
                for ox in 0..ow {
                    let mut sum = bias.map_or(0.0, |b| b[o] as f64);
                    for i in 0..icg {
                        for ky in 0..kh {
                            for kx in 0..kw {
                                let w = ((o * icg + i) * kh + ky) * kw + kx;
                                if stored.is_some_and(|stored| !stored[w]) {
                                    continue;
                                }
                                let (Some(iy), Some(ix)) = (geometry.tap(0, oy, ky), geometry.tap(1, ox, kx))
                                else {
                                    continue;
                                };
                                let channel = o / ocg * icg + i;
                                let pixel = iy * s.input[1] + ix;
                                let v = x[at(s.x_layout, n, s.ic, channel, geometry.input_pixels(), pixel)];
                                sum += weights[w] as f64 * v as f64;
                            }
                        }
                    }
                    let out = at(s.y_layout, n, s.oc, o, geometry.output_pixels(), oy * ow + ox);
                    let v = epilogue.before.apply(sum as f32);
                    y[out] = epilogue.after.apply(v + residual.map_or(0.0, |r| r[out]));
                }
            }
        }
    }
    y
}
