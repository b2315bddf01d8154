//! Which channel each position of a tensor holds, carried through operators that move channels about.

/// A channel (an atom of the union-find of [`crate::channels`]) and which of its values: flattening a map gives every
/// channel as many values as it has pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Label {
    pub(crate) atom: u32,
    pub(crate) tag: u32,
}

/// Labels of a tensor of shape `shape`. `dims` equals the shape on axes along which the label differs and is 1 on
/// the others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Labels {
    pub(crate) shape: Vec<usize>,
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Vec<Label>,
}

/// More labels than this are not worth following: the tensor's channels are pinned.
const MOST: usize = 1 << 22;

impl Labels {
    /// A list of channels along one axis.
    pub(crate) fn along(shape: &[usize], axis: usize, list: Vec<Label>) -> Option<Labels> {
        let mut dims = vec![1; shape.len()];
        *dims.get_mut(axis)? = list.len();
        (shape[axis] == list.len()).then(|| Labels { shape: shape.to_vec(), dims, data: list })
    }

    /// The channels along `axis`, if labels differ along no other.
    pub(crate) fn list(&self, axis: usize) -> Option<&[Label]> {
        let others = self.dims.iter().enumerate().all(|(a, d)| a == axis || *d == 1);
        (others && self.dims.get(axis) == self.shape.get(axis)).then_some(&self.data)
    }

    /// The same labels for a tensor of another shape that has the same size along every labelled axis.
    pub(crate) fn keep(&self, shape: &[usize]) -> Option<Labels> {
        let same = self.dims.iter().enumerate().all(|(a, d)| *d == 1 || shape[a] == self.shape[a]);
        (shape.len() == self.shape.len() && same).then(|| Labels { shape: shape.to_vec(), ..self.clone() })
    }

    /// Labels along all axes for which `full` says so; labels that were the same along such an axis get tags.
    pub(crate) fn expand(&self, full: impl Fn(usize) -> bool) -> Option<Labels> {
        let rank = self.shape.len();
        let dims: Vec<usize> =
            (0..rank).map(|a| if full(a) { self.shape[a] } else { self.dims[a] }).collect();
        let fresh: Vec<bool> = (0..rank).map(|a| dims[a] != self.dims[a]).collect();
        let copies: usize = (0..rank).filter(|a| fresh[*a]).map(|a| dims[a]).product();
        let len = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= MOST)?;
        let mut data = Vec::with_capacity(len);
        for at in indices(&dims) {
            let mut label = self.data[offset(&at, &self.dims)];
            let copy = (0..rank).filter(|a| fresh[*a]).fold(0, |copy, a| copy * dims[a] + at[a]);
            label.tag = u32::try_from(label.tag as usize * copies + copy).ok()?;
            data.push(label);
        }
        Some(Labels { shape: self.shape.clone(), dims, data })
    }

    /// The labels after a row-major reshape.
    pub(crate) fn reshape(&self, shape: &[usize]) -> Option<Labels> {
        if self.shape.contains(&0) || shape.contains(&0) {
            return None;
        }
        let (mut i, mut j) = (0, 0);
        let (mut full, mut dims) = (vec![false; self.shape.len()], vec![1; shape.len()]);
        // runs of axes with equal products correspond
        while i < self.shape.len() || j < shape.len() {
            let (i0, j0) = (i, j);
            let (mut a, mut b) = (1, 1);
            let next = |a: &mut usize, i: &mut usize, of: &[usize]| {
                *a = a.checked_mul(*of.get(*i)?)?;
                *i += 1;
                Some(())
            };
            if i < self.shape.len() {
                next(&mut a, &mut i, &self.shape)?;
            }
            if j < shape.len() {
                next(&mut b, &mut j, shape)?;
            }
            while a != b {
                if a < b {
                    next(&mut a, &mut i, &self.shape)?;
                } else {
                    next(&mut b, &mut j, shape)?;
                }
            }
            if self.dims[i0..i].iter().any(|d| *d > 1) {
                full[i0..i].fill(true);
                dims[j0..j].copy_from_slice(&shape[j0..j]);
            }
        }
        let data = self.expand(|a| full[a])?.data;
        (data.len() == dims.iter().product::<usize>()).then(|| Labels { shape: shape.to_vec(), dims, data })
    }

    /// The labels after a transposition: output axis `a` is input axis `perm[a]`.
    pub(crate) fn transpose(&self, perm: &[usize]) -> Option<Labels> {
        let mut seen = vec![false; self.shape.len()];
        perm.iter().try_for_each(|p| seen.get_mut(*p).map(|s| *s = true))?;
        if perm.len() != self.shape.len() || seen.contains(&false) {
            return None;
        }
        let pick = |of: &[usize]| perm.iter().map(|p| of[*p]).collect::<Vec<_>>();
        let dims = pick(&self.dims);
        let data = indices(&dims)
            .map(|at| {
                let mut from = vec![0; at.len()];
                perm.iter().zip(&at).for_each(|(p, i)| from[*p] = *i);
                self.data[offset(&from, &self.dims)]
            })
            .collect();
        Some(Labels { shape: pick(&self.shape), dims, data })
    }

    /// The labels of a selection of positions along one axis.
    pub(crate) fn select(&self, axis: usize, positions: &[usize]) -> Option<Labels> {
        if positions.iter().any(|p| *p >= self.shape[axis]) {
            return None;
        }
        let mut shape = self.shape.clone();
        shape[axis] = positions.len();
        if self.dims[axis] == 1 && self.shape[axis] != 1 {
            return Some(Labels { shape, ..self.clone() });
        }
        let mut dims = self.dims.clone();
        dims[axis] = positions.len();
        let data = indices(&dims)
            .map(|mut at| {
                at[axis] = positions[at[axis]];
                self.data[offset(&at, &self.dims)]
            })
            .collect();
        Some(Labels { shape, dims, data })
    }

    /// The label at an index of any tensor that this one broadcasts against, axes aligned at the end.
    pub(crate) fn at(&self, index: &[usize]) -> Label {
        self.data[offset(&index[index.len() - self.dims.len()..], &self.dims)]
    }
}

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
fn offset(at: &[usize], dims: &[usize]) -> usize {
    at.iter().zip(dims).fold(0, |o, (i, d)| o * d + if *d == 1 { 0 } else { *i })
}
