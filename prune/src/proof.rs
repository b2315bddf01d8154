//! Whether two models compute the same, shown by running both.

use crate::layer::captured_names;
use crate::runtime::{Array, Runtime, Session, even, normal, outputs};
use anyhow::{Context, Result, ensure};
use figures::{Agreement, nudged};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
use tract_onnx::prelude::*;

/// What the outputs of a network and of its rearrangement may differ by, relative to their scale (see
/// [`Agreement::of_run`]): each layer adds the same products in another order, and errors of a few units in
/// the last place (6e-8) grow through some fifty layers. A channel in the wrong place shows at 1e-2 and more.
pub const PROOF: f64 = 1e-4;

/// How floats of an input are drawn: standard normal values times a factor plus an offset, or evenly from 0
/// to a bound.
#[derive(Clone, Copy)]
enum Range {
    Normal(f32, f32),
    Even(f32),
}

/// Several draws of the usual kind, so that outputs of few values can be compared over runs; then what turns
/// conditions round.
const RANGES: [Range; 14] = [
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 0.0),
    Range::Normal(1.0, 1.0),
    Range::Normal(1.0, -1.0),
    Range::Even(1.0),
    Range::Normal(0.1, 0.0),
    Range::Normal(10.0, 0.0),
    Range::Even(255.0),
];
/// What integers stay below, run by run: counts of turns, indices, lengths.
const BOUNDS: [u64; 14] = [2, 1, 3, 2, 4, 5, 2, 8, 3, 2, 6, 4, 16, 10];

/// Real runs that a rearrangement is proven on, besides those that are made up.
const REAL: usize = 4;

/// [`inputs`], and the first few of some real runs.
///
/// # Errors
/// As [`inputs`].
pub fn inputs_with(
    of: &[(DatumType, Vec<usize>)],
    seed: u64,
    real: &[Vec<Array>],
) -> Result<Vec<Vec<Tensor>>> {
    let mut all = inputs(of, seed)?;
    for run in real.iter().take(REAL) {
        all.push(run.iter().map(Array::tensor).collect::<Result<_>>()?);
    }
    Ok(all)
}

/// Inputs of the given types and shapes for [`prove`], one entry a run: floats of several ranges, small
/// integers, and booleans in all combinations of their first values.
///
/// # Errors
/// A type that has no numbers.
pub fn inputs(of: &[(DatumType, Vec<usize>)], seed: u64) -> Result<Vec<Vec<Tensor>>> {
    let blob = of.iter().position(|(dt, _)| *dt == DatumType::Blob);
    ensure!(blob.is_none(), "input {} is a blob: nothing can be made up for it", blob.unwrap_or(0));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut run = |turn: usize| -> Result<Vec<Tensor>> {
        let mut flags = 0;
        of.iter()
            .map(|(dt, shape)| {
                let len = shape.iter().product();
                // scalars count from what runs a loop once and takes the first branch
                let tensor = if *dt == DatumType::Bool {
                    let first = turn >> flags & 1 == 0;
                    flags += 1;
                    let values: Vec<bool> =
                        (0..len).map(|i| if i == 0 { first } else { rng.next_u64() >> 63 == 0 }).collect();
                    Tensor::from_shape(shape, &values)?
                } else if dt.is_float() {
                    let mut even = || even(&mut rng);
                    let values: Vec<f32> = (0..len)
                        .map(|_| match RANGES[turn] {
                            Range::Normal(by, plus) => normal(&mut even) * by + plus,
                            Range::Even(bound) => even() * bound,
                        })
                        .collect();
                    Tensor::from_shape(shape, &values)?
                } else {
                    let bound = BOUNDS[turn];
                    let values: Vec<i64> = (0..len)
                        .map(|i| if i == 0 { bound - 1 } else { rng.next_u64() % bound } as i64)
                        .collect();
                    Tensor::from_shape(shape, &values)?
                };
                Ok(tensor.cast_to_dt(*dt)?.into_owned())
            })
            .collect()
    };
    (0..RANGES.len()).map(&mut run).collect()
}

