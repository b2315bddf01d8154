//! What was found out about the layers of a model while they were made.
//!
//! An optimised model shows little of it: stock layers have packed their weights away, and ours are called
//! after what they have taken in. tract has no place for notes that lasts from the ONNX graph to there: the
//! properties of a model are set anew when it becomes a typed one, and stock operators are tract's own. What
//! does last is the scope of symbols, which a model shares with all that are made from it. Notes are kept
//! beside the scope, and dropped once it is gone.

use crate::report::LayerReport;
use std::fmt::{Debug, Display};
use std::sync::{Mutex, PoisonError, Weak};
use tract_core::internal::*;

/// The names by which a model is told from others of the same scope: of its inputs, and of its outputs where
/// they have labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Interface {
    pub(crate) fn of<F, O>(model: &Graph<F, O>) -> TractResult<Interface>
    where
        F: Fact + Clone + 'static,
        O: Debug + Display + AsRef<dyn Op> + AsMut<dyn Op> + Clone + 'static,
    {
        let input = |outlet: &OutletId| model.node(outlet.node).name.clone();
        let output = |outlet: &OutletId| model.outlet_label(*outlet).unwrap_or_default().to_string();
        Ok(Interface {
            inputs: model.input_outlets()?.iter().map(input).collect(),
            outputs: model.output_outlets()?.iter().map(output).collect(),
        })
    }
}

/// The notes on one model.
struct Notes {
    scope: usize,
    alive: Weak<dyn Send + Sync>,
    interface: Interface,
    layers: Vec<LayerReport>,
}

static NOTES: Mutex<Vec<Notes>> = Mutex::new(vec![]);

/// Calls `f` with the notes on the models that are still there.
fn with_notes<R>(f: impl FnOnce(&mut Vec<Notes>) -> R) -> R {
    let mut notes = NOTES.lock().unwrap_or_else(PoisonError::into_inner);
    notes.retain(|notes| notes.alive.strong_count() > 0);
    f(&mut notes)
}

/// Adds layers to what is known of a model; those of a name that is known already replace what was noted.
pub(crate) fn note(symbols: &SymbolScope, interface: Interface, layers: Vec<LayerReport>) {
    let scope = symbols.id();
    with_notes(|all| {
        let known = all.iter_mut().find(|notes| notes.scope == scope && notes.interface == interface);
        let Some(known) = known else {
            let alive = Arc::downgrade(&symbols.0);
            all.push(Notes { scope, alive, interface, layers });
            return;
        };
        for layer in layers {
            match known.layers.iter_mut().find(|noted| noted.name == layer.name) {
                Some(noted) => *noted = layer,
                None => known.layers.push(layer),
            }
        }
    });
}

/// Puts these layers in place of all that is known of a model.
pub(crate) fn note_all(model: &TypedModel, layers: Vec<LayerReport>) -> TractResult<()> {
    let interface = Interface::of(model)?;
    let scope = model.symbols.id();
    with_notes(|all| all.retain(|notes| notes.scope != scope || notes.interface != interface));
    note(&model.symbols, interface, layers);
    Ok(())
}

/// What is known of a model, in the order in which its layers were made: by the names of its inputs and
/// outputs, or if one model alone has been made in its scope, of that.
pub(crate) fn noted(model: &TypedModel) -> TractResult<Vec<LayerReport>> {
    let (scope, interface) = (model.symbols.id(), Interface::of(model)?);
    Ok(with_notes(|all| {
        let of_scope: Vec<&Notes> = all.iter().filter(|notes| notes.scope == scope).collect();
        let same = of_scope.iter().find(|notes| notes.interface == interface);
        let only = || of_scope.first().filter(|_| of_scope.len() == 1);
        same.or_else(only).map(|notes| notes.layers.clone()).unwrap_or_default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(input: &str) -> TypedModel {
        let mut model = TypedModel::default();
        let wire = model.add_source(input, f32::fact([1])).unwrap();
        model.select_output_outlets(&[wire]).unwrap();
        model
    }

    fn named(name: &str) -> LayerReport {
        LayerReport { name: name.into(), ..LayerReport::default() }
    }

    fn names(model: &TypedModel) -> Vec<String> {
        noted(model).unwrap().into_iter().map(|layer| layer.name).collect()
    }

    #[test]
    fn notes_last_as_long_as_the_scope() {
        let one = model("x");
        let scope = one.symbols.id();
        let interface = Interface::of(&one).unwrap();
        note(&one.symbols, interface.clone(), vec![named("a"), named("b")]);
        note(&one.symbols, interface, vec![named("b"), named("c")]);
        let copy = one.clone();
        drop(one);
        assert_eq!(names(&copy), ["a", "b", "c"]);
        note_all(&copy, vec![named("d")]).unwrap();
        assert_eq!(names(&copy), ["d"]);
        drop(copy);
        assert!(with_notes(|all| all.iter().all(|notes| notes.scope != scope)));
    }

    #[test]
    fn models_of_one_scope_are_told_apart_by_their_inputs() {
        let (one, mut other) = (model("x"), model("y"));
        other.symbols = one.symbols.clone();
        note_all(&one, vec![named("a")]).unwrap();
        // as long as there is no other, an input may have been renamed
        assert_eq!(names(&other), ["a"]);
        note_all(&other, vec![named("b")]).unwrap();
        assert_eq!((names(&one), names(&other)), (vec!["a".to_string()], vec!["b".to_string()]));
        other.symbols = SymbolScope::default();
        assert!(names(&other).is_empty());
    }
}
