//! adhoc
use std::time::Instant;
use tract_sparse::prelude::*;
use tract_sparse::*;
fn main() -> TractResult<()> {
    let path = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).map_or(20, |s| s.parse().unwrap());
    let profile = std::env::args().nth(3).is_some();
    let stock = tract_onnx::onnx().model_for_path(&path)?.into_optimized()?;
    let t = Instant::now();
    let sparse = onnx().model_for_path(&path)?.into_optimized()?;
    println!("load {:?}", t.elapsed());
    let fact = stock.input_fact(0)?.clone();
    let shape = fact.shape.as_concrete().unwrap().to_vec();
    let vals: Vec<f32> = (0..shape.iter().product()).map(|i: usize| ((i * 7919 % 1000) as f32) / 500. - 1.).collect();
    let x = Tensor::from_shape(&shape, &vals)?;
    let (a, b) = (stock.into_runnable()?, sparse.into_runnable()?);
    let (mut ta, mut tb) = (vec![], vec![]);
    for _ in 0..n {
        let t = Instant::now();
        let ya = a.run(tvec!(x.clone().into_tvalue()))?;
        ta.push(t.elapsed().as_secs_f64() * 1e3);
        let t = Instant::now();
        let yb = b.run(tvec!(x.clone().into_tvalue()))?;
        tb.push(t.elapsed().as_secs_f64() * 1e3);
        for (a, b) in ya.iter().zip(&yb) {
            b.close_enough(a, tract_core::internal::Approximation::Approximate)?;
        }
    }
    ta.sort_by(f64::total_cmp);
    tb.sort_by(f64::total_cmp);
    println!("stock {:.3} sparse {:.3} ratio {:.3}", ta[n / 2], tb[n / 2], ta[n / 2] / tb[n / 2]);
    if profile {
        for m in [&a, &b] {
            let mut state = m.spawn()?;
            let mut us = std::collections::BTreeMap::<usize, f64>::new();
            for it in 0..n + 3 {
                state.run_plan_with_eval(tvec!(x.clone().into_tvalue()), |c, s, nd, i| {
                    let t = Instant::now();
                    let r = tract_core::plan::eval(c, s, nd, i);
                    if it >= 3 { *us.entry(nd.id).or_default() += t.elapsed().as_secs_f64() * 1e6 / n as f64; }
                    r
                })?;
            }
            let mut ops = std::collections::BTreeMap::<String, (f64, usize)>::new();
            for (id, t) in &us {
                let nd = &m.model().nodes[*id];
                let o = ops.entry(nd.op().name().to_string()).or_default();
                *o = (o.0 + t, o.1 + 1);
                println!("{t:9.1} {:20} {:28} {:?} {}", nd.op().name(), nd.name, nd.outputs[0].fact, nd.op().info()?.join(" | ").chars().take(110).collect::<String>());
            }
            for (o, t) in ops { println!("TOTAL {:9.1} {o} x{}", t.0, t.1); }
        }
    }
    Ok(())
}
