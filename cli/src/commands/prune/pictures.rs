//! `prune --calibrate` with pictures: decoded, stretched to the input's size and scaled, as the network was
//! trained.

use anyhow::{Context, Result, ensure};
use clap::Args;
use image::imageops::FilterType;
use prune::Array;
use std::path::Path;

/// How values of pictures become those of an input.
#[derive(Debug, Args)]
pub(super) struct Pictures {
    /// Subtracted from pictures, in 0..1; one or one a channel
    #[arg(
        long,
        value_name = "M[,M,M]",
        value_delimiter = ',',
        default_value = "0",
        allow_hyphen_values = true
    )]
    mean: Vec<f32>,
    /// What then divides them
    #[arg(
        long,
        value_name = "S[,S,S]",
        value_delimiter = ',',
        default_value = "1",
        allow_hyphen_values = true
    )]
    std: Vec<f32>,
    /// Channels of pictures are blue, green, red
    #[arg(long)]
    bgr: bool,
}

/// Whether a file is a picture, by its name.
pub(super) fn is_picture(path: &Path) -> bool {
    let known = |extension: &str| ["jpg", "jpeg", "png", "bmp"].contains(&extension.to_lowercase().as_str());
    path.extension().and_then(|extension| extension.to_str()).is_some_and(known)
}

impl Pictures {
    /// Reads a picture for an input of `shape`: one image of one or three channels, which stand first or
    /// last.
    ///
    /// # Errors
    /// A file that is no picture; another shape; `--mean` or `--std` of another number of channels, or a
    /// `--std` of zero.
    pub(super) fn read(&self, path: &Path, shape: &[usize]) -> Result<Array> {
        let (channels, height, width, first) = match *shape {
            [1, c @ (1 | 3), h, w] => (c, h, w, true),
            [1, h, w, c @ (1 | 3)] => (c, h, w, false),
            _ => anyhow::bail!(
                "pictures are for an input of one image of one or three channels, this has {shape:?}"
            ),
        };
        let per_channel = |what: &str, values: &[f32]| -> Result<Vec<f32>> {
            ensure!(values.iter().all(|v| v.is_finite()), "{what}: {values:?} is not finite");
            match values {
                [value] => Ok(vec![*value; channels]),
                values if values.len() == channels => Ok(values.to_vec()),
                values => anyhow::bail!("{what}: {} numbers for {channels} channels", values.len()),
            }
        };
        let (mean, std) = (per_channel("--mean", &self.mean)?, per_channel("--std", &self.std)?);
        ensure!(std.iter().all(|s| *s != 0.0), "--std: nothing can be divided by 0");
        let picture = image::open(path).with_context(|| path.display().to_string())?;
        let small = picture.resize_exact(width as u32, height as u32, FilterType::Triangle);
        let values = match channels {
            1 => small.to_luma8().into_raw(),
            _ => small.to_rgb8().into_raw(),
        };
        let mut data = vec![0.0; values.len()];
        for (pixel, values) in values.chunks_exact(channels).enumerate() {
            for (channel, value) in values.iter().enumerate() {
                let channel = if self.bgr { channels - 1 - channel } else { channel };
                let at = if first { channel * height * width + pixel } else { pixel * channels + channel };
                data[at] = (f32::from(*value) / 255.0 - mean[channel]) / std[channel];
            }
        }
        Ok(Array { shape: shape.to_vec(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_fill_the_input_in_its_layout() {
        let path = std::env::temp_dir().join(format!("tract-sparse-picture-{}.png", std::process::id()));
        let picture = image::RgbImage::from_fn(4, 2, |x, y| image::Rgb([51 * x as u8, 255 * y as u8, 102]));
        picture.save(&path).unwrap();
        let plain = Pictures { mean: vec![0.0], std: vec![1.0], bgr: false };
        let planes = plain.read(&path, &[1, 3, 2, 4]).unwrap().data;
        let red = [0.0, 0.2, 0.4, 0.6];
        assert_eq!(planes[..8], [red, red].concat());
        assert_eq!(planes[8..16], [[0.0; 4], [1.0; 4]].concat());
        assert_eq!(planes[16..], [0.4; 8]);
        let other = Pictures { mean: vec![0.4, 0.0, 0.0], std: vec![0.5, 1.0, 2.0], bgr: true };
        let pixels = other.read(&path, &[1, 2, 4, 3]).unwrap().data;
        assert_eq!(pixels[..6], [0.0, 0.0, 0.0, 0.0, 0.0, 0.1]);
        assert_eq!(pixels[12..15], [0.0, 1.0, 0.0]);
        assert_eq!(plain.read(&path, &[1, 3, 1, 1]).unwrap().data.len(), 3);
        for (pictures, shape, what) in [
            (&plain, vec![1, 2, 4, 4], "one or three channels"),
            (
                &Pictures { mean: vec![0.0; 2], std: vec![1.0], bgr: false },
                vec![1, 3, 2, 4],
                "2 numbers for 3",
            ),
            (&Pictures { mean: vec![0.0], std: vec![0.0], bgr: false }, vec![1, 3, 2, 4], "divided by 0"),
        ] {
            let error = pictures.read(&path, &shape).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
