//! Code written for the `tract` facade, compiled twice: with its own loader and with ours.

use tests::{TOLERANCE, distance, noise};
use tract_sparse::prelude::Tensor;
use tract_sparse::tract_core::prelude::TractResult;

/// One user's code; `$onnx` is the only line that differs.
macro_rules! user {
    ($name:ident, $onnx:path) => {
        mod $name {
            use tract::prelude::*;
            use $onnx;

            pub fn run(bytes: &[u8], input: &[f32]) -> super::TractResult<(Vec<f32>, String)> {
                let mut model = onnx()?.load_buffer(bytes)?;
                model.set_input_fact(0, "1,3,32,32,f32")?;
                model.analyse()?;
                assert_eq!(model.input_name(0)?, "input");
                let runnable = model.into_model()?.into_runnable()?;
                let x = Tensor::from_slice(&[1, 3, 32, 32], input)?;
                let y = runnable.run([x])?.remove(0);
                Ok((y.as_slice::<f32>()?.to_vec(), format!("{runnable:?}")))
            }
        }
    };
}

user!(stock, tract::onnx);
user!(sparse, tract_sparse::facade::onnx);

#[test]
fn the_same_code_runs_with_either_loader() -> TractResult<()> {
    use prost::Message;
    let spec = zoo::Spec { conv1x1: Some("4x4:0.8".parse()?), hw: Some(32), ..zoo::Spec::default() };
    let model = zoo::build(zoo::Network::MobilenetV2, &spec)?;
    let input = noise(&[1, 3, 32, 32], 5);
    let input = input.to_plain_array_view::<f32>()?;
    let run = |f: fn(&[u8], &[f32]) -> _| f(&model.encode_to_vec(), input.as_slice().unwrap());
    let ((ours, plan), (theirs, _)) = (run(sparse::run)?, run(stock::run)?);
    let vector = |values: &[f32]| Tensor::from_shape(&[values.len()], values);
    let far = distance(&vector(&ours)?, &vector(&theirs)?)?;
    assert!(far <= TOLERANCE, "{far}");
    assert!(plan.contains("OptSparseConv"), "{plan}");
    Ok(())
}
