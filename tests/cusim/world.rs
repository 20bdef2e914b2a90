//! What every test of the simulator starts from: a device with the sample kernels, in cudarc's `result` functions.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::sys::{
    CUdeviceptr, CUevent, CUevent_flags, CUevent_wait_flags, CUfunction, CUmodule, CUstream,
};
use cudarc::driver::{CudaContext, DriverError, result};

use crate::cusim::{Build, Simulator, crate_folder, load_build};

/// The sample kernels.
pub(crate) fn samples() -> Build {
    Build { kernels: crate_folder("tests/cusim/samples"), flags: Vec::new(), sanitized: false }
}

pub(crate) fn simulator() -> Option<&'static Simulator> {
    load_build(&samples())
}

/// Devices that differ in nothing but the order of threads.
pub(crate) const ORDERS: [usize; 3] = [0, 1, 2];

/// One device, with a stream of its own.
pub(crate) struct World {
    pub(crate) simulator: &'static Simulator,
    pub(crate) context: Arc<CudaContext>,
    pub(crate) stream: CUstream,
    module: CUmodule,
    _turn: Turn,
}

/// Freeing memory runs a device's deferred work. So a test that has to see it deferred runs while no other does.
static TURNS: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "guards are held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl World {
    /// `None` where the simulator cannot be built. A test has one world at a time.
    pub(crate) fn new(ordinal: usize) -> Option<Self> {
        Self::with(ordinal, Turn::Shared(TURNS.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// While no other test runs.
    pub(crate) fn alone(ordinal: usize) -> Option<Self> {
        Self::with(ordinal, Turn::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(ordinal: usize, turn: Turn) -> Option<Self> {
        let simulator = simulator()?;
        let context = CudaContext::new(ordinal).unwrap();
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
        // SAFETY: the simulator does not look at the image.
        let module = unsafe { result::module::load_data([0u8; 8].as_ptr().cast()) }.unwrap();
        Some(Self { simulator, context, stream, module, _turn: turn })
    }

    pub(crate) fn another_stream(&self) -> Stream {
        Stream(result::stream::create(result::stream::StreamKind::NonBlocking).unwrap())
    }

    pub(crate) fn kernel(&self, name: &str) -> Result<CUfunction, DriverError> {
        // SAFETY: the module is alive.
        unsafe { result::module::get_function(self.module, CString::new(name).unwrap()) }
    }

    /// Enqueues a kernel on a stream.
    pub(crate) fn launch_on(
        &self,
        stream: CUstream,
        name: &str,
        shape: Shape,
        arguments: &[&dyn Argument],
    ) -> Result<(), DriverError> {
        let mut addresses: Vec<_> = arguments.iter().map(|&argument| Argument::address(argument)).collect();
        let kernel = self.kernel(name)?;
        // SAFETY: tests pass the kernel's arguments, or mean not to.
        unsafe {
            result::launch_kernel(kernel, shape.grid, shape.block, shape.shared_bytes, stream, &mut addresses)
        }
    }

    pub(crate) fn launch(
        &self,
        name: &str,
        shape: Shape,
        arguments: &[&dyn Argument],
    ) -> Result<(), DriverError> {
        self.launch_on(self.stream, name, shape, arguments)
    }

    pub(crate) fn synchronise(&self) {
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(self.stream) }.unwrap();
    }

    /// Undefined contents.
    pub(crate) fn buffer<T: Copy>(&self, count: usize) -> Buffer<T> {
        // SAFETY: the address is used within the buffer's life.
        let address = unsafe { result::malloc_sync(count * size_of::<T>()) }.unwrap();
        Buffer { address, count, element: PhantomData }
    }

    /// The values on the device; their copy is in the stream's order.
    pub(crate) fn upload<T: Copy>(&self, values: &[T]) -> Buffer<T> {
        let buffer = self.buffer(values.len());
        // SAFETY: the buffer has room, and pageable memory is read at the call.
        unsafe { result::memcpy_htod_async(buffer.address, values, self.stream) }.unwrap();
        buffer
    }

    /// What the stream leaves in the buffer.
    pub(crate) fn download<T: Copy + Default>(&self, buffer: &Buffer<T>) -> Vec<T> {
        self.download_on(self.stream, buffer)
    }

    pub(crate) fn download_on<T: Copy + Default>(&self, stream: CUstream, buffer: &Buffer<T>) -> Vec<T> {
        let mut values = vec![T::default(); buffer.count];
        // SAFETY: both sides have the same size; a copy to pageable memory is over when the call returns.
        unsafe { result::memcpy_dtoh_async(&mut values, buffer.address, stream) }.unwrap();
        values
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.context.bind_to_thread().unwrap();
        // SAFETY: nothing uses them any more.
        unsafe {
            result::module::unload(self.module).unwrap();
            result::stream::destroy(self.stream).unwrap();
        }
    }
}

/// Device memory.
pub(crate) struct Buffer<T> {
    pub(crate) address: CUdeviceptr,
    pub(crate) count: usize,
    element: PhantomData<T>,
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: the buffer was allocated with this address.
        unsafe { result::free_sync(self.address) }.unwrap();
    }
}

/// Pinned host memory.
pub(crate) struct Pinned {
    address: *mut f32,
    count: usize,
}

impl Pinned {
    pub(crate) fn new(values: &[f32]) -> Self {
        // SAFETY: the address is used within the buffer's life.
        let address = unsafe { result::malloc_host(size_of_val(values), 0) }.unwrap().cast();
        let mut pinned = Self { address, count: values.len() };
        pinned.values().copy_from_slice(values);
        pinned
    }

    pub(crate) fn values(&mut self) -> &mut [f32] {
        // SAFETY: the allocation has this size, and every bit pattern is a float.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.count) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the buffer was allocated with this address.
        unsafe { result::free_host(self.address.cast()) }.unwrap();
    }
}

pub(crate) struct Stream(pub(crate) CUstream);

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: nothing uses it any more.
        unsafe { result::stream::destroy(self.0) }.unwrap();
    }
}

