//! What the kernels need of a vector of `f32` or `f64`, on any instruction set: `pulp`'s vectors
//! under one name, and the instruction set chosen at run time.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Simd, WithSimd};

use crate::real::Real;

/// An instruction set the kernels are compiled for; all of them are in every binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// One number at a time: any processor.
    Portable,
    /// AVX2 and FMA, x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, CD, DQ, VL), x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON, 64-bit Arm. Compiled from the same source; not tested.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl InstructionSet {
    /// All that this processor can run, the best last.
    pub fn available() -> &'static [InstructionSet] {
        static AVAILABLE: OnceLock<Vec<InstructionSet>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let mut sets = vec![InstructionSet::Portable];
            #[cfg(target_arch = "x86_64")]
            {
                if pulp::x86::V3::try_new().is_some() {
                    sets.push(InstructionSet::Avx2);
                }
                if pulp::x86::V4::try_new().is_some() {
                    sets.push(InstructionSet::Avx512);
                }
            }
            #[cfg(target_arch = "aarch64")]
            if pulp::aarch64::Neon::try_new().is_some() {
                sets.push(InstructionSet::Neon);
            }
            sets
        })
    }

    /// The one to take: that which the environment variable `SCRATCH_LSTM_INSTRUCTIONS` names
    /// (`portable`, `avx2`, `avx512` or `neon`; read once), or else the best.
    ///
    /// # Errors
    ///
    /// If the variable names none that this processor can run.
    pub fn chosen() -> Result<Self, InstructionSetError> {
        static CHOSEN: OnceLock<Result<InstructionSet, InstructionSetError>> = OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| match std::env::var_os(VARIABLE) {
            None => Ok(Self::available()[Self::available().len() - 1]),
            Some(name) => Self::named(&name.to_string_lossy()),
        });
        chosen.clone()
    }

    fn named(name: &str) -> Result<Self, InstructionSetError> {
        let mut sets = Self::available().iter().copied();
        sets.find(|set| set.name() == name)
            .ok_or_else(|| InstructionSetError { found: name.into() })
    }

    /// As the environment variable spells it.
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
        }
    }

    /// Runs `op` compiled for this instruction set.
    ///
    /// # Panics
    ///
    /// If the processor does not have it.
    pub(crate) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        const MISSING: &str = "the processor has this instruction set";
        match self {
            Self::Portable => Simd::vectorize(pulp::Scalar, op),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Simd::vectorize(pulp::x86::V3::try_new().expect(MISSING), op),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Simd::vectorize(pulp::x86::V4::try_new().expect(MISSING), op),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Simd::vectorize(pulp::aarch64::Neon::try_new().expect(MISSING), op),
        }
    }

    /// Numbers of type `T` in a vector.
    pub(crate) fn lanes<T: Real>(self) -> usize {
        struct Lanes<T>(std::marker::PhantomData<T>);
        impl<T: Real> WithSimd for Lanes<T> {
            type Output = usize;
            fn with_simd<S: Simd>(self, _simd: S) -> usize {
                T::lanes::<S>()
            }
        }
        self.run(Lanes::<T>(std::marker::PhantomData))
    }
}

const VARIABLE: &str = "SCRATCH_LSTM_INSTRUCTIONS";

/// An instruction set asked for that this processor cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionSetError {
    /// What was asked for.
    pub found: String,
}

impl fmt::Display for InstructionSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = InstructionSet::available().iter().map(|set| set.name());
        let available: Vec<&str> = available.collect();
        let (found, available) = (&self.found, available.join(", "));
        write!(
            f,
            "{VARIABLE}: expected an instruction set of this processor ({available}), found `{found}`"
        )
    }
}

impl std::error::Error for InstructionSetError {}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
        })
    }
}
