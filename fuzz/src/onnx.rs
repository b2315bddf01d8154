//! ONNX models: through densify, the editor of files, pruning, and the loader with its hooks.

use prost::Message;
use prune::{Document, Recipe};
use std::sync::LazyLock;
use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_sparse::prelude::*;
use tract_sparse::tract_core::knobs::KnobScope;

/// What reading and editing may take: densify allows 64 MiB for a tensor of few values.
const EDITING: usize = 512 << 20;
/// What loading may take, stock tract and ours.
const LOADING: usize = 1 << 30;

static STOCK: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);
static OURS: LazyLock<Onnx> = LazyLock::new(onnx);

fn load(onnx: &Onnx, model: &ModelProto) -> TractResult<TypedModel> {
    onnx.model_for_proto_model(model)?.into_optimized()
}

/// Something for every kind of layer.
const RECIPE: &str = r#"
ratio = 0.5
dwconv3x3 = "3:9"
conv3x3 = "5:9:0.5"
convtranspose = "4x1"
"#;

/// Runs one input.
pub fn run(bytes: &[u8]) {
    let Ok(model) = ModelProto::decode(bytes) else { return };
    let dense = crate::within(EDITING, || {
        if let Ok(document) = Document::read(bytes.to_vec(), None)
            && let Ok(encoded) = document.encode()
        {
            assert!(encoded == bytes, "a model that nobody changed is written differently");
        }
        let mut dense = model.clone();
        if let Err(e) = tract_sparse::densify(&mut dense) {
            assert!(dense == model, "changed, although: {e:#}");
        }
        if let Ok(mut document) = Document::read(bytes.to_vec(), None) {
            let recipe: Recipe = RECIPE.parse().expect("a recipe");
            if prune::prune(&mut document.model, &recipe).is_ok() {
                document.set_metadata("key", "value");
                if let Ok(encoded) = document.encode() {
                    let read = ModelProto::decode(&*encoded).expect("a model that was written");
                    assert!(read == document.model, "pruned and written, it reads as another model");
                }
            }
        }
        dense
    });
    let stock = crate::caught(LOADING, || load(&STOCK, &dense).is_ok());
    for mode in ["auto", "always"] {
        let knobs = KnobScope::new([("TRACT_SPARSE", mode)]).expect("a knob of ours");
        let ours = crate::caught(LOADING, || knobs.enter(|| load(&OURS, &dense).is_ok()));
        crate::judge(ours, stock.clone(), true);
    }
}
