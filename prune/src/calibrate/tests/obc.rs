use super::*;

/// A group is scored by what its removal costs when all others are refitted.
#[test]
fn obc_scores_are_costs_of_removal() {
    let (x, w) = (rows(60, IC, 5), weights(OC * IC, 6));
    let model = chain(vec![gemm("x", "y", &w, None, PLAIN)]);
    let plan = plan(&model, 0.5);
    let seen = Calibration::collect(&model, &plan, &Chains, &[input(&x)]).unwrap();
    let layer = layers(&model).unwrap().remove(0).unwrap();
    let (_, damping) = seen.moments[&0].covariance(0);
    for (r, c) in [(1, 1), (1, 2), (3, 2)] {
        let masker = Obc(&seen).masker(&layer, Structure::blocks(r, c).unwrap(), &w).unwrap();
        for group in 0..masker.scores().len() {
            let (outs, ins) = masker.group(group);
            let cost = outs.clone().map(|row| {
                let w: Vec<f64> = w[row * IC..][..IC].iter().map(|w| f64::from(*w)).collect();
                let kept: Vec<usize> = (0..IC).filter(|i| !ins.contains(i)).collect();
                let wanted = product(&x, &w);
                let (v, bias) = least_squares(&x, &wanted, &kept, true, damping, &w);
                let errors =
                    product(&x, &v).iter().zip(&wanted).map(|(got, y)| (got + bias - y).powi(2)).sum::<f64>();
                errors / x.len() as f64
                    + damping * v.iter().zip(&w).map(|(v, w)| (v - w).powi(2)).sum::<f64>()
            });
            let size = (outs.len() * ins.len()) as f64;
            close(&[masker.scores()[group]], &[cost.sum::<f64>() / size], EXACT);
        }
    }
}

/// Weights that stay, and the bias, are the least squares solution, whatever factors stand before products
/// and bias; few that stay go through another system than many.
#[test]
fn obc_refits_by_least_squares() {
    let (x, w, c) = (rows(80, IC, 7), weights(OC * IC, 8), weights(OC, 9));
    for ratio in [0.2, 0.5, 0.8] {
        for (alpha, beta) in [(1.0, 1.0), (0.1, 1.0), (0.1, -4.0), (3.0, 0.5), (2.0, 0.0)] {
            for c in [None, Some(&c[..])] {
                let dense = chain(vec![gemm("x", "y", &w, c, Factors { alpha, beta })]);
                let plan = plan(&dense, ratio);
                let seen = Calibration::collect(&dense, &plan, &Chains, &[input(&x)]).unwrap();
                // what is multiplied by zero can make up for nothing
                let bias = beta != 0.0;
                assert_eq!(seen.moments[&0].centred, bias);
                let (_, damping) = seen.moments[&0].covariance(0);
                let mut model = dense.clone();
                plan.apply(&mut model, &Obc(&seen)).unwrap();
                let graph = model.graph.as_ref().unwrap();
                let layer = layers(&model).unwrap().remove(0).unwrap();
                let pruned = layer.weights(graph).unwrap();
                let (expected, got) = (output(&dense, &x), output(&model, &x));
                for row in 0..OC {
                    let old: Vec<f64> = w[row * IC..][..IC].iter().map(|w| f64::from(*w)).collect();
                    let new: Vec<f64> = pruned[row * IC..][..IC].iter().map(|w| f64::from(*w)).collect();
                    let kept: Vec<usize> = (0..IC).filter(|i| new[*i] != 0.0).collect();
                    let wanted = product(&x, &old);
                    let (v, shift) = least_squares(&x, &wanted, &kept, bias, damping, &old);
                    close(&new, &v, SINGLE);
                    let wanted: Vec<f64> = product(&x, &v)
                        .iter()
                        .map(|y| {
                            let c = c.map_or(0.0, |c| f64::from(c[row]));
                            f64::from(alpha) * (y + shift) + f64::from(beta) * c
                        })
                        .collect();
                    close(&got.iter().map(|y| y[row]).collect::<Vec<_>>(), &wanted, SINGLE);
                    if bias {
                        let sum = |y: &[Vec<f64>]| y.iter().map(|y| y[row]).sum::<f64>();
                        assert!((sum(&got) - sum(&expected)).abs() < 1e-3, "the mean stays");
                    }
                }
            }
        }
    }
}

/// A bias that others read, too, is not moved, and the weights make up for it as well as they can.
#[test]
fn a_shared_bias_stays() {
    let (x, w, c) = (rows(80, IC, 7), weights(IC * IC, 8), weights(IC, 9));
    let mut dense = chain(vec![
        gemm("x", "h", &w, Some(&c), PLAIN),
        gemm("h", "y", &weights(IC * IC, 10), Some(&c), PLAIN),
    ]);
    dense.graph.as_mut().unwrap().node[1].input[2] = "h.c".into();
    let plan = plan(&dense, 0.5);
    let seen = Calibration::collect(&dense, &plan, &Chains, &[input(&x)]).unwrap();
    assert!(!seen.moments[&0].centred);
    let mut model = dense.clone();
    plan.apply(&mut model, &Obc(&seen)).unwrap();
    let bias = |model: &ModelProto| tensor::floats(&model.graph.as_ref().unwrap().initializer[1]).unwrap();
    assert_eq!(bias(&model), bias(&dense));
}
