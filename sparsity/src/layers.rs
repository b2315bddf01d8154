//! Which zeros are for which layers.

use crate::setting::parse_setting;
use crate::{Error, Setting, Structure};
use std::fmt;

/// Kinds of layers, by the zeros that they can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// Depthwise convolutions of 3x3 kernels, which have patterns alone.
    Depthwise3x3,
    /// Other convolutions of 3x3 kernels.
    Conv3x3,
    /// All others: 1x1 and fully connected layers, other kernels, recurrent matrices.
    Others,
}

impl Layers {
    /// All kinds.
    pub const ALL: [Layers; 3] = [Layers::Others, Layers::Conv3x3, Layers::Depthwise3x3];

    /// Whether these layers can have such zeros.
    pub fn take(self, structure: Structure) -> bool {
        match structure {
            Structure::Blocks(_) | Structure::TwoOfFour => self != Layers::Depthwise3x3,
            Structure::ThreeOfNine(_) => self == Layers::Depthwise3x3,
            Structure::FiveOfNine(_) => self == Layers::Conv3x3,
        }
    }

    /// The zeros that these layers can have, for people.
    pub fn allowed(self) -> &'static str {
        match self {
            Layers::Depthwise3x3 => {
                "3:9, 3:9/N (N = 8, 4 or 1 channels share a pattern), 3:9+F (F stay dense)"
            }
            Layers::Conv3x3 => {
                "5:9, 5:9:R, 5:9/N (N = 2 or 1 filters share a pattern), RxC:R, unstructured:R, 2:4"
            }
            Layers::Others => "RxC:R such as 4x4:0.5, unstructured:R, 2:4",
        }
    }

    /// Reads a setting for these layers. Blocks need no ratio if `complete` is false: something else says it.
    ///
    /// # Errors
    /// What is no setting, is not for these layers, or does not say all; the message lists what is allowed.
    pub fn parse(self, text: &str, complete: bool) -> Result<Setting, Error> {
        let setting = parse_setting(text).and_then(|setting| {
            let Some(zeros) = setting.zeros() else { return Ok(setting) };
            if !self.take(zeros.structure()) {
                Err(Error::new(format!("{} is not for {self}", zeros.structure())))
            } else if complete && !zeros.is_complete() {
                Err(Error::new("no ratio"))
            } else {
                Ok(setting)
            }
        });
        setting.map_err(|error| Layers::expected(text, error, &[self]))
    }

    /// The error of a text that is none of what these layers can have.
    pub(crate) fn expected(text: &str, error: Error, layers: &[Layers]) -> Error {
        let allowed: Vec<&str> = layers.iter().map(|layers| layers.allowed()).collect();
        Error::new(format!("{text:?}: {error}; expected {} or none", allowed.join("; ")))
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Layers::Depthwise3x3 => "depthwise 3x3 convolutions",
            Layers::Conv3x3 => "3x3 convolutions",
            Layers::Others => "layers other than 3x3 convolutions",
        })
    }
}
