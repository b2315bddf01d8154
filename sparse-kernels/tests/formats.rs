//! Round trips, refused inputs and statistics of the formats.

use proptest::prelude::*;
use sparse_kernels::format::{Nonzeros, stats};
use sparse_kernels::prelude::*;

/// Rows and columns of a random matrix, less one: Miri takes seconds for what takes microseconds.
const MOST: usize = if cfg!(miri) { 7 } else { 20 };

fn matrix() -> impl Strategy<Value = (usize, usize, Vec<f32>)> {
    (1..MOST, 1..MOST, 0f64..=1.0).prop_flat_map(|(rows, cols, density)| {
        let weight = prop_oneof![Just(0f32), Just(-0f32), -2f32..2.0];
        prop::collection::vec((weight, prop::bool::weighted(density)), rows * cols).prop_map(move |v| {
            (rows, cols, v.into_iter().map(|(v, keep)| if keep { v } else { 0.0 }).collect())
        })
    })
}

fn check<const R: usize, const C: usize>(rows: usize, cols: usize, dense: &[f32]) {
    let blocks = Blocks::<R, C>::from_dense(rows, cols, dense).unwrap();
    assert_eq!(blocks.to_dense(), dense);
    let parts = Blocks::<R, C>::from_parts(
        rows,
        cols,
        blocks.starts().to_vec(),
        blocks.columns().to_vec(),
        blocks.values().to_vec(),
    );
    assert_eq!(parts.as_ref(), Ok(&blocks));
    let stats = stats(Blocks::<R, C>::KIND, rows, cols, dense).unwrap();
    let nnz = dense.iter().filter(|v| **v != 0.0).count();
    assert_eq!((stats.blocks, stats.bytes, blocks.nnz()), (blocks.blocks(), blocks.bytes(), nnz));
    assert!((stats.density - nnz as f64 / dense.len() as f64).abs() < 1e-12);
    assert!(stats.block_density <= 1.0 && stats.fill <= 1.0 && stats.block_density >= 0.0);
    let dead = (0..rows).filter(|r| dense[r * cols..][..cols].iter().all(|v| *v == 0.0)).count();
    assert_eq!(stats.dead_rows, dead);
}

/// Groups of `rows` x `cols` weights are compressed as the `whole` matrix is, without making it.
fn check_groups<const R: usize, const C: usize>(
    groups: usize,
    [rows, cols]: [usize; 2],
    blocks: &[f32],
    whole: &[f32],
) {
    let (all_rows, all_cols) = (groups * rows, groups * cols);
    let expected = Blocks::<R, C>::from_dense(all_rows, all_cols, whole).unwrap();
    assert_eq!(Blocks::<R, C>::from_groups(all_rows, all_cols, groups, blocks).as_ref(), Ok(&expected));
    let nonzeros = Nonzeros::of(all_rows, cols, blocks).unwrap();
    let got = nonzeros.group_stats(Blocks::<R, C>::KIND, groups);
    let of_whole = stats(Blocks::<R, C>::KIND, all_rows, all_cols, whole).unwrap();
    assert_eq!(
        (got.blocks, got.bytes, got.dead_rows, got.dead_cols, got.fill),
        (of_whole.blocks, of_whole.bytes, of_whole.dead_rows, of_whole.dead_cols, of_whole.fill)
    );
    assert!((got.density - of_whole.density * groups as f64).abs() < 1e-12);
}

