//! Kernels beside the oracle in double precision, for any geometry, sparsity, epilogue and split into
//! threads.

use arbitrary::{Arbitrary, Unstructured};
use noise::Noise;
use sparse_kernels::prelude::*;
use sparse_kernels::{reference, table};

#[derive(Debug, Arbitrary)]
struct Input {
    operation: u8,
    batch: u8,
    channels: [u8; 2],
    input: [u8; 2],
    kernel: [u8; 2],
    stride: [u8; 2],
    dilation: [u8; 2],
    pads: [u8; 4],
    interleaved: [bool; 2],
    before: u8,
    after: u8,
    residual: bool,
    bias: bool,
    threads: u8,
    sparsity: u8,
    seed: u64,
    /// A dimension, and what it is instead.
    absurd: Option<(u8, u64)>,
}

/// Real threads, as many as it says, unless it says none.
struct Threads(usize);

impl Parallel for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn for_each(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            let half = tasks / 2;
            scope.spawn(move || (half..tasks).for_each(task));
            (0..half).for_each(task);
        });
    }
}

fn activation(code: u8) -> Activation {
    match code % 6 {
        0 | 1 => Activation::Identity,
        2 => Activation::RELU,
        3 => Activation::RELU6,
        4 => Activation::Clamp { lo: 3.0, hi: -3.0 },
        _ => Activation::LeakyRelu(0.5),
    }
}

/// Integers from -7 to 7: products and sums of so few are exact in f32, in any order.
fn integers(noise: &mut Noise, len: usize) -> Vec<f32> {
    (0..len).map(|_| noise.below(15) as f32 - 7.0).collect()
}

fn shape(input: &Input) -> ConvShape {
    let between = |value: u8, least: usize, most: usize| least + usize::from(value) % (most - least + 1);
    let layout = |interleaved| if interleaved { Layout::Interleaved } else { Layout::Planar };
    let operation = input.operation % 3;
    let [oc, ic] = input.channels.map(|c| between(c, 1, 40));
    let mut shape = ConvShape {
        batch: between(input.batch, 1, 3),
        ic,
        oc,
        input: input.input.map(|d| between(d, 1, 33)),
        kernel: input.kernel.map(|d| between(d, 1, 7)),
        stride: input.stride.map(|d| between(d, 1, 4)),
        dilation: input.dilation.map(|d| between(d, 1, 3)),
        pad_before: [input.pads[0], input.pads[1]].map(|d| between(d, 0, 9)),
        pad_after: [input.pads[2], input.pads[3]].map(|d| between(d, 0, 9)),
        x_layout: layout(input.interleaved[0]),
        y_layout: layout(input.interleaved[1]),
        ..ConvShape::square(1, 1, 1, 1, 1, 0)
    };
    match operation {
        0 => shape.kernel = [1, 1],
        1 => {
            (shape.oc, shape.group, shape.dilation) = (ic, ic, [1, 1]);
            shape.stride = shape.stride.map(|s| s.min(2));
            (shape.x_layout, shape.y_layout) = (Layout::Planar, Layout::Planar);
        }
        _ => (shape.x_layout, shape.y_layout) = (Layout::Planar, Layout::Planar),
    }
    if let Some((which, value)) = input.absurd {
        let value = value as usize;
        match which % 10 {
            0 => shape.batch = value,
            1 => shape.ic = value,
            2 => shape.oc = value,
            3 => shape.input[0] = value,
            4 => shape.kernel[1] = value,
            5 => shape.stride = [value, 1],
            6 => shape.dilation[1] = value,
            7 => shape.pad_before[0] = value,
            8 => shape.pad_before[1] = value,
            _ => shape.pad_after[1] = value,
        }
    }
    shape
}

/// A packed layer on its input.
type Run<'a> = dyn Fn(&mut [f32], &dyn Parallel) -> Result<(), KernelError> + 'a;

/// Runs one input.
pub fn run(bytes: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let Ok(geometry) = ConvGeometry::new(shape(&input)) else { return };
    let s = *geometry.shape();
    // an absurd dimension may have made another operation of it
    let same = match input.operation % 3 {
        0 => s.kernel == [1, 1],
        1 => [s.ic, s.oc] == [s.group; 2],
        _ => true,
    };
    if !same {
        return;
    }
    let sizes = [s.oc, s.ic / s.group, s.kernel[0], s.kernel[1]];
    let weights = sizes.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
    let Some(weights) = weights.filter(|n| *n <= 1 << 16) else { return };
    let work = weights.checked_mul(s.batch).and_then(|n| n.checked_mul(geometry.output_pixels()));
    if work.is_none_or(|n| n > 1 << 22) || geometry.x_len() > 1 << 18 || geometry.y_len() > 1 << 18 {
        return;
    }
    let mut noise = Noise::new(input.seed);
    let mut dense = integers(&mut noise, weights);
    // Groups of 4x4 kernels go, then single weights.
    let window = s.kernel[0] * s.kernel[1];
    let row = s.ic / s.group * window;
    for (i, weight) in dense.iter_mut().enumerate() {
        let group = (i / row / 4 * 31 + i % row / window / 4) * 0x9E37 + input.seed as usize % 97;
        let gone = (group % 8) < usize::from(input.sparsity % 9) || (input.sparsity >= 128 && i % 3 == 0);
        if gone {
            *weight = 0.0;
        }
    }
    let bias = input.bias.then(|| integers(&mut noise, s.oc));
    let (x, residual) = (
        integers(&mut noise, geometry.x_len()),
        input.residual.then(|| integers(&mut noise, geometry.y_len())),
    );
    let epilogue = Epilogue { before: activation(input.before), after: activation(input.after) };
    let (bias, residual) = (bias.as_deref(), residual.as_deref());
    let expected = reference::conv(&geometry, &dense, None, bias, &x, residual, &epilogue);
    let threads = [1, 2, 3, 64, usize::MAX][usize::from(input.threads % 5)];
    let check = |name: &str, run: &Run| {
        let mut y = vec![f32::NAN; geometry.y_len()];
        match run(&mut y, &Threads(threads)) {
            Ok(()) => assert_eq!(y, expected, "{name}: {s:?}"),
            Err(e) => assert!(input.absurd.is_some(), "{name}: {e}: {s:?}"),
        }
    };
    match input.operation % 3 {
        0 => {
            for kernel in table::pointwise_available() {
                let packed = PackedPointwise::from_dense(s.oc, s.ic, &dense, bias, kernel).unwrap();
                check(kernel.info().name, &|y, p| packed.run(&geometry, &x, y, residual, &epilogue, p));
            }
        }
        1 => {
            for kernel in table::depthwise_available().filter(|k| k.accepts(s.kernel)) {
                let packed = PackedDepthwise::from_dense(s.ic, s.kernel, &dense, bias, kernel).unwrap();
                check(kernel.info().name, &|y, p| packed.run(&geometry, &x, y, residual, &epilogue, p));
            }
        }
        _ => {
            for kernel in table::spatial_available() {
                let packed = PackedSpatial::from_dense(s.oc, s.ic, s.kernel, &dense, bias, kernel).unwrap();
                check(kernel.info().name, &|y, p| packed.run(&geometry, &x, y, residual, &epilogue, p));
            }
        }
    }
}
