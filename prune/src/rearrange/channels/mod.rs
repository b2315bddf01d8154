//! Which channels of a network may change places.
//!
//! Every position along a channel axis of an activation or a weight tensor holds a channel. Operators that
//! move positions about (concatenation, split, shuffle, flatten) carry the channels along; operators that
//! combine two tensors element by element make channels in the same position one; weights read and write
//! channels along their axes. A permutation of all channels is sound if every list that weights are indexed
//! by holds the same channels afterwards: so channels that occur in exactly the same lists may be exchanged
//! freely, and no others. Whatever an unknown operator, a graph input or output touches stays in its place.

mod operators;
mod tracker;

use super::Move;
use super::labels::Label;
use crate::layer::Place;
use crate::onnx::tensor;
use crate::runtime::{Runtime, shapes};
use anyhow::{Context, Result};
use std::collections::HashMap;
use tracker::Tracker;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::Tensor;

/// The lists of channels of a model's constants, and which channels may be exchanged.
pub(crate) struct Channels {
    /// Channels along an axis of a constant.
    pub(crate) lists: Vec<(Place, usize, Vec<Label>)>,
    /// Sets of channels that may be exchanged with each other, each of at least two.
    pub(crate) classes: Vec<Vec<u32>>,
}

impl Channels {
    /// Follows the channels of `model`, whose shapes are learned by running it.
    pub(crate) fn of(model: &ModelProto, runtime: &dyn Runtime, inputs: &[Tensor]) -> Result<Channels> {
        let graph = model.graph.as_ref().context("the model has no graph")?;
        let mut tracker = Tracker::new(graph, shapes(model, runtime, inputs)?);
        graph.node.iter().for_each(|node| tracker.node(node));
        tracker.finish()
    }

    /// The channels along an axis of a constant, if any are known.
    pub(crate) fn list(&self, place: Place, axis: usize) -> Option<&[Label]> {
        self.lists.iter().find(|(p, a, _)| (*p, *a) == (place, axis)).map(|(_, _, list)| &**list)
    }

    /// Exchanges channels: position `p` that held channel `c` now holds `to[c]` (or `c` if there is no
    /// entry), with everything that the constants say about it. Returns what has changed in them.
    pub(crate) fn permute(&self, model: &mut ModelProto, to: &HashMap<u32, u32>) -> Result<Vec<Move>> {
        let graph = model.graph.as_mut().context("the model has no graph")?;
        let mut moves = vec![];
        for (place, axis, list) in &self.lists {
            let mut positions: HashMap<Label, Vec<usize>> = HashMap::new();
            list.iter().enumerate().for_each(|(j, label)| positions.entry(*label).or_default().push(j));
            let mut seen: HashMap<Label, usize> = HashMap::new();
            let mut order = vec![];
            for label in list {
                let nth = seen.entry(*label).or_default();
                let wanted = Label { atom: *to.get(&label.atom).unwrap_or(&label.atom), tag: label.tag };
                let from = positions.get(&wanted).and_then(|p| p.get(*nth));
                order.push(*from.context("a permutation moves channels where there are none")?);
                *nth += 1;
            }
            if order.iter().enumerate().any(|(j, from)| j != *from) {
                let tensor = place.get_mut(graph).context("a constant is gone")?;
                let dims = tensor::shape(&tensor.dims)?;
                let (bytes, size) = tensor::bytes(tensor)?;
                let typed = tensor.raw_data.is_empty();
                let permuted = take(&bytes, size, &dims, *axis, &order);
                if typed && !tensor.float_data.is_empty() {
                    let floats =
                        permuted.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    tensor.float_data = floats.collect();
                } else {
                    tensor::set_bytes(tensor, permuted);
                }
                moves.push(Move { tensor: tensor.name.clone(), axis: *axis, order });
            }
        }
        Ok(moves)
    }
}

