//! The kernels on the device: each file's image is loaded when one of its kernels is first launched.

use super::error::{CudaError, Doing};
use super::images;
use super::launch::kernels::FUNCTIONS;
use super::probe::Device;
use cudarc::driver::sys::{CUfunction, CUfunction_attribute, CUmodule, CUresult};
use cudarc::driver::{CudaContext, result};
use std::ffi::CString;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Loaded images and the kernels in them, by number: a launch looks up no name.
#[derive(Debug)]
pub(super) struct Modules {
    context: Arc<CudaContext>,
    device: Device,
    modules: Mutex<Vec<Option<Module>>>,
    functions: Vec<OnceLock<Function>>,
}

#[derive(Clone, Copy, Debug)]
struct Module(CUmodule);

#[derive(Clone, Copy, Debug)]
struct Function {
    handle: CUfunction,
    architecture: u32,
}

// SAFETY: handles of the driver, which any thread may use with the context bound.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}
// SAFETY: as above; the driver locks what it must.
unsafe impl Sync for Function {}

impl Modules {
    pub(super) fn new(context: Arc<CudaContext>, device: Device) -> Self {
        let modules = Mutex::new(vec![None; images::IMAGES.len()]);
        Self { context, device, modules, functions: vec![OnceLock::new(); FUNCTIONS.len()] }
    }

    /// The kernel with that number, loading its image if it is the first of its file.
    pub(super) fn function(&self, number: usize) -> Result<CUfunction, CudaError> {
        self.loaded(number).map(|function| function.handle)
    }

    /// The architecture (80 is compute capability 8.0) that nvcc compiled the kernel for of which this device runs the
    /// code: its own, or an older one whose code the driver found fit for it.
    pub(super) fn architecture(&self, number: usize) -> Result<u32, CudaError> {
        self.loaded(number).map(|function| function.architecture)
    }

    fn loaded(&self, number: usize) -> Result<Function, CudaError> {
        if let Some(function) = self.functions[number].get() {
            return Ok(*function);
        }
        self.context.bind_to_thread().doing("binding its context")?;
        let (file, name) = FUNCTIONS[number];
        let module = self.module(file)?;
        let symbol = CString::new(name).unwrap_or_else(|_| unreachable!("a C identifier has no NUL"));
        // SAFETY: the module stays loaded as long as `self`.
        let handle = unsafe { result::module::get_function(module, symbol) }.doing(name)?;
        let compiled_for = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION;
        // SAFETY: as above.
        let architecture =
            unsafe { result::function::get_function_attribute(handle, compiled_for) }.doing(name)?;
        Ok(*self.functions[number].get_or_init(|| Function { handle, architecture: architecture as u32 }))
    }

    fn module(&self, file: usize) -> Result<CUmodule, CudaError> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules[file] {
            return Ok(module.0);
        }
        let (name, image) = images::IMAGES[file];
        // SAFETY: nvcc wrote the image; the driver reads as many bytes as its header says.
        match unsafe { result::module::load_data(image.as_ptr().cast()) } {
            Ok(module) => {
                modules[file] = Some(Module(module));
                Ok(module)
            }
            Err(error) if error.0 == CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU => Err(self.no_kernels()),
            Err(source) => Err(CudaError::Driver { doing: name, source }),
        }
    }

    fn no_kernels(&self) -> CudaError {
        let Device { name, capability, .. } = self.device.clone();
        CudaError::NoKernelsForDevice { name, capability, built: super::probe::kernels_built() }
    }
}

impl Drop for Modules {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        for module in self.modules.get_mut().unwrap_or_else(PoisonError::into_inner).iter().flatten() {
            // SAFETY: loaded here, unloaded once; no kernel of it can be launched any more.
            let unloaded = unsafe { result::module::unload(module.0) };
            self.context.record_err(unloaded);
        }
    }
}
