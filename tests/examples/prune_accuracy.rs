//! What pruning does to the outputs of real networks on real pictures: l1 against calibrated, with and without
//! rearrangement. Prints a Markdown table.
//!
//! `cargo run --release --workspace --example prune_accuracy -- SECONDS [MODEL ...]`, where SECONDS is the search time of
//! each rearrangement.
//!
//! Crops of two pictures calibrate, crops of the third are what errors are measured on. The answers of the dense model
//! are the reference: agreement says nothing about accuracy on a data set.

#[path = "../../cli/src/prune_engine.rs"]
mod prune_engine;

use anyhow::{Context, Result};
use image::imageops::FilterType;
use prune::calibrate::{self, Calibration, Obc, Wanda, compare, output_error, sequential};
use prune::{Array, Document, L1, Method, Plan, Recipe, Search, rearrange};
use prune_engine::Tract;
use std::time::Duration;

/// How a network wants its pictures: `(value - shift) / scale`, red first or last.
struct Model {
    name: &'static str,
    size: [u32; 2],
    shift: f32,
    scale: f32,
    bgr: bool,
}

const fn model(name: &'static str, size: [u32; 2], shift: f32, scale: f32, bgr: bool) -> Model {
    Model { name, size, shift, scale, bgr }
}

const MODELS: [Model; 6] = [
    model("mobilenet_v2_1.0_224", [224, 224], 128.0, 128.0, false),
    model("resnet8_large_cifar10", [32, 32], 0.0, 255.0, false),
    model("version-RFB-320", [240, 320], 127.0, 128.0, false),
    model("yunet_n_320_320", [320, 320], 0.0, 1.0, true),
    model("FastestDet", [352, 352], 0.0, 255.0, true),
    model("face_detection_full_range_sparse", [192, 192], 127.5, 127.5, false),
];
const SEEN: [&str; 2] = ["grace_hopper.bmp", "cat.bmp"];
const HELD_OUT: [&str; 1] = ["parrot.jpg"];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds: f64 = args.next().context("SECONDS [MODEL ...]")?.parse()?;
    let wanted: Vec<String> = args.collect();
    let dir = tests::models_dir().context("the folder of real models is not there")?;
    println!("| model | ratio | rearranged | kept l1 | l1 | Wanda | OBC | OBC, layer by layer |");
    println!("|---|---|---|---|---|---|---|---|");
    for model in MODELS.iter().filter(|m| wanted.is_empty() || wanted.iter().any(|w| w == m.name)) {
        let dense = Document::open(&dir.join(format!("{}.onnx", model.name)))?.model;
        let crops = |names: &[&str]| -> Result<Vec<Vec<Array>>> {
            let mut all = vec![];
            for name in names {
                let picture = image::open(dir.join("inputs").join(name))?;
                all.extend((0..8).map(|crop| vec![prepare(&picture, crop, model)]));
            }
            Ok(all)
        };
        let (seen, held_out) = (crops(&SEEN)?, crops(&HELD_OUT)?);
        for ratio in [0.1, 0.2, 0.3, 0.5] {
            let plan = Plan::new(&dense, &Recipe { ratio, connectivity: ratio, ..Recipe::default() })?;
            for rearranged in [false, true] {
                let mut network = dense.clone();
                if rearranged {
                    let search = Search { seed: 1, budget: Duration::from_secs_f64(seconds) };
                    rearrange(&mut network, &plan, &Tract, &seen[..1], search, &mut |_| ())?;
                }
                let kept = plan.kept_l1(&network)?;
                let kept = kept.iter().map(|(_, kept)| kept).sum::<f64>() / kept.len() as f64;
                let calibration = Calibration::collect(&network, &plan, &Tract, &seen)?;
                let (wanda, obc) = (Wanda(&calibration), Obc(&calibration));
                let methods: [(&str, &dyn Method); 3] = [("l1", &L1), ("wanda", &wanda), ("obc", &obc)];
                let errors = compare(&network, &plan, &methods, &Tract, &held_out)?;
                let mut errors = errors;
                let mut pruned = network.clone();
                sequential(&mut pruned, &plan, &Tract, &seen, &mut |_, _| ())?;
                let (error, agreement) = output_error(&network, &pruned, &Tract, &held_out)?;
                errors.push(calibrate::Error { method: "layer by layer".into(), error, agreement });
                let cells: Vec<String> =
                    errors.iter().map(|e| format!("{:.3} / {:.0} %", e.error, 100.0 * e.agreement)).collect();
                let yes = if rearranged { "yes" } else { "no" };
                println!("| {} | {ratio} | {yes} | {kept:.4} | {} |", model.name, cells.join(" | "));
            }
        }
    }
    Ok(())
}

/// One of eight crops of a picture: two sizes, two corners, mirrored or not.
fn prepare(picture: &image::DynamicImage, crop: u32, model: &Model) -> Array {
    let (w, h) = (picture.width(), picture.height());
    let share = if crop & 1 == 0 { 0.95 } else { 0.8 };
    let (cw, ch) = ((f64::from(w) * share) as u32, (f64::from(h) * share) as u32);
    let (x, y) = if crop & 2 == 0 { (0, 0) } else { (w - cw, h - ch) };
    let mut part = picture.crop_imm(x, y, cw, ch);
    if crop & 4 != 0 {
        part = part.fliph();
    }
    let [height, width] = model.size;
    let rgb = part.resize_exact(width, height, FilterType::Triangle).to_rgb8();
    let channel = |c: usize| if model.bgr { 2 - c } else { c };
    let data = (0..3)
        .flat_map(|c| rgb.pixels().map(move |p| (f32::from(p.0[channel(c)]) - model.shift) / model.scale))
        .collect();
    Array { shape: vec![1, 3, height as usize, width as usize], data }
}
