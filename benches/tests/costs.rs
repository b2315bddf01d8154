//! The tool that fits cost tables, through its program.

use assert_cmd::Command;
use rewriter::costs::Key;
use std::collections::HashMap;

fn fit_costs(args: &[&str]) -> std::process::Output {
    Command::cargo_bin("fit-costs").unwrap().args(args).output().unwrap()
}

/// Fits samples, which are written to a file of this name.
fn fitted(name: &str, samples: &str) -> std::process::Output {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, samples).unwrap();
    fit_costs(&["--samples", path.to_str().unwrap(), "--target", "some-core", "--machine", "none"])
}

#[test]
fn every_key_of_a_table_has_enough_cases() {
    let output = fit_costs(&["--cases", "--target", "scalar"]);
    let listed = String::from_utf8(output.stdout).unwrap();
    let mut cases: HashMap<String, usize> = HashMap::new();
    for line in listed.lines() {
        *cases.entry(line.split(' ').nth(1).unwrap().into()).or_default() += 1;
    }
    for key in Key::all() {
        // Four constants.
        assert!(cases[&key.name()] > 4, "{}: {listed}", key.name());
    }
    // lines that tables need not have
    let others = cases.iter().filter(|(key, _)| key.starts_with("half/") || key.starts_with("int8/"));
    assert!(others.clone().all(|(_, cases)| *cases > 4), "{listed}");
    assert_eq!(cases.len() - others.count(), Key::all().len());
}

#[test]
fn times_that_follow_the_law_give_its_constants() {
    let mut samples = String::new();
    for (macs, rows, inputs) in
        [(1e6, 1e3, 2e4), (5e6, 4e2, 1e5), (2e5, 9e3, 5e3), (8e4, 2e2, 3e5), (3e3, 10.0, 1e2)]
    {
        let ns = 0.2 * macs / 1e3 + 3.0 * rows + 50.0 * inputs / 1e3 + 700.0;
        samples += &format!("pointwise/4x4 {macs} {rows} {inputs} {ns}\n");
    }
    let table = String::from_utf8(fitted("law.txt", &samples).stdout).unwrap();
    assert!(table.contains("some-core") && table.contains("Machine: none"), "{table}");
    let line = table.lines().find(|line| line.starts_with("pointwise/4x4 ")).unwrap();
    let constants: Vec<f64> = line.split_whitespace().skip(1).take(4).map(|v| v.parse().unwrap()).collect();
    for (got, expected) in constants.iter().zip([0.2, 3.0, 50.0, 700.0]) {
        // Three digits are printed; coordinate descent stops short of the last ones.
        assert!((got / expected - 1.0).abs() < 0.01, "{line}");
    }
}

#[test]
fn what_is_no_sample_is_refused() {
    for line in ["pointwise/4x4 1 2 3", "pointwise/4x4 1 2 3 0", "pointwise/4x4 1 2 x 4", "nonsense"] {
        let output = fitted("broken.txt", line);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains("broken.txt") && error.contains(line), "{error}");
    }
    let error = String::from_utf8(fit_costs(&["--case", "123456"]).stderr).unwrap();
    assert!(error.contains("there are"), "{error}");
}
