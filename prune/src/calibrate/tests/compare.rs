use super::*;

#[test]
fn output_errors_are_relative_and_count_agreement() {
    let x = rows(1, IC, 16);
    let (w, mut other) = (weights(OC * IC, 17), weights(OC * IC, 17));
    other[..IC].iter_mut().for_each(|w| *w = 0.0);
    let (dense, pruned) =
        (chain(vec![gemm("x", "y", &w, None, PLAIN)]), chain(vec![gemm("x", "y", &other, None, PLAIN)]));
    let y = output(&dense, &x);
    let norm = y[0].iter().map(|v| v * v).sum::<f64>();
    let (error, agreement) = output_error(&dense, &pruned, &Chains, &[input(&x)]).unwrap();
    close(&[error], &[(y[0][0].powi(2) / norm).sqrt()], SINGLE);
    let top = |y: &[f64]| (0..OC).max_by(|a, b| y[*a].total_cmp(&y[*b]));
    assert_eq!(agreement, f64::from(u8::from(top(&y[0]) == top(&[0.0, y[0][1], y[0][2]]))));
    assert_eq!(output_error(&dense, &dense, &Chains, &[input(&x)]).unwrap(), (0.0, 1.0));
    assert!(output_error(&dense, &dense, &Chains, &[]).is_err());
}
