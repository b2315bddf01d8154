//! Indices of arrays of any rank.

/// Every index of an array, the last axis fastest.
pub(crate) fn indices(dims: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let dims = dims.to_vec();
    (0..dims.iter().product()).map(move |mut i: usize| {
        let mut at = vec![0; dims.len()];
        for (a, d) in dims.iter().enumerate().rev() {
            at[a] = i % d;
            i /= d;
        }
        at
    })
}

/// The position of an index, which counts as 0 along axes of size 1.
pub(crate) fn offset(at: &[usize], dims: &[usize]) -> usize {
    at.iter().zip(dims).fold(0, |o, (i, d)| o * d + if *d == 1 { 0 } else { *i })
}
