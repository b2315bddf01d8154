//! What prune finds, cuts and proves.

use super::case;
use anyhow::Result;
use prune::onnx::tensor;
use prune::{Document, Plan, Recipe, Search, Tract, prove, rearrange};
use std::time::Duration;
use tests::graph::Graph;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use tract_onnx::prelude::*;

fn facts(shapes: &[&[usize]]) -> Vec<(DatumType, Vec<usize>)> {
    shapes.iter().map(|shape| (f32::datum_type(), shape.to_vec())).collect()
}

fn search() -> Search {
    Search { seed: 1, budget: Duration::from_millis(300) }
}

fn of_int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: 2, ..Default::default() }
}

fn of_ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Default::default() }
}

/// Two 1x1 convolutions of 8 channels over maps of 6x6; the graph, the second's output, and its model's input
/// shape.
fn two_layers() -> (Graph, String) {
    let mut graph = Graph::default();
    let mut last = graph.input("1,8,6,6");
    for seed in 1..3 {
        let weights = graph.constant(&[8, 8, 1, 1], &tests::values(64, seed));
        last = graph.op("Conv", &[&last, &weights], vec![]);
    }
    (graph, last)
}

/// Rearranges for half of the 2x2 blocks; the model and how many channels may move.
fn rearranged(model: &ModelProto, shape: &[usize]) -> Result<(ModelProto, usize)> {
    let recipe: Recipe = "ratio = 0.5\nconv1x1 = \"2x2\"".parse()?;
    let plan = Plan::new(model, &recipe)?;
    let mut moved = model.clone();
    let inputs = prune::proof::inputs(&facts(&[shape]), 1)?;
    let done = rearrange(&mut moved, &plan, &Tract, &inputs, search(), &mut |_| ())?;
    Ok((moved, done.channels))
}

fn answers(model: &ModelProto, x: &Tensor) -> Result<TVec<TValue>> {
    Ok(tests::run_optimized(&onnx(), model, std::slice::from_ref(x))?.0)
}

/// The indices of maxima count through all channels: those of the layer before must stay.
#[test]
fn indices_of_maxima_pin_their_channels() -> Result<()> {
    let model = Document::open(&case("maxpool_indices.onnx"))?.model;
    let typed = onnx().model_for_proto_model(&model)?.into_typed()?;
    let shape = typed.input_fact(0)?.shape.as_concrete().unwrap().to_vec();
    let recipe: Recipe = "ratio = 0.5\nexclude = [\"n_Conv_3\"]".parse()?;
    let plan = Plan::new(&model, &recipe)?;
    let mut moved = model.clone();
    let inputs = prune::proof::inputs(&facts(&[&shape]), 1)?;
    rearrange(&mut moved, &plan, &Tract, &inputs, search(), &mut |_| ())?;
    let x = tests::noise(&shape, 9);
    let (before, after) = (answers(&model, &x)?, answers(&moved, &x)?);
    assert!(before.iter().any(|t| !t.datum_type().is_float()), "an output of integers");
    for (before, after) in before.iter().zip(&after) {
        if before.datum_type().is_float() {
            assert!(tests::distance(after, before)? <= tests::TOLERANCE);
        } else {
            assert_eq!(after, before);
        }
    }
    Ok(())
}

/// Whatever a second output is, channels move only if nobody reads it.
#[test]
fn second_outputs_that_are_read_pin_channels() -> Result<()> {
    let pool = || of_ints("kernel_shape", &[2, 2]);
    for (op, attributes) in [("MaxPool", vec![pool()]), ("TopK", vec![of_int("axis", 1)])] {
        for read in [false, true] {
            let (mut graph, last) = two_layers();
            graph.initializer(tensor::of_ints("k", &[1], &[8]));
            let inputs = if op == "TopK" { vec![&*last, "k"] } else { vec![&*last] };
            let first = graph.op(op, &inputs, attributes.clone());
            let weights = graph.constant(&[8, 8, 1, 1], &tests::values(64, 5));
            let out = graph.op("Conv", &[&first, &weights], vec![]);
            let mut model = graph.model(&[&out]);
            let graph = model.graph.as_mut().unwrap();
            let node = graph.node.iter_mut().find(|n| n.op_type == op).unwrap();
            node.output.push("second".into());
            if read {
                graph.output.push(ValueInfoProto { name: "second".into(), ..Default::default() });
            }
            let (moved, channels) = rearranged(&model, &[1, 8, 6, 6])?;
            // between the first two layers all 8 may move, between the others those that are not read
            let free = if op == "MaxPool" && !read { 16 } else { 8 };
            assert_eq!(channels, free, "{op} {read}");
            let x = tests::noise(&[1, 8, 6, 6], 3);
            for (before, after) in answers(&model, &x)?.iter().zip(&answers(&moved, &x)?) {
                assert!(before.datum_type().is_float() || before == after, "{op}");
            }
        }
    }
    Ok(())
}

