//! Empty tensors, odd biases, clashing names, replaced builders, transforms and pulses.

use crate::answers::{always, answer, answer_of, answer_of_stock, plainly, sparse_answer};
use crate::case;
use anyhow::{Context, Result, ensure};
use noise::Noise;
use sparse_kernels::prelude::Target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use tests::graph::{Graph, pruned};
use tests::{assert_same, noise, run, sparse_nodes, values, with_knobs};
use tract_pulse::model::{PulsedModel, PulsedModelExt};
use tract_sparse::model::ParsingContext;
use tract_sparse::pb::{ModelProto, NodeProto};
use tract_sparse::prelude::*;
use tract_sparse::tract_core::internal::*;
use tract_sparse::tract_core::transform::{ModelTransformFactory, get_transform_with_params};
use tract_sparse::tract_hir::internal::InferenceOp;
use tract_sparse::{Onnx, WithTractSparse};
use zoo::proto::{float, int, ints, string};

fn case_model(name: &str) -> Result<ModelProto> {
    tract_onnx::onnx().proto_model_for_path(case(name))
}

#[test]
fn empty_outputs_are_those_of_stock() -> Result<()> {
    let rows: [(&str, &[usize]); 8] = [
        ("empty_map_1d.onnx", &[1, 16, 2]),
        ("st_small3.onnx", &[1, 8, 2, 2]),
        ("w_oc0.onnx", &[1, 4, 4, 4]),
        ("empty_map_2d.onnx", &[1, 16, 2, 9]),
        ("small_in.onnx", &[1, 8, 2, 9]),
        ("small_in.onnx", &[0, 8, 7, 9]),
        ("small_in.onnx", &[1, 8, 0, 9]),
        ("zero_rows_inside.onnx", &[5, 64]),
    ];
    for (name, shape) in rows {
        // of the rows of zero_rows_inside, those are kept that have a value above zero: none
        let x = Tensor::zero::<f32>(shape)?;
        let model = case_model(name)?;
        let expected = answer_of_stock(&model, std::slice::from_ref(&x))?;
        assert_eq!(expected[0].len(), 0, "{name}");
        for mode in ["auto", "always", "never", "measure"] {
            let ours = with_knobs(&[("TRACT_SPARSE", mode)], || {
                answer_of(&onnx(), &model, std::slice::from_ref(&x))
            });
            assert_same(&ours?, &expected).with_context(|| format!("{name} {mode}"))?;
        }
        // with its symbols, if it has any
        let ours = always(Target::detect(), || answer(&onnx(), &model, std::slice::from_ref(&x)))?;
        assert_same(&ours, &expected).context(name)?;
    }
    Ok(())
}

#[test]
fn a_batch_of_none_is_an_empty_answer() -> Result<()> {
    let model = case_model("mlp_static_batch.onnx")?;
    for batch in [0, 3] {
        let load = |onnx: &Onnx| -> Result<TypedModel> {
            let model = onnx.model_for_proto_model(&model)?;
            let n = model.sym("N");
            let fact = f32::fact(dims![n, 202].as_ref());
            model.with_input_fact(0, fact.into())?.into_optimized()
        };
        let (ours, theirs) = (load(&onnx())?, load(&tract_onnx::onnx())?);
        assert!(sparse_nodes(&ours) > 0);
        let x = [noise(&[batch, 202], 5)];
        assert_same(&run(ours, &x)?, &run(theirs, &x)?)?;
    }
    Ok(())
}

/// One layer, and what its input may be.
struct OneLayer {
    model: ModelProto,
    x: Tensor,
    what: String,
}

