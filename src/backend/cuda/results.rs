//! Results on their way to the host, while the device already works on the next batch.
//!
//! The compute stream copies a result aside, which takes microseconds; from there it crosses the bus on a stream of its
//! own. Whoever wants the values waits for that copy alone. The room for a result is used again.

use super::context::Context;
use super::error::{CudaError, Doing};
use super::memory::{Buffer, CudaTensor, ElementType, Memory};
use super::recording;
use super::staging::Pinned;
use crate::backend::DeviceTensor;
use crate::tensor::Tensor;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::sync::{Arc, Mutex, PoisonError};

/// Rooms that wait for their next use; more are given back.
const MOST_FREE: usize = 16;

/// The stream that results take, and rooms for them.
#[derive(Debug)]
pub(super) struct ResultQueue {
    cuda: Arc<CudaContext>,
    compute: Arc<CudaStream>,
    back: Arc<CudaStream>,
    memory: Arc<Memory>,
    free: Mutex<Vec<Room>>,
}

/// Both sides of one copy.
#[derive(Debug)]
struct Room {
    device: Buffer,
    host: Pinned,
    /// The compute stream has put the result into `device`.
    produced: CudaEvent,
    /// The result is in `host`.
    copied: CudaEvent,
}

impl ResultQueue {
    pub(super) fn new(
        cuda: &Arc<CudaContext>,
        compute: &Arc<CudaStream>,
        memory: &Arc<Memory>,
    ) -> Result<Arc<Self>, CudaError> {
        Ok(Arc::new(Self {
            cuda: Arc::clone(cuda),
            compute: Arc::clone(compute),
            back: cuda.new_stream().doing("making a stream")?,
            memory: Arc::clone(memory),
            free: Mutex::default(),
        }))
    }

    fn room(&self, bytes: usize) -> Result<Room, CudaError> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = free.iter().position(|room| room.device.bytes() == bytes) {
            return Ok(free.swap_remove(found));
        }
        drop(free);
        let event = || self.cuda.new_event(None).doing("making an event");
        Ok(Room {
            device: self.memory.buffer(bytes)?,
            host: Pinned::new(&self.cuda, bytes)?,
            produced: event()?,
            copied: event()?,
        })
    }

    /// Waits for every result that is on its way.
    pub(super) fn synchronize(&self) -> Result<(), CudaError> {
        self.back.synchronize().doing("waiting for its results")
    }

    /// Takes a room back whose copy was waited for.
    fn give_back(&self, room: Room) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < MOST_FREE {
            free.push(room);
        }
    }

    /// Enqueues the copy of a tensor as it is now.
    pub(super) fn begin(self: &Arc<Self>, tensor: &CudaTensor) -> Result<Arriving, CudaError> {
        recording::assert_idle(&self.memory);
        let bytes = tensor.len() * tensor.element().bytes();
        self.cuda.bind_to_thread().doing("binding its context")?;
        let mut room = self.room(bytes.max(1))?;
        // SAFETY: both sides hold `bytes` bytes. The compute stream orders this copy behind the kernel that makes the
        // result and before the one that overwrites it; nobody else uses the room, whose last copy was waited for.
        unsafe {
            result::memcpy_dtod_async(
                room.device.pointer(),
                tensor.buffer().pointer(),
                bytes,
                self.compute.cu_stream(),
            )
        }
        .doing("putting a result aside")?;
        room.produced.record(&self.compute).doing("recording an event")?;
        self.back.wait(&room.produced).doing("waiting for a result")?;
        // SAFETY: the host's side is as long, and is read only once `copied` has passed.
        unsafe {
            let host = &mut room.host.bytes_mut()[..bytes];
            result::memcpy_dtoh_async(host, room.device.pointer(), self.back.cu_stream())
        }
        .doing("copying from the device")?;
        room.copied.record(&self.back).doing("recording an event")?;
        let (shape, element) = (tensor.shape().to_vec(), tensor.element());
        Ok(Arriving { shape, element, room: Some(room), queue: Arc::clone(self) })
    }
}

/// A tensor on its way to the host.
#[derive(Debug)]
pub(super) struct Arriving {
    shape: Vec<usize>,
    element: ElementType,
    room: Option<Room>,
    queue: Arc<ResultQueue>,
}

impl Arriving {
    /// Waits for it.
    pub(super) fn finish(mut self, context: &Context) -> Result<Tensor<f32>, CudaError> {
        context.bind()?;
        let Some(room) = self.room.take() else { unreachable!("it is taken here alone") };
        room.copied.synchronize().doing("waiting for its results")?;
        let len: usize = self.shape.iter().product();
        let bytes = &room.host.bytes()[..len * self.element.bytes()];
        let data = match self.element {
            ElementType::F32 => bytemuck::pod_collect_to_vec(bytes),
            ElementType::F16 => bytemuck::pod_collect_to_vec::<u8, f16>(bytes).to_f32_vec(),
        };
        self.queue.give_back(room);
        Ok(Tensor::new(self.shape.clone(), data))
    }
}

impl Drop for Arriving {
    /// A result that nobody wants any more still arrives before its room is used again.
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            self.queue.cuda.record_err(room.copied.synchronize());
            self.queue.give_back(room);
        }
    }
}

/// Tensors on their way to the host.
#[derive(Debug)]
pub struct CudaResults(pub(super) Vec<Arriving>);
