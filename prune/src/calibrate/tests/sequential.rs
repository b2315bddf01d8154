use super::*;
use crate::calibrate::moments::DAMPING;
use crate::calibrate::sequential::sequential;
use crate::checkpoint::{Checkpoint, Key, Steps};
use std::cell::Cell;

/// Layer by layer, each is fitted to what it reads now and to what it gave in the dense model.
#[test]
fn sequential_fits_every_layer_to_the_dense_outputs() {
    let x = rows(120, IC, 11);
    let dense = chain(vec![
        gemm("x", "h", &weights(IC * IC, 12), Some(&weights(IC, 13)), PLAIN),
        gemm("h", "y", &weights(OC * IC, 14), Some(&weights(OC, 15)), Factors { alpha: 0.5, beta: 2.0 }),
    ]);
    let plan = plan(&dense, 0.5);
    let mut model = dense.clone();
    let mut turns = vec![];
    let mut say = |at, of| turns.push((at, of));
    let mut steps = Steps { say: &mut say, kept: &mut Checkpoint::default() };
    sequential(&mut model, &plan, &Chains, &[input(&x)], &mut steps).unwrap();
    assert_eq!(turns, [(0, 2), (1, 2)]);
    // what the second layer reads is what the first one gives now
    let read = |model: &ModelProto| -> Vec<Vec<f64>> {
        let h = Chains.run(model, &input(&x), &["h".into()]).unwrap()[0].clone().unwrap();
        h.data.chunks(IC).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect()
    };
    let (here, there) = (read(&model), read(&dense));
    let second = |model: &ModelProto| {
        let layer = layers(model).unwrap().remove(1).unwrap();
        layer.weights(model.graph.as_ref().unwrap()).unwrap()
    };
    let variance = |i: usize| {
        let mean = here.iter().map(|row| row[i]).sum::<f64>() / 120.0;
        here.iter().map(|row| (row[i] - mean).powi(2)).sum::<f64>() / 120.0
    };
    let damping =
        DAMPING * (1.0 + IC as f64 / 120.0) * (0..IC).map(variance).sum::<f64>() / IC as f64 + 1e-12;
    for (old, new) in second(&dense).chunks(IC).zip(second(&model).chunks(IC)) {
        let old: Vec<f64> = old.iter().map(|w| f64::from(*w)).collect();
        let new: Vec<f64> = new.iter().map(|w| f64::from(*w)).collect();
        let kept: Vec<usize> = (0..IC).filter(|i| new[*i] != 0.0).collect();
        let (v, _) = least_squares(&here, &product(&there, &old), &kept, true, damping, &old);
        close(&new, &v, SINGLE);
    }
    let error = |model: &ModelProto| output_error(&dense, model, &Chains, &[input(&x)]).unwrap().0;
    let apply = |method: &dyn Method| {
        let mut model = dense.clone();
        plan.apply(&mut model, method).unwrap();
        error(&model)
    };
    let seen = Calibration::collect(&dense, &plan, &Chains, &[input(&x)]).unwrap();
    let (l1, obc) = (apply(&L1), apply(&Obc(&seen)));
    assert!(error(&model) < obc && obc < l1, "{} {obc} {l1}", error(&model));
}

/// A runtime that goes away when it has opened so many models.
struct Stops(Cell<usize>);

impl Runtime for Stops {
    fn open(&self, model: &ModelProto, names: &[String]) -> Result<Box<dyn Session>> {
        let left = self.0.get().checked_sub(1).context("stopped")?;
        self.0.set(left);
        Chains.open(model, names)
    }
}

/// Stopped anywhere and begun again, it comes to the same model and the same report, and prunes no layer
/// twice.
#[test]
fn what_was_stopped_goes_on() {
    let dense = chain(vec![
        gemm("x", "h", &weights(IC * IC, 12), Some(&weights(IC, 13)), PLAIN),
        gemm("h", "i", &weights(IC * IC, 16), None, PLAIN),
        gemm("i", "y", &weights(OC * IC, 14), Some(&weights(OC, 15)), PLAIN),
    ]);
    let (plan, inputs) = (plan(&dense, 0.5), [input(&rows(120, IC, 11))]);
    let run = |runtime: &dyn Runtime, kept: &mut Checkpoint, turns: &mut Vec<usize>| {
        let mut model = dense.clone();
        let mut say = |at, _| turns.push(at);
        let mut steps = Steps { say: &mut say, kept };
        sequential(&mut model, &plan, runtime, &inputs, &mut steps).map(|report| (model, report))
    };
    let whole = run(&Chains, &mut Checkpoint::default(), &mut vec![]).unwrap();
    // every layer opens two models
    for opened in 0..6 {
        let path = std::env::temp_dir().join(format!("sequential-{opened}-{}", std::process::id()));
        let mut kept = Checkpoint::open(&path, Key::of(&dense, &inputs, ""));
        let (mut before, mut after) = (vec![], vec![]);
        let error = run(&Stops(Cell::new(opened)), &mut kept, &mut before).unwrap_err();
        assert_eq!((error.to_string().as_str(), before.len()), ("stopped", opened / 2 + 1));
        assert_eq!(run(&Chains, &mut kept, &mut after).unwrap(), whole, "stopped at {opened}");
        assert_eq!(after, (opened / 2..3).collect::<Vec<_>>());
        assert_eq!(kept.resumed().len(), usize::from(opened >= 2));
    }
}
