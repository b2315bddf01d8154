//! One pointwise layer between two marks, for tools that count the instructions of an aarch64 program.
//!
//! ```text
//! neon_pointwise CHANNELSxSIDE [FORMAT [DENSITY [TARGET]]]      for example: 256x28 4x4 0.5 neon-a53
//! ```
//! The layer has as many output as input channels, on a square map, with bias and ReLU6. DENSITY is the share of
//! weight groups that is kept, of all layer, exactly. The marks are `hint #112` and `hint #113`, which every core ignores;
//! between them is a single run, after one that warms up. `scripts/neon-cost.sh` prints a table from it.

use sparse_kernels::prelude::*;
use std::hint::black_box;

/// Begins what is counted.
fn begin() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint without meaning does nothing.
    unsafe {
        std::arch::asm!("hint #112")
    }
}

/// Ends what is counted.
fn end() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("hint #113")
    }
}

struct Noise(u64);

impl Noise {
    /// Uniform in 0..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// A `channels` x `channels` matrix of which the share `density` of groups is not zero.
fn weights(channels: usize, format: FormatKind, density: f64, noise: &mut Noise) -> Vec<f32> {
    let mut groups = vec![];
    for row in (0..channels).step_by(format.r()) {
        for column in (0..channels).step_by(format.c()) {
            groups.push((noise.next(), row, column));
        }
    }
    groups.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut weights = vec![0f32; channels * channels];
    for (_, row, column) in &groups[..(groups.len() as f64 * density).round() as usize] {
        for r in *row..channels.min(row + format.r()) {
            for c in *column..channels.min(column + format.c()) {
                weights[r * channels + c] = noise.next() - 0.5;
            }
        }
    }
    weights
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arg = |i: usize, default: &'static str| args.get(i).map_or(default, String::as_str);
    let (layer, format, density) = (arg(0, "256x28"), arg(1, "4x4"), arg(2, "0.5").parse::<f64>()?);
    let target = Target::named(arg(3, "auto"))?;
    let (channels, side) = layer.split_once('x').ok_or("the layer is CHANNELSxSIDE, for example 256x28")?;
    let (channels, side) = (channels.parse::<usize>()?, side.parse::<usize>()?);
    let format = FormatKind::POINTWISE
        .into_iter()
        .find(|f| f.to_string() == format)
        .ok_or_else(|| format!("no pointwise format is called {format:?}"))?;
    if !(0.0..=1.0).contains(&density) {
        return Err(format!("density {density} is not between 0 and 1").into());
    }
    let kernel = table::pointwise(target, format);
    let mut noise = Noise(1);
    let weights = weights(channels, format, density, &mut noise);
    let bias: Vec<f32> = (0..channels).map(|_| noise.next()).collect();
    let packed = PackedPointwise::from_dense(channels, channels, &weights, Some(&bias), kernel)?;
    let geometry = ConvGeometry::new(ConvShape::square(channels, channels, side, 1, 1, 0))?;
    let x: Vec<f32> = (0..geometry.x_len()).map(|_| noise.next()).collect();
    let mut y = vec![0f32; geometry.y_len()];
    let epilogue = Epilogue::activation(Activation::RELU6);
    packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial)?;
    begin();
    packed.run(&geometry, black_box(&x), black_box(&mut y), None, &epilogue, &Serial)?;
    end();
    println!("{} {layer} density {density}: {} weights", kernel.info().name, packed.stored());
    Ok(())
}
