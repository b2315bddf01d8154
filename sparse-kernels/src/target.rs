//! Which vector instructions this CPU has: a [`Target`] can only be had by detection.

use crate::cores;
use crate::error::TargetError;
use crate::table::Element;
use std::fmt;

/// Instruction sets that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, everywhere.
    Scalar,
    /// x86-64 with AVX2 and FMA: 16 registers of 8 floats.
    Avx2,
    /// x86-64 with AVX-512F: 32 registers of 16 floats, masks.
    Avx512,
    /// aarch64 Advanced SIMD: 32 registers of 4 floats.
    Neon,
    /// WebAssembly simd128: 4 floats.
    Wasm,
}

impl Isa {
    /// All instruction sets, in the order of the enum.
    pub const ALL: [Isa; 5] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon, Isa::Wasm];

    /// The name used in kernel names and in `TRACT_SPARSE_TARGET`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
            Isa::Wasm => "wasm",
        }
    }

    fn detected(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "wasm32")]
            Isa::Wasm => cfg!(target_feature = "simd128"),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Classes of cores with one instruction set that want different schedules. Every core runs the kernels of
/// every class, those of quads ([`Int8`]) apart: the wrong one is slow, never wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Core {
    /// No class: kernels that suit every core alike.
    Any,
    /// Cortex-A53 and its kin: in order, one vector load or multiply-add a cycle, and loads of 64 bits.
    A53,
    /// Cortex-A55 and its kin: in order, 64-bit loads beside multiply-adds.
    A55,
    /// Cortex-A76 and wider: out of order, 128-bit loads.
    A76,
    /// x86-64 cores that start two AVX-512 multiply-adds a cycle: Zen 5, and Intel's servers since
    /// Skylake-SP. Others split them (Zen 4) or have one such unit.
    Wide,
    /// x86-64 cores without AVX-512 that multiply quads of bytes by one instruction, AVX-VNNI: Intel's notebooks and
    /// desktops since Alder Lake. Zen 5 and newer servers have it beside AVX-512.
    Vnni,
}

impl Core {
    /// The core classes of an instruction set, [`Core::Any`] first.
    pub fn of(isa: Isa) -> &'static [Core] {
        match isa {
            Isa::Avx2 => &[Core::Any, Core::Vnni],
            Isa::Avx512 => &[Core::Any, Core::Wide],
            Isa::Neon => &[Core::Any, Core::A53, Core::A55, Core::A76],
            _ => &[Core::Any],
        }
    }
}

/// Proof that this machine runs an instruction set, and for which class of its cores kernels are chosen.
/// Kernels can only be obtained with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    isa: Isa,
    core: Core,
}

impl Target {
    /// The scalar target, which is always there.
    pub const SCALAR: Target = Target { isa: Isa::Scalar, core: Core::Any };

    /// The target of a row of the kernel table, which was obtained with such a target.
    pub(crate) fn of_row(isa: Isa, core: Core) -> Target {
        Target { isa, core }
    }

    /// Every target that has a name.
    fn all() -> impl Iterator<Item = Target> {
        Isa::ALL.into_iter().flat_map(|isa| Core::of(isa).iter().map(move |core| Target { isa, core: *core }))
    }

    /// Every target of this machine, plainest first.
    pub fn available() -> Vec<Target> {
        Target::all().filter(|t| t.detected()).collect()
    }

    /// Whether this machine has its instructions.
    fn detected(self) -> bool {
        self.isa.detected() && (self.core != Core::Vnni || cores::has_avx_vnni())
    }

    /// The best target of this machine: the best instruction set, for the class of its cores.
    pub fn detect() -> Target {
        let isa = Isa::ALL.into_iter().rfind(|isa| isa.detected()).unwrap_or(Isa::Scalar);
        Target { isa, core: cores::detect(isa) }
    }

    /// The target called `name`; `auto` and the empty string detect it. On aarch64 `neon` means the kernels
    /// that are not made for a class of cores, `neon-a53`, `neon-a55` and `neon-a76` those that are; so
    /// it is with `avx512` and `avx512-wide`, and with `avx2` and `avx-vnni`, on x86-64.
    ///
    /// # Errors
    /// An unknown name, or an instruction set that this machine lacks.
    pub fn named(name: &str) -> Result<Target, TargetError> {
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || name == "auto" {
            return Ok(Target::detect());
        }
        let target = Target::all().find(|target| target.name() == name).ok_or_else(|| {
            TargetError::Unknown { name: name.clone(), known: format!("auto, {}", list(Target::all())) }
        })?;
        if target.detected() {
            Ok(target)
        } else {
            let (target, available) = (target.name(), list(Target::available().into_iter()));
            Err(TargetError::Unavailable { target, available })
        }
    }

    /// The name used in kernel names and in `TRACT_SPARSE_TARGET`.
    pub fn name(self) -> &'static str {
        name(self.isa, self.core)
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Whether its instructions multiply and add in one, rounded once.
    pub(crate) fn fuses(self) -> bool {
        // a constant where none does, so that nothing is compiled for those
        cfg!(not(target_arch = "wasm32")) && matches!(self.isa, Isa::Avx2 | Isa::Avx512 | Isa::Neon)
    }

    /// The class of cores.
    pub fn core(self) -> Core {
        self.core
    }

    /// Half precision, if this target has kernels for it and the machine their instructions; plain Rust
    /// always has. Of several types the one that layers run in: on Arm f16, of which there are more digits,
    /// before bf16. Cores of the class [`Core::A53`] have neither.
    pub fn half(self) -> Option<Half> {
        self.halves().next()
    }

