//! Formats taken from parts: what is accepted is a matrix that every kernel computes rightly, the rest is an
//! error.

use arbitrary::{Arbitrary, Unstructured};
use sparse_kernels::format::{DepthwisePattern, DepthwisePatterns};
use sparse_kernels::prelude::*;
use sparse_kernels::{reference, table};

#[derive(Debug, Arbitrary)]
enum Input {
    Blocks { kind: u8, rows: Size, cols: Size, starts: Vec<u32>, columns: Vec<u32>, values: Vec<i8> },
    Depthwise { channels: Size, kernel: [Size; 2], groups: Vec<(Size, u8)>, taps: Vec<i8> },
}

/// Mostly small, sometimes absurd.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Size {
    Small(u8),
    Nine,
    Any(usize),
}

impl Size {
    fn get(self) -> usize {
        match self {
            Size::Small(n) => usize::from(n % 40),
            Size::Nine => 3,
            Size::Any(n) => n,
        }
    }
}

fn floats(values: &[i8]) -> Vec<f32> {
    values.iter().map(|v| if *v == i8::MIN { f32::NAN } else { f32::from(*v) }).collect()
}

fn blocks<const R: usize, const C: usize>(
    rows: usize,
    cols: usize,
    starts: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f32>,
) {
    let Ok(weights) = Blocks::<R, C>::from_parts(rows, cols, starts, columns, values) else { return };
    if rows * cols > 1 << 16 {
        return;
    }
    let dense = weights.to_dense();
    // stored zeros are left out when the dense matrix is compressed again
    assert_eq!(Blocks::<R, C>::from_dense(rows, cols, &dense).unwrap().to_dense(), dense);
    let geometry = ConvGeometry::pointwise(1, cols, rows, 19).unwrap();
    let x: Vec<f32> = (0..geometry.x_len()).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
    let epilogue = Epilogue::default();
    let expected = reference::conv(&geometry, &dense, None, None, &x, None, &epilogue);
    for kernel in table::pointwise_available().filter(|k| k.format() == Blocks::<R, C>::KIND) {
        let packed = PackedPointwise::pack(&weights, None, None, kernel).unwrap();
        let mut y = vec![f32::NAN; geometry.y_len()];
        packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial).unwrap();
        // sums of small integers are exact
        assert_eq!(y, expected, "{}", kernel.info().name);
    }
}

fn depthwise(channels: usize, kernel: [usize; 2], groups: &[(usize, DepthwisePattern)], taps: Vec<f32>) {
    let Ok(weights) = DepthwisePatterns::from_parts(channels, kernel, groups, taps) else { return };
    let dense = weights.to_dense();
    let input = [kernel[0] + 4, kernel[1] + 9];
    let shape =
        ConvShape { group: channels, kernel, input, ..ConvShape::square(channels, channels, 1, 1, 1, 1) };
    let geometry = ConvGeometry::new(shape).unwrap();
    if geometry.x_len() > 1 << 16 {
        return;
    }
    let x: Vec<f32> = (0..geometry.x_len()).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
    let epilogue = Epilogue::default();
    let expected = reference::conv(&geometry, &dense, None, None, &x, None, &epilogue);
    for kernel in table::depthwise_available().filter(|k| k.accepts(weights.kernel())) {
        let packed = PackedDepthwise::pack(weights.clone(), None, kernel).unwrap();
        let mut y = vec![f32::NAN; geometry.y_len()];
        packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial).unwrap();
        assert_eq!(y, expected, "{}", kernel.info().name);
    }
}

/// Runs one input.
pub fn run(bytes: &[u8]) {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    // a matrix of 65536 weights and its images, many times over
    crate::within(256 << 20, || match input {
        Input::Blocks { kind, rows, cols, starts, columns, values } => {
            let (rows, cols, values) = (rows.get(), cols.get(), floats(&values));
            match kind % 5 {
                0 => blocks::<1, 1>(rows, cols, starts, columns, values),
                1 => blocks::<2, 1>(rows, cols, starts, columns, values),
                2 => blocks::<4, 1>(rows, cols, starts, columns, values),
                3 => blocks::<8, 1>(rows, cols, starts, columns, values),
                _ => blocks::<4, 4>(rows, cols, starts, columns, values),
            }
        }
        Input::Depthwise { channels, kernel, groups, taps } => {
            let pattern = |id: u8| DepthwisePattern::from_id(usize::from(id) % 9).unwrap();
            let groups: Vec<_> = groups.iter().map(|(size, id)| (size.get(), pattern(*id))).collect();
            depthwise(channels.get(), kernel.map(Size::get), &groups, floats(&taps));
        }
    });
}
