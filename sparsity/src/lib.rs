//! The words for zeros: how the weights of a layer are removed, and how many of them.
//!
//! Everything that reads or writes such words does it here: options of the command line, recipes, reports,
//! and the metadata of files. What is printed is read as the same value.
//!
//! ```text
//! zeros      structure [:R]        R is the fraction of the groups that is removed, from 0 to 1
//! structure  RxC                   groups of R output by C input channels are removed as a whole: 4x4, 4x1
//!            unstructured          single weights: 1x1
//!            2:4                   two of every four neighbouring input channels stay; takes no R
//!            3:9 [/N] [+F]         depthwise 3x3: three of nine weights go, the same ones for N = 16, 8, 4 or 1 channels (16);
//!                                  the fraction F of the channel groups stays dense (0); takes no R
//!            5:9 [/N]              3x3: five of nine weights go, the same ones for N = 4, 2 or 1 filters (4) by four input
//!                                  channels; R removes groups of 4x4 kernels altogether (0)
//! setting    zeros, or none for layers that stay as they are (dense is read as the same)
//! ```
//!
//! ```
//! use sparsity::{Structure, Zeros};
//!
//! let zeros: Zeros = "5:9/2:0.5".parse()?;
//! assert_eq!(zeros.structure(), Structure::five_of_nine(2)?);
//! assert_eq!(zeros.ratio(), Some(0.5));
//! assert_eq!(zeros.to_string(), "5:9/2:0.5");
//! # Ok::<(), sparsity::Error>(())
//! ```

mod error;
mod layers;
pub mod patterns;
mod setting;
mod structure;
mod zeros;

pub use error::Error;
pub use layers::Layers;
pub use setting::Setting;
pub use structure::{Block, FiveOfNine, Structure, ThreeOfNine};
pub use zeros::Zeros;

/// Refuses what is not a fraction; `what` is the name of the number.
///
/// # Errors
/// `value` is outside 0..=1.
pub fn check_fraction(what: &str, value: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::new(format!("{what} {value} is not between 0 and 1")))
    }
}

/// A fraction written as a number.
pub(crate) fn parse_fraction(what: &str, text: &str) -> Result<f64, Error> {
    let value = text.parse().map_err(|_| Error::new(format!("{what} {text:?} is not a number")))?;
    check_fraction(what, value)?;
    Ok(value)
}
