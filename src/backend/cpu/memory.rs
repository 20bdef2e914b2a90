//! Memory of the CPU device: tensors whose buffers are reused.
//!
//! A training step allocates the same few sizes again and again, tens of megabytes each. Fresh pages cost more than
//! the arithmetic of some operations, so a dropped tensor's buffer goes back to its device's pool.

use super::conv2d::CpuConvolution;
use crate::backend::DeviceTensor;
use crate::tensor::{Scalar, Tensor};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Free buffers beyond this many bytes are given back to the operating system, oldest first.
const RETAINED_BYTES: usize = 512 << 20;
/// Buffers smaller than this are left to the allocator, which is good at them.
const SMALLEST_POOLED: usize = 64 << 10;

/// A cache line, which is also the widest vector: no load of one crosses two lines.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Elements that begin on a cache line.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: bytemuck::Pod> Buffer<T> {
    pub(super) fn zeros(len: usize) -> Self {
        let lines = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(size_of::<Line>())];
        Self { lines, len, element: PhantomData }
    }

    pub(super) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: bytemuck::Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: bytemuck::Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// Free buffers by exact size: shapes are static, so sizes recur exactly.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: Mutex<Vec<Buffer<T>>>,
}

impl<T: Scalar> Pool<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(Vec::new()) })
    }

    /// A tensor whose content is arbitrary: the caller writes every element. In debug builds it is NaN, so that a
    /// forgotten element shows.
    pub(super) fn tensor(self: &Arc<Self>, shape: &[usize]) -> CpuTensor<T> {
        let len = shape.iter().product();
        let reused = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.iter().rposition(|buffer| buffer.len() == len).map(|found| free.remove(found))
        };
        let mut data = reused.unwrap_or_else(|| Buffer::zeros(len));
        if cfg!(debug_assertions) {
            data.fill(T::from_f64(f64::NAN));
        }
        CpuTensor { shape: shape.to_vec(), data, pool: Arc::clone(self), laid_out: OnceLock::new() }
    }

    /// Buffers that wait for their next use.
    #[cfg(test)]
    pub(super) fn free_buffers(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn give_back(&self, buffer: Buffer<T>) {
        if buffer.bytes() < SMALLEST_POOLED {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(buffer);
        let mut retained: usize = free.iter().map(Buffer::bytes).sum();
        while retained > RETAINED_BYTES {
            retained -= free.remove(0).bytes();
        }
    }
}

/// A tensor in host memory, owned by a [`Cpu`](super::Cpu) device.
#[derive(Debug)]
pub struct CpuTensor<T: Scalar> {
    shape: Vec<usize>,
    data: Buffer<T>,
    pool: Arc<Pool<T>>,
    /// The same, laid out as the weight of a deployed head; empty until it is used as one.
    laid_out: OnceLock<CpuConvolution<T>>,
}

impl<T: Scalar> CpuTensor<T> {
    pub(super) fn data(&self) -> &[T] {
        &self.data
    }

    pub(super) fn data_mut(&mut self) -> &mut [T] {
        self.laid_out.take();
        &mut self.data
    }

    /// What `lay_out` makes of the elements; called again only after they may have changed, or by several threads at once, of
    /// which one's is kept.
    ///
    /// Nothing is locked meanwhile: laying out is work for all threads of the pool, and one that waits for a part of it may
    /// take up another caller's work, which needs the same weights.
    pub(super) fn laid_out(&self, lay_out: impl FnOnce() -> CpuConvolution<T>) -> &CpuConvolution<T> {
        if let Some(convolution) = self.laid_out.get() {
            return convolution;
        }
        let convolution = lay_out();
        self.laid_out.get_or_init(|| convolution)
    }

    pub(super) fn with_shape(mut self, shape: &[usize]) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            self.data.len(),
            "a reshape keeps the number of elements"
        );
        self.shape = shape.to_vec();
        self.laid_out.take();
        self
    }

    pub(super) fn to_host(&self) -> Tensor<T> {
        Tensor::new(self.shape.clone(), self.data.to_vec())
    }

    /// The extents, checked to be `AXES` many.
    pub(super) fn axes<const AXES: usize>(&self) -> [usize; AXES] {
        let Ok(axes) = <[usize; AXES]>::try_from(self.shape.as_slice()) else {
            panic!("expected a tensor of {AXES} axes, got shape {:?}", self.shape)
        };
        axes
    }
}

impl<T: Scalar> DeviceTensor for CpuTensor<T> {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
}

impl<T: Scalar> Drop for CpuTensor<T> {
    fn drop(&mut self) {
        let data = std::mem::replace(&mut self.data, Buffer::zeros(0));
        self.pool.give_back(data);
    }
}
