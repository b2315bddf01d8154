//! Masks that whole groups of kernels share.

use super::check_finite;
use crate::error::FormatError;
use crate::pairs::{self, f16};
use crate::table::Element;
use sparsity::patterns::{CHANNEL_GROUPS, THREE_OF_NINE, channel_groups};
use std::ops::Range;

/// Which taps of a depthwise kernel are stored: one of the eight 3:9 patterns of 3x3 kernels, or all of them.
///
/// A 3:9 pattern keeps the middle column and loses the first or the third weight of each row (SparseByteNN,
/// section 3.2). Its id is its place in [`THREE_OF_NINE`]: bit `ky` says that row `ky` loses the first
/// weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DepthwisePattern(u8);

impl DepthwisePattern {
    /// Every tap is stored, whatever the kernel size.
    pub const ALL_ONES: DepthwisePattern = DepthwisePattern(8);

    /// Number of patterns, [`DepthwisePattern::ALL_ONES`] included.
    pub const COUNT: usize = 9;

    /// [`DepthwisePattern::mask`] of every pattern.
    pub(crate) const MASKS: [u32; Self::COUNT] = {
        let (mut masks, mut id) = ([0; Self::COUNT], 0);
        while id < Self::COUNT {
            masks[id] = DepthwisePattern(id as u8).mask();
            id += 1;
        }
        masks
    };

    /// All nine patterns.
    pub fn all() -> impl Iterator<Item = DepthwisePattern> {
        (0..Self::COUNT as u8).map(DepthwisePattern)
    }

    /// The eight patterns that keep six of the nine weights of a 3x3 kernel.
    pub fn three_of_nine() -> impl Iterator<Item = DepthwisePattern> {
        (0..8).map(DepthwisePattern)
    }

    /// The pattern with this id.
    pub fn from_id(id: usize) -> Option<DepthwisePattern> {
        (id < Self::COUNT).then_some(DepthwisePattern(id as u8))
    }

    /// Position among the nine patterns: 0..8 are the 3:9 patterns, 8 is all ones.
    pub fn id(self) -> usize {
        self.0 as usize
    }

    /// Taps kept of a 3x3 kernel: bit `ky * 3 + kx`.
    pub const fn mask(self) -> u32 {
        if self.0 == Self::ALL_ONES.0 { 0b111_111_111 } else { THREE_OF_NINE[self.0 as usize] as u32 }
    }

    /// Whether tap `tap = ky * kw + kx` of a kernel is stored.
    pub fn keeps(self, tap: usize) -> bool {
        self == Self::ALL_ONES || (tap < 9 && self.mask() >> tap & 1 == 1)
    }

    /// Stored taps of a kernel of `taps` taps.
    pub fn kept(self, taps: usize) -> usize {
        if self == Self::ALL_ONES { taps } else { 6 }
    }
}

/// Consecutive channels that share a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepthwiseGroup {
    channels: Range<usize>,
    pattern: DepthwisePattern,
    taps: usize,
}

impl DepthwiseGroup {
    /// The channels of the group.
    pub fn channels(&self) -> Range<usize> {
        self.channels.clone()
    }

    /// Their pattern.
    pub fn pattern(&self) -> DepthwisePattern {
        self.pattern
    }
}

/// Depthwise weights, one kernel per channel, with the taps that no channel of a group needs left out.
///
/// Groups begin with 16 channels; what is left at the end is cut into groups of 8, of 4 and single channels.
/// A group that fits no pattern is cut further where a part of it does.
///
/// Invariants: groups follow each other and cover `0..channels`; only 3x3 kernels have other patterns than
/// all ones; `taps` holds, channel by channel, the kept taps of its group in the order of the kernel; every
/// tap is finite.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthwisePatterns {
    channels: usize,
    kernel: [usize; 2],
    groups: Vec<DepthwiseGroup>,
    taps: Vec<f32>,
}

impl DepthwisePatterns {
    /// Finds the patterns of dense weights `[channel][kh][kw]`. Zero means exactly 0.0 or -0.0.
    ///
    /// # Errors
    /// No channels, an empty kernel, a slice of another length, or a weight that is not finite.
    pub fn from_dense(channels: usize, kernel: [usize; 2], weights: &[f32]) -> Result<Self, FormatError> {
        let taps = kernel_taps(channels, kernel)?;
        check_length("depthwise weights", channels.checked_mul(taps), weights.len())?;
        check_finite(weights)?;
        let mut found = vec![];
        for group in channel_groups(channels, CHANNEL_GROUPS[0]) {
            split(group, kernel, weights, &mut found);
        }
        let mut kept = Vec::with_capacity(weights.len());
        for (range, pattern) in &found {
            for kernel in weights[range.start * taps..range.end * taps].chunks_exact(taps) {
                for (tap, weight) in kernel.iter().enumerate() {
                    if pattern.keeps(tap) {
                        kept.push(*weight);
                    }
                }
            }
        }
        let parts: Vec<_> = found.into_iter().map(|(range, pattern)| (range.len(), pattern)).collect();
        Self::from_parts(channels, kernel, &parts, kept)
    }

