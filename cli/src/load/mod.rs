//! A model from a file or from the zoo, stock or sparse, taken to a stage.

mod facts;
mod nnef;

pub use nnef::is_nnef;

use crate::options::{Options, Pass};
use anyhow::{Context, Result, ensure};
use facts::{check_shape, known_symbol, set_fact, symbols};
use rewriter::keeping_names;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tract_core::internal::*;
use tract_core::transform::{ModelTransformFactory, get_transform, get_transform_with_params, split_spec};
use tract_hir::prelude::*;
use tract_pulse::model::{PulsedModel, PulsedModelExt};
use zoo::ModelProto;

/// Where a model comes from.
pub(crate) enum Source {
    File(PathBuf),
    BuiltIn(String, Arc<ModelProto>),
}

/// Which operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Stock,
    Sparse,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::BuiltIn(name, _) => name.fmt(f),
        }
    }
}

impl Source {
    /// Loads the model and takes it to the stage that the options ask for, or else to `default`.
    pub(crate) fn load(&self, flavour: Flavour, options: &Options, default: Pass) -> Result<TypedModel> {
        let pass = options.stage(default);
        ensure!(pass >= Pass::Type, "--pass {pass}: a model without types can only be shown, with dump");
        self.typed(flavour, options)
            .and_then(|model| keeping_names(model, |model| taken_to(model, flavour, options, pass)))
            .with_context(|| self.blame(flavour))
    }

    /// Loads the model and takes it to one of the stages at which its types need not be known.
    pub(crate) fn inference(
        &self,
        flavour: Flavour,
        options: &Options,
        pass: Pass,
    ) -> Result<InferenceModel> {
        self.untyped(flavour, options)
            .and_then(|mut model| {
                if pass >= Pass::Analyse {
                    model.analyse(false)?;
                }
                if pass >= Pass::Incorporate { model.incorporate() } else { Ok(model) }
            })
            .with_context(|| self.blame(flavour))
    }

    /// Who could not do it.
    fn blame(&self, flavour: Flavour) -> String {
        match flavour {
            Flavour::Stock => format!("{self}: stock tract"),
            Flavour::Sparse => self.to_string(),
        }
    }

    fn typed(&self, flavour: Flavour, options: &Options) -> Result<TypedModel> {
        if let Source::File(path) = self
            && is_nnef(path)
        {
            return nnef::load(path, flavour, options);
        }
        let typed = |options: &Options| self.untyped(flavour, options)?.into_typed();
        let model =
            typed(options).map_err(|error| match advice(options, &|options| typed(options).is_ok()) {
                Some(advice) => error.context(advice),
                None => error,
            })?;
        for outlet in model.input_outlets()? {
            let fact = model.outlet_fact(*outlet)?;
            check_shape(fact).with_context(|| format!("input {}", model.node(outlet.node).name))?;
        }
        Ok(model)
    }

    fn untyped(&self, flavour: Flavour, options: &Options) -> Result<InferenceModel> {
        let onnx = match flavour {
            Flavour::Stock => tract_onnx::onnx(),
            Flavour::Sparse => tract_sparse::onnx(),
        };
        let onnx = onnx
            .with_ignore_value_info(options.onnx_ignore_value_info)
            .with_ignore_output_types(options.onnx_ignore_output_types);
        let mut model = match self {
            Source::File(path) => {
                let meta = std::fs::metadata(path)?;
                ensure!(!meta.is_dir(), "is a folder, not an ONNX file");
                ensure!(meta.len() > 0, "the file is empty");
                let mut proto = onnx.proto_model_for_path(path).context("not an ONNX file, or cut short")?;
                ensure!(proto.graph.is_some(), "not an ONNX file: it has no graph");
                if tract_sparse::densify(&mut proto).is_err() {
                    // sparse values may be in other files
                    proto = prune::Document::open(path)?.model;
                    tract_sparse::densify(&mut proto)?;
                }
                prune::onnx::outputs_are_there(&proto)?;
                let parsed = onnx.parse(&proto, path.parent().and_then(|dir| dir.to_str()))?;
                ensure!(
                    parsed.unresolved_inputs.is_empty(),
                    "nothing computes {}",
                    parsed.unresolved_inputs.join(", ")
                );
                parsed.model
            }
            Source::BuiltIn(_, proto) => onnx.model_for_proto_model(proto)?,
        };
        if !options.input_node.is_empty() {
            model.set_input_names(&options.input_node).context("--input-node")?;
        }
        if !options.output_node.is_empty() {
            model.select_outputs_by_name(&options.output_node).context("--output-node")?;
        }
        let mut values = HashMap::new();
        for (position, spec) in options.facts.iter().enumerate() {
            set_fact(&mut model, position, spec, &mut values).with_context(|| format!("-i {spec}"))?;
        }
        values.extend(symbols(&model.symbols, options)?);
        if !values.is_empty() {
            InferenceModelExt::set_symbols(&mut model, &values)?;
        }
        Ok(model)
    }
}