    /// Half precision in every type that this target has, the one of [`Target::half`] first.
    pub fn halves(self) -> impl Iterator<Item = Half> {
        let detected = move |element: &Element| match (self.isa, element) {
            (Isa::Scalar, Element::Bf16 | Element::F16) => true,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Element::Bf16) => {
                !cfg!(miri)
                    && is_x86_feature_detected!("avx512bf16")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Element::F16) => {
                self.core != Core::A53 && std::arch::is_aarch64_feature_detected!("fp16")
            }
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Element::Bf16) => {
                matches!(self.core, Core::Any | Core::A76) && std::arch::is_aarch64_feature_detected!("bf16")
            }
            _ => false,
        };
        let order =
            if self.isa == Isa::Neon { [Element::F16, Element::Bf16] } else { [Element::Bf16, Element::F16] };
        order.into_iter().filter(detected).map(move |element| Half { target: self, element })
    }

    /// Kernels for quads of bytes, which there are for every machine: those of this target where this machine has
    /// their instructions, else of one with fewer.
    pub fn int8(self) -> Int8 {
        let target = match self.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512
                if cfg!(miri)
                    || !is_x86_feature_detected!("avx512vnni")
                    || !is_x86_feature_detected!("avx512bw")
                    || !is_x86_feature_detected!("avx512vl") =>
            {
                Target { isa: Isa::Avx2, core: cores::detect(Isa::Avx2) }
            }
            // of the classes of cores, those that have the dot product, and what has not
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if !std::arch::is_aarch64_feature_detected!("dotprod") => {
                Target { core: Core::Any, ..self }
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if self.core != Core::A55 => Target { core: Core::A76, ..self },
            _ => self,
        };
        Int8 { target }
    }
}

/// Proof that a target runs kernels for quads of bytes ([`crate::quads`]). Such kernels can only be obtained with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Int8 {
    target: Target,
}

impl Int8 {
    /// The target.
    pub fn target(self) -> Target {
        self.target
    }

    /// int8 on every target of this machine whose instructions it uses, plainest first.
    pub fn available() -> Vec<Int8> {
        let mut all: Vec<Int8> = Target::available().into_iter().map(Target::int8).collect();
        // every core of Arm runs what is for those without a dot product
        all.extend(
            Target::available()
                .into_iter()
                .filter(|t| t.isa == Isa::Neon && t.core == Core::Any)
                .map(|target| Int8 { target }),
        );
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Proof that a target runs kernels for pairs of a type ([`crate::pairs`]). Such kernels can only be obtained
/// with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Half {
    target: Target,
    element: Element,
}

impl Half {
    /// The target.
    pub fn target(self) -> Target {
        self.target
    }

    /// The type of the numbers.
    pub fn element(self) -> Element {
        self.element
    }

    /// Half precision on every target of this machine that has it, plainest first, in every type.
    pub fn available() -> Vec<Half> {
        Target::available().into_iter().flat_map(Target::halves).collect()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The last part of kernel names.
pub(crate) fn name(isa: Isa, core: Core) -> &'static str {
    match core {
        Core::Any => isa.name(),
        Core::A53 => "neon-a53",
        Core::A55 => "neon-a55",
        Core::A76 => "neon-a76",
        Core::Wide => "avx512-wide",
        Core::Vnni => "avx-vnni",
    }
}

/// The instruction set and the class of cores of a name; for constants.
pub(crate) const fn known(name: &str) -> (Isa, Core) {
    match name.as_bytes() {
        b"scalar" => (Isa::Scalar, Core::Any),
        b"avx2" => (Isa::Avx2, Core::Any),
        b"avx-vnni" => (Isa::Avx2, Core::Vnni),
        b"avx512" => (Isa::Avx512, Core::Any),
        b"avx512-wide" => (Isa::Avx512, Core::Wide),
        b"neon" => (Isa::Neon, Core::Any),
        b"neon-a53" => (Isa::Neon, Core::A53),
        b"neon-a55" => (Isa::Neon, Core::A55),
        b"neon-a76" => (Isa::Neon, Core::A76),
        b"wasm" => (Isa::Wasm, Core::Any),
        _ => panic!("not the name of a target"),
    }
}

fn list(targets: impl Iterator<Item = Target>) -> String {
    targets.map(Target::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_available() {
        assert_eq!(Target::available()[0], Target::SCALAR);
        assert_eq!(Target::named("scalar"), Ok(Target::SCALAR));
        assert_eq!(Target::named("auto"), Ok(Target::detect()));
    }

    #[test]
    fn wrong_names_are_refused_with_the_right_ones() {
        let error = Target::named("sse9").unwrap_err().to_string();
        assert!(error.contains("sse9") && error.contains("avx512"), "{error}");
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let error = Target::named(foreign).unwrap_err().to_string();
        assert!(error.contains("not available") && error.contains("scalar"), "{error}");
        let error = Target::named("neon-a99").unwrap_err().to_string();
        assert!(error.contains("neon-a99") && error.contains("neon-a55"), "{error}");
    }

    #[test]
    fn core_classes_have_names_where_their_instruction_set_is() {
        for (name, isa, core) in [
            ("neon-a53", Isa::Neon, Core::A53),
            ("neon-a55", Isa::Neon, Core::A55),
            ("neon-a76", Isa::Neon, Core::A76),
            ("avx512-wide", Isa::Avx512, Core::Wide),
            ("avx-vnni", Isa::Avx2, Core::Vnni),
        ] {
            match Target::named(name) {
                Ok(target) => assert_eq!((target.isa(), target.core(), target.name()), (isa, core, name)),
                Err(error) => {
                    assert!(!isa.detected() || core == Core::Vnni && !cores::has_avx_vnni());
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
    }
}
