//! Host tensors: a shape and row-major elements.

use crate::random::philox::Philox;

/// Element types a host tensor or a CPU computation can have.
///
/// Training and inference run in `f32`; `f64` exists so that every formula of the project can be checked
/// against itself and against finite differences without rounding in the way.
pub trait Scalar:
    Copy
    + Default
    + Send
    + Sync
    + PartialOrd
    + std::fmt::Debug
    + std::iter::Sum
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::MulAssign
    + bytemuck::Pod
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// The nearest value of this type.
    fn from_f32(value: f32) -> Self;
    /// Widened, exactly.
    fn to_f64(self) -> f64;
    /// The nearest `f32`.
    fn to_f32(self) -> f32;
    /// Square root.
    fn sqrt(self) -> Self;
    /// The larger of the two; a NaN wins against a number, so that it is never hidden.
    fn max(self, other: Self) -> Self;
    /// Standard normals of consecutive Philox blocks from `first_block`, four a block (`out.len()` is a multiple of
    /// four), by Box–Muller from the same integers in either type.
    fn fill_normals(philox: &Philox, first_block: u64, out: &mut [Self]);
}

macro_rules! impl_scalar {
    ($type:ty, $fill_normals:path) => {
        impl Scalar for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn from_f32(value: f32) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_f32(self) -> f32 {
                self as f32
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn max(self, other: Self) -> Self {
                if self >= other || self.is_nan() { self } else { other }
            }
            #[inline(always)]
            fn fill_normals(philox: &Philox, first_block: u64, out: &mut [Self]) {
                $fill_normals(philox, first_block, out);
            }
        }
    };
}
impl_scalar!(f32, crate::random::normals::fill_f32);
impl_scalar!(f64, crate::random::normals::fill_f64);

/// A dense tensor in host memory, row-major: the last axis is contiguous.
///
/// Images and feature maps are `[N, H, W, C]`; convolution weights keep PyTorch's `[O, I, kh, kw]` until the
/// backbone lays them out for its own use.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T = f32> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl<T: Copy> Tensor<T> {
    /// A tensor over `data`.
    ///
    /// # Panics
    /// If `data` does not hold exactly `shape`'s number of elements: that is a fault of the caller, never of a
    /// user's file (readers check lengths before they come here).
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<T>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} does not fit its data");
        Self { shape, data }
    }

    /// A tensor with every element equal to `value`.
    pub fn full(shape: impl Into<Vec<usize>>, value: T) -> Self {
        let shape = shape.into();
        let data = vec![value; shape.iter().product()];
        Self { shape, data }
    }

    /// The extent of every axis, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, row-major.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The elements, row-major.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The elements, without a copy.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// The same elements under another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn reshape(self, shape: impl Into<Vec<usize>>) -> Self {
        Self::new(shape, self.data)
    }
}

/// `‖out − reference‖ / ‖reference‖` over all elements, in `f64`: the one measure of error in this project.
///
/// NaN anywhere gives NaN, which no tolerance passes. A zero reference gives the norm of `out` itself.
pub fn relative_error<A: Scalar, B: Scalar>(out: &[A], reference: &[B]) -> f64 {
    assert_eq!(out.len(), reference.len(), "relative_error compares tensors of equal size");
    let (mut difference, mut norm) = (0.0, 0.0);
    for (&a, &b) in out.iter().zip(reference) {
        let (a, b) = (a.to_f64(), b.to_f64());
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() }
}
