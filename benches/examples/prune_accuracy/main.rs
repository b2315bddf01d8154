//! What pruning does to the outputs of real networks on real pictures and sounds: l1 against calibrated, with
//! and without rearrangement. Prints a Markdown table.
//!
//! `cargo run --release --example prune_accuracy -- SECONDS [MODEL ...]`, where SECONDS is the search time of
//! each rearrangement.
//!
//! Sixteen crops of two pictures calibrate, eight of the third are what errors are measured on; of the one
//! recording, sixteen shifts in time calibrate and eight others in between are measured. The answers of the
//! dense model are the reference: agreement says nothing about accuracy on a data set. Pruning layer by layer
//! runs the network for every layer, and is shown for networks of few layers.

mod mfcc;

use anyhow::{Context, Result, ensure};
use image::imageops::FilterType;
use prune::calibrate::{self, Calibration, Obc, Wanda, compare, output_error, sequential};
use prune::{Array, Checkpoint, Document, L1, Method, Plan, Search, Steps, Tract, rearrange};
use std::path::Path;
use std::time::Duration;

/// What a network is fed.
enum Input {
    /// Pictures of this height and width, values `(value - shift) / scale`, red first or last.
    Picture { size: [u32; 2], shift: f32, scale: f32, bgr: bool },
    /// The MFCC of one second of sound.
    Sound,
}

const fn picture(size: [u32; 2], shift: f32, scale: f32, bgr: bool) -> Input {
    Input::Picture { size, shift, scale, bgr }
}

const MODELS: [(&str, Input); 6] = [
    ("mobilenet_v2_1.0_224", picture([224, 224], 128.0, 128.0, false)),
    ("resnet8_large_cifar10", picture([32, 32], 0.0, 255.0, false)),
    ("ds_cnn_kws", Input::Sound),
    ("version-RFB-320", picture([240, 320], 127.0, 128.0, false)),
    ("yunet_n_320_320", picture([320, 320], 0.0, 1.0, true)),
    ("face_detection_full_range_sparse", picture([192, 192], 127.5, 127.5, false)),
];
const SEEN: [&str; 2] = ["grace_hopper.bmp", "cat.bmp"];
/// Layers up to which a network is pruned layer by layer, too.
const FEW: usize = 20;
const HELD_OUT: [&str; 1] = ["parrot.jpg"];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds: f64 = args.next().context("SECONDS [MODEL ...]")?.parse()?;
    let wanted: Vec<String> = args.collect();
    let dir = tests::models_dir().context("the folder of real models is not there")?;
    println!("| model | ratio | rearranged | kept l1 | l1 | Wanda | OBC | OBC, layer by layer |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, input) in MODELS.iter().filter(|m| wanted.is_empty() || wanted.iter().any(|w| w == m.0)) {
        let dense = Document::open(&dir.join(format!("{name}.onnx")))?.model;
        let (seen, held_out) = inputs(&dir, input)?;
        let proven = vec![seen[0].iter().map(Array::tensor).collect::<Result<Vec<_>>>()?];
        for ratio in [0.1, 0.2, 0.3, 0.5] {
            let plan = Plan::new(&dense, &tests::recipe(ratio))?;
            for rearranged in [false, true] {
                let mut network = dense.clone();
                if rearranged {
                    let search = Search { seed: 1, budget: Duration::from_secs_f64(seconds) };
                    rearrange(&mut network, &plan, &Tract, &proven, search, &mut |_| ())?;
                }
                let kept = plan.kept_l1(&network)?;
                let kept = kept.iter().map(|(_, kept)| kept).sum::<f64>() / kept.len() as f64;
                let calibration = Calibration::collect(&network, &plan, &Tract, &seen)?;
                let (wanda, obc) = (Wanda(&calibration), Obc(&calibration));
                let methods: [(&str, &dyn Method); 3] = [("l1", &L1), ("wanda", &wanda), ("obc", &obc)];
                let mut errors = compare(&network, &plan, &methods, &Tract, &held_out)?;
                if plan.planned().count() <= FEW {
                    let mut pruned = network.clone();
                    let mut steps = Steps { say: &mut |_, _| (), kept: &mut Checkpoint::default() };
                    sequential(&mut pruned, &plan, &Tract, &seen, &mut steps)?;
                    let (error, agreement) = output_error(&network, &pruned, &Tract, &held_out)?;
                    errors.push(calibrate::Error { method: "layer by layer".into(), error, agreement });
                }
                let mut cells: Vec<String> =
                    errors.iter().map(|e| format!("{:.3} / {:.0} %", e.error, 100.0 * e.agreement)).collect();
                cells.resize(4, String::new());
                let yes = if rearranged { "yes" } else { "no" };
                println!("| {name} | {ratio} | {yes} | {kept:.4} | {} |", cells.join(" | "));
            }
        }
    }
    Ok(())
}

type Runs = Vec<Vec<Array>>;

/// Inputs that calibrate, and others to measure errors on.
fn inputs(dir: &Path, input: &Input) -> Result<(Runs, Runs)> {
    match input {
        Input::Picture { .. } => {
            let crops = |names: &[&str]| -> Result<Runs> {
                let mut all = vec![];
                for name in names {
                    let picture = image::open(dir.join("inputs").join(name))?;
                    all.extend((0..8).map(|crop| vec![prepare(&picture, crop, input)]));
                }
                Ok(all)
            };
            Ok((crops(&SEEN)?, crops(&HELD_OUT)?))
        }
        Input::Sound => {
            let sound = mfcc::read_wav(&dir.join("inputs/marvin_617de221_0.wav"))?;
            let golden = tests::npy(&dir.join("golden/ds_cnn_kws.input.npy"))?;
            let golden = golden.to_plain_array_view::<f32>()?;
            let off =
                mfcc::mfcc(&sound).data.iter().zip(&golden).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            ensure!(off < 1e-3, "the features of the recording are {off} away from the golden ones");
            // 20 ms apart; every third is held out
            let runs = (0..24).map(|i| vec![mfcc::mfcc(&mfcc::shifted(&sound, 320 * (i - 12)))]);
            let (held, seen): (Vec<_>, Vec<_>) = runs.enumerate().partition(|(i, _)| i % 3 == 1);
            let strip = |runs: Vec<(usize, Vec<Array>)>| runs.into_iter().map(|(_, run)| run).collect();
            Ok((strip(seen), strip(held)))
        }
    }
}

/// One of eight crops of a picture: two sizes, two corners, mirrored or not.
fn prepare(picture: &image::DynamicImage, crop: u32, input: &Input) -> Array {
    let Input::Picture { size: [height, width], shift, scale, bgr } = *input else { unreachable!() };
    let (w, h) = (picture.width(), picture.height());
    let share = if crop & 1 == 0 { 0.95 } else { 0.8 };
    let (cw, ch) = ((f64::from(w) * share) as u32, (f64::from(h) * share) as u32);
    let (x, y) = if crop & 2 == 0 { (0, 0) } else { (w - cw, h - ch) };
    let mut part = picture.crop_imm(x, y, cw, ch);
    if crop & 4 != 0 {
        part = part.fliph();
    }
    let rgb = part.resize_exact(width, height, FilterType::Triangle).to_rgb8();
    let channel = |c: usize| if bgr { 2 - c } else { c };
    let data = (0..3)
        .flat_map(|c| rgb.pixels().map(move |p| (f32::from(p.0[channel(c)]) - shift) / scale))
        .collect();
    Array { shape: vec![1, 3, height as usize, width as usize], data }
}