/// A convolution of one or two axes, or a matrix product, whose sizes may be zero.
fn one_layer(seed: u64) -> OneLayer {
    let mut dice = Noise::new(seed);
    for _ in 0..4 {
        dice.below(2);
    }
    let symbolic = dice.below(2) == 0;
    let mut graph = Graph::default();
    let batch = dice.one_of(&[0, 1, 1, 2]);
    let dim = |size: usize, symbol: &str| if symbolic { symbol.to_string() } else { size.to_string() };
    if dice.below(5) == 0 {
        let (rows, ic, oc) = (dice.one_of(&[0, 1, 5]), 16, 12);
        let x = graph.input(&format!("{},{},{ic}", dim(batch, "N"), dim(rows, "R")));
        let w = graph.constant(&[ic, oc], &pruned(ic, oc, (4, 4), 0.5, seed));
        let y = graph.op("MatMul", &[&x, &w], vec![]);
        let y = graph.op("Relu", &[&y], vec![]);
        let what = format!("product of {batch} x {rows}, symbolic {symbolic}");
        return OneLayer { model: graph.model(&[&y]), x: noise(&[batch, rows, ic], seed), what };
    }
    let rank = dice.one_of(&[1, 2, 2]);
    let depthwise = dice.below(3) == 0;
    let (ic, oc) = if depthwise { (8, 8) } else { (8, 12) };
    let per_axis =
        |dice: &mut Noise, from: &[usize]| (0..rank).map(|_| dice.one_of(from)).collect::<Vec<_>>();
    let size = per_axis(&mut dice, &[0, 1, 2, 3, 6, 9]);
    let kernel = per_axis(&mut dice, &[1, 1, 3, 3, 5]);
    let kernel = if dice.below(3) == 0 { vec![1; rank] } else { kernel };
    let stride = per_axis(&mut dice, &[1, 1, 2]);
    let dilation = if depthwise { vec![1; rank] } else { per_axis(&mut dice, &[1, 1, 2]) };
    let names = ["H", "W"];
    let axes: Vec<String> = size.iter().zip(names).map(|(size, name)| dim(*size, name)).collect();
    let x = graph.input(&format!("{},{ic},{}", dim(batch, "N"), axes.join(",")));
    let group = if depthwise { ic } else { 1 };
    let taps: usize = kernel.iter().product();
    let shape: Vec<usize> = [oc, ic / group].into_iter().chain(kernel.iter().copied()).collect();
    let w = graph.constant(&shape, &pruned(oc, ic / group * taps, (1, 1), 0.5, seed));
    let b = graph.constant(&[oc], &values(oc, seed + 1));
    let mut attributes = vec![
        ints("kernel_shape", &kernel),
        ints("strides", &stride),
        ints("dilations", &dilation),
        int("group", group),
    ];
    let pads: Vec<usize> = (0..2 * rank).map(|_| dice.one_of(&[0, 0, 1, 2])).collect();
    let padding = dice.below(4);
    attributes.push(match padding {
        0 => string("auto_pad", "SAME_UPPER"),
        1 => string("auto_pad", "VALID"),
        _ => ints("pads", &pads),
    });
    let y = graph.op("Conv", &[&x, &w, &b], attributes);
    let y = graph.op("Relu", &[&y], vec![]);
    let what = format!(
        "batch {batch}, map {size:?}, kernel {kernel:?}, stride {stride:?}, dilation {dilation:?}, pads {pads:?} ({padding}), \
         group {group}, symbolic {symbolic}"
    );
    let shape: Vec<usize> = [batch, ic].into_iter().chain(size).collect();
    OneLayer { model: graph.model(&[&y]), x: noise(&shape, seed), what }
}

/// Where stock tract has an answer, ours is the same; where it has none, ours is an answer or an error.
#[test]
fn layers_of_any_size_are_those_of_stock() -> Result<()> {
    let (mut compared, mut empty) = (0, 0);
    for seed in 0..400 {
        let OneLayer { model, x, what } = one_layer(seed);
        let x = [x];
        let stock = answer_of_stock(&model, &x);
        for target in Target::available() {
            let what = || format!("{seed} on {target}: {what}");
            let told = catch_unwind(AssertUnwindSafe(|| always(target, || answer_of(&onnx(), &model, &x))));
            let symbolic =
                catch_unwind(AssertUnwindSafe(|| always(target, || sparse_answer(&model, &x, false))));
            let (Ok(told), Ok(symbolic)) = (told, symbolic) else {
                panic!("{}: a panic; stock tract: {:?}", what(), stock.as_ref().map(|_| "an answer"));
            };
            let Ok(stock) = &stock else { continue };
            assert_same(&told.with_context(what)?, stock).with_context(what)?;
            let (sparse, symbolic) = symbolic.with_context(what)?;
            if sparse {
                assert_same(&symbolic.with_context(what)?, stock).with_context(what)?;
            }
            compared += 1;
            empty += usize::from(stock[0].len() == 0);
        }
    }
    // the rest are those that stock tract cannot do
    assert!(compared > 600 && empty > 200, "{compared} comparisons, {empty} of empty outputs");
    Ok(())
}

#[test]
fn biases_that_are_not_finite_are_added() -> Result<()> {
    let model = case_model("auto_infbias.onnx")?;
    let x = [noise(&[1, 256, 14, 14], 2)];
    let stock = answer_of_stock(&model, &x)?;
    for target in Target::available() {
        let ours = always(target, || onnx().model_for_proto_model(&model)?.into_optimized())?;
        assert_eq!(sparse_nodes(&ours), 1);
        assert_same(&run(ours, &x)?, &stock).with_context(|| format!("{target}"))?;
    }
    Ok(())
}

