//! `prune --calibrate`: real inputs.

use super::pictures::{Pictures, is_picture};
use crate::load::{Flavour, Source};
use crate::options::{Options, Pass};
use anyhow::{Context, Result, bail, ensure};
use prune::Array;
use std::path::Path;
use tract_core::internal::*;

/// Real inputs, one entry a run.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// What calibration looks at.
    pub(super) seen: Vec<Vec<Array>>,
    /// What errors are measured on.
    pub(super) held_out: Vec<Vec<Array>>,
    /// Arrays that were of another type than f32.
    pub(super) converted: Vec<String>,
}

impl Samples {
    /// Those of calibration, and those that are held out.
    pub(super) fn all(&self) -> impl Iterator<Item = &Vec<Array>> {
        self.seen.iter().chain(&self.held_out)
    }

    /// Reads an .npz file, an .npy file, a picture or a folder of .npy files and pictures for the model of
    /// `source`.
    ///
    /// # Errors
    /// A model of several inputs, or of others than f32; a file that cannot be read or does not fit.
    pub(super) fn read(
        path: &Path,
        source: &Source,
        pictures: &Pictures,
        options: &Options,
    ) -> Result<Samples> {
        let shapes = input_shapes(source, options)?;
        let (files, converted) =
            samples(path, &shapes, pictures).with_context(|| path.display().to_string())?;
        let (seen, held_out) = split(files);
        Ok(Samples { seen, held_out, converted })
    }
}

/// Inputs that are made up where there are no real ones.
const MADE_UP: u64 = 4;

/// Standard normal values in the place of real inputs.
///
/// # Errors
/// A model of other inputs than f32 of known shape.
pub(super) fn made_up(source: &Source, options: &Options, seed: u64) -> Result<Vec<Vec<Array>>> {
    let shapes = input_shapes(source, options)?;
    let input =
        |(at, shape): (usize, &Vec<usize>), run: u64| Array::noise(shape, seed + 1000 * run + at as u64);
    Ok((0..MADE_UP).map(|run| shapes.iter().enumerate().map(|shape| input(shape, run)).collect()).collect())
}

/// Type and shape of every input.
pub(super) fn input_facts(source: &Source, options: &Options) -> Result<Vec<(DatumType, Vec<usize>)>> {
    let model = source.load(Flavour::Stock, options, Pass::Type)?;
    let mut facts = vec![];
    for outlet in model.input_outlets()? {
        let (fact, name) = (model.outlet_fact(*outlet)?, &model.node(outlet.node).name);
        let shape = fact
            .shape
            .as_concrete()
            .with_context(|| format!("input {name}: shape {:?} has symbols: see --set and -i", fact.shape))?;
        facts.push((fact.datum_type, shape.to_vec()));
    }
    Ok(facts)
}

/// The shape of every input, which must be f32.
fn input_shapes(source: &Source, options: &Options) -> Result<Vec<Vec<usize>>> {
    let facts = input_facts(source, options)?;
    let other = facts.iter().find(|(dt, _)| *dt != f32::datum_type());
    ensure!(other.is_none(), "calibration is for models of f32 inputs, this has {other:?}");
    Ok(facts.into_iter().map(|(_, shape)| shape).collect())
}

/// Real inputs, file by file, one entry a run. An array whose first dimension is larger than the input's
/// holds several.
type Files = Vec<Vec<Vec<Array>>>;

fn samples(path: &Path, shapes: &[Vec<usize>], pictures: &Pictures) -> Result<(Files, Vec<String>)> {
    let [shape] = shapes else { bail!("calibration is for models of one input, this has {}", shapes.len()) };
    let mut converted = vec![];
    let mut files: Files = vec![];
    let mut add = |name: String, array: Tensor| -> Result<()> {
        if array.datum_type() != f32::datum_type() {
            converted.push(format!("{name}: {:?} taken for f32", array.datum_type()));
        }
        files.push(Array::runs(&name, &array, shape)?);
        Ok(())
    };
    if path.extension().is_some_and(|e| e == "npz") {
        let mut npz = arrays::Npz::new(std::fs::read(path)?)?;
        let mut names = npz.names();
        names.sort();
        for name in names {
            let array = npz.any(&name)?;
            add(name, array)?;
        }
    } else {
        let mut all = vec![path.to_path_buf()];
        if path.is_dir() {
            all = std::fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
            all.retain(|f| f.extension().is_some_and(|e| e == "npy") || is_picture(f));
            all.sort();
        }
        for file in all {
            let name = file.display().to_string();
            if is_picture(&file) {
                add(name, pictures.read(&file, shape)?.tensor()?)?;
            } else {
                let bytes = std::fs::read(&file).with_context(|| name.clone())?;
                let array = arrays::npy(&bytes).with_context(|| name.clone())?;
                add(name, array)?;
            }
        }
    }
    let expected = "an .npz, an .npy, a picture (jpg, png, bmp) or a folder of .npy or pictures";
    ensure!(!files.is_empty(), "no inputs: expected {expected}");
    Ok((files, converted))
}

/// Every fourth file is held out, at least one if there are two; of a single file every fourth run.
fn split(files: Files) -> (Vec<Vec<Array>>, Vec<Vec<Array>>) {
    let parts: Files = match files.len() {
        1 => files.into_iter().flatten().map(|run| vec![run]).collect(),
        _ => files,
    };
    let n = parts.len();
    let step = 4.min(n.max(2));
    let (held, seen): (Vec<_>, Vec<_>) =
        parts.into_iter().enumerate().partition(|(i, _)| n > 1 && i % step == step - 1);
    let strip = |v: Vec<(usize, Vec<Vec<Array>>)>| v.into_iter().flat_map(|(_, runs)| runs).collect();
    (strip(seen), strip(held))
}
