//! Finds the 21 landmarks of a hand with a published pruned network, and draws them.
//!
//! ```sh
//! cargo run --release -p tract-sparse --example hand_landmarks -- hand_landmark_sparse.onnx hand.jpg drawn.png
//! ```
//!
//! The network is MediaPipe's `hand_landmark_sparse`. Its input is the picture of one upright hand, f32
//! `1x3x224x224`, values of `pixel / 255`; its outputs are 21 points (x, y, z in pixels of the input), and
//! how sure it is that there is a hand.

use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use tract_sparse::Report;
use tract_sparse::prelude::*;

const SIDE: u32 = 224;

/// Landmarks that are joined: the wrist, then four of each finger from the thumb on.
const BONES: [[usize; 2]; 21] = [
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 4],
    [0, 5],
    [5, 6],
    [6, 7],
    [7, 8],
    [5, 9],
    [9, 10],
    [10, 11],
    [11, 12],
    [9, 13],
    [13, 14],
    [14, 15],
    [15, 16],
    [13, 17],
    [17, 18],
    [18, 19],
    [19, 20],
    [0, 17],
];

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, drawn] = &*args else {
        eprintln!("usage: hand_landmarks MODEL.onnx PHOTO DRAWN.png");
        std::process::exit(2);
    };
    let model = onnx()
        .model_for_path(model)?
        .with_input_fact(0, f32::fact([1, 3, 224, 224]).into())?
        .into_optimized()?
        .into_runnable()?;
    let report = Report::of(model.model())?;
    println!("{} of {} layers run sparse on {}", report.sparse_layers(), report.layers.len(), report.target);

    let photo = image::open(photo)?.to_rgb8();
    let mut small = resize(&photo, SIDE, SIDE, FilterType::Triangle);
    let x: Tensor = tract_ndarray::Array4::from_shape_fn((1, 3, 224, 224), |(_, c, y, x)| {
        small[(x as u32, y as u32)][c] as f32 / 255.0
    })
    .into();
    let outputs = model.run(tvec!(x.into_tvalue()))?;
    let presence = outputs[1].to_plain_array_view::<f32>()?.iter().copied().next().unwrap_or(0.0);
    println!("a hand, with probability {presence:.3}");

    let values: Vec<f32> = outputs[0].to_plain_array_view::<f32>()?.iter().copied().collect();
    let points: Vec<[f32; 2]> = values.chunks_exact(3).map(|point| [point[0], point[1]]).collect();
    for [from, to] in BONES {
        line(&mut small, points[from], points[to], Rgb([0, 200, 0]));
    }
    for point in &points {
        line(&mut small, [point[0] - 1.0, point[1]], [point[0] + 1.0, point[1]], Rgb([255, 0, 0]));
    }
    small.save(drawn)?;
    println!("{drawn}: {} landmarks", points.len());
    Ok(())
}

/// Draws a line; what lies outside of the picture is left out.
fn line(picture: &mut RgbImage, from: [f32; 2], to: [f32; 2], colour: Rgb<u8>) {
    let steps = (to[0] - from[0]).abs().max((to[1] - from[1]).abs()).ceil().clamp(1.0, 1000.0);
    for step in 0..=steps as u32 {
        let share = step as f32 / steps;
        let [x, y] = [0, 1].map(|axis| (from[axis] + share * (to[axis] - from[axis])).round());
        if (0.0..picture.width() as f32).contains(&x) && (0.0..picture.height() as f32).contains(&y) {
            picture.put_pixel(x as u32, y as u32, colour);
        }
    }
}
