//! What this machine is, for reports: nothing is decided by it.

use std::path::Path;

/// A CPU as its operating system describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Model name of the CPU; `unknown` where the system does not say.
    pub cpu: String,
    /// Logical processors that this process may use.
    pub processors: usize,
    /// Vector instruction sets, as the names of their detection macros.
    pub features: Vec<&'static str>,
    /// Caches of the first processor, such as `L1 data 32K`.
    pub caches: Vec<String>,
}

impl Machine {
    /// Asks the operating system and the CPU.
    pub fn detect() -> Machine {
        Machine {
            cpu: cpu().unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
            caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
        }
    }
}

fn cpu() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_string()).filter(|value| !value.is_empty())
    };
    value("model name").or_else(|| Some(format!("CPU part {}", value("CPU part")?)))
}

fn features() -> Vec<&'static str> {
    let mut found = vec![];
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    macro_rules! look {
        ($detect:ident: $($name:tt),*) => { $(if std::arch::$detect!($name) { found.push($name); })* };
    }
    #[cfg(target_arch = "x86_64")]
    look!(is_x86_feature_detected: "sse4.2", "avx", "avx2", "fma", "avxvnni", "avx512f", "avx512bw", "avx512vl",
        "avx512vnni");
    #[cfg(target_arch = "aarch64")]
    look!(is_aarch64_feature_detected: "neon", "fp16", "dotprod", "i8mm", "bf16", "sve");
    found.extend(cfg!(all(target_arch = "wasm32", target_feature = "simd128")).then_some("simd128"));
    found
}

/// One line for each cache in Linux's folder of them; none where there is no such folder.
fn caches(folder: &Path) -> Vec<String> {
    let read = |index: usize, file: &str| {
        let text = std::fs::read_to_string(folder.join(format!("index{index}")).join(file)).ok()?;
        Some(text.trim().to_string())
    };
    let cache = |index| {
        let (level, size) = (read(index, "level")?, read(index, "size")?);
        let kind = read(index, "type").filter(|kind| kind != "Unified");
        let kind = kind.map_or_else(String::new, |kind| format!(" {}", kind.to_lowercase()));
        Some(format!("L{level}{kind} {size}"))
    };
    (0..).map_while(cache).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_name_and_what_its_target_needs() {
        let machine = Machine::detect();
        assert!(!machine.cpu.is_empty() && machine.processors > 0);
        #[cfg(target_arch = "x86_64")]
        if crate::target::Target::detect().isa() == crate::target::Isa::Avx512 {
            assert!(machine.features.contains(&"avx512f"));
        }
        assert!(caches(Path::new("no such folder")).is_empty());
    }
}
