//! The page that `inspect --html` writes: one file that needs no other.

use anyhow::{Context, Result};
use rewriter::Map;
use serde_json::{Value, json};
use tract_sparse::{LayerReport, Report};

/// The page without its data.
const TEMPLATE: &str = include_str!("page.html");
/// Where the data goes.
const MARK: &str = "@DATA@";
/// Digits of a share, from 0 to 63.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The page of a report: `value` is what `--json` prints of it, `maps` has one entry for every layer; `timed`
/// says that what it calls predicted has been measured while the model was loaded.
pub(super) fn page(value: &Value, report: &Report, timed: bool, maps: &[Option<Map>]) -> Result<String> {
    let (stock_ms, ours_ms) = report.total_ms();
    let data = json!({
        "report": value,
        "shapes": report.layers.iter().map(LayerReport::shape).collect::<Vec<_>>(),
        "stock_ms": stock_ms,
        "ours_ms": ours_ms,
        "timed": timed,
        "maps": maps.iter().map(|map| map.as_ref().map(picture)).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    // in JSON, `<` stands only in strings: as an escape it can neither end the script nor begin a comment
    let data = serde_json::to_string(&data)?.replace('<', "\\u003c");
    let (before, after) =
        TEMPLATE.split_once(MARK).context("the template of the page has no place for data")?;
    Ok(format!("{before}{data}{after}"))
}

/// A map with one digit per cell.
fn picture(map: &Map) -> Value {
    let cells: String = map.shares().iter().map(|share| digit(*share)).collect();
    json!({ "matrix": map.matrix(), "cell": map.cell(), "size": map.size(), "cells": cells })
}

/// A share in 63rds; only nothing is the first digit, and only everything the last.
fn digit(share: f32) -> char {
    let at = match share {
        0.0 => 0,
        1.0 => 63,
        _ => ((share * 63.0).round() as usize).clamp(1, 62),
    };
    DIGITS[at] as char
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_keep_the_ends_apart() {
        assert_eq!([0.0, 1e-6, 0.5, 0.9999, 1.0].map(digit), ['A', 'B', 'g', '+', '/']);
    }

    #[test]
    fn names_cannot_break_out() {
        let name = "a</script><!--<script>";
        let report = Report {
            target: "t".into(),
            costs: "c".into(),
            precision: tract_sparse::Precision::F32,
            precision_note: None,
            layers: vec![],
            optimised: false,
            quantises: false,
            mode: tract_sparse::Mode::Auto,
        };
        let page = page(&json!({ "model": name }), &report, false, &[]).unwrap();
        assert!(!page.contains(name) && page.matches("</script>").count() == 2, "{page}");
        let data = page.split_once("application/json\">").unwrap().1.split_once("</script>").unwrap().0;
        assert_eq!(serde_json::from_str::<Value>(data).unwrap()["report"]["model"], name);
    }
}