/// Runs two models that should compute the same; returns the largest difference of their outputs relative to
/// its scale.
///
/// Every output of every type is compared, by [`Agreement::of_run`] with [`PROOF`], alone and together with
/// the other runs whose inputs are of like size; where a value is beyond it, with what the output moves by
/// besides. What is no float must be equal, unless the original's own changes when its inputs do by a
/// millionth: then rounding decides it, and that run says nothing of it. An output that depends on what
/// differs between the models must take at least two finite values over all runs: one that is constant, NaN
/// or infinite proves nothing. Branches of `If` that the conditions do not reach are forced besides. Inputs
/// that the original cannot be run on are passed over.
///
/// # Errors
/// The outputs differ, or prove nothing; one of the models cannot be run.
pub fn prove(
    original: &ModelProto,
    changed: &ModelProto,
    runtime: &dyn Runtime,
    inputs: &[Vec<Tensor>],
) -> Result<f64> {
    let touched = touched(original, changed)?;
    let mut proof = Proof { touched, worst: 0.0, evidence: BTreeMap::new() };
    let (ran, refused) = proof.compare(original, changed, runtime, inputs)?;
    if let Some(error) = refused.filter(|_| ran == 0) {
        return Err(error.context("running the original"));
    }
    ensure!(ran > 0, "there are no inputs to run the original on");
    for forced in FORCED {
        let (Some(original), Some(changed)) = (force(original, forced), force(changed, forced)) else {
            break;
        };
        // a branch for other shapes than these cannot be run, in neither model
        if runtime.open(&original, &outputs(&original)).is_ok() {
            proof.compare(&original, &changed, runtime, inputs)?;
        }
    }
    let mute = outputs(original)
        .into_iter()
        .find(|name| proof.touched.contains(name) && !proof.evidence.get(name).is_some_and(|e| e.varies));
    if let Some(name) = mute {
        let values = proof.evidence.get(&name).and_then(|e| e.first);
        let values = values.map_or("NaN or infinite".into(), |v| format!("always {v}"));
        anyhow::bail!(
            "nothing can be proven: output {name} is {values} on all {ran} inputs tried; real ones may help"
        );
    }
    Ok(proof.worst)
}

/// What an output has shown.
#[derive(Default)]
struct Evidence {
    first: Option<f64>,
    varies: bool,
}

struct Proof {
    /// Tensors that depend on what differs.
    touched: HashSet<String>,
    worst: f64,
    evidence: BTreeMap<String, Evidence>,
}

/// Runs of inputs of like size.
#[derive(Default)]
struct Alike {
    expected: Vec<Tensor>,
    got: Vec<Tensor>,
    /// Of the inputs.
    runs: Vec<usize>,
}

