//! What the kernels need of a vector of `f32` or `f64`, on any instruction set: `pulp`'s vectors
//! under one name, and the instruction set chosen at run time.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Simd, WithSimd};

use super::real::Real;

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

    /// The best that this processor can run.
    pub fn best() -> Self {
        let sets = Self::available();
        sets[sets.len() - 1]
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
