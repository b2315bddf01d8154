//! How the norm of a group of weights follows from its taps.

use sparsity::Structure;
use std::iter::Sum;
use std::ops::Add;

/// How the norm of a group follows from the sums of its taps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Norm {
    Sum,
    /// Of every `share` rows of the group the centre and the best three of the others: the 56 patterns are
    /// all choices of three.
    FourOfNine {
        share: usize,
    },
    /// The middle column, and the better end of each row; `full_ones` of the groups keep all.
    SixOfNine {
        full_ones: f64,
    },
    /// Of every four columns the best two, row by row and tap by tap: no function of sums.
    TwoOfFour,
}

impl Norm {
    pub(super) fn new(structure: Structure) -> Norm {
        match structure {
            Structure::Blocks(_) => Norm::Sum,
            Structure::FiveOfNine(patterns) => Norm::FourOfNine { share: patterns.filters() },
            Structure::ThreeOfNine(patterns) => Norm::SixOfNine { full_ones: patterns.full_ones() },
            Structure::TwoOfFour => Norm::TwoOfFour,
        }
    }

    /// Sets of rows within a group that have sums of their own.
    pub(super) fn parts(self) -> usize {
        match self {
            Norm::FourOfNine { share } => 4 / share,
            _ => 1,
        }
    }

    pub(super) fn of<T: Copy + Default + PartialOrd + Add<Output = T> + Sum>(self, taps: &[T]) -> T {
        match self {
            Norm::Sum | Norm::TwoOfFour => taps.iter().copied().sum(),
            Norm::FourOfNine { .. } => taps.chunks_exact(9).map(four_of_nine).sum(),
            Norm::SixOfNine { .. } => {
                taps.chunks(3).map(|row| row[1] + if row[0] > row[2] { row[0] } else { row[2] }).sum()
            }
        }
    }
}

fn four_of_nine<T: Copy + Default + PartialOrd + Add<Output = T> + Sum>(taps: &[T]) -> T {
    let mut top = [T::default(); 3];
    for (_, v) in taps.iter().enumerate().filter(|(tap, _)| *tap != 4) {
        if *v > top[0] {
            top = [*v, top[0], top[1]];
        } else if *v > top[1] {
            top = [top[0], *v, top[1]];
        } else if *v > top[2] {
            top[2] = *v;
        }
    }
    taps[4] + top.into_iter().sum()
}