/// Padding around a map leaves its channels free to move.
#[test]
fn padded_maps_are_followed() -> Result<()> {
    let (mut graph, last) = two_layers();
    graph.initializer(tensor::of_ints("pads", &[8], &[0, 0, 1, 1, 0, 0, 1, 1]));
    let padded = graph.op("Pad", &[&last, "pads"], vec![]);
    let weights = graph.constant(&[8, 8, 1, 1], &tests::values(64, 5));
    let out = graph.op("Conv", &[&padded, &weights], vec![]);
    assert_eq!(rearranged(&graph.model(&[&out]), &[1, 8, 6, 6])?.1, 16);
    Ok(())
}

/// The model with two weights of an initializer exchanged.
fn spoiled(model: &ModelProto, name: &str) -> Result<ModelProto> {
    let mut wrong = model.clone();
    let graph = wrong.graph.as_mut().unwrap();
    let weights = graph.initializer.iter_mut().find(|t| t.name == name).unwrap();
    let mut values = tensor::floats(weights)?;
    values.swap(0, 1);
    tensor::set_floats(weights, &values)?;
    Ok(wrong)
}

/// What the proof says of a model and the same with the first two weights of its first layer exchanged.
fn verdict(model: &ModelProto) -> Result<String> {
    let inputs = prune::proof::inputs(&facts(&[&[1, 8, 6, 6]]), 1)?;
    assert_eq!(prove(model, model, &Tract, &inputs)?, 0.0, "a model is as itself");
    Ok(match prove(model, &spoiled(model, "c1")?, &Tract, &inputs) {
        Ok(far) => format!("proven to {far}"),
        Err(error) => format!("{error:#}"),
    })
}

#[test]
fn outputs_without_evidence_prove_nothing() -> Result<()> {
    for (op, says) in [("Sqrt", "NaN or infinite"), ("Greater", "always 0")] {
        let (mut graph, last) = two_layers();
        let square = graph.op("Mul", &[&last, &last], vec![]);
        let large = graph.constant(&[1], &[1e30]);
        let negative = graph.op("Sub", &[&square, &large], vec![]);
        let inputs = if op == "Sqrt" { vec![&*negative] } else { vec![&*square, &large] };
        let output = graph.op(op, &inputs, vec![]);
        let verdict = verdict(&graph.model(&[&output]))?;
        assert!(verdict.contains("nothing can be proven") && verdict.contains(says), "{verdict}");
    }
    Ok(())
}

/// Classes, and scores beside coordinates that are a thousand times as large.
#[test]
fn every_output_is_compared_by_its_own_scale() -> Result<()> {
    let (mut graph, last) = two_layers();
    let class = graph.op("ArgMax", &[&last], vec![of_int("axis", 1)]);
    let verdict_of_classes = verdict(&graph.model(&[&class]))?;
    assert!(verdict_of_classes.contains("argmax"), "{verdict_of_classes}");

    let (mut graph, last) = two_layers();
    let weights = graph.constant(&[4, 8, 1, 1], &[1e5; 32]);
    let input = "input0";
    let coordinates = graph.op("Conv", &[input, &weights], vec![]);
    let both = graph.op("Concat", &[&coordinates, &last], vec![of_int("axis", 1)]);
    let verdict_of_scores = verdict(&graph.model(&[&both]))?;
    assert!(verdict_of_scores.contains("differs"), "{verdict_of_scores}");
    Ok(())
}

/// The wrong weights are read by one branch alone, whose condition no input reaches.
#[test]
fn branches_that_no_input_reaches_are_compared_too() -> Result<()> {
    for wrong in ["then_branch", "else_branch"] {
        let mut graph = Graph::default();
        let input = graph.input("1,8,6,6");
        let weights = graph.constant(&[8, 8, 1, 1], &tests::values(64, 1));
        let moved = graph.op("Conv", &[&input, &weights], vec![]);
        let bound = graph.constant(&[], &[if wrong == "then_branch" { 1e30 } else { -1e30 }]);
        let largest = graph.op("ReduceMax", &[&input], vec![of_int("keepdims", 0)]);
        let condition = graph.op("Greater", &[&largest, &bound], vec![]);
        let branch = |name: &str| AttributeProto {
            name: name.into(),
            r#type: 5,
            g: Some(GraphProto {
                name: name.into(),
                node: vec![NodeProto {
                    op_type: "Neg".into(),
                    name: format!("{name}.neg"),
                    input: vec![if name == wrong { moved.clone() } else { input.clone() }],
                    output: vec![format!("{name}.y")],
                    ..Default::default()
                }],
                output: vec![ValueInfoProto { name: format!("{name}.y"), ..Default::default() }],
                ..Default::default()
            }),
            ..Default::default()
        };
        let output = graph.op("If", &[&condition], vec![branch("then_branch"), branch("else_branch")]);
        let verdict = verdict(&graph.model(&[&output]))?;
        assert!(verdict.contains("differs"), "{wrong}: {verdict}");
    }
    Ok(())
}

