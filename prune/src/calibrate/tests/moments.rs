use super::*;

#[test]
fn moments_are_means_and_covariances() {
    let x = rows(40, IC, 1);
    for c in [None, Some(&[0.5f32; OC][..])] {
        let mut model = chain(vec![gemm("x", "y", &weights(OC * IC, 2), c, PLAIN)]);
        if c.is_none() {
            // a MatMul has no bias that could be set right
            let node = &mut model.graph.as_mut().unwrap().node[0];
            node.op_type = "MatMul".into();
            node.attribute.clear();
            let w = &mut model.graph.as_mut().unwrap().initializer[0];
            w.dims = vec![IC as i64, OC as i64];
        }
        let plan = plan(&model, 0.5);
        let seen = Calibration::collect(&model, &plan, &Chains, &[input(&x[..15]), input(&x[15..])]);
        // the stand-in for a runtime knows only Gemm, but what the first layer reads is the input
        let moments = &seen.unwrap().moments[&0];
        assert_eq!((moments.count, moments.centred), (40.0, c.is_some()));
        let mean = |f: &dyn Fn(&[f64]) -> f64| x.iter().map(|row| f(row)).sum::<f64>() / 40.0;
        let means: Vec<f64> = (0..IC).map(|i| mean(&|row| row[i])).collect();
        close(&moments.means(0), &means, EXACT);
        close(
            &moments.norms(0),
            &(0..IC).map(|i| mean(&|row| row[i] * row[i]).sqrt()).collect::<Vec<_>>(),
            EXACT,
        );
        let (h, damping) = moments.covariance(0);
        assert!(damping > 0.0);
        for i in 0..IC {
            for j in 0..IC {
                let shift = if c.is_some() { means[i] * means[j] } else { 0.0 };
                let wanted = mean(&|row| row[i] * row[j]) - shift + if i == j { damping } else { 0.0 };
                close(&[h[i * IC + j]], &[wanted], EXACT);
            }
        }
    }
}