pub(crate) struct Event(pub(crate) CUevent);

impl Event {
    pub(crate) fn new() -> Self {
        Self(result::event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).unwrap())
    }

    /// One that knows when it was reached.
    pub(crate) fn timing() -> Self {
        Self(result::event::create(CUevent_flags::CU_EVENT_DEFAULT).unwrap())
    }

    /// Milliseconds from this event to another.
    pub(crate) fn elapsed(&self, end: &Self) -> Result<f32, DriverError> {
        // SAFETY: both are alive.
        unsafe { result::event::elapsed(self.0, end.0) }
    }

    pub(crate) fn record(&self, stream: CUstream) {
        // SAFETY: both are alive.
        unsafe { result::event::record(self.0, stream) }.unwrap();
    }

    pub(crate) fn wait(&self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: both are alive.
        unsafe { result::stream::wait_event(stream, self.0, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nothing uses it any more.
        unsafe { result::event::destroy(self.0) }.unwrap();
    }
}

/// The form of a launch.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) grid: (u32, u32, u32),
    pub(crate) block: (u32, u32, u32),
    pub(crate) shared_bytes: u32,
}

pub(crate) fn shape(blocks: u32, threads: u32) -> Shape {
    Shape { grid: (blocks, 1, 1), block: (threads, 1, 1), shared_bytes: 0 }
}

/// A kernel's argument, by the address of its value.
pub(crate) trait Argument {
    fn address(&self) -> *mut c_void;
}

impl<T: Copy> Argument for T {
    fn address(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

impl<T> Argument for Buffer<T> {
    fn address(&self) -> *mut c_void {
        self.address.address()
    }
}

/// Values without a pattern that a mistake could repeat, in [−1, 1).
pub(crate) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
