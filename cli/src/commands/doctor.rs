//! `doctor`: this machine, the kernels that it runs, and whether they are right and fast.

use crate::errors::Differs;
use crate::options::Options;
use crate::out;
use crate::table::{Table, wrap};
use anyhow::Result;
use figures::Progress;
use serde_json::{Value, json};
use sparse_kernels::doctor::check::{Check, check};
use sparse_kernels::doctor::machine::Machine;
use sparse_kernels::format::FormatKind;
use sparse_kernels::table::{self, Element, KernelInfo};
use tract_sparse::{Half, Policy, TRACT_VERSION, Target};

/// What the help says at its end.
pub(super) const HELP: &str = "\
Example:
  tract-sparse doctor

Takes about two seconds. Exit code 3 if a kernel is wrong.";

/// What the columns of the table mean.
const EXPLAINED: &str = "right: agrees with a plain convolution in double precision, but for rounding; names that end in \
     _bf16 or _f16 are kernels of half precision. GMAC/s: multiply-adds with stored \
     weights, half of them zero, best run; bias, activation and copies included. of peak: of independent \
     multiply-adds in registers, with the same vectors, the best seen meanwhile.";

/// Sizes that depthwise kernels are made for.
const TAPS: [[usize; 2]; 3] = [[3, 3], [5, 5], [7, 7]];

/// The kernels that run under a policy, one for each format; in half precision, those of f32, too.
fn chosen(policy: &Policy) -> Vec<&'static KernelInfo> {
    let target = policy.target;
    let mut all: Vec<_> = FormatKind::POINTWISE.iter().map(|f| table::pointwise(target, *f).info()).collect();
    all.extend(TAPS.iter().filter_map(|taps| table::depthwise(target, *taps)).map(|kernel| kernel.info()));
    all.extend(FormatKind::SPATIAL.iter().map(|f| table::spatial(target, *f).info()));
    if let Some(half) = policy.half() {
        all.extend(FormatKind::POINTWISE.iter().map(|f| table::pointwise_half(half, *f).info()));
        all.extend(TAPS.iter().filter_map(|taps| table::depthwise_half(half, *taps)).map(|k| k.info()));
    }
    all
}

fn value(check: &Check, chosen: &[&KernelInfo]) -> Value {
    json!({
        "name": check.kernel.name,
        "chosen": chosen.iter().any(|kernel| kernel.name == check.kernel.name),
        "type": check.kernel.element.name(),
        "quality": format!("{:?}", check.kernel.quality).to_lowercase(),
        "right": check.is_right(),
        // JSON has no infinity
        "error": check.error.is_finite().then_some(check.error),
        "gmacs": check.speed / 1e9,
        "peak_share": check.speed / check.peak,
    })
}

/// The multiply-add peak of every instruction set and type that was checked, a second.
fn peaks(checks: &[Check]) -> Vec<(&'static str, &'static str, f64)> {
    let mut peaks: Vec<(&str, &str, f64)> = vec![];
    for check in checks {
        let (isa, element) = (check.kernel.isa.name(), check.kernel.element.name());
        if !peaks.iter().any(|(known, of, _)| (*known, *of) == (isa, element)) {
            peaks.push((isa, element, check.peak));
        }
    }
    peaks
}

/// What was found out about this machine.
struct Found {
    machine: Machine,
    policy: Policy,
    checks: Vec<Check>,
    /// The kernels in use.
    chosen: Vec<&'static KernelInfo>,
}

/// Checks every kernel and prints what was found; an error if one is wrong.
pub(super) fn run(options: &Options) -> Result<()> {
    let policy = Policy::from_knobs()?;
    let progress = Progress::new();
    let checks = check(&mut |check| progress.say(check.kernel.name))?;
    drop(progress);
    let found = Found { machine: Machine::detect(), chosen: chosen(&policy), policy, checks };
    match options.json {
        true => out::json(&found.value())?,
        false => out::print(&found.text())?,
    }
    match &found.wrong()[..] {
        [] => Ok(()),
        wrong => Err(Differs(format!("wrong on this machine: {}", wrong.join(", "))).into()),
    }
}

