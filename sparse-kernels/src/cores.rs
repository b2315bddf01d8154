//! Which class of cores a machine has: on x86-64 by what the processor says of itself, on Arm read from what
//! Linux says of its processors.
//!
//! Phones mix classes, threads wander between them, and weights are packed once for all threads: one class
//! has to serve the whole set of cores that the process may run on. Every class runs every kernel, so a wrong
//! choice is slow, never wrong. Modelled (a layer of 256 channels, 30 % sparse), other kernels than a core's
//! own cost
//!
//! | core | kernel for A53 | for A55 | for A76 |
//! |---|---|---|---|
//! | A53 | 1 | 1.5 times | 1.6 times |
//! | A55 | 1.03 times | 1 | 1.7 times |
//! | A76 | 1.3 times | 1.3 times | 1 |
//!
//! So the A53 kernel serves any set of small cores that has one. With a large core in the set the A76 kernel
//! is chosen: a single thread is put on a large core by the scheduler, and of shared work those do most.
//! Threads that are kept on small cores (a process in the background) are seen by what the process may run
//! on.
//!
//! **Not per thread.** Kernels of the three classes read the same formats, and each thread could ask for its
//! core before a tile that suits them all. The answer would be old when it is used: schedulers move threads
//! at any time, and asking is a system call, which costs as much as a tile. It would gain what the table
//! says, and only on those small cores that take part in the work of a large one, which is the smaller part
//! of it; and two kernels round alike only because all of them add in the order of the weights, a promise
//! that nothing else needs. Whoever keeps threads on small cores names the target:
//! `TRACT_SPARSE_TARGET=neon-a55`.

use crate::target::{Core, Isa};

/// The class of this machine's cores.
pub(crate) fn detect(isa: Isa) -> Core {
    match isa {
        Isa::Neon => {}
        Isa::Avx512 => return x86(),
        Isa::Avx2 if has_avx_vnni() => return Core::Vnni,
        _ => return Core::Any,
    }
    // Without these files (other systems, sandboxes) nothing is known, which means the class of all newer
    // cores.
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    serving(&read("/proc/cpuinfo"), &read("/proc/self/status"))
}

/// Whether this machine has what kernels of [`Core::Vnni`] use beside AVX2.
pub(crate) fn has_avx_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !cfg!(miri) && is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(target_arch = "x86_64")]
fn x86() -> Core {
    // SAFETY: every x86-64 processor has the instruction. (Newer Rust knows.)
    #[allow(unused_unsafe)]
    let cpuid = |leaf| unsafe { std::arch::x86_64::__cpuid(leaf) };
    if cfg!(miri) {
        return Core::Any;
    }
    let vendor = cpuid(0);
    let letters: Vec<u8> =
        [vendor.ebx, vendor.edx, vendor.ecx].iter().flat_map(|r| r.to_le_bytes()).collect();
    let signature = cpuid(1).eax;
    let field = |from: u32, bits: u32| signature >> from & ((1 << bits) - 1);
    let family = field(8, 4) + field(20, 8);
    x86_class(&letters, family, field(16, 4) << 4 | field(4, 4))
}

#[cfg(not(target_arch = "x86_64"))]
fn x86() -> Core {
    Core::Any
}

