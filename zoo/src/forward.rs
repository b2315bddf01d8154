//! The operators of the networks in plain loops, batch 1, to calibrate weights while a network is built. Only
//! additions, multiplications, square roots and comparisons in a fixed order, so that every machine gets the
//! same bits.

/// Activations of one image: `channels` planes of `h` x `w`.
#[derive(Debug, Clone)]
pub(crate) struct Planes {
    pub(crate) channels: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) data: Vec<f32>,
}

impl Planes {
    pub(crate) fn zeros(channels: usize, h: usize, w: usize) -> Planes {
        Planes { channels, h, w, data: vec![0.0; channels * h * w] }
    }

    pub(crate) fn pixels(&self) -> usize {
        self.h * self.w
    }

    fn plane(&self, channel: usize) -> &[f32] {
        &self.data[channel * self.pixels()..(channel + 1) * self.pixels()]
    }

    pub(crate) fn map(mut self, f: impl Fn(f32) -> f32) -> Planes {
        self.data.iter_mut().for_each(|v| *v = f(*v));
        self
    }
}

/// A square window: size, stride, zeros above and left, output height and width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) k: usize,
    pub(crate) stride: usize,
    pub(crate) before: (usize, usize),
    pub(crate) out: (usize, usize),
}

impl Window {
    /// Calls `f(output start, input start, length)` for every run of outputs of one row that read tap (`ky`,
    /// `kx`) inside the image; inputs are `stride` apart.
    fn runs(&self, x: &Planes, (ky, kx): (usize, usize), mut f: impl FnMut(usize, usize, usize)) {
        let (oh, ow) = self.out;
        // first output whose tap is inside, and the first one after the last
        let inside = |tap: usize, before: usize, size: usize, out: usize| {
            let first = before.saturating_sub(tap).div_ceil(self.stride).min(out);
            let end = (size + before).saturating_sub(tap).div_ceil(self.stride).min(out);
            first..end.max(first)
        };
        let columns = inside(kx, self.before.1, x.w, ow);
        if columns.is_empty() {
            return;
        }
        for oy in inside(ky, self.before.0, x.h, oh) {
            let iy = oy * self.stride + ky - self.before.0;
            let ix = columns.start * self.stride + kx - self.before.1;
            f(oy * ow + columns.start, iy * x.w + ix, columns.len());
        }
    }
}

/// Convolution without bias; `w` is `oc x (channels / groups) x k x k`.
pub(crate) fn conv(x: &Planes, w: &[f32], oc: usize, groups: usize, window: Window) -> Planes {
    let mut y = Planes::zeros(oc, window.out.0, window.out.1);
    let (k, stride, pixels) = (window.k, window.stride, y.pixels());
    let (ic, oc_group) = (x.channels / groups, oc / groups);
    for (o, acc) in y.data.chunks_mut(pixels).enumerate() {
        for i in 0..ic {
            let plane = x.plane(o / oc_group * ic + i);
            for tap in 0..k * k {
                let weight = w[(o * ic + i) * k * k + tap];
                if weight == 0.0 {
                    continue;
                }
                window.runs(x, (tap / k, tap % k), |to, from, n| {
                    let acc = &mut acc[to..to + n];
                    if stride == 1 {
                        acc.iter_mut().zip(&plane[from..from + n]).for_each(|(a, v)| *a += weight * v);
                    } else {
                        acc.iter_mut()
                            .zip(plane[from..].iter().step_by(stride))
                            .for_each(|(a, v)| *a += weight * v);
                    }
                });
            }
        }
    }
    y
}

/// Maximum over a window; padding never wins.
pub(crate) fn max_pool(x: &Planes, window: Window) -> Planes {
    let mut y = Planes::zeros(x.channels, window.out.0, window.out.1).map(|_| f32::NEG_INFINITY);
    let pixels = y.pixels();
    for (channel, acc) in y.data.chunks_mut(pixels).enumerate() {
        let plane = x.plane(channel);
        for tap in 0..window.k * window.k {
            window.runs(x, (tap / window.k, tap % window.k), |to, from, n| {
                acc[to..to + n]
                    .iter_mut()
                    .zip(plane[from..].iter().step_by(window.stride))
                    .for_each(|(a, v)| *a = a.max(*v));
            });
        }
    }
    y
}

/// Mean of every plane.
pub(crate) fn mean_pool(x: &Planes) -> Planes {
    let data = (0..x.channels).map(|c| moments(x.plane(c)).0 as f32).collect();
    Planes { channels: x.channels, h: 1, w: 1, data }
}

/// `f` of every pixel of `a` and the same pixel of `b`, whose planes may be a single pixel.
pub(crate) fn zip(a: &Planes, b: &Planes, f: impl Fn(f32, f32) -> f32) -> Planes {
    let mut y = a.clone();
    let pixels = a.pixels();
    for (channel, plane) in y.data.chunks_mut(pixels).enumerate() {
        let other = b.plane(channel);
        let step = usize::from(other.len() > 1);
        plane.iter_mut().enumerate().for_each(|(i, v)| *v = f(*v, other[i * step]));
    }
    y
}

/// Mean and variance.
pub(crate) fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = values.iter().map(|v| (f64::from(*v) - mean) * (f64::from(*v) - mean)).sum::<f64>() / n;
    (mean, variance)
}