    /// Takes the parts apart from a file, checking every invariant of the type. `groups` are sizes and
    /// patterns.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn from_parts(
        channels: usize,
        kernel: [usize; 2],
        groups: &[(usize, DepthwisePattern)],
        taps: Vec<f32>,
    ) -> Result<Self, FormatError> {
        let per_channel = kernel_taps(channels, kernel)?;
        let (mut start, mut at) = (0usize, 0usize);
        let mut list = Vec::with_capacity(groups.len());
        for (group, (size, pattern)) in groups.iter().enumerate() {
            if *pattern != DepthwisePattern::ALL_ONES && kernel != [3, 3] {
                return Err(FormatError::Pattern { group, pattern: pattern.mask() });
            }
            if *size == 0 {
                return Err(FormatError::ZeroDim("group"));
            }
            let end = start.checked_add(*size).filter(|end| *end <= channels);
            let end = end.ok_or(FormatError::Length {
                what: "channels of all groups",
                expected: channels,
                got: start.saturating_add(*size),
            })?;
            list.push(DepthwiseGroup { channels: start..end, pattern: *pattern, taps: at });
            at = size
                .checked_mul(pattern.kept(per_channel))
                .and_then(|t| t.checked_add(at))
                .ok_or(FormatError::TooLarge("depthwise weights"))?;
            start = end;
        }
        check_length("channels of all groups", Some(channels), start)?;
        check_length("taps", Some(at), taps.len())?;
        check_finite(&taps)?;
        Ok(DepthwisePatterns { channels, kernel, groups: list, taps })
    }

    /// The same weights, every tap rounded to the type of a kernel of pairs.
    ///
    /// # Errors
    /// A tap that rounds to infinity.
    pub(crate) fn rounded(mut self, element: Element) -> Result<Self, FormatError> {
        pairs::check_range(element, "weight", &self.taps)?;
        self.taps.iter_mut().for_each(|tap| {
            *tap = match element {
                Element::F16 => f16::float(f16::round(*tap)),
                _ => pairs::float(pairs::round(*tap)),
            }
        });
        Ok(self)
    }

    /// The dense weights `[channel][kh][kw]`.
    pub fn to_dense(&self) -> Vec<f32> {
        let taps = self.kernel[0] * self.kernel[1];
        let mut dense = vec![0f32; self.channels * taps];
        for group in &self.groups {
            for channel in group.channels() {
                let kept = (0..taps).filter(|t| group.pattern.keeps(*t));
                for (tap, v) in kept.zip(self.taps(group, channel)) {
                    dense[channel * taps + tap] = *v;
                }
            }
        }
        dense
    }

    /// Channels: kernels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Kernel height and width in taps.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// All groups, by channel.
    pub fn groups(&self) -> &[DepthwiseGroup] {
        &self.groups
    }

    /// Kept taps of one channel of `group`, which must be a group of these weights.
    pub fn taps(&self, group: &DepthwiseGroup, channel: usize) -> &[f32] {
        let kept = group.pattern.kept(self.kernel[0] * self.kernel[1]);
        &self.taps[group.taps + (channel - group.channels.start) * kept..][..kept]
    }

    /// Kept taps of all channels, one after the other.
    pub(crate) fn all_taps(&self) -> &[f32] {
        &self.taps
    }

    /// How many groups have each pattern, by [`DepthwisePattern::id`].
    pub fn histogram(&self) -> [usize; DepthwisePattern::COUNT] {
        let mut counts = [0; DepthwisePattern::COUNT];
        self.groups.iter().for_each(|g| counts[g.pattern.id()] += 1);
        counts
    }

    /// Kept taps of all channels: multiply-adds per output pixel of all planes.
    pub fn stored(&self) -> usize {
        self.taps.len()
    }

    /// Kept taps that are not zero.
    pub fn nnz(&self) -> usize {
        self.taps.iter().filter(|v| **v != 0.0).count()
    }

    /// Memory of groups and taps.
    pub fn bytes(&self) -> usize {
        size_of_val(self.groups.as_slice()) + size_of_val(self.taps.as_slice())
    }
}

/// Taps of one kernel.
fn kernel_taps(channels: usize, kernel: [usize; 2]) -> Result<usize, FormatError> {
    if channels == 0 {
        return Err(FormatError::ZeroDim("channels"));
    }
    if kernel.contains(&0) {
        return Err(FormatError::ZeroDim("kernel"));
    }
    kernel[0].checked_mul(kernel[1]).ok_or(FormatError::TooLarge("kernel"))
}

fn check_length(what: &'static str, expected: Option<usize>, got: usize) -> Result<(), FormatError> {
    match expected {
        Some(expected) if expected == got => Ok(()),
        Some(expected) => Err(FormatError::Length { what, expected, got }),
        None => Err(FormatError::TooLarge(what)),
    }
}

