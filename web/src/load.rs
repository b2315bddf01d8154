//! Models from memory: ONNX files and NNEF archives.

use crate::value::whole;
use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use js_sys::{Array, Uint8Array};
use prost::Message;
use prune::Document;
use std::io::{Cursor, Read};
use tract_core::internal::*;
use tract_hir::prelude::*;
use tract_onnx::pb::ModelProto;
use tract_sparse::{Report, keeping_names, set_input_shapes};
use wasm_bindgen::{JsCast, JsValue};

/// The model, simplified, its pruned layers sparse under the policy of the knobs.
///
/// # Errors
/// Bytes that are no model, operators that tract lacks, shapes that do not suit it.
pub(crate) fn typed(bytes: Vec<u8>, shapes: &Array) -> Result<TypedModel> {
    ensure!(!bytes.is_empty(), "not a model: it has no bytes");
    match archive(&bytes)? {
        Some(archive) => {
            drop(bytes);
            ensure!(shapes.length() == 0, "inputs: an NNEF model keeps the shapes it was written with");
            nnef(archive).context("not an NNEF archive, or cut short")
        }
        None => onnx(bytes, shapes),
    }
}

/// The archive of an NNEF model, uncompressed; nothing if these are other bytes.
fn archive(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
    if is_tar(bytes) {
        return Ok(Some(bytes.to_vec()));
    }
    if !bytes.starts_with(b"\x1f\x8b") {
        return Ok(None);
    }
    let mut plain = vec![];
    GzDecoder::new(bytes).read_to_end(&mut plain).context("not a model: compressed, and cut short")?;
    ensure!(is_tar(&plain), "not a model: what is compressed is no archive");
    Ok(Some(plain))
}

fn nnef(archive: Vec<u8>) -> Result<TypedModel> {
    let nnef = tract_sparse::nnef();
    let proto = nnef.proto_model_for_read(&mut Cursor::new(archive))?;
    nnef.model_for_proto_model(&proto)
}

fn onnx(bytes: Vec<u8>, shapes: &Array) -> Result<TypedModel> {
    let onnx = tract_sparse::onnx();
    let mut proto = ModelProto::decode(&*bytes).context("not a model: neither ONNX nor an NNEF archive")?;
    drop(bytes);
    ensure!(proto.graph.is_some(), "not a model: an ONNX file has a graph");
    tract_sparse::densify(&mut proto)?;
    prune::onnx::outputs_are_there(&proto)?;
    let parsed = onnx.parse(&proto, None)?;
    let missing = parsed.unresolved_inputs.join(", ");
    ensure!(missing.is_empty(), "nothing computes {missing}");
    drop(proto);
    let mut model = parsed.model;
    apply(&mut model, shapes)?;
    keeping_names(model, |model| model.into_typed()?.into_decluttered())
}

/// Gives inputs the shapes of this array: names and arrays of sizes in turn.
///
/// # Errors
/// As [`set_input_shapes`]; what is no name, no array, or text that is no size.
fn apply(model: &mut InferenceModel, shapes: &Array) -> Result<()> {
    let dims = |sizes: &Array, symbols: &SymbolScope| -> Result<Vec<TDim>> {
        let dim = |size: JsValue| match size.as_string() {
            Some(symbol) => parse_tdim(symbols, &symbol),
            None => Ok(whole(&size)?.to_dim()),
        };
        sizes.iter().map(dim).collect()
    };
    let shapes: Vec<JsValue> = shapes.iter().collect();
    let mut named = vec![];
    for pair in shapes.chunks_exact(2) {
        let name = pair[0].as_string().context("inputs: names are text")?;
        let sizes = pair[1]
            .dyn_ref::<Array>()
            .with_context(|| format!("inputs: {name:?}: expected a shape such as [1, 3, 224, 224]"))?;
        named.push((name, move |symbols: &SymbolScope| dims(sizes, symbols)));
    }
    set_input_shapes(model, named)
}

/// An ONNX file with zeros made in its weights after a recipe, as text in TOML.
///
/// # Errors
/// Bytes that are no ONNX file, a recipe that is none.
pub(crate) fn pruned(bytes: Vec<u8>, recipe: &str) -> Result<Vec<u8>> {
    let mut document = Document::read(bytes, None)?;
    tract_sparse::densify(&mut document.model)?;
    prune::prune(&mut document.model, &recipe.parse()?)?;
    document.encode()
}

/// Pictures of the weights of a model: name, rows, columns and cells of each layer that can be drawn.
///
/// # Errors
/// Bytes that are no model, weights that cannot be read.
pub(crate) fn maps(bytes: Vec<u8>) -> Result<Array> {
    let model = typed(bytes, &Array::new())?;
    let layers = Report::of(&model)?.layers;
    let array = Array::new();
    for (layer, map) in layers.iter().zip(rewriter::maps(&model)?) {
        let Some(map) = map else { continue };
        let [rows, columns] = map.size();
        // only nothing is 0, and only everything 255
        let byte = |share: &f32| match *share {
            0.0 => 0,
            1.0 => 255,
            share => ((share * 255.0).round() as u8).clamp(1, 254),
        };
        let cells: Vec<u8> = map.shares().iter().map(byte).collect();
        let [name, cells] = [JsValue::from(layer.layer()), Uint8Array::from(&*cells).into()];
        array.push(&Array::of4(&name, &rows.into(), &columns.into(), &cells));
    }
    Ok(array)
}
