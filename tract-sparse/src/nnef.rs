//! NNEF files: read as sparse models, written from them.

use crate::loader::WithTractSparse;
use rewriter::{Policy, Precision};
use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use tract_hir::prelude::*;
use tract_nnef::ast::ProtoModel;
use tract_nnef::internal::{Nnef, Registry};
use tract_onnx::WithOnnx;

/// tract's NNEF reader and writer, with ONNX's operators and compact weights: zeros of pruned layers take no
/// room in what it writes. Drop-in for `tract_nnef::nnef()`.
///
/// Models that it reads are simplified, and their pruned layers are sparse for this machine under the policy
/// of the knobs. Models that it writes may have sparse layers, which files hold as stock ones.
///
/// ```no_run
/// use tract_sparse::prelude::*;
///
/// # fn main() -> TractResult<()> {
/// let model = tract_sparse::nnef().model_for_path("pruned.nnef.tgz")?.into_optimized()?.into_runnable()?;
/// # Ok(())
/// # }
/// ```
pub fn nnef() -> SparseNnef {
    SparseNnef { nnef: tract_nnef::nnef().with_onnx().with_tract_sparse(), precision: None }
}

/// Reads an NNEF model as [`nnef`] does.
///
/// # Errors
/// A file that cannot be read or is no NNEF model; a knob with an impossible value.
pub fn nnef_model_for_path(path: impl AsRef<Path>) -> TractResult<TypedModel> {
    nnef().model_for_path(path)
}

/// What [`nnef`] returns. It dereferences to tract's own reader and writer, which sees sparse layers as
/// operators that it does not know.
pub struct SparseNnef {
    nnef: Nnef,
    /// What layers compute in; else the knob says.
    precision: Option<Precision>,
}

impl SparseNnef {
    /// Adds operators to those that are read and written.
    pub fn with_registry(self, registry: Registry) -> SparseNnef {
        SparseNnef { nnef: self.nnef.with_registry(registry), ..self }
    }

    /// Makes layers of models that are read compute in this precision, whatever the knob
    /// `TRACT_SPARSE_PRECISION` says.
    pub fn with_precision(self, precision: Precision) -> SparseNnef {
        SparseNnef { precision: Some(precision), ..self }
    }

    /// Writes weights as they are, zeros included: files that still need this extension if they hold quantised values, and
    /// tell how much compact weights save.
    pub fn with_plain_weights(mut self) -> SparseNnef {
        sparse_ops::nnef::enable_plain(&mut self.nnef);
        self
    }

    /// tract's own reader and writer, with ONNX's operators and compact weights. It reads models as stock
    /// ones.
    pub fn into_inner(self) -> Nnef {
        self.nnef
    }

    /// Writes a model as a tar archive.
    ///
    /// # Errors
    /// A model that has been optimised, or an operator that NNEF has no word for; a writer that fails.
    pub fn write(&self, model: &TypedModel, to: impl Write) -> TractResult<()> {
        self.nnef.write(&rewriter::for_files(model)?, to)
    }

    /// As [`SparseNnef::write`]; returns the writer.
    ///
    /// # Errors
    /// Those of [`SparseNnef::write`].
    pub fn write_to_tar<W: Write>(&self, model: &TypedModel, to: W) -> TractResult<W> {
        self.nnef.write_to_tar(&rewriter::for_files(model)?, to)
    }

    /// As [`SparseNnef::write_to_tar`], with models inside of the model compressed or not; the bytes are the
    /// same every time if `deterministic`.
    ///
    /// # Errors
    /// Those of [`SparseNnef::write`].
    pub fn write_to_tar_with_config<W: Write>(
        &self,
        model: &TypedModel,
        to: W,
        compress_nested_models: bool,
        deterministic: bool,
    ) -> TractResult<W> {
        self.nnef.write_to_tar_with_config(
            &rewriter::for_files(model)?,
            to,
            compress_nested_models,
            deterministic,
        )
    }

    /// Writes a model into a folder that is not there yet.
    ///
    /// # Errors
    /// Those of [`SparseNnef::write`]; a folder that exists.
    pub fn write_to_dir(&self, model: &TypedModel, path: impl AsRef<Path>) -> TractResult<()> {
        self.nnef.write_to_dir(&rewriter::for_files(model)?, path)
    }
}

impl Deref for SparseNnef {
    type Target = Nnef;

    fn deref(&self) -> &Nnef {
        &self.nnef
    }
}

impl DerefMut for SparseNnef {
    fn deref_mut(&mut self) -> &mut Nnef {
        &mut self.nnef
    }
}

impl Framework<ProtoModel, TypedModel> for SparseNnef {
    fn proto_model_for_read(&self, reader: &mut dyn Read) -> TractResult<ProtoModel> {
        self.nnef.proto_model_for_read(reader)
    }

    fn proto_model_for_path(&self, path: impl AsRef<Path>) -> TractResult<ProtoModel> {
        self.nnef.proto_model_for_path(path)
    }

    fn model_for_proto_model_with_model_template(
        &self,
        proto: &ProtoModel,
        template: TypedModel,
    ) -> TractResult<TypedModel> {
        let mut model = self.nnef.model_for_proto_model_with_model_template(proto, template)?;
        rewriter::pad_in_numbers(&mut model)?;
        let mut model = model.into_decluttered()?;
        let knobs = Policy::from_knobs()?;
        let policy = Policy { precision: self.precision.unwrap_or(knobs.precision), ..knobs };
        rewriter::sparsify(&mut model, &policy)?;
        Ok(model)
    }

    fn model_for_path(&self, path: impl AsRef<Path>) -> TractResult<TypedModel> {
        self.model_for_proto_model(&self.proto_model_for_path(path)?)
    }
}
