//! Layers of a report, as tables show them.

use crate::load::Source;
use anyhow::Result;
use figures::Progress;
use tract_core::prelude::TypedModel;
use tract_sparse::{LayerKind, LayerReport, Policy, Report};

/// The report of a model, its layers timed one by one if asked.
pub(crate) fn report(source: &Source, model: &TypedModel, measure: bool) -> Result<Report> {
    if !measure {
        return Report::of(model);
    }
    let progress = Progress::new();
    let mut said = |done: usize, all: usize| {
        progress.part(&format!("{source}: timing layers"), done as f64 / all.max(1) as f64);
    };
    Report::measured(model, &Policy::from_knobs()?, &mut said)
}

/// A shape in a few columns: square maps by one side, depthwise layers by one number.
pub(crate) fn short(layer: &LayerReport) -> String {
    let shape = layer.shape();
    let (shape, map) = shape.split_once('@').unwrap_or((&shape, ""));
    let mut shape = shape.to_string();
    if layer.kind == Some(LayerKind::Transposed) {
        let channels = format!("{}x{} ", layer.oc, layer.ic);
        shape = shape.replacen(&channels, &format!("{channels}t"), 1);
    }
    if layer.kind == Some(LayerKind::Depthwise) {
        shape = shape.replacen(&format!("{}x{} ", layer.oc, layer.ic), &format!("{} dw", layer.oc), 1);
    }
    match map.split_once('x') {
        Some((h, w)) if h == w => format!("{shape}@{h}"),
        _ if map.is_empty() => shape,
        _ => format!("{shape}@{map}"),
    }
}

/// The zeros of a layer as options take them; 1x1 is the short name of single weights.
pub(crate) fn zeros_of(layer: &LayerReport) -> String {
    layer.zeros.as_deref().unwrap_or("?").replace("unstructured", "1x1")
}
