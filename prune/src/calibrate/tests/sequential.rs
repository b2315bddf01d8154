use super::*;
use crate::calibrate::moments::DAMPING;
use crate::calibrate::sequential::sequential;

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
    sequential(&mut model, &plan, &Chains, &[input(&x)], &mut |at, of| turns.push((at, of))).unwrap();
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
