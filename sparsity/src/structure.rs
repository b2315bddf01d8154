//! Which weights go together.

use crate::patterns::CHANNEL_GROUPS;
use crate::{Error, Layers, check_fraction, parse_fraction};
use std::fmt;
use std::str::FromStr;

/// Which weights go together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Structure {
    /// Groups of kernels are removed as a whole: `4x4`, `4x1`; of 1x1 kernels, `unstructured`. Where a group
    /// has one input channel, every tap of larger kernels counts as a channel.
    Blocks(Block),
    /// Two of every four neighbouring input channels stay: `2:4`.
    TwoOfFour,
    /// Depthwise 3x3: six of nine weights stay, the same ones for a group of channels: `3:9`, after the three
    /// that go.
    ThreeOfNine(ThreeOfNine),
    /// 3x3: four of nine weights stay, the same ones for a group of kernels: `5:9`. Groups of 4x4 kernels can
    /// be removed as a whole besides.
    FiveOfNine(FiveOfNine),
}

/// A group of kernels: of 1 to 64 output by 1 to 64 input channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    r: usize,
    c: usize,
}

impl Block {
    /// Output channels.
    pub fn r(self) -> usize {
        self.r
    }

    /// Input channels.
    pub fn c(self) -> usize {
        self.c
    }
}

/// How 3:9 patterns are shared, and who has none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThreeOfNine {
    channels: usize,
    full_ones: f64,
}

impl ThreeOfNine {
    /// Channels that share a pattern, one of [`CHANNEL_GROUPS`]; the rest of a layer is cut into smaller
    /// groups.
    pub fn channels(self) -> usize {
        self.channels
    }

    /// Fraction of the channel groups that stay dense, those that would lose most.
    pub fn full_ones(self) -> f64 {
        self.full_ones
    }
}

/// How 5:9 patterns are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FiveOfNine {
    filters: usize,
}

impl FiveOfNine {
    /// Numbers of filters that can share a pattern.
    pub const FILTERS: [usize; 3] = [4, 2, 1];

    /// Filters that share a pattern, for four input channels each.
    pub fn filters(self) -> usize {
        self.filters
    }
}

impl Structure {
    /// Single weights.
    pub const UNSTRUCTURED: Structure = Structure::Blocks(Block { r: 1, c: 1 });
    /// Blocks of 4 output by 4 input channels.
    pub const BLOCKS_4X4: Structure = Structure::Blocks(Block { r: 4, c: 4 });
    /// Four neighbouring output channels.
    pub const BLOCKS_4X1: Structure = Structure::Blocks(Block { r: 4, c: 1 });
    /// Blocks of two output channels by one input channel.
    pub const BLOCKS_2X1: Structure = Structure::Blocks(Block { r: 2, c: 1 });
    /// Blocks of two output channels by two input channels.
    pub const BLOCKS_2X2: Structure = Structure::Blocks(Block { r: 2, c: 2 });
    /// 2x4 blocks: two output channels by a quad of inputs.
    pub const BLOCKS_2X4: Structure = Structure::Blocks(Block { r: 2, c: 4 });
    /// Patterns of depthwise kernels that 16 channels share, all of them pruned.
    pub const THREE_OF_NINE: Structure = Structure::ThreeOfNine(ThreeOfNine { channels: 16, full_ones: 0.0 });
    /// Patterns of kernels that four filters share.
    pub const FIVE_OF_NINE: Structure = Structure::FiveOfNine(FiveOfNine { filters: 4 });

    /// Groups of `r` output by `c` input channels.
    ///
    /// # Errors
    /// A side outside 1..=64.
    pub fn blocks(r: usize, c: usize) -> Result<Structure, Error> {
        if (1..=64).contains(&r) && (1..=64).contains(&c) {
            Ok(Structure::Blocks(Block { r, c }))
        } else {
            Err(Error::new(format!("a group of {r}x{c} channels is not between 1x1 and 64x64")))
        }
    }

