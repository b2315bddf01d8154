//! The report as text: the table of `tract-sparse inspect` and what it means.

use super::{LayerReport, Report};
use crate::analyse::LayerKind;
use crate::policy::{Mode, Precision};
use crate::table::{Table, ms, names, wrap};
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text(None, f.alternate()))
    }
}

impl Report {
    /// The table and what it means, no line longer than 80 columns. The summary begins with the name of the
    /// model, if one is given; with `all`, long lists of names are written out.
    pub fn text(&self, model: Option<&str>, all: bool) -> String {
        let mut table =
            Table::new(&["layer", "<shape", "dens", "<zeros", "fill", "even", "stock", "ours", "%", "<runs"]);
        for layer in &self.layers {
            table.row(row(layer));
        }
        let times = match self.mode {
            Mode::Measure => "measured ms",
            _ => "predicted ms",
        };
        let mut text = table.text();
        text.push('\n');
        text += &wrap(
            &format!(
                "{}{} of {} layers run sparse on {}. dens: share of nonzero weights; zeros: as \
                 prune takes them (1x1: single weights); fill: the same among \
                 those that are stored; even: stored share below which the layer runs sparse; stock, ours: {times}; \
                 %: share of the time of all layers. Cost table: {}.",
                model.map_or_else(String::new, |model| format!("{model}: ")),
                self.sparse_layers(),
                self.layers.len(),
                self.target,
                self.costs
            ),
            0,
        );
        for (what, layers) in grouped(&self.layers) {
            text += &wrap(&format!("{what}: {}", names(&layers, all)), 4);
        }
        text += &self.widened_text(all);
        let reasons = self.layers.iter().any(|layer| layer.why_f32.is_some());
        if self.int8_layers() > 0 || (reasons && self.precision == Precision::F32) {
            let (int8, all_here) = (self.int8_layers(), self.sparse_layers());
            let known = if self.optimised { "" } else { ", if all around them is quantised: -O knows" };
            text += &wrap(&format!("int8: {int8} of the {all_here} layers that run here{known}"), 4);
        }
        if self.precision == Precision::F32 {
            text += &self.why_f32_text(all);
        }
        if let Some(note) = &self.precision_note {
            text += &wrap(&format!("half precision: {note}"), 4);
        } else if self.precision == Precision::Half {
            text += &self.precision_text(all);
        }
        for chain in
            self.layers.chunk_by(|a, b| a.chain == b.chain).filter(|layers| layers[0].chain.is_some())
        {
            let layers: Vec<&str> = chain.iter().map(|layer| &*layer.name).collect();
            text += &wrap(
                &format!(
                    "band by band, none of the maps between written as a whole: {}",
                    names(&layers, all)
                ),
                4,
            );
        }
        let dead: Vec<String> = self.layers.iter().filter_map(dead).collect();
        if !dead.is_empty() {
            text += &wrap(&format!("channels without a weight: {}", names(&dead, all)), 4);
        }
        text
    }
}

impl Report {
    /// Which layers run here that the model has in another type, by what they compute in.
    fn widened_text(&self, all: bool) -> String {
        let mut text = String::new();
        let here = || self.layers.iter().filter(|layer| layer.chosen.is_some());
        let types =
            here().filter_map(|layer| Some((layer.model_type.as_deref()?, layer.precision.as_deref()?)));
        let mut types: Vec<(&str, &str)> = types.collect();
        types.sort_unstable();
        types.dedup();
        for (stored, computed) in types {
            let of = |layer: &&LayerReport| {
                layer.model_type.as_deref() == Some(stored) && layer.precision.as_deref() == Some(computed)
            };
            let layers: Vec<&str> = here().filter(of).map(|layer| &*layer.name).collect();
            let words = format!("{stored} in the model, computed in {computed} with all that lies between");
            text += &wrap(&format!("{words}: {}", names(&layers, all)), 4);
        }
        text
    }