impl Proof {
    /// Compares two models on all inputs that the first can be run on; returns how many those were, and why
    /// not another.
    fn compare(
        &mut self,
        original: &ModelProto,
        changed: &ModelProto,
        runtime: &dyn Runtime,
        inputs: &[Vec<Tensor>],
    ) -> Result<(usize, Option<anyhow::Error>)> {
        let names = outputs(original);
        let (mut original, mut changed) = (runtime.open(original, &names)?, runtime.open(changed, &names)?);
        let mut alike: BTreeMap<(usize, i64, Vec<usize>), Alike> = BTreeMap::new();
        let (mut ran, mut refused) = (vec![], None);
        let mut largest = vec![0f64; names.len()];
        for (run, input) in inputs.iter().enumerate() {
            match original.run_tensors(input) {
                Ok(expected) => {
                    for (largest, expected) in largest.iter_mut().zip(&expected) {
                        *largest = largest.max(magnitude(expected)?);
                    }
                    ran.push((run, expected));
                }
                Err(error) => refused = Some(error),
            }
        }
        let count = ran.len();
        for (run, expected) in ran {
            let input = &inputs[run];
            let got = changed.run_tensors(input).context("running the rearranged model")?;
            ensure!(got.len() == expected.len(), "{} outputs, expected {}", got.len(), expected.len());
            let size = size(input)?;
            for (output, (expected, got)) in expected.into_iter().zip(got).enumerate() {
                let name = &names[output];
                if let Some(far) =
                    same(name, input, [&expected, &got], (output, largest[output]), &mut *original)?
                {
                    self.worst = self.worst.max(far);
                    self.evidence.entry(name.clone()).or_default().add(&expected)?;
                }
                if expected.datum_type().is_float() {
                    let group = alike.entry((output, size, expected.shape().to_vec())).or_default();
                    group.expected.push(expected);
                    group.got.push(got);
                    group.runs.push(run);
                }
            }
        }
        for ((output, ..), alike) in alike.into_iter().filter(|(_, alike)| alike.runs.len() > 1) {
            let (expected, got) = (stacked(&alike.expected)?, stacked(&alike.got)?);
            let mut found = Agreement::of_run(&expected, &got, None, PROOF, largest[output])?;
            if !found.agrees {
                let moved = alike.runs.iter().map(|run| moved(&inputs[*run], output, &mut *original));
                let moved = stacked(&moved.collect::<Result<Vec<_>>>()?)?;
                found = Agreement::of_run(&expected, &got, Some(&moved), PROOF, largest[output])?;
            }
            ensure!(found.agrees, "{}", differs(&names[output], &found));
            self.worst = self.worst.max(found.relative);
        }
        Ok((count, refused))
    }
}

/// The largest finite magnitude of a tensor of floats; 0 of any other.
fn magnitude(tensor: &Tensor) -> Result<f64> {
    if !tensor.datum_type().is_float() {
        return Ok(0.0);
    }
    let values = tensor.cast_to::<f64>()?;
    let values = values.to_plain_array_view::<f64>()?;
    Ok(values.iter().filter(|v| v.is_finite()).fold(0.0, |most, v| v.abs().max(most)))
}

/// Fails unless an output is the same in both models; how far it is, or `None` if rounding decides it.
fn same(
    name: &str,
    input: &[Tensor],
    [expected, got]: [&Tensor; 2],
    (output, largest): (usize, f64),
    original: &mut dyn Session,
) -> Result<Option<f64>> {
    let compare = |moved: Option<&Tensor>| Agreement::of_run(expected, got, moved, PROOF, largest);
    let shapes = expected.shape() == got.shape();
    if shapes {
        let found = compare(None).with_context(|| format!("output {name}"))?;
        if found.agrees {
            return Ok(Some(found.relative));
        }
    }
    let moved = moved(input, output, original)?;
    if expected.datum_type().is_float() && shapes && moved.shape() == expected.shape() {
        let found = compare(Some(&moved)).with_context(|| format!("output {name}"))?;
        ensure!(found.agrees, "{}", differs(name, &found));
        return Ok(Some(found.relative));
    }
    // as many boxes, or the same class, only by luck
    let luck = if shapes { &moved != expected } else { moved.shape() != expected.shape() };
    ensure!(luck, "output {name} of the rearranged model differs from that of the original");
    Ok(None)
}

fn differs(name: &str, found: &Agreement) -> String {
    format!(
        "output {name} of the rearranged model differs from that of the original by {:.1e}, {:.1e} of its scale",
        found.max_abs_diff, found.relative
    )
}

/// An output for inputs that are a millionth larger.
fn moved(input: &[Tensor], output: usize, original: &mut dyn Session) -> Result<Tensor> {
    let nudged = input.iter().map(nudged).collect::<Result<Vec<_>>>()?;
    original.run_tensors(&nudged)?.into_iter().nth(output).context("an output is gone")
}

fn stacked(of: &[Tensor]) -> Result<Tensor> {
    let parts = of.iter().map(|t| {
        let mut t = t.clone();
        t.insert_axis(0)?;
        Ok(t)
    });
    Tensor::stack_tensors(0, &parts.collect::<Result<Vec<_>>>()?)
}

