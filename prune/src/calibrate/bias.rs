//! The biases of layers: what makes up for a shift of the mean of their outputs.

use crate::layer::{Constants, Layer, Place, attribute};
use crate::onnx::tensor;
use anyhow::{Context, Result};
use tract_onnx::pb::GraphProto;

/// A layer's bias, which moves its outputs.
pub(super) struct Bias {
    /// Where it is; none if it can be added.
    place: Option<Place>,
    /// What moves an output by as much as one more for the products of weights and inputs does.
    scale: f64,
}

impl Bias {
    /// The bias of a convolution or matrix product that may be moved: its own, or one that can be added.
    pub(super) fn of(graph: &GraphProto, layer: &Layer) -> Option<Bias> {
        let node = &graph.node[layer.node];
        if layer.op != "Conv" && layer.op != "Gemm" {
            return None;
        }
        // Gemm: alpha * A * B + beta * C
        let factor = |name: &str| attribute(node, name).map_or(1.0, |a| f64::from(a.f));
        let scale = if layer.op == "Gemm" { factor("alpha") / factor("beta") } else { 1.0 };
        if !scale.is_finite() {
            return None;
        }
        let Some(name) = node.input.get(2).filter(|b| !b.is_empty()) else {
            return Some(Bias { place: None, scale });
        };
        let constants = Constants::of(graph);
        let place = constants.place(name)?;
        let alone = constants.uses(place).len() == 1 && !constants.is_captured(place);
        let tensor = place.get(graph)?;
        let plain = tensor.dims == [layer.shape.oc as i64] && tensor::floats(tensor).is_ok();
        (alone && plain).then_some(Bias { place: Some(place), scale })
    }

    /// Moves every output by `shift`, one value per output channel.
    ///
    /// # Errors
    /// The bias is no longer there, or not of floats.
    pub(super) fn add(self, graph: &mut GraphProto, layer: &Layer, shift: &[f64]) -> Result<()> {
        match self.place {
            Some(place) => {
                let tensor = place.get_mut(graph).context("the bias is gone")?;
                let values = tensor::floats(tensor)?;
                let moved: Vec<f32> =
                    values.iter().zip(shift).map(|(b, s)| (f64::from(*b) + self.scale * s) as f32).collect();
                tensor::set_floats(tensor, &moved)
            }
            None => {
                let mut name = format!("{}.corrected_bias", layer.name);
                while graph.initializer.iter().any(|t| t.name == name) {
                    name.push('_');
                }
                let values: Vec<f32> = shift.iter().map(|s| (self.scale * s) as f32).collect();
                graph.initializer.push(tensor::of_floats(&name, &[values.len()], &values));
                let inputs = &mut graph.node[layer.node].input;
                inputs.truncate(2);
                inputs.push(name);
                Ok(())
            }
        }
    }
}
