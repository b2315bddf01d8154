//! Which channel each position of a tensor holds, carried through operators that move channels about.

use crate::index::{indices, offset};

/// A channel (an atom of the union-find of [`super::channels`]) and which of its values: flattening a map
/// gives every channel as many values as it has pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Label {
    pub(super) atom: u32,
    pub(super) tag: u32,
}

/// Labels of a tensor of shape `shape`. `dims` equals the shape on axes along which the label differs and is
/// 1 on the others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Labels {
    pub(super) shape: Vec<usize>,
    pub(super) dims: Vec<usize>,
    pub(super) data: Vec<Label>,
}

/// More labels than this are not worth following: the tensor's channels are pinned.
const MOST: usize = 1 << 22;

impl Labels {
    /// A list of channels along one axis.
    pub(super) fn along(shape: &[usize], axis: usize, list: Vec<Label>) -> Option<Labels> {
        let mut dims = vec![1; shape.len()];
        *dims.get_mut(axis)? = list.len();
        (shape[axis] == list.len()).then(|| Labels { shape: shape.to_vec(), dims, data: list })
    }

    /// The channels along `axis`, if labels differ along no other.
    pub(super) fn list(&self, axis: usize) -> Option<&[Label]> {
        let others = self.dims.iter().enumerate().all(|(a, d)| a == axis || *d == 1);
        (others && self.dims.get(axis) == self.shape.get(axis)).then_some(&self.data)
    }

    /// The same labels for a tensor of another shape that has the same size along every labelled axis.
    pub(super) fn keep(&self, shape: &[usize]) -> Option<Labels> {
        let same = self.dims.iter().enumerate().all(|(a, d)| *d == 1 || shape[a] == self.shape[a]);
        (shape.len() == self.shape.len() && same).then(|| Labels { shape: shape.to_vec(), ..self.clone() })
    }

    /// Labels along all axes for which `full` says so; labels that were the same along such an axis get tags.
    pub(super) fn expand(&self, full: impl Fn(usize) -> bool) -> Option<Labels> {
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
    pub(super) fn reshape(&self, shape: &[usize]) -> Option<Labels> {
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
    pub(super) fn transpose(&self, perm: &[usize]) -> Option<Labels> {
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
    pub(super) fn select(&self, axis: usize, positions: &[usize]) -> Option<Labels> {
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
    pub(super) fn at(&self, index: &[usize]) -> Label {
        self.data[offset(&index[index.len() - self.dims.len()..], &self.dims)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(atom: u32, tag: u32) -> Label {
        Label { atom, tag }
    }

    /// Channels `0..n` along an axis.
    fn channels(shape: &[usize], axis: usize) -> Labels {
        Labels::along(shape, axis, (0..shape[axis] as u32).map(|atom| label(atom, 0)).collect()).unwrap()
    }

    /// Atom and tag at every position of a row of labels.
    fn pairs(labels: &Labels, axis: usize) -> Vec<(u32, u32)> {
        labels.list(axis).unwrap().iter().map(|l| (l.atom, l.tag)).collect()
    }

    #[test]
    fn lists_stand_along_one_axis() {
        let labels = channels(&[1, 3, 2, 2], 1);
        assert_eq!(pairs(&labels, 1), [(0, 0), (1, 0), (2, 0)]);
        assert!(labels.list(0).is_none() && labels.list(2).is_none());
        assert_eq!(labels.at(&[0, 2, 1, 1]), label(2, 0));
        assert!(Labels::along(&[1, 3], 1, vec![label(0, 0)]).is_none(), "another size");
        assert!(Labels::along(&[3], 1, vec![label(0, 0)]).is_none(), "no such axis");
    }

    #[test]
    fn shapes_may_change_where_there_are_no_channels() {
        let labels = channels(&[1, 3, 4, 4], 1);
        assert_eq!(pairs(&labels.keep(&[1, 3, 2, 2]).unwrap(), 1), pairs(&labels, 1));
        assert!(labels.keep(&[1, 4, 4, 4]).is_none() && labels.keep(&[3, 4, 4]).is_none());
    }

    /// Flattening a map gives every channel a value for each of its pixels, and splitting it again takes them
    /// away.
    #[test]
    fn flattened_maps_count_their_pixels() {
        let labels = channels(&[1, 2, 1, 3], 1);
        let flat = labels.reshape(&[1, 6]).unwrap();
        assert_eq!(pairs(&flat, 1), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        let back = flat.reshape(&[2, 3]).unwrap();
        assert_eq!((back.dims.as_slice(), back.at(&[1, 2])), (&[2, 3][..], label(1, 2)));
        assert!(labels.reshape(&[1, 2, 3]).unwrap().list(1).is_some(), "axes without channels may merge");
        assert!(labels.reshape(&[0, 6]).is_none());
    }

    #[test]
    fn channels_are_split_into_groups_and_shuffled() {
        let grouped = channels(&[1, 6, 2, 2], 1).reshape(&[1, 2, 3, 2, 2]).unwrap();
        let shuffled = grouped.transpose(&[0, 2, 1, 3, 4]).unwrap().reshape(&[1, 6, 2, 2]).unwrap();
        let atoms: Vec<u32> = pairs(&shuffled, 1).iter().map(|(atom, _)| *atom).collect();
        assert_eq!(atoms, [0, 3, 1, 4, 2, 5]);
        for perm in [&[0, 1][..], &[0, 1, 2, 4], &[0, 1, 1, 2]] {
            assert!(channels(&[1, 2, 1, 3], 1).transpose(perm).is_none(), "{perm:?}");
        }
    }

    #[test]
    fn selected_positions_keep_their_channels() {
        let labels = channels(&[1, 4, 5], 1);
        assert_eq!(pairs(&labels.select(1, &[3, 0]).unwrap(), 1), [(3, 0), (0, 0)]);
        let cut = labels.select(2, &[1, 2]).unwrap();
        assert_eq!((cut.shape.as_slice(), pairs(&cut, 1).len()), (&[1, 4, 2][..], 4));
        assert!(labels.select(1, &[4]).is_none());
    }
}