/// A class of sizes of inputs: powers of four of the largest finite float.
fn size(input: &[Tensor]) -> Result<i64> {
    let mut largest = 0f64;
    for tensor in input.iter().filter(|t| t.datum_type().is_float()) {
        let cast = tensor.cast_to::<f64>()?;
        let view = cast.to_plain_array_view::<f64>()?;
        largest = view.iter().filter(|v| v.is_finite()).fold(largest, |m, v| m.max(v.abs()));
    }
    Ok((largest.max(f64::MIN_POSITIVE).log2() / 2.0).round() as i64)
}

impl Evidence {
    fn add(&mut self, value: &Tensor) -> Result<()> {
        if self.varies {
            return Ok(());
        }
        let Ok(cast) = value.cast_to::<f64>() else { return Ok(()) };
        for v in cast.to_plain_array_view::<f64>()?.iter().filter(|v| v.is_finite()) {
            self.varies |= *self.first.get_or_insert(*v) != *v;
        }
        Ok(())
    }
}

/// Every tensor of a graph that depends on the value of a constant in which two models differ. Shapes do not.
fn touched(original: &ModelProto, changed: &ModelProto) -> Result<HashSet<String>> {
    let graphs = original.graph.as_ref().zip(changed.graph.as_ref());
    let (before, after) = graphs.context("the model has no graph")?;
    let pairs = before.initializer.iter().zip(&after.initializer);
    let mut touched: HashSet<String> = pairs.filter(|(a, b)| a != b).map(|(a, _)| a.name.clone()).collect();
    for (node, other) in before.node.iter().zip(&after.node) {
        let reads = || node.input.iter().chain(&captured_names(node)).any(|name| touched.contains(name));
        let looks = !["Shape", "Size"].contains(&&*node.op_type);
        if node != other || looks && reads() {
            touched.extend(node.output.iter().cloned());
        }
    }
    Ok(touched)
}

/// Conditions of the outer and of the inner `If` nodes.
const FORCED: [[bool; 2]; 4] = [[true, true], [false, false], [true, false], [false, true]];

