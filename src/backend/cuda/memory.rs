//! Device memory: buffers that are reused, and the tensors in them.
//!
//! Asking the driver for memory synchronises the device, and a training step wants the same few sizes again and
//! again. A dropped buffer therefore goes back to a list of its exact size. All kernels run on one stream, so whoever
//! gets a buffer next comes after everybody who used it before: no event is needed. What is recorded
//! ([`recording`]) has its buffers in a block of its own.

use super::error::{CudaError, Doing};
use super::launch::{In, Out};
use super::recording::{self, Traced};
use crate::backend::DeviceTensor;
use cudarc::driver::sys::{CUdeviceptr, CUresult, CUstream};
use cudarc::driver::{CudaContext, CudaStream, result};
use half::f16;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ElementType {
    /// `float`
    F32,
    /// `__half`
    F16,
}

impl ElementType {
    pub(super) fn bytes(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F16 => 2,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
        }
    }
}

/// An element type that kernels are instantiated for.
pub(crate) trait Element: bytemuck::Pod + Send + Sync {
    /// The place of its kernel in a pair `x_f32`, `x_f16`.
    const VARIANT: usize;
    /// The same, as a value.
    const TYPE: ElementType;
    /// Elements in sixteen bytes; `PACKET` of `kernels/common.cuh`.
    const PACKET: usize = 16 / size_of::<Self>();
}

impl Element for f32 {
    const VARIANT: usize = 0;
    const TYPE: ElementType = ElementType::F32;
}

impl Element for f16 {
    const VARIANT: usize = 1;
    const TYPE: ElementType = ElementType::F16;
}

/// Calls a function for the element type that a value names: `by_element!(tensor.element(), T => run::<T>(…))`.
macro_rules! by_element {
    ($element:expr, $type:ident => $call:expr) => {
        match $element {
            $crate::backend::cuda::memory::ElementType::F32 => {
                type $type = f32;
                $call
            }
            $crate::backend::cuda::memory::ElementType::F16 => {
                type $type = half::f16;
                $call
            }
        }
    };
}
pub(super) use by_element;

/// The device's memory.
#[derive(Debug)]
pub(super) struct Memory {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Whether every buffer is filled with NaN before it is handed out, so that a forgotten element shows.
    poison: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Free buffers by their exact size: shapes are static, so sizes recur exactly.
    free: HashMap<usize, Vec<CUdeviceptr>>,
    /// Bytes allocated, free ones included.
    held: usize,
}

impl Memory {
    pub(super) fn new(context: Arc<CudaContext>, stream: Arc<CudaStream>, poison: bool) -> Arc<Self> {
        Arc::new(Self { context, stream, poison, state: Mutex::default() })
    }

    /// A buffer of `bytes` bytes with arbitrary content, aligned to 256.
    pub(super) fn buffer(self: &Arc<Self>, bytes: usize) -> Result<Buffer, CudaError> {
        let bytes = bytes.max(1);
        self.context.bind_to_thread().doing("binding its context")?;
        if let Some((pointer, arena)) = recording::place(self, bytes) {
            let buffer = Buffer { pointer, bytes, memory: Arc::clone(self), home: Home::Arena(arena) };
            if self.poison {
                buffer.fill(0xFF)?;
            }
            return Ok(buffer);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let reused = state.free.get_mut(&bytes).and_then(Vec::pop);
        let pointer = match reused {
            Some(pointer) => pointer,
            None => self.allocate(bytes, &mut state)?,
        };
        drop(state);
        let home = Home::List(recording::born(self, bytes));
        let buffer = Buffer { pointer, bytes, memory: Arc::clone(self), home };
        if self.poison {
            buffer.fill(0xFF)?;
        }
        Ok(buffer)
    }

    /// Asks the driver; when it has none, gives back every free buffer and asks again.
    fn allocate(&self, bytes: usize, state: &mut State) -> Result<CUdeviceptr, CudaError> {
        for last_try in [false, true] {
            // SAFETY: the context is bound; the memory is owned by the buffer made of it and freed once.
            match unsafe { result::malloc_sync(bytes) } {
                Ok(pointer) => {
                    state.held += bytes;
                    return Ok(pointer);
                }
                Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY && !last_try => {
                    self.release_free(state);
                }
                Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => break,
                Err(source) => return Err(CudaError::Driver { doing: "allocating memory", source }),
            }
        }
        let (free, total) = self.context.mem_get_info().doing("asking for its free memory")?;
        Err(CudaError::OutOfMemory { asked: bytes, free, total, held: state.held })
    }

    /// Gives every free buffer back to the driver, which waits for the work that uses it.
    fn release_free(&self, state: &mut State) {
        for (bytes, pointers) in state.free.drain() {
            for pointer in pointers {
                state.held -= bytes;
                // SAFETY: the pointer came from malloc_sync and left the list, so nobody else frees it.
                let freed = unsafe { result::free_sync(pointer) };
                self.context.record_err(freed);
            }
        }
    }

    /// The stream that this thread's kernels go to: the compute stream, or one that records.
    pub(super) fn stream(&self) -> CUstream {
        recording::stream(self).unwrap_or_else(|| self.stream.cu_stream())
    }

    /// Waits for the compute stream. The whole device cannot be waited for while another thread records.
    pub(super) fn wait(&self) {
        self.context.record_err(self.stream.synchronize());
    }

    /// Gives back what no tensor uses at the moment.
    pub(super) fn trim(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.release_free(&mut state);
    }

    /// Bytes allocated, free buffers included.
    pub(super) fn held(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).held
    }