/// A typed model at a later stage.
fn taken_to(model: TypedModel, flavour: Flavour, options: &Options, pass: Pass) -> Result<TypedModel> {
    match pass {
        Pass::Declutter => model.into_decluttered(),
        Pass::BeforeOptimize | Pass::Optimize => {
            let mut model = model.into_decluttered()?;
            if let Some(spec) = &options.pulse {
                model = pulsed(&model, spec).with_context(|| format!("--pulse {spec}"))?;
            }
            // what stock tract is compared with must not make it sparse
            let ours =
                |spec: &&String| flavour == Flavour::Stock && split_spec(spec).0.starts_with("sparsify");
            for spec in options.transform.iter().filter(|spec| !ours(spec)) {
                transform(&mut model, spec).with_context(|| format!("-t {spec}"))?;
                model = model.into_decluttered()?;
            }
            if pass == Pass::Optimize { model.into_optimized() } else { Ok(model) }
        }
        _ => model.into_compact(),
    }
}

/// The model as it runs pulse by pulse; `spec` is `SYMBOL=N`, or `N` for tract's usual symbol.
fn pulsed(model: &TypedModel, spec: &str) -> Result<TypedModel> {
    let (symbol, pulse) = spec.split_once('=').unwrap_or(("S", spec));
    let symbol = known_symbol(&model.symbols, symbol)?;
    let pulse = parse_tdim(&model.symbols, pulse).with_context(|| format!("{pulse:?} is not a size"))?;
    ensure!(pulse.to_i64().map_or(true, |steps| steps > 0), "a pulse has at least one step");
    PulsedModel::new(model, symbol, &pulse)?.into_typed()?.into_decluttered()
}

/// Applies one of tract's transforms, with parameters in JSON perhaps: `name` or `name({"field": value})`.
fn transform(model: &mut TypedModel, spec: &str) -> Result<()> {
    let (name, parameters) = split_spec(spec);
    let transform = if parameters.is_empty() {
        get_transform(&name)?
    } else {
        let json = parameters.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let json = json.context("parameters stand in parentheses at the end")?;
        let mut parameters = serde_json::Deserializer::from_str(json);
        get_transform_with_params(&name, &mut <dyn erased_serde::Deserializer>::erase(&mut parameters))?
    };
    let transform = transform.with_context(|| {
        let mut known: Vec<&str> = inventory::iter::<ModelTransformFactory>().map(|t| t.name).collect();
        known.sort_unstable();
        format!("no transform has that name; there are {}", known.join(", "))
    })?;
    transform.transform(model)
}

/// The model that a path means: a folder stands for the `model.onnx` in it.
pub(crate) fn file(path: &Path) -> PathBuf {
    Some(path.join("model.onnx")).filter(|inside| inside.is_file()).unwrap_or_else(|| path.to_path_buf())
}

/// What would let a model load that does not; `loads` tries.
fn advice(options: &Options, loads: &dyn Fn(&Options) -> bool) -> Option<String> {
    let lenient = Options { onnx_ignore_value_info: true, ..options.clone() };
    if !options.onnx_ignore_value_info && loads(&lenient) {
        return Some("the file contradicts itself or -i; it loads with --onnx-ignore-value-info".into());
    }
    let plain = Options { facts: vec![], ..options.clone() };
    if !options.facts.is_empty() && loads(&plain) {
        let facts = options.facts.join(" -i ");
        return Some(format!("-i {facts} does not suit this model; it loads without"));
    }
    None
}