proptest! {
    #[test]
    fn dense_round_trip((rows, cols, dense) in matrix()) {
        check::<1, 1>(rows, cols, &dense);
        check::<2, 1>(rows, cols, &dense);
        check::<4, 1>(rows, cols, &dense);
        check::<8, 1>(rows, cols, &dense);
        check::<4, 4>(rows, cols, &dense);
        check::<1, 2>(rows, cols, &dense);
        check::<2, 4>(rows, cols, &dense);
        let at_most_two = |four: &[f32]| four.iter().filter(|w| **w != 0.0).count() <= 2;
        let expected = dense.chunks(cols).all(|row| row.chunks(4).all(at_most_two));
        prop_assert_eq!(Nonzeros::of(rows, cols, &dense).unwrap().two_of_four(), expected);
    }

    #[test]
    fn groups_are_a_block_diagonal_matrix((rows, cols, dense) in matrix(), groups in 1usize..6) {
        let mut blocks = vec![];
        for group in 1..=groups {
            blocks.extend(dense.iter().map(|v| v * group as f32));
        }
        let all = groups * cols;
        let mut whole = vec![0f32; groups * rows * all];
        for (row, block) in blocks.chunks(cols).enumerate() {
            whole[row * all + row / rows * cols..][..cols].copy_from_slice(block);
        }
        check_groups::<1, 1>(groups, [rows, cols], &blocks, &whole);
        check_groups::<2, 1>(groups, [rows, cols], &blocks, &whole);
        check_groups::<4, 1>(groups, [rows, cols], &blocks, &whole);
        check_groups::<8, 1>(groups, [rows, cols], &blocks, &whole);
        check_groups::<4, 4>(groups, [rows, cols], &blocks, &whole);
    }

    #[test]
    fn arbitrary_parts_never_panic(
        rows in 0usize..9, cols in 0usize..9,
        starts in prop::collection::vec(0u32..6, 0..5),
        columns in prop::collection::vec(0u32..4, 0..6),
        value in prop::num::f32::ANY,
        extra in 0usize..3,
    ) {
        let values = vec![value; columns.len() * 16 + extra];
        if let Ok(blocks) = Blocks::<4, 4>::from_parts(rows, cols, starts, columns, values) {
            let again = Blocks::<4, 4>::from_dense(rows, cols, &blocks.to_dense()).unwrap();
            prop_assert!(again.blocks() <= blocks.blocks());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "hundreds of thousands of weights")]
fn matrices_of_many_strips() {
    let (groups, rows, cols) = (3, 341, 90);
    let keep = |i: usize| (i * 7919) % 101 < 30;
    let blocks: Vec<f32> = (0..groups * rows * cols).map(|i| if keep(i) { i as f32 } else { 0.0 }).collect();
    let all = groups * cols;
    let mut whole = vec![0f32; groups * rows * all];
    for (row, block) in blocks.chunks(cols).enumerate() {
        whole[row * all + row / rows * cols..][..cols].copy_from_slice(block);
    }
    check::<4, 4>(groups * rows, all, &whole);
    check_groups::<1, 1>(groups, [rows, cols], &blocks, &whole);
    check_groups::<8, 1>(groups, [rows, cols], &blocks, &whole);
    check_groups::<4, 4>(groups, [rows, cols], &blocks, &whole);
}

#[test]
fn bad_parts_are_named() {
    let new = |starts: &[u32], columns: &[u32], values: &[f32]| {
        Rows::<1>::from_parts(2, 3, starts.to_vec(), columns.to_vec(), values.to_vec())
    };
    assert!(new(&[0, 1, 2], &[2, 0], &[1.0, 1.0]).is_ok());
    assert_eq!(new(&[1, 1, 2], &[2, 0], &[1.0, 1.0]), Err(FormatError::RowStarts { row: 0 }));
    assert_eq!(new(&[0, 2, 1], &[2, 0], &[1.0, 1.0]), Err(FormatError::RowStarts { row: 1 }));
    assert_eq!(new(&[0, 1, 1], &[2, 0], &[1.0, 1.0]), Err(FormatError::RowStarts { row: 2 }));
    assert_eq!(new(&[0, 1, 2], &[3, 0], &[1.0, 1.0]), Err(FormatError::Column { row: 0, block: 0 }));
    assert_eq!(new(&[0, 0, 2], &[1, 1], &[1.0, 1.0]), Err(FormatError::Column { row: 1, block: 1 }));
    assert_eq!(new(&[0, 1, 2], &[2, 0], &[1.0, f32::NAN]), Err(FormatError::NotFinite { index: 1 }));
    assert!(matches!(new(&[0, 2], &[2, 0], &[1.0, 1.0]), Err(FormatError::Length { .. })));
    assert!(matches!(new(&[0, 1, 2], &[2, 0], &[1.0]), Err(FormatError::Length { .. })));
    assert!(Rows::<1>::from_groups(4, 6, 3, &[1.0; 8]).is_err());
    assert!(Rows::<1>::from_groups(4, 6, 0, &[1.0; 8]).is_err());
    assert!(Rows::<1>::from_groups(4, 6, 2, &[1.0; 11]).is_err());
    assert_eq!(Rows::<1>::from_dense(0, 3, &[]), Err(FormatError::ZeroDim("rows")));
    assert_eq!(Rows::<4>::from_dense(1, 1, &[f32::INFINITY]), Err(FormatError::NotFinite { index: 0 }));
    assert!(matches!(Rows::<4>::from_dense(usize::MAX, 2, &[0.0]), Err(FormatError::TooLarge(_))));
}
