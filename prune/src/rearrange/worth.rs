//! What arrangements are worth.

use super::matrix::Matrix;

/// Share of its norm that every layer is to gain, if it can, before the sum of all counts.
pub(super) const RISE: f64 = 1e-4;
/// What sums of a layer's norm in another order may differ by.
pub(super) const ROUNDING: f64 = 1e-9;

/// What an arrangement is worth, the first difference deciding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth {
    /// What layers keep less than before anything had moved.
    fallen: f64,
    /// What layers lack of having gained [`RISE`].
    pub(super) lag: f64,
    /// The sum of the shares kept.
    pub(super) sum: f64,
}

impl Worth {
    pub(super) fn of<'a>(layers: impl IntoIterator<Item = &'a Matrix>) -> Worth {
        let mut worth = Worth { fallen: 0.0, lag: 0.0, sum: 0.0 };
        for layer in layers {
            let gained = layer.gained();
            worth.fallen += (-gained - ROUNDING).max(0.0);
            worth.lag += (RISE - gained).max(0.0);
            worth.sum += gained;
        }
        worth
    }

    pub(super) fn beats(&self, other: &Worth, guarded: bool) -> bool {
        let keys = [(other.fallen, self.fallen), (other.lag, self.lag)];
        for (theirs, ours) in keys.into_iter().filter(|_| guarded) {
            if (ours - theirs).abs() > ROUNDING || (ours > 0.0) != (theirs > 0.0) {
                return ours < theirs;
            }
        }
        self.sum > other.sum + ROUNDING
    }
}

/// Layers to which the arrangement matters.
pub(super) fn concerned(layers: &[Matrix]) -> impl Iterator<Item = &Matrix> {
    layers.iter().filter(|layer| layer.matters() && layer.movable())
}

/// Mean share of the norm that the layers keep.
pub(super) fn mean(layers: &[Matrix]) -> f64 {
    layers.iter().map(Matrix::share).sum::<f64>() / layers.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first difference decides: who falls, then who lags, then the sum; the sum alone where nobody is
    /// guarded.
    #[test]
    fn worth_is_compared_in_order() {
        let worth = |fallen, lag, sum| Worth { fallen, lag, sum };
        let order = [worth(0.0, 0.0, 1.0), worth(0.0, 0.1, 2.0), worth(0.1, 0.0, 3.0)];
        for pair in order.windows(2) {
            assert!(pair[0].beats(&pair[1], true) && !pair[1].beats(&pair[0], true));
            assert!(!pair[0].beats(&pair[1], false) && pair[1].beats(&pair[0], false));
        }
        assert!(!order[0].beats(&order[0], true) && !order[0].beats(&order[0], false));
    }
}
