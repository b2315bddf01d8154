//! How far two tensors are from each other, in numbers and in words.

use crate::table::by;
use anyhow::{Context, Result};
use figures::{Agreement, top_1};
use tract_core::internal::*;

/// How one tensor compares.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Difference {
    pub(super) name: String,
    shape: Vec<usize>,
    pub(super) max_abs_diff: f64,
    max_abs_stock: f64,
    /// Largest difference relative to its value and scale, as the tolerance is; null if it is infinite.
    pub(super) relative: Option<f64>,
    /// Share of rows along the last axis whose largest value is at the same place, if there are such.
    pub(super) top_1: Option<f64>,
    pub(super) agrees: bool,
    /// Nothing in the stock tensor is finite.
    #[serde(skip)]
    pub(super) hollow: bool,
    /// Where stock and sparse differ: with which of them a plain run of the stock model agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plain_agrees_with: Option<&'static str>,
}

impl Difference {
    /// How `sparse` compares with `stock`.
    ///
    /// # Errors
    /// Tensors that cannot be compared; the message names them.
    pub(super) fn of(name: &str, stock: &Tensor, sparse: &Tensor, tolerance: f64) -> Result<Difference> {
        let found = Agreement::of(stock, sparse, tolerance).with_context(|| name.to_string())?;
        Ok(Difference {
            name: name.into(),
            shape: stock.shape().to_vec(),
            max_abs_diff: found.max_abs_diff,
            max_abs_stock: found.max_abs_expected,
            relative: Some(found.relative).filter(|relative| relative.is_finite()),
            top_1: top_1(stock, sparse).ok().flatten(),
            agrees: found.agrees,
            hollow: stock.datum_type().is_float() && stock.len() > 0 && !any_finite(stock)?,
            plain_agrees_with: None,
        })
    }

    /// A row of the table.
    pub(super) fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            by(&self.shape),
            short(self.max_abs_diff),
            short(self.max_abs_stock),
            if self.agrees { "ok" } else { "differs" }.into(),
        ]
    }

    /// A difference in words, and which side a plain run takes.
    pub(super) fn blame(&self, side: Option<&str>, tolerance: f64) -> String {
        let Difference { name, max_abs_diff, max_abs_stock, .. } = self;
        let relative =
            self.relative.map_or_else(String::new, |relative| format!(", relative {relative:.1e}"));
        let by = format!(
            "differs by {max_abs_diff:.1e} where the values compared with reach {max_abs_stock:.1e}{relative}, \
             tolerance {tolerance:e}"
        );
        let plain = "a plain run of the file, nothing of it simplified by tract,";
        match side {
            Some("sparse") => {
                format!(
                    "output {name} {by}: {plain} agrees with the sparse model, so stock tract is wrong here"
                )
            }
            Some(side) => format!("node {name} {by}; {plain} agrees with {side}"),
            None => format!("node {name} {by}"),
        }
    }
}

fn any_finite(tensor: &Tensor) -> Result<bool> {
    let values = tensor.cast_to::<f64>()?;
    Ok(values.to_plain_array_view::<f64>()?.iter().any(|value| value.is_finite()))
}

/// A number in a few characters.
fn short(number: f64) -> String {
    if number == 0.0 { "0".into() } else { format!("{number:.1e}") }
}