    /// How many layers have half precision, and why the others that run here do not.
    fn precision_text(&self, all: bool) -> String {
        let (half, all_here) = (self.half_layers(), self.sparse_layers());
        wrap(&format!("half precision: {half} of the {all_here} layers that run here"), 4)
            + &self.why_f32_text(all)
    }

    /// Why layers that run here compute in f32 where something else was wanted.
    fn why_f32_text(&self, all: bool) -> String {
        let mut text = String::new();
        let mut reasons: Vec<(&str, Vec<&str>)> = vec![];
        for layer in self.layers.iter().filter(|layer| layer.chosen.is_some()) {
            let Some(why) = layer.why_f32.as_deref() else { continue };
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(&layer.name),
                None => reasons.push((why, vec![&layer.name])),
            }
        }
        for (why, layers) in reasons {
            text += &wrap(&format!("f32, {why}: {}", names(&layers, all)), 4);
        }
        text
    }
}

impl LayerReport {
    /// Where it runs in one word: `stock`, `here`, or in half precision or int8 its name.
    pub fn runs(&self) -> &str {
        match self.precision.as_deref().filter(|_| self.is_half() || self.is_int8()) {
            _ if self.chosen.is_none() => "stock",
            Some(half) => half,
            None => "here",
        }
    }

    /// The [shape](LayerReport::shape) in fewer columns: square maps by one side, depthwise layers by one
    /// number of channels.
    pub fn short_shape(&self) -> String {
        let shape = self.shape();
        let (shape, map) = shape.split_once('@').unwrap_or((&shape, ""));
        let channels = format!("{}x{} ", self.oc, self.ic);
        let shape = match self.kind {
            Some(LayerKind::Transposed) => shape.replacen(&channels, &format!("{channels}t"), 1),
            Some(LayerKind::Depthwise) => shape.replacen(&channels, &format!("{} dw", self.oc), 1),
            _ => shape.to_string(),
        };
        match map.split_once('x') {
            Some((h, w)) if h == w => format!("{shape}@{h}"),
            _ if map.is_empty() => shape,
            _ => format!("{shape}@{map}"),
        }
    }

    /// The zeros as options take them, in fewer columns: 1x1 is the short name of single weights. `?` if they
    /// are not known.
    pub fn short_zeros(&self) -> String {
        self.zeros.as_deref().unwrap_or("?").replace("unstructured", "1x1")
    }
}

fn row(layer: &LayerReport) -> Vec<String> {
    let share = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.2}"));
    let time = |v: Option<f64>| v.map_or_else(String::new, ms);
    vec![
        layer.name.clone(),
        layer.short_shape(),
        share(layer.density),
        layer.short_zeros(),
        share(layer.fill),
        share(layer.break_even),
        time(layer.stock_ms),
        time(layer.sparse_ms),
        layer.share.map_or_else(String::new, |share| format!("{:.0}", 100.0 * share)),
        layer.runs().into(),
    ]
}

/// Layers by the kernel that runs them, then by the reason why none does, in order of appearance.
fn grouped(layers: &[LayerReport]) -> Vec<(String, Vec<&str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = vec![];
    let sparse =
        layers.iter().filter_map(|layer| Some((layer, format!("kernel {}", layer.chosen.as_ref()?))));
    let stock = layers
        .iter()
        .filter(|layer| layer.chosen.is_none())
        .map(|layer| (layer, format!("stock, {}", layer.reason.as_deref().unwrap_or("no reason given"))));
    for (layer, what) in sparse.chain(stock) {
        match groups.iter_mut().find(|(known, _)| *known == what) {
            Some((_, names)) => names.push(&layer.name),
            None => groups.push((what, vec![&layer.name])),
        }
    }
    groups
}

/// The channels of a layer that have no weight, in words.
fn dead(layer: &LayerReport) -> Option<String> {
    let (oc, ic) = (layer.dead_oc.unwrap_or(0), layer.dead_ic.unwrap_or(0));
    (oc + ic > 0).then(|| format!("{} {oc} out {ic} in", layer.name))
}