/// Bytes of the second-level cache of a core, if this is an x86-64 processor that says so.
#[cfg(target_arch = "x86_64")]
pub(crate) fn second_level_cache() -> Option<usize> {
    static BYTES: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    if cfg!(miri) {
        return None;
    }
    *BYTES.get_or_init(|| {
        // SAFETY: every x86-64 processor has the instruction. (Newer Rust knows.)
        #[allow(unused_unsafe)]
        let cpuid = |leaf, number| unsafe { std::arch::x86_64::__cpuid_count(leaf, number) };
        // Intel's list of caches, then AMD's: a line of the same form for each
        let leaves = [(0, 4), (0x8000_0000, 0x8000_001d)];
        let leaves = leaves.into_iter().filter(|(most, leaf)| cpuid(*most, 0).eax >= *leaf);
        leaves.flat_map(|(_, leaf)| (0..8).map(move |number| (leaf, number))).find_map(|(leaf, number)| {
            let cache = cpuid(leaf, number);
            let field = |of: u32, from: u32, bits: u32| (of >> from & ((1 << bits) - 1)) as usize;
            let (kind, level) = (field(cache.eax, 0, 5), field(cache.eax, 5, 3));
            let [ways, parts, line] =
                [(22, 10), (12, 10), (0, 12)].map(|(from, bits)| field(cache.ebx, from, bits) + 1);
            (kind != 0 && level == 2).then(|| ways * parts * line * (cache.ecx as usize + 1))
        })
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn second_level_cache() -> Option<usize> {
    None
}

/// The class of a processor with AVX-512, as numbered by its vendor: whether it has two full-width units, which
/// decides what layers cost. Cores that are not known count as having half of that.
#[cfg(any(target_arch = "x86_64", test))]
fn x86_class(vendor: &[u8], family: u32, model: u32) -> Core {
    match (vendor, family, model) {
        // Skylake-SP (and Cascade Lake, Cooper Lake), Ice Lake-SP and -D, Sapphire Rapids, Emerald Rapids,
        // Granite Rapids
        (b"GenuineIntel", 6, 0x55 | 0x6a | 0x6c | 0x8f | 0xcf | 0xad | 0xae) => Core::Wide,
        // Zen 5 servers and desktops; the cores of its notebooks (0x20 to 0x2f, 0x60 on) split vectors
        (b"AuthenticAMD", 0x1a, 0x00..=0x1f | 0x40..=0x4f) => Core::Wide,
        _ => Core::Any,
    }
}

/// The class that serves the processors of `cpuinfo` that `status` allows; [`Core::A76`] if nothing is known.
fn serving(cpuinfo: &str, status: &str) -> Core {
    let allowed = field(status, "Cpus_allowed_list").and_then(ranges);
    let is_allowed = |core: &&Processor| {
        allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|range| range.contains(&core.number)))
    };
    let all = processors(cpuinfo);
    let mut classes: Vec<Core> = all.iter().filter(is_allowed).map(|p| p.class).collect();
    if classes.is_empty() {
        // Processors that are switched off are not listed: the allowed ones may all be.
        classes = all.iter().map(|p| p.class).collect();
    }
    // Without a large core the first in the order of the enum, which is the one that the others can live
    // with.
    classes.iter().copied().min().filter(|_| !classes.contains(&Core::A76)).unwrap_or(Core::A76)
}

struct Processor {
    number: usize,
    class: Core,
}

/// The processors that say what they are.
fn processors(cpuinfo: &str) -> Vec<Processor> {
    let mut found = vec![];
    let (mut number, mut implementer) = (0, 0);
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let hexadecimal = || u32::from_str_radix(value.trim().trim_start_matches("0x"), 16).ok();
        match key.trim() {
            "processor" => number = value.trim().parse().unwrap_or(number),
            "CPU implementer" => implementer = hexadecimal().unwrap_or(0),
            "CPU part" => {
                if let Some(part) = hexadecimal() {
                    found.push(Processor { number, class: class(implementer, part) });
                }
            }
            _ => {}
        }
    }
    found
}

/// The class of a part, as numbered by its implementer in the register MIDR_EL1.
fn class(implementer: u32, part: u32) -> Core {
    const ARM: u32 = 0x41;
    const QUALCOMM: u32 = 0x51;
    match (implementer, part) {
        // Cortex-A34 and A35 are smaller still, in order and with the same vector unit.
        (ARM, 0xd02..=0xd04) => Core::A53,
        (ARM, 0xd05) => Core::A55,
        // Kryo Silver: 2xx is a Cortex-A53, 3xx and 4xx are Cortex-A55.
        (QUALCOMM, 0x801) => Core::A53,
        (QUALCOMM, 0x803 | 0x805) => Core::A55,
        _ => Core::A76,
    }
}

