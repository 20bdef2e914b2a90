//! Memory of the CPU device: tensors whose buffers are reused.
//!
//! A training step allocates the same few sizes again and again, tens of megabytes each. Fresh pages cost more than
//! the arithmetic of some operations, so a dropped tensor's buffer goes back to its device's pool.

use crate::backend::DeviceTensor;
use crate::tensor::{Scalar, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Free buffers beyond this many bytes are given back to the operating system, oldest first.
const RETAINED_BYTES: usize = 512 << 20;
/// Buffers smaller than this are left to the allocator, which is good at them.
const SMALLEST_POOLED: usize = 64 << 10;

/// Free buffers by exact size: shapes are static, so sizes recur exactly.
#[derive(Debug)]
pub(super) struct Pool<T> {
    free: Mutex<Vec<Vec<T>>>,
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
        let mut data = reused.unwrap_or_else(|| vec![T::ZERO; len]);
        if cfg!(debug_assertions) {
            data.fill(T::from_f64(f64::NAN));
        }
        CpuTensor { shape: shape.to_vec(), data, pool: Arc::clone(self) }
    }

    /// Buffers that wait for their next use.
    #[cfg(test)]
    pub(super) fn free_buffers(&self) -> usize {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn give_back(&self, buffer: Vec<T>) {
        if std::mem::size_of_val(buffer.as_slice()) < SMALLEST_POOLED {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(buffer);
        let mut retained: usize = free.iter().map(|buffer| std::mem::size_of_val(buffer.as_slice())).sum();
        while retained > RETAINED_BYTES {
            retained -= std::mem::size_of_val(free.remove(0).as_slice());
        }
    }
}

/// A tensor in host memory, owned by a [`Cpu`](super::Cpu) device.
#[derive(Debug)]
pub struct CpuTensor<T: Scalar> {
    shape: Vec<usize>,
    data: Vec<T>,
    pool: Arc<Pool<T>>,
}

impl<T: Scalar> CpuTensor<T> {
    pub(super) fn data(&self) -> &[T] {
        &self.data
    }

    pub(super) fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    pub(super) fn with_shape(mut self, shape: &[usize]) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            self.data.len(),
            "a reshape keeps the number of elements"
        );
        self.shape = shape.to_vec();
        self
    }

    pub(super) fn to_host(&self) -> Tensor<T> {
        Tensor::new(self.shape.clone(), self.data.clone())
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
        self.pool.give_back(std::mem::take(&mut self.data));
    }
}
