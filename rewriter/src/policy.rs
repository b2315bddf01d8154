//! What the user may ask for.

use crate::analyse::LayerShape;
use crate::choose::Neighbours;
use crate::costs::{Costs, Table};
use crate::fit;
use sparse_kernels::target::Target;
use sparse_ops::{Half, only_ours_is_shared};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{LazyLock, Mutex, Once};
use tract_core::internal::*;
use tract_core::knobs::Knob;

tract_core::declare_knob!(
    scopable TRACT_SPARSE,
    String,
    "auto".to_string(),
    "Run pruned layers on sparse kernels: `auto` where a gain is predicted, `measure` where one is measured at load, `always` where there is any zero, `dense` layers without zeros too where a gain is predicted, `never`."
);
tract_core::declare_knob!(
    scopable TRACT_SPARSE_TARGET,
    String,
    "auto".to_string(),
    "Instruction set of the sparse kernels: `auto`, `scalar`, `avx2`, `avx-vnni`, `avx512`, `avx512-wide`, `neon`, `neon-a53`, `neon-a55`, `neon-a76`, `wasm`."
);
tract_core::declare_knob!(
    scopable TRACT_SPARSE_COSTS,
    String,
    "auto".to_string(),
    "Cost table that times are predicted with: `auto` that which `tract-sparse fit` has made for this machine, if it has, `built-in`, or a file."
);
tract_core::declare_knob!(
    scopable TRACT_SPARSE_MIN_GAIN,
    String,
    "1.1".to_string(),
    "How many times faster than stock a layer must be predicted to be before it is run sparse."
);

tract_core::declare_knob!(
    scopable TRACT_SPARSE_PRECISION,
    String,
    "f32".to_string(),
    "Numbers that our layers compute in: `f32`, or `half`: 16 bits where this machine has kernels for that and a gain is predicted, f32 elsewhere."
);

/// What layers of ours compute in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32, as stock tract.
    #[default]
    F32,
    /// Half precision (bf16 on x86, sums in f32) where the target has kernels for it and a gain is predicted.
    Half,
}

impl Precision {
    /// The word of the user's.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Half => "half",
        }
    }

    /// The precision of a word.
    ///
    /// # Errors
    /// Another word than `f32` and `half`.
    pub fn named(name: &str) -> TractResult<Precision> {
        match name.trim().to_ascii_lowercase().as_str() {
            "f32" | "" => Ok(Precision::F32),
            "half" => Ok(Precision::Half),
            _ => bail!("expected f32 or half"),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a layer is run sparse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Where a gain is predicted.
    Auto,
    /// Where a gain is measured while the model loads.
    Measure,
    /// Wherever a weight is zero and a kernel exists.
    Always,
    /// Where a gain is predicted, layers without zeros included, even if no layer of the model is pruned.
    Dense,
    /// Nowhere.
    Never,
}

/// The rules by which layers are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// When a layer is run sparse.
    pub mode: Mode,
    /// Where the kernels run.
    pub target: Target,
    /// What times are predicted with, if it is for the target; else the table that comes with this crate.
    pub table: Option<&'static Table>,
    /// Predicted stock time over predicted sparse time that every mode but [`Mode::Always`] asks for. At
    /// least 1.
    pub min_gain: f64,
    /// What layers compute in.
    pub precision: Precision,
    /// Predict times as if all layers were quantised: input, weights and output. It is for reports; a layer that is not
    /// quantised runs in f32 nevertheless.
    pub if_quantised: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            mode: Mode::Auto,
            target: Target::detect(),
            table: None,
            min_gain: 1.1,
            precision: Precision::F32,
            if_quantised: false,
        }
    }
}

/// How many times as fast as predicted a layer counts that runs on all of tract's threads where stock tract's runs on one. Dense
/// classifiers wait for memory on both sides: with this they are taken where one thread makes no difference.
const SHARED: f64 = 1.1;

impl Policy {
    /// The gain that a layer is asked for, one without zeros (`dense`) or another.
    pub(crate) fn asked_gain(&self, shape: &LayerShape, dense: bool) -> f64 {
        if dense && shape.pixels == Some(1) && only_ours_is_shared(shape.weights()) {
            (self.min_gain / SHARED).max(1.0)
        } else {
            self.min_gain
        }
    }

    /// Whether layers without zeros may run here, beside these neighbours.
    pub(crate) fn takes_dense(&self, neighbours: Neighbours) -> bool {
        self.mode == Mode::Dense || neighbours == Neighbours::Sparse
    }

    /// What times are predicted with.
    pub fn costs(&self) -> Costs {
        Costs::new(self.target, self.table)
    }

    /// The half precision of the target, if it is wanted and the target has it.
    pub fn half(&self) -> Option<Half> {
        if self.precision == Precision::Half { self.target.half() } else { None }
    }

    /// Why all layers run in f32 though half precision is wanted, if that is so.
    pub fn why_not_half(&self) -> Option<String> {
        (self.precision == Precision::Half && self.half().is_none()).then(|| {
            format!("no kernels in half precision for {} on this machine: all layers run in f32", self.target)
        })
    }

