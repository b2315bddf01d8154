//! Activations with a scale of their own for each channel, as NNCF quantises the inputs of depthwise layers.

use super::*;

#[derive(Clone, Copy)]
struct Between {
    signed: bool,
    /// Zero points, by channel.
    zero: fn(usize) -> i8,
    /// What bounds the layer before: its operator and values.
    bounds: Option<[f32; 2]>,
    /// Reach of a channel's bytes.
    reach: f32,
}

const RELU: Between = Between { signed: false, zero: |_| 0, bounds: Some([0.0, f32::INFINITY]), reach: 2.0 };

/// A pointwise, a depthwise and a pointwise layer, the first two with a scale for each channel between them.
fn model(between: Between) -> ModelProto {
    let (ic, c) = (16, 24);
    let mut q = Quantised::default();
    let x = q.graph.input(&format!("1,{ic},9,9"));
    let x = q.both(&x, Steps::U8);
    let (numbers, scales) = quantised(c, &pruned(c, ic, (4, 4), 0.5, 3));
    let w = q.weights(&[c, ic, 1, 1], &numbers, &scales);
    let b = q.graph.constant(&[c], &values(c, 4));
    let mut y = q.graph.op("Conv", &[&x, &w, &b], vec![]);
    if let Some(bounds) = between.bounds {
        let [lo, hi] = bounds.map(|bound| q.graph.constant(&[], &[bound]));
        y = q.graph.op("Clip", &[&y, &lo, &hi], vec![]);
    }
    let scales: Vec<f32> = values(c, 6).iter().map(|v| (between.reach + 0.5 * v) / 255.0).collect();
    let scale = q.graph.constant(&[c], &scales);
    let zeros = (0..c).map(|channel| (between.zero)(channel) as u8).collect();
    let data_type = if between.signed { DataType::Int8 } else { DataType::Uint8 };
    let zero = q.tensor(data_type, &[c], zeros);
    for op in ["QuantizeLinear", "DequantizeLinear"] {
        y = q.graph.op(op, &[&y, &scale, &zero], vec![int("axis", 1)]);
    }
    let (numbers, scales) = quantised(c, &pruned(c, 9, (1, 1), 0.4, 5));
    let w = q.weights(&[c, 1, 3, 3], &numbers, &scales);
    let y = q.graph.op("Conv", &[&y, &w], vec![int("group", c), ints("pads", &[1; 4])]);
    let y = q.graph.op("Relu", &[&y], vec![]);
    let y = q.both(&y, Steps::U8);
    let y = q.pointwise(&y, 8, c, Steps::I8, 7);
    q.graph.model(&[&y])
}

fn both(between: Between) -> Result<(TypedModel, f32)> {
    let (model, x) = (model(between), noise(&[1, 16, 9, 9], 2));
    let stock = run(load(&tract_onnx::onnx(), &model)?, std::slice::from_ref(&x))?;
    let optimised = always(Target::detect(), || load(&onnx(), &model))?;
    let distance = largest_difference(&run(optimised.clone(), std::slice::from_ref(&x))?[0], &stock[0])?;
    Ok((optimised, distance))
}

#[test]
fn layers_take_in_scales_of_channels() -> Result<()> {
    let relu6 = Between { bounds: Some([0.0, 6.0]), ..RELU };
    let unbounded = Between { signed: true, bounds: None, ..RELU };
    let moved = Between { signed: true, zero: |_| -128, ..RELU };
    // a bound of zero that the limits of the type are not
    let half = Between { signed: true, ..RELU };
    for (at, between) in [RELU, relu6, unbounded, moved, half].into_iter().enumerate() {
        let (optimised, distance) = both(between)?;
        assert_cluster(&optimised, [3, 1, 1], &format!("{at}"));
        // a step of each of the two layers before may become one of the last, whose gain is below two
        assert!(distance <= 2.01 * Steps::I8.scale, "{at}: {distance}");
    }
    Ok(())
}

/// Bounds in other places for each channel keep the layer before in floats, and zero points that differ those on both sides.
#[test]
fn other_scales_of_channels_stay_in_floats() -> Result<()> {
    let bounded = Between { bounds: Some([0.0, 1.0]), ..RELU };
    let zeros = Between { zero: |channel| channel as i8, ..RELU };
    for (at, (between, layers)) in [(bounded, 2), (zeros, 1)].into_iter().enumerate() {
        let (optimised, distance) = both(between)?;
        assert_eq!(in_quads(&optimised), layers, "{at}: {:?}", op_names(&optimised));
        assert!(distance <= 2.01 * Steps::I8.scale, "{at}: {distance}");
    }
    Ok(())
}
