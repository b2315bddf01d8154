//! Patterns of 3x3 kernels, and how channels are grouped to share one.
//!
//! Bit `3 * ky + kx` of a mask says that the weight of row `ky` and column `kx` stays.

use std::ops::Range;

/// Weights that stay of a 3x3 kernel.
pub type Mask = u16;

/// The eight masks of [3:9](crate::Structure::ThreeOfNine): the middle column stays, each row loses its first
/// or its third weight. Bit `ky` of a mask's index says that row `ky` loses the first one.
pub const THREE_OF_NINE: [Mask; 8] = {
    let mut masks = [0; 8];
    let mut id = 0;
    while id < 8 {
        let mut ky = 0;
        while ky < 3 {
            masks[id] |= (if id >> ky & 1 == 1 { 0b110 } else { 0b011 }) << (3 * ky);
            ky += 1;
        }
        id += 1;
    }
    masks
};

/// The 56 masks of [5:9](crate::Structure::FiveOfNine): four weights stay, the centre among them (PatDNN), in
/// increasing order.
pub const FIVE_OF_NINE: [Mask; 56] = {
    let mut masks = [0; 56];
    let (mut mask, mut n): (Mask, usize) = (0, 0);
    while mask < 1 << 9 {
        if mask.count_ones() == 4 && mask >> 4 & 1 == 1 {
            masks[n] = mask;
            n += 1;
        }
        mask += 1;
    }
    masks
};

/// Whether weight `tap = 3 * ky + kx` stays.
pub const fn keeps(mask: Mask, tap: usize) -> bool {
    tap < 9 && mask >> tap & 1 == 1
}

/// Numbers of channels that share a pattern, largest first.
pub const CHANNEL_GROUPS: [usize; 4] = [16, 8, 4, 1];

/// Cuts channels into groups that share a pattern: by `largest`, one of [`CHANNEL_GROUPS`], and the rest by
/// the next smaller ones.
pub fn channel_groups(channels: usize, largest: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let fits = |size: &usize| *size <= largest && start + size <= channels;
        let size = CHANNEL_GROUPS.into_iter().find(fits)?;
        start += size;
        Some(start - size..start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_masks_are_the_papers() {
        for (id, mask) in THREE_OF_NINE.into_iter().enumerate() {
            assert_eq!(mask.count_ones(), 6);
            for ky in 0..3 {
                let row = if id >> ky & 1 == 1 { 0b110 } else { 0b011 };
                assert_eq!(mask >> (3 * ky) & 0b111, row, "{mask:#011b}");
            }
        }
        for mask in FIVE_OF_NINE {
            assert!(mask.count_ones() == 4 && keeps(mask, 4));
        }
        for masks in [&THREE_OF_NINE[..], &FIVE_OF_NINE[..]] {
            assert_eq!(masks.iter().collect::<BTreeSet<_>>().len(), masks.len());
        }
        assert!(!keeps(0b1_1111_1111, 9) && keeps(0b1_1111_1111, 8));
    }

    #[test]
    fn channels_fall_into_groups_of_16_8_4_and_1() {
        let sizes = |n, largest| channel_groups(n, largest).map(|g| g.len()).collect::<Vec<_>>();
        assert_eq!(sizes(32, 16), [16, 16]);
        assert_eq!(sizes(31, 16), [16, 8, 4, 1, 1, 1]);
        assert_eq!(sizes(31, 8), [8, 8, 8, 4, 1, 1, 1]);
        assert_eq!(sizes(3, 16), [1, 1, 1]);
        assert_eq!(sizes(2, 1), [1, 1]);
        assert_eq!(sizes(0, 16), [0; 0]);
        assert_eq!(channel_groups(29, 16).last(), Some(28..29));
    }
}
