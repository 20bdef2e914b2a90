//! The devices that tests of the CUDA backend run on: simulated ones, or with `SIMPLENET_TEST_GPU=1` the real one.
//!
//! A process has either: the simulator stands where the real driver would be loaded.
#![allow(dead_code, reason = "each test suite uses a part")]

use crate::cusim::{self, Simulator};
use simplenet::backend::cuda::{Cuda, CudaOptions, Precision, probe};

/// Device numbers by the order in which the simulator runs threads and blocks.
pub(crate) const FORWARD: usize = 0;
pub(crate) const REVERSE: usize = 1;
pub(crate) const SHUFFLED: usize = 2;

fn wants_real() -> bool {
    std::env::var_os("SIMPLENET_TEST_GPU").is_some_and(|value| value == "1")
}

/// The simulator, where it can be had and the program has kernels for it; `None` with a message elsewhere.
///
/// # Panics
/// Where `SIMPLENET_REQUIRE_CUSIM=1` asks for it and it cannot be had.
pub(crate) fn simulator() -> Option<&'static Simulator> {
    if wants_real() {
        println!("skipped: the real GPU is tested");
        return None;
    }
    if let Err(error) = probe::kernels() {
        let required = std::env::var_os("SIMPLENET_REQUIRE_CUSIM").is_some_and(|value| value == "1");
        assert!(!required, "SIMPLENET_REQUIRE_CUSIM=1, but {error}");
        println!("skipped: {error}");
        return None;
    }
    cusim::load()
}

/// A simulated device, its memory poisoned.
pub(crate) fn simulated(ordinal: usize, precision: Precision) -> Option<Cuda> {
    simulator()?;
    Some(poisoned(CudaOptions::new(ordinal, precision)))
}

/// The same in half precision, with convolutions in one kernel.
pub(crate) fn simulated_implicit(ordinal: usize) -> Option<Cuda> {
    simulator()?;
    Some(poisoned(implicit(ordinal)))
}

fn implicit(ordinal: usize) -> CudaOptions {
    CudaOptions { implicit_gemm: true, ..CudaOptions::new(ordinal, Precision::F16) }
}

/// The real device, if it was asked for; its memory is poisoned, too.
pub(crate) fn real(precision: Precision) -> Option<Cuda> {
    real_with(CudaOptions::new(0, precision))
}

/// The same in half precision, with convolutions in one kernel.
pub(crate) fn real_implicit() -> Option<Cuda> {
    real_with(implicit(0))
}

fn real_with(options: CudaOptions) -> Option<Cuda> {
    if !wants_real() {
        println!("skipped: set SIMPLENET_TEST_GPU=1 to test the real GPU");
        return None;
    }
    Some(poisoned(options))
}

/// Opens a device whose unwritten elements show.
pub(crate) fn poisoned(options: CudaOptions) -> Cuda {
    let options = CudaOptions { poison_memory: true, ..options };
    Cuda::open(options).unwrap_or_else(|error| panic!("{error}"))
}
