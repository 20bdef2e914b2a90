//! What a GPU can fail at, each with what to do about it.

use super::probe::MINIMUM_DRIVER;
use cudarc::cublaslt::result::CublasError;
use cudarc::driver::result::DriverError;

/// A failure of the CUDA device, or the reason why there is none.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// The program was built where there was no nvcc.
    #[error(
        "this program was built without CUDA kernels; install nvcc (scripts/get-nvcc.sh) and build it again, or use \
         --device cpu"
    )]
    NoKernels,
    /// libcuda cannot be loaded.
    #[error(
        "no NVIDIA driver: libcuda was not found; install a driver of version 580 or newer, or use --device cpu"
    )]
    NoDriver,
    /// The driver is older than the libraries the program was built for.
    #[error(
        "the NVIDIA driver offers CUDA {}.{}, and this program needs {}.{} (driver 580 or newer); update the driver, or \
         use --device cpu",
        found / 1000, found % 1000 / 10, MINIMUM_DRIVER / 1000, MINIMUM_DRIVER % 1000 / 10
    )]
    DriverTooOld {
        /// What `cuDriverGetVersion` answers: 1000·major + 10·minor.
        found: i32,
    },
    /// The driver is there, a device is not.
    #[error(
        "the NVIDIA driver finds no device; check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu"
    )]
    NoDevice,
    /// The driver is there and does not work.
    #[error("the NVIDIA driver does not start: {}; check nvidia-smi, or use --device cpu", in_words(source))]
    DriverFails {
        /// What it says.
        source: DriverError,
    },
    /// A device that was asked for by its number.
    #[error(
        "there is no CUDA device {ordinal}: this machine has {count}, counted from 0; see simplenet doctor"
    )]
    NoSuchDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// No kernel of this build runs on the device.
    #[error(
        "{name} has compute capability {}.{}, and this program has kernels for {built}; build it with KERNEL_ARCHS={}{}, \
         or use --device cpu",
        capability.0, capability.1, capability.0, capability.1
    )]
    NoKernelsForDevice {
        /// The device.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
        /// What the build holds.
        built: String,
    },
    /// libcublasLt cannot be loaded.
    #[error(
        "cuBLASLt was not found: put libcublasLt.so.13 on the library path (it comes with the CUDA 13 toolkit, or with \
         `pip install nvidia-cublas`), or use --device cpu"
    )]
    NoCublasLt,
    /// A libcublasLt of an older CUDA.
    #[error(
        "cuBLASLt has version {found}, and this program needs 13 or newer; put libcublasLt.so.13 first on the library \
         path, or use --device cpu"
    )]
    CublasLtTooOld {
        /// `cublasLtGetVersion`, as text.
        found: String,
    },
    /// An arithmetic that the device has no units for.
    #[error("{device} has no {precision} arithmetic; use --precision f32")]
    NoSuchPrecision {
        /// The device.
        device: String,
        /// What was asked for.
        precision: &'static str,
    },
    /// The device's memory is full.
    #[error(
        "the GPU's memory is full: {} were asked for, {} of {} are free, and this program holds {}; lower --batch or the \
         image size, use --precision f16, or free the GPU of other programs",
        megabytes(*asked), megabytes(*free), megabytes(*total), megabytes(*held)
    )]
    OutOfMemory {
        /// Bytes of the allocation that failed.
        asked: usize,
        /// Bytes the driver says are free.
        free: usize,
        /// Bytes of the device.
        total: usize,
        /// Bytes this program has allocated.
        held: usize,
    },
    /// Page-locked host memory is not to be had.
    #[error(
        "{} of page-locked host memory cannot be had ({}); lower --batch, or lower --feature-cache-limit so that features \
         go to a file",
        megabytes(*asked), in_words(source)
    )]
    HostMemory {
        /// Bytes asked for.
        asked: usize,
        /// What the driver says.
        source: DriverError,
    },
    /// A launch larger than the device allows.
    #[error("{kernel} would need {what}, which is more than a GPU launches; lower --batch or the image size")]
    LaunchTooLarge {
        /// The kernel.
        kernel: &'static str,
        /// The size that is too large.
        what: String,
    },
    /// A matrix product that cuBLASLt does not offer.
    #[error(
        "cuBLASLt has no {product}; use --precision f32, and report this with the output of simplenet doctor"
    )]
    NoSuchProduct {
        /// Sizes and types.
        product: String,
    },
    /// cuBLASLt fails.
    #[error("cuBLASLt fails at {doing} ({source}); see simplenet doctor")]
    CublasLt {
        /// What was being done.
        doing: &'static str,
        /// What it says.
        #[source]
        source: CublasError,
    },
    /// The driver fails.
    #[error(
        "the GPU fails at {doing}: {}; if it happens again, run with --device cpu and report it with the output of \
         simplenet doctor",
        in_words(source)
    )]
    Driver {
        /// What was being done.
        doing: &'static str,
        /// What the driver says.
        source: DriverError,
    },
}

impl CudaError {
    /// Whether this says that no GPU can be used here at all, and not that one failed at something.
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            CudaError::NoKernels
                | CudaError::NoDriver
                | CudaError::DriverTooOld { .. }
                | CudaError::DriverFails { .. }
                | CudaError::NoDevice
                | CudaError::NoKernelsForDevice { .. }
                | CudaError::NoCublasLt
                | CudaError::CublasLtTooOld { .. }
        )
    }
}

/// Names what was being done when the driver or cuBLASLt failed.
pub(super) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, CudaError>;
}

impl<T> Doing<T> for Result<T, DriverError> {
    fn doing(self, doing: &'static str) -> Result<T, CudaError> {
        self.map_err(|source| CudaError::Driver { doing, source })
    }
}

impl<T> Doing<T> for Result<T, CublasError> {
    fn doing(self, doing: &'static str) -> Result<T, CudaError> {
        self.map_err(|source| CudaError::CublasLt { doing, source })
    }
}

/// The driver's own sentence for an error code, with its name.
fn in_words(error: &DriverError) -> String {
    let text = |answer: Result<&std::ffi::CStr, _>| {
        answer.map_or_else(
            |_: DriverError| "an unknown error".to_owned(),
            |text| text.to_string_lossy().into_owned(),
        )
    };
    format!("{} ({})", text(error.error_string()), text(error.error_name()))
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