/// Batch normalisation whose folded scale or shift is not finite: an answer, that of stock tract.
#[test]
fn normalisations_that_are_not_finite_load() -> Result<()> {
    let cases: [[f32; 4]; 6] = [
        [1.0, 0.0, 0.0, 0.0],               // variance 0, epsilon 0: the scale is infinite
        [f32::INFINITY, 0.0, 0.0, 1.0],     // infinite scale
        [1.0, f32::NEG_INFINITY, 0.0, 1.0], // infinite shift
        [1.0, 0.0, f32::INFINITY, 1.0],     // infinite mean
        [1.0, 0.0, 0.0, -1.0],              // negative variance: NaN
        [3e38, 0.0, 0.0, 1e-4],             // the scale overflows
    ];
    for (kernel, group) in [(1, 1), (3, 1), (3, 16)] {
        for odd in cases {
            let mut graph = Graph::default();
            let x = graph.input("1,16,6,7");
            let cols = 16 / group * kernel * kernel;
            let w = graph.constant(&[16, 16 / group, kernel, kernel], &pruned(16, cols, (1, 1), 0.4, 3));
            let mut parts = [vec![1.0; 16], values(16, 1), values(16, 2), vec![0.5; 16]];
            parts.iter_mut().zip(odd).for_each(|(part, odd)| part[5] = odd);
            let parts = parts.map(|part| graph.constant(&[16], &part));
            let y =
                graph.op("Conv", &[&x, &w], vec![ints("kernel_shape", &[kernel; 2]), int("group", group)]);
            let inputs: Vec<&str> = [&y].into_iter().chain(&parts).map(String::as_str).collect();
            let y = graph.op("BatchNormalization", &inputs, vec![float("epsilon", 0.0)]);
            let model = graph.model(&[&y]);
            let x = [noise(&[1, 16, 6, 7], 4)];
            let plain = plainly(&model, &x)?;
            for target in Target::available() {
                let ours = always(target, || answer(&onnx(), &model, &x))?;
                assert_same(&ours, &plain).with_context(|| format!("{kernel} {group} {odd:?} {target}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn names_that_we_would_make_may_be_taken() -> Result<()> {
    let model = case_model("auto_nameclash.onnx")?;
    let x = [noise(&[16, 512], 1)];
    let (ours, optimised) = tests::run_optimized(&onnx(), &model, &x)?;
    assert_eq!(sparse_nodes(&optimised), 1);
    assert_same(&ours, &answer_of_stock(&model, &x)?)?;

    // every name of our making, on nodes before, at and after the layer
    let names = [
        "fc.bias",
        "fc.bias.tract_sparse",
        "fc.tract_sparse.0",
        "fc.matrix",
        "fc.product",
        "fc.bias_shape",
        "input.0",
        "input.1",
        "fc.input.weights",
    ];
    let mut compared = 0;
    for (kind, name) in ["MatMul", "Conv"].into_iter().flat_map(|kind| names.map(|name| (kind, name))) {
        let mut graph = Graph::default();
        let (x, w) = match kind {
            "MatMul" => (graph.input("6,64"), graph.constant(&[64, 32], &pruned(64, 32, (4, 4), 0.3, 1))),
            _ => (graph.input("1,64,6,1"), graph.constant(&[32, 64, 1, 1], &pruned(32, 64, (4, 4), 0.3, 1))),
        };
        let before = graph.op("Tanh", &[&x], vec![]);
        let layer = graph.op(kind, &[&before, &w], vec![]);
        let after = graph.op("Tanh", &[&layer], vec![]);
        for (first, second) in [(&before, &layer), (&layer, &after), (&after, &layer)] {
            let mut model = graph.clone().model(&[&after]);
            for node in model.graph.iter_mut().flat_map(|graph| &mut graph.node) {
                if node.name == *first {
                    node.name = name.into();
                } else if node.name == *second {
                    node.name = "fc".into();
                }
            }
            let x = [if kind == "MatMul" { noise(&[6, 64], 3) } else { noise(&[1, 64, 6, 1], 3) }];
            // names that clash in stock tract, too
            let Ok(stock) = answer_of_stock(&model, &x) else { continue };
            let ours = always(Target::detect(), || -> Result<_> {
                let typed = onnx().model_for_proto_model(&model)?.into_typed()?;
                assert_eq!(sparse_nodes(&typed), 1);
                typed.check_names()?;
                let mut back = typed.clone();
                tract_sparse::unsparsify(&mut back)?;
                back.check_names()?;
                let optimised = typed.into_optimized()?;
                optimised.check_names()?;
                run(optimised, &x)
            });
            let ours = ours.with_context(|| format!("{kind} {name} {first} {second}"))?;
            assert_same(&ours, &stock)?;
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared} comparisons");
    Ok(())
}

/// Builders of a user, which count how often they are called.
mod users {
    use super::*;

    pub static A: AtomicUsize = AtomicUsize::new(0);
    pub static B: AtomicUsize = AtomicUsize::new(0);

    type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

    fn stock(ctx: &ParsingContext, node: &NodeProto) -> Built {
        tract_onnx::onnx().op_register.0[&node.op_type](ctx, node)
    }

    pub fn a(ctx: &ParsingContext, node: &NodeProto) -> Built {
        A.fetch_add(1, Ordering::SeqCst);
        stock(ctx, node)
    }

    pub fn b(ctx: &ParsingContext, node: &NodeProto) -> Built {
        B.fetch_add(1, Ordering::SeqCst);
        stock(ctx, node)
    }

    /// Calls whatever `Earlier` holds in the register it is used with.
    pub fn on_top(ctx: &ParsingContext, node: &NodeProto) -> Built {
        B.fetch_add(1, Ordering::SeqCst);
        ctx.framework.op_register.0["Earlier"](ctx, node)
    }

    /// Calls of `A` and `B` since the last time.
    pub fn calls() -> (usize, usize) {
        (A.swap(0, Ordering::SeqCst), B.swap(0, Ordering::SeqCst))
    }
}

/// One test, because the counters are shared.
#[test]
fn builders_of_the_user_are_called() -> Result<()> {
    for op in ["Conv", "MatMul", "Gemm"] {
        let mut graph = Graph::default();
        let (x, w, shape) = match op {
            "Conv" => (
                graph.input("1,64,5,5"),
                graph.constant(&[32, 64, 1, 1], &pruned(32, 64, (4, 4), 0.3, 1)),
                vec![1, 64, 5, 5],
            ),
            _ => {
                (graph.input("9,64"), graph.constant(&[64, 32], &pruned(64, 32, (4, 4), 0.3, 1)), vec![9, 64])
            }
        };
        let y = graph.op(op, &[&x, &w], vec![]);
        let model = graph.model(&[&y]);
        let x = [noise(&shape, 2)];
        let expected = answer_of_stock(&model, &x)?;
        let check = |what: &str, onnx: &Onnx, calls: (usize, usize), sparse: usize| -> Result<()> {
            users::calls();
            let model = always(Target::detect(), || onnx.model_for_proto_model(&model)?.into_optimized())?;
            assert_eq!(users::calls(), calls, "{op}: {what}");
            assert_eq!(sparse_nodes(&model), sparse, "{op}: {what}");
            assert_same(&run(model, &x)?, &expected).with_context(|| format!("{op}: {what}"))
        };
        let with = |builder| {
            let mut onnx = tract_onnx::onnx();
            onnx.op_register.insert(op, builder);
            onnx
        };
        let stock = tract_onnx::onnx().with_tract_sparse();
        let a = with(users::a).with_tract_sparse();
        let b = with(users::b).with_tract_sparse();
        // interleaved, in any order
        for _ in 0..2 {
            check("stock", &stock, (0, 0), 1)?;
            check("a", &a, (1, 0), 1)?;
            check("b", &b, (0, 1), 1)?;
        }
        check("hooked twice", &b.clone().with_tract_sparse(), (0, 1), 1)?;
        check(
            "hooked four times",
            &b.with_tract_sparse().with_tract_sparse().with_tract_sparse(),
            (0, 1),
            1,
        )?;

        // a builder that comes after ours is the user's own affair
        let mut late = tract_onnx::onnx().with_tract_sparse();
        late.op_register.insert(op, users::a);
        check("inserted afterwards", &late, (1, 0), 0)?;
        check("hooked again", &late.clone().with_tract_sparse(), (1, 0), 1)?;
        check("hooked again and again", &late.with_tract_sparse().with_tract_sparse(), (1, 0), 1)?;

        // one that calls ours, which calls another one of the user's
        let mut layered = with(users::a).with_tract_sparse();
        let ours = layered.op_register.0[op];
        layered.op_register.insert("Earlier", ours);
        layered.op_register.insert(op, users::on_top);
        check("on top", &layered, (1, 1), 1)?;
        check("on top, hooked again", &layered.with_tract_sparse(), (1, 1), 1)?;
    }
    Ok(())
}

/// Arithmetic after a layer, with the layer on either side, against the same in f64 over the layer's own
/// output.
#[test]
fn arithmetic_after_a_layer_is_folded_rightly() -> Result<()> {
    let (c, h, w) = (16, 5, 6);
    let case = case_model("sub_reversed_pruned.onnx")?;
    let x = [noise(&[1, 32, 6, 7], 9)];
    assert_same(&answer(&onnx(), &case, &x)?, &plainly(&case, &x)?)?;

    let shapes: [&[usize]; 6] =
        [&[1], &[1, c, 1, 1], &[c, 1, 1], &[1, 1, h, 1], &[1, c, h, w], &[1, 1, 1, w]];
    for (kernel, group) in [(1, 1), (3, 1), (3, c)] {
        let layer = || {
            let mut graph = Graph::default();
            let x = graph.input("1,16,5,6");
            let weights = pruned(c, c / group * kernel * kernel, (1, 1), 0.4, 7);
            let weights = graph.constant(&[c, c / group, kernel, kernel], &weights);
            let bias = graph.constant(&[c], &values(c, 8));
            let pads = ints("pads", &[kernel / 2; 4]);
            let attributes = vec![ints("kernel_shape", &[kernel; 2]), pads, int("group", group)];
            let y = graph.op("Conv", &[&x, &weights, &bias], attributes);
            (graph, y)
        };
        let x = [noise(&[1, c, h, w], 10)];
        let (graph, y) = layer();
        let plain = plainly(&graph.model(&[&y]), &x)?.remove(0);
        let plain = plain.to_plain_array_view::<f32>()?.mapv(f64::from);
        for op in ["Add", "Sub", "Mul", "Div", "Max", "Min"] {
            for reversed in [false, true] {
                for (ix, shape) in shapes.into_iter().enumerate() {
                    let operand = values(shape.iter().product(), 20 + ix as u64);
                    // away from zero: quotients stay in proportion
                    let operand: Vec<f32> = operand.iter().map(|v| v + v.signum() * 0.5).collect();
                    let (mut graph, y) = layer();
                    let constant = graph.constant(shape, &operand);
                    let inputs = if reversed { [&constant, &y] } else { [&y, &constant] };
                    let y = graph.op(op, &inputs.map(String::as_str), vec![]);
                    let model = graph.model(&[&y]);
                    let operand = Tensor::from_shape(shape, &operand)?;
                    let operand = operand.to_plain_array_view::<f32>()?.mapv(f64::from);
                    let operand = operand.broadcast(plain.raw_dim()).context("broadcast")?.to_owned();
                    let mut expected = plain.clone();
                    expected.zip_mut_with(&operand, |y, c| {
                        let (a, b) = if reversed { (*c, *y) } else { (*y, *c) };
                        *y = match op {
                            "Add" => a + b,
                            "Sub" => a - b,
                            "Mul" => a * b,
                            "Div" => a / b,
                            "Max" => a.max(b),
                            _ => a.min(b),
                        };
                    });
                    for target in Target::available() {
                        let what = || format!("{kernel}x{kernel} {group} {op} {reversed} {shape:?} {target}");
                        let got =
                            always(target, || answer(&onnx(), &model, &x)).with_context(what)?.remove(0);
                        let got = got.to_plain_array_view::<f32>()?;
                        for ((got, expected), y) in got.iter().zip(&expected).zip(&plain) {
                            // f32 sums of some tens of products below 1 are right to 1e-5; `c / y` multiplies
                            // that error by c / y^2
                            let by_quotient =
                                if op == "Div" && reversed { (expected / y).abs() } else { 0.0 };
                            let allowed = 1e-5 * (1.0 + expected.abs() + by_quotient) * 4.0;
                            let off = (f64::from(*got) - expected).abs();
                            ensure!(off <= allowed, "{}: {got}, expected {expected}", what());
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Small networks for the transforms.
fn networks() -> Vec<(&'static str, ModelProto)> {
    let mut image = Graph::default();
    let x = image.input("1,8,6,6");
    let w = image.constant(&[16, 8, 3, 3], &pruned(16, 72, (1, 1), 0.3, 1));
    let b = image.constant(&[16], &values(16, 2));
    let y = image.op("Conv", &[&x, &w, &b], vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4])]);
    let y = image.op("Relu", &[&y], vec![]);
    let w = image.constant(&[16, 1, 3, 3], &pruned(16, 9, (1, 1), 0.4, 3));
    let y = image.op("Conv", &[&y, &w], vec![ints("kernel_shape", &[3, 3]), int("group", 16)]);
    let w = image.constant(&[24, 16, 1, 1], &pruned(24, 16, (4, 4), 0.4, 4));
    let y = image.op("Conv", &[&y, &w], vec![ints("kernel_shape", &[1, 1])]);
    let y = image.op("Relu", &[&y], vec![]);
    let y = image.op("GlobalAveragePool", &[&y], vec![]);
    let y = image.op("Flatten", &[&y], vec![]);
    let w = image.constant(&[24, 8], &pruned(24, 8, (4, 4), 0.4, 5));
    let b = image.constant(&[8], &values(8, 6));
    let image_y = image.op("Gemm", &[&y, &w, &b], vec![]);

    let mut rows = Graph::default();
    let x = rows.input("1,32");
    let w = rows.constant(&[32, 48], &pruned(32, 48, (4, 4), 0.3, 7));
    let y = rows.op("MatMul", &[&x, &w], vec![]);
    let b = rows.constant(&[48], &values(48, 8));
    let y = rows.op("Add", &[&y, &b], vec![]);
    let y = rows.op("Relu", &[&y], vec![]);
    let w = rows.constant(&[48, 16], &pruned(48, 16, (4, 4), 0.3, 9));
    let rows_y = rows.op("MatMul", &[&y, &w], vec![]);

    vec![
        ("image", image.model(&[&image_y])),
        ("rows", rows.model(&[&rows_y])),
        ("stream", streaming_network()),
    ]
}

/// A network of 1-D convolutions along `T`: strided, dilated, depthwise and pointwise ones.
fn streaming_network() -> ModelProto {
    let mut graph = Graph::default();
    let mut y = graph.input("1,16,T");
    let layers: [(usize, usize, usize, usize, usize, [usize; 2]); 6] = [
        // output channels, groups, taps, stride, dilation, padding
        (32, 1, 3, 1, 1, [1, 1]),
        (32, 32, 5, 1, 1, [4, 0]),
        (48, 1, 1, 1, 1, [0, 0]),
        (48, 1, 3, 2, 1, [1, 0]),
        (48, 48, 3, 1, 1, [1, 1]),
        (16, 1, 3, 1, 3, [6, 0]),
    ];
    let mut ic = 16;
    for (at, (oc, group, taps, stride, dilation, pads)) in layers.into_iter().enumerate() {
        let seed = 30 + at as u64;
        let w = graph.constant(&[oc, ic / group, taps], &pruned(oc, ic / group * taps, (1, 1), 0.3, seed));
        let b = graph.constant(&[oc], &values(oc, seed));
        let attributes = vec![
            ints("kernel_shape", &[taps]),
            ints("strides", &[stride]),
            ints("dilations", &[dilation]),
            ints("pads", &pads),
            int("group", group),
        ];
        y = graph.op("Conv", &[&y, &w, &b], attributes);
        y = graph.op("Relu", &[&y], vec![]);
        ic = oc;
    }
    // a matrix product over the channels of every step
    let y = graph.op("Transpose", &[&y], vec![ints("perm", &[0, 2, 1])]);
    let w = graph.constant(&[16, 24], &pruned(16, 24, (4, 4), 0.4, 50));
    let y = graph.op("MatMul", &[&y, &w], vec![]);
    graph.model(&[&y])
}

/// Inputs for a model, with a number in place of every symbol.
fn inputs_of(model: &TypedModel) -> Result<(TypedModel, Vec<Tensor>)> {
    let mut values = HashMap::new();
    for outlet in model.input_outlets()? {
        for symbol in model.outlet_fact(*outlet)?.shape.iter().flat_map(|dim| dim.symbols()) {
            values.insert(symbol, 8.to_dim());
        }
    }
    let model = model.set_symbols(&values)?;
    let mut inputs = vec![];
    for (seed, outlet) in model.input_outlets()?.iter().enumerate() {
        let fact = model.outlet_fact(*outlet)?;
        let shape = fact.shape.as_concrete().context("a symbol without a value")?;
        inputs.push(noise(shape, 60 + seed as u64).cast_to_dt(fact.datum_type)?.into_owned());
    }
    Ok((model, inputs))
}

/// How what a transform does to our layers relates to what it does to stock ones.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Like {
    /// The same answers to rounding in f32.
    Stock,
    /// The same answers to rounding in f16, of which a network of five layers accumulates some units in the
    /// last place.
    StockInHalf,
    /// The same answers to rounding in bf16 where this machine has kernels for it.
    StockInBf16,
    /// Weights of stock layers become coarser; those of ours stay as they are, and so do answers.
    Untransformed,
}

/// The transforms of tract, and of this crate, with parameters.
const TRANSFORMS: &[(&str, &str, Like)] = &[
    ("batchify", r#"{}"#, Like::Stock),
    ("batchify", r#"{"symbol": "T"}"#, Like::Stock),
    ("batchify_data_free", r#"{}"#, Like::Stock),
    ("block_quant", r#"{}"#, Like::Untransformed),
    ("blockify", r#"{}"#, Like::Stock),
    ("conv_nhwc", r#"{}"#, Like::Stock),
    ("detect_apply_rope", r#"{}"#, Like::Stock),
    ("detect_diag_gather", r#"{}"#, Like::Stock),
    ("detect_kv_cache", r#"{}"#, Like::Stock),
    ("detect_scaled_masked_softmax", r#"{}"#, Like::Stock),
    ("detect_sdpa_kv_cache_broadcast", r#"{}"#, Like::Stock),
    ("export_scan_state", r#"{}"#, Like::Stock),
    ("f16_to_f32", r#"{}"#, Like::Stock),
    ("f32_to_f16", r#"{}"#, Like::StockInHalf),
    ("f32_to_f16", r#"{"include": ["conv"]}"#, Like::StockInHalf),
    ("f32_to_f16", r#"{"exclude": ["conv"]}"#, Like::StockInHalf),
    ("float_precision", r#"{"from": "f32", "to": "f16"}"#, Like::StockInHalf),
    ("float_precision", r#"{"from": "f32", "to": "f64"}"#, Like::Stock),
    ("force_scan_external_state", r#"{}"#, Like::Stock),
    ("patch", r#"{"body": "input0 = mul(input0, 2.0);"}"#, Like::Stock),
    ("planar", r#"{}"#, Like::Stock),
    ("pulse", r#"{"symbol": "T", "pulse": "4"}"#, Like::Stock),
    ("quantize_kv_storage", r#"{}"#, Like::Stock),
    ("quantize_kv_storage_int4", r#"{}"#, Like::Stock),
    ("select_inputs", r#"{"inputs": ["input0"]}"#, Like::Stock),
    ("select_outputs", r#"{"outputs": ["relu"]}"#, Like::Stock),
    ("set_property", r#"{"key": "tract.name", "value": "n"}"#, Like::Stock),
    ("set_symbols", r#"{"values": {"T": 12}}"#, Like::Stock),
    ("sparsify", r#"{}"#, Like::Stock),
    ("sparsify_half", r#"{}"#, Like::StockInBf16),
    ("transformers_detect_all", r#"{}"#, Like::Stock),
    ("unfold_kv_cache", r#"{}"#, Like::Stock),
    ("unsparsify", r#"{}"#, Like::Stock),
];

fn transformed(onnx: &Onnx, model: &ModelProto, name: &str, parameters: &str) -> Result<TypedModel> {
    let mut model = onnx.model_for_proto_model(model)?.into_typed()?.into_decluttered()?;
    let mut parameters = serde_json::Deserializer::from_str(parameters);
    let transform =
        get_transform_with_params(name, &mut <dyn erased_serde::Deserializer>::erase(&mut parameters))?;
    transform.context("no such transform")?.transform(&mut model)?;
    model.into_decluttered()
}

#[test]
fn transforms_do_to_ours_what_they_do_to_stock() -> Result<()> {
    let mut known: Vec<&str> = inventory::iter::<ModelTransformFactory>().map(|t| t.name).collect();
    known.sort_unstable();
    known.dedup();
    let mut listed: Vec<&str> = TRANSFORMS.iter().map(|t| t.0).collect();
    listed.dedup();
    assert_eq!(known, listed, "every transform is listed, and no other");

    for (network, model) in networks() {
        for (name, parameters, like) in TRANSFORMS {
            let what = || format!("{name} {parameters} of {network}");
            // of ours, the sparse kernels are those of the machine
            let ours = always(Target::detect(), || transformed(&onnx(), &model, name, parameters));
            let reference = if *like == Like::Untransformed { "set_property" } else { name };
            let reference_parameters =
                if *like == Like::Untransformed { r#"{"key": "k", "value": "v"}"# } else { parameters };
            let ours_is_no_stock = ["sparsify", "sparsify_half", "planar"].contains(name);
            let stock = if ours_is_no_stock { "unsparsify" } else { reference };
            let stock = transformed(&tract_onnx::onnx(), &model, stock, reference_parameters);
            let (ours, stock) = match (ours, stock) {
                (ours, Err(error)) => {
                    assert!(ours.is_err(), "{}: stock tract says {error:#}", what());
                    continue;
                }
                (ours, Ok(stock)) => (ours.with_context(what)?, stock),
            };
            let answer = |model: TypedModel| -> Result<TVec<TValue>> {
                let (model, inputs) = inputs_of(&model)?;
                run(model.into_optimized()?, &inputs)
            };
            let (ours, stock) = (answer(ours).with_context(what)?, answer(stock).with_context(what)?);
            assert_eq!(ours.len(), stock.len(), "{}", what());
            for (ours, stock) in ours.iter().zip(&stock) {
                assert_eq!(ours.datum_type(), stock.datum_type(), "{}", what());
                let f32 = |tensor: &TValue| tensor.cast_to::<f32>().map(|tensor| tensor.into_owned());
                let distance = tests::distance(&f32(ours)?, &f32(stock)?).with_context(what)?;
                let allowed = match like {
                    Like::StockInHalf => 1e-2,
                    Like::StockInBf16 => figures::HALF_TOLERANCE,
                    Like::Stock | Like::Untransformed => tests::TOLERANCE,
                };
                assert!(distance <= allowed, "{}: {distance}", what());
            }
        }
    }
    Ok(())
}

/// What stock tract makes of a network that is fed pulse by pulse.
struct Streamed {
    pulses: Vec<Tensor>,
    delay: usize,
    sparse: usize,
}

fn stream(onnx: &Onnx, model: &ModelProto, signal: &Tensor, pulse: usize) -> Result<Streamed> {
    let model = onnx.model_for_proto_model(model)?.into_typed()?.into_decluttered()?;
    let symbol = model.symbols.sym("T");
    let pulsed = PulsedModel::new(&model, symbol, &pulse.to_dim())?.into_typed()?;
    let delay = pulsed.properties["pulse.delay"].to_plain_array_view::<i64>()?[[0]] as usize;
    let pulsed = pulsed.into_optimized()?;
    let sparse = sparse_nodes(&pulsed);
    let mut state = pulsed.into_runnable()?.spawn()?;
    let mut pulses = vec![];
    for start in (0..signal.shape()[2]).step_by(pulse) {
        let x = signal.slice(2, start, start + pulse)?;
        pulses.push(state.run(tvec!(x.into_tvalue()))?.remove(0).into_tensor());
    }
    Ok(Streamed { pulses, delay, sparse })
}

/// Pulses are those of stock tract, on sparse kernels, and together they are the whole signal's answer.
fn check_stream(model: &ModelProto, channels: usize, axis: usize, pulse: usize, sparse: usize) -> Result<()> {
    let signal = noise(&[1, channels, 48], 70);
    let stock = stream(&tract_onnx::onnx(), model, &signal, pulse)?;
    for target in Target::available() {
        let ours = always(target, || stream(&onnx(), model, &signal, pulse))?;
        assert_eq!((ours.delay, ours.sparse), (stock.delay, sparse), "{target}");
        for (ours, stock) in ours.pulses.iter().zip(&stock.pulses) {
            assert_same(&[ours.clone().into_tvalue()], &[stock.clone().into_tvalue()])?;
        }
        let joined = Tensor::stack_tensors(axis, &ours.pulses)?;
        let whole = plainly(model, std::slice::from_ref(&signal))?.remove(0);
        // the end of the signal has not come yet when the last pulse is out: as many outputs as the delay
        let len = joined.shape()[axis] - ours.delay;
        let joined = joined.slice(axis, ours.delay, ours.delay + len)?;
        let whole = whole.slice(axis, 0, len)?;
        let distance = tests::distance(&joined, &whole)?;
        assert!(distance <= tests::TOLERANCE, "{target}, pulses of {pulse}: {distance}");
    }
    Ok(())
}

#[test]
fn streams_run_sparse_pulse_by_pulse() -> Result<()> {
    let model = case_model("pulse_conv.onnx")?;
    for pulse in [1, 4] {
        check_stream(&model, 32, 2, pulse, 2)?;
    }
    let deep = streaming_network();
    for pulse in [2, 4, 16] {
        check_stream(&deep, 16, 1, pulse, 7)?;
    }
    Ok(())
}
