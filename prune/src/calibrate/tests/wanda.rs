use super::*;

#[test]
fn wanda_scores_are_magnitudes_times_norms() {
    let (x, w) = (rows(40, IC, 3), weights(OC * IC, 4));
    let mut model = chain(vec![gemm("x", "y", &w, None, PLAIN)]);
    let plan = plan(&model, 0.5);
    let seen = Calibration::collect(&model, &plan, &Chains, &[input(&x)]).unwrap();
    let norm = |i: usize| (x.iter().map(|row| row[i] * row[i]).sum::<f64>() / 40.0).sqrt();
    let wanted: Vec<f64> = w.iter().enumerate().map(|(i, w)| f64::from(w.abs()) * norm(i % IC)).collect();
    let layer = layers(&model).unwrap().remove(0).unwrap();
    let masker = Wanda(&seen).masker(&layer, Structure::UNSTRUCTURED, &w).unwrap();
    close(masker.scores(), &wanted, EXACT);
    plan.apply(&mut model, &Wanda(&seen)).unwrap();
    let mut order: Vec<usize> = (0..w.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let pruned = layer.weights(model.graph.as_ref().unwrap()).unwrap();
    for (place, i) in order.into_iter().enumerate() {
        assert_eq!(pruned[i], if place < w.len() / 2 { 0.0 } else { w[i] });
    }
}