/// The first 3:9 pattern that loses no weight of `channels`.
fn fitting(channels: Range<usize>, kernel: [usize; 2], weights: &[f32]) -> Option<DepthwisePattern> {
    if kernel != [3, 3] {
        return None;
    }
    let kernels = &weights[channels.start * 9..channels.end * 9];
    DepthwisePattern::three_of_nine()
        .find(|p| kernels.iter().enumerate().all(|(i, w)| *w == 0.0 || p.keeps(i % 9)))
}

/// Appends the groups of `channels`, whose number is one of [`CHANNEL_GROUPS`].
fn split(
    channels: Range<usize>,
    kernel: [usize; 2],
    weights: &[f32],
    groups: &mut Vec<(Range<usize>, DepthwisePattern)>,
) {
    if let Some(pattern) = fitting(channels.clone(), kernel, weights) {
        groups.push((channels, pattern));
    } else if channels.clone().all(|c| fitting(c..c + 1, kernel, weights).is_none()) {
        groups.push((channels, DepthwisePattern::ALL_ONES));
    } else {
        let half = channels.len() / 2;
        for group in channel_groups(channels.len(), half) {
            split(channels.start + group.start..channels.start + group.end, kernel, weights, groups);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_keep_the_middle_and_six_taps() {
        let mut seen = std::collections::HashSet::new();
        for p in DepthwisePattern::three_of_nine() {
            assert_eq!(p.mask().count_ones(), 6);
            assert!([1, 4, 7].into_iter().all(|tap| p.keeps(tap)));
            assert!((0..3).all(|ky| p.keeps(3 * ky) != p.keeps(3 * ky + 2)));
            assert!(seen.insert(p.mask()));
            assert_eq!(DepthwisePattern::from_id(p.id()), Some(p));
        }
        assert_eq!(DepthwisePattern::ALL_ONES.mask().count_ones(), 9);
        assert_eq!(DepthwisePattern::from_id(9), None);
    }

    /// Weights that fit exactly one pattern per channel.
    fn weights(patterns: &[usize]) -> Vec<f32> {
        let keeps = |p: usize, t| DepthwisePattern::from_id(p).unwrap().keeps(t);
        patterns.iter().flat_map(|p| (0..9).map(|t| f32::from(keeps(*p, t)))).collect()
    }

    fn sizes(w: &DepthwisePatterns) -> Vec<(usize, usize)> {
        w.groups().iter().map(|g| (g.channels().len(), g.pattern().id())).collect()
    }

    #[test]
    fn groups_are_found_and_remainders_cut() {
        let patterns: Vec<usize> = [vec![3; 16], vec![8; 16], vec![1; 8], vec![7; 4], vec![0, 8, 2]].concat();
        let dense = weights(&patterns);
        let w = DepthwisePatterns::from_dense(47, [3, 3], &dense).unwrap();
        assert_eq!(sizes(&w), [(16, 3), (16, 8), (8, 1), (4, 7), (1, 0), (1, 8), (1, 2)]);
        assert_eq!(w.to_dense(), dense);
        assert_eq!(w.stored(), 30 * 6 + 17 * 9);
        assert_eq!((w.nnz(), w.histogram()[8], w.histogram()[3]), (w.stored(), 2, 1));
    }

    #[test]
    fn mixed_groups_are_cut_where_it_helps() {
        let patterns: Vec<usize> = [vec![3; 8], vec![8; 8]].concat();
        let w = DepthwisePatterns::from_dense(16, [3, 3], &weights(&patterns)).unwrap();
        assert_eq!(sizes(&w), [(8, 3), (8, 8)]);
        let five = DepthwisePatterns::from_dense(20, [5, 5], &vec![0.0; 500]).unwrap();
        assert_eq!(sizes(&five), [(16, 8), (4, 8)]);
    }

    #[test]
    fn wrong_parts_are_refused() {
        let ones = DepthwisePattern::ALL_ONES;
        let p = DepthwisePattern(0);
        let parts = DepthwisePatterns::from_parts;
        assert!(parts(3, [3, 3], &[(2, p), (1, ones)], vec![1.0; 21]).is_ok());
        assert!(matches!(parts(3, [3, 3], &[(2, p)], vec![1.0; 12]), Err(FormatError::Length { .. })));
        assert!(matches!(parts(3, [3, 3], &[(4, p)], vec![1.0; 24]), Err(FormatError::Length { .. })));
        assert!(matches!(parts(3, [3, 3], &[(3, p)], vec![1.0; 17]), Err(FormatError::Length { .. })));
        assert!(matches!(parts(1, [5, 5], &[(1, p)], vec![1.0; 6]), Err(FormatError::Pattern { .. })));
        assert!(matches!(parts(1, [3, 3], &[(1, p)], vec![f32::NAN; 6]), Err(FormatError::NotFinite { .. })));
        assert!(matches!(parts(0, [3, 3], &[], vec![]), Err(FormatError::ZeroDim(_))));
        assert!(matches!(
            DepthwisePatterns::from_dense(2, [3, 3], &[0.0; 17]),
            Err(FormatError::Length { .. })
        ));
    }
}
