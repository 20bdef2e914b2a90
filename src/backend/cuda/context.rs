//! One device, opened: its streams, its memory, its kernels and its matrix products.

use super::convolutions::Convolutions;
use super::error::{CudaError, Doing};
use super::memory::{CudaTensor, ElementType, Memory, Scratch};
use super::modules::Modules;
use super::probe::{self, Device};
use super::products::Products;
use super::recording;
use super::results::ResultQueue;
use super::staging::Staging;
use super::tuning::Tuning;
use super::{CudaOptions, Precision};
use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUdevice_attribute;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What every operation works with.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) device: Device,
    pub(super) precision: Precision,
    /// Whether convolutions of halves go by `conv2d_implicit` where it serves them.
    pub(super) implicit_gemm: bool,
    /// How many blocks the device runs at once, at least.
    pub(super) multiprocessors: usize,
    /// Bytes that cached features may take, where a limit was set.
    pub(super) feature_memory: Option<usize>,
    /// Whether recorded work becomes a graph.
    pub(super) records: bool,
    pub(super) memory: Arc<Memory>,
    pub(super) modules: Modules,
    pub(super) products: Products,
    pub(super) convolutions: Convolutions,
    pub(super) tuning: Tuning,
    staging: Mutex<Staging>,
    pub(super) results: Arc<ResultQueue>,
    pub(super) cuda: Arc<CudaContext>,
}

impl Context {
    pub(super) fn open(options: CudaOptions) -> Result<Self, CudaError> {
        let CudaOptions { ordinal, precision, implicit_gemm, feature_memory, poison_memory, records } =
            options;
        let devices = probe::devices()?;
        let count = devices.len();
        let device = devices.into_iter().nth(ordinal).ok_or(CudaError::NoSuchDevice { ordinal, count })?;
        probe::kernels()?;
        device.check_kernels()?;
        probe::cublaslt()?;
        if device.capability.0 < 8 && precision == Precision::Tf32 {
            return Err(CudaError::NoSuchPrecision { device: device.name, precision: "tf32" });
        }
        let cuda = CudaContext::new(ordinal).doing("opening it")?;
        let multiprocessors = cuda
            .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
            .doing("counting its multiprocessors")? as usize;
        // SAFETY: cudarc's own slices are not used. Buffers are ordered by the one compute stream; the copy stream
        // has explicit events.
        unsafe { cuda.disable_event_tracking() };
        let compute = cuda.new_stream().doing("making a stream")?;
        let copy = cuda.new_stream().doing("making a stream")?;
        let memory = Memory::new(Arc::clone(&cuda), Arc::clone(&compute), poison_memory);
        let staging = Mutex::new(Staging::new(Arc::clone(&cuda), Arc::clone(&compute), copy)?);
        let modules = Modules::new(Arc::clone(&cuda), device.clone());
        let products = Products::new(precision)?;
        let results = ResultQueue::new(&cuda, &compute, &memory)?;
        Ok(Self {
            device,
            precision,
            implicit_gemm,
            multiprocessors,
            feature_memory,
            records,
            memory,
            modules,
            products,
            convolutions: Convolutions::default(),
            tuning: Tuning::default(),
            staging,
            results,
            cuda,
        })
    }

    /// Makes the device's context the one this thread talks to.
    pub(super) fn bind(&self) -> Result<(), CudaError> {
        self.cuda.bind_to_thread().doing("binding its context")
    }

    /// Waits for all streams: one by one, since the whole device cannot be waited for while another thread records.
    pub(super) fn synchronize(&self) -> Result<(), CudaError> {
        self.staging().synchronize()?;
        self.results.synchronize()
    }

    /// The element type of the backbone's activations.
    pub(super) fn activation(&self) -> ElementType {
        match self.precision {
            Precision::F16 => ElementType::F16,
            Precision::F32 | Precision::Tf32 => ElementType::F32,
        }
    }

    /// A tensor with arbitrary content: the caller writes every element.
    pub(super) fn tensor(&self, shape: &[usize], element: ElementType) -> Result<CudaTensor, CudaError> {
        CudaTensor::new(&self.memory, shape, element)
    }

    /// A tensor of zeros.
    pub(super) fn zeros(&self, shape: &[usize]) -> Result<CudaTensor, CudaError> {
        let tensor = self.tensor(shape, ElementType::F32)?;
        tensor.buffer().fill(0)?;
        Ok(tensor)
    }

    /// Memory for partial results, with arbitrary content.
    pub(super) fn scratch<T>(&self, len: usize) -> Result<Scratch<T>, CudaError> {
        Scratch::new(&self.memory, len)
    }

    /// The copies between host and device.
    ///
    /// # Panics
    /// If this thread records.
    pub(super) fn staging(&self) -> MutexGuard<'_, Staging> {
        recording::assert_idle(&self.memory);
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