    /// Patterns that `channels` depthwise channels share; the `full_ones` fraction of the groups stays dense.
    ///
    /// # Errors
    /// A number of channels that is not one of [`CHANNEL_GROUPS`], a fraction outside 0..=1.
    pub fn three_of_nine(channels: usize, full_ones: f64) -> Result<Structure, Error> {
        if !CHANNEL_GROUPS.contains(&channels) {
            return Err(Error::new(format!(
                "a 3:9 pattern is shared by 16, 8, 4 or 1 channels, not {channels}"
            )));
        }
        check_fraction("dense fraction", full_ones)?;
        // not -0
        Ok(Structure::ThreeOfNine(ThreeOfNine { channels, full_ones: full_ones + 0.0 }))
    }

    /// Patterns that `filters` output channels share.
    ///
    /// # Errors
    /// A number of filters that is not one of [`FiveOfNine::FILTERS`].
    pub fn five_of_nine(filters: usize) -> Result<Structure, Error> {
        if FiveOfNine::FILTERS.contains(&filters) {
            Ok(Structure::FiveOfNine(FiveOfNine { filters }))
        } else {
            Err(Error::new(format!("a 5:9 pattern is shared by 4, 2 or 1 filters, not {filters}")))
        }
    }

    /// Whether a ratio means anything: only patterns do not remove groups.
    pub fn removes_groups(self) -> bool {
        matches!(self, Structure::Blocks(_) | Structure::FiveOfNine(_))
    }

    /// Whether it says nothing without a ratio: what has patterns does.
    pub fn needs_ratio(self) -> bool {
        matches!(self, Structure::Blocks(_))
    }

    /// Output by input channels of the groups that are removed, or that share a choice.
    pub fn group(self) -> (usize, usize) {
        match self {
            Structure::Blocks(block) => (block.r, block.c),
            Structure::FiveOfNine(_) => (4, 4),
            Structure::TwoOfFour => (1, 4),
            Structure::ThreeOfNine(patterns) => (patterns.channels, 1),
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Structure::UNSTRUCTURED => f.write_str("unstructured"),
            Structure::Blocks(Block { r, c }) => write!(f, "{r}x{c}"),
            Structure::TwoOfFour => f.write_str("2:4"),
            Structure::ThreeOfNine(ThreeOfNine { channels, full_ones }) => {
                f.write_str("3:9")?;
                if channels != CHANNEL_GROUPS[0] {
                    write!(f, "/{channels}")?;
                }
                if full_ones > 0.0 { write!(f, "+{full_ones}") } else { Ok(()) }
            }
            Structure::FiveOfNine(FiveOfNine { filters: 4 }) => f.write_str("5:9"),
            Structure::FiveOfNine(FiveOfNine { filters }) => write!(f, "5:9/{filters}"),
        }
    }
}

impl FromStr for Structure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Structure, Error> {
        parse(text).map_err(|error| Layers::expected(text, error, &Layers::ALL))
    }
}

/// The structure of this name; an error does not say yet what is allowed.
pub(crate) fn parse(text: &str) -> Result<Structure, Error> {
    let number = |what: &str, text: &str| {
        text.parse::<usize>().map_err(|_| Error::new(format!("{what} {text:?} is not a whole number")))
    };
    if let Some(rest) = text.strip_prefix("3:9") {
        let (group, full_ones) = rest.split_once('+').map_or((rest, None), |(g, f)| (g, Some(f)));
        let channels = match group.strip_prefix('/') {
            Some(channels) => number("group", channels)?,
            None if group.is_empty() => CHANNEL_GROUPS[0],
            None => return Err(Error::new("unknown structure")),
        };
        let full_ones = full_ones.map_or(Ok(0.0), |f| parse_fraction("dense fraction", f))?;
        return Structure::three_of_nine(channels, full_ones);
    }
    if let Some(rest) = text.strip_prefix("5:9") {
        return match rest.strip_prefix('/') {
            Some(filters) => Structure::five_of_nine(number("group", filters)?),
            None if rest.is_empty() => Ok(Structure::FIVE_OF_NINE),
            None => Err(Error::new("unknown structure")),
        };
    }
    match text {
        "unstructured" => Ok(Structure::UNSTRUCTURED),
        "2:4" => Ok(Structure::TwoOfFour),
        _ => match text.split_once('x') {
            Some((r, c)) => Structure::blocks(number("group", r)?, number("group", c)?),
            None => Err(Error::new("unknown structure")),
        },
    }
}
