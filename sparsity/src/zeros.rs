//! A structure, and how much of it is zero.

use crate::structure::parse;
use crate::{Error, Layers, Structure, check_fraction, parse_fraction};
use std::fmt;
use std::str::FromStr;

/// Zeros of a layer: `4x4:0.5`, `3:9`, `5:9:0.5`; without a ratio where something else says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zeros {
    structure: Structure,
    ratio: Option<f64>,
}

impl Zeros {
    /// Removes the `ratio` fraction of the groups of a structure.
    ///
    /// # Errors
    /// A ratio outside 0..=1, or for a structure that removes no groups.
    pub fn new(structure: Structure, ratio: f64) -> Result<Zeros, Error> {
        if !structure.removes_groups() {
            return Err(Error::new(format!("{structure} removes no groups and takes no ratio")));
        }
        check_fraction("ratio", ratio)?;
        // not -0
        Ok(Zeros { structure, ratio: Some(ratio + 0.0) })
    }

    /// The structure.
    pub fn structure(self) -> Structure {
        self.structure
    }

    /// Fraction of the groups that is removed, if it is said.
    pub fn ratio(self) -> Option<f64> {
        self.ratio
    }

    /// Whether nothing else has to say how much is removed.
    pub fn is_complete(self) -> bool {
        self.ratio.is_some() || !self.structure.needs_ratio()
    }
}

impl From<Structure> for Zeros {
    fn from(structure: Structure) -> Zeros {
        Zeros { structure, ratio: None }
    }
}

impl fmt::Display for Zeros {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.ratio {
            Some(ratio) => write!(f, "{}:{ratio}", self.structure),
            None => self.structure.fmt(f),
        }
    }
}

impl FromStr for Zeros {
    type Err = Error;

    fn from_str(text: &str) -> Result<Zeros, Error> {
        parse_zeros(text).map_err(|error| Layers::expected(text, error, &Layers::ALL))
    }
}

/// Zeros as they are written; an error does not say yet what is allowed.
pub(crate) fn parse_zeros(text: &str) -> Result<Zeros, Error> {
    // the first colon of 2:4, 3:9 and 5:9 is part of the name
    let name = ["2:4", "3:9", "5:9"].into_iter().find(|name| text.starts_with(name)).map_or(0, str::len);
    match text[name..].split_once(':') {
        Some((rest, ratio)) => {
            let structure = parse(&text[..name + rest.len()])?;
            Zeros::new(structure, parse_fraction("ratio", ratio)?)
        }
        None => parse(text).map(Zeros::from),
    }
}