/// Bytes of a tensor with the positions `order` along `axis`.
fn take(bytes: &[u8], size: usize, dims: &[usize], axis: usize, order: &[usize]) -> Vec<u8> {
    let inner = dims[axis + 1..].iter().product::<usize>() * size;
    let block = dims[axis] * inner;
    let rows = bytes
        .chunks_exact(block.max(1))
        .flat_map(|outer| order.iter().map(move |j| &outer[j * inner..][..inner]));
    rows.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tensor::{floats, of_floats};
    use crate::runtime::Session;
    use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

    /// A runtime that knows shapes only: every tensor is of zeros.
    struct Shapes(Vec<(&'static str, Vec<usize>)>);

    struct Zeros(Vec<Tensor>);

    impl Runtime for Shapes {
        fn open(&self, _: &ModelProto, names: &[String]) -> Result<Box<dyn Session>> {
            let shape = |name: &String| self.0.iter().find(|(known, _)| known == name).unwrap().1.clone();
            let zeros = |name| Tensor::zero::<f32>(&shape(name));
            Ok(Box::new(Zeros(names.iter().map(zeros).collect::<Result<_>>()?)))
        }
    }

    impl Session for Zeros {
        fn run_tensors(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>> {
            Ok(self.0.clone())
        }
    }

    fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output: vec![output.into()],
            attribute,
            ..Default::default()
        }
    }

    fn value(name: &str) -> ValueInfoProto {
        ValueInfoProto { name: name.into(), ..Default::default() }
    }

    /// Weights that count up.
    fn counted(name: &str, dims: &[usize]) -> TensorProto {
        let values: Vec<f32> = (0..dims.iter().product::<usize>()).map(|i| i as f32).collect();
        of_floats(name, dims, &values)
    }

    fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
        let (input, output) = (vec![value("x")], vec![value("y")]);
        let graph = GraphProto { node, initializer, input, output, ..Default::default() };
        ModelProto { graph: Some(graph), ..Default::default() }
    }

    fn constants(model: &ModelProto) -> Vec<Vec<f32>> {
        model.graph.iter().flat_map(|g| &g.initializer).map(|t| floats(t).unwrap()).collect()
    }

    /// Two 1x1 convolutions: the channels between them may move, with the bias; inputs and outputs of the
    /// model may not.
    #[test]
    fn channels_between_layers_move_together() {
        let mut model = model(
            vec![
                node("Conv", &["x", "v", "b"], "h", vec![]),
                node("Relu", &["h"], "r", vec![]),
                node("Conv", &["r", "w"], "y", vec![]),
            ],
            vec![counted("v", &[3, 2, 1, 1]), counted("b", &[3]), counted("w", &[2, 3, 1, 1])],
        );
        let shapes = [("h", 3), ("r", 3), ("y", 2)].map(|(name, c)| (name, vec![1, c, 1, 1]));
        let channels = Channels::of(&model, &Shapes(shapes.to_vec()), &[]).unwrap();
        let [class] = &channels.classes[..] else { panic!("{:?}", channels.classes) };
        assert_eq!(class.len(), 3);
        // the first place holds the last channel, and so on
        let to = HashMap::from([(class[0], class[2]), (class[2], class[0])]);
        channels.permute(&mut model, &to).unwrap();
        let [v, b, w] = &constants(&model)[..] else { panic!() };
        assert_eq!(v, &[4.0, 5.0, 2.0, 3.0, 0.0, 1.0]);
        assert_eq!(b, &[2.0, 1.0, 0.0]);
        assert_eq!(w, &[2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    }

    /// What is added to the input of the model stays with it; an operator that nobody knows holds what it
    /// reads.
    #[test]
    fn what_meets_the_outside_stays() {
        for (op, attribute) in [("Add", vec![]), ("Unheard", vec![])] {
            let inputs: &[&str] = if op == "Add" { &["h", "x"] } else { &["h"] };
            let model = model(
                vec![
                    node("Conv", &["x", "v"], "h", vec![]),
                    node(op, inputs, "s", attribute),
                    node("Conv", &["s", "w"], "y", vec![]),
                ],
                vec![counted("v", &[3, 3, 1, 1]), counted("w", &[2, 3, 1, 1])],
            );
            let shapes = [("h", 3), ("s", 3), ("y", 2)].map(|(name, c)| (name, vec![1, c, 1, 1]));
            let channels = Channels::of(&model, &Shapes(shapes.to_vec()), &[]).unwrap();
            assert!(channels.classes.is_empty(), "{op}: {:?}", channels.classes);
        }
    }

    /// Channels of two layers that are concatenated are two classes, each in its part of what reads them.
    #[test]
    fn concatenated_channels_stay_in_their_parts() {
        let axis = AttributeProto { name: "axis".into(), i: 1, r#type: 2, ..Default::default() };
        let mut model = model(
            vec![
                node("Conv", &["x", "u"], "g", vec![]),
                node("Conv", &["x", "v"], "h", vec![]),
                node("Concat", &["g", "h"], "c", vec![axis]),
                node("Conv", &["c", "w"], "y", vec![]),
            ],
            vec![counted("u", &[2, 1, 1, 1]), counted("v", &[3, 1, 1, 1]), counted("w", &[1, 5, 1, 1])],
        );
        let shapes = [("g", 2), ("h", 3), ("c", 5), ("y", 1)].map(|(name, c)| (name, vec![1, c, 1, 1]));
        let channels = Channels::of(&model, &Shapes(shapes.to_vec()), &[]).unwrap();
        let mut sizes: Vec<usize> = channels.classes.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 3]);
        let class = channels.classes.iter().find(|class| class.len() == 3).unwrap();
        channels.permute(&mut model, &HashMap::from([(class[0], class[1]), (class[1], class[0])])).unwrap();
        let [u, v, w] = &constants(&model)[..] else { panic!() };
        assert_eq!((&u[..], &v[..]), (&[0.0, 1.0][..], &[1.0, 0.0, 2.0][..]));
        assert_eq!(w, &[0.0, 1.0, 3.0, 2.0, 4.0]);
    }

    #[test]
    fn positions_are_taken_along_any_axis() {
        let bytes: Vec<u8> = (0..12).collect();
        assert_eq!(take(&bytes, 2, &[3, 2], 0, &[2, 0, 1]), [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(take(&bytes, 1, &[2, 3, 2], 1, &[2, 1, 0]), [4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7]);
    }
}
