//! What a network should look like: size, seed, and which zeros its weights have.

use anyhow::{Result, bail, ensure};
use sparsity::{Layers, Zeros};
use std::fmt;
use std::str::FromStr;

/// First dimension of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// This number of images.
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
    pub conv1x1: Option<Zeros>,
    /// Zeros of every depthwise 3x3 convolution.
    pub dwconv3x3: Option<Zeros>,
    /// Zeros of every other 3x3 convolution but the entry layer.
    pub conv3x3: Option<Zeros>,
    /// Zeros of the fully connected layers; `conv1x1` does not touch them.
    pub fc: Option<Zeros>,
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
        for (name, layers, zeros) in [
            ("conv1x1", Layers::Others, self.conv1x1),
            ("dwconv3x3", Layers::Depthwise3x3, self.dwconv3x3),
            ("conv3x3", Layers::Conv3x3, self.conv3x3),
            ("fc", Layers::Others, self.fc),
        ] {
            let Some(zeros) = zeros else { continue };
            let allowed = layers.allowed();
            ensure!(layers.take(zeros.structure()), "{name} = {zeros}: not for {layers}; expected {allowed}");
            ensure!(zeros.is_complete(), "{name} = {zeros}: no ratio; expected {allowed}");
        }
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
    use sparsity::Structure;

    #[test]
    fn batches_print_as_they_are_written() {
        assert_eq!("N".parse::<Batch>().unwrap(), Batch::Symbol("N".into()));
        assert_eq!("3".parse::<Batch>().unwrap(), Batch::Fixed(3));
    }

    #[test]
    fn wrong_specs_are_refused_by_their_text() {
        for (spec, what) in [
            (
                Spec { conv1x1: Some(Structure::FIVE_OF_NINE.into()), ..Spec::default() },
                "conv1x1 = 5:9: not for",
            ),
            (Spec { fc: Some(Structure::BLOCKS_4X4.into()), ..Spec::default() }, "fc = 4x4: no ratio"),
            (Spec { dwconv3x3: Some("2:4".parse().unwrap()), ..Spec::default() }, "dwconv3x3 = 2:4"),
        ] {
            let error = spec.check().unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("expected"), "{error}");
        }
        for text in ["0", "", "-1", "1x", "N M", "99999999999999999999999"] {
            assert!(text.parse::<Batch>().is_err(), "{text}");
        }
    }
}
