//! Operators that copy and compute nothing, between sparse layers: every value is copied once.

use anyhow::Result;
use proptest::prelude::*;
use tests::graph::{Graph, pruned};
use tests::{agree, count, noise, op_names, with_knobs};
use zoo::proto::{int, ints};

/// A pruned 1x1 layer.
fn pointwise(graph: &mut Graph, x: &str, [ic, oc]: [usize; 2], seed: u64) -> String {
    let weights = graph.constant(&[oc, ic, 1, 1], &pruned(oc, ic, (4, 4), 0.4, seed));
    graph.op("Conv", &[x, &weights], vec![])
}

fn reshape(graph: &mut Graph, x: &str, shape: &[usize]) -> String {
    let shape = graph.ints(shape);
    graph.op("Reshape", &[x, &shape], vec![])
}

/// Two branches of `c` channels, put together and shuffled as ShuffleNet does, then taken apart again.
fn shuffled(graph: &mut Graph, [a, b]: [&str; 2], c: usize, [h, w]: [usize; 2]) -> [String; 2] {
    let both = graph.op("Concat", &[a, b], vec![int("axis", 1)]);
    let pairs = reshape(graph, &both, &[c, 2, h * w]);
    let moved = graph.op("Transpose", &[&pairs], vec![ints("perm", &[1, 0, 2])]);
    let parts = reshape(graph, &moved, &[2, 1, c, h, w]);
    [0, 1].map(|part| {
        let index = format!("part{part}of{parts}");
        graph.initializer(tract_onnx::pb::TensorProto {
            name: index.clone(),
            data_type: tract_onnx::pb::tensor_proto::DataType::Int64 as i32,
            int64_data: vec![part],
            ..Default::default()
        });
        graph.op("Gather", &[&parts, &index], vec![int("axis", 0)])
    })
}

#[test]
fn shuffled_channels_are_copied_once() -> Result<()> {
    let (c, hw) = (16, [9, 12]);
    let mut graph = Graph::default();
    let x = graph.input("1,16,9,12");
    let mut ways = [pointwise(&mut graph, &x, [16, c], 1), pointwise(&mut graph, &x, [16, c], 2)];
    for seed in 3..6 {
        let [left, right] = shuffled(&mut graph, [&ways[0], &ways[1]], c, hw);
        ways = [left, pointwise(&mut graph, &right, [c, c], seed)];
    }
    let y = graph.op("Concat", &[&ways[0], &ways[1]], vec![int("axis", 1)]);
    let model = graph.model(&[&y]);
    let sparse = agree(&model, &[noise(&[1, 16, 9, 12], 7)])?;
    // the part that each layer reads, and the end
    assert_eq!(count(&sparse, "Pieces"), 4, "{:?}", op_names(&sparse));
    for gone in ["Concat", "MoveAxis", "Gather"] {
        assert_eq!(count(&sparse, gone), 0, "{:?}", op_names(&sparse));
    }
    Ok(())
}

/// What is read by others, too, stays; so does what has no size yet.
#[test]
fn what_others_read_stays() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,16,8,8");
    let ways = [1, 2].map(|seed| pointwise(&mut graph, &x, [16, 16], seed));
    let both = graph.op("Concat", &[&ways[0], &ways[1]], vec![int("axis", 1)]);
    let y = pointwise(&mut graph, &both, [32, 16], 3);
    let parts = graph.ops("Split", &[&both], 2, vec![int("axis", 1)]);
    let swapped = graph.op("Concat", &[&parts[1], &parts[0]], vec![int("axis", 1)]);
    let sparse = agree(&graph.clone().model(&[&y, &swapped]), &[noise(&[1, 16, 8, 8], 7)])?;
    assert_eq!((count(&sparse, "Concat"), count(&sparse, "Pieces")), (1, 1), "{:?}", op_names(&sparse));

    let mut graph = Graph::default();
    let x = graph.input("N,16,8,8");
    let ways = [1, 2].map(|seed| pointwise(&mut graph, &x, [16, 16], seed));
    let both = graph.op("Concat", &[&ways[0], &ways[1]], vec![int("axis", 1)]);
    let y = graph.op("Transpose", &[&both], vec![ints("perm", &[1, 0, 2, 3])]);
    let sparse = agree(&graph.model(&[&y]), &[noise(&[3, 16, 8, 8], 7)])?;
    assert_eq!(count(&sparse, "Pieces"), 0, "{:?}", op_names(&sparse));
    Ok(())
}

