//! Recipes over small graphs: what is pruned, what is skipped and why, and what is refused.

use prune::onnx::tensor;
use prune::{Plan, Recipe, Report, Scope, prune};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0007).collect()
}

fn weights(name: &str, dims: &[usize]) -> TensorProto {
    tensor::of_floats(name, dims, &ramp(dims.iter().product()))
}

fn node(op: &str, name: &str, inputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![format!("{name}_out")],
        ..Default::default()
    }
}

fn grouped(name: &str, inputs: &[&str], group: i64) -> NodeProto {
    let mut node = node("Conv", name, inputs);
    node.attribute.push(AttributeProto { name: "group".into(), i: group, r#type: 2, ..Default::default() });
    node
}

fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let input = vec![ValueInfoProto { name: "x".into(), ..Default::default() }];
    ModelProto {
        graph: Some(GraphProto { node, initializer, input, ..Default::default() }),
        ..Default::default()
    }
}

fn skip_of<'a>(report: &'a Report, name: &str) -> &'a str {
    let layer = report.layers.iter().find(|l| l.name == name).unwrap();
    layer.skipped.as_deref().unwrap_or_else(|| panic!("{name} was pruned"))
}

fn zeros(t: &TensorProto) -> usize {
    tensor::floats(t).unwrap().iter().filter(|w| **w == 0.0).count()
}

fn small() -> ModelProto {
    model(
        vec![
            node("Conv", "pw", &["x", "pw.w"]),
            grouped("dw", &["pw_out", "dw.w"], 20),
            node("Conv", "c3", &["dw_out", "c3.w"]),
            node("Identity", "id", &["fc.w"]),
            node("Gemm", "fc", &["c3_out", "id_out"]),
            node("MatMul", "mm", &["fc_out", "mm.w"]),
        ],
        vec![
            weights("pw.w", &[20, 8, 1, 1]),
            weights("dw.w", &[20, 1, 3, 3]),
            weights("c3.w", &[8, 20, 3, 3]),
            weights("fc.w", &[8, 16]),
            weights("mm.w", &[16, 12]),
        ],
    )
}

#[test]
fn every_role_gets_its_structure() {
    let mut m = small();
    let recipe: Recipe =
        "ratio = 0.5\nconnectivity = 0.2\nconv3x3 = \"5:9\"\ndwconv3x3 = \"3:9\"".parse().unwrap();
    let report = prune(&mut m, &recipe).unwrap();
    let graph = m.graph.as_ref().unwrap();
    let found: Vec<_> = report.pruned().map(|l| (&*l.name, l.structure.as_deref().unwrap())).collect();
    assert_eq!(found, [("pw", "4x4"), ("dw", "3:9"), ("c3", "5:9"), ("fc", "4x4"), ("mm", "4x4")]);
    assert_eq!(zeros(&graph.initializer[0]), 5 * 16);
    assert_eq!(zeros(&graph.initializer[1]), 20 * 3);
    assert_eq!(zeros(&graph.initializer[2]), 2 * 16 * 9 + 8 * 16 * 5);
    assert_eq!(zeros(&graph.initializer[3]), 4 * 16);
    assert_eq!(zeros(&graph.initializer[4]), 6 * 16);
    for layer in report.pruned() {
        assert!(layer.kept_l1.unwrap() > 0.3 && layer.kept_l1.unwrap() < 1.0);
    }
    // groups of a matrix kept as [in][out] are aligned all the same: rows of 4 outputs are columns there
    let w = tensor::floats(&graph.initializer[4]).unwrap();
    for (row, col) in (0..4).flat_map(|r| (0..3).map(move |c| (4 * r, 4 * c))) {
        let cells: Vec<bool> = (0..16).map(|i| w[(row + i / 4) * 12 + col + i % 4] == 0.0).collect();
        assert!(cells.iter().all(|z| *z == cells[0]));
    }
}

