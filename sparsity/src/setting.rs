//! What is wanted of a kind of layers.

use crate::zeros::parse_zeros;
use crate::{Error, Layers, Zeros};
use std::fmt;
use std::str::FromStr;

/// Zeros, or `none` for layers that stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Setting(Option<Zeros>);

impl Setting {
    /// Layers stay as they are.
    pub const NONE: Setting = Setting(None);

    /// The zeros, unless there are none.
    pub fn zeros(self) -> Option<Zeros> {
        self.0
    }
}

impl<T: Into<Zeros>> From<T> for Setting {
    fn from(zeros: T) -> Setting {
        Setting(Some(zeros.into()))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(zeros) => zeros.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Setting, Error> {
        parse_setting(text).map_err(|error| Layers::expected(text, error, &Layers::ALL))
    }
}

/// A setting as it is written; an error does not say yet what is allowed.
pub(crate) fn parse_setting(text: &str) -> Result<Setting, Error> {
    match text {
        "none" | "dense" => Ok(Setting::NONE),
        _ => parse_zeros(text).map(Setting::from),
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Setting {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Setting, D::Error> {
        let text: String = serde::Deserialize::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