/// The model with conditions that are constants, by depth (odd or even); `None` if there is no `If`.
fn force(model: &ModelProto, conditions: [bool; 2]) -> Option<ModelProto> {
    fn inside(graph: &mut GraphProto, names: &[String; 2], depth: usize) -> bool {
        let mut found = false;
        for node in &mut graph.node {
            let branches = node.op_type == "If" && node.domain.is_empty();
            if branches && let Some(condition) = node.input.first_mut() {
                *condition = names[depth % 2].clone();
                found = true;
            }
            for attribute in &mut node.attribute {
                for body in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                    found |= inside(body, names, depth + usize::from(branches));
                }
            }
        }
        found
    }
    let mut forced = model.clone();
    let graph = forced.graph.as_mut()?;
    let names = ["", "'"].map(|mark| format!("tract-sparse.condition{mark}"));
    if !inside(graph, &names, 0) {
        return None;
    }
    for (name, value) in names.into_iter().zip(conditions) {
        let (data_type, raw_data) = (DataType::Bool as i32, vec![u8::from(value)]);
        graph.initializer.push(TensorProto { name, data_type, raw_data, ..Default::default() });
    }
    Some(forced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tensor::{floats, of_floats};
    use tract_onnx::pb::{NodeProto, ValueInfoProto};

    /// Runs models of one node `y = op(x, w)`, where `w` is one number.
    struct OneNode;

    struct Loaded(String, f32);

    impl Runtime for OneNode {
        fn open(&self, model: &ModelProto, _: &[String]) -> Result<Box<dyn Session>> {
            let graph = model.graph.as_ref().context("no graph")?;
            Ok(Box::new(Loaded(graph.node[0].op_type.clone(), floats(&graph.initializer[0])?[0])))
        }
    }

    impl Session for Loaded {
        fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
            let (x, w) = (inputs[0].to_plain_array_view::<f32>()?, self.1);
            Ok(vec![match &*self.0 {
                "Mul" => x.mapv(|v| v * w).into(),
                "Greater" => x.mapv(|v| v > w).into(),
                "Zero" => x.mapv(|_| w * 0.0).into(),
                op => anyhow::bail!("no operator {op}"),
            }])
        }
    }

    fn model(op: &str, w: f32) -> ModelProto {
        let info = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
        let node = NodeProto {
            op_type: op.into(),
            input: ["x", "w"].map(String::from).to_vec(),
            output: vec!["y".into()],
            ..Default::default()
        };
        let graph = GraphProto {
            node: vec![node],
            initializer: vec![of_floats("w", &[1], &[w])],
            input: vec![info("x")],
            output: vec![info("y")],
            ..Default::default()
        };
        ModelProto { graph: Some(graph), ..Default::default() }
    }

    fn proof(op: &str, before: f32, after: f32) -> Result<f64> {
        let inputs = inputs(&[(f32::datum_type(), vec![4, 8])], 1)?;
        prove(&model(op, before), &model(op, after), &OneNode, &inputs)
    }

    #[test]
    fn what_computes_the_same_is_proven() {
        assert_eq!(proof("Mul", 3.0, 3.0).unwrap(), 0.0);
        let rounded = proof("Mul", 3.0, 3.000003).unwrap();
        assert!(rounded > 0.0 && rounded <= PROOF, "{rounded}");
    }

    #[test]
    fn what_computes_something_else_is_refused_by_name() {
        for (op, before, after) in [("Mul", 3.0, 3.01), ("Greater", 0.0, 0.5)] {
            let error = proof(op, before, after).unwrap_err().to_string();
            assert!(error.contains("output y of the rearranged model differs"), "{op}: {error}");
        }
    }

    #[test]
    fn an_output_of_one_value_proves_nothing() {
        let error = proof("Zero", 1.0, 2.0).unwrap_err().to_string();
        assert!(error.contains("output y is always 0"), "{error}");
        let error = format!("{:#}", proof("Unheard", 1.0, 2.0).unwrap_err());
        assert!(error.contains("running the original") && error.contains("no operator Unheard"), "{error}");
        let none = prove(&model("Mul", 1.0), &model("Mul", 1.0), &OneNode, &[]);
        assert!(none.unwrap_err().to_string().contains("no inputs"));
    }

    /// Floats of several sizes, integers below small bounds, and all combinations of the first two booleans.
    #[test]
    fn inputs_are_of_many_kinds() {
        let of = [
            (f32::datum_type(), vec![2, 50]),
            (i64::datum_type(), vec![3]),
            (bool::datum_type(), vec![]),
            (bool::datum_type(), vec![2]),
        ];
        let runs = inputs(&of, 7).unwrap();
        assert_eq!(runs, inputs(&of, 7).unwrap());
        assert_ne!(runs, inputs(&of, 8).unwrap());
        let mut flags = HashSet::new();
        let (mut least, mut most) = (f64::INFINITY, 0f64);
        for (turn, run) in runs.iter().enumerate() {
            for ((dt, shape), tensor) in of.iter().zip(run) {
                assert_eq!((tensor.datum_type(), tensor.shape()), (*dt, &**shape));
            }
            let size = magnitude(&run[0]).unwrap();
            (least, most) = (least.min(size), most.max(size));
            let ints = run[1].to_plain_array_view::<i64>().unwrap();
            assert!(ints.iter().all(|v| (0..BOUNDS[turn] as i64).contains(v)), "{ints}");
            let first = |tensor: &Tensor| *tensor.to_plain_array_view::<bool>().unwrap().first().unwrap();
            flags.insert((first(&run[2]), first(&run[3])));
        }
        assert_eq!(flags.len(), 4);
        assert!(least < 1.0 && most > 100.0, "{least} to {most}");
        assert!(inputs(&[(DatumType::Blob, vec![1])], 1).is_err());
    }
}
