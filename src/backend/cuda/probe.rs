//! What this machine offers: driver, devices, cuBLASLt, and whether this build has kernels for them.
//!
//! Every library is asked for before it is used: `cudarc` panics where one is missing.

use super::error::CudaError;
use super::images;
use cudarc::cublaslt::sys as cublaslt;
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

/// `cuDriverGetVersion` of the oldest driver that serves: CUDA 13.0.
pub const MINIMUM_DRIVER: i32 = 13_000;
/// `cublasLtGetVersion` of the oldest cuBLASLt that serves.
const MINIMUM_CUBLASLT: usize = 130_000;

/// A GPU, as the driver describes it.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its number under `--device cuda:N`.
    pub ordinal: usize,
    /// The product's name.
    pub name: String,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: usize,
    /// Bytes of the second-level cache; zero where the driver does not say.
    pub l2_cache: usize,
}

impl Device {
    /// Machine code of one major capability runs on every later minor one; PTX runs on everything newer.
    fn has_kernels(&self) -> bool {
        let number = self.capability.0 * 10 + self.capability.1;
        let machine_code =
            images::ARCHITECTURES.iter().any(|&built| built / 10 == number / 10 && built <= number);
        machine_code || images::PTX_ARCHITECTURES.iter().any(|&built| built <= number)
    }

    /// Whether this build has machine code for the device, or PTX that its driver can compile.
    ///
    /// # Errors
    /// [`CudaError::NoKernelsForDevice`].
    pub fn check_kernels(&self) -> Result<(), CudaError> {
        if self.has_kernels() {
            return Ok(());
        }
        let (name, capability) = (self.name.clone(), self.capability);
        Err(CudaError::NoKernelsForDevice { name, capability, built: kernels_built() })
    }
}

/// The architectures of this build's kernels in words, such as `sm_80 sm_90`.
pub fn kernels_built() -> String {
    let names: Vec<String> = images::ARCHITECTURES.iter().map(|number| format!("sm_{number}")).collect();
    names.join(" ")
}

/// The nvcc that compiled the kernels; `None` in a build without them.
pub fn compiler() -> Option<&'static str> {
    images::NVCC_VERSION
}

/// Whether this build carries kernels.
///
/// # Errors
/// [`CudaError::NoKernels`].
pub fn kernels() -> Result<(), CudaError> {
    if images::NVCC_VERSION.is_some() { Ok(()) } else { Err(CudaError::NoKernels) }
}

/// The driver's CUDA version, 1000·major + 10·minor, once it was found, started, and new enough.
///
/// # Errors
/// [`CudaError::NoDriver`], [`CudaError::DriverTooOld`], [`CudaError::NoDevice`] (the driver refuses to start where
/// it sees none) or [`CudaError::DriverFails`].
pub fn driver() -> Result<i32, CudaError> {
    // SAFETY: loading libcuda runs its initialisers, as any program that links it does.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver);
    }
    let mut version = 0;
    // SAFETY: the pointer is valid for the call; this entry point needs no initialised driver.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result();
    answer.map_err(|source| CudaError::DriverFails { source })?;
    if version < MINIMUM_DRIVER {
        return Err(CudaError::DriverTooOld { found: version });
    }
    match result::init() {
        Ok(()) => Ok(version),
        Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Err(CudaError::NoDevice),
        Err(source) => Err(CudaError::DriverFails { source }),
    }
}

/// All devices of a driver that [`driver`] found.
///
/// # Errors
/// [`CudaError::NoDevice`] where there is none.
pub fn devices() -> Result<Vec<Device>, CudaError> {
    driver()?;
    let fails = |source| CudaError::DriverFails { source };
    let count = result::device::get_count().map_err(fails)?;
    if count == 0 {
        return Err(CudaError::NoDevice);
    }
    (0..count)
        .map(|ordinal| {
            let device = result::device::get(ordinal).map_err(fails)?;
            let attribute = |which| {
                // SAFETY: the device was just given by the driver.
                unsafe { result::device::get_attribute(device, which) }.map_err(fails)
            };
            use CUdevice_attribute::{
                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
                CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE as L2,
            };
            Ok(Device {
                ordinal: ordinal as usize,
                name: result::device::get_name(device).map_err(fails)?,
                capability: (attribute(MAJOR)? as u32, attribute(MINOR)? as u32),
                // SAFETY: as above.
                memory: unsafe { result::device::total_mem(device) }.map_err(fails)?,
                l2_cache: attribute(L2)? as usize,
            })
        })
        .collect()
}

/// cuBLASLt's version as text, such as `13.1.0`.
///
/// # Errors
/// [`CudaError::NoCublasLt`] or [`CudaError::CublasLtTooOld`].
pub fn cublaslt() -> Result<String, CudaError> {
    // SAFETY: loading libcublasLt runs its initialisers, as any program that links it does.
    if !unsafe { cublaslt::is_culib_present() } {
        return Err(CudaError::NoCublasLt);
    }
    // SAFETY: takes nothing and touches no device.
    let version = unsafe { cublaslt::cublasLtGetVersion() };
    // Since 13: 10000·major + 100·minor + patch; before, 1000·major in five or six digits, below any of 13's.
    let text = format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
    if version < MINIMUM_CUBLASLT { Err(CudaError::CublasLtTooOld { found: text }) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(major: u32, minor: u32) -> Device {
        Device { ordinal: 0, name: "test".to_owned(), capability: (major, minor), memory: 0, l2_cache: 0 }
    }

    #[test]
    fn kernels_serve_their_major_capability_and_ptx_what_is_newer() {
        if kernels().is_err() {
            println!("this build has no kernels");
            return;
        }
        for (capability, served) in [((9, 0), true), ((8, 7), true), ((6, 1), false), ((13, 0), true)] {
            assert_eq!(device(capability.0, capability.1).has_kernels(), served, "{capability:?}");
        }
        let message = device(6, 1).check_kernels().unwrap_err().to_string();
        assert!(message.contains("6.1") && message.contains("sm_90"), "{message}");
    }
}
