//! Vectors of channels, for the transforms.
//!
//! The transforms hold a few dozen vectors at a time. Left to the compiler, loops over channels spill most of them;
//! written in vectors, they stay in the registers that there are.

use crate::backend::cpu::instructions::Instructions;
use crate::tensor::Scalar;
use std::any::TypeId;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Channels of the widest vector.
pub(super) const MOST_LANES: usize = 16;

/// A value of `T` for each of some channels.
///
/// A vector exists only where the machine has its instructions, which `load` and `splat`, its only sources, promise.
pub(super) trait Vector<T>: Copy {
    /// Channels.
    const LANES: usize;

    /// # Safety
    /// The machine has the instructions, and `LANES` values can be read.
    unsafe fn load(from: *const T) -> Self;

    /// # Safety
    /// The machine has the instructions.
    unsafe fn splat(value: T) -> Self;

    /// # Safety
    /// `LANES` values can be written.
    unsafe fn store(self, to: *mut T);

    fn add(self, other: Self) -> Self;

    fn subtract(self, other: Self) -> Self;

    fn multiply(self, factor: Self) -> Self;

    /// `self + a·b`.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// `self − a·b`.
    fn subtract_product(self, a: Self, b: Self) -> Self;

    /// The larger of the two; a NaN stays one.
    fn at_least(self, floor: Self) -> Self;
}

/// Work over vectors of any width. `run` must be `#[inline(always)]`, and so must what it calls.
pub(super) trait Transform<T> {
    /// Does the work.
    ///
    /// # Safety
    /// The machine has the vectors' instructions.
    unsafe fn run<V: Vector<T>>(self);
}

/// Does the work with the widest vectors that `instructions` have for `T`.
pub(super) fn run<T: Scalar>(instructions: Instructions, work: impl Transform<T>) {
    let single = TypeId::of::<T>() == TypeId::of::<f32>();
    match instructions {
        // SAFETY: the instructions were found on this machine.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 if single => unsafe { run_avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 if single => unsafe { run_avx2(work) },
        // SAFETY: they need none.
        _ => unsafe { work.run::<Portable<T>>() },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn run_avx512<T: Scalar>(work: impl Transform<T>) {
    // SAFETY: this function's own features.
    unsafe { work.run::<Avx512>() };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<T: Scalar>(work: impl Transform<T>) {
    // SAFETY: this function's own features.
    unsafe { work.run::<Avx2>() };
}

/// What every machine has four lanes for.
#[derive(Clone, Copy)]
pub(super) struct Portable<T>([T; 4]);

impl<T: Scalar> Portable<T> {
    /// The first channel's value.
    pub(super) fn first(self) -> T {
        self.0[0]
    }

    #[inline(always)]
    fn each(self, other: Self, operation: impl Fn(T, T) -> T) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl<T: Scalar> Vector<T> for Portable<T> {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { from.cast::<[T; 4]>().read() })
    }

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[T; 4]>().write(self.0) };
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        self.each(other, |a, b| a - b)
    }

    #[inline(always)]
    fn multiply(self, factor: Self) -> Self {
        self.each(factor, |a, b| a * b)
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        self.add(a.multiply(b))
    }

    #[inline(always)]
    fn subtract_product(self, a: Self, b: Self) -> Self {
        self.subtract(a.multiply(b))
    }

    #[inline(always)]
    fn at_least(self, floor: Self) -> Self {
        self.each(floor, |value, floor| if value < floor { floor } else { value })
    }
}

/// A vector of `f32` in one register. It serves as vector of any `T`, which [`run`] has found to be `f32`.
#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    (
        $name:ident, $register:ty, $lanes:literal, $load:ident, $splat:ident, $store:ident, $add:ident, $subtract:ident,
        $multiply:ident, $multiply_add:ident, $negated_multiply_add:ident, $max:ident
    ) => {
        #[derive(Clone, Copy)]
        struct $name($register);

        impl<T: Scalar> Vector<T> for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn load(from: *const T) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $load(from.cast()) })
            }

            #[inline(always)]
            unsafe fn splat(value: T) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $splat(value.to_f32()) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut T) {
                // SAFETY: the caller's promise.
                unsafe { $store(to.cast(), self.0) };
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: there is a vector, so there are its instructions.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            fn subtract(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $subtract(self.0, other.0) })
            }

            #[inline(always)]
            fn multiply(self, factor: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $multiply(self.0, factor.0) })
            }

            #[inline(always)]
            fn add_product(self, a: Self, b: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $multiply_add(a.0, b.0, self.0) })
            }

            #[inline(always)]
            fn subtract_product(self, a: Self, b: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { $negated_multiply_add(a.0, b.0, self.0) })
            }

            #[inline(always)]
            fn at_least(self, floor: Self) -> Self {
                // SAFETY: as above. In this order a NaN in the value is what remains.
                Self(unsafe { $max(floor.0, self.0) })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector!(
    Avx512,
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_fmadd_ps,
    _mm512_fnmadd_ps,
    _mm512_max_ps
);
#[cfg(target_arch = "x86_64")]
vector!(
    Avx2,
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_fmadd_ps,
    _mm256_fnmadd_ps,
    _mm256_max_ps
);