/// The value of `key` in lines of `key: value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|l| l.split_once(':'))
        .find(|(k, _)| k.trim() == key)
        .map(|(_, value)| value.trim())
}

/// Numbers and ranges separated by commas, as in `0-3,7`.
fn ranges(list: &str) -> Option<Vec<std::ops::RangeInclusive<usize>>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpuinfo(parts: &[(u32, u32)]) -> String {
        let lines = parts.iter().enumerate().map(|(i, (implementer, part))| {
            format!("processor\t: {i}\nBogoMIPS\t: 38.40\nCPU implementer\t: {implementer:#x}\nCPU part\t: {part:#x}\n\n")
        });
        lines.collect::<String>() + "Hardware\t: some board\n"
    }

    #[test]
    fn one_class() {
        assert_eq!(serving(&cpuinfo(&[(0x41, 0xd03); 4]), ""), Core::A53);
        assert_eq!(serving(&cpuinfo(&[(0x41, 0xd05); 8]), ""), Core::A55);
        assert_eq!(serving(&cpuinfo(&[(0x41, 0xd0b); 8]), ""), Core::A76);
        assert_eq!(serving(&cpuinfo(&[(0x61, 0x022)]), ""), Core::A76);
        assert_eq!(serving(&cpuinfo(&[(0x51, 0xd03)]), ""), Core::A76, "part numbers are the implementer's");
    }

    #[test]
    fn mixed_classes() {
        let phone = cpuinfo(&[(0x51, 0x805), (0x51, 0x805), (0x51, 0x804), (0x51, 0x804)]);
        assert_eq!(serving(&phone, ""), Core::A76);
        assert_eq!(serving(&phone, "Name:\tx\nCpus_allowed_list:\t0-3\n"), Core::A76);
        assert_eq!(serving(&phone, "Cpus_allowed_list:\t0-1\n"), Core::A55);
        assert_eq!(serving(&phone, "Cpus_allowed_list:\t0,3\n"), Core::A76);
        assert_eq!(serving(&phone, "Cpus_allowed_list:\t9\n"), Core::A76, "none of the listed");
        let both = cpuinfo(&[(0x41, 0xd03), (0x41, 0xd03), (0x41, 0xd0b), (0x41, 0xd0b)]);
        assert_eq!(serving(&both, ""), Core::A76);
        assert_eq!(serving(&both, "Cpus_allowed_list:\t0-1\n"), Core::A53);
        let small = cpuinfo(&[(0x41, 0xd03), (0x41, 0xd05)]);
        assert_eq!(serving(&small, ""), Core::A53);
        assert_eq!(serving(&small, "Cpus_allowed_list:\t1\n"), Core::A55);
    }

    #[test]
    fn wide_vectors() {
        for (vendor, family, model, class) in [
            ("GenuineIntel", 6, 0xcf, Core::Wide),
            ("GenuineIntel", 6, 0x55, Core::Wide),
            ("GenuineIntel", 6, 0x7e, Core::Any), // Ice Lake of notebooks: one unit
            ("AuthenticAMD", 0x1a, 0x02, Core::Wide),
            ("AuthenticAMD", 0x1a, 0x24, Core::Any),
            ("AuthenticAMD", 0x19, 0x11, Core::Any), // Zen 4
            ("CentaurHauls", 7, 0x3b, Core::Any),
        ] {
            assert_eq!(x86_class(vendor.as_bytes(), family, model), class, "{vendor} {family:x} {model:x}");
        }
    }

    #[test]
    fn nothing_known() {
        assert_eq!(serving("", ""), Core::A76);
        assert_eq!(serving("processor: zero\nCPU part: what\n", "Cpus_allowed_list: ?"), Core::A76);
        assert_eq!(serving(&cpuinfo(&[(0x41, 0xd03)]), "Cpus_allowed_list:\t0-\n"), Core::A53);
    }
}
