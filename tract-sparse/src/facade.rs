//! For users of the `tract` facade crate: `use tract_sparse::facade::onnx;` in place of `tract::onnx`.
//!
//! The facade keeps its `Onnx` and `InferenceModel` closed, so that this module has its own of both names.
//! They implement the same `tract_api` traits, and `into_model` returns the real `tract::Model`: code that
//! does not spell the two types compiles unchanged. (An explicit import wins over `use tract::prelude::*`.)
//!
//! ```
//! use tract::prelude::*;
//! use tract_sparse::facade::onnx; // the changed line
//!
//! # fn main() -> tract_sparse::tract_core::prelude::TractResult<()> {
//! let refused = onnx()?.load_buffer(b"not a model");
//! assert!(refused.is_err());
//! # Ok(())
//! # }
//! ```

use boow::Bow;
use std::path::Path;
use tract::{InferenceFact, Model};
use tract_api::{AsFact, InferenceModelInterface, ModelInterface, OnnxInterface, OnnxOptionsSpec};
use tract_core::prelude::TractResult as Result;

/// The facade's ONNX loader; models that it loads have their pruned layers made sparse.
///
/// # Errors
/// Those of `tract::onnx`.
pub fn onnx() -> Result<Onnx> {
    Ok(Onnx(tract::onnx()?))
}

/// `tract::Onnx`, for sparse models.
#[derive(Debug)]
pub struct Onnx(tract::Onnx);

impl OnnxInterface for Onnx {
    type InferenceModel = InferenceModel;

    fn load_with_options(
        &self,
        path: impl AsRef<Path>,
        options: impl Into<OnnxOptionsSpec>,
    ) -> Result<InferenceModel> {
        Ok(InferenceModel(self.0.load_with_options(path, options)?))
    }

    fn load_buffer_with_options(
        &self,
        data: &[u8],
        options: impl Into<OnnxOptionsSpec>,
    ) -> Result<InferenceModel> {
        Ok(InferenceModel(self.0.load_buffer_with_options(data, options)?))
    }
}

/// `tract::InferenceModel`, for sparse models.
#[derive(Debug)]
pub struct InferenceModel(tract::InferenceModel);

impl InferenceModelInterface for InferenceModel {
    type Model = Model;
    type InferenceFact = InferenceFact;

    fn input_count(&self) -> Result<usize> {
        self.0.input_count()
    }

    fn output_count(&self) -> Result<usize> {
        self.0.output_count()
    }

    fn input_name(&self, id: usize) -> Result<String> {
        self.0.input_name(id)
    }

    fn output_name(&self, id: usize) -> Result<String> {
        self.0.output_name(id)
    }

    fn input_fact(&self, id: usize) -> Result<InferenceFact> {
        self.0.input_fact(id)
    }

    fn set_input_fact(&mut self, id: usize, fact: impl AsFact<Self, InferenceFact>) -> Result<()> {
        let fact: InferenceFact = (*fact.as_fact(self)?).clone();
        self.0.set_input_fact(id, fact)
    }

    fn output_fact(&self, id: usize) -> Result<InferenceFact> {
        self.0.output_fact(id)
    }

    fn set_output_fact(&mut self, id: usize, fact: impl AsFact<Self, InferenceFact>) -> Result<()> {
        let fact: InferenceFact = (*fact.as_fact(self)?).clone();
        self.0.set_output_fact(id, fact)
    }

    fn analyse(&mut self) -> Result<()> {
        self.0.analyse()
    }

    fn into_model(self) -> Result<Model> {
        let mut model = self.0.into_model()?;
        model.transform("sparsify")?;
        Ok(model)
    }
}

/// Whatever describes a fact to the facade's model describes it to ours.
macro_rules! as_fact {
    ($($type:ty),*) => {$(
        impl AsFact<InferenceModel, InferenceFact> for $type {
            fn as_fact(&self, model: &InferenceModel) -> Result<Bow<'_, InferenceFact>> {
                AsFact::<tract::InferenceModel, InferenceFact>::as_fact(self, &model.0)
            }
        }
    )*};
}

as_fact!(InferenceFact, &str, (), Option<&str>);
