//! Times the depthwise kernels of this machine's best target over the layers of MobileNets and of the hand
//! model: all ones, 3:9, and both in half precision where there is, interleaved. `cargo run --release -p
//! tract-sparse-kernels --example depthwise [target]`

use sparse_kernels::prelude::*;
use std::time::Instant;

/// Channels, map, kernel, stride.
const SHAPES: [(usize, usize, usize, usize); 29] = [
    // MobileNet-v1.
    (32, 112, 3, 1),
    (64, 112, 3, 2),
    (128, 56, 3, 1),
    (128, 56, 3, 2),
    (256, 28, 3, 1),
    (256, 28, 3, 2),
    (512, 14, 3, 1),
    (512, 14, 3, 2),
    (1024, 7, 3, 1),
    // MobileNet-v2.
    (96, 112, 3, 2),
    (144, 56, 3, 1),
    (144, 56, 3, 2),
    (192, 28, 3, 1),
    (192, 28, 3, 2),
    (384, 14, 3, 1),
    (576, 14, 3, 1),
    (576, 14, 3, 2),
    (960, 7, 3, 1),
    // 5x5.
    (144, 56, 5, 2),
    (240, 28, 5, 1),
    (240, 28, 5, 2),
    (480, 14, 5, 1),
    (672, 14, 5, 2),
    (1152, 7, 5, 1),
    // 7x7.
    (96, 56, 7, 1),
    (192, 28, 7, 1),
    (192, 28, 7, 2),
    (384, 14, 7, 1),
    (768, 7, 7, 1),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::named(&std::env::args().nth(1).unwrap_or_default())?;
    println!(
        "{:>5} {:>4} {:>2} {:>2}  {:>9} {:>9} {:>6}  {:>9} {:>6} {:>9} {:>6}",
        "ch", "map", "k", "s", "dense ms", "3:9 ms", "times", "half ms", "of f32", "3:9 ms", "of f32"
    );
    let mut ratios = vec![];
    for (channels, map, k, stride) in SHAPES {
        let kernel = table::depthwise(target, [k, k]).ok_or("no kernel")?;
        let half = target.half().and_then(|half| table::depthwise_half(half, [k, k]));
        let shape =
            ConvShape { group: channels, ..ConvShape::square(channels, channels, map, k, stride, k / 2) };
        let geometry = ConvGeometry::new(shape)?;
        let dense: Vec<f32> = (0..channels * k * k).map(|i| 1.0 - i as f32 / 1e5).collect();
        let keeps = |i: usize| {
            let (channel, tap) = (i / 9, i % 9);
            let right = (channel / 16 * 7 % 8) >> (tap / 3) & 1 == 1;
            tap % 3 == 1 || (tap % 3 == 0) != right
        };
        let sparse =
            (0..dense.len()).map(|i| if k != 3 || keeps(i) { dense[i] } else { 0.0 }).collect::<Vec<_>>();
        let bias = vec![0.5; channels];
        let x = vec![0.25f32; geometry.x_len()];
        let mut y = vec![0f32; geometry.y_len()];
        let lanes = vec![0x3e80_3e80; channels.div_ceil(2) * geometry.input_pixels()];
        let mut y_lanes = vec![0; channels.div_ceil(2) * geometry.output_pixels()];
        let epilogue = Epilogue::activation(Activation::RELU6);
        let pack = |w: &[f32], kernel| PackedDepthwise::from_dense(channels, [k, k], w, Some(&bias), kernel);
        let packed = [pack(&dense, kernel)?, pack(&sparse, kernel)?];
        let halves = match half {
            Some(half) => vec![pack(&dense, half)?, pack(&sparse, half)?],
            None => vec![],
        };
        let mut times = [const { vec![] }; 4];
        let begin = Instant::now();
        while begin.elapsed().as_millis() < 150 || times[0].len() < 5 {
            for (packed, times) in packed.iter().zip(&mut times) {
                let start = Instant::now();
                packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial)?;
                times.push(start.elapsed().as_secs_f64());
            }
            for (packed, times) in halves.iter().zip(&mut times[2..]) {
                let start = Instant::now();
                packed.run_pairs(&geometry, &lanes, &mut y_lanes, None, &epilogue, &Serial)?;
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let [d, s, half_d, half_s] = times.map(|mut t| {
            t.sort_by(f64::total_cmp);
            t.get(t.len() / 2).copied().unwrap_or(f64::NAN)
        });
        println!(
            "{channels:>5} {map:>4} {k:>2} {stride:>2}  {:>9.4} {:>9.4} {:>6.2}  {:>9.4} {:>6.2} {:>9.4} {:>6.2}",
            d * 1e3,
            s * 1e3,
            d / s,
            half_d * 1e3,
            half_d / d,
            half_s * 1e3,
            half_s / s
        );
        if k == 3 {
            ratios.push(d / s);
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio dense / 3:9 of 3x3: {:.2}", ratios[ratios.len() / 2]);
    Ok(())
}
