//! Cells of recurrent layers against the formula in double precision, on every target of this machine.

mod common;

use common::Noise;
use proptest::prelude::*;
use sparse_kernels::prelude::*;
use sparse_kernels::recurrent::gru_cell;

fn plain_gru_cell(input: &[f32], recurrent: &[f32], state: &[f32]) -> Vec<f64> {
    let hidden = state.len();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let cell = |i: usize| {
        let gate = |g: usize| (f64::from(input[g * hidden + i]), f64::from(recurrent[g * hidden + i]));
        let ([(xz, rz), (xr, rr), (xh, rh)], state) = ([0, 1, 2].map(gate), f64::from(state[i]));
        let h = (xh + sigmoid(xr + rr) * rh).tanh();
        h + sigmoid(xz + rz) * (state - h)
    };
    (0..hidden).map(cell).collect()
}

/// Sums of two single-precision products are rounded before a gate sees them: that is an error of half a unit
/// of the sum, in a slope of at most one. The gates add some units of their own.
fn assert_cells(target: Target, input: &[f32], recurrent: &[f32], state: &[f32]) {
    let hidden = state.len();
    let expected = plain_gru_cell(input, recurrent, state);
    let mut got = state.to_vec();
    gru_cell(target, input, recurrent, &mut got).unwrap();
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let sums = (0..3).map(|g| input[g * hidden + i].abs() + recurrent[g * hidden + i].abs());
        let largest = sums.fold(state[i].abs().max(1.0), f32::max);
        let bound = 4.0 * f64::from(f32::EPSILON * largest);
        assert!(
            (f64::from(*got) - expected).abs() <= bound,
            "{target}, {i} of {hidden}: {got} instead of {expected}"
        );
    }
}

proptest! {
    #[test]
    fn cells_agree_with_the_formula(
        hidden in 0..80usize,
        scale in prop::sample::select(vec![0.01f32, 1.0, 10.0, 100.0]),
        seed in any::<u64>(),
    ) {
        let mut noise = Noise::new(seed);
        let [input, recurrent] = [(); 2].map(|()| noise.values(3 * hidden).iter().map(|x| x * scale).collect::<Vec<_>>());
        let state = noise.values(hidden);
        for target in common::targets() {
            assert_cells(target, &input, &recurrent, &state);
        }
    }
}

#[test]
fn small_values_keep_their_digits() {
    for target in common::targets() {
        let mut state = [0.0; 17];
        let input: Vec<f32> = (0..51).map(|i| if i < 34 { 0.0 } else { 1e-6 * (i - 33) as f32 }).collect();
        gru_cell(target, &input, &[0.0; 51], &mut state).unwrap();
        for (i, state) in state.iter().enumerate() {
            let expected = 0.5 * 1e-6 * (i + 1) as f32; // half of the old state, which is zero, half of the new value
            assert!((state - expected).abs() <= 4.0 * f32::EPSILON * expected, "{target}: {state}");
        }
    }
}

#[test]
fn gates_that_are_far_out_are_open_or_shut() {
    for target in common::targets() {
        for (z, h, expected) in [
            (f32::INFINITY, 7.0, 0.25),
            (1e30, -1e30, 0.25),
            (-1e30, f32::INFINITY, 1.0),
            (f32::NEG_INFINITY, -1e30, -1.0),
        ] {
            let mut state = [0.25];
            gru_cell(target, &[z, 0.0, h], &[0.0; 3], &mut state).unwrap();
            assert!((state[0] - expected).abs() <= f32::EPSILON, "{target} {z} {h}: {state:?}");
        }
        let mut states = [0.5; 3];
        gru_cell(target, &[f32::NAN, 0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0], &[1.0; 9], &mut states)
            .unwrap();
        assert!(states[0].is_nan() && states[1].is_nan() && !states[2].is_nan(), "{target}: {states:?}");
    }
}

#[test]
fn products_of_another_length_are_refused() {
    for lengths in [[5, 6], [6, 7], [0, 6]] {
        let [input, recurrent] = lengths.map(|length| vec![0.0; length]);
        assert!(gru_cell(Target::SCALAR, &input, &recurrent, &mut [0.0; 2]).is_err());
    }
}
