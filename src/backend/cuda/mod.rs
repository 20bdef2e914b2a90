//! The CUDA device: every operation as a kernel of `kernels/`, or as a product by cuBLASLt.
//!
//! One context, one compute stream on which everything runs in order, one copy stream for images, joined by events.
//! Results have the same bits every time: no float is added atomically, every sum has one order, and a shape keeps
//! the algorithm that was first chosen for it.

mod context;
mod error;
mod images;
mod launch;
mod memory;
mod modules;
pub mod probe;
mod products;
mod staging;

pub use error::CudaError;
pub use memory::CudaTensor;

/// How matrix products and activations are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision throughout.
    F32,
    /// Operands of products rounded to ten bits of mantissa, on tensor cores; everything else in f32.
    Tf32,
    /// The backbone in half precision with sums in f32; the head as under [`Precision::Tf32`].
    F16,
}

/// Which device to open, and how.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    /// The device's number.
    pub ordinal: usize,
    /// Its arithmetic.
    pub precision: Precision,
    /// Fill every buffer with NaN before it is used, so that an element nobody wrote shows: for tests.
    pub poison_memory: bool,
}
