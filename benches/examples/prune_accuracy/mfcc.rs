//! The features that `ds_cnn_kws` hears: 49 frames of 10 mel-frequency cepstral coefficients, as its README
//! describes them.

use anyhow::{Context, Result, ensure};
use prune::Array;
use std::f64::consts::PI;
use std::path::Path;

const RATE: f64 = 16000.0;
const FRAMES: usize = 49;
const FRAME: usize = 480;
const STEP: usize = 320;
const FFT: usize = 512;
const BANDS: usize = 40;
const COEFFICIENTS: usize = 10;

/// The first channel of a 16-bit PCM file.
pub fn read_wav(path: &Path) -> Result<Vec<f64>> {
    let bytes = std::fs::read(path)?;
    let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let (mut at, mut channels) = (12, 1);
    while let Some(length) = long(at + 4) {
        let body = at + 8;
        match &bytes[at..at + 4] {
            b"fmt " => {
                channels = usize::from(word(body + 2).context("cut short")?);
                ensure!(word(body + 14) == Some(16), "not 16 bits a sample");
            }
            b"data" => {
                let frames = bytes[body..bytes.len().min(body + length)].chunks_exact(2 * channels);
                return Ok(frames.map(|f| f64::from(i16::from_le_bytes([f[0], f[1]]))).collect());
            }
            _ => {}
        }
        at = body + length.next_multiple_of(2);
    }
    anyhow::bail!("{}: no samples", path.display())
}

/// The same sound `by` samples later (or earlier), silence in the gap.
pub fn shifted(sound: &[f64], by: i64) -> Vec<f64> {
    let sample = |i: i64| usize::try_from(i - by).ok().and_then(|i| sound.get(i).copied());
    (0..sound.len() as i64).map(|i| sample(i).unwrap_or(0.0)).collect()
}

/// `[1, 1, 49, 10]`.
pub fn mfcc(sound: &[f64]) -> Array {
    let loudest = sound.iter().fold(1.0, |m: f64, v| m.max(*v));
    let bands = bands();
    let mut data = vec![];
    for frame in 0..FRAMES {
        let windowed: Vec<f64> = (0..FRAME)
            .map(|i| {
                let hann = 0.5 - 0.5 * (2.0 * PI * i as f64 / FRAME as f64).cos();
                hann * sound.get(frame * STEP + i).copied().unwrap_or(0.0) / loudest
            })
            .collect();
        let magnitude: Vec<f64> = (0..=FFT / 2)
            .map(|bin| {
                let (mut re, mut im) = (0.0, 0.0);
                for (i, v) in windowed.iter().enumerate() {
                    let angle = 2.0 * PI * ((bin * i) % FFT) as f64 / FFT as f64;
                    re += v * angle.cos();
                    im -= v * angle.sin();
                }
                f64::hypot(re, im)
            })
            .collect();
        let logs: Vec<f64> = bands
            .iter()
            .map(|band| (band.iter().zip(&magnitude).map(|(w, m)| w * m).sum::<f64>() + 1e-6).ln())
            .collect();
        data.extend((0..COEFFICIENTS).map(|k| {
            let turn = |j: usize| (PI / BANDS as f64 * (j as f64 + 0.5) * k as f64).cos();
            let sum: f64 = logs.iter().enumerate().map(|(j, v)| v * turn(j)).sum();
            (2.0 * sum / (2.0 * BANDS as f64).sqrt()) as f32
        }));
    }
    Array { shape: vec![1, 1, FRAMES, COEFFICIENTS], data }
}

/// Weights of every bin in every band: triangles between 20 and 4000 Hz on the mel scale.
fn bands() -> Vec<Vec<f64>> {
    let mel = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let (low, high) = (mel(20.0), mel(4000.0));
    let edge = |i: usize| low + (high - low) * i as f64 / (BANDS + 1) as f64;
    (0..BANDS)
        .map(|band| {
            let (left, centre, right) = (edge(band), edge(band + 1), edge(band + 2));
            (0..=FFT / 2)
                .map(|bin| {
                    let m = mel(bin as f64 * RATE / FFT as f64);
                    let rise = (m - left) / (centre - left);
                    let fall = (right - m) / (right - centre);
                    if bin == 0 { 0.0 } else { rise.min(fall).max(0.0) }
                })
                .collect()
        })
        .collect()
}
