//! Which vector instructions this CPU has: a [`Target`] can only be had by detection.

use crate::error::TargetError;
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

/// Proof that this machine runs an instruction set. Kernels can only be obtained with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target(Isa);

impl Target {
    /// The scalar target, which is always there.
    pub const SCALAR: Target = Target(Isa::Scalar);

    /// Every target of this machine, plainest first.
    pub fn available() -> Vec<Target> {
        Isa::ALL.into_iter().filter(|isa| isa.detected()).map(Target).collect()
    }

    /// The best target of this machine.
    pub fn detect() -> Target {
        Target::available().into_iter().next_back().unwrap_or(Target::SCALAR)
    }

    /// The target called `name`; `auto` and the empty string detect it.
    ///
    /// # Errors
    /// An unknown name, or an instruction set that this machine lacks.
    pub fn named(name: &str) -> Result<Target, TargetError> {
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || name == "auto" {
            return Ok(Target::detect());
        }
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| {
            TargetError::Unknown { name: name.clone(), known: format!("auto, {}", list(Isa::ALL.iter())) }
        })?;
        let available = Target::available();
        if available.contains(&Target(isa)) {
            Ok(Target(isa))
        } else {
            let available = list(available.iter().map(|t| &t.0));
            Err(TargetError::Unavailable { isa, available })
        }
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn list<'a>(isas: impl Iterator<Item = &'a Isa>) -> String {
    isas.map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
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
    }
}
