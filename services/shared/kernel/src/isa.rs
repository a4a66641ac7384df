//! Which instructions this processor has, and which of them may be used.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// An instruction set that kernels are written for; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the reference that the others are tested against.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2 and the 256-bit dot product of bytes.
    AvxVnni,
    /// AVX-512 (F, BW, VL, DQ) and its dot product of bytes.
    Vnni,
    /// AVX-512 and the tile unit for bytes; the operating system has granted tile state.
    Amx,
}

/// Forces a lower instruction set: `scalar`, `avx2`, `avxvnni`, `vnni` or `amx`.
pub const ENVIRONMENT: &str = "REFRACT_CPU";

impl Isa {
    pub const ALL: [Self; 5] = [Self::Scalar, Self::Avx2, Self::AvxVnni, Self::Vnni, Self::Amx];

    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Vnni => "vnni",
            Self::Amx => "amx",
        }
    }

    /// Whether this processor, and the operating system on it, can run it. Asking for AMX claims tile state.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            };
            let vnni = || {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
            };
            match self {
                Self::Scalar => true,
                Self::Avx2 => avx2(),
                Self::AvxVnni => avx2() && is_x86_feature_detected!("avxvnni"),
                Self::Vnni => vnni(),
                Self::Amx => vnni() && crate::amx::is_granted(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Scalar
        }
    }

    /// What this machine can run, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// The fastest that this machine can run.
    pub fn best() -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Scalar)
    }

    /// The fastest, or the one that [`ENVIRONMENT`] names.
    pub fn from_environment() -> Result<Self, Error> {
        match std::env::var(ENVIRONMENT) {
            Ok(name) if !name.is_empty() => name.parse::<Self>()?.checked(),
            _ => Ok(Self::best()),
        }
    }

    pub(crate) fn checked(self) -> Result<Self, Error> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(Error::Unavailable {
                isa: self,
                best: Self::best(),
            })
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Error::UnknownIsa {
                name: name.to_owned(),
            })
    }
}