    /// Bytes that can still be had: those the driver has, and those of free buffers.
    pub(super) fn available(&self) -> Result<usize, CudaError> {
        let (free, _) = self.context.mem_get_info().doing("asking for its free memory")?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let reusable: usize = state.free.iter().map(|(bytes, pointers)| bytes * pointers.len()).sum();
        Ok(free + reusable)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        let mut state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.release_free(&mut state);
    }
}

/// A piece of device memory; it goes back to where it came from when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    pointer: CUdeviceptr,
    bytes: usize,
    memory: Arc<Memory>,
    home: Home,
}

/// Where a buffer comes from.
#[derive(Debug)]
enum Home {
    /// The device's list, and the trace that saw it come, if one was kept.
    List(Option<Traced>),
    /// A place in a recording's memory, which it keeps alive.
    Arena(#[expect(dead_code, reason = "held, not read")] Arc<Buffer>),
}

impl Buffer {
    pub(super) fn pointer(&self) -> CUdeviceptr {
        self.pointer
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets every byte, in the order of the compute stream.
    pub(super) fn fill(&self, byte: u8) -> Result<(), CudaError> {
        self.memory.context.bind_to_thread().doing("binding its context")?;
        // SAFETY: the range is this buffer's, and the stream belongs to its context.
        unsafe { result::memset_d8_async(self.pointer, byte, self.bytes, self.memory.stream()) }
            .doing("filling memory")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Home::List(traced) = self.home else { return };
        if let Some(traced) = traced {
            recording::dead(&self.memory, traced);
        }
        let mut state = self.memory.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free.entry(self.bytes).or_default().push(self.pointer);
    }
}

/// A typed piece of device memory for results that live within one operation.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    buffer: Buffer,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Scratch<T> {
    pub(super) fn new(memory: &Arc<Memory>, len: usize) -> Result<Self, CudaError> {
        Ok(Self { buffer: memory.buffer(len * size_of::<T>())?, len, element: PhantomData })
    }

    pub(super) fn read(&self) -> In<'_, T> {
        In::new(self.buffer.pointer(), self.len)
    }

    pub(super) fn write(&mut self) -> Out<'_, T> {
        Out::new(self.buffer.pointer(), self.len)
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

/// A tensor in device memory, owned by a [`Cuda`](super::Cuda) device.
#[derive(Debug)]
pub struct CudaTensor {
    shape: Vec<usize>,
    element: ElementType,
    buffer: Buffer,
}

impl CudaTensor {
    pub(super) fn new(
        memory: &Arc<Memory>,
        shape: &[usize],
        element: ElementType,
    ) -> Result<Self, CudaError> {
        let len: usize = shape.iter().product();
        Ok(Self { shape: shape.to_vec(), element, buffer: memory.buffer(len * element.bytes())? })
    }

    pub(super) fn element(&self) -> ElementType {
        self.element
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The extents, checked to be `AXES` many.
    pub(super) fn axes<const AXES: usize>(&self) -> [usize; AXES] {
        let Ok(axes) = <[usize; AXES]>::try_from(self.shape.as_slice()) else {
            panic!("expected a tensor of {AXES} axes, got shape {:?}", self.shape)
        };
        axes
    }

    /// The extents as kernels take them.
    pub(super) fn extents<const AXES: usize>(&self) -> [u32; AXES] {
        self.axes::<AXES>().map(|extent| {
            assert!(u32::try_from(extent).is_ok(), "an axis has fewer than 2³² elements, not {extent}");
            extent as u32
        })
    }

    pub(super) fn with_shape(mut self, shape: &[usize]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), self.len(), "a reshape keeps the number of elements");
        self.shape = shape.to_vec();
        self
    }

    /// The elements, for a kernel to read.
    pub(super) fn read<T: Element>(&self) -> In<'_, T> {
        assert_eq!(T::TYPE, self.element, "the tensor's own element type");
        In::new(self.buffer.pointer(), self.len())
    }

    /// The elements, for a kernel to write.
    pub(super) fn write<T: Element>(&mut self) -> Out<'_, T> {
        assert_eq!(T::TYPE, self.element, "the tensor's own element type");
        Out::new(self.buffer.pointer(), self.len())
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl DeviceTensor for CudaTensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
}
