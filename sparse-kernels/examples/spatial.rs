//! Times the spatial kernels on one core: `cargo run --release -p tract-sparse-kernels --example spatial
//! [TARGET] [FILTER] [ROWS]`.
//!
//! For the layers of ResNet-18 and ResNet-20 and some entry layers: milliseconds (fastest tenth, and median),
//! multiply-adds of stored weights per second, and their share of the peak that independent multiply-adds
//! reach in the same process. Where the target has half precision, the same on pairs of channels behind it, in turn, and
//! how many times as fast it is.

use sparse_kernels::doctor::peak::multiply_adds_per_second;
use sparse_kernels::prelude::*;
use sparse_kernels::{pairs, quads};
use std::time::Instant;

/// Name, input channels, output channels, input side, kernel side, stride.
const LAYERS: [(&str, usize, usize, usize, usize, usize); 15] = [
    ("resnet-18 64x64@56", 64, 64, 56, 3, 1),
    ("resnet-18 64x128@56 /2", 64, 128, 56, 3, 2),
    ("resnet-18 128x128@28", 128, 128, 28, 3, 1),
    ("resnet-18 128x256@28 /2", 128, 256, 28, 3, 2),
    ("resnet-18 256x256@14", 256, 256, 14, 3, 1),
    ("resnet-18 256x512@14 /2", 256, 512, 14, 3, 2),
    ("resnet-18 512x512@7", 512, 512, 7, 3, 1),
    ("resnet-18 entry 7x7 3x64@224 /2", 3, 64, 224, 7, 2),
    ("resnet-20 16x16@32", 16, 16, 32, 3, 1),
    ("resnet-20 16x32@32 /2", 16, 32, 32, 3, 2),
    ("resnet-20 32x32@16", 32, 32, 16, 3, 1),
    ("resnet-20 64x64@8", 64, 64, 8, 3, 1),
    ("entry 3x32@224 /2", 3, 32, 224, 3, 2),
    ("entry 3x16@224 /2", 3, 16, 224, 3, 2),
    ("entry 1x24@192 /2", 1, 24, 192, 3, 2),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let target = Target::named(&args.next().unwrap_or_default())?;
    let filter = args.next().unwrap_or_default();
    let format = match args.next().as_deref() {
        Some("1") => FormatKind::ROWS_1,
        Some("2") => FormatKind::ROWS_2,
        _ => FormatKind::ROWS_4,
    };
    let kernel = table::spatial(target, format);
    // The best of a few: what disturbs it only makes it lower.
    let peak = (0..20).map(|_| multiply_adds_per_second(target) / 1e9).fold(0.0, f64::max);
    println!("{}, peak {peak:.1} GMAC/s", kernel.info().name);
    let half = target.half().and_then(|half| Some((half, table::spatial_half(half, format)?)));
    println!("{:34} {:10} {:>8} {:>8} {:>6} {:>7}", "layer", "weights", "ms", "GMAC/s", "peak", "median");
    for (name, ic, oc, hw, k, stride) in LAYERS.into_iter().filter(|l| l.0.contains(&filter)) {
        let geometry = ConvGeometry::new(ConvShape::square(ic, oc, hw, k, stride, k / 2))?;
        let x: Vec<f32> = (0..geometry.x_len()).map(|i| (i % 13) as f32 * 0.1).collect();
        let mut y = vec![0f32; geometry.y_len()];
        for (what, pattern, connectivity) in
            [("dense", false, 100), ("5:9", true, 100), ("5:9 + 50 %", true, 50)]
        {
            if pattern && (k != 3 || ic < 4) {
                continue;
            }
            let weights = weights(ic, oc, k * k, pattern, connectivity);
            let packed = PackedSpatial::from_dense(oc, ic, [k, k], &weights, None, kernel)?;
            let epilogue = Epilogue::activation(Activation::RELU);
            let mut run = || packed.run(&geometry, &x, &mut y, None, &epilogue, &Serial);
            let mut run_half: Box<dyn FnMut() -> Result<(), KernelError>> = match half {
                Some((_, kernel)) => {
                    let packed = PackedSpatial::from_dense(oc, ic, [k, k], &weights, None, kernel)?;
                    let lanes = |channels: usize| channels.div_ceil(2);
                    let mut x_lanes = vec![0; lanes(ic) * geometry.input_pixels()];
                    pairs::pack(target, [1, ic, geometry.input_pixels()], &x, &mut x_lanes)?;
                    let mut y = vec![0; lanes(oc) * geometry.output_pixels()];
                    Box::new(move || packed.run_pairs(&geometry, &x_lanes, &mut y, None, &epilogue, &Serial))
                }
                None => Box::new(|| Ok(())),
            };
            let mut run_int8 = {
                let whole: Vec<f32> = weights.iter().map(|w| (w * 1270.0).round()).collect();
                let quantised = Quantised::new(vec![0; oc], vec![1e-4; oc], 7, 7)?;
                let kernel = table::spatial_int8(target.int8(), format);
                let packed =
                    PackedSpatial::from_groups_int8([oc, ic, 1], [k, k], &whole, &quantised, kernel)?;
                let lanes = |channels: usize| channels.div_ceil(4);
                let mut x_lanes = vec![0; lanes(ic) * geometry.input_pixels()];
                let affine = quads::Affine::new(0.01, 7)?;
                quads::quantize(target, [1, ic, geometry.input_pixels()], &x, affine, &mut x_lanes)?;
                let mut y = vec![0; lanes(oc) * geometry.output_pixels()];
                move || packed.run_quads(&geometry, &x_lanes, &mut y, &Serial)
            };
            let (mut times, mut half_times, mut int8_times) = (vec![], vec![], vec![]);
            let begin = Instant::now();
            while times.len() < 15 || begin.elapsed().as_millis() < 150 {
                for (run, times) in [
                    (&mut run as &mut dyn FnMut() -> _, &mut times),
                    (&mut *run_half, &mut half_times),
                    (&mut run_int8, &mut int8_times),
                ] {
                    let start = Instant::now();
                    run()?;
                    times.push(start.elapsed().as_secs_f64());
                }
            }
            // Other processes double some times: the fastest tenth is what the machine can do.
            let sorted = |mut times: Vec<f64>| {
                times.sort_by(f64::total_cmp);
                (times[times.len() / 10], times[times.len() / 2])
            };
            let macs = (packed.stored() * geometry.output_pixels()) as f64 / 1e9;
            let ((quiet, median), (half_quiet, half_median)) = (sorted(times), sorted(half_times));
            let (speed, share) = (macs / quiet, 100.0 * macs / quiet / peak);
            print!("{name:34} {what:10} {:8.4} {speed:8.1} {share:5.1} % {:7.4}", quiet * 1e3, median * 1e3);
            if let Some((half, _)) = half {
                let name = half.element().name();
                let (speed, times) = (macs / half_quiet, quiet / half_quiet);
                let (quiet, median) = (half_quiet * 1e3, half_median * 1e3);
                print!("   {name} {quiet:8.4} {speed:8.1} {median:8.4} {times:6.2} times");
            }
            let (int8_quiet, int8_median) = sorted(int8_times);
            println!(
                "   int8 {:8.4} {:8.4} {:6.2} times",
                int8_quiet * 1e3,
                int8_median * 1e3,
                quiet / int8_quiet
            );
        }
    }
    Ok(())
}

/// Weights where groups of 4x4 kernels share a pattern of four taps or are absent.
fn weights(ic: usize, oc: usize, taps: usize, pattern: bool, connectivity: usize) -> Vec<f32> {
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    let masks: Vec<u32> = (0u32..512).filter(|m| m.count_ones() == 4 && m & 16 != 0).collect();
    let groups = oc.div_ceil(4) * ic.div_ceil(4);
    let masks: Vec<u32> = (0..groups)
        .map(|_| match (pattern, random() % 100 < connectivity) {
            (false, _) => u32::MAX,
            (true, true) => masks[random() % masks.len()],
            (true, false) => 0,
        })
        .collect();
    let weight = |i: usize| {
        let (o, c, tap) = (i / taps / ic, i / taps % ic, i % taps);
        let kept = taps > 32 || masks[o / 4 * ic.div_ceil(4) + c / 4] >> tap & 1 == 1;
        if kept { 0.01 + (i % 7) as f32 * 0.01 } else { 0.0 }
    };
    (0..oc * ic * taps).map(weight).collect()
}