    /// Reads the knobs `TRACT_SPARSE`, `TRACT_SPARSE_TARGET`, `TRACT_SPARSE_COSTS`, `TRACT_SPARSE_MIN_GAIN` and
    /// `TRACT_SPARSE_PRECISION`: programmatic override, scope, environment, in tract's order.
    ///
    /// # Errors
    /// A value that is not one of the documented ones, naming the knob.
    pub fn from_knobs() -> TractResult<Policy> {
        let mode = match read(&TRACT_SPARSE).as_str() {
            "auto" => Mode::Auto,
            "measure" => Mode::Measure,
            "always" => Mode::Always,
            "dense" => Mode::Dense,
            "never" => Mode::Never,
            other => bail!("TRACT_SPARSE={other:?}: expected auto, measure, always, dense or never"),
        };
        let target = read(&TRACT_SPARSE_TARGET);
        let target =
            Target::named(&target).map_err(|error| format_err!("TRACT_SPARSE_TARGET={target:?}: {error}"))?;
        let costs = TRACT_SPARSE_COSTS.get();
        let table = match costs.trim() {
            "" | "auto" => fitted(target),
            "built-in" => None,
            file => {
                let table = Table::read(Path::new(file));
                Some(table.with_context(|| {
                    format!("TRACT_SPARSE_COSTS={file:?}: expected auto, built-in or a cost table")
                })?)
            }
        };
        let gain = read(&TRACT_SPARSE_MIN_GAIN);
        let min_gain =
            gain.parse().ok().filter(|gain: &f64| gain.is_finite() && *gain >= 1.0).with_context(|| {
                format!("TRACT_SPARSE_MIN_GAIN={gain:?}: expected a number of at least 1")
            })?;
        let precision = read(&TRACT_SPARSE_PRECISION);
        let precision = Precision::named(&precision)
            .map_err(|error| format_err!("TRACT_SPARSE_PRECISION={precision:?}: {error}"))?;
        let policy = Policy { mode, target, table, min_gain, precision, if_quantised: false };
        if let Some(why) = policy.why_not_half() {
            static SAID: Once = Once::new();
            SAID.call_once(|| log::warn!("{why}"));
        }
        Ok(policy)
    }
}

/// The table that has been fitted for a target on this machine, if there is one that can be used. Looked for
/// once in the life of a process: knobs are read for every layer.
fn fitted(target: Target) -> Option<&'static Table> {
    static FOUND: LazyLock<Mutex<HashMap<Target, Option<&'static Table>>>> = LazyLock::new(Mutex::default);
    let look = || {
        let path = fit::file(target).filter(|path| path.is_file())?;
        Table::read(&path).inspect_err(|error| log::warn!("not used: {error:#}")).ok()
    };
    *FOUND.lock().ok()?.entry(target).or_insert_with(look)
}

fn read(knob: &Knob<String>) -> String {
    knob.get().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::knobs::KnobScope;

    fn with(knob: &str, value: &str) -> TractResult<Policy> {
        KnobScope::new([(knob, value)])?.enter(Policy::from_knobs)
    }

    #[test]
    fn knobs_are_read() {
        assert_eq!(with("TRACT_SPARSE", "never").unwrap().mode, Mode::Never);
        assert_eq!(with("TRACT_SPARSE_PRECISION", "Half").unwrap().precision, Precision::Half);
        assert_eq!(with("TRACT_SPARSE_MIN_GAIN", "1.5").unwrap().min_gain, 1.5);
        assert_eq!(with("TRACT_SPARSE_TARGET", "scalar").unwrap().target, Target::SCALAR);
        let policy = with("TRACT_SPARSE_COSTS", "built-in").unwrap();
        assert_eq!(policy, Policy::default());
        assert!(policy.costs().to_string().starts_with("built in"), "{}", policy.costs());
    }

    #[test]
    fn less_is_asked_of_dense_classifiers_that_stock_runs_on_one_thread() {
        let shape = |oc, ic, pixels| LayerShape::pointwise(oc, ic, [1, pixels]);
        let classifier = shape(1000, 1280, 1);
        // without threads there is nothing to share
        let asked = if only_ours_is_shared(1_280_000) { 1.0 } else { 1.1 };
        let policy = Policy::default();
        assert_eq!(policy.asked_gain(&classifier, true), asked);
        assert_eq!(policy.asked_gain(&classifier, false), 1.1);
        assert_eq!(policy.asked_gain(&shape(1000, 1280, 49), true), 1.1);
        assert_eq!(policy.asked_gain(&shape(10, 64, 1), true), 1.1);
        assert_eq!(policy.asked_gain(&shape(4096, 4096, 1), true), 1.1);
        let strict = Policy { min_gain: 2.2, ..policy };
        assert_eq!(strict.asked_gain(&classifier, true), 2.0 * asked);
    }

    #[test]
    fn wrong_values_are_named() {
        for (knob, value) in [
            ("TRACT_SPARSE", "sometimes"),
            ("TRACT_SPARSE_TARGET", "mmx"),
            ("TRACT_SPARSE_MIN_GAIN", "0.5"),
            ("TRACT_SPARSE_MIN_GAIN", "fast"),
            ("TRACT_SPARSE_COSTS", "no/such/table.txt"),
            ("TRACT_SPARSE_PRECISION", "quarter"),
        ] {
            let error = format!("{:#}", with(knob, value).unwrap_err());
            assert!(error.contains(knob) && error.contains(value), "{error}");
        }
    }
}