/// Names of the targets that run here.
fn available() -> Vec<&'static str> {
    Target::available().into_iter().map(Target::name).collect()
}

/// Names of the targets that have half precision here, each once.
fn with_half() -> Vec<&'static str> {
    let mut names: Vec<&str> = Half::available().into_iter().map(|half| half.target().name()).collect();
    names.dedup();
    names
}

/// Types of half precision, each with the targets that have it.
fn half_by_type() -> String {
    let mut types: Vec<(&str, Vec<&str>)> = vec![];
    for half in Half::available() {
        let (name, target) = (half.element().name(), half.target().name());
        match types.iter_mut().find(|(known, _)| *known == name) {
            Some((_, targets)) => targets.push(target),
            None => types.push((name, vec![target])),
        }
    }
    let words = |(name, targets): &(&str, Vec<&str>)| {
        format!("{name} in pairs of channels on {}", targets.join(", "))
    };
    types.iter().map(words).collect::<Vec<_>>().join("; ")
}

impl Found {
    /// Names of the kernels that are wrong.
    fn wrong(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|check| !check.is_right()).map(|check| check.kernel.name).collect()
    }

    /// What `--json` prints.
    fn value(&self) -> Value {
        let Found { machine, policy, checks, chosen } = self;
        let peaks = peaks(checks);
        let full = peaks.iter().filter(|(_, element, _)| *element == Element::F32.name());
        let peak = full.map(|(.., peak)| *peak).fold(0.0, f64::max);
        let of_vectors = |(vectors, element, peak): &(&str, &str, f64)| json!({ "vectors": vectors, "type": element, "gmacs": peak / 1e9 });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "tract": TRACT_VERSION,
            "cpu": machine.cpu,
            "processors": machine.processors,
            "features": machine.features,
            "caches": machine.caches,
            "target": policy.target.name(),
            "targets": available(),
            "half_precision": with_half(),
            "precision": policy.precision,
            "costs": policy.costs().to_string(),
            "peak_gmacs": peak / 1e9,
            "peaks": peaks.iter().map(of_vectors).collect::<Vec<_>>(),
            "kernels": checks.iter().map(|check| value(check, chosen)).collect::<Vec<_>>(),
            "healthy": self.wrong().is_empty(),
        })
    }

    fn text(&self) -> String {
        let Found { machine, policy, checks, chosen } = self;
        let list = |items: &[String]| if items.is_empty() { "unknown".into() } else { items.join(", ") };
        let features: Vec<String> = machine.features.iter().map(|f| f.to_string()).collect();
        let mut text = wrap(&format!("tract-sparse {}, tract {TRACT_VERSION}", env!("CARGO_PKG_VERSION")), 0);
        text += &wrap(&format!("CPU       {}, {} processor(s)", machine.cpu, machine.processors), 10);
        text += &wrap(&format!("features  {}", list(&features)), 10);
        text += &wrap(&format!("caches    {}", list(&machine.caches)), 10);
        text += &wrap(&format!("targets   {}; in use: {}", available().join(", "), policy.target), 10);
        let half = format!("half      {}; in use: {}", half_by_type(), policy.precision);
        text += &wrap(&half, 10);
        text += &wrap(&format!("costs     {}", policy.costs()), 10);
        let each: Vec<String> =
            peaks(checks).iter().map(|(isa, of, peak)| format!("{isa} {of} {:.1}", peak / 1e9)).collect();
        text += &wrap(&format!("peak      GMAC/s of one core, right now: {}", each.join(", ")), 10);
        text.push('\n');
        let mut table = Table::new(&["kernel", "<", "right", "GMAC/s", "of peak"]);
        for check in checks {
            let used = chosen.iter().any(|kernel| kernel.name == check.kernel.name);
            table.row(vec![
                check.kernel.name.into(),
                if used { "in use" } else { "" }.into(),
                if check.is_right() { "yes" } else { "NO" }.into(),
                format!("{:.1}", check.speed / 1e9),
                format!("{:.0} %", 100.0 * check.speed / check.peak),
            ]);
        }
        text += &table.text();
        text.push('\n');
        text + &wrap(EXPLAINED, 0)
    }
}