/// The weights of every layer that can be pruned, with its name.
fn weights_of(model: &ModelProto) -> Result<Vec<(prune::Layer, Vec<f32>)>> {
    let graph = model.graph.as_ref().unwrap();
    prune::layer::layers(model)?.into_iter().flatten().map(|l| Ok((l.clone(), l.weights(graph)?))).collect()
}

/// Fails unless exactly the `ratio` fraction of the groups of `r` rows by `c` columns is zero, none of which
/// straddles a part, and every other weight is what it was. Columns are taps where `c` is 1.
fn in_groups(
    layer: &prune::Layer,
    before: &[f32],
    after: &[f32],
    (r, c): (usize, usize),
    ratio: f64,
) -> usize {
    let shape = layer.shape;
    let (taps, columns) = if c == 1 { (1, shape.ic * shape.taps) } else { (shape.taps, shape.ic) };
    let rows = shape.oc / shape.parts;
    let (mut groups, mut gone) = (0, 0);
    for part in 0..shape.parts {
        for row in (0..rows).step_by(r) {
            for col in (0..columns).step_by(c) {
                let cells: Vec<usize> = (row..rows.min(row + r))
                    .flat_map(|row| (col * taps..columns.min(col + c) * taps).map(move |at| (row, at)))
                    .map(|(row, at)| (part * rows + row) * columns * taps + at)
                    .collect();
                let zero = cells.iter().all(|at| after[*at] == 0.0);
                assert!(zero || cells.iter().all(|at| after[*at] == before[*at]), "{}", layer.name);
                groups += 1;
                gone += usize::from(zero);
            }
        }
    }
    assert_eq!(gone, (ratio * groups as f64).round() as usize, "{}: {gone} of {groups}", layer.name);
    after.iter().filter(|w| **w == 0.0).count()
}

/// Every kind of layer loses exactly the groups that were asked for, of one gate or group of channels each;
/// nothing else of the file changes, and both engines give the same answers.
#[test]
fn every_kind_of_layer_is_pruned() -> Result<()> {
    for kind in tests::kinds::kinds() {
        for (structure, group) in
            [("4x4", (4, 4)), ("4x1", (4, 1)), ("8x1", (8, 1)), ("unstructured", (1, 1))]
        {
            let keys = ["conv", "convtranspose", "recurrent"].map(|key| format!("{key} = \"{structure}\""));
            let recipe: Recipe = format!("ratio = 0.7\n{}", keys.join("\n")).parse()?;
            let mut pruned = kind.model.clone();
            let report = prune::prune(&mut pruned, &recipe)?;
            let (before, after) = (weights_of(&kind.model)?, weights_of(&pruned)?);
            assert_eq!(report.pruned().count(), before.len(), "{} {structure}", kind.name);
            for (((layer, before), (_, after)), made) in before.iter().zip(&after).zip(report.pruned()) {
                let zeros = in_groups(layer, before, after, group, 0.7);
                let density = 1.0 - zeros as f64 / after.len() as f64;
                assert_eq!(made.name, layer.name);
                assert!((made.density.unwrap() - density).abs() < 1e-12, "{}: {density}", layer.name);
            }
            let rest = |model: &ModelProto| {
                let mut model = model.clone();
                model.graph.as_mut().unwrap().initializer.retain(|t| t.data_type != 1);
                model
            };
            assert_eq!(rest(&kind.model), rest(&pruned));
            tests::agree(&pruned, &[tests::noise(&kind.shape, 4)])?;
        }
    }
    Ok(())
}

/// Weights behind constant operators: zeros are written where the computed weight is zero, at the zero point
/// of what is quantised, and all other stored numbers keep their bits.
#[test]
fn weights_behind_constant_operators_are_pruned() -> Result<()> {
    let model = Document::open(&case("indirect_weights.onnx"))?.model;
    let typed = onnx().model_for_proto_model(&model)?.into_typed()?;
    let shape = typed.input_fact(0)?.shape.as_concrete().unwrap().to_vec();
    for (structure, group) in [("4x4", (4, 4)), ("unstructured", (1, 1))] {
        let recipe: Recipe =
            format!("ratio = 0.8\nfc = \"{structure}\"\nconv1x1 = \"{structure}\"\nconv = \"{structure}\"")
                .parse()?;
        let mut pruned = model.clone();
        let report = prune::prune(&mut pruned, &recipe)?;
        let (before, after) = (weights_of(&model)?, weights_of(&pruned)?);
        assert_eq!(report.pruned().count(), report.layers.len(), "{report:?}");
        for ((layer, before), (_, after)) in before.iter().zip(&after) {
            // a quantised weight may have been zero before
            let new = after.iter().zip(before).filter(|(a, b)| **a == 0.0 && **b != 0.0).count();
            assert!(new as f64 > 0.6 * after.len() as f64, "{}: {new} of {}", layer.name, after.len());
            let _: usize = if before.iter().all(|w| *w != 0.0) {
                in_groups(layer, before, after, group, 0.8)
            } else {
                0
            };
        }
        // stock tract computes the same zeros
        tests::agree(&pruned, &[tests::noise(&shape, 4)])?;
    }
    Ok(())
}
