//! What a network should look like: size, seed, and which zeros its weights have.

use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::str::FromStr;

/// Zeros of a 1x1 convolution or fully connected layer: `4x4:0.3`, `4x1:0.5`, `unstructured:0.8`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pointwise {
    r: usize,
    c: usize,
    ratio: f64,
}

impl Pointwise {
    /// Removes the `ratio` fraction of the groups of `r` output by `c` input channels.
    ///
    /// # Errors
    /// A group that is empty or larger than 64 channels, a ratio outside 0..=1.
    pub fn new(r: usize, c: usize, ratio: f64) -> Result<Pointwise> {
        ensure!((1..=64).contains(&r) && (1..=64).contains(&c), "block {r}x{c} is not between 1x1 and 64x64");
        ensure!((0.0..=1.0).contains(&ratio), "ratio {ratio} is not between 0 and 1");
        Ok(Pointwise { r, c, ratio })
    }

    /// Output channels of a group.
    pub fn r(self) -> usize {
        self.r
    }

    /// Input channels of a group.
    pub fn c(self) -> usize {
        self.c
    }

    /// Fraction of the groups that is removed.
    pub fn ratio(self) -> f64 {
        self.ratio
    }
}

impl FromStr for Pointwise {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Pointwise> {
        let parse = || {
            let (format, ratio) = text.split_once(':').context("no ratio")?;
            let ratio = parse_ratio(ratio)?;
            let (r, c) = match format {
                "unstructured" => (1, 1),
                _ => format
                    .split_once('x')
                    .and_then(|(r, c)| Some((r.parse().ok()?, c.parse().ok()?)))
                    .with_context(|| format!("unknown format {format:?}"))?,
            };
            Pointwise::new(r, c, ratio)
        };
        parse().with_context(|| {
            format!(
                "{text:?} is not FORMAT:RATIO with a format like 4x4, 4x1 or unstructured, such as 4x4:0.5"
            )
        })
    }
}

impl fmt::Display for Pointwise {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.r, self.c) {
            (1, 1) => write!(f, "unstructured:{}", self.ratio),
            (r, c) => write!(f, "{r}x{c}:{}", self.ratio),
        }
    }
}

/// Zeros of a depthwise 3x3 convolution: `3:9`, one pattern for every 16 channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DwConv3x3;

impl FromStr for DwConv3x3 {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<DwConv3x3> {
        ensure!(text == "3:9", "{text:?} is not 3:9, the only depthwise pattern set");
        Ok(DwConv3x3)
    }
}

impl fmt::Display for DwConv3x3 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("3:9")
    }
}

/// Zeros of a 3x3 convolution: `5:9` patterns per 4x4 kernels, and the fraction of such groups that is removed
/// altogether: `5:9:0.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv3x3 {
    connectivity: f64,
}

impl Conv3x3 {
    /// Patterns, and `connectivity` of the groups removed.
    ///
    /// # Errors
    /// A fraction outside 0..=1.
    pub fn new(connectivity: f64) -> Result<Conv3x3> {
        ensure!((0.0..=1.0).contains(&connectivity), "ratio {connectivity} is not between 0 and 1");
        Ok(Conv3x3 { connectivity })
    }

    /// Fraction of the 4x4 groups that is removed.
    pub fn connectivity(self) -> f64 {
        self.connectivity
    }
}

impl FromStr for Conv3x3 {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Conv3x3> {
        let parse = || match text.strip_prefix("5:9").map(|rest| (rest, rest.strip_prefix(':'))) {
            Some(("", _)) => Conv3x3::new(0.0),
            Some((_, Some(ratio))) => Conv3x3::new(parse_ratio(ratio)?),
            _ => bail!("unknown pattern set"),
        };
        parse().with_context(|| format!("{text:?} is not 5:9 or 5:9:CONNECTIVITY, such as 5:9:0.5"))
    }
}

impl fmt::Display for Conv3x3 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.connectivity {
            0.0 => f.write_str("5:9"),
            connectivity => write!(f, "5:9:{connectivity}"),
        }
    }
}

fn parse_ratio(text: &str) -> Result<f64> {
    text.parse().with_context(|| format!("ratio {text:?} is not a number"))
}

