//! Which vector instructions this machine has, found out when the program runs.
//!
//! The program is compiled for any x86-64, which promises four lanes of `f32` only. Work that matters is compiled
//! again for wider vectors, and the widest that the machine has is called.

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// 16 lanes of `f32`, 32 registers, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 lanes of `f32`, 16 registers, fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every machine of this architecture has.
    Portable,
}

/// Work that is compiled for every [`Instructions`]. `run` must be `#[inline(always)]`, and so must what it calls:
/// only code that becomes part of the caller is compiled with the caller's instructions.
pub(super) trait Vectorized {
    /// Does the work.
    fn run(self);
}

impl Instructions {
    /// The widest that this machine has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Whether the machine multiplies pairs of bfloat16 numbers (AVX512-BF16) beside the widest vectors of `f32`.
    pub(super) fn have_bf16() -> bool {
        #[cfg(target_arch = "x86_64")]
        let found = Self::detect() == Self::Avx512
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let found = false;
        found
    }

    /// Whether AVX512-BF16 multiplies fewer numbers than `f32` instructions do in the same time: half as many on the Intel
    /// Xeons that were measured, twice as many on AMD's processors. The vendor is what tells them apart.
    pub(super) fn bf16_is_slow() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let vendor = std::arch::x86_64::__cpuid(0);
            [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Every set that this machine has.
    #[cfg(test)]
    pub(super) fn available() -> Vec<Self> {
        match Self::detect() {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => vec![Self::Portable, Self::Avx2, Self::Avx512],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => vec![Self::Portable, Self::Avx2],
            Self::Portable => vec![Self::Portable],
        }
    }

    /// Does the work with these instructions, which come from [`Instructions::detect`].
    pub(super) fn run(self, work: impl Vectorized) {
        match self {
            // SAFETY: `detect` found the instructions on this machine.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { run_avx512(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { run_avx2(work) },
            Self::Portable => work.run(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn run_avx512(work: impl Vectorized) {
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(work: impl Vectorized) {
    work.run();
}
