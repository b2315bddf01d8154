//! `run`: one run of the sparse model.

use crate::args::{Options, Pass, Run};
use crate::input::inputs;
use crate::load::{Flavour, Source};
use crate::out;
use crate::table::Table;
use anyhow::{Context, Result};
use ndarray_npy::NpzWriter;
use std::io::Cursor;
use tract_core::internal::*;

/// Writes an array in its own type; what .npy has no type for, such as f16, as f32.
fn add(npz: &mut NpzWriter<&mut Cursor<Vec<u8>>>, name: &str, value: &Tensor) -> Result<()> {
    macro_rules! add {
        ($($dt:ident => $t:ty),*) => {
            match value.datum_type() {
                $(DatumType::$dt => npz.add_array(name, &value.to_plain_array_view::<$t>()?),)*
                _ => npz.add_array(name, &value.cast_to::<f32>()?.to_plain_array_view::<f32>()?),
            }
        };
    }
    add!(F64 => f64, I8 => i8, I16 => i16, I32 => i32, I64 => i64, U8 => u8, U16 => u16, U32 => u32, U64 => u64,
        Bool => bool)
    .map_err(|e| format_err!("{e}"))
}

/// Runs the model and prints a line for each output, or saves them.
pub(crate) fn run(source: &Source, args: &Run, options: &Options) -> Result<()> {
    let plan = source.load(Flavour::Sparse, options, Pass::Optimize)?.into_runnable()?;
    let model = plan.model();
    let names: Vec<String> = model
        .output_outlets()?
        .iter()
        .map(|o| model.outlet_label(*o).unwrap_or(&model.node(o.node).name).to_string())
        .collect();
    let outputs = plan.run(inputs(model, &args.input)?)?;
    if let Some(path) = &args.save_outputs {
        let mut bytes = Cursor::new(vec![]);
        let mut npz = NpzWriter::new(&mut bytes);
        for (name, value) in names.iter().zip(&outputs) {
            add(&mut npz, name, value).with_context(|| format!("output {name}"))?;
        }
        npz.finish().map_err(|e| format_err!("{}: {e}", path.display()))?;
        prune::file::write(path, bytes.get_ref())?;
    }
    let mut table = Table::new(&["<output", "<shape", "min", "max", "mean", "largest at"]);
    let mut values = vec![];
    for (name, output) in names.iter().zip(&outputs) {
        let floats = output.cast_to::<f64>()?;
        let floats: Vec<f64> = floats.to_plain_array_view::<f64>()?.iter().copied().collect();
        let min = floats.iter().copied().fold(f64::INFINITY, f64::min);
        let max = floats.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = floats.iter().sum::<f64>() / floats.len().max(1) as f64;
        let at = floats.iter().position(|v| *v == max);
        values.push(serde_json::json!({
            "name": name, "shape": output.shape(), "min": min, "max": max, "mean": mean, "largest_at": at,
        }));
        table.row(vec![
            name.clone(),
            output.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
            format!("{min:.4}"),
            format!("{max:.4}"),
            format!("{mean:.4}"),
            at.map_or_else(String::new, |at| at.to_string()),
        ]);
    }
    if options.json {
        return out::json(&serde_json::json!({ "model": source.to_string(), "outputs": values }));
    }
    out::print(&table.text())
}