/// First dimension of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// So many images.
    Fixed(usize),
    /// A symbol, such as `N`.
    Symbol(String),
}

impl FromStr for Batch {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Batch> {
        let symbol = |t: &str| t.starts_with(|c: char| c.is_ascii_alphabetic());
        match text.parse() {
            Ok(n @ 1..) => Ok(Batch::Fixed(n)),
            _ if symbol(text) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                Ok(Batch::Symbol(text.to_string()))
            }
            _ => bail!("{text:?} is neither a number of images nor a symbol such as N"),
        }
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Batch::Fixed(n) => n.fmt(f),
            Batch::Symbol(name) => name.fmt(f),
        }
    }
}

/// How to build a network; the default is dense, at its usual size.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Zeros of every 1x1 convolution.
    pub conv1x1: Option<Pointwise>,
    /// Zeros of every depthwise 3x3 convolution.
    pub dwconv3x3: Option<DwConv3x3>,
    /// Zeros of every other 3x3 convolution but the entry layer.
    pub conv3x3: Option<Conv3x3>,
    /// Zeros of the fully connected layers; `conv1x1` does not touch them.
    pub fc: Option<Pointwise>,
    /// Seed of weights and calibration image.
    pub seed: u64,
    /// First dimension of the input.
    pub batch: Batch,
    /// Height and width of the input; the network's own if `None`.
    pub hw: Option<usize>,
    /// Channel multiplier; channels are rounded to multiples of 8.
    pub width: f64,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            conv1x1: None,
            dwconv3x3: None,
            conv3x3: None,
            fc: None,
            seed: 1,
            batch: Batch::Fixed(1),
            hw: None,
            width: 1.0,
        }
    }
}

impl Spec {
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(hw) = self.hw {
            ensure!((1..=4096).contains(&hw), "an image of {hw}x{hw} is not between 1x1 and 4096x4096");
        }
        ensure!((0.01..=4.0).contains(&self.width), "width {} is not between 0.01 and 4", self.width);
        ensure!(self.batch != Batch::Fixed(0), "batch is 0");
        Ok(())
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "seed={} batch={} width={}", self.seed, self.batch, self.width)?;
        let parts: [(&str, Option<&dyn fmt::Display>); 5] = [
            ("hw", self.hw.as_ref().map(|v| v as _)),
            ("conv1x1", self.conv1x1.as_ref().map(|v| v as _)),
            ("dwconv3x3", self.dwconv3x3.as_ref().map(|v| v as _)),
            ("conv3x3", self.conv3x3.as_ref().map(|v| v as _)),
            ("fc", self.fc.as_ref().map(|v| v as _)),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_print_as_they_are_written() {
        for text in ["4x4:0.3", "4x1:0.5", "2x1:1", "8x1:0", "unstructured:0.85"] {
            assert_eq!(text.parse::<Pointwise>().unwrap().to_string(), text);
        }
        for text in ["5:9", "5:9:0.5"] {
            assert_eq!(text.parse::<Conv3x3>().unwrap().to_string(), text);
        }
        assert_eq!("3:9".parse::<DwConv3x3>().unwrap().to_string(), "3:9");
        assert_eq!("N".parse::<Batch>().unwrap(), Batch::Symbol("N".into()));
        assert_eq!("3".parse::<Batch>().unwrap(), Batch::Fixed(3));
    }

    #[test]
    fn wrong_specs_are_refused_by_their_text() {
        let wrong =
            ["", "4x4", "4x4:", "4x4:1.5", "4x4:-0.1", "4x4:nan", "0x4:0.5", "axb:0.5", "4x4x4:0.5", "x:0.5"];
        for text in wrong {
            let error = format!("{:#}", text.parse::<Pointwise>().unwrap_err());
            assert!(error.contains(&format!("{text:?}")) && error.contains("4x4:0.5"), "{error}");
        }
        for text in ["", "5:8", "5:9:", "5:9:2", "5:90", "5:9:x"] {
            let error = format!("{:#}", text.parse::<Conv3x3>().unwrap_err());
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!("3:8".parse::<DwConv3x3>().is_err());
        for text in ["0", "", "-1", "1x", "N M", "99999999999999999999999"] {
            assert!(text.parse::<Batch>().is_err(), "{text}");
        }
    }
}