/// A tensor that is put together with itself again and again, and halved, is looked at in time that does not double, and
/// on a stack of fixed size.
#[test]
fn long_ways_back_are_followed_in_parts() -> Result<()> {
    let mut graph = Graph::default();
    let x = graph.input("1,16,8,8");
    let mut y = pointwise(&mut graph, &x, [16, 16], 1);
    for _ in 0..300 {
        let twice = graph.op("Concat", &[&y, &y], vec![int("axis", 1)]);
        let moved = graph.op("Transpose", &[&twice], vec![ints("perm", &[1, 0, 2, 3])]);
        let halves = graph.ops("Split", &[&moved], 2, vec![int("axis", 0)]);
        y = graph.op("Transpose", &[&halves[1]], vec![ints("perm", &[1, 0, 2, 3])]);
    }
    let y = pointwise(&mut graph, &y, [16, 16], 2);
    agree(&graph.model(&[&y]), &[noise(&[1, 16, 8, 8], 7)])?;
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
fn on_threads<R>(threads: usize, run: impl FnOnce() -> R) -> R {
    use tract_linalg::multithread::{Executor, multithread_tract_scope};
    multithread_tract_scope(Executor::multithread(threads), run)
}

#[cfg(target_arch = "wasm32")]
fn on_threads<R>(_threads: usize, run: impl FnOnce() -> R) -> R {
    run()
}

#[derive(Debug, Clone)]
enum Step {
    /// Axis to axis.
    Move(usize, usize),
    /// With the tensor itself, or with another that was there before.
    Concat(usize, bool),
    /// From here on, so many.
    Slice(usize, usize, usize),
    /// These places.
    Gather(usize, Vec<usize>),
    /// Two axes as one.
    Merge(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4usize, 0..4usize).prop_map(|(a, b)| Step::Move(a, b)),
        (0..4usize, any::<bool>()).prop_map(|(axis, other)| Step::Concat(axis, other)),
        (0..4usize, 0..8usize, 1..8usize).prop_map(|(axis, at, len)| Step::Slice(axis, at, len)),
        (0..4usize, prop::collection::vec(0..32usize, 1..6)).prop_map(|(axis, at)| Step::Gather(axis, at)),
        (0..3usize).prop_map(Step::Merge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_copies_are_those_of_stock(steps in prop::collection::vec(step(), 1..9), threads in 1..4usize) {
        let mut graph = Graph::default();
        let x = graph.input("2,16,8,5");
        let mut y = pointwise(&mut graph, &x, [16, 16], 1);
        let mut shape = vec![2, 16, 8, 5];
        let mut before: Vec<(String, Vec<usize>)> = vec![];
        for step in &steps {
            before.push((y.clone(), shape.clone()));
            y = match step {
                Step::Move(from, to) => {
                    let mut axes: Vec<usize> = (0..shape.len()).collect();
                    let axis = axes.remove(from % shape.len());
                    axes.insert(to % shape.len(), axis);
                    shape = axes.iter().map(|axis| shape[*axis]).collect();
                    graph.op("Transpose", &[&y], vec![ints("perm", &axes)])
                }
                Step::Concat(axis, other) => {
                    let axis = axis % shape.len();
                    let other = before.iter().rev().skip(1).find(|(_, s)| *other && *s == shape);
                    let other = other.map_or(y.clone(), |(name, _)| name.clone());
                    shape[axis] *= 2;
                    graph.op("Concat", &[&y, &other], vec![int("axis", axis)])
                }
                Step::Slice(axis, at, len) => {
                    let axis = axis % shape.len();
                    let at = at % shape[axis];
                    let end = (at + len).min(shape[axis]);
                    shape[axis] = end - at;
                    let [at, end, axis] = [at, end, axis].map(|v| graph.ints(&[v]));
                    graph.op("Slice", &[&y, &at, &end, &axis], vec![])
                }
                Step::Gather(axis, at) => {
                    let axis = axis % shape.len();
                    let at: Vec<usize> = at.iter().map(|at| at % shape[axis]).collect();
                    shape[axis] = at.len();
                    let at = graph.ints(&at);
                    graph.op("Gather", &[&y, &at], vec![int("axis", axis)])
                }
                Step::Merge(axis) if shape.len() > 2 => {
                    let axis = axis % (shape.len() - 1);
                    let dim = shape.remove(axis);
                    shape[axis] *= dim;
                    reshape(&mut graph, &y, &shape)
                }
                Step::Merge(_) => continue,
            };
            if shape.iter().product::<usize>() > 1 << 16 {
                break;
            }
        }
        let model = graph.model(&[&y]);
        let run = || -> Result<()> {
            on_threads(threads, || agree(&model, &[noise(&[2, 16, 8, 5], 7)]))?;
            Ok(())
        };
        with_knobs(&[("TRACT_SPARSE", "always")], run).map_err(|e| TestCaseError::fail(format!("{e:#}")))?;
    }
}