/// A ratio behind a structure is for its layers alone, and goes before the ratio of all; rules go before
/// both.
#[test]
fn structures_have_ratios_of_their_own() {
    let removed = |text: &str| -> Vec<Option<f64>> {
        let report = prune(&mut small(), &text.parse().unwrap()).unwrap();
        report.layers.iter().map(|layer| layer.removed).collect()
    };
    // pw is 20 x 8, c3 is 8 x 20, fc and mm are 16 x 8 and 12 x 16, dw has patterns only
    assert_eq!(removed("conv1x1 = \"4x4:0.5\""), [Some(0.5), None, None, None, None]);
    let text = "ratio = 0.25\nconv1x1 = \"4x4:0.5\"\nconv3x3 = \"5:9/2:0.2\"\ndwconv3x3 = \"3:9/8\"";
    assert_eq!(removed(text), [Some(0.5), None, Some(0.2), Some(0.25), Some(0.25)]);
    let rule = "[[layer]]\nname = \"pw\"\n";
    assert_eq!(removed(&format!("conv1x1 = \"4x4:0.5\"\n{rule}ratio = 0.1"))[0], Some(0.1));
    assert_eq!(removed(&format!("conv1x1 = \"4x4:0.5\"\n{rule}structure = \"4x1:0.3\""))[0], Some(0.3));
    assert_eq!(removed(&format!("conv1x1 = \"4x4:0.5\"\n{rule}structure = \"4x1\""))[0], Some(0.5));
    // no threshold over layers changes it
    let global = removed("ratio = 0.9\nscope = \"global\"\nconv1x1 = \"4x4:0.1\"");
    assert_eq!(global[0], Some(0.1));
    for (text, what) in [
        ("conv3x3 = \"5:9:0.5\"\nconnectivity = 0.5", "both say"),
        ("[[layer]]\nname = \"pw\"\nratio = 0.5\nstructure = \"4x4:0.5\"", "layer \"pw\""),
        ("dwconv3x3 = \"3:9:0.5\"", "no ratio"),
        ("conv3x3 = \"3:9\"", "5:9/N"),
    ] {
        let error = format!("{:#}", text.parse::<Recipe>().unwrap_err());
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn globs_rules_and_scopes() {
    let recipe: Recipe = r#"
        ratio = 0.25
        exclude = ["d*"]
        conv3x3 = "none"
        [[layer]]
        name = "*"
        ratio = 0.75
        [[layer]]
        name = "[fm]?"
        structure = "4x1"
        ratio = 0.5
    "#
    .parse()
    .unwrap();
    let mut m = small();
    let report = prune(&mut m, &recipe).unwrap();
    let removed = |name: &str| report.layers.iter().find(|l| l.name == name).unwrap().removed.unwrap();
    assert_eq!((removed("pw"), removed("fc"), removed("mm")), (0.8, 0.5, 0.5));
    assert!(skip_of(&report, "dw").contains("excluded by \"d*\""));
    assert!(skip_of(&report, "c3").contains("dense"));

    let mut m = small();
    let recipe = Recipe { ratio: Some(0.5), scope: Scope::Global, ..Recipe::default() };
    let report = prune(&mut m, &recipe).unwrap();
    let graph = m.graph.unwrap();
    let (all, gone): (usize, usize) = [0, 3, 4]
        .map(|i| (zeros(&graph.initializer[i]), tensor::floats(&graph.initializer[i]).unwrap().len()))
        .iter()
        .fold((0, 0), |(all, gone), (z, n)| (all + n, gone + z));
    assert!((gone as f64 - all as f64 / 2.0).abs() <= 16.0, "{gone} of {all}");
    assert!(report.pruned().all(|l| l.removed.is_none_or(|r| r <= 0.95)));
}

#[test]
fn what_cannot_be_pruned_is_skipped_by_name() {
    let inner = GraphProto { node: vec![node("Conv", "inside", &["x", "shared"])], ..Default::default() };
    let mut branch = node("If", "branch", &["x"]);
    branch.attribute.push(AttributeProto {
        name: "then_branch".into(),
        g: Some(inner),
        ..Default::default()
    });
    let mut nan = weights("nan", &[8, 8, 1, 1]);
    tensor::set_floats(&mut nan, &{
        let mut w = ramp(64);
        w[5] = f32::NAN;
        w
    })
    .unwrap();
    let mut half = weights("half", &[8, 8, 1, 1]);
    half.data_type = 10;
    half.raw_data.truncate(128);
    let mut m = model(
        vec![
            node("Conv", "dynamic", &["x", "x"]),
            branch,
            node("Conv", "captured", &["x", "shared"]),
            node("Conv", "nan", &["x", "nan"]),
            node("Conv", "half", &["x", "half"]),
            node("Conv", "a", &["x", "twice"]),
            node("Conv", "b", &["x", "twice"]),
            grouped("role1", &["x", "roles"], 16),
            node("Conv", "role2", &["x", "roles"]),
            node("Mul", "scale", &["x", "scaled"]),
            node("Conv", "by", &["x", "scaled"]),
            node("ConvTranspose", "up", &["x", "up.w"]),
            grouped("five", &["x", "w5"], 8),
        ],
        vec![
            weights("shared", &[8, 8, 1, 1]),
            nan,
            half,
            weights("twice", &[8, 8, 1, 1]),
            weights("roles", &[16, 1, 3, 3]),
            weights("scaled", &[8, 8, 1, 1]),
            weights("w5", &[8, 1, 5, 5]),
            weights("up.w", &[8, 8, 2, 2]),
        ],
    );
    let before = m.clone();
    let report = prune(&mut m, &Recipe { ratio: Some(0.5), ..Recipe::default() }).unwrap();
    for (name, reason) in [
        ("dynamic", "computed at run time"),
        ("inside", "control flow of If branch"),
        ("captured", "subgraph"),
        ("nan", "NaN"),
        ("half", "not f32"),
        ("b", "shares its weights with a"),
        ("role1", "Conv role2, which is another role"),
        ("role2", "Conv role1, which is another role"),
        ("by", "Mul scale, which is another role"),
        ("up", "convtranspose = \"none\""),
        ("five", "depthwise kernels of 5x5"),
    ] {
        let skip = skip_of(&report, name);
        assert!(skip.contains(reason), "{name}: {skip}");
    }
    assert_eq!(report.pruned().map(|l| &*l.name).collect::<Vec<_>>(), ["a"]);
    let (now, was) = (m.graph.unwrap(), before.graph.unwrap());
    for (now, was) in now.initializer.iter().zip(&was.initializer) {
        assert_eq!(now.name == "twice", now != was, "{}", now.name);
    }
}

#[test]
fn wrong_recipes_are_refused() {
    let refused = |recipe: &Recipe| {
        let mut m = small();
        let error = format!("{:#}", prune(&mut m, recipe).unwrap_err());
        assert_eq!(m, small(), "a refused recipe changes nothing");
        error
    };
    for ratio in [-0.1, 1.5, f64::NAN] {
        assert!(refused(&Recipe { ratio: Some(ratio), ..Recipe::default() }).contains("between 0 and 1"));
        assert!(refused(&Recipe { connectivity: Some(ratio), ..Recipe::default() }).contains("connectivity"));
    }
    for globs in ["nothing*", "[", "PW"] {
        let globs = vec![globs.to_string()];
        assert!(refused(&Recipe { include: globs.clone(), ..Recipe::default() }).contains(&globs[0]));
        assert!(refused(&Recipe { exclude: globs.clone(), ..Recipe::default() }).contains(&globs[0]));
    }
    let all = vec!["*".to_string()];
    assert!(
        refused(&Recipe { ratio: Some(0.5), exclude: all, ..Recipe::default() })
            .contains("no layer can be pruned")
    );
    for (text, what) in [
        ("ratio = 2", "between 0 and 1"),
        ("ratios = 0.5", "ratios"),
        ("conv1x1 = \"5:9\"", "not a structure for"),
        ("conv1x1 = \"4y4\"", "4y4"),
        ("dwconv3x3 = \"4x4\"", "not a structure for"),
        ("[[layer]]\nname = \"a\"\nratio = -1", "layer \"a\""),
        ("scope = \"some\"", "some"),
    ] {
        let error = format!("{:#}", text.parse::<Recipe>().unwrap_err());
        assert!(error.contains(what), "{text}: {error}");
    }
    let rule: Recipe = "[[layer]]\nname = \"dw\"\nstructure = \"4x4\"".parse().unwrap();
    assert!(refused(&rule).contains("dw"));
    assert!(Plan::new(&model(vec![], vec![]), &Recipe::default()).is_err());
}

#[test]
fn patterns_of_every_kind() {
    for (setting, zeros_of) in [("2:4", 80), ("unstructured", 80), ("4x1", 80), ("8x1", 0)] {
        let recipe: Recipe =
            format!("ratio = 0.5\nconv1x1 = \"{setting}\"\ninclude = [\"pw\"]").parse().unwrap();
        let mut m = small();
        prune(&mut m, &recipe).unwrap();
        let w = tensor::floats(&m.graph.unwrap().initializer[0]).unwrap();
        let zero = w.iter().filter(|w| **w == 0.0).count();
        if zeros_of > 0 {
            assert_eq!(zero, zeros_of, "{setting}");
        }
        if setting == "2:4" {
            assert!(w.chunks(4).all(|four| four.iter().filter(|w| **w == 0.0).count() == 2));
        }
    }
    for (full, expected) in [("3:9", 60), ("3:9+0.5", 12), ("3:9+1", 0)] {
        // 20 channels are groups of 16 and 4; the half that loses most stays dense
        let recipe: Recipe = format!("dwconv3x3 = \"{full}\"\ninclude = [\"dw\"]").parse().unwrap();
        let mut m = small();
        prune(&mut m, &recipe).unwrap();
        let zero = zeros(&m.graph.unwrap().initializer[1]);
        assert!(zero == expected || (full == "3:9+0.5" && zero == 48), "{full}: {zero}");
    }
}

/// No ratio, no budget and no pattern: nothing is pruned without being asked for, and the options are named.
#[test]
fn a_recipe_that_asks_for_nothing_is_refused() {
    let mut m = small();
    let error = format!("{:#}", prune(&mut m, &Recipe::default()).unwrap_err());
    assert!(
        error.contains("--ratio") && error.contains("--speedup") && error.contains("--conv3x3"),
        "{error}"
    );
    assert_eq!(m, small());
    // a ratio is not for patterns, and patterns are not for a ratio
    let report = prune(&mut m, &Recipe { ratio: Some(0.5), ..Recipe::default() }).unwrap();
    assert_eq!(report.pruned().map(|l| &*l.name).collect::<Vec<_>>(), ["pw", "fc", "mm"]);
    assert!(skip_of(&report, "dw").contains("dwconv3x3") && skip_of(&report, "c3").contains("conv3x3"));
    let mut m = small();
    let report = prune(&mut m, &"dwconv3x3 = \"3:9\"".parse().unwrap()).unwrap();
    assert_eq!(report.pruned().map(|l| &*l.name).collect::<Vec<_>>(), ["dw"]);
    assert!(skip_of(&report, "pw").contains("--ratio"));
    let error = "connectivity = 0.5".parse::<Recipe>().unwrap_err();
    assert!(format!("{error:#}").contains("conv3x3"), "{error:#}");
    // whole kernels of 3x3 layers go by the ratio
    let mut m = small();
    let report = prune(&mut m, &"ratio = 0.4\nconv3x3 = \"4x4\"".parse().unwrap()).unwrap();
    assert_eq!(report.layers[2].removed, Some(0.4));
}
