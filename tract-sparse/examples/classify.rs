//! Classifies a photo with MobileNet-v2, on stock tract and on tract-sparse side by side.
//!
//! ```sh
//! cargo run --release -p tract-sparse --example classify -- mobilenet_v2_1.0_224.onnx parrot.jpg imagenet_labels.txt
//! ```
//!
//! The network has to take f32 `1x3x224x224`, values of `(pixel - 128) / 128`.

use std::path::Path;
use std::time::{Duration, Instant};
use tract_sparse::Report;
use tract_sparse::prelude::*;

const USAGE: &str = "usage: classify MODEL.onnx PHOTO LABELS.txt";
const RUNS: usize = 21;

fn main() -> TractResult<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, photo, labels] = &*args else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let photo = image::open(photo)?.to_rgb8();
    let small = image::imageops::resize(&photo, 224, 224, image::imageops::FilterType::Triangle);
    let x: Tensor = tract_ndarray::Array4::from_shape_fn((1, 3, 224, 224), |(_, c, y, x)| {
        (small[(x as u32, y as u32)][c] as f32 - 128.0) / 128.0
    })
    .into();
    let labels = std::fs::read_to_string(labels)?;
    let labels: Vec<&str> = labels.lines().collect();

    let load = |onnx: tract_sparse::Onnx, model: &Path| {
        onnx.model_for_path(model)?
            .with_input_fact(0, f32::fact([1, 3, 224, 224]).into())?
            .into_optimized()?
            .into_runnable()
    };
    let stock = load(tract_onnx::onnx(), model.as_ref())?;
    let sparse = load(onnx(), model.as_ref())?;
    let report = Report::of(sparse.model())?;
    println!("{} of {} layers run sparse on {}", report.sparse_layers(), report.layers.len(), report.target);

    // In turn, so that both see the same machine.
    let mut times: [Vec<Duration>; 2] = Default::default();
    let mut answers = [vec![], vec![]];
    for _ in 0..RUNS {
        for (i, runnable) in [&stock, &sparse].into_iter().enumerate() {
            let start = Instant::now();
            let y = runnable.run(tvec!(x.clone().into_tvalue()))?;
            times[i].push(start.elapsed());
            answers[i] = y[0].to_plain_array_view::<f32>()?.iter().copied().collect();
        }
    }
    for (name, (times, scores)) in ["stock", "sparse"].iter().zip(times.iter_mut().zip(&answers)) {
        times.sort();
        println!("\n{name}: {:.2} ms", times[RUNS / 2].as_secs_f64() * 1e3);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        for class in &order[..order.len().min(3)] {
            println!("  {:.3}  {}", scores[*class], labels.get(*class).unwrap_or(&"?"));
        }
    }
    let worst = answers[0].iter().zip(&answers[1]).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("\nlargest difference {worst:.1e}");
    Ok(())
}
