use super::*;
use crate::calibrate::collect::sampled;
use crate::calibrate::window::Window;

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: 7, ..Default::default() }
}

fn conv(attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { op_type: "Conv".into(), attribute, ..Default::default() }
}

/// Pixels that the taps of a window of one row read, for every position; -1 is padding.
fn reads(node: &NodeProto, taps: usize, pixels: usize) -> Vec<Vec<i64>> {
    let window = Window::of(node, &[1, taps], [1, pixels]).unwrap();
    let tap = |at, tap| window.index(at, tap).map_or(-1, |pixel| pixel as i64);
    (0..window.out[1]).map(|at| (0..taps).map(|t| tap(at, t)).collect()).collect()
}

#[test]
fn windows_read_what_onnx_says() {
    assert_eq!(reads(&conv(vec![]), 2, 3), [[0, 1], [1, 2]]);
    let pads = || ints("pads", &[0, 1, 0, 2]);
    assert_eq!(reads(&conv(vec![pads()]), 3, 2), [[-1, 0, 1], [0, 1, -1], [1, -1, -1]]);
    let strides = || ints("strides", &[1, 2]);
    assert_eq!(reads(&conv(vec![pads(), strides()]), 3, 3), [[-1, 0, 1], [1, 2, -1]]);
    let dilations = ints("dilations", &[1, 2]);
    assert_eq!(reads(&conv(vec![dilations]), 2, 4), [[0, 2], [1, 3]]);
    let auto = |how: &str| AttributeProto {
        name: "auto_pad".into(),
        s: how.as_bytes().to_vec(),
        r#type: 3,
        ..Default::default()
    };
    // one pixel of padding: behind, or before
    assert_eq!(reads(&conv(vec![auto("SAME_UPPER"), strides()]), 3, 4), [[0, 1, 2], [2, 3, -1]]);
    assert_eq!(reads(&conv(vec![auto("SAME_LOWER"), strides()]), 3, 4), [[-1, 0, 1], [1, 2, 3]]);
    assert_eq!(reads(&conv(vec![auto("VALID"), pads()]), 2, 3), [[0, 1], [1, 2]]);
}

#[test]
fn rows_and_columns_of_a_window_are_told_apart() {
    let node = conv(vec![ints("pads", &[1, 0, 0, 0]), ints("strides", &[2, 1])]);
    let window = Window::of(&node, &[2, 3], [4, 5]).unwrap();
    assert_eq!(window.out, [2, 3]);
    // the second row of positions begins at row 1 of the map
    assert_eq!(window.index(4, 0), Some(5 + 1));
    assert_eq!(window.index(4, 5), Some(2 * 5 + 3));
    assert_eq!(window.index(2, 2), None);
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let refused = |attributes: Vec<AttributeProto>, kernel: &[usize]| {
        Window::of(&conv(attributes), kernel, [4, 4]).err().unwrap().to_string()
    };
    assert!(refused(vec![], &[3]).contains("1 axes"));
    assert!(refused(vec![], &[5, 1]).contains("larger than its input"));
    assert!(refused(vec![], &[0, 1]).contains("kernel makes no sense"));
    assert!(refused(vec![ints("strides", &[0, 1])], &[1, 1]).contains("strides"));
    assert!(refused(vec![ints("dilations", &[1])], &[1, 1]).contains("dilations"));
    assert!(refused(vec![ints("pads", &[0, 0, 0, -1])], &[1, 1]).contains("pads"));
}

#[test]
fn many_positions_are_sampled_evenly() {
    assert!(sampled(100).eq(0..100));
    for n in [257, 1000, 50_176] {
        let picked: Vec<usize> = sampled(n).collect();
        assert_eq!(picked.len(), 256);
        assert!(picked.is_sorted_by(|a, b| a < b) && picked[255] < n, "{n}");
        assert!(picked.windows(2).all(|pair| pair[1] - pair[0] <= 2 * n.div_ceil(256)), "{n}");
    }
}
